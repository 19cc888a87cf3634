"""Frames: lengths, masks, reserved bits and opcodes, control frames, fragments.

Source  RFC 6455 §5
"""

from conform import Case, binary, closed, pong, text
from wire import BINARY, CLOSE, CONT, MASK, NAMES, PING, PONG, TEXT, close, fragments, frame

DATA = (TEXT, BINARY)
CONTROL = (CLOSE, PING, PONG)
RESERVED = (3, 4, 5, 6, 7, 11, 12, 13, 14, 15)
SIZES = (0, 1, 2, 124, 125, 126, 127, 128, 255, 256, 4095, 4096, 4097, 65534, 65535,
         65536, 65537, 131072, 199999)
ECHO_MAX = 200000  # of the server "echo"
SMALL_MAX = 1000  # of the server "small"
TINY_MAX = 10  # of the server "tiny"


def fails(name, rule, send, frames=(), code=1002, **kwargs):
    """A breach: what came before it is answered, then the server closes."""
    return Case(name, rule, send, list(frames) + [closed(code)], ends=True, **kwargs)


def filler(n):
    """n bytes of ASCII that differ from place to place."""
    return b"".join(b"%07d " % i for i in range(0, n + 8, 8))[:n]


def lengths():
    for op in DATA:
        for n in SIZES:
            yield Case("%s_of_%d_bytes" % (NAMES[op], n), "5.2 payload length",
                       frame(op, filler(n)), [(op, filler(n))])
        for form, sizes in ((2, (0, 1, 125)), (8, (0, 1, 125, 126, 65535))):
            for n in sizes:
                yield fails("%s_of_%d_with_length_in_%d_bytes" % (NAMES[op], n, form),
                            "5.2 the minimal number of bytes", frame(op, filler(n), form=form))
        for n in (1 << 63, (1 << 64) - 1):
            yield fails("%s_with_length_%x" % (NAMES[op], n),
                        "5.2 the most significant bit must be 0",
                        frame(op, b"x", form=8, length=n))
        for n in (ECHO_MAX + 1, 1 << 32, 1 << 40, (1 << 63) - 1):
            yield fails("%s_that_claims_%d_bytes" % (NAMES[op], n), "7.4.1 1009, at its head",
                        frame(op, b"x", form=8, length=n), code=1009)
        yield Case("%s_of_all_it_may_have" % NAMES[op], "max_message_size",
                   frame(op, filler(ECHO_MAX)), [(op, filler(ECHO_MAX))])
    for op in CONTROL:
        for form in (2, 8):
            for n in (0, 2, 125):
                yield fails("%s_of_%d_with_length_in_%d_bytes" % (NAMES[op], n, form),
                            "5.5 7 bits of length", frame(op, b"\x03\xe8"[:n].ljust(n), form=form))
    yield fails("continuation_of_5_with_length_in_8_bytes", "5.2 the minimal number of bytes",
                frame(TEXT, b"a", fin=False) + frame(CONT, b"hello", form=8))


def masks():
    for mask in (b"\0\0\0\0", b"\xff\xff\xff\xff", b"\x80\0\0\x01", MASK):
        for n in (1, 3, 4, 5, 130):
            yield Case("mask_%s_over_%d" % (mask.hex(), n), "5.3 masking",
                       frame(TEXT, filler(n), mask=mask), [text(filler(n))])
    yield Case("mask_anew_in_each_fragment", "5.3 a new key for each frame",
               frame(TEXT, b"abcde", fin=False, mask=b"abcd") + frame(CONT, b"fghij", mask=b"\1\2\3\4"),
               [text("abcdefghij")])
    bare = dict(mask=None)
    for op in DATA + CONTROL:
        for n in (0, 2, 5, 125):
            payload = (b"\x03\xe8" if op == CLOSE else b"") + filler(n)
            yield fails("unmasked_%s_of_%d" % (NAMES[op], n), "5.1 unmasked: close",
                        frame(op, payload[:n], **bare))
    yield fails("unmasked_text_of_200", "5.1 unmasked: close", frame(TEXT, filler(200), **bare))
    yield fails("unmasked_text_of_70000", "5.1 unmasked: close", frame(TEXT, filler(70000), **bare))
    yield fails("unmasked_continuation", "5.1 unmasked: close",
                frame(TEXT, b"a", fin=False) + frame(CONT, b"b", **bare))
    yield fails("unmasked_behind_a_masked_one", "5.1 unmasked: close",
                frame(TEXT, b"a") + frame(TEXT, b"b", **bare), [text("a")])
    yield fails("unmasked_ping_in_a_message", "5.1 unmasked: close",
                frame(TEXT, b"a", fin=False) + frame(PING, b"b", **bare))


