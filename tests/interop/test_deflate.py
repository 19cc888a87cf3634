"""permessage-deflate as clients get it: what is deflated and what is not, independent
clients, bombs, and serving processes that are killed inside deflated frames.

What clients send is in cases_deflate.py.
"""

import base64
import json
import os
import random
import select
import signal
import socket
import subprocess
import sys
import time
import unittest
import zlib

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path[:0] = [HERE, os.path.join(os.path.dirname(HERE), "integration")]
import wsclient
from fleet import masked, take_frame
from harness import DEADLINE, NODE_PATH, SANITIZED, Case, wait_until

RSV1 = 0x40
TEXT, BINARY = 1, 2
TAIL = b"\x00\x00\xff\xff"
OPEN = {"channel *": {"publish": "anyone"}}
KILLS = 5 if SANITIZED else 20


def words(n, seed=0):
    """n bytes of text that deflate to about a third."""
    rng = random.Random(seed)
    return "".join(rng.choices("etaoin shrdlu", k=n))


def inflate(payload):
    z = zlib.decompressobj(-15)
    data = z.decompress(payload + TAIL)
    assert not z.unconsumed_tail and not z.unused_data
    return data


class Wire:
    """A client that takes frames as they are; small buffers, so that they are cut."""

    def __init__(self, d, path="/ws/news", protocol=None, offer="permessage-deflate",
                 buffer=None):
        self.sock = socket.socket()
        if buffer:
            self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, buffer)
        self.sock.settimeout(DEADLINE)
        self.sock.connect(("127.0.0.1", d.port))
        lines = ["GET %s HTTP/1.1" % path, "Host: 127.0.0.1:%d" % d.port,
                 "Upgrade: websocket", "Connection: Upgrade", "Sec-WebSocket-Version: 13",
                 "Sec-WebSocket-Key: " + base64.b64encode(os.urandom(16)).decode()]
        if protocol:
            lines.append("Sec-WebSocket-Protocol: " + protocol)
        if offer:
            lines.append("Sec-WebSocket-Extensions: " + offer)
        self.sock.sendall("\r\n".join(lines + ["", ""]).encode())
        self.got = b""
        while b"\r\n\r\n" not in self.got:
            self.more()
        head, self.got = self.got.split(b"\r\n\r\n", 1)
        self.head = head.decode()

    def more(self, size=65536):
        data = self.sock.recv(size)
        if not data:
            raise AssertionError("closed after %r" % self.got[-200:])
        self.got += data

    def take(self):
        """The next whole frame as (first byte, payload), or None."""
        frame = take_frame(self.got)
        if frame is None:
            return None
        self.got = self.got[frame[2] :]
        return frame[:2]

    def frame(self):
        while (frame := self.take()) is None:
            self.more()
        return frame

    def close(self):
        self.sock.close()


