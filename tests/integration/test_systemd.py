"""What the service manager is told, on a notify socket of the test's own.

All lines come over one socket, in the order in which they were sent; the watchdog's tell
how much time lies between two others.
"""

import os
import re
import signal
import socket
import sys
import time
import unittest

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from harness import Case, free_port, proc_stat, wait_until
from wsclient import V1, close_code, run


def told(d, *words):
    """The lines so far that begin so."""
    with d.changed:
        return [line for line in d.notified if line.startswith(words)]


def wait_told(d, pattern):
    """Wait for a line that matches; returns the match."""
    return wait_until(lambda: "%s among %s\n%s" % (pattern, d.notified, d.log()),
                      lambda: next(filter(None, (
                          re.fullmatch(pattern, line) for line in told(d, ""))), None))


def forget(d):
    with d.changed:
        d.notified.clear()


class Ready(Case):
    def away(self, required, **more):
        """A daemon whose Redis is not there, and the port at which it may come."""
        port = free_port()
        return port, self.daemon({
            "feed": {"source": "pubsub", "required": required,
                     "redis": "redis://127.0.0.1:%d/0" % port}}, ready=False, **more)

    def test_ready_is_said_once_when_clients_are_served(self):
        d = self.daemon()  # waits for it

        async def go():
            await (await V1.open(d, "news")).close()

        run(go())
        self.assertEqual(told(d, "READY="), ["READY=1"])
        self.assertEqual(told(d, "EXTEND_TIMEOUT_USEC="), [])
        d.stop()
        self.assertEqual(told(d, "READY="), ["READY=1"])

    def test_ready_waits_for_the_feed_while_clients_are_served(self):
        port, d = self.away("yes")
        wait_told(d, r"STATUS=waiting for the feed: 0 connections, feed pubsub is down: .+")

        async def go():
            v1 = await V1.open(d)
            await v1.ok(ping={})
            forget(d)
            # Longer than the manager's patience, it is extended again and again.
            for _ in range(2):
                wait_told(d, r"EXTEND_TIMEOUT_USEC=15000000")
                self.assertEqual(told(d, "READY="), [])
                forget(d)
            self.redis(port=port)
            d.wait_notify("READY=1")
            wait_told(d, r"STATUS=1 connections, feed pubsub")
            await v1.close()

        run(go())
        self.assertEqual(told(d, "READY="), ["READY=1"])

    def test_ready_does_not_wait_where_the_feed_is_optional(self):
        _, d = self.away("no")
        d.wait_notify("READY=1")
        wait_told(d, r"STATUS=0 connections, feed pubsub is down: .+")
        self.assertEqual(told(d, "EXTEND_TIMEOUT_USEC="), [])

    def test_ready_comes_when_a_reload_makes_the_feed_optional(self):
        _, d = self.away("yes")
        wait_told(d, r"STATUS=waiting for the feed: .*")
        self.assertEqual(d.reload(feed={"required": "no"})["changed"], ["feed.required"])
        d.wait_notify("READY=1")
        # It was no reload for the manager: to it we still started.
        self.assertEqual(told(d, "RELOADING="), [])

    def test_stop_while_waiting_for_the_feed(self):
        _, d = self.away("yes")
        wait_told(d, r"STATUS=waiting for the feed: .*")
        d.stop()
        self.assertEqual(told(d, "READY="), [])
        self.assertEqual(told(d, "STOPPING="), ["STOPPING=1"])

    def test_feed_that_goes_later_changes_the_status_alone(self):
        redis = self.redis()
        d = self.daemon({"feed": {"required": "yes"}}, redis=redis)
        wait_told(d, r"STATUS=0 connections, feed pubsub")
        forget(d)
        redis.stop()
        wait_told(d, r"STATUS=0 connections, feed pubsub is down: .+")
        self.assertEqual(told(d, "READY=", "STOPPING=", "RELOADING="), [])
        redis.start()
        wait_told(d, r"STATUS=0 connections, feed pubsub")

    def test_workers_do_not_inherit_the_manager(self):
        d = self.daemon(env={"WATCHDOG_USEC": "60000000"})
        for w in d.workers():
            with open("/proc/%d/environ" % w["keeper_pid"]) as f:
                self.assertNotRegex(f.read(), "NOTIFY_SOCKET|WATCHDOG_")


