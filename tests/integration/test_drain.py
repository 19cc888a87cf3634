"""Clients told to go: by wsctl drain, and before the end."""

import asyncio
import http.client
import json
import os
import signal
import subprocess
import sys
import time
import unittest

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from harness import BIN, DEADLINE, Case, CtlError, descendants, free_port, wait_exit, wait_until
from wsclient import V1, close_code, raw, run

UPGRADE = {"Connection": "Upgrade", "Upgrade": "websocket",
           "Sec-WebSocket-Version": "13",
           "Sec-WebSocket-Key": "dGhlIHNhbXBsZSBub25jZQ=="}


def get(port, path, headers=()):
    """(status, headers, body) of a request on a connection of its own."""
    c = http.client.HTTPConnection("127.0.0.1", port, timeout=DEADLINE)
    try:
        c.request("GET", path, headers=dict(headers))
        r = c.getresponse()
        return r.status, r.headers, r.read(0 if r.status == 101 else None)
    finally:
        c.close()


async def farewell(v1):
    """When the bye came, its retry_ms, and the code of the Close behind it."""
    bye = await v1.event()
    assert list(bye) == ["bye"], bye
    at = time.monotonic()
    return at, bye["bye"], await close_code(v1.ws)


class Drain(Case):
    def assert_refuses(self, d, admin=None):
        status, headers, _ = get(d.port, "/ws/news", UPGRADE)
        self.assertEqual(status, 503)
        self.assertGreater(int(headers["Retry-After"]), 0)
        for port in [d.port] + ([admin] if admin else []):
            status, _, body = get(port, "/ready")
            self.assertEqual((status, json.loads(body)),
                             (503, {"ready": False, "reason": "draining"}))
            self.assertEqual(get(port, "/health")[0], 200)

    def assert_lets_in(self, d, admin=None):
        for port in [d.port] + ([admin] if admin else []):
            self.assertEqual(get(port, "/ready")[0], 200)
        self.assertEqual(get(d.port, "/ws/news", UPGRADE)[0], 101)

    def test_drain_tells_all_to_go_evenly(self):
        """1012 and bye one after the other, new ones refused, until undrain."""
        admin = free_port()
        d = self.daemon({"server": {"admin_listen": "127.0.0.1:%d" % admin}}, workers=1)

        async def go():
            v1s = [await V1.open(d, "news") for _ in range(10)]
            raws = [await raw(d, "news") for _ in range(10)]
            got = d.ctl("drain", over=8)["drain"]
            self.assertEqual((got["workers"], got["began_with"], got["over_s"]),
                             (1, 20, 8))
            self.assert_refuses(d, admin)
            ends = await asyncio.gather(*[farewell(v) for v in v1s])
            self.assertEqual(set(code for _, _, code in ends), {1012})
            self.assertEqual(set(bye["code"] for _, bye, _ in ends), {1012})
            self.assertGreater(len(set(bye["retry_ms"] for _, bye, _ in ends)), 5)
            self.assertEqual([await close_code(ws) for ws in raws], [1012] * 10)
            # Ten of the twenty, one every 0.4 s, wherever their slots lie.
            times = sorted(at for at, _, _ in ends)
            self.assertGreater(times[-1] - times[0], 0.5)

        run(go())
        wait_until("all are gone", lambda: d.status()["connections"] == 0)
        self.assertEqual(d.counter("drained"), 20)
        status = d.status()
        self.assertTrue(status["draining"])
        self.assertFalse(status["ready"])
        self.assertEqual(status["workers"][0]["state"], "draining")
        self.assert_refuses(d, admin)
        self.assertIsNone(d.ctl("undrain")["drain"])
        d.wait_serving()
        self.assert_lets_in(d, admin)
        self.assertFalse(d.status()["draining"])

    def test_undrain_keeps_those_who_were_not_told(self):
        d = self.daemon(workers=1)

        async def go():
            v1s = [await V1.open(d, "news") for _ in range(10)]
            d.ctl("drain", over=3600)
            wait_until("one was told", lambda: d.counter("drained") == 1)
            self.assert_refuses(d)
            d.ctl("undrain")
            d.wait_serving()
            d.publish("news", "1")
            got = [await v.event() for v in v1s]
            self.assertEqual(sum("bye" in m for m in got), 1)
            self.assertEqual(sum(m.get("data") == 1 for m in got), 9)
            self.assert_lets_in(d)
            self.assertEqual(d.ctl("drain", over=0)["drain"]["left_s"], 0)
            self.assertEqual([await close_code(v.ws) for v in v1s], [1012] * 10)

        run(go())
        self.assertEqual(d.counter("drained"), 10)

    def test_drain_survives_kills_of_its_worker(self):
        """The successor goes on: each client is told once, and no connection breaks."""
        d = self.daemon(workers=1)

        async def go():
            v1s = [await V1.open(d, "news") for _ in range(30)]
            pid = d.workers()[0]["pid"]
            d.ctl("drain", over=8)
            wait_until("some were told", lambda: d.counter("drained") >= 3)
            os.kill(pid, signal.SIGKILL)
            wait_until("a successor", lambda: d.workers()[0]["pid"] not in (0, pid))
            self.assertLess(d.counter("drained"), 30)
            self.assert_refuses(d)
            ends = await asyncio.gather(*[farewell(v) for v in v1s])
            self.assertEqual(set(code for _, _, code in ends), {1012})

        run(go())
        self.assertEqual(d.counter("drained"), 30)
        self.assertEqual(d.workers()[0]["state"], "draining")

    def test_drain_survives_restarts_and_the_keeper(self):
        d = self.daemon(workers=2)
        d.ctl("drain", over=0)
        wait_until("both drain",
                   lambda: {w["state"] for w in d.workers()} == {"draining"})
        d.ctl("restart")
        self.assertEqual({w["state"] for w in d.workers()}, {"draining"})
        self.assert_refuses(d)
        # All of a worker at once: keeper, spare and serving process.
        worker = d.workers()[0]
        pids = [worker["keeper_pid"]] + list(descendants(worker["keeper_pid"]))
        for pid in pids:
            os.kill(pid, signal.SIGSTOP)
        for pid in pids:
            os.kill(pid, signal.SIGKILL)
        for pid in pids:
            wait_exit(pid)
        wait_until("it is launched anew and drains", lambda: (
            d.workers()[0]["state"] == "draining" and d.workers()[0]["pid"]
            and d.workers()[0]["pid"] not in pids))
        d.ctl("undrain")
        d.wait_serving()
        self.assert_lets_in(d)

    def test_drain_of_one_worker_leaves_the_others(self):
        d = self.daemon(workers=2)

        async def go():
            clients = []
            while min(w["connections"] for w in d.workers()) < 3:
                clients.append(await V1.open(d, "news"))
            before = [w["connections"] for w in d.workers()]
            got = d.ctl("drain", worker=1, over=0)["drain"]
            self.assertEqual((got["workers"], got["began_with"]), (1, before[1]))
            wait_until("its clients are gone", lambda: d.workers()[1]["connections"] == 0)
            self.assertEqual([w["state"] for w in d.workers()], ["serving", "draining"])
            self.assertEqual(d.workers()[0]["connections"], before[0])
            self.assertFalse(d.status()["draining"])
            self.assertTrue(d.status()["ready"])
            d.ctl("undrain", worker=1)
            d.wait_serving()

        run(go())

    def test_drain_refuses_what_makes_no_sense(self):
        d = self.daemon(workers=1)
        for args in ({"over": -1}, {"over": "2m"}, {"over": 1e9}, {"worker": 1},
                     {"worker": "0"}):
            with self.assertRaises(CtlError):
                d.ctl("drain", **args)
        self.assertIsNone(d.status()["drain"])

    def test_wsctl_drain_shows_progress_until_all_are_gone(self):
        d = self.daemon(workers=2)

        async def go():
            v1s = [await V1.open(d, "news") for _ in range(4)]
            p = subprocess.Popen([os.path.join(BIN, "wsctl"), "-s", d.control, "drain",
                                  "--over", "1s"], stdout=subprocess.PIPE, text=True)
            self.assertEqual([await close_code(v.ws) for v in v1s], [1012] * 4)
            out, _ = p.communicate(timeout=DEADLINE)
            self.assertEqual(p.returncode, 0, out)
            self.assertIn("of 4 connections left", out)
            self.assertIn("Drained; connections left: 0.", out)

        run(go())
        out = d.wsctl("status").stdout
        self.assertIn("DRAINING", out)
        self.assertIn("0 of 4 connections left", out)
        self.assertIn("New clients are let in.", d.wsctl("undrain").stdout)
        self.assertNotIn("DRAINING", d.wsctl("status").stdout)
        self.assertEqual(d.wsctl("drain", "--over", "soon", check=False).returncode, 2)
        self.assertEqual(d.wsctl("drain", "x", check=False).returncode, 2)

    def test_wsctl_drain_fails_when_it_is_undone(self):
        d = self.daemon(workers=1)

        async def go():
            v1s = [await V1.open(d, "news") for _ in range(3)]
            p = subprocess.Popen(
                [os.path.join(BIN, "wsctl"), "-s", d.control, "drain", "--over", "1h"],
                stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
            wait_until("one was told", lambda: d.counter("drained") == 1)
            d.wsctl("undrain")
            _, err = p.communicate(timeout=DEADLINE)
            self.assertEqual(p.returncode, 1)
            self.assertIn("undrain", err)
            self.assertEqual(d.counter("drained"), 1)
            d.publish("news", "1")
            got = [await v.event() for v in v1s]
            self.assertEqual(sum(m.get("data") == 1 for m in got), 2)

        run(go())


class Stop(Case):
    def test_stop_tells_clients_evenly_and_lets_no_one_in(self):
        d = self.daemon({"server": {"drain_timeout": "8s"}}, workers=1)

        async def go():
            v1s = [await V1.open(d, "news") for _ in range(10)]
            d.proc.send_signal(signal.SIGTERM)
            first = await farewell(v1s[0])
            status, headers, _ = get(d.port, "/ws/news", UPGRADE)
            self.assertEqual((status, "Retry-After" in headers), (503, True))
            ends = [first] + await asyncio.gather(*[farewell(v) for v in v1s[1:]])
            self.assertEqual(set(code for _, _, code in ends), {1001})
            times = [at for at, _, _ in ends]
            self.assertGreater(max(times) - min(times), 1)

        run(go())
        self.assertEqual(d.wait_end(), 0)
        d.check_gone()

    def test_stop_without_clients_does_not_wait(self):
        d = self.daemon({"server": {"drain_timeout": "1h"}})
        d.stop()

    def test_stop_of_a_drained_server_goes_on_with_its_own_time(self):
        d = self.daemon({"server": {"drain_timeout": "0"}}, workers=2)

        async def go():
            v1s = [await V1.open(d, "news") for _ in range(10)]
            d.ctl("drain", over=3600)
            wait_until("both began", lambda: d.counter("drained") >= 1)
            d.proc.send_signal(signal.SIGTERM)
            codes = [await close_code(v.ws) for v in v1s]
            self.assertEqual(set(codes), {1001, 1012})

        run(go())
        self.assertEqual(d.wait_end(), 0)
        d.check_gone()


if __name__ == "__main__":
    unittest.main()
