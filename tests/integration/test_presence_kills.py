# tests/run: alone
"""What is told to one connection, or to those who are present, while workers are killed:
neither lost nor told twice.

Who is told of joins and leaves is never closed, and hears of each once. Who asks gets one
answer to each request, or is closed with 1012, as it was inside a request of its own when
the process died."""

import asyncio
import os
import random
import signal
import socket
import sys
import unittest

import websockets

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from harness import SANITIZED, wait_until
from storm import seed
from test_presence import Presence, listed
from wsclient import V1, run, soon

KILLS = 10 if SANITIZED else 60
WATCHERS, ASKERS, COMERS, STAYING = 8, 8, 4, 24


def small_socket(d):
    """One that takes less than a page."""
    s = socket.socket()
    s.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    s.connect(("127.0.0.1", d.port))
    return s


class Kills(Presence):
    def setUp(self):
        super().setUp()
        self.over = False
        self.closed = self.answers = self.refused = 0
        self.sure, self.unsure = set(), set()

    async def killer(self, d, chance):
        for _ in range(KILLS):
            await asyncio.sleep(chance.uniform(0, 0.15))
            w = chance.choice(d.workers())
            os.kill(w["pid"], signal.SIGKILL)
            d.wait_serving(but=[w["pid"]])
        self.over = True

    async def asker(self, d):
        """One request after the other, each answered once."""
        while not self.over:
            c = await V1.open(d, sock=small_socket(d))
            try:
                for n in range(1, 1 << 30):
                    if self.over:
                        break
                    await c.send(id=n, presence="chat")
                    msg = await soon(c.recv(), "the answer")
                    self.assertEqual(msg["id"], n, msg)
                    self.answers += "ok" in msg
                    self.refused += "error" in msg
                    if "error" in msg:
                        self.assertEqual(msg["error"]["code"], "rate_limited")
                        await asyncio.sleep(0.02)
                await c.ok(ping={})
                self.assertEqual(c.events, [])
                await c.close()
            except websockets.ConnectionClosed:
                self.assertEqual(c.ws.close_code, 1012)
                self.closed += 1

    async def comer(self, d):
        """Comes and goes; it is known whether it was there unless it was cut off."""
        while not self.over:
            try:
                c = await V1.open(d)
            except (websockets.WebSocketException, OSError):
                continue  # it was inside its handshake
            me = c.hello["client"]
            try:
                await c.ok(subscribe="chat")
                self.sure.add(me)
                await c.close()
            except websockets.ConnectionClosed:
                self.unsure.add(me)

    async def told(self, c):
        """All that a watcher was told, up to the mark."""
        events = []
        while "data" not in (msg := await c.event()):
            (kind, what), = msg.items()
            events.append((kind, what["client"]))
        return events

    def check(self, events, watchers):
        """Each came once, and then went."""
        watchers = {c.hello["client"] for c in watchers}
        here, gone = set(), set()
        for kind, client in events:
            if kind == "join":
                self.assertNotIn(client, here | gone)
                here.add(client)
            else:
                self.assertEqual(kind, "leave")
                here.remove(client)
                gone.add(client)
        self.assertLessEqual(self.sure, gone)
        self.assertLessEqual(gone, self.sure | self.unsure)
        self.assertLessEqual(here, watchers)

    def test_presence_kills_lose_and_repeat_nothing(self):
        number = seed()
        print("seed %d" % number)
        d = self.daemon(self.settings(grace="0", limits={"send_buffer": "4k"}), workers=2)

        async def go():
            # Pages are long, so that answers are cut.
            await asyncio.gather(*(self.user(d, "u%d" % n, "chat", info="x" * 1000)
                                   for n in range(STAYING)))
            watchers = [await V1.open(d, "chat") for _ in range(WATCHERS)]
            await asyncio.gather(self.killer(d, random.Random(number)),
                                 *(self.asker(d) for _ in range(ASKERS)),
                                 *(self.comer(d) for _ in range(COMERS)))
            wait_until("the others are left", lambda: len(listed(d)) == STAYING + WATCHERS)
            d.publish("chat", '"mark"')
            tapes = [await self.told(c) for c in watchers]
            # All hear the same, from their own join on at the latest.
            for c, tape in zip(watchers, tapes):
                self.assertIn(("join", c.hello["client"]), tape)
                self.assertEqual(tape, tapes[0][len(tapes[0]) - len(tape):])
            self.check(tapes[0], watchers)
            for c in watchers:
                await c.close()

        run(go())
        print("%d kills, %d answers and %d refusals, %d closed inside a request; "
              "%d came and went, %d of them cut off" % (
                  KILLS, self.answers, self.refused, self.closed,
                  len(self.sure | self.unsure), len(self.unsure)))
        self.assertGreater(self.answers, KILLS)
        self.assertGreater(len(self.sure), KILLS)
        self.assertGreater(d.counter("blocked"), 0)
        self.assertLess(self.closed + len(self.unsure), KILLS * (ASKERS + COMERS) / 2)


if __name__ == "__main__":
    unittest.main()
