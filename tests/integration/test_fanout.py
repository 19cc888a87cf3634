"""From `redis-cli PUBLISH` to each client of an independent library, once and in order."""

import asyncio
import base64
import json
import os
import signal
import sys
import unittest
from urllib.parse import quote

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from harness import Case, fds_of, wait_until
from wsclient import V1, connect, raw, run, soon

OPEN = {"channel *": {"publish": "anyone"}}

# Payloads that need care, and how wscast.v1 shows them.
ODD = [
    (b'{"a":1}', {"data": {"a": 1}}),
    (b"", {"data": ""}),
    (b"plain text, no JSON", {"data": "plain text, no JSON"}),
    (b'{"a":1', {"data": '{"a":1'}),
    (b"{} {}", {"data": "{} {}"}),
    (b"\xff\xfe\x00\x80 not UTF-8", {"base64": "//4AgCBub3QgVVRGLTg="}),
    (b"\xc0\xaf", {"base64": "wK8="}),
    (b"\xed\xa0\x80", {"base64": "7aCA"}),
    ("\u00fc\u6f22\U0001f600".encode(), {"data": "\u00fc\u6f22\U0001f600"}),
    (b'"\\u0000\\ud83d\\ude00"', {"data": "\x00\U0001f600"}),
    (b"nul\x00inside\x1f\x7f\r\n\"\\", {"data": "nul\x00inside\x1f\x7f\r\n\"\\"}),
    (b" [1, 2,\n3] ", {"data": [1, 2, 3]}),
    (b"NaN", {"data": "NaN"}),
    (b"01", {"data": "01"}),
    (b"-0.5e+10", {"data": -0.5e10}),
    (b"12345678901234567890123", {"data": 12345678901234567890123}),
    (b"null", {"data": None}),
    (b'"text"', {"data": "text"}),
    (b"x" * 125, {"data": "x" * 125}),
    (b"x" * 126, {"data": "x" * 126}),
    (b"y" * 65535, {"data": "y" * 65535}),
    (b"z" * 65536, {"data": "z" * 65536}),
]


def as_message(payload):
    """What a raw client must see: text if it is UTF-8, else binary."""
    try:
        return payload.decode()
    except UnicodeDecodeError:
        return payload


async def live(redis, prefix, channel, raws):
    """Publish on a channel until all of these raw clients have had one of them, and
    drop what each has had: from there on they miss nothing."""
    mark = "live %d" % id(raws)
    seen = set()

    async def wait_for_one(ws):
        await soon(ws.recv(), "a first message")
        seen.add(ws)

    tasks = [asyncio.ensure_future(wait_for_one(ws)) for ws in raws]
    while len(seen) < len(raws):
        redis.publish([(prefix + channel, mark.encode())])
        await asyncio.wait([t for t in tasks if not t.done()] or tasks, timeout=0.05)
        for t in tasks:
            if t.done():
                t.result()
    redis.publish([(prefix + channel, b"end of " + mark.encode())])
    for ws in raws:
        while await soon(ws.recv(), "the end of the first messages") != "end of " + mark:
            pass


