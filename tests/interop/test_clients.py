"""Clients that others have written: Chromium, Node's `ws`, python3-websockets.

client.js holds what the first two do; here each of its scenarios is a test for each of
them, without TLS and with. A client that is not installed is skipped
(packaging/install-deps interop).
"""

import asyncio
import http.server
import json
import os
import queue
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import unittest
import urllib.parse

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path[:0] = [os.path.join(os.path.dirname(HERE), "integration")]
import websockets
from harness import DEADLINE, NODE_PATH, Daemon, descendants, free_port, wait_until
from tlsclient import context, make_certificate

SCRIPT = os.path.join(HERE, "client.js")
MIB = 1 << 20
RUN_S = 4 * DEADLINE  # all scenarios of one client
SCENARIOS = (
    "echo_text", "echo_empty_text", "echo_binary", "echo_empty_binary", "echo_text_of_1_mib",
    "echo_binary_of_1_mib", "echo_compressible_of_1_mib", "echo_200_in_order",
    "close_code_and_reason", "no_subprotocol_unless_offered", "raw_text_and_binary",
    "raw_of_1_mib", "raw_publishes_to_others", "v1_subscribes_and_publishes",
    "refused_for_a_wrong_path", "closed_with_1009_when_too_long", "fifty_at_once")


class Helper:
    """wscastd, and an HTTP server that serves the page, publishes for whoever asks, and
    takes the page's result."""

    def __init__(self):
        self.results = queue.Queue()
        helper = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self):
                url = urllib.parse.urlsplit(self.path)
                if url.path == "/":
                    self.reply(b"<!doctype html><meta charset=utf-8>"
                               b"<body><script src=/client.js></script>", "text/html")
                elif url.path == "/client.js":
                    with open(SCRIPT, "rb") as f:
                        self.reply(f.read(), "text/javascript; charset=utf-8")
                elif url.path == "/publish":
                    helper.publish(dict(urllib.parse.parse_qsl(url.query)))
                    self.reply(b"{}", "application/json")
                elif url.path == "/subscribed":
                    helper.subscribed(dict(urllib.parse.parse_qsl(url.query)))
                    self.reply(b"{}", "application/json")
                else:
                    self.send_error(404)

            def do_POST(self):
                helper.results.put(self.rfile.read(int(self.headers["Content-Length"])))
                self.reply(b"{}", "application/json")

            def reply(self, body, kind):
                self.send_response(200)
                self.send_header("Content-Type", kind)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *args):
                pass

        self.lock = threading.Lock()
        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.dir = tempfile.TemporaryDirectory(prefix="wscast-tls-")
        self.pem, key = make_certificate(self.dir.name, "localhost")
        port, self.tls_port = free_port(), free_port()
        self.daemon = Daemon({"server": {"echo": "yes", "origins": self.http, "listen": [
                                  "127.0.0.1:%d" % port,
                                  "127.0.0.1:%d tls=yes" % self.tls_port]},
                              "tls": {"certificate": self.pem, "key": key},
                              "limits": {"max_message_size": "2M"},
                              "channel talk:*": {"publish": "anyone"}}, port=port)
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def publish(self, query):
        byte = b"x" if query["kind"] == "text" else b"\xff"
        with self.lock:  # the control connection answers in order
            self.daemon.publish(query["channel"], byte * int(query["size"]))

    def subscribed(self, query):
        """So many are: a raw client's upgrade does not wait for that."""
        with self.lock:
            wait_until("the subscriptions", lambda: self.daemon.ctl(
                "clients", channel=query["channel"])["total"] == int(query["clients"]))

    @property
    def ws(self):
        return "ws://" + self.daemon.address

    @property
    def wss(self):
        return "wss://127.0.0.1:%d" % self.tls_port

    @property
    def http(self):
        return "http://127.0.0.1:%d" % self.server.server_port

    def done(self):
        self.server.shutdown()
        self.server.server_close()
        self.daemon.done()
        self.dir.cleanup()


def setUpModule():
    global helper
    helper = Helper()


def tearDownModule():
    helper.done()


def end_browser(child):
    """End a browser and all that it has started. Its orphans become ours, since we are a
    subreaper (harness.py), some in a session of their own."""
    child.kill()
    child.wait()
    while left := [pid for pid, comm in descendants(os.getpid()).items()
                   if comm.startswith("chrom")]:
        for pid in left:
            try:
                os.kill(pid, signal.SIGKILL)
                os.waitpid(pid, 0)
            except (ProcessLookupError, ChildProcessError):
                pass  # it is still its parent's


def with_scenarios(cls):
    """Add a test for each scenario, which looks at what its client brought."""
    def make(name):
        def test(self):
            self.assertIn(name, self.results)
            self.assertIsNone(self.results[name])

        return test

    for name in SCENARIOS:
        setattr(cls, "test_" + name, make(name))
    return cls


