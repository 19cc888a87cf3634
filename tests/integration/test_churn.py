"""Channels come and go: Redis is subscribed to what is subscribed here, and to nothing
else; what they took is given back."""

import json
import os
import socket
import sys
import time
import unittest

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from fleet import PING, PONG, TEXT, masked, take_frame, upgrade
from harness import DEADLINE, SANITIZED, Case, resp, wait_until

PREFIX = "wscast:"
LINGER_S = 6  # REGISTRY_LINGER_MS, and the tick that ends it
IN_FLIGHT = 200  # requests of one connection that may wait (WAITS_MAX is 256)
# What a channel takes at most: a directory entry (256 bytes), the registry's (56, and 16
# of sets), its place in the map of names (12, at half load), and on the worker its table
# entry (32), struct chan (80), name, and place in that map; what is allocated for it.
# Such places are used again, so they are as many as there were channels at one time:
# held, lingering, and retired ones (RETIRED_MAX).
# Arrays that double may be twice as long.
PLACE, RETIRED_MAX = 640, 65536
# What stays of each place, however long it is free: a number in the feed and in each of
# the workers (channels_of()), in arrays that double.
LEFT = 32
# What is written through once, whatever comes: two upstream rings (1 MiB each); what is
# kept for those who come next: four runs of 512 places in each process, 16 chunks of
# 64 KiB of each worker's arena; buffers for what is read and sent.
ONCE = 8 << 20
RECORD = 256  # bytes of the ring's frames for each record of its index
# How much may come and go with the moment at which it is measured: buffers of Redis'
# answers, chunks that malloc has not given back.
MOMENT = 4 << 20


class Asker:
    """A wscast.v1 client that asks many things at once, and only counts the answers."""

    def __init__(self, daemon):
        host, port = daemon.address.rsplit(":", 1)
        self.sock = socket.create_connection((host, int(port)))
        self.sock.settimeout(DEADLINE)
        self.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.sock.sendall(upgrade("/ws", True, int(port)))
        self.buf, self.at = b"", 0
        while b"\r\n\r\n" not in self.buf:
            self.fill()
        assert self.buf.startswith(b"HTTP/1.1 101"), self.buf
        self.at = self.buf.index(b"\r\n\r\n") + 4
        self.message()  # hello
        self.waiting = 0

    def fill(self):
        got = self.sock.recv(1 << 18)
        assert got, "the server closed"
        self.buf, self.at = self.buf[self.at:] + got, 0

    def message(self):
        while True:
            whole = take_frame(self.buf, self.at)
            if whole is None:
                self.fill()
                continue
            first, payload, self.at = whole
            if first == 0x80 | PING:
                self.sock.sendall(masked(PONG, payload))
                continue
            assert first == 0x80 | TEXT, whole
            return payload

    def ask(self, what, names):
        self.sock.sendall(b"".join(
            masked(TEXT, json.dumps({"id": 1, what: name}).encode()) for name in names))
        self.waiting += len(names)

    def answers(self):
        while self.waiting > 0:
            msg = self.message()
            assert msg.startswith(b'{"id":1,"ok"'), msg
            self.waiting -= 1

    def close(self):
        self.sock.close()


def ask_all(askers, what, names):
    """Each of the names by one of the connections, and all of the answers."""
    step = IN_FLIGHT * len(askers)
    for begin in range(0, len(names), step):
        for i, asker in enumerate(askers):
            asker.ask(what, names[begin + i * IN_FLIGHT:begin + (i + 1) * IN_FLIGHT])
        for asker in askers:
            asker.answers()


class Lists:
    """Asks Redis what is subscribed, without a process for each question."""

    def __init__(self, redis):
        self.pipe = redis.connect()
        self.file = self.pipe.sock.makefile("rb")

    def ask(self, *args):
        self.pipe.sock.sendall(resp(*args))
        items = []
        for _ in range(int(self.file.readline()[1:])):
            head = self.file.readline()
            items.append(int(head[1:]) if head[:1] == b":"
                         else self.file.read(int(head[1:]) + 2)[:-2].decode())
        return items

    def channels(self):
        """PUBSUB CHANNELS, but for the probe's own."""
        return {n[len(PREFIX):] for n in self.ask("PUBSUB", "CHANNELS", PREFIX + "*")
                if not n.startswith(PREFIX + "!")}

    def numbers(self, names):
        """PUBSUB NUMSUB: by how many connections each is subscribed."""
        got = {}
        for begin in range(0, len(names), 1000):
            items = self.ask("PUBSUB", "NUMSUB",
                             *[PREFIX + n for n in names[begin:begin + 1000]])
            got.update(zip((n[len(PREFIX):] for n in items[::2]), items[1::2]))
        return got

    def close(self):
        self.file.close()
        self.pipe.close()


def memory(pids):
    """PSS of these processes, in bytes: (private, shared with others of them)."""
    private = shared = 0
    for pid in pids:
        with open("/proc/%d/smaps_rollup" % pid) as f:
            lines = dict(line.split(":", 1) for line in f if ":" in line)
        private += int(lines["Pss_Anon"].split()[0]) << 10
        shared += int(lines["Pss_Shmem"].split()[0]) << 10
    return private, shared


def mib(n):
    return "%.1f" % (n / (1 << 20))


