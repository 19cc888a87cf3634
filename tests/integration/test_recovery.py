"""Nothing is lost in silence: clients that come and go, workers that are killed, and a
Redis that dies, stops, kicks us out, or is cut off."""

import asyncio
import os
import signal
import sys
import threading
import time
import unittest

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from far import Namespace
from harness import Case, Ctl, CtlError, wait_until
from recovery import STALL_S, Ledger, Sender, run_resumers
from wsclient import V1, raw, run

PROBE_S = 0.6
CHANNELS = ["c%d" % i for i in range(5)]


class Resume(Case):
    CLIENTS, CHANNELS, SECONDS = 60, 20, 8

    def test_resume_is_complete_while_workers_are_killed(self):
        d = self.daemon(workers=2)
        killed = []

        def kill(rng):
            worker = rng.choice(d.status()["workers"])
            if worker["pid"] > 0:
                try:
                    os.kill(worker["pid"], signal.SIGKILL)
                    killed.append(worker["pid"])
                except ProcessLookupError:
                    pass

        clients = run_resumers(self, d, self.CLIENTS, self.CHANNELS, 2000, self.SECONDS,
                               kill, seed=int(os.environ.get("WSCAST_SEED", "6")))
        print("%d messages to each channel, %d connections, %d cut by a kill, %d kills" % (
            clients[0].next, sum(c.resumed for c in clients),
            sum(c.cut for c in clients), len(killed)))
        self.assertGreater(len(killed), 3)
        self.assertGreater(sum(c.resumed for c in clients), 2 * len(clients))
        d.stop()


class Readiness(threading.Thread):
    """What status said and when: (time, ready) at each change."""

    def __init__(self, daemon):
        super().__init__(daemon=True)
        self.daemon_, self.changes, self.over = daemon, [], False
        self.begun = threading.Event()
        self.start()
        self.begun.wait()

    def run(self):
        ctl = Ctl(self.daemon_.control)
        while not self.over:
            ready = ctl.ask("status")["ready"]
            if not self.changes or self.changes[-1][1] != ready:
                self.changes.append((time.monotonic(), ready))
            self.begun.set()
            time.sleep(0.01)
        ctl.close()

    def stop(self):
        self.over = True
        self.join()


class FaultCase(Case):
    """A fault, and what the subscribers of five channels were told: every lost message
    lies in a gap, one gap for each channel and outage, and none for who came later."""

    def fault(self, body, redis=None, lossy=True, outages=1, extra=None, **feed):
        """extra: a channel of which all is read, and nothing looked at.
        feed: more of its settings."""
        redis = redis or self.redis()
        feed["redis"] = feed.pop("url", redis.url)
        feed.setdefault("probe_interval", "%dms" % (PROBE_S * 1000))
        d = self.daemon({"feed": feed}, redis=redis, workers=2)
        self.sender = sender = Sender(redis, CHANNELS)

        async def go():
            wait_until("the feed", lambda: d.status()["ready"])
            junk = await raw(d, extra) if extra else None
            one, two = await Ledger.open(d, *CHANNELS), await Ledger.open(d, *CHANNELS)
            await one.until("messages", lambda: all(one.last(c) > 5 for c in CHANNELS))
            readiness = Readiness(d)
            await asyncio.get_running_loop().run_in_executor(None, body, d, redis)
            for ledger in (one, two):
                await ledger.until("the gaps", lambda: all(
                    len(ledger.gaps(c)) == outages for c in CHANNELS))
            await asyncio.get_running_loop().run_in_executor(
                None, wait_until, "readiness", lambda: d.status()["ready"])
            late = await Ledger.open(d, *CHANNELS)
            last = sender.n + 20
            for ledger in (one, two, late):
                await ledger.until("what comes after", lambda: all(
                    ledger.last(c) >= last for c in CHANNELS))
            readiness.stop()
            number = sender.stop()
            redis.cli("PUBLISH", "wscast:c0", str(number + 1))
            for ledger in (one, two, late):
                await ledger.until("the last", lambda: ledger.last("c0") == number + 1)
                lost = ledger.check(self)
                if ledger is late:
                    self.assertEqual((lost, [ledger.gaps(c) for c in CHANNELS]),
                                     (0, [[]] * len(CHANNELS)))
                elif lossy:
                    self.assertGreater(lost, 0)
                for c in CHANNELS:
                    for _, first, to in ledger.gaps(c):
                        self.assertIsNone(to, first)
                await ledger.close()
            if junk:
                await junk.close()
            # Ready, not ready, ready: it was told, and once for each outage.
            said = [ready for _, ready in readiness.changes]
            self.assertEqual(said, [True] + [False, True] * outages)
            feed = d.status()["feed"]
            self.assertGreater(feed["down_seconds_total"], 0)  # until it was first up
            return readiness.changes

        changes = asyncio.run(go())
        d.stop()
        return changes


