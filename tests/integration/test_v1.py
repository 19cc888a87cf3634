"""wscast.v1 as wscast(7) has it: each request, its answer, and each refusal."""

import asyncio
import json
import os
import sys
import unittest

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
import websockets
from harness import Case
from wsclient import V1, close_code, run, send_text, soon

OPEN = {"channel shut": {"subscribe": "nobody", "publish": "nobody"},
        "channel *": {"publish": "anyone"}}


class Protocol(Case):
    """One daemon with the embedded feed for each test; what a test does is a coroutine."""

    def session(self, body, settings=None, channels=()):
        d = self.daemon(dict(OPEN, **(settings or {})))

        async def go():
            v1 = await V1.open(d, *channels)
            await body(d, v1)
            if v1.ws.close_code is None:
                # Nothing came that was not looked at.
                await v1.ok(ping={})
                self.assertEqual(v1.events, [])
            await v1.close()

        run(go())
        d.stop()

    def test_hello_names_client_epoch_and_ping(self):
        async def body(d, v1):
            self.assertEqual(set(v1.hello), {"client", "epoch", "ping"})
            self.assertIsInstance(v1.hello["client"], str)
            self.assertEqual(v1.hello["epoch"], d.status()["epoch"])
            self.assertEqual(v1.hello["ping"], 25)
            other = await V1.open(d)
            self.assertNotEqual(other.hello["client"], v1.hello["client"])
            await other.close()

        self.session(body, {"limits": {"ping_interval": "25s"}})

    def test_subscribe_is_answered_with_place(self):
        async def body(d, v1):
            ok = await v1.ok(subscribe="news")
            self.assertEqual(set(ok), {"channel", "epoch", "offset"})
            self.assertEqual((ok["channel"], ok["epoch"]), ("news", v1.hello["epoch"]))
            self.assertIsInstance(ok["offset"], int)
            for n in range(3):
                d.publish("news", '{"n":%d}' % n)
                self.assertEqual(await v1.event(), {
                    "channel": "news", "offset": ok["offset"] + 1 + n, "data": {"n": n}})
            late = await V1.open(d)
            self.assertEqual((await late.ok(subscribe="news"))["offset"], ok["offset"] + 3)
            await late.close()

        self.session(body)

    def test_subscribe_twice_is_answered_and_changes_nothing(self):
        async def body(d, v1):
            first = await v1.ok(subscribe="news")
            self.assertEqual(await v1.ok(subscribe="news"), first)
            d.publish("news", "1")
            self.assertEqual((await v1.event())["data"], 1)
            self.assertEqual(d.status()["subscriptions"], 1)
            await v1.ok(unsubscribe="news")
            d.publish("news", "2")

        self.session(body)

    def test_unsubscribe_ends_the_messages(self):
        async def body(d, v1):
            other = await V1.open(d, "news")
            self.assertEqual(await v1.ok(unsubscribe="news"), {})
            d.publish("news", "1")
            d.publish("olds", "2")
            self.assertEqual((await v1.event())["data"], 2)
            self.assertEqual((await other.event())["data"], 1)
            await v1.error(unsubscribe="news")  # it no longer is subscribed
            await v1.ok(subscribe="news")
            d.publish("news", "3")
            self.assertEqual((await v1.event())["data"], 3)
            await other.close()

        self.session(body, channels=("news", "olds"))

    def test_publish_carries_any_json(self):
        async def body(d, v1):
            for data in [None, True, 0, -1.5, "", "\u00fc\x00\U0001f600", [], {},
                         {"deep": [[[{"x": "\\\""}]]]}, "x" * 5000]:
                self.assertEqual(await v1.ok(publish="chat", data=data), {})
                self.assertEqual((await v1.event())["data"], data)

        self.session(body, channels=("chat",))

    def test_publish_keeps_the_text_of_data(self):
        """Numbers that no double holds, and spaces, go through as they are written."""
        async def body(d, v1):
            await v1.ws.send('{"publish":"chat","data": [12345678901234567890, 1.00, "\\u0041"] ,"id":"k"}')
            frames = [await soon(v1.ws.recv()), await soon(v1.ws.recv())]
            shown = [f for f in frames if "channel" in f][0]
            self.assertIn('12345678901234567890', shown)
            self.assertIn('1.00', shown)
            self.assertIn({"id": "k", "ok": {}}, [json.loads(f) for f in frames])

        self.session(body, channels=("chat",))

    def test_id_is_echoed_as_it_was(self):
        async def body(d, v1):
            for raw in ['0', '-1', '1.5', '12345678901234567890', '"a"', '""', '"\\u00fc\\n"',
                        '1e3', '"%s"' % ("i" * 62)]:
                await v1.ws.send('{"id":%s,"ping":{}}' % raw)
                answer = json.loads(await soon(v1.ws.recv()))
                self.assertEqual(answer, {"id": json.loads(raw), "ok": {}})

        self.session(body)

    def test_id_absent_means_no_answer(self):
        async def body(d, v1):
            await v1.send(subscribe="news")
            await v1.send(ping={})
            await v1.send(unsubscribe="never was")
            await v1.send(publish="news", data=7)
            # What was asked without an id held all the same.
            self.assertEqual((await v1.recv())["data"], 7)
            await v1.send(unsubscribe="news")

        self.session(body)

    def test_errors_have_their_codes(self):
        async def body(d, v1):
            self.assertEqual(await v1.error(subscribe="shut"), "forbidden")
            self.assertEqual(await v1.error(publish="shut", data=1), "forbidden")
            self.assertEqual(await v1.error(unsubscribe="news"), "not_found")
            self.assertEqual(await v1.error(subscribe=""), "bad_request")
            self.assertEqual(await v1.error(subscribe="x" * 201), "bad_request")
            self.assertEqual(await v1.error(subscribe="a\x01b"), "bad_request")
            self.assertEqual(await v1.error(subscribe=5), "bad_request")
            self.assertEqual(await v1.error(publish="chat"), "bad_request")
            self.assertEqual(await v1.error(publish=["chat"], data=1), "bad_request")
            self.assertEqual(await v1.error(nonsense=1), "bad_request")
            self.assertEqual(await v1.error(), "bad_request")
            self.assertEqual(await v1.error(subscribe="a", since=5), "bad_request")
            await v1.ok(subscribe="x" * 200)
            await v1.ok(subscribe="\u00fc" * 100)

        self.session(body)

    def test_garbage_is_answered_or_closed(self):
        """Text that is no JSON object, and binary: a bad_request without id, or a close
        with a code that says so; the server and the others live on."""
        async def body(d, v1):
            for junk in ["", "no json", "[1]", '"x"', '{"id":1', "{" * 5000, '{"id":{},"ping":{}}',
                         '{"id":null,"ping":{}}', b"\x00\x01", '{"ping":{}}{"ping":{}}']:
                one = await V1.open(d)
                await one.ws.send(junk)
                if one.ws.close_code is None:
                    try:
                        msg = await one.ask(ping={})
                        self.assertIn("ok", msg)
                        for event in one.events:
                            self.assertEqual(event["error"]["code"], "bad_request", junk)
                    except websockets.ConnectionClosed:
                        self.assertIn(one.ws.close_code, (1002, 1003, 1007, 1008), junk)
                await one.close()

        self.session(body)

    def test_broken_utf8_closes_with_1007(self):
        async def body(d, v1):
            one = await V1.open(d)
            await send_text(one.ws, b'{"id":1,"ping":"\xff"}')
            self.assertEqual(await close_code(one.ws), 1007)

        self.session(body)

    def test_since_now_recovers_nothing(self):
        async def body(d, v1):
            ok = await v1.ok(subscribe="news")
            other = await V1.open(d)
            place = {"epoch": ok["epoch"], "offset": ok["offset"]}
            again = await other.ok(subscribe="news", since=place)
            self.assertEqual(again, dict(ok, recovered=True))
            d.publish("news", "1")
            self.assertEqual((await other.event())["data"], 1)
            self.assertEqual((await v1.event())["data"], 1)
            await other.close()

        self.session(body)

    def test_since_brings_what_was_missed_in_order(self):
        async def body(d, v1):
            ok = await v1.ok(subscribe="news")
            for n in range(50):
                d.publish("news", str(n))
                d.publish("noise", "not news")
                await v1.event()
            for had in (0, 1, 25, 49, 50):
                late = await V1.open(d)
                place = {"epoch": ok["epoch"], "offset": ok["offset"] + had}
                got = await late.ok(subscribe="news", since=place)
                self.assertEqual(got, {"channel": "news", "epoch": ok["epoch"],
                                       "offset": ok["offset"] + 50, "recovered": True})
                for n in range(had, 50):
                    self.assertEqual(await late.event(), {
                        "channel": "news", "offset": ok["offset"] + n + 1, "data": n})
                await late.ok(ping={})
                self.assertEqual(late.events, [])
                await late.close()

        self.session(body)

    def test_since_while_it_flows_has_no_seam(self):
        """Published all the while: what is recovered and what comes live join exactly."""
        async def body(d, v1):
            ok = await v1.ok(subscribe="news")
            await v1.ok(subscribe="noise")
            flowing = True

            async def flow():
                while flowing:
                    await asyncio.gather(*[v1.send(publish="news", data="x" * 50)
                                           for _ in range(20)])
                    await asyncio.sleep(0.005)

            task = asyncio.ensure_future(flow())
            had = ok["offset"]
            for _ in range(20):
                one = await V1.open(d)
                got = await one.ok(subscribe="news", since={"epoch": ok["epoch"], "offset": had})
                self.assertIs(got["recovered"], True)
                for k in range(max(200, got["offset"] - had + 50)):
                    self.assertEqual((await one.event())["offset"], had + 1 + k)
                had = had + 1 + k
                await one.close()
            flowing = False
            await task
            v1.events.clear()
            await v1.ok(unsubscribe="news")
            await v1.ok(ping={})
            v1.events.clear()

        self.session(body)

    def test_since_of_another_epoch_is_not_recovered(self):
        async def body(d, v1):
            ok = await v1.ok(subscribe="news")
            d.publish("news", "1")
            await v1.event()
            other = await V1.open(d)
            got = await other.ok(subscribe="news", since={"epoch": "another", "offset": 5})
            self.assertIs(got["recovered"], False)
            self.assertIsNone(got["missed"])
            self.assertEqual(got["offset"], ok["offset"] + 1)
            d.publish("news", "2")
            self.assertEqual((await other.event())["data"], 2)
            self.assertEqual((await v1.event())["data"], 2)
            await other.close()

        self.session(body)

    def test_since_out_of_the_ring_says_how_many_are_missed(self):
        """A ring of 1 MiB, and 4 MiB published since: the oldest cannot be had."""
        async def body(d, v1):
            ok = await v1.ok(subscribe="news")
            for n in range(80):
                d.publish("news", json.dumps({"n": n, "f": "x" * 50000}))
                await v1.event()
            other = await V1.open(d)
            got = await other.ok(subscribe="news",
                                 since={"epoch": ok["epoch"], "offset": ok["offset"]})
            self.assertIs(got["recovered"], False)
            self.assertEqual(got["offset"], ok["offset"] + 80)
            missed = got["missed"]
            self.assertTrue(0 < missed < 80, missed)
            # The rest comes: those that are missed, and no other, are the oldest.
            for n in range(missed, 80):
                msg = await other.event()
                self.assertEqual((msg["offset"], msg["data"]["n"]), (ok["offset"] + 1 + n, n))
            d.publish("news", '"live"')
            self.assertEqual((await other.event())["data"], "live")
            self.assertEqual((await v1.event())["data"], "live")
            await other.close()

        self.session(body, {"ring": {"size": "1M"}})

    def test_requests_in_one_segment_are_all_answered(self):
        async def body(d, v1):
            await asyncio.gather(*[v1.send(id=n, ping={}) for n in range(500)])
            for n in range(500):
                self.assertEqual(await v1.recv(), {"id": n, "ok": {}})

        self.session(body)

    def test_channels_per_connection_is_a_limit(self):
        async def body(d, v1):
            for n in range(3):
                await v1.ok(subscribe="c%d" % n)
            self.assertEqual(await v1.error(subscribe="c3"), "limit")
            await v1.ok(subscribe="c1")  # it has that one
            await v1.ok(unsubscribe="c0")
            await v1.ok(subscribe="c3")

        self.session(body, {"limits": {"channels_per_connection": 3}})

    def test_message_too_long_closes_with_1009(self):
        async def body(d, v1):
            one = await V1.open(d)
            await one.ws.send('{"id":0,"ping":{}}'.ljust(1024))
            self.assertEqual(await one.recv(), {"id": 0, "ok": {}})
            await one.ws.send('{"id":0,"ping":{}}'.ljust(1025))
            self.assertEqual(await close_code(one.ws), 1009)
            # The same in fragments, none of which is too long.
            two = await V1.open(d)
            await two.ws.send(["x" * 600, "y" * 600])
            self.assertEqual(await close_code(two.ws), 1009)

        self.session(body, {"limits": {"max_message_size": 1024}})

    def test_ping_frames_are_answered(self):
        async def body(d, v1):
            for data in (b"", b"x" * 125, "text"):
                await soon(await v1.ws.ping(data), "pong")

        self.session(body)

    def test_server_pings_and_a_silent_client_is_closed(self):
        d = self.daemon({"limits": {"ping_interval": "1s", "pong_timeout": "4s"}})

        async def go():
            from fleet import upgrade
            good = await V1.open(d, "news")
            self.assertEqual(good.hello["ping"], 1)
            # A client that never answers a ping: its socket is closed, the good one's not.
            reader, writer = await asyncio.open_connection("127.0.0.1", d.port)
            writer.write(upgrade("/ws/news", False, d.port))
            data = await soon(reader.read(), "the end of a silent client")
            body = data[data.index(b"\r\n\r\n") + 4:]
            self.assertEqual(body[0], 0x89, "a ping comes first")
            writer.close()
            await good.ok(ping={})
            await good.close()

        run(go())
        d.stop()

    def test_close_is_answered(self):
        async def body(d, v1):
            for code in (1000, 1001, 4000):
                one = await V1.open(d, "news")
                await soon(one.ws.close(code), "the closing handshake")
                self.assertEqual(one.ws.close_code, code)

        self.session(body)


if __name__ == "__main__":
    unittest.main()
