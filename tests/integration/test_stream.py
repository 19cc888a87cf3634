"""feed.source = stream: each entry once and in order, whatever happens to Redis and us."""

import base64
import os
import shutil
import signal
import socket
import sys
import tempfile
import unittest

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from fleet import take_frame, upgrade
from harness import DEADLINE, Case, resp, wait_until
from wsclient import V1, raw, run, soon

STREAM = {"feed": {"source": "stream", "probe_interval": "1s"},
          "channel *": {"publish": "anyone"}}


def settings(**feed):
    return dict(STREAM, feed=dict(STREAM["feed"], **feed))


class StreamCase(Case):
    def add(self, redis, channel, data, *more, key="wscast:stream"):
        return redis.cli("XADD", key, "*", "channel", channel, "data", data, *more)

    def fill(self, redis, channel, numbers):
        """Many entries at once, numbered."""
        pipe = redis.connect()
        for n in numbers:
            pipe.sock.sendall(resp("XADD", "wscast:stream", "*", "channel", channel,
                                   "data", n))
        got = b""
        while got.count(b"\r\n") < 2 * len(numbers):
            got += pipe.sock.recv(65536)
        pipe.close()

    def up(self, d):
        wait_until(lambda: "the feed is up: %s" % d.status()["feed"],
                   lambda: d.status()["feed"]["connected"])

    async def numbers(self, v1, wanted, gaps=0):
        """The next messages are these, and among them so many gaps."""
        for n in wanted:
            msg = await v1.event()
            while "gap" in msg and gaps > 0:
                gaps -= 1
                msg = await v1.event()
            self.assertEqual(msg.get("data"), n, msg)
        self.assertEqual(gaps, 0)


class Entries(StreamCase):
    def test_stream_entries_reach_their_channels_in_order(self):
        redis = self.redis()
        self.add(redis, "a", "before we came")
        d = self.daemon(settings(stream="wscast:stream two"), redis=redis)
        self.up(d)
        self.assertEqual(d.status()["feed"]["source"], "stream")

        async def go():
            v1, plain = await V1.open(d, "a", "b"), await raw(d, "b")
            self.fill(redis, "a", range(3000))
            self.add(redis, "b", "second stream", key="two")
            seen = []
            while len(seen) < 3001:
                seen.append((await v1.event())["data"])
            seen.remove("second stream")
            self.assertEqual(seen, list(range(3000)))
            self.assertEqual(await soon(plain.recv()), "second stream")
            data = bytes(range(256))
            redis.cli("-x", "XADD", "two", "*", "channel", "b", "data", stdin=data)
            self.assertEqual(await soon(plain.recv()), data)
            self.assertEqual(base64.b64decode((await v1.event())["base64"]), data)
            await v1.close()
            await plain.close()

        run(go())
        d.stop()

    def test_stream_malformed_entries_are_counted_and_passed_over(self):
        redis = self.redis()
        d = self.daemon(STREAM, redis=redis)
        self.up(d)

        async def go():
            v1 = await V1.open(d, "a")
            for fields in [("x", "y"), ("channel", "a"), ("data", "1"),
                           ("channel", "", "data", "1"), ("channel", "a\nb", "data", "1"),
                           ("channel", "a" * 201, "data", "1")]:
                redis.cli("XADD", "wscast:stream", "*", *fields)
            self.add(redis, "a", "7", "other", "field")
            self.assertEqual((await v1.event())["data"], 7)
            await v1.close()

        run(go())
        self.assertEqual(d.status()["feed"]["entries"]["malformed"], 6)
        d.wait_line("entry .* passed over")
        self.assertLess(sum("passed over" in line for line in d.lines), 6)
        d.stop()

    def test_stream_repeated_id_is_dropped(self):
        redis = self.redis()
        d = self.daemon(STREAM, redis=redis)
        self.up(d)

        async def go():
            v1 = await V1.open(d, "a", "b")
            for channel, data, more in [("a", "1", ("id", "x")), ("a", "2", ("id", "x")),
                                        ("b", "3", ("id", "x")), ("a", "4", ("id", "y")),
                                        ("a", "5", ()), ("a", "5", ())]:
                self.add(redis, channel, data, *more)
            await self.numbers(v1, [1, 3, 4, 5, 5])
            await v1.close()

        run(go())
        self.assertEqual(d.status()["feed"]["entries"]["repeated"], 1)
        d.stop()

    def test_stream_publish_adds_an_entry(self):
        redis = self.redis()
        d = self.daemon(settings(stream_maxlen=100), redis=redis)
        self.up(d)

        async def go():
            v1 = await V1.open(d, "a")
            for n in range(300):
                await v1.ok(publish="a", data=n)
            await self.numbers(v1, range(300))
            await v1.close()

        run(go())
        last = redis.cli("XREVRANGE", "wscast:stream", "+", "-", "COUNT", "1").split("\n")
        self.assertEqual(last[1:], ["channel", "a", "data", "299"])
        self.assertLess(int(redis.cli("XLEN", "wscast:stream")), 300, "it is trimmed")
        d.stop()

    def test_stream_that_is_none_is_said(self):
        redis = self.redis()
        redis.cli("SET", "wscast:stream", "1")
        d = self.daemon(STREAM, redis=redis)
        d.wait_line("stream wscast:stream: WRONGTYPE")
        self.assertIs(d.status()["feed"]["connected"], False)
        redis.cli("DEL", "wscast:stream")
        self.up(d)
        d.stop()


