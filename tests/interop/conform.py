"""Conformance cases, and how they are fed.

A Case is what a client sends and all that it must get, up to the server's closing the
TCP connection: nothing less, nothing more, and no reset. Each is fed three times:

whole  request and frames in one piece: what lies behind the head must not be lost
bytes  a byte at a time (of long ones: the first and the last few hundred)
cuts   in random pieces; the seed is printed, WSCAST_SEED sets it

All run at once on one loop, many connections at a time, and a part of them through
TLS too: there each piece is a record, and what is in it comes out of OpenSSL at once.
WSCAST_CONFORM_TLS=all has every case through TLS in every way.
"""

import asyncio
import os
import random
import socket
import ssl
import struct
import sys
import zlib

from harness import DEADLINE
from wire import BINARY, CLOSE, KEY, NAMES, PONG, TEXT, accept_of, close, request
from wire import take_frames, take_reply

FEEDS = ("whole", "bytes", "cuts")
TLS_FEEDS = FEEDS if os.environ.get("WSCAST_CONFORM_TLS") == "all" else ("whole",)
SEED = int(os.environ.get("WSCAST_SEED", random.SystemRandom().randrange(1 << 32)))
CONNECTIONS = 60  # at a time
SINGLE_HEAD, SINGLE_TAIL = 400, 200  # bytes of a long case that go one by one


class Case:
    """One rule.

    name     unique; what is done, and what comes of it
    rule     where it is written
    server   which of the suite's servers (test_conformance.py)
    ask      the request
    send     behind it, when it was answered with 101
    reply    sent when the server's Close frame has come
    half     shut our side down when all is sent
    status   of the answer; None: closed without one
    headers  that the answer must have; None as a value: must not have
    frames   that must come, as (opcode, payload) or (opcode, whether a payload is it);
             a Close is (CLOSE, code)
    ends     the case closes by itself; else a Close 1000 is sent at its end and
             answered
    """

    def __init__(self, name, rule, send=b"", frames=(), *, server="echo", ask=None,
                 reply=None, half=False, status=101, headers=None, ends=False):
        self.name, self.rule, self.server = name, rule, server
        self.ask = request() if ask is None else ask
        self.status, self.headers = status, headers or {}
        self.reply, self.half = reply, half
        self.send, self.frames = send, list(frames)
        if status == 101 and not ends:
            self.send += close(1000)
            self.frames.append((CLOSE, 1000))


def text(payload):
    return TEXT, payload if isinstance(payload, bytes) else payload.encode()


def binary(payload):
    return BINARY, payload


def pong(payload=b""):
    return PONG, payload


def closed(code):
    return CLOSE, code


# ---- feeding ----


def singles(data):
    """A byte at a time; of long data only its ends."""
    if len(data) <= SINGLE_HEAD + SINGLE_TAIL:
        return [data[i : i + 1] for i in range(len(data))]
    head, tail = data[:SINGLE_HEAD], data[-SINGLE_TAIL:]
    return singles(head) + [data[SINGLE_HEAD:-SINGLE_TAIL]] + singles(tail)


def cuts(data, rng):
    """Up to eight cuts at random places, of which some lie next to each other."""
    if len(data) < 2:
        return [data]
    places = {rng.randrange(1, len(data)) for _ in range(rng.randrange(1, 9))}
    places |= {p + 1 for p in places if rng.random() < 0.3 and p + 1 < len(data)}
    edges = [0] + sorted(places) + [len(data)]
    return [data[a:b] for a, b in zip(edges, edges[1:])]


class Plain:
    """The socket itself."""

    def __init__(self, sock):
        self.loop, self.sock = asyncio.get_running_loop(), sock

    async def open(self):
        pass

    async def send(self, data):
        await self.loop.sock_sendall(self.sock, data)

    async def recv(self):
        return await self.loop.sock_recv(self.sock, 1 << 16)

    async def end(self):
        self.sock.shutdown(socket.SHUT_WR)


