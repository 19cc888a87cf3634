"""Hundreds of WebSocket clients in one loop, each of which checks every byte it gets.

What a raw client must receive is known to the byte: the frames of all messages of its
channels, back to back, from its first message on. So is what a wscast.v1 client
receives behind its subscription. A Tape holds those bytes, and a client compares what
comes with its place on the tape: a lost, repeated or altered byte is seen at once, at
the cost of a memcmp. (That an independent WebSocket library agrees is shown by the
tests that use python3-websockets.)

Storm  publishes numbered messages with checksums and writes them on the tapes
Fleet  the clients and the loop that turns all of it
"""

import base64
import bisect
import errno
import hashlib
import heapq
import json
import random
import re
import select
import socket
import ssl
import struct
import time
import zlib

from harness import DEADLINE, Timeout

TEXT, BINARY, CLOSE, PING, PONG = 1, 2, 8, 9, 10
KEY = base64.b64encode(b"sixteen bytes ok").decode()
ACCEPT = base64.b64encode(hashlib.sha1(
    (KEY + "258EAFA5-E914-47DA-95CA-C5AB0DC85B11").encode()).digest()).decode()


def frame(op, payload):
    """A server's frame: final, never masked."""
    n = len(payload)
    if n < 126:
        head = struct.pack(">BB", 0x80 | op, n)
    elif n < 65536:
        head = struct.pack(">BBH", 0x80 | op, 126, n)
    else:
        head = struct.pack(">BBQ", 0x80 | op, 127, n)
    return head + payload


