"""wsctl against a server of the test's own, which says what the real one never would,
and against the real one. What it prints on a terminal, and publish and tail, have files
of their own."""

import asyncio
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
import unittest

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from harness import DEADLINE, Case, wait_until
from wsclient import V1
from wsctl_fake import STATUS, WSCTL, FakeCase, environment, run


class CommandLine(FakeCase):
    def test_help_needs_no_server(self):
        for args in ([], ["publish"]):
            status, out, err = run("help", *args)
            self.assertEqual((status, err), (0, ""))
            self.assertIn("Usage: wsctl", out)
        self.assertEqual(run("--help")[0], 0)
        self.assertEqual(run("-V")[0], 0)

    def test_help_fits_80_columns(self):
        texts = [run("help")[1]]
        for line in texts[0].splitlines():
            if line.startswith("  ") and not line.startswith("  -"):
                texts.append(run("help", line.split()[0])[1])
        self.assertGreater(len(texts), 9)
        for text in texts:
            for line in text.splitlines():
                self.assertLessEqual(len(line), 80, line)

    def test_wrong_command_line_is_2(self):
        for args in ([], ["frob"], ["--frob"], ["status", "x"], ["client"], ["tail"],
                     ["publish"], ["publish", "a", "b", "c"], ["status", "--raw"],
                     ["clients", "--limit", "x"], ["clients", "--limit", "-1"],
                     ["restart", "all"], ["publish", "a\nb", "x"], ["publish", "", "x"],
                     ["tail", b"\xff"], ["help", "frob"]):
            status, out, err = run(*args)
            self.assertEqual(status, 2, args)
            self.assertEqual(out, "", args)
            self.assertNotEqual(err, "", args)

    def test_no_server_is_3(self):
        for command in (["status"], ["publish", "a", "b"], ["publish", "a"],
                        ["tail", "a"]):
            status, out, err = run("-s", "/nowhere/control.sock", *command)
            self.assertEqual((status, out), (3, ""))
            self.assertIn("is wscastd running? socket /nowhere/control.sock", err)

    def test_dead_socket_is_3(self):
        server = self.fake({})
        dead = server.path + ".dead"
        sock = socket.socket(socket.AF_UNIX)
        sock.bind(dead)
        sock.close()
        status, _, err = run("-s", dead, "status")
        self.assertEqual(status, 3)
        self.assertIn("refused", err)

    def test_socket_comes_from_environment(self):
        server = self.fake({"ok": STATUS})
        status, _, _ = run("status", env=environment(WSCAST_SOCKET=server.path))
        self.assertEqual(status, 0)

    def test_options_may_stand_anywhere(self):
        server = self.fake({"ok": STATUS})
        for args in (["--json", "status", "-s", server.path],
                     ["status", "--socket=" + server.path, "-j"]):
            status, out, _ = run(*args)
            self.assertEqual(status, 0)
            self.assertEqual(json.loads(out), STATUS)

    def test_no_permission_says_what_to_do(self):
        if os.getuid() == 0 and not shutil.which("setpriv"):
            self.skipTest("needs setpriv to be someone else")
        server = self.fake({"ok": STATUS})
        os.chmod(server.dir, 0o711)
        os.chmod(server.path, 0o600)
        wrap = ["setpriv", "--reuid=65534", "--clear-groups"] if os.getuid() == 0 else []
        if not wrap:
            os.chmod(server.path, 0)
        # A build may lie where only its owner gets: run a copy that all may.
        copy = os.path.join(server.dir, "wsctl")
        shutil.copy(WSCTL, copy)
        p = subprocess.run(wrap + [copy, "-s", server.path, "status"], text=True,
                           capture_output=True, env=environment(), timeout=DEADLINE)
        self.assertEqual(p.returncode, 1)
        self.assertIn("add yourself to group", p.stderr)

    def test_full_disk_is_told(self):
        server = self.fake({"ok": STATUS})
        with open("/dev/full", "w", encoding="ascii") as full:
            p = subprocess.run([WSCTL, "-s", server.path, "status"], stdout=full,
                               stderr=subprocess.PIPE, timeout=DEADLINE)
        self.assertEqual(p.returncode, 1)
        self.assertIn(b"No space left", p.stderr)


