"""wsctl against a server of the test's own, which says what the real one never would,
and against the real one."""

import asyncio
import base64
import fcntl
import json
import os
import pty
import re
import shutil
import signal
import socket
import struct
import subprocess
import sys
import tempfile
import termios
import threading
import time
import unittest

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from harness import BIN, DEADLINE, Case, wait_until
from wsclient import V1

WSCTL = os.path.join(BIN, "wsctl")

STATUS = {
    "version": "1.2.3", "pid": 77, "uptime_s": 273600, "node": "n1", "epoch": "k3f",
    "connections": 12345, "subscriptions": 999, "channels": 3,
    "feed": {"source": "pubsub", "connected": True, "down_s": 0, "lag_ms": 3},
    "ring": {"size": 67108864, "head": 123456789, "retain": 50331648},
    "messages_in": 1234567, "messages_out": 10, "bytes_out": 1610612736,
    "workers": [
        {"index": 0, "keeper_pid": 1001, "pid": 1002, "cpu": 0, "state": "serving",
         "connections": 12000, "restarts": 1, "adopted": 5, "sent": 10, "lapped": 0,
         "closed_slow": 0, "heartbeat_ms": 20},
        {"index": 1, "keeper_pid": 1003, "pid": 1004, "cpu": 1, "state": "starting",
         "connections": 345, "restarts": 0, "adopted": 0, "sent": 0, "lapped": 0,
         "closed_slow": 0, "heartbeat_ms": 1500},
    ],
}


class FakeServer:
    """Answers each request by what `answer` returns for it: an object, a list of
    objects, bytes sent as they are, or None to hang up."""

    def __init__(self, answer):
        self.dir = tempfile.mkdtemp(prefix="wscast-fake-")
        self.path = os.path.join(self.dir, "control.sock")
        self.answer = answer
        self.requests = []
        self.conn = None
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.bind(self.path)
        self.sock.listen(8)
        self.thread = threading.Thread(target=self._run, daemon=True)
        self.thread.start()

    def _run(self):
        while True:
            try:
                conn, _ = self.sock.accept()
            except OSError:
                return
            self.conn = conn
            with conn, conn.makefile("rb") as lines:
                try:
                    self._serve(conn, lines)
                except OSError:
                    pass

    def _serve(self, conn, lines):
        for line in lines:
            request = json.loads(line)
            self.requests.append(request)
            answer = self.answer(request)
            if answer is None:
                return
            for one in answer if isinstance(answer, list) else [answer]:
                conn.sendall(one if isinstance(one, bytes)
                             else json.dumps(one, separators=(",", ":")).encode()
                             + b"\n")

    def hang_up(self):
        """End the connection that is served now."""
        self.conn.shutdown(socket.SHUT_RDWR)

    def done(self):
        # close() alone does not wake a thread that waits in accept()
        self.sock.shutdown(socket.SHUT_RDWR)
        self.sock.close()
        self.thread.join(DEADLINE)
        shutil.rmtree(self.dir, ignore_errors=True)


def environment(**more):
    env = {k: v for k, v in os.environ.items()
           if k not in ("COLUMNS", "NO_COLOR", "WSCAST_SOCKET", "LANG", "LC_ALL")}
    return {**env, "LC_ALL": "C.UTF-8", "TERM": "xterm", **more}


def run(*args, stdin=b"", env=None):
    """(status, standard output, standard error) of wsctl."""
    p = subprocess.run([WSCTL] + list(args), input=stdin, capture_output=True,
                       env=env or environment(), timeout=DEADLINE)
    return p.returncode, p.stdout.decode(), p.stderr.decode()


def run_on_terminal(*args, columns=80, env=None):
    """(status, what wsctl prints on a terminal of so many columns)."""
    master, slave = pty.openpty()
    fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", 24, columns, 0, 0))
    p = subprocess.Popen([WSCTL] + list(args), stdin=slave, stdout=slave,
                         stderr=subprocess.DEVNULL, env=env or environment())
    os.close(slave)
    out = b""
    try:
        while True:
            part = os.read(master, 65536)
            if not part:
                break
            out += part
    except OSError:
        pass  # EIO: the terminal's last user is gone
    os.close(master)
    return p.wait(DEADLINE), out.decode().replace("\r\n", "\n")


