"""wsctl top, and what wsctl reads in the shared maps without anybody's help."""

import array
import asyncio
import fcntl
import json
import os
import pty
import re
import select
import shutil
import signal
import socket
import struct
import subprocess
import sys
import termios
import time
import unittest

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from harness import DEADLINE, SANITIZED, Case, CtlError, alive, wait_until
from wsclient import V1
from wsctl_fake import WSCTL, environment

ENTER, LEAVE = "\033[?1049h", "\033[?1049l"
ROOT = os.getuid() == 0


class Lines:
    """`wsctl top --json`, a line at a time."""

    def __init__(self, case, d, *args, wrap=()):
        self.proc = subprocess.Popen(
            [*wrap, WSCTL, "-s", d.control, "top", "--json", "-i", "100ms", *args],
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=environment())
        case.addCleanup(self.done)

    def next(self):
        line = self.proc.stdout.readline()
        if not line:
            raise AssertionError("top has ended: " + self.proc.stderr.read().decode())
        return json.loads(line)

    def until(self, question):
        """The first line of which this is true; the lines before it may be anything."""
        end = time.monotonic() + DEADLINE
        while time.monotonic() < end:
            line = self.next()
            if question(line):
                return line
        raise AssertionError("no such line; the last was %s" % line)

    def done(self):
        if self.proc.poll() is None:
            self.proc.kill()
        self.proc.wait()
        self.proc.stdout.close()
        self.proc.stderr.close()


class Json(Case):
    def test_each_message_is_counted_once(self):
        d = self.daemon()

        async def go():
            client = await V1.open(d, "a", "b")
            top = Lines(self, d)
            top.next()  # from here on it counts
            d.wsctl("publish", "a", stdin="x" * 99 + "\n" + "hello\n" * 299)
            d.wsctl("publish", "b", stdin="y" * 70000 + "\n" + "z" * 200 + "\n")
            for _ in range(302):
                await client.event()
            want = {"a": [300, 99 + 299 * 5], "b": [2, 70200]}
            got, sums = {}, {}

            def count(line):
                for c in line["channels"]:
                    have = got.setdefault(c["channel"], [0, 0])
                    have[0] += c["messages"]
                    have[1] += c["bytes"]
                for key in ("messages_in", "bytes_in", "messages_out", "unseen"):
                    sums[key] = sums.get(key, 0) + line[key]
                sums["timed"] = sums.get("timed", 0) + line["times"]["latency"]["count"]
                return sums["messages_out"] >= 302 and sums["messages_in"] >= 302

            last = top.until(count)
            self.assertEqual(got, want)
            self.assertEqual(sums["messages_in"], 302)
            self.assertEqual(sums["bytes_in"], 99 + 299 * 5 + 70200)
            self.assertEqual((sums["messages_out"], sums["unseen"]), (302, 0))
            self.assertGreater(sums["timed"], 0)
            self.assertEqual((last["connections"], last["subscriptions"]), (1, 2))
            await client.close()

        asyncio.run(go())

    def test_goes_on_while_supervisor_and_worker_are_stopped(self):
        d = self.daemon()
        top = Lines(self, d)
        worker = d.workers()[1]["pid"]
        os.kill(d.pid, signal.SIGSTOP)
        try:
            os.kill(worker, signal.SIGSTOP)
            line = top.until(lambda l: l["workers"][1]["state"] == "stopped")
            self.assertEqual(line["workers"][0]["state"], "serving")
            for _ in range(3):
                top.next()
        finally:
            os.kill(worker, signal.SIGCONT)
            os.kill(d.pid, signal.SIGCONT)
        top.until(lambda l: l["workers"][1]["state"] == "serving")

    def test_follows_a_worker_that_is_replaced_as_a_whole(self):
        """Keeper, spare and serving process die, and with them all of its maps."""
        d = self.daemon()
        top = Lines(self, d)
        top.next()
        old = d.workers()[0]
        for pid in filter(None, (d.spare_of(old), old["keeper_pid"], old["pid"])):
            os.kill(pid, signal.SIGKILL)
        new = [w["pid"] for w in d.wait_serving(but=(old["pid"],))]
        line = top.until(lambda l: [w["pid"] for w in l["workers"]] == new)
        self.assertEqual({w["state"] for w in line["workers"]}, {"serving"})

    def test_what_was_overwritten_is_counted_as_unseen(self):
        d = self.daemon({"ring": {"size": "1M"}}, workers=1)
        top = Lines(self, d)
        top.next()
        top.proc.send_signal(signal.SIGSTOP)
        n = 3000  # of a thousand bytes: the ring comes around
        d.wsctl("publish", "a", stdin=("x" * 1000 + "\n") * n)
        top.proc.send_signal(signal.SIGCONT)
        seen = []

        def count(line):
            seen.append((line["messages_in"], line["unseen"]))
            return sum(map(sum, seen)) >= n

        top.until(count)
        counted, unseen = map(sum, zip(*seen))
        self.assertGreater(unseen, 0)
        self.assertGreater(counted, 0)
        self.assertLess(counted, n)

    def test_ends_when_the_server_does(self):
        d = self.daemon(workers=1)
        top = Lines(self, d)
        top.next()
        d.stop()
        self.assertEqual(top.proc.wait(DEADLINE), 1)
        self.assertIn(b"closed the connection", top.proc.stderr.read())

    def test_ends_with_its_reader_and_by_signals(self):
        d = self.daemon(workers=1)
        top = Lines(self, d)
        top.next()
        top.proc.stdout.close()
        self.assertIn(top.proc.wait(DEADLINE), (0, -signal.SIGPIPE))
        for sig in (signal.SIGINT, signal.SIGTERM):
            top = Lines(self, d)
            top.next()
            top.proc.send_signal(sig)
            self.assertEqual(top.proc.wait(DEADLINE), 0)

    def test_wrong_command_line_is_2(self):
        d = self.daemon(workers=1)
        for args in (["-i", "0"], ["-i", "99ms"], ["-i", "2h"], ["-i", "x"], ["x"]):
            self.assertEqual(d.wsctl("top", *args, check=False).returncode, 2, args)


