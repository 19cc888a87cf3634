"""Every command of wsctl with --json, against a real server: valid JSON, and no more."""

import asyncio
import json
import os
import subprocess
import sys
import unittest

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from harness import BIN, DEADLINE, Case, wait_until
from jwt import Key
from wsclient import V1

# Each command's arguments, and a member that its answer has. CLIENT is one's id; tail
# goes on until it is interrupted, and is asked below.
COMMANDS = {
    "status": ([], "feed"),
    "workers": ([], "workers"),
    "top": (["--once", "-i", "100ms"], "channels"),
    "clients": ([], "clients"),
    "client": (["CLIENT"], "client"),
    "channels": ([], "channels"),
    "publish": (["news", "hello"], "offset"),
    "tail": None,
    "history": (["news"], "offset"),
    "presence": (["here"], "clients"),
    "kick": (["-c", "news"], "closed"),
    "restart": (["0"], "workers"),
    "reload": ([], "changed"),
    "check": (["CONF"], "faults"),
    "config": (["ring.size"], "text"),
    "log-level": (["info"], "level"),
    "drain": (["--over", "0", "1"], "connections"),
    "undrain": ([], "drain"),
    "revoke": (["-u", "nobody", "--for", "0"], "closed"),
    "token": (["--sub", "me", "--conf", "CONF"], "token"),
    "metrics": ([], "text"),
    "version": ([], "version"),
}


class Json(Case):
    def setUp(self):
        self.d = self.daemon({"channel here": {"presence": "yes"}})
        self.key = Key(self.d.dir)
        self.d.reload(auth={"mode": "optional", "secret_file": self.key.path})

    def test_each_command_answers_in_json(self):
        listed = json.loads(self.d.wsctl("help", "--json").stdout)["commands"]
        self.assertEqual({c["command"] for c in listed}, set(COMMANDS))

        async def go():
            client = await V1.open(self.d, "news", "here")
            stays = await V1.open(self.d, "here")
            words = {"CLIENT": stays.hello["client"], "CONF": self.d.conf}
            for command, how in COMMANDS.items():
                if how is None:
                    continue
                args = [words.get(a, a) for a in how[0]]
                p = self.d.wsctl(command, "--json", *args, check=False)
                self.assertEqual((p.returncode, p.stderr), (0, ""), command)
                self.assertEqual(p.stdout.count("\n"), 1, command)
                self.assertIn(how[1], json.loads(p.stdout), command)
            for c in (client, stays):
                await c.close()

        asyncio.run(go())

    def test_tail_is_a_line_for_each_message(self):
        p = subprocess.Popen([os.path.join(BIN, "wsctl"), "-s",
                              self.d.control, "tail", "--json", "news"],
                             stdout=subprocess.PIPE)
        try:
            wait_until("it tails", lambda: any(
                c["tails"] for c in self.d.ctl("channels")["channels"]))
            self.d.publish("news", "hello")
            self.assertEqual(json.loads(p.stdout.readline())["channel"], "news")
        finally:
            p.terminate()
            self.assertEqual(p.wait(DEADLINE), 0)
            p.stdout.close()


if __name__ == "__main__":
    unittest.main()