class FakeCase(unittest.TestCase):
    def fake(self, answer):
        server = FakeServer(answer if callable(answer) else lambda request: answer)
        self.addCleanup(server.done)
        return server

    def ask(self, answer, *args, **kwargs):
        """Run wsctl against a server with this answer; it must succeed."""
        server = self.fake(answer)
        status, out, err = run("-s", server.path, *args, **kwargs)
        self.assertEqual((status, err), (0, ""))
        return out

    def show(self, answer, *args, **kwargs):
        """The same on a terminal."""
        server = self.fake(answer)
        status, out = run_on_terminal("-s", server.path, *args, **kwargs)
        self.assertEqual(status, 0)
        return out


class CommandLine(FakeCase):
    def test_help_needs_no_server(self):
        for args in ([], ["publish"]):
            status, out, err = run("help", *args)
            self.assertEqual((status, err), (0, ""))
            self.assertIn("Usage: wsctl", out)
        self.assertEqual(run("--help")[0], 0)
        self.assertEqual(run("-V")[0], 0)

    def test_help_fits_80_columns(self):
        texts = [run("help")[1]]
        for line in texts[0].splitlines():
            if line.startswith("  ") and not line.startswith("  -"):
                texts.append(run("help", line.split()[0])[1])
        self.assertGreater(len(texts), 9)
        for text in texts:
            for line in text.splitlines():
                self.assertLessEqual(len(line), 80, line)

    def test_wrong_command_line_is_2(self):
        for args in ([], ["frob"], ["--frob"], ["status", "x"], ["client"], ["tail"],
                     ["publish"], ["publish", "a", "b", "c"], ["status", "--raw"],
                     ["clients", "--limit", "x"], ["clients", "--limit", "-1"],
                     ["restart", "all"], ["publish", "a\nb", "x"], ["publish", "", "x"],
                     ["tail", b"\xff"], ["help", "frob"]):
            status, out, err = run(*args)
            self.assertEqual(status, 2, args)
            self.assertEqual(out, "", args)
            self.assertNotEqual(err, "", args)

    def test_no_server_is_3(self):
        for command in (["status"], ["publish", "a", "b"], ["publish", "a"],
                        ["tail", "a"]):
            status, out, err = run("-s", "/nowhere/control.sock", *command)
            self.assertEqual((status, out), (3, ""))
            self.assertIn("is wscastd running? socket /nowhere/control.sock", err)

    def test_dead_socket_is_3(self):
        server = self.fake({})
        dead = server.path + ".dead"
        sock = socket.socket(socket.AF_UNIX)
        sock.bind(dead)
        sock.close()
        status, _, err = run("-s", dead, "status")
        self.assertEqual(status, 3)
        self.assertIn("refused", err)

    def test_socket_comes_from_environment(self):
        server = self.fake({"ok": STATUS})
        status, _, _ = run("status", env=environment(WSCAST_SOCKET=server.path))
        self.assertEqual(status, 0)

    def test_options_may_stand_anywhere(self):
        server = self.fake({"ok": STATUS})
        for args in (["--json", "status", "-s", server.path],
                     ["status", "--socket=" + server.path, "-j"]):
            status, out, _ = run(*args)
            self.assertEqual(status, 0)
            self.assertEqual(json.loads(out), STATUS)

    def test_no_permission_says_what_to_do(self):
        if os.getuid() == 0 and not shutil.which("setpriv"):
            self.skipTest("needs setpriv to be someone else")
        server = self.fake({"ok": STATUS})
        os.chmod(server.dir, 0o711)
        os.chmod(server.path, 0o600)
        wrap = ["setpriv", "--reuid=65534", "--clear-groups"] if os.getuid() == 0 else []
        if not wrap:
            os.chmod(server.path, 0)
        # A build may lie where only its owner gets: run a copy that all may.
        copy = os.path.join(server.dir, "wsctl")
        shutil.copy(WSCTL, copy)
        p = subprocess.run(wrap + [copy, "-s", server.path, "status"], text=True,
                           capture_output=True, env=environment(), timeout=DEADLINE)
        self.assertEqual(p.returncode, 1)
        self.assertIn("add yourself to group", p.stderr)

    def test_full_disk_is_told(self):
        server = self.fake({"ok": STATUS})
        with open("/dev/full", "w", encoding="ascii") as full:
            p = subprocess.run([WSCTL, "-s", server.path, "status"], stdout=full,
                               stderr=subprocess.PIPE, timeout=DEADLINE)
        self.assertEqual(p.returncode, 1)
        self.assertIn(b"No space left", p.stderr)


