"""A reload changes what may change under living clients, and nothing else."""

import ctypes
import os
import signal
import socket
import stat
import subprocess
import sys
import time
import unittest

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from fleet import masked
from harness import BIN, DEADLINE, SANITIZED, Case, CtlError, wait_until
from storm import StormCase, shoot
from wsclient import V1, close_code, raw, run

HANDSHAKE = ("GET %s HTTP/1.1\r\nHost: h\r\nUpgrade: websocket\r\n"
             "Connection: Upgrade\r\nSec-WebSocket-Version: 13\r\n"
             "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n%s\r\n")


def http(d, path, headers=""):
    """A handshake or another request; (status, all that came at once, socket)."""
    s = socket.create_connection(("127.0.0.1", d.port), DEADLINE)
    s.sendall((HANDSHAKE % (path, headers)).encode())
    got = b""
    while b"\r\n\r\n" not in got:
        more = s.recv(65536)
        if not more:
            break
        got += more
    return int(got.split(b" ")[1]), got, s


def get(d, path):
    """The body of an answer, whose end is the connection's."""
    s = socket.create_connection(("127.0.0.1", d.port), DEADLINE)
    s.sendall(("GET %s HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n" % path).encode())
    got = b""
    while True:
        more = s.recv(65536)
        if not more:
            s.close()
            return got.split(b"\r\n\r\n", 1)[1]
        got += more


def send_buffers(d):
    """SO_SNDBUF of every client's socket, asked of copies of the keeper's."""
    libc = ctypes.CDLL(None, use_errno=True)
    found = []
    for w in d.workers():
        pidfd = os.pidfd_open(w["keeper_pid"])
        for name in os.listdir("/proc/%d/fd" % w["keeper_pid"]):
            fd = libc.syscall(438, pidfd, int(name), 0)  # pidfd_getfd
            if fd < 0:
                continue
            if not stat.S_ISSOCK(os.fstat(fd).st_mode):
                os.close(fd)
                continue
            s = socket.socket(fileno=fd)
            with s:
                try:
                    peer = s.getpeername()
                except OSError:
                    continue
                if isinstance(peer, tuple) and s.getsockname()[1] == d.port:
                    found.append(s.getsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF))
        os.close(pidfd)
    return found


