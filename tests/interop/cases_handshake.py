"""The opening handshake, and all other requests on the same port.

Source  RFC 6455 §4.1, §4.2; RFC 9112 §2 to §6; RFC 9110 §5, §7.2, §7.8, §8.6
"""

import base64
import os

from conform import Case, text
from wire import KEY, TEXT, accept_of, frame, request

NEWS = "/ws/news"
HELLO = frame(TEXT, b"hello")
RANDOM_KEY = base64.b64encode(os.urandom(16)).decode()
V1 = "Sec-WebSocket-Protocol"


def is_hello(payload):
    """The first message of wscast.v1."""
    return payload.startswith(b'{"hello":{')


def opens(name, rule, ask, **kwargs):
    """Accepted; what follows in the same segment is answered, too."""
    if b" /echo" in ask or b"/echo HTTP" in ask:
        return Case(name, rule, HELLO, [text("hello")], ask=ask, **kwargs)
    return Case(name, rule, ask=ask, **kwargs)


def refused(name, rule, status, ask, **kwargs):
    return Case(name, rule, ask=ask, status=status, **kwargs)


def raw(*lines):
    """A request of these lines, as they are."""
    return b"\r\n".join(lines) + b"\r\n\r\n"


def with_line(line):
    """An upgrade to /echo with one line more, as it is."""
    return request()[:-2] + line + b"\r\n\r\n"


def accepted():
    rule = "4.2.1"
    yield opens("upgrade", rule, request(), headers={"Sec-WebSocket-Accept": "s3pPLMBiTxaQ9kYGzzhZRbK+xOo="})
    yield opens("upgrade_with_another_key", rule, request(Sec_WebSocket_Key=RANDOM_KEY),
                headers={"Sec-WebSocket-Accept": accept_of(RANDOM_KEY)})
    for i, key in enumerate(("A" * 22 + "==", "/" * 21 + "w==", "+/" * 10 + "+w==", "x" * 22 + "==")):
        yield opens("upgrade_with_key_%d" % i, rule,
                    request(Sec_WebSocket_Key=key))
    for i, value in enumerate((
            "upgrade", "UPGRADE", "uPgRaDe", "keep-alive, Upgrade", "Upgrade, keep-alive",
            "keep-alive,Upgrade", "a,b,c,upgrade,d", ", ,Upgrade, ,", "Upgrade\t, x", "  Upgrade  ",
            ["keep-alive", "Upgrade"], ["Upgrade", "close"])):
        yield opens("connection_list_%d" % i, "4.2.1 a list, any case", request(Connection=value))
    for i, value in enumerate((
            "WebSocket", "WEBSOCKET", "h2c, websocket", "websocket, h2c", ",websocket,",
            ["h2c", "websocket"], "\twebsocket\t")):
        yield opens("upgrade_list_%d" % i, "4.2.1 a list, any case", request(Upgrade=value))
    yield opens("names_in_lower_case", "RFC 9110 5.1 any case", raw(
        b"GET /echo HTTP/1.1", b"host:x", b"upgrade:websocket", b"connection:upgrade",
        b"sec-websocket-key:" + KEY.encode(), b"sec-websocket-version:13"))
    yield opens("names_in_upper_case", "RFC 9110 5.1 any case", raw(
        b"GET /echo HTTP/1.1", b"HOST: x", b"UPGRADE: websocket", b"CONNECTION: Upgrade",
        b"SEC-WEBSOCKET-KEY: " + KEY.encode(), b"SEC-WEBSOCKET-VERSION: 13"))
    yield opens("order_reversed", "RFC 9110 5.3 any order", raw(
        b"GET /echo HTTP/1.1", b"Sec-WebSocket-Version: 13", b"Sec-WebSocket-Key: " + KEY.encode(),
        b"Connection: Upgrade", b"Upgrade: websocket", b"Host: x"))
    yield opens("blanks_around_values", "RFC 9112 5.1", request(
        Sec_WebSocket_Key="  %s \t" % KEY, Sec_WebSocket_Version=" \t13  ", Host="\twscast.example "))
    yield opens("unknown_headers", "RFC 9110 5.1 unknown ones are ignored", request(
        X="y", Cookie="a=b; c=d", User_Agent="x", Pragma="no-cache", Accept_Encoding="gzip, br"))
    yield opens("empty_header_value", "RFC 9110 5.5", request(X_Empty=""))
    yield opens("header_of_all_token_characters", "RFC 9110 5.6.2", with_line(b"a!#$%&'*+-.^_`|~9: x"))
    yield opens("header_value_beyond_ascii", "RFC 9110 5.5 obs-text", request(X=b"caf\xc3\xa9 \xff\x80"))
    yield opens("header_value_with_tab", "RFC 9110 5.5", request(X="a\tb"))
    yield opens("header_value_with_colons", "RFC 9110 5.5", request(X="a:b::c"))
    yield opens("header_twice", "RFC 9110 5.3", request(X=["a", "b"], Cookie=["a=b", "c=d"]))
    yield opens("headers_64", "at most 64", request(X=["y"] * 59))
    yield opens("content_length_0", "RFC 9110 8.6", request(Content_Length="0"))
    yield opens("extension_unknown", "9.1 what is not known is declined",
                request(Sec_WebSocket_Extensions="x-unknown; a=1, y-unknown"),
                headers={"Sec-WebSocket-Extensions": None})
    yield opens("no_extension_unasked", "4.2.2 only what was offered", request(),
                headers={"Sec-WebSocket-Extensions": None, V1: None})
    head = request(X="")
    yield opens("head_of_8192_bytes", "at most 8192", request(X="y" * (8192 - len(head))))
    target = "/echo?" + "x" * (4096 - len("GET /echo? HTTP/1.1"))
    yield opens("first_line_of_4096_bytes", "at most 4096", request(target))