class Encrypted(Plain):
    """TLS over it: what is sent at once is one record, as long as it fits."""

    def __init__(self, sock, context):
        super().__init__(sock)
        self.inside, self.outside = ssl.MemoryBIO(), ssl.MemoryBIO()
        self.tls = context.wrap_bio(self.inside, self.outside, server_hostname="localhost")

    async def flush(self):
        await super().send(self.outside.read())

    async def open(self):
        while True:
            try:
                self.tls.do_handshake()
                break
            except ssl.SSLWantReadError:
                await self.flush()
                self.inside.write(await super().recv() or self.cut())
        await self.flush()

    def cut(self):
        raise ConnectionError("ended without close_notify")

    async def send(self, data):
        self.tls.write(data)
        await self.flush()

    async def recv(self):
        while True:
            try:
                return self.tls.read(1 << 16)
            except ssl.SSLWantReadError:
                self.inside.write(await super().recv() or self.cut())
            except ssl.SSLZeroReturnError:
                return b""

    async def end(self):
        try:
            self.tls.unwrap()  # our close_notify, and not its answer
        except ssl.SSLWantReadError:
            pass
        await self.flush()
        await super().end()


class Run:
    """One case, fed in one way; through TLS if there is a context for it."""

    def __init__(self, case, feed, port, context=None):
        self.case, self.feed, self.port, self.context = case, feed, port, context
        self.rng = random.Random(SEED ^ zlib.crc32(case.name.encode()))
        self.got = bytearray()
        self.ended = None  # "closed" or what went wrong
        self.more = asyncio.Event()

    async def go(self):
        """Returns None when all came as it must, else what did not."""
        loop = asyncio.get_running_loop()
        sock = socket.socket()
        sock.setblocking(False)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        reading = None
        try:
            await loop.sock_connect(sock, ("127.0.0.1", self.port))
            pipe = Encrypted(sock, self.context) if self.context else Plain(sock)
            await asyncio.wait_for(pipe.open(), DEADLINE)
            reading = loop.create_task(self.read(pipe))
            await asyncio.wait_for(self.talk(pipe, reading), DEADLINE)
        except asyncio.TimeoutError:
            return "no end came; so far %s" % self.describe()
        except (ConnectionError, ssl.SSLError) as e:
            self.ended = self.ended or repr(e)
        finally:
            if reading:
                reading.cancel()
            sock.close()
        try:
            return self.judge()
        except AssertionError as e:
            return str(e)

    async def read(self, pipe):
        try:
            while data := await pipe.recv():
                self.got += data
                self.more.set()
            self.ended = "closed"
        except (ConnectionError, ssl.SSLError) as e:
            self.ended = repr(e)
        self.more.set()

    async def until(self, question):
        while not question() and self.ended is None:
            self.more.clear()
            await self.more.wait()

    async def talk(self, pipe, reading):
        case = self.case
        try:
            if self.feed == "whole":
                await pipe.send(case.ask + case.send)
            elif self.feed == "cuts":
                await self.pieces(pipe, cuts(case.ask + case.send, self.rng))
            elif case.status == 101 and case.send and case.frames[:-1]:
                await pipe.send(case.ask)
                await self.until(lambda: b"\r\n\r\n" in self.got)
                await self.pieces(pipe, singles(case.send))
            else:
                await self.pieces(pipe, singles(case.ask + case.send))
            if case.half:
                await pipe.end()
        except (ConnectionError, ssl.SSLError):
            pass  # what came before tells whether it may close now
        if case.reply is not None:
            await self.until(self.close_came)
            await pipe.send(case.reply)
        await reading

    async def pieces(self, pipe, pieces):
        for piece in pieces:
            await pipe.send(piece)
            await asyncio.sleep(0)  # the others' turn, and the server's

    def close_came(self):
        reply = take_reply(self.got)
        try:
            return reply and any(op == CLOSE for op, _ in take_frames(reply[2]))
        except AssertionError:
            return False  # cut inside a frame: wait on

    # -- judging --

    def describe(self):
        return "%r (%d bytes)" % (bytes(self.got[:600]), len(self.got))

    def judge(self):
        case = self.case
        if self.ended != "closed":
            return "ended with %s; got %s" % (self.ended, self.describe())
        if case.status is None:
            return "got an answer: %s" % self.describe() if self.got else None
        reply = take_reply(self.got)
        if reply is None:
            return "no answer: %s" % self.describe()
        status, headers, rest = reply
        if status != case.status:
            return "status %d, not %d: %s" % (status, case.status, self.describe())
        for name, value in case.headers.items():
            have = [v for k, v in headers if k == name.lower()]
            if have != ([] if value is None else [value]):
                return "header %s is %r, not %r" % (name, have, value)
        if status == 101:
            return self.judge_upgrade(headers) or self.judge_frames(take_frames(rest))
        return self.judge_reply(headers, rest)

    def judge_upgrade(self, headers):
        """RFC 6455 §4.2.2"""
        key = [line for line in self.case.ask.decode("latin-1").split("\r\n")
               if line.lower().startswith("sec-websocket-key:")]
        key = key[0].split(":", 1)[1].strip() if key else KEY
        for name, value in (("upgrade", "websocket"), ("connection", "upgrade"),
                            ("sec-websocket-accept", accept_of(key))):
            have = [v for k, v in headers if k == name]
            if len(have) != 1 or have[0] != value and (
                    name == "sec-websocket-accept" or have[0].lower() != value):
                return "header %s is %r, not %r" % (name, have, value)
        if any(k in ("content-length", "transfer-encoding") for k, _ in headers):
            return "a 101 with a body's length"  # RFC 9110 §8.6
        return None

    def judge_reply(self, headers, body):
        """A refusal: a body of one line, of the length that is said, and the end."""
        head = dict(headers)
        if self.case.ask.startswith(b"HEAD "):
            if body:
                return "an answer to HEAD has a body: %r" % body
        elif body.count(b"\n") != 1 or not body.endswith(b"\n"):
            return "body is not one line: %r" % body
        elif head.get("content-length") != str(len(body)):
            return "Content-Length %s of %d bytes" % (head.get("content-length"), len(body))
        if "close" not in head.get("connection", "").lower():
            return "no Connection: close: %r" % headers
        return None

    def judge_frames(self, got):
        want = self.case.frames
        if len(got) != len(want) or not all(map(same, got, want)):
            return "got %s\nmust be %s" % (show(got), show(want))
        return None