class Answers(FakeCase):
    def test_json_is_the_servers_object_on_one_line(self):
        for command in ("status", "workers", "clients", "channels", "version"):
            answer = {"n": [1, {"x": "é\n"}], "big": 2**53 + 1}
            out = self.ask({"ok": answer}, command, "--json")
            self.assertEqual(json.loads(out), answer)
            self.assertEqual(out.count("\n"), 1)

    def test_refusal_is_1_with_the_reason(self):
        for code in ("bad_request", "not_found", "feed_down", "internal"):
            server = self.fake({"error": {"code": code, "message": "no such thing\x1b[31m"}})
            status, out, err = run("-s", server.path, "client", "77")
            self.assertEqual((status, out), (1, ""))
            self.assertEqual(err, "wsctl: no such thing\\x1b[31m\n")

    def test_forbidden_says_what_to_do(self):
        server = self.fake({"error": {"code": "forbidden", "message": "you may not"}})
        status, _, err = run("-s", server.path, "restart")
        self.assertEqual(status, 1)
        self.assertIn("add yourself to group", err)

    def test_nonsense_is_1(self):
        for answer in (b"hello\n", b"{}\n", b"[]\n", b'{"error":7}\n', b"\xff\n",
                       b"[" * 100000 + b"\n", None):
            server = self.fake(answer if answer is None else [answer])
            if answer is None:
                server.answer = lambda request: None
            status, out, err = run("-s", server.path, "status")
            self.assertEqual((status, out), (1, ""), answer)
            self.assertRegex(err, "wscastd")

    def test_fields_that_are_missing_or_of_another_type_do_no_harm(self):
        for ok in ({}, [], 7, {"workers": 7}, {"workers": [7, {}, {"index": "x"}]},
                   {"feed": []}, {"clients": [{"client": {}, "sent": -1, "lag": 1e300}]},
                   {"channels": {}}, {"client": []}, {"total": "x"}, {"pid": None}):
            for command in (["status"], ["workers"], ["clients"], ["channels"],
                            ["client", "1"], ["restart"], ["version"]):
                self.ask({"ok": ok}, *command)

    def test_status_is_readable(self):
        out = self.ask({"ok": STATUS}, "status")
        for text in ("1.2.3, pid 77, up 3d 4h", "pubsub, connected, lag 3ms", "12.3k,",
                     "1.23M in", "1.5 GiB", "64 MiB, head 123456789", "serving"):
            self.assertIn(text, out)

    def test_requests_are_as_documented(self):
        server = self.fake(lambda request: {"ok": {}})
        for args, want in (
                (["status"], {"cmd": "status"}),
                (["clients", "--channel", "a", "--limit", "5"],
                 {"cmd": "clients", "channel": "a", "limit": 5}),
                (["clients"], {"cmd": "clients", "limit": 100}),
                (["clients", "-u", "x"], {"cmd": "clients", "user": "x", "limit": 100}),
                (["client", "7f"], {"cmd": "client", "client": "7f"}),
                (["channels"], {"cmd": "channels"}),
                (["channels", "a*"], {"cmd": "channels", "glob": "a*"}),
                (["restart"], {"cmd": "restart"}),
                (["restart", "1"], {"cmd": "restart", "worker": 1}),
                (["publish", "a", "-x"], None),
                (["publish", "a", "--", "-x"],
                 {"cmd": "publish", "channel": "a", "data": "-x"}),
                (["publish", "a", ""], {"cmd": "publish", "channel": "a", "data": ""}),
                (["publish", "a", b"\xff"],
                 {"cmd": "publish", "channel": "a", "base64": "/w=="})):
            del server.requests[:]
            run("-s", server.path, *args)
            self.assertEqual(server.requests, [want] if want else [])

    def test_more_clients_than_shown_is_said(self):
        server = self.fake({"ok": {"clients": [{"client": "1"}], "total": 5}})
        _, _, err = run("-s", server.path, "clients")
        self.assertIn("1 of 5 are shown: --limit 0 shows all", err)

    def test_client_shows_its_channels(self):
        out = self.ask({"ok": {"client": {"client": "7f", "channels": ["a", "b\x1b"]}}},
                       "client", "7f")
        self.assertRegex(out, r"client +7f\nchannels +a\n +b\\x1b\n")


