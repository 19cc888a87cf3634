"""Answers that wait: a client that asks and does not read, and very long messages."""

import fcntl
import os
import re
import socket
import struct
import sys
import termios
import unittest

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path[:0] = [HERE, os.path.join(os.path.dirname(HERE), "integration")]
from harness import DEADLINE, Case, wait_until
from wire import BINARY, CLOSE, PING, PONG, TEXT, close, fragments, frame, request
from wire import take_frames

MIB = 1 << 20


class Client:
    """A socket with an upgrade behind it, that reads when it is told to."""

    def __init__(self, daemon, target, rcvbuf=None):
        self.sock = socket.socket()
        if rcvbuf:
            self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, rcvbuf)
        self.sock.settimeout(DEADLINE)
        self.sock.connect(("127.0.0.1", daemon.port))
        self.sock.sendall(request(target))
        self.got = bytearray()
        while b"\r\n\r\n" not in self.got:
            self.got += self.sock.recv(1)

    def send(self, data):
        self.sock.sendall(data)

    def unread(self):
        """Bytes that we sent and the server has not read: asked of the kernel."""
        mine, its = self.sock.getsockname()[1], self.sock.getpeername()[1]
        queued = struct.unpack("i", fcntl.ioctl(self.sock, termios.TIOCOUTQ, b"    "))[0]
        with open("/proc/net/tcp") as f:
            for line in f.readlines()[1:]:
                col = line.split()
                if (int(col[1][-4:], 16), int(col[2][-4:], 16)) == (its, mine):
                    return queued + int(col[4].split(":")[1], 16)
        return queued

    def read_until(self, last):
        """Read until the bytes end so; what came is not forgotten."""
        while not self.got.endswith(last):
            more = self.sock.recv(1 << 18)
            if not more:
                raise AssertionError("the connection ended")
            self.got += more

    def end(self):
        """Close, and read all: the frames that came behind the 101."""
        self.send(close(1000))
        while more := self.sock.recv(1 << 18):
            self.got += more
        self.sock.close()
        return take_frames(self.got[self.got.index(b"\r\n\r\n") + 4:])


def memory(pid):
    """Bytes of memory that a process has of its own."""
    with open("/proc/%d/status" % pid) as f:
        return int(re.search(r"RssAnon:\s+(\d+)", f.read()).group(1)) << 10


class Pings(Case):
    def test_pings_that_pile_up_are_answered_by_the_newest_pong(self):
        """RFC 6455 §5.5.3. The client has messages to read, and only sends."""
        d = self.daemon(workers=1)
        c = Client(d, "/ws/news", rcvbuf=4096)
        wait_until("subscribed", lambda: d.status()["subscriptions"] == 1)
        sent = [b"%d" % i * 5000 for i in range(100)]
        for message in sent:
            d.publish("news", message)
        pings = 20000
        pid = d.workers()[0]["pid"]
        before = memory(pid)
        for i in range(pings):
            c.send(frame(PING, b"ping %d" % i + b"." * 100))
        wait_until("all pings are read", lambda: c.unread() == 0)
        grown = memory(pid) - before
        c.read_until(b"ping %d" % (pings - 1) + b"." * 100)
        frames = c.end()
        self.assertTrue([p for op, p in frames if op == TEXT] == sent)
        pongs = [p for op, p in frames if op == PONG]
        self.assertTrue(pongs[-1].startswith(b"ping %d." % (pings - 1)), pongs[-1])
        numbers = [int(p[5:p.index(b".")]) for p in pongs]
        self.assertEqual(numbers, sorted(set(numbers)))
        self.assertLess(len(pongs), pings / 2)
        self.assertLess(grown, 4 * MIB)
        self.assertEqual(frames[-1][0], CLOSE)


class Large(Case):
    def test_echo_of_16_mib_with_the_default_ring(self):
        d = self.daemon({"server": {"echo": "yes"}, "limits": {"max_message_size": "16M"}})
        data = os.urandom(MIB) * 16
        for send in (frame(BINARY, data), fragments(BINARY, [data[:5 * MIB], data[5 * MIB:]])):
            c = Client(d, "/echo")
            c.send(send)
            frames = c.end()
            self.assertEqual([op for op, _ in frames], [BINARY, CLOSE])
            self.assertTrue(frames[0][1] == data)
        c = Client(d, "/echo")
        c.send(frame(BINARY, b"x", length=16 * MIB + 1, form=8))
        self.assertEqual(c.end(), [(CLOSE, b"\x03\xf1")])  # 1009

    def test_echo_that_is_not_read_is_not_read_from(self):
        """A client that never reads holds one message and one read, not all it sends."""
        d = self.daemon({"server": {"echo": "yes"}, "limits": {"max_message_size": "1M"}},
                        workers=1)
        c = Client(d, "/echo", rcvbuf=4096)
        message = frame(BINARY, b"x" * 100000)
        c.sock.settimeout(1)
        sent = 0
        with self.assertRaises(TimeoutError):
            while sent < 500 * len(message):
                c.send(message)
                sent += len(message)
        c.sock.close()
        wait_until("it is gone", lambda: d.status()["connections"] == 0)


class Off(Case):
    def test_echo_is_not_there_unless_asked_for(self):
        d = self.daemon(workers=1)
        with socket.create_connection(("127.0.0.1", d.port)) as s:
            s.settimeout(DEADLINE)
            s.sendall(request("/echo"))
            self.assertTrue(s.recv(4096).startswith(b"HTTP/1.1 404 "))


if __name__ == "__main__":
    unittest.main()
