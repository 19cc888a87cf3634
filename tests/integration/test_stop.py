"""How it ends: asked to, and not asked to."""

import os
import signal
import socket
import sys
import unittest

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from fleet import upgrade
from harness import Case, descendants, wait_exit, wait_until
from wsclient import V1, close_code, raw, run


class Stop(Case):
    def test_stop_sigterm_says_bye_and_1001(self):
        d = self.daemon(workers=3)

        async def go():
            v1s = [await V1.open(d, "news") for _ in range(20)]
            raws = [await raw(d, "news") for _ in range(20)]
            d.proc.send_signal(signal.SIGTERM)
            for v in v1s:
                bye = await v.event()
                self.assertEqual(list(bye), ["bye"])
                self.assertIn(bye["bye"]["code"], (1001, 1012))
                self.assertIsInstance(bye["bye"]["retry_ms"], int)
                self.assertEqual(await close_code(v.ws), 1001)
            for ws in raws:
                self.assertEqual(await close_code(ws), 1001)

        run(go())
        self.assertEqual(d.wait_end(), 0)
        d.check_gone()
        self.assertFalse(os.path.exists(d.control), "the control socket is removed")

    def test_stop_sigint_is_the_same(self):
        d = self.daemon()
        d.proc.send_signal(signal.SIGINT)
        self.assertEqual(d.wait_end(), 0)
        d.check_gone()

    def test_stop_delivers_what_was_published_before(self):
        """What the feed took before SIGTERM is delivered before the Close."""
        d = self.daemon()

        async def go():
            v1 = await V1.open(d, "news")
            for n in range(200):
                d.publish("news", "%d" % n)
            d.proc.send_signal(signal.SIGTERM)
            for n in range(200):
                self.assertEqual((await v1.event())["data"], n)
            self.assertIn("bye", await v1.event())
            self.assertEqual(await close_code(v1.ws), 1001)

        run(go())
        self.assertEqual(d.wait_end(), 0)
        d.check_gone()

    def test_stop_does_not_wait_for_clients_that_do_not_answer(self):
        """Neither a full socket nor one that never answers the Close holds it up."""
        d = self.daemon(workers=1)
        socks = []
        for rcvbuf in (None, 2048):
            s = socket.socket()
            if rcvbuf:
                s.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, rcvbuf)
            s.connect(("127.0.0.1", d.port))
            s.sendall(upgrade("/ws/news", False, d.port))
            s.recv(1)
            socks.append(s)
        wait_until("two are subscribed", lambda: d.status()["subscriptions"] == 2)
        run(self.subscribed(d))
        for _ in range(20):
            d.publish("news", "x" * 200000)
        d.stop()
        for s in socks:
            s.close()

    async def subscribed(self, d):
        """When this is answered, what was asked before is in force, too."""
        v1 = await V1.open(d, "news")
        await v1.close()

    def test_stop_twice_is_as_good_as_once(self):
        d = self.daemon()
        d.proc.send_signal(signal.SIGTERM)
        d.proc.send_signal(signal.SIGTERM)
        self.assertEqual(d.wait_end(), 0)
        d.check_gone()

    def test_stop_by_sigkill_takes_the_workers_along(self):
        d = self.daemon(workers=3)

        async def go():
            v1s = [await V1.open(d, "news") for _ in range(9)]
            pids = descendants(d.pid)
            self.assertGreaterEqual(len(pids), 6)
            d.proc.kill()
            for v in v1s:
                self.assertEqual(await close_code(v.ws), 1001)
            for pid in pids:
                wait_exit(pid)

        run(go())
        self.assertEqual(d.wait_end(), -signal.SIGKILL)
        d.check_gone()

    def test_start_after_sigkill_takes_the_place(self):
        """A stale control socket is no obstacle."""
        d = self.daemon()
        pids = descendants(d.pid)
        d.proc.kill()
        d.wait_end()
        for pid in pids:
            wait_exit(pid)
        d.check_gone()
        self.assertTrue(os.path.exists(d.control))
        e = self.daemon({"server": {"listen": d.address, "control_socket": d.control}})
        e.control = d.control
        e.stop()

    def test_stop_during_start_is_clean(self):
        d = self.daemon(workers=4, ready=False)
        wait_until("a child", lambda: descendants(d.pid) or d.proc.poll() is not None)
        d.proc.send_signal(signal.SIGTERM)
        self.assertEqual(d.wait_end(), 0)
        d.check_gone()

    def test_stop_with_a_stopped_worker_ends_all_the_same(self):
        d = self.daemon(workers=2)
        os.kill(d.workers()[0]["pid"], signal.SIGSTOP)
        d.proc.send_signal(signal.SIGTERM)
        self.assertEqual(d.wait_end(), 0)
        d.check_gone()


if __name__ == "__main__":
    unittest.main()
