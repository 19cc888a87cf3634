"""A Redis that says odd things: nobody but its own link suffers from them."""

import os
import socket
import sys
import threading
import unittest

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from harness import Case, Ctl, wait_until
from wsclient import V1, raw, run, soon

PEERS = (b"wscast:!revoke", b"wscast:!presence")  # what hosts tell each other


class OddRedis:
    """As much of Redis as a feed needs. UNSUBSCRIBE is refused, as it is to a user whose
    rights were given by hand, and only once something came behind it."""

    def __init__(self):
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.url = "redis://127.0.0.1:%d/0" % self.listener.getsockname()[1]
        self.subscriber = self.last = None  # the feed's link
        self.subscribers = 0  # links of the feed so far that subscribed to a channel
        self.late = {}
        self.deaf = False  # what is published gets lost
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self):
        while True:
            try:
                conn, _ = self.listener.accept()
            except OSError:
                return
            threading.Thread(target=self._serve, args=(conn,), daemon=True).start()

    def _serve(self, conn):
        try:
            with conn, conn.makefile("rb") as f:
                for line in f:
                    words = []
                    for _ in range(int(line[1:])):
                        n = int(f.readline()[1:])
                        words.append(f.read(n + 2)[:-2])
                    self._answer(conn, words)
        except (OSError, ValueError):
            pass

    def _answer(self, conn, words):
        command = words[0].upper()
        if command == b"PING":
            conn.sendall(b"+PONG\r\n")
        elif command == b"PUBLISH":
            conn.sendall(b":1\r\n")
            if self.subscriber and not self.deaf and not words[1].startswith(PEERS):
                self.say(b"*3\r\n" + bulk(b"message") + bulk(words[1]) + bulk(words[2]))
        elif command == b"UNSUBSCRIBE":
            self.late[conn] = b"-NOPERM no permissions to run 'unsubscribe'\r\n"
        elif command == b"SUBSCRIBE":
            if not words[1].startswith(PEERS):
                self.subscriber = conn
            if not words[1].startswith(b"wscast:!"):
                self.subscribers += self.last is not conn
                self.last = conn
            out = self.late.pop(conn, b"")
            for i, name in enumerate(words[1:], 1):
                out += b"*3\r\n$9\r\nsubscribe\r\n" + bulk(name) + b":%d\r\n" % i
            conn.sendall(out)
        else:
            self._answer_more(conn, command, words)

    def _answer_more(self, conn, command, words):
        conn.sendall(b"-ERR unknown command\r\n")

    def message(self, channel, data):
        self.say(b"*3\r\n" + bulk(b"message") + bulk(b"wscast:" + channel) + bulk(data))

    def say(self, text):
        self.subscriber.sendall(text)

    def done(self):
        self.listener.close()


class OddNode(OddRedis):
    """The one node of a cluster, for sharded pub/sub, or one that names another as it."""

    def __init__(self):
        super().__init__()
        self.port = self.master = self.listener.getsockname()[1]
        self.unanswered = 0  # publishes of others than the probe
        self.url = "redis-cluster://127.0.0.1:%d" % self.port

    def _answer_more(self, conn, command, words):
        if command == b"CLUSTER" and words[1].upper() == b"INFO":
            conn.sendall(bulk(b"cluster_state:ok\r\n"))
        elif command == b"CLUSTER":
            conn.sendall(b"*1\r\n*3\r\n:0\r\n:16383\r\n*2\r\n$9\r\n127.0.0.1\r\n:%d\r\n"
                         % self.master)
        elif command == b"SSUBSCRIBE":
            self.subscriber = conn
            conn.sendall(b"*3\r\n" + bulk(b"ssubscribe") + bulk(words[1]) + b":1\r\n")
        elif command == b"SPUBLISH" and not words[1].startswith(b"wscast:!"):
            self.unanswered += 1
        elif command == b"SPUBLISH":
            conn.sendall(b":1\r\n")
            if not self.deaf:
                self.say(b"*3\r\n" + bulk(b"smessage") + bulk(words[1]) + bulk(words[2]))
        else:
            super()._answer_more(conn, command, words)


def bulk(data):
    return b"$%d\r\n%s\r\n" % (len(data), data)


