"""Kick and revoke: who is to go goes, nobody else does, and whoever is revoked stays out."""

import os
import signal
import sys
import unittest

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from harness import Case, Ctl, CtlError, wait_until
from wsclient import V1, close_code, raw, run


class Kick(Case):
    def test_kick_by_id_closes_one(self):
        d = self.daemon()

        async def go():
            all = [await V1.open(d, "news") for _ in range(8)]
            gone = all.pop(3)
            self.assertEqual(d.ctl("kick", client=gone.hello["client"]), {"closed": 1, "told": True})
            self.assertEqual(await close_code(gone.ws), 4403)
            for c in all:
                await c.ok(ping={})
                await c.close()
            self.assertEqual(d.ctl("kick", client=gone.hello["client"])["closed"], 0)

        run(go())
        self.assertEqual(d.counter("expelled"), 1)

    def test_kick_by_channel_closes_its_subscribers(self):
        d = self.daemon()

        async def go():
            here = [await V1.open(d, "news", "other") for _ in range(5)]
            here += [await raw(d, "news") for _ in range(5)]
            there = [await V1.open(d, "other") for _ in range(5)]
            self.assertEqual(d.ctl("kick", channel="news")["closed"], 10)
            for c in here:
                self.assertEqual(await close_code(getattr(c, "ws", c)), 4403)
            for c in there:
                await c.ok(ping={})
                await c.close()
            self.assertEqual(d.ctl("kick", channel="nobody")["closed"], 0)

        run(go())

    def test_kick_gets_nothing_of_what_is_published_behind(self):
        """Who is closed got all before, and no byte after."""
        d = self.daemon(workers=1)

        async def go():
            v1 = await V1.open(d, "news")
            for n in range(50):
                d.publish("news", str(n))
            d.ctl("kick", channel="news")
            d.publish("news", "1000")
            got = []
            try:
                while True:
                    got.append((await v1.recv())["data"])
            except Exception:
                pass
            self.assertEqual(got, list(range(50)))

        run(go())

    def test_kick_waits_for_a_worker_that_is_killed(self):
        """The record is worked on from its start by the successor."""
        d = self.daemon(workers=2)

        async def go():
            all = [await V1.open(d, "news") for _ in range(40)]
            pid = d.workers()[0]["pid"]
            os.kill(pid, signal.SIGSTOP)
            ctl = Ctl(d.control)
            ctl.send({"cmd": "kick", "channel": "news"})
            wait_until("the other has done it", lambda: d.counter("expelled") > 0)
            os.kill(pid, signal.SIGKILL)
            self.assertEqual(ctl.line()["ok"]["closed"], 40)
            ctl.close()
            for c in all:
                self.assertEqual(await close_code(c.ws), 4403)

        run(go())

    def test_kick_and_revoke_refuse_what_names_nobody(self):
        d = self.daemon()
        for cmd, args in (("kick", {}), ("kick", {"client": "x"}), ("kick", {"channel": "!a"}),
                          ("kick", {"user": ""}), ("kick", {"user": "a", "channel": "b"}),
                          ("revoke", {}), ("revoke", {"user": "a", "jti": "b"}),
                          ("revoke", {"user": "x" * 201}), ("revoke", {"user": 7}),
                          ("revoke", {"user": "a", "for": -1}), ("revoke", {"user": "a", "for": "1h"}),
                          ("revoke", {"user": "a", "for": 1e12})):
            with self.assertRaises(CtlError, msg=(cmd, args)) as e:
                d.ctl(cmd, **args)
            self.assertEqual(e.exception.code, "bad_request")


if __name__ == "__main__":
    unittest.main()
