"""permessage-deflate: what is agreed on, and deflated messages, right ones and wrong ones.

Source  RFC 7692 §5 to §7; RFC 6455 §9.1; RFC 1951 §3.2.3
"""

import random
import zlib

from conform import Case, binary, closed, pong, text
from wire import BINARY, CONT, NAMES, PING, PONG, TEXT, close, fragments, frame, request

ECHO_MAX = 200000  # of the server "echo"
SMALL_MAX = 1000  # of the server "small"
RSV1, RSV2, RSV3 = 4, 2, 1
TAIL = b"\x00\x00\xff\xff"
HELLO = b"\xf2\x48\xcd\xc9\xc9\x07\x00"  # §7.2.3.1
AGREED = "permessage-deflate; server_no_context_takeover; client_no_context_takeover"

GOOD_OFFERS = {
    "bare": ("permessage-deflate", ""),
    "client_reset": ("permessage-deflate; client_no_context_takeover", ""),
    "server_reset": ("permessage-deflate; server_no_context_takeover", ""),
    "both_resets": ("permessage-deflate; client_no_context_takeover;"
                    " server_no_context_takeover", ""),
    "client_bits_without_value": ("permessage-deflate; client_max_window_bits", ""),
    "client_bits_8": ("permessage-deflate; client_max_window_bits=8",
                      "; client_max_window_bits=8"),
    "client_bits_15": ("permessage-deflate; client_max_window_bits=15",
                       "; client_max_window_bits=15"),
    "client_bits_quoted": ('permessage-deflate; client_max_window_bits="10"',
                           "; client_max_window_bits=10"),
    "client_bits_quoted_with_a_backslash": (
        'permessage-deflate; client_max_window_bits="1\\0"', "; client_max_window_bits=10"),
    "server_bits_15": ("permessage-deflate; server_max_window_bits=15",
                       "; server_max_window_bits=15"),
    "everything": ("permessage-deflate; server_no_context_takeover;"
                   " client_no_context_takeover; server_max_window_bits=15;"
                   " client_max_window_bits=12",
                   "; server_max_window_bits=15; client_max_window_bits=12"),
    "no_blanks": ("permessage-deflate;client_max_window_bits=9", "; client_max_window_bits=9"),
    "many_blanks": ("\tpermessage-deflate \t; client_max_window_bits",  ""),
    "behind_another_extension": ("x-unknown; a=1; b, permessage-deflate", ""),
    "behind_another_line": (["x-unknown", "permessage-deflate"], ""),
    "behind_an_empty_item": (", ,permessage-deflate,", ""),
    "second_when_first_wants_a_small_window": (
        "permessage-deflate; server_max_window_bits=10,"
        " permessage-deflate; client_max_window_bits=11", "; client_max_window_bits=11"),
    "second_when_first_is_unknown": (
        "permessage-deflate; mystery=1, permessage-deflate; client_max_window_bits=11",
        "; client_max_window_bits=11"),
    "second_when_first_is_twice": (
        "permessage-deflate; client_max_window_bits; client_max_window_bits,"
        " permessage-deflate; client_max_window_bits=11", "; client_max_window_bits=11"),
    "first_of_two": ("permessage-deflate; client_max_window_bits=11, permessage-deflate",
                     "; client_max_window_bits=11"),
}

# Well-formed, and not to be taken (§5.1, §7.1): the handshake goes on without.
PASSED_OVER = {
    "another_extension": "permessage-bzip2",
    "another_case": "Permessage-Deflate",
    "unknown_parameter": "permessage-deflate; mystery",
    "server_reset_with_value": "permessage-deflate; server_no_context_takeover=1",
    "client_reset_with_value": "permessage-deflate; client_no_context_takeover=true",
    "server_reset_twice": "permessage-deflate; server_no_context_takeover;"
                          " server_no_context_takeover",
    "client_reset_twice": "permessage-deflate; client_no_context_takeover;"
                          " client_no_context_takeover",
    "server_bits_twice": "permessage-deflate; server_max_window_bits=15;"
                         " server_max_window_bits=15",
    "client_bits_twice": "permessage-deflate; client_max_window_bits;"
                         " client_max_window_bits=10",
    "server_bits_without_value": "permessage-deflate; server_max_window_bits",
    "server_bits_8": "permessage-deflate; server_max_window_bits=8",
    "server_bits_14": "permessage-deflate; server_max_window_bits=14",
    "server_bits_16": "permessage-deflate; server_max_window_bits=16",
    "server_bits_015": "permessage-deflate; server_max_window_bits=015",
    "client_bits_7": "permessage-deflate; client_max_window_bits=7",
    "client_bits_16": "permessage-deflate; client_max_window_bits=16",
    "client_bits_08": "permessage-deflate; client_max_window_bits=08",
    "client_bits_0": "permessage-deflate; client_max_window_bits=0",
    "client_bits_negative": "permessage-deflate; client_max_window_bits=-8",
    "client_bits_hex": "permessage-deflate; client_max_window_bits=0xf",
    "client_bits_huge": "permessage-deflate; client_max_window_bits=" + "9" * 40,
}