class Live(Case):
    """Each key takes effect on connections that were there before."""

    def client(self, d, path="/ws/news", headers=""):
        status, got, s = http(d, path, headers)
        self.addCleanup(s.close)
        self.assertEqual(status, 101, got)
        return s

    def refused(self, want, *args):
        status, got, s = http(*args)
        s.close()
        self.assertEqual(status, want, got)

    def test_reload_max_message_size(self):
        d = self.daemon()

        async def go():
            ws = await raw(d, "news")
            v1 = await V1.open(d)
            await v1.ok(ping={"x": "x" * 2000})
            self.assertEqual(d.reload(limits={"max_message_size": 1000})["changed"],
                             ["limits.max_message_size"])
            await v1.ok(ping={})
            await v1.send(ping={"x": "x" * 2000})
            self.assertEqual(await close_code(v1.ws), 1009)
            await ws.close()

        run(go())

    def test_reload_max_message_size_grows_as_far_as_it_fits(self):
        """What a worker passes on at once has a bound that was chosen at the start."""
        d = self.daemon({"channel *": {"publish": "anyone"}}, workers=1)

        async def go():
            v1 = await V1.open(d, "news")
            d.reload(limits={"max_message_size": 200000})
            await v1.ok(publish="news", data="x" * 190000)
            self.assertEqual(len((await v1.event())["data"]), 190000)
            got = d.reload(limits={"max_message_size": 4000000})
            self.assertEqual((got["changed"], got["restart"]),
                             ([], ["limits.max_message_size"]))
            await v1.ok(publish="news", data="x" * 190000)
            await v1.close()

        run(go())

    def test_reload_message_rate_and_burst(self):
        d = self.daemon({"limits": {"message_rate": 1, "message_burst": 2}})

        async def go():
            v1 = await V1.open(d)
            answers = [await v1.ask(ping={}) for _ in range(3)]
            self.assertEqual(answers[2]["error"]["code"], "rate_limited")
            d.reload(limits={"message_burst": 50})
            for _ in range(20):
                await v1.ok(ping={})
            d.reload(limits={"message_rate": 0})
            for _ in range(100):
                await v1.ok(ping={})
            await v1.close()

        run(go())

    def test_reload_channels_per_connection(self):
        d = self.daemon({"limits": {"channels_per_connection": 1}})

        async def go():
            v1 = await V1.open(d, "a")
            self.assertEqual(await v1.error(subscribe="b"), "limit")
            d.reload(limits={"channels_per_connection": 2})
            await v1.ok(subscribe="b")
            self.assertEqual(await v1.error(subscribe="c"), "limit")
            await v1.close()

        run(go())

    def test_reload_ping_and_pong(self):
        d = self.daemon()
        s = self.client(d)
        d.reload(limits={"ping_interval": "200ms"})
        self.assertEqual(s.recv(2), b"\x89\x00")
        s.sendall(masked(10, b""))
        self.assertEqual(s.recv(2), b"\x89\x00")
        d.reload(limits={"pong_timeout": "200ms"})  # one is due just now
        self.assertEqual(s.recv(2), b"")
        self.assertEqual(d.counter("closed_timeout"), 1)

    def test_reload_handshake_timeout(self):
        d = self.daemon({"limits": {"handshake_timeout": "1h"}})
        s = socket.create_connection(("127.0.0.1", d.port), DEADLINE)
        self.addCleanup(s.close)
        wait_until("it is there", lambda: d.counter("connections") == 1)
        d.reload(limits={"handshake_timeout": "200ms"})
        self.assertEqual(s.recv(1), b"")
        self.assertEqual(d.counter("closed_timeout"), 1)

    def test_reload_write_timeout(self):
        self.write_timeout_holds("1h")

    def test_reload_write_timeout_later_than_the_next_ping(self):
        self.write_timeout_holds("1m")

    def write_timeout_holds(self, ping_interval):
        d = self.daemon({"limits": {"ping_interval": ping_interval}})
        s = socket.socket()
        s.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        s.settimeout(DEADLINE)
        s.connect(("127.0.0.1", d.port))
        self.addCleanup(s.close)
        s.sendall((HANDSHAKE % ("/ws/news", "")).encode())
        self.assertIn(b" 101 ", s.recv(4096))

        # More than the kernel holds for both ends, so that it goes on lagging.
        for _ in range(200):
            d.publish("news", "x" * 60000)
        wait_until("it lags", lambda: d.counter("lagging") == 1)
        d.reload(limits={"write_timeout": "200ms"})
        wait_until("it is closed", lambda: d.counter("closed_slow") == 1)

    def test_reload_send_buffer(self):
        """Of those who are here, of those who come, and after a kill in between."""
        d = self.daemon({"limits": {"send_buffer": "32k"}})
        self.client(d)
        self.assertEqual(send_buffers(d), [65536])
        d.reload(limits={"send_buffer": "20k"})
        self.client(d)
        self.assertEqual(send_buffers(d), [40960, 40960])
        stopped = d.workers()
        for w in stopped:
            os.kill(w["pid"], signal.SIGSTOP)
        d.configure(limits={"send_buffer": "48k"})
        mark = d.mark()
        d.proc.send_signal(signal.SIGHUP)
        d.wait_line("settings reloaded", mark)
        for w in stopped:
            os.kill(w["pid"], signal.SIGKILL)
        d.wait_serving(but=[w["pid"] for w in stopped])
        self.assertEqual(send_buffers(d), [98304, 98304])

    def test_reload_connections_handshakes_and_addresses(self):
        d = self.daemon({"server": {"max_connections": 2}}, workers=1)
        self.client(d), self.client(d)
        self.refused(503, d, "/ws/news")
        d.reload(server={"max_connections": 3, "max_connections_per_ip": 3})
        self.client(d)
        d.reload(server={"max_connections": 0})
        self.refused(429, d, "/ws/news")  # who was here before is counted
        proxied = "X-Forwarded-For: 192.0.2.1\r\n"
        d.reload(server={"trusted_proxies": "127.0.0.0/8"})
        self.client(d, headers=proxied), self.client(d, headers=proxied)
        d.reload(server={"max_connections_per_ip": 2})
        self.refused(429, d, "/ws/news", proxied)
        d.reload(server={"max_connections_per_ip": 0, "max_handshakes_per_second": 1})
        self.client(d)
        self.refused(429, d, "/ws/news")
        d.reload(server={"max_handshakes_per_second": 0})
        self.client(d)

    def test_reload_origins(self):
        d = self.daemon()
        origin = "Origin: https://app.example\r\n"
        self.refused(403, d, "/ws/news", origin)
        d.reload(server={"origins": "https://*.example https://app.example"})
        self.client(d, headers=origin)
        d.reload(server={"origins": None})
        self.refused(403, d, "/ws/news", origin)

    def test_reload_rules(self):
        d = self.daemon()

        async def go():
            v1 = await V1.open(d, "chat:1")
            say = {"publish": "chat:1", "data": 1}
            self.assertEqual(await v1.error(**say), "forbidden")
            got = d.reload(**{"channel chat:*": {"publish": "anyone"}})
            self.assertEqual(got["changed"], ["[channel chat:*] is new"])
            await v1.ok(**say)
            got = d.reload(**{"channel chat:*": {"publish": "nobody",
                                                 "subscribe": "nobody"}})
            self.assertEqual(got["changed"], ["channel chat:*.subscribe",
                                              "channel chat:*.publish"])
            self.assertEqual(await v1.error(**say), "forbidden")
            self.assertEqual(await v1.error(subscribe="chat:2"), "forbidden")
            got = d.reload(**{"channel chat:*": None})
            self.assertEqual(got["changed"], ["[channel chat:*] is gone"])
            await v1.ok(subscribe="chat:2")
            await v1.close()

        run(go())

    def test_reload_slow_policy_of_a_lagging_client(self):
        """Who was to be closed when the ring has passed it goes on, as the rule says."""
        d = self.daemon({"ring": {"size": "1M"}}, workers=1)
        s = socket.socket()
        s.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        s.settimeout(DEADLINE)
        s.connect(("127.0.0.1", d.port))
        self.addCleanup(s.close)
        s.sendall((HANDSHAKE % ("/ws/news", "")).encode())
        self.assertIn(b" 101 ", s.recv(4096))

        def stuck():
            d.publish("news", "x" * 60000)
            return d.counter("lagging") == 1

        wait_until("it lags", stuck)
        d.reload(**{"channel *": {"slow": "skip"}})

        def lapped():
            d.publish("news", "x" * 60000)
            return d.counter("lapped") == 1

        wait_until("it is lapped", lapped)
        self.assertEqual(d.counter("closed_slow"), 0)
        self.assertEqual(d.counter("connections"), 1)

    def test_reload_compression(self):
        d = self.daemon({"compression": {"enabled": "no"}})

        async def go():
            plain = await raw(d, "news", compression="deflate")
            d.reload(compression={"enabled": "yes", "threshold": 10})
            deflated = await raw(d, "news", compression="deflate")
            self.assertEqual(d.counter("opened_deflate"), 1)
            d.publish("news", "y" * 5000)
            d.reload(compression={"enabled": "no"})
            d.publish("news", "z" * 5000)
            for ws in (plain, deflated):
                self.assertEqual(await ws.recv(), "y" * 5000)
                self.assertEqual(await ws.recv(), "z" * 5000)
                await ws.close()
            last = await raw(d, "news", compression="deflate")
            self.assertEqual(d.counter("opened_deflate"), 1)
            await last.close()

        run(go())

    def test_reload_file_that_a_setting_names(self):
        d = self.daemon()
        page = os.path.join(d.dir, "page.html")
        with open(page, "w") as f:
            f.write("<p>one")
        self.assertEqual(d.reload(server={"demo": page})["changed"], ["server.demo"])
        self.assertEqual(get(d, "/"), b"<p>one")
        with open(page, "w") as f:
            f.write("<p>another")
        self.assertEqual(get(d, "/"), b"<p>one")
        self.assertEqual(d.reload()["changed"], ["server.demo"])
        self.assertEqual(get(d, "/"), b"<p>another")
        os.unlink(page)
        with self.assertRaises(CtlError):
            d.reload()
        self.assertEqual(get(d, "/"), b"<p>another")
        w = d.workers()[0]
        os.kill(w["pid"], signal.SIGKILL)
        d.wait_serving(but=[w["pid"]])
        for _ in range(4):  # whichever worker
            self.assertEqual(get(d, "/"), b"<p>another")


