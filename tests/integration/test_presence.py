"""Presence: who is in a channel, on one host and on several, and what those there are told."""

import asyncio
import json
import os
import signal
import sys
import tempfile
import time
import unittest

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from harness import Case, CtlError, Daemon, alive, descendants, wait_until
from jwt import Key
from wsclient import V1, raw, run



def listed(d, channel="chat"):
    """All pages, as {id: member}."""
    found, after = {}, 0
    while True:
        page = d.ctl("presence", channel=channel, after=after)
        for m in page["clients"]:
            assert m["client"] not in found, m
            found[m["client"]] = m
        if "next" not in page:
            return found
        after = page["next"]


class Presence(Case):
    def setUp(self):
        folder = tempfile.TemporaryDirectory(prefix="wscast-presence-")
        self.addCleanup(folder.cleanup)
        self.key = Key(folder.name)

    def settings(self, grace="1s", expiry=60, **more):
        """expiry: in seconds; longer than a busy machine stands still at times."""
        return {"auth": {"mode": "optional", "secret_file": self.key.path},
                "presence": {"grace": grace, "expiry": "%ds" % expiry},
                "channel chat": {"presence": "yes"},
                "channel closed": {"presence": "yes", "subscribe": "nobody"}, **more}

    def hosts(self, n=2, **more):
        redis = self.redis()
        hosts = [self.daemon({"feed": {"source": "pubsub"},
                              **self.settings(**more)}, redis=redis) for _ in range(n)]
        for d in hosts:
            wait_until("peers are there", lambda: d.status()["peers_up"])
        return redis, hosts

    def hash_of(self, redis, members):
        """The key where the host is that has so many, once it has told of all."""
        def found():
            keys = redis.cli("KEYS", "wscast:{!}presence:*").split()
            return [k for k in keys if int(redis.cli("HLEN", k)) == members]

        key, = wait_until("it is told", found)
        return key

    def crash(self, d):
        """The host dies, all of it."""
        d.kill()

        def nothing_is_left():
            running = {pid for other in Daemon.running for pid in descendants(other.pid)}
            left = [pid for pid, comm in descendants(os.getpid()).items()
                    if comm.startswith("wscast-") and pid not in running]
            for pid in left:
                try:
                    if alive(pid):
                        os.kill(pid, signal.SIGKILL)
                    os.waitpid(pid, 0)
                except (ProcessLookupError, ChildProcessError):
                    pass  # its parent is not gone yet
            return not left

        wait_until("nothing of it is left", nothing_is_left)

    async def user(self, d, sub, *channels, **claims):
        token = self.key.token(sub=sub, **claims)
        return await V1.open(d, *channels, extra_headers={"Authorization": "Bearer " + token})

    async def event(self, c, kind):
        """The next join or leave; nothing else comes."""
        msg = c.events.pop(0) if c.events else await c.recv()
        self.assertEqual(list(msg), [kind], msg)
        self.assertEqual(msg[kind].pop("channel"), "chat")
        return msg[kind]

    async def quiet(self, d, *all):
        """Nothing was told until a message that is published now."""
        d.publish("chat", '"mark"')
        for c in all:
            msg = c.events.pop(0) if c.events else await c.recv()
            self.assertEqual(msg.get("data"), "mark", msg)


