"""The examples that are installed (packaging/examples), as they are but for their ports
and paths: right by the program that they are for, and used. What is not installed is
skipped, and says so."""

import asyncio
import os
import re
import ssl
import subprocess
import sys
import tempfile
import unittest

import websockets

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)),
                                "..", "integration"))
from harness import BIN, DEADLINE, ROOT, Case, free_port, program, wait_until
from tlsclient import join_files, make_certificate
from wsclient import V1, raw, run, soon

EXAMPLES = os.path.join(ROOT, "packaging", "examples")


class Examples(Case):
    def setUp(self):
        self.dir = self.enterContext(tempfile.TemporaryDirectory())
        os.chmod(self.dir, 0o755)

    def example(self, name, sub=()):
        """A copy of the file, with our directory for /etc/wscast. sub: (pattern, what
        takes its place), each of which must be there. Returns its path."""
        with open(os.path.join(EXAMPLES, name)) as f:
            text = f.read().replace("/etc/wscast", self.dir)
        for pattern, by in sub:
            text, n = re.subn(pattern, by, text)
            self.assertGreater(n, 0, "%s has no %s" % (name, pattern))
        path = os.path.join(self.dir, name)
        with open(path, "w") as f:
            f.write(text)
        return path

    def checks(self, path):
        """wscastd finds nothing wrong with it."""
        out = subprocess.run([os.path.join(BIN, "wscastd"), "-t", "-c", path],
                             stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
                             timeout=DEADLINE)
        self.assertEqual(out.returncode, 0, out.stdout)

    def serve(self, path, port):
        """A daemon from it, which leaves alone what is the system's."""
        control = os.path.join(self.dir, "control.sock")
        over = {"server.admin_listen": "", "server.control_socket": control,
                "server.state_directory": self.dir, "server.drain_timeout": "0"}
        extra = ["-c", path]
        for key, value in over.items():
            extra += ["-o", "%s=%s" % (key, value)]
        return self.daemon({"server": {"control_socket": control}}, port=port,
                           workers=1, extra=extra)

    def test_example_all_are_tried_here(self):
        self.assertEqual({name for name in os.listdir(EXAMPLES)},
                         {"wscast-redis.conf", "wscast-tls.conf", "wscast-tokens.conf",
                          "haproxy.cfg", "nginx.conf", "sysctl.conf"})

    def test_example_redis(self):
        """With the user of its comment, who may do what wscast needs, and no more."""
        r = self.redis()
        with open(os.path.join(EXAMPLES, "wscast-redis.conf")) as f:
            acl = re.search(r"(ACL SETUSER .*)", f.read()).group(1)
        r.cli(*acl.replace("PASSWORD", "secret").split())
        # What its URLs of other forms need: Sentinel's, and the cluster's.
        for command in (["ROLE"], ["CLUSTER", "INFO"], ["CLUSTER", "SLOTS"]):
            said = r.cli("--user", "wscast", "--pass", "secret", *command)
            self.assertNotIn("NOPERM", str(said))
        with open(os.path.join(self.dir, "redis.password"), "w") as f:
            f.write("secret\n")
        port = free_port()
        path = self.example("wscast-redis.conf", sub=(
            (r"0\.0\.0\.0:8080", "127.0.0.1:%d" % port), (r":6379", ":%d" % r.port)))
        self.checks(path)
        d = self.serve(path, port)
        wait_until("the feed is up", lambda: d.status()["feed"]["connected"])

        async def go():
            ws = await raw(d, "news")
            chat = await raw(d, "chat:1")
            wait_until("both are subscribed", lambda: d.status()["subscriptions"] == 2)
            r.cli("PUBLISH", "wscast:news", "hello")
            self.assertEqual(await soon(ws.recv()), "hello")
            await chat.send("said")
            self.assertEqual(await soon(chat.recv()), "said")
            await ws.close()
            await chat.close()

        run(go())
        self.assertNotIn("NOPERM", d.log())
        self.assertNotIn("probe", d.log())

    def test_example_tls(self):
        pem, key = make_certificate(self.dir, "example", ("example.com",))
        os.rename(pem, os.path.join(self.dir, "fullchain.pem"))
        os.rename(key, os.path.join(self.dir, "privkey.pem"))
        port = free_port()
        path = self.example("wscast-tls.conf")
        self.checks(path)
        path = self.example("wscast-tls.conf", sub=(
            (r"0\.0\.0\.0:443", "127.0.0.1:%d" % port), (r"\[::\]:443", "[::1]:%d" % port)))
        d = self.serve(path, port)
        ctx = ssl.create_default_context(cafile=os.path.join(self.dir, "fullchain.pem"))

        async def go():
            ws = await soon(websockets.connect("wss://127.0.0.1:%d/ws/news" % port, ssl=ctx,
                                               server_hostname="example.com"))
            wait_until("it is subscribed", lambda: d.status()["subscriptions"] == 1)
            d.publish("news", "hello")
            self.assertEqual(await soon(ws.recv()), "hello")
            await ws.close()

        run(go())

    def test_example_tokens(self):
        """With the commands of its comments."""
        with open(os.path.join(EXAMPLES, "wscast-tokens.conf")) as f:
            commands = re.findall(r"^;   (.*)$", f.read(), re.M)
        self.assertEqual(len(commands), 2)
        secret, token = (c.replace("/etc/wscast", self.dir) for c in commands)
        subprocess.run(secret, shell=True, check=True)
        port = free_port()
        path = self.example("wscast-tokens.conf", sub=(
            (r"0\.0\.0\.0:8080", "127.0.0.1:%d" % port),))
        self.checks(path)
        made = subprocess.run(os.path.join(BIN, token) + " --conf " + path, shell=True,
                              check=True, stdout=subprocess.PIPE, text=True).stdout.strip()
        d = self.serve(path, port)

        async def go():
            c = await V1.open(d, "room:1", "user:alice", "public:x",
                              extra_headers={"Authorization": "Bearer " + made})
            for channel in ("user:bob", "other"):
                self.assertEqual(await c.error(subscribe=channel), "forbidden")
            self.assertEqual(await c.error(publish="room:1", data=1), "forbidden")
            await c.close()

        run(go())

    def behind(self, name, argv, port):
        """Start the proxy, and a client through it has its own address, and messages."""
        d = self.d
        proc = subprocess.Popen(argv, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        self.addCleanup(proc.wait, DEADLINE)
        self.addCleanup(proc.kill)
        ctx = ssl.create_default_context(cafile=self.pem)

        async def go():
            end = asyncio.get_running_loop().time() + DEADLINE
            while True:  # until it listens, and has asked us whether we are ready
                try:
                    ws = await websockets.connect(
                        "wss://127.0.0.1:%d/ws/news" % port, ssl=ctx,
                        server_hostname="example.com", local_addr=("127.0.0.9", 0))
                    break
                except (OSError, websockets.InvalidStatusCode):
                    self.assertIsNone(proc.poll(), "%s ended" % name)
                    self.assertLess(asyncio.get_running_loop().time(), end, name)
                    await asyncio.sleep(0.02)
            wait_until("it is subscribed", lambda: d.status()["subscriptions"] == 1)
            d.publish("news", "hello")
            self.assertEqual(await soon(ws.recv()), "hello")
            shown = [c["address"].rsplit(":", 1)[0] for c in d.ctl("clients")["clients"]
                     if c["state"] == "open"]
            self.assertEqual(shown, ["127.0.0.9"])
            await ws.close()

        run(go())

    def proxied(self, name):
        """A daemon with the settings that the proxy's example names."""
        if not program(name):
            self.skipTest("no %s here (packaging/install-deps clients)" % name)
        self.pem, key = make_certificate(self.dir, "site", ("example.com",))
        join_files(os.path.join(self.dir, "both.pem"), self.pem, key)
        file = {"haproxy": "haproxy.cfg", "nginx": "nginx.conf"}[name]
        with open(os.path.join(EXAMPLES, file)) as f:
            said = re.findall(r"^#   (\w+) = (.*)$", f.read(), re.M)
        server = dict(said)
        self.assertIn("trusted_proxies", server)
        port, admin = free_port(), free_port()
        server["listen"] = [server["listen"].replace(":8080", ":%d" % port)]
        server["admin_listen"] = "127.0.0.1:%d" % admin
        self.d = self.daemon({"server": server}, port=port, workers=1)
        return port, admin

    def test_example_haproxy(self):
        server, admin = self.proxied("haproxy")
        port = free_port()
        path = self.example("haproxy.cfg", sub=(
            (r"bind :443", "bind 127.0.0.1:%d" % port), (r"/etc/haproxy/certs/.*\.pem",
             os.path.join(self.dir, "both.pem")), (r"port 8081", "port %d" % admin),
            (r"wscast1 127\.0\.0\.1:8080", "wscast1 127.0.0.1:%d" % server), (r":8000", ":%d" % free_port()),
            (r"maxconn 20000", "maxconn 100")))
        out = subprocess.run([program("haproxy"), "-c", "-f", path], text=True,
                             stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
        self.assertEqual(out.returncode, 0, out.stdout)
        self.assertNotIn("WARNING", out.stdout)
        self.behind("haproxy", [program("haproxy"), "-db", "-f", path], port)

    def test_example_nginx(self):
        server, _ = self.proxied("nginx")
        port = free_port()
        path = self.example("nginx.conf", sub=(
            (r"listen 443", "listen 127.0.0.1:%d" % port),
            (r"/etc/nginx/certs/example.com.pem", self.pem),
            (r"/etc/nginx/certs/example.com.key", self.pem.replace(".pem", ".key")),
            (r"server 127\.0\.0\.1:8080", "server 127.0.0.1:%d" % server)))
        main = os.path.join(self.dir, "main.conf")
        temp = "".join("%s_temp_path %s/%s; " % (kind, self.dir, kind) for kind in (
            "client_body", "proxy", "fastcgi", "uwsgi", "scgi"))
        with open(main, "w") as f:
            f.write("daemon off; master_process off; pid %s/pid; error_log %s/log;\n"
                    "events { worker_connections 100; }\n"
                    "http { access_log off; %s include %s; }\n"
                    % (self.dir, self.dir, temp, path))
        argv = [program("nginx"), "-p", self.dir, "-c", main]
        out = subprocess.run(argv + ["-t"], text=True, stdout=subprocess.PIPE,
                             stderr=subprocess.STDOUT)
        self.assertEqual(out.returncode, 0, out.stdout)
        self.assertNotIn("[warn]", out.stdout)
        self.behind("nginx", argv, port)

    def test_example_sysctl(self):
        """Each of them is one that the kernel has (those of a module may be missing)."""
        with open(os.path.join(EXAMPLES, "sysctl.conf")) as f:
            lines = [line for line in f if re.match(r"#?\w+\.", line)]
        self.assertGreater(len(lines), 6)
        for line in lines:
            name, value = re.fullmatch(r"#?([\w.-]+) = ([\d ]+)\n", line).groups()
            path = "/proc/sys/" + name.replace(".", "/")
            if "nf_conntrack" in name:
                continue
            with open(path) as f:
                self.assertEqual(len(f.read().split()), len(value.split()), name)


if __name__ == "__main__":
    unittest.main(verbosity=2)
