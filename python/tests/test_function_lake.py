"""Tests of `headwater.lake` outside of functions. Tests of the server use it in functions."""

import unittest

from headwater import lake


class OutsideOfFunctions(unittest.TestCase):
    def test_every_operation_refuses_and_names_the_client(self):
        for call in (
            lambda: lake.read_object("landing", "a.csv"),
            lambda: lake.put_object("landing", "a.csv", b""),
            lambda: lake.append("t", [{"a": 1}]),
            lambda: lake.query("SELECT 1"),
            lambda: lake.table("t").to_arrow(),
        ):
            with self.assertRaisesRegex(RuntimeError, "headwater.Client"):
                call()

    def test_names_are_text(self):
        with self.assertRaisesRegex(TypeError, "expected text, not int"):
            lake.read_object(1, "a.csv")

    def test_the_columns_of_a_table_are_names(self):
        with self.assertRaisesRegex(TypeError, "a list of names"):
            lake.table("t", columns="a")
        with self.assertRaisesRegex(ValueError, "empty"):
            lake.table("t", columns=[])


class Tables(unittest.TestCase):
    def test_columns_and_the_filter_are_part_of_the_query(self):
        def sql(*names, **options):
            return lake.table(*names, **options)._sql

        self.assertEqual(sql("orders"), 'SELECT * FROM "orders"')
        self.assertEqual(sql("shop.orders", columns=["id"]), 'SELECT "id" FROM "shop"."orders"')
        self.assertEqual(sql("t", columns=('a"b', "c")), 'SELECT "a""b", "c" FROM "t"')
        self.assertEqual(sql("t", filter="id > 5"), 'SELECT * FROM "t" WHERE (id > 5\n)')


if __name__ == "__main__":
    unittest.main()
