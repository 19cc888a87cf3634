"""What wsctl prints: tables that fit the terminal, and names that do it no harm."""

import json
import os
import re
import sys
import time
import unittest

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from wsctl_fake import STATUS, FakeCase, environment, run_on_terminal


class Terminal(FakeCase):
    HOSTILE = "x\x1b]0;owned\x07\u202egnp.exe\u200b\x9b31m\t\r\n\u2028\U000e0041"

    def clients(self, address):
        return {"ok": {"clients": [
            {"client": "0123456789abcdef", "worker": 0, "address": address,
             "protocol": "wscast.v1", "state": "open", "opened": int(time.time()) - 90,
             "channels": 3, "sent": 12345, "received": 0, "lag": 7, "queued": 2048}],
            "total": 1}}

    def channels(self, name):
        return {"ok": {"channels": [{"channel": name, "subscribers": 2, "offset": 1234567,
                                     "workers": 1, "tails": 0, "live": True}], "total": 1}}

    def plain(self, text):
        return re.sub(r"\x1b\[[0-9;]*m", "", text)

    def test_lines_fit_the_terminal(self):
        for columns in (40, 60, 80, 100, 200):
            for answer, command in ((self.clients("x" * 70), "clients"),
                                    ({"ok": STATUS}, "workers"),
                                    (self.channels("n" * 200), "channels")):
                out = self.plain(self.show(answer, command, columns=columns))
                for line in out.splitlines():
                    self.assertLessEqual(len(line), columns, out)

    def test_ids_are_never_cut(self):
        out = self.show(self.clients("x" * 70), "clients", columns=30)
        self.assertIn("0123456789abcdef", out)

    def test_long_names_are_cut_with_dots(self):
        out = self.plain(self.show(self.channels("n" * 200), "channels", columns=60))
        self.assertRegex(out, "\nn+…  ")
        self.assertIn("1234567", out)

    def test_wide_names_line_up(self):
        answer = {"ok": {"channels": [
            {"channel": "新闻频道" * 20, "subscribers": 1, "offset": 5},
            {"channel": "e\u0301" * 10, "subscribers": 22, "offset": 5}]}}
        out = self.plain(self.show(answer, "channels", columns=60))
        rows = out.splitlines()[1:]
        wide = rows[0].split("…")[0]
        self.assertIn("…", rows[0])
        # Each of these characters takes two columns, the accents none.
        self.assertLessEqual(len(wide) + len(wide.strip()) + 1, 60)
        self.assertEqual(len(rows[1].replace("\u0301", "")),
                         len(rows[0]) + len(wide.strip()))

    def test_a_pipe_gets_whole_names(self):
        self.assertIn("n" * 200, self.ask(self.channels("n" * 200), "channels"))

    def test_columns_variable_holds(self):
        out = self.ask(self.channels("n" * 200), "channels", env=environment(COLUMNS="50"))
        self.assertNotIn("n" * 50, out)

    def test_hostile_name_is_harmless(self):
        tail = [{"ok": {}}, {"channel": self.HOSTILE, "offset": 1, "time": 1.5,
                             "text": self.HOSTILE}]
        for answer, command in ((self.channels(self.HOSTILE), ["channels"]),
                                (self.clients(self.HOSTILE), ["clients"]),
                                ({"ok": {"client": {self.HOSTILE: self.HOSTILE}}},
                                 ["client", "1"]),
                                (self.channels(self.HOSTILE), ["channels", "--json"])):
            for env in (environment(NO_COLOR="1"), environment(TERM="dumb")):
                out = self.show(answer, *command, columns=1000, env=env)
                self.check_harmless(out)
        for options in ([], ["--raw"], ["--json"]):
            server = self.fake(lambda request: tail + [b"?\n"])
            _, out = run_on_terminal("-s", server.path, "tail", "a", *options,
                                     env=environment(NO_COLOR="1"))
            self.assertIn("owned", out)
            self.check_harmless(out)

    def check_harmless(self, out):
        for c in out:
            self.assertTrue(c in "\n\t" or c.isprintable(), repr(out))
        self.assertNotIn("\u200b", out)

    def test_json_on_a_terminal_is_the_same_json(self):
        answer = self.channels(self.HOSTILE)
        out = self.show(answer, "channels", "--json", columns=1000)
        self.assertEqual(json.loads(out), answer["ok"])

    def test_ascii_locale_gets_ascii(self):
        env = environment(NO_COLOR="1", LC_ALL="C")
        out = self.show(self.channels("é" * 150), "channels", env=env)
        self.assertTrue(out.isascii(), out)
        self.assertIn("\\u{e9}", out)

    def test_colours_only_where_welcome(self):
        answer = {"ok": STATUS}
        self.assertIn("\x1b[1m", self.show(answer, "status"))
        for env in (environment(NO_COLOR="1"), environment(TERM="dumb")):
            self.assertNotIn("\x1b", self.show(answer, "status", env=env))
        self.assertNotIn("\x1b", self.ask(answer, "status"))


if __name__ == "__main__":
    unittest.main()