def same(got, want):
    """Whether a frame is the one that must come."""
    if callable(want[1]):
        return got[0] == want[0] and want[1](got[1])
    if got[0] != CLOSE or want[0] != CLOSE:
        return got == want
    if len(got[1]) < 2:
        return False  # ours always say why
    code = struct.unpack(">H", got[1][:2])[0]
    got[1][2:].decode()
    return code == want[1]


def show(frames):
    out = []
    for op, payload in frames[:40]:
        if op == CLOSE and isinstance(payload, bytes):
            out.append("close %d %r" % (int.from_bytes(payload[:2], "big"), payload[2:]))
        elif isinstance(payload, bytes):
            out.append("%s %d %r" % (NAMES.get(op, op), len(payload), payload[:60]))
        else:
            out.append("%s %s" % (NAMES.get(op, op), payload))
    return "[" + ", ".join(out) + (", …]" if len(frames) > 40 else "]")


def run_all(cases, port_of, context):
    """Feed all; {(name, feed, whether through TLS): None or what went wrong}."""
    print("seed %d" % SEED, file=sys.stderr)

    async def go():
        room = asyncio.Semaphore(CONNECTIONS)
        results = {}

        async def one(case, feed, tls):
            async with room:
                results[case.name, feed, tls] = await Run(
                    case, feed, port_of(case.server, tls), context if tls else None).go()

        # Mixed, so that the large ones do not all meet.
        runs = [(case, feed, tls) for feed, tls in ways() for case in cases]
        random.Random(SEED).shuffle(runs)
        await asyncio.gather(*(one(*run) for run in runs))
        return results

    return asyncio.run(go())


def ways():
    """(feed, whether through TLS)"""
    return [(feed, False) for feed in FEEDS] + [(feed, True) for feed in TLS_FEEDS]
