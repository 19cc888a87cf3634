"""`make install`: what lands where, and what an upgrade makes of a running server."""

import os
import shutil
import stat
import subprocess
import sys
import tempfile
import unittest

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)),
                                "..", "integration"))
from harness import BIN, DEADLINE, ROOT, Case

# Below the prefix, but for the settings.
INSTALLED = """
755 bin/wsbench
755 bin/wsctl
755 sbin/wscastd
755 libexec/wscast/after-upgrade
755 libexec/wscast/wscast-worker
644 lib/systemd/system/wscast.service
644 lib/sysusers.d/wscast.conf
644 lib/tmpfiles.d/wscast.conf
644 share/wscast/demo.html
644 share/man/man1/wsbench.1
644 share/man/man1/wsctl.1
644 share/man/man5/wscast.conf.5
644 share/man/man7/wscast-tuning.7
644 share/man/man7/wscast.7
644 share/man/man8/wscastd.8
644 share/doc/wscast/README.md
644 share/doc/wscast/design.md
644 share/doc/wscast/examples/grafana/wscast.json
644 share/doc/wscast/examples/haproxy.cfg
644 share/doc/wscast/examples/nginx.conf
644 share/doc/wscast/examples/prometheus/wscast.rules.yml
644 share/doc/wscast/examples/sysctl.conf
644 share/doc/wscast/examples/wscast-redis.conf
644 share/doc/wscast/examples/wscast-tls.conf
644 share/doc/wscast/examples/wscast-tokens.conf
""".split("\n")[1:-1]


def completions():
    """Those that the tree has, where the shells look."""
    folder = os.path.join(ROOT, "packaging", "completions")
    for name in os.listdir(folder) if os.path.isdir(folder) else ():
        if name.endswith(".bash"):
            yield "644 share/bash-completion/completions/" + name[:-5]
        elif name.endswith(".fish"):
            yield "644 share/fish/vendor_completions.d/" + name
        elif name.startswith("_"):
            yield "644 share/zsh/site-functions/" + name


def files_below(top):
    """["755 usr/bin/wsctl", …]"""
    found = []
    for folder, _, names in os.walk(top):
        for name in names:
            path = os.path.join(folder, name)
            mode = stat.S_IMODE(os.lstat(path).st_mode)
            found.append("%o %s" % (mode, os.path.relpath(path, top)))
    return sorted(found)


class InstallCase(Case):
    def setUp(self):
        self.root = self.enterContext(tempfile.TemporaryDirectory())

    def make(self, target, **variables):
        """Of the programs as they are: paths that they know would make them anew."""
        variables = dict({"bin": BIN, "DESTDIR": self.root}, **variables)
        subprocess.run(["make", "-s", "-o", "all", target]
                       + ["%s=%s" % v for v in variables.items()], cwd=ROOT, check=True,
                       timeout=DEADLINE, stdout=subprocess.DEVNULL)


class Install(InstallCase):
    def expected(self, prefix, conf):
        files = [line.replace(" ", " %s/" % prefix, 1)
                 for line in INSTALLED + list(completions())]
        return sorted(files + ["644 %s/wscast/wscast.conf" % conf])

    def test_install_puts_these_files(self):
        self.make("install", PREFIX="/usr")
        self.assertEqual(files_below(self.root), self.expected("usr", "etc"))

    def test_install_default_is_usr_local(self):
        self.make("install")
        self.assertEqual(files_below(self.root), self.expected("usr/local", "usr/local/etc"))

    def test_install_each_place_can_be_named(self):
        names = ["SYSCONFDIR", "BINDIR", "SBINDIR", "LIBEXECDIR", "DATADIR", "DOCDIR",
                 "MANDIR", "UNITDIR", "SYSUSERSDIR", "TMPFILESDIR"]
        self.make("install", PREFIX="/nowhere", BASHDIR="/BASHDIR", ZSHDIR="/ZSHDIR",
                  FISHDIR="/FISHDIR", **{name: "/" + name for name in names})
        tops = set(os.listdir(self.root)) - {"BASHDIR", "ZSHDIR", "FISHDIR"}
        self.assertEqual(tops, set(names))
        with open(self.root + "/UNITDIR/wscast.service") as f:
            unit = f.read()
        self.assertIn("\nExecStart=/SBINDIR/wscastd\n", unit)
        self.assertIn("\nExecReload=/BINDIR/wsctl reload\n", unit)
        with open(self.root + "/TMPFILESDIR/wscast.conf") as f:
            self.assertIn("\nz /SYSCONFDIR/wscast ", f.read())
        for line in files_below(self.root):
            with open(os.path.join(self.root, line.split(" ", 1)[1]), "rb") as f:
                text = f.read()
            if not text.startswith(b"\x7fELF"):
                self.assertNotRegex(text, rb"@[A-Z]+DIR@", line)

    def test_install_keeps_the_settings_and_uninstall_leaves_them(self):
        self.make("install", PREFIX="/usr")
        conf = self.root + "/etc/wscast/wscast.conf"
        with open(conf, "w") as f:
            f.write("; mine\n")
        self.make("install", PREFIX="/usr")
        with open(conf) as f:
            self.assertEqual(f.read(), "; mine\n")
        self.make("uninstall", PREFIX="/usr")
        self.assertEqual(files_below(self.root), ["644 etc/wscast/wscast.conf"])
        self.assertFalse(os.path.exists(self.root + "/usr/libexec/wscast"))
        self.assertFalse(os.path.exists(self.root + "/usr/share/doc/wscast"))