class Answers(FakeCase):
    def test_json_is_the_servers_object_on_one_line(self):
        for command in ("status", "workers", "clients", "channels", "version"):
            answer = {"n": [1, {"x": "é\n"}], "big": 2**53 + 1}
            out = self.ask({"ok": answer}, command, "--json")
            self.assertEqual(json.loads(out), answer)
            self.assertEqual(out.count("\n"), 1)

    def test_refusal_is_1_with_the_reason(self):
        for code in ("bad_request", "not_found", "feed_down", "internal"):
            server = self.fake({"error": {"code": code, "message": "no such thing\x1b[31m"}})
            status, out, err = run("-s", server.path, "client", "77")
            self.assertEqual((status, out), (1, ""))
            self.assertEqual(err, "wsctl: no such thing\\x1b[31m\n")

    def test_forbidden_says_what_to_do(self):
        server = self.fake({"error": {"code": "forbidden", "message": "you may not"}})
        status, _, err = run("-s", server.path, "restart")
        self.assertEqual(status, 1)
        self.assertIn("add yourself to group", err)

    def test_nonsense_is_1(self):
        for answer in (b"hello\n", b"{}\n", b"[]\n", b'{"error":7}\n', b"\xff\n",
                       b"[" * 100000 + b"\n", None):
            server = self.fake(answer if answer is None else [answer])
            if answer is None:
                server.answer = lambda request: None
            status, out, err = run("-s", server.path, "status")
            self.assertEqual((status, out), (1, ""), answer)
            self.assertRegex(err, "wscastd")

    def test_fields_that_are_missing_or_of_another_type_do_no_harm(self):
        for ok in ({}, [], 7, {"workers": 7}, {"workers": [7, {}, {"index": "x"}]},
                   {"feed": []}, {"clients": [{"client": {}, "sent": -1, "lag": 1e300}]},
                   {"channels": {}}, {"client": []}, {"total": "x"}, {"pid": None}):
            for command in (["status"], ["workers"], ["clients"], ["channels"],
                            ["client", "1"], ["restart"], ["version"]):
                self.ask({"ok": ok}, *command)

    def test_status_is_readable(self):
        out = self.ask({"ok": STATUS}, "status")
        for text in ("1.2.3, pid 77, up 3d 4h", "pubsub, connected, lag 3ms", "12.3k,",
                     "1.23M in", "1.5 GiB", "64 MiB, head 123456789", "serving"):
            self.assertIn(text, out)

    def test_requests_are_as_documented(self):
        server = self.fake(lambda request: {"ok": {}})
        for args, want in (
                (["status"], {"cmd": "status"}),
                (["clients", "--channel", "a", "--limit", "5"],
                 {"cmd": "clients", "channel": "a", "limit": 5}),
                (["clients"], {"cmd": "clients", "limit": 100}),
                (["clients", "-u", "x"], {"cmd": "clients", "user": "x", "limit": 100}),
                (["client", "7f"], {"cmd": "client", "client": "7f"}),
                (["channels"], {"cmd": "channels"}),
                (["channels", "a*"], {"cmd": "channels", "glob": "a*"}),
                (["restart"], {"cmd": "restart"}),
                (["restart", "1"], {"cmd": "restart", "worker": 1}),
                (["publish", "a", "-x"], None),
                (["publish", "a", "--", "-x"],
                 {"cmd": "publish", "channel": "a", "data": "-x"}),
                (["publish", "a", ""], {"cmd": "publish", "channel": "a", "data": ""}),
                (["publish", "a", b"\xff"],
                 {"cmd": "publish", "channel": "a", "base64": "/w=="})):
            del server.requests[:]
            run("-s", server.path, *args)
            self.assertEqual(server.requests, [want] if want else [])

    def test_more_clients_than_shown_is_said(self):
        server = self.fake({"ok": {"clients": [{"client": "1"}], "total": 5}})
        _, _, err = run("-s", server.path, "clients")
        self.assertIn("1 of 5 are shown: --limit 0 shows all", err)

    def test_client_shows_its_channels(self):
        out = self.ask({"ok": {"client": {"client": "7f", "channels": ["a", "b\x1b"]}}},
                       "client", "7f")
        self.assertRegex(out, r"client +7f\nchannels +a\n +b\\x1b\n")