class Fanout(Case):
    def fan_out(self, workers):
        redis = self.redis()
        d = self.daemon(redis=redis, workers=workers)
        before = fds_of(d)
        run(self.to_two_hundred(d, redis))
        self.fds_are_back(d, before)
        wait_until("no connection is counted", lambda: d.status()["connections"] == 0)
        d.stop()

    async def to_two_hundred(self, d, redis):
        pipe = redis.connect()
        raws = await asyncio.gather(*[raw(d, "news") for _ in range(100)])
        v1s = await asyncio.gather(*[V1.open(d, "news") for _ in range(100)])
        await live(pipe, "wscast:", "news", raws)
        self.assertEqual(len({v.hello["client"] for v in v1s}), 100)
        self.assertEqual(d.status()["connections"], 200)
        self.assertEqual(d.status()["subscriptions"], 200)
        for w in d.workers():
            self.assertGreater(w["connections"], 0, "a worker that got none of 200")

        self.assertEqual(redis.cli("PUBLISH", "wscast:news", '{"a":1}'), "1")
        for ws in raws:
            self.assertEqual(await soon(ws.recv()), '{"a":1}')
        start = None
        for v in v1s:
            while (msg := await v.event())["data"] != {"a": 1}:
                pass
            start = start or msg["offset"]
            self.assertEqual(msg, {"channel": "news", "offset": start, "data": {"a": 1}})

        # Each once, in order, and nothing of channels that nobody is subscribed to.
        batch = []
        for n in range(300):
            batch.append(("wscast:news", b"%d" % n))
            batch.append(("wscast:olds", b"nobody wants %d" % n))
            batch.append(("other:news", b"of another prefix"))
        pipe.publish(batch)
        for ws in raws:
            self.assertEqual([await soon(ws.recv()) for _ in range(300)],
                             [str(n) for n in range(300)])
        for v in v1s:
            for n in range(300):
                self.assertEqual(await v.event(),
                                 {"channel": "news", "offset": start + 1 + n, "data": n})

        big = bytes(range(32, 127)) * 11038 + b"end"  # over 1 MiB
        self.assertGreater(len(big), 1 << 20)
        pipe.publish([("wscast:news", big), ("wscast:news", b"")])
        for ws in raws:
            self.assertEqual(await soon(ws.recv()), big.decode())
            self.assertEqual(await soon(ws.recv()), "")
        for v in v1s:
            self.assertEqual((await v.event())["data"], big.decode())
            self.assertEqual((await v.event())["data"], "")
        await asyncio.gather(*[ws.close() for ws in raws], *[v.close() for v in v1s])
        pipe.close()

    def test_fanout_two_workers_reaches_200_once_in_order(self):
        self.fan_out(2)

    def test_fanout_four_workers_reaches_200_once_in_order(self):
        self.fan_out(4)

    def test_fanout_odd_payloads_arrive_unaltered(self):
        """From redis-cli's standard input, so that any byte can be in them."""
        redis = self.redis()
        d = self.daemon(redis=redis)

        async def go():
            plain = await raw(d, "news")
            v1 = await V1.open(d, "news")
            await live(redis.connect(), "wscast:", "news", [plain])
            while "end of live" not in str((await v1.event())["data"]):
                pass
            mib = os.urandom(1 << 20)
            for payload, shown in ODD:
                redis.cli("-x", "PUBLISH", "wscast:news", stdin=payload)
                self.assertEqual(await soon(plain.recv()), as_message(payload))
                msg = await v1.event()
                self.assertEqual({k: msg[k] for k in msg if k not in ("channel", "offset")},
                                 shown, payload[:40])
            redis.cli("-x", "PUBLISH", "wscast:news", stdin=mib)
            self.assertEqual(await soon(plain.recv()), mib)
            self.assertEqual((await v1.event())["base64"], base64.b64encode(mib).decode())
            await plain.close()
            await v1.close()

        run(go())
        d.stop()

    def test_fanout_odd_payloads_embedded_arrive_unaltered(self):
        d = self.daemon()

        async def go():
            v1 = await V1.open(d, "news")
            plain = await raw(d, "news")
            wait_until("the raw client is subscribed",
                       lambda: d.status()["subscriptions"] == 2)
            v1b = await V1.open(d, "news")  # answered: all before it holds by now
            for payload, shown in ODD:
                d.publish("news", payload)
                self.assertEqual(await soon(plain.recv()), as_message(payload))
                for v in (v1, v1b):
                    msg = await v.event()
                    self.assertEqual(
                        {k: msg[k] for k in msg if k not in ("channel", "offset")}, shown)
            for c in (plain, v1, v1b):
                await c.close()

        run(go())
        d.stop()

    def test_fanout_several_channels_keep_their_common_order(self):
        redis = self.redis()
        d = self.daemon(redis=redis)
        names = ["a", "b:c", "weird name/ü", "d"]

        async def go():
            pipe = redis.connect()
            v1 = await V1.open(d, *names)
            path = "/ws?" + "&".join("channel=" + quote(n, safe="") for n in names)
            many = await connect(d, path)
            one = await connect(d, "/ws/" + quote(names[2], safe=""))
            await live(pipe, "wscast:", names[2], [one, many])
            for name in names:
                await live(pipe, "wscast:", name, [many])
            pipe.publish([("wscast:" + names[i % 4], b"m%d" % i) for i in range(400)])
            self.assertEqual([await soon(many.recv()) for _ in range(400)],
                             ["m%d" % i for i in range(400)])
            while (await soon(one.recv())).startswith(("live", "end")):
                pass
            self.assertEqual([await soon(one.recv()) for _ in range(99)],
                             ["m%d" % i for i in range(6, 400, 4)])
            got, offsets = [], {n: [] for n in names}
            while len(got) < 400:
                msg = await v1.event()
                offsets[msg["channel"]].append(msg["offset"])
                if str(msg["data"])[0] == "m":
                    got.append((msg["channel"], msg["data"]))
            self.assertEqual(got, [(names[i % 4], "m%d" % i) for i in range(400)])
            for name, seen in offsets.items():
                self.assertEqual(seen, list(range(seen[0], seen[0] + len(seen))), name)
            for c in (v1, many, one):
                await c.close()

        run(go())
        d.stop()

    def test_fanout_unsubscribed_channel_is_left_at_redis(self):
        """The last out lets go of it at Redis, after a linger; others do not notice."""
        redis = self.redis()
        d = self.daemon(redis=redis)

        def channels():
            return redis.cli("PUBSUB", "CHANNELS", "wscast:[^!]*").split()

        async def go():
            a, b = await V1.open(d, "x", "y"), await V1.open(d, "x")
            self.assertEqual(sorted(channels()), ["wscast:x", "wscast:y"])
            await a.ok(unsubscribe="x")
            await a.ok(unsubscribe="y")
            pipe = redis.connect()
            pipe.publish([("wscast:x", b"1"), ("wscast:y", b"2"), ("wscast:x", b"3")])
            self.assertEqual((await b.event())["data"], 1)
            self.assertEqual((await b.event())["data"], 3)
            await a.ok(ping={})
            self.assertEqual(a.events, [])
            await asyncio.get_event_loop().run_in_executor(
                None, wait_until, "only x at Redis", lambda: channels() == ["wscast:x"])
            await a.ok(subscribe="y")
            pipe.publish([("wscast:y", b"4")])
            self.assertEqual((await a.event())["data"], 4)
            await a.close()
            await b.close()
            wait_until("nothing at Redis", lambda: channels() == [])

        run(go())
        d.stop()


