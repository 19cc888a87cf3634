"""The serving process is sandboxed, and who breaks out of it harms no client."""

import os
import signal
import sys
import unittest

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from harness import SANITIZED, Case, wait_until
from wsclient import V1, run


def status_of(pid):
    """/proc/PID/status as a dict."""
    with open("/proc/%d/status" % pid) as f:
        return {k: v.strip() for k, v in (line.split(":", 1) for line in f)}


@unittest.skipIf(SANITIZED, "sanitizers need more than the sandbox allows")
class Sandbox(Case):
    def test_sandbox_is_on_by_default(self):
        d = self.daemon(workers=2)
        for w in d.workers():
            seen = status_of(w["pid"])
            self.assertEqual((seen["Seccomp"], seen["NoNewPrivs"]), ("2", "1"))
            self.assertIs(w["sandbox"], True)
            # They clone and execute: all that they can give up.
            spare = wait_until("a spare", lambda: d.spare_of(w))
            for pid in (w["keeper_pid"], spare):
                self.assertEqual(status_of(pid)["NoNewPrivs"], "1")
        self.assertTrue(all(w["sandbox"] for w in d.status()["workers"]))
        self.assertIn("SANDBOX", d.wsctl("workers").stdout)

    def test_sandbox_holds_for_successors(self):
        d = self.daemon(workers=1)
        for how in ("kill", "restart"):
            pid = d.workers()[0]["pid"]
            if how == "kill":
                os.kill(pid, signal.SIGKILL)
            else:
                d.ctl("restart")
            new = d.wait_serving(but=(pid,))[0]["pid"]
            self.assertEqual(status_of(new)["Seccomp"], "2")

    def test_sandbox_is_off_where_the_settings_say_so(self):
        d = self.daemon({"server": {"sandbox": "no"}}, workers=1)
        w = d.workers()[0]
        seen = status_of(w["pid"])
        self.assertEqual(seen["Seccomp"], status_of(os.getpid())["Seccomp"])
        self.assertEqual(seen["NoNewPrivs"], "1")
        self.assertIs(w["sandbox"], False)

    def test_sandbox_violation_is_counted_and_costs_no_client(self):
        """The kernel's SIGSYS, as a forbidden system call brings it (that it does is
        the unit test's)."""
        d = self.daemon(workers=1)

        async def go():
            client = await V1.open(d, "news")
            pid, mark = d.workers()[0]["pid"], d.mark()
            os.kill(pid, signal.SIGSYS)
            d.wait_serving(but=(pid,))
            d.wait_line("process %d was killed by its sandbox" % pid, mark)
            d.publish("news", "1")
            self.assertEqual((await client.event())["data"], 1)
            wait_until("it is counted", lambda: d.counter("sandbox_killed") == 1)
            await client.close()

        run(go())


if __name__ == "__main__":
    unittest.main()