class Churn(Case):
    COUNT, HELD = 8000, 2000  # that come and go; that stay
    RATE = 0  # channels a second; 0: as fast as it goes
    CHECKS = 2  # how often all is looked at meanwhile
    CONNECTIONS = 8
    RING = 4  # MiB

    def test_churn_interest_is_what_is_subscribed(self):
        redis = self.redis()
        d = self.daemon({"limits": {"channels_per_connection": 20000},
                         "ring": {"size": "%dM" % self.RING}}, redis=redis, workers=2)
        wait_until("the feed", lambda: d.status()["ready"])
        self.lists = Lists(redis)
        self.begun = time.monotonic()
        self.pass_the_ring(redis, d)
        start = self.look(d, "at the start")
        askers = [Asker(d) for _ in range(self.CONNECTIONS)]
        held = ["held%d" % i for i in range(self.HELD)]
        ask_all(askers, "subscribe", held)
        looks = self.churn(d, askers, held)
        self.subscribe_again(redis, d, held)
        for asker in askers:
            asker.close()
        self.interest_is([], held[:1000])
        end = self.look(d, "at the end")
        self.lists.close()
        self.pass_the_ring(redis, d)
        gone = self.look(d, "when all are forgotten")
        # (What a sanitizer's allocator keeps is freed.)
        if not SANITIZED and start is not None:
            self.judge(start, looks, end, gone)
        d.stop()

    def pass_the_ring(self, redis, d):
        """Write it through, with its index: nothing of before is left in it, and no
        channel is remembered for it."""
        pipe, asker = redis.connect(), Asker(d)
        ask_all([asker], "subscribe", ["fill"])
        for _ in range(self.RING * (1 << 20) // RECORD // 1024 + 1):
            pipe.publish([(PREFIX + "fill", b"x" * RECORD)] * 1024)
            for _ in range(1024):
                asker.message()
        pipe.close()
        asker.close()
        wait_until("all to be forgotten", lambda: d.status()["channels"] <= 1,
                   timeout=3 * DEADLINE)

    def churn(self, d, askers, held):
        step, came, before, looks = IN_FLIGHT * len(askers), 0, [], []
        begun = last = time.monotonic()
        while came < self.COUNT:
            names = ["come%d" % i for i in range(came, min(came + step, self.COUNT))]
            ask_all(askers, "subscribe", names)
            ask_all(askers, "unsubscribe", before)
            gone, before = before, names
            came += len(names)
            if came * self.CHECKS // self.COUNT > len(looks):
                self.interest_is(held + names, gone)
                looks.append(self.look(d, "behind %d channels" % came))
            if self.RATE:  # and no faster when it was slow: more would linger
                time.sleep(max(0, last + step / self.RATE - time.monotonic()))
                last = time.monotonic()
        took = time.monotonic() - begun
        print("%d channels in %.0f s: %.0f a second" % (came, took, came / took))
        ask_all(askers, "unsubscribe", before)
        self.interest_is(held, before)
        return looks

    def interest_is(self, subscribed, gone):
        """Redis is subscribed to these, once each, as soon as nothing lingers."""
        want = set(subscribed)
        wait_until(lambda: "Redis to have %d channels and no other: it has %d, of which "
                   "%d are missed and %d too many" % (
                       len(want), len(self.lists.channels()),
                       len(want - self.lists.channels()),
                       len(self.lists.channels() - want)),
                   lambda: self.lists.channels() == want, timeout=DEADLINE + LINGER_S,
                   every=0.1)
        numbers = self.lists.numbers(subscribed + gone)
        self.assertEqual(numbers, {**dict.fromkeys(subscribed, 1), **dict.fromkeys(gone, 0)})

    def look(self, d, when):
        """(private, shared) of the daemon, then of its workers; None where that may not
        be seen."""
        workers = [p for w in d.workers() for p in (w["keeper_pid"], w["pid"])]
        workers += [d.spare_of(w) for w in d.workers()]
        try:
            now = memory([d.pid]), memory(workers)
        except PermissionError:
            return None
        print("%4.0f s, %s: PSS of the supervisor %s MiB private, %s shared; of the workers "
              "%s and %s; %d channels known" % (
                  time.monotonic() - self.begun, when, mib(now[0][0]), mib(now[0][1]),
                  mib(now[1][0]), mib(now[1][1]), d.status()["channels"]))
        return now

    def subscribe_again(self, redis, d, held):
        """All of them, behind a link that was lost; the loop does not stand."""
        redis.cli("CLIENT", "KILL", "TYPE", "pubsub")
        wait_until("the link", lambda: d.status()["feed"]["reconnects"] == 1)
        slowest = 0.0
        while not d.status()["ready"]:
            begun = time.monotonic()
            d.status()
            slowest = max(slowest, time.monotonic() - begun)
        self.interest_is(held, [])
        print("slowest answer while subscribing again: %.0f ms" % (slowest * 1000))

    def judge(self, start, looks, end, gone):
        private = lambda look: look[0][0] + look[1][0]
        total = lambda look: sum(look[0]) + sum(look[1])
        # Once as many are retired as ever will be, nothing grows, as a leak does; of what
        # is shared, some more places may be needed for a moment.
        full = (RETIRED_MAX + self.linger()) * self.CHECKS // self.COUNT
        first = looks[min(max(1, full), len(looks) - 1)]
        self.assertLess(private(looks[-1]) - private(first), MOMENT)
        self.assertLess(total(looks[-1]) - total(first), MOMENT + PLACE * self.linger())
        # What the most of them took is used again, and is no more than their places.
        self.assertLess(total(end) - total(start),
                        ONCE + MOMENT + PLACE * self.most())
        # When nobody and no record names them, it goes back to the kernel.
        self.assertLess(total(gone) - total(start), ONCE + MOMENT + LEFT * self.most())

    def most(self):
        """Channels that are known at a time."""
        return self.HELD + self.linger() + min(RETIRED_MAX, self.COUNT)

    def linger(self):
        """Channels that linger at a time."""
        return min(self.COUNT, self.RATE * LINGER_S or self.COUNT) + \
            2 * IN_FLIGHT * self.CONNECTIONS


if __name__ == "__main__":
    unittest.main()
