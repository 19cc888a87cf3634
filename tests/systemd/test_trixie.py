"""The scenario on Debian 13."""

import os
import sys
import unittest

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from scenario import Scenario


class Debian13(Scenario, unittest.TestCase):
    suite = "trixie"


if __name__ == "__main__":
    unittest.main()
