"""wsctl publish and tail against a server of the test's own."""

import base64
import json
import os
import signal
import subprocess
import sys
import unittest

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from harness import DEADLINE
from wsctl_fake import WSCTL, FakeCase, environment, run


class Publish(FakeCase):
    def test_each_line_is_a_message(self):
        server = self.fake({"ok": {"offset": 1}})
        status, out, err = run("-s", server.path, "publish", "news",
                               stdin=b"one\n\nth\xffree\nlast")
        self.assertEqual((status, out, err), (0, "", ""))
        self.assertEqual([r.get("data", r.get("base64")) for r in server.requests],
                         ["one", "", base64.b64encode(b"th\xffree").decode(), "last"])

    def test_no_line_is_no_message(self):
        server = self.fake({"ok": {}})
        self.assertEqual(run("-s", server.path, "publish", "news")[0], 0)
        self.assertEqual(server.requests, [])

    def test_many_lines_are_pipelined_in_order(self):
        server = self.fake({"ok": {"offset": 1, "padding": "x" * 500}})
        lines = ["%d %s" % (i, "y" * 300) for i in range(20000)]
        status, out, err = run("-s", server.path, "publish", "news", "--json",
                               stdin="\n".join(lines).encode() + b"\n")
        self.assertEqual((status, err), (0, ""))
        self.assertEqual(json.loads(out)["published"], 20000)
        self.assertEqual([r["data"] for r in server.requests], lines)

    def test_server_that_answers_late_is_waited_for(self):
        """It reads all before it answers: more than the window never waits."""
        held = []

        def answer(request):
            held.append({"ok": {}})
            if len(held) < 1000:
                return []
            out, held[:] = list(held), []
            return out

        server = self.fake(answer)
        status, _, err = run("-s", server.path, "publish", "news", stdin=b"x\n" * 3000)
        self.assertEqual((status, err), (0, ""))
        self.assertEqual(len(server.requests), 3000)

    def test_refused_lines_are_named(self):
        server = self.fake(lambda r: {"ok": {}} if "bad" not in r["data"] else
                           {"error": {"code": "bad_request", "message": "too bad"}})
        status, _, err = run("-s", server.path, "publish", "news",
                             stdin=b"good\nbad\ngood\n" + b"bad\n" * 100)
        self.assertEqual(status, 1)
        self.assertIn("wsctl: line 2: too bad\n", err)
        self.assertIn("published 2 of 103 messages", err)
        self.assertLess(err.count("\n"), 15)

    def test_forbidden_stops_at_once(self):
        server = self.fake({"error": {"code": "forbidden", "message": "no"}})
        p = subprocess.Popen([WSCTL, "-s", server.path, "publish", "news"],
                             stdin=subprocess.PIPE, stderr=subprocess.PIPE,
                             env=environment())
        p.stdin.write(b"x\n")
        p.stdin.flush()  # and is left open: wsctl must not wait for more
        self.assertEqual(p.wait(DEADLINE), 1)
        self.assertIn(b"add yourself", p.stderr.read())
        p.stdin.close()
        p.stderr.close()

    def test_server_that_hangs_up_is_1(self):
        server = self.fake(lambda request: None)
        status, _, err = run("-s", server.path, "publish", "news", stdin=b"x\n" * 5000)
        self.assertEqual(status, 1)
        self.assertIn("closed the connection", err)
        self.assertIn("not answered", err)

    def test_idle_server_that_hangs_up_is_noticed(self):
        """Also while wsctl waits for input."""
        server = self.fake(lambda request: [{"ok": {}}])
        p = subprocess.Popen([WSCTL, "-s", server.path, "publish", "news"],
                             stdin=subprocess.PIPE, stderr=subprocess.PIPE,
                             env=environment())
        server.answer = lambda request: None
        p.stdin.write(b"x\n")
        p.stdin.flush()
        self.assertEqual(p.wait(DEADLINE), 1)
        p.stdin.close()
        p.stderr.close()

    def test_line_too_long_is_told(self):
        server = self.fake({"ok": {}})
        status, _, err = run("-s", server.path, "publish", "news",
                             stdin=b"fine\n" + b"x" * (3 << 20) + b"\n")
        self.assertEqual(status, 1)
        self.assertIn("line 2 is too long", err)
        self.assertIn("published 1 of 2", err)
        self.assertEqual(len(server.requests), 1)