AGAINST_GRAMMAR = {
    "semicolon_at_the_end": "permessage-deflate;",
    "two_semicolons": "permessage-deflate;; client_max_window_bits",
    "no_name": "=1",
    "parameter_without_name": "permessage-deflate; =15",
    "nothing_behind_equals": "permessage-deflate; client_max_window_bits=",
    "two_equals": "permessage-deflate; client_max_window_bits=1=5",
    "open_quote": 'permessage-deflate; client_max_window_bits="15',
    "empty_quotes": 'permessage-deflate; client_max_window_bits=""',
    "blank_in_quotes": 'permessage-deflate; client_max_window_bits="1 5"',
    "comma_in_quotes": 'permessage-deflate; client_max_window_bits="1,5"',
    "words_without_semicolon": "permessage-deflate client_max_window_bits",
    "a_slash": "permessage/deflate",
    "wrong_behind_a_right_one": "permessage-deflate, x;",
}


def offer(value="permessage-deflate"):
    return request(Sec_WebSocket_Extensions=value)


def packed(payload, level=6, bits=15, strategy=zlib.Z_DEFAULT_STRATEGY, mem=8,
           flush=zlib.Z_SYNC_FLUSH):
    """A message's bytes as they are sent (§7.2.1)."""
    z = zlib.compressobj(level, zlib.DEFLATED, -bits, mem, strategy)
    data = z.compress(payload) + z.flush(flush)
    assert data.endswith(TAIL)
    return data[:-4]


def blocks(payload, size):
    """A deflate block for each `size` bytes."""
    z = zlib.compressobj(6, zlib.DEFLATED, -15)
    out = b"".join(z.compress(payload[i : i + size]) + z.flush(zlib.Z_SYNC_FLUSH)
                   for i in range(0, len(payload), size))
    return out[:-4]


def filler(n):
    """n bytes of text that deflate to about a third."""
    rng = random.Random(n)
    return "".join(rng.choices("etaoin shrdlu", k=n)).encode()


def deflated(name, rule, send, frames=(), **kwargs):
    kwargs.setdefault("ask", offer())
    return Case("deflate_" + name, "RFC 7692 §" + rule, send, frames, **kwargs)


def fails(name, rule, send, code, frames=(), **kwargs):
    return deflated(name, rule, send, list(frames) + [closed(code)], ends=True, **kwargs)


def negotiation():
    for name, (value, more) in GOOD_OFFERS.items():
        yield deflated("offer_" + name, "5.1, 7.1", frame(TEXT, HELLO, rsv=RSV1),
                       [text("Hello")], ask=offer(value),
                       headers={"Sec-WebSocket-Extensions": AGREED + more})
    for name, value in PASSED_OVER.items():
        yield deflated("no_offer_" + name, "5.1, 7.1", frame(TEXT, b"plain"), [text("plain")],
                       ask=offer(value), headers={"Sec-WebSocket-Extensions": None})
    yield fails("rsv1_when_passed_over", "5.1", frame(TEXT, HELLO, rsv=RSV1), 1002,
                ask=offer("permessage-deflate; server_max_window_bits=9"))
    yield fails("rsv1_when_not_offered", "6", frame(TEXT, HELLO, rsv=RSV1), 1002,
                ask=request())
    for name, value in AGAINST_GRAMMAR.items():
        yield deflated("broken_offer_" + name, "5; RFC 6455 §9.1", ask=offer(value),
                       status=400, send=b"")


def examples():
    """§7.2.3"""
    for name, data in {
        "one_block": HELLO,
        "in_a_stored_block": b"\x00\x05\x00\xfa\xff\x48\x65\x6c\x6c\x6f\x00",
        "in_a_final_block": b"\xf3\x48\xcd\xc9\xc9\x07\x00\x00",
        "in_two_blocks": b"\xf2\x48\x05\x00\x00\x00\xff\xff\xca\xc9\xc9\x07\x00",
    }.items():
        yield deflated("hello_" + name, "7.2.3", frame(TEXT, data, rsv=RSV1), [text("Hello")])
    yield deflated("hello_in_two_frames", "7.2.3.1",
                   frame(TEXT, HELLO[:3], fin=False, rsv=RSV1) + frame(CONT, HELLO[3:]),
                   [text("Hello")])
    yield deflated("empty", "7.2.3.6", frame(TEXT, b"\x00", rsv=RSV1), [text("")])
    yield deflated("hello_twice", "7.1.1.2", frame(TEXT, HELLO, rsv=RSV1) * 2,
                   [text("Hello")] * 2)
    # §7.2.3.2: its second message lives on the first one's window, which was given up.
    yield fails("hello_from_the_window_before", "7.1.1.2",
                frame(TEXT, HELLO, rsv=RSV1) + frame(TEXT, b"\xf2\x00\x11\x00\x00", rsv=RSV1),
                1007, [text("Hello")])


