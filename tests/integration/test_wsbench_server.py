#!/usr/bin/python3
"""wsbench at a real server: each way to publish, each preset, and what it says when it
is interrupted."""

import json
import os
import pty
import signal
import subprocess
import sys
import tempfile
import unittest

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))

from harness import BIN, DEADLINE, Case, free_port, wait_until  # noqa: E402

WSBENCH = os.path.join(BIN, "wsbench")
KEY = "k" * 32


class Bench(Case):
    def options(self, d, *more):
        return [WSBENCH, "run", *more, "--url=ws://%s/ws" % d.address,
                "--control=" + d.control, "--pid=%d" % d.pid]

    def measure(self, d, *more):
        """One short run: its JSON. Nothing was lost, and all that was sent arrived."""
        done = subprocess.run(
            self.options(d, *more, "--quiet", "--json", "--warmup=0.1"),
            capture_output=True, text=True, timeout=4 * DEADLINE, check=False)
        self.assertEqual(done.returncode, 0, done.stderr)
        result = json.loads(done.stdout)
        for key in ("lost", "repeated", "reordered", "altered", "silent", "foreign"):
            self.assertEqual(result["check"][key], 0, key)
        return result


class Ways(Bench):
    """Each way to publish, and each shape of load."""

    FEW = ("--connections=20", "--duration=3", "--rate=200")

    def complete(self, d, *more):
        result = self.measure(d, *self.FEW, *more)
        self.assertGreater(result["messages"]["measured"], 20)
        self.assertEqual(result["messages"]["errors"], 0)
        self.assertEqual(result["messages"]["incomplete"], 0)
        return result

    def test_ways_control_bursts_sizes_and_channels(self):
        result = self.complete(
            self.daemon(), "--publish=control", "--burst=10", "--size=52-3000",
            "--channels=6", "--subscriptions=2", "--random-channels")
        self.assertGreater(result["messages"]["bytes_each"], 500)

    def test_ways_control_saturated(self):
        result = self.complete(self.daemon(), "--publish=control", "--in-flight=8")
        self.assertEqual(result["deliveries"]["measured"],
                         20 * result["messages"]["measured"])

    def test_ways_redis_pipelined(self):
        redis = self.redis()
        self.complete(self.daemon(redis=redis), "--publish=redis", "--publishers=2",
                      "--channels=4", "--redis=127.0.0.1:%d" % redis.port)

    def test_ways_http_with_a_key(self):
        admin = "127.0.0.1:%d" % free_port()
        with tempfile.NamedTemporaryFile("w") as keys:
            keys.write(KEY + "\n")
            keys.flush()
            d = self.daemon({"server": {"admin_listen": admin,
                                        "api_key_file": keys.name}})
            self.complete(d, "--publish=http", "--admin=" + admin, "--api-key=" + KEY)

    def test_ways_clients_themselves(self):
        d = self.daemon({"channel *": {"publish": "anyone"}})
        self.complete(d, "--publish=client", "--protocol=v1", "--publishers=3",
                      "--channels=3")


class Presets(Bench):
    """Each does what it is named for."""

    def preset(self, name, *more):
        rate = ["--publish=control", "--rate=50"] if name != "idle" else []
        return self.measure(self.daemon(), name, "--connections=60", *rate, *more)

    def test_presets_storm_drops_all_and_counts_them_once(self):
        result = self.preset("storm", "--duration=4")
        self.assertEqual(result["connections"]["dropped"], 60)
        self.assertEqual(result["connections"]["opened"], 120)
        memory = result["memory"]
        grown = memory["pss_connected"] - memory["pss_empty"]
        self.assertAlmostEqual(
            memory["user_bytes_per_connection"], grown / 60, delta=1)

    def test_presets_drops_resume(self):
        result = self.preset("drops", "--drops=30%", "--away=0.3", "--duration=2",
                             "--drain=1")
        self.assertGreater(result["connections"]["dropped"], 5)
        self.assertGreater(result["check"]["resumed"], 0)
        self.assertGreater(result["check"]["recovered"], 0)

    def test_presets_restart_by_kill_closes_none(self):
        result = self.preset(
            "restart", "--restart-every=0.6", "--restart=kill", "--duration=1.8")
        self.assertGreaterEqual(result["restarts"], 1)
        self.assertEqual(result["connections"]["closed_by_server"], 0)

    def test_presets_slow_are_apart(self):
        result = self.preset("slow", "--duration=0.5")
        self.assertEqual(result["deliveries"]["measured"],
                         54 * result["messages"]["measured"])

    def test_presets_idle_by_rate(self):
        result = self.preset("idle", "--connect-rate=200", "--duration=0.2")
        self.assertGreater(result["connections"]["seconds"], 0.2)
        self.assertIsNone(result["connections"]["per_s"])

    def test_presets_cpu_has_no_negative_part(self):
        for _ in range(2):  # ticks are coarse: what a short run shows is chance
            for who in ("server", "generator"):
                cost = self.preset("broadcast", "--duration=0.3")[who]
                if cost["user_s"] is not None:
                    self.assertGreaterEqual(cost["user_s"], 0)
                    self.assertGreaterEqual(cost["system_s"], 0)
                    self.assertAlmostEqual(
                        cost["user_s"] + cost["system_s"], cost["cpu_s"], delta=1e-6)