class Terminal(FakeCase):
    HOSTILE = "x\x1b]0;owned\x07\u202egnp.exe\u200b\x9b31m\t\r\n\u2028\U000e0041"

    def clients(self, address):
        return {"ok": {"clients": [
            {"client": "0123456789abcdef", "worker": 0, "address": address,
             "protocol": "wscast.v1", "state": "open", "opened": int(time.time()) - 90,
             "channels": 3, "sent": 12345, "received": 0, "lag": 7, "queued": 2048}],
            "total": 1}}

    def channels(self, name):
        return {"ok": {"channels": [{"channel": name, "subscribers": 2, "offset": 1234567,
                                     "workers": 1, "tails": 0, "live": True}], "total": 1}}

    def plain(self, text):
        return re.sub(r"\x1b\[[0-9;]*m", "", text)

    def test_lines_fit_the_terminal(self):
        for columns in (40, 60, 80, 100, 200):
            for answer, command in ((self.clients("x" * 70), "clients"),
                                    ({"ok": STATUS}, "workers"),
                                    (self.channels("n" * 200), "channels")):
                out = self.plain(self.show(answer, command, columns=columns))
                for line in out.splitlines():
                    self.assertLessEqual(len(line), columns, out)

    def test_ids_are_never_cut(self):
        out = self.show(self.clients("x" * 70), "clients", columns=30)
        self.assertIn("0123456789abcdef", out)

    def test_long_names_are_cut_with_dots(self):
        out = self.plain(self.show(self.channels("n" * 200), "channels", columns=60))
        self.assertRegex(out, "\nn+…  ")
        self.assertIn("1234567", out)

    def test_wide_names_line_up(self):
        answer = {"ok": {"channels": [
            {"channel": "新闻频道" * 20, "subscribers": 1, "offset": 5},
            {"channel": "e\u0301" * 10, "subscribers": 22, "offset": 5}]}}
        out = self.plain(self.show(answer, "channels", columns=60))
        rows = out.splitlines()[1:]
        wide = rows[0].split("…")[0]
        self.assertIn("…", rows[0])
        # Each of these characters takes two columns, the accents none.
        self.assertLessEqual(len(wide) + len(wide.strip()) + 1, 60)
        self.assertEqual(len(rows[1].replace("\u0301", "")),
                         len(rows[0]) + len(wide.strip()))

    def test_a_pipe_gets_whole_names(self):
        self.assertIn("n" * 200, self.ask(self.channels("n" * 200), "channels"))

    def test_columns_variable_holds(self):
        out = self.ask(self.channels("n" * 200), "channels", env=environment(COLUMNS="50"))
        self.assertNotIn("n" * 50, out)

    def test_hostile_name_is_harmless(self):
        tail = [{"ok": {}}, {"channel": self.HOSTILE, "offset": 1, "time": 1.5,
                             "text": self.HOSTILE}]
        for answer, command in ((self.channels(self.HOSTILE), ["channels"]),
                                (self.clients(self.HOSTILE), ["clients"]),
                                ({"ok": {"client": {self.HOSTILE: self.HOSTILE}}},
                                 ["client", "1"]),
                                (self.channels(self.HOSTILE), ["channels", "--json"])):
            for env in (environment(NO_COLOR="1"), environment(TERM="dumb")):
                out = self.show(answer, *command, columns=1000, env=env)
                self.check_harmless(out)
        for options in ([], ["--raw"], ["--json"]):
            server = self.fake(lambda request: tail + [b"?\n"])
            _, out = run_on_terminal("-s", server.path, "tail", "a", *options,
                                     env=environment(NO_COLOR="1"))
            self.assertIn("owned", out)
            self.check_harmless(out)

    def check_harmless(self, out):
        for c in out:
            self.assertTrue(c in "\n\t" or c.isprintable(), repr(out))
        self.assertNotIn("\u200b", out)

    def test_json_on_a_terminal_is_the_same_json(self):
        answer = self.channels(self.HOSTILE)
        out = self.show(answer, "channels", "--json", columns=1000)
        self.assertEqual(json.loads(out), answer["ok"])

    def test_ascii_locale_gets_ascii(self):
        env = environment(NO_COLOR="1", LC_ALL="C")
        out = self.show(self.channels("é" * 150), "channels", env=env)
        self.assertTrue(out.isascii(), out)
        self.assertIn("\\u{e9}", out)

    def test_colours_only_where_welcome(self):
        answer = {"ok": STATUS}
        self.assertIn("\x1b[1m", self.show(answer, "status"))
        for env in (environment(NO_COLOR="1"), environment(TERM="dumb")):
            self.assertNotIn("\x1b", self.show(answer, "status", env=env))
        self.assertNotIn("\x1b", self.ask(answer, "status"))