class Outages(StreamCase):
    def test_stream_goes_on_where_it_stopped(self):
        """kill -9, restart, SIGSTOP, lost connections: nothing missing, no gap."""
        redis = self.redis(durable=True)
        d = self.daemon(settings(publish_timeout="500ms"), redis=redis)
        self.up(d)

        async def go():
            v1 = await V1.open(d, "a")
            at = 0

            async def more(what):
                nonlocal at
                self.fill(redis, "a", range(at, at + 500))
                what()
                self.fill(redis, "a", range(at + 500, at + 1000))
                await self.numbers(v1, range(at, at + 1000))
                at += 1000

            def killed():
                redis.stop()
                redis.start()

            def stopped():
                redis.proc.send_signal(signal.SIGSTOP)
                wait_until("it is seen", lambda: not d.status()["feed"]["connected"])
                redis.proc.send_signal(signal.SIGCONT)

            for what in (killed, killed, stopped,
                         lambda: redis.cli("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")):
                await more(what)
            # Who comes while it is away is subscribed at once, and has all from there.
            redis.stop()
            wait_until("it is seen", lambda: not d.status()["feed"]["connected"])
            late = await V1.open(d, "a")
            redis.start()
            self.add(redis, "a", "-1")
            await self.numbers(v1, [-1])
            await self.numbers(late, [-1])
            for v in (v1, late):
                await v.close()

        run(go())
        self.assertNotIn("missed something", d.log())
        d.stop()

    def test_stream_trimmed_meanwhile_leaves_a_gap(self):
        redis = self.redis(durable=True)
        d = self.daemon(STREAM, redis=redis)
        self.up(d)

        async def go():
            v1 = await V1.open(d, "a", "quiet")
            self.fill(redis, "a", range(10))
            await self.numbers(v1, range(10))
            # What was read may go.
            redis.cli("XTRIM", "wscast:stream", "MAXLEN", "0")
            redis.cli("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")
            self.fill(redis, "a", range(10, 20))
            await self.numbers(v1, range(10, 20))
            mark = d.mark()
            d.proc.send_signal(signal.SIGSTOP)  # nobody reads for a while
            self.fill(redis, "a", range(20, 30))
            redis.cli("XTRIM", "wscast:stream", "MAXLEN", "3")
            redis.cli("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")
            d.proc.send_signal(signal.SIGCONT)
            events = [await v1.event()]
            while events[-1].get("data") != 29:
                events.append(await v1.event())
            if events[0].get("data") == 20:  # the XREAD under way had it already
                del events[0]
            gaps = [e["gap"]["channel"] for e in events[:2]]
            self.assertEqual(sorted(gaps), ["a", "quiet"])
            self.assertEqual([e["data"] for e in events[2:]], [27, 28, 29])
            d.wait_line("wscast:stream was trimmed", mark)
            await v1.close()

        run(go())
        d.stop()

    def test_stream_made_anew_leaves_a_gap(self):
        redis = self.redis()
        d = self.daemon(STREAM, redis=redis)
        self.up(d)

        async def go():
            v1 = await V1.open(d, "a")
            self.fill(redis, "a", range(10))
            await self.numbers(v1, range(10))
            redis.stop()
            redis.start()  # it remembers nothing
            self.up(d)
            self.fill(redis, "a", range(5))
            await self.numbers(v1, range(5), gaps=1)
            await v1.close()

        run(go())
        d.stop()

    def test_stream_restart_goes_on_where_it_stopped(self):
        """The place is in the state directory, also after kill -9 of the supervisor."""
        redis = self.redis()
        with_state = settings()
        first = self.daemon(with_state, redis=redis)
        with_state = dict(with_state, server={"state_directory": first.dir})
        self.up(first)
        self.add(redis, "a", "1")
        wait_until("it was read", lambda: first.status()["messages_in"] == 1)
        first.stop()

        def place():
            with open(first.dir + "/stream") as f:
                return f.read()

        self.assertIn("wscast:stream ", place())
        self.fill(redis, "a", range(2, 5))
        second = self.daemon(with_state, redis=redis)
        wait_until("what came meanwhile", lambda: second.status()["messages_in"] == 3)
        before = place()
        self.add(redis, "a", "5")
        wait_until("it was written", lambda: place() != before
                   and second.status()["messages_in"] == 4)
        second.proc.kill()
        self.assertEqual(second.wait_end(), -9)
        second.check_gone()
        self.add(redis, "a", "6")
        third = self.daemon(with_state, redis=redis)
        wait_until("what came meanwhile", lambda: third.status()["messages_in"] >= 1)
        self.assertEqual(third.status()["messages_in"], 1)
        third.stop()
        with open(first.dir + "/stream", "w") as f:
            f.write("nonsense")
        fourth = self.daemon(with_state, redis=redis)
        fourth.wait_line("damaged")
        self.up(fourth)
        fourth.stop()

    def test_stream_state_that_cannot_be_written_is_said(self):
        redis = self.redis()
        state = tempfile.mkdtemp(prefix="wscast-state-")
        self.addCleanup(shutil.rmtree, state, ignore_errors=True)
        os.rmdir(state)
        d = self.daemon(dict(STREAM, server={"state_directory": state}), redis=redis)
        d.wait_line("cannot write %s/stream" % state)
        self.up(d)
        self.add(redis, "a", "1")
        wait_until("it was read", lambda: d.status()["messages_in"] == 1)
        os.mkdir(state)
        self.add(redis, "a", "2")
        d.wait_line("%s/stream is written again" % state)
        self.assertEqual(sum("cannot write" in line for line in d.lines), 1)
        d.stop()


