"""The real programs on free ports, and what is true of them after each test.

Daemon   wscastd with its workers, in a temporary directory
Redis    redis-server, or what stands for it, without persistence
Case     a unittest.TestCase that makes both and checks what they leave behind

Environment
  WSCAST_BIN   directory of the programs (default: build/ of this tree)
  WSCAST_KEEP  keep the temporary directories, and print every daemon's log
  WSCAST_REDIS_SERVER
               command in place of redis-server, for another version of it or Valkey: a
               path, or the words of a command line

Nothing here waits for a time to pass: it waits for a line of the log, an answer, a
process's end, and DEADLINE only says when the wait has failed. Where only a question
can tell (wait_until), it is asked again every few milliseconds.
"""

import atexit
import base64
import ctypes
import json
import os
import random
import re
import select
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
import unittest

HERE = os.path.dirname(os.path.abspath(__file__))
ROOT = os.path.dirname(os.path.dirname(HERE))
# Debian's packages lie where only Debian's own node looks.
NODE_PATH = "/usr/share/nodejs:/usr/lib/nodejs:/usr/share/node_modules:/usr/lib/node_modules"
BIN = os.path.abspath(os.environ.get("WSCAST_BIN", os.path.join(ROOT, "build")))
KEEP = bool(os.environ.get("WSCAST_KEEP"))
REDIS_SERVER = shlex.split(os.environ.get("WSCAST_REDIS_SERVER") or "redis-server")
TICKS = os.sysconf("SC_CLK_TCK")



def _is_sanitized():
    """Whether the programs carry a sanitizer: all is several times slower then."""
    try:
        with open(os.path.join(BIN, "wscastd"), "rb") as f:
            text = f.read()
    except OSError:
        return False
    return b"__asan_init" in text or b"__ubsan_handle" in text or b"__tsan_" in text


SANITIZED = _is_sanitized()
SLOW = int(os.environ.get("WSCAST_SLOW") or 1)  # so much slower is an emulated machine
DEADLINE = (60.0 if SANITIZED else 25.0) * SLOW  # seconds until a wait has failed
SANITIZER_REPORT = re.compile(r"(Address|Leak|Thread|Undefined\w*)Sanitizer|runtime error:")

# What an orphaned worker is reparented to when its supervisor is gone: us, so that no
# process can be leaked unseen.
PR_SET_CHILD_SUBREAPER = 36
ctypes.CDLL(None, use_errno=True).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)


class Timeout(AssertionError):
    """What was waited for did not come."""


def wait_until(what, question, timeout=None, every=0.01):
    """Ask until the answer is true, and return it.

    what      for the message: what is waited for, or a function that says it
    question  called again and again; its first true answer is returned
    """
    end = time.monotonic() + (timeout or DEADLINE)
    while True:
        answer = question()
        if answer:
            return answer
        if time.monotonic() > end:
            raise Timeout("never came: %s" % (what() if callable(what) else what))
        time.sleep(every)


# ---- ports ----

_ports = {}
atexit.register(lambda: [lock.close() for lock in _ports.values()])


def free_port():
    """A TCP port of 127.0.0.1 that nobody has, and that no other run of these tests
    will be given while this process lives. Below the range from which the kernel
    takes ports for outgoing connections: a client cannot sit on it either."""
    while True:
        port = random.SystemRandom().randrange(10000, 32000)
        lock = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        probe = socket.socket()
        try:
            lock.bind("\0wscast-test-port-%d" % port)
            probe.bind(("127.0.0.1", port))
        except OSError:
            lock.close()
            continue
        finally:
            probe.close()
        _ports[port] = lock
        return port


# ---- processes ----


def program(name):
    """Its path: what serves is not in everyone's PATH."""
    return shutil.which(name, path=os.environ.get("PATH", "") + ":/usr/sbin:/usr/local/sbin")