class Publish(FakeCase):
    def test_each_line_is_a_message(self):
        server = self.fake({"ok": {"offset": 1}})
        status, out, err = run("-s", server.path, "publish", "news",
                               stdin=b"one\n\nth\xffree\nlast")
        self.assertEqual((status, out, err), (0, "", ""))
        self.assertEqual([r.get("data", r.get("base64")) for r in server.requests],
                         ["one", "", base64.b64encode(b"th\xffree").decode(), "last"])

    def test_no_line_is_no_message(self):
        server = self.fake({"ok": {}})
        self.assertEqual(run("-s", server.path, "publish", "news")[0], 0)
        self.assertEqual(server.requests, [])

    def test_many_lines_are_pipelined_in_order(self):
        server = self.fake({"ok": {"offset": 1, "padding": "x" * 500}})
        lines = ["%d %s" % (i, "y" * 300) for i in range(20000)]
        status, out, err = run("-s", server.path, "publish", "news", "--json",
                               stdin="\n".join(lines).encode() + b"\n")
        self.assertEqual((status, err), (0, ""))
        self.assertEqual(json.loads(out)["published"], 20000)
        self.assertEqual([r["data"] for r in server.requests], lines)

    def test_server_that_answers_late_is_waited_for(self):
        """It reads all before it answers: more than the window never waits."""
        held = []

        def answer(request):
            held.append({"ok": {}})
            if len(held) < 1000:
                return []
            out, held[:] = list(held), []
            return out

        server = self.fake(answer)
        status, _, err = run("-s", server.path, "publish", "news", stdin=b"x\n" * 3000)
        self.assertEqual((status, err), (0, ""))
        self.assertEqual(len(server.requests), 3000)

    def test_refused_lines_are_named(self):
        server = self.fake(lambda r: {"ok": {}} if "bad" not in r["data"] else
                           {"error": {"code": "bad_request", "message": "too bad"}})
        status, _, err = run("-s", server.path, "publish", "news",
                             stdin=b"good\nbad\ngood\n" + b"bad\n" * 100)
        self.assertEqual(status, 1)
        self.assertIn("wsctl: line 2: too bad\n", err)
        self.assertIn("published 2 of 103 messages", err)
        self.assertLess(err.count("\n"), 15)

    def test_forbidden_stops_at_once(self):
        server = self.fake({"error": {"code": "forbidden", "message": "no"}})
        p = subprocess.Popen([WSCTL, "-s", server.path, "publish", "news"],
                             stdin=subprocess.PIPE, stderr=subprocess.PIPE,
                             env=environment())
        p.stdin.write(b"x\n")
        p.stdin.flush()  # and is left open: wsctl must not wait for more
        self.assertEqual(p.wait(DEADLINE), 1)
        self.assertIn(b"add yourself", p.stderr.read())
        p.stdin.close()
        p.stderr.close()

    def test_server_that_hangs_up_is_1(self):
        server = self.fake(lambda request: None)
        status, _, err = run("-s", server.path, "publish", "news", stdin=b"x\n" * 5000)
        self.assertEqual(status, 1)
        self.assertIn("closed the connection", err)
        self.assertIn("not answered", err)

    def test_idle_server_that_hangs_up_is_noticed(self):
        """Also while wsctl waits for input."""
        server = self.fake(lambda request: [{"ok": {}}])
        p = subprocess.Popen([WSCTL, "-s", server.path, "publish", "news"],
                             stdin=subprocess.PIPE, stderr=subprocess.PIPE,
                             env=environment())
        server.answer = lambda request: None
        p.stdin.write(b"x\n")
        p.stdin.flush()
        self.assertEqual(p.wait(DEADLINE), 1)
        p.stdin.close()
        p.stderr.close()

    def test_line_too_long_is_told(self):
        server = self.fake({"ok": {}})
        status, _, err = run("-s", server.path, "publish", "news",
                             stdin=b"fine\n" + b"x" * (3 << 20) + b"\n")
        self.assertEqual(status, 1)
        self.assertIn("line 2 is too long", err)
        self.assertIn("published 1 of 2", err)
        self.assertEqual(len(server.requests), 1)