def hosts():
    for i, host in enumerate(("x", "x:80", "127.0.0.1:8080", "[::1]", "[::1]:8080", "a.b-c_d.example")):
        yield opens("host_%d" % i, "RFC 9112 3.2", request(Host=host))
    rule = "RFC 9112 3.2: 400"
    yield refused("host_missing", rule, 400, request(drop=("Host",)))
    yield refused("host_twice", rule, 400, request(Host=["x", "x"]))
    for i, host in enumerate(("", "a b", "a/b", "user@host", "a,b", "a?b", "a\tb", "é", "a\"b", "<a>")):
        yield refused("host_bad_%d" % i, rule, 400, request(Host=host))


def targets():
    rule = "RFC 9112 3.2.2 absolute-form"
    for i, target in enumerate(("http://h/echo", "https://h/echo", "ws://h/echo", "wss://h:1/echo",
                                "HTTP://H/echo", "http://[::1]:8080/echo", "http://h/echo?x=1")):
        yield opens("absolute_%d" % i, rule, request(target))
    yield refused("absolute_without_path", rule, 404, request("http://h"))
    for i, target in enumerate(("http://", "http:///echo", "http://u@h/echo", "ftp://h/echo", "http:/echo",
                                "h/echo", "h:80", "*", "echo", "?x", "http://h?x", "http://a\\b/echo")):
        yield refused("target_bad_%d" % i, "RFC 9112 3.2: 400", 400, request(target))
    for i, target in enumerate(("/echo#x", "/echo%", "/echo%4", "/echo%zz", "/echo?%g0", "/echo%00",
                                "/ws/a%00b", "/ech\xe9", "/echo\x7f")):
        yield refused("target_badly_encoded_%d" % i, "RFC 3986 2.1: 400", 400, request(target))
    for i, target in enumerate(("/echo?", "/echo?a=b", "/echo?a|b{c}", "/echo?a=%20%C3%A9")):
        yield opens("query_%d" % i, "RFC 3986 3.4", request(target))
    for i, target in enumerate((NEWS, "/ws/a/b", "/ws/a%20b", "/ws/a%2Fb", "/ws/%C3%A9", "/ws/%f0%9f%8e%88",
                                "/ws/%2e%2e", "/ws?channel=a", "/ws?channel=a&channel=b",
                                "/ws?x=1&channel=a&y", "/ws?channel=a+b", "/ws?channel=a%2Bb",
                                "/ws?&&channel=a&", "/ws?%63hannel=a", "/ws/" + "x" * 200,
                                "/ws/" + "%78" * 200, "/ws/a?channel=b", "/ws/news?token=x")):
        yield opens("channel_%d" % i, "client endpoints", request(target))
    for i, target in enumerate(("/ws", "/ws/", "/ws?", "/ws?channel=", "/ws?channel", "/ws?chan=a",
                                "/ws/%01", "/ws/a%0d%0ab", "/ws/%7f", "/ws/%ff", "/ws/%c3", "/ws/%ed%a0%80",
                                "/ws/" + "x" * 201, "/ws/" + "%C3%A9" * 101, "/ws?channel=a&channel=%01")):
        yield refused("channel_bad_%d" % i, "client endpoints: 400", 400, request(target))
    for i, target in enumerate(("/nowhere", "/wsx", "/w", "/WS/news", "//ws/news", "/echo/", "/echo/x", "/Echo",
                                "/health/", "/./ws/news", "/socket")):
        yield refused("path_unknown_%d" % i, "client endpoints: 404", 404, request(target))
    yield refused("channel_forbidden", "client endpoints: 403", 403, request("/ws/shut:a"))
    yield refused("channel_forbidden_among_others", "client endpoints: 403", 403,
                  request("/ws?channel=a&channel=shut:a"))
    yield refused("target_too_long", "RFC 9110 15.5.15", 414, request("/echo?" + "x" * 4096))


