"""Clients of an independent WebSocket library, python3-websockets, for the protocol."""

import asyncio
import json

import websockets

from harness import DEADLINE


async def soon(awaitable, what="an answer"):
    """Wait for it, but not for ever."""
    try:
        return await asyncio.wait_for(awaitable, DEADLINE)
    except asyncio.TimeoutError:
        raise AssertionError("never came: " + what) from None


async def connect(daemon, path, **kwargs):
    """A WebSocket; by default it offers no compression and takes large messages.
    ssl: a context, to come through TLS."""
    kwargs.setdefault("compression", None)
    kwargs.setdefault("max_size", 1 << 26)
    kwargs.setdefault("max_queue", None)
    kwargs.setdefault("ping_interval", None)
    kwargs.setdefault("close_timeout", 5)
    scheme = "wss" if kwargs.get("ssl") else "ws"
    return await soon(websockets.connect(
        "%s://%s%s" % (scheme, daemon.address, path), **kwargs), "the upgrade")


async def raw(daemon, *channels, **kwargs):
    """A raw client. One channel is named by the path, several by the query."""
    path = ("/ws/" + channels[0] if len(channels) == 1
            else "/ws?" + "&".join("channel=" + c for c in channels))
    return await connect(daemon, path, **kwargs)


class V1:
    """A wscast.v1 client: requests are numbered, what comes unasked waits in `events`."""

    def __init__(self, ws, hello):
        self.ws, self.hello = ws, hello["hello"]
        self.events = []
        self.next = 0

    @classmethod
    async def open(cls, daemon, *channels, **kwargs):
        ws = await connect(daemon, "/ws", subprotocols=["wscast.v1"], **kwargs)
        assert ws.subprotocol == "wscast.v1", ws.subprotocol
        self = cls(ws, json.loads(await soon(ws.recv(), "hello")))
        for channel in channels:
            await self.ok(subscribe=channel)
        return self

    async def send(self, **request):
        await self.ws.send(json.dumps(request))

    async def recv(self):
        """The next message, whatever it is."""
        return json.loads(await soon(self.ws.recv(), "a message"))

    async def ask(self, **request):
        """Send with an id of its own; the answer to it."""
        self.next += 1
        request.setdefault("id", self.next)
        await self.send(**request)
        while True:
            msg = await self.recv()
            if msg.get("id") == request["id"]:
                return msg
            self.events.append(msg)

    async def ok(self, **request):
        msg = await self.ask(**request)
        assert "ok" in msg, msg
        return msg["ok"]

    async def error(self, **request):
        """The code with which a request is refused."""
        msg = await self.ask(**request)
        assert "error" in msg, msg
        assert isinstance(msg["error"]["message"], str) and msg["error"]["message"], msg
        return msg["error"]["code"]

    async def event(self):
        """The next message that answers no request."""
        return self.events.pop(0) if self.events else await self.recv()

    async def close(self):
        await self.ws.close()


async def send_text(ws, data):
    """A text message of these bytes, be they UTF-8 or not."""
    if hasattr(ws, "write_frame"):  # python3-websockets before 13
        await ws.write_frame(True, 1, data)
    else:
        await ws.send(data, text=True)


async def close_code(ws):
    """Read until the server closes; the code it gave."""
    try:
        while True:
            await soon(ws.recv(), "the close")
    except websockets.ConnectionClosed:
        return ws.close_code


def run(coroutine):
    return asyncio.run(coroutine)
