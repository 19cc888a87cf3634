# tests/run: alone
"""A hostile internet: what it does costs the others nothing, and leaves nothing. For
longer, and with more of everything: tests/soak/test_hostile_soak.py."""

import json
import os
import subprocess
import sys
import unittest

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from harness import BIN, SANITIZED, Case, fds_of, wait_until
from hostile import Slowloris, churn, may_look_into, more_descriptors, private_memory


class HalfOpen(Case):
    HALF_OPEN, CLIENTS, ROUNDS, SECONDS, TIMEOUT = 1000, 100, 2, 2, "5s"
    COMPARED = False  # p99 with and without: a figure for a longer run
    NOISE_US = 1000   # below this it is the machine that is measured

    def p99_us(self, d):
        """Of what the clients get meanwhile; nothing of it may be lost."""
        done = subprocess.run(
            [os.path.join(BIN, "wsbench"), "run", "--quiet", "--json",
             "--url=ws://%s/ws/%%c" % d.address, "--publish=control",
             "--control=" + d.control, "--connections=%d" % self.CLIENTS,
             "--channels=1", "--rate=20", "--size=200", "--warmup=0.5",
             "--duration=%d" % self.SECONDS, "--processes=1"],
            capture_output=True, text=True)
        result = json.loads(done.stdout)
        self.assertEqual(result["check"]["lost"], 0, done.stderr)
        self.assertGreater(result["deliveries"]["measured"], 0)
        return result["latency_us"]["p99"]

    def test_half_open_requests_delay_nobody_and_are_gone(self):
        more_descriptors()
        d = self.daemon({"limits": {"handshake_timeout": self.TIMEOUT}})
        without, within = [], []
        for _ in range(self.ROUNDS):
            without.append(self.p99_us(d))
            slow = Slowloris(d.port, self.HALF_OPEN)
            self.assertTrue(slow.full.wait(60), "they cannot connect")
            within.append(self.p99_us(d))
            self.assertGreater(d.counter("connections"), self.HALF_OPEN * 9 // 10)
            slow.stop()
            wait_until("all are gone", lambda: d.counter("connections") == 0)
            self.assertGreaterEqual(slow.closed, self.HALF_OPEN)
        print("p99 without %s us, within %s us" % (without, within))
        # The least disturbed round of each kind: others may use this machine.
        if self.COMPARED:
            self.assertLess(min(within), 2 * max(min(without), self.NOISE_US))


class Churn(Case):
    COUNT = 4000
    GROWN_MAX = 256 << 10  # what malloc keeps, over all processes

    def look(self, d):
        """Memory, descriptors and arena once all have left."""
        wait_until("all are gone", lambda: d.counter("connections") == 0)
        beats = [w["arena_bytes"] for w in d.workers()]
        pids = [d.pid] + [p for w in d.workers() for p in (w["keeper_pid"], w["pid"])]
        return fds_of(d), beats, private_memory(pids) if may_look_into(pids) else 0

    def test_connects_and_closes_leave_nothing(self):
        d = self.daemon()
        pids = {w["pid"] for w in d.workers()}
        churn(d.port, self.COUNT // 4, 1)
        fds, arena, memory = self.look(d)
        accepted = d.counter("accepted")
        churn(d.port, self.COUNT, 2)
        wait_until("all were accepted",
                   lambda: d.counter("accepted") == accepted + self.COUNT)
        wait_until("the arena is as it was", lambda: self.look(d)[1] == arena)
        self.fds_are_back(d, fds)
        now = self.look(d)[2]
        print("private memory: %d KiB, then %d KiB" % (memory >> 10, now >> 10))
        if not SANITIZED:
            self.assertLess(now - memory, self.GROWN_MAX)
        self.assertEqual({w["pid"] for w in d.workers()}, pids, "no one died of it")
        self.assertEqual(d.counter("closed"), d.counter("accepted"))


if __name__ == "__main__":
    unittest.main()
