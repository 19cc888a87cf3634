# tests/run: alone
"""tests/integration/test_churn.py with a million channels, in ten minutes.

WSCAST_SOAK_CHANNELS=n  that come and go
"""

import os
import sys
import unittest

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)),
                                "..", "integration"))
import test_churn


class Churn(test_churn.Churn):
    COUNT = int(os.environ.get("WSCAST_SOAK_CHANNELS", "1000000"))
    HELD, RATE, CHECKS, RING = 100000, 1700, 10, 64


if __name__ == "__main__":
    unittest.main()