class Refused(Case):
    """A file with faults changes nothing."""

    def faults(self, d):
        """What wsctl says of a reload that must be refused."""
        out = d.wsctl("reload", check=False)
        self.assertEqual((out.returncode, out.stdout), (1, ""), out.stderr)
        return out.stderr.replace(d.dir, "").split("\n")[:-1]

    def test_reload_faults_all_at_once(self):
        d = self.daemon({"server": {"max_connections": 1}})
        with open(d.conf) as f:
            good = f.read()
        lines = good.count("\n")
        with open(d.conf, "a") as f:
            f.write("[limits]\nping_interval = soon\n[server]\ndemo = /nowhere/page\n"
                    "max_connectionz = 7\n")
        before = d.ctl("workers")["workers"]
        mark = d.mark()
        said = self.faults(d)
        self.assertEqual(said[0], "wsctl: nothing was changed: 3 faults in the settings")
        self.assertRegex(said[1], r"^/wscast.conf:%d: .*ping_interval" % (lines + 2))
        self.assertRegex(said[2], r"^/wscast.conf:%d: .*max_connections" % (lines + 5))
        self.assertEqual(said[3], "/wscast.conf:%d: demo: cannot read /nowhere/page: No "
                                  "such file or directory" % (lines + 4))
        d.wait_line("reload refused", mark)
        for fault in said[1:]:
            self.assertIn(fault, d.log().replace(d.dir, ""))
        self.assertEqual([w["settings"] for w in d.workers()],
                         [w["settings"] for w in before])
        with open(d.conf, "w") as f:
            f.write(good)
        self.assertEqual(d.reload()["changed"], [])

    def test_reload_file_removed(self):
        d = self.daemon({"server": {"max_connections": 1}}, workers=1)
        os.unlink(d.conf)
        self.assertEqual(self.faults(d)[1:],
                         ["/wscast.conf: cannot be read: No such file or directory"])
        http_kept = [http(d, "/ws/news") for _ in range(2)]
        self.assertEqual([h[0] for h in http_kept], [101, 503])
        for _, _, s in http_kept:
            s.close()

    def test_reload_sighup_is_the_same(self):
        d = self.daemon({"server": {"max_connections": 1}}, workers=1)
        mark = d.mark()
        d.configure(server={"max_connections": "many"})
        d.proc.send_signal(signal.SIGHUP)
        d.wait_line("max_connections: ", mark)
        d.wait_line("reload refused", mark)
        d.wait_notify("RELOADING=1")
        d.configure(server={"max_connections": 3})
        d.proc.send_signal(signal.SIGHUP)
        d.wait_line("changed: server.max_connections$", mark)
        wait_until("the worker has it", lambda: d.workers()[0]["settings"] == 2)

    def test_reload_file_that_is_no_plain_file(self):
        d = self.daemon()
        fifo = os.path.join(d.dir, "fifo")
        os.mkfifo(fifo)
        d.configure(server={"demo": fifo})
        self.assertIn("no plain file", self.faults(d)[1])
        d.configure(server={"demo": d.dir})
        self.assertIn("no plain file", self.faults(d)[1])
        with open(fifo + "2", "w") as f:
            f.truncate((512 << 10) + 1)
        d.configure(server={"demo": fifo + "2"})
        self.assertIn("is longer than 524288 bytes", self.faults(d)[1])

    def test_reload_names_what_waits_for_a_restart(self):
        d = self.daemon(extra=["-o", "limits.message_rate=9"])
        d.reload(limits={"max_message_size": 50000})
        got = d.reload(server={"workers": 3}, ring={"size": "1M"},
                       limits={"message_rate": 5, "ping_interval": "2h"},
                       feed={"redis": "redis://u:secret@h/"})
        self.assertEqual(got["changed"], ["limits.ping_interval"])  # -o is on top
        self.assertEqual(got["restart"], ["server.workers", "ring.size", "feed.redis"])
        self.assertNotIn("secret", d.log())
        self.assertEqual(len(d.workers()), 2)
        out = d.wsctl("reload")
        self.assertIn("not before a restart of the service:\n  server.workers\n"
                      "  ring.size\n  feed.redis\n", out.stdout)


