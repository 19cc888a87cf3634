# tests/run: alone
"""source = stream: 200 clients that reconnect as they like see every message once and in
order, while workers are killed and Redis dies, stops, drops our connections, finds us too
slow, is shown a wrong password, and is cut off.

WSCAST_SOAK_SECONDS=n  for how long
"""

import asyncio
import os
import signal
import sys
import time
import unittest

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)),
                                "..", "integration"))
from far import Namespace
from harness import Case, resp, wait_until
from recovery import run_resumers
from wsclient import V1


class Entries:
    """Adds numbered entries to the stream at a steady rate, as Flow publishes. While
    Redis is away nothing is due; what it has taken is asked of itself, since the answer
    may have died with it."""

    def __init__(self, redis, channels, rate):
        self.redis, self.rate = redis, rate
        self.channels = {c: 0 for c in channels}
        self.names, self.sent = list(channels), 0
        self.pipe, self.last = None, time.monotonic()

    def turn(self):
        now = time.monotonic()
        due = int((now - self.last) * self.rate)
        if due == 0:
            return
        self.last = now
        for _ in range(min(due, 100)):
            self.add()

    def add(self):
        name = self.names[self.sent % len(self.names)]
        # The id says which it is: one that was taken is refused the second time.
        entry = resp("XADD", "wscast:stream", "1-%d" % (self.sent + 1), "channel", name,
                     "data", self.channels[name])
        while True:
            try:
                if self.pipe is None:
                    self.pipe = self.redis.connect()
                    self.pipe.sock.settimeout(20)
                self.pipe.sock.sendall(entry)
                answer = b""
                while not answer.endswith(b"\r\n") or answer.count(b"\r\n") < (
                        2 if answer.startswith(b"$") else 1):
                    got = self.pipe.sock.recv(4096)
                    if not got:
                        raise ConnectionError("closed")
                    answer += got
                if answer.startswith(b"$") or b"equal or smaller" in answer:
                    break
                raise AssertionError("redis says %r" % answer)
            except OSError:
                self.close()
                time.sleep(0.02)
        self.channels[name] += 1
        self.sent += 1

    def close(self):
        if self.pipe:
            self.pipe.close()
        self.pipe = None


class StreamSoak(Case):
    CLIENTS, CHANNELS, RATE = 200, 40, 1000
    SECONDS = int(os.environ.get("WSCAST_SOAK_SECONDS", "90"))
    STOPPED_S = 10

    def test_stream_each_sees_all_once_in_order(self):
        if os.geteuid() != 0:
            self.skipTest("SKIPPED: a network partition needs root")
        net = Namespace()
        self.addCleanup(net.done)
        redis = net.redis(durable=True, args=[
            "--user", "gate", "on", ">sesame", "~*", "&*", "+@all"])
        self.addCleanup(redis.done)
        secret = os.path.join(redis.dir, "password")

        def password(word):
            with open(secret, "w", encoding="ascii") as f:
                f.write(word + "\n")

        password("sesame")
        d = self.daemon({"feed": {
            "source": "stream", "probe_interval": "500ms", "redis_password_file": secret,
            "redis": redis.url.replace("redis://", "redis://gate@")}}, workers=2)
        wait_until("the feed", lambda: d.status()["feed"]["connected"])
        names = ["r%d" % i for i in range(self.CHANNELS)]
        done = []

        def worker():
            pid = d.status()["workers"][len(done) % 2]["pid"]
            if pid > 0:
                try:
                    os.kill(pid, signal.SIGKILL)
                except ProcessLookupError:
                    pass

        def lost():
            wait_until("it is seen", lambda: not d.status()["feed"]["connected"])

        def died():
            redis.stop()
            redis.start()

        def stopped():
            begun = time.monotonic()
            os.kill(redis.proc.pid, signal.SIGSTOP)
            try:
                lost()
                time.sleep(max(0, begun + self.STOPPED_S - time.monotonic()))
            finally:
                os.kill(redis.proc.pid, signal.SIGCONT)

        def dropped():
            redis.cli("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")

        def kicked():
            """What we could not read for a while is a longer reply than we may have."""
            before = d.status()["feed"]["reconnects"]
            redis.cli("CONFIG", "SET", "client-output-buffer-limit", "normal 1kb 0 0")
            os.kill(d.pid, signal.SIGSTOP)
            try:
                for _ in range(3000):
                    flow.add()
            finally:
                os.kill(d.pid, signal.SIGCONT)
            wait_until("it is kicked", lambda: d.status()["feed"]["reconnects"] > before)
            redis.cli("CONFIG", "SET", "client-output-buffer-limit", "normal 0 0 0")

        def locked():
            mark = d.mark()
            password("wrong")
            d.ctl("reload")
            redis.cli("CLIENT", "KILL", "USER", "gate")
            d.wait_line("WRONGPASS", mark)
            password("sesame")
            d.ctl("reload")

        def cut():
            net.cut()
            lost()
            time.sleep(1)
            net.heal()

        flow = Entries(redis, names, self.RATE)
        faults = [worker, dropped, worker, died, worker, stopped, kicked, locked, cut]

        def fault(rng):
            fault = faults[len(done) % len(faults)]
            fault()
            done.append(fault.__name__)

        clients = run_resumers(
            self, d, self.CLIENTS, self.CHANNELS, self.RATE, self.SECONDS, fault,
            seed=int(os.environ.get("WSCAST_SEED", "6")), places=asyncio.run(places(d, names)),
            flow=flow)
        print("%d messages to each channel, %d connections, %s" % (
            clients[0].next, sum(c.resumed for c in clients),
            ", ".join("%d %s" % (done.count(n), n) for n in sorted(set(done)))))
        self.assertEqual(set(done), {f.__name__ for f in faults})
        self.assertGreater(sum(c.resumed for c in clients), 5 * len(clients) // 4)
        self.assertNotIn("missed something", d.log())
        d.stop()


async def places(d, names):
    """{channel: offset} from which on a client will have had everything."""
    v1 = await V1.open(d)
    got = {name: (await v1.ok(subscribe=name))["offset"] for name in names}
    await v1.close()
    return got


if __name__ == "__main__":
    unittest.main()