class OddRedisTest(Case):
    def setUp(self):
        self.redis = OddRedis()
        self.addCleanup(self.redis.done)

    def test_odd_redis_refused_unsubscribe_is_no_answer_to_a_subscribe(self):
        async def go():
            d = self.daemon(redis=self.redis, workers=1)
            v1 = await V1.open(d, "old")
            await v1.ok(unsubscribe="old")
            wait_until("the UNSUBSCRIBE", lambda: self.redis.late)
            await v1.ok(subscribe="new")
            self.redis.message(b"new", b"1")
            self.assertEqual((await v1.event())["data"], 1)
            await v1.close()

        run(go())

    def test_odd_redis_replies_of_wrong_types_are_passed_over(self):
        async def go():
            d = self.daemon(redis=self.redis, workers=1)
            ws = await raw(d, "news")
            wait_until("the subscription", lambda: self.redis.subscribers)
            for odd in [b"$-1\r\n", b":5\r\n", b"+OK\r\n", b"*0\r\n", b"*-1\r\n",
                        b"*3\r\n:1\r\n:2\r\n:3\r\n", b"*1\r\n$7\r\nmessage\r\n",
                        b"*3\r\n$7\r\nmessage\r\n:1\r\n*0\r\n",
                        b"*3\r\n$7\r\nmessage\r\n$-1\r\n$-1\r\n",
                        b"*3\r\n$7\r\nmessage\r\n$1\r\nw\r\n$1\r\nx\r\n",
                        b"*3\r\n$9\r\nsubscribe\r\n$1\r\nx\r\n:1\r\n",
                        b"*3\r\n$11\r\nunsubscribe\r\n$-1\r\n:0\r\n",
                        b"-\r\n", b"-ERR nobody asked\r\n"]:
                self.redis.say(odd)
            self.redis.message(b"news", b"after")
            self.assertEqual(await soon(ws.recv(), "the message"), "after")
            self.assertEqual(self.redis.subscribers, 1)
            await ws.close()

        run(go())

    def test_odd_redis_endless_replies_end_the_link_alone(self):
        async def go():
            d = self.daemon(redis=self.redis, workers=1)
            ws = await raw(d, "news")
            for n, odd in enumerate([b"$99999999999\r\n", b"!what\r\n",
                                     b"*1\r\n" * 50 + b":1\r\n"], 1):
                wait_until("the subscription", lambda n=n: self.redis.subscribers == n)
                self.redis.say(odd)
                if odd.startswith(b"$"):
                    try:
                        while self.redis.subscribers == n:
                            self.redis.say(b"x" * 65536)
                    except OSError:
                        pass
            wait_until("the last link", lambda: self.redis.subscribers == 4)
            wait_until("the feed", lambda: d.status()["feed"]["connected"])
            self.redis.message(b"news", b"after")
            self.assertEqual(await soon(ws.recv(), "the message"), "after")
            await ws.close()

        run(go())


class Demoted(Case):
    def test_odd_redis_shard_that_leaves_has_its_publishes_answered(self):
        old, new = OddNode(), OddNode()
        self.addCleanup(old.done)
        self.addCleanup(new.done)
        d = self.daemon({"feed": {"source": "pubsub", "sharded": "yes",
                                  "probe_interval": "60s"}}, redis=old, workers=1)
        wait_until("the feed", lambda: d.status()["ready"])
        client = Ctl(d.control)
        self.addCleanup(client.close)
        client.send({"cmd": "publish", "channel": "news", "data": "1"})
        wait_until("the publish", lambda: old.unanswered)
        old.master = new.port
        self.assertEqual(client.line()["error"]["code"], "feed_down")
        wait_until("the feed", lambda: d.status()["ready"])
        d.stop()


class Deaf(Case):
    """PING is answered, and what is published gets lost on its way: the link is left."""

    def deaf(self, redis, **feed):
        self.addCleanup(redis.done)
        d = self.daemon({"feed": dict(feed, source="pubsub", probe_interval="300ms")},
                        redis=redis, workers=1)
        wait_until("the feed", lambda: d.status()["ready"])
        mark = d.mark()
        redis.deaf = True
        d.wait_line("a message of our own did not come back", mark)
        self.assertIs(d.status()["ready"], False)
        redis.deaf = False
        wait_until("the feed", lambda: d.status()["ready"])
        d.stop()

    def test_odd_redis_that_delivers_nothing_is_left(self):
        self.deaf(OddRedis())

    def test_odd_redis_shard_that_delivers_nothing_is_left(self):
        self.deaf(OddNode(), sharded="yes")


if __name__ == "__main__":
    unittest.main()
