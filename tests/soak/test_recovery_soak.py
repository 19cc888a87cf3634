# tests/run: alone
"""tests/integration/test_recovery.py for longer, and with more of everything.

WSCAST_SOAK_SECONDS=n  of clients that come back
"""

import os
import sys
import unittest

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)),
                                "..", "integration"))
import test_recovery


class Resume(test_recovery.Resume):
    CLIENTS, CHANNELS = 500, 200
    SECONDS = int(os.environ.get("WSCAST_SOAK_SECONDS", "60"))


class RedisFault(test_recovery.RedisFault):
    STOPPED_S = 10


if __name__ == "__main__":
    unittest.main()
