"""Tests of the values of backfills."""

import unittest
from datetime import date

from headwater import errors
from headwater.backfill_values import parse_values


class Values(unittest.TestCase):
    def test_ranges_have_both_ends(self):
        for values, expected in (
            ("2024-02-28..2024-03-01", "2024-02-28 2024-02-29 2024-03-01"),
            ("2025-11..2026-02", "2025-11 2025-12 2026-01 2026-02"),
            ("-1..2", "-1 0 1 2"),
            (" JFK, LGA", "JFK LGA"),
            ("7..7", "7"),
            (range(2), "0 1"),
            (["a", 2, date(2026, 1, 31)], "a 2 2026-01-31"),
        ):
            with self.subTest(values):
                self.assertEqual(parse_values("n", values), expected.split())

    def test_wrong_values_are_named(self):
        for values, expected in (
            ("", "has no values"),
            ([], "has no values"),
            ("2..1", "has no values"),
            ("2026-02-30..2026-03-01", "is not a range of dates or numbers"),
            ("2026-01-01..5", "is not a range of dates or numbers"),
            ("..", "is not a range of dates or numbers"),
            ("1..20000", "has more than 10000 values"),
            ("-9223372036854775808..9223372036854775807", "has more than 10000 values"),
            ("a,b,a", "has the value `a` twice"),
            ([1, "1"], "has the value `1` twice"),
            ([None], "parameter `n` cannot be `None`"),
        ):
            with (
                self.subTest(values),
                self.assertRaisesRegex(errors.InvalidArgumentError, expected),
            ):
                parse_values("n", values)


if __name__ == "__main__":
    unittest.main()
