"""The control socket against clients that mean it no good: members of its group, not
root, who can do all that a socket can do."""

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
import unittest

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from fleet import upgrade
from harness import DEADLINE, SANITIZED, Case, Ctl, fd_count, wait_until

CLIENTS_MAX = 64  # supervisor/ctl_client.h
LINE_MAX = 2 << 20  # proto/control.h

# Run as another user: open connections to the socket, say so, and hold them.
HOLD = """
import socket, sys
held = []
for i in range(int(sys.argv[2])):
    s = socket.socket(socket.AF_UNIX)
    s.connect(sys.argv[1])
    held.append(s)
print("held", flush=True)
sys.stdin.read()
"""


def rss_mib(pid):
    """Resident memory of a process."""
    with open("/proc/%d/status" % pid, encoding="ascii") as f:
        return int(next(line for line in f if line.startswith("VmRSS")).split()[1]) >> 10


class ControlSocket(Case):
    def raw(self, d, timeout=DEADLINE):
        """A connection that says what it likes."""
        sock = socket.socket(socket.AF_UNIX)
        self.addCleanup(sock.close)
        sock.settimeout(timeout)
        sock.connect(d.control)
        return sock

    def refusal(self, sock):
        """What the server says before it hangs up."""
        with sock.makefile("rb") as lines:
            error = json.loads(lines.readline())["error"]
            self.assertEqual(lines.read(), b"")
        return error

    def test_line_without_end_is_refused(self):
        d = self.daemon(workers=1)
        sock = self.raw(d)
        sent = 0
        try:
            while sent < 4 * LINE_MAX:
                sent += sock.send(b"x" * 65536)
        except OSError:
            pass
        self.assertLess(sent, 2 * LINE_MAX)
        try:
            self.assertEqual(self.refusal(sock)["code"], "bad_request")
        except ConnectionResetError:
            pass  # the rest of the line was still on its way
        self.assertTrue(d.status()["ready"])

    def test_requests_that_are_none_are_refused_one_by_one(self):
        d = self.daemon(workers=1)
        bad = [b"", b"x", b"[]", b"7", b'{"cmd":7}', b'{"cmd":"frob"}', b"\xff\xfe", b"\0",
               b"[" * 100000, b'{"cmd":"status","x":' + b"[" * 20 + b"]" * 20 + b"}",
               b'{"cmd":"status","x":[' + b"0," * 500000 + b"0]}",
               b'{"cmd":"publish"}', b'{"cmd":"publish","channel":"a"}',
               b'{"cmd":"publish","channel":"a\\n","data":"x"}',
               b'{"cmd":"publish","channel":["a"],"data":"x"}',
               b'{"cmd":"publish","channel":"%s","data":"x"}' % (b"a" * 201),
               b'{"cmd":"publish","channel":"a","data":{}}',
               b'{"cmd":"publish","channel":"a","base64":"%%%%"}',
               b'{"cmd":"publish","channel":"a","data":"x","base64":""}',
               b'{"cmd":"tail"}', b'{"cmd":"tail","channels":[]}',
               b'{"cmd":"tail","channels":"a"}', b'{"cmd":"tail","channels":[7]}',
               b'{"cmd":"tail","channels":["a",""]}',
               b'{"cmd":"tail","channels":[%s]}' % b",".join(b'"%d"' % i for i in range(200)),
               b'{"cmd":"clients","limit":-1}', b'{"cmd":"clients","limit":"x"}',
               b'{"cmd":"clients","channel":7}', b'{"cmd":"client"}',
               b'{"cmd":"client","client":"-"}', b'{"cmd":"client","client":7}',
               b'{"cmd":"channels","glob":7}',
               b'{"cmd":"channels","glob":"%s"}' % (b"*" * 500),
               b'{"cmd":"restart","worker":-1}', b'{"cmd":"restart","worker":1e9}',
               b'{"cmd":"restart","worker":18446744073709551616}',
               b'{"cmd":"restart","worker":"0"}']
        sock = self.raw(d)
        with sock.makefile("rb") as lines:
            for request in bad:
                sock.sendall(request + b"\n")
                self.assertIn("error", json.loads(lines.readline()), request[:80])
            sock.sendall(b'{"cmd":"channels"}\n')
            channels = json.loads(lines.readline())["ok"]["channels"]
        self.assertEqual(sum(c["tails"] for c in channels), 0)

    def test_requests_ahead_of_their_answers_are_all_answered(self):
        """More of them than a line may be long."""
        d = self.daemon(workers=1)
        sock = self.raw(d)
        request = b'{"cmd":"client","client":"7"}\n'
        n = 2 * LINE_MAX // len(request)
        sender = threading.Thread(target=sock.sendall, args=(request * n,))
        sender.start()
        with sock.makefile("rb") as lines:
            for _ in range(n):
                self.assertIn(b"no client has the id 7", lines.readline())
        sender.join(DEADLINE)

    def test_one_who_never_reads_holds_up_nobody(self):
        d = self.daemon(workers=1)
        sock = self.raw(d, timeout=0.5)
        try:
            while True:
                sock.sendall(b'{"cmd":"workers"}\n' * 1000)
        except TimeoutError:
            pass
        before = rss_mib(d.pid)
        self.assertTrue(Ctl(d.control).ask("status")["ready"])
        self.assertLess(before, 64)

    def test_answers_that_nobody_reads_are_bounded_together(self):
        d = self.daemon(workers=1)
        ctl = Ctl(d.control)
        self.addCleanup(ctl.close)
        channels = 20000
        lines = b"".join(b'{"cmd":"publish","channel":"%s%d","data":""}\n' % (b"c" * 150, i)
                         for i in range(channels))
        sender = threading.Thread(target=ctl.sock.sendall, args=(lines,))
        sender.start()
        for _ in range(channels):
            self.assertIn("ok", ctl.line())
        sender.join(DEADLINE)
        before = rss_mib(d.pid)
        held = [self.raw(d) for _ in range(CLIENTS_MAX - 10)]
        for sock in held:
            sock.sendall(b'{"cmd":"channels","limit":0}\n')
        self.assertEqual(d.ctl("channels", limit=1)["total"], channels)
        if not SANITIZED:  # with one, what was freed is kept for a while
            self.assertLess(rss_mib(d.pid) - before, 150)
        # A small answer is still given to everyone.
        self.assertTrue(d.status()["ready"])

    @unittest.skipUnless(os.getuid() == 0 and shutil.which("setpriv"), "needs root")
    def test_others_cannot_keep_root_out(self):
        d = self.daemon(workers=1)
        os.chmod(d.control, 0o666)
        p = subprocess.Popen(["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups",
                              "/usr/bin/python3", "-c", HOLD, d.control,
                              str(CLIENTS_MAX + 10)],
                             stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        try:
            self.assertEqual(p.stdout.readline(), b"held\n")
            self.assertEqual(d.wsctl("status", check=False).stderr, "")
        finally:
            p.communicate()

    def test_too_many_are_refused_with_a_reason(self):
        d = self.daemon(workers=1)
        before = fd_count(d.pid)
        held = [self.raw(d) for _ in range(CLIENTS_MAX + 1)]
        with held[-1].makefile("rb") as lines:
            self.assertIn(b"too many clients", lines.readline())
        for sock in held:
            sock.close()
        wait_until("all are gone", lambda: fd_count(d.pid) <= before)
        self.assertTrue(Ctl(d.control).ask("status")["ready"])

    def test_who_hangs_up_while_waiting_is_forgotten(self):
        """Redis says nothing any more; whoever waited for it gives up."""
        redis = self.redis()
        d = self.daemon(redis=redis, workers=1)
        before = fd_count(d.pid)
        redis.proc.send_signal(signal.SIGSTOP)
        try:
            for request in (b'{"cmd":"publish","channel":"a","data":"x"}\n',
                            b'{"cmd":"tail","channels":["b"]}\n'):
                held = [self.raw(d) for _ in range(CLIENTS_MAX // 2)]
                for sock in held:
                    sock.sendall(request)
                self.assertTrue(d.status())  # all were read before this was
                for sock in held:
                    sock.close()
                wait_until("they are forgotten", lambda: fd_count(d.pid) <= before + 1)
        finally:
            redis.proc.send_signal(signal.SIGCONT)

    def test_half_closed_client_gets_its_answers(self):
        """As from `printf … | nc -NU`."""
        d = self.daemon(workers=1)
        sock = self.raw(d)
        sock.sendall(b'{"cmd":"version"}\n{"cmd":"restart","worker":0}\n{"cmd":"version"}\n')
        sock.shutdown(socket.SHUT_WR)
        with sock.makefile("rb") as lines:
            self.assertEqual([set(json.loads(line)) for line in lines], [{"ok"}] * 3)

    def test_publish_reaches_whoever_had_its_upgrade_before(self):
        """Also where the supervisor hears of both at once: first of the client."""
        d = self.daemon(workers=1)
        ctl = Ctl(d.control)
        self.addCleanup(ctl.close)
        ctl.ask("version")
        os.kill(d.pid, signal.SIGSTOP)
        try:
            sock = socket.create_connection(("127.0.0.1", d.port), DEADLINE)
            self.addCleanup(sock.close)
            sock.sendall(upgrade("/ws/news", False, d.port))
            head = b""
            while not head.endswith(b"\r\n\r\n"):
                head += sock.recv(1)
            ctl.send({"cmd": "publish", "channel": "news", "data": "hello"})
        finally:
            os.kill(d.pid, signal.SIGCONT)
        self.assertIn("ok", ctl.line())
        self.assertEqual(sock.recv(100), b"\x81\x05hello")

    def test_message_larger_than_a_tails_buffer_is_shown(self):
        redis = self.redis()
        d = self.daemon(redis=redis, workers=1)
        ctl = Ctl(d.control)
        self.addCleanup(ctl.close)
        ctl.ask("tail", channels=["news"])
        payload = b"x" * (5 << 20)
        redis.cli("-x", "PUBLISH", "wscast:news", stdin=payload)
        self.assertTrue(ctl.line().get("text") == payload.decode())

    def test_tails_come_and_go_without_a_trace(self):
        d = self.daemon(workers=1)
        d.status()
        before = fd_count(d.pid)
        for _ in range(50):
            ctl = Ctl(d.control)
            ctl.ask("tail", channels=["c%d" % i for i in range(100)])
            ctl.close()
        wait_until("all are gone", lambda: fd_count(d.pid) <= before)
        self.assertEqual(sum(c["tails"] for c in d.ctl("channels")["channels"]), 0)

    def test_long_list_comes_in_slices_and_whole(self):
        """Many slices: a list has all, each once, and a tail's lines come between whole
        ones."""
        d = self.daemon(workers=2)
        names = ["c%05d" % i for i in range(8000)]
        ctl = Ctl(d.control)
        for begin in range(0, len(names), 500):
            for name in names[begin:begin + 500]:
                ctl.send({"cmd": "publish", "channel": name, "data": "1"})
            for _ in names[begin:begin + 500]:
                self.assertIn("ok", ctl.line())
        both = Ctl(d.control)
        both.ask("tail", channels=["c00000"])
        seen = []
        for n in range(20):
            both.send({"cmd": "channels", "limit": 0})
            d.publish("c00000", str(n))
            while True:
                msg = both.line()
                if "ok" in msg:
                    break
                seen.append(msg)
            got = [c["channel"] for c in msg["ok"]["channels"]]
            self.assertEqual((sorted(got), msg["ok"]["total"]), (names, len(names)))
        d.publish("c00000", '"end"')
        while not seen or seen[-1].get("data") != "end":
            seen.append(both.line())
        missed = sum(m.get("missed", 0) for m in seen)
        self.assertEqual(len([m for m in seen if "data" in m]) + missed, 21)
        some = d.ctl("channels", glob="c0000*", limit=3)
        self.assertEqual((len(some["channels"]), some["total"]), (3, 10))
        both.close()
        ctl.close()


if __name__ == "__main__":
    unittest.main()
