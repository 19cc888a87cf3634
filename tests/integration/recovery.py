"""Clients that write down what they were told, and what must be true of it.

Ledger   one wscast.v1 connection's messages and gaps, in the order of their coming
Sender   publishes numbers to Redis, whatever becomes of it
Resumer  a client that drops its connection when it likes, comes back with `since`, and
         checks that its sequence is complete
Flow     publishes numbered messages at a steady rate
"""

import asyncio
import json
import random
import selectors
import socket
import subprocess
import threading
import time

from fleet import ACCEPT, KEY, TEXT, masked, take_frame
from harness import Ctl, wait_until
from wsclient import V1

STALL_S = 10  # a shared machine may stand still for seconds, and that is no fault of ours


class Ledger:
    """Subscribed for good: `channels` map to lists of ("msg", offset, n) and ("gap",
    from, to)."""

    def __init__(self, v1):
        self.v1 = v1
        self.channels = {}
        self.unsubscribed = []
        self.changed = asyncio.Event()

    @classmethod
    async def open(cls, daemon, *channels):
        self = cls(await V1.open(daemon))
        for channel in channels:
            ok = await self.v1.ok(subscribe=channel)
            self.channels[channel] = []
            assert ok["channel"] == channel
        self.task = asyncio.ensure_future(self._read())
        return self

    async def _read(self):
        while True:
            msg = json.loads(await self.v1.ws.recv())
            if "gap" in msg:
                gap = msg["gap"]
                self.channels[gap["channel"]].append(("gap", gap["from"], gap["to"]))
            elif "unsubscribed" in msg:
                self.unsubscribed.append(msg["unsubscribed"])
            elif "channel" in msg:
                self.channels[msg["channel"]].append(("msg", msg["offset"], msg["data"]))
            self.changed.set()

    async def until(self, what, question, timeout=30):
        """Wait for what was written down to answer the question with yes."""
        end = time.monotonic() + timeout
        while not question():
            left = end - time.monotonic()
            if left <= 0:
                raise AssertionError("never came: %s\n%r" % (
                    what, {c: e[-5:] for c, e in self.channels.items()}))
            self.changed.clear()
            try:
                await asyncio.wait_for(self.changed.wait(), min(left, 1))
            except asyncio.TimeoutError:
                pass

    def last(self, channel):
        """The number of the newest message."""
        got = [e[2] for e in self.channels[channel] if e[0] == "msg"]
        return got[-1] if got else -1

    def gaps(self, channel):
        return [e for e in self.channels[channel] if e[0] == "gap"]

    def check(self, case):
        """Offsets have no hole, and each lost message lies within a gap. Returns how many
        were lost."""
        lost = 0
        for channel, events in self.channels.items():
            place = number = None
            gap = False
            for kind, offset, what in events:
                if place is not None:
                    case.assertEqual(offset, place + 1, "%s: %r" % (channel, events[-40:]))
                place = offset
                if kind == "gap":
                    gap = True
                    continue
                if number is not None and what != number + 1:
                    case.assertGreater(what, number, "%s went back" % channel)
                    case.assertTrue(gap, "%s: %d to %d lost in silence"
                                    % (channel, number + 1, what - 1))
                    lost += what - number - 1
                number, gap = what, False
        return lost

    async def close(self):
        self.task.cancel()
        await self.v1.close()


class Sender(threading.Thread):
    """PUBLISHes numbers to all channels, on a connection of its own that is made anew
    when it is lost.

    redis  has connect(), which finds the server to publish to
    """

    def __init__(self, redis, channels, rate=200):
        super().__init__(daemon=True)
        self.redis, self.channels, self.rate = redis, channels, rate
        self.n = 0
        self.over = False
        self.start()

    def run(self):
        pipe = None
        while not self.over:
            try:
                if pipe is None:
                    pipe = self.redis.connect()
                pipe.publish([("wscast:" + c, str(self.n)) for c in self.channels])
            except (OSError, AssertionError, subprocess.SubprocessError):
                # Whether it was taken nobody knows: the number is not used again.
                if pipe:
                    pipe.close()
                pipe = None
                time.sleep(0.02)
            self.n += 1
            time.sleep(len(self.channels) / self.rate)
        if pipe:
            pipe.close()

    def wait_more(self, numbers):
        """Wait until so many more were sent."""
        last = self.n + numbers
        wait_until("number %d is sent" % last, lambda: self.n >= last)

    def stop(self):
        self.over = True
        self.join()
        return self.n - 1


class Flow:
    """{channel: how many were published}; each message is its number. To be called again
    and again."""

    def __init__(self, daemon, channels, rate):
        self.ctl = Ctl(daemon.control)
        self.channels = {c: 0 for c in channels}
        self.names = list(channels)
        self.rate, self.sent, self.first = rate, 0, {}
        self.begun = time.monotonic()

    def turn(self):
        """Publish what is due by now."""
        due = int((time.monotonic() - self.begun) * self.rate) - self.sent
        names = [self.names[(self.sent + i) % len(self.names)] for i in range(min(due, 200))]
        for name in names:
            self.ctl.send({"cmd": "publish", "channel": name,
                           "data": str(self.channels[name])})
            self.channels[name] += 1
        for name in names:
            offset = self.ctl.line()["ok"]["offset"]
            self.first.setdefault(name, offset)
        self.sent += len(names)

    def close(self):
        self.ctl.close()


