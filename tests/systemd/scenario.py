"""From the first install to the last trace gone, under systemd, with 500 clients.

The steps build on each other and run in the order of their names. Behind each, every
client must be there again and have what was published meanwhile, or have been told that
it cannot be had; what the step cost them is a line of the table that is printed.
"""

import json
import os
import re
import sys
import time

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from crowd import Crowd
from machine import CACHE, Suite

CLIENTS = 500
CONF = "/etc/wscast/wscast.conf"
ALL = "all"  # of the clients
WAIT_S = 120
# What a client does that has no library: asks, and prints what comes.
ASK = """curl -s -m 3 -o /dev/null -w '%%{http_code}' -H 'Connection: Upgrade' -H 'Upgrade: websocket' \
-H 'Sec-WebSocket-Version: 13' -H 'Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==' %s"""


class Scenario:
    """The steps; a test_*.py names the suite."""

    suite = None

    @classmethod
    def setUpClass(cls):
        cls.rows, cls.crowd, cls.broken = [], None, None
        cls.m = Suite(cls.suite).machine()

    @classmethod
    def tearDownClass(cls):
        if cls.crowd:
            cls.crowd.stop()
        cls.m.done()
        head = ("step", "closed", "told of loss", "lost", "repeated", "seconds", "codes")
        widths = [max(len(str(r[i])) for r in cls.rows + [head]) for i in range(len(head))]
        lines = ["  ".join(str(v).ljust(w) for v, w in zip(row, widths)).rstrip()
                 for row in [head] + cls.rows]
        with open(os.path.join(CACHE, cls.suite, "result.txt"), "w") as f:
            f.write("".join(line + "\n" for line in lines))
        print("\nWhat each step cost %d clients, %s:" % (CLIENTS, cls.suite))
        for line in lines:
            print("| " + line)

    def setUp(self):
        if self.broken:
            self.skipTest("%s failed before" % self.broken)
        self.begun = time.monotonic()

    def run(self, result=None):
        """Where a step fails, what the service said is shown; the others need it."""
        before = len(result.failures) + len(result.errors)
        super().run(result)
        if len(result.failures) + len(result.errors) > before:
            type(self).broken = self._testMethodName
            print("\n" + self.m.run("systemctl status --no-pager -l -n 0 wscast",
                                    check=False).stdout + self.m.journal())
        return result

    # -- what steps need --

    def cost(self, step, closed, declared=0):
        """Settle, add a line to the table, and hold what it says. ALL: of the clients;
        None: whatever it was."""
        self.crowd.settle()
        c = self.crowd.cost()
        self.rows.append((step, c.closed, c.declared, c.lost, c.repeated,
                          "%.1f" % (time.monotonic() - self.begun), c.codes))
        for what, is_now, wanted in (("closed", c.closed, closed),
                                     ("told of loss", c.declared, declared),
                                     ("lost in silence", c.lost, 0),
                                     ("repeated", c.repeated, 0)):
            if wanted is not None:
                self.assertEqual(is_now, CLIENTS if wanted is ALL else wanted,
                                 "%s: %s, %r" % (step, what, c))
        return c

    def wait(self, what, question, timeout=WAIT_S):
        end = time.monotonic() + timeout
        while True:
            answer = question()
            if answer:
                return answer
            if time.monotonic() > end:
                self.fail("never came: " + what)
            time.sleep(0.1)

    def workers(self):
        return json.loads(self.m.out("wsctl --json workers"))["workers"]

    def wait_workers(self, but=()):
        self.wait("all workers serve", lambda: all(
            w["state"] == "serving" and w["pid"] not in but for w in self.workers()))

    def assert_running(self, restarts):
        """Active, by the manager's count of restarts of its own. Before our program is
        executed systemd may fail to make its cgroup (status 219), where machines share the
        host's hierarchy: it tries again, and that is none of ours."""
        tried_again = self.m.journal().count("status=219/CGROUP")
        self.assertEqual(self.m.show("ActiveState"), "active")
        self.assertIn(int(self.m.show("NRestarts")),
                      range(restarts, restarts + tried_again + 1))

    def configure(self, *changes):
        """Uncomment and set keys of the file that was installed: (key, value) pairs, or
        text to be added."""
        with open(self.m.path(CONF)) as f:
            text = f.read()
        for change in changes:
            if isinstance(change, str):
                text += "\n" + change + "\n"
                continue
            key, value = change
            text, n = re.subn(r"^;?%s =.*$" % re.escape(key), "%s = %s" % (key, value),
                              text, flags=re.M)
            self.assertEqual(n, 1, key)
        with open(self.m.path(CONF), "w") as f:
            f.write(text)

    def assert_heard(self, command):
        """Somebody who listens to the channel `other` gets what this publishes."""
        self.m.run("rm -f /run/tail; systemd-run -q --collect --unit=tail "
                   "sh -c 'exec wsctl tail other >/run/tail'")
        self.wait("the message", lambda: (
            self.m.run(command),
            "MESSAGE" in self.m.run("cat /run/tail", check=False).stdout)[1])
        self.m.run("systemctl stop tail")

    def ask(self, url, *options):
        return self.m.run(ASK % " ".join(["'%s'" % url] + list(options)), check=False).stdout

    # -- the steps --

    def test_01_install_leaves_a_running_service(self):
        self.m.run("apt-get -q install -y --no-install-recommends /srv/wscast/wscast_lower.deb "
                   "/srv/wscast/wscast-bench_*.deb curl")
        self.assert_running(0)
        self.assertEqual(self.m.out("systemctl is-enabled wscast"), "enabled")
        self.assertEqual(self.m.out("stat -c %U:%G:%a /run/wscast/control.sock"),
                         "wscast:wscast:660")
        type(self).crowd = Crowd(self.m.leader, self.m.path("/run/wscast/control.sock"), CLIENTS)
        self.crowd.start()
        self.cost("install, and come", 0)
        self.wait("the status", lambda: self.m.show("StatusText") ==
                  "%d connections, feed embedded" % CLIENTS)

    def test_02_hardening_is_rated_below_2(self):
        text = self.m.out("systemd-analyze security --no-pager wscast")
        rated = float(re.search(r"level for wscast\.service: ([\d.]+)", text).group(1))
        self.rows.append(("systemd-analyze security: %.1f" % rated, "", "", "", "", "", ""))
        self.assertLess(rated, 2.0, text)
        self.assertEqual(self.m.run("systemd-analyze verify --man=no wscast.service").stderr, "")

    def test_03_wsctl_is_for_members_of_the_group(self):
        self.m.run("useradd -m -G wscast member && useradd -m stranger")
        self.assertIn("connections", self.m.out("runuser -u member -- wsctl status"))
        self.m.run("runuser -u member -- wsctl publish other '\"hello\"'")
        p = self.m.run("runuser -u stranger -- wsctl status", check=False)
        self.assertEqual(p.returncode, 1)
        self.assertRegex(p.stderr, "no permission .* group wscast")
        self.cost("wsctl", 0)

    def test_04_publish_reaches_a_client(self):
        self.assert_heard("wsctl publish other MESSAGE")
        self.cost("publish", 0)

    def test_05_upgrade_keeps_what_was_set(self):
        """Only the worker is another: where that is so clients stay."""
        self.configure(("max_connections", 4000))
        before = self.m.show("MainPID")
        old = {w["pid"] for w in self.workers()}
        self.m.run("apt-get -q install -y --no-install-recommends /srv/wscast/wscast_new.deb")
        self.assertIn("max_connections = 4000", self.m.out("cat " + CONF))
        self.wait_workers(old)
        self.assertEqual(self.m.show("MainPID"), before)
        for w in self.workers():
            self.assertEqual(self.m.out("readlink /proc/%d/exe" % w["pid"]),
                             "/usr/libexec/wscast/wscast-worker")
        self.assert_running(0)
        self.cost("upgrade, another worker", 0)

    def test_06_worker_killed(self):
        old = {w["pid"] for w in self.workers()}
        self.m.run("kill -9 " + " ".join(map(str, old)))
        self.wait_workers(old)
        self.assert_running(0)
        self.cost("workers: kill -9", 0)

    def test_07_worker_restarted(self):
        self.m.run("wsctl restart")
        self.assert_running(0)
        self.cost("wsctl restart", 0)

    def test_08_worker_stopped(self):
        """The supervisor sees that it does not move, and replaces it."""
        pid = self.workers()[0]["pid"]
        self.m.run("kill -STOP %d" % pid)
        self.wait("it is replaced", lambda: self.workers()[0]["pid"] not in (0, pid))
        self.wait_workers((pid,))
        self.assert_running(0)
        self.cost("worker: kill -STOP", 0)

    def test_09_reload_good(self):
        self.configure(("max_connections", 3000))
        self.m.run("systemctl reload wscast")
        self.assertEqual(self.m.out("wsctl config server.max_connections").split()[-1], "3000")
        self.assert_running(0)
        self.cost("reload, good", 0)

    def test_10_reload_bad(self):
        good = self.m.out("cat " + CONF)
        self.configure(("max_connections", "many"), ("ping_interval", "soon"))
        p = self.m.run("systemctl reload wscast", check=False)
        self.assertNotEqual(p.returncode, 0)
        for key in ("max_connections", "ping_interval"):
            self.wait("the fault with its line", lambda k=key: re.search(
                r"%s:\d+: %s" % (CONF, k), self.m.journal()))
        self.assertEqual(self.m.out("wsctl config server.max_connections").split()[-1], "3000")
        self.assert_running(0)
        self.m.write(CONF, good + "\n")
        self.m.run("systemctl reload wscast")
        self.cost("reload, bad", 0)

    def test_11_token(self):
        self.m.run("openssl rand -base64 48 >/etc/wscast/secret && "
                   "chgrp wscast /etc/wscast/secret && chmod 640 /etc/wscast/secret")
        # The first rule that matches holds.
        text = self.m.out("cat " + CONF).replace(
            "[channel *]", "[channel staff]\nsubscribe = authenticated\n\n[channel *]", 1)
        self.m.write(CONF, text + "\n")
        self.configure(("mode", "optional"), ("secret_file", "/etc/wscast/secret"))
        self.m.run("systemctl reload wscast")
        token = self.m.out("wsctl token --sub alice --ttl 1h")
        here = "http://127.0.0.1:8080/ws/staff"
        self.assertEqual(self.ask(here), "403")
        self.assertEqual(self.ask(here + "?token=" + token), "101")
        self.assertEqual(self.ask(here + "?token=wrong"), "401")
        self.cost("tokens, by a reload", 0)

    def test_12_drain_and_abort(self):
        """Those who were told come back, and miss nothing."""
        self.m.run("systemd-run -q --unit=drain wsctl drain --over 20s")
        self.wait("some were told", lambda: sum(w["drained"] for w in self.workers()) >= 20)
        self.assertEqual(self.ask("http://127.0.0.1:8080/ws/other"), "503")
        self.wait("the status", lambda: self.m.show("StatusText").startswith("draining"))
        self.m.run("wsctl undrain")
        c = self.cost("drain, and abort", None)
        self.assertTrue(20 <= c.closed < CLIENTS, c)
        self.assertEqual((c.resumed, c.codes), (c.closed, "%dx1012" % c.closed))
        self.assert_running(0)

    def test_13_redis_and_tls(self):
        """What takes a restart. The service is ready once Redis is there; who is served
        before that stays."""
        self.m.run("apt-get -q install -y --no-install-recommends redis-server && "
                   "systemctl stop redis-server")
        self.m.run("cd /etc/wscast && openssl req -x509 -newkey ec -pkeyopt "
                   "ec_paramgen_curve:P-256 -nodes -days 2 -subj /CN=localhost "
                   "-addext subjectAltName=DNS:localhost -keyout key.pem -out cert.pem && "
                   "chgrp wscast key.pem && chmod 640 key.pem")
        self.configure(("source", "pubsub"), ("redis", "redis://127.0.0.1:6379/0"),
                       ("listen", "0.0.0.0:8080\nlisten = 0.0.0.0:8443 tls=yes"),
                       ("certificate", "/etc/wscast/cert.pem"), ("key", "/etc/wscast/key.pem"),
                       ("drain_timeout", "2s"))
        self.m.run("systemctl restart --no-block wscast")
        self.wait("the status", lambda: self.m.show("StatusText").startswith(
            "waiting for the feed"))
        self.assertEqual(self.m.show("ActiveState"), "activating")
        self.m.run("systemctl start redis-server")
        self.wait("active", lambda: self.m.show("ActiveState") == "active")
        self.assertEqual(self.ask("https://localhost:8443/ws/other",
                                  "--http1.1 --cacert /etc/wscast/cert.pem"), "101")
        self.assert_heard("redis-cli PUBLISH wscast:other MESSAGE")
        self.cost("restart: Redis %s, TLS" % re.search(
            r"v=([\d.]+)", self.m.out("redis-server --version")).group(1), ALL, None)
        self.assert_running(0)

    def test_14_redis_restarted(self):
        """What was published meanwhile by others may have passed: that is declared."""
        self.m.run("systemctl restart redis-server")
        self.cost("Redis restarted", 0, ALL)
        self.assert_running(0)

    def test_15_supervisor_killed(self):
        pid = self.m.show("MainPID")
        self.m.run("kill -9 " + pid)
        self.wait("another", lambda: self.m.show("MainPID") not in ("0", pid)
                  and self.m.show("ActiveState") == "active")
        self.assert_running(1)
        self.cost("supervisor: kill -9", ALL, ALL)

    def test_16_supervisor_stopped(self):
        """It does not feed the watchdog, so it is ended and started anew."""
        self.m.run("mkdir -p /etc/systemd/system/wscast.service.d && printf "
                   "'[Service]\\nWatchdogSec=5\\n' >/etc/systemd/system/wscast.service.d/x.conf "
                   "&& systemctl daemon-reload && systemctl restart wscast")
        self.cost("systemctl restart", ALL, ALL)
        pid = self.m.show("MainPID")
        self.m.run("kill -STOP " + pid)
        self.wait("another", lambda: self.m.show("MainPID") not in ("0", pid)
                  and self.m.show("ActiveState") == "active")
        self.assertIn("Watchdog timeout", self.m.run(
            "journalctl -q -b --no-pager -u wscast").stdout)
        self.assert_running(1)
        self.cost("supervisor: kill -STOP", ALL, ALL)

    def test_17_stop_tells_clients(self):
        self.m.run("systemctl stop wscast")
        self.assertEqual((self.m.show("ActiveState"), self.m.show("Result")),
                         ("inactive", "success"))
        self.m.run("systemctl start wscast")
        c = self.cost("systemctl stop, start", ALL, ALL)
        self.assertEqual(c.codes, "%dx1001" % CLIENTS)

    def test_18_remove_and_purge_leave_nothing(self):
        type(self).crowd = self.crowd.stop()
        self.m.run("apt-get -q remove -y wscast wscast-bench")
        self.assertEqual(self.m.run("systemctl is-active wscast", check=False).stdout.strip(),
                         "inactive")
        self.assertEqual(self.m.out("ls -l /proc/*/exe 2>/dev/null | grep -c /wscast || :"), "0")
        self.assertIn("max_connections = 3000", self.m.out("cat " + CONF))
        self.m.run("rm -rf /etc/systemd/system/wscast.service.d; rm /etc/wscast/*.pem "
                   "/etc/wscast/secret")  # what was put there by hand
        self.m.run("apt-get -q purge -y wscast wscast-bench")
        left = self.m.out("find / -xdev \\( -path /proc -o -path /sys -o -path /srv -o "
                          "-path /var/cache/apt -o -path /var/log \\) -prune -o "
                          "-name '*wscast*' -print; ls -d /run/wscast 2>/dev/null || :")
        self.assertEqual(left, "")
        self.assertEqual(self.m.run("systemctl list-unit-files --no-legend 'wscast*'",
                                    check=False).stdout, "")
        self.assertEqual(self.m.out("dpkg -l 'wscast*' 2>/dev/null | grep -c ^rc || :"), "0")
