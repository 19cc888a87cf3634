"""Tokens: where they stand, what they allow, and what becomes of them."""

import asyncio
import math
import os
import re
import signal
import sys
import tempfile
import time
import unittest

import websockets

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from harness import SANITIZED, Case, CtlError, Daemon, wait_until
from jwt import Key
from test_limits import ask
from wsclient import V1, close_code, connect, raw, run, soon


def bearer(token):
    return {"extra_headers": {"Authorization": "Bearer " + token}}


async def status_of(awaitable):
    """The HTTP status with which a handshake is refused; 101 when it is not."""
    try:
        ws = await awaitable
    except websockets.InvalidStatusCode as e:
        return e.status_code
    await (ws.ws if isinstance(ws, V1) else ws).close()
    return 101


def turns(d):
    """How many turns its workers' loops have made, by the bound of their times in ms."""
    counts = {}
    for bound, n in re.findall(r'^wscast_turn_seconds_bucket\{.*le="(.*)"\} (\d+)$',
                               d.wsctl("metrics").stdout, re.M):
        counts[float(bound) * 1000] = counts.get(float(bound) * 1000, 0) + int(n)
    return counts


def longest_turn(before, after):
    """The bound below which all turns between two looks were."""
    made = after[math.inf] - before[math.inf]
    return min(bound for bound in after if after[bound] - before[bound] == made)