class Real(Case):
    """Against wscastd itself."""

    def test_looks_around(self):
        d = self.daemon()

        async def go():
            client = await V1.open(d, "news", "chat")
            ident = client.hello["client"]
            self.assertRegex(d.wsctl("status").stdout, "embedded, connected")
            self.assertEqual(d.wsctl("workers").stdout.count("serving"), 2)
            for args in ([], ["-c", "chat"]):
                self.assertIn(ident, d.wsctl("clients", *args).stdout)
            self.assertNotIn(ident, d.wsctl("clients", "-c", "other").stdout)
            self.assertRegex(d.wsctl("client", ident).stdout, "news\n +chat")
            self.assertRegex(d.wsctl("channels", "n*").stdout, "news +1 ")
            self.assertNotIn("chat", d.wsctl("channels", "n*").stdout)
            self.assertEqual(d.wsctl("version").stdout.count("\n"), 2)
            await client.close()

        asyncio.run(go())

    def test_unknown_client_is_1(self):
        d = self.daemon(workers=1)
        for ident in ("0", "7", "zz"):
            p = d.wsctl("client", ident, check=False)
            self.assertEqual((p.returncode, p.stdout), (1, ""))
            self.assertIn("client", p.stderr)

    def test_restart_keeps_clients(self):
        d = self.daemon()

        async def go():
            client = await V1.open(d, "news")
            before = {w["pid"] for w in d.workers()}
            out = d.wsctl("restart", "--json").stdout
            answer = json.loads(out)["workers"]
            self.assertEqual([w["index"] for w in answer], [0, 1])
            self.assertEqual(sum(w["adopted"] for w in answer), 1)
            self.assertFalse(before & {w["pid"] for w in d.workers()})
            d.wsctl("publish", "news", "after")
            self.assertEqual((await client.event())["data"], "after")
            self.assertEqual(d.wsctl("restart", "9", check=False).returncode, 1)
            await client.close()

        asyncio.run(go())

    def tail(self, d, *args):
        """A running `wsctl tail` whose channels are live."""
        before = {c["channel"]: c["tails"] for c in d.ctl("channels")["channels"]}
        p = subprocess.Popen([WSCTL, "-s", d.control, "tail", *args],
                             stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                             env=environment())
        self.addCleanup(p.stdout.close)
        self.addCleanup(p.stderr.close)
        self.addCleanup(p.wait)
        self.addCleanup(p.kill)
        wait_until("the tail is there", lambda: any(
            c["live"] and c["tails"] > before.get(c["channel"], 0)
            for c in d.ctl("channels")["channels"]))
        return p

    def test_what_is_published_comes_out_of_tail(self):
        payloads = [b"plain", b"", b"line\nline", b"\xff\xfe\0", b'{"a":1.10}', b"x" * 300000,
                    "日本".encode()]
        for feed in ("embedded", "pubsub"):
            d = self.daemon(redis=self.redis() if feed == "pubsub" else None)
            p = self.tail(d, "news", "--raw")
            for payload in payloads:
                d.publish("news", payload)
            want = b"".join(payload + b"\n" for payload in payloads)
            self.assertEqual(p.stdout.read(len(want)), want)
            p.send_signal(signal.SIGINT)
            self.assertEqual(p.wait(DEADLINE), 0)
            d.stop()

    def test_a_file_goes_through_whole(self):
        d = self.daemon()
        p = self.tail(d, "news", "--raw")
        lines = "".join("%d %s\n" % (i, "y" * (i % 100)) for i in range(20000))
        got = []
        reader = threading.Thread(target=lambda: got.append(p.stdout.read(len(lines))))
        reader.start()
        d.wsctl("publish", "news", stdin=lines)
        reader.join(DEADLINE)
        self.assertTrue(got == [lines.encode()], "what came is not what was sent")

    def test_slow_tail_misses_and_is_told(self):
        """What it printed and what it is told to have missed is all there was."""
        d = self.daemon(workers=1)
        p = self.tail(d, "news", "--json")
        n, size = 3000, 10000  # far more than the buffers between them
        d.wsctl("publish", "news", stdin=("z" * size + "\n") * n)
        seen = missed = 0
        while seen + missed < n:
            event = json.loads(p.stdout.readline())
            missed += event.get("missed", 0)
            seen += "offset" in event
        self.assertEqual(seen + missed, n)
        self.assertGreater(missed, 0)

    def test_server_that_stops_ends_a_tail(self):
        d = self.daemon(workers=1)
        p = self.tail(d, "news")
        d.stop()
        self.assertEqual(p.wait(DEADLINE), 1)
        self.assertIn(b"closed the connection", p.stderr.read())
        self.assertEqual(d.wsctl("status", check=False).returncode, 3)

    @unittest.skipUnless(os.getuid() == 0 and shutil.which("setpriv"), "needs root")
    def test_others_may_look_but_not_change(self):
        d = self.daemon(workers=1)
        os.chmod(d.control, 0o666)
        copy = os.path.join(d.dir, "wsctl")
        shutil.copy(WSCTL, copy)

        def other(*args):
            p = subprocess.run(["setpriv", "--reuid=65534", "--regid=65534",
                                "--clear-groups", copy, "-s", d.control, *args],
                               text=True, capture_output=True, timeout=DEADLINE)
            return p.returncode, p.stderr

        self.assertEqual(other("status"), (0, ""))
        for args in (["publish", "news", "x"], ["restart"]):
            status, err = other(*args)
            self.assertEqual(status, 1)
            self.assertIn("add yourself to group", err)
        self.assertEqual(d.status()["messages_in"], 0)


