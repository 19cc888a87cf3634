"""Real proxies in front, as wscast-tuning(7) says: HAProxy by the PROXY protocol and by
HTTP, nginx by X-Forwarded-For, by TCP and by a unix socket. What they are told, and what
wscastd is told beside, is taken from the page. What is not installed is skipped, and says
so."""

import asyncio
import os
import re
import signal
import socket
import subprocess
import sys
import tempfile
import unittest

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path[:0] = [os.path.join(os.path.dirname(HERE), "integration"), HERE]
import websockets
from harness import DEADLINE, Case, free_port, program, wait_until
from manpage import conf_settings, snippets
from tlsclient import context, make_certificate
from wsclient import raw, run, soon

# What a whole nginx.conf has around a file of conf.d.
NGINX = """
daemon off;
master_process off;
pid %(dir)s/nginx.pid;
error_log %(dir)s/error.log;
events { worker_connections 100; }
http {
    access_log off;
    client_body_temp_path %(dir)s/body;
    proxy_temp_path %(dir)s/proxy;
    fastcgi_temp_path %(dir)s/fastcgi;
    uwsgi_temp_path %(dir)s/uwsgi;
    scgi_temp_path %(dir)s/scgi;
    %(text)s
}
"""
# (what wscast-tuning(7) says, what is meant here). {names} are those of `places`.
PLACES = (
    (r"127\.0\.0\.1:8080", "127.0.0.1:{server}"),
    (r"127\.0\.0\.1:8081", "127.0.0.1:{admin}"),
    (r"check port 8081", "check port {admin} inter 50ms"),
    (r"127\.0\.0\.1:3000", "127.0.0.1:{site}"),
    (r"bind :(443|80)\b", "bind 127.0.0.1:{port}"),
    (r"listen 80;", "listen 127.0.0.1:{port};"),
    (r"/etc/haproxy/|/run/wscast/", "{dir}/"),
    (r"group=[a-z-]+", "mode=0666"),
    (r"maxconn \d+", "maxconn 100"),
)