class Resumer:
    """Reads one channel; what it has had is a place and the next number due."""

    def __init__(self, daemon, channel, epoch, offset):
        self.daemon, self.channel, self.epoch = daemon, channel, epoch
        self.had, self.next = offset, 0
        self.sock, self.buf = None, b""
        self.resumed = self.cut = 0
        self.wrong = None

    def open(self):
        self.sock = socket.create_connection(("127.0.0.1", self.daemon.port))
        self.sock.sendall(
            ("GET /ws HTTP/1.1\r\nHost: %s\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
             "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: %s\r\n"
             "Sec-WebSocket-Protocol: wscast.v1\r\n\r\n" % (self.daemon.address, KEY)).encode()
            + masked(TEXT, json.dumps({
                "id": 1, "subscribe": self.channel,
                "since": {"epoch": self.epoch, "offset": self.had}}).encode()))
        self.sock.setblocking(False)
        self.buf, self.upgraded = b"", False
        self.resumed += 1

    def close(self):
        if self.sock:
            self.sock.close()
        self.sock = None

    def readable(self):
        """Take what is there. Returns False when the connection is over."""
        try:
            got = self.sock.recv(1 << 18)
        except BlockingIOError:
            return True
        except ConnectionError:
            return False
        if not got:
            return False
        self.buf += got
        if not self.upgraded:
            head, found, rest = self.buf.partition(b"\r\n\r\n")
            if not found:
                return True
            if ACCEPT.encode() not in head:
                raise AssertionError("no upgrade: %r" % head)
            self.upgraded, self.buf = True, rest
        at = 0
        while True:
            frame = take_frame(self.buf, at)
            if frame is None:
                break
            first, payload, at = frame
            if first & 15 == TEXT:
                self.message(json.loads(payload))
            elif first & 15 == 8:
                self.cut += 1
                return False
        self.buf = self.buf[at:]
        return True

    def message(self, msg):
        if "ok" in msg and not msg["ok"]["recovered"]:
            self.wrong = "not recovered: %r, had %d" % (msg, self.had)
        elif "gap" in msg or "error" in msg:
            self.wrong = repr(msg)
        elif "data" in msg:
            if (msg["offset"], msg["data"]) != (self.had + 1, self.next):
                self.wrong = "%r after %d" % (msg, self.had)
            self.had, self.next = msg["offset"], self.next + 1
        if self.wrong:
            raise AssertionError("%s: %s" % (self.channel, self.wrong))


def run_resumers(case, daemon, nclients, nchannels, rate, seconds, kill, seed,
                 places=None, flow=None):
    """Clients drop and come back at random while messages flow and `kill` is called now
    and then: each has the complete sequence in the end. Returns the clients.

    places  {channel: the offset before its first message}, when `flow` is given
    flow    publishes as a Flow does; otherwise one is made
    """
    rng = random.Random(seed)
    names = ["r%d" % i for i in range(nchannels)]
    epoch = daemon.status()["epoch"]
    if flow is None:
        # Each channel begins with an offset that is known: that of a first message.
        ctl = Ctl(daemon.control)
        places = {c: ctl.ask("publish", channel=c, data='"begin"')["offset"]
                  for c in names}
        ctl.close()
        flow = Flow(daemon, names, rate)
    clients = [Resumer(daemon, names[i % nchannels], epoch, places[names[i % nchannels]])
               for i in range(nclients)]
    selector = selectors.DefaultSelector()
    away = [(0.0, i) for i in range(nclients)]
    end = time.monotonic() + seconds
    kill_at = time.monotonic() + 0.3

    def leave(i):
        selector.unregister(clients[i].sock)
        clients[i].close()
        away.append((time.monotonic() + rng.uniform(0, 0.5), i))

    def complete():
        return all(c.next == flow.channels[c.channel] for c in clients)

    over = end + 60
    while time.monotonic() < end or not complete():
        now = time.monotonic()
        case.assertLess(now, over, [
            (c.channel, c.next, flow.channels[c.channel]) for c in clients
            if c.next != flow.channels[c.channel]][:5])
        if now < end:
            flow.turn()
            if now > kill_at:
                kill(rng)
                kill_at = now + rng.uniform(0.2, 0.8)
        for at, i in [a for a in away if a[0] <= now]:
            away.remove((at, i))
            clients[i].open()
            selector.register(clients[i].sock, selectors.EVENT_READ, i)
        for key, _ in selector.select(0.005):
            i, had = key.data, clients[key.data].next
            # One in a hundred messages is the last, however many come at once.
            if not clients[i].readable() or (
                    now < end and rng.random() * 100 < clients[i].next - had):
                leave(i)
    for c in clients:
        c.close()
    flow.close()
    return clients
