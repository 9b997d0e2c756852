"""Tests of `pyarrow.Table`s as HTML in notebooks."""

import unittest

import pyarrow

from headwater import notebook


class Tables(unittest.TestCase):
    def test_the_first_rows_and_the_types_are_displayed(self):
        table = pyarrow.table({"id": list(range(100)), "name": ["<x>"] * 100})
        html = notebook.table_html(table)
        self.assertIn("<th>id<br>int64</th>", html)
        self.assertIn("<td>&lt;x&gt;</td>", html)
        self.assertEqual(html.count("<tr>"), 1 + notebook.ROWS_MAX)
        self.assertIn("100 rows", html)


if __name__ == "__main__":
    unittest.main()