def proc_stat(pid):
    """(comm, state, ppid, CPU ticks, start time) of a process; None: it is gone."""
    try:
        with open("/proc/%d/stat" % pid, "rb") as f:
            text = f.read().decode("utf-8", "replace")
    except OSError:
        return None
    comm = text[text.index("(") + 1 : text.rindex(")")]
    rest = text[text.rindex(")") + 2 :].split()
    return comm, rest[0], int(rest[1]), int(rest[11]) + int(rest[12]), int(rest[19])


def alive(pid):
    stat = proc_stat(pid)
    return stat is not None and stat[1] not in "ZX"


def descendants(root):
    """{pid: comm} of all processes below root, zombies included."""
    stats = {}
    for name in os.listdir("/proc"):
        if name.isdigit():
            stat = proc_stat(int(name))
            if stat:
                stats[int(name)] = stat
    found, more = {}, [root]
    while more:
        parent = more.pop()
        for pid, stat in stats.items():
            if stat[2] == parent and pid not in found:
                found[pid] = stat[0]
                more.append(pid)
    return found


def cpu_seconds(pids):
    """User and system time that these processes have had."""
    return sum((proc_stat(pid) or (0, 0, 0, 0))[3] for pid in pids) / TICKS


def fd_count(pid):
    return len(os.listdir("/proc/%d/fd" % pid))


def fd_list(pid):
    out = []
    for fd in os.listdir("/proc/%d/fd" % pid):
        try:
            out.append("%s -> %s" % (fd, os.readlink("/proc/%d/fd/%s" % (pid, fd))))
        except OSError:
            pass
    return sorted(out)


def peers_of(pid):
    """The client ports whose connections this process has open: which worker serves
    whom, asked of the kernel and not of wscast. To be asked of a keeper, which has the
    same file table: into a sandboxed process only root can look."""
    inodes = set()
    for fd in os.listdir("/proc/%d/fd" % pid):
        try:
            link = os.readlink("/proc/%d/fd/%s" % (pid, fd))
        except OSError:
            continue
        if link.startswith("socket:["):
            inodes.add(link[8:-1])
    ports = set()
    with open("/proc/net/tcp") as f:
        for line in f.readlines()[1:]:
            col = line.split()
            if col[9] in inodes:
                ports.add(int(col[2].split(":")[1], 16))
    return ports


def wait_exit(pid, timeout=None):
    """Wait until a process that need not be our child has ended."""
    try:
        pidfd = os.pidfd_open(pid)
    except ProcessLookupError:
        return
    try:
        if not select.select([pidfd], [], [], timeout or DEADLINE)[0]:
            raise Timeout("process %d (%s) did not end" % (pid, proc_stat(pid)))
    finally:
        os.close(pidfd)


# ---- Redis ----


class Redis:
    """redis-server on a free port; its directory goes with it.

    durable  what it acknowledged is on the disk: start() finds it again after stop()
    args     more words of its command line
    """

    wrap = []  # words before the program's

    def __init__(self, password=None, port=None, durable=False, args=(), bind="127.0.0.1"):
        self.bind = bind
        self.port = port or free_port()
        self.password = password
        self.durable = durable
        self.args = list(args)
        self.dir = tempfile.mkdtemp(prefix="wscast-redis-")
        self.proc = None
        self.start()

    @property
    def url(self):
        secret = ":%s@" % self.password if self.password else ""
        return "redis://%s127.0.0.1:%d/0" % (secret, self.port)

    def start(self):
        args = self.wrap + REDIS_SERVER + [
                "--port", str(self.port), "--bind", self.bind,
                "--protected-mode", "no", "--save", "", "--dir", self.dir,
                "--appendonly", "yes" if self.durable else "no", "--appendfsync", "always",
                "--client-output-buffer-limit", "pubsub", "0", "0", "0"] + self.args
        if self.password:
            args += ["--requirepass", self.password]
        self.proc = subprocess.Popen(args, stdout=subprocess.PIPE,
                                     stderr=subprocess.STDOUT, text=True)
        for line in self.proc.stdout:
            if "eady to accept connections" in line:
                break
        else:
            raise AssertionError("%s did not start" % REDIS_SERVER[0])
        threading.Thread(target=self.proc.stdout.read, daemon=True).start()

    def stop(self):
        """End it as a crash would: nothing is said to its clients."""
        if self.proc:
            self.proc.kill()
            self.proc.wait()
            self.proc.stdout.close()
            self.proc = None

    def done(self):
        self.stop()
        shutil.rmtree(self.dir, ignore_errors=True)

    def cli(self, *args, stdin=None):
        """redis-cli; returns what it prints. stdin: bytes for its -x."""
        argv = self.wrap + ["redis-cli", "-p", str(self.port)]
        if self.password:
            argv += ["--no-auth-warning", "-a", self.password]
        out = subprocess.run(argv + list(args), input=stdin, check=True,
                             stdout=subprocess.PIPE, timeout=DEADLINE)
        return out.stdout.decode().strip()

    def connect(self):
        return RedisPipe(self.port, self.password)