class Sent(Case):
    def wire(self, d, **kwargs):
        w = Wire(d, **kwargs)
        self.addCleanup(w.close)
        return w

    def raw(self, d, **kwargs):
        """A raw client that is subscribed."""
        w = self.wire(d, **kwargs)
        wait_until("subscribed", lambda: d.publish("news", "there?") and select.select(
            [w.sock], [], [], 0.02)[0])
        d.publish("news", "now")  # behind all that was asked
        while w.frame()[1] != b"now":
            pass
        return w

    def test_deflate_sent_from_threshold_on(self):
        d = self.daemon()
        w = self.raw(d)
        for n in (1024, 1025, 5000, 65535, 70000, 300000):
            data = words(n)
            d.publish("news", data)
            first, payload = w.frame()
            self.assertEqual(first, 0x80 | RSV1 | TEXT)
            self.assertLess(len(payload), n * 0.6)
            self.assertEqual(inflate(payload).decode(), data)
        for n in (0, 1, 125, 1023):
            d.publish("news", words(n))
            self.assertEqual(w.frame(), (0x80 | TEXT, words(n).encode()))
        d.publish("news", b"\xff" * 2000)
        first, payload = w.frame()
        self.assertEqual((first, inflate(payload)), (0x80 | RSV1 | BINARY, b"\xff" * 2000))

    def test_deflate_not_sent_where_it_saves_too_little(self):
        d = self.daemon()
        w = self.raw(d)
        noise = b"\xff" + random.Random(3).randbytes(5000)
        d.publish("news", noise)
        self.assertEqual(w.frame(), (0x80 | BINARY, noise))
        status = d.status()["compression"]
        self.assertEqual((status["deflated"], status["left_plain"]), (0, 1))

    def test_deflate_min_saving_and_threshold_as_set(self):
        d = self.daemon({"compression": {"threshold": 10, "min_saving": "90%"}})
        w = self.raw(d)
        d.publish("news", words(3000))  # saves two thirds
        self.assertEqual(w.frame(), (0x80 | TEXT, words(3000).encode()))
        d.publish("news", "x" * 200)
        first, payload = w.frame()
        self.assertEqual((first, inflate(payload)), (0x80 | RSV1 | TEXT, b"x" * 200))

    def test_deflate_off_is_never_agreed_to(self):
        d = self.daemon({"compression": {"enabled": "no"}})
        w = self.raw(d)
        self.assertNotIn("sec-websocket-extensions", w.head.lower())
        d.publish("news", words(3000))
        self.assertEqual(w.frame(), (0x80 | TEXT, words(3000).encode()))
        self.assertFalse(d.status()["compression"]["enabled"])

    def test_deflate_never_sent_to_who_did_not_offer_it(self):
        d = self.daemon()
        self.raw(d)
        w = self.raw(d, offer=None)
        d.publish("news", words(3000))
        self.assertEqual(w.frame(), (0x80 | TEXT, words(3000).encode()))

    def test_deflate_v1_messages_not_answers(self):
        d = self.daemon()
        w = self.wire(d, path="/ws", protocol="wscast.v1")
        self.assertIn("hello", json.loads(w.frame()[1]))
        w.sock.sendall(masked(1, b'{"id":1,"subscribe":"news"}'))
        first, payload = w.frame()
        self.assertEqual((first, json.loads(payload)["id"]), (0x80 | TEXT, 1))
        data = {"words": words(4000)}
        d.publish("news", json.dumps(data))
        first, payload = w.frame()
        self.assertEqual(first, 0x80 | RSV1 | TEXT)
        message = json.loads(inflate(payload))
        self.assertEqual((message["channel"], message["data"]), ("news", data))
        w.sock.sendall(masked(1, b'{"id":"%s","ping":{}}' % (b"x" * 60)))
        self.assertEqual(w.frame()[0], 0x80 | TEXT)

    def test_deflate_recovery_sends_what_the_ring_has(self):
        """Published while nobody wanted it deflated: it comes plain, in its place."""
        d = self.daemon()
        first = self.wire(d, path="/ws", protocol="wscast.v1", offer=None)
        hello = json.loads(first.frame()[1])["hello"]
        first.sock.sendall(masked(1, b'{"id":1,"subscribe":"news"}'))
        start = json.loads(first.frame()[1])["ok"]["offset"]
        d.publish("news", json.dumps(words(3000, 1)))
        first.frame()
        w = self.wire(d, path="/ws", protocol="wscast.v1")
        w.frame()
        wait_until("its demand is seen", lambda: d.publish("other", words(3000))
                   and d.status()["compression"]["deflated"] > 0)
        d.publish("news", json.dumps(words(3000, 2)))
        w.sock.sendall(masked(1, json.dumps({"id": 1, "subscribe": "news", "since": {
            "epoch": hello["epoch"], "offset": start}}).encode()))
        self.assertTrue(json.loads(w.frame()[1])["ok"]["recovered"])
        kind, payload = w.frame()
        self.assertEqual((kind, json.loads(payload)["data"]), (0x80 | TEXT, words(3000, 1)))
        kind, payload = w.frame()
        self.assertEqual(kind, 0x80 | RSV1 | TEXT)
        self.assertEqual(json.loads(inflate(payload))["data"], words(3000, 2))

    def test_deflate_counted(self):
        d = self.daemon(OPEN)
        w = self.raw(d)
        before = d.counter("inflated")
        z = zlib.compressobj(6, zlib.DEFLATED, -15)
        good = bytearray(masked(1, (z.compress(b"hello") + z.flush(zlib.Z_SYNC_FLUSH))[:-4]))
        good[0] |= RSV1
        w.sock.sendall(good)
        self.assertEqual(w.frame(), (0x80 | TEXT, b"hello"))
        bad = bytearray(masked(1, b"\xff\xff"))
        bad[0] |= RSV1
        w.sock.sendall(bad)
        self.assertEqual(w.frame()[1][:2], (1007).to_bytes(2, "big"))
        self.assertEqual(d.counter("inflated") - before, 2)
        self.assertEqual(d.counter("inflate_errors"), 1)
        self.assertEqual(d.counter("opened_deflate"), 1)
        self.assertTrue(d.status()["compression"]["enabled"])

    @unittest.skipIf(SANITIZED, "a sanitizer keeps what is freed")
    def test_deflate_bombs_take_no_memory(self):
        d = self.daemon(OPEN, workers=1)
        pid = d.workers()[0]["pid"]
        z = zlib.compressobj(9, zlib.DEFLATED, -15)
        bomb = z.compress(bytes(60 << 20)) + z.flush(zlib.Z_SYNC_FLUSH)
        bomb = bytearray(masked(2, bomb[:-4]))
        bomb[0] |= RSV1
        self.assertLess(len(bomb), 65536)

        def peak():
            with open("/proc/%d/status" % pid) as f:
                return int(next(line for line in f if line.startswith("VmHWM")).split()[1])

        before = None
        for i in range(30):
            w = self.wire(d)
            w.sock.sendall(bomb)
            frame = w.frame()
            self.assertEqual((frame[0], frame[1][:2]), (0x88, (1009).to_bytes(2, "big")))
            before = before or peak()  # the first has made the inflater's window
        self.assertLess(peak() - before, 1024)


