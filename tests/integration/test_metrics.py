"""Metrics: what is counted, by worker and by rule, and what the page, the dashboard and
the alert rules say of it."""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import unittest

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from admin import AdminCase
from harness import DEADLINE, ROOT, SANITIZED, cpu_seconds, wait_until
from wsclient import V1, raw, run

DASHBOARD = os.path.join(ROOT, "packaging", "grafana", "wscast.json")
ALERTS = os.path.join(ROOT, "packaging", "prometheus", "wscast.rules.yml")
ALERT_TESTS = os.path.join(ROOT, "packaging", "prometheus", "wscast.rules.test.yml")
PAGE = os.path.join(ROOT, "man", "wscastd.8")


def families(text):
    """{name: (help, type)} of an exposition."""
    helps = dict(re.findall(r"^# HELP (\S+) (.*)$", text, re.M))
    return {name: (helps[name], kind)
            for name, kind in re.findall(r"^# TYPE (\S+) (\w+)$", text, re.M)}


def names_in(text):
    """The names of our metrics that an expression, or a page, has."""
    return {re.sub(r"_(bucket|sum|count)$", "", name) if "_seconds_" in name else name
            for name in re.findall(r"\bwscast_[a-z_]+[a-z]\b", text)}


class Metrics(AdminCase):
    def text(self):
        return self.ask("GET", "/metrics")[2]

    def promtool(self, *args, stdin=None):
        promtool = shutil.which("promtool")
        if promtool is None:
            self.skipTest("no promtool here (Debian: prometheus)")
        out = subprocess.run([promtool, *args], input=stdin, text=True,
                             stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                             timeout=4 * DEADLINE)
        self.assertEqual(out.returncode, 0, out.stdout)
        return out.stdout

    def test_metrics_count_what_happens(self):
        d = self.admin({"limits": {"channels_per_connection": 1}}, workers=2)

        async def go():
            held = [await V1.open(d, "news") for _ in range(10)]
            self.assertEqual(await held[0].error(subscribe="b"), "limit")
            for _ in range(5):
                self.publish({"channel": "news", "data": 1})
            for v1 in held:
                for _ in range(5):
                    await v1.event()
            # A message is counted behind its last send.
            wait_until("all are counted", lambda: d.counter("sent") == 50)
            m = self.metrics()

            def sum_of(name):
                return sum(v for k, v in m.items() if k.split("{")[0] == name)

            self.assertEqual(sum_of("wscast_connections"), 10)
            self.assertEqual(sum_of("wscast_sent_total"), 50)
            self.assertEqual(sum_of("wscast_limited_channels_total"), 1)
            self.assertEqual(m["wscast_messages_total"], 5)
            self.assertEqual(m["wscast_admin_published_total"], 5)
            self.assertEqual(m["wscast_limit_channels_per_connection"], 1)
            self.assertEqual(m["wscast_feed_up"], 1)
            serving = sum(1 for w in d.workers() if w["subscriptions"])

            def noted():  # a message is noted behind its last send
                nonlocal m
                m = self.metrics()
                return all(sum_of(name + "_count") == 5 * serving for name in names)

            names = ("wscast_latency_seconds", "wscast_fanout_seconds")
            wait_until("the times of all messages", noted)
            for name in names:
                self.assertEqual(m[name + '_bucket{worker="0",le="+Inf"}'],
                                 m[name + '_count{worker="0"}'])
                self.assertGreater(sum_of(name + "_sum"), 0)
            for v1 in held:
                await v1.close()

        run(go())
        before = self.metrics()
        w = d.workers()[0]
        os.kill(w["pid"], signal.SIGKILL)
        d.wait_serving(but=[w["pid"]])
        after = self.metrics()
        self.assertEqual(after['wscast_worker_restarts_total{worker="0"}'], 1)
        for name, value in before.items():
            if re.search(r"_total|_count|_sum|_bucket", name):
                self.assertGreaterEqual(after[name], value, name)

    def test_metrics_by_wsctl_are_the_same(self):
        d, without = self.admin(), self.daemon()
        want = {name.split("{")[0] for name in self.metrics()}
        for each in (d, without):  # also where there is no listener
            names = set(re.findall("^wscast_[a-z_]+", each.wsctl("metrics").stdout, re.M))
            self.assertEqual(names, want)

    def test_metrics_are_never_by_channel(self):
        self.admin()
        before = len(self.metrics())
        self.publish([{"channel": "c%d" % n, "data": 1} for n in range(500)])
        self.assertEqual(len(self.metrics()), before)

    # -- by rule --

    def rule(self, name, glob, m=None):
        m = m or self.metrics()
        return m['wscast_rule_%s_total{rule="%s"}' % (name, glob)]

    RULES = {
        "channel chat:*": {"publish": "anyone", "rate": "2", "max_message_size": "20"},
        "channel secret:*": {"subscribe": "nobody"},
        'channel "odd\\\\*': {},
    }

    def test_metrics_by_rule_count_what_happens_there(self):
        d = self.admin(self.RULES, workers=2)

        async def go():
            held = [await V1.open(d, "chat:1", "news") for _ in range(6)]
            for n in range(4):
                d.publish("chat:1", "1234")
                d.publish("news", "123")
            d.publish("nobody:hears", "12345")
            for v1 in held:
                for _ in range(8):
                    await v1.event()
            asked = held[0]
            self.assertEqual(await asked.error(subscribe="secret:1"), "forbidden")
            self.assertEqual(await asked.error(publish="news", data=1), "forbidden")
            self.assertEqual(await asked.error(publish="chat:1", data="x" * 20),
                             "too_large")
            await asked.ok(publish="chat:1", data=1)
            await asked.ok(publish="chat:1", data=2)
            self.assertEqual(await asked.error(publish="chat:1", data=3), "rate_limited")
            wait_until("all are passed on",
                       lambda: self.rule("deliveries", "chat:*") == 36)
            m = self.metrics()
            for name, glob, want in (
                    ("messages", "chat:*", 6), ("message_bytes", "chat:*", 18),
                    ("deliveries", "chat:*", 36), ("delivery_bytes", "chat:*", 6 * 18),
                    ("messages", "*", 5), ("message_bytes", "*", 17),
                    ("deliveries", "*", 24), ("delivery_bytes", "*", 72),
                    ("messages", "secret:*", 0), ("messages", '\\"odd\\\\\\\\*', 0),
                    ("subscribe_forbidden", "secret:*", 1), ("publish_forbidden", "*", 1),
                    ("publish_too_large", "chat:*", 1), ("publish_too_fast", "chat:*", 1)):
                self.assertEqual(self.rule(name, glob, m), want, (name, glob))
            self.assertEqual(sum(v for k, v in m.items() if "rule_messages_total" in k),
                             m["wscast_messages_total"])
            for v1 in held:
                await v1.close()

        run(go())

    def test_metrics_by_rule_follow_their_rule(self):
        """Over a reload that puts others before it, and over a worker's death."""
        d = self.admin(self.RULES, workers=1)

        async def go():
            ws = await raw(d, "chat:1")

            async def publish(channel, total):
                d.publish(channel, "x")
                await ws.recv()
                wait_until("it is counted",
                           lambda: self.rule("deliveries", "chat:*") == total)

            await publish("chat:1", 1)
            chat = d.settings.pop("channel chat:*")
            d.configure(**{"channel new:*": {}, "channel chat:*": chat})
            d.ctl("reload")
            self.assertEqual(self.rule("messages", "chat:*"), 1)
            self.assertEqual(self.rule("messages", "new:*"), 0)
            await publish("chat:1", 2)
            pid = d.workers()[0]["pid"]
            os.kill(pid, signal.SIGKILL)
            d.wait_serving(but=(pid,))
            await publish("chat:1", 3)
            d.reload(**{"channel chat:*": None})
            self.assertNotIn('wscast_rule_messages_total{rule="chat:*"}', self.metrics())
            d.publish("chat:1", "x")
            await ws.recv()
            wait_until("it is counted elsewhere",
                       lambda: self.rule("deliveries", "*") == 1)
            await ws.close()

        run(go())

    def test_metrics_by_rule_have_a_bound(self):
        d = self.admin({"channel c%d" % n: {} for n in range(100)}, workers=1)
        d.publish("c62", "x")
        d.publish("c63", "x")
        d.publish("c99", "x")
        m = self.metrics()
        self.assertEqual(sum(k.startswith("wscast_rule_messages_total{") for k in m), 64)
        self.assertEqual(self.rule("messages", "c62", m), 1)
        self.assertEqual(self.rule("messages", "(others)", m), 2)

    def test_metrics_by_rule_count_the_slow(self):
        for slow, counters in (("close", ["closed_slow"]),
                               ("skip", ["skipped", "skipped_messages"])):
            with self.subTest(slow):
                d = self.admin({"ring": {"size": "1M"}, "limits": {"send_buffer": "4k"},
                                "channel big:*": {"slow": slow}}, workers=1)

                async def go():
                    ws = await raw(d, "big:1", max_queue=1, read_limit=1024)
                    ws.transport.pause_reading()

                    def lapped():
                        for _ in range(20):
                            d.publish("big:1", "x" * 20000)
                        return self.rule(counters[0], "big:*") == 1

                    wait_until("the client is lapped", lapped)
                    for name in counters:
                        self.assertGreaterEqual(self.rule(name, "big:*"), 1)
                        self.assertEqual(self.rule(name, "*"), 0)
                    ws.transport.abort()

                run(go())

    # -- what others say of them --

    def test_metrics_promtool_finds_nothing(self):
        self.admin(self.RULES, redis=self.redis())
        self.assertEqual(self.promtool("check", "metrics", stdin=self.text()), "")

    def test_metrics_are_those_of_the_page(self):
        self.admin(redis=self.redis())  # which has the most
        have = families(self.text())
        with open(PAGE, encoding="utf-8") as f:
            section = f.read().split("\n.Sh METRICS\n")[1].split("\n.Sh ")[0]
        listed = {}
        for group in section.split("\n.Ss ")[1:]:
            kind = "histogram" if group.startswith("Times") else None
            for name, text in re.findall(r"^\.It Li (\S+)\n((?:[^.].*\n)+)", group, re.M):
                self.assertNotIn(name, listed)
                listed[name] = (text.replace("\n", " ").strip(), kind or (
                    "counter" if name.endswith("_total") else "gauge"))
        self.assertEqual(listed, have)

    def test_metrics_that_pages_name_are_there(self):
        self.admin(redis=self.redis())  # which has the most
        have = set(families(self.text()))
        folder = os.path.join(ROOT, "man")
        for page in os.listdir(folder):
            with open(os.path.join(folder, page), encoding="utf-8") as f:
                self.assertEqual(names_in(f.read()) - have, set(), page)

    def test_metrics_of_the_dashboard_are_there(self):
        self.admin(redis=self.redis())  # which has the most
        have = set(families(self.text()))
        with open(DASHBOARD, encoding="utf-8") as f:
            board = json.load(f)
        panels = [p for p in board["panels"] if p["type"] != "row"]
        self.assertEqual(len({p["id"] for p in board["panels"]}), len(board["panels"]))
        self.assertGreater(len(panels), 20)
        for panel in panels:
            self.assertTrue(panel["targets"], panel["title"])
            for target in panel["targets"]:
                expr = target["expr"]
                self.assertTrue(names_in(expr), expr)
                self.assertEqual(names_in(expr) - have, set(), panel["title"])
        self.parses([t["expr"] for p in panels for t in p["targets"]])

    def parses(self, expressions):
        """Prometheus can read them: Grafana's variables stand for something."""
        rules = {"groups": [{"name": "dashboard", "rules": [
            {"record": "wscast:expr%d" % n,
             "expr": e.replace("$__rate_interval", "1m").replace("$instance", ".*")}
            for n, e in enumerate(expressions)]}]}
        path = os.path.join(self.enterContext(tempfile.TemporaryDirectory()), "rules.json")
        with open(path, "w") as f:  # JSON is YAML, too
            json.dump(rules, f)
        self.assertIn("%d rules found" % len(expressions),
                      self.promtool("check", "rules", path))

    def test_metrics_of_the_alerts_are_there(self):
        self.admin(redis=self.redis())  # which has the most
        with open(ALERTS, encoding="utf-8") as f:
            text = f.read()
        exprs = re.sub(r"^ *(#|description:|summary:|- alert:).*", "", text, flags=re.M)
        self.assertEqual(names_in(exprs) - set(families(self.text())), set())
        self.assertNotIn("FAILED", self.promtool("check", "rules", ALERTS))

    def test_metrics_each_alert_is_tested(self):
        """It fires, and it does not: each has both in the file of promtool's tests."""
        with open(ALERTS, encoding="utf-8") as f:
            alerts = re.findall(r"^ *- alert: (\w+)$", f.read(), re.M)
        with open(ALERT_TESTS, encoding="utf-8") as f:
            text = f.read()
        self.assertEqual(len(alerts), len(set(alerts)))
        for alert in alerts:
            tests = re.findall(r"alertname: %s\n *exp_alerts:( \[\])?\n" % alert, text)
            self.assertEqual(sorted(tests), ["", " []"], alert)
        self.assertIn("SUCCESS", self.promtool("test", "rules", ALERT_TESTS))

    # -- what they cost --

    @unittest.skipIf(SANITIZED, "a sanitizer's cost is not ours")
    def test_metrics_once_a_second_cost_under_a_hundredth_of_a_core(self):
        """CPU time of the supervisor, which answers; of many scrapes, as its clock is
        coarse."""
        d = self.admin(self.RULES, workers=8)
        self.text()
        scrapes, before = 300, cpu_seconds([d.pid])
        for _ in range(scrapes):
            self.text()
        each = (cpu_seconds([d.pid]) - before) / scrapes
        self.assertLess(each, 0.01)


if __name__ == "__main__":
    unittest.main()
