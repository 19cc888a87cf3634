"""A message's key, by each way to publish: slow = latest leaves the newest of each."""

import os
import sys
import unittest

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from admin import AdminCase
from harness import wait_until
from test_stream import Stalled
from wsclient import V1, run


class Keys(AdminCase):
    ROUNDS = 5

    def start(self, source, **more):
        d = self.admin({"feed": {"source": source}, "limits": {"send_buffer": "4k"},
                        "channel *": {"slow": "latest", "publish": "anyone"}},
                       workers=1, **more)
        wait_until("the feed", lambda: d.status()["feed"]["connected"])
        return d

    def test_keys_by_each_way_the_newest_of_each(self):
        d = self.start("embedded")

        async def go():
            v1 = await V1.open(d, "end")
            stalled = Stalled(d, "c")
            wait_until("it is there", lambda: d.counter("subscriptions") == 2)
            while d.counter("lagging") == 0:
                d.publish("c", "x" * 20000)
            for n in range(self.ROUNDS):
                await v1.ok(publish="c", key="client", data="client %d" % n)
                self.assertEqual(self.publish({"channel": "c", "key": "http",
                                               "data": "http %d" % n})[0], 200)
                d.wsctl("publish", "--key", "wsctl", "c", '"wsctl %d"' % n)
                d.ctl("publish", channel="c", data='"none %d"' % n)
            d.publish("end", "0")
            while (await v1.event()).get("channel") != "end":
                pass
            last = self.ROUNDS - 1
            got = [m for m in stalled.messages_until(b'"none %d"' % last) if b"x" not in m]
            self.assertEqual(got, [b'"%s %d"' % (way, last)
                                   for way in (b"client", b"http", b"wsctl", b"none")])
            await v1.close()

        run(go())
        d.stop()

    def test_keys_stream_carries_them_on(self):
        redis = self.redis()
        d = self.start("stream", redis=redis)

        async def go():
            v1 = await V1.open(d)
            await v1.ok(publish="c", key="k\u00e4", data=1)
            await v1.ok(publish="c", data=2)
            await v1.close()

        run(go())
        entries = redis.cli("XRANGE", "wscast:stream", "-", "+").split("\n")
        self.assertEqual(entries[1:7], ["channel", "c", "key", "k\u00e4", "data", "1"])
        self.assertEqual(entries[8:], ["channel", "c", "data", "2"])
        d.stop()

    def test_keys_pubsub_refuses_them(self):
        d = self.start("pubsub", redis=self.redis())

        async def go():
            v1 = await V1.open(d)
            self.assertEqual(await v1.error(publish="c", key="a", data=1), "bad_request")
            await v1.ok(publish="c", data=1)
            await v1.close()

        run(go())
        status, got = self.publish({"channel": "c", "key": "a", "data": 1})
        self.assertEqual(status, 400)
        self.assertIn("feed.source", got["error"]["message"])
        said = d.wsctl("publish", "--key", "a", "c", "1", check=False)
        self.assertEqual(said.returncode, 1)
        self.assertIn("feed.source", said.stderr)
        d.stop()


if __name__ == "__main__":
    unittest.main()
