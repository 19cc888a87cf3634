"""Redis Cluster: three masters and their replicas, one of which is killed, and a slot that
moves under traffic."""

import contextlib
import os
import signal
import subprocess
import sys
import threading
import time
import unittest

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from far import Namespace
from harness import Case, free_port, wait_until
from recovery import STALL_S, Ledger, Sender
from redis_sets import Cluster
from wsclient import V1, run

OPEN = {"channel *": {"publish": "anyone"}}


class Adder(threading.Thread):
    """Adds numbers to a stream, one by one, each once: wherever the slot is. `n` were
    taken, and are on a replica while there is one."""

    def __init__(self, cluster, key):
        super().__init__(daemon=True)
        self.cluster, self.key = cluster, key
        self.n, self.over, self.lock = 0, False, threading.Lock()
        self.start()

    def run(self):
        pipe = None
        while not self.over:
            with self.lock:
                try:
                    pipe = pipe or self.cluster.owner(self.cluster.slot(self.key)).connect()
                    # The id says which it is: one that was taken is refused the next time.
                    pipe.command("XADD", self.key, "1-%d" % (self.n + 1), "channel", "news",
                                 "data", self.n)
                    pipe.command("WAIT", "1", "100")
                    self.n += 1
                except (OSError, AttributeError, AssertionError,
                        subprocess.SubprocessError) as e:
                    self.n += "equal or smaller" in str(e)
                    if pipe:
                        pipe.close()
                    pipe = None
            time.sleep(0.002)
        if pipe:
            pipe.close()

    @contextlib.contextmanager
    def held(self):
        """None is under way."""
        with self.lock:
            yield

    def stop(self):
        self.over = True
        self.join()
        return self.n


