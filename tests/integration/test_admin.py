"""The admin listener: metrics, health, and publishing over HTTP."""

import http.client
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import unittest

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from harness import BIN, DEADLINE, Case, CtlError, free_port, wait_until
from wsclient import V1, raw, run

KEY = "a-key-of-thirty-two-characters-0"


class Admin(Case):
    def admin(self, settings=None, keys=(KEY,), **kwargs):
        """A daemon with an admin listener and a file of keys."""
        self.port = free_port()
        merged = {"server": {"admin_listen": "127.0.0.1:%d" % self.port}}
        for section, more in (settings or {}).items():
            merged.setdefault(section, {}).update(more)
        d = self.daemon(merged, **kwargs)
        if keys:
            self.keys = os.path.join(d.dir, "keys")
            self.put_keys(*keys)
            d.reload(server={"api_key_file": self.keys})
        return d

    def put_keys(self, *keys):
        with open(self.keys, "w") as f:
            f.write("# who may publish\n\n" + "".join("  %s \n" % k for k in keys))

    def ask(self, method, path, body=None, key=None, headers=()):
        """(status, headers, body)"""
        c = http.client.HTTPConnection("127.0.0.1", self.port, timeout=DEADLINE)
        head = dict(headers)
        if key:
            head["Authorization"] = "Bearer " + key
        try:
            c.request(method, path, body, head)
            r = c.getresponse()
            return r.status, r.headers, r.read().decode()
        finally:
            c.close()

    def publish(self, body, key=KEY):
        """(status, the answer)"""
        if not isinstance(body, (str, bytes)):
            body = json.dumps(body)
        status, _, text = self.ask("POST", "/publish", body, key)
        self.assertEqual(text.count("\n"), 1, text)
        return status, json.loads(text)

    def refused(self, want, body, key=KEY):
        """The code with which it is refused."""
        status, got = self.publish(body, key)
        self.assertEqual(status, want, got)
        self.assertTrue(got["error"]["message"], got)
        return got["error"]["code"]

    def metrics(self):
        """{name with labels: value}"""
        status, head, text = self.ask("GET", "/metrics")
        self.assertEqual(status, 200)
        self.assertIn("version=0.0.4", head["Content-Type"])
        return {line.rsplit(" ", 1)[0]: float(line.rsplit(" ", 1)[1])
                for line in text.splitlines() if not line.startswith("#")}

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
        d = self.admin(redis=server)
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

    def test_metrics_count_what_happens(self):
        d = self.admin({"limits": {"channels_per_connection": 1}}, workers=2)

        async def go():
            held = [await V1.open(d, "news") for _ in range(10)]
            self.assertEqual(await held[0].error(subscribe="b"), "limit")
            for _ in range(5):
                self.publish({"channel": "news", "data": 1})
            for v1 in held:
                for _ in range(5):
                    await v1.event()
            # A message is counted behind its last send.
            wait_until("all are counted", lambda: d.counter("sent") == 50)
            m = self.metrics()

            def sum_of(name):
                return sum(v for k, v in m.items() if k.split("{")[0] == name)

            self.assertEqual(sum_of("wscast_connections"), 10)
            self.assertEqual(sum_of("wscast_sent_total"), 50)
            self.assertEqual(sum_of("wscast_limited_channels_total"), 1)
            self.assertEqual(m["wscast_messages_total"], 5)
            self.assertEqual(m["wscast_admin_published_total"], 5)
            self.assertEqual(m["wscast_limit_channels_per_connection"], 1)
            self.assertEqual(m["wscast_feed_up"], 1)
            serving = sum(1 for w in d.workers() if w["subscriptions"])

            def noted():  # a message is noted behind its last send
                nonlocal m
                m = self.metrics()
                return all(sum_of(name + "_count") == 5 * serving for name in names)

            names = ("wscast_latency_seconds", "wscast_fanout_seconds")
            wait_until("the times of all messages", noted)
            for name in names:
                self.assertEqual(m[name + '_bucket{worker="0",le="+Inf"}'],
                                 m[name + '_count{worker="0"}'])
                self.assertGreater(sum_of(name + "_sum"), 0)
            for v1 in held:
                await v1.close()

        run(go())
        before = self.metrics()
        w = d.workers()[0]
        os.kill(w["pid"], signal.SIGKILL)
        d.wait_serving(but=[w["pid"]])
        after = self.metrics()
        self.assertEqual(after['wscast_worker_restarts_total{worker="0"}'], 1)
        for name, value in before.items():
            if re.search(r"_total|_count|_sum|_bucket", name):
                self.assertGreaterEqual(after[name], value, name)

    def test_metrics_by_wsctl_are_the_same(self):
        d, without = self.admin(), self.daemon()
        want = {name.split("{")[0] for name in self.metrics()}
        for each in (d, without):  # also where there is no listener
            names = set(re.findall("^wscast_[a-z_]+", each.wsctl("metrics").stdout, re.M))
            self.assertEqual(names, want)

    def test_metrics_are_never_by_channel(self):
        d = self.admin()
        before = len(self.metrics())
        self.publish([{"channel": "c%d" % n, "data": 1} for n in range(500)])
        self.assertEqual(len(self.metrics()), before)

    def test_metrics_promtool_finds_nothing(self):
        promtool = shutil.which("promtool")
        if promtool is None:
            self.skipTest("no promtool here (Debian: prometheus)")
        self.admin()
        text = self.ask("GET", "/metrics")[2]
        out = subprocess.run([promtool, "check", "metrics"], input=text, text=True,
                             stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                             timeout=DEADLINE)
        self.assertEqual((out.returncode, out.stdout), (0, ""))

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
