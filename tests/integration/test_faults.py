"""What goes wrong around wscast: a clear message each, nothing lost, no busy loop."""

import asyncio
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import unittest

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from fleet import masked, upgrade
from harness import (BIN, DEADLINE, SANITIZED, Case, CtlError, cpu_seconds, descendants,
                     fds_of, free_port, wait_until)
from wsclient import V1, raw, run, soon

OPEN = {"channel *": {"publish": "anyone"}}


def check_conf(text, *args):
    """`wscastd -t` on a file with this text: (status, lines of stderr, its path)."""
    with tempfile.TemporaryDirectory(prefix="wscast-test-") as tmp:
        path = os.path.join(tmp, "bad.conf")
        with open(path, "w") as f:
            f.write(text)
        out = subprocess.run([os.path.join(BIN, "wscastd"), "-t", "-c", path] + list(args),
                             stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
                             timeout=DEADLINE)
        return out.returncode, out.stdout.splitlines(), path


class BusyWatch:
    """CPU time of a daemon's processes over what happens in a `with` block. The bound
    is generous: a busy loop takes all of a core, waiting takes next to nothing."""

    def __init__(self, case, d):
        self.case, self.d = case, d

    def __enter__(self):
        self.pids = [self.d.pid] + list(descendants(self.d.pid))
        self.cpu, self.began = cpu_seconds(self.pids), time.monotonic()

    def __exit__(self, kind, *_):
        if kind is None:
            used = cpu_seconds(self.pids) - self.cpu
            passed = time.monotonic() - self.began
            allowed = (2.0 if SANITIZED else 0.3) + 0.25 * passed
            self.case.assertLess(used, allowed, "CPU time over %.2f s" % passed)


class Settings(Case):
    def test_settings_all_faults_are_reported_with_their_lines(self):
        status, lines, path = check_conf("\n".join([
            "[server]",
            "workers = many",
            "no_such_key = 1",
            "listen = nowhere:port",
            "[limits]",
            "max_message_size = -5",
            "ping_interval = 25 parsecs",
            "[nosuchsection]",
            "key = value",
            "[feed]",
            "source = carrier-pigeon",
            "[channel x]",
            "subscribe = maybe",
            "[ring]",
            "size = 3",
            "this is no setting",
        ]))
        self.assertNotEqual(status, 0)
        text = "\n".join(lines)
        named = {int(n) for n in re.findall(re.escape(path) + r":(\d+):", text)}
        # Section 8 or its key 9: an unknown section may be told at either.
        self.assertLessEqual({2, 3, 4, 6, 7, 11, 13, 15, 16}, named, text)
        self.assertTrue(named & {8, 9}, text)
        self.assertFalse(named & {1, 5, 10, 12, 14}, text)

    def test_settings_override_faults_name_the_override(self):
        status, lines, _ = check_conf("[server]\nworkers = 2\n", "-o", "server.workers=x",
                                      "-o", "nonsense")
        self.assertNotEqual(status, 0)
        text = "\n".join(lines)
        self.assertRegex(text, r"-o.*\b1\b")
        self.assertRegex(text, r"-o.*\b2\b")

    def test_settings_good_file_passes(self):
        status, lines, _ = check_conf("[server]\nworkers = 2\n")
        self.assertEqual(status, 0, lines)

    def test_settings_bad_file_starts_nothing(self):
        d = self.daemon({"server": {"workers": "many"}}, ready=False)
        self.assertNotEqual(d.wait_end(), 0)
        self.assertRegex(d.log(), re.escape(d.conf) + r":\d+:.*workers")
        self.assertNotIn("READY=1", d.notified)
        d.check_gone()

    def test_settings_file_that_is_not_there_is_named(self):
        out = subprocess.run([os.path.join(BIN, "wscastd"), "-c", "/no/such/wscast.conf"],
                             stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
                             timeout=DEADLINE)
        self.assertNotEqual(out.returncode, 0)
        self.assertIn("/no/such/wscast.conf", out.stdout)
        self.assertIn("No such file", out.stdout)