class Tail(FakeCase):
    MESSAGES = [
        {"channel": "news", "offset": 7, "time": 1700000000.123456, "data": {"a": [1, None]}},
        {"channel": "news", "offset": 8, "time": 1700000000.5, "text": "two\nlines"},
        {"channel": "chat", "offset": 1, "time": 1700000001.0, "base64": "/wAK"},
    ]

    def tail(self, messages, *args, signum=signal.SIGINT):
        """What `wsctl tail` prints for these messages until it is interrupted."""
        last = {"channel": "end", "offset": 1, "time": 1, "data": "END"}
        server = self.fake(lambda request: [{"ok": {}}] + messages + [last])
        p = subprocess.Popen([WSCTL, "-s", server.path, "tail", "news", "chat"] + list(args),
                             stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                             env=environment(TZ="UTC"))
        out = b""
        while b"END" not in out:
            part = os.read(p.stdout.fileno(), 65536)
            self.assertTrue(part)
            out += part
        p.send_signal(signum)
        rest, err = p.communicate(timeout=DEADLINE)
        self.assertEqual(rest.strip(), b"")
        self.assertEqual(p.returncode, 0)
        self.assertEqual(server.requests, [{"cmd": "tail", "channels": ["news", "chat"]}])
        return out.rsplit(b"\n", 2)[0], err.decode()

    def test_a_line_for_each_message(self):
        out, err = self.tail(self.MESSAGES)
        self.assertEqual(err, "")
        self.assertEqual(out.decode().splitlines(), [
            '22:13:20.123 news 7 {"a":[1,null]}',
            "22:13:20.500 news 8 two\\nlines",
            "22:13:21.000 chat 1 \\xff\\x00\\n"])

    def test_raw_is_payloads_alone(self):
        out, _ = self.tail(self.MESSAGES, "--raw", signum=signal.SIGTERM)
        self.assertEqual(out, b'{"a":[1,null]}\ntwo\nlines\n\xff\0\n')

    def test_json_is_an_object_a_line(self):
        out, _ = self.tail(self.MESSAGES + [{"missed": 3}], "--json")
        self.assertEqual([json.loads(line) for line in out.splitlines()],
                         self.MESSAGES + [{"missed": 3}])

    def test_numbers_keep_their_digits(self):
        line = b'{"channel":"c","offset":1,"time":1.0,"data":[1.10,1e999,%s]}\n' % (b"9" * 50)
        out, _ = self.tail([line])
        self.assertIn("[1.10,1e999," + "9" * 50 + "]", out.decode())

    def test_missed_messages_are_said(self):
        _, err = self.tail([{"missed": 17}])
        self.assertIn("17 messages were missed", err)

    def test_reader_that_goes_away_ends_it(self):
        """`wsctl tail news | head -1` ends, also when no second message comes."""
        server = self.fake(lambda request: [{"ok": {}}] + self.MESSAGES)
        p = subprocess.Popen([WSCTL, "-s", server.path, "tail", "news"],
                             stdout=subprocess.PIPE, env=environment())
        self.assertTrue(p.stdout.readline())
        p.stdout.close()
        # Seen by poll(), or by a write that came first.
        self.assertIn(p.wait(DEADLINE), (0, -signal.SIGPIPE))

    def test_server_that_goes_away_is_1(self):
        server = self.fake(lambda request: [{"ok": {}}] + self.MESSAGES)
        p = subprocess.Popen([WSCTL, "-s", server.path, "tail", "news"],
                             stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                             env=environment())
        for _ in self.MESSAGES:
            self.assertTrue(p.stdout.readline())
        server.hang_up()
        with p.stdout, p.stderr:
            self.assertEqual(p.stdout.read(), b"")
            self.assertIn(b"closed the connection", p.stderr.read())
        self.assertEqual(p.wait(DEADLINE), 1)


if __name__ == "__main__":
    unittest.main()
