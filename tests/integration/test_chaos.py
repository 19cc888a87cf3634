# tests/run: alone
"""Everything at once, for a count of events drawn from a seed (printed; WSCAST_SEED
repeats it): kills, restarts, clients that come and go, that talk and that stall."""

import os
import signal
import sys
import time
import unittest

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from fleet import Client
from harness import SANITIZED, wait_until
from storm import CHANNELS, Killer, Restarter, StormCase, shoot


class Chaos(StormCase):
    SECONDS = 20

    def test_chaos_clients_that_stay_lose_nothing(self):
        fleet = self.storm(60 if SANITIZED else 200, workers=3, talkers=15)
        d, rng = self.d, self.rng
        restart = Restarter(d)
        stopped = []

        def hit(worker, rng):
            r = rng.random()
            if r < 0.45:
                return shoot(worker["pid"])
            if r < 0.6:
                return restart(worker, rng)
            if r < 0.7:
                return shoot(worker["keeper_pid"]) if d.spare_of(worker) else False
            if r < 0.8:
                spare = d.spare_of(worker)
                return shoot(spare) if spare else False
            # Held up for a moment: nobody else may notice.
            os.kill(worker["pid"], signal.SIGSTOP)
            stopped.append((time.monotonic() + rng.uniform(0, 0.3), worker["pid"]))
            return True

        def go_on():
            for item in [i for i in stopped if i[0] <= time.monotonic()]:
                stopped.remove(item)
                try:
                    os.kill(item[1], signal.SIGCONT)
                except ProcessLookupError:
                    pass

        passing = []

        def come_and_go():
            """Clients for a moment: some leave in the middle of a handshake or frame."""
            if rng.random() < 0.2 and len(passing) < 40:
                kind = rng.choice([fleet.raw, fleet.v1])
                passing.append(kind("passing", rng.choice(CHANNELS), kind=Passing))
            for c in list(passing):
                if c.closed:
                    passing.remove(c)
                elif rng.random() < 0.02:
                    passing.remove(c)
                    c.close()

        killer = Killer(d, hit, 10**9, 0.4, rng, early=0.05)
        fleet.jobs += [killer, go_on, come_and_go, self.talk]
        fleet.storm.start()
        end = time.monotonic() + self.SECONDS
        fleet.run("the end", lambda: time.monotonic() > end, self.SECONDS + 60)
        killer.left = 0
        for item in stopped:
            try:
                os.kill(item[1], signal.SIGCONT)
            except ProcessLookupError:
                pass
        restart.collect()
        for c in passing:
            c.close()
        self.over(killer)
        print("%d hits, %d restarts among them" % (killer.done, restart.ran))
        self.assertGreater(killer.done, 10)
        wait_until("each keeper has a spare",
                   lambda: all(d.spare_of(w) for w in d.workers()))
        d.stop()


class Passing(Client):
    """One that comes while workers die, and asks by a message of its own, so that it
    may be cut: then it is as good as gone. What it gets must be right all the same."""

    def on_end(self, how):
        self.close()

    def mismatch(self, data):
        if b"\x88" in data and b"\x03\xf4" in data:
            return self.close()
        super().mismatch(data)


if __name__ == "__main__":
    unittest.main()
