"""The scenario on Debian 12."""

import os
import sys
import unittest

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from scenario import Scenario


class Debian12(Scenario, unittest.TestCase):
    suite = "bookworm"


if __name__ == "__main__":
    unittest.main()