class Start(Case):
    def ends(self, d, *patterns):
        """It ends with a status that is no signal's, and says what the patterns say."""
        status = d.wait_end()
        self.assertGreater(status, 0, d.log())
        for pattern in patterns:
            self.assertRegex(d.log(), pattern)
        d.check_gone()

    def test_port_in_use_is_said(self):
        with socket.socket() as taken:
            taken.bind(("127.0.0.1", 0))
            taken.listen()
            where = "127.0.0.1:%d" % taken.getsockname()[1]
            d = self.daemon({"server": {"listen": where}}, ready=False)
            self.ends(d, re.escape(where), "(?i)in use")

    def test_second_daemon_on_the_same_control_socket_is_refused(self):
        first = self.daemon()
        second = self.daemon({"server": {"control_socket": first.control}}, ready=False)
        self.ends(second, re.escape(first.control), "(?i)in use|already|running")
        self.assertTrue(first.status()["pid"] == first.pid, "the first goes on")
        first.stop()

    def test_second_daemon_on_the_same_port_is_refused(self):
        """SO_REUSEPORT would let it in, and each would have half of the clients."""
        first = self.daemon()
        second = self.daemon({"server": {"listen": first.address}}, ready=False)
        self.ends(second, re.escape(first.address), "(?i)in use")
        first.stop()

    def test_control_socket_in_no_directory_is_said(self):
        d = self.daemon({"server": {"control_socket": "/no/such/dir/control.sock"}},
                        ready=False)
        self.ends(d, "/no/such/dir/control.sock", "(?i)no such file")

    def test_low_port_without_capability_is_said(self):
        with open("/proc/sys/net/ipv4/ip_unprivileged_port_start") as f:
            first = int(f.read())
        if first < 2:
            self.skipTest("any port is free to anyone here")
        port = next(p for p in range(first - 1, 0, -1) if self.is_free(p))
        where = "127.0.0.1:%d" % port
        if os.geteuid() != 0:
            d = self.daemon({"server": {"listen": where}}, ready=False)
            return self.ends(d, re.escape(where), "(?i)permission denied")
        if not shutil.which("setpriv"):
            self.skipTest("setpriv is not here")
        # The tree may be closed to another uid; a copy is not.
        with tempfile.TemporaryDirectory(prefix="wscast-bin-") as tmp:
            os.chmod(tmp, 0o755)
            for name in ("wscastd", "wscast-worker"):
                shutil.copy(os.path.join(BIN, name), tmp)
            run_dir = os.path.join(tmp, "run")
            os.mkdir(run_dir)
            os.chmod(run_dir, 0o777)
            d = self.daemon(
                {"server": {"listen": where,
                            "control_socket": os.path.join(run_dir, "c.sock")}},
                ready=False, program=os.path.join(tmp, "wscastd"),
                wrap=("setpriv", "--reuid=65534", "--regid=65534", "--clear-groups",
                      "--bounding-set=-all", "--inh-caps=-all"))
            self.ends(d, re.escape(where), "(?i)permission denied")

    @staticmethod
    def is_free(port):
        with socket.socket() as s:
            try:
                s.bind(("127.0.0.1", port))
            except OSError:
                return False
        return True

    def test_missing_worker_program_is_said(self):
        with tempfile.TemporaryDirectory(prefix="wscast-bin-") as tmp:
            shutil.copy(os.path.join(BIN, "wscastd"), tmp)
            d = self.daemon(ready=False, program=os.path.join(tmp, "wscastd"))
            self.ends(d, "wscast-worker", "(?i)no such file")

    def test_worker_program_that_is_none_is_said(self):
        """It starts, and ends at once: no fast loop of starts."""
        with tempfile.TemporaryDirectory(prefix="wscast-bin-") as tmp:
            shutil.copy(os.path.join(BIN, "wscastd"), tmp)
            false = os.path.join(tmp, "wscast-worker")
            with open(false, "w") as f:
                f.write("#!/bin/sh\necho started >&2\nexit 3\n")
            os.chmod(false, 0o755)
            d = self.daemon(ready=False, program=os.path.join(tmp, "wscastd"), workers=1)
            with BusyWatch(self, d):
                for _ in range(3):
                    d.wait_line("worker 0")
            if d.proc.poll() is None:
                d.proc.send_signal(signal.SIGTERM)
            d.wait_end()
            self.assertLess(sum("started" in line for line in d.lines), 10)
            d.check_gone()