class Node:
    """Node with `ws`, an independent implementation much used by servers and tools."""

    deflate = "plain"
    tls = False

    @classmethod
    def setUpClass(cls):
        node = shutil.which("node")
        if node is None:
            raise unittest.SkipTest("node is not installed")
        env = dict(os.environ, NODE_PATH=NODE_PATH, NODE_EXTRA_CA_CERTS=helper.pem)
        if subprocess.run([node, "-e", "require('ws'); fetch"], env=env, check=False,
                          stderr=subprocess.DEVNULL).returncode != 0:
            raise unittest.SkipTest("node has no package ws (Debian: node-ws), or no fetch")
        out = subprocess.run([node, SCRIPT, helper.wss if cls.tls else helper.ws, helper.http,
                              cls.deflate], env=env, stdout=subprocess.PIPE, timeout=RUN_S,
                             check=True)
        cls.results = json.loads(out.stdout)


@with_scenarios
class NodePlain(Node, unittest.TestCase):
    def test_all_scenarios_are_looked_at(self):
        self.assertEqual(set(self.results), set(SCENARIOS))


@with_scenarios
class NodeDeflate(Node, unittest.TestCase):
    deflate = "deflate"


class Browser:
    """A browser: it always offers compression, checks what we send to the letter, and
    says of which origin its page is."""

    tls = False

    @classmethod
    def setUpClass(cls):
        program = shutil.which("chromium") or shutil.which("google-chrome")
        if program is None:
            raise unittest.SkipTest("chromium is not installed")
        page = helper.http + "/?ws=" + urllib.parse.quote(
            helper.wss if cls.tls else helper.ws, safe="")
        with tempfile.TemporaryDirectory(prefix="wscast-", ignore_cleanup_errors=True) as home:
            with open(os.path.join(home, "log"), "wb") as log:
                child = subprocess.Popen(
                    [program, "--headless=new", "--no-sandbox", "--disable-gpu",
                     "--disable-dev-shm-usage", "--no-first-run", "--disable-breakpad",
                     "--disable-crash-reporter", "--disable-background-networking",
                     "--disable-component-update", "--ignore-certificate-errors",
                     "--user-data-dir=" + home, page],
                    stdin=subprocess.DEVNULL, stdout=log, stderr=log,
                    env=dict(os.environ, HOME=home), start_new_session=True)
            try:
                cls.results = json.loads(helper.results.get(timeout=RUN_S))
            except queue.Empty:
                with open(os.path.join(home, "log"), errors="replace") as log:
                    raise AssertionError("no result from the page:\n" + log.read()[-4000:])
            finally:
                end_browser(child)


@with_scenarios
class Chromium(Browser, unittest.TestCase):
    def test_refused_for_another_origin(self):
        self.assertIsNone(self.results["refused_for_another_origin"])


@with_scenarios
class ChromiumTls(Browser, unittest.TestCase):
    tls = True


class Websockets(unittest.TestCase):
    """python3-websockets. More of it, with our own protocol, in tests/integration."""

    ssl = False

    def run_with(self, f, compression):
        async def go():
            async with websockets.connect(
                    (helper.wss if self.ssl else helper.ws) + "/echo", compression=compression,
                    max_size=4 * MIB, ssl=context(helper.pem) if self.ssl else None) as ws:
                await asyncio.wait_for(f(ws), DEADLINE)

        asyncio.run(go())

    def both(self, f):
        for compression in (None, "deflate"):
            with self.subTest(compression=compression):
                self.run_with(f, compression)

    def test_echo_of_all_sizes(self):
        async def go(ws):
            for n in (0, 1, 125, 126, 65535, 65536, MIB):
                for data in ("é" * (n // 2) + "x" * (n % 2), os.urandom(n)):
                    await ws.send(data)
                    self.assertEqual(await ws.recv(), data)

        self.both(go)

    def test_echo_of_fragments(self):
        async def go(ws):
            await ws.send(["κό", "", "σμε", "x" * 100000])
            self.assertEqual(await ws.recv(), "κόσμε" + "x" * 100000)
            await ws.send([b"\xff" * 10, b"", b"\x00" * 70000])
            self.assertEqual(await ws.recv(), b"\xff" * 10 + b"\x00" * 70000)

        self.both(go)

    def test_ping_is_answered(self):
        async def go(ws):
            for payload in (b"", b"x" * 125, b"\xff\x00"):
                await (await ws.ping(payload))

        self.both(go)

    def test_close_is_answered_with_its_code(self):
        async def go(ws):
            await ws.close(3456, "é")
            self.assertEqual(ws.close_code, 3456)

        self.both(go)


class WebsocketsTls(Websockets):
    ssl = True


if __name__ == "__main__":
    unittest.main()
