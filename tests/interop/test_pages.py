"""The man pages' snippets, each run against a real server: every command of a section
EXAMPLES, every settings file, and what backends and browsers are told to write.

What a page calls by its usual address is somewhere else here: PLACES says what stands
for what, and is all that is changed.
"""

import asyncio
import os
import re
import shutil
import signal
import subprocess
import sys
import unittest

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path[:0] = [os.path.join(os.path.dirname(HERE), "integration"), HERE]
from admin import KEY, AdminCase
from harness import BIN, DEADLINE, NODE_PATH, free_port, wait_until
from manpage import pages, plain, snippets
from wsclient import V1, run

# As a browser has it; a newer node has it, too.
NODE_WEBSOCKET = "globalThis.WebSocket = require('ws');\n"

# (what a page says, what is meant here), in this order. {names} are those of Stage.
PLACES = (
    # addresses
    (r"127\.0\.0\.1:8081|127\.0\.0\.1:9090", "127.0.0.1:{admin}"),
    (r"(localhost|127\.0\.0\.1|0\.0\.0\.0|\*):8080", "127.0.0.1:{port}"),
    (r"127\.0\.0\.1:9000", "127.0.0.1:{free}"),
    (r"127\.0\.0\.1', 6379", "127.0.0.1', {redis}"),
    (r"redis\.Redis\(\)", "redis.Redis(port={redis})"),
    (r"createClient\(\)", "createClient({{ url: 'redis://127.0.0.1:{redis}' }})"),
    (r"\bredis-cli ", "redis-cli -e -p {redis} "),
    (r"redis://127\.0\.0\.1:6379", "redis://127.0.0.1:{redis}"),
    (r"unix:///run/redis/redis\.sock", "redis://127.0.0.1:{redis}"),
    # files
    (r"/etc/wscast/|/run/wscast/|/run/redis/", "{dir}/"),
    (r"group=[a-z-]+", "mode=0666"),
    # processes: others may run on this machine
    (r"\$\(pidof wscastd\)", "{pid}"),
    # wsbench: who is measured, and less of it
    (r"wsbench run (\w+)", r"wsbench run \1 --url=ws://127.0.0.1:{port}/ws"
     " --control={control} --connections=100 --processes=1 --warmup=0.2 --settle=5"),
    (r"--connections=1?\d+k", "--connections=200"),
    (r"--duration=\w+", "--duration=3s"),
    (r"--restart-every=\d+", "--restart-every=1"),
    (r"--floor=send,uring", "--floor=send,uring --rounds=1 --duration=1s"),
)

# Commands that run until they are interrupted: what shows that they do, and the signal.
LASTING = (
    (r"^wscastd (?!.*-[tV])", r"worker \d+ serves", signal.SIGTERM),
    (r"^wsctl (.* )?tail\b", r"\S", signal.SIGINT),
    (r"^wsctl top\b(?!.*--once)", r"\S", signal.SIGINT),
)


def here(text, names):
    """The snippet with what is meant here in place of the page's addresses."""
    for pattern, place in PLACES:
        text = re.sub(pattern, place.format_map(names), text)
    return text


def read(path):
    with open(path) as f:
        return f.read()


def package_is_there(kind):
    """Whether a snippet of this kind can run: its interpreter and its client library."""
    asked = {"php": ["php", "-r", "exit(class_exists('Redis') ? 0 : 1);"],
             "python": ["/usr/bin/python3", "-c", "import redis"],
             "node": ["node", "-e", "require('redis')"],
             "js": ["node", "-e", "require('ws')"]}[kind]
    return shutil.which(asked[0]) and subprocess.run(
        asked, env=dict(os.environ, NODE_PATH=NODE_PATH), stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL, timeout=DEADLINE).returncode == 0