def resp(*args):
    """One command as Redis reads it."""
    out = [b"*%d\r\n" % len(args)]
    for arg in args:
        arg = arg if isinstance(arg, (bytes, bytearray)) else str(arg).encode()
        out += [b"$%d\r\n" % len(arg), arg, b"\r\n"]
    return b"".join(out)


class RedisPipe:
    """A connection that publishes many messages without waiting for each answer."""

    def __init__(self, port, password=None):
        self.sock = socket.create_connection(("127.0.0.1", port), timeout=60)
        self.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.asked = self.answered = 0
        if password:
            self.command("AUTH", password)

    def command(self, *args):
        """One command with a one-line answer, which is returned."""
        self.wait()
        self.sock.sendall(resp(*args))
        answer = b""
        while not answer.endswith(b"\r\n"):
            got = self.sock.recv(4096)
            if not got:
                raise ConnectionError("redis closed the connection")
            answer += got
        if answer.startswith(b"-"):
            raise AssertionError("redis says %r" % answer)
        return answer[1:-2].decode()

    def publish(self, messages, wait=True):
        """messages: (channel with its prefix, payload) pairs."""
        self.sock.sendall(b"".join(resp("PUBLISH", c, p) for c, p in messages))
        self.asked += len(messages)
        if wait:
            self.wait()
        else:
            self._take(socket.MSG_DONTWAIT)

    def wait(self):
        while self.answered < self.asked:
            self._take(0)

    def _take(self, flags):
        try:
            got = self.sock.recv(1 << 16, flags)
        except BlockingIOError:
            return
        if not got:
            raise AssertionError("redis closed the connection")
        self.answered += got.count(b"\r\n")

    def close(self):
        self.sock.close()


# ---- wscastd ----


class CtlError(Exception):
    """An {"error":...} of the control socket."""

    def __init__(self, error):
        super().__init__("%s: %s" % (error.get("code"), error.get("message")))
        self.code = error.get("code")


class Ctl:
    """One connection to the control socket."""

    def __init__(self, path):
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(DEADLINE)
        self.sock.connect(path)
        self.file = self.sock.makefile("rb")

    def send(self, request):
        self.sock.sendall(json.dumps(request).encode() + b"\n")

    def line(self):
        line = self.file.readline()
        if not line.endswith(b"\n"):
            raise ConnectionError("control socket closed")
        return json.loads(line)

    def ask(self, cmd, **args):
        self.send(dict(args, cmd=cmd))
        answer = self.line()
        if "error" in answer:
            raise CtlError(answer["error"])
        return answer["ok"]

    def close(self):
        self.file.close()
        self.sock.close()


def settings_text(settings):
    """{"server": {"workers": 2}, ...} as wscast.conf; a list repeats its key."""
    lines = []
    for section, keys in settings.items():
        lines.append("[%s]" % section)
        for key, value in keys.items():
            for one in value if isinstance(value, list) else [value]:
                lines.append("%s = %s" % (key, one))
    return "\n".join(lines) + "\n"


