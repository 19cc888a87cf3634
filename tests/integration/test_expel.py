"""Kick and revoke: who is to go goes, nobody else does, and whoever is revoked stays out."""

import json
import os
import signal
import sys
import tempfile
import time
import unittest

from websockets import InvalidStatusCode

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from harness import Case, Ctl, CtlError, wait_until
from jwt import Key
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


class Tokens(Case):
    """Whose connections are closed, by what their tokens said."""

    def setUp(self):
        folder = tempfile.TemporaryDirectory(prefix="wscast-expel-")
        self.addCleanup(folder.cleanup)
        self.key = Key(folder.name)
        self.auth = {"auth": {"mode": "optional", "secret_file": self.key.path}}

    async def crowd(self, d):
        """Connections by (sub, jti); (None, None) has no token."""
        who = [("alice", "a1"), ("alice", "a2"), ("bob", "b1"), ("bob", None), ("a1", "alice"),
               (None, None)]
        crowd = {}
        for sub, jti in who:
            claims = {k: v for k, v in (("sub", sub), ("jti", jti)) if v}
            headers = {"Authorization": "Bearer " + self.key.token(**claims)} if sub else {}
            crowd[sub, jti] = await V1.open(d, "news", extra_headers=headers)
        return crowd

    def test_clients_are_listed_by_user(self):
        """Who is to be kicked can be looked at first."""
        d = self.daemon(self.auth)

        async def go():
            crowd = await self.crowd(d)
            ids = {name: c.hello["client"] for name, c in crowd.items()}

            def listed(*args):
                answer = json.loads(d.wsctl("clients", "--json", *args).stdout)
                self.assertEqual(answer["total"], len(answer["clients"]))
                return {c["client"]: c.get("user") for c in answer["clients"]}

            self.assertEqual(listed(), {i: sub for (sub, _), i in ids.items()})
            bobs = {i: "bob" for (sub, _), i in ids.items() if sub == "bob"}
            self.assertEqual(listed("--user", "bob"), bobs)
            self.assertEqual(listed("-u", "bob", "-c", "news"), bobs)
            self.assertEqual(listed("-u", "bob", "-c", "other"), {})
            self.assertEqual(listed("--user", "bo"), {})
            self.assertRegex(d.wsctl("client", min(bobs)).stdout, r"user +bob\n")
            for wrong in ("", 7, "x" * 201):
                with self.assertRaises(CtlError):
                    d.ctl("clients", user=wrong)
            for c in crowd.values():
                await c.close()

        run(go())

    async def check_gone(self, crowd, code, *names):
        """Exactly these are closed."""
        for name in names:
            self.assertEqual(await close_code(crowd.pop(name).ws), code, name)
        for c in crowd.values():
            await c.ok(ping={})

    async def check_all(self, d, crowd):
        self.assertEqual(d.ctl("kick", user="bob")["closed"], 2)
        await self.check_gone(crowd, 4403, ("bob", "b1"), ("bob", None))
        self.assertEqual(d.ctl("revoke", jti="a1")["closed"], 1)
        await self.check_gone(crowd, 4401, ("alice", "a1"))
        self.assertEqual(d.ctl("revoke", user="alice")["closed"], 1)
        await self.check_gone(crowd, 4403, ("alice", "a2"))
        self.assertEqual(d.ctl("revoke", jti="alice", **{"for": 0})["closed"], 1)
        await self.check_gone(crowd, 4401, ("a1", "alice"))
        self.assertEqual(d.ctl("status")["revocations"], 2)
        self.assertEqual([d.metric(n) for n in ("kicks_total", "revoked_total", "revocations",
                                                "expelled_total")], [1, 3, 2, 5])
        again = V1.open(d, extra_headers={"Authorization": "Bearer " + self.key.token(sub="alice")})
        with self.assertRaises(InvalidStatusCode) as e:
            await again
        self.assertEqual(e.exception.status_code, 401)
        self.assertEqual(d.metric("refused_revoked_total"), 1)
        self.assertEqual(d.metric("tokens_refused_total"), 1)
        self.assertEqual(list(crowd), [(None, None)])
        await crowd[None, None].close()

    def test_expel_by_token_closes_those_and_no_others(self):
        d = self.daemon(self.auth)

        async def go():
            await self.check_all(d, await self.crowd(d))

        run(go())

    def test_expel_by_token_finds_who_was_adopted(self):
        d = self.daemon(self.auth)

        async def go():
            crowd = await self.crowd(d)
            pids = [w["pid"] for w in d.workers()]
            for pid in pids:
                os.kill(pid, signal.SIGKILL)
            d.wait_serving(but=pids)
            await self.check_all(d, crowd)

        run(go())

    def test_revoke_many_at_once_share_walks(self):
        """Each is found, whether its own record or an earlier one's walk finds it."""
        redis = self.redis()
        d = self.daemon(self.auth, redis=redis)
        wait_until("it hears", lambda: d.ctl("status")["peers_up"])

        async def go():
            users = {}
            for n in range(60):
                token = self.key.token(sub="user%d" % n)
                users[n] = await V1.open(
                    d, "news", extra_headers={"Authorization": "Bearer " + token})
            pipe = redis.connect()
            pipe.publish([("wscast:!revoke", '{"user":"user%d"}' % n) for n in range(0, 60, 2)])
            pipe.close()
            for n, c in users.items():
                if n % 2 == 0:
                    self.assertEqual(await close_code(c.ws), 4403)
                else:
                    await c.ok(ping={})
                    await c.close()

        run(go())

    def test_revoke_learned_on_a_new_link_closes_and_leaves_the_past(self):
        """All that a link teaches is one record, and what was known before none: the
        channels keep their past."""
        redis = self.redis()
        d = self.daemon(self.auth, redis=redis)

        def again(n):
            """Cut off, it learns what holds; returns the records that this cost."""
            before = d.metric("ring_records_total")
            redis.cli("CLIENT", "KILL", "TYPE", "normal")
            wait_until("it has learned", lambda: d.ctl("status")["peers_up"]
                       and d.ctl("status")["revocations"] == n)
            return d.metric("ring_records_total") - before

        async def go():
            wait_until("it hears", lambda: d.ctl("status")["peers_up"])
            crowd = await self.crowd(d)
            until = str(int(time.time() * 1000) + 600000)
            args = [w for n in range(999) for w in (until, '{"user":"user%d"}' % n)]
            redis.cli("ZADD", "wscast:{!}revoked", *args, until, '{"user":"alice"}')
            self.assertLess(again(1000), 100)
            redis.cli("ZADD", "wscast:{!}revoked", until, '{"user":"one more"}')
            self.assertLess(again(1001), 100)
            await self.check_gone(crowd, 4403, ("alice", "a1"), ("alice", "a2"))
            for c in crowd.values():
                await c.close()

        run(go())

    def test_revoke_that_is_over_before_a_worker_looks_closes(self):
        d = self.daemon(self.auth, workers=1)

        async def go():
            crowd = await self.crowd(d)
            pid = d.workers()[0]["pid"]
            os.kill(pid, signal.SIGSTOP)
            ctl = Ctl(d.control)
            ctl.send({"cmd": "revoke", "user": "alice", "for": 0.2})
            wait_until("it is noted", lambda: d.metric("revoked_total") == 1)
            wait_until("it is over", lambda: d.ctl("status")["revocations"] == 0)
            os.kill(pid, signal.SIGCONT)
            self.assertEqual(ctl.line()["ok"]["closed"], 2)
            ctl.close()
            await self.check_gone(crowd, 4403, ("alice", "a1"), ("alice", "a2"))
            for c in crowd.values():
                await c.close()

        run(go())

    def test_revoke_on_one_host_closes_on_another(self):
        redis = self.redis()
        a, b = self.daemon(self.auth, redis=redis), self.daemon(self.auth, redis=redis)
        for d in (a, b):
            wait_until("it hears", lambda: d.ctl("status")["peers_up"])

        async def go():
            there = await self.crowd(b)
            self.assertEqual(a.ctl("revoke", user="alice"), {"closed": 0, "told": True})
            await self.check_gone(there, 4403, ("alice", "a1"), ("alice", "a2"))
            for c in there.values():
                await c.close()

        run(go())


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
        a.reload(limits={"message_rate": 100})  # what peers have of the settings holds
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
        self.assertEqual(redis.cli("ZCARD", "wscast:{!}revoked"), "3")

    def test_revoke_for_less_takes_nothing_from_one_for_longer(self):
        """Also not for hosts that come later."""
        redis = self.redis()
        a, b = self.host(redis), self.host(redis)
        soon = (time.time() + 300) * 1000
        a.ctl("revoke", user="alice", **{"for": 600})
        self.wait_revocations(1, b)
        b.ctl("revoke", user="alice", **{"for": 60})
        redis.cli("PUBLISH", "wscast:!revoke", '{"user":"alice","for":60}')
        redis.cli("PUBLISH", "wscast:!revoke", '{"user":"bob","for":60}')
        self.wait_revocations(2, a, b)
        wait_until("it is kept", lambda: redis.cli("ZCARD", "wscast:{!}revoked") == "2")
        self.assertGreater(int(redis.cli("ZSCORE", "wscast:{!}revoked", '{"user":"alice"}')), soon)

    def test_revoke_that_redis_refuses_to_keep_is_tried_again(self):
        redis = self.redis()
        a = self.host(redis)
        redis.cli("CONFIG", "SET", "maxmemory", "1")
        a.ctl("revoke", user="alice", **{"for": 600})
        a.wait_line("did not keep a revocation")
        self.assertEqual(a.metric("revocations_unkept"), 1)
        redis.cli("CONFIG", "SET", "maxmemory", "0")
        wait_until("it is kept", lambda: redis.cli("ZCARD", "wscast:{!}revoked") == "1")
        wait_until("it knows", lambda: a.metric("revocations_unkept") == 0)
        self.wait_revocations(1, self.host(redis))

    def test_revoke_without_redis_is_told_when_it_is_back(self):
        redis = self.redis()
        a, b = self.host(redis), self.host(redis)
        redis.stop()
        for d in (a, b):
            wait_until("it is gone", lambda: not d.ctl("status")["peers_up"])
        self.assertFalse(a.ctl("revoke", jti="5f0c", **{"for": 600})["told"])
        self.assertFalse(a.ctl("revoke", user="gone", **{"for": 0})["told"])
        self.assertEqual(a.metric("revocations_unkept"), 1)
        redis.start()
        self.wait_revocations(1, a, b)
        self.assertEqual(redis.cli("ZRANGE", "wscast:{!}revoked", "0", "-1"), '{"jti":"5f0c"}')
        self.wait_revocations(1, self.host(redis))

    def test_revoke_that_nobody_was_told_is_said_at_the_end(self):
        redis = self.redis()
        a = self.host(redis)
        redis.stop()
        wait_until("it is gone", lambda: not a.ctl("status")["peers_up"])
        a.ctl("revoke", user="alice", **{"for": 600})
        a.stop()
        a.wait_line("1 revocations were not kept by Redis")

    def test_revoke_survives_serving_processes(self):
        d = self.daemon()
        d.ctl("revoke", jti="x")
        pids = [w["pid"] for w in d.workers()]
        for pid in pids:
            os.kill(pid, signal.SIGKILL)
        d.wait_serving(but=pids)
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
        d.wait_line("revoke nobody")
        self.assertEqual([d.metric(n) for n in ("revoked_malformed_total", "revoked_total",
                                                "revocations")], [len(bad), 1, 1])

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