def methods():
    for method in ("POST", "PUT", "DELETE", "OPTIONS", "PATCH", "CONNECT", "TRACE", "get", "Get", "GETS", "X"):
        yield refused("method_%s" % method, "4.1 GET", 405, request(method=method), headers={"Allow": "GET, HEAD"})
    yield refused("method_HEAD", "4.1 GET", 405, request(method="HEAD"), headers={"Allow": "GET"})
    for i, first in enumerate((b"", b"GET", b"GET /echo", b" GET /echo HTTP/1.1", b"GET  /echo HTTP/1.1",
                               b"GET /echo  HTTP/1.1", b"GET /echo HTTP/1.1 ", b"GET\t/echo\tHTTP/1.1",
                               b"GET /echo HTTP/1.1 x", b"GET /ec ho HTTP/1.1", b"G(T /echo HTTP/1.1",
                               b"GET /echo HTTP/1", b"GET /echo HTTP/11", b"GET /echo http/1.1",
                               b"GET /echo HTTP/1.1\x0b", b"GET /echo HTTP/x.1", b"HTTP/1.1 200 OK",
                               b"\xffGET /echo HTTP/1.1", b"GET /echo HTCPCP/1.0", b"nonsense")):
        yield refused("first_line_bad_%d" % i, "RFC 9112 3: 400", 400, request(first=first))
    for version in ("HTTP/1.0", "HTTP/0.9", "HTTP/2.0", "HTTP/3.0"):
        yield refused("version_%s" % version[5:], "4.2.1 HTTP/1.1", 505, request(version=version))
    yield refused("preface_of_http2", "RFC 9113 3.4", 505, b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\4\0\0\0\0\0")
    yield refused("hello_of_tls", "another port", 400,
                  b"\x16\x03\x01\x02\0\x01\0\x01\xfc\x03\x03" + bytes(range(200)))


def headers():
    rule = "RFC 9112 5: 400"
    for i, line in enumerate((b"X", b"X y", b": y", b"X : y", b"X\t: y", b"X y: z", b"X(: y", b"X\xff: y",
                              b"X\0: y", b"X: a\0b", b"X: a\x01b", b"X: a\x7fb", b"X: a\x0bb", b"X: a\rb",
                              b"X: a\r\r", b"X: a\nY: b", b"\nX: a", b"X: a\r\n folded", b"X: a\r\n\tfolded",
                              b" X: a", b"\tX: a", b"X: \x1b[31m", b"\"X\": a", b"[X]: a", b"X,Y: a", b"@: a")):
        yield refused("header_bad_%d" % i, rule, 400, with_line(line))
    yield refused("header_folded_first", rule, 400,
                  request().replace(b"Host:", b" folded\r\nHost:", 1))
    bare = request().replace(b"\r\n", b"\n")
    yield refused("lines_end_with_bare_lf", "RFC 9112 2.2: 400", 400, bare)
    yield refused("lines_end_with_bare_cr", "RFC 9112 2.2: 400", 400, request().replace(b"\r\n", b"\r") + b"x")
    yield refused("first_line_ends_with_bare_lf", "RFC 9112 2.2: 400", 400,
                  request().replace(b"\r\n", b"\n", 1))
    yield refused("head_ends_with_bare_lf", "RFC 9112 2.2: 400", 400, request()[:-2] + b"\n" + b"\r\n")
    rule = "431"
    yield refused("header_too_long", rule, 431, request(X="y" * 8192))
    yield refused("header_too_long_without_end", rule, 431, b"GET /echo HTTP/1.1\r\nX: " + b"y" * 8192)
    yield refused("header_of_100000_bytes", rule, 431, request(X="y" * 100000))
    yield refused("head_of_8193_bytes", rule, 431, request(X="y" * (8193 - len(request(X="")))))
    yield refused("headers_65", rule, 431, request(X=["y"] * 60))
    yield refused("headers_1000", rule, 431, request(X=["y"] * 1000))
    rule = "RFC 9112 6: 400"
    for i, extra in enumerate((dict(Content_Length="5"), dict(Content_Length="-1"), dict(Content_Length="x"),
                               dict(Content_Length=""), dict(Content_Length="+0"), dict(Content_Length="0, 0"),
                               dict(Content_Length=["0", "0"]), dict(Content_Length="9" * 30),
                               dict(Transfer_Encoding="chunked"), dict(Transfer_Encoding="identity"),
                               dict(Transfer_Encoding="chunked", Content_Length="0"))):
        yield refused("body_%d" % i, rule, 400, request(**extra) + b"hello")


def websocket():
    """What makes an upgrade to a WebSocket. §4.2.1"""
    rule = "4.2.1: 426"
    need = {"Upgrade": "websocket", "Sec-WebSocket-Version": "13"}
    for i, bad in enumerate((dict(drop=("Connection",)), dict(drop=("Upgrade",)),
                             dict(drop=("Connection", "Upgrade")), dict(Connection="close"),
                             dict(Connection="upgraded"), dict(Connection=""), dict(Connection="Up grade"),
                             dict(Connection="keep-alive"), dict(Upgrade="h2c"), dict(Upgrade=""),
                             dict(Upgrade="websockets"), dict(Upgrade="web socket"),
                             dict(Upgrade="websocket/13"), dict(Upgrade="\"websocket\""))):
        yield refused("no_upgrade_%d" % i, rule, 426, request(**bad), headers=need)
    yield refused("websocket_version_missing", rule, 426, request(drop=("Sec-WebSocket-Version",)), headers=need)
    for version in ("", "0", "7", "8", "12", "14", "25", "013", "+13", "13.0", "13, 8", "8, 13", "13;", "x", "130"):
        yield refused("websocket_version_%s" % version.replace(", ", "_and_"), rule, 426,
                      request(Sec_WebSocket_Version=version), headers=need)
    yield refused("websocket_version_twice", "RFC 9110 5.3", 400, request(Sec_WebSocket_Version=["13", "13"]))
    yield refused("websocket_version_two", "RFC 9110 5.3", 400, request(Sec_WebSocket_Version=["8", "13"]))
    rule = "4.2.1 key of 16 bytes: 400"
    yield refused("key_missing", rule, 400, request(drop=("Sec-WebSocket-Key",)))
    yield refused("key_twice", rule, 400, request(Sec_WebSocket_Key=[KEY, KEY]))
    for n in (0, 1, 12, 15, 17, 18, 24, 32):
        yield refused("key_of_%d_bytes" % n, rule, 400,
                      request(Sec_WebSocket_Key=base64.b64encode(b"k" * n).decode()))
    for i, key in enumerate((KEY[:-1], KEY[:-2], KEY + "=", KEY[:-2] + "=A", KEY[:-3] + "===", "=" * 24,
                             "!" + KEY[1:], "-" + KEY[1:], "_" + KEY[1:], KEY[:10] + " " + KEY[11:],
                             KEY[:10] + "=" + KEY[11:], KEY + "," + KEY, "\"" + KEY + "\"", KEY[:-2] + "\xe9=")):
        yield refused("key_bad_%d" % i, rule, 400, request(Sec_WebSocket_Key=key))


def protocols():
    rule = "4.2.2 one of those offered, or none"
    for i, offer in enumerate(("wscast.v1", "other, wscast.v1", "wscast.v1,other", "a,b,,wscast.v1,",
                               ["other", "wscast.v1"], ["wscast.v1", "other"], " wscast.v1\t")):
        ask = request("/ws", Sec_WebSocket_Protocol=offer)
        yield Case("protocol_ours_%d" % i, rule, frames=[(TEXT, is_hello)], ask=ask,
                   headers={V1: "wscast.v1"})
    for i, offer in enumerate(("other", "WSCAST.V1", "wscast.v10", "wscast", "a, b, c", "")):
        yield opens("protocol_unknown_%d" % i, rule, request("/echo", Sec_WebSocket_Protocol=offer), headers={V1: None})
        yield refused("protocol_unknown_without_channel_%d" % i, "client endpoints: 400", 400,
                      request("/ws", Sec_WebSocket_Protocol=offer))
    for i, offer in enumerate(("a b", "a;b", "\"wscast.v1\"", "wscast.v1; q=1", "a/b", "a@b", "wscast.v1, (", "\xe9")):
        yield refused("protocol_no_token_%d" % i, "4.1 tokens: 400", 400, request(Sec_WebSocket_Protocol=offer))


def origins():
    rule = "10.2 who may connect"
    for i, (origin, host) in enumerate((("http://wscast.example", "wscast.example"),
                                        ("HTTP://WSCAST.EXAMPLE", "wscast.example"),
                                        ("http://wscast.example:80", "wscast.example"),
                                        ("https://wscast.example", "wscast.example:443"),
                                        ("http://h:8080", "h:8080"), ("http://[::1]:80", "[::1]"))):
        yield opens("origin_same_%d" % i, rule, request(Origin=origin, Host=host))
    for i, origin in enumerate(("http://evil.example", "null", "", "wscast.example", "http://wscast.example:81",
                                "http://wscast.example.evil.example", "http://wscast.example/", "http://",
                                "http://evil.example/wscast.example", "http://a b", "http://" + "x" * 400)):
        yield refused("origin_other_%d" % i, rule, 403, request(Origin=origin))
    yield refused("origin_twice", "RFC 6454 7.3", 400, request(Origin=["http://wscast.example"] * 2))


def others():
    """Requests that are no upgrade, and what is no request."""
    plain = dict(drop=("Upgrade", "Connection", "Sec-WebSocket-Key", "Sec-WebSocket-Version"))
    kind = {"Content-Type": "application/json"}
    yield refused("health", "client endpoints", 200, request("/health", **plain), headers=kind)
    yield refused("health_with_query", "client endpoints", 200, request("/health?x", **plain), headers=kind)
    yield refused("health_absolute", "client endpoints", 200, request("http://h/health", **plain), headers=kind)
    yield refused("health_head", "RFC 9110 9.3.2", 200, request("/health", method="HEAD", **plain))
    yield refused("health_keep_alive", "no keep-alive", 200, request("/health", Connection="keep-alive"))
    yield refused("health_twice", "no keep-alive", 200, request("/health", **plain) * 2)
    yield refused("health_post", "405", 405, request("/health", method="POST", Content_Length="0"))
    yield refused("ready", "client endpoints", 200, request("/ready", **plain), headers=kind)
    yield refused("root", "client endpoints: 404", 404, request("/", **plain))
    yield refused("nowhere", "client endpoints: 404", 404, request("/nowhere", **plain))
    yield refused("nowhere_head", "RFC 9110 9.3.2", 404, request("/nowhere", method="HEAD", **plain))
    yield refused("echo_without_upgrade", "426", 426, request("/echo", **plain))
    yield refused("refused_and_much_behind", "the answer is not lost", 404,
                  request("/nowhere") + bytes(range(256)) * 400)
    yield refused("broken_and_much_behind", "the answer is not lost", 400, b"\0" + bytes(range(256)) * 400)
    for n in (0, 1, 3, 20, 60, len(request()) - 1):
        yield Case("half_closed_after_%d" % n, "no whole request", ask=request()[:n] or b"", status=None, half=True)


def cases():
    for group in (accepted, hosts, targets, methods, headers, websocket, protocols, origins, others):
        yield from group()
