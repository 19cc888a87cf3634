"""wscastd behind the system-call filter of its unit: all that it does still works. That
systemd runs the unit is another test's (tests/systemd)."""

import os
import shutil
import signal
import sys
import unittest

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path[:0] = [HERE, os.path.join(os.path.dirname(HERE), "integration")]
from confine import allowed_calls, values
from harness import ROOT, SANITIZED, Case, wait_until
from wsclient import V1, run

UNIT = os.path.join(ROOT, "packaging", "systemd", "wscast.service.in")


@unittest.skipIf(not shutil.which("systemd-analyze"), "no systemd-analyze here")
class Unit(Case):
    def test_unit_filter_leaves_out_what_root_alone_may(self):
        calls = allowed_calls(UNIT)
        for call in ("mount", "setuid", "init_module", "reboot", "bpf", "ptrace", "chroot",
                     "sched_setscheduler", "kexec_load", "swapon", "settimeofday"):
            self.assertNotIn(call, calls)

    @unittest.skipIf(SANITIZED, "a sanitizer needs more than wscastd")
    def test_unit_filter_lets_all_work(self):
        self.assertTrue(values(UNIT, "SystemCallFilter"))
        redis = self.redis()
        feed = {"source": "stream", "redis": "redis://localhost:%d/0" % redis.port}
        d = self.daemon({"feed": feed},
                        wrap=["/usr/bin/python3", os.path.join(HERE, "confine.py"), UNIT])
        wait_until("the feed is up", lambda: d.status()["feed"]["connected"])
        free = self.daemon(workers=1)
        for w in d.workers():
            self.assertTrue(w["sandbox"], "no filter of its own behind the unit's")
            self.assertEqual(w["send"], free.workers()[0]["send"])

        async def go():
            clients = [await V1.open(d, "news") for _ in range(8)]
            keepers = [w["keeper_pid"] for w in d.workers()]

            async def hear(n):
                d.publish("news", str(n))
                for c in clients:
                    self.assertEqual((await c.event())["data"], n)

            await hear(1)
            d.ctl("restart")  # executes the program anew
            await hear(2)
            self.assertEqual([w["keeper_pid"] for w in d.workers()], keepers)
            pids = [w["pid"] for w in d.workers()]
            os.kill(pids[0], signal.SIGKILL)
            d.wait_serving(but=pids[:1])
            await hear(3)
            d.reload(limits={"ping_interval": "30m"})
            await hear(4)
            for c in clients:
                await c.close()

        run(go())
        d.stop()
        self.assertNotIn("not permitted", d.log())


if __name__ == "__main__":
    unittest.main(verbosity=2)
