"""Hundreds of clients of one numbered feed, and what a step of a scenario cost them.

Each client is subscribed to one channel for good: whatever closes its connection, it
comes back with `since`. What is published there are the numbers 0, 1, 2…, so each client
knows what it did not get, and whether it was told so.
"""

import collections
import ctypes
import json
import os
import random
import select
import socket
import sys
import threading
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.dirname(os.path.abspath(__file__))),
                                "integration"))
from fleet import CLOSE, KEY, PING, PONG, TEXT, masked, take_frame

CLONE_NEWNET = 0x40000000
CHANNEL = "numbers"
EVERY_S = 0.05  # between two numbers

Cost = collections.namedtuple("Cost", "closed codes declared skipped lost repeated resumed")


class Client:
    """One of them. `place` and `last`: what it has had."""

    def __init__(self):
        self.sock = None
        self.ready = False  # subscribed
        self.retry_at = 0.0
        self.place = self.last = None
        self.may_jump = False  # it was told that something is lost

    def open(self, port):
        self.buf, self.upgraded, self.ready = b"", False, False
        self.sock = socket.create_connection(("127.0.0.1", port), 10)
        subscribe = {"id": 1, "subscribe": CHANNEL}
        if self.place:
            subscribe["since"] = {"epoch": self.place[0], "offset": self.place[1]}
        self.sock.sendall(
            ("GET /ws HTTP/1.1\r\nHost: 127.0.0.1:%d\r\nUpgrade: websocket\r\n"
             "Connection: Upgrade\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: %s\r\n"
             "Sec-WebSocket-Protocol: wscast.v1\r\n\r\n" % (port, KEY)).encode()
            + masked(TEXT, json.dumps(subscribe).encode()))
        self.sock.setblocking(False)