class Daemon:
    """wscastd, started from a settings file of its own.

    settings  sections over the defaults below; None as a value leaves a key out
    redis     a Redis: source = pubsub (or what settings say) with its address
    stderr    where the log goes in place of `lines` (a file): no log to wait for then
    wrap      words before the program's path: setpriv, prlimit
    extra     words behind it
    ready     wait for READY=1; without it the caller watches it fail
    """

    running = set()  # so that no worker of another is taken for one left behind

    def __init__(self, settings=None, redis=None, workers=2, stderr=None, wrap=(),
                 extra=(), ready=True, env=None, program=None, port=None):
        self.dir = tempfile.mkdtemp(prefix="wscast-test-")
        os.chmod(self.dir, 0o755)
        self.port = port or free_port()
        self.control = os.path.join(self.dir, "control.sock")
        self.conf = os.path.join(self.dir, "wscast.conf")
        merged = {
            "server": {"listen": "127.0.0.1:%d" % self.port, "workers": workers,
                       "admin_listen": "", "control_socket": self.control,
                       "drain_timeout": "0",
                       "state_directory": self.dir},
            "limits": {"ping_interval": "1h", "pong_timeout": "1h", "write_timeout": "10m"},
            "feed": {"source": "embedded", "required": "no"},
        }
        if redis:
            merged["feed"] = {"source": "pubsub", "redis": redis.url, "required": "no"}
        for section, keys in (settings or {}).items():
            merged.setdefault(section, {}).update(keys)
        for keys in merged.values():
            for key in [k for k, v in keys.items() if v is None]:
                del keys[key]
        self.settings = merged
        self.configure()
        self.control = merged["server"]["control_socket"]
        if isinstance(merged["server"]["listen"], str):
            self.port = int(merged["server"]["listen"].rsplit(":", 1)[1])
        self.notify = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.notify.bind(os.path.join(self.dir, "notify.sock"))
        os.chmod(os.path.join(self.dir, "notify.sock"), 0o777)
        self.notified = []  # lines of sd_notify so far
        self.lines = []  # of its stderr so far
        self.changed = threading.Condition()
        threading.Thread(target=self._read_notify, daemon=True).start()
        self._ctl = None
        self._checked = False
        self.expected_reports = 0
        environ = dict(os.environ, WSCAST_TEST_DIR=self.dir,
                       NOTIFY_SOCKET=os.path.join(self.dir, "notify.sock"))
        environ.pop("JOURNAL_STREAM", None)
        if SANITIZED:
            environ.setdefault("UBSAN_OPTIONS", "print_stacktrace=1")
        environ.update(env or {})
        self.argv = list(wrap) + [program or os.path.join(BIN, "wscastd"), "-c",
                                  self.conf] + list(extra)
        self.proc = subprocess.Popen(
            self.argv, stdin=subprocess.DEVNULL, env=environ,
            stderr=subprocess.PIPE if stderr is None else stderr)
        self.pid = self.proc.pid
        Daemon.running.add(self)
        self.reader = None
        if stderr is None:
            self.reader = threading.Thread(target=self._read_log, daemon=True)
            self.reader.start()
        if ready:
            try:
                self.wait_ready()
            except BaseException:
                self.kill()
                raise

    # -- its settings --

    def configure(self, **sections):
        """Write its file anew with these over what was there; None takes a key or a
        section out. Nobody is told: reload() does."""
        for section, keys in sections.items():
            if keys is None:
                self.settings.pop(section, None)
                continue
            merged = dict(self.settings.get(section, {}), **keys)
            self.settings[section] = {k: v for k, v in merged.items() if v is not None}
        with open(self.conf + ".new", "w") as f:
            f.write(settings_text(self.settings))
        os.rename(self.conf + ".new", self.conf)

    def reload(self, **sections):
        """The same, and all workers have it when this returns; what was changed."""
        self.configure(**sections)
        return self.ctl("reload")

    # -- its log --

    def _read_log(self):
        for raw in self.proc.stderr:
            line = raw.decode("utf-8", "replace").rstrip("\n")
            if KEEP:
                print("   |", line, file=sys.stderr)
            with self.changed:
                self.lines.append(line)
                self.changed.notify_all()

    def mark(self):
        """A place in the log, for wait_line()."""
        with self.changed:
            return len(self.lines)

    def wait_line(self, pattern, since=0, timeout=None):
        """The first line from place `since` on that matches; the match is returned."""
        regex = re.compile(pattern, re.I)
        end = time.monotonic() + (timeout or DEADLINE)
        with self.changed:
            while True:
                for line in self.lines[since:]:
                    match = regex.search(line)
                    if match:
                        return match
                if not self.changed.wait(end - time.monotonic()):
                    raise Timeout("no log line matches %r:\n%s" % (pattern, self.log()))

    def log(self):
        with self.changed:
            return "\n".join("  | " + line for line in self.lines[-60:])

    # -- its life --

    def _read_notify(self):
        """A service manager reads all that it is told, at once."""
        while True:
            try:
                data = self.notify.recv(65536)
            except OSError:
                return
            if not data:
                return
            with self.changed:
                self.notified += data.decode().split("\n")
                self.changed.notify_all()

    def wait_notify(self, word, timeout=None):
        """Wait for a line of sd_notify that begins so."""
        end = time.monotonic() + (timeout or DEADLINE)
        while True:
            with self.changed:
                if any(line.startswith(word) for line in self.notified):
                    return
                self.changed.wait(0.02)
            if self.proc.poll() is not None:
                self._join_log()
                raise AssertionError("wscastd ended with %d before %s:\n%s"
                                     % (self.proc.returncode, word, self.log()))
            if time.monotonic() > end:
                raise Timeout("wscastd never said %s:\n%s" % (word, self.log()))

    def wait_ready(self):
        """READY=1, and every worker serves."""
        self.wait_notify("READY=1")
        self.wait_serving()

    def wait_end(self, timeout=None):
        """Wait for its exit status (-N: a signal)."""
        try:
            self.proc.wait(timeout or DEADLINE)
        except subprocess.TimeoutExpired:
            raise Timeout("wscastd did not end:\n%s" % self.log())
        self._join_log()
        return self.proc.returncode

    def _join_log(self):
        if self.reader:
            self.reader.join(DEADLINE)

    def stop(self):
        """SIGTERM, and then nothing may be left."""
        if self.proc.poll() is None:
            self.proc.send_signal(signal.SIGTERM)
        status = self.wait_end()
        if status != 0:
            raise AssertionError("wscastd ended with %d:\n%s" % (status, self.log()))
        self.check_gone()

    def check_gone(self):
        """No process of it lives, and no sanitizer had anything to say."""
        self._checked = True
        Daemon.running.discard(self)
        others = {}
        for d in Daemon.running:
            if d is not self:
                others.update(descendants(d.pid))
        left = {pid: comm for pid, comm in descendants(os.getpid()).items()
                if comm.startswith("wscast-") and pid not in others}
        end = time.monotonic() + DEADLINE
        while (self.proc.returncode != 0 and time.monotonic() < end
               and any(alive(pid) for pid in left)):
            time.sleep(0.01)  # nobody waited for those of a supervisor that was killed
        running = {pid: proc_stat(pid) for pid in left if alive(pid)}
        if self.proc.returncode == 0:
            running.update((pid, proc_stat(pid)) for pid in left)  # zombies, too
        for pid in left:
            try:
                if alive(pid):
                    os.kill(pid, signal.SIGKILL)
                os.waitpid(pid, 0)
            except (ProcessLookupError, ChildProcessError):
                pass
        reports = [line for line in self.lines if SANITIZER_REPORT.search(line)]
        if running:
            raise AssertionError("processes left behind: %s\n%s" % (running, self.log()))
        if len(reports) > self.expected_reports:
            raise AssertionError("sanitizer reports:\n" + "\n".join(
                self.lines[self.lines.index(reports[0]):][:80]))

    def kill(self):
        """The end of a test that failed: nothing is checked, all is ended."""
        pids = descendants(self.pid)
        Daemon.running.discard(self)
        if self.proc.poll() is None:
            self.proc.kill()
            self.proc.wait()
        for pid in pids:
            try:
                os.kill(pid, signal.SIGKILL)
                os.waitpid(pid, 0)
            except (ProcessLookupError, ChildProcessError):
                pass
        self._checked = True

    def done(self):
        """Whatever a test did, leave nothing; checks what stop() checks unless the
        test has."""
        try:
            if not self._checked:
                self.stop()
        finally:
            if self.proc.poll() is None:
                self.kill()
            if self._ctl:
                self._ctl.close()
            self.notify.shutdown(socket.SHUT_RDWR)
            self.notify.close()
            if self.proc.stderr:
                self._join_log()
                self.proc.stderr.close()
            if not KEEP:
                shutil.rmtree(self.dir, ignore_errors=True)

    # -- what it says --

    def ctl(self, cmd, **args):
        """Ask over the control socket; CtlError when it is refused."""
        if self._ctl is None:
            self._ctl = Ctl(self.control)
        try:
            return self._ctl.ask(cmd, **args)
        except (ConnectionError, BrokenPipeError):
            self._ctl.close()
            self._ctl = Ctl(self.control)
            return self._ctl.ask(cmd, **args)

    def wsctl(self, *args, stdin=None, check=True):
        """The program; returns subprocess.CompletedProcess with text."""
        return subprocess.run([os.path.join(BIN, "wsctl"), "-s", self.control] + list(args),
                              input=stdin, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                              text=True, timeout=DEADLINE, check=check)

    def status(self):
        return self.ctl("status")

    def workers(self):
        """A dict for each worker, with all of its counters."""
        return self.ctl("workers")["workers"]

    def publish(self, channel, data):
        if isinstance(data, bytes):
            return self.ctl("publish", channel=channel,
                            base64=base64.b64encode(data).decode())
        return self.ctl("publish", channel=channel, data=data)

    def wait_serving(self, but=()):
        """Wait until each worker has a serving process that serves, none of the pids
        `but` among them; returns the workers."""

        def question():
            try:
                workers = self.workers()
            except (FileNotFoundError, ConnectionRefusedError):
                return None
            good = [w for w in workers if w["state"] == "serving" and w["pid"] not in but
                    and alive(w["pid"])]
            return workers if workers and len(good) == len(workers) else None

        return wait_until(lambda: "all workers serve; now %s\n%s" % (
            self.workers(), self.log()), question)

    def spare_of(self, worker):
        """The pid of the spare beside this worker's keeper, or None."""
        for pid in descendants(worker["keeper_pid"]):
            if pid != worker["pid"] and alive(pid):
                return pid
        return None

    def counter(self, name):
        """The sum of a worker's field over all workers."""
        return sum(w[name] for w in self.workers())

    def metric(self, name):
        """The sum of wscast_NAME over its labels."""
        found = re.findall(r"^wscast_%s(?:\{.*\})? (\S+)$" % name,
                           self.wsctl("metrics").stdout, re.M)
        assert found, name
        return sum(map(float, found))

    @property
    def address(self):
        return "127.0.0.1:%d" % self.port


class Case(unittest.TestCase):
    """A test with daemons and Redis servers that are put away afterwards."""

    def daemon(self, *args, **kwargs):
        d = Daemon(*args, **kwargs)
        self.addCleanup(d.done)
        return d

    def redis(self, *args, **kwargs):
        r = Redis(*args, **kwargs)
        self.addCleanup(r.done)
        return r

    def fds_are_back(self, d, before):
        """Wait until the descriptors of {pid: number} are as few as they were."""
        for pid, n in before.items():
            wait_until(lambda: "process %d has %d descriptors again, now %s" % (
                pid, n, "\n".join(fd_list(pid))), lambda: fd_count(pid) <= n)


def fds_of(d):
    """{pid: number of descriptors} of supervisor and keepers, once they stand: a spare
    that has just been made opens what it needs a moment after all is ready."""
    pids = [d.pid] + [w["keeper_pid"] for w in d.workers()]
    same, last = 0, None
    while same < 20:
        now = {pid: fd_count(pid) for pid in pids}
        same = same + 1 if now == last else 0
        last = now
        time.sleep(0.01)
    return last