def reserved():
    for rsv in range(1, 8):
        for op in DATA + CONTROL:
            payload = b"\x03\xe8" if op == CLOSE else b"hello"
            yield fails("rsv%d_%s" % (rsv, NAMES[op]), "5.2 RSV without an extension",
                        frame(op, payload, rsv=rsv))
        yield fails("rsv%d_continuation" % rsv, "5.2 RSV without an extension",
                    frame(TEXT, b"a", fin=False) + frame(CONT, b"b", rsv=rsv))
        yield fails("rsv%d_empty_text" % rsv, "5.2 RSV without an extension",
                    frame(TEXT, rsv=rsv))
        yield fails("rsv%d_behind_a_good_one" % rsv, "5.2 RSV without an extension",
                    frame(TEXT, b"a") + frame(TEXT, b"b", rsv=rsv) + frame(PING), [text("a")])
    for op in RESERVED:
        yield fails("opcode_%d" % op, "5.2 reserved opcodes", frame(op, b"hello"))
        yield fails("opcode_%d_empty" % op, "5.2 reserved opcodes", frame(op))
        yield fails("opcode_%d_not_final" % op, "5.2 reserved opcodes",
                    frame(op, b"a", fin=False))
        yield fails("opcode_%d_in_a_message" % op, "5.2 reserved opcodes",
                    frame(TEXT, b"a", fin=False) + frame(op, b"b") + frame(CONT, b"c"))
        yield fails("opcode_%d_behind_a_good_one" % op, "5.2 reserved opcodes",
                    frame(TEXT, b"a") + frame(op, b"b") + frame(PING), [text("a")])


def control():
    for op in CONTROL:
        payload = b"\x03\xe8" if op == CLOSE else b""
        for n in (126, 127, 65536):
            yield fails("%s_of_%d" % (NAMES[op], n), "5.5 125 bytes at most",
                        frame(op, payload + filler(n - len(payload))))
        yield fails("%s_not_final" % NAMES[op], "5.5 never fragmented",
                    frame(op, payload, fin=False) + frame(CONT, b""))
        yield fails("%s_not_final_in_a_message" % NAMES[op], "5.5 never fragmented",
                    frame(TEXT, b"a", fin=False) + frame(op, payload, fin=False))
    for n in (0, 1, 2, 124, 125):
        yield Case("ping_of_%d" % n, "5.5.3 the same payload", frame(PING, filler(n)),
                   [pong(filler(n))])
        yield Case("pong_of_%d_unasked" % n, "5.5.3 no answer", frame(PONG, filler(n)))
        yield Case("pong_of_%d_in_a_message" % n, "5.5.3 no answer",
                   frame(TEXT, b"a", fin=False) + frame(PONG, filler(n)) + frame(CONT, b"b"),
                   [text("ab")])
    every = bytes(range(125))
    yield Case("ping_is_no_text", "5.5.2 any bytes", frame(PING, b"\xff\xfe\x00\xc0"),
               [pong(b"\xff\xfe\x00\xc0")])
    yield Case("ping_of_many_bytes", "5.5.2 any bytes", frame(PING, every), [pong(every)])
    yield Case("ping_before_text", "5.5.2 answered in its place",
               frame(PING, b"p") + frame(TEXT, b"t"), [pong(b"p"), text("t")])
    yield Case("ping_behind_text", "5.5.2 answered in its place",
               frame(TEXT, b"t") + frame(PING, b"p"), [text("t"), pong(b"p")])
    yield Case("pings_and_texts", "5.5.2 answered in their place",
               b"".join(frame(PING, b"p%d" % i) + frame(TEXT, b"t%d" % i) for i in range(30)),
               [f for i in range(30) for f in (pong(b"p%d" % i), text("t%d" % i))])
    yield Case("pings_ten", "5.5.2 answered as soon as practical",
               b"".join(frame(PING, b"payload-%d" % i) for i in range(10)),
               [pong(b"payload-%d" % i) for i in range(10)])
    yield Case("pings_500", "5.5.2 answered as soon as practical",
               b"".join(frame(PING, b"%d" % i) for i in range(500)),
               [pong(b"%d" % i) for i in range(500)])
    yield Case("pings_500_long", "5.5.2 answered as soon as practical",
               b"".join(frame(PING, filler(120) + b"%d" % i) for i in range(500)),
               [pong(filler(120) + b"%d" % i) for i in range(500)])
    yield Case("ping_before_close", "5.5.2 no Close came before it", frame(PING, b"p"),
               [pong(b"p")])
    yield fails("ping_before_a_breach", "5.5.2 answered", frame(PING, b"p") + frame(3), [pong(b"p")])