def masked(op, payload, fin=True):
    """A client's frame. The mask is always the same: it is no secret here."""
    mask = b"\x12\x34\x56\x78"
    n = len(payload)
    first = (0x80 if fin else 0) | op
    if n < 126:
        head = struct.pack(">BB", first, 0x80 | n)
    elif n < 65536:
        head = struct.pack(">BBH", first, 0x80 | 126, n)
    else:
        head = struct.pack(">BBQ", first, 0x80 | 127, n)
    key = (mask * (n // 4 + 1))[:n]
    body = (int.from_bytes(payload, "big") ^ int.from_bytes(key, "big")).to_bytes(n, "big")
    return head + mask + body


def take_frame(buf, at=0):
    """(first byte, payload, end) of the whole frame at `at`, or None."""
    if len(buf) < at + 2:
        return None
    n, head = buf[at + 1] & 0x7F, 2
    if n == 126:
        head = 4
    elif n == 127:
        head = 10
    if len(buf) < at + head:
        return None
    if head > 2:
        n = int.from_bytes(buf[at + 2 : at + head], "big")
    if len(buf) < at + head + n:
        return None
    return buf[at], bytes(buf[at + head : at + head + n]), at + head + n


def upgrade(path, v1, port):
    lines = ["GET %s HTTP/1.1" % path, "Host: 127.0.0.1:%d" % port, "Upgrade: websocket",
             "Connection: Upgrade", "Sec-WebSocket-Version: 13",
             "Sec-WebSocket-Key: " + KEY]
    if v1:
        lines.append("Sec-WebSocket-Protocol: wscast.v1")
    return ("\r\n".join(lines) + "\r\n\r\n").encode()


class Tape:
    """The bytes that a subscription to some channels brings, for ever."""

    def __init__(self):
        self.data = bytearray()
        self.starts = []  # of each frame
        self.numbers = []  # of each frame's message, rising

    def add(self, number, whole):
        self.starts.append(len(self.data))
        self.numbers.append(number)
        self.data += whole

    def start_of(self, number):
        """Where message `number` begins, or None when it is not on this tape."""
        i = bisect.bisect_left(self.numbers, number)
        if i < len(self.numbers) and self.numbers[i] == number:
            return self.starts[i]
        return None

    def begins(self, pos):
        """Whether a frame begins at pos, or will."""
        i = bisect.bisect_left(self.starts, pos)
        return pos == len(self.data) or (i < len(self.starts) and self.starts[i] == pos)

    def name(self, pos):
        """Which message, and which byte of its frame, lies at pos."""
        i = bisect.bisect_right(self.starts, pos) - 1
        if i < 0 or pos >= len(self.data):
            return "nothing (the end)"
        end = self.starts[i + 1] if i + 1 < len(self.starts) else len(self.data)
        return "message %d, byte %d of %d" % (self.numbers[i], pos - self.starts[i],
                                              end - self.starts[i])


class Storm:
    """Numbered messages on some channels, and what clients must see of them.

    publish   function of a list of (channel, payload): to Redis, or into wscast
    channels  names; message n goes to a random one of them
    rate      messages a second
    sizes     function of a random.Random: length of the filler
    """

    def __init__(self, publish, channels, rate, sizes, seed):
        self.rng = random.Random(seed)
        self.send = publish
        self.channels = channels
        self.rate = rate
        self.sizes = sizes
        self.number = 0
        self.due = 0.0
        self.last = None
        self.on = False
        self.raw = {c: Tape() for c in channels}
        self.raw_all = Tape()
        self.v1 = {c: Tape() for c in channels}
        self.v1_all = Tape()
        self.base = {c: 0 for c in channels}  # offset before our first message
        self.offset = {c: 0 for c in channels}  # messages so far
        # Every length is cut out of this: JSON needs no escape in it.
        self.filler = base64.b64encode(self.rng.getrandbits(8 * 300000).to_bytes(
            300000, "big")).decode()

    def message(self, channel, size):
        """Make the next message and write it on all tapes; (channel, payload)."""
        self.number += 1
        at = self.rng.randrange(len(self.filler) - size)
        body = self.filler[at : at + size]
        payload = ('{"n":%d,"c":"%s","crc":"%08x","f":"%s"}' % (
            self.number, channel, zlib.crc32(body.encode()), body)).encode()
        whole = frame(TEXT, payload)
        self.raw[channel].add(self.number, whole)
        self.raw_all.add(self.number, whole)
        self.offset[channel] += 1
        whole = frame(TEXT, b'{"channel":"%s","offset":%d,"data":%s}' % (
            channel.encode(), self.base[channel] + self.offset[channel], payload))
        self.v1[channel].add(self.number, whole)
        self.v1_all.add(self.number, whole)
        return channel, payload

    def v1_place(self, channel, offset):
        """Where, on a channel's v1 tape, everything behind `offset` begins."""
        k = offset - self.base[channel]
        tape = self.v1[channel]
        return tape.starts[k] if k < len(tape.starts) else len(tape.data)

    def round(self):
        """One short message for each channel."""
        self.send([self.message(c, 8) for c in self.channels])

    def start(self):
        self.on, self.last = True, time.monotonic()

    def turn(self):
        """Publish what is due by the clock."""
        if not self.on:
            return
        now = time.monotonic()
        # A loop that was held up goes on at its rate; it does not make up for it at once.
        self.due += min(now - self.last, 0.25) * self.rate
        self.last = now
        n = int(self.due)
        if n:
            self.due -= n
            self.send([self.message(self.rng.choice(self.channels), self.sizes(self.rng))
                       for _ in range(n)])


def varied_sizes(rng):
    """Mostly small, some of some KiB, now and then one that fills a send buffer."""
    r = rng.random()
    if r < 0.80:
        return rng.randrange(0, 120)
    if r < 0.985:
        return rng.randrange(120, 2500)
    if r < 0.9985:
        return rng.randrange(2500, 20000)
    return rng.randrange(60000, 140000)


class Client:
    """One connection; the Fleet calls readable()."""

    def __init__(self, fleet, name, tape, path, v1=None, rcvbuf=None, slow=None):
        """tape: what it must see. v1: None (raw) or the channels it subscribes to.
        slow: a random.Random; it then reads little and pauses often."""
        self.fleet, self.name, self.tape, self.v1 = fleet, name, tape, v1
        self.slow = slow
        self.pos = None  # on the tape; None: its first message has not come
        self.head = bytearray()  # what came before pos was known
        self.state = "http"
        self.waiting = list(v1 or ())  # subscriptions not yet answered
        self.client = None
        self.oks = {}
        self.held = b""  # the first byte of a ping
        self.pings = 0
        self.closed = False
        self.sock = socket.socket()
        if rcvbuf:
            self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, rcvbuf)
        self.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.sock.settimeout(DEADLINE)
        self.sock.connect(("127.0.0.1", fleet.port))
        self.port = self.sock.getsockname()[1]
        if fleet.tls:
            self.sock = fleet.tls.wrap_socket(self.sock, server_hostname="localhost")
        self.sock.sendall(upgrade(path, v1 is not None, fleet.port))
        self.sock.setblocking(False)

    def say(self, obj):
        """Send a v1 request. Short: the socket's buffer always has room for it."""
        self.sock.send(masked(TEXT, json.dumps(obj).encode()))

    def fail(self, text):
        raise AssertionError("client %s (port %d, worker pid %s): %s" % (
            self.name, self.port, self.fleet.served_by(self.port), text))

    @property
    def live(self):
        """Its subscriptions hold: it has its place on the tape."""
        return self.pos is not None

    @property
    def caught_up(self):
        return self.pos == len(self.tape.data)

    def readable(self):
        size = self.slow.randrange(1, 16384) if self.slow else 262144
        try:
            data = self.sock.recv(size)
        except (BlockingIOError, ssl.SSLWantReadError):
            return
        except OSError as e:
            return self.on_end(errno.errorcode.get(e.errno, str(e)))
        if not data:
            return self.on_end("EOF")
        self.on_bytes(data)
        # What TLS has decrypted, no event tells of.
        if self.fleet.tls and not self.closed and self.sock.pending():
            self.readable()

    def on_end(self, how):
        self.fail("its connection was closed (%s) at %s" % (
            how, self.tape.name(self.pos) if self.live else "its start"))

    def on_bytes(self, data):
        if self.pos is None:
            self.head += data
            self.begin()
            return
        if self.held:
            data, self.held = self.held + data, b""
        while not self.tape.data.startswith(data, self.pos):
            data = self.without_ping(data)
        self.pos += len(data)

    def differs(self, data):
        """How many bytes are as they should be."""
        want = self.tape.data[self.pos : self.pos + len(data)]
        return next((i for i, (a, b) in enumerate(zip(want, data)) if a != b),
                    min(len(want), len(data)))

    def without_ping(self, data):
        """The server pings once in an hour, and the first time sooner: two bytes
        between two messages. No pong: a client that says something may be cut."""
        n = self.differs(data)
        if not self.tape.begins(self.pos + n) or data[n : n + 2] not in (b"\x89", b"\x89\0"):
            self.mismatch(data)
        self.pos += n
        if len(data) == n + 1:
            self.held = data[n:]
        else:
            self.pings += 1
        return data[n + 2 :]

    def mismatch(self, data):
        want = self.tape.data[self.pos : self.pos + len(data)]
        n = self.differs(data)
        close = take_frame(data, n)
        note = ""
        if close and close[0] == 0x80 | CLOSE:
            note = " (Close %r)" % close[1]
        seen = re.search(rb'"n":(\d+)', data[n:])
        self.fail("got other bytes than were published. Due: %s: %r. Came: %r%s; the next "
                  "number in it: %s" % (
                      self.tape.name(self.pos + n), bytes(want[n : n + 60]),
                      data[n : n + 60], note, seen and seen.group(1).decode()))

    def begin(self):
        """The handshake's answer, v1's first messages, and the first frame."""
        if self.state == "http":
            end = self.head.find(b"\r\n\r\n")
            if end < 0:
                return
            head = self.head[:end].decode()
            if not head.startswith("HTTP/1.1 101 ") or ACCEPT not in head:
                self.fail("refused: %s" % head)
            del self.head[: end + 4]
            self.state = "hello" if self.v1 is not None else "first"
        while self.state in ("hello", "answers"):
            got = take_frame(self.head)
            if not got:
                return
            del self.head[: got[2]]
            if got[0] != 0x80 | PING:
                self.on_setup(json.loads(got[1]))
        if self.state == "first":
            # Frames begin with {"n":N, so that their head and this much name them.
            if self.head.startswith(b"\x89\0"):
                self.pings += 1
                del self.head[:2]
            match = re.match(rb'.{2,10}?\{"n":(\d+),', bytes(self.head[:40]), re.S)
            if not match:
                if len(self.head) >= 40:
                    self.fail("its first bytes are no message: %r" % bytes(self.head[:40]))
                return
            pos = self.tape.start_of(int(match.group(1)))
            if pos is None:
                self.fail("its first message %s is of no channel of its" % match.group(1))
            self.settle(pos)

    def settle(self, pos):
        self.pos = pos
        rest, self.head = bytes(self.head), bytearray()
        if rest:
            self.on_bytes(rest)

    def on_setup(self, msg):
        if self.state == "hello":
            if "hello" not in msg:
                self.fail("no hello but %r" % msg)
            self.client = msg["hello"]["client"]
            for i, channel in enumerate(self.v1):
                self.say({"id": "s%d" % i, "subscribe": channel})
            self.state = "answers"
            return
        if "ok" not in msg:
            self.fail("no answer but %r" % msg)
        self.oks[msg["ok"]["channel"]] = msg["ok"]["offset"]
        if len(self.oks) == len(self.v1):
            self.on_subscribed()

    def on_subscribed(self):
        """Several channels: the tape has all of them, and nothing flowed meanwhile."""
        storm = self.fleet.storm
        self.state = "live"
        if storm.number == 0:
            storm.base.update(self.oks)
        if len(self.v1) == 1:
            channel = self.v1[0]
            self.settle(storm.v1_place(channel, self.oks[channel]))
        else:
            self.settle(len(self.tape.data))

    def close(self):
        if not self.closed:
            self.closed = True
            self.fleet.forget(self)
            self.sock.close()


class Talker(Client):
    """A v1 client that also asks: each request is answered once, between whole messages
    (a publish when the feed has it, so not before a ping that was asked later). It alone may be closed, with 1012, when a worker dies while reading from
    it; it then counts the fact and stays away."""

    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        self.parse = bytearray()
        self.asked = 0
        self.open = set()  # ids not yet answered
        self.cut = False

    def talk(self):
        if self.live and not self.closed and len(self.open) < 20:
            self.asked += 1
            self.open.add(self.asked)
            if self.asked % 2:
                self.say({"id": self.asked, "ping": {}})
            else:
                self.say({"id": self.asked, "publish": "talk", "data": self.name})

    def on_bytes(self, data):
        if self.pos is None:
            return super().on_bytes(data)
        self.parse += data
        at = 0
        while True:
            got = take_frame(self.parse, at)
            if not got:
                break
            whole, at = self.parse[at : got[2]], got[2]
            if self.tape.data.startswith(whole, self.pos) and self.pos < len(self.tape.data):
                self.pos += len(whole)
            elif whole == b"\x89\0":
                self.pings += 1
            elif whole[0] == 0x80 | CLOSE and whole[2:4] == b"\x03\xf4":
                self.cut = True
            else:
                self.on_reply(got[1], whole)
        del self.parse[:at]

    def on_reply(self, payload, whole):
        try:
            msg = json.loads(payload)
        except ValueError:
            msg = {}
        if msg.get("id") not in self.open or msg != {"id": msg["id"], "ok": {}}:
            self.fail("answers %s are due, or %s; came %r" % (
                sorted(self.open), self.tape.name(self.pos), bytes(whole[:200])))
        self.open.remove(msg["id"])

    def on_end(self, how):
        if not self.cut:
            # The Close frame is lost when our bytes lay unread behind what the dead
            # worker was reading: the kernel then answers with a reset.
            if how != "ECONNRESET" or not self.open:
                super().on_end(how)
        self.cut = True
        self.close()

    @property
    def caught_up(self):
        return self.closed or (super().caught_up and not self.open
                               and not self.parse)


class Fleet:
    """The loop: the storm publishes, clients read, `jobs` do what a test adds."""

    PACE = 0.008  # seconds at least per turn: reading in gulps keeps Python cheap

    def __init__(self, daemon, storm, tls=None):
        """tls: a client's ssl.SSLContext: through the TLS listener."""
        self.daemon, self.storm, self.tls = daemon, storm, tls
        self.port = daemon.tls_port if tls else daemon.port
        self.epoll = select.epoll()
        self.clients = {}
        self.paused = []
        self.jobs = []
        self.serial = 0

    def served_by(self, port):
        from harness import peers_of
        try:
            return [w["pid"] for w in self.daemon.workers() if port in peers_of(w["keeper_pid"])]
        except Exception as e:  # only for a message
            return e

    def add(self, kind, *args, **kwargs):
        client = kind(self, *args, **kwargs)
        self.clients[client.sock.fileno()] = client
        self.epoll.register(client.sock.fileno(), select.EPOLLIN)
        return client

    def raw(self, name, channel=None, kind=Client, **kwargs):
        """A raw client of one channel, or of all."""
        if channel is None:
            path = "/ws?" + "&".join("channel=" + c for c in self.storm.channels)
            return self.add(kind, name, self.storm.raw_all, path, **kwargs)
        return self.add(kind, name, self.storm.raw[channel], "/ws/" + channel, **kwargs)

    def v1(self, name, channel=None, kind=Client, **kwargs):
        if channel is None:
            return self.add(kind, name, self.storm.v1_all, "/ws",
                            v1=self.storm.channels, **kwargs)
        return self.add(kind, name, self.storm.v1[channel], "/ws", v1=[channel], **kwargs)

    def forget(self, client):
        fd = client.sock.fileno()
        self.clients.pop(fd, None)
        try:
            self.epoll.unregister(fd)
        except (OSError, ValueError):
            pass

    def pause(self, client, seconds):
        """Read nothing from it for a while."""
        self.epoll.modify(client.sock.fileno(), 0)
        self.serial += 1
        heapq.heappush(self.paused, (time.monotonic() + seconds, self.serial, client))

    def turn(self):
        began = time.monotonic()
        self.storm.turn()
        while self.paused and self.paused[0][0] <= began:
            client = heapq.heappop(self.paused)[2]
            if not client.closed:
                self.epoll.modify(client.sock.fileno(), select.EPOLLIN)
        for fd, _ in self.epoll.poll(self.PACE):
            client = self.clients.get(fd)
            if client is None:
                continue
            client.readable()
            if client.slow and not client.closed and self.storm.on:
                if client.slow.random() < 0.15:
                    self.pause(client, client.slow.uniform(0.05, 2.0))
        for job in self.jobs:
            job()
        left = self.PACE - (time.monotonic() - began)
        if left > 0:
            time.sleep(left)

    def run(self, what, until, timeout=None):
        """Turn until the condition holds."""
        end = time.monotonic() + (timeout or DEADLINE)
        while not until():
            self.turn()
            if time.monotonic() > end:
                raise Timeout("never came: %s\n%s" % (
                    what() if callable(what) else what, self.daemon.log()))

    def go_live(self):
        """Publish a short message on each channel until every client has its place."""
        last = [0.0]

        def until():
            if all(c.live for c in self.clients.values()):
                return True
            # A v1 client is told its place; where one of several channels is, only
            # while nothing flows. A raw client sees it by its first message.
            if time.monotonic() - last[0] > 0.1 and all(
                    c.live or c.state == "first" for c in self.clients.values()):
                self.storm.round()
                last[0] = time.monotonic()
            return False

        self.run(lambda: "the first message at %s" % [
            (c.name, c.state) for c in self.clients.values() if not c.live][:10], until)

    def settle(self, timeout=None):
        """Stop publishing; everyone gets all that is on its tape, and nothing else."""
        self.storm.on = False
        for client in self.clients.values():
            if client.slow:  # a window of 2 KiB takes its time with a megabyte
                client.slow = None
                client.sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 20)
        self.storm.round()  # a last one: what is repeated behind it is seen, too
        self.run(lambda: "the last message at %s" % [
            (c.name, len(c.tape.data) - c.pos) for c in self.clients.values()
            if not c.caught_up][:10],
            lambda: all(c.caught_up for c in self.clients.values()), timeout)

    def close(self):
        for client in list(self.clients.values()):
            client.close()
        self.epoll.close()