def script(path, text):
    with open(path, "w") as f:
        f.write("#!/bin/sh\n" + text)
    os.chmod(path, 0o755)


class AfterUpgrade(InstallCase):
    """libexec/wscast/after-upgrade, with a systemctl that only says how the unit is."""

    def setUp(self):
        super().setUp()
        self.make("install", PREFIX=self.root + "/usr", DESTDIR="")
        # Beside wscastd is where it looks first: else it takes the path it was built with.
        shutil.move(self.root + "/usr/libexec/wscast/wscast-worker", self.root + "/usr/sbin")
        self.d = self.daemon(program=self.root + "/usr/sbin/wscastd")

    def upgrade(self, state="active"):
        script(self.root + "/usr/bin/systemctl", """case $3 in
ActiveState) echo %s ;;
Environment) echo OTHER=1 WSCAST_SOCKET=%s ;;
ExecStart) echo '{ path=/x ; argv[]=%s -c %s ; ignore_errors=no ; pid=1 }' ;;
esac
""" % (state, self.d.control, self.root + "/usr/sbin/wscastd", self.d.conf))
        env = dict(os.environ, PATH=self.root + "/usr/bin:" + os.environ["PATH"])
        env.pop("WSCAST_SOCKET", None)
        return subprocess.run([self.root + "/usr/libexec/wscast/after-upgrade"], env=env,
                              stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
                              timeout=DEADLINE)

    def install_other_supervisor(self):
        path = self.root + "/usr/sbin/wscastd"
        said = subprocess.run([path, "-V"], stdout=subprocess.PIPE, text=True).stdout
        self.assertRegex(said, r" supervisor [0-9a-f]{16}\n$")
        os.rename(path, path + ".old")
        script(path, """case "$*" in
-V) echo 'wscastd 9.9.9 (x) supervisor 0123456789abcdef' ;;
*) exec %s.old "$@" ;;
esac
""" % path)

    def serving(self):
        return [w["pid"] for w in self.d.workers()]

    def test_after_upgrade_same_supervisor_restarts_workers(self):
        before = self.serving()
        out = self.upgrade()
        self.assertEqual(out.returncode, 0)
        self.assertIn("kept their clients", out.stdout)
        self.assertFalse(set(before) & set(self.serving()))

    def test_after_upgrade_other_supervisor_asks_for_a_restart(self):
        before = self.serving()
        self.install_other_supervisor()
        self.assertEqual(self.upgrade().returncode, 1)
        self.assertEqual(self.serving(), before)

    def test_after_upgrade_with_faulty_settings_keeps_the_old(self):
        """A restart would end what runs, and start nothing."""
        self.install_other_supervisor()
        with open(self.d.conf, "a") as f:
            f.write("[server]\ngone_since = 9.9.9\n")
        out = self.upgrade()
        self.assertEqual(out.returncode, 0)
        self.assertRegex(out.stderr, r"%s:\d+: .*gone_since" % self.d.conf)
        self.assertIn("the old one goes on", out.stderr)

    def test_after_upgrade_of_a_stopped_service_does_nothing(self):
        before = self.serving()
        self.assertEqual(self.upgrade("inactive").returncode, 0)
        self.assertEqual(self.serving(), before)


class DebianPostinst(unittest.TestCase):
    """packaging/debian/wscast.postinst as for an upgrade, with programs that only say how
    they were called."""

    def configure(self, after_upgrade=0, policy=None):
        root = self.enterContext(tempfile.TemporaryDirectory())
        for name, status in (("after-upgrade", after_upgrade), ("deb-systemd-invoke", 0),
                             ("policy-rc.d", policy)):
            if status is not None:
                script(os.path.join(root, name), 'echo "${0##*/} $*" >>%s/calls\nexit %d\n'
                       % (root, status))
        with open(os.path.join(ROOT, "packaging", "debian", "wscast.postinst")) as f:
            text = f.read()
        for path in ("/usr/libexec/wscast/after-upgrade", "/usr/sbin/policy-rc.d"):
            self.assertIn(path, text)
            text = text.replace(path, os.path.join(root, os.path.basename(path)))
        text = text.replace("/run/systemd/system", root)  # it runs
        env = dict(os.environ, PATH=root + ":" + os.environ["PATH"], DPKG_ROOT="")
        subprocess.run(["sh", "-c", text, "postinst", "configure", "0.1.0"], check=True,
                       env=env)
        with open(root + "/calls") as f:
            return f.read().splitlines()

    def test_postinst_upgrade_restarts_what_it_must(self):
        self.assertEqual(self.configure(), ["after-upgrade "])
        self.assertEqual(self.configure(after_upgrade=1), [
            "after-upgrade ", "deb-systemd-invoke try-restart wscast.service"])

    def test_postinst_upgrade_asks_the_policy_first(self):
        asked = "policy-rc.d wscast.service restart"
        self.assertEqual(self.configure(policy=0), [asked, "after-upgrade "])
        # Which asks again, is told the same, and says so.
        self.assertEqual(self.configure(policy=101), [
            asked, "deb-systemd-invoke try-restart wscast.service"])


if __name__ == "__main__":
    unittest.main(verbosity=2)