class ClusterTest(Case):
    @classmethod
    def setUpClass(cls):
        """One cluster for all: each test leaves it served."""
        cls.case = Case()
        cls.addClassCleanup(cls.case.doCleanups)
        cls.cluster = Cluster(cls.case)

    def feed(self, source, rules=OPEN, **more):
        d = self.daemon(dict(rules, feed=dict(
            more, source=source, redis=self.cluster.url, probe_interval="500ms",
            publish_timeout="500ms")))
        self.up(d)
        return d

    def up(self, d):
        wait_until(lambda: "the feed is up: %s\n%s" % (d.status()["feed"], d.log()),
                   lambda: d.status()["feed"]["connected"])

    def whole(self):
        for node in self.cluster.nodes:
            if not node.proc:
                node.start()
        self.cluster.wait_ok()

    async def through(self, v1, channel, n):
        """A message goes to Redis, and comes from there."""
        while "ok" not in await v1.ask(publish=channel, data=n):
            pass
        while (msg := await v1.event()).get("data") != n:
            self.assertTrue("gap" in msg or msg["data"] < n, msg)

    def test_cluster_stream_survives_failover_and_move(self):
        """While entries are added, the stream's slot moves to another master, which then
        is killed."""
        d = self.feed("stream", stream="{x}one {x}two")
        slot = self.cluster.slot("{x}one")

        async def go():
            v1 = await V1.open(d, "news")
            adder = Adder(self.cluster, "{x}one")
            at = 0

            async def more(n=30):
                nonlocal at
                for at in range(at, max(adder.n, at) + n):
                    msg = await v1.event()
                    self.assertEqual(msg.get("data"), at, msg)
                at += 1

            await more()
            to = self.cluster.other_master(self.cluster.owner(slot))
            self.cluster.move(slot, to)
            await more()
            self.cluster.wait_ok()
            replica = self.cluster.replica_of(to)
            with adder.held():  # what it adds is on the replica, too
                to.stop()
            wait_until("the replica takes over",
                       lambda: self.cluster.owner(slot) is replica, every=0.05)
            await more()
            self.cluster.wait_ok()
            self.up(d)
            adder.stop()
            await more(0)
            await self.through(v1, "news", at)
            await v1.close()

        run(go())
        self.assertNotIn("missed something", d.log())
        self.whole()
        d.stop()

    def test_cluster_sharded_follows_slots(self):
        """A channel's slot moves, its owner is killed: each time it is subscribed at the
        new owner, with a gap."""
        d = self.feed("pubsub", sharded="yes")
        names = ["news", "{t}a", "{t}b", "chat", "x", "y", "z"]

        async def go():
            v1 = await V1.open(d, *names)
            for n, name in enumerate(names):
                await self.through(v1, name, n)
            self.assertGreater(len({self.cluster.owner(self.slot(n)) for n in names}), 1)
            for name in names:
                self.assertEqual(self.shard_of(name), [self.cluster.owner(self.slot(name))])
            slot = self.slot("news")
            owner = self.cluster.owner(slot)
            to = self.cluster.other_master(owner)
            self.cluster.move(slot, to)
            wait_until(lambda: "it follows: %s" % d.log(),
                       lambda: self.shard_of("news") == [to])
            self.cluster.wait_ok()
            to.cli("SPUBLISH", "wscast:news", "10")
            gaps = []
            while (msg := await v1.event()).get("data") != 10:
                gaps.append(msg["gap"]["channel"])
            self.assertIn("news", gaps)
            for name in names:
                await self.through(v1, name, 11)
            replica = self.cluster.replica_of(to)
            to.stop()
            wait_until("the replica takes over",
                       lambda: self.cluster.owner(slot) is replica, every=0.05)
            wait_until(lambda: "it follows: %s" % d.log(),
                       lambda: self.shard_of("news") == [replica])
            self.cluster.wait_ok()
            self.up(d)
            for name in names:
                await self.through(v1, name, 12)
            await v1.ok(unsubscribe="chat")
            wait_until("nobody wants it", lambda: self.shard_of("chat") == [])
            await v1.close()

        run(go())
        self.whole()
        d.stop()

    def test_cluster_sharded_loses_nothing_in_silence(self):
        """While messages flow, a slot moves and its new owner is killed: who is missing
        one has a gap, and who cannot be has none."""
        d = self.feed("pubsub", sharded="yes")
        names = ["news", "chat", "x", "y", "z"]

        async def go():
            ledger = await Ledger.open(d, *names)
            sender = Sender(self.cluster, names, rate=250)

            async def more():
                last = sender.n + 10
                await ledger.until("messages", lambda: min(map(ledger.last, names)) >= last)

            await more()
            slot = self.slot("news")
            owner = self.cluster.owner(slot)
            to = self.cluster.other_master(owner)
            self.cluster.move(slot, to)
            self.cluster.wait_ok()
            await more()
            self.assertEqual({n for n in names if ledger.gaps(n)},
                             {n for n in names if self.slot(n) == slot})
            theirs = {n for n in names if self.cluster.owner(self.slot(n)) is to}
            self.assertLess(len(theirs), len(names))
            replica = self.cluster.replica_of(to)
            to.stop()
            wait_until("the replica takes over",
                       lambda: self.cluster.owner(slot) is replica, every=0.05)
            self.cluster.wait_ok()
            await more()
            sender.stop()
            ledger.check(self)
            self.assertEqual({n for n in names if ledger.gaps(n)}, theirs)
            await ledger.close()

        run(go())
        self.whole()
        self.up(d)
        d.stop()

    def test_cluster_sharded_owner_that_stands_still_is_left(self):
        """SIGSTOP: its link is dropped within two probes, its channels have a gap, and
        those of the others have none."""
        d = self.feed("pubsub", sharded="yes")
        names = ["news", "{t}a", "chat", "x", "y", "z"]

        async def go():
            v1 = await V1.open(d, *names)
            owner = self.cluster.owner(self.slot("news"))
            ours = {n for n in names if self.cluster.owner(self.slot(n)) is owner}
            self.assertLess(len(ours), len(names))
            replica = self.cluster.replica_of(owner)
            owner.proc.send_signal(signal.SIGSTOP)
            begun = time.monotonic()
            try:
                wait_until("it is told", lambda: not d.status()["ready"])
                self.assertLess(time.monotonic() - begun, 2 * 0.5 + STALL_S)
                wait_until("the replica takes over", lambda: "master" in replica.cli("ROLE"),
                           every=0.05)
                wait_until(lambda: "it follows: %s" % d.log(), lambda: replica.cli(
                    "PUBSUB", "SHARDNUMSUB", "wscast:news").split()[-1] == "1")
            finally:
                owner.proc.send_signal(signal.SIGCONT)
            self.cluster.wait_ok()
            self.up(d)
            gaps = set()
            for n, name in enumerate(names):
                while "ok" not in await v1.ask(publish=name, data=n):
                    pass
                while (msg := await v1.event()).get("data") != n:
                    gaps.add(msg["gap"]["channel"])
            self.assertEqual(gaps, ours)
            await v1.close()

        run(go())
        self.whole()
        d.stop()

    def test_cluster_sharded_probe_follows_its_slots(self):
        """Each master has a probe of ours, also when the slot of one has moved."""
        d = self.feed("pubsub", sharded="yes")

        def probes():
            """{name: node} of all that are subscribed."""
            return {name: n for n in self.cluster.alive()
                    if n.cli("ROLE").startswith("master")
                    for name in n.cli("PUBSUB", "SHARDCHANNELS", "wscast:!probe:*").split()}

        before = probes()
        self.assertEqual(len(set(before.values())), 3, before)
        name, node = next(iter(before.items()))
        to = self.cluster.other_master(node)
        self.cluster.move(self.cluster.slot(name), to)
        self.cluster.wait_ok()
        wait_until(lambda: "another in its place: %s" % probes(), lambda: name not in probes()
                   and len(set(probes().values())) == 3)
        self.assertIs(d.status()["ready"], True)
        self.assertEqual(d.status()["feed"]["reconnects"], 0)
        d.stop()

    def slot(self, channel):
        return self.cluster.slot("wscast:" + channel)

    def shard_of(self, channel):
        """The nodes at which a channel of ours is subscribed in its shard."""
        return self.subscribed_at(channel, "SHARDNUMSUB")

    def subscribed_at(self, channel, command="NUMSUB"):
        """The nodes at which a channel of ours is subscribed."""
        return [n for n in self.cluster.alive() if n.cli(
            "PUBSUB", command, "wscast:" + channel).split()[1:] == ["1"]]

    def test_cluster_pubsub_moves_when_its_node_fails(self):
        d = self.feed("pubsub")

        async def go():
            v1 = await V1.open(d, "news")
            await self.through(v1, "news", 1)
            node, = wait_until("the subscription", lambda: self.subscribed_at("news"))
            node.stop()
            wait_until("it is elsewhere", lambda: self.subscribed_at("news"))
            self.up(d)
            await self.through(v1, "news", 2)
            await v1.close()

        run(go())
        self.whole()
        d.stop()

    def host(self):
        d = self.feed("pubsub", rules={"channel chat": {"presence": "yes"}})
        wait_until("peers are there", lambda: d.status()["peers_up"])
        return d

    def test_cluster_hosts_tell_each_other(self):
        """Of members and revocations, also those that come later, and after the slot of
        what they keep has moved."""
        d = self.host()

        def members(*hosts):
            return [sorted(m["client"] for m in h.ctl("presence", channel="chat")["clients"])
                    for h in hosts]

        async def go():
            clients = [await V1.open(d, "chat") for _ in range(100)]
            ids = sorted(c.hello["client"] for c in clients)
            self.assertTrue(d.ctl("revoke", user="ann")["told"])
            e = self.host()
            wait_until("it has all", lambda: members(e) == [ids])
            wait_until("and knows", lambda: e.status()["revocations"] == 1)
            slot = self.slot("{!}")
            self.cluster.move(slot, self.cluster.other_master(self.cluster.owner(slot)))
            self.cluster.wait_ok()
            for c in clients[:50]:
                await c.close()
            ids = sorted(c.hello["client"] for c in clients[50:])
            wait_until("both have those who are left", lambda: members(d, e) == [ids, ids])
            wait_until("they found the new node", lambda: d.status()["peers_up"]
                       and d.ctl("revoke", user="bob")["told"])
            f = self.host()
            wait_until("it has all", lambda: members(f) == [ids])
            wait_until("and knows", lambda: f.status()["revocations"] == 2)
            for h in (e, f):
                h.stop()
            for c in clients[50:]:
                await c.ws.close()

        run(go())
        d.stop()


