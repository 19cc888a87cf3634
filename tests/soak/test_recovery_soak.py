# tests/run: alone
"""tests/integration/test_recovery.py for longer, and with more of everything."""

import os
import sys
import unittest

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)),
                                "..", "integration"))
import test_recovery


class Resume(test_recovery.Resume):
    CLIENTS, CHANNELS, SECONDS = 500, 200, 60


class RedisFault(test_recovery.RedisFault):
    STOPPED_S = 10


class Churn(test_recovery.Churn):
    """A million channels, some ten minutes."""

    COUNT, HELD, BATCH = 1000000, 100000, 2000


if __name__ == "__main__":
    unittest.main()