class Stalled:
    """A raw client that reads nothing until it is asked what came."""

    def __init__(self, daemon, channel):
        host, port = daemon.address.rsplit(":", 1)
        self.sock = socket.socket()
        self.sock.settimeout(DEADLINE)
        self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        self.sock.connect((host, int(port)))
        self.sock.sendall(upgrade("/ws/" + channel, False, int(port)))
        self.buf = b""
        while b"\r\n\r\n" not in self.buf:
            self.buf += self.sock.recv(1)

    def messages_until(self, last):
        buf, at, got = self.buf.split(b"\r\n\r\n", 1)[1], 0, []
        while not got or got[-1] != last:
            whole = take_frame(buf, at)
            if whole is None:
                more = self.sock.recv(1 << 16)
                assert more, "the server closed"
                buf, at = buf[at:] + more, 0
            else:
                first, payload, at = whole
                if first in (0x81, 0x82):
                    got.append(payload)
        self.sock.close()
        return got


class Keys(StreamCase):
    KEYS, ROUNDS = 10, 20

    def test_stream_keys_who_lags_gets_the_newest_of_each(self):
        redis = self.redis()
        d = self.daemon({"feed": {"source": "stream"}, "limits": {"send_buffer": "4k"},
                         "channel *": {"slow": "latest"}}, redis=redis, workers=1)
        self.up(d)

        async def rounds(v1, name):
            """All keys again and again, until the worker has read what lies behind."""
            pipe = redis.connect()
            for n in range(self.ROUNDS):
                for k in range(self.KEYS):
                    pipe.sock.sendall(resp(
                        "XADD", "wscast:stream", "*", "channel", "c", "key", "k%d" % k,
                        "data", '"%s %d %d"' % (name, k, n)))
            self.add(redis, "end", '"%s"' % name)
            self.assertEqual((await v1.event())["data"], name)
            pipe.close()

        async def go():
            v1 = await V1.open(d, "end")
            stalled = Stalled(d, "c")
            wait_until("it is there", lambda: d.counter("subscriptions") == 2)
            while d.counter("lagging") == 0:
                self.add(redis, "c", '"%s"' % ("x" * 20000))
                self.add(redis, "end", "0")
                await v1.event()
            await rounds(v1, "first")
            killed = d.workers()[0]["pid"]
            os.kill(killed, signal.SIGKILL)
            await rounds(v1, "second")
            last = b'"second %d %d"' % (self.KEYS - 1, self.ROUNDS - 1)
            got = [m for m in stalled.messages_until(last) if b"x" not in m]
            self.assertEqual(got, [b'"second %d %d"' % (k, self.ROUNDS - 1)
                                   for k in range(self.KEYS)])
            self.assertNotEqual(d.workers()[0]["pid"], killed)
            self.assertGreaterEqual(d.counter("replaced"),
                                    self.KEYS * (2 * self.ROUNDS - 1))
            await v1.close()

        run(go())
        d.stop()


if __name__ == "__main__":
    unittest.main()
