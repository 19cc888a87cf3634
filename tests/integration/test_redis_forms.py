"""The ways to come in at Redis: TLS, a unix socket, users, passwords in files."""

import os
import re
import shutil
import socket
import subprocess
import sys
import tempfile
import unittest

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from harness import DEADLINE, Case, free_port, wait_until
from wsclient import V1, raw, run, soon

OPEN = {"channel *": {"publish": "anyone"}, "limits": {"max_message_size": "4M"}}


def openssl(*args, cwd):
    subprocess.run(["openssl"] + list(args), cwd=cwd, check=True, timeout=DEADLINE,
                   stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
                   stderr=subprocess.DEVNULL)


class Authority:
    """A certificate authority of our own, in a directory."""

    def __init__(self, cwd, name):
        self.cwd, self.name = cwd, name
        openssl("req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256",
                "-nodes", "-subj", "/CN=" + name, "-days", "2", "-keyout", name + ".key",
                "-out", name + ".crt", cwd=cwd)

    def sign(self, name, san):
        """A key and a certificate for it: NAME.key, NAME.crt."""
        openssl("req", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes",
                "-subj", "/CN=" + name, "-keyout", name + ".key", "-out", name + ".csr",
                cwd=self.cwd)
        with open(os.path.join(self.cwd, name + ".ext"), "w") as f:
            f.write("subjectAltName = %s\n" % san)
        openssl("x509", "-req", "-in", name + ".csr", "-CA", self.name + ".crt", "-CAkey",
                self.name + ".key", "-CAcreateserial", "-days", "2", "-extfile",
                name + ".ext", "-out", name + ".crt", cwd=self.cwd)


class FormsCase(Case):
    def feed(self, source="pubsub", **feed):
        return self.daemon(dict(OPEN, feed=dict(feed, source=source)))

    def works(self, d, payload="x" * 100000):
        """A message goes to Redis and back."""
        wait_until(lambda: "the feed is up: %s" % d.status()["feed"],
                   lambda: d.status()["feed"]["connected"])

        async def go():
            v1, plain = await V1.open(d, "news"), await raw(d, "news")
            for n in range(20):
                await v1.ok(publish="news", data=payload + str(n))
            for n in range(20):
                self.assertEqual((await v1.event())["data"], payload + str(n))
                self.assertEqual(await soon(plain.recv()), '"%s%d"' % (payload, n))
            await v1.close()
            await plain.close()

        run(go())

    def refused(self, d, why, secret=None):
        match = d.wait_line(why)
        self.assertIn("is down", match.string)
        # Two links fail, each for its own reason at times.
        wait_until("status says why", lambda: re.search(
            why, d.status()["feed"].get("error", "")))
        self.assertIs(d.status()["feed"]["connected"], False)
        if secret:
            self.assertNotIn(secret, "\n".join(d.lines))


class Tls(FormsCase):
    @classmethod
    def setUpClass(cls):
        cls.dir = tempfile.mkdtemp(prefix="wscast-tls-")
        cls.addClassCleanup(shutil.rmtree, cls.dir, ignore_errors=True)
        ca = Authority(cls.dir, "ca")
        ca.sign("here", "IP:127.0.0.1,DNS:localhost")
        ca.sign("elsewhere", "IP:127.0.0.2,DNS:elsewhere.example")
        ca.sign("client", "DNS:wscast")
        Authority(cls.dir, "other")

    def file(self, name):
        return os.path.join(self.dir, name)

    def server(self, name, clients="no"):
        """A Redis that speaks TLS on .tls_port, with the certificate of this name."""
        port = free_port()
        redis = self.redis(args=[
            "--tls-port", str(port), "--tls-cert-file", self.file(name + ".crt"),
            "--tls-key-file", self.file(name + ".key"), "--tls-ca-cert-file",
            self.file("ca.crt"), "--tls-auth-clients", clients])
        redis.tls_port = port
        return redis

    def test_tls_carries_both_sources(self):
        redis = self.server("here")
        for source in ("pubsub", "stream"):
            for host in ("127.0.0.1", "localhost"):
                d = self.feed(source, redis="rediss://%s:%d" % (host, redis.tls_port),
                              redis_ca=self.file("ca.crt"))
                self.works(d)
                d.stop()

    def test_tls_server_that_cannot_show_who_it_is_is_refused(self):
        here, elsewhere = self.server("here"), self.server("elsewhere")
        for redis, host, ca, why in [
                (here, "127.0.0.1", "other.crt", "TLS: .*(issuer|self-signed)"),
                (here, "127.0.0.1", None, "TLS: .*(issuer|self-signed)"),
                (elsewhere, "127.0.0.1", "ca.crt", "TLS: IP address mismatch"),
                (elsewhere, "localhost", "ca.crt", "TLS: hostname mismatch"),
                (here, "127.0.0.1", "none.crt", "cannot use .*none.crt")]:
            d = self.feed(redis="rediss://%s:%d" % (host, redis.tls_port),
                          **({"redis_ca": self.file(ca)} if ca else {}))
            self.refused(d, why)
            d.stop()

    def test_tls_to_a_server_without_it_is_said(self):
        with socket.create_server(("127.0.0.1", 0)) as port:
            port.settimeout(DEADLINE)
            d = self.feed(redis="rediss://127.0.0.1:%d" % port.getsockname()[1])
            with port.accept()[0] as s:
                s.sendall(b"-ERR what is this?\r\n")
                self.refused(d, "TLS: wrong version number")
            d.stop()

    def test_tls_client_certificate_is_shown(self):
        redis = self.server("here", clients="yes")
        where = {"redis": "rediss://127.0.0.1:%d" % redis.tls_port,
                 "redis_ca": self.file("ca.crt")}
        d = self.feed(**where)
        self.refused(d, "certificate required|closed|reset")
        d.stop()
        d = self.feed(**where, redis_certificate=self.file("client.crt"),
                      redis_key=self.file("client.key"))
        self.works(d)
        d.stop()


