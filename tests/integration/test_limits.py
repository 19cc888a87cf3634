"""Each limit: who is over it is told, and those within it notice nothing."""

import asyncio
import json
import os
import resource
import signal
import socket
import sys
import time
import unittest

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from harness import DEADLINE, Case, cpu_seconds, wait_until
from wsclient import V1, close_code, raw, run

REQUEST = ("GET /ws/news HTTP/1.1\r\nHost: h\r\nUpgrade: websocket\r\n"
           "Connection: Upgrade\r\nSec-WebSocket-Version: 13\r\n"
           "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n%s\r\n")


def ask(d, headers="", source="127.0.0.1"):
    """A handshake; (status, its answer, its socket)."""
    s = socket.create_connection(("127.0.0.1", d.port), DEADLINE, (source, 0))
    got = b""
    try:
        s.sendall((REQUEST % headers).encode())
    except (BrokenPipeError, ConnectionResetError):
        pass  # turned away before it spoke: the answer is there all the same
    # A refusal is read to its end.
    while b"\r\n\r\n" not in got or not got.startswith(b"HTTP/1.1 101"):
        try:
            more = s.recv(4096)
        except ConnectionResetError:
            break
        if not more:
            break
        got += more
    return int(got.split(b" ")[1]), got.decode("latin-1"), s