class Settings(Case):
    def test_config_says_what_holds(self):
        d = self.daemon({"limits": {"message_rate": 7},
                         "channel chat:*": {"publish": "anyone"}}, workers=1)
        self.assertEqual(d.wsctl("config", "limits.message_rate").stdout, "7\n")
        self.assertEqual(d.wsctl("config", "channel chat:*.publish").stdout, "anyone\n")
        d.reload(limits={"message_rate": 9})
        self.assertEqual(json.loads(d.wsctl("-j", "config", "limits.message_rate").stdout),
                         {"text": "9"})
        path = os.path.join(d.dir, "dump.conf")
        with open(path, "w") as f:
            f.write(d.wsctl("config").stdout)
        self.assertIn("no faults", d.wsctl("check", path).stdout)
        got = d.wsctl("config", "limits.none", check=False)
        self.assertEqual(got.returncode, 1)
        self.assertIn("no setting has the name limits.none", got.stderr)

    def test_check_shows_all_faults(self):
        d = self.daemon(workers=1)
        path = os.path.join(d.dir, "bad.conf")
        with open(path, "w") as f:
            f.write("[server]\nworkers = many\n[limits]\nnone = 1\n")
        got = d.wsctl("check", path, check=False)
        self.assertEqual(got.returncode, 1)
        self.assertIn("bad.conf:2:", got.stderr)
        self.assertIn("bad.conf:4:", got.stderr)
        got = d.wsctl("-j", "check", path, check=False)
        self.assertEqual((got.returncode, len(json.loads(got.stdout)["faults"])), (1, 2))
        self.assertEqual(d.wsctl("check", path + "x", check=False).returncode, 1)

    def test_log_level_and_format_hold_for_all_processes(self):
        d = self.daemon({"server": {"log_format": "json"}}, workers=1)
        mark = d.mark()
        d.ctl("restart")
        said = d.wait_line(r"serving, 0|worker 0 serves", since=mark).string
        self.assertEqual(said[:3], "<6>")
        self.assertEqual(json.loads(said[3:])["level"], "info")
        d.wsctl("log-level", "error")
        self.assertEqual(d.wsctl("config", "server.log_level").stdout, "error\n")
        mark = d.mark()
        d.ctl("restart")
        d.reload()  # the file says info again
        d.wait_line("settings reloaded", since=mark)
        with d.changed:
            self.assertFalse([x for x in d.lines[mark:] if "worker 0 serves" in x])
        got = d.wsctl("log-level", "loud", check=False)
        self.assertEqual(got.returncode, 1)
        self.assertIn("debug", got.stderr)


if __name__ == "__main__":
    unittest.main()