class OneHost(Presence):
    def test_presence_join_and_leave_are_told_and_listed(self):
        d = self.daemon(self.settings())

        async def go():
            a = await V1.open(d, "chat")
            me = await self.event(a, "join")
            self.assertEqual(me, {"client": a.hello["client"]})
            b = await self.user(d, "bob", "chat", info={"name": "B", "n": 1})
            bob = {"client": b.hello["client"], "user": "bob", "info": {"name": "B", "n": 1}}
            self.assertEqual(await self.event(a, "join"), bob)
            page = await a.ok(presence="chat")
            self.assertEqual(page, {"clients": [me, bob], "total": 2})
            self.assertEqual(listed(d), {m["client"]: m for m in (me, bob)})
            await self.event(b, "join")
            await a.ok(unsubscribe="chat")
            self.assertEqual(await self.event(b, "leave"), me)  # nameless: at once
            await b.close()
            wait_until("bob's grace is over", lambda: listed(d) == {})
            await a.close()

        run(go())

    def test_presence_is_refused_where_it_is_not_or_may_not_be(self):
        d = self.daemon(self.settings())

        async def go():
            a = await V1.open(d, "news")
            self.assertEqual(await a.error(presence="news"), "forbidden")
            self.assertEqual(await a.error(presence="closed"), "forbidden")
            self.assertEqual(await a.error(presence="!x"), "bad_request")
            self.assertEqual(await a.error(presence="chat", before=1), "bad_request")
            self.assertEqual(await a.error(presence="chat", after="x"), "bad_request")
            self.assertEqual(await a.ok(presence="chat"), {"clients": [], "total": 0})
            await a.close()

        run(go())
        for args in ({}, {"channel": "!x"}, {"channel": "chat", "after": -1}):
            with self.assertRaises(CtlError) as e:
                d.ctl("presence", **args)
            self.assertEqual(e.exception.code, "bad_request")
        with self.assertRaises(CtlError) as e:
            d.ctl("presence", channel="news")
        self.assertEqual(e.exception.code, "not_found")

    def test_presence_reconnect_within_grace_is_no_leave(self):
        d = self.daemon(self.settings(grace="30s"))

        async def go():
            a = await V1.open(d, "chat")
            await self.event(a, "join")
            b = await self.user(d, "bob", "chat")
            first = await self.event(a, "join")
            for _ in range(3):
                await b.close()
                wait_until("it is gone", lambda: d.status()["connections"] == 1)
                b = await self.user(d, "bob", "chat")
                wait_until("one bob is there", lambda: len(listed(d)) == 2)
                await b.ok(ping={})
            self.assertEqual(listed(d)[first["client"]], first)
            await self.quiet(d, a)
            # Two at once are two.
            c = await self.user(d, "bob", "chat")
            self.assertEqual((await self.event(a, "join"))["client"], c.hello["client"])
            for x in (a, b, c):
                await x.close()

        run(go())

    def test_presence_leave_is_told_after_grace(self):
        d = self.daemon(self.settings(grace="300ms"))

        async def go():
            a = await V1.open(d, "chat")
            await self.event(a, "join")
            b = await self.user(d, "bob", "chat")
            bob = await self.event(a, "join")
            begun = time.monotonic()
            await b.close()
            self.assertEqual(await self.event(a, "leave"), bob)
            self.assertGreaterEqual(time.monotonic() - begun, 0.3)
            await a.close()

        run(go())

    def test_presence_raw_clients_count_and_are_told_nothing(self):
        d = self.daemon(self.settings(), workers=1)

        async def go():
            r = await raw(d, "chat")
            wait_until("it is there", lambda: len(listed(d)) == 1)
            a = await V1.open(d, "chat")
            self.assertEqual(len(listed(d)), 2)
            all = [await V1.open(d, "chat") for _ in range(20)]
            for c in all:
                await c.close()
            for n in range(100):
                d.publish("chat", str(n))
            self.assertEqual([await r.recv() for _ in range(100)], [str(n) for n in range(100)])
            wait_until("they are gone", lambda: len(listed(d)) == 2)
            # For the others it is in order with the messages, which have their offsets.
            offsets, joins, leaves = [], 0, 0
            while len(offsets) < 100 or leaves < 20:
                msg = a.events.pop(0) if a.events else await a.recv()
                joins += "join" in msg
                leaves += "leave" in msg
                if "offset" in msg:
                    offsets.append(msg["offset"])
            self.assertEqual((joins, leaves), (21, 20))
            self.assertEqual(offsets, list(range(offsets[0], offsets[0] + 100)))
            past = await a.ok(history="chat", limit=100)
            self.assertEqual([m["data"] for m in past["messages"]], list(range(100)))
            await a.close()
            await r.close()

        run(go())

    def test_presence_counts_are_right_after_kills(self):
        d = self.daemon(self.settings(grace="0"), workers=2)

        async def go():
            watch = await V1.open(d, "chat")
            await self.event(watch, "join")
            all = [await self.user(d, "u%d" % n, "chat") for n in range(60)]
            for _ in all:
                await self.event(watch, "join")
            for round in range(4):
                before = listed(d)
                for w in d.workers():
                    os.kill(w["pid"], signal.SIGKILL)
                leaving = [all.pop() for _ in range(5)]
                await asyncio.gather(*(c.close() for c in leaving))
                gone = {c.hello["client"] for c in leaving}
                wait_until("they are gone", lambda: len(listed(d)) == len(before) - 5)
                self.assertEqual(set(before) - set(listed(d)), gone)
                told = {(await self.event(watch, "leave"))["client"] for _ in leaving}
                self.assertEqual(told, gone)
                await self.quiet(d, watch)
            for c in all + [watch]:
                await c.close()

        run(go())
        wait_until("nobody is there", lambda: listed(d) == {})

    def test_presence_keeper_dies_its_members_leave(self):
        d = self.daemon(self.settings(grace="0"), workers=2)

        async def go():
            all = [await self.user(d, "u%d" % n, "chat") for n in range(30)]
            self.assertEqual(len(listed(d)), 30)
            w = d.workers()[0]
            stay = d.workers()[1]["connections"]
            os.killpg(w["keeper_pid"], signal.SIGKILL)
            wait_until("the others are left", lambda: len(listed(d)) == stay)
            for c in all:
                await c.close()

        run(go())

    def test_presence_keeper_dies_behind_a_reload_its_grace_holds(self):
        d = self.daemon(self.settings(grace="1h"), workers=1)

        async def go():
            all = [await self.user(d, "u%d" % n, "chat") for n in range(3)]
            self.assertEqual(len(listed(d)), 3)
            d.reload(presence={"grace": "0"})
            os.killpg(d.workers()[0]["keeper_pid"], signal.SIGKILL)
            wait_until("nobody is there", lambda: listed(d) == {})
            for c in all:
                await c.close()

        run(go())

    def test_presence_follows_the_rule_over_a_reload(self):
        d = self.daemon(self.settings(grace="0"), workers=2)

        async def go():
            all = [await self.user(d, "u%d" % n, "chat", "late") for n in range(10)]
            with self.assertRaises(CtlError):
                listed(d, "late")
            d.reload(**{"channel late": {"presence": "yes"}})
            wait_until("all are there", lambda: len(listed(d, "late")) == 10)
            d.reload(**{"channel chat": {"presence": "no"}})
            d.reload(**{"channel chat": {"presence": "yes"}})
            wait_until("all are there", lambda: len(listed(d)) == 10)
            for c in all:
                await c.close()

        run(go())

    def test_presence_new_token_shows_new_info(self):
        d = self.daemon(self.settings())

        async def go():
            a = await self.user(d, "ann", "chat", info={"mood": 1})
            await a.ok(auth=self.key.token(sub="ann", info={"mood": 2}))
            wait_until("it shows", lambda: [m["info"] for m in listed(d).values()] ==
                       [{"mood": 2}])
            await self.event(a, "join")
            await self.quiet(d, a)
            await a.close()

        run(go())

    def test_presence_wsctl_lists_all(self):
        d = self.daemon(self.settings())

        async def go():
            await self.user(d, "ann\u202e", "chat", info={"name": "A"})
            b = await V1.open(d, "chat")
            text = d.wsctl("presence", "chat").stdout
            self.assertIn("ann\\u{202e}", text)
            self.assertIn('{"name":"A"}', text)
            self.assertIn(b.hello["client"], text)
            self.assertNotEqual(d.wsctl("presence", "news", check=False).returncode, 0)

        run(go())