class Text(Case):
    def test_without_a_terminal_it_looks_once(self):
        d = self.daemon()
        out = d.wsctl("top", "-i", "100ms").stdout
        self.assertRegex(out, r"wscastd \S+, pid %d, up \S+, feed embedded up" % d.pid)
        self.assertEqual(out.count("serving"), 2)
        self.assertNotIn("\033", out)
        self.assertEqual(json.loads(d.wsctl("top", "-j", "--once", "-i", "100ms").stdout)["pid"],
                         d.pid)


class Screen:
    """`wsctl top` on a terminal of our own, and what is on its screen."""

    def __init__(self, case, d, *args, rows=24, columns=80):
        self.master, slave = pty.openpty()
        self.size(rows, columns)
        self.before = termios.tcgetattr(slave)
        self.slave = slave
        self.proc = subprocess.Popen(
            [WSCTL, "-s", d.control, "top", "-i", "100ms", *args], stdin=slave,
            stdout=slave, stderr=slave, env=environment(), start_new_session=True)
        self.all = ""
        case.addCleanup(self.done)

    def size(self, rows, columns):
        fcntl.ioctl(self.master, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))

    def read(self):
        if select.select([self.master], [], [], 0.1)[0]:
            self.all += os.read(self.master, 65536).decode("utf-8", "replace")

    def frame(self):
        """The next picture that begins from now on, as its lines, without colours."""
        self.all = ""
        end = time.monotonic() + DEADLINE
        while time.monotonic() < end:
            self.read()
            found = re.search(r"\033\[H(.*?)\033\[J", self.all, re.S)
            if found:
                text = found.group(1).replace("\033[K", "").replace("\r", "")
                return re.sub(r"\033\[[0-9;]*m", "", text).split("\n")
        raise AssertionError("no picture: %r" % self.all)

    def until(self, question):
        end = time.monotonic() + DEADLINE
        while time.monotonic() < end:
            frame = self.frame()
            if question(frame):
                return frame
        raise AssertionError("no such picture; the last was:\n" + "\n".join(frame))

    def key(self, keys):
        os.write(self.master, keys.encode())

    def end(self):
        """Wait for its end; (status, what the terminal got last, its modes)."""
        end = time.monotonic() + DEADLINE
        while self.proc.poll() is None and time.monotonic() < end:
            self.read()
        status = self.proc.wait(1)
        self.read()
        return status, self.all, termios.tcgetattr(self.slave)

    def done(self):
        if self.proc.poll() is None:
            self.proc.kill()
        self.proc.wait()
        os.close(self.slave)
        os.close(self.master)


