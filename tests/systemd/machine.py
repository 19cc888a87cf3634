"""Debian in a container, with systemd as its PID 1: made, booted, asked, put away.

A suite's base is what mmdebstrap makes of the mirror that apt is configured with. On a
copy of it the packages are built from this tree's source archive; in another one, booted
with a network of its own that leads nowhere, they are installed and used. Base, build
tree and packages stay in build/systemd for the next run; packages are built anew when
the source archive has changed.
"""

import glob
import hashlib
import os
import shutil
import signal
import subprocess
import time

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
CACHE = os.path.join(ROOT, "build", "systemd")
BASE_PACKAGES = "systemd,systemd-sysv,dbus,ca-certificates,openssl"
BUILD_PACKAGES = "build-essential debhelper fakeroot"
# What the scenario installs while it runs, from the archives fetched before.
LATER = ["redis-server", "curl"]
BOOT_S = 120
ENV = {"PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
       "HOME": "/root", "LANG": "C.UTF-8", "LC_ALL": "C.UTF-8",
       "DEBIAN_FRONTEND": "noninteractive"}


def mirror():
    """The mirror of the system's own configuration."""
    out = subprocess.run(
        ["apt-get", "indextargets", "--format", "$(ORIGIN)|$(COMPONENT)|$(CODENAME)|$(REPO_URI)",
         "Created-By: Packages"], stdout=subprocess.PIPE, text=True, check=True).stdout
    for line in out.splitlines():
        origin, component, codename, uri = line.split("|")
        if (origin, component) == ("Debian", "main") and "-" not in codename:
            return uri
    raise AssertionError("apt has no Debian mirror configured:\n" + out)


def call(argv, **kwargs):
    """Run to the end; what it said is in the error when it fails."""
    p = subprocess.run(argv, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                       stderr=subprocess.STDOUT, text=True, errors="replace", **kwargs)
    if p.returncode != 0:
        raise AssertionError("%s: exit status %d\n%s" % (
            " ".join(argv), p.returncode, p.stdout[-6000:]))
    return p.stdout


def fresh(path):
    if os.path.exists(path):
        shutil.rmtree(path)


def inside(root, command, *options):
    """A shell command in a folder, not booted, with the network of this machine."""
    return call(["systemd-nspawn", "--quiet", "--register=no", "--keep-unit", "--as-pid2",
                 "--resolv-conf=copy-host", "--directory=" + root]
                + ["--setenv=%s=%s" % item for item in ENV.items()] + list(options)
                + ["/bin/sh", "-euc", command])


class Suite:
    """A Debian release: where its folders are, and how they come to be."""

    def __init__(self, name):
        self.name = name
        self.dir = os.path.join(CACHE, name)
        self.base = os.path.join(self.dir, "base")
        self.build = os.path.join(self.dir, "build")
        os.makedirs(self.dir, exist_ok=True)

    def copy(self, target):
        fresh(target)
        call(["cp", "-a", "--reflink=auto", self.base, target])

    def made(self, what, words, make):
        """Make a folder unless it was made whole, by the same words."""
        stamp = os.path.join(self.dir, what + ".stamp")
        path = os.path.join(self.dir, what)
        if os.path.exists(stamp) and os.path.isdir(path):
            with open(stamp) as f:
                if f.read() == words:
                    return path
        if os.path.exists(stamp):
            os.unlink(stamp)
        fresh(path)
        make(path)
        with open(stamp, "w") as f:
            f.write(words)
        return path

    def make_base(self):
        words = ["mmdebstrap", "--quiet", "--variant=minbase", "--include=" + BASE_PACKAGES,
                 "--dpkgopt=force-unsafe-io", "--skip=cleanup/apt"]
        self.made("base", "%s\n%s" % (mirror(), " ".join(words)), lambda path: call(
            words + [self.name, path, mirror()]))

    def make_build(self):
        def make(path):
            self.copy(path)
            inside(path, "apt-get -q install -y --no-install-recommends " + BUILD_PACKAGES)
            inside(path, "cd /src && packaging/install-deps build", "--bind-ro=%s:/src" % ROOT)

        with open(os.path.join(ROOT, "packaging", "install-deps")) as f:
            self.made("build", BUILD_PACKAGES + "\n" + f.read(), make)

    def packages(self):
        """A folder with this tree's packages, and with one of a lower version whose
        worker, and nothing else, is another."""
        dist = os.path.join(self.dir, "dist")
        fresh(dist)
        archive = call([os.path.join(ROOT, "packaging", "make-dist"), dist],
                       cwd=ROOT).strip()
        with open(archive, "rb") as f:
            digest = hashlib.sha256(f.read()).hexdigest()
        return self.made("packages", digest, lambda path: self.make_packages(path, archive))

    def make_packages(self, path, archive):
        self.make_build()
        os.makedirs(path)
        inside(self.build, """
            rm -rf /root/src && mkdir /root/src && cd /root/src
            tar -xzf /in/%s --strip-components=1
            MAKEFLAGS=-j2 packaging/make-deb build/deb
            mv build/deb/*.deb /out
            cd /out
            rm -f *-dbgsym_*
            mv wscast_*.deb wscast_new.deb
            dpkg-deb -R wscast_new.deb /root/src/old
            sed -i 's/^Version:.*/Version: 0.0.1/' /root/src/old/DEBIAN/control
            printf lower >>/root/src/old/usr/libexec/wscast/wscast-worker
            dpkg-deb --root-owner-group -b /root/src/old wscast_lower.deb
            """ % os.path.basename(archive),
               "--bind-ro=%s:/in" % os.path.dirname(archive), "--bind=%s:/out" % path)

    def machine(self):
        """A booted machine with the packages in /srv, and what they need fetched."""
        self.make_base()
        packages = self.packages()
        root = os.path.join(self.dir, "machine")
        self.copy(root)
        os.makedirs(os.path.join(root, "srv", "wscast"))
        for deb in glob.glob(os.path.join(packages, "*.deb")):
            shutil.copy(deb, os.path.join(root, "srv", "wscast"))
        inside(root, "apt-get -q install -y --no-install-recommends --download-only "
               "/srv/wscast/wscast-bench_*.deb /srv/wscast/wscast_lower.deb " + " ".join(LATER))
        return Machine(self.name, root)


