# tests/run: alone
"""tests/integration/test_hostile.py with more of everything."""

import os
import sys
import unittest

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)),
                                "..", "integration"))
import test_hostile


class HalfOpen(test_hostile.HalfOpen):
    HALF_OPEN, CLIENTS, ROUNDS, SECONDS, TIMEOUT = 10000, 1000, 3, 10, "20s"
    COMPARED = True


class Churn(test_hostile.Churn):
    COUNT = 100000


if __name__ == "__main__":
    unittest.main()
