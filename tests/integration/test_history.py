"""A channel's past: history, recovery over long distances, the newest at subscribe."""

import json
import os
import signal
import sys
import unittest

import websockets

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from harness import Case, Ctl, wait_until
from wsclient import V1, raw, run, soon

RULES = {"channel shut": {"subscribe": "nobody"},
         "channel short:*": {"history": "no"},
         "channel price:*": {"cache": "yes"},
         "channel last:*": {"slow": "latest"},
         "channel *": {"publish": "anyone"}}


def publish(d, channel, messages):
    """Many, without waiting for each answer; the offset of the last."""
    ctl = Ctl(d.control)
    for i in range(0, len(messages), 500):
        for m in messages[i:i + 500]:
            ctl.send({"cmd": "publish", "channel": channel, "data": m})
        answers = [ctl.line() for _ in messages[i:i + 500]]
    ctl.close()
    return answers[-1]["ok"]["offset"]


class History(Case):
    def session(self, body, settings=None, **kwargs):
        d = self.daemon(dict(RULES, **(settings or {})), **kwargs)

        async def go():
            v1 = await V1.open(d)
            await body(d, v1)
            await v1.ok(ping={})
            self.assertEqual(v1.events, [])
            await v1.close()

        run(go())
        d.stop()

    def test_history_has_the_last_messages_oldest_first(self):
        async def body(d, v1):
            last = publish(d, "news", [str(n) for n in range(30)])
            publish(d, "noise", ["0"] * 5)
            got = await v1.ok(history="news", limit=3)
            self.assertEqual(got, {
                "messages": [{"channel": "news", "offset": last - 2 + i, "data": 27 + i}
                             for i in range(3)],
                "epoch": v1.hello["epoch"], "offset": last})
            got = await v1.ok(history="news")
            self.assertEqual([m["data"] for m in got["messages"]], list(range(20, 30)))
            got = await v1.ok(history="news", limit=1000)
            self.assertEqual([m["data"] for m in got["messages"]], list(range(30)))
            # Who is subscribed gets what comes behind the answer, and nothing twice.
            await v1.ok(subscribe="news")
            got = await v1.ok(history="news", limit=1)
            publish(d, "news", ["30"])
            self.assertEqual((await v1.event())["offset"], got["offset"] + 1)

        self.session(body)

    def test_history_before_goes_further_back(self):
        async def body(d, v1):
            last = publish(d, "news", [str(n) for n in range(25)])
            seen, before = [], last + 1
            while True:
                got = await v1.ok(history="news", limit=10, before=before)
                if not got["messages"]:
                    break
                seen = [m["data"] for m in got["messages"]] + seen
                before = got["messages"][0]["offset"]
            self.assertEqual(seen, list(range(25)))

        self.session(body)

    def test_history_is_bounded_in_bytes(self):
        async def body(d, v1):
            publish(d, "news", [json.dumps("%02d" % n + "x" * 10000) for n in range(60)])
            seen, before = [], None
            while not seen or seen[0] > 0:
                more = {"before": before} if before else {}
                got = await v1.ok(history="news", limit=1000, **more)
                self.assertTrue(20 <= len(got["messages"]) <= 26 or before)
                seen = [int(m["data"][:2]) for m in got["messages"]] + seen
                before = got["messages"][0]["offset"]
            self.assertEqual(seen, list(range(60)))
            publish(d, "news", [json.dumps("x" * 300000)])
            self.assertEqual(await v1.error(history="news"), "too_large")

        self.session(body)

    def test_history_of_nothing_is_empty(self):
        async def body(d, v1):
            self.assertEqual((await v1.ok(history="news"))["messages"], [])
            # Nobody is left behind who was only asking.
            wait_until("the channel to be dropped", lambda: not [
                c for c in d.ctl("channels")["channels"] if c["workers"]])

        self.session(body)

    def test_history_needs_the_rules_leave(self):
        async def body(d, v1):
            publish(d, "short:a", ["1"])
            self.assertEqual(await v1.error(history="shut"), "forbidden")
            msg = await v1.ask(history="short:a")
            self.assertEqual(msg["error"]["code"], "forbidden")
            self.assertIn("history", msg["error"]["message"])
            ok = await v1.ok(subscribe="short:a")
            last = publish(d, "short:a", ["2", "3"])
            other = await V1.open(d)
            got = await other.ok(subscribe="short:a",
                                 since={"epoch": ok["epoch"], "offset": ok["offset"]})
            self.assertEqual(got, {"channel": "short:a", "epoch": ok["epoch"],
                                   "offset": last, "recovered": False, "missed": 2})
            await other.ok(ping={})
            self.assertEqual(other.events, [])
            await other.close()
            self.assertEqual([(await v1.event())["data"] for _ in range(2)], [2, 3])

        self.session(body)

    def test_history_over_wsctl(self):
        async def body(d, v1):
            last = publish(d, "news", ["a", "b", '{"c":1}'])
            out = d.wsctl("--json", "history", "news", "-n", "2").stdout
            lines = [json.loads(line) for line in out.splitlines()]
            self.assertEqual([(m["offset"], m.get("text", m.get("data"))) for m in lines],
                             [(last - 1, "b"), (last, {"c": 1})])
            self.assertEqual(d.wsctl("history", "nobody").stdout, "")

        self.session(body)

    def test_history_far_back_is_walked_in_slices(self):
        """Many more records than are looked at at once: answers are exact all the same,
        though others publish meanwhile and the worker is killed between."""
        d = self.daemon(RULES, workers=1)
        total = 20000

        async def go():
            keeper = await V1.open(d, "other")
            first = publish(d, "news", ["0"])
            publish(d, "news", [str(n) for n in range(1, total)])
            place = {"epoch": keeper.hello["epoch"], "offset": first - 1}
            late = [await V1.open(d) for _ in range(4)]
            for one in late:
                await one.send(id=1, subscribe="news", since=place)
            await keeper.send(id="h", history="news", limit=2, before=first + 2)
            os.kill(d.status()["workers"][0]["pid"], signal.SIGKILL)
            publish(d, "news", [str(n) for n in range(total, total + 100)])
            for one in late:
                await self.complete(d, one, place, total + 100)
            # It is answered, or a kill that cut its read short closed it.
            try:
                msg = await keeper.recv()
                self.assertEqual([m["data"] for m in msg["ok"]["messages"]], [0, 1])
            except websockets.ConnectionClosed:
                pass

        run(go())
        d.stop()

    async def complete(self, d, one, place, total):
        """All behind that place in their order, each once; whoever is closed resumes."""
        had, end = place["offset"], place["offset"] + total
        while had < end:
            try:
                msg = await one.recv()
            except websockets.ConnectionClosed:
                one = await V1.open(d)
                await one.send(id=1, subscribe="news",
                               since={"epoch": place["epoch"], "offset": had})
                continue
            if "id" in msg:
                self.assertIs(msg["ok"]["recovered"], True)
                continue
            self.assertEqual(msg["offset"], had + 1)
            had += 1
        await one.close()

    # ---- cache ----

    def test_cache_brings_the_newest_first(self):
        async def body(d, v1):
            last = publish(d, "price:a", ["1", "2", "3"])
            got = await v1.ok(subscribe="price:a")
            self.assertEqual(got["offset"], last)
            self.assertEqual(await v1.event(), {"channel": "price:a", "offset": last, "data": 3})
            await v1.ok(subscribe="price:a")  # again: nothing new
            ws = await raw(d, "price:a")
            self.assertEqual(await soon(ws.recv(), "the newest"), "3")
            publish(d, "price:a", ["4"])
            self.assertEqual((await v1.event())["data"], 4)
            self.assertEqual(await soon(ws.recv(), "the next"), "4")
            await ws.close()
            # Who resumes has it already.
            other = await V1.open(d)
            got = await other.ok(subscribe="price:a",
                                 since={"epoch": got["epoch"], "offset": last + 1})
            self.assertIs(got["recovered"], True)
            await other.ok(ping={})
            self.assertEqual(other.events, [])
            await other.close()

        self.session(body)

    def test_cache_comes_behind_the_upgrade(self):
        """Also where the channel is live already, and all is known at once."""
        async def body(d, v1):
            publish(d, "price:a", ["1", "2", "3"])
            await v1.ok(subscribe="price:a")
            self.assertEqual((await v1.event())["data"], 3)
            for _ in range(3):
                ws = await raw(d, "price:a")
                self.assertEqual(await soon(ws.recv(), "the newest"), "3")
                await ws.close()

        self.session(body, workers=1)

    def test_cache_of_an_empty_channel_brings_nothing(self):
        async def body(d, v1):
            await v1.ok(subscribe="price:none")

        self.session(body)

    def test_latest_resumes_with_all(self):
        async def body(d, v1):
            ok = await v1.ok(subscribe="last:a")
            last = publish(d, "last:a", ["1", "2", "3"])
            other = await V1.open(d)
            got = await other.ok(subscribe="last:a",
                                 since={"epoch": ok["epoch"], "offset": ok["offset"]})
            self.assertIs(got["recovered"], True)
            self.assertEqual([(await other.event())["offset"] for _ in range(3)],
                             [last - 2, last - 1, last])
            await other.close()
            self.assertEqual([(await v1.event())["data"] for _ in range(3)], [1, 2, 3])

        self.session(body)


if __name__ == "__main__":
    unittest.main()