class Logs(Case):
    def test_full_disk_for_logs_is_no_fault(self):
        """stderr is /dev/full: all works, and nothing runs hot."""
        with open("/dev/full", "w") as full:
            d = self.daemon(stderr=full)

        async def go():
            v1 = await V1.open(d, "news")
            for w in d.workers():
                os.kill(w["pid"], signal.SIGKILL)  # something to log
            d.publish("news", "1")
            self.assertEqual((await v1.event())["data"], 1)
            await v1.close()

        with BusyWatch(self, d):
            run(go())
            d.wait_serving()
        d.stop()

    def test_closed_stderr_is_no_fault(self):
        """The reader of its log is gone: EPIPE, no SIGPIPE."""
        r, w = os.pipe()
        with os.fdopen(w, "wb") as end:
            d = self.daemon(stderr=end)
        os.close(r)
        os.kill(d.workers()[0]["pid"], signal.SIGKILL)
        d.wait_serving()
        d.stop()


class RedisAway(Case):
    def test_redis_away_at_start_is_said_and_tried_again(self):
        port = free_port()
        d = self.daemon({"feed": {"source": "pubsub",
                                  "redis": "redis://127.0.0.1:%d/0" % port}, **OPEN})
        d.wait_line(r"127\.0\.0\.1:%d.*(refused|cannot|down)" % port)
        status = d.status()
        self.assertIs(status["feed"]["connected"], False)
        self.assertEqual(status["feed"]["source"], "pubsub")
        wait_until("it is down for a time", lambda: d.status()["feed"]["down_s"] > 0)

        async def go():
            v1 = await V1.open(d)
            self.assertEqual(await v1.error(publish="news", data=1), "feed_down")
            await v1.send(id="s", subscribe="news")
            plain = await raw(d, "news")
            redis = self.redis(port=port)
            wait_until("the feed is up", lambda: d.status()["feed"]["connected"])
            msg = await v1.recv()
            if "error" in msg:  # refused while it was down: asked again
                self.assertEqual(msg["error"]["code"], "feed_down")
                await v1.ok(subscribe="news")
            else:
                self.assertEqual((msg["id"], msg["ok"]["channel"]), ("s", "news"))
            wait_until("both at Redis", lambda: redis.cli(
                "PUBSUB", "NUMSUB", "wscast:news").split() == ["wscast:news", "1"])
            await v1.ok(publish="news", data="up")
            self.assertEqual((await v1.event())["data"], "up")
            self.assertEqual(await soon(plain.recv()), '"up"')
            await plain.close()
            await v1.close()

        run(go())
        d.stop()

    def test_redis_away_later_keeps_the_clients(self):
        redis = self.redis()
        d = self.daemon(OPEN, redis=redis)

        async def go():
            v1s = [await V1.open(d, "news", "chat") for _ in range(10)]
            plain = await raw(d, "news")
            pids = [w["pid"] for w in d.workers()]
            for round in range(2):
                mark = d.mark()
                redis.stop()
                wait_until("it is seen", lambda: not d.status()["feed"]["connected"])
                d.wait_line("redis|feed", mark)
                with self.assertRaises(CtlError) as refused:
                    d.publish("news", "nobody")
                self.assertEqual(refused.exception.code, "feed_down")
                for v in v1s:
                    self.assertEqual(await v.error(publish="news", data=1), "feed_down")
                    await v.ok(ping={})
                self.assertIn('"connected": false', d.wsctl("status", "--json").stdout
                              .replace('":false', '": false'))
                redis.start()
                wait_until("it is back", lambda: d.status()["feed"]["connected"])
                wait_until("subscribed again", lambda: redis.cli(
                    "PUBSUB", "NUMSUB", "wscast:news", "wscast:chat").split()[1::2]
                    == ["1", "1"])
                redis.cli("PUBLISH", "wscast:news", "round %d" % round)
                for v in v1s:
                    while (msg := await v.event()).get("data") != "round %d" % round:
                        self.assertIn("gap", msg)
                while await soon(plain.recv()) != "round %d" % round:
                    pass
                await v1s[0].ok(publish="chat", data=round)
                for v in v1s:
                    while (msg := await v.event()).get("data") != round:
                        self.assertIn("gap", msg)
            self.assertEqual(pids, [w["pid"] for w in d.workers()], "no worker died of it")
            for c in v1s + [plain]:
                await c.close()

        run(go())
        d.stop()

    def test_redis_away_publishes_waiting_are_answered(self):
        """A publish that Redis never answered is refused when the link is lost."""
        redis = self.redis()
        d = self.daemon(OPEN, redis=redis)

        async def go():
            v1 = await V1.open(d)
            redis.proc.send_signal(signal.SIGSTOP)
            await v1.send(id=1, publish="x", data=1)
            await v1.ok(ping={})
            redis.stop()
            msg = await v1.recv()
            self.assertEqual((msg["id"], msg["error"]["code"]), (1, "feed_down"))
            await v1.close()

        run(go())
        d.stop()

    def test_redis_away_backs_off_and_runs_no_loop(self):
        """Attempts come further and further apart; counted where they arrive."""
        with socket.socket() as port:
            port.bind(("127.0.0.1", 0))
            port.listen()
            port.settimeout(DEADLINE)
            d = self.daemon({"feed": {
                "source": "pubsub",
                "redis": "redis://127.0.0.1:%d/0" % port.getsockname()[1]}})
            came = []
            with BusyWatch(self, d):
                # Of each of its links; accepted, and closed at once.
                while len(came) < 24 and (len(came) < 2 or came[-1] - came[0] < 6):
                    port.accept()[0].close()
                    came.append(time.monotonic())
        # But for the longest pause of each half: a machine may stand still.
        apart = [b - a for a, b in zip(came, came[1:])]
        first, then = (sum(sorted(half)[:-1]) for half in (
            apart[:len(apart) // 2], apart[len(apart) // 2:]))
        self.assertGreater(then, first, "the later attempts are further apart: %s" % apart)
        d.stop()

    def test_redis_that_says_nothing_is_no_feed(self):
        """It accepts and never answers: not connected, not ready, no busy loop."""
        with socket.socket() as port:
            port.bind(("127.0.0.1", 0))
            port.listen()
            d = self.daemon({"feed": {
                "source": "pubsub",
                "redis": "redis://127.0.0.1:%d/0" % port.getsockname()[1]}, **OPEN})
            held = [port.accept()[0]]
            self.assertIs(d.status()["feed"]["connected"], False)

            async def go():
                v1 = await V1.open(d)
                self.assertEqual(await v1.error(publish="x", data=1), "feed_down")
                await v1.close()

            with BusyWatch(self, d):
                run(go())
            d.stop()
            for s in held:
                s.close()

    def test_redis_that_talks_nonsense_is_left(self):
        with socket.socket() as port:
            port.bind(("127.0.0.1", 0))
            port.listen()
            port.settimeout(DEADLINE)
            d = self.daemon({"feed": {
                "source": "pubsub",
                "redis": "redis://127.0.0.1:%d/0" % port.getsockname()[1]}})
            mark = d.mark()
            s = port.accept()[0]
            s.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n")
            d.wait_line("redis|feed|protocol", mark)
            port.accept()[0].close()  # it tries again
            self.assertIs(d.status()["feed"]["connected"], False)
            s.close()
            d.stop()

    def test_redis_wrong_password_is_said(self):
        redis = self.redis(password="right")
        for secret in ("", ":wrong@"):
            d = self.daemon({"feed": {
                "source": "pubsub",
                "redis": "redis://%s127.0.0.1:%d/0" % (secret, redis.port)}})
            match = d.wait_line("WRONGPASS|NOAUTH|invalid password|authentication")
            self.assertNotIn("wrong@", match.string, "no password in the log")
            self.assertIs(d.status()["feed"]["connected"], False)
            d.stop()
        d = self.daemon(redis=redis)
        wait_until("the right one works", lambda: d.status()["feed"]["connected"])
        d.stop()

    def test_redis_killing_our_connections_is_survived(self):
        """CLIENT KILL of all, again and again, while messages flow."""
        redis = self.redis()
        d = self.daemon(OPEN, redis=redis)

        async def go():
            v1 = await V1.open(d, "news")
            for n in range(5):
                redis.cli("CLIENT", "KILL", "TYPE", "pubsub")
                if n % 2:
                    redis.cli("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")
                wait_until("subscribed again", lambda: redis.cli(
                    "PUBSUB", "NUMSUB", "wscast:news").split()[1] == "1"
                    and d.status()["feed"]["connected"])
                redis.cli("PUBLISH", "wscast:news", "%d" % n)
                while (msg := await v1.event()).get("data") != n:
                    self.assertIn("gap", msg)
            await v1.close()

        run(go())
        d.stop()


class Idle(Case):
    def test_idle_daemon_takes_no_time(self):
        """Over the time of two pings between server and clients."""
        redis = self.redis()
        d = self.daemon({"limits": {"ping_interval": "1s"}}, redis=redis)

        async def go():
            reader, writer = await asyncio.open_connection("127.0.0.1", d.port)
            writer.write(upgrade("/ws/news", False, d.port))
            await soon(reader.readuntil(b"\r\n\r\n"))
            with BusyWatch(self, d):
                for _ in range(2):
                    head = await soon(reader.readexactly(2), "a ping")
                    self.assertEqual(head[0], 0x89)
                    writer.write(masked(10, await reader.readexactly(head[1])))
            writer.close()

        run(go())
        d.stop()

    def test_half_request_makes_no_busy_loop(self):
        """A request that is not whole stays in the kernel: it must not wake anyone."""
        d = self.daemon({"limits": {"handshake_timeout": "2s"}}, workers=1)
        with socket.create_connection(("127.0.0.1", d.port)) as s:
            s.settimeout(DEADLINE)
            s.sendall(b"GET /ws/news HTTP/1.1\r\nHost: x\r\n")
            with BusyWatch(self, d):
                while s.recv(4096):  # until the handshake's deadline
                    pass
        d.stop()

    def test_full_socket_makes_no_busy_loop(self):
        """A client that reads nothing, with much waiting for it; and then it reads."""
        d = self.daemon({"limits": {"ping_interval": "1s", "pong_timeout": "1s"}}, workers=1)

        async def go():
            reader, writer = await asyncio.open_connection("127.0.0.1", d.port, limit=1 << 16)
            ticker = await raw(d, "tick")  # its pings are the clock of this test
            s = socket.socket()
            s.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            s.connect(("127.0.0.1", d.port))
            s.sendall(upgrade("/ws/news", False, d.port))
            s.settimeout(DEADLINE)
            v1 = await V1.open(d, "news")
            for _ in range(20):
                d.publish("news", "x" * 100000)
            writer.write(upgrade("/ws/tick", False, d.port))
            await soon(reader.readuntil(b"\r\n\r\n"))
            with BusyWatch(self, d):
                for _ in range(2):
                    head = await soon(reader.readexactly(2), "a ping")
                    writer.write(masked(10, await reader.readexactly(head[1])))
            got = 0
            while got < 20 * 100000:
                part = s.recv(65536)
                self.assertTrue(part, "closed after %d bytes" % got)
                got += len(part)
            s.close()
            writer.close()
            await v1.close()
            await ticker.close()

        run(go())
        d.stop()


class Descriptors(Case):
    def test_too_few_descriptors_shed_and_recover(self):
        """Out of descriptors: no crash, no busy loop, and room again when some leave."""
        d = self.daemon(workers=1, wrap=("prlimit", "--nofile=80:80"))
        before = fds_of(d)
        socks = []
        for _ in range(100):
            s = socket.create_connection(("127.0.0.1", d.port))
            socks.append(s)
        for s in socks:
            s.sendall(upgrade("/ws/news", False, d.port))
        socks[0].settimeout(DEADLINE)
        self.assertTrue(socks[0].recv(4096).startswith(b"HTTP/1.1 101"))
        with BusyWatch(self, d):
            for _ in range(20):
                d.status()
        for s in socks:
            s.close()
        self.fds_are_back(d, before)

        async def go():
            v1 = await V1.open(d, "news")
            d.publish("news", "1")
            self.assertEqual((await v1.event())["data"], 1)
            await v1.close()

        run(go())
        d.stop()


if __name__ == "__main__":
    unittest.main()