class Proxies(Case):
    def setUp(self):
        self.dir = self.enterContext(tempfile.TemporaryDirectory())
        os.chmod(self.dir, 0o755)

    def places(self):
        """Where all is in this test; a new port for each proxy."""
        self.names = {"server": free_port(), "admin": free_port(), "site": free_port(),
                      "port": free_port(), "dir": self.dir}

    def text_of(self, kind, name):
        """The page's snippet, with what is meant here."""
        found = [s for s in snippets(kind) if s.name == name]
        self.assertEqual(len(found), 1, (kind, name))
        text = found[0].text
        for pattern, place in PLACES:
            text = re.sub(pattern, place.format_map(self.names), text)
        return text

    def start(self, name, text):
        """The proxy."""
        if not program(name):
            self.skipTest("no %s here (packaging/install-deps clients)" % name)
        conf = os.path.join(self.dir, name + ".conf")
        with open(conf, "w") as f:
            f.write(text if name == "haproxy" else NGINX % {"dir": self.dir, "text": text})
        argv = [program(name)] + (["-f", conf, "-db"] if name == "haproxy"
                                  else ["-c", conf, "-p", self.dir])
        proc = subprocess.Popen(argv, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        self.addCleanup(proc.wait, DEADLINE)
        self.addCleanup(proc.kill)

        def listens():
            self.assertIsNone(proc.poll(), "%s ended" % name)
            with socket.socket() as s:
                return s.connect_ex(("127.0.0.1", self.names["port"])) == 0

        wait_until("%s listens" % name, listens)

    def serve(self, text, **server):
        """A daemon with the page's settings that is reached by the proxy."""
        settings = conf_settings(text)
        settings["server"]["listen"] = [settings["server"]["listen"]]
        settings["server"].update(server)
        settings["channel *"] = {"publish": "anyone"}
        d = self.daemon(settings, workers=1)
        d.port = self.names["port"]
        return d

    def use(self, d, address, **kwargs):
        """A client from 127.0.0.9, known as `address`, whose messages come back, also
        from the next serving process."""

        async def go():
            ws = await raw(d, "news", local_addr=("127.0.0.9", 0), **kwargs)
            await ws.send("first")
            self.assertEqual(await soon(ws.recv()), "first")
            shown = [c["address"] for c in d.ctl("clients")["clients"]
                     if c["state"] == "open"]
            self.assertEqual([a.rsplit(":", 1)[0] for a in shown], [address])
            # Once it reads again it has noted what it sent, which a unix socket needs.
            got = d.counter("received_bytes")
            await ws.pong()
            while d.counter("received_bytes") == got:
                await asyncio.sleep(0.001)
            pid = d.workers()[0]["pid"]
            os.kill(pid, signal.SIGKILL)
            d.wait_serving(but=(pid,))
            await ws.send("second")
            self.assertEqual(await soon(ws.recv()), "second")
            await ws.close()

        run(go())

    # -- as the page says --

    def certificate(self):
        """example.pem as HAProxy wants it, and a client's context that trusts it."""
        pem, key = make_certificate(self.dir, "localhost")
        with open(os.path.join(self.dir, "example.pem"), "w") as out:
            for path in (pem, key):
                with open(path) as f:
                    out.write(f.read())
        return {"ssl": context(pem), "server_hostname": "localhost"}

    def haproxy_through(self, change=lambda text: text):
        """TCP with TLS; change: the pair of settings and configuration, made another."""
        self.places()
        tls = self.certificate()
        d = self.serve(change(self.text_of("conf", "haproxy-tcp")))
        self.start("haproxy", change(self.text_of("haproxy", "haproxy-tcp")))
        self.use(d, "127.0.0.9", **tls)
        return d

    def test_haproxy_by_tcp_as_the_page_says(self):
        d = self.haproxy_through()
        self.assertEqual(d.counter("refused_proxy"), 0)

    def test_haproxy_leaves_a_host_that_is_drained(self):
        """By /ready: it goes to no worker any more, and comes back."""
        self.places()
        tls = self.certificate()
        d = self.serve(self.text_of("conf", "haproxy-tcp"))
        self.start("haproxy", self.text_of("haproxy", "haproxy-tcp"))

        async def refused():
            try:
                await (await raw(d, "news", **tls)).close()
            except (OSError, websockets.InvalidHandshake):
                return True
            return False

        async def go():
            self.assertFalse(await refused())
            d.ctl("drain", over=600)
            seen = -1
            while not await refused() or d.counter("refused") != seen:
                seen = d.counter("refused")
            d.ctl("undrain")
            while await refused():
                await asyncio.sleep(0.01)

        run(asyncio.wait_for(go(), DEADLINE))

    def test_haproxy_by_other_headers_and_a_unix_socket(self):
        path = os.path.join(self.dir, "ws.sock")
        for old, new in (("send-proxy-v2", "send-proxy"),
                         ("send-proxy-v2",
                          "send-proxy-v2 proxy-v2-options crc32c,unique-id"),
                         (r"server host1 \S+", "server host1 unix@%s" % path)):

            def change(text):
                text = re.sub(old, new, text)
                if path in new:
                    text = re.sub(r"^listen = \S+", "listen = unix:%s mode=0666" % path,
                                  text, flags=re.M)
                    text = text.replace("check port", "check addr 127.0.0.1 port")
                return text

            with self.subTest(new):
                self.haproxy_through(change)

    def test_haproxy_check_by_proxy_header_is_no_client(self):
        self.places()
        tls = self.certificate()
        text = self.text_of("haproxy", "haproxy-tcp").replace("option httpchk", "#")
        text = re.sub(r"check port \d+", "check check-send-proxy", text)
        self.start("haproxy", text)
        d = self.serve(self.text_of("conf", "haproxy-tcp"), max_connections_per_ip=1)
        wait_until("some checks came", lambda: d.counter("accepted") >= 3)
        self.assertEqual(d.counter("refused_proxy"), 0)
        self.use(d, "127.0.0.9", **tls)

    def test_haproxy_by_http_as_the_page_says(self):
        self.places()
        d = self.serve(self.text_of("conf", "haproxy-http"))
        self.start("haproxy", self.text_of("haproxy", "haproxy-http"))
        self.use(d, "127.0.0.9", origin="http://example.com",
                 extra_headers={"X-Forwarded-For": "192.0.2.1"})

    def test_nginx_as_the_page_says(self):
        for name in ("nginx-tcp", "nginx-unix"):
            with self.subTest(name):
                self.places()
                d = self.serve(self.text_of("conf", name))
                self.start("nginx", self.text_of("nginx", name))
                # A page of the same host: the proxy passes on for whom the request is.
                self.use(d, "127.0.0.9", origin="http://" + d.address,
                         extra_headers={"X-Forwarded-For": "192.0.2.1"})

    def test_each_snippet_of_a_proxy_is_run(self):
        self.assertEqual({s.name for s in snippets("haproxy", "nginx")},
                         {"haproxy-tcp", "haproxy-http", "nginx-tcp", "nginx-unix"})


if __name__ == "__main__":
    unittest.main()
