"""What the tests of adoption share: a daemon under a storm, and hands that kill."""

import os
import random
import signal
import subprocess
import time

from fleet import Fleet, Storm, Talker, varied_sizes
from harness import BIN, SANITIZED, Case, alive, fds_of, proc_stat, wait_until

CHANNELS = ["c%d" % i for i in range(10)]


def seed():
    """WSCAST_SEED, or another one each time; a failing test prints it."""
    return int(os.environ.get("WSCAST_SEED") or random.SystemRandom().randrange(1 << 32))


class Killer:
    """A job of the fleet's loop: hits a worker again and again, at random times.

    hit     function of (worker, rng) that kills something of the worker
    times   how often
    gap     seconds between two hits: random up to this
    early   share of hits that come at once, into the successor's first moments
    """

    def __init__(self, daemon, hit, times, gap, rng, early=0.0):
        self.daemon, self.hit, self.left, self.gap = daemon, hit, times, gap
        self.rng, self.early = rng, early
        self.done = 0
        self.lagging = 0  # connections that were inside a frame or behind, when hit
        self.at = time.monotonic() + rng.uniform(0, gap)
        self.ask_at = 0.0

    def __call__(self):
        now = time.monotonic()
        if self.left == 0 or now < self.at:
            return
        if now < self.ask_at:
            return
        self.ask_at = now + 0.015
        workers = self.daemon.workers()
        ready = [w for w in workers if alive(w["pid"]) and w["state"] == "serving"]
        if len(ready) < len(workers) and self.rng.random() > self.early:
            return  # the last hit is still being put right
        ready = [w for w in workers if w["pid"] > 0 and alive(w["pid"])]
        if not ready:
            return
        worker = self.rng.choice(ready)
        if not self.hit(worker, self.rng):
            return
        self.lagging += worker["lagging"]
        self.done += 1
        self.left -= 1
        self.at = time.monotonic() + self.rng.uniform(0, self.gap)


def shoot(pid):
    """kill -9, if it still is a worker's process."""
    stat = proc_stat(pid)
    if stat is None or not stat[0].startswith("wscast-"):
        return False
    try:
        os.kill(pid, signal.SIGKILL)
    except ProcessLookupError:
        return False
    return True


def kill_serving(worker, rng):
    return shoot(worker["pid"])


class Restarter:
    """`wsctl restart [N]` as a hit; one at a time."""

    def __init__(self, daemon):
        self.daemon, self.proc, self.ran = daemon, None, 0

    def __call__(self, worker, rng):
        if self.proc and self.proc.poll() is None:
            return False
        self.collect()
        which = [str(worker["index"])] if rng.random() < 0.8 else []
        self.proc = subprocess.Popen(
            [os.path.join(BIN, "wsctl"), "-s", self.daemon.control, "restart"] + which,
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        return True

    def collect(self):
        if self.proc:
            text = self.proc.communicate()[0]
            if self.proc.returncode:
                raise AssertionError("wsctl restart: %d %s" % (self.proc.returncode, text))
            self.ran += 1
            self.proc = None


class StormCase(Case):
    """A daemon on Redis, 1,000 messages a second on ten channels, and a fleet."""

    RATE = 300 if SANITIZED else 1000
    tls = None  # a client's ssl.SSLContext: all go through the TLS listener

    def storm(self, clients, workers=2, settings=None, talkers=0, rate=None):
        """Everything up and every subscription live. Of the clients, a tenth has all
        channels, a third speaks wscast.v1, and a fifth reads slowly into a small
        buffer, so that frames are cut."""
        self.seed = seed()
        print("seed %d" % self.seed)
        self.rng = random.Random(self.seed)
        self.server = self.redis()
        self.d = self.daemon(settings or {"channel talk": {"publish": "anyone"}},
                             redis=self.server, workers=workers)
        self.before = fds_of(self.d)
        self.pipe = self.server.connect()
        self.addCleanup(self.pipe.close)
        storm = Storm(lambda batch: self.pipe.publish(
            [("wscast:" + c, p) for c, p in batch], wait=False),
            CHANNELS, rate or self.RATE, varied_sizes, self.seed)
        self.fleet = Fleet(self.d, storm, self.tls)
        self.addCleanup(self.fleet.close)
        # The first one learns the offsets, before anything flows.
        self.fleet.v1("v1-all-0")
        self.fleet.run("the first client's subscriptions",
                       lambda: all(c.live for c in self.fleet.clients.values()))
        for i in range(1, clients - talkers):
            kwargs = {}
            if i % 5 == 0:
                kwargs = {"rcvbuf": 4096, "slow": random.Random(self.rng.random())}
            channel = None if i % 10 == 1 else CHANNELS[i % len(CHANNELS)]
            add = self.fleet.v1 if i % 3 == 0 else self.fleet.raw
            add("%s%s-%s-%d" % ("slow-" if kwargs else "", add.__name__, channel, i),
                channel, **kwargs)
        self.talkers = [self.fleet.v1("talker-%d" % i, CHANNELS[i % len(CHANNELS)], Talker)
                        for i in range(talkers)]
        self.fleet.go_live()
        return self.fleet

    def talk(self):
        """A job: one of the talkers says something now and then."""
        if self.talkers and self.rng.random() < 0.5:
            self.rng.choice(self.talkers).talk()

    def over(self, killer=None, timeout=None):
        """All is delivered, the workers serve, nothing is leaked, and it stops."""
        fleet, d = self.fleet, self.d
        fleet.jobs.clear()
        fleet.settle(timeout)
        d.wait_serving()
        cut = [t.name for t in self.talkers if t.cut]
        if killer:
            self.assertLessEqual(len(cut), killer.done, "more were cut than were killed")
        self.assertEqual(d.status()["connections"], len(fleet.clients))
        for client in list(fleet.clients.values()):
            client.close()
        wait_until("no connection is counted", lambda: d.status()["connections"] == 0)
        return cut
