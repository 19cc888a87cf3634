"""Closing: codes, reasons, both sides first, and what comes behind.

Source  RFC 6455 §5.5.1, §7; the registry of close codes (1012 to 1014)
"""

from cases_frames import fails, filler
from cases_text import CUT, INVALID, VALID
from conform import Case, closed, pong, text
from wire import BINARY, CLOSE, PING, PONG, TEXT, close, fragments, frame, request

GOOD_CODES = (1000, 1001, 1002, 1003, 1007, 1008, 1009, 1010, 1011, 1012, 1013, 1014, 3000,
              3001, 3999, 4000, 4001, 4999)
BAD_CODES = (0, 1, 2, 125, 999, 1004, 1005, 1006, 1015, 1016, 1017, 1100, 1999, 2000, 2999, 5000,
             9999, 32767, 65535)
PUBLISH = request("/ws/nobody-may-publish")  # a message there ends it with 1008
HELLO = frame(TEXT, b"hello")


def answered(name, rule, send, code, **kwargs):
    return Case(name, rule, send, [closed(code)], ends=True, **kwargs)


def codes():
    for code in GOOD_CODES:
        yield answered("close_%d" % code, "7.4 good codes", close(code), code)
        yield answered("close_%d_with_reason" % code, "7.4 good codes", close(code, b"because"), code)
    for code in BAD_CODES:
        yield answered("close_%d" % code, "7.4 bad codes", close(code), 1002)
        yield answered("close_%d_with_reason" % code, "7.4 bad codes", close(code, b"because"), 1002)
    yield answered("close_without_code", "5.5.1 may be empty", close(), 1000)
    for byte in (b"\0", b"\x03", b"\xe8", b"\xff"):
        yield answered("close_of_one_byte_%s" % byte.hex(), "5.5.1 two bytes of code",
                       frame(CLOSE, byte), 1002)


def reasons():
    for n in (1, 2, 122, 123):
        yield answered("close_reason_of_%d" % n, "5.5 125 bytes in all", close(1000, filler(n)), 1000)
    yield answered("close_reason_of_124", "5.5 125 bytes in all", close(1000, filler(124)), 1002)
    for name, word in VALID.items():
        yield answered("close_reason_" + name, "5.5.1 UTF-8", close(1000, word.encode("utf-8")), 1000)
    for name, bad in INVALID.items():
        yield answered("close_reason_bad_" + name, "8.1 UTF-8", close(1000, b"x" + bad), 1007)
    for name, cut in CUT.items():
        yield answered("close_reason_cut_" + name, "8.1 UTF-8", close(1000, b"x" + cut), 1007)


def behind():
    """What comes behind a Close frame is not looked at. §5.5.1, §7.1.1"""
    rule = "5.5.1 nothing behind a Close frame counts"
    for name, more in (("text", HELLO), ("binary", frame(BINARY, b"\xff")), ("ping", frame(PING, b"p")),
                       ("pong", frame(PONG)), ("close", close(1001)), ("close_again", close(1000)),
                       ("garbage", bytes(range(256)) * 8), ("unmasked", frame(TEXT, b"x", mask=None)),
                       ("half_a_frame", HELLO[:4]), ("continuation", frame(0, b"x")),
                       ("much", frame(BINARY, filler(150000)))):
        yield answered("close_then_" + name, rule, close(1000) + more, 1000)
        yield answered("close_bad_then_" + name, rule, close(1005) + more, 1002)
        yield fails("breach_then_" + name, "7.1.7 nothing behind it counts", frame(3) + more)
    yield Case("text_then_close_then_text", rule, HELLO + close(1001) + HELLO,
               [text("hello"), closed(1001)], ends=True)
    yield Case("ping_then_close_then_ping", rule, frame(PING, b"p") + close(1001) + frame(PING, b"q"),
               [pong(b"p"), closed(1001)], ends=True)
    yield Case("fragments_then_close_then_the_last", rule,
               frame(TEXT, b"a", fin=False) + close(1000) + frame(0, b"b"), [closed(1000)], ends=True)
    yield Case("large_then_close", "7.1.6 what was sent before is answered",
               frame(TEXT, filler(190000)) + close(1000), [text(filler(190000)), closed(1000)], ends=True)


def server_first():
    """The server closes: it waits for our Close frame, then ends the connection."""
    for name, reply in (("same_code", close(1008)), ("other_code", close(1000)), ("no_code", close()),
                        ("reason", close(1008, b"so be it")), ("bad_code", close(1005)),
                        ("messages_before", HELLO * 20 + close(1008)),
                        ("pings_before", frame(PING, b"p") * 20 + close(1008)),
                        ("fragments_before", fragments(TEXT, [b"a", b"b"]) + close(1008)),
                        ("breach", frame(3, b"x")), ("garbage", b"\xff" * 100),
                        ("bad_utf8", frame(TEXT, b"\xff"))):
        yield Case("server_closes_and_gets_" + name, "7.1.2 and 7.1.4", HELLO, [closed(1008)],
                   ends=True, ask=PUBLISH, reply=reply)
    yield Case("server_closes_and_gets_nothing", "7.1.1 closed after a time", HELLO, [closed(1008)],
               ends=True, ask=PUBLISH)
    yield Case("server_closes_and_gets_the_end", "7.1.5 the socket's end is enough", HELLO,
               [closed(1008)], ends=True, ask=PUBLISH, half=True)


def halves():
    """The TCP connection ends without a Close frame. §7.1.5"""
    for name, send, frames in (("at_once", b"", []), ("behind_text", HELLO, [text("hello")]),
                               ("in_a_head", HELLO[:1], []), ("in_a_mask", HELLO[:4], []),
                               ("in_a_payload", HELLO[:-1], []),
                               ("in_a_message", frame(TEXT, b"a", fin=False), [])):
        yield Case("half_closed_" + name, "7.1.5 no Close frame came", send, frames, ends=True, half=True)
    yield Case("half_closed_behind_close", "7.1.2", close(1000), [closed(1000)], ends=True, half=True)


def cases():
    for group in (codes, reasons, behind, server_first, halves):
        yield from group()
