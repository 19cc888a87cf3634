"""Behind a proxy: the PROXY protocol, and listeners that are unix sockets."""

import grp
import os
import signal
import socket
import stat
import ssl
import struct
import sys
import tempfile
import threading
import unittest

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from harness import DEADLINE, Case, cpu_seconds, free_port, wait_until
from tlsclient import Pump, TlsCase, context, read_end, upgrade

REQUEST = ("GET /ws/news HTTP/1.1\r\nHost: h\r\nUpgrade: websocket\r\n"
           "Connection: Upgrade\r\nSec-WebSocket-Version: 13\r\n"
           "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n%s\r\n")
V1 = b"PROXY TCP4 %s 198.51.100.1 56324 443\r\n"
MASK = b"\x37\xfa\x21\x3d"
V2_SIGNATURE = b"\r\n\r\n\0\r\nQUIT\n"


def v2(address=None, tlvs=b""):
    """A header of version 2: of this IPv4 or IPv6 client, or LOCAL."""
    if address is None:
        return V2_SIGNATURE + b"\x20\0\0\0"
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    packed = socket.inet_pton(family, address)
    block = packed + packed + struct.pack(">HH", 56324, 443) + tlvs
    kind = 0x21 if family == socket.AF_INET6 else 0x11
    return V2_SIGNATURE + struct.pack(">BBH", 0x21, kind, len(block)) + block


def masked(op, payload):
    """A short frame as a client sends it."""
    return (bytes([0x80 | op, 0x80 | len(payload)]) + MASK
            + bytes(c ^ MASK[i % 4] for i, c in enumerate(payload)))


def read_head(s):
    """An answer's head, or what came before the end."""
    got = b""
    while b"\r\n\r\n" not in got:
        try:
            more = s.recv(4096)
        except ConnectionResetError:
            break
        if not more:
            break
        got += more
    return got


class Behind(Case):
    def connect(self, d, source="127.0.0.1"):
        s = socket.create_connection(("127.0.0.1", d.port), DEADLINE, (source, 0))
        s.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.addCleanup(s.close)
        return s

    def ask(self, d, header, headers="", connect=None):
        """A handshake behind a header; (status or None, its socket)."""
        s = (connect or self.connect)(d)
        s.sendall(header + (REQUEST % headers).encode())
        head = read_head(s)
        return (int(head.split(b" ")[1]) if head else None), s

    def addresses(self, d):
        clients = d.ctl("clients")["clients"]
        return sorted(c["address"] for c in clients)


