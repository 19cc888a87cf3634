"""What the listener says to HTTP: the upgrade, and each way to be refused."""

import http.client
import json
import os
import socket
import struct
import sys
import unittest

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from fleet import ACCEPT, KEY, masked, take_frame
from harness import DEADLINE, Case, wait_until
from wsclient import V1, close_code, raw, run, soon


class Http(Case):
    def setUp(self):
        self.d = self.daemon(self.settings()) if self.settings() is not None else None

    def settings(self):
        return {}

    def ask(self, data, d=None):
        """Send bytes; the whole answer up to the server's closing: (status, headers, body)."""
        d = d or self.d
        with socket.create_connection(("127.0.0.1", d.port)) as s:
            s.settimeout(DEADLINE)
            if data:
                s.sendall(data)
            answer = http.client.HTTPResponse(s)
            answer.begin()
            return answer.status, answer.headers, answer.read()

    def request(self, path="/ws/news", drop=(), method="GET", version="HTTP/1.1", **headers):
        """An upgrade with headers left out, or others (_ for -)."""
        lines = {"Host": "127.0.0.1:%d" % self.d.port, "Upgrade": "websocket",
                 "Connection": "Upgrade", "Sec-WebSocket-Version": "13",
                 "Sec-WebSocket-Key": KEY}
        lines.update({k.replace("_", "-"): v for k, v in headers.items()})
        return ("%s %s %s\r\n" % (method, path, version) + "".join(
            "%s: %s\r\n" % kv for kv in lines.items() if kv[0] not in drop) + "\r\n").encode()

    def status(self, *args, **kwargs):
        return self.ask(self.request(*args, **kwargs))[0]

    def upgraded(self, data):
        """Send an upgrade; True when it is accepted."""
        with socket.create_connection(("127.0.0.1", self.d.port)) as s:
            s.settimeout(DEADLINE)
            s.sendall(data)
            got = b""
            while b"\r\n\r\n" not in got:
                more = s.recv(4096)
                if not more:
                    break
                got += more
            return got.startswith(b"HTTP/1.1 101 ") and ACCEPT.encode() in got