def fragmented():
    for op in DATA:
        name = NAMES[op]
        for what, parts in (
                ("2", [b"Hel", b"lo"]),
                ("3", [b"a", b"b", b"c"]),
                ("100_of_1_byte", [b"%d" % (i % 10) for i in range(100)]),
                ("1000_of_1_byte", [b"%d" % (i % 10) for i in range(1000)]),
                ("first_empty", [b"", b"abc"]),
                ("middle_empty", [b"ab", b"", b"c"]),
                ("last_empty", [b"abc", b""]),
                ("all_empty", [b"", b"", b""]),
                ("20_empty_around_one", [b""] * 10 + [b"x"] + [b""] * 10),
                ("long_and_short", [filler(126), b"x", filler(65536), b"y", filler(125)])):
            whole = b"".join(parts)
            yield Case("%s_fragments_%s" % (name, what), "5.4 fragments are joined",
                       fragments(op, parts), [(op, whole)])
        yield Case(name + "_fragments_with_pings", "5.4 control frames in between",
                   fragments(op, [b"a", b"b", b"c", b"d"], between=frame(PING, b"x")),
                   [pong(b"x")] * 3 + [(op, b"abcd")])
        yield Case(name + "_fragments_with_long_pings", "5.4 control frames in between",
                   fragments(op, [b"a", b"", b"c"], between=frame(PING, filler(125))),
                   [pong(filler(125))] * 2 + [(op, b"ac")])
        yield Case(name + "_fragments_with_empty_pings_and_pongs", "5.4 control frames in between",
                   fragments(op, [b"a", b"b"], between=frame(PING) + frame(PONG) + frame(PING)),
                   [pong()] * 2 + [(op, b"ab")])
        yield Case(name + "_fragments_then_whole", "5.4 the next message is another",
                   fragments(op, [b"a", b"b"]) + frame(op, b"c") + fragments(op, [b"d", b"e"]),
                   [(op, b"ab"), (op, b"c"), (op, b"de")])
        for other in DATA:
            yield fails("%s_in_a_%s" % (NAMES[other], name), "5.4 no message in a message",
                        frame(op, b"a", fin=False) + frame(other, b"b"))
            yield fails("%s_fragment_in_a_%s" % (NAMES[other], name), "5.4 no message in a message",
                        frame(op, b"a", fin=False) + frame(other, b"b", fin=False) + frame(CONT, b"c"))
            yield fails("%s_in_an_empty_%s_fragment" % (NAMES[other], name), "5.4 no message in a message",
                        frame(op, fin=False) + frame(other))
        yield Case(name + "_close_in_a_message", "5.5.1 the message is lost",
                   frame(op, b"a", fin=False) + close(1000), [closed(1000)], ends=True)
        yield fails(name + "_then_continuation", "5.4 nothing to continue",
                    frame(op, b"a") + frame(CONT, b"b"), [(op, b"a")])
        yield fails(name + "_fragments_then_continuation", "5.4 nothing to continue",
                    fragments(op, [b"a", b"b"]) + frame(CONT, b"c", fin=False) + frame(op, b"d"),
                    [(op, b"ab")])
    for n in (0, 5):
        for fin in (True, False):
            yield fails("continuation_first_%d_%s" % (n, "final" if fin else "not_final"),
                        "5.4 nothing to continue", frame(CONT, filler(n), fin=fin))
    yield fails("continuation_behind_a_ping", "5.4 nothing to continue",
                frame(PING, b"p") + frame(CONT, b"c"), [pong(b"p")])


