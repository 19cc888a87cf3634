"""What all measurements stand on: ports, Redis, the server's command, a network of
their own, and the table in which figures are shown."""

import fcntl
import json
import os
import shlex
import shutil
import socket
import struct
import subprocess
import sys
import time

HERE = os.path.dirname(os.path.abspath(__file__))

# Path, protocol, and way to publish of what peers/start starts.
PEERS = {
    "nchan": ("/sub/%c", "raw", "post"),
    "socketio": ("/", "socketio", "emitter"),
    "ws": ("/", "raw", "redis"),
    "gorilla": ("/", "raw", "redis"),
}
CHECKS = ("lost", "repeated", "reordered", "altered", "silent")


def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


class Stand:
    """Where everything is, and the Redis that all cases share."""

    def __init__(self, args, folder):
        self.args = args
        self.folder = folder
        self.port = free_port()
        self.control = os.path.join(folder, "control.sock")
        self.redis_port = free_port()
        self.redis = None
        self.path, self.protocol, self.via = "/ws", "raw", args.via
        if args.peer:
            self.path, self.protocol, self.via = PEERS[args.peer]

    def start_redis(self):
        if shutil.which("redis-server") is None:
            sys.exit("bench: no redis-server (packaging/install-deps bench), "
                     "or choose --via control")
        self.redis = subprocess.Popen(
            ["redis-server", "--bind", "127.0.0.1", "--port", str(self.redis_port),
             "--save", "", "--appendonly", "no", "--dir", self.folder],
            stdout=subprocess.DEVNULL)
        deadline = time.monotonic() + 10
        while not self.redis_answers():
            if time.monotonic() > deadline or self.redis.poll() is not None:
                sys.exit("bench: redis-server does not start")
            time.sleep(0.02)

    def redis_answers(self):
        try:
            with socket.create_connection(("127.0.0.1", self.redis_port), 1) as s:
                s.sendall(b"PING\r\n")
                return s.recv(7) == b"+PONG\r\n"
        except OSError:
            return False

    def stop(self):
        if self.redis is not None:
            self.redis.terminate()
            self.redis.wait()

    def server_command(self, settings=()):
        if self.args.peer:
            return shlex.join(["exec", os.path.join(HERE, "peers", "start"),
                               self.args.peer, str(self.port), str(self.redis_port),
                               self.folder])
        words = ["exec", os.path.join(self.args.bin, "wscastd")]
        for setting in [f"server.listen=127.0.0.1:{self.port}",
                        "server.admin_listen=",
                        f"server.control_socket={self.control}",
                        *settings, *self.args.set]:
            words += ["-o", setting]
        if self.redis is not None:
            words += ["-o", "feed.source=pubsub", "-o",
                      f"feed.redis=redis://127.0.0.1:{self.redis_port}/0"]
        return shlex.join(words)

    def run(self, name, options, settings=(), via=None):
        """One `wsbench run`. Returns what it wrote as JSON."""
        path = os.path.join(self.args.out, name + ".json")
        via = via or self.via
        command = [os.path.join(self.args.bin, "wsbench"), "run", *options,
                   f"--url=ws://127.0.0.1:{self.port}{self.path}",
                   f"--protocol={self.protocol}", f"--admin=127.0.0.1:{self.port}",
                   f"--server={self.server_command(settings)}",
                   f"--server-log={os.path.join(self.folder, name + '.log')}",
                   f"--control={self.control}", f"--redis=127.0.0.1:{self.redis_port}",
                   f"--json={path}"]
        if options[0] != "idle":
            command.append(f"--publish={via}")
        if self.args.quiet:
            command.append("--quiet")
        subprocess.run(command, check=True)
        with open(path, encoding="utf-8") as f:
            return json.load(f)


def faults(runs):
    """What must be zero in every run of the server."""
    found = {}
    for run in runs:
        for key in CHECKS:
            if run["target"] == "server" and run["check"][key]:
                found[key] = found.get(key, 0) + run["check"][key]
    return found


# -- a network of our own -------------------------------------------------------------

NETWORK = "WSCAST_BENCH_NETWORK"
SIOCGIFFLAGS, SIOCSIFFLAGS, IFF_UP = 0x8913, 0x8914, 1
ADDRESSES_LEN = 4 << 20  # buckets of the kernel's table of connections


def set_sysctl(name, value):
    """Returns what it was, or None where it cannot be set."""
    try:
        with open("/proc/sys/" + name.replace(".", "/"), "r+", encoding="ascii") as f:
            was = f.read().strip()
            f.seek(0)
            f.write(str(value))
        return was
    except OSError:
        return None


def enter_network():
    """Go on in a network namespace that has nothing but its loopback: ports, queues
    and (where the kernel lets us) the table of connections are then our own, may be
    set for a million, and are gone with us."""
    if os.environ.get(NETWORK):
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as s:
            name = struct.pack("16sH14x", b"lo", 0)
            flags = struct.unpack("16xH14x", fcntl.ioctl(s, SIOCGIFFLAGS, name))[0]
            fcntl.ioctl(s, SIOCSIFFLAGS, struct.pack("16sH14x", b"lo", flags | IFF_UP))
        set_sysctl("net.ipv4.ip_local_port_range", "1024 65535")
        set_sysctl("net.core.somaxconn", 65535)
        set_sysctl("net.ipv4.tcp_max_syn_backlog", 65535)
        return
    was = set_sysctl("net.ipv4.tcp_child_ehash_entries", ADDRESSES_LEN)
    users = [] if os.geteuid() == 0 else ["--user", "--map-root-user"]
    try:
        done = subprocess.run(["unshare", "--net", *users, sys.executable, *sys.argv],
                              env={**os.environ, NETWORK: "1"}, check=False)
    finally:
        if was is not None:
            set_sysctl("net.ipv4.tcp_child_ehash_entries", was)
    sys.exit(done.returncode)


# -- showing ----------------------------------------------------------------------------

def figure(value):
    if value is None:
        return "-"
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"


def table(head, lines):
    lines = [head] + lines
    widths = [max(len(line[i]) for line in lines) for i in range(len(head))]
    out = []
    for n, line in enumerate(lines):
        cells = [cell.rjust(w) if cell[:1].isdigit() else cell.ljust(w)
                 for cell, w in zip(line, widths)]
        out.append("| " + " | ".join(cells) + " |")
        if n == 0:
            out.append("|" + "|".join("-" * (w + 2) for w in widths) + "|")
    return "\n".join(out) + "\n"
