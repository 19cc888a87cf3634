# tests/run: alone
"""TLS by the kernel: connections that outlive the process that serves them.

As test_adoption.py, through TLS: every client compares every byte. Where the kernel has
no TLS (modprobe tls) nothing of it can be shown, and all is skipped: `make check-ktls`
runs it in a virtual machine whose kernel has.
"""

import asyncio
import itertools
import os
import signal
import socket
import ssl
import subprocess
import sys
import time
import unittest

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
import websockets
from fleet import masked
from harness import DEADLINE, SANITIZED, SLOW, cpu_seconds, wait_until
from storm import Killer, Restarter, StormCase, kill_serving
from tlsclient import (REQUEST, Pump, TlsCase, context, kernel_has_tls, make_certificate,
                       upgrade)
from wsclient import soon

CLIENTS = (60 if SANITIZED else 200) // SLOW
KILLS = (10 if SANITIZED else 40) // SLOW

PING = masked(9, b"before")

# What there is of TLS, as openssl's client names it.
SUITES = [("-tls1_3", "-ciphersuites", suite) for suite in (
    "TLS_AES_128_GCM_SHA256", "TLS_AES_256_GCM_SHA384", "TLS_CHACHA20_POLY1305_SHA256")
] + [("-tls1_2", "-cipher", suite) for suite in (
    "ECDHE-ECDSA-AES128-GCM-SHA256", "ECDHE-ECDSA-AES256-GCM-SHA384",
    "ECDHE-ECDSA-CHACHA20-POLY1305")]

if not kernel_has_tls():
    print("SKIPPED: this kernel has no TLS (modprobe tls): kTLS is NOT TESTED here",
          file=sys.stderr)


def kernel_counter(name):
    """Of /proc/net/tls_stat: TlsTxSw is how many sockets ever got keys."""
    with open("/proc/net/tls_stat", encoding="ascii") as f:
        return next(int(line.split()[1]) for line in f if line.split()[0] == name)


class EachInTurn:
    """A client's context: TLS 1.3, and 1.2 with each cipher."""

    def __init__(self, pem):
        contexts = [context(pem, ssl.TLSVersion.TLSv1_3)]
        for _, option, suite in SUITES:
            if option == "-cipher":
                contexts.append(context(pem, ssl.TLSVersion.TLSv1_2))
                contexts[-1].set_ciphers(suite)
        self.contexts = itertools.cycle(contexts)

    def wrap_socket(self, *args, **kwargs):
        return next(self.contexts).wrap_socket(*args, **kwargs)