class Tail(FakeCase):
    MESSAGES = [
        {"channel": "news", "offset": 7, "time": 1700000000.123456, "data": {"a": [1, None]}},
        {"channel": "news", "offset": 8, "time": 1700000000.5, "text": "two\nlines"},
        {"channel": "chat", "offset": 1, "time": 1700000001.0, "base64": "/wAK"},
    ]

    def tail(self, messages, *args, signum=signal.SIGINT):
        """What `wsctl tail` prints for these messages until it is interrupted."""
        last = {"channel": "end", "offset": 1, "time": 1, "data": "END"}
        server = self.fake(lambda request: [{"ok": {}}] + messages + [last])
        p = subprocess.Popen([WSCTL, "-s", server.path, "tail", "news", "chat"] + list(args),
                             stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                             env=environment(TZ="UTC"))
        out = b""
        while b"END" not in out:
            part = os.read(p.stdout.fileno(), 65536)
            self.assertTrue(part)
            out += part
        p.send_signal(signum)
        rest, err = p.communicate(timeout=DEADLINE)
        self.assertEqual(rest.strip(), b"")
        self.assertEqual(p.returncode, 0)
        self.assertEqual(server.requests, [{"cmd": "tail", "channels": ["news", "chat"]}])
        return out.rsplit(b"\n", 2)[0], err.decode()

    def test_a_line_for_each_message(self):
        out, err = self.tail(self.MESSAGES)
        self.assertEqual(err, "")
        self.assertEqual(out.decode().splitlines(), [
            '22:13:20.123 news 7 {"a":[1,null]}',
            "22:13:20.500 news 8 two\\nlines",
            "22:13:21.000 chat 1 \\xff\\x00\\n"])

    def test_raw_is_payloads_alone(self):
        out, _ = self.tail(self.MESSAGES, "--raw", signum=signal.SIGTERM)
        self.assertEqual(out, b'{"a":[1,null]}\ntwo\nlines\n\xff\0\n')

    def test_json_is_an_object_a_line(self):
        out, _ = self.tail(self.MESSAGES + [{"missed": 3}], "--json")
        self.assertEqual([json.loads(line) for line in out.splitlines()],
                         self.MESSAGES + [{"missed": 3}])

    def test_numbers_keep_their_digits(self):
        line = b'{"channel":"c","offset":1,"time":1.0,"data":[1.10,1e999,%s]}\n' % (b"9" * 50)
        out, _ = self.tail([line])
        self.assertIn("[1.10,1e999," + "9" * 50 + "]", out.decode())

    def test_missed_messages_are_said(self):
        _, err = self.tail([{"missed": 17}])
        self.assertIn("17 messages were missed", err)

    def test_reader_that_goes_away_ends_it(self):
        """`wsctl tail news | head -1` ends, also when no second message comes."""
        server = self.fake(lambda request: [{"ok": {}}] + self.MESSAGES)
        p = subprocess.Popen([WSCTL, "-s", server.path, "tail", "news"],
                             stdout=subprocess.PIPE, env=environment())
        self.assertTrue(p.stdout.readline())
        p.stdout.close()
        # Seen by poll(), or by a write that came first.
        self.assertIn(p.wait(DEADLINE), (0, -signal.SIGPIPE))

    def test_server_that_goes_away_is_1(self):
        server = self.fake(lambda request: [{"ok": {}}] + self.MESSAGES)
        p = subprocess.Popen([WSCTL, "-s", server.path, "tail", "news"],
                             stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                             env=environment())
        for _ in self.MESSAGES:
            self.assertTrue(p.stdout.readline())
        server.hang_up()
        with p.stdout, p.stderr:
            self.assertEqual(p.stdout.read(), b"")
            self.assertIn(b"closed the connection", p.stderr.read())
        self.assertEqual(p.wait(DEADLINE), 1)