class Crowd(threading.Thread):
    """The clients, their publisher, and the loop that turns both, within a network
    namespace. control: the path of wscastd's control socket, from here."""

    def __init__(self, netns_pid, control, n=500, port=8080):
        super().__init__(daemon=True)
        self.netns_pid, self.control, self.port = netns_pid, control, port
        self.clients = [Client() for _ in range(n)]
        self.lock = threading.Lock()
        self.number = 0  # the next to be published
        self.doubtful = set()  # nobody knows whether these were
        self.totals = collections.Counter()
        self.codes = collections.Counter()
        self.over = False
        self.error = None

    # -- from the test --

    def settle(self, timeout=120):
        """Wait until all are there and have what was published by now."""
        due = self.number + 1
        end = time.monotonic() + timeout
        while True:
            if self.error:
                raise AssertionError("the crowd failed: %r" % self.error)
            with self.lock:
                away = [c for c in self.clients if not c.ready]
                late = [c for c in self.clients if c.last is None or c.last < due]
            if not away and not late:
                return
            if time.monotonic() > end:
                raise AssertionError("%d of %d clients are away, %d have not had %d (at %d)" % (
                    len(away), len(self.clients), len(late), due, self.number))
            time.sleep(0.02)

    def cost(self):
        """What happened since the last time."""
        with self.lock:
            t, self.totals = self.totals, collections.Counter()
            codes, self.codes = self.codes, collections.Counter()
        return Cost(t["closed"], " ".join("%dx%s" % (n, c) for c, n in sorted(codes.items())),
                    t["declared"], t["skipped"], t["lost"], t["repeated"], t["resumed"])

    def stop(self):
        self.over = True
        self.join(30)

    # -- the loop --

    def run(self):
        try:
            with open("/proc/%d/ns/net" % self.netns_pid) as ns:
                if ctypes.CDLL(None, use_errno=True).setns(ns.fileno(), CLONE_NEWNET) < 0:
                    raise OSError(ctypes.get_errno(), "setns")
            self.loop()
        except BaseException as e:  # the test asks for it
            self.error = e
            raise

    def loop(self):
        poll = select.epoll()
        by_fd, ctl, asked, due_at = {}, None, False, time.monotonic()
        while not self.over:
            now = time.monotonic()
            with self.lock:
                away = [c for c in self.clients if c.sock is None and c.retry_at <= now]
            for c in away[:50]:
                try:
                    c.open(self.port)
                except OSError:
                    self.leave(c, None)
                    continue
                by_fd[c.sock.fileno()] = c
                poll.register(c.sock, select.EPOLLIN)
            if now >= due_at:
                due_at = now + EVERY_S
                ctl, asked = self.publish(ctl, asked)
            for fd, _ in poll.poll(0.01):
                c = by_fd[fd]
                with self.lock:
                    code = self.read(c)
                if code is not None:
                    poll.unregister(fd)
                    del by_fd[fd]
                    self.leave(c, code)
        for c in by_fd.values():
            c.sock.close()
        if ctl:
            ctl.close()
        poll.close()

    def leave(self, c, code):
        """It comes back soon. code: None when it was not let in."""
        with self.lock:
            if c.sock is not None:
                c.sock.close()
            if c.ready:
                self.totals["closed"] += 1
                self.codes[code] += 1
            c.sock, c.ready = None, False
            c.retry_at = time.monotonic() + random.uniform(0.1, 0.4)

    def publish(self, ctl, asked):
        """One number on its way at a time. What was refused is tried again; what was cut
        off may have been published or not."""
        try:
            if ctl is None:
                ctl = socket.socket(socket.AF_UNIX)
                ctl.settimeout(20)
                ctl.connect(self.control)
                ctl.setblocking(False)
            if asked:
                try:
                    line = ctl.recv(65536)
                except BlockingIOError:
                    return ctl, True
                if not line:
                    raise ConnectionError
                if b'"ok"' in line:
                    with self.lock:
                        self.number += 1
            ctl.sendall(json.dumps({"cmd": "publish", "channel": CHANNEL,
                                    "data": str(self.number)}).encode() + b"\n")
            return ctl, True
        except OSError:
            if ctl is not None:
                ctl.close()
            if asked:
                with self.lock:
                    self.doubtful.add(self.number)
                    self.number += 1
            return None, False

    def read(self, c):
        """Returns the code with which the connection ended, or None."""
        try:
            got = c.sock.recv(1 << 16)
        except BlockingIOError:
            return None
        except OSError:
            return 1006
        if not got:
            return 1006
        c.buf += got
        if not c.upgraded:
            head, found, rest = c.buf.partition(b"\r\n\r\n")
            if not found:
                return None
            if not head.startswith(b"HTTP/1.1 101 "):
                return int(head.split()[1])
            c.upgraded, c.buf = True, rest
        at, code = 0, None
        while code is None:
            frame = take_frame(c.buf, at)
            if frame is None:
                break
            first, payload, at = frame
            if first & 15 == TEXT:
                code = self.message(c, json.loads(payload))
            elif first & 15 == PING:
                c.sock.send(masked(PONG, payload))
            elif first & 15 == CLOSE:
                code = int.from_bytes(payload[:2], "big")
        c.buf = c.buf[at:]
        return code

    def message(self, c, msg):
        """Returns a code when the connection is of no use."""
        if "ok" in msg:
            ok = msg["ok"]
            if c.place is None:
                c.place = [ok["epoch"], ok["offset"]]
            elif ok["recovered"]:
                self.totals["resumed"] += 1
            else:
                self.declare(c)
                c.place = [ok["epoch"], ok["offset"]]
            c.ready = True
        elif "gap" in msg:
            self.declare(c)
            c.place[1] = max(c.place[1], msg["gap"]["to"] or 0)
        elif "data" in msg:
            n = msg["data"]
            if c.last is not None and n <= c.last:
                self.totals["repeated"] += 1
            elif c.last is not None and n > c.last + 1:
                holes = len(set(range(c.last + 1, n)) - self.doubtful)
                self.totals["skipped" if c.may_jump else "lost"] += holes
            c.last, c.may_jump = n, False
            c.place[1] = msg["offset"]
        elif msg.get("error", {}).get("code") == "feed_down":
            return 1013
        elif "error" in msg:
            raise AssertionError(msg)
        return None

    def declare(self, c):
        self.totals["declared"] += 1
        c.may_jump = True