class Proxied(Behind):
    def proxied(self, limits=None, **server):
        port = free_port()
        server["listen"] = ["127.0.0.1:%d proxy=v2" % port]
        d = self.daemon({"server": server, "limits": limits or {}}, workers=1)
        d.port = port
        return d

    def test_proxied_address_is_the_clients(self):
        d = self.proxied()
        for header in (V1 % b"192.0.2.7", v2("192.0.2.8"), v2("2001:db8::9"),
                       v2("::ffff:192.0.2.10", b"\1\0\2h2")):
            self.assertEqual(self.ask(d, header)[0], 101, header)
        self.assertEqual(self.addresses(d), [
            "192.0.2.10:56324", "192.0.2.7:56324", "192.0.2.8:56324",
            "[2001:db8::9]:56324"])

    def test_proxied_local_and_unknown_are_the_proxys_own(self):
        d = self.proxied()
        for header in (b"PROXY UNKNOWN\r\n", v2()):
            self.assertEqual(self.ask(d, header)[0], 101, header)
        self.assertEqual([a.split(":")[0] for a in self.addresses(d)],
                         ["127.0.0.1", "127.0.0.1"])

    def test_proxied_header_in_pieces_costs_no_time(self):
        """Byte by byte, the request behind it too; and nobody spins meanwhile."""
        d = self.proxied()
        s = self.connect(d)
        for byte in v2("192.0.2.7", b"\4\0\3xyz") + (REQUEST % "").encode():
            s.sendall(bytes([byte]))
        self.assertIn(b" 101 ", read_head(s))
        s = self.connect(d)
        s.sendall(V1[:20])
        serving = [w["pid"] for w in d.workers()]
        before = cpu_seconds(serving)
        for _ in range(100):
            d.status()
        self.assertLess(cpu_seconds(serving) - before, 0.2)

    def test_proxied_without_a_right_header_is_closed_and_counted(self):
        d = self.proxied()
        mark = d.mark()
        for n, bad in enumerate((b"", b"PROXY TCP4 1.2.3.4\r\n", V2_SIGNATURE + b"\x31")):
            status, s = self.ask(d, bad)
            self.assertIsNone(status, bad)
            self.assertEqual(d.counter("refused_proxy"), n + 1)
        d.wait_line("no right PROXY header", mark)
        self.assertEqual(sum("no right PROXY header" in line for line in d.lines), 1)
        self.assertEqual(self.ask(d, v2("192.0.2.1"))[0], 101)

    def test_proxied_that_never_comes_meets_the_handshake_deadline(self):
        d = self.proxied({"handshake_timeout": "300ms"})
        for begin in (b"", b"PROXY TCP4 ", v2("192.0.2.1")[:20], v2("192.0.2.1")):
            s = self.connect(d)
            s.sendall(begin)
            self.assertEqual(read_head(s), b"")
        self.assertEqual(d.counter("closed_timeout"), 4)

    def test_proxied_only_by_trusted_proxies_where_some_are_named(self):
        d = self.proxied(trusted_proxies="127.0.0.2")
        self.assertIsNone(self.ask(d, v2("192.0.2.1"))[0])
        d.wait_line("no proxy of server.trusted_proxies")
        self.assertEqual(d.counter("refused_proxy"), 1)
        s = self.connect(d, "127.0.0.2")
        s.sendall(v2("192.0.2.1") + (REQUEST % "").encode())
        self.assertIn(b" 101 ", read_head(s))
        self.assertEqual(self.addresses(d), ["192.0.2.1:56324"])

    def test_proxied_forwarded_for_counts_from_a_trusted_client_of_the_proxy(self):
        """Two proxies: the one in front writes X-Forwarded-For, the one here PROXY."""
        d = self.proxied(trusted_proxies="127.0.0.1 192.0.2.1")
        forwarded = "X-Forwarded-For: 203.0.113.5\r\n"
        self.assertEqual(self.ask(d, v2("192.0.2.1"), forwarded)[0], 101)
        self.assertEqual(self.ask(d, v2("192.0.2.2"), forwarded)[0], 101)
        self.assertEqual([a.split(":")[0] for a in self.addresses(d)],
                         ["192.0.2.2", "203.0.113.5"])

    def test_proxied_limit_is_the_clients_and_not_the_proxys(self):
        d = self.proxied(max_connections_per_ip=2)
        for client in ("192.0.2.1", "192.0.2.2", "2001:db8::1"):
            self.assertEqual(self.ask(d, v2(client))[0], 101)
            _, s = self.ask(d, v2(client))
            self.assertEqual(self.ask(d, v2(client))[0], 429)
            s.close()
        wait_until("their places are free", lambda: d.counter("connections") == 3)
        for client in ("192.0.2.1", "192.0.2.2", "2001:db8::1"):
            self.assertEqual(self.ask(d, v2(client))[0], 101)
            self.assertEqual(self.ask(d, v2(client))[0], 429)

    def kill(self, d):
        pids = [w["pid"] for w in d.workers()]
        for pid in pids:
            os.kill(pid, signal.SIGKILL)
        d.wait_serving(but=pids)

    def test_proxied_survives_the_worker(self):
        """With no byte, half a header, a header, and a part of the request behind it."""
        d = self.proxied(max_connections_per_ip=1)
        socks = {}
        for i in range(1, 5):
            whole = v2("192.0.2.%d" % i) + (REQUEST % "").encode()
            cut = (0, 20, 28, 90)[i - 1]
            s = self.connect(d)
            s.sendall(whole[:cut])
            socks[s] = whole[cut:]
        # What the worker has seen: a header is noted, and its address shown.
        wait_until("two are noted", lambda: sum(
            a.startswith("192.0.2.") for a in self.addresses(d)) == 2)
        self.kill(d)
        for s, rest in socks.items():
            s.sendall(rest)
            self.assertIn(b" 101 ", read_head(s))
        self.assertEqual(self.addresses(d), ["192.0.2.%d:56324" % i for i in range(1, 5)])
        self.assertEqual(self.ask(d, v2("192.0.2.3"))[0], 429)

    def test_proxied_queue_survives_the_worker(self):
        """Accepted by nobody yet, and accepted in the moment of the death."""
        d = self.proxied()
        pid = d.workers()[0]["pid"]
        os.kill(pid, signal.SIGSTOP)
        socks = [self.connect(d) for _ in range(20)]
        for i, s in enumerate(socks):
            s.sendall(v2("192.0.2.%d" % (i + 1)) + (REQUEST % "").encode())
        os.kill(pid, signal.SIGKILL)
        for s in socks:
            self.assertIn(b" 101 ", read_head(s))
        self.assertEqual(len(set(self.addresses(d))), 20)