class Machine:
    """A booted container. Its network is its own: a loopback interface."""

    def __init__(self, name, root):
        self.root = root
        self.log = open(root + ".console", "w+")
        self.proc = subprocess.Popen(
            ["systemd-nspawn", "--quiet", "--boot", "--register=no", "--keep-unit",
             "--private-network", "--directory=" + root, "--console=read-only",
             "--machine=wscast-%s-%d" % (name, os.getpid())],
            env=dict(os.environ, SYSTEMD_NSPAWN_UNIFIED_HIERARCHY="1"),
            stdin=subprocess.DEVNULL, stdout=self.log, stderr=subprocess.STDOUT)
        try:
            self.leader = self.wait(self.find_leader, "its PID 1")
            self.wait(self.is_up, "the end of its boot")
        except BaseException:
            self.kill()
            raise

    def wait(self, question, what):
        end = time.monotonic() + BOOT_S
        while True:
            answer = question()
            if answer:
                return answer
            if self.proc.poll() is not None or time.monotonic() > end:
                self.log.seek(0)
                raise AssertionError("the container never came to %s:\n%s" % (
                    what, self.log.read()[-4000:]))
            time.sleep(0.1)

    def find_leader(self):
        with open("/proc/%d/task/%d/children" % (self.proc.pid, self.proc.pid)) as f:
            children = f.read().split()
        for pid in children:
            with open("/proc/%s/comm" % pid) as f:
                if f.read().strip() == "systemd":
                    return int(pid)
        return None

    def is_up(self):
        return self.run("systemctl is-system-running", check=False).stdout.strip() in (
            "running", "degraded")

    def run(self, command, check=True, timeout=600):
        """A shell command of root's; subprocess.CompletedProcess with text."""
        p = subprocess.run(
            ["nsenter", "--target", str(self.leader), "--all", "/bin/sh", "-c", command],
            env=ENV, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
            stderr=subprocess.PIPE, text=True, errors="replace", timeout=timeout)
        if check and p.returncode != 0:
            raise AssertionError("%s: exit status %d\n%s%s" % (
                command, p.returncode, p.stdout, p.stderr))
        return p

    def out(self, command):
        return self.run(command).stdout.strip()

    def path(self, path):
        """A file of its, as one of ours: what it has mounted included."""
        return "/proc/%d/root%s" % (self.leader, path)

    def write(self, path, text):
        with open(self.path(path), "w") as f:
            f.write(text)

    def show(self, prop, unit="wscast"):
        return self.out("systemctl show --value -p %s %s" % (prop, unit))

    def journal(self):
        return self.run("journalctl --no-pager -q -b -n 150 -o short-precise -u wscast",
                        check=False).stdout

    def kill(self):
        """nspawn ends when its PID 1 has, not the other way round."""
        if self.proc.poll() is None:
            leader = self.find_leader()
            if leader:
                os.kill(leader, signal.SIGKILL)
            else:
                self.proc.kill()
        self.proc.wait()
        self.log.close()

    def done(self):
        """Power it off, and be sure that it is."""
        if self.proc.poll() is None:
            self.run("systemctl --no-block poweroff", check=False)
            try:
                self.proc.wait(BOOT_S)
            except subprocess.TimeoutExpired:
                pass
        self.kill()
        fresh(self.root)


if __name__ == "__main__":
    print(mirror())
