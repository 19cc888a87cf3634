"""The packages of `make deb` and `make rpm`: what is in them, that they are clean, and
that the same commit gives the same bytes.

Environment
  WSCAST_PACKAGES  a folder in which a run before left them; nothing is built then, but
                   what is missing there
"""

import glob
import hashlib
import os
import re
import shutil
import subprocess
import sys
import tempfile
import unittest

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path[:0] = [HERE, os.path.join(os.path.dirname(HERE), "integration")]
from harness import ROOT
from test_install import INSTALLED, completions, files_below

KEPT = os.environ.get("WSCAST_PACKAGES")
BUILD_S = 1800
UNIT = "wscast.service"


def output(*argv, **kwargs):
    return subprocess.run(argv, check=True, stdout=subprocess.PIPE, text=True,
                          **kwargs).stdout


def build(script, out, cwd=ROOT):
    """Run packaging/SCRIPT into the folder `out`, unless it was; its log stays there."""
    if os.path.exists(os.path.join(out, "done")):
        return
    os.makedirs(out, exist_ok=True)
    # Of the make that runs us nothing goes on: its -s would hide the compiler's commands.
    env = {k: v for k, v in os.environ.items() if k not in ("MAKEFLAGS", "MFLAGS")}
    with open(os.path.join(out, "log"), "w") as log:
        status = subprocess.run([os.path.join(cwd, "packaging", script), out], cwd=cwd,
                                env=env, stdout=log, stderr=subprocess.STDOUT,
                                timeout=BUILD_S).returncode
    if status != 0:
        with open(os.path.join(out, "log")) as log:
            raise AssertionError("%s failed:\n%s" % (script, log.read()[-8000:]))
    open(os.path.join(out, "done"), "w").close()


class PackagesCase(unittest.TestCase):
    maxDiff = None

    @classmethod
    def setUpClass(cls):
        cls.top = KEPT or tempfile.mkdtemp(prefix="wscast-packages-")
        if not KEPT:
            cls.addClassCleanup(shutil.rmtree, cls.top)
        cls.version = output("packaging/version", "package", cwd=ROOT).strip()
        cls.commit = output("packaging/version", "commit", cwd=ROOT).strip()

    @classmethod
    def made(cls, kind, tool):
        """The packages of one kind: their files."""
        if not shutil.which(tool):
            raise unittest.SkipTest("no %s here" % tool)
        cls.out = os.path.join(cls.top, kind)
        build("make-" + kind, cls.out)
        return glob.glob("%s/*.%s" % (cls.out, kind))

    def folder(self):
        return self.enterContext(tempfile.TemporaryDirectory())

    def systemd_verify(self, root):
        """Nothing to say of the unit, as it lies below root, beside the system's own
        targets."""
        units = root + "/usr/lib/systemd/system/"
        targets = [path for path in glob.glob("/usr/lib/systemd/system/*.target")
                   if not os.path.exists(units + os.path.basename(path))]
        for path in targets:
            shutil.copy(path, units)
        # The pages are there, but in another root than man looks.
        out = subprocess.run(["systemd-analyze", "verify", "--man=no", "--root=" + root,
                              UNIT], text=True, stdout=subprocess.PIPE,
                             stderr=subprocess.STDOUT)
        for path in targets:
            os.unlink(units + os.path.basename(path))
        self.assertEqual((out.returncode, out.stdout), (0, ""))


def packaged(unitdir="usr/lib/systemd/system", zsh="zsh/site-functions"):
    """The files of both packages, as a set each: (wscast, wscast-bench)."""
    server, bench = {"644 etc/wscast/wscast.conf"}, set()
    for line in INSTALLED + list(completions()):
        mode, path = line.split(" ", 1)
        path = "usr/" + path
        path = path.replace("usr/lib/systemd/system", unitdir)
        path = path.replace("zsh/site-functions", zsh)
        (bench if "wsbench" in path else server).add("%s %s" % (mode, path))
    return server, bench