def sequences():
    yield Case("texts_100", "5.6", b"".join(frame(TEXT, b"%d" % i) for i in range(100)),
               [text("%d" % i) for i in range(100)])
    yield Case("texts_empty_50", "5.6", frame(TEXT) * 50, [text("")] * 50)
    yield Case("text_binary_text", "5.6", frame(TEXT, b"a") + frame(BINARY, b"\xff") + frame(TEXT, b"b"),
               [text("a"), binary(b"\xff"), text("b")])
    for op in DATA:
        big = filler(70000)
        yield Case("%s_large_between_small" % NAMES[op], "5.6",
                   frame(op, b"a") + frame(op, big) + frame(op, b"b") + frame(op, big),
                   [(op, b"a"), (op, big), (op, b"b"), (op, big)])
    yield Case("nothing_at_all", "7.1.1 closed at once")
    every = bytes(range(256))
    yield Case("binary_of_every_byte", "5.6 any bytes", frame(BINARY, every), [binary(every)])


def limits():
    for server, most in (("small", SMALL_MAX), ("tiny", TINY_MAX)):
        for op in DATA:
            name = "%s_%s" % (server, NAMES[op])
            full, half = filler(most), filler(most // 2)
            on = dict(server=server)
            yield Case(name + "_as_long_as_may_be", "max_message_size", frame(op, full),
                       [(op, full)], **on)
            yield Case(name + "_fragments_as_long_as_may_be", "max_message_size",
                       fragments(op, [half, half, b""]), [(op, half + half)], **on)
            yield Case(name + "_twice_as_long_as_may_be", "max_message_size is for one",
                       frame(op, full) * 2, [(op, full)] * 2, **on)
            yield fails(name + "_too_long", "7.4.1 1009", frame(op, full + b"x"), code=1009, **on)
            yield fails(name + "_too_long_behind_one", "7.4.1 1009",
                        frame(op, b"a") + frame(op, full + b"x"), [(op, b"a")], code=1009, **on)
            yield fails(name + "_too_long_in_2", "7.4.1 1009 over fragments",
                        fragments(op, [half, half + b"x"]), code=1009, **on)
            yield fails(name + "_too_long_in_2_not_final", "7.4.1 1009 over fragments",
                        fragments(op, [full, b"x"], fin=False), code=1009, **on)
            yield fails(name + "_too_long_by_single_bytes", "7.4.1 1009 over fragments",
                        fragments(op, [b"x"] * (most + 1)), code=1009, **on)
            yield Case(name + "_pings_do_not_count", "max_message_size is for messages",
                       fragments(op, [half, half], between=frame(PING, filler(125))),
                       [pong(filler(125)), (op, half + half)], **on)
    yield Case("tiny_close_does_not_count", "max_message_size is for messages",
               close(1000, filler(123)), [closed(1000)], ends=True, server="tiny")


def cases():
    for group in (lengths, masks, reserved, control, fragmented, sequences, limits):
        yield from group()