class Real(Case):
    """Against wscastd itself."""

    def test_looks_around(self):
        d = self.daemon()

        async def go():
            client = await V1.open(d, "news", "chat")
            ident = client.hello["client"]
            self.assertRegex(d.wsctl("status").stdout, "embedded, connected")
            self.assertEqual(d.wsctl("workers").stdout.count("serving"), 2)
            for args in ([], ["-c", "chat"]):
                self.assertIn(ident, d.wsctl("clients", *args).stdout)
            self.assertNotIn(ident, d.wsctl("clients", "-c", "other").stdout)
            self.assertRegex(d.wsctl("client", ident).stdout, "news\n +chat")
            self.assertRegex(d.wsctl("channels", "n*").stdout, "news +1 ")
            self.assertNotIn("chat", d.wsctl("channels", "n*").stdout)
            self.assertEqual(d.wsctl("version").stdout.count("\n"), 2)
            await client.close()

        asyncio.run(go())

    def test_unknown_client_is_1(self):
        d = self.daemon(workers=1)
        for ident in ("0", "7", "zz"):
            p = d.wsctl("client", ident, check=False)
            self.assertEqual((p.returncode, p.stdout), (1, ""))
            self.assertIn("client", p.stderr)

    def test_restart_keeps_clients(self):
        d = self.daemon()

        async def go():
            client = await V1.open(d, "news")
            before = {w["pid"] for w in d.workers()}
            out = d.wsctl("restart", "--json").stdout
            answer = json.loads(out)["workers"]
            self.assertEqual([w["index"] for w in answer], [0, 1])
            self.assertEqual(sum(w["adopted"] for w in answer), 1)
            self.assertFalse(before & {w["pid"] for w in d.workers()})
            d.wsctl("publish", "news", "after")
            self.assertEqual((await client.event())["data"], "after")
            self.assertEqual(d.wsctl("restart", "9", check=False).returncode, 1)
            await client.close()

        asyncio.run(go())

    def tail(self, d, *args):
        """A running `wsctl tail` whose channels are live."""
        before = {c["channel"]: c["tails"] for c in d.ctl("channels")["channels"]}
        p = subprocess.Popen([WSCTL, "-s", d.control, "tail", *args],
                             stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                             env=environment())
        self.addCleanup(p.stdout.close)
        self.addCleanup(p.stderr.close)
        self.addCleanup(p.wait)
        self.addCleanup(p.kill)
        wait_until("the tail is there", lambda: any(
            c["live"] and c["tails"] > before.get(c["channel"], 0)
            for c in d.ctl("channels")["channels"]))
        return p

    def test_what_is_published_comes_out_of_tail(self):
        payloads = [b"plain", b"", b"line\nline", b"\xff\xfe\0", b'{"a":1.10}', b"x" * 300000,
                    "日本".encode()]
        for feed in ("embedded", "pubsub"):
            d = self.daemon(redis=self.redis() if feed == "pubsub" else None)
            p = self.tail(d, "news", "--raw")
            for payload in payloads:
                d.publish("news", payload)
            want = b"".join(payload + b"\n" for payload in payloads)
            self.assertEqual(p.stdout.read(len(want)), want)
            p.send_signal(signal.SIGINT)
            self.assertEqual(p.wait(DEADLINE), 0)
            d.stop()

    def test_a_file_goes_through_whole(self):
        d = self.daemon()
        p = self.tail(d, "news", "--raw")
        lines = "".join("%d %s\n" % (i, "y" * (i % 100)) for i in range(20000))
        got = []
        reader = threading.Thread(target=lambda: got.append(p.stdout.read(len(lines))))
        reader.start()
        d.wsctl("publish", "news", stdin=lines)
        reader.join(DEADLINE)
        self.assertTrue(got == [lines.encode()], "what came is not what was sent")

    def test_slow_tail_misses_and_is_told(self):
        """What it printed and what it is told to have missed is all there was."""
        d = self.daemon(workers=1)
        p = self.tail(d, "news", "--json")
        n, size = 3000, 10000  # far more than the buffers between them
        d.wsctl("publish", "news", stdin=("z" * size + "\n") * n)
        seen = missed = 0
        while seen + missed < n:
            event = json.loads(p.stdout.readline())
            missed += event.get("missed", 0)
            seen += "offset" in event
        self.assertEqual(seen + missed, n)
        self.assertGreater(missed, 0)

    def test_server_that_stops_ends_a_tail(self):
        d = self.daemon(workers=1)
        p = self.tail(d, "news")
        d.stop()
        self.assertEqual(p.wait(DEADLINE), 1)
        self.assertIn(b"closed the connection", p.stderr.read())
        self.assertEqual(d.wsctl("status", check=False).returncode, 3)

    @unittest.skipUnless(os.getuid() == 0 and shutil.which("setpriv"), "needs root")
    def test_others_may_look_but_not_change(self):
        d = self.daemon(workers=1)
        os.chmod(d.control, 0o666)
        copy = os.path.join(d.dir, "wsctl")
        shutil.copy(WSCTL, copy)

        def other(*args):
            p = subprocess.run(["setpriv", "--reuid=65534", "--regid=65534",
                                "--clear-groups", copy, "-s", d.control, *args],
                               text=True, capture_output=True, timeout=DEADLINE)
            return p.returncode, p.stderr

        self.assertEqual(other("status"), (0, ""))
        for args in (["publish", "news", "x"], ["restart"]):
            status, err = other(*args)
            self.assertEqual(status, 1)
            self.assertIn("add yourself to group", err)
        self.assertEqual(d.status()["messages_in"], 0)