class Unix(Behind):
    def unix(self, workers=1, options="", server=None, **settings):
        """A daemon with a listener that is a unix socket; its path is d.path."""
        path = os.path.join(self.directory(), "ws.sock")
        settings["server"] = dict(server or {}, listen=["unix:%s %s" % (path, options)])
        d = self.daemon(settings, workers=workers)
        d.path = path
        return d

    def directory(self):
        return self.enterContext(tempfile.TemporaryDirectory())

    def connect(self, d, source=None):
        s = socket.socket(socket.AF_UNIX)
        s.settimeout(DEADLINE)
        s.connect(d.path)
        self.addCleanup(s.close)
        return s

    def read_to(self, s, end):
        got = b""
        while not got.endswith(end):
            more = s.recv(65536)
            self.assertTrue(more, got[-200:])
            got += more
        return got

    def test_unix_serves_what_tcp_does(self):
        d = self.unix(**{"channel *": {"publish": "anyone"}})
        status, s = self.ask(d, b"")
        self.assertEqual(status, 101)
        self.assertEqual(self.addresses(d), ["unix"])
        wait_until("it is subscribed", lambda: d.status()["channels"] == 1)
        d.publish("news", "hello")
        self.read_to(s, b"\x81\x05hello")
        s.sendall(masked(1, b"again"))
        self.read_to(s, b"\x81\x05again")
        self.assertEqual(self.ask(d, v2("192.0.2.1"))[0], 400)

    def test_unix_file_has_its_mode_and_goes_at_the_stop(self):
        for options, mode in (("", 0o660), ("mode=0606", 0o606)):
            d = self.unix(options=options)
            st = os.stat(d.path)
            self.assertTrue(stat.S_ISSOCK(st.st_mode))
            self.assertEqual(stat.S_IMODE(st.st_mode), mode)
            d.stop()
            self.assertFalse(os.path.exists(d.path))

    def test_unix_file_is_given_to_its_group(self):
        name = grp.getgrgid(os.getgroups()[0] if os.getgroups() else os.getgid()).gr_name
        d = self.unix(options="group=%s" % name)
        self.assertEqual(grp.getgrgid(os.stat(d.path).st_gid).gr_name, name)

    def test_unix_file_left_by_a_dead_one_is_taken_over(self):
        path = os.path.join(self.directory(), "ws.sock")
        dead = socket.socket(socket.AF_UNIX)
        dead.bind(path)
        dead.listen()
        listen = {"server": {"listen": ["unix:" + path]}}
        d = self.daemon(listen, ready=False)
        self.assertNotEqual(d.wait_end(), 0)
        d.check_gone()
        self.assertIn("another program does", d.log())
        dead.close()
        self.daemon(listen).stop()
        with open(path, "w"):
            pass
        d = self.daemon(listen, ready=False)
        self.assertNotEqual(d.wait_end(), 0)
        d.check_gone()
        self.assertIn("something else is there", d.log())
        self.assertTrue(os.path.exists(path))

    def test_unix_request_in_pieces_costs_no_time(self):
        d = self.unix()
        s = self.connect(d)
        whole = (REQUEST % "").encode()
        for at in range(0, len(whole) - 1, 3):
            s.sendall(whole[at:min(at + 3, len(whole) - 1)])
        serving = [w["pid"] for w in d.workers()]
        before = cpu_seconds(serving)
        for _ in range(100):
            d.status()
        self.assertLess(cpu_seconds(serving) - before, 0.2)
        s.sendall(whole[-1:])
        self.assertIn(b" 101 ", read_head(s))
        for half in (whole[:30], b""):
            s = self.connect(d)
            s.sendall(half)
            s.shutdown(socket.SHUT_WR)
            self.assertEqual(read_head(s), b"")

    def test_unix_request_in_too_many_pieces_meets_the_deadline(self):
        """The kernel takes no more of them: that costs its sender alone."""
        d = self.unix(limits={"handshake_timeout": "2s"})
        s = self.connect(d)
        with self.assertRaises(OSError):
            s.setblocking(False)
            for _ in range(8000):
                s.send(b"G")
        self.assertEqual(self.ask(d, b"")[0], 101)
        wait_until("it is closed", lambda: d.counter("closed_timeout") == 1)

    def test_unix_request_in_pieces_survives_the_worker(self):
        d = self.unix(options="proxy=v2")
        whole = v2("192.0.2.7") + (REQUEST % "").encode()
        socks = {}
        for cut in (0, 20, 28, 90, len(whole) - 1):
            s = self.connect(d)
            s.sendall(whole[:cut])
            socks[s] = whole[cut:]
        wait_until("three are noted", lambda: self.addresses(d).count(
            "192.0.2.7:56324") == 3)
        self.kill(d)
        serving = [w["pid"] for w in d.workers()]
        before = cpu_seconds(serving)
        for _ in range(100):
            d.status()
        self.assertLess(cpu_seconds(serving) - before, 0.2)
        for s, rest in socks.items():
            s.sendall(rest)
            self.assertIn(b" 101 ", read_head(s))

    def kill(self, d):
        pids = [w["pid"] for w in d.workers()]
        for pid in pids:
            os.kill(pid, signal.SIGKILL)
        d.wait_serving(but=pids)

    def test_unix_queue_is_served_by_who_is_there(self):
        """With one of two workers stopped nobody waits for it; with both, all wait, and
        are served by the successors."""
        d = self.unix(workers=2)
        pids = [w["pid"] for w in d.workers()]
        os.kill(pids[0], signal.SIGSTOP)
        for _ in range(20):
            self.assertEqual(self.ask(d, b"")[0], 101)
        os.kill(pids[1], signal.SIGSTOP)
        socks = [self.connect(d) for _ in range(20)]
        for s in socks:
            s.sendall((REQUEST % "").encode())
        for pid in pids:
            os.kill(pid, signal.SIGKILL)
        for s in socks:
            self.assertIn(b" 101 ", read_head(s))

    def test_unix_workers_have_even_parts(self):
        """Connections that come one by one do not all go to the same worker."""
        d = self.unix(workers=4)
        for _ in range(200):
            self.assertEqual(self.ask(d, b"")[0], 101)
        counts = [w["connections"] for w in d.workers()]
        self.assertEqual(sum(counts), 200)
        self.assertLess(max(counts), 100, counts)

    def test_unix_killed_in_a_storm_loses_no_byte_in_silence(self):
        """Whoever is still connected has every byte; whoever is not was in a send."""
        d = self.unix(limits={"ping_interval": "1s", "pong_timeout": "1h"})
        clients = [UnixReader(self.ask(d, b"")[1]) for _ in range(20)]
        wait_until("they are subscribed", lambda: d.counter("subscriptions") == 20
                   and d.status()["channels"] == 1)
        payload = "x" * 3000
        n = 0
        for _ in range(15):
            pid = d.workers()[0]["pid"]
            for i in range(200):
                d.publish("news", "%08d%s" % (n, payload))
                n += 1
                if i == 100:
                    os.kill(pid, signal.SIGKILL)
            d.wait_serving(but=(pid,))
        d.publish("news", "end")
        ended = [c.wait() for c in clients]
        kept = sum(ended)
        for c in clients:
            c.check(n)
        self.assertEqual(d.counter("closed_crash"), len(clients) - kept)
        self.assertGreater(kept, 0)