class Unix(FormsCase):
    def test_unix_socket_and_database(self):
        redis = self.redis()
        path = os.path.join(redis.dir, "redis.sock")
        redis.stop()
        redis.args = ["--unixsocket", path]
        redis.start()
        d = self.feed("stream", redis="unix://%s?db=3" % path)
        self.works(d)
        self.assertEqual(redis.cli("-n", "3", "XLEN", "wscast:stream"), "20")
        self.assertEqual(redis.cli("EXISTS", "wscast:stream"), "0")
        d.stop()


class Users(FormsCase):
    def setUp(self):
        self.server = self.redis()
        self.set_password("first")
        self.dir = tempfile.mkdtemp(prefix="wscast-secret-")
        self.addCleanup(shutil.rmtree, self.dir, ignore_errors=True)
        self.secret = os.path.join(self.dir, "password")

    def set_password(self, password):
        self.server.cli("ACL", "SETUSER", "gate", "reset", "on", ">" + password,
                        "~wscast:*", "&wscast:*", "+@all")

    def write(self, text):
        with open(self.secret, "w") as f:
            f.write(text)

    def url(self, login):
        return "redis://%s@127.0.0.1:%d" % (login, self.server.port)

    def test_user_of_the_url_comes_in(self):
        d = self.feed(redis=self.url("gate:first"))
        self.works(d)
        self.assertIn("user=gate", self.server.cli("CLIENT", "LIST"))
        d.stop()

    def test_user_with_a_wrong_password_is_said(self):
        d = self.feed(redis=self.url("gate:wrong-one"))
        self.refused(d, "AUTH: WRONGPASS", "wrong-one")
        d.stop()

    def test_password_of_a_file_is_read_at_each_connect(self):
        self.write("first\n")
        d = self.feed(redis=self.url("gate"), redis_password_file=self.secret)
        self.works(d)
        # A new one at Redis, and not yet in the file.
        self.set_password("second")
        self.server.cli("CLIENT", "KILL", "USER", "gate")
        self.refused(d, "AUTH: WRONGPASS", "first")
        self.write("second")
        self.works(d)
        d.stop()

    def test_password_file_that_cannot_be_read_is_said(self):
        d = self.feed(redis=self.url("gate"), redis_password_file=self.secret)
        self.refused(d, "cannot read the password in .*: No such file")
        self.write("\n")
        self.refused(d, "cannot read the password in .*: No data")
        self.write("first\n")
        self.works(d)
        d.stop()

    def test_user_without_rights_is_told_apart(self):
        self.server.cli("ACL", "SETUSER", "gate", "-publish")
        d = self.feed(redis=self.url("gate:first"))

        async def go():
            v1 = await V1.open(d, "news")
            self.assertEqual(await v1.error(publish="news", data=1), "forbidden")
            self.server.cli("PUBLISH", "wscast:news", "2")
            self.assertEqual((await v1.event())["data"], 2)
            await v1.close()

        wait_until("the feed", lambda: d.status()["feed"]["connected"])
        run(go())
        d.wait_line("refuses to publish: NOPERM")
        d.stop()


if __name__ == "__main__":
    unittest.main()
