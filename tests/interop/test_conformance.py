"""RFC 6455 and RFC 7692 by the letter: a test for each case and each way to feed it,
plain and through TLS.

The cases are tables in cases_*.py. All of them run at once before the first test; a
test only looks at what its case brought.
"""

import os
import re
import sys
import tempfile
import unittest

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path[:0] = [HERE, os.path.join(os.path.dirname(HERE), "integration")]
import cases_close
import cases_deflate
import cases_frames
import cases_handshake
import cases_text
from conform import SEED, run_all, ways
from harness import Daemon, free_port
from tlsclient import context, make_certificate

GROUPS = {"Handshake": cases_handshake, "Frames": cases_frames, "Text": cases_text,
          "Close": cases_close, "Deflate": cases_deflate}


def server(max_message_size, pem, key):
    port, tls_port = free_port(), free_port()
    d = Daemon({"server": {"echo": "yes", "listen": ["127.0.0.1:%d" % port,
                                                     "127.0.0.1:%d tls=yes" % tls_port]},
                "tls": {"certificate": pem, "key": key},
                "limits": {"max_message_size": max_message_size},
                "channel shut:*": {"subscribe": "nobody"}}, workers=2, port=port)
    d.tls_port = tls_port
    return d


SERVERS = {"echo": cases_frames.ECHO_MAX, "small": cases_frames.SMALL_MAX,
           "tiny": cases_frames.TINY_MAX}
CASES = {group: list(module.cases()) for group, module in GROUPS.items()}
results = {}


def setUpModule():
    with tempfile.TemporaryDirectory() as folder:
        run_cases(*make_certificate(folder, "conform"))


def run_cases(pem, key):
    daemons = {}

    def port_of(name, tls):
        return daemons[name].tls_port if tls else daemons[name].port

    try:
        for name, size in SERVERS.items():
            daemons[name] = server(size, pem, key)
        results.update(run_all([c for group in CASES.values() for c in group], port_of,
                               context(pem)))
        for d in daemons.values():
            died = [w for w in d.workers() if w["restarts"]]
            if died:
                raise AssertionError("workers died: %s\n%s" % (died, d.log()))
    finally:
        for d in daemons.values():
            d.done()


def make_test(case, feed, tls):
    def test(self):
        wrong = results[case.name, feed, tls]
        if wrong:
            rule = case.rule if case.rule.startswith("RFC") else "RFC 6455 §" + case.rule
            self.fail("%s, fed %s%s (%s; seed %d): %s" % (
                case.name, feed, " through TLS" if tls else "", rule, SEED, wrong))

    test.__doc__ = None
    return test


def make_class(group, cases):
    tests = {}
    for case in cases:
        for feed, tls in ways():
            name = "test_%s_%s%s" % (re.sub(r"\W", "_", case.name), feed,
                                     "_tls" if tls else "")
            if name in tests:
                raise ValueError("two cases are called %s" % case.name)
            tests[name] = make_test(case, feed, tls)
    return type(group, (unittest.TestCase,), tests)


for _group, _cases in CASES.items():
    globals()[_group] = make_class(_group, _cases)
del _group, _cases


if __name__ == "__main__":
    unittest.main()
