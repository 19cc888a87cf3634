"""Certificates, daemons with a TLS listener, and TLS clients that do as they are told.

Source  RFC 8446 §5.1, RFC 5246 §7.4.1.2
"""

import errno
import os
import shutil
import socket
import ssl
import subprocess
import tempfile

from harness import DEADLINE, Case, free_port

REQUEST = ("GET %s HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\n"
           "Connection: Upgrade\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
           "Sec-WebSocket-Version: 13\r\n\r\n")


def make_certificate(directory, name, hosts=("localhost",), days=30, rsa=False):
    """A certificate that is its own authority: {name}.pem and {name}.key."""
    pem, key = (os.path.join(directory, name + end) for end in (".pem", ".key"))
    kind = ["rsa:2048"] if rsa else ["ec", "-pkeyopt", "ec_paramgen_curve:prime256v1"]
    names = ",".join("DNS:" + host for host in hosts) + ",IP:127.0.0.1"
    subprocess.run(["openssl", "req", "-x509", "-newkey", *kind, "-nodes", "-keyout", key,
                    "-out", pem, "-days", str(days), "-subj", "/CN=" + name, "-addext",
                    "subjectAltName=" + names], check=True, stderr=subprocess.DEVNULL)
    return pem, key


def join_files(path, *parts):
    with open(path, "wb") as out:
        for part in parts:
            with open(part, "rb") as f:
                out.write(f.read())
    return path


def kernel_has_tls():
    """Whether TLS connections outlive the process that serves them."""
    with socket.socket() as sock:
        try:
            sock.setsockopt(socket.IPPROTO_TCP, 31, b"tls")  # TCP_ULP
        except OSError as e:
            return e.errno == errno.ENOTCONN  # it is there, and wants a connection
    return True


def context(pem=None, version=None):
    """A client's; without pem it believes everybody."""
    ctx = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)  # has not read the system's authorities
    if pem is None:
        ctx.check_hostname = False
        ctx.verify_mode = ssl.CERT_NONE
    else:
        ctx.load_verify_locations(pem)
    if version is not None:
        ctx.minimum_version = ctx.maximum_version = version
    return ctx


class TlsCase(Case):
    """Has a certificate `pem` with its `key`, in `dir`."""

    @classmethod
    def setUpClass(cls):
        cls.dir = tempfile.mkdtemp(prefix="wscast-tls-")
        cls.addClassCleanup(shutil.rmtree, cls.dir)
        cls.pem, cls.key = make_certificate(cls.dir, "first")

    def tls_daemon(self, settings=None, pem=None, key=None, **kwargs):
        """A daemon with a listener for TLS (d.tls_port) beside the plain one."""
        port, tls_port = free_port(), free_port()
        settings = {s: dict(keys) for s, keys in (settings or {}).items()}
        settings.setdefault("server", {})["listen"] = [
            "127.0.0.1:%d" % port, "127.0.0.1:%d tls=yes" % tls_port]
        settings["tls"] = {"certificate": pem or self.pem,
                           "key": (key or self.key) if pem is None or key else None}
        d = self.daemon(settings, port=port, **kwargs)
        d.tls_port = tls_port
        return d

    def tls(self, d, ctx=None, host="localhost", session=None):
        """A blocking connection with TLS."""
        sock = socket.create_connection(("127.0.0.1", d.tls_port), timeout=DEADLINE)
        self.addCleanup(sock.close)
        tls = (ctx or context(self.pem)).wrap_socket(sock, server_hostname=host,
                                                     session=session)
        self.addCleanup(tls.close)
        return tls

    def plain(self, port):
        sock = socket.create_connection(("127.0.0.1", port), timeout=DEADLINE)
        self.addCleanup(sock.close)
        return sock


def upgrade(sock, path):
    """Open a WebSocket; returns what came behind the answer's head."""
    sock.sendall((REQUEST % path).encode())
    got = b""
    while b"\r\n\r\n" not in got:
        more = sock.recv(65536)
        assert more, "closed instead of an answer: %r" % got
        got += more
    head, rest = got.split(b"\r\n\r\n", 1)
    assert head.startswith(b"HTTP/1.1 101"), head
    return rest


def read_end(sock):
    """Read to the end, however it comes."""
    got = b""
    try:
        while True:
            more = sock.recv(65536)
            if not more:
                return got
            got += more
    except (ConnectionResetError, ssl.SSLError, BrokenPipeError):
        return got


class Pump:
    """TLS over a socket whose bytes go out as the caller wants."""

    def __init__(self, sock, ctx):
        self.sock = sock
        self.inside, self.outside = ssl.MemoryBIO(), ssl.MemoryBIO()
        self.tls = ctx.wrap_bio(self.inside, self.outside, server_hostname="localhost")

    def run(self, call, put):
        """Make a call of the SSLObject until it is done; put(bytes) sends."""
        while True:
            try:
                result = call()
                put(self.outside.read())
                return result
            except ssl.SSLWantReadError:
                put(self.outside.read())
                more = self.sock.recv(65536)
                if not more:
                    raise ConnectionResetError("closed")
                self.inside.write(more)

    def put_bytewise(self, data):
        for i in range(len(data)):
            self.sock.send(data[i:i + 1])


def client_hello(version=None):
    """The first bytes of a client."""
    inside, outside = ssl.MemoryBIO(), ssl.MemoryBIO()
    tls = context(version=version).wrap_bio(inside, outside, server_hostname="localhost")
    try:
        tls.do_handshake()
    except ssl.SSLWantReadError:
        pass
    return outside.read()
