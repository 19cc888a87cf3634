"""The log: lines that programs can read, that are bounded, and that have no secrets."""

import json
import os
import re
import signal
import socket
import sys
import time
import unittest

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
import websockets
from harness import DEADLINE, Case, CtlError, free_port, wait_until
from hostile import to_end
from jwt import Key
from wsclient import V1, connect, raw, run

LEVELS = {"3": "error", "4": "warning", "5": "notice", "6": "info", "7": "debug"}
LEFT_OUT = re.compile(r"\((\d+) more like it were left out\)")


class Logs(Case):
    def knock(self, port, data):
        """A connection that says something and is closed."""
        with socket.create_connection(("127.0.0.1", port), DEADLINE) as s:
            s.sendall(data)
            to_end(s)

    def counted(self, d, text):
        """How often what this line says happened: lines, and what they left out."""
        lines = [line for line in list(d.lines) if text in line]
        return sum(1 + int((LEFT_OUT.search(line) or [0, 0])[1]) for line in lines), lines

    # -- bounded --

    def test_log_of_a_flood_has_a_line_a_second_and_its_count(self):
        port = free_port()
        d = self.daemon({"server": {"listen": ["127.0.0.1:%d proxy=v2" % port]}}, workers=1)
        begun = time.monotonic()
        for _ in range(200):
            self.knock(port, b"GET / HTTP/1.1\r\n\r\n")
        self.assertEqual(d.counter("refused_proxy"), 200)

        def all_told():  # the next line, more than a second later, has the count
            if self.counted(d, "proxy=v2")[0] == d.counter("refused_proxy"):
                return True
            self.knock(port, b"junk\r\n")
            return False

        wait_until("all are told of", all_told, every=1.1)
        total, lines = self.counted(d, "proxy=v2")
        self.assertGreater(total, 200)
        self.assertLessEqual(len(lines), 1 + time.monotonic() - begun)

    def test_log_of_redis_junk_is_bounded_too(self):
        server = self.redis()
        d = self.daemon(redis=server, workers=1)
        pipe = server.connect()
        self.addCleanup(pipe.close)
        junk = [("wscast:!revoke", '{"user":"a-payload\\n\x1b"')] * 500
        wait_until("it listens", lambda: server.cli("PUBSUB", "NUMSUB",
                                                    "wscast:!revoke").endswith("1"))
        begun = time.monotonic()
        pipe.publish(junk)

        def all_told():
            if self.counted(d, "revoke nobody")[0] == pipe.asked:
                return True
            pipe.publish(junk[:1])
            return False

        wait_until("all are told of", all_told, every=1.1)
        self.assertLessEqual(len(self.counted(d, "revoke nobody")[1]),
                             1 + time.monotonic() - begun)
        self.assertNotIn("a-payload", "\n".join(d.lines))

    # -- for programs --

    def test_log_as_json_is_json_whatever_happens(self):
        server = self.redis()
        port, proxied = free_port(), free_port()
        d = self.daemon({"server": {"listen": ["127.0.0.1:%d" % port,
                                               "127.0.0.1:%d proxy=v2" % proxied],
                                    "log_format": "json", "log_level": "debug"}},
                        redis=server, workers=2, port=port)
        wait_until("the feed", lambda: d.status()["feed"]["connected"])
        self.knock(proxied, b'"\\\x00\xff{}\r\n')
        server.cli("PUBLISH", "wscast:!revoke", '"\\\x1b[31m\u202e"}')
        server.cli("PUBLISH", "wscast:!presence", '{"\\u0000":"\\')
        for pid in (d.workers()[0]["pid"], d.workers()[1]["keeper_pid"]):
            os.kill(pid, signal.SIGKILL)
        d.wait_serving()
        with self.assertRaises(CtlError):
            d.reload(server={"origins": '"\\ \u202e \u00e9', "listen": 'a"b\\c'})
        d.reload(server={"origins": None,
                         "listen": ["127.0.0.1:%d" % port,
                                    "127.0.0.1:%d proxy=v2" % proxied]})
        d.wsctl("restart")
        mark = d.mark()
        server.stop()
        d.wait_line("is down", mark)
        d.stop()
        self.assertGreater(len(d.lines), 8)
        for line in d.lines:
            prefix, text = re.fullmatch(r"<(\d)>(.*)", line).groups()
            got = json.loads(text)
            self.assertEqual(list(got), ["time", "level", "who", "message"])
            self.assertEqual(got["level"], LEVELS[prefix])
            self.assertRegex(got["time"], r"^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z$")
            self.assertTrue(got["message"])
            self.assertNotRegex(got["message"], "[\x00-\x1f\x7f-\x9f]")

    # -- no secrets --

    def test_log_has_no_token_and_no_payload(self):
        d = self.daemon({"server": {"log_level": "debug"}, "channel *": {"publish": "authenticated", "rate": "1"}},
                        workers=1)
        key = Key(d.dir)
        d.reload(auth={"mode": "required", "secret_file": key.path})
        good, bad = key.token(sub="ann"), key.token(sub="ann", exp=1)

        async def go():
            for path in ("/ws/news?token=" + bad, "/ws/news?token=" + good[:-2],
                         "/ws/news?token=not.a.token"):
                with self.assertRaises(websockets.InvalidHandshake):
                    await connect(d, path)
            v1 = await V1.open(d, "news", extra_headers={"Authorization": "Bearer " + good})
            await v1.error(auth=bad)
            for n in range(30):
                await v1.send(id=n, publish="news", data="a-payload")
            d.publish("news", "a-payload")
            ws = await raw(d, "news", extra_headers={"Authorization": "Bearer " + good})
            for _ in range(30):
                await ws.send("a-payload")
            await ws.wait_closed()
            pid = d.workers()[0]["pid"]
            os.kill(pid, signal.SIGKILL)
            d.wait_serving(but=(pid,))

        run(go())
        d.stop()
        for word in (good, bad, good.split(".")[2], bad.split(".")[1], key.secret.decode(),
                     "a-payload", "not.a.token"):
            self.assertNotIn(word, "\n".join(d.lines))

    def test_log_has_nothing_that_redis_says_back(self):
        """An unknown command is answered with its arguments: here they are a password,
        and a message."""
        for command, feed in (("AUTH", {"source": "pubsub"}), ("XADD", {"source": "stream"})):
            with self.subTest(command):
                server = self.redis(args=["--rename-command", command, ""])
                url = server.url
                if command == "AUTH":
                    url = url.replace("redis://", "redis://:a-password@")
                d = self.daemon({"server": {"log_level": "debug"},
                                 "feed": dict(feed, redis=url, required="no"),
                                 "channel *": {"publish": "anyone"}}, workers=1)
                if command == "XADD":
                    wait_until("the feed", lambda: d.status()["feed"]["connected"])
                    with self.assertRaises(CtlError):
                        d.publish("news", "a-payload")
                d.wait_line("unknown command '%s'" % command)
                text = "\n".join(d.lines)
                self.assertNotIn("args beginning", text)
                self.assertNotIn("a-pa", text)


if __name__ == "__main__":
    unittest.main()