class Far(Case):
    def test_cluster_sharded_partition_is_one_shard_alone(self):
        """Two masters, one behind a cable that is pulled: packets are dropped in silence."""
        if os.geteuid() != 0:
            self.skipTest("SKIPPED: a network partition needs root")
        net = Namespace()
        self.addCleanup(net.done)

        def args(ip):
            return ["--cluster-enabled", "yes", "--cluster-announce-ip", ip,
                    "--cluster-port", str(free_port()), "--cluster-node-timeout", "60000",
                    "--cluster-require-full-coverage", "no"]

        near = self.redis(bind="0.0.0.0", args=args(net.here))
        far = net.redis(args=args(net.there))
        self.addCleanup(far.done)
        near.cli("CLUSTER", "ADDSLOTSRANGE", "0", "8191")
        far.cli("CLUSTER", "ADDSLOTSRANGE", "8192", "16383")
        near.cli("CLUSTER", "MEET", net.there, str(far.port), far.args[5])
        wait_until("they know each other", lambda: all(
            "cluster_state:ok" in n.cli("CLUSTER", "INFO")
            and "cluster_slots_assigned:16384" in n.cli("CLUSTER", "INFO")
            for n in (near, far)))
        d = self.daemon(dict(OPEN, feed={
            "source": "pubsub", "sharded": "yes", "probe_interval": "1s",
            "redis": "redis-cluster://%s:%d" % (net.here, near.port)}))

        def at(node):
            return next(n for n in ("c%d" % i for i in range(100)) if (int(node.cli(
                "CLUSTER", "KEYSLOT", "wscast:" + n)) < 8192) == (node is near))

        async def go():
            wait_until("the feed", lambda: d.status()["ready"])
            v1 = await V1.open(d, at(near), at(far))
            net.cut()
            begun = time.monotonic()
            wait_until("it is told", lambda: not d.status()["ready"])
            self.assertLess(time.monotonic() - begun, 2 * 1 + STALL_S)
            near.cli("SPUBLISH", "wscast:" + at(near), "1")
            msg = await v1.event()
            self.assertEqual((msg["channel"], msg.get("data")), (at(near), 1))
            net.heal()
            wait_until("the feed", lambda: d.status()["ready"])
            self.assertEqual((await v1.event())["gap"]["channel"], at(far))
            far.cli("SPUBLISH", "wscast:" + at(far), "2")
            self.assertEqual((await v1.event()).get("data"), 2)
            await v1.close()

        run(go())
        d.stop()


if __name__ == "__main__":
    unittest.main()