class Many(Presence):
    def test_presence_ten_thousand_are_listed(self):
        """They are another host's, told as it would."""
        redis, (d,) = self.hosts(1, expiry=3600)
        node = "00000000000000aa"
        key = "wscast:{!}presence:" + node
        conn = redis.connect()
        for n in range(0, 10000, 500):
            conn.command("HSET", key, *(x for i in range(n, n + 500) for x in
                         ("%016xchat" % (i + 1),
                          '["%016x",0,"user%d","{\\"n\\":%d}"]' % (i + 1, i, i))))
        conn.command("PUBLISH", "wscast:!presence",
                     '{"node":"%s","n":10000,"sum":"0000000000000000"}' % node)
        conn.close()

        async def go():
            a = await V1.open(d, "chat")
            wait_until("all are there", lambda: d.ctl("presence", channel="chat")["total"] == 10001)
            self.assertEqual(len(listed(d)), 10001)
            found, after, pages = {}, 0, 0
            while True:
                page = await a.ok(presence="chat", **({"after": after} if after else {}))
                found.update((m["client"], m) for m in page["clients"])
                pages += 1
                if "next" not in page:
                    break
                after = page["next"]
            self.assertEqual(len(found), 10001)
            self.assertGreater(pages, 10)
            self.assertEqual(found["%016x" % 77]["info"], {"n": 76})
            self.assertEqual(len((await a.ok(presence="chat", limit=3))["clients"]), 3)
            # Who asks on and on is refused before the ring is full of answers.
            n = 0
            while True:
                n += 1
                msg = await a.ask(presence="chat")
                if "error" in msg:
                    self.assertEqual(msg["error"]["code"], "rate_limited")
                    break
            self.assertGreater(n, 10)
            self.assertEqual(d.metric("presence_answers_refused_total"), 1)
            await a.ws.close()

        run(go())
        shown = json.loads(d.wsctl("--json", "presence", "chat").stdout)["clients"]
        self.assertGreaterEqual(len(shown), 10000)


