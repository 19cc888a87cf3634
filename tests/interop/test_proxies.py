"""Real proxies in front: HAProxy by the PROXY protocol, nginx by X-Forwarded-For, both
by TCP and by a unix socket. What is not installed is skipped, and says so."""

import asyncio
import os
import signal
import socket
import subprocess
import sys
import tempfile
import unittest

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)),
                                "..", "integration"))
from harness import DEADLINE, Case, free_port, program, wait_until
from wsclient import raw, run, soon

HAPROXY = """
global
    maxconn 100
defaults
    mode tcp
    timeout connect 5s
    timeout client 60s
    timeout server 60s
frontend in
    bind 127.0.0.1:%(port)d
    default_backend ws
backend ws
    server ws %(server)s %(send)s
"""
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
    server {
        listen 127.0.0.1:%(port)d;
        location / {
            proxy_pass http://%(server)s;
            proxy_http_version 1.1;
            proxy_set_header Upgrade $http_upgrade;
            proxy_set_header Connection upgrade;
            proxy_set_header Host $host;
            proxy_set_header X-Forwarded-For $proxy_add_x_forwarded_for;
        }
    }
}
"""


class Proxies(Case):
    def setUp(self):
        self.dir = self.enterContext(tempfile.TemporaryDirectory())
        os.chmod(self.dir, 0o755)

    def start(self, name, text, **values):
        """The proxy on a free port, which is returned."""
        if not program(name):
            self.skipTest("no %s here (packaging/install-deps clients)" % name)
        port = free_port()
        conf = os.path.join(self.dir, name + ".conf")
        with open(conf, "w") as f:
            f.write(text % dict(values, port=port, dir=self.dir))
        argv = [program(name)] + (["-f", conf, "-db"] if name == "haproxy"
                                  else ["-c", conf, "-p", self.dir])
        proc = subprocess.Popen(argv, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        self.addCleanup(proc.wait, DEADLINE)
        self.addCleanup(proc.kill)

        def listens():
            self.assertIsNone(proc.poll(), "%s ended" % name)
            with socket.socket() as s:
                return s.connect_ex(("127.0.0.1", port)) == 0

        wait_until("%s listens" % name, listens)
        return port

    def serve(self, port, listen, **server):
        """A daemon that is reached by the proxy's port."""
        d = self.daemon({"server": dict(server, listen=[listen]),
                         "channel *": {"publish": "anyone"}}, workers=1)
        d.port = port
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

    def where(self, kind):
        """(what we listen on, as the proxy names it)"""
        if kind == "unix":
            path = os.path.join(self.dir, "ws.sock")
            return "unix:%s mode=0666" % path, "unix:" + path
        port = free_port()
        return "127.0.0.1:%d" % port, "127.0.0.1:%d" % port

    def test_haproxy_names_its_clients(self):
        for kind, send in (("tcp", "send-proxy"), ("tcp", "send-proxy-v2"),
                           ("tcp", "send-proxy-v2 proxy-v2-options crc32c,unique-id"),
                           ("unix", "send-proxy-v2")):
            with self.subTest(kind=kind, send=send):
                listen, server = self.where(kind)
                if kind == "unix":
                    server = server.replace("unix:", "unix@")
                port = self.start("haproxy", HAPROXY, server=server, send=send)
                self.use(self.serve(port, listen + " proxy=v2"), "127.0.0.9")

    def test_haproxy_check_is_no_client(self):
        listen, server = self.where("tcp")
        port = self.start("haproxy", HAPROXY, server=server,
                          send="send-proxy-v2 check check-send-proxy inter 50ms")
        d = self.serve(port, listen + " proxy=v2", max_connections_per_ip=1)
        wait_until("some checks came", lambda: d.counter("accepted") >= 3)
        self.assertEqual(d.counter("refused_proxy"), 0)
        self.use(d, "127.0.0.9")

    def test_nginx_names_its_clients(self):
        for kind, trusted in (("tcp", "127.0.0.1"), ("unix", "unix:")):
            with self.subTest(kind=kind):
                listen, server = self.where(kind)
                port = self.start("nginx", NGINX, server=server)
                d = self.serve(port, listen, trusted_proxies=trusted)
                self.use(d, "127.0.0.9", extra_headers={"X-Forwarded-For": "192.0.2.1"})


if __name__ == "__main__":
    unittest.main()
