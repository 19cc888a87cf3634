"""The admin listener: health, and publishing over HTTP."""

import http.client
import json
import os
import socket
import subprocess
import sys
import unittest

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from admin import KEY, AdminCase
from harness import BIN, DEADLINE, CtlError, wait_until
from wsclient import V1, raw, run


class Admin(AdminCase):
    # -- publish --

    def test_admin_publish_reaches_clients_as_it_was_written(self):
        d = self.admin()

        async def go():
            ws = await raw(d, "news")
            v1 = await V1.open(d, "news")
            self.assertEqual(self.publish('{"channel": "news",\n "data": {"n" : 1.0}}'),
                             (200, {"ok": {"published": 1}}))
            self.assertEqual(await ws.recv(), '{"n":1.0}')
            self.assertEqual((await v1.event())["data"], {"n": 1.0})
            self.assertEqual(self.publish({"channel": "news", "base64": "AP8="})[0], 200)
            self.assertEqual(await ws.recv(), b"\x00\xff")
            batch = [{"channel": "news", "data": n} for n in range(1000)]
            batch[500]["channel"] = "other"
            self.assertEqual(self.publish(batch), (200, {"ok": {"published": 1000}}))
            for n in range(1000):
                if n != 500:
                    self.assertEqual(await ws.recv(), str(n))
            await ws.close()
            await v1.close()

        run(go())

    def test_admin_publish_is_refused_with_a_reason(self):
        d = self.admin({"ring": {"size": "1M"}})
        good = {"channel": "news", "data": 1}
        self.assertEqual(self.refused(401, good, key=None), "unauthorized")
        self.assertEqual(self.refused(401, good, key=KEY[:-1]), "unauthorized")
        self.assertEqual(self.refused(401, good, key=KEY + "x"), "unauthorized")
        for bad in ("", "{", "7", "[]", "[7]", "{}", {"channel": "news"}, {"data": 1},
                    {"channel": "", "data": 1}, {"channel": "a\n", "data": 1},
                    {"channel": "!x", "data": 1}, {"channel": "x" * 201, "data": 1},
                    {"channel": 7, "data": 1}, {"channel": "a", "base64": "?"},
                    {"channel": "a", "base64": 7}, dict(good, base64="AA=="),
                    dict(good, more=1), '{"channel":"a","channel":"b","data":1}',
                    [good, {"channel": "news"}]):
            self.assertEqual(self.refused(400, bad), "bad_request", bad)
        self.assertEqual(d.status()["messages_in"], 0)  # nothing of a list with a fault
        long = {"channel": "news", "data": "x" * 131063}
        self.assertEqual(self.refused(413, long), "too_large")
        # What is announced as too long is refused before it is sent.
        c = http.client.HTTPConnection("127.0.0.1", self.port, timeout=DEADLINE)
        self.addCleanup(c.close)
        c.putrequest("POST", "/publish")
        c.putheader("Authorization", "bearer " + KEY)
        c.putheader("Content-Length", "600000")
        c.endheaders()
        self.assertEqual(c.getresponse().status, 413)
        status, got = self.publish([good, long, good])
        self.assertEqual((status, d.status()["messages_in"]), (413, 2), got)
        self.assertIn("message 1: ", got["error"]["message"])
        self.assertIn("2 of 3 were published", got["error"]["message"])

    def test_admin_body_without_length_is_cut_off(self):
        """One that goes on for ever ends with its connection, and bounded."""
        self.admin({"ring": {"size": "1M"}})
        s = socket.create_connection(("127.0.0.1", self.port), DEADLINE)
        self.addCleanup(s.close)
        s.sendall(("POST /publish HTTP/1.1\r\nHost: h\r\nAuthorization: Bearer %s\r\n"
                   "Transfer-Encoding: chunked\r\n\r\n" % KEY).encode())
        sent = 0
        try:
            while sent < 1 << 24:
                sent += s.send(b"1000\r\n" + b"x" * 4096 + b"\r\n")
        except (BrokenPipeError, ConnectionResetError):
            pass
        self.assertLess(sent, 1 << 24)
        self.assertEqual(self.publish({"channel": "news", "data": 1})[0], 200)

    def test_admin_keys_rotate_by_reload(self):
        d = self.admin(keys=None)
        good = {"channel": "news", "data": 1}
        status, got = self.publish(good)
        self.assertEqual((status, got["error"]["code"]), (403, "forbidden"))
        self.assertIn("server.api_key_file", got["error"]["message"])
        self.keys = os.path.join(d.dir, "keys")
        old, new = "the-old-key-of-long-ago", "the-new-key-of-today"
        self.put_keys(old)
        d.reload(server={"api_key_file": self.keys})
        self.assertEqual(self.publish(good, old)[0], 200)
        self.put_keys(old, new)
        self.assertEqual(d.reload()["changed"], ["server.api_key_file"])
        self.assertEqual([self.publish(good, k)[0] for k in (old, new)], [200, 200])
        self.put_keys(new)
        d.reload()
        self.assertEqual([self.publish(good, k)[0] for k in (old, new)], [401, 200])
        for bad in ((), ("short",), (new, "two words in a line")):
            self.put_keys(*bad)
            with self.assertRaises(CtlError):
                d.reload()
        self.assertEqual(self.publish(good, new)[0], 200)
        for word in (old, new, KEY):  # no worker has them, and no log
            self.assertNotIn(word, d.log())

    def test_admin_publish_waits_for_redis_and_says_when_it_is_away(self):
        server = self.redis()
        self.admin(redis=server)
        wait_until("the feed", lambda: self.ask("GET", "/ready")[0] == 200)
        good = [{"channel": "news", "data": n} for n in range(200)]
        self.assertEqual(self.publish(good), (200, {"ok": {"published": 200}}))
        server.stop()

        def told():
            status, _, text = self.ask("GET", "/ready")
            return status == 503 and json.loads(text)["reason"] == "feed_down"

        wait_until("/ready says so", told)
        self.assertEqual(self.refused(503, good), "feed_down")
        self.assertEqual(self.ask("GET", "/health")[0], 200)

    # -- the rest --

    def test_admin_pages_and_methods(self):
        self.admin()
        self.assertEqual(self.ask("GET", "/health")[0], 200)
        self.assertEqual(json.loads(self.ask("GET", "/ready")[2]), {"ready": True})
        status, _, text = self.ask("GET", "/nowhere")
        self.assertEqual((status, json.loads(text)["error"]["code"]), (404, "not_found"))
        status, head, _ = self.ask("GET", "/publish")
        self.assertEqual((status, head["Allow"]), (405, "POST"))
        status, head, _ = self.ask("DELETE", "/metrics")
        self.assertEqual((status, head["Allow"]), (405, "GET, HEAD"))
        status, head, text = self.ask("HEAD", "/metrics")
        self.assertEqual((status, text), (200, ""))

    def test_admin_listener_taken_is_said(self):
        with socket.create_server(("127.0.0.1", 0)) as taken:
            d = self.daemon({"server": {"admin_listen": "127.0.0.1:%d"
                                        % taken.getsockname()[1]}}, ready=False)
            self.assertEqual(d.wait_end(), 1)
            d.check_gone()
        self.assertIn("server.admin_listen", d.log())

    def test_admin_many_idle_connections_hold_up_nobody(self):
        """They take all places there are; the control socket and clients go on."""
        d = self.admin()
        held = []
        for _ in range(100):
            s = socket.create_connection(("127.0.0.1", self.port), DEADLINE)
            s.sendall(b"GET /metrics HTTP/1.1\r\n")
            held.append(s)
        d.status()

        async def go():
            ws = await raw(d, "news")
            d.publish("news", "x")
            self.assertEqual(await ws.recv(), "x")
            await ws.close()

        run(go())
        for s in held:
            s.close()
        wait_until("there is room again", lambda: self.ask("GET", "/health")[0] == 200)

    # -- metrics --

    def test_wsbench_publishes_over_http(self):
        d = self.admin()
        out = subprocess.run(
            [os.path.join(BIN, "wsbench"), "run", "broadcast", "--protocol=raw",
             "--url=ws://%s/ws/%%c" % d.address, "--connections=20", "--processes=1",
             "--channels=2", "--rate=500", "--size=100", "--warmup=0.2", "--duration=1",
             "--publish=http", "--admin=127.0.0.1:%d" % self.port, "--api-key=" + KEY,
             "--json"],
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, timeout=DEADLINE)
        self.assertEqual(out.returncode, 0, out.stderr)
        m = self.metrics()
        self.assertGreater(m["wscast_admin_published_total"], 500)
        self.assertEqual(m["wscast_admin_publish_failed_total"], 0)
        self.assertEqual(m["wscast_messages_total"], m["wscast_admin_published_total"])


if __name__ == "__main__":
    unittest.main()