PING, END = b"\x89\x00", b"\x81\x03end"


class UnixReader(threading.Thread):
    """Reads all that a raw client gets; whole frames are numbered from 0."""

    def __init__(self, sock):
        super().__init__(daemon=True)
        self.sock, self.got, self.whole = sock, bytearray(), False
        self.start()

    def run(self):
        while not self.whole:
            try:
                more = self.sock.recv(1 << 20)
            except OSError:
                return
            if not more:
                return
            self.got += more
            self.whole = self.got.endswith((END, END + PING))

    def wait(self):
        """Whether it was connected to the end."""
        self.join(DEADLINE)
        assert not self.is_alive(), "no end came"
        return self.whole

    def check(self, n):
        frame = b"\x81\x7e" + struct.pack(">H", 3008)
        number, at = 0, 0
        while self.got[at:at + 4] == frame or self.got[at:at + 2] == PING:
            if self.got[at:at + 2] == PING:
                at += len(PING)
                continue
            body = self.got[at + 4:at + 12]
            assert len(body) < 8 or int(body) == number, (number, body)
            number += 1
            at += 4 + 3008
        if self.whole:
            assert number == n and self.got[at:] in (END, END + PING), (number, n)


class Encrypted(TlsCase):
    """TLS behind a PROXY header, over TCP and through a unix socket."""

    def listen(self, where, **server):
        d = self.daemon({"server": dict(server, listen=["%s proxy=v2 tls=yes" % where]),
                         "tls": {"certificate": self.pem, "key": self.key}}, workers=1)
        d.where = where
        return d

    def both(self, **server):
        yield self.listen("127.0.0.1:%d" % free_port(), **server)
        yield self.listen("unix:" + os.path.join(self.dir, "tls.sock"), **server)

    def connect(self, d):
        unix = d.where.startswith("unix:")
        s = socket.socket(socket.AF_UNIX if unix else socket.AF_INET)
        s.settimeout(DEADLINE)
        self.addCleanup(s.close)
        host, at = d.where.split(":")
        s.connect(at if unix else (host, int(at)))
        return s

    def open(self, d, header):
        s = self.connect(d)
        s.sendall(header)
        s = context(self.pem).wrap_socket(s, server_hostname="localhost")
        self.addCleanup(s.close)
        upgrade(s, "/ws/news")
        return s

    def address(self, d):
        return [c["address"] for c in d.ctl("clients")["clients"]]

    def test_encrypted_address_is_the_clients_and_data_flows(self):
        for d in self.both():
            s = self.open(d, v2("192.0.2.8"))
            self.assertEqual(self.address(d), ["192.0.2.8:56324"])
            s.sendall(masked(9, b"there?"))
            self.assertEqual(s.recv(100), b"\x8a\x06there?")
            wait_until("it is subscribed", lambda: d.status()["channels"] == 1)
            d.publish("news", "x" * 60000)
            got = b""
            while len(got) < 60004:
                got += s.recv(65536)
            self.assertEqual(got, b"\x81\x7e\xea\x60" + b"x" * 60000)
            s.sendall(masked(8, b"\x03\xe8"))
            self.assertEqual(s.recv(100), b"\x88\x02\x03\xe8")
            self.assertEqual(s.recv(100), b"")

    def test_encrypted_all_in_pieces_is_taken(self):
        for d in self.both():
            sock = self.connect(d)
            pump = Pump(sock, context(self.pem))

            def put(data):
                # To poll(2) a unix socket is full with 70 pieces unread, however short:
                # a hello in single bytes does not fit.
                for at in range(0, len(data), 20):
                    sock.sendall(data[at:at + 20])

            put(v2("192.0.2.9"))
            pump.run(pump.tls.do_handshake, put)
            pump.run(lambda: pump.tls.write((REQUEST % "").encode()), put)
            got = b""
            while b"\r\n\r\n" not in got:
                got += pump.run(lambda: pump.tls.read(65536), put)
            self.assertTrue(got.startswith(b"HTTP/1.1 101"), got)
            self.assertEqual(self.address(d), ["192.0.2.9:56324"])

    def test_encrypted_header_inside_tls_is_a_bad_request(self):
        for d in self.both():
            s = self.connect(d)
            s.sendall(v2("192.0.2.8"))
            s = context(self.pem).wrap_socket(s, server_hostname="localhost")
            self.addCleanup(s.close)
            s.sendall(v2("192.0.2.66") + (REQUEST % "").encode())
            self.assertIn(b" 400 ", read_head(s))

    def test_encrypted_without_a_header_is_refused(self):
        for d in self.both():
            with self.assertRaises((ssl.SSLError, ConnectionError)):
                context().wrap_socket(self.connect(d), server_hostname="localhost")
            self.assertEqual(d.counter("refused_proxy"), 1)

    def test_encrypted_refusal_says_nothing_in_the_clear(self):
        for d in self.both(max_connections_per_ip=1):
            self.open(d, v2("192.0.2.8"))
            s = self.connect(d)
            s.sendall(v2("192.0.2.8"))
            self.assertEqual(read_end(s), b"")
            self.assertEqual(d.counter("limited_address"), 1)
            self.open(d, v2("192.0.2.7"))


if __name__ == "__main__":
    unittest.main()