class Upgrade(Http):
    def test_upgrade_paths_that_are_served(self):
        for path in ("/ws/news", "/ws?channel=a", "/ws?channel=a&channel=b", "/ws/a%20b",
                     "/ws?x=1&channel=a"):
            self.assertTrue(self.upgraded(self.request(path)), path)
        self.assertTrue(self.upgraded(self.request("/ws", Sec_WebSocket_Protocol="wscast.v1")))
        self.assertTrue(self.upgraded(self.request(
            "/ws", Sec_WebSocket_Protocol="other, wscast.v1")))

    def test_upgrade_headers_are_read_as_http_says(self):
        self.assertTrue(self.upgraded(self.request(
            drop=("Connection", "Upgrade"), connection="keep-alive, UPGRADE",
            upgrade="WebSocket")))

    def test_upgrade_a_byte_at_a_time_is_the_same(self):
        with socket.create_connection(("127.0.0.1", self.d.port)) as s:
            s.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            s.settimeout(DEADLINE)
            for byte in self.request("/ws", Sec_WebSocket_Protocol="wscast.v1"):
                s.send(bytes([byte]))
            got = b""
            while b'{"hello":' not in got:
                got += s.recv(4096)
            self.assertTrue(got.startswith(b"HTTP/1.1 101 "))
            s.sendall(masked(1, b'{"id":1,"ping":{}}'))  # shorter than the request
            while b'{"id":1,"ok":{}}' not in got:
                got += s.recv(4096)

    def test_upgrade_and_messages_in_one_segment(self):
        """What comes behind the request in the same segment is not lost."""
        with socket.create_connection(("127.0.0.1", self.d.port)) as s:
            s.settimeout(DEADLINE)
            s.sendall(self.request("/ws", Sec_WebSocket_Protocol="wscast.v1")
                      + masked(1, b'{"id":1,"ping":{}}') + masked(1, b'{"id":2,"ping":{}}'))
            got = b""
            while got.count(b'"ok"') < 2:
                got += s.recv(4096)
            self.assertLess(got.index(b"hello"), got.index(b'"id":1'))
            self.assertLess(got.index(b'"id":1'), got.index(b'"id":2'))

    def test_upgrade_refused_with_its_status(self):
        self.assertEqual(self.status("/nowhere"), 404)
        self.assertEqual(self.status("/wsx"), 404)
        self.assertEqual(self.status("/", drop=("Upgrade", "Connection")), 404)
        self.assertEqual(self.status(method="POST"), 405)
        status, headers, _ = self.ask(self.request(Sec_WebSocket_Version="8"))
        self.assertEqual((status, headers["Sec-WebSocket-Version"]), (426, "13"))
        self.assertEqual(self.status(drop=("Sec-WebSocket-Version",)), 426)
        self.assertEqual(self.status(drop=("Sec-WebSocket-Key",)), 400)
        self.assertEqual(self.status(Sec_WebSocket_Key="short"), 400)
        self.assertIn(self.status(drop=("Upgrade",)), (400, 426))
        self.assertEqual(self.status("/ws"), 400)  # neither protocol nor channel
        self.assertEqual(self.status("/ws/" + "x" * 201), 400)
        self.assertEqual(self.status("/ws/%zz"), 400)
        self.assertEqual(self.status("/ws/%01"), 400)
        self.assertEqual(self.status(X="y" * 70000), 431)
        self.assertEqual(self.ask(b"nonsense\r\n\r\n")[0], 400)
        self.assertIn(self.status(version="HTTP/1.0"), (400, 426, 505))
        self.assertTrue(self.upgraded(self.request()), "it lives on")

    def test_upgrade_refused_by_origin(self):
        d = self.d
        self.assertEqual(self.status(Origin="http://evil.example"), 403)
        self.assertTrue(self.upgraded(self.request(Origin="http://127.0.0.1:%d" % d.port)))

    def test_upgrade_refused_by_rule(self):
        self.d = self.daemon({"channel shut:*": {"subscribe": "nobody"}})
        self.assertEqual(self.status("/ws/shut:a"), 403)
        self.assertTrue(self.upgraded(self.request("/ws/open")))

    def test_raw_publish_where_forbidden_is_closed(self):
        async def go():
            ws = await raw(self.d, "news")  # publish = nobody
            await ws.send("x")
            self.assertIn(await close_code(ws), (4403, 1008))

        run(go())

    def test_compression_offered_is_declined_or_spoken(self):
        """The library offers permessage-deflate; either answer must work."""
        async def go():
            v1 = await V1.open(self.d, "news", compression="deflate")
            self.d.publish("news", '"%s"' % ("x" * 5000))
            self.assertEqual((await v1.event())["data"], "x" * 5000)
            await v1.ws.send('{"id":0,"ping":{}%s}' % (" " * 5000))
            self.assertEqual(await v1.recv(), {"id": 0, "ok": {}})
            await v1.close()

        run(go())


