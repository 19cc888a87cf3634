"""A worker's program is replaced on disk: `wsctl restart` takes the new one up, under
living clients; one that does not start is not taken."""

import os
import shutil
import sys
import tempfile
import unittest

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from harness import BIN, Case, fds_of, wait_until
from wsclient import V1, close_code, run


def exe(pid):
    """(device, inode) of the program that a process runs."""
    st = os.stat("/proc/%d/exe" % pid)
    return st.st_dev, st.st_ino


class Renew(Case):
    def installed(self, **kwargs):
        """A daemon from a folder of its own, whose programs can be replaced."""
        self.dir = tempfile.mkdtemp(prefix="wscast-renew-")
        self.addCleanup(shutil.rmtree, self.dir)
        self.worker = os.path.join(self.dir, "wscast-worker")
        for name in ("wscastd", "wscast-worker"):
            shutil.copy(os.path.join(BIN, name), self.dir)
        return self.daemon(program=os.path.join(self.dir, "wscastd"), **kwargs)

    def replace(self, text=None, mode=0o755):
        """Put another file in the program's place, as a package manager does: by
        rename. Returns what exe() says of who runs it."""
        new = self.worker + ".new"
        if text is None:
            shutil.copy(os.path.join(BIN, "wscast-worker"), new)
        else:
            with open(new, "w") as f:
                f.write(text)
        os.chmod(new, mode)
        os.rename(new, self.worker)
        st = os.stat(self.worker)
        return st.st_dev, st.st_ino

    def all_run(self, d, program):
        """Whether keeper, spare and serving process of each worker run it."""
        for w in d.workers():
            pids = [w["keeper_pid"], d.spare_of(w), w["pid"]]
            if None in pids or any(exe(pid) != program for pid in pids):
                return False
        return True

    async def numbered(self, d, clients, first, last):
        """Publish these numbers, and all clients have each once, in order."""
        for n in range(first, last):
            d.publish("news", str(n))
        for c in clients:
            self.assertEqual([(await c.event())["data"] for _ in range(first, last)],
                             list(range(first, last)))

    def test_renew_restart_takes_up_the_new_program(self):
        d = self.installed()
        before = fds_of(d)

        async def go():
            clients = [await V1.open(d, "news") for _ in range(20)]
            with_clients = fds_of(d)
            for turn in range(3):
                keepers = [w["keeper_pid"] for w in d.workers()]
                program = self.replace()
                self.assertFalse(self.all_run(d, program))
                await self.numbered(d, clients, 100 * turn, 100 * turn + 50)
                d.ctl("restart")
                await self.numbered(d, clients, 100 * turn + 50, 100 * turn + 100)
                wait_until("all run the new program", lambda: self.all_run(d, program))
                self.assertEqual([w["keeper_pid"] for w in d.workers()], keepers)
            # Nothing of the old programs is kept, and nobody else holds a socket: who
            # is closed here is closed.
            self.fds_are_back(d, with_clients)
            self.assertEqual(d.ctl("kick", channel="news")["closed"], 20)
            for c in clients:
                self.assertEqual(await close_code(c.ws), 4403)

        run(go())
        self.assertEqual(d.counter("restarts"), 6)
        self.fds_are_back(d, before)
        d.stop()

    def test_renew_a_killed_worker_stays_with_its_program(self):
        """What is installed halfway is nobody's business but a restart's."""
        d = self.installed(workers=1)
        worker = d.workers()[0]
        old = exe(worker["keeper_pid"])

        async def go():
            client = await V1.open(d, "news")
            self.replace("not a program\n")
            os.kill(worker["pid"], 9)
            d.wait_serving(but=[worker["pid"]])
            await self.numbered(d, [client], 0, 10)
            await client.close()

        run(go())
        self.assertTrue(self.all_run(d, old))

    def refused(self, text, mode, log, same_keeper):
        """The program cannot be taken up: the old one goes on, with all clients, and
        takes up a right one later."""
        d = self.installed()

        async def go():
            clients = [await V1.open(d, "news") for _ in range(10)]
            keepers = [w["keeper_pid"] for w in d.workers()]
            old = exe(keepers[0])
            self.replace(text, mode)
            d.ctl("restart")
            d.wait_line(log)
            await self.numbered(d, clients, 0, 50)
            wait_until("the old program has a spare again", lambda: self.all_run(d, old))
            self.assertEqual([w["keeper_pid"] for w in d.workers()] == keepers, same_keeper)
            program = self.replace()
            d.ctl("restart")
            await self.numbered(d, clients, 50, 100)
            wait_until("all run the right program", lambda: self.all_run(d, program))
            self.assertEqual(d.ctl("kick", channel="news")["closed"], 10)
            for c in clients:
                self.assertEqual(await close_code(c.ws), 4403)

        run(go())

    def test_renew_no_program_leaves_the_old_one(self):
        self.refused("not a program\n", 0o755,
                     "cannot execute the program that is installed now", True)

    def test_renew_forbidden_leaves_the_old_one(self):
        self.refused("#!/bin/false\n", 0o644,
                     "cannot execute the program that is installed now", True)

    def test_renew_program_that_ends_leaves_the_old_one(self):
        """As with a library that is missing: the spare has all sockets."""
        self.refused("#!/bin/false\n", 0o755, "the keeper died, its spare takes over", False)


if __name__ == "__main__":
    unittest.main(verbosity=2)