class Terminal(Case):
    def setUp(self):
        self.d = self.daemon(workers=2)
        self.d.wsctl("publish", "warm", "up")

    def test_picture_fits_every_terminal(self):
        screen = Screen(self, self.d)
        for rows, columns in ((24, 80), (50, 132), (12, 60), (24, 80), (1, 80), (6, 40)):
            screen.size(rows, columns)
            screen.proc.send_signal(signal.SIGWINCH)
            frame = screen.until(lambda f: len(f) <= rows)
            self.assertRegex(frame[-1], "^q quit")
            if (rows, columns) == (24, 80):
                self.assertEqual([len(line) for line in frame if len(line) > 80], [])
                self.assertIn("RESTARTS", "\n".join(frame))
                self.assertIn("CHANNEL", "\n".join(frame))
        for line in screen.until(lambda f: len(f) <= 6):
            self.assertLess(len(line), 100)

    def test_many_channels_fill_the_screen_and_no_more(self):
        screen = Screen(self, self.d, rows=24)
        names = ["c%03d" % i for i in range(50)]
        while True:
            for name in names:
                self.d.ctl("publish", channel=name, data="x")
            frame = screen.frame()
            if sum(line.startswith("c0") for line in frame) > 5:
                break
        self.assertLessEqual(len(frame), 24)

    def test_keys_sort_pause_help_and_quit(self):
        screen = Screen(self, self.d)
        self.assertIn("channels by messages", screen.frame()[-1])
        for key, want in (("s", "channels by bytes"), ("n", "channels by name"),
                          ("w", "workers by connections"), ("u", "workers by cpu"),
                          ("-", "every 0.2s"), ("+", "every 0.1s"), ("p", "")):
            screen.key(key)
            screen.until(lambda f: want in f[-1])
        screen.until(lambda f: "paused" in f[0])
        self.d.wsctl("publish", "later", "x")
        screen.key("?")
        screen.until(lambda f: any("the next order of channels" in line for line in f))
        screen.key("?")
        self.assertNotIn("later", "\n".join(screen.frame()))
        screen.key("q")
        status, _, modes = screen.end()
        self.assertEqual((status, modes), (0, screen.before))

    def test_terminal_is_put_back_by_any_end(self):
        for sig, want in ((signal.SIGINT, 0), (signal.SIGTERM, 0), (signal.SIGHUP, 0),
                          (signal.SIGQUIT, 0), (signal.SIGSEGV, -signal.SIGSEGV),
                          (signal.SIGABRT, -signal.SIGABRT)):
            if SANITIZED and want != 0:
                continue  # the sanitizer's own handlers stand there
            screen = Screen(self, self.d)
            screen.frame()
            self.assertNotEqual(termios.tcgetattr(screen.slave), screen.before)
            screen.proc.send_signal(sig)
            status, out, modes = screen.end()
            self.assertEqual(status, want, sig)
            self.assertEqual(modes, screen.before, sig)
            self.assertEqual(out.rsplit(LEAVE, 1)[-1].strip(), "", sig)
            self.assertIn(LEAVE, out)

    def test_terminal_is_the_shells_while_it_is_suspended(self):
        screen = Screen(self, self.d)
        screen.frame()
        screen.proc.send_signal(signal.SIGTSTP)
        wait_until("it is stopped",
                   lambda: screen.read() or os.waitpid(screen.proc.pid, os.WUNTRACED | os.WNOHANG)[0])
        self.assertEqual(termios.tcgetattr(screen.slave), screen.before)
        self.assertIn(LEAVE, screen.all)
        screen.all = ""
        screen.proc.send_signal(signal.SIGCONT)
        wait_until("it goes on", lambda: screen.read() or ENTER in screen.all)
        screen.frame()
        screen.key("q")
        self.assertEqual(screen.end()[0], 0)

    def test_server_that_goes_away_leaves_a_whole_terminal(self):
        screen = Screen(self, self.d)
        screen.frame()
        self.d.stop()
        status, out, modes = screen.end()
        self.assertEqual((status, modes), (1, screen.before))
        self.assertIn("closed the connection", out)