@unittest.skipUnless(kernel_has_tls(), "the kernel has no TLS (modprobe tls)")
class Storms(StormCase, TlsCase):
    RATE = (150 if SANITIZED else 600) // SLOW

    def daemon(self, settings=None, **kwargs):
        if settings and "tls" in settings:
            return super().daemon(settings, **kwargs)
        return self.tls_daemon(settings, **kwargs)

    def hits(self, hit, times, gap, clients, talkers=10):
        self.tls = EachInTurn(self.pem)
        taken = kernel_counter("TlsTxSw")
        fleet = self.storm(clients, talkers=talkers)
        self.assertGreaterEqual(kernel_counter("TlsTxSw"), taken + clients,
                                "the kernel did not get all keys")
        killer = Killer(self.d, hit, times, gap, self.rng, 0.02)
        fleet.jobs += [killer, self.talk]
        fleet.storm.start()
        fleet.run(lambda: "hit %d" % killer.done, lambda: killer.left == 0,
                  timeout=200 + 2 * DEADLINE)
        return killer

    def test_ktls_kill_serving_loses_no_byte(self):
        killer = self.hits(kill_serving, KILLS, 0.35, CLIENTS)
        self.d.wait_serving()
        adopted = self.d.counter("adopted")
        cut = self.over(killer, timeout=200)
        print("%d kills, %d adopted, %d of them lagging, %d talkers cut" % (
            killer.done, adopted, killer.lagging, len(cut)))
        self.assertGreater(adopted, killer.done)
        if SLOW == 1:
            self.assertGreater(killer.lagging, 0, "no frame was cut")
        self.assertEqual(self.d.counter("tls_lost"), 0)
        self.fds_are_back(self.d, self.before)
        self.d.stop()

    def test_ktls_restart_closes_nobody(self):
        restart = None

        def hit(worker, rng):
            nonlocal restart
            restart = restart or Restarter(self.d)
            return restart(worker, rng)

        self.hits(hit, max(5, KILLS // 4), 0.3, CLIENTS // 2)
        restart.collect()
        self.assertEqual(self.over(timeout=200), [], "a restart closed a connection")
        self.assertEqual(self.d.counter("tls_restarted"), 0)
        self.assertEqual(self.d.counter("tls_lost"), 0)
        self.fds_are_back(self.d, self.before)
        self.d.stop()


@unittest.skipUnless(kernel_has_tls(), "the kernel has no TLS (modprobe tls)")
class Connections(TlsCase):
    def s_client(self, d, *args):
        """openssl's client, with its WebSocket open."""
        before = d.counter("opened")
        child = subprocess.Popen(
            ["openssl", "s_client", "-connect", "127.0.0.1:%d" % d.tls_port, *args],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
        self.addCleanup(child.communicate)
        self.addCleanup(child.kill)
        self.put(child, (REQUEST % "/ws/news").encode())
        wait_until("it is open", lambda: d.counter("opened") == before + 1)
        return child

    def put(self, child, data):
        child.stdin.write(data)
        child.stdin.flush()

    def read_to(self, child, end):
        got = b""
        while end not in got:
            more = os.read(child.stdout.fileno(), 65536)
            self.assertTrue(more, "closed after %r" % got[-100:])
            got += more
        return got

    def restart(self, d):
        before = [w["pid"] for w in d.workers()]
        d.ctl("restart")
        d.wait_serving(but=before)

    def kill(self, d):
        # Who is answered has yet to be noted as the kernel's.
        wait_until("all are the kernel's",
                   lambda: d.counter("ktls_connections") == d.counter("tls_connections"))
        before = [w["pid"] for w in d.workers()]
        os.kill(before[0], signal.SIGKILL)
        d.wait_serving(but=before)

    def test_ktls_takes_each_cipher(self):
        d = self.tls_daemon(workers=1)
        children = [self.s_client(d, *suite) for suite in SUITES]
        wait_until("the kernel has all",
                   lambda: d.counter("ktls_connections") == len(SUITES))
        self.assertEqual(d.status()["tls"], {"connections": len(SUITES),
                                             "kernel": len(SUITES)})
        for i, end in enumerate((self.restart, self.kill)):
            end(d)
            self.assertEqual(d.counter("connections"), len(SUITES))
            d.publish("news", "message %d" % i)
        d.publish("news", "the end")
        for child, (_, _, suite) in zip(children, SUITES):
            got = self.read_to(child, b"the end")
            # Between them it says what it waits for.
            self.assertRegex(got, rb"(?s)\x81\x09message 0.*\x81\x09message 1.*the end")
            self.assertIn(suite.encode(), got)
        self.assertEqual(d.counter("tls_lost"), 0)

    def test_ktls_key_update_ends_its_connection(self):
        self.ended_by("k", b"KEYUPDATE", "-tls1_3")

    def test_ktls_renegotiation_ends_its_connection(self):
        self.ended_by("R", b"RENEGOTIATING", "-tls1_2")

    def ended_by(self, command, said, version):
        d = self.tls_daemon(workers=1)
        child = self.s_client(d, version)
        self.put(child, command.encode() + b"\n")
        wait_until("it is closed", lambda: d.counter("connections") == 0)
        out = child.stdout.read()
        self.assertIn(said, out)
        self.assertIn(b"unexpected message", out)
        self.assertEqual(d.counter("tls_broken"), 1)

    def test_ktls_short_records_stay_with_openssl(self):
        d = self.tls_daemon(workers=1)
        child = self.s_client(d, "-maxfraglen", "512")
        self.assertEqual(d.status()["tls"], {"connections": 1, "kernel": 0})
        d.publish("news", "#" * 5000)
        d.publish("news", "the end")
        self.assertEqual(self.read_to(child, b"the end").count(b"#"), 5000)

    def test_ktls_is_told_of_each_client(self):
        d = self.tls_daemon(workers=1)
        upgrade(self.tls(d), "/ws/news")
        upgrade(self.plain(d.port), "/ws/news")
        wait_until("it is the kernel's", lambda: d.counter("ktls_connections") == 1)
        self.assertEqual(sorted((c["tls"], c["ktls"]) for c in d.ctl("clients")["clients"]),
                         [(False, False), (True, True)])
        self.assertEqual(d.counter("ktls_connections"), 1)
        self.restart(d)
        self.assertEqual(d.counter("ktls_connections"), 1)
        self.assertEqual(d.counter("tls_connections"), 1)

    def adopted(self, d, n=1):
        """Open raw connections, and have them adopted by a restart."""
        socks = [self.tls(d, context(self.pem, ssl.TLSVersion.TLSv1_3)) for _ in range(n)]
        for sock in socks:
            upgrade(sock, "/ws/news")
        self.restart(d)
        self.assertEqual(d.counter("adopted"), n)
        return socks

    def test_ktls_close_is_answered_and_followed_by_close_notify(self):
        d = self.tls_daemon(workers=1)
        sock = self.adopted(d)[0]
        sock.sendall(masked(8, b"\x03\xe8"))
        self.assertEqual(sock.recv(100), b"\x88\x02\x03\xe8")
        sock.suppress_ragged_eofs = False  # an end without it would be an error
        self.assertEqual(sock.recv(100), b"")
        sock.close()
        wait_until("it is closed", lambda: d.counter("connections") == 0)

    def test_ktls_close_notify_of_a_client_is_its_end(self):
        d = self.tls_daemon(workers=1)
        sock = self.adopted(d)[0]
        sock.unwrap()  # sends it, and waits for ours
        wait_until("it is closed", lambda: d.counter("connections") == 0)
        self.assertEqual(d.counter("tls_broken"), 0)

    def test_ktls_takes_messages_of_all_lengths(self):
        """Those that fill a record, and what is about it; before and behind a death."""
        d = self.tls_daemon(workers=1)
        sock = self.adopted(d)[0]
        for n in (0, 1, 125, 126, 16379, 16380, 16381, 16384, 16385, 32764, 65535, 65536):
            for end in (None, self.kill):
                data = os.urandom(n).hex()[:n]
                d.publish("news", data)
                if end:
                    end(d)
                self.assertEqual(self.read_message(sock), data.encode())
        self.assertEqual(d.counter("tls_lost"), 0)

    def read_message(self, sock):
        head = self.read_exactly(sock, 2)
        length = head[1]
        if length >= 126:
            length = int.from_bytes(self.read_exactly(sock, 2 if length == 126 else 8), "big")
        return self.read_exactly(sock, length)

    def read_exactly(self, sock, n):
        got = b""
        while len(got) < n:
            more = sock.recv(n - len(got))
            self.assertTrue(more, "closed")
            got += more
        return got

    def test_ktls_slow_reader_gets_every_byte_over_kills(self):
        """It takes a little between two deaths: each meets a record that has begun, and
        some that wait above TCP."""
        d = self.tls_daemon({"limits": {"send_buffer": "16k"}}, workers=1)
        raw = socket.socket()
        raw.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        raw.settimeout(DEADLINE)
        raw.connect(("127.0.0.1", d.tls_port))
        sock = context(self.pem).wrap_socket(raw, server_hostname="localhost")
        self.addCleanup(sock.close)
        upgrade(sock, "/ws/news")
        sent = [os.urandom(1000 + 997 * i).hex() for i in range(40)]
        for data in sent:
            d.publish("news", data)
        wait_until("it lags", lambda: d.counter("lagging") == 1)
        for i, data in enumerate(sent):
            if i % 4 == 0:
                self.kill(d)
            self.assertEqual(self.read_message(sock), data.encode())
        self.assertEqual(d.counter("tls_lost"), 0)

    def test_ktls_compressed_messages_outlive_a_kill(self):
        d = self.tls_daemon(workers=1)

        async def go():
            ws = await soon(websockets.connect(
                "wss://localhost:%d/ws/news" % d.tls_port, ssl=context(self.pem),
                host="127.0.0.1", compression="deflate", ping_interval=None))
            for _ in range(3):
                await asyncio.to_thread(self.kill, d)
                d.publish("news", "again and " * 3000)
                self.assertEqual(await soon(ws.recv()), "again and " * 3000)
            await ws.close()

        asyncio.run(go())
        self.assertGreater(d.status()["compression"]["deflated"], 0)

    def test_ktls_reload_of_the_certificate_closes_nobody(self):
        pem, key = make_certificate(self.dir, "reloaded")
        d = self.tls_daemon(workers=1, pem=pem, key=key)
        old = self.tls(d, context(pem))
        upgrade(old, "/ws/news")
        make_certificate(self.dir, "reloaded")
        d.ctl("reload")
        self.kill(d)
        new = self.tls(d, context(pem))
        upgrade(new, "/ws/news")
        d.publish("news", "to both")
        for sock in (old, new):
            self.assertEqual(self.read_message(sock), b"to both")

    def pump(self, d):
        """A WebSocket whose TLS is put on its way by the test."""
        sock = self.plain(d.tls_port)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        pump = Pump(sock, context(self.pem))
        pump.run(pump.tls.do_handshake, sock.sendall)
        before = d.counter("opened")
        pump.run(lambda: pump.tls.write((REQUEST % "/ws/news").encode()), sock.sendall)
        wait_until("it is open", lambda: d.counter("opened") == before + 1)
        while b"\r\n\r\n" not in pump.run(lambda: pump.tls.read(65536), sock.sendall):
            pass
        return pump

    def put_half(self, pump, *data):
        """The last goes as half a record, behind the others. Returns the other half. A
        kernel may tell of a part only where it has told of something just now."""
        records = []
        for part in data:
            pump.run(lambda part=part: pump.tls.write(part), records.append)
        last = records.pop()
        pump.sock.sendall(b"".join(records) + last[:len(last) // 2])
        return last[len(last) // 2:]

    def assert_idle(self, d):
        """A worker that looks for the rest all the time has a core for itself."""
        pids = [w["pid"] for w in d.workers()]
        began, cpu = time.monotonic(), cpu_seconds(pids)
        time.sleep(2)  # what it does meanwhile is the question
        cpu, passed = cpu_seconds(pids) - cpu, time.monotonic() - began
        print("%.2f s of CPU time in %.1f s" % (cpu, passed))
        self.assertLess(cpu, passed / 4)

    def test_ktls_half_a_record_keeps_nobody_awake(self):
        d = self.tls_daemon(workers=1)
        pumps = [self.pump(d) for _ in range(3)]
        for n in (1, 100, 5000):
            rests = [self.put_half(p, PING, masked(9, b"%d" % n) + masked(10, b"x" * n))
                     for p in pumps]
            self.assert_idle(d)
            for p, rest in zip(pumps, rests):
                p.sock.sendall(rest)
                self.assertEqual(self.pong(p), b"before")
                self.assertEqual(self.pong(p), b"%d" % n)

    def pong(self, pump):
        """Pings of the server's may come any time."""
        got = b"\x89\0"
        while got == b"\x89\0":
            got = pump.run(lambda: pump.tls.read(2), pump.sock.sendall)
        self.assertEqual(got[0], 0x8a)
        return pump.run(lambda: pump.tls.read(got[1]), pump.sock.sendall)

    def test_ktls_half_a_record_outlives_a_kill(self):
        """Before and behind what the predecessor was told of it."""
        d = self.tls_daemon(workers=1)
        pump = self.pump(d)
        for i in range(3):
            rest = self.put_half(pump, PING, masked(9, b"%d" % i))
            self.assertEqual(self.pong(pump), b"before")
            self.kill(d)
            self.assert_idle(d)
            pump.sock.sendall(rest[:5])
            self.assert_idle(d)
            self.kill(d)
            pump.sock.sendall(rest[5:])
            self.assertEqual(self.pong(pump), b"%d" % i)
        self.assertEqual(d.counter("tls_lost"), 0)

    def test_ktls_half_a_record_and_an_end_is_an_end(self):
        d = self.tls_daemon(workers=1)
        pump = self.pump(d)
        self.put_half(pump, PING, PING)
        self.assert_idle(d)
        pump.sock.shutdown(socket.SHUT_WR)
        wait_until("it is closed", lambda: d.counter("connections") == 0)

    def test_ktls_half_a_request_keeps_nobody_awake(self):
        d = self.tls_daemon(workers=1)
        sock = self.plain(d.tls_port)
        pump = Pump(sock, context(self.pem))
        pump.run(pump.tls.do_handshake, sock.sendall)
        rest = self.put_half(pump, (REQUEST % "/ws/news").encode())
        self.assert_idle(d)
        sock.sendall(rest)
        self.assertIn(b" 101 ", pump.run(lambda: pump.tls.read(65536), sock.sendall))

    def test_ktls_a_broken_record_ends_its_connection_alone(self):
        d = self.tls_daemon(workers=1)
        broken, other = self.adopted(d, 2)
        os.write(broken.fileno(), b"\x17\x03\x03\x00\x20" + bytes(32))
        wait_until("it is closed", lambda: d.counter("connections") == 1)
        self.assertEqual(d.counter("tls_broken"), 1)
        d.publish("news", "on")
        self.assertEqual(other.recv(100), b"\x81\x02on")


if __name__ == "__main__":
    unittest.main()