class Limits(Case):
    def hold(self, d, n, want=101, **kwargs):
        """n handshakes that are answered so; their sockets."""
        held = []
        for _ in range(n):
            status, head, s = ask(d, **kwargs)
            self.addCleanup(s.close)
            self.assertEqual(status, want, head)
            if want != 101:
                self.refusal_ok(head)
            held.append(s)
        return held

    def refusal_ok(self, answer):
        """It says when to come again, and why in one line."""
        head, body = answer.split("\r\n\r\n")
        self.assertRegex(head, "(?m)^Retry-After: [0-9]+\r?$")
        self.assertRegex(body, r"\A[^\n]+\n\Z")

    def test_limit_connections_in_all(self):
        d = self.daemon({"server": {"max_connections": 3}}, workers=1)
        held = self.hold(d, 3)
        self.hold(d, 2, 503)
        self.assertEqual(d.counter("limited_connections"), 2)
        held.pop().close()
        wait_until("it has gone", lambda: d.counter("connections") == 2)
        self.hold(d, 1)

    def test_limit_address_is_exact_with_one_worker(self):
        d = self.daemon({"server": {"max_connections_per_ip": 5}}, workers=1)
        held = self.hold(d, 5)
        self.hold(d, 3, 429)
        self.hold(d, 5, source="127.0.0.2")
        self.assertEqual(d.counter("limited_address"), 3)
        held.pop().close()
        wait_until("it has gone", lambda: d.counter("connections") == 9)
        self.hold(d, 1)
        self.hold(d, 1, 429)

    def test_limit_address_is_counted_anew_by_a_successor(self):
        d = self.daemon({"server": {"max_connections_per_ip": 5}}, workers=1)
        self.hold(d, 5)
        pid = d.workers()[0]["pid"]
        os.kill(pid, signal.SIGKILL)
        d.wait_serving(but=(pid,))
        self.hold(d, 1, 429)
        self.assertEqual(d.counter("connections"), 5)

    def test_limit_address_behind_a_proxy_is_the_clients(self):
        d = self.daemon({"server": {"max_connections_per_ip": 2,
                                    "trusted_proxies": "127.0.0.0/8"}}, workers=1)
        for client in ("192.0.2.1", "192.0.2.2", "192.0.2.3"):
            self.hold(d, 2, headers="X-Forwarded-For: %s\r\n" % client)
            self.hold(d, 1, 429, headers="X-Forwarded-For: %s\r\n" % client)

        def settled():
            return d.counter("connections") == 6

        wait_until("the refused ones have gone", settled)
        self.hold(d, 1, 429, headers="X-Forwarded-For: 192.0.2.1\r\n")

    def test_limit_handshakes_a_second(self):
        d = self.daemon({"server": {"max_handshakes_per_second": 20}}, workers=1)
        begin = time.monotonic()
        answers = [ask(d) for _ in range(60)]
        took = time.monotonic() - begin
        for _, _, s in answers:
            s.close()
        done = sum(a[0] == 101 for a in answers)
        self.assertEqual({a[0] for a in answers}, {101, 429})
        self.assertGreaterEqual(done, 20)
        self.assertLessEqual(done, 20 + 6 + 20 * took)
        self.assertEqual(d.counter("limited_handshakes"), 60 - done)
        wait_until("the next turn", lambda: ask(d)[0] == 101)

    def test_limit_handshakes_a_second_and_address(self):
        d = self.daemon({"server": {"max_handshakes_per_second_per_ip": 4,
                                    "origins": "http://good"}}, workers=1)
        begin = time.monotonic()
        bad = [ask(d, "Origin: http://evil\r\n") for _ in range(20)]  # refused, but it counts
        took = time.monotonic() - begin
        for _, head, s in bad:
            s.close()
            self.assertIn(head.split()[1], ("403", "429"))
        tried = sum(a[0] == 403 for a in bad)
        self.assertGreaterEqual(tried, 4)
        self.assertLessEqual(tried, 4 + 1 + 4 * took)
        self.assertEqual(d.counter("limited_knocks"), 20 - tried)
        self.hold(d, 4, source="127.0.0.2")  # another's are its own
        wait_until("the next turn", lambda: ask(d)[0] == 101)

    def test_limit_rule_rate_counts_for_each_rule(self):
        d = self.daemon({"channel slow:*": {"publish": "anyone", "rate": 3},
                         "channel fast:*": {"publish": "anyone", "rate": 40},
                         "channel *": {"publish": "anyone"}}, workers=1)

        async def go():
            v1 = await V1.open(d)

            async def burst(n):
                """How many of n are taken."""
                for i in range(n):
                    await v1.send(id=i, publish="%s:%d" % (name, i), data=i)
                got = [await v1.recv() for _ in range(n)]
                self.assertEqual({m["error"]["code"] for m in got if "error" in m} -
                                 {"rate_limited"}, set())
                return sum("ok" in m for m in got)

            rates, taken = {"slow": 3, "fast": 40}, {"slow": 0, "fast": 0, "any": 0}
            begin = time.monotonic()
            for name, n, least in (("fast", 60, 40), ("slow", 6, 3), ("fast", 2, 0),
                                   ("slow", 2, 0), ("any", 60, 60)):
                got = await burst(n)
                taken[name] += got
                took = time.monotonic() - begin
                self.assertGreaterEqual(got, least, name)
                if name in rates:  # ticks are coarse
                    self.assertLessEqual(taken[name], rates[name] * (1 + took + 0.2), name)
            await v1.close()

        run(go())

    def test_limit_rule_rate_is_told_then_closed(self):
        d = self.daemon({"channel *": {"publish": "anyone", "rate": 2}}, workers=1)

        async def go():
            v1 = await V1.open(d, "c")
            quiet = await V1.open(d, "c")
            try:
                for n in range(200):
                    await v1.send(id=n, publish="c", data=n)
            except Exception:  # closed meanwhile
                pass
            self.assertEqual(await close_code(v1.ws), 4429)
            self.assertGreaterEqual(d.counter("limited_rate"), 10)
            await quiet.ok(ping={})
            await quiet.close()

        run(go())

    def test_limit_rule_rate_survives_adoption(self):
        d = self.daemon({"channel a*": {"publish": "anyone", "rate": 50}}, workers=1)

        async def go():
            v1 = await V1.open(d)
            begin = time.monotonic()
            for n in range(50):
                await v1.send(id=n, publish="a", data=n)
            taken = sum(["ok" in await v1.recv() for _ in range(50)])
            pid = d.workers()[0]["pid"]
            os.kill(pid, signal.SIGKILL)
            d.wait_serving(but=(pid,))
            for n in range(50):
                await v1.send(id=n, publish="a", data=n)
            again = sum(["ok" in await v1.recv() for _ in range(50)])
            took = time.monotonic() - begin
            self.assertGreaterEqual(taken, 50)
            self.assertLessEqual(again, 50 * took + 12,  # ticks are coarse
                                 "a new bucket for each process")
            await v1.close()

        run(go())

    def test_limit_message_rate_v1_is_told_then_closed(self):
        d = self.daemon({"limits": {"message_rate": 5}}, workers=1)

        async def go():
            slow = await V1.open(d)
            fast = await V1.open(d)
            for n in range(8):
                await fast.send(id=n, ping={})
            answers = [await fast.recv() for _ in range(8)]
            told = [a["id"] for a in answers
                    if a.get("error", {}).get("code") == "rate_limited"]
            self.assertEqual([a["id"] for a in answers], list(range(8)))
            self.assertTrue(told and set(told) <= {5, 6, 7}, answers)
            self.assertEqual(d.counter("limited_rate"), len(told))
            await asyncio.sleep(1.3)  # what a second brings
            await fast.ok(ping={})
            try:
                for n in range(100):
                    await fast.send(id=n, ping={})
            except Exception:  # closed meanwhile
                pass
            self.assertEqual(await close_code(fast.ws), 4429)
            await slow.ok(ping={})
            await slow.close()

        run(go())

    def test_limit_message_burst_is_the_settings(self):
        d = self.daemon({"limits": {"message_rate": 1, "message_burst": 30}}, workers=1)

        async def go():
            v1 = await V1.open(d)
            for n in range(34):
                await v1.send(id=n, ping={})
            answers = [await v1.recv() for _ in range(34)]
            self.assertTrue(all("ok" in a for a in answers[:30]), answers)
            self.assertIn("error", answers[33])
            await v1.close()

        run(go())

    def test_limit_message_rate_raw_is_closed(self):
        d = self.daemon({"limits": {"message_rate": 5},
                         "channel *": {"publish": "anyone"}}, workers=1)

        async def go():
            ws = await raw(d, "news")
            try:
                for _ in range(20):
                    await ws.send("x")
            except Exception:  # closed meanwhile
                pass
            self.assertEqual(await close_code(ws), 4429)

        run(go())

    def test_limit_byte_rate_v1_is_told_then_closed(self):
        """Bytes count, however few messages they come in; a successor goes on counting."""
        d = self.daemon({"limits": {"byte_rate": 1000, "byte_burst": 60000},
                         "channel *": {"publish": "anyone"}}, workers=1)
        data = "x" * 29000

        async def go():
            v1 = await V1.open(d)
            await v1.ok(publish="news", data=data)
            pid = d.workers()[0]["pid"]
            os.kill(pid, signal.SIGKILL)
            d.wait_serving(but=(pid,))
            await v1.ok(publish="news", data=data)
            answer = await v1.ask(publish="news", data=data)
            self.assertEqual(answer["error"]["code"], "rate_limited")
            try:
                for n in range(40):
                    await v1.send(id=n, publish="news", data=data)
            except Exception:  # closed meanwhile
                pass
            self.assertEqual(await close_code(v1.ws), 4429)

        run(go())

    def test_limit_rates_survive_adoption(self):
        """Who has used up its messages, or bytes, has not got them back from a
        successor."""
        for limits in ({"message_rate": 1, "message_burst": 60},
                       {"byte_rate": 20, "byte_burst": 60 * 24}):
            d = self.daemon({"limits": limits}, workers=1)

            async def go():
                v1 = await V1.open(d)
                while v1.next < 60:  # of 19 bytes and more
                    await v1.ok(ping={})
                pid = d.workers()[0]["pid"]
                os.kill(pid, signal.SIGKILL)
                d.wait_serving(but=(pid,))
                while "error" not in await v1.ask(ping={}):
                    self.assertLess(v1.next, 90)
                await v1.close()

            with self.subTest(limits):
                run(go())
            d.stop()

    def test_limit_sizes_and_channels_are_counted(self):
        d = self.daemon({"limits": {"max_message_size": 1000,
                                    "channels_per_connection": 1}}, workers=1)

        async def go():
            v1 = await V1.open(d, "a")
            self.assertEqual(await v1.error(subscribe="b"), "limit")
            self.assertEqual(d.counter("limited_channels"), 1)
            await v1.ws.send("x" * 1001)
            self.assertEqual(await close_code(v1.ws), 1009)
            self.assertEqual(d.counter("limited_size"), 1)

        run(go())

    def test_limit_private_frames_are_counted(self):
        """Who asks and never reads the answers is closed, and counted."""
        d = self.daemon({"limits": {"send_buffer": "4k"}}, workers=1)
        s = socket.socket()
        s.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        s.connect(("127.0.0.1", d.port))
        s.settimeout(DEADLINE)
        self.addCleanup(s.close)
        s.sendall((REQUEST.replace("/ws/news", "/ws") % "Sec-WebSocket-Protocol: wscast.v1\r\n")
                  .encode())
        payload = json.dumps({"id": "i" * 120, "ping": {}}).encode()
        frame = bytes([0x81, 0xFE]) + len(payload).to_bytes(2, "big") + bytes(4) + payload
        try:
            while d.counter("limited_private") == 0:
                s.sendall(frame * 500)
        except OSError:
            pass  # it was closed
        wait_until("it is counted", lambda: d.counter("limited_private") >= 1)

    def test_limit_descriptors_at_the_start_are_a_503(self):
        """A small limit: 503 with a reserve left, and nothing ever fails."""
        d = self.daemon(workers=1, wrap=("prlimit", "--nofile=100:100"))
        answers = [ask(d) for _ in range(120)]
        for _, _, s in answers:
            self.addCleanup(s.close)
        self.assertEqual({a[0] for a in answers}, {101, 503})
        self.assertGreater(sum(a[0] == 101 for a in answers), 30)
        self.assertGreater(d.counter("limited_connections")
                           + d.counter("limited_descriptors"), 0)

    def test_limit_descriptors_used_up_never_spins(self):
        """EMFILE itself: some hear 503, the others wait, and the worker sleeps."""
        d = self.daemon(workers=1)
        self.hold(d, 3)
        w = d.workers()[0]
        top = max(int(fd) for fd in os.listdir("/proc/%d/fd" % w["keeper_pid"]))
        was = resource.prlimit(w["pid"], resource.RLIMIT_NOFILE)
        resource.prlimit(w["pid"], resource.RLIMIT_NOFILE, (top + 3, was[1]))
        late = []
        for _ in range(40):
            s = socket.create_connection(("127.0.0.1", d.port), DEADLINE)
            s.sendall((REQUEST % "").encode())
            self.addCleanup(s.close)
            late.append(s)
        wait_until("it runs out", lambda: d.counter("limited_descriptors") > 0)
        before = cpu_seconds([w["pid"]])
        time.sleep(1)
        self.assertLess(cpu_seconds([w["pid"]]) - before, 0.3)
        self.assertEqual(d.status()["workers"][0]["pid"], w["pid"])
        resource.prlimit(w["pid"], resource.RLIMIT_NOFILE, was)
        self.hold(d, 1)
        answered = [s.recv(12) for s in late]
        self.assertTrue(all(a in (b"HTTP/1.1 101", b"HTTP/1.1 503") for a in answered))

    def test_limit_descriptors_reserve_lost_is_made_again(self):
        """A worker that could not even take its reserve back has one again later."""
        d = self.daemon(workers=1)
        w = d.workers()[0]

        def descriptors():
            return len(os.listdir("/proc/%d/fd" % w["keeper_pid"]))

        self.hold(d, 1)
        before = descriptors()
        was = resource.prlimit(w["pid"], resource.RLIMIT_NOFILE)
        resource.prlimit(w["pid"], resource.RLIMIT_NOFILE, (3, was[1]))
        with socket.create_connection(("127.0.0.1", d.port), DEADLINE) as s:
            s.sendall((REQUEST % "").encode())
            wait_until("the reserve is gone", lambda: descriptors() == before - 1)
            resource.prlimit(w["pid"], resource.RLIMIT_NOFILE, was)
            self.assertEqual(s.recv(12), b"HTTP/1.1 101")
            self.assertEqual(descriptors(), before + 1)


if __name__ == "__main__":
    unittest.main()
