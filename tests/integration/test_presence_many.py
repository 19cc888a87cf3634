# tests/run: alone
"""Presence of 10,000 connections on two hosts: each host lists each of them, once, over
kills of workers too."""

import itertools
import json
import os
import random
import signal
import sys
import unittest

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from harness import SANITIZED, wait_until
from hostile import connect, more_descriptors
from test_presence import Presence, listed
from wsclient import V1, run

MEMBERS = 2000 if SANITIZED else 10000
LEAVING = MEMBERS // 20
AT_ONCE = 100  # handshakes


class Crowd:
    """Raw connections in a channel, each with a user of its own."""

    def __init__(self, key):
        self.key, self.chance = key, random.Random(5)
        self.socks = {}  # user: socket

    def join(self, d, users):
        users = iter(users)
        while batch := list(itertools.islice(users, AT_ONCE)):
            for user in batch:
                s = self.socks[user] = connect(d.port, self.chance)
                s.sendall(b"GET /ws/chat HTTP/1.1\r\nHost: h\r\nUpgrade: websocket\r\n"
                          b"Connection: Upgrade\r\nSec-WebSocket-Version: 13\r\n"
                          b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
                          b"Authorization: Bearer " +
                          self.key.token(sub=user).encode() + b"\r\n\r\n")
            for user in batch:
                got = b""
                while b"\r\n\r\n" not in got:
                    more = self.socks[user].recv(4096)
                    assert more, got
                    got += more
                assert got.startswith(b"HTTP/1.1 101 "), got

    def leave(self, users):
        for user in users:
            self.socks.pop(user).close()

    def close(self):
        self.leave(list(self.socks))


class Many(Presence):
    def setUp(self):
        super().setUp()
        more_descriptors()
        self.crowd = Crowd(self.key)
        self.addCleanup(self.crowd.close)

    def total(self, d):
        return d.ctl("presence", channel="chat", limit=1)["total"]

    def listed_by(self, d):
        """The users that a client is told, page by page."""
        async def go():
            c = await V1.open(d)  # not in the channel itself
            found, after = [], {}
            while True:
                msg = await c.ask(presence="chat", **after)
                if "error" in msg:  # answers have a share of the ring
                    self.assertEqual(msg["error"]["code"], "rate_limited")
                    continue
                found += [m["user"] for m in msg["ok"]["clients"]]
                if "next" not in msg["ok"]:
                    break
                after = {"after": msg["ok"]["next"]}
            await c.close()
            return found

        return run(go())

    def check_all(self, *hosts):
        """Each host lists exactly those who are there, to whoever asks."""
        want = sorted(self.crowd.socks)
        for d in hosts:
            wait_until(lambda: "%d members, now %d" % (len(want), self.total(d)),
                       lambda: self.total(d) == len(want), every=0.1)
            shown = json.loads(d.wsctl("--json", "presence", "chat").stdout)["clients"]
            self.assertEqual(sorted(m["user"] for m in shown), want)
            self.assertEqual(sorted(self.listed_by(d)), want)
        self.assertEqual(listed(hosts[0]), listed(hosts[-1]))

    def kill_workers(self, *hosts):
        """Returns the pids, for wait_serving()."""
        pids = [w["pid"] for d in hosts for w in d.workers()]
        for pid in pids:
            os.kill(pid, signal.SIGKILL)
        return pids

    def test_presence_ten_thousand_connections_on_two_hosts(self):
        _, (d, e) = self.hosts(grace="0")
        users = ["user%d" % n for n in range(MEMBERS)]
        self.crowd.join(d, users[::2])
        self.crowd.join(e, users[1::2])
        self.check_all(d, e)
        # Nobody is missed while successors begin, nor counted twice.
        pids = self.kill_workers(d, e)
        for _ in range(20):
            self.assertEqual({self.total(h) for h in (d, e)}, {MEMBERS})
        for h in (d, e):
            h.wait_serving(but=pids)
        self.check_all(d, e)
        # Who goes while nobody serves is gone, and nobody else.
        for h, part in ((d, users[:LEAVING]), (e, users[-LEAVING:])):
            pids = self.kill_workers(h)
            self.crowd.leave(part)
            h.wait_serving(but=pids)
        self.check_all(d, e)
        # So are those of one host that are all gone, for the other.
        self.crowd.close()
        self.check_all(d, e)


if __name__ == "__main__":
    unittest.main()
