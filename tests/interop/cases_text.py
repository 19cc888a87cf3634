"""Text messages are UTF-8, and what is not is refused at its first wrong byte.

Source  RFC 6455 §5.6, §8.1; RFC 3629 §3, §4
"""

from cases_frames import fails
from conform import Case, binary, pong, text
from wire import BINARY, CONT, PING, TEXT, fragments, frame

VALID = {
    "ascii": "Hello, world",
    "nul": "\0",
    "del": "\x7f",
    "greek": "κόσμε",
    "first_of_2": "\u0080",
    "last_of_2": "\u07ff",
    "first_of_3": "\u0800",
    "last_before_surrogates": "\ud7ff",
    "first_behind_surrogates": "\ue000",
    "replacement": "\ufffd",
    "noncharacter_fffe": "\ufffe",
    "last_of_3": "\uffff",
    "first_of_4": "\U00010000",
    "noncharacter_1ffff": "\U0001ffff",
    "last_of_all": "\U0010ffff",
    "byte_order_mark": "\ufeffx",
    "combining": "e\u0301",
    "emoji": "👩‍👩‍👧",
    "mixed": "aé漢🎈z",
}
# The bytes up to and with the first that is wrong.
INVALID = {
    "continuation_80": b"\x80",
    "continuation_bf": b"\xbf",
    "overlong_2_c0": b"\xc0",
    "overlong_2_c1": b"\xc1",
    "overlong_3_first": b"\xe0\x80",
    "overlong_3_last": b"\xe0\x9f",
    "overlong_4_first": b"\xf0\x80",
    "overlong_4_last": b"\xf0\x8f",
    "surrogate_first": b"\xed\xa0",
    "surrogate_last": b"\xed\xbf",
    "above_10ffff": b"\xf4\x90",
    "start_f5": b"\xf5",
    "start_f8": b"\xf8",
    "start_fc": b"\xfc",
    "byte_fe": b"\xfe",
    "byte_ff": b"\xff",
    "2_without_continuation": b"\xc3\x28",
    "2_start_again": b"\xc3\xc3",
    "3_without_second": b"\xe2\x28",
    "3_without_third": b"\xe2\x82\x28",
    "4_without_second": b"\xf0\x28",
    "4_without_third": b"\xf0\x90\x28",
    "4_without_fourth": b"\xf0\x90\x8c\x28",
    "ascii_in_4": b"\xf0\x9f\x8e\x20",
    "continuation_too_many": b"\xc3\xa9\xa9",
}
CUT = {"2": b"\xc3", "3_after_1": b"\xe2", "3_after_2": b"\xe2\x82", "4_after_1": b"\xf0",
       "4_after_2": b"\xf0\x9f", "4_after_3": b"\xf0\x9f\x8e"}
GOOD = "κόσμε ".encode()


def ones(data):
    return [data[i : i + 1] for i in range(len(data))]


def valid():
    for name, word in VALID.items():
        data = word.encode("utf-8")
        yield Case("utf8_" + name, "5.6 valid", frame(TEXT, data), [text(data)])
        yield Case("utf8_%s_by_single_bytes" % name, "5.6 fragments need not end with a character",
                   fragments(TEXT, ones(data) + [b""]), [text(data)])
        yield Case("utf8_%s_with_pings_inside" % name, "5.4 control frames in between",
                   fragments(TEXT, ones(data), between=frame(PING, b"\xff")),
                   [pong(b"\xff")] * (len(data) - 1) + [text(data)])
    data = ("aé漢🎈" * 9000).encode()
    yield Case("utf8_90000_bytes", "5.6 valid", frame(TEXT, data), [text(data)])
    yield Case("utf8_90000_bytes_in_7s", "5.6 fragments need not end with a character",
               fragments(TEXT, [data[i : i + 777] for i in range(0, len(data), 777)]), [text(data)])


def invalid():
    for name, bad in INVALID.items():
        rule = "8.1 close with 1007"
        yield fails("utf8_" + name, rule, frame(TEXT, bad), code=1007)
        yield fails("utf8_%s_behind_good" % name, rule, frame(TEXT, GOOD + bad + GOOD), code=1007)
        yield fails("utf8_%s_by_single_bytes" % name, rule,
                    fragments(TEXT, ones(bad)), code=1007)
        # Nothing more is sent: the server must not wait for the rest.
        yield fails("utf8_%s_at_once" % name, rule + " as bytes arrive",
                    frame(TEXT, GOOD + bad, length=len(GOOD + bad) + 50), code=1007)
        yield fails("utf8_%s_at_once_in_fragments" % name, rule + " as bytes arrive",
                    fragments(TEXT, [GOOD] + ones(bad), fin=False), code=1007)
        yield Case("utf8_%s_in_binary" % name, "5.6 binary is not checked",
                   frame(BINARY, GOOD + bad), [binary(GOOD + bad)])
        yield fails("utf8_%s_behind_a_message" % name, rule,
                    frame(TEXT, GOOD) + frame(TEXT, bad) + frame(TEXT, GOOD), [text(GOOD)], code=1007)
    for name, cut in CUT.items():
        rule = "8.1 a message ends with a character"
        yield fails("utf8_cut_" + name, rule, frame(TEXT, GOOD + cut), code=1007)
        yield fails("utf8_cut_%s_in_fragments" % name, rule,
                    fragments(TEXT, [GOOD, cut]), code=1007)
        yield fails("utf8_cut_%s_by_an_empty_fragment" % name, rule,
                    fragments(TEXT, [GOOD + cut, b""]), code=1007)
        yield Case("utf8_cut_%s_in_binary" % name, "5.6 binary is not checked",
                   fragments(BINARY, [cut, b""]), [binary(cut)])
    yield fails("utf8_cut_is_not_carried_to_the_next_message", "8.1 each message alone",
                frame(TEXT, b"\xe2\x82") + frame(TEXT, b"\xac"), code=1007)
    yield Case("utf8_state_is_not_carried_from_binary", "8.1 each message alone",
               frame(BINARY, b"\xe2\x82") + frame(TEXT, b"ok"), [binary(b"\xe2\x82"), text("ok")])
    yield fails("utf8_continuation_of_text_is_text", "5.4",
                frame(TEXT, b"ok", fin=False) + frame(CONT, b"\xff"), code=1007)


def cases():
    yield from valid()
    yield from invalid()