class Interrupts(Bench):
    """An interrupt in any phase ends in a report of what there was."""

    def interrupted(self, d, condition, *more):
        """Interrupt it once condition() is true. Its JSON."""
        bench = subprocess.Popen(
            self.options(d, *more, "--quiet", "--json", "--publish=control"),
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        try:
            wait_until("the phase", condition)
            bench.send_signal(signal.SIGINT)
            out, err = bench.communicate(timeout=DEADLINE)
        finally:
            bench.kill()
        self.assertEqual(bench.returncode, 0, err)
        return json.loads(out)

    def test_interrupt_while_connecting_finds_no_faults(self):
        d = self.daemon()
        result = self.interrupted(
            d, lambda: d.counter("connections") >= 20, "--connections=5000",
            "--connect-rate=100")
        self.assertTrue(result["interrupted"])
        self.assertGreaterEqual(result["connections"]["open"], 20)
        self.assertLess(result["connections"]["open"], 5000)
        self.assertEqual(result["check"]["silent"], 0)
        self.assertEqual(result["warnings"], [
            w for w in result["warnings"] if "subscriptions" not in w])

    def test_interrupt_while_all_connect_counts_who_did(self):
        d = self.daemon()
        result = self.interrupted(
            d, lambda: d.counter("connections") >= 200, "--connections=200000",
            "--concurrency=4")
        c = result["connections"]
        self.assertLess(c["per_s"] * c["seconds"], 100000)

    def test_interrupt_in_warmup_has_measured_nothing(self):
        d = self.daemon()
        result = self.interrupted(
            d, lambda: d.counter("sent") >= 100, "--connections=5", "--rate=100",
            "--warmup=600")
        self.assertEqual(result["messages"]["measured"], 0)
        self.assertEqual(result["check"]["lost"], 0)

    def test_interrupt_in_first_round_reports_its_run(self):
        port, feed = free_port(), free_port()
        server = "exec %s limit --port=%d --control=%d --processes=1" % (
            WSBENCH, port, feed)
        bench = subprocess.Popen(
            [WSBENCH, "run", "--connections=5", "--rate=100", "--warmup=0",
             "--duration=600", "--floor=send", "--publish=floor",
             "--url=ws://127.0.0.1:%d/" % port, "--control=127.0.0.1:%d" % feed,
             "--server=" + server],
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        try:
            # Lines of progress come every 5 s, where there is no terminal.
            for line in bench.stderr:
                if "measuring" in line:
                    break
            bench.send_signal(signal.SIGINT)
            out, err = bench.communicate(timeout=DEADLINE)
        finally:
            bench.kill()
        self.assertEqual(bench.returncode, 0, err)
        self.assertIn("(interrupted)", out)
        self.assertRegex(out, r"messages +[1-9]")


class Compare(unittest.TestCase):
    def test_compare_names_files_of_one_folder_apart(self):
        with tempfile.TemporaryDirectory(prefix="a-long-folder-name-") as folder:
            paths = [os.path.join(folder, name) for name in ("before.json", "after.json")]
            for path in paths:
                with open(path, "w") as f:
                    json.dump({"latency_us": {"p50": 100}, "check": {"lost": 0}}, f)
            done = subprocess.run([WSBENCH, "compare", *paths], capture_output=True,
                                  text=True, check=True)
        head, row = done.stdout.splitlines()[:2]
        self.assertRegex(head, r"before\.json .*after\.json$")
        self.assertIn("latency p50", row)


class Progress(Bench):
    def test_progress_bar_on_a_terminal(self):
        d = self.daemon()
        master, slave = pty.openpty()
        done = subprocess.run(
            self.options(d, "--publish=control", "--connections=20", "--rate=50",
                         "--duration=0.8"),
            stdout=subprocess.PIPE, stderr=slave, timeout=4 * DEADLINE, check=True)
        os.close(slave)
        shown = os.read(master, 65536).decode()
        os.close(master)
        self.assertRegex(shown, r"\rmeasuring +\[=+>? *\] 20 open, .*/s received")
        self.assertTrue(shown.endswith("\r\x1b[K"), "the bar is taken away")
        self.assertIn(b"latency", done.stdout)


if __name__ == "__main__":
    unittest.main()
