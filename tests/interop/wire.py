"""Requests and frames byte by byte, right ones and wrong ones.

Source  RFC 6455 §4.1, §5.2
"""

import base64
import hashlib
import struct

CONT, TEXT, BINARY, CLOSE, PING, PONG = 0, 1, 2, 8, 9, 10
NAMES = {CONT: "continuation", TEXT: "text", BINARY: "binary", CLOSE: "close",
         PING: "ping", PONG: "pong"}
GUID = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
KEY = "dGhlIHNhbXBsZSBub25jZQ=="  # the RFC's own, §1.3
MASK = b"\x37\xfa\x21\x3d"


def accept_of(key):
    """Sec-WebSocket-Accept for a key."""
    return base64.b64encode(hashlib.sha1(key.encode() + GUID).digest()).decode()


def masked(payload, mask):
    """The payload under a mask, or off it."""
    n = len(payload)
    if n == 0:
        return b""
    key = (mask * (n // 4 + 1))[:n]
    return (int.from_bytes(payload, "big") ^ int.from_bytes(key, "big")).to_bytes(n, "big")


def frame(op, payload=b"", fin=True, rsv=0, mask=MASK, form=None, length=None):
    """A client's frame.

    mask    None leaves it unmasked
    form    bytes of the extended length: 0, 2 or 8; None is the shortest
    length  the length to claim in place of the payload's
    """
    n = len(payload) if length is None else length
    if form is None:
        form = 0 if n < 126 else 2 if n < 65536 else 8
    bit = 0x80 if mask is not None else 0
    head = bytes([(0x80 if fin else 0) | rsv << 4 | op])
    if form == 0:
        head += bytes([bit | n])
    elif form == 2:
        head += struct.pack(">BH", bit | 126, n)
    else:
        head += struct.pack(">BQ", bit | 127, n)
    if mask is None:
        return head + payload
    return head + mask + masked(payload, mask)


def close(code=None, reason=b"", **kwargs):
    """A client's Close frame; without a code it is empty."""
    payload = b"" if code is None else struct.pack(">H", code) + reason
    return frame(CLOSE, payload, **kwargs)


def fragments(op, parts, fin=True, between=b""):
    """A message in several frames, with other bytes between them."""
    out = []
    for i, part in enumerate(parts):
        last = i == len(parts) - 1
        out.append(frame(op if i == 0 else CONT, part, fin=fin and last))
    return between.join(out)


def request(target="/echo", method="GET", version="HTTP/1.1", drop=(), first=None, **headers):
    """An upgrade.

    drop     names of headers to leave out
    first    the whole first line, in place of the three above
    headers  in place of the usual ones, or beside them (_ for -). A list gives a line
             for each of its values; bytes are taken as they are.
    """
    lines = {"Host": "wscast.example", "Upgrade": "websocket", "Connection": "Upgrade",
             "Sec-WebSocket-Key": KEY, "Sec-WebSocket-Version": "13"}
    lines.update({k.replace("_", "-"): v for k, v in headers.items()})
    out = [first if first is not None
           else ("%s %s %s" % (method, target, version)).encode("latin-1")]
    for name, values in lines.items():
        if name in drop:
            continue
        for value in values if isinstance(values, list) else [values]:
            value = value if isinstance(value, bytes) else value.encode("latin-1")
            out.append(name.encode() + b": " + value)
    return b"\r\n".join(out) + b"\r\n\r\n"


class Broken(AssertionError):
    """The server sent what no server may send."""


def take_frames(data):
    """All that a server sent behind its 101, as (opcode, payload) pairs. A server's
    frame that is masked, fragmented, cut or not written the shortest way is Broken."""
    out, at = [], 0
    while at < len(data):
        if len(data) - at < 2:
            raise Broken("cut inside a frame's head: %r" % data[at:])
        first, n = data[at], data[at + 1]
        head = 2
        if n & 0x80:
            raise Broken("a masked frame: %r" % data[at : at + 20])
        if n >= 126:
            head = 4 if n == 126 else 10
            n = int.from_bytes(data[at + 2 : at + head], "big")
            if n < (126 if head == 4 else 65536):
                raise Broken("a length in too many bytes: %r" % data[at : at + 20])
        if first & 0xF0 != 0x80:
            raise Broken("a fragment, or RSV set: %r" % data[at : at + 20])
        if len(data) < at + head + n:
            raise Broken("cut inside a frame: %r" % data[at : at + 20])
        out.append((first & 0x0F, bytes(data[at + head : at + head + n])))
        at += head + n
    return out


def take_reply(data):
    """(status, headers, the bytes behind the head), or None while it is not whole.
    headers: a list of (lower-case name, value)."""
    end = data.find(b"\r\n\r\n")
    if end < 0:
        return None
    lines = data[:end].decode("latin-1").split("\r\n")
    version, status, _ = lines[0].split(" ", 2)
    if version != "HTTP/1.1":
        raise Broken("not HTTP/1.1: %r" % lines[0])
    headers = [tuple(part.strip() for part in line.split(":", 1)) for line in lines[1:]]
    return int(status), [(k.lower(), v) for k, v in headers], bytes(data[end + 4 :])
