"""RFC 6455 and RFC 7692 by the letter: a test for each case and each way to feed it.

The cases are tables in cases_*.py. All of them run at once before the first test; a
test only looks at what its case brought.
"""

import os
import re
import sys
import unittest

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path[:0] = [HERE, os.path.join(os.path.dirname(HERE), "integration")]
import cases_close
import cases_deflate
import cases_frames
import cases_handshake
import cases_text
from conform import FEEDS, SEED, run_all
from harness import Daemon

GROUPS = {"Handshake": cases_handshake, "Frames": cases_frames, "Text": cases_text,
          "Close": cases_close, "Deflate": cases_deflate}


def server(max_message_size):
    return Daemon({"server": {"echo": "yes"}, "limits": {"max_message_size": max_message_size},
                   "channel shut:*": {"subscribe": "nobody"}}, workers=2)


SERVERS = {"echo": cases_frames.ECHO_MAX, "small": cases_frames.SMALL_MAX,
           "tiny": cases_frames.TINY_MAX}
CASES = {group: list(module.cases()) for group, module in GROUPS.items()}
results = {}


def setUpModule():
    daemons = {}
    try:
        for name, size in SERVERS.items():
            daemons[name] = server(size)
        results.update(run_all([c for group in CASES.values() for c in group],
                               lambda name: daemons[name].port))
        for d in daemons.values():
            died = [w for w in d.workers() if w["restarts"]]
            if died:
                raise AssertionError("workers died: %s\n%s" % (died, d.log()))
    finally:
        for d in daemons.values():
            d.done()


def make_test(case, feed):
    def test(self):
        wrong = results[case.name, feed]
        if wrong:
            rule = case.rule if case.rule.startswith("RFC") else "RFC 6455 §" + case.rule
            self.fail("%s, fed %s (%s; seed %d): %s"
                      % (case.name, feed, rule, SEED, wrong))

    test.__doc__ = None
    return test


def make_class(group, cases):
    tests = {}
    for case in cases:
        for feed in FEEDS:
            name = "test_%s_%s" % (re.sub(r"\W", "_", case.name), feed)
            if name in tests:
                raise ValueError("two cases are called %s" % case.name)
            tests[name] = make_test(case, feed)
    return type(group, (unittest.TestCase,), tests)


for _group, _cases in CASES.items():
    globals()[_group] = make_class(_group, _cases)
del _group, _cases


if __name__ == "__main__":
    unittest.main()