class UnderTraffic(StormCase):
    SETTINGS = [
        {"limits": {"message_rate": 1000, "send_buffer": "32k"}},
        {"limits": {"message_rate": None, "max_message_size": 30000}},
        {"compression": {"level": 1}, "limits": {"send_buffer": "64k"}},
        {"compression": {"level": 9}, "limits": {"max_message_size": None}},
        {"channel c1": {"slow": "close", "publish": "anyone"},
         "server": {"max_connections_per_ip": 5000}},
        {"channel c1": None, "server": {"max_connections_per_ip": None}},
        {"limits": {"pong_timeout": "30m", "write_timeout": "20m"}},
        {"limits": {"pong_timeout": "1h", "write_timeout": "10m"}},
    ]

    def test_reload_under_traffic_and_kills_loses_no_byte(self):
        """Reloads one behind the other, and a worker killed in the middle of each
        second one: no connection closes, and no byte is missing or wrong."""
        fleet = self.storm(60 if SANITIZED else 200)
        rounds = 12 if SANITIZED else 40
        done = kills = 0
        asked = None
        at = time.monotonic()

        def job():
            nonlocal done, kills, asked, at
            if asked is not None:
                if asked.poll() is None:
                    return
                out = asked.communicate()[0]
                self.assertEqual(asked.returncode, 0, out)
                asked = None
            if done == rounds or time.monotonic() < at:
                return
            workers = self.d.workers()
            if any(w["state"] != "serving" for w in workers):
                return
            self.d.configure(**self.SETTINGS[done % len(self.SETTINGS)])
            asked = subprocess.Popen(
                [os.path.join(BIN, "wsctl"), "-s", self.d.control, "reload"],
                stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
            if done % 2:
                kills += shoot(self.rng.choice(workers)["pid"])
            done += 1
            at = time.monotonic() + self.rng.uniform(0, 0.1)

        fleet.jobs += [job]
        fleet.storm.start()
        fleet.run(lambda: "reload %d" % done, lambda: done == rounds and asked is None,
                  timeout=60 + DEADLINE)
        self.assertEqual(kills, rounds // 2)
        self.assertEqual(self.over(), [])
        self.assertEqual({w["settings"] for w in self.d.workers()}, {rounds + 1})
        self.fds_are_back(self.d, self.before)
        self.d.stop()


if __name__ == "__main__":
    unittest.main()
