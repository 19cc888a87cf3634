"""Redis with sentinels: the master is found, left and found again."""

import os
import sys
import unittest

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from harness import DEADLINE, Case, wait_until
from recovery import Ledger, Sender
from redis_sets import TILT_S, SentinelSet
from wsclient import V1, run

OPEN = {"channel *": {"publish": "anyone"}}


class SentinelTest(Case):
    def feed(self, redis, source, **more):
        return self.daemon(dict(OPEN, feed=dict(
            more, source=source, redis=redis.url, probe_interval="500ms",
            publish_timeout="500ms")))

    def up(self, d):
        wait_until(lambda: "the feed is up: %s\n%s" % (d.status()["feed"], d.log()),
                   lambda: d.status()["feed"]["connected"])

    def subscribed_at(self, server):
        wait_until("the subscription at %d" % server.port, lambda: server.cli(
            "PUBSUB", "NUMSUB", "wscast:news").split()[1:] == ["1"])

    async def through(self, d, v1, n):
        """A message goes to Redis, and comes from there."""
        async def accepted():
            return "ok" in await v1.ask(publish="news", data=n)

        while not await accepted():
            pass
        while (msg := await v1.event()).get("data") != n:
            self.assertTrue("gap" in msg or msg["data"] < n, msg)

    def gaps(self, d, ledger, channels):
        """There is one for an outage at most."""
        for channel in channels:
            n = len(ledger.gaps(channel))
            self.assertTrue(1 <= n <= d.status()["feed"]["reconnects"], n)

    def follows(self, failover):
        """Two feeds, by pub/sub and by stream, over a failover: failover(set, master)
        begins it. Of the stream, each entry that both servers have arrives once, in
        order. Of pub/sub, each message that is missing lies in a gap."""
        redis = SentinelSet(self, password="sesame")
        secret = os.path.join(redis.servers[0].dir, "password")
        with open(secret, "w") as f:
            f.write("sesame\n")
        pubsub = self.feed(redis, "pubsub", sentinel_password_file=secret)
        stream = self.feed(redis, "stream", sentinel_password_file=secret)
        self.up(pubsub)
        self.up(stream)

        def add(server, numbers):
            pipe = server.connect()
            for i in numbers:
                pipe.command("XADD", "wscast:stream", "1-%d" % (i + 1), "channel", "news",
                             "data", i)
            pipe.command("WAIT", "1" if numbers[0] == 0 else "0", "5000")
            pipe.close()

        async def go():
            v1, s1 = await V1.open(pubsub, "news"), await V1.open(stream, "news")
            ledger = await Ledger.open(pubsub, "a", "b")
            sender = Sender(redis, ["a", "b"], rate=100)
            await ledger.until("messages", lambda: min(map(ledger.last, "ab")) > 5)
            first = redis.master()
            second = redis.other(first)
            await self.through(pubsub, v1, 1)
            add(first, range(300))
            failover(redis, first)
            redis.wait_master(second)
            wait_until("it is a master",
                       lambda: "role:master" in second.cli("INFO", "replication"))
            add(second, range(300, 600))
            for n in range(600):
                msg = await s1.event()
                self.assertEqual(msg.get("data"), n, msg)
            self.up(stream)
            await s1.ok(publish="news", data=600)
            self.assertEqual((await s1.event())["data"], 600)
            self.subscribed_at(second)
            self.up(pubsub)
            await self.through(pubsub, v1, 2)
            last = sender.n + 5
            # The old master takes what is published until a sentinel tells it otherwise.
            await ledger.until("what comes after", lambda: min(
                map(ledger.last, "ab")) >= last, timeout=DEADLINE + TILT_S)
            sender.stop()
            ledger.check(self)
            self.gaps(pubsub, ledger, "ab")
            await ledger.close()
            await v1.close()
            await s1.close()

        run(go())
        self.assertNotIn("missed something", stream.log())
        pubsub.stop()
        stream.stop()

    def test_sentinel_forced_failover_is_followed(self):
        """Nothing is broken, and the old master goes on to answer."""
        self.follows(lambda redis, master: redis.sentinels[0].cli(
            "SENTINEL", "FAILOVER", "gate"))

    def test_sentinel_failover_is_followed(self):
        """The master is killed, and with it one of the sentinels."""
        def failover(redis, master):
            redis.sentinels[0].stop()
            master.stop()

        self.follows(failover)

    def test_sentinel_stale_master_is_refused(self):
        """One sentinel, cut off from the others, still names the old master."""
        redis = SentinelSet(self)
        first = redis.master()
        second = redis.other(first)
        for s in redis.sentinels[1:]:
            s.stop()
        second.cli("REPLICAOF", "NO", "ONE")
        first.cli("REPLICAOF", "127.0.0.1", str(second.port))
        # It would put that right again, if it were let.
        redis.sentinels[0].cli("SENTINEL", "SET", "gate", "down-after-milliseconds", "60000")
        d = self.feed(redis, "pubsub")
        d.wait_line("replica")
        self.assertIs(d.status()["feed"]["connected"], False)
        d.stop()

    def test_sentinels_that_cannot_say_are_told(self):
        redis = SentinelSet(self, whole=False)
        d = self.daemon(dict(OPEN, feed={
            "source": "pubsub", "redis": redis.url.replace("/gate", "/nobody")}))
        d.wait_line("sentinel 127.0.0.1:.* no such master")
        d.stop()
        for s in redis.sentinels:
            s.stop()
        d = self.feed(redis, "pubsub")
        d.wait_line("sentinel 127.0.0.1:.* refused")
        d.stop()


if __name__ == "__main__":
    unittest.main()
