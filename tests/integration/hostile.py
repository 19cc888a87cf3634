"""Clients that mean harm: requests that never end, and connections that end anyhow."""

import os
import random
import resource
import select
import socket
import struct
import threading
import time

from harness import DEADLINE

UPGRADE = (b"GET /ws/noise HTTP/1.1\r\nHost: h\r\nUpgrade: websocket\r\n"
           b"Connection: Upgrade\r\nSec-WebSocket-Version: 13\r\n"
           b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n")
BEGUN = b"GET /ws/news HTTP/1.1\r\nHost: h\r\nX-Slow: "
RESET = struct.pack("ii", 1, 0)  # SO_LINGER: close() resets


def more_descriptors():
    """As many as this process may have."""
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def connect(port, chance):
    """From somewhere in 127.0.0.0/8."""
    s = socket.socket()
    s.bind(("127.%d.%d.%d" % (chance.randrange(256), chance.randrange(256),
                              chance.randrange(1, 255)), 0))
    s.settimeout(DEADLINE)
    s.connect(("127.0.0.1", port))
    return s


class Slowloris(threading.Thread):
    """Holds `count` connections inside their requests: every other one is silent, the
    others send a byte now and then. One that is closed is made again, until stop()."""

    EVERY = 1.0  # seconds for a byte to each

    def __init__(self, port, count):
        super().__init__(daemon=True)
        self.port, self.count = port, count
        self.chance = random.Random(4)
        self.held = {}  # fd: socket
        self.closed = 0
        self.full = threading.Event()
        self.ending = threading.Event()
        self.poll = select.epoll()
        self.start()

    def begin(self):
        s = connect(self.port, self.chance)
        s.sendall(BEGUN)
        s.setblocking(False)
        self.held[s.fileno()] = s
        self.poll.register(s, select.EPOLLIN | select.EPOLLRDHUP)

    def reap(self, wait):
        for fd, _ in self.poll.poll(wait, 1000):
            self.held.pop(fd).close()
            self.closed += 1

    def drip(self, socks):
        for s in socks:
            try:
                s.send(b"x")
            except OSError:
                pass  # reap() sees it

    def run(self):
        while self.held or not self.ending.is_set():
            for _ in range(200):
                if self.ending.is_set() or len(self.held) >= self.count:
                    break
                self.begin()
            if len(self.held) >= self.count:
                self.full.set()
            slice_ = max(1, self.count // 40)
            some = list(self.held.values())[::2]
            at = int(time.monotonic() / self.EVERY * 20) % 20 * slice_
            self.drip(some[at:at + slice_])
            self.reap(0.02 if self.full.is_set() else 0)
        self.poll.close()

    def stop(self):
        """Let them end at their deadline, and wait for the last."""
        self.ending.set()
        self.join(4 * DEADLINE)
        assert not self.is_alive(), "%d are still held" % len(self.held)


def masked(payload, first=0x81, told=None):
    """A frame that says it has `told` bytes."""
    return bytes([first, 0x80 | (told or len(payload)), 0, 0, 0, 0]) + payload


def upgraded(s):
    s.sendall(UPGRADE)
    got = b""
    while b"\r\n\r\n" not in got:
        more = s.recv(4096)
        if not more:
            raise AssertionError("no upgrade: %r" % got)
        got += more


def to_end(s):
    """Read until the other side closes, or resets."""
    try:
        while s.recv(65536):
            pass
    except ConnectionError:
        pass


def visit(port, kind, chance):
    """One connection, and one way to leave."""
    s = connect(port, chance)
    try:
        if kind == 0:  # nothing said
            pass
        elif kind == 1:  # random bytes
            s.sendall(chance.randbytes(chance.randrange(1, 400)))
        elif kind == 2:  # a request cut short
            s.sendall(UPGRADE[:chance.randrange(1, len(UPGRADE))])
        elif kind == 3:  # and the reading goes on
            s.sendall(UPGRADE[:chance.randrange(1, len(UPGRADE))])
            s.shutdown(socket.SHUT_WR)
            to_end(s)
        elif kind == 4:  # in a message
            upgraded(s)
            s.sendall(masked(b"half", told=100))
        elif kind == 5:  # between fragments
            upgraded(s)
            s.sendall(masked(b"half", first=0x01))
            s.shutdown(socket.SHUT_WR)
            to_end(s)
        elif kind == 6:  # random frames
            upgraded(s)
            s.sendall(chance.randbytes(chance.randrange(1, 400)))
        else:  # behind many pings, unread
            upgraded(s)
            s.sendall(masked(b"ping", first=0x89) * 50)
        if kind != 3 and chance.random() < 0.5:
            s.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
    except (BrokenPipeError, ConnectionResetError):
        pass  # it was told off before it had said all
    finally:
        s.close()


def churn(port, count, seed):
    """`count` connections, one behind the other."""
    chance = random.Random(seed)
    for i in range(count):
        visit(port, i % 8, chance)


def private_memory(pids):
    """Bytes that these processes have for themselves. What they share is not in it: the
    rings take memory as they are first written, up to their size."""
    total = 0
    for pid in pids:
        with open("/proc/%d/smaps_rollup" % pid) as f:
            total += sum(int(line.split()[1]) for line in f if line.startswith("Pss_Anon:"))
    return total * 1024


def may_look_into(pids):
    """Into a sandboxed process only root can."""
    return all(os.access("/proc/%d/smaps_rollup" % pid, os.R_OK) for pid in pids) \
        and os.geteuid() == 0
