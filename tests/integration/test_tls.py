"""TLS on a listener: handshakes, data, certificates, tickets, and what a restart does."""

import asyncio
import json
import os
import select
import signal
import socket
import ssl
import subprocess
import sys
import threading
import unittest

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
import websockets
from harness import DEADLINE, SANITIZED, Ctl, fds_of, wait_until
from tlsclient import (REQUEST, Pump, TlsCase, client_hello, context, join_files,
                       kernel_has_tls, make_certificate, read_end, upgrade)
from wsclient import V1, close_code, run, soon

ECHO = {"server": {"echo": "yes"}, "limits": {"max_message_size": "2M"}}
MASK = b"\x37\xfa\x21\x3d"


def masked(op, payload):
    """A short client's frame."""
    body = bytes(b ^ MASK[i % 4] for i, b in enumerate(payload))
    return bytes([0x80 | op, 0x80 | len(payload)]) + MASK + body


def url(d, path):
    return "wss://localhost:%d%s" % (d.tls_port, path)


async def wss(d, ctx, path, **kwargs):
    kwargs.setdefault("compression", None)
    return await soon(websockets.connect(url(d, path), ssl=ctx, max_size=1 << 26,
                                         max_queue=None, ping_interval=None,
                                         close_timeout=5, **kwargs), "the upgrade")


def nothing_left(d, what):
    """Wait until no connection is open, and no handshake under way."""
    wait_until(lambda: "%s: no connection left of %d" % (what, d.counter("connections")),
               lambda: d.counter("connections") == 0)