class Pages(AdminCase):
    """Each test starts a server for all snippets of its kind."""

    def stage(self, redis=True):
        """A server as the pages take it for granted, and the names for PLACES."""
        server = self.redis() if redis else None
        self.d = d = self.admin({"channel *": {"publish": "anyone"}}, redis=server)
        self.names = {
            "admin": self.port, "port": d.port, "free": free_port(), "pid": d.pid,
            "redis": server.port if server else 6379, "dir": d.dir, "control": d.control}
        self.files(d.dir)
        return d

    def files(self, folder):
        """What the examples take to lie in the working directory, or in /etc/wscast."""
        def put(name, text):
            with open(os.path.join(folder, name), "w") as f:
                f.write(text)

        put("headlines.txt", "one\ntwo\n")
        private = ("control_socket = %s/other.sock\nstate_directory = %s\n"
                   "admin_listen =\n" % (folder, folder))
        self.bench = free_port()
        put("other.conf", "[server]\nlisten = 127.0.0.1:%d\n%s" % (free_port(), private))
        put("bench.conf", "[server]\nlisten = 127.0.0.1:%d\n%s" % (self.bench, private))
        put("secret", "x" * 48)

    def environ(self):
        return dict(os.environ, PATH="%s:%s:/usr/sbin:/sbin" % (BIN, os.environ["PATH"]),
                    WSCAST_SOCKET=self.d.control, KEY=KEY, NODE_PATH=NODE_PATH)

    def run_text(self, argv, what):
        """Run it to its end; returns what it printed."""
        out = subprocess.run(argv, cwd=self.d.dir, env=self.environ(),
                             stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                             stderr=subprocess.STDOUT, text=True, timeout=3 * DEADLINE)
        self.assertEqual(out.returncode, 0, "%s: %s\n%s" % (what, argv[-1], out.stdout))
        return out.stdout

    # -- commands --

    def commands(self, snippet):
        """Its commands, without prompts; a line that ends in a backslash goes on."""
        text = re.sub(r"^\$ ", "", snippet.text, flags=re.M)
        return [c for c in re.split(r"(?<!\\)\n", text) if c]

    def run_command(self, command, snippet):
        meant = here(command, self.names)
        if "bench.conf" in meant:  # a server that wsbench starts itself
            meant = meant.replace(":%d/ws" % self.d.port, ":%d/ws" % self.bench).replace(
                self.d.control, os.path.join(self.d.dir, "other.sock"))
        for pattern, sign, end in LASTING:
            if re.search(pattern, command):
                self.run_lasting(meant, sign, end, snippet)
                return
        self.run_text(["/bin/sh", "-ec", meant], snippet)

    def run_lasting(self, command, sign, end, snippet):
        """One that runs until it is interrupted, and must then end well."""
        with open(os.path.join(self.d.dir, "output"), "w+") as out:
            proc = subprocess.Popen(["/bin/sh", "-ec", "exec " + command],
                                    cwd=self.d.dir, env=self.environ(), stdout=out,
                                    stdin=subprocess.DEVNULL, stderr=subprocess.STDOUT)
            self.addCleanup(proc.wait, DEADLINE)

            def shown():
                text = read(out.name)
                self.assertIsNone(proc.poll(), "%s: %s ended: %s" % (snippet, command, text))
                self.d.publish("news", "something")
                return re.search(sign, text)

            try:
                wait_until("%s: %s" % (snippet, sign), shown, every=0.05)
            finally:
                proc.send_signal(end)
            self.assertIn(proc.wait(DEADLINE), (0, -end, 128 + end), snippet)

    def test_pages_each_command_of_examples_runs(self):
        """In the order of the pages: a later one finds what an earlier one left."""
        found = snippets("shell")
        self.assertLessEqual({"wsbench.1", "wscast.7", "wscastd.8", "wsctl.1",
                              "wscast-tuning.7"}, {s.page for s in found})
        self.stage()
        for s in found:
            for command in self.commands(s):
                with self.subTest(page=s.page, command=command):
                    self.run_command(command, s)

    def test_pages_each_settings_file_is_right(self):
        found = snippets("conf")
        self.assertLessEqual({"wscast.conf.5", "wscast-tuning.7"}, {s.page for s in found})
        d = self.stage(redis=False)
        for s in found:
            with self.subTest(snippet=s):
                path = os.path.join(d.dir, "example.conf")
                with open(path, "w") as f:
                    f.write(here(s.text, self.names))
                self.run_text(["wscastd", "-t", "-c", path], s)

    def test_pages_each_example_is_of_a_kind_that_is_run(self):
        """No block of EXAMPLES, and no mark, is passed over by all tests."""
        kinds = {s.kind for s in snippets()}
        self.assertEqual(kinds, {"shell", "conf", "php", "python", "node", "js", "haproxy",
                                 "nginx", "sysctl", "redis"})
        for page, source in pages().items():
            body = source.split("\n.Sh EXAMPLES\n")[1:]
            blocks = sum(len(re.findall(r"^\.(Bd -literal|Dl )", b.split("\n.Sh ")[0], re.M))
                         for b in body)
            taken = [s for s in snippets() if s.page == page and s.section == "EXAMPLES"]
            self.assertEqual(len(taken), blocks, page)

    # -- publishing --

    def publishes(self, kind, command):
        """Each snippet of a language publishes what a client then has."""
        if not package_is_there(kind):
            self.skipTest("no %s with a client of Redis (packaging/install-deps clients)"
                          % kind)
        found = snippets(kind)
        self.assertTrue(found)
        d = self.stage()
        modules = os.path.join(d.dir, "node_modules")  # `import` heeds no NODE_PATH
        os.mkdir(modules)
        os.symlink("/usr/share/nodejs/redis", os.path.join(modules, "redis"))

        async def go(s):
            v1 = await V1.open(d, "news")
            path = os.path.join(d.dir, "snippet" + {"php": ".php", "python": ".py",
                                                    "node": ".mjs"}[kind])
            with open(path, "w") as f:
                f.write(("<?php\n" if kind == "php" else "") + here(s.text, self.names))
            await asyncio.get_running_loop().run_in_executor(
                None, self.run_text, command + [path], s)
            self.assertEqual((await v1.event())["data"], {"headline": "hello"}, s)
            await v1.close()

        for s in found:
            with self.subTest(snippet=s):
                run(go(s))

    def test_pages_php_publishes(self):
        self.publishes("php", ["php"])

    def test_pages_python_publishes(self):
        self.publishes("python", ["/usr/bin/python3"])

    def test_pages_node_publishes(self):
        self.publishes("node", ["node"])

    # -- browsers --

    def script(self, s):
        """A browser's script, run by node; what it prints goes to a file."""
        if not package_is_there("js"):
            self.skipTest("no node with ws (packaging/install-deps clients)")
        path = os.path.join(self.d.dir, "snippet.js")
        with open(path, "w") as f:
            f.write(NODE_WEBSOCKET + here(s.text, self.names))
        out = open(os.path.join(self.d.dir, "printed"), "w+")
        self.addCleanup(out.close)
        proc = subprocess.Popen(["node", path], cwd=self.d.dir, env=self.environ(),
                                stdout=out, stderr=subprocess.STDOUT)
        self.addCleanup(proc.wait, DEADLINE)
        self.addCleanup(proc.kill)

        def printed():
            text = read(out.name)
            self.assertIsNone(proc.poll(), "%s ended: %s" % (s, text))
            return text.split()

        return printed

    def one(self, name):
        found = [s for s in snippets("js") if s.name == name]
        self.assertEqual(len(found), 1, name)
        return found[0]

    def subscribed(self):
        wait_until("a subscriber", lambda: self.d.counter("subscriptions") == 1)

    def test_pages_raw_client_prints_what_comes(self):
        self.stage(redis=False)
        printed = self.script(self.one("raw"))
        self.subscribed()
        self.d.publish("news", "hello")
        wait_until("the message", lambda: printed() == ["hello"])

    def test_pages_client_recovers_what_it_missed(self):
        """Its connection is ended, and messages come while it is away."""
        d = self.stage(redis=False)
        printed = self.script(self.one("recover"))
        self.subscribed()
        numbers = [str(n) for n in range(20)]
        for n in numbers[:10]:
            d.publish("news", n)
        wait_until("the first", lambda: printed() == numbers[:10])
        d.ctl("drain", over=0)
        wait_until("it is away", lambda: d.counter("connections") == 0)
        for n in numbers[10:]:
            d.publish("news", n)
        refused = d.counter("refused")
        wait_until("it was refused", lambda: d.counter("refused") > refused)
        d.ctl("undrain")
        wait_until("all of them, once and in order: %s" % numbers,
                   lambda: printed() == numbers)

    # -- the system --

    def test_pages_redis_takes_its_settings(self):
        server = self.redis()
        for s in snippets("redis"):
            for line in s.text.splitlines():
                key, value = line.split(None, 1)
                self.assertEqual(server.cli("CONFIG", "SET", key, value), "OK", line)

    def test_pages_kernel_knows_the_sysctls(self):
        found = snippets("sysctl")
        self.assertTrue(found)
        for s in found:
            for line in s.text.splitlines():
                key, value = (part.strip() for part in line.split("="))
                path = "/proc/sys/" + key.replace(".", "/")
                if not os.path.exists(path) and os.path.dirname(path).startswith(
                        "/proc/sys/net/core"):
                    continue  # only outside of a network namespace
                with open(path) as f:
                    self.assertEqual(len(f.read().split()), len(value.split()), line)

    def test_pages_plain_text_has_no_escapes(self):
        self.assertEqual(plain("a \\e\\(dq\\&b"), 'a \\"b')
        with self.assertRaises(ValueError):
            plain("\\(zz")


if __name__ == "__main__":
    unittest.main()
