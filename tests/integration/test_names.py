"""A channel's name: the same names are right, and the same wrong, wherever one comes in."""

import os
import sys
import unittest
import urllib.parse

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from harness import Case, CtlError
from wsclient import V1, connect, run, soon

GOOD = ("a", "x" * 200, "é" * 100, "chat room/1?a=b&c#d%41+", "\u2028", "a!b", "\U0010ffff", "*", "..")
BAD = ("", "x" * 201, "é" * 100 + "x", "!revoke", "!", "a\nb", "\x7f", "\x85", "a\x00b", "\x1f")
NO_UTF8 = (b"\xff", b"\xc0\x80", b"\xed\xa0\x80", b"a\xc3", b"\xf4\x90\x80\x80")


class Names(Case):
    @classmethod
    def rule(cls):
        return {"channel *": {"publish": "anyone"}}

    async def raw_status(self, d, path):
        try:
            ws = await connect(d, path)
        except Exception as e:  # of a name that differs between the library's versions
            return getattr(e, "status_code", None) or e.response.status_code
        await ws.close()
        return 101

    async def check_raw(self, d, name, status):
        quoted = urllib.parse.quote(name, safe="")
        if name:  # /ws/ alone is a name of no bytes, too, but so is /ws?channel=
            self.assertEqual(await self.raw_status(d, "/ws/" + quoted), status, name)
        self.assertEqual(await self.raw_status(d, "/ws?channel=" + quoted), status, name)

    def test_names_that_are_right_go_everywhere(self):
        d = self.daemon(self.rule())

        async def go():
            v1 = await V1.open(d)
            for name in GOOD:
                self.assertEqual((await v1.ok(subscribe=name))["channel"], name)
                await v1.ok(publish=name, data=1)
                self.assertEqual((await v1.event())["channel"], name)
                await self.check_raw(d, name, 101)
                d.ctl("publish", channel=name, data="2")
                self.assertEqual((await v1.event())["data"], 2)
            await v1.close()

        run(go())

    def test_names_that_are_wrong_go_nowhere(self):
        d = self.daemon(self.rule())

        async def go():
            v1 = await V1.open(d)
            for name in BAD:
                self.assertEqual(await v1.error(subscribe=name), "bad_request", name)
                self.assertEqual(await v1.error(publish=name, data=1), "bad_request", name)
                self.assertEqual(await v1.error(unsubscribe=name), "bad_request", name)
                await self.check_raw(d, name, 400)
                for cmd, args in (("publish", {"channel": name, "data": "x"}),
                                  ("tail", {"channels": [name]})):
                    with self.assertRaises(CtlError, msg=(cmd, name)) as e:
                        d.ctl(cmd, **args)
                    self.assertEqual(e.exception.code, "bad_request")
            for name in NO_UTF8:
                await self.check_raw(d, name, 400)
            self.assertEqual(await self.raw_status(d, "/ws/%"), 400)
            self.assertEqual(await self.raw_status(d, "/ws/%f"), 400)
            self.assertEqual(await self.raw_status(d, "/ws/a%00"), 400)
            await v1.close()

        run(go())
        self.assertEqual(d.ctl("channels")["channels"], [])

    def test_reserved_names_of_redis_reach_nobody(self):
        """What servers tell each other there is no message, whoever sends it."""
        redis = self.redis()
        d = self.daemon(self.rule(), redis=redis)

        async def go():
            v1 = await V1.open(d, "news")
            for name in ("!revoke", "!presence", "!"):
                redis.cli("PUBLISH", "wscast:" + name, "{}")
            redis.cli("PUBLISH", "wscast:news", "1")
            self.assertEqual((await soon(v1.event()))["data"], 1)
            await v1.close()

        run(go())


if __name__ == "__main__":
    unittest.main()