class Auth(Case):
    def setUp(self):
        folder = tempfile.TemporaryDirectory(prefix="wscast-auth-")
        self.addCleanup(folder.cleanup)
        self.folder = folder.name

    def server(self, mode="required", alg="HS256", settings=None, **kwargs):
        """A daemon and the key whose tokens it takes."""
        self.key = Key(self.folder, alg)
        auth = {"mode": mode}
        auth["secret_file" if alg == "HS256" else "public_key_file"] = self.key.path
        kwargs.setdefault("workers", 1)
        settings = dict(settings or {})
        settings["auth"] = dict(auth, **settings.get("auth", {}))
        return self.daemon(settings, **kwargs)

    # ---- modes and places ----

    def test_auth_modes_by_no_good_and_bad_token(self):
        want = {"none": (101, 101, 101), "optional": (101, 101, 401),
                "required": (401, 101, 401)}
        for mode, statuses in want.items():
            d = self.server(mode)
            good, bad = self.key.token(sub="ann"), self.key.token(sub="ann") + "A"

            async def go():
                for token, status in zip((None, good, bad), statuses):
                    kwargs = bearer(token) if token else {}
                    self.assertEqual(await status_of(raw(d, "news", **kwargs)), status)
                    self.assertEqual(await status_of(V1.open(d, **kwargs)), status)

            run(go())
            d.stop()

    def test_auth_refusal_says_why(self):
        d = self.server()
        cases = {"": r"WWW-Authenticate: Bearer\r\n",
                 "Authorization: Bearer x\r\n": r'error="invalid_token"',
                 "Authorization: Basic eDp5\r\n": r"WWW-Authenticate: Bearer\r\n",
                 "Authorization: Bearer %s\r\n" % self.key.token(-60): r"has expired"}
        for header, want in cases.items():
            status, head, s = ask(d, header)
            s.close()
            self.assertEqual(status, 401)
            self.assertRegex(head, want)
        self.assertEqual(d.counter("tokens_refused"), 2)
        self.assertEqual(d.counter("tokens_missing"), 2)

    def test_auth_token_in_each_place(self):
        d = self.server()
        token = self.key.token(sub="ann")

        async def go():
            for path in ("/ws/news?token=" + token, "/ws?channel=news&token=" + token):
                await (await connect(d, path)).close()
            # A browser goes on only when one of what it offered is chosen.
            ws = await connect(d, "/ws/news", subprotocols=["bearer." + token])
            self.assertEqual(ws.subprotocol, "bearer." + token)
            await ws.close()
            for offer in (["wscast.v1", "bearer." + token], ["bearer." + token, "wscast.v1"]):
                ws = await connect(d, "/ws", subprotocols=offer)
                self.assertEqual(ws.subprotocol, "wscast.v1")
                await ws.close()
            # No one can say which of two holds.
            self.assertEqual(await status_of(
                connect(d, "/ws/news?token=" + token, **bearer(token))), 400)
            for path, offer in (("/ws/news?token=%s&token=%s" % (token, token), []),
                                ("/ws/news", ["bearer." + token, "bearer.x"])):
                self.assertEqual(await status_of(connect(d, path, subprotocols=offer)), 400)
            self.assertEqual(await status_of(connect(d, "/ws/news?token=&token=" + token)), 101)
            self.assertEqual(await status_of(connect(d, "/ws/news?token=%zz")), 400)

        run(go())

    def test_auth_long_token_in_subprotocol_is_echoed(self):
        d = self.server()
        token = self.key.token(sub="ann", subscribe=["x" * 190] * 15)

        async def go():
            ws = await connect(d, "/ws/news", subprotocols=["bearer." + token])
            self.assertEqual(ws.subprotocol, "bearer." + token)
            await ws.close()

        self.assertGreater(len(token), 3000)
        run(go())

    def test_auth_each_algorithm_in_the_sandbox(self):
        """libcrypto asks the kernel for nothing that the sandbox forbids."""
        for alg in ("EdDSA", "ES256", "RS256"):
            d = self.server(alg=alg)

            async def go():
                for _ in range(3):
                    self.assertEqual(await status_of(
                        raw(d, "news", **bearer(self.key.token(sub="ann")))), 101)
                    self.assertEqual(await status_of(
                        raw(d, "news", **bearer(self.key.token(sub="ann")[:-8] + "AAAAAAAA"))),
                        401)

            run(go())
            self.assertEqual(d.workers()[0]["restarts"], 0)
            d.stop()

    def test_auth_token_reaches_no_log(self):
        """Neither the log nor what wsctl shows has a token, whatever went wrong."""
        d = self.server("optional", settings={"channel shut": {"subscribe": "nobody"}})
        token = self.key.token(sub="ann")
        bad = token[:-4] + "AAAA"

        async def go():
            ws = await connect(d, "/ws/news?token=" + token)
            v1 = await V1.open(d)
            await v1.error(auth=bad)
            await v1.ok(auth=token)
            for path in ("/ws/news?token=" + bad, "/ws/shut?token=" + token, "/x?token=" + token,
                         "/ws/news?x=%%&token=" + token):
                self.assertNotEqual(await status_of(connect(d, path)), 101)
            shown = [d.wsctl("clients").stdout, d.wsctl("--json", "clients").stdout,
                     d.wsctl("status").stdout]
            for line in d.ctl("clients")["clients"]:
                shown.append(d.wsctl("client", line["client"]).stdout)
                shown.append(d.wsctl("--json", "client", line["client"]).stdout)
            await ws.close()
            await v1.close()
            return shown

        shown = run(go())
        os.kill(d.workers()[0]["pid"], signal.SIGKILL)
        d.stop()
        signature = token.rsplit(".", 1)[1]
        for text in shown + [d.log()]:
            self.assertNotIn(signature, text)
            self.assertNotIn(bad, text)

    # ---- rules ----

    def test_auth_rule_words_by_token(self):
        """Each word, for no token, a token, one with the claim, one with another."""
        words = {"anyone": (1, 1, 1, 1), "authenticated": (0, 1, 1, 1),
                 "claim": (0, 0, 1, 0), "nobody": (0, 0, 0, 0)}
        rules = {"channel %s:*" % w: {"subscribe": w, "publish": w} for w in words}
        d = self.server("optional", settings=rules)
        tokens = [None, self.key.token(sub="ann"),
                  self.key.token(subscribe=["*:in"], publish=["*:in"]),
                  self.key.token(subscribe=["*:out"], publish=["*:out"])]

        async def go():
            for i, token in enumerate(tokens):
                kwargs = bearer(token) if token else {}
                v1 = await V1.open(d, **kwargs)
                for word, allowed in words.items():
                    want = "ok" if allowed[i] else "error"
                    for request in ({"subscribe": word + ":in"},
                                    {"publish": word + ":in", "data": 1}):
                        answer = await v1.ask(**request)
                        self.assertIn(want, answer, (word, i))
                        if want == "error":
                            self.assertEqual(answer["error"]["code"], "forbidden")
                    self.assertEqual(await status_of(raw(d, word + ":in", **kwargs)),
                                     101 if allowed[i] else 403)
                await v1.close()

        run(go())

    def test_auth_subject_in_a_rule_is_ones_own(self):
        d = self.server(settings={
            "channel user:{sub}": {"subscribe": "authenticated", "publish": "authenticated"},
            "channel *": {"subscribe": "nobody"}})

        async def go():
            ann = await V1.open(d, **bearer(self.key.token(sub="ann")))
            star = await V1.open(d, **bearer(self.key.token(sub="*")))
            nobody = await V1.open(d, **bearer(self.key.token()))
            await ann.ok(subscribe="user:ann")
            await star.ok(subscribe="user:*")
            self.assertEqual(await ann.error(subscribe="user:bob"), "forbidden")
            self.assertEqual(await star.error(subscribe="user:ann"), "forbidden")
            self.assertEqual(await nobody.error(subscribe="user:ann"), "forbidden")
            self.assertEqual(await star.error(publish="user:ann", data=1), "forbidden")
            await ann.ok(publish="user:ann", data=1)
            self.assertEqual((await ann.event())["data"], 1)
            for v1 in (ann, star, nobody):
                await v1.close()

        run(go())

    def test_auth_channels_of_the_token_are_subscribed(self):
        d = self.server(settings={"channel shut": {"subscribe": "nobody"},
                                  "channel *": {"subscribe": "claim", "publish": "nobody"}})

        async def go():
            v1 = await V1.open(d, **bearer(self.key.token(channels=["a", "shut", "b"])))
            pushes = [await v1.event() for _ in range(3)]
            refused = [p["unsubscribed"] for p in pushes if "unsubscribed" in p]
            self.assertEqual([(r["channel"], r["code"]) for r in refused],
                             [("shut", "forbidden")])
            subscribed = {p["subscribed"]["channel"]: p["subscribed"] for p in pushes
                          if "subscribed" in p}
            self.assertEqual(set(subscribed), {"a", "b"})
            self.assertEqual(set(subscribed["a"]), {"channel", "epoch", "offset"})
            d.publish("b", "1")
            self.assertEqual((await v1.event())["channel"], "b")
            self.assertEqual(await v1.error(subscribe="c"), "forbidden")
            ws = await connect(d, "/ws", **bearer(self.key.token(channels=["a", "b"])))
            wait_until("both are subscribed", lambda: d.status()["subscriptions"] == 4)
            d.publish("a", "2")
            self.assertEqual(await soon(ws.recv()), "2")
            self.assertEqual(await status_of(
                connect(d, "/ws", **bearer(self.key.token(channels=["shut"])))), 403)
            await ws.close()
            await v1.close()

        run(go())

    # ---- new tokens ----

    def test_auth_in_band_changes_rights_at_once(self):
        d = self.server("optional", settings={"channel *": {"subscribe": "claim"}})

        async def go():
            v1 = await V1.open(d)
            self.assertEqual(await v1.error(subscribe="a"), "forbidden")
            token = self.key.token(600, sub="ann", subscribe=["a", "b"], channels=["own"])
            ok = await v1.ok(auth=token)
            self.assertAlmostEqual(ok["expires"], time.time() + 600, delta=30)
            self.assertEqual((await v1.event())["subscribed"]["channel"], "own")
            await v1.ok(subscribe="a")
            await v1.ok(subscribe="b")
            self.assertEqual(
                await v1.ok(auth=self.key.token(None, sub="ann", subscribe=["b", "c"])),
                {"expires": None})
            gone = [(await v1.event())["unsubscribed"] for _ in range(2)]
            self.assertEqual({g["channel"] for g in gone}, {"a", "own"})
            self.assertEqual({g["code"] for g in gone}, {"forbidden"})
            self.assertEqual(d.status()["subscriptions"], 1)
            d.publish("a", "1")
            d.publish("b", "2")
            self.assertEqual((await v1.event())["channel"], "b")
            await v1.ok(subscribe="c")
            await v1.close()

        run(go())

    def test_auth_in_band_refused_changes_nothing(self):
        d = self.server(settings={"channel *": {"subscribe": "claim"}})

        async def go():
            v1 = await V1.open(d, "a", **bearer(self.key.token(sub="ann", subscribe=["a"])))
            for token in (self.key.token(sub="bob"), self.key.token(), self.key.token(-60, sub="ann"),
                          "x", "", self.key.token(sub="ann") + "A"):
                self.assertEqual(await v1.error(auth=token), "unauthorized")
            d.publish("a", "1")
            self.assertEqual((await v1.event())["data"], 1)
            # Whoever does not stop trying is closed.
            for n in range(30):
                await v1.send(auth="x")
            self.assertEqual(await close_code(v1.ws), 4429)

        run(go())

    def test_auth_in_band_without_keys_is_a_bad_request(self):
        d = self.daemon(workers=1)

        async def go():
            v1 = await V1.open(d)
            self.assertEqual(await v1.error(auth="x"), "bad_request")
            await v1.close()

        run(go())

    def test_auth_revoked_token_is_refused_everywhere(self):
        d = self.server("optional")

        async def go():
            kept = await V1.open(d)
            v1 = await V1.open(d, **bearer(self.key.token(sub="ann", jti="one")))
            d.wsctl("revoke", "--jti", "one")
            self.assertEqual(await close_code(v1.ws), 4401)
            token = self.key.token(sub="ann", jti="one")
            self.assertEqual(await status_of(raw(d, "news", **bearer(token))), 401)
            self.assertEqual(await kept.error(auth=token), "unauthorized")
            await kept.ok(auth=self.key.token(sub="ann", jti="two"))
            d.wsctl("revoke", "--user", "bob")
            self.assertEqual(await status_of(
                raw(d, "news", **bearer(self.key.token(sub="bob")))), 401)
            await kept.close()

        run(go())

    def test_auth_waiting_history_is_refused_when_rights_shrink(self):
        """What Redis has not confirmed yet is not answered by rights that are gone."""
        redis = self.redis()
        d = self.server(settings={"channel *": {"subscribe": "claim"}}, redis=redis)

        async def go():
            v1 = await V1.open(d, **bearer(self.key.token(sub="ann", subscribe=["a", "b"])))
            redis.proc.send_signal(signal.SIGSTOP)
            try:
                await v1.send(id=1, history="a", limit=5)
                await v1.send(id=2, history="b", limit=5)
                await v1.send(id=3, subscribe="b")
                await v1.send(id=4, unsubscribe="b")
                await v1.send(id=5, auth=self.key.token(sub="ann", subscribe=["b"]))
                answers = {}
                while len(answers) < 4:
                    answer = await soon(v1.recv())
                    answers[answer["id"]] = answer
            finally:
                redis.proc.send_signal(signal.SIGCONT)
            self.assertEqual(answers[1]["error"]["code"], "forbidden")
            self.assertIn("ok", answers[4])
            self.assertIn("ok", answers[5])
            # The other still waits, though its channel is subscribed no more.
            answer = await soon(v1.recv())
            self.assertEqual((answer["id"], answer["ok"]["messages"]), (2, []))
            await v1.close()

        run(go())

    def test_auth_waiting_presence_is_answered_whatever_others_have(self):
        """It waits for no channel: not for the one that the worker took first either."""
        d = self.server(settings={"channel chat": {"presence": "yes", "subscribe": "claim"},
                                  "channel *": {"subscribe": "claim"}})

        async def go():
            bob = await V1.open(d, "a", **bearer(self.key.token(sub="bob", subscribe=["a"])))
            ann = self.key.token(sub="ann", subscribe=["chat"])
            v1 = await V1.open(d, **bearer(ann))
            os.kill(d.pid, signal.SIGSTOP)
            try:
                await v1.send(id=1, presence="chat")
                await v1.send(id=2, auth=ann)
                answer = await soon(v1.recv())
                self.assertEqual((answer["id"], list(answer)[1]), (2, "ok"))
            finally:
                os.kill(d.pid, signal.SIGCONT)
            answer = await soon(v1.recv())
            self.assertEqual(answer, {"id": 1, "ok": {"clients": [], "total": 0}})
            await v1.close()
            await bob.close()

        run(go())

    # ---- reload ----

    def test_auth_tighter_rules_end_subscriptions(self):
        """Of all connections, also when the worker is killed in the midst of it."""
        d = self.server(settings={"channel *": {"subscribe": "anyone"}})
        n = 200

        async def go():
            claims = bearer(self.key.token(sub="ann", subscribe=["kept"]))
            clients = [await V1.open(d, "a", "kept", "b", **claims) for _ in range(n)]
            plain = await raw(d, "a", **claims)
            kept = await raw(d, "kept", **claims)
            pid = d.workers()[0]["pid"]
            d.reload(**{"channel *": {"subscribe": "claim"}})
            os.kill(pid, signal.SIGKILL)
            d.wait_serving(but=(pid,))
            for v1 in clients:
                gone = set()
                while len(gone) < 2:  # the one at which it was killed may be told again
                    told = (await v1.event())["unsubscribed"]
                    gone.add((told["channel"], told["code"]))
                self.assertEqual(gone, {("a", "forbidden"), ("b", "forbidden")})
            self.assertEqual(await close_code(plain), 4403)
            wait_until("the others are left", lambda: d.status()["subscriptions"] == n + 1)
            d.publish("a", "1")
            d.publish("kept", "2")
            self.assertEqual(await soon(kept.recv()), "2")
            again = 0
            for v1 in clients:
                while "unsubscribed" in (msg := await v1.event()):
                    again += 1
                self.assertEqual(msg["data"], 2)
            self.assertLessEqual(again, 1)
            await asyncio.gather(*(v1.close() for v1 in clients))
            await kept.close()

        run(go())

    def test_auth_subscription_on_its_way_ends_when_it_is_forbidden(self):
        """What Redis has not confirmed yet is told as what it has."""
        redis = self.redis()
        d = self.server(settings={"channel *": {"subscribe": "anyone"}}, redis=redis)

        async def go():
            token = bearer(self.key.token(sub="ann"))
            redis.proc.send_signal(signal.SIGSTOP)
            try:
                plain = await raw(d, "a", **token)
                v1 = await V1.open(d, **token)
                await v1.send(id="b", subscribe="b")
                await v1.ok(ping={})
                d.reload(**{"channel *": {"subscribe": "nobody"}})
                self.assertEqual(await close_code(plain), 4403)
                self.assertIn("error", await v1.event())
                gone = (await v1.event())["unsubscribed"]
                self.assertEqual((gone["channel"], gone["code"]), ("b", "forbidden"))
            finally:
                redis.proc.send_signal(signal.SIGCONT)
            await v1.close()

        run(go())

    def test_auth_required_from_now_on_ends_who_has_no_token(self):
        d = self.server("optional")

        async def go():
            v1 = await V1.open(d, "news")
            plain = await raw(d, "news")
            known = await V1.open(d, "news", **bearer(self.key.token(sub="ann")))
            d.reload(auth={"mode": "required", "secret_file": self.key.path})
            self.assertEqual((await v1.event())["bye"]["code"], 4401)
            self.assertEqual(await close_code(v1.ws), 4401)
            self.assertEqual(await close_code(plain), 4401)
            await known.ok(ping={})
            self.assertEqual(known.events, [])
            await known.close()

        run(go())
        self.assertEqual(d.counter("tokens_missing"), 2)

    # ---- expiry ----

    def test_auth_expiry_is_told_and_closes(self):
        d = self.server(settings={"auth": {"leeway": "0"}})

        async def go():
            exp = int(time.time()) + 8
            mortal = await V1.open(d, "news", **bearer(self.key.token(sub="a", exp=exp)))
            renewed = await V1.open(d, **bearer(self.key.token(sub="b", exp=exp)))
            endless = await V1.open(d, **bearer(self.key.token(sub="b", exp=exp)))
            plain = await raw(d, "news", **bearer(self.key.token(exp=exp)))
            told = await mortal.event()
            self.assertIn(told["expires_in"], range(1, 9))
            for v1 in (renewed, endless):
                self.assertIn("expires_in", await v1.event())
            await renewed.ok(auth=self.key.token(3600, sub="b"))
            await endless.ok(auth=self.key.token(None, sub="b"))
            self.assertEqual((await mortal.event())["bye"]["code"], 4401)
            self.assertEqual(await close_code(mortal.ws), 4401)
            self.assertGreaterEqual(time.time(), exp)
            self.assertEqual(await close_code(plain), 4401)
            for v1 in (renewed, endless):
                await v1.ok(ping={})
                self.assertEqual(v1.events, [])
                await v1.close()

        run(go())
        self.assertEqual(d.counter("closed_expired"), 2)

    def test_auth_pings_go_on_beside_the_expiry(self):
        """One deadline serves both: neither hides the other."""
        d = self.server(settings={"limits": {"ping_interval": "300ms", "pong_timeout": "4s"}})

        async def go():
            v1 = await V1.open(d, **bearer(self.key.token(61, sub="a")))
            self.assertIn((await v1.event())["expires_in"], range(50, 61))
            await v1.ok(ping={})
            # A client that answers no ping is closed, though its token would live.
            v1.ws.transport.pause_reading()
            wait_until("it is closed", lambda: d.counter("closed_timeout") == 1)
            v1.ws.transport.abort()

        run(go())

    async def expire_together(self, d, n):
        """n tokens end in one second; every other one is renewed before. Returns the
        longest turn of the worker meanwhile, in ms, and the longest before that."""
        clients = []
        for i in range(0, n, 50):
            clients += await asyncio.gather(
                *(V1.open(d, **bearer(self.key.token(sub="u"))) for _ in range(50)))
        begun = turns(d)
        lives = 30 if SANITIZED else 10
        exp = int(time.time()) + lives
        await asyncio.gather(*(v1.ok(auth=self.key.token(sub="u", exp=exp))
                               for v1 in clients))
        for v1 in clients:
            self.assertIn((await v1.event())["expires_in"], range(1, lives + 1))
        await asyncio.gather(*(v1.ok(auth=self.key.token(sub="u"))
                               for v1 in clients[::2]))
        before = turns(d)
        codes = await asyncio.gather(*(close_code(v1.ws) for v1 in clients[1::2]))
        after = turns(d)
        self.assertEqual(set(codes), {4401})
        self.assertGreaterEqual(time.time(), exp)
        self.assertGreater(after[math.inf], before[math.inf])
        for v1 in clients[::2]:
            await v1.ok(ping={})
        await asyncio.gather(*(v1.close() for v1 in clients[::2]))
        return longest_turn(before, after), longest_turn(begun, before)

    def test_auth_thousand_expire_in_one_second(self):
        """Each is told; who renews stays; the others go in small batches, so that no
        turn takes 50 ms. What else runs here may make one longer, but not each time."""
        d = self.server(settings={"auth": {"leeway": "0"}})
        n, times, longest = 1000, 0, math.inf
        while longest > 50:
            self.assertLess(times, 5, "a turn of over 50 ms each time")
            longest, before = run(self.expire_together(d, n))
            times += 1
            print("no turn of the worker over %g ms while they ended, %g ms before that" %
                  (longest, before))
            if SANITIZED:
                break
        self.assertEqual(d.counter("closed_expired"), times * n // 2)

    # ---- keys ----

    def test_auth_keys_rotate_under_traffic(self):
        """Old and new keys hold at once, then the new alone; nobody is closed for it."""
        for alg in ("HS256", "ES256"):
            d = self.server(alg=alg, settings={"channel *": {"publish": "authenticated"}})
            old, new = self.key, Key(self.folder, alg, "next")

            async def go():
                v1 = await V1.open(d, "news", **bearer(old.token(sub="ann")))

                async def opens(key):
                    await v1.ok(publish="news", data=1)
                    return await status_of(raw(d, "news", **bearer(key.token(sub="bob")))) == 101

                self.assertEqual([await opens(old), await opens(new)], [True, False])
                old.write(old, new)
                d.ctl("reload")
                self.assertEqual([await opens(old), await opens(new)], [True, True])
                old.write(new)
                d.ctl("reload")
                self.assertEqual([await opens(old), await opens(new)], [False, True])
                # What is no key changes nothing.
                with open(old.path, "w") as f:
                    f.write("short")
                with self.assertRaises(CtlError):
                    d.ctl("reload")
                self.assertEqual([await opens(old), await opens(new)], [False, True])
                await v1.ok(auth=new.token(sub="ann"))
                await v1.close()

            run(go())
            self.assertEqual(d.workers()[0]["restarts"], 0)
            d.stop()

    def test_auth_keys_may_come_by_reload(self):
        """Also to processes that began without, and can open no file any more."""
        d = self.daemon({"auth": {"mode": "none"}}, workers=1)
        key = Key(self.folder, "RS256")

        async def go():
            self.assertEqual(await status_of(raw(d, "news")), 101)
            d.reload(auth={"mode": "required", "public_key_file": key.path})
            self.assertEqual(await status_of(raw(d, "news")), 401)
            self.assertEqual(
                await status_of(raw(d, "news", **bearer(key.token(sub="a")))), 101)

        run(go())
        self.assertEqual(d.workers()[0]["restarts"], 0)

    def test_auth_settings_faults_say_what_to_do(self):
        short = os.path.join(self.folder, "short")
        with open(short, "w") as f:
            f.write("too short\n")
        key = Key(self.folder, "EdDSA")
        cases = [({"mode": "required"}, r"without a key"),
                 ({"mode": "optional", "secret_file": short}, r"openssl rand"),
                 ({"mode": "required", "secret_file": short + "x"}, r"cannot read"),
                 ({"mode": "required", "secret_file": key.path}, r"public_key_file"),
                 ({"mode": "required", "public_key_file": key.private}, r"private key"),
                 ({"mode": "required", "public_key_file": short}, r"no key")]
        for auth, want in cases:
            with self.subTest(want):
                d = Daemon({"auth": auth}, ready=False)
                self.addCleanup(d.kill)
                self.assertNotEqual(d.wait_end(), 0)
                self.assertRegex(d.log(), r"wscast.conf:\d+: .*" + want)

    # ---- wsctl token ----

    def test_wsctl_token_is_taken_by_the_server(self):
        for alg in ("HS256", "EdDSA"):
            d = self.server(alg=alg, settings={"channel *": {"subscribe": "claim"},
                                               "auth": {"audience": "chat", "issuer": "me"}})
            where = (["--conf", d.conf] if alg == "HS256" else ["--key", self.key.private])
            token = d.wsctl("token", "--sub", "ann", "--ttl", "30s", "--channels", "own,b",
                            "--subscribe", "a:*", "--subscribe", "b:*,c:*",
                            "--channels", "c", "--aud", "chat", "--iss", "me",
                            *where).stdout.strip()

            async def go():
                v1 = await V1.open(d, **bearer(token))
                pushes = [await v1.event() for _ in range(4)]
                self.assertEqual(sorted(p["subscribed"]["channel"] for p in pushes
                                        if "subscribed" in p), ["b", "c", "own"])
                self.assertIn(max(p.get("expires_in", 0) for p in pushes), range(1, 31))
                for channel in ("a:1", "b:1", "c:1"):
                    await v1.ok(subscribe=channel)
                self.assertEqual(await v1.error(subscribe="d"), "forbidden")
                await v1.close()

            run(go())
            d.stop()

    def test_wsctl_token_faults_say_what_to_do(self):
        d = self.server(alg="EdDSA")
        for args, status, want in (([], 2, "--sub"),
                                   (["--sub", "a", "--conf", d.conf], 1, "--key"),
                                   (["--sub", "a", "--key", self.key.path], 1, "private Ed25519"),
                                   (["--sub", "a", "--key", "/no/such"], 1, "No such file"),
                                   (["--sub", "a", "--ttl", "soon"], 2, "--ttl"),
                                   (["--sub", "a", "--key", self.key.private, "--channels",
                                     b"a,\xff"], 1, "UTF-8"),
                                   (["--sub", "a"] + ["--publish", "a"] * 64, 2, "so many")):
            out = d.wsctl("token", *args, check=False)
            self.assertEqual((out.returncode, out.stdout), (status, ""), args)
            self.assertIn(want, out.stderr)

    # ---- a successor ----

    def test_auth_adoption_keeps_identity_rights_and_expiry(self):
        d = self.server(settings={"auth": {"leeway": "0"},
                                  "channel user:{sub}": {"subscribe": "authenticated"},
                                  "channel *": {"subscribe": "claim"}})

        async def go():
            exp = int(time.time()) + 10
            v1 = await V1.open(d, "a", **bearer(self.key.token(
                sub="ann", jti="j", subscribe=["a", "b"], exp=exp)))
            self.assertIn("expires_in", await v1.event())
            for _ in range(3):
                pid = d.workers()[0]["pid"]
                os.kill(pid, signal.SIGKILL)
                d.wait_serving(but=(pid,))
                await v1.ok(subscribe="b")
                await v1.ok(subscribe="user:ann")
                self.assertEqual(await v1.error(subscribe="c"), "forbidden")
                self.assertEqual(await v1.error(subscribe="user:bob"), "forbidden")
                self.assertEqual(await v1.error(auth=self.key.token(sub="bob")),
                                 "unauthorized")
            self.assertEqual(v1.events, [])  # told once
            self.assertEqual((await v1.event())["bye"]["code"], 4401)
            self.assertEqual(await close_code(v1.ws), 4401)
            self.assertGreaterEqual(time.time(), exp)
            wait_until("nothing is left of it", lambda: d.counter("arena_bytes") == 0)

        run(go())


if __name__ == "__main__":
    unittest.main()