class Settings(Case):
    def test_config_says_what_holds(self):
        d = self.daemon({"limits": {"message_rate": 7},
                         "channel chat:*": {"publish": "anyone"}}, workers=1)
        self.assertEqual(d.wsctl("config", "limits.message_rate").stdout, "7\n")
        self.assertEqual(d.wsctl("config", "channel chat:*.publish").stdout, "anyone\n")
        d.reload(limits={"message_rate": 9})
        self.assertEqual(json.loads(d.wsctl("-j", "config", "limits.message_rate").stdout),
                         {"text": "9"})
        path = os.path.join(d.dir, "dump.conf")
        with open(path, "w") as f:
            f.write(d.wsctl("config").stdout)
        self.assertIn("no faults", d.wsctl("check", path).stdout)
        got = d.wsctl("config", "limits.none", check=False)
        self.assertEqual(got.returncode, 1)
        self.assertIn("no setting has the name limits.none", got.stderr)

    def test_check_shows_all_faults(self):
        d = self.daemon(workers=1)
        path = os.path.join(d.dir, "bad.conf")
        with open(path, "w") as f:
            f.write("[server]\nworkers = many\n[limits]\nnone = 1\n")
        got = d.wsctl("check", path, check=False)
        self.assertEqual(got.returncode, 1)
        self.assertIn("bad.conf:2:", got.stderr)
        self.assertIn("bad.conf:4:", got.stderr)
        got = d.wsctl("-j", "check", path, check=False)
        self.assertEqual((got.returncode, len(json.loads(got.stdout)["faults"])), (1, 2))
        self.assertEqual(d.wsctl("check", path + "x", check=False).returncode, 1)

    def test_log_level_and_format_hold_for_all_processes(self):
        d = self.daemon({"server": {"log_format": "json"}}, workers=1)
        mark = d.mark()
        d.ctl("restart")
        said = d.wait_line(r"serving, 0|worker 0 serves", since=mark).string
        self.assertEqual(said[:3], "<6>")
        self.assertEqual(json.loads(said[3:])["level"], "info")
        d.wsctl("log-level", "error")
        self.assertEqual(d.wsctl("config", "server.log_level").stdout, "error\n")
        mark = d.mark()
        d.ctl("restart")
        d.reload()  # the file says info again
        d.wait_line("settings reloaded", since=mark)
        with d.changed:
            self.assertFalse([x for x in d.lines[mark:] if "worker 0 serves" in x])
        got = d.wsctl("log-level", "loud", check=False)
        self.assertEqual(got.returncode, 1)
        self.assertIn("debug", got.stderr)


if __name__ == "__main__":
    unittest.main()