def forms():
    """What a deflater may do: it is all inflated."""
    data = filler(20000)
    for level in range(10):
        yield deflated("level_%d" % level, "7.2.1", frame(BINARY, packed(data, level), rsv=RSV1),
                       [binary(data)])
    for bits in range(9, 16):
        yield deflated("window_of_%d_bits" % bits, "7.1.2.2",
                       frame(BINARY, packed(data, bits=bits), rsv=RSV1), [binary(data)],
                       ask=offer("permessage-deflate; client_max_window_bits=%d" % bits))
    for name, strategy in (("huffman", zlib.Z_HUFFMAN_ONLY), ("fixed", zlib.Z_FIXED),
                           ("rle", zlib.Z_RLE), ("filtered", zlib.Z_FILTERED)):
        yield deflated("strategy_" + name, "7.2.1",
                       frame(BINARY, packed(data, strategy=strategy), rsv=RSV1), [binary(data)])
    yield deflated("full_flush", "7.2.1",
                   frame(BINARY, packed(data, flush=zlib.Z_FULL_FLUSH), rsv=RSV1), [binary(data)])
    yield deflated("many_blocks", "7.2.3.5", frame(BINARY, blocks(data, 100), rsv=RSV1),
                   [binary(data)])
    yield deflated("final_block_and_another", "7.2.3.4",
                   frame(TEXT, b"\xf3\x48\xcd\xc9\xc9\x07\x00" + HELLO, rsv=RSV1),
                   [text("HelloHello")])
    yield deflated("final_block_and_one_that_refers_to_it", "7.2.3.4",
                   frame(TEXT, b"\xf3\x48\xcd\xc9\xc9\x07\x00\xf2\x00\x11\x00\x00", rsv=RSV1),
                   [text("HelloHello")])
    for n in (0, 1, 2, 125, 126, 127, 1023, 65535, 65536, 100001):
        for op in (TEXT, BINARY):
            yield deflated("%s_of_%d_bytes" % (NAMES[op], n), "7.2.2",
                           frame(op, packed(filler(n)), rsv=RSV1), [(op, filler(n))])
    noise = random.Random(1).randbytes(30000)
    yield deflated("noise", "7.2.1", frame(BINARY, packed(noise), rsv=RSV1), [binary(noise)])


def fragmented():
    data = packed(filler(300))
    for size in (1, 7, 50):
        parts = [data[i : i + size] for i in range(0, len(data), size)]
        first = frame(TEXT, parts[0], fin=False, rsv=RSV1)
        rest = [frame(CONT, p, fin=i == len(parts) - 2) for i, p in enumerate(parts[1:])]
        yield deflated("fragments_of_%d" % size, "6.1", first + b"".join(rest),
                       [text(filler(300))])
        yield deflated("fragments_of_%d_with_pings" % size, "6.1",
                       first + b"".join(frame(PING, b"!") + f for f in rest),
                       [pong(b"!")] * len(rest) + [text(filler(300))])
    yield deflated("empty_fragments", "7.2.3.6",
                   frame(TEXT, b"", fin=False, rsv=RSV1) + frame(CONT, b"", fin=False)
                   + frame(CONT, HELLO, fin=False) + frame(CONT, b""), [text("Hello")])
    for op in (TEXT, BINARY):
        yield fails("rsv1_on_a_continuation_of_%s" % NAMES[op], "6.1",
                    frame(op, HELLO[:3], fin=False, rsv=RSV1) + frame(CONT, HELLO[3:], rsv=RSV1),
                    1002)
        yield fails("rsv1_on_a_continuation_of_plain_%s" % NAMES[op], "6.1",
                    frame(op, b"Hel", fin=False) + frame(CONT, b"lo", rsv=RSV1), 1002)
    yield fails("rsv1_on_a_continuation_of_nothing", "6.1", frame(CONT, HELLO, rsv=RSV1), 1002)