class Health(Http):
    def test_health_and_ready_say_200_when_all_is_well(self):
        for path in ("/health", "/ready"):
            status, headers, body = self.ask(
                ("GET %s HTTP/1.1\r\nHost: x\r\n\r\n" % path).encode())
            self.assertEqual(status, 200, path)
            self.assertIn("json", headers["Content-Type"])
            json.loads(body)

    def test_health_head_has_no_body(self):
        with socket.create_connection(("127.0.0.1", self.d.port)) as s:
            s.settimeout(DEADLINE)
            s.sendall(b"HEAD /health HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
            got = b""
            while more := s.recv(4096):
                got += more
            if got.startswith(b"HTTP/1.1 200"):
                self.assertTrue(got.endswith(b"\r\n\r\n"), got)
            else:
                self.assertTrue(got.startswith(b"HTTP/1.1 405"), got)

    def test_ready_says_503_while_redis_is_away(self):
        redis = self.redis()
        d = self.daemon(redis=redis)
        get = b"GET /ready HTTP/1.1\r\nHost: x\r\n\r\n"
        wait_until("ready", lambda: self.ask(get, d)[0] == 200)
        redis.stop()
        status, _, body = wait_until(
            "not ready", lambda: (a := self.ask(get, d))[0] == 503 and a)
        self.assertTrue(json.loads(body))
        self.assertEqual(self.ask(b"GET /health HTTP/1.1\r\nHost: x\r\n\r\n", d)[0], 200)
        redis.start()
        wait_until("ready again", lambda: self.ask(get, d)[0] == 200)


class Limits(Http):
    def settings(self):
        return None

    def test_limit_channels_per_connection_refuses_raw(self):
        self.d = self.daemon({"limits": {"channels_per_connection": 2}})
        self.assertTrue(self.upgraded(self.request("/ws?channel=a&channel=b")))
        self.assertIn(self.status("/ws?channel=a&channel=b&channel=c"), (400, 403))

    def test_limit_max_message_size_closes_with_1009(self):
        self.d = self.daemon({"limits": {"max_message_size": 1000},
                              "channel *": {"publish": "anyone"}})

        async def go():
            ws = await raw(self.d, "news")
            await ws.send("x" * 1000)
            self.assertEqual(len(await soon(ws.recv())), 1000)
            await ws.send("x" * 1001)
            self.assertEqual(await close_code(ws), 1009)

        run(go())

    def test_limit_frame_that_claims_much_is_refused_at_its_head(self):
        self.d = self.daemon({"channel *": {"publish": "anyone"}})
        for length in (1 << 40, (1 << 63) - 1, 1 << 63):
            with socket.create_connection(("127.0.0.1", self.d.port)) as s:
                s.settimeout(DEADLINE)
                s.sendall(self.request() + struct.pack(">BBQ", 0x81, 0xFF, length) + b"mask+")
                got = b""
                while more := s.recv(4096):
                    got += more
                first, payload, _ = take_frame(got, got.index(b"\r\n\r\n") + 4)
                self.assertEqual(first, 0x88)
                self.assertIn(struct.unpack(">H", payload[:2])[0], (1002, 1009))

    def test_limit_max_connections_says_503(self):
        # Of one worker: several share it out among them.
        self.d = self.daemon({"server": {"max_connections": 5}}, workers=1)

        async def go():
            held = [await V1.open(self.d) for _ in range(5)]
            status, headers, _ = self.ask(self.request())
            self.assertEqual(status, 503)
            self.assertTrue(headers["Retry-After"].isdigit())
            await held.pop().close()
            wait_until("room again", lambda: self.upgraded(self.request()))
            for v in held:
                await v.close()

        run(go())

    def test_limit_handshake_timeout_ends_a_silent_one(self):
        self.d = self.daemon({"limits": {"handshake_timeout": "1s"}})
        for begin in (b"", b"GET /ws/news HT"):
            with socket.create_connection(("127.0.0.1", self.d.port)) as s:
                s.settimeout(DEADLINE)
                s.sendall(begin)
                while s.recv(4096):
                    pass
        self.assertTrue(self.upgraded(self.request()))

    def test_protocol_breaches_close_with_1002(self):
        self.d = self.daemon({"channel *": {"publish": "anyone"}})
        for what, data in [
                ("unmasked", b"\x81\x01x"),
                ("reserved bit", b"\xc1" + masked(1, b"x")[1:]),
                ("reserved opcode", masked(3, b"x")),
                ("continuation of nothing", masked(0, b"x")),
                ("long control frame", masked(9, b"x" * 126)),
                ("fragmented control frame", masked(9, b"x", fin=False)),
                ("message inside a message", masked(1, b"x", fin=False) + masked(1, b"y")),
                ("close of one byte", masked(8, b"x")),
                ("close code 1005", masked(8, b"\x03\xed"))]:
            with socket.create_connection(("127.0.0.1", self.d.port)) as s:
                s.settimeout(DEADLINE)
                s.sendall(self.request() + data)
                got = b""
                while more := s.recv(4096):
                    got += more
                frame = take_frame(got, got.index(b"\r\n\r\n") + 4)
                self.assertIsNotNone(frame, what)
                self.assertEqual((frame[0], frame[1][:2]), (0x88, b"\x03\xea"), what)


if __name__ == "__main__":
    unittest.main()