class Handshakes(TlsCase):
    def test_tls_1_2_and_1_3_with_http_1_1_are_spoken(self):
        d = self.tls_daemon(ECHO)
        for version, name in ((ssl.TLSVersion.TLSv1_2, "TLSv1.2"),
                              (ssl.TLSVersion.TLSv1_3, "TLSv1.3")):
            ctx = context(self.pem, version)
            ctx.set_alpn_protocols(["h2", "http/1.1"])
            sock = self.tls(d, ctx)
            self.assertEqual(sock.version(), name)
            self.assertEqual(sock.selected_alpn_protocol(), "http/1.1")
            self.assertIsNone(sock.compression())
            self.assertRegex(sock.cipher()[0], "GCM|CHACHA20")
            upgrade(sock, "/echo")
        self.assertEqual(d.counter("tls_handshakes"), 2)
        self.assertEqual(d.counter("tls_failed"), 0)

    def test_old_versions_weak_ciphers_and_other_protocols_are_refused(self):
        d = self.tls_daemon()
        old = context(version=ssl.TLSVersion.TLSv1_1)
        weak = context(version=ssl.TLSVersion.TLSv1_2)
        for ctx in (old, weak):
            ctx.set_ciphers("ALL:@SECLEVEL=0")
        weak.set_ciphers("AES128-SHA:@SECLEVEL=0")
        h2 = context()
        h2.set_alpn_protocols(["h2"])
        for n, ctx in enumerate((old, weak, h2), 1):
            with self.assertRaises((ssl.SSLError, ConnectionResetError)):
                self.tls(d, ctx)
            wait_until("it is counted", lambda: d.counter("tls_failed") == n)
        nothing_left(d, "after refusals")

    def test_a_hello_cut_at_every_length_leaves_nothing(self):
        d = self.tls_daemon()
        hello = client_hello()
        before = fds_of(d)
        for n in range(len(hello)):
            sock = self.plain(d.tls_port)
            sock.sendall(hello[:n])
            sock.close()
        for n in range(0, len(hello), 16):  # half closed: the end is seen all the same
            sock = self.plain(d.tls_port)
            sock.sendall(hello[:n])
            sock.shutdown(socket.SHUT_WR)
            self.assertEqual(read_end(sock), b"")
        nothing_left(d, "cut hellos")
        self.fds_are_back(d, before)
        self.assertEqual(d.counter("tls_handshakes"), 0)
        self.assertEqual(sum(w["restarts"] for w in d.workers()), 0)

    def test_a_flight_cut_at_every_length_leaves_nothing(self):
        """The client's second flight, with its request in the same breath."""
        d = self.tls_daemon()
        ctx = context()
        rounds, n, whole = 0, 0, False
        while not whole:
            pump = Pump(self.plain(d.tls_port), ctx)
            flights = []

            def put(data):
                if not flights:
                    pump.sock.sendall(data)
                flights.append(data)

            pump.run(pump.tls.do_handshake, put)
            pump.run(lambda: pump.tls.write((REQUEST % "/ws/news").encode()), put)
            flight = b"".join(flights[1:])
            whole = n >= len(flight)
            pump.sock.sendall(flight[:n])
            pump.sock.close()
            n += 7 if SANITIZED else 1
            rounds += 1
        nothing_left(d, "cut flights")
        self.assertEqual(sum(w["restarts"] for w in d.workers()), 0)
        self.assertGreater(d.counter("tls_unfinished"), 0)
        self.assertEqual(d.counter("tls_unfinished") + d.counter("tls_handshakes"), rounds)
        self.assertEqual(d.counter("tls_failed"), 0)

    def test_all_byte_by_byte_is_taken(self):
        d = self.tls_daemon(ECHO)
        for version in (ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3):
            sock = self.plain(d.tls_port)
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            pump = Pump(sock, context(version=version))
            pump.run(pump.tls.do_handshake, pump.put_bytewise)
            # Records of three bytes, and the first frame with the request's end.
            data = (REQUEST % "/echo").encode() + masked(1, b"hello")
            for i in range(0, len(data), 3):
                pump.run(lambda: pump.tls.write(data[i:i + 3]), pump.put_bytewise)
            got = b""
            while b"\x81\x05hello" not in got:
                got += pump.run(lambda: pump.tls.read(65536), pump.put_bytewise)
            self.assertTrue(got.startswith(b"HTTP/1.1 101"), got)

    def test_http_without_tls_is_told_so(self):
        d = self.tls_daemon()
        sock = self.plain(d.tls_port)
        sock.sendall(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
        answer = read_end(sock)
        sock.close()  # what the server lingers for
        self.assertTrue(answer.startswith(b"HTTP/1.1 400 "), answer)
        self.assertIn(b"TLS", answer.split(b"\r\n\r\n", 1)[1])
        self.assertEqual(d.counter("tls_plain"), 1)
        for junk in (b"\x00", b"\x80\x2e\x01\x00\x02", b"\x16\x03\x01\xff\xff", b"\xff" * 99):
            sock = self.plain(d.tls_port)
            sock.sendall(junk)
            self.assertEqual(read_end(sock), b"")
        nothing_left(d, "after junk")

    def test_tls_to_a_plain_listener_is_closed(self):
        d = self.tls_daemon()
        sock = self.plain(d.port)
        with self.assertRaises((ssl.SSLError, ConnectionResetError)):
            context().wrap_socket(sock, server_hostname="localhost")
        nothing_left(d, "after TLS without TLS")

    def test_the_deadline_counts_from_accept(self):
        d = self.tls_daemon({"limits": {"handshake_timeout": "4s"}})
        hello = client_hello()
        silent, half = self.plain(d.tls_port), self.plain(d.tls_port)
        half.sendall(hello[:100])
        stuck = self.plain(d.tls_port)  # its hello is answered, and it says no more
        stuck.sendall(hello)
        no_request = self.tls(d)
        for sock in (silent, half, stuck, no_request):
            read_end(sock)
        nothing_left(d, "after the deadline")
        self.assertEqual(d.counter("closed_timeout"), 4)
        self.assertEqual(d.counter("tls_unfinished"), 1)

    def test_handshakes_are_limited_before_they_cost(self):
        d = self.tls_daemon({"server": {"max_handshakes_per_second": 2}}, workers=1)
        n = 0
        for _ in range(8):
            try:
                upgrade(self.tls(d), "/ws/news")
                n += 1
            except (ssl.SSLError, ConnectionResetError):
                pass
        self.assertGreaterEqual(n, 2)
        self.assertEqual(d.counter("limited_handshakes"), 8 - n)
        self.assertEqual(d.counter("tls_handshakes"), n)

    def test_renegotiation_is_refused(self):
        d = self.tls_daemon()
        child = subprocess.Popen(
            ["openssl", "s_client", "-tls1_2", "-connect", "127.0.0.1:%d" % d.tls_port],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
        try:
            wait_until("the handshake", lambda: d.counter("tls_handshakes") == 1)
            child.stdin.write(b"R\n")
            child.stdin.flush()
            out = child.communicate(timeout=DEADLINE)[0]
        finally:
            child.kill()
        self.assertIn(b"RENEGOTIATING", out)
        self.assertRegex(out, b"no renegotiation|handshake failure|unexpected message")
        self.assertEqual(d.counter("tls_handshakes"), 1)
        nothing_left(d, "after renegotiation")


class Data(TlsCase):
    def test_echo_of_all_sizes_plain_and_deflated(self):
        d = self.tls_daemon(ECHO)

        async def go():
            for compression in (None, "deflate"):
                ws = await wss(d, context(self.pem), "/echo", compression=compression)
                for n in (0, 1, 125, 126, 8190, 16383, 65536, 1 << 20):
                    for data in (os.urandom(n), "x" * n):
                        await ws.send(data)
                        self.assertEqual(await soon(ws.recv()), data)
                await ws.send(["a" * 100000, "", "b"])
                self.assertEqual(await soon(ws.recv()), "a" * 100000 + "b")
                await ws.close(3456)
                self.assertEqual(ws.close_code, 3456)

        run(go())
        nothing_left(d, "after closes")

    def lag(self, send):
        """A client that reads nothing gets all the same, each byte once and in order,
        once it reads: what is short, what fills many records, and what is its own."""
        d = self.tls_daemon({"server": {"send": send}, "limits": {"send_buffer": "16k"}},
                            workers=1)
        sock = socket.socket()
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        sock.settimeout(DEADLINE)
        self.addCleanup(sock.close)
        sock.connect(("127.0.0.1", d.tls_port))
        slow = context(self.pem).wrap_socket(sock, server_hostname="localhost")
        rest = upgrade(slow, "/ws/news")
        quick = self.tls(d)
        rest_quick = upgrade(quick, "/ws/news")
        plain = self.plain(d.port)
        rest_plain = upgrade(plain, "/ws/news")
        expected, got = b"", {}

        def read_all(who, sock, rest):
            got[who] = bytearray(rest)
            while not got[who].endswith(b"the end"):
                more = sock.recv(1 << 16)
                if not more:
                    break
                got[who] += more

        readers = [threading.Thread(target=read_all, args=a) for a in (
            ("quick", quick, rest_quick), ("plain", plain, rest_plain))]
        for t in readers:
            t.start()
        for i in range(600):
            size = (60, 900, 30000, 100000)[i % 4] if i % 50 == 0 else 3000 + i
            data = (b"%d." % i * size)[:size]
            head = bytes([0x81, 126]) + len(data).to_bytes(2, "big")
            if size < 126:
                head = bytes([0x81, size])
            elif size > 65535:
                head = bytes([0x81, 127]) + len(data).to_bytes(8, "big")
            expected += head + data
            d.publish("news", data)
            if i % 100 == 99:
                slow.sendall(masked(9, b"%d" % i))  # its Pong goes somewhere in between
        d.publish("news", b"the end")
        expected += b"\x81\x07the end"
        self.assertGreaterEqual(d.counter("lagging"), 1)
        slow_reader = threading.Thread(target=read_all, args=("slow", slow, rest))
        slow_reader.start()
        for t in readers + [slow_reader]:
            t.join(DEADLINE)
        self.assertEqual(got["plain"], expected)
        self.assertEqual(got["quick"], expected)
        for i in range(99, 600, 100):  # one is kept of those that wait
            got["slow"] = got["slow"].replace(b"\x8a\x03%d" % i if i > 99
                                              else b"\x8a\x0299", b"")
        self.assertEqual(got["slow"], expected)
        self.assertEqual(d.counter("tls_broken"), 0)

    def test_a_slow_reader_gets_every_byte_by_send(self):
        self.lag("send")

    def test_a_slow_reader_gets_every_byte_beside_io_uring(self):
        self.lag("auto")

    def test_a_client_that_asked_for_short_records_gets_every_byte(self):
        d = self.tls_daemon(workers=1)
        for n, version in enumerate(("-tls1_2", "-tls1_3")):
            child = subprocess.Popen(
                ["openssl", "s_client", "-quiet", version, "-maxfraglen", "512",
                 "-connect", "127.0.0.1:%d" % d.tls_port],
                stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
            self.addCleanup(child.communicate)
            self.addCleanup(child.kill)
            child.stdin.write((REQUEST % "/ws/news").encode())
            child.stdin.flush()
            wait_until("it is open", lambda: d.counter("opened") == n + 1)
            d.publish("news", "#" * 20000)
            d.publish("news", "the end")
            got = b""
            while b"the end" not in got:
                self.assertTrue(select.select([child.stdout], [], [], DEADLINE)[0],
                                "%s: no more after %d bytes" % (version, len(got)))
                more = os.read(child.stdout.fileno(), 65536)
                self.assertTrue(more, "%s: closed" % version)
                got += more
            self.assertEqual(got.count(b"#"), 20000, version)

    def test_ends_are_seen(self):
        d = self.tls_daemon(ECHO)
        notified = self.tls(d)
        upgrade(notified, "/echo")
        with self.assertRaises((ssl.SSLError, OSError)):  # it was no WebSocket's close
            notified.unwrap()
            raise OSError
        cut = self.tls(d)
        upgrade(cut, "/echo")
        cut.detach_fd = socket.socket(fileno=os.dup(cut.fileno()))
        cut.detach_fd.shutdown(socket.SHUT_WR)  # FIN without close_notify
        self.assertEqual(read_end(cut), b"")
        cut.detach_fd.close()
        broken = self.tls(d)
        upgrade(broken, "/echo")
        os.write(broken.fileno(), b"\x17\x03\x03\x00\x20" + bytes(32))
        read_end(broken)
        nothing_left(d, "after ends")
        self.assertEqual(d.counter("tls_broken"), 1)

    def test_close_is_answered_and_followed_by_close_notify(self):
        d = self.tls_daemon(ECHO)
        sock = self.tls(d)
        upgrade(sock, "/echo")
        sock.sendall(masked(8, b"\x03\xe8"))
        self.assertEqual(sock.recv(100), b"\x88\x02\x03\xe8")
        sock.suppress_ragged_eofs = False  # an end without it would be an error
        self.assertEqual(sock.recv(100), b"")


class Certificates(TlsCase):
    def peer(self, d, host="localhost", pem=None):
        sock = self.tls(d, context(pem or self.pem), host)
        return dict(x[0] for x in sock.getpeercert()["subject"])["commonName"]

    def test_several_certificates_go_by_the_name_asked_for(self):
        other = make_certificate(self.dir, "other", ["other.example", "*.wild.example"])
        rsa = make_certificate(self.dir, "rsa", ["rsa.example"], rsa=True)
        all_pem = join_files(os.path.join(self.dir, "all.pem"), self.pem, self.key, *other, *rsa)
        d = self.tls_daemon(pem=all_pem)
        for host, name in (("localhost", "first"), ("other.example", "other"),
                           ("a.wild.example", "other"), ("rsa.example", "rsa")):
            self.assertEqual(self.peer(d, host, all_pem), name)
        anonymous = context()
        self.assertEqual(self.tls(d, anonymous, "unknown.example").version(), "TLSv1.3")

    def fault(self, pem, key):
        with self.assertRaises(AssertionError) as caught:
            self.tls_daemon(pem=pem, key=key)
        return str(caught.exception)

    def test_faults_are_told_with_file_and_line(self):
        other_pem, other_key = make_certificate(self.dir, "another")
        junk = os.path.join(self.dir, "junk.pem")
        with open(junk, "w") as f:
            f.write("-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n")
        for pem, key, what in (
                (other_pem, self.key, "key that is not the certificate's"),
                (junk, self.key, "no certificate"),
                (self.pem, junk, "no private key"),
                (self.key, self.key, "no certificate"),
                (os.path.join(self.dir, "none.pem"), self.key, "No such file")):
            text = self.fault(pem, key)
            self.assertRegex(text, r"wscast\.conf:\d+: (certificate|key): ")
            self.assertIn(what, text)

    def test_an_expired_certificate_is_warned_of(self):
        old = os.path.join(self.dir, "old.pem")
        subprocess.run(["openssl", "x509", "-in", self.pem, "-signkey", self.key, "-days",
                        "0", "-out", old], check=True)
        d = self.tls_daemon(pem=old, key=self.key)
        d.wait_line(r"certificate.*expired")

    def test_reload_under_traffic_closes_nothing(self):
        pem = os.path.join(self.dir, "changing.pem")
        key = os.path.join(self.dir, "changing.key")
        join_files(pem, self.pem)
        join_files(key, self.key)
        d = self.tls_daemon(pem=pem, key=key)
        second = make_certificate(self.dir, "second")

        async def go():
            clients = [await wss(d, context(self.pem), "/ws/news") for _ in range(20)]
            stop = asyncio.Event()
            published = 0

            async def publish():
                nonlocal published
                while not stop.is_set():
                    await asyncio.get_running_loop().run_in_executor(
                        None, d.publish, "news", "m%d" % published)
                    published += 1

            task = asyncio.ensure_future(publish())
            await asyncio.sleep(0)
            mark = d.mark()
            join_files(pem, second[0])  # the key does not fit yet: refused
            d.proc.send_signal(signal.SIGHUP)
            await asyncio.to_thread(d.wait_line, "reload refused", mark)
            self.assertEqual(await asyncio.to_thread(self.peer, d), "first")
            join_files(key, second[1])
            d.proc.send_signal(signal.SIGHUP)
            await asyncio.to_thread(d.wait_line, "settings reloaded", mark)

            def all_second():
                try:
                    return all(self.peer(d, pem=second[0]) == "second" for _ in range(8))
                except ssl.SSLError:
                    return False

            await asyncio.to_thread(wait_until, "the new certificate", all_second)
            stop.set()
            await task
            for ws in clients:
                for i in range(published):
                    self.assertEqual(await soon(ws.recv()), "m%d" % i)
            await asyncio.gather(*(ws.close() for ws in clients))

        run(go())
        self.assertEqual(d.counter("tls_lost") + d.counter("tls_restarted"), 0)


class Tickets(TlsCase):
    def come_again(self, d, version, session, times=16):
        """Connect with a session again and again; returns how often it was resumed."""
        resumed = 0
        for _ in range(times):
            sock = self.tls(d, self.ctx, session=session)
            resumed += sock.session_reused
            sock.close()
        return resumed

    def first_session(self, d, version):
        self.ctx = context(self.pem, version)
        sock = self.tls(d, self.ctx)
        upgrade(sock, "/ws/news")  # a ticket of TLS 1.3 comes before the answer
        session = sock.session
        sock.close()
        return session

    def test_a_ticket_resumes_at_each_worker_and_its_successors(self):
        for version in (ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3):
            d = self.tls_daemon(workers=2)
            session = self.first_session(d, version)
            self.assertEqual(self.come_again(d, version, session), 16)
            workers = wait_until("both workers were met", lambda: [
                w for w in d.workers() if w["tls_resumed"] > 0])
            before = [w["pid"] for w in d.workers()]
            for pid in before:
                os.kill(pid, signal.SIGKILL)
            d.wait_serving(but=before)
            self.assertEqual(self.come_again(d, version, session), 16)
            self.assertEqual(len([w for w in d.workers() if w["tls_resumed"] > 0]), 2)
            self.assertGreaterEqual(len(workers), 1)
            d.stop()


@unittest.skipIf(kernel_has_tls(), "the kernel goes on with them: test_ktls.py")
class Ends(TlsCase):
    def both(self, d):
        """A v1 client over TLS and one without, and a raw one over TLS."""

        async def go():
            ws = await wss(d, context(self.pem), "/ws", subprotocols=["wscast.v1"])
            tls = V1(ws, json.loads(await soon(ws.recv())))
            await tls.ok(subscribe="news")
            raw = await wss(d, context(self.pem), "/ws/news")
            plain = await V1.open(d, "news")
            return tls, raw, plain

        return go()

    def test_a_restart_says_bye_first(self):
        d = self.tls_daemon(workers=1)

        async def go():
            tls, raw, plain = await self.both(d)
            before = [w["pid"] for w in d.workers()]
            await asyncio.to_thread(d.ctl, "restart")
            bye = (await tls.event())["bye"]
            self.assertEqual(bye["code"], 1012)
            self.assertGreater(bye["retry_ms"], 0)
            self.assertEqual(await close_code(tls.ws), 1012)
            self.assertEqual(await close_code(raw), 1012)
            d.wait_serving(but=before)
            d.publish("news", '"after"')
            self.assertEqual((await plain.event())["data"], "after")
            again = await wss(d, context(self.pem), "/ws/news")
            d.publish("news", "again")
            self.assertEqual(await soon(again.recv()), "again")
            await again.close()
            await plain.ws.close()

        run(go())
        self.assertEqual(d.counter("tls_restarted"), 2)
        self.assertEqual(d.counter("tls_lost"), 0)

    def test_a_kill_closes_those_without_a_byte_of_garbage(self):
        d = self.tls_daemon(workers=1)
        for _ in range(3 if SANITIZED else 10):
            socks = [self.tls(d) for _ in range(10)]
            for sock in socks:
                upgrade(sock, "/ws/news")
            plain = self.plain(d.port)
            upgrade(plain, "/ws/news")
            waiting = self.plain(d.tls_port)  # its hello comes later: it is nobody's loss
            waiting.sendall(client_hello()[:50])
            wait_until("all are open", lambda: d.counter("connections") == 12)
            stop = threading.Event()

            def publish():
                ctl = Ctl(d.control)
                while not stop.is_set():
                    ctl.ask("publish", channel="news", data="x" * 5000)
                ctl.close()

            t = threading.Thread(target=publish)
            t.start()
            before = [w["pid"] for w in d.workers()]
            got = socks[0].recv(100)
            os.kill(before[0], signal.SIGKILL)
            stop.set()
            t.join()
            d.wait_serving(but=before)
            self.assertTrue(got)
            for sock in socks:
                # Bad bytes would be an SSLError that is no end.
                try:
                    while sock.recv(1 << 16):
                        pass
                except ssl.SSLEOFError:
                    pass
                except ConnectionResetError:
                    pass
            d.publish("news", "the end")
            got = b""
            while not got.endswith(b"the end"):
                got += plain.recv(1 << 16)
            plain.close()
            waiting.close()
            nothing_left(d, "after a kill")
        self.assertEqual(d.counter("tls_lost"), 30 if SANITIZED else 100)


if __name__ == "__main__":
    unittest.main()