class Clients(Case):
    """Independent ones, which check what they get by themselves."""

    def test_deflate_python_websockets_all_protocols_and_sizes(self):
        d = self.daemon(OPEN)

        async def go():
            rng = random.Random(5)
            raw = await wsclient.raw(d, "news", compression="deflate")
            plain = await wsclient.raw(d, "news")
            v1 = await wsclient.V1.open(d, "news", compression="deflate")
            self.assertTrue(raw.extensions and v1.ws.extensions and not plain.extensions)
            # Each sends before it reads: the first is subscribed when its own comes.
            for ws in (raw, plain):
                await ws.send("there")
                while await wsclient.soon(ws.recv()) != "there":
                    pass
            for i in range(300):
                data = "%d " % i + words(rng.choice((3, 50, 900, 1100, 5000, 40000)), i)
                await raw.send(data)
                for ws in (raw, plain):
                    while (got := await wsclient.soon(ws.recv())) == "there":
                        pass
                    self.assertEqual(got, data)
                while (got := (await v1.event())["data"]) == "there":
                    pass
                self.assertEqual(got, data)
            big = {"words": words(60000)}
            await v1.ok(publish="news", data=big)
            self.assertEqual(json.loads(await wsclient.soon(raw.recv())), big)
            await raw.close()
            self.assertEqual(raw.close_code, 1000)
            await plain.close()
            await v1.close()

        wsclient.run(go())
        self.assertGreater(d.counter("inflated"), 100)

    def test_deflate_node_ws(self):
        d = self.daemon(OPEN)
        script = """
            const WebSocket = require('ws');
            const sizes = [0, 10, 1023, 1024, 2000, 60000];
            const ws = new WebSocket(process.argv[1], { perMessageDeflate: { threshold: 0 } });
            let at = 0;
            const next = () => 'x'.repeat(sizes[at]);
            ws.on('open', () => {
              if (!ws.extensions.startsWith('permessage-deflate')) process.exit(2);
              ws.send(next());
            });
            ws.on('message', (data, binary) => {
              if (binary || data.toString() !== next()) process.exit(3);
              if (++at === sizes.length) ws.close(1000); else ws.send(next());
            });
            ws.on('close', (code) => process.exit(code === 1000 && at === sizes.length ? 0 : 4));
            ws.on('error', (e) => { console.error(e); process.exit(5); });
        """
        out = subprocess.run(["node", "-e", script, "ws://%s/ws/news" % d.address],
                             env=dict(os.environ, NODE_PATH=NODE_PATH), timeout=DEADLINE,
                             stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        self.assertEqual(out.returncode, 0, out.stdout)
        self.assertEqual(d.counter("inflated"), 6)


class Killed(Case):
    def test_deflate_killed_inside_frames_no_byte_lost(self):
        """Slow readers of deflated and plain frames in one stream, and kill -9."""
        seed = int(os.environ.get("WSCAST_SEED", time.time()))
        print("WSCAST_SEED=%d" % seed)
        rng = random.Random(seed)
        d = self.daemon({"limits": {"send_buffer": "4k"}}, workers=1)
        clients = []
        for i in range(12):
            v1 = i % 2 == 1
            w = Wire(d, path="/ws" if v1 else "/ws/news", protocol="wscast.v1" if v1 else None,
                     offer=None if i % 4 == 3 else "permessage-deflate", buffer=16384)
            self.addCleanup(w.close)
            if v1:
                w.frame()
                w.sock.sendall(masked(1, b'{"id":1,"subscribe":"news"}'))
                w.frame()
            w.v1, w.seen, w.deflated = v1, None, 0
            w.sock.setblocking(False)
            clients.append(w)
        wait_until("all are subscribed",
                   lambda: d.status()["subscriptions"] == len(clients))
        n = 0
        for kill in range(KILLS):
            for _ in range(rng.randrange(10, 30)):
                n += 1
                d.publish("news", self.body(n))
                self.read_some(rng.sample(clients, 6), rng)
            pid = d.workers()[0]["pid"]
            os.kill(pid, signal.SIGKILL)
            d.wait_serving(but=[pid])
        end = time.monotonic() + DEADLINE
        while any(w.seen != n for w in clients) and time.monotonic() < end:
            self.read_some(clients, rng)
        self.assertEqual([w.seen for w in clients], [n] * len(clients))
        self.assertGreater(d.counter("blocked"), KILLS)
        self.assertEqual(d.counter("closed_crash"), 0)
        for i, w in enumerate(clients):
            (self.assertEqual if i % 4 == 3 else self.assertGreater)(w.deflated, 0)

    def body(self, n):
        return "%d %s" % (n, words(n * 7919 % (20000 if n % 5 == 0 else 3000), n))

    def read_some(self, clients, rng):
        for w in clients:
            try:
                w.more(rng.randrange(1, 12000))
            except BlockingIOError:
                continue
            while frame := w.take():
                self.check(w, *frame)

    def check(self, w, first, payload):
        if first & RSV1:
            payload = inflate(payload)
            w.deflated += 1
        self.assertEqual(first & ~RSV1, 0x80 | TEXT)
        data = payload.decode()
        if w.v1:
            data = json.loads(data)["data"]
        # A raw client may have been subscribed in the middle of the first ones.
        w.seen = int(data.split(" ", 1)[0]) if w.seen is None else w.seen + 1
        self.assertEqual(data, self.body(w.seen))


if __name__ == "__main__":
    unittest.main()