def mixed():
    """Each message for itself (§6)."""
    yield deflated("plain_text_all_the_same", "6", frame(TEXT, b"plain"), [text("plain")])
    yield deflated("plain_fragments_all_the_same", "6", fragments(TEXT, [b"pl", b"ai", b"n"]),
                   [text("plain")])
    yield deflated("plain_and_deflated_in_turn", "6",
                   (frame(TEXT, b"plain") + frame(TEXT, HELLO, rsv=RSV1)) * 5,
                   [text("plain"), text("Hello")] * 5)
    for op in (PING, PONG):
        yield fails("rsv1_on_%s" % NAMES[op], "6.1", frame(op, b"", rsv=RSV1), 1002)
        yield fails("rsv1_on_%s_in_a_message" % NAMES[op], "6.1",
                    frame(TEXT, HELLO[:3], fin=False, rsv=RSV1) + frame(op, b"x", rsv=RSV1), 1002)
    yield fails("rsv1_on_close", "6.1", close(1000, rsv=RSV1), 1002)
    for op in (TEXT, BINARY):
        for rsv in (RSV2, RSV3, RSV1 | RSV2, RSV1 | RSV3, 7):
            yield fails("rsv_%d_on_%s" % (rsv, NAMES[op]), "6; RFC 6455 §5.2",
                        frame(op, HELLO, rsv=rsv), 1002)


def wrong():
    """§7.2.2: what cannot be inflated."""
    for name, data in {
        "block_of_the_reserved_type": b"\x06\x00",
        "stored_length_that_disagrees": b"\x00\x05\x00\x00\x00Hello\x00",
        "distance_before_the_start": b"\xf2\x00\x11\x00\x00",
        "words": b"Hello",
        "all_ones": b"\xff" * 20,
        "tail_left_on": HELLO + TAIL,
        "cut_in_a_stored_block": b"\x00\x05\x00\xfa\xff\x48\x65\x6c",
    }.items():
        for op in (TEXT, BINARY):
            yield fails("%s_%s" % (NAMES[op], name), "7.2.2", frame(op, data, rsv=RSV1), 1007)
    for n in range(1, len(HELLO)):
        yield fails("cut_after_%d_bytes" % n, "7.2.2", frame(TEXT, HELLO[:n], rsv=RSV1), 1007)
    yield fails("what_follows_is_not_looked_at", "7.2.2; RFC 6455 §7.1.7",
                frame(TEXT, HELLO, rsv=RSV1) + frame(TEXT, b"\xff\xff", rsv=RSV1)
                + frame(TEXT, HELLO, rsv=RSV1), 1007, [text("Hello")])


def utf8():
    """RFC 6455 §8.1 holds for what is inflated."""
    for name, data in {"surrogate": b"\xed\xa0\x80", "overlong": b"\xc0\xaf",
                       "cut_at_the_end": "κόσμε".encode()[:-1], "latin1": b"caf\xe9",
                       "above_10ffff": b"\xf4\x90\x80\x80"}.items():
        yield fails("text_" + name, "RFC 6455 §8.1", frame(TEXT, packed(data), rsv=RSV1), 1007)
        yield deflated("binary_" + name, "RFC 6455 §8.1", frame(BINARY, packed(data), rsv=RSV1),
                       [binary(data)])
    good = "κόσμε 😀 ".encode() * 50
    yield deflated("text_of_many_scripts", "RFC 6455 §8.1", frame(TEXT, packed(good), rsv=RSV1),
                   [text(good)])


def limits():
    for size, server in ((ECHO_MAX, "echo"), (SMALL_MAX, "small")):
        for name, data in (("zeros", bytes), ("words", filler)):
            yield deflated("%s_up_to_%d" % (name, size), "max_message_size",
                           frame(BINARY, packed(data(size)), rsv=RSV1), [binary(data(size))],
                           server=server)
            yield fails("%s_above_%d" % (name, size), "max_message_size",
                        frame(BINARY, packed(data(size + 1)), rsv=RSV1), 1009, server=server)
        noise = random.Random(2).randbytes(size)
        yield deflated("noise_up_to_%d" % size, "max_message_size",
                       frame(BINARY, packed(noise), rsv=RSV1), [binary(noise)], server=server)
        yield deflated("badly_deflated_up_to_%d" % size, "max_message_size",
                       frame(BINARY, packed(noise, strategy=zlib.Z_FIXED), rsv=RSV1),
                       [binary(noise)], server=server)
        yield fails("plain_above_%d" % size, "max_message_size",
                    frame(BINARY, bytes(size + 1)), 1009, server=server)
    yield fails("bomb_of_100_mib", "8; max_message_size",
                frame(BINARY, packed(bytes(100 << 20), 9), rsv=RSV1), 1009)
    yield fails("bomb_in_fragments", "8; max_message_size",
                fragments_of(packed(bytes(20 << 20), 9), 1000), 1009)


def fragments_of(data, size):
    parts = [data[i : i + size] for i in range(0, len(data), size)]
    return frame(BINARY, parts[0], fin=False, rsv=RSV1) + b"".join(
        frame(CONT, p, fin=i == len(parts) - 2) for i, p in enumerate(parts[1:]))


def cases():
    for group in (negotiation, examples, forms, fragmented, mixed, wrong, utf8, limits):
        yield from group()