class Deb(PackagesCase):
    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.debs = {os.path.basename(path).split("_")[0]: path
                    for path in cls.made("deb", "dpkg-buildpackage")}

    def unpacked(self, name="wscast"):
        root = self.folder()
        subprocess.run(["dpkg-deb", "-R", self.debs[name], root], check=True)
        return root

    def test_deb_four_packages_of_this_version(self):
        self.assertEqual(set(self.debs), {"wscast", "wscast-bench", "wscast-dbgsym",
                                          "wscast-bench-dbgsym"})
        for path in self.debs.values():
            self.assertEqual(output("dpkg-deb", "-f", path, "Version").strip(), self.version)

    def test_deb_files_are_these(self):
        unitdir = "usr/lib/systemd/system"
        root = self.unpacked()
        if os.path.exists(root + "/lib"):
            unitdir = "lib/systemd/system"  # Debian 12
        for name, want in zip(("wscast", "wscast-bench"),
                              packaged(unitdir, "zsh/vendor-completions")):
            got = {re.sub(r"\.gz$", "", line) for line in files_below(self.unpacked(name))
                   if " DEBIAN/" not in line}
            got = {re.sub(r"README$", "README.md", line) for line in got}
            want |= {"644 usr/share/doc/%s/%s" % (name, file)
                     for file in ("changelog", "copyright")}
            if name == "wscast":
                want.add("644 usr/share/lintian/overrides/wscast")
            self.assertEqual(sorted(got), sorted(want))

    def test_deb_settings_are_the_conffile(self):
        root = self.unpacked()
        with open(root + "/DEBIAN/conffiles") as f:
            self.assertEqual(f.read(), "/etc/wscast/wscast.conf\n")
        with open(root + "/etc/wscast/wscast.conf", "rb") as f, \
                open(os.path.join(ROOT, "packaging", "wscast.conf"), "rb") as mine:
            self.assertEqual(f.read(), mine.read())

    def test_deb_programs_know_their_commit(self):
        root = self.unpacked()
        said = output(root + "/usr/sbin/wscastd", "-V")
        self.assertRegex(said, r"^wscastd [\d.]+ \(%s\) " % re.escape(self.commit))

    def test_deb_same_commit_gives_the_same_bytes(self):
        """Again, from the source archive without git, in a folder of another name."""
        again = os.path.join(self.top, "built-once-more")
        tree = os.path.join(again, "from", "wscast-" + self.version)
        if not os.path.exists(tree):
            os.makedirs(os.path.dirname(tree))
            subprocess.run(["tar", "-xzf", os.path.join(
                self.out, "wscast-%s.tar.gz" % self.version), "-C", os.path.dirname(tree)],
                check=True)
        build("make-deb", again, tree)
        for name in sorted(os.path.basename(path) for path in self.debs.values()):
            sums = []
            for folder in (self.out, again):
                with open(os.path.join(folder, name), "rb") as f:
                    sums.append(hashlib.sha256(f.read()).hexdigest())
            print(name, *sums)
            self.assertEqual(sums[0], sums[1], name)

    def test_deb_is_lintian_clean(self):
        if not shutil.which("lintian"):
            self.skipTest("no lintian here")
        out = subprocess.run(
            ["lintian", "--display-info", "--pedantic", "--allow-root"]
            + glob.glob(self.out + "/*.changes"), stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT, text=True)
        lines = [line for line in out.stdout.splitlines() if not line.startswith("N:")]
        self.assertEqual((out.returncode, lines), (0, []))

    def test_deb_is_hardened(self):
        if shutil.which("blhc"):
            out = subprocess.run(["blhc", os.path.join(self.out, "log")], text=True,
                                 stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
            self.assertEqual((out.returncode, out.stdout), (0, ""))
        server, bench = self.unpacked(), self.unpacked("wscast-bench")
        for path in (server + "/usr/sbin/wscastd", server + "/usr/bin/wsctl",
                     server + "/usr/libexec/wscast/wscast-worker",
                     bench + "/usr/bin/wsbench"):
            said = output("readelf", "-W", "-h", "-l", "-d", "--dyn-syms", path)
            for what in (r"Type: +DYN", r"GNU_RELRO", r"BIND_NOW|FLAGS.*\bNOW",
                         r"__stack_chk_fail", r"__\w+_chk@"):
                self.assertRegex(said, what, path)
            self.assertRegex(said, r"GNU_STACK .* RW +0x")

    def test_deb_unit_is_right_and_closed(self):
        root = self.unpacked()
        if os.path.exists(root + "/lib"):  # as it comes to lie on a merged system
            shutil.copytree(root + "/lib", root + "/usr/lib", dirs_exist_ok=True)
        self.systemd_verify(root)
        unit = root + "/usr/lib/systemd/system/" + UNIT
        out = subprocess.run(["systemd-analyze", "security", "--offline=yes",
                              "--threshold=20", "--no-pager", unit], text=True,
                             stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
        level = re.search(r"exposure level for .*: ([\d.]+)", out.stdout)
        self.assertIsNotNone(level, out.stdout)
        print("systemd-analyze security:", level.group(1))
        self.assertEqual(out.returncode, 0, out.stdout)
        self.assertLess(float(level.group(1)), 2.0)

    def test_deb_scripts_do_this(self):
        root = self.unpacked()
        said = {}
        for name in ("postinst", "prerm", "postrm"):
            subprocess.run(["sh", "-n", root + "/DEBIAN/" + name], check=True)
            with open(root + "/DEBIAN/" + name) as f:
                said[name] = f.read()
        for what in ("systemd-sysusers", "systemd-tmpfiles", "deb-systemd-helper enable",
                     "libexec/wscast/after-upgrade", "try-restart"):
            self.assertIn(what, said["postinst"])
        # An upgrade stops nothing: what is restarted, and how, is after-upgrade's.
        self.assertNotRegex(said["postinst"], r"deb-systemd-invoke .?(restart|stop)")
        self.assertFalse(os.path.exists(root + "/DEBIAN/preinst"))
        self.assertIn('"$1" = remove', said["prerm"])
        self.assertIn("rm -rf /var/lib/wscast /run/wscast", said["postrm"])


class Rpm(PackagesCase):
    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.rpms = {output("rpm", "-qp", "--qf", "%{NAME}", path): path
                    for path in cls.made("rpm", "rpmbuild")}

    def test_rpm_packages_of_this_version(self):
        self.assertEqual({name for name in self.rpms if "debug" not in name},
                         {"wscast", "wscast-bench"})
        self.assertIn("wscast-debuginfo", self.rpms)
        for path in self.rpms.values():
            self.assertEqual(output("rpm", "-qp", "--qf", "%{VERSION}", path), self.version)

    def test_rpm_files_are_these(self):
        for name, want in zip(("wscast", "wscast-bench"), packaged()):
            lines = output("rpm", "-qp", "--qf", "[%{FILEMODES:octal} %{FILEUSERNAME}:"
                           "%{FILEGROUPNAME} %{FILENAMES}\n]", self.rpms[name])
            got = set()
            for line in lines.splitlines():
                mode, owner, path = line.split(" ")
                self.assertEqual(owner, "root:root", path)
                path = re.sub(r"\.gz$", "", path[1:])
                if int(mode, 8) & 0o100000 and "build-id" not in path \
                        and not path.endswith("/LICENSE"):
                    got.add("%o %s" % (int(mode, 8) & 0o7777, path))
            self.assertEqual(sorted(got), sorted(want))
        self.assertEqual(output("rpm", "-qp", "--configfiles", self.rpms["wscast"]),
                         "/etc/wscast/wscast.conf\n")

    def scripts(self):
        """{name: text} of what rpm runs."""
        found = {}
        for name in ("PREIN", "POSTIN", "PREUN", "POSTUN", "POSTTRANS"):
            text = output("rpm", "-qp", "--qf", "%%{%s}" % name, self.rpms["wscast"])
            if text != "(none)":
                found[name] = text
        return found

    def test_rpm_scripts_do_this(self):
        """Run with programs that only say how they were called, as for an installation
        ($1 = 1), an upgrade and the end."""
        bin = self.folder()
        stub = '#!/bin/sh\necho "${0##*/} $*" >>%s/calls\n' % bin
        for name in ("systemctl", "systemd-sysusers", "systemd-tmpfiles", "after-upgrade"):
            with open(os.path.join(bin, name), "w") as f:
                f.write(stub)
            os.chmod(os.path.join(bin, name), 0o755)
        scripts = self.scripts()
        self.assertEqual(set(scripts), {"POSTIN", "PREUN", "POSTUN", "POSTTRANS"})

        def calls(name, arg):
            text = scripts[name].replace("/usr/bin/systemctl", bin + "/systemctl")
            text = text.replace("/usr/libexec/wscast/after-upgrade", bin + "/after-upgrade")
            text = text.replace("/run/systemd/system", bin)  # it runs
            open(bin + "/calls", "w").close()
            subprocess.run(["sh", "-euc", text, name, str(arg)], check=True,
                           env=dict(os.environ, PATH=bin + ":" + os.environ["PATH"]))
            with open(bin + "/calls") as f:
                return f.read()

        first = calls("POSTIN", 1)
        self.assertIn("systemd-sysusers /usr/lib/sysusers.d/wscast.conf\n", first)
        self.assertIn("systemd-tmpfiles --create /usr/lib/tmpfiles.d/wscast.conf\n", first)
        self.assertRegex(first, r"systemctl .*preset wscast\.service\n")
        self.assertNotIn("preset", calls("POSTIN", 2))
        self.assertEqual(calls("PREUN", 1), "")
        self.assertRegex(calls("PREUN", 0), r"systemctl .*disable --now .*wscast\.service")
        self.assertIn("systemctl daemon-reload\n", calls("POSTUN", 0))
        self.assertNotIn("restart", calls("POSTUN", 1))
        self.assertEqual(calls("POSTTRANS", 2), "systemctl daemon-reload\nafter-upgrade \n")

    def test_rpm_is_rpmlint_clean(self):
        if not shutil.which("rpmlint"):
            self.skipTest("no rpmlint here")
        out = subprocess.run(
            ["rpmlint", "-c", os.path.join(ROOT, "packaging", "rpm", "rpmlint.toml")]
            + sorted(self.rpms.values()) + [os.path.join(self.out, "wscast.spec")],
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        found = re.findall(r"^.*: [EW]: .*$", out.stdout, re.M)
        self.assertEqual((out.returncode, found), (0, []), out.stdout)
        self.assertIn("0 errors, 0 warnings", out.stdout)

    def test_rpm_installs_into_a_root_and_leaves_it(self):
        root = self.folder()

        def rpm(*args):
            return output("rpm", "--root", root, *args, stderr=subprocess.STDOUT)

        rpm("--initdb")
        # What it needs is not in there, nor a shell for its scripts.
        rpm("-i", "--nodeps", "--noscripts", self.rpms["wscast"], self.rpms["wscast-bench"])
        self.assertEqual(rpm("-V", "--nodeps", "wscast", "wscast-bench"), "")
        self.systemd_verify(root)
        output("systemd-sysusers", "--root=" + root)
        with open(root + "/etc/passwd") as f:
            self.assertRegex(f.read(), r"(?m)^wscast:")
        output("systemd-tmpfiles", "--root=" + root, "--create", "wscast.conf")
        with open(root + "/etc/group") as f:
            gid = int(re.search(r"(?m)^wscast:x:(\d+):", f.read()).group(1))
        st = os.stat(root + "/etc/wscast")
        self.assertEqual((st.st_mode & 0o7777, st.st_uid, st.st_gid), (0o750, 0, gid))
        said = output(root + "/usr/sbin/wscastd", "-t", "-c", root + "/etc/wscast/wscast.conf")
        self.assertEqual(said, "")
        rpm("-e", "--nodeps", "--noscripts", "wscast", "wscast-bench")
        left = [line for line in files_below(root) if "wscast" in line or "wsbench" in line
                or "wsctl" in line]
        self.assertEqual(left, [])


if __name__ == "__main__":
    unittest.main(verbosity=2)
