#!/usr/bin/python3
"""wsbench tells the truth: it finds each fault that a server makes, and none that it
does not."""

import base64
import hashlib
import json
import os
import selectors
import signal
import socket
import struct
import subprocess
import sys
import tempfile
import threading
import time
import unittest

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))

from harness import BIN, DEADLINE, wait_until  # noqa: E402
from tlsclient import TlsCase  # noqa: E402

WSBENCH = os.path.join(BIN, "wsbench")


class FaultyFloor(threading.Thread):
    """A floor that does to the n-th payload what `spoil(n, payload)` says: it returns
    the payloads to send in its place."""

    def __init__(self, spoil):
        super().__init__(daemon=True)
        self.spoil = spoil
        self.clients = []
        self.seen = 0
        self.listener = socket.create_server(("127.0.0.1", 0), backlog=64)
        self.control = socket.create_server(("127.0.0.1", 0))
        self.port = self.listener.getsockname()[1]
        self.control_port = self.control.getsockname()[1]
        self.stopped = False
        self.start()

    def run(self):
        feeds, pending = [], b""
        poll = selectors.DefaultSelector()
        poll.register(self.listener, selectors.EVENT_READ)
        poll.register(self.control, selectors.EVENT_READ)
        while not self.stopped:
            for key, _ in poll.select(0.1):
                if key.fileobj is self.listener:
                    self.clients.append(self.upgrade(self.listener.accept()[0]))
                elif key.fileobj is self.control:
                    feeds.append(self.control.accept()[0])
                    poll.register(feeds[-1], selectors.EVENT_READ)
                else:
                    data = key.fileobj.recv(65536)
                    if not data:
                        poll.unregister(key.fileobj)
                    pending = self.take(pending + data)
        for each in self.clients + [self.listener, self.control] + feeds:
            each.close()

    @staticmethod
    def upgrade(conn):
        request = b""
        while b"\r\n\r\n" not in request:
            request += conn.recv(4096)
        key = request.lower().index(b"sec-websocket-key: ") + 19
        digest = hashlib.sha1(request[key:key + 24] +
                              b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11").digest()
        conn.sendall(b"HTTP/1.1 101 Yes\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
                     b"Sec-WebSocket-Accept: " + base64.b64encode(digest) + b"\r\n\r\n")
        return conn

    def take(self, data):
        while len(data) >= 4:
            size = struct.unpack("<I", data[:4])[0]
            if len(data) < 4 + size:
                break
            self.seen += 1
            for payload in self.spoil(self.seen, data[4:4 + size]):
                frame = struct.pack(">BBH", 0x81, 126, len(payload)) + payload
                for client in self.clients:
                    client.sendall(frame)
            data = data[4 + size:]
        return data

    def stop(self):
        self.stopped = True
        self.join()


def run(*args):
    return subprocess.run([WSBENCH, "run", "--quiet", "--json", *args],
                          capture_output=True, text=True, timeout=4 * DEADLINE,
                          check=False)


class Faults(unittest.TestCase):
    """Five clients, and a fault at the 30th of about 300 messages."""

    def check(self, spoil):
        floor = FaultyFloor(spoil)
        self.addCleanup(floor.stop)
        done = run("--url=ws://127.0.0.1:%d/" % floor.port, "--publish=floor",
                   "--control=127.0.0.1:%d" % floor.control_port, "--connections=5",
                   "--size=200", "--rate=100", "--duration=3", "--warmup=0.2",
                   "--drain=1")
        self.assertEqual(done.returncode, 0, done.stderr)
        check = json.loads(done.stdout)["check"]
        return {k: check[k] for k in ("lost", "repeated", "reordered", "altered")
                if check[k]}

    def test_faults_of_a_good_server_are_none(self):
        self.assertEqual(self.check(lambda n, p: [p]), {})

    def test_faults_lost_message_is_found_at_each(self):
        self.assertEqual(self.check(lambda n, p: [] if n == 30 else [p]), {"lost": 5})

    def test_faults_lost_last_messages_are_found(self):
        found = self.check(lambda n, p: [] if n > 60 else [p])
        self.assertEqual(list(found), ["lost"])
        self.assertGreater(found["lost"], 5)

    def test_faults_repeated_message_is_found(self):
        self.assertEqual(
            self.check(lambda n, p: [p, p] if n == 30 else [p]), {"repeated": 5})

    def test_faults_swapped_messages_are_found(self):
        held = []

        def swap(n, payload):
            if n == 30:
                held.append(payload)
                return []
            return [payload] + ([held.pop()] if held else [])

        self.assertEqual(self.check(swap), {"reordered": 5})

    def test_faults_altered_byte_is_found(self):
        def alter(n, payload):
            if n != 30:
                return [payload]
            return [payload[:50] + bytes([payload[50] ^ 1]) + payload[51:]]

        # A message that is not what was sent is not the one that was sent, either.
        self.assertEqual(self.check(alter), {"altered": 5, "lost": 5})


class Limit(unittest.TestCase):
    """The floor that comes with it."""

    def test_limit_floors_agree_with_themselves(self):
        with tempfile.TemporaryDirectory() as folder:
            out = os.path.join(folder, "a.json")
            port = FaultyFloor(lambda n, p: [p])
            port.stop()  # its ports are free now
            server = "exec %s limit --port=%d --control=%d --processes=1" % (
                WSBENCH, port.port, port.control_port)
            done = subprocess.run(
                [WSBENCH, "run", "--quiet", "--connections=50", "--duration=0.5",
                 "--warmup=0.1", "--rate=50", "--floor=send,send-share", "--rounds=2",
                 "--publish=floor", "--url=ws://127.0.0.1:%d/" % port.port,
                 "--control=127.0.0.1:%d" % port.control_port, "--server=" + server,
                 "--json=" + out], capture_output=True, text=True,
                timeout=8 * DEADLINE, check=False)
            self.assertEqual(done.returncode, 0, done.stderr)
            with open(out, encoding="utf-8") as f:
                result = json.load(f)
            self.assertEqual(len(result["runs"]), 6)
            for one in result["runs"]:
                self.assertEqual(one["deliveries"]["measured"],
                                 50 * one["messages"]["measured"])
                self.assertEqual(one["check"]["lost"], 0)
            self.assertGreater(result["ratios"]["server"]["cpu"], 0)
            same = subprocess.run([WSBENCH, "compare", out, out], capture_output=True,
                                  text=True, check=True)
            self.assertIn("+0.0 %", same.stdout)

    def test_interrupt_reports_what_was_measured(self):
        floor = FaultyFloor(lambda n, p: [p])
        self.addCleanup(floor.stop)
        bench = subprocess.Popen(
            [WSBENCH, "run", "--quiet", "--json", "--connections=5", "--duration=600",
             "--warmup=0", "--rate=100", "--publish=floor",
             "--url=ws://127.0.0.1:%d/" % floor.port,
             "--control=127.0.0.1:%d" % floor.control_port],
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        wait_until("some messages", lambda: floor.seen > 50)
        begin = time.monotonic()
        bench.send_signal(signal.SIGINT)
        out, err = bench.communicate(timeout=DEADLINE)
        self.assertEqual(bench.returncode, 0, err)
        result = json.loads(out)
        self.assertTrue(result["interrupted"])
        self.assertGreater(result["deliveries"]["measured"], 5 * 20)
        self.assertEqual(result["check"]["lost"], 0)
        self.assertLess(time.monotonic() - begin, DEADLINE / 2)

    def test_usage_wrong_option_is_told(self):
        for wrong in ("--nonsense=1", "--size=3", "--rate=x", "--drops=200%",
                      "--protocol=x", "--publish=x", "nopreset"):
            done = run(wrong)
            self.assertNotEqual(done.returncode, 0, wrong)
            self.assertIn("wsbench:", done.stderr, wrong)


class Tls(TlsCase):
    """A server's clients through TLS, who are all reset once and come again."""

    def run_storm(self, *args):
        d = self.tls_daemon({"channel *": {"history": "yes"}})
        done = run("--url=wss://127.0.0.1:%d/ws" % d.tls_port, "--protocol=v1",
                   "--publish=control", "--control=" + d.control, "--connections=40",
                   "--processes=2", "--channels=4", "--rate=100", "--size=100-20000",
                   "--duration=4", "--warmup=0.2", "--storm", *args)
        self.assertEqual(done.returncode, 0, done.stderr)
        result = json.loads(done.stdout)
        self.assertEqual({k: n for k, n in result["check"].items()
                          if k in ("lost", "repeated", "reordered", "altered")},
                         dict.fromkeys(("lost", "repeated", "reordered", "altered"), 0))
        made = result["connections"]
        self.assertEqual(made["open"], 40)
        self.assertEqual(made["tls_opened"], made["opened"])
        self.assertEqual(d.counter("tls_handshakes"), made["tls_opened"])
        self.assertEqual(d.counter("tls_resumed"), made["tls_resumed"])
        return made

    def test_tls_all_is_delivered_by_full_handshakes(self):
        made = self.run_storm()
        self.assertGreaterEqual(made["tls_opened"], 80)
        self.assertEqual(made["tls_resumed"], 0)

    def test_tls_resume_uses_tickets_and_resets_do_not_spoil_them(self):
        # Those of the storm at least: the first ones may all begin before a ticket came.
        self.assertGreaterEqual(self.run_storm("--resume")["tls_resumed"], 40)

    def test_tls_is_no_floors_and_tickets_want_it(self):
        for why, *args in (("no TLS", "--url=wss://127.0.0.1:1/", "--floor=send",
                            "--server=true"),
                           ("not a wss://", "--url=ws://127.0.0.1:1/", "--resume")):
            done = run(*args)
            self.assertEqual(done.returncode, 2, done.stderr)
            self.assertIn(why, done.stderr)


if __name__ == "__main__":
    unittest.main()
