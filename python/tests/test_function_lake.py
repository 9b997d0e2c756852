"""Tests of `headwater.lake` outside of functions. Tests of the server use it in functions."""

import unittest

from headwater import lake


class OutsideOfFunctions(unittest.TestCase):
    def test_every_operation_refuses_and_names_the_client(self):
        for call in (
            lambda: lake.read_object("landing", "a.csv"),
            lambda: lake.put_object("landing", "a.csv", b""),
            lambda: lake.append("t", [{"a": 1}]),
        ):
            with self.assertRaisesRegex(RuntimeError, "headwater.Client"):
                call()

    def test_names_are_text(self):
        with self.assertRaisesRegex(TypeError, "expected text, not int"):
            lake.read_object(1, "a.csv")


if __name__ == "__main__":
    unittest.main()