class TwoHosts(Presence):
    def test_presence_hosts_tell_each_other(self):
        _, (d, e) = self.hosts(grace="300ms")

        async def go():
            a = await V1.open(d, "chat")
            await self.event(a, "join")
            b = await self.user(e, "bob", "chat", info=[1])
            bob = {"client": b.hello["client"], "user": "bob", "info": [1]}
            self.assertEqual(await self.event(a, "join"), bob)
            wait_until("both have both", lambda: listed(d) == listed(e) and len(listed(d)) == 2)
            await b.close()
            self.assertEqual(await self.event(a, "leave"), bob)
            wait_until("both have one", lambda: listed(d) == listed(e) and len(listed(d)) == 1)
            await a.close()

        run(go())

    def test_presence_grace_holds_over_hosts(self):
        _, (d, e) = self.hosts(grace="30s")

        async def go():
            a = await V1.open(d, "chat")
            await self.event(a, "join")
            here = d
            b = await self.user(here, "bob", "chat")
            bob = await self.event(a, "join")
            for there in (e, d, e):
                before = here.status()["connections"]
                await b.close()
                wait_until("it is gone", lambda: here.status()["connections"] < before)
                # The other host has heard it, once it has heard what came behind it.
                mark = await V1.open(here, "chat")
                await self.event(a, "join")
                wait_until("heard", lambda: mark.hello["client"] in listed(there))
                b = await self.user(there, "bob", "chat")
                await mark.close()
                self.assertEqual((await self.event(a, "leave"))["client"], mark.hello["client"])
                wait_until("one bob", lambda: len(listed(d)) == 2 and listed(d) == listed(e))
                self.assertEqual(listed(d)[bob["client"]], bob)
                here = there
            await self.quiet(d, a)
            await a.close()
            await b.close()

        run(go())

    def test_presence_killed_host_is_gone_within_expiry_and_not_before(self):
        redis, (d, e) = self.hosts(grace="0", expiry=6)

        async def go():
            a = await V1.open(d, "chat")
            await self.event(a, "join")
            all = [await self.user(e, "u%d" % n, "chat") for n in range(5)]
            for _ in all:
                await self.event(a, "join")
            key = self.hash_of(redis, 5)
            self.crash(e)
            # Redis forgets it when it was not heard for the expiry, as the other host does.
            left = int(redis.cli("PTTL", key)) / 1000
            begun = time.monotonic()
            self.assertEqual(len(listed(d)), 6)
            told = {(await self.event(a, "leave"))["client"] for _ in all}
            took = time.monotonic() - begun
            self.assertEqual(told, {c.hello["client"] for c in all})
            self.assertGreater(took, left - 0.5)
            self.assertEqual(len(listed(d)), 1)
            await a.close()

        run(go())

    def test_presence_host_that_starts_knows_those_of_a_killed_one(self):
        """Until their expiry, as the others do; also when there are no others."""
        expiry = 6
        redis, (d, e) = self.hosts(grace="0", expiry=expiry)

        async def go():
            a = await V1.open(d, "chat")
            await self.event(a, "join")
            all = [await self.user(e, "u%d" % n, "chat") for n in range(5)]
            for _ in all:
                await self.event(a, "join")
            for gone, n in ((e, 6), (d, 1)):
                key = self.hash_of(redis, 5 if gone is e else 1)
                self.crash(gone)
                left = int(redis.cli("PTTL", key)) / 1000
                begun = time.monotonic()
                f = self.daemon({"feed": {"source": "pubsub"},
                                 **self.settings(grace="0", expiry=expiry)}, redis=redis)
                wait_until("it has them", lambda: len(listed(f)) == n)
                b = await V1.open(f)
                if gone is e:
                    self.assertEqual(listed(f), listed(d))
                    await b.ok(subscribe="chat")
                    n += 1
                wait_until("they are gone", lambda: len(listed(f)) < n)
                took = time.monotonic() - begun
                print("gone %.2f s after they were to be" % (took - left))
                self.assertGreater(took, left - 0.5)
                self.assertLess(took, left + 2 * expiry)  # who stood still gives it one more
                wait_until("all of them", lambda: len(listed(f)) == (2 if gone is e else 0))
                if gone is e:
                    await b.close()
                    f.stop()
            for c in [a] + all:
                await c.ws.close()
            await b.close()

        run(go())

    def test_presence_host_that_comes_later_knows_all(self):
        redis, (d,) = self.hosts(1, expiry=6)

        async def go():
            all = [await self.user(d, "u%d" % n, "chat") for n in range(200)]
            e = self.daemon({"feed": {"source": "pubsub"}, **self.settings(expiry=6)},
                            redis=redis)
            wait_until("it has all", lambda: listed(e) == listed(d) and len(listed(e)) == 200)
            # A Redis that lost everything is told anew, and nobody is told anything.
            redis.cli("FLUSHALL")
            wait_until("the hash is back",
                       lambda: redis.cli("KEYS", "wscast:{!}presence:*").strip() != "")
            self.assertEqual(len(listed(e)), 200)
            # The link is cut: all is right again behind it.
            redis.cli("CLIENT", "KILL", "TYPE", "normal")
            redis.cli("CLIENT", "KILL", "TYPE", "pubsub")
            for c in all[:50]:
                await c.close()
            wait_until("it has the others", lambda: set(listed(e)) == set(listed(d)) and
                       len(listed(e)) == 150)
            for c in all[50:]:
                await c.close()

        run(go())

    def test_presence_one_key_for_a_host_that_expires(self):
        redis, (d,) = self.hosts(1)

        async def go():
            all = [await self.user(d, "u%d" % n, "chat") for n in range(20)]
            key = self.hash_of(redis, 20)
            self.assertEqual(redis.cli("KEYS", "wscast:{!}pres*").strip(), key)
            self.assertTrue(0 < int(redis.cli("PTTL", key)) <= 60000)
            self.crash(d)
            # What a host leaves that died before it gave its hash an end does not stay.
            redis.cli("PERSIST", key)
            redis.cli("PERSIST", "wscast:{!}hosts")
            e = self.daemon({"feed": {"source": "pubsub"}, **self.settings(expiry=6)},
                            redis=redis)
            wait_until("it is seen", lambda: len(listed(e)) == 20)
            wait_until("the hash expires", lambda: redis.cli("EXISTS", key).strip() == "0")
            wait_until("they are gone", lambda: listed(e) == {})
            e.stop()
            wait_until("nothing is left", lambda: redis.cli("KEYS", "*") == "")

        run(go())

    def test_presence_host_that_stops_says_so(self):
        _, (d, e) = self.hosts(grace="300ms", expiry=3600)

        async def go():
            a = await V1.open(d, "chat")
            await self.event(a, "join")
            b = await self.user(e, "bob", "chat")
            bob = await self.event(a, "join")
            e.stop()
            self.assertEqual(await self.event(a, "leave"), bob)
            await a.close()
            await b.ws.close()

        run(go())

    def test_presence_hostile_messages_change_nothing(self):
        redis, (d,) = self.hosts(1, expiry=6)

        async def go():
            a = await V1.open(d, "chat")
            node = "00000000000000ab"
            bad = ['', 'x', '[]', '{}', '{"node":7}', '{"node":"x"}', '{"node":"%s"}' % ("g" * 16),
                   '[' * 3000]
            bad += ['{"node":"%s","n":0,"sum":"%016d",%s}' % (node, 0, x) for x in (
                '"set":[]', '"set":{"x":1}', '"del":{"a":1}', '"del":[1,"x",null]',
                '"set":{"0000000000000001chat":["0000000000000001",0,"%s",""]}' % ("u" * 201),
                '"set":{"0000000000000001chat":["0000000000000001",0,"u","%s"]}' % ("1" * 1025),
                '"set":{"0000000000000001chat":["0000000000000001",0,"u","{"]}',
                '"set":{"0000000000000001chat":["0000000000000000",0,"u",""]}',
                '"set":{"0000000000000001!chat":["0000000000000001",0,"u",""]}',
                '"set":{"000000000000000Xchat":["0000000000000001",0,"u",""]}')]
            for text in bad:
                redis.cli("-x", "PUBLISH", "wscast:!presence", stdin=text.encode())
            redis.cli("SET", "wscast:{!}presence:" + node, "no hash")
            redis.cli("PUBLISH", "wscast:!presence", '{"node":"%s","n":9,"sum":"x"}' % node)
            redis.cli("PUBLISH", "wscast:!presence", '{"node":"%s","n":1,"sum":"0","busy":true,'
                      '"set":{"0000000000000001chat":["0000000000000001",0,"good","1"]}}' % node)
            wait_until("the good one is there", lambda: len(listed(d)) == 2)
            self.assertEqual(listed(d)["0000000000000001"]["user"], "good")
            await self.event(a, "join")
            await self.event(a, "join")
            self.assertEqual([d.metric("presence_" + n) for n in ("hosts", "members")], [1, 2])
            self.assertGreater(d.metric("presence_malformed_total"), len(bad))
            self.assertGreater(d.metric("presence_scans_total"), 0)
            self.assertEqual(d.metric("peers_up"), 1)
            self.assertEqual(d.metric("peers_refused_total"), d.metric("presence_scans_total"))
            wait_until("and gone, as nobody says more", lambda: len(listed(d)) == 1)
            self.assertEqual([d.metric("presence_" + n) for n in (
                "hosts", "hosts_silent_total", "joins_total", "leaves_total")], [0, 1, 2, 1])
            await a.close()

        run(go())


if __name__ == "__main__":
    unittest.main()