class Status(Case):
    def test_status_changes_at_most_once_a_second(self):
        d = self.daemon(env={"WATCHDOG_USEC": "200000"})  # told every 0.1 s
        wait_told(d, r"STATUS=0 connections, feed embedded")

        async def go():
            v1s = []
            while len(told(d, "STATUS=")) < 6:
                v1s.append(await V1.open(d))
            for v in v1s:
                await v.close()

        run(go())
        wait_told(d, r"STATUS=[1-9]\d* connections, feed embedded")
        with d.changed:
            lines = list(d.notified)
        at = [i for i, line in enumerate(lines) if line.startswith("STATUS=")]
        apart = []
        for a, b in zip(at[1:], at[2:]):  # the first came with READY=1
            self.assertNotEqual(lines[a], lines[b])
            apart.append(lines[a:b].count("WATCHDOG=1"))
        # A machine that stands still tells of a second by one of them, but not each time.
        self.assertGreaterEqual(sorted(apart)[1], 3, lines)

    def test_status_that_stays_is_said_once(self):
        d = self.daemon(env={"WATCHDOG_USEC": "400000"})
        wait_told(d, r"STATUS=0 connections, feed embedded")
        wait_until("2.4 s pass", lambda: len(told(d, "WATCHDOG=1")) >= 12)
        self.assertEqual(told(d, "STATUS="), ["STATUS=0 connections, feed embedded"])

    def test_status_says_that_it_drains(self):
        d = self.daemon(workers=2)
        d.ctl("drain", over=0)
        wait_told(d, r"STATUS=draining 2 of 2 workers: 0 connections, feed embedded")
        d.ctl("undrain")
        forget(d)
        wait_told(d, r"STATUS=0 connections, feed embedded")


class Reload(Case):
    def assert_told(self, d, reload):
        """RELOADING=1 with the time, then READY=1, whatever came of it."""
        forget(d)
        before = time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000
        reload()
        d.wait_notify("READY=1")
        after = time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000
        lines = told(d, "RELOADING=", "MONOTONIC_USEC=", "READY=")
        self.assertEqual([line.split("=")[0] for line in lines],
                         ["RELOADING", "MONOTONIC_USEC", "READY"])
        self.assertTrue(before <= int(lines[1].split("=")[1]) <= after, lines)

    def test_reload_by_signal_is_told(self):
        d = self.daemon()
        for size in (1000, "many", 2000):
            d.configure(limits={"max_message_size": size})
            self.assert_told(d, lambda: d.proc.send_signal(signal.SIGHUP))

    def test_reload_by_wsctl_is_told(self):
        """The one that systemctl waits for: it fails with a bad file."""
        d = self.daemon()
        for size, status in ((1000, 0), ("many", 1), (2000, 0)):
            d.configure(limits={"max_message_size": size})
            out = []
            self.assert_told(d, lambda: out.append(d.wsctl("reload", check=False)))
            self.assertEqual(out[0].returncode, status, out)


class Stop(Case):
    def test_stop_is_told_and_takes_its_time(self):
        d = self.daemon({"server": {"drain_timeout": "6s"}}, workers=1)

        async def go():
            v1s = [await V1.open(d) for _ in range(4)]
            d.proc.send_signal(signal.SIGTERM)
            self.assertEqual([await close_code(v.ws) for v in v1s], [1001] * 4)

        run(go())
        self.assertEqual(d.wait_end(), 0)
        wait_told(d, "STATUS=stopping: [0-4] connections, feed embedded")
        lines = told(d, "STOPPING=", "EXTEND_TIMEOUT_USEC=")
        self.assertEqual(lines[0], "STOPPING=1")
        self.assertGreaterEqual(len(lines), 3)  # at once, and after each second
        self.assertEqual(set(lines[1:]), {"EXTEND_TIMEOUT_USEC=15000000"})
        d.check_gone()


class Watchdog(Case):
    def test_watchdog_is_fed(self):
        d = self.daemon(env={"WATCHDOG_USEC": "400000"})
        for _ in range(3):
            forget(d)
            d.wait_notify("WATCHDOG=1")

    def test_watchdog_of_another_process_is_not_ours(self):
        d = self.daemon(env={"WATCHDOG_USEC": "400000", "WATCHDOG_PID": "1"})
        run(self.client(d))
        wait_told(d, r"STATUS=1 connections, feed embedded")
        self.assertEqual(told(d, "WATCHDOG=1"), [])

    async def client(self, d):
        self.v1 = await V1.open(d)

    def test_watchdog_is_fed_while_a_stopped_worker_is_replaced(self):
        d = self.daemon({"ring": {"size": "1M"}}, workers=2,
                        env={"WATCHDOG_USEC": "200000"})
        worker = d.workers()[0]
        os.kill(worker["pid"], signal.SIGSTOP)

        def replaced():
            d.publish("news", "x" * 50000)
            return d.workers()[0]["pid"] not in (0, worker["pid"])

        wait_until("it is replaced", replaced, every=0.02)
        forget(d)
        d.wait_notify("WATCHDOG=1")
        d.wait_serving()
        self.assertEqual(d.workers()[0]["stuck"], 1)

    def test_watchdog_is_not_fed_by_a_stopped_supervisor(self):
        d = self.daemon(env={"WATCHDOG_USEC": "200000"})
        os.kill(d.pid, signal.SIGSTOP)
        wait_until("it stopped", lambda: proc_stat(d.pid)[1] == "T")
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as s:
            s.sendto(b"BEHIND=1", d.notify.getsockname())
        d.wait_notify("BEHIND=1")  # what it had sent is read
        forget(d)
        time.sleep(1)  # ten times
        self.assertEqual(told(d, "WATCHDOG=1"), [])
        os.kill(d.pid, signal.SIGCONT)
        d.wait_notify("WATCHDOG=1")


if __name__ == "__main__":
    unittest.main()
