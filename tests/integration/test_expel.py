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


class Hosts(Case):
    """Several wscastd on one Redis tell each other who is revoked."""

    def host(self, redis):
        d = self.daemon(redis=redis)
        wait_until("it hears the others", lambda: d.ctl("status")["peers_up"])
        return d

    def wait_revocations(self, n, *hosts):
        for d in hosts:
            wait_until("it knows of %d" % n, lambda: d.ctl("status")["revocations"] == n)

    def test_revoke_reaches_all_hosts_and_those_that_come_later(self):
        redis = self.redis()
        a, b = self.host(redis), self.host(redis)
        self.assertTrue(a.ctl("revoke", user="alice", **{"for": 600})["told"])
        self.wait_revocations(1, a, b)
        redis.cli("PUBLISH", "wscast:!revoke", '{"jti":"5f0c","for":600}')
        self.wait_revocations(2, a, b)
        self.wait_revocations(2, self.host(redis))
        # Again, and one whose time ends at once: no more than there were.
        b.ctl("revoke", user="alice", **{"for": 60})
        b.ctl("revoke", user="bob", **{"for": 0})
        redis.cli("PUBLISH", "wscast:!revoke", '{"user":"carol"}')
        self.wait_revocations(3, a, b)
        self.assertEqual(redis.cli("ZCARD", "wscast:!revoked"), "3")

    def test_revoke_survives_workers_and_their_keepers(self):
        d = self.daemon()
        d.ctl("revoke", jti="x")
        for w in d.workers():
            os.kill(w["pid"], signal.SIGKILL)
        d.wait_serving(but=[w["pid"] for w in d.workers()])
        self.assertEqual(d.ctl("status")["revocations"], 1)

    def test_revoke_is_forgotten_when_it_is_over(self):
        d = self.daemon()
        d.ctl("revoke", jti="x", **{"for": 600})
        d.ctl("revoke", jti="y", **{"for": 0.3})
        self.wait_revocations(1, d)

    def test_revoke_what_is_no_revocation_is_said_and_harms_nobody(self):
        redis = self.redis()
        d = self.host(redis)
        bad = ("", "{", "[]", "7", "{}", '{"user":7}', '{"user":"a","jti":"b"}', '{"user":""}',
               '{"user":"%s"}' % ("x" * 201), '{"user":"a","for":-1}', '{"user":"a","for":"1h"}',
               '{"user":"a","for":1e300}', "[" * 100000, "\udcff")
        for text in bad:
            redis.cli("-x", "PUBLISH", "wscast:!revoke", stdin=text.encode("utf-8", "surrogateescape"))
        redis.cli("PUBLISH", "wscast:!revoke", '{"user":"real"}')
        self.wait_revocations(1, d)
        d.wait_line("revokes nobody")

    def test_revoke_without_redis_holds_here_and_is_said(self):
        redis = self.redis()
        d = self.host(redis)
        redis.stop()
        wait_until("it is gone", lambda: not d.ctl("status")["peers_up"])
        out = d.wsctl("revoke", "--user", "alice", "--for", "10m", check=False)
        self.assertEqual(out.returncode, 1)
        self.assertIn("could not be told", out.stderr)
        self.wait_revocations(1, d)


if __name__ == "__main__":
    unittest.main()