class RedisFault(FaultCase):
    STOPPED_S = 0.5

    def test_fault_kill_and_restart(self):
        def body(d, redis):
            redis.stop()
            wait_until("not ready", lambda: not d.status()["ready"])
            # Who publishes here is told at once, and nothing waits.
            begun = time.monotonic()
            for _ in range(20):
                with self.assertRaises(CtlError) as caught:
                    d.publish("c0", "x")
                self.assertEqual(caught.exception.code, "feed_down")
            self.assertLess(time.monotonic() - begun, STALL_S)
            self.assertEqual(d.status()["feed"]["breaker"], "open")
            redis.start()

        # What was sent while it was dead nobody has taken: it need not be lost to us.
        self.fault(body, lossy=False)

    def test_fault_stopped(self):
        stopped = []

        def body(d, redis):
            os.kill(redis.proc.pid, signal.SIGSTOP)
            stopped.append(time.monotonic())
            try:
                wait_until("not ready", lambda: not d.status()["ready"])
                time.sleep(self.STOPPED_S)
            finally:
                os.kill(redis.proc.pid, signal.SIGCONT)

        changes = self.fault(body, lossy=False)
        # Within two probes.
        self.assertLess(changes[1][0] - stopped[0], 2 * PROBE_S + STALL_S)

    def test_fault_none_when_all_stand_still(self):
        """As on a machine that is paused: an answer that was under way is late, not lost."""
        def body(d, redis):
            os.kill(redis.proc.pid, signal.SIGSTOP)
            time.sleep(PROBE_S)  # one probe is under way now
            os.kill(d.pid, signal.SIGSTOP)
            time.sleep(2 * PROBE_S)
            os.kill(d.pid, signal.SIGCONT)
            os.kill(redis.proc.pid, signal.SIGCONT)

        self.fault(body, lossy=False, outages=0)

    def test_fault_client_kill(self):
        def body(d, redis):
            redis.cli("CLIENT", "KILL", "TYPE", "pubsub")
            wait_until("not ready", lambda: d.status()["feed"]["reconnects"] > 0)

        self.fault(body, lossy=False)

    def test_fault_wrong_password_after_reload(self):
        redis = self.redis()
        redis.cli("ACL", "SETUSER", "gw", "on", ">sesame", "+@all", "allkeys", "allchannels")
        secret = os.path.join(redis.dir, "password")

        def password(word):
            with open(secret, "w", encoding="ascii") as f:
                f.write(word + "\n")

        def body(d, redis):
            password("wrong")
            d.ctl("reload")
            self.assertIs(d.status()["ready"], True)  # who has come in is in
            redis.cli("CLIENT", "KILL", "USER", "gw")
            d.wait_line("WRONGPASS")
            self.assertIs(d.status()["ready"], False)
            password("sesame")
            d.ctl("reload")

        password("sesame")
        self.fault(body, redis=redis, lossy=False, redis_password_file=secret,
                   url="redis://gw@127.0.0.1:%d" % redis.port)

    def test_fault_output_buffer_limit(self):
        """We do not read; Redis lets us wait for so much, and then no more."""
        def body(d, redis):
            redis.cli("CONFIG", "SET", "client-output-buffer-limit", "pubsub 1mb 1mb 0")
            filler = redis.connect()
            os.kill(d.pid, signal.SIGSTOP)
            try:
                while redis.cli("PUBSUB", "NUMSUB", "wscast:junk").split()[-1] != "0":
                    filler.publish([("wscast:junk", b"x" * 60000)] * 20)
                self.sender.wait_more(8)  # that nobody hears
            finally:
                os.kill(d.pid, signal.SIGCONT)
                filler.close()
            wait_until("not ready", lambda: d.status()["feed"]["reconnects"] > 0)

        self.fault(body, extra="junk")

    def test_fault_breaker_when_slow(self):
        """A Redis that stands still is asked for no more than it can answer later."""
        redis = self.redis()
        d = self.daemon({"feed": {"publish_timeout": "300ms", "probe_interval": "10s"},
                         "channel *": {"publish": "anyone"}}, redis=redis, workers=1)

        async def go():
            wait_until("the feed", lambda: d.status()["ready"])
            v1 = await V1.open(d)
            await v1.ok(publish="a", data=1)
            os.kill(redis.proc.pid, signal.SIGSTOP)
            try:
                await v1.send(id="w", publish="a", data=2)
                wait_until("the breaker", lambda: d.status()["feed"]["breaker"] == "open")
                # Now and then one is let through to find out, and then no other.
                for i in range(20):
                    await v1.send(id=i, publish="a", data=3)
                for _ in range(18):
                    self.assertEqual((await v1.recv())["error"]["code"], "feed_down")
            finally:
                os.kill(redis.proc.pid, signal.SIGCONT)
            while "ok" not in await v1.ask(publish="a", data=4):
                await asyncio.sleep(0.05)
            self.assertEqual(d.status()["feed"]["breaker"], "closed")
            self.assertIn("w", [e["id"] for e in v1.events if "ok" in e])
            self.assertEqual(d.status()["feed"]["breaker_opened"], 1)
            await v1.close()

        run(go())
        d.stop()

    def test_fault_channel_forbidden_after_a_reconnect_is_told(self):
        redis = self.redis()
        redis.cli("ACL", "SETUSER", "gw", "on", ">pw", "+@all", "allchannels")
        d = self.daemon({"feed": {"source": "pubsub",
                                  "redis": redis.url.replace("redis://", "redis://gw:pw@")}},
                        workers=2)

        async def go():
            wait_until("the feed", lambda: d.status()["ready"])
            ledgers = [await Ledger.open(d, "c0", "c1") for _ in range(3)]
            redis.cli("ACL", "SETUSER", "gw", "resetchannels", "&wscast:c0", "&wscast:!probe:*")
            redis.cli("CLIENT", "KILL", "TYPE", "pubsub")
            for ledger in ledgers:
                await ledger.until("the word", lambda: ledger.unsubscribed)
                await ledger.until("the gap", lambda: ledger.gaps("c0"))
                self.assertEqual([(u["channel"], u["code"]) for u in ledger.unsubscribed],
                                 [("c1", "forbidden")])
                self.assertEqual(ledger.gaps("c1"), [])
            # SETUSER drops who is subscribed to what it takes away: KILL may be the second.
            wait_until("the subscription", lambda: redis.cli(
                "PUBSUB", "NUMSUB", "wscast:c0").split()[-1] == "1")
            redis.cli("PUBLISH", "wscast:c0", "1")
            for ledger in ledgers:
                await ledger.until("what is left", lambda: ledger.last("c0") == 1)
            # Allowed again: it is asked for anew.
            redis.cli("ACL", "SETUSER", "gw", "allchannels")
            again = await Ledger.open(d, "c1")
            redis.cli("PUBLISH", "wscast:c1", "2")
            await again.until("the message", lambda: again.last("c1") == 2)
            for ledger in ledgers + [again]:
                await ledger.close()

        run(go())
        d.stop()

    def test_fault_message_too_long_for_the_ring_is_a_gap(self):
        redis = self.redis()
        d = self.daemon({"ring": {"size": "1M"}}, redis=redis, workers=1)

        async def go():
            wait_until("the feed", lambda: d.status()["ready"])
            v1 = await V1.open(d, "c0", "c1")
            redis.cli("-x", "PUBLISH", "wscast:c0", stdin=b"x" * 200000)
            self.assertEqual((await v1.event())["gap"]["channel"], "c0")
            for channel in ("c0", "c1"):
                redis.cli("PUBLISH", "wscast:" + channel, "1")
                msg = await v1.event()
                self.assertEqual((msg["channel"], msg.get("data")), (channel, 1))
            await v1.close()

        run(go())
        d.wait_line("too long for the ring")
        d.stop()

    def test_fault_probe_forbidden_is_said_and_lived_with(self):
        redis = self.redis()
        redis.cli("ACL", "SETUSER", "gw", "on", ">pw", "+@all", "resetchannels", "&wscast:c*")
        d = self.daemon({"feed": {"source": "pubsub",
                                  "redis": redis.url.replace("redis://", "redis://gw:pw@")}},
                        workers=1)
        d.wait_line("only PING tells")
        wait_until("the feed", lambda: d.status()["ready"])
        d.stop()


class Cut(FaultCase):
    """A network partition: packets are dropped in silence, both ways."""

    def test_fault_partition(self):
        if os.geteuid() != 0:
            self.skipTest("SKIPPED: a network partition needs root")
        net = Namespace()
        self.addCleanup(net.done)
        redis = net.redis()
        self.addCleanup(redis.done)

        def body(d, redis):
            net.cut()
            wait_until("not ready", lambda: not d.status()["ready"])
            self.sender.wait_more(20)
            net.heal()

        self.fault(body, redis=redis)


if __name__ == "__main__":
    unittest.main()