class Maps(Case):
    def descriptors(self, d):
        sock = socket.socket(socket.AF_UNIX)
        self.addCleanup(sock.close)
        sock.connect(d.control)
        sock.sendall(b'{"cmd":"maps"}\n')
        size = array.array("i").itemsize
        data, control, _, _ = sock.recvmsg(65536, socket.CMSG_SPACE(256 * size))
        fds = array.array("i")
        fds.frombytes(control[0][2])
        for fd in fds:
            self.addCleanup(os.close, fd)
        return json.loads(data)["ok"], list(fds)

    def test_descriptors_are_read_only_for_all_but_root_and_its_user(self):
        d = self.daemon(workers=3)
        answer, fds = self.descriptors(d)
        self.assertEqual((answer["workers"], answer["pages"], len(fds)), (3, 3, 4))
        for fd in fds:
            self.assertEqual(fcntl.fcntl(fd, fcntl.F_GETFL) & os.O_ACCMODE, os.O_RDONLY)
            self.assertRaises(OSError, os.pwrite, fd, b"x", 0)
            self.assertEqual(os.fstat(fd).st_mode & 0o777, 0o600)
        if not ROOT:
            return
        code = ("import os,sys\nos.setgroups([]); os.setgid(65534); os.setuid(65534)\n"
                "for fd in map(int, sys.argv[1:]):\n"
                "  for mode in os.O_RDWR, os.O_WRONLY:\n"
                "    try: os.open('/proc/self/fd/%d' % fd, mode)\n"
                "    except PermissionError: continue\n"
                "    sys.exit('opened')\n")
        p = subprocess.run([sys.executable, "-c", code, *map(str, fds)], pass_fds=fds,
                           capture_output=True, text=True, timeout=DEADLINE)
        self.assertEqual((p.returncode, p.stderr), (0, ""))

    def test_first_names_where_to_begin(self):
        d = self.daemon(workers=3)
        self.assertEqual(d.ctl("maps", first=2)["pages"], 1)  # what comes is closed
        for wrong in (3, -1, "0"):
            with self.assertRaisesRegex(CtlError, "first"):
                d.ctl("maps", first=wrong)

    def test_stopped_worker_delays_no_status(self):
        d = self.daemon()
        worker = d.workers()[0]["pid"]
        took = []
        os.kill(worker, signal.SIGSTOP)
        try:
            for _ in range(5):
                begin = time.monotonic()
                p = d.wsctl("status", "--json")
                took.append(time.monotonic() - begin)
                self.assertEqual(len(json.loads(p.stdout)["workers"]), 2)
            self.assertTrue(alive(worker))
        finally:
            os.kill(worker, signal.SIGCONT)
        self.assertLess(min(took), 1)  # of some milliseconds, on an idle machine

    def stopped(self, d, *args, wrap=()):
        os.kill(d.pid, signal.SIGSTOP)
        try:
            return subprocess.run([*wrap, "-s", d.control, *args] if wrap else
                                  [WSCTL, "-s", d.control, *args], capture_output=True,
                                  text=True, env=environment(), timeout=DEADLINE)
        finally:
            os.kill(d.pid, signal.SIGCONT)

    def test_stopped_supervisor_is_named_and_the_maps_are_shown(self):
        d = self.daemon()
        want = d.status()
        for cmd in ("status", "workers"):
            p = self.stopped(d, cmd, "--json")
            got = json.loads(p.stdout)
            self.assertEqual(p.returncode, 1)
            self.assertIn("`kill -CONT %d`" % d.pid, p.stderr)
            self.assertIs(got["answered"], False)
            for key in ("pid", "epoch", "connections", "subscriptions", "messages_out"):
                self.assertEqual(got[key], want[key], key)
            for a, b in zip(got["workers"], want["workers"]):
                for key in ("index", "pid", "cpu", "state", "restarts", "adopted"):
                    self.assertEqual(a[key], b[key], key)
        self.assertEqual(self.stopped(d, "status").stdout.count("serving"), 2)
        got = json.loads(self.stopped(d, "top", "--once", "--json", "-i", "100ms").stdout)
        self.assertEqual(len(got["workers"]), 2)
        head = self.stopped(d, "top", "--once", "-i", "100ms").stdout.splitlines()[0]
        self.assertIn(", STOPPED", head)

    @unittest.skipUnless(ROOT and shutil.which("unshare"), "needs root")
    def test_up_time_is_right_on_a_machine_that_has_slept(self):
        """Its boot is longer ago than CLOCK_MONOTONIC says."""
        slept = ["unshare", "--time", "--boottime", "1000000"]
        if subprocess.run([*slept, "true"], stderr=subprocess.DEVNULL).returncode != 0:
            self.skipTest("no namespaces of time")
        d = self.daemon(workers=1)
        args = ["top", "--once", "-i", "100ms"]
        asked = subprocess.run([*slept, WSCTL, "-s", d.control, *args], capture_output=True,
                               text=True, env=environment(), timeout=DEADLINE).stdout
        found = self.stopped(d, *args, wrap=[*slept, WSCTL]).stdout
        for text in (asked, found):
            self.assertRegex(text.splitlines()[0], r", up \d+m?s, ")

    def test_stopped_supervisor_leaves_no_command_hanging(self):
        d = self.daemon(workers=1)
        for args in (["clients"], ["channels"], ["publish", "a", "b"], ["restart"], ["config"],
                     ["tail", "a"], ["version"]):
            p = self.stopped(d, *args)
            self.assertEqual(p.returncode, 1, args)
            self.assertIn("the process is stopped", p.stderr)

    @unittest.skipUnless(ROOT and shutil.which("setpriv"), "needs root")
    def test_others_are_told_who_could_look(self):
        d = self.daemon(workers=1)
        os.chmod(d.control, 0o666)
        copy = os.path.join(d.dir, "wsctl")
        shutil.copy(WSCTL, copy)
        wrap = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", copy]
        p = subprocess.run([*wrap, "-s", d.control, "top", "--json", "--once", "-i", "100ms"],
                           capture_output=True, text=True, timeout=DEADLINE)
        self.assertEqual((p.returncode, p.stderr), (0, ""))
        self.assertEqual(json.loads(p.stdout)["pid"], d.pid)
        for cmd in ("status", "top"):
            p = self.stopped(d, cmd, wrap=wrap)
            self.assertEqual((p.returncode, p.stdout), (1, ""))
            self.assertIn("the process is stopped", p.stderr)
            self.assertIn("root, and its own user", p.stderr)


if __name__ == "__main__":
    unittest.main()