class ClientPublish(Case):
    def check(self, d, redis=None):
        async def go():
            subs = [await V1.open(d, "chat") for _ in range(4)]
            plain = await raw(d, "chat")
            sender = await V1.open(d)
            talker = await raw(d, "chat")
            # A raw client that sees its own message is subscribed.
            for last, ws in (("plain's last", plain), ("talker's last", talker)):
                while True:
                    await ws.send("hello?")
                    try:
                        await asyncio.wait_for(ws.recv(), 0.2)
                        break
                    except asyncio.TimeoutError:
                        pass
                await ws.send(last)
                while await soon(ws.recv()) != last:
                    pass
            await sender.ok(publish="chat", data="start")
            for ws in (plain, talker):
                while await soon(ws.recv()) != '"start"':
                    pass
            for s in subs:
                while (await s.event())["data"] != "start":
                    pass
            odd = [1, None, "", "x\u00fc\x00", {"b": [1, {"c": False}]}, [], 1.5e300, True]
            for data in odd:
                self.assertEqual(await sender.ok(publish="chat", data=data), {})
            await talker.send("raw text \u00fc")
            await talker.send(b"\xff\x00raw")
            await talker.send("")
            # In pieces: the fragments make one message.
            await talker.send(["in ", "pieces"])
            # 200 without waiting for an answer come out in their order, too.
            for n in range(200):
                await sender.send(id="p%d" % n, publish="chat", data=n)
            for n in range(200):
                self.assertEqual(await sender.recv(), {"id": "p%d" % n, "ok": {}})
            for s in subs:
                seen = []
                while len(seen) < len(odd) + 204:
                    msg = await s.event()
                    seen.append(msg.get("data", msg.get("base64")))
                raws = [x for x in seen if x in ("raw text \u00fc", "/wByYXc=", "in pieces")]
                self.assertEqual(raws, ["raw text \u00fc", "/wByYXc=", "in pieces"])
                rest = [x for x in seen if x not in raws]
                self.assertEqual(rest[: len(odd)], odd)
                self.assertEqual([x for x in rest[len(odd):] if x != ""], list(range(200)))
            got = [await soon(plain.recv()) for _ in range(len(odd) + 204)]
            self.assertIn(b"\xff\x00raw", got)
            self.assertEqual([json.loads(x) for x in got[: len(odd)]], odd)
            if redis:
                self.assertEqual(d.status()["feed"]["connected"], True)
            for c in [plain, talker, sender] + subs:
                await c.close()

        run(go())
        d.stop()

    def test_publish_of_clients_over_redis_reaches_all(self):
        redis = self.redis()
        self.check(self.daemon(OPEN, redis=redis), redis)

    def test_publish_of_clients_embedded_reaches_all(self):
        self.check(self.daemon(OPEN))

    def test_publish_is_answered_once_redis_has_it(self):
        """Redis is stopped: no answer. It goes on: the answer, and the message."""
        redis = self.redis()
        d = self.daemon(OPEN, redis=redis)

        async def go():
            v1 = await V1.open(d, "chat")
            redis.proc.send_signal(signal.SIGSTOP)
            await v1.send(id=1, publish="chat", data="later")
            await v1.send(id=2, ping={})
            self.assertEqual(await v1.recv(), {"id": 2, "ok": {}})
            redis.proc.send_signal(signal.SIGCONT)
            got = [await v1.recv(), await v1.recv()]
            self.assertIn({"id": 1, "ok": {}}, got)
            self.assertIn("later", [m.get("data") for m in got])
            await v1.close()

        try:
            run(go())
        finally:
            redis.proc.send_signal(signal.SIGCONT)
        d.stop()

    def test_publish_by_rule_nobody_is_forbidden(self):
        d = self.daemon({"channel open:*": {"publish": "anyone"}})

        async def go():
            v1 = await V1.open(d, "open:a", "closed")
            self.assertEqual(await v1.error(publish="closed", data=1), "forbidden")
            await v1.ok(publish="open:a", data=2)
            self.assertEqual((await v1.event())["channel"], "open:a")
            self.assertEqual(v1.events, [])
            await v1.close()

        run(go())
        d.stop()


if __name__ == "__main__":
    unittest.main()
