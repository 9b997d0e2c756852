"""Tests of the client with a real server: the built command, and a lake in a temporary folder."""

import unittest
from decimal import Decimal

import pyarrow
from real_server import RealServer

from headwater import errors


class Server(RealServer):
    def test_rows_are_written_in_one_commit(self):
        client = self.client
        before = len(client.log())
        first = client.write("orders", pyarrow.table({"id": [1, 2], "name": ["a", None]}))
        self.assertEqual((first["rows"], first["created_table"]), (2, True))
        self.assertEqual(len(client.log()), before + 1)
        self.assertEqual(client.log()[0]["id"], first["commit"])
        more = client.write("orders", [{"id": 3, "price": Decimal("1.50")}, {"id": 4, "note": "x"}])
        self.assertEqual((more["rows"], sorted(more["columns_added"])), (2, ["note", "price"]))
        self.assertEqual(client.table("orders")["rows"], 4)
        prices = self.rows("SELECT price FROM orders WHERE id = 3")
        self.assertEqual(prices, [{"price": Decimal("1.50")}])
        job = client.jobs(kind="import")[0]
        self.assertEqual((job["status"], job["usage"]["rows_written"]), ("succeeded", 2))
        again = client.write("orders", pyarrow.table({"id": [9]}), mode="replace")
        self.assertFalse(again["created_table"])
        self.assertEqual(self.rows("SELECT * FROM orders"), [{"id": 9}])

    def test_an_invalid_write_changes_nothing(self):
        client = self.client
        client.write("orders", pyarrow.table({"id": [1]}))
        head = client.log()[0]["id"]
        for rows, message in (
            ([], "an empty list has no columns"),
            ([{"id": 2}, {"id": "y"}], "column `id` has `'y'` \\(str\\) in row 2"),
            ([{"id": 2**70}], "column `id` has `1180591620717411303424` \\(int\\) in row 1"),
        ):
            with self.assertRaisesRegex(errors.InvalidArgumentError, message):
                client.write("orders", rows, mode="replace")
        with self.assertRaises(errors.HeadwaterError):
            client.write("orders", pyarrow.table({"id": ["text"]}))
        with self.assertRaises(errors.InvalidArgumentError):
            client.write("orders", {"id": 1})
        with self.assertRaises(errors.HeadwaterError):
            client.write("orders", pyarrow.table({"id": [1]}), mode="upsert")
        client.protect_branch("main")
        with self.assertRaises(errors.HeadwaterError):
            client.write("orders", pyarrow.table({"id": [2]}))
        client.unprotect_branch("main")
        self.assertEqual(client.log()[0]["id"], head)

    def test_the_active_branch_is_the_default(self):
        client = self.client
        client.write("t", pyarrow.table({"n": [1]}))
        self.headwater("checkout", "--create", "dev")
        client.write("t", pyarrow.table({"n": [2]}))
        client.create_view("v", "SELECT n FROM t")
        self.assertEqual(len(self.rows("SELECT * FROM t")), 2)
        self.assertEqual(len(self.rows("SELECT * FROM t", ref="main")), 1)
        self.assertEqual([view["name"] for view in client.views()], [client.view("v")["name"]])
        self.assertEqual(client.views(ref="main"), [])
        client.drop_view("v")
        client.drop_view("v", if_exists=True)
        self.assertEqual(client.views(), [])
        client.create_branch("of-dev")
        self.assertEqual(len(self.rows("SELECT * FROM t", ref="of-dev")), 2)

    def test_commits_are_cherry_picked_and_reverted(self):
        client = self.client
        client.write("t", pyarrow.table({"n": [1]}))
        client.create_branch("dev", from_ref="main")
        written = client.write("u", pyarrow.table({"n": [2]}), ref="dev")
        client.cherry_pick("@" + written["commit"], onto="main")
        self.assertEqual(self.rows("SELECT n FROM u"), [{"n": 2}])
        client.revert("main", message="not yet")
        self.assertEqual([table["name"] for table in client.tables()], ["t"])

    def test_tables_are_maintained_and_triggers_listed(self):
        client = self.client
        for number in range(3):
            client.write("t", pyarrow.table({"n": [number]}))
        foreseen = client.maintain("t", compact=True, dry_run=True)
        self.assertTrue(foreseen["dry_run"])
        done = client.maintain(compact=True, expire_before="30d")
        self.assertEqual(done["branch"], "main")
        self.assertEqual(len(self.rows("SELECT * FROM t")), 3)
        self.assertEqual((client.triggers(), client.trigger_events()), ([], []))
        with self.assertRaisesRegex(errors.InvalidArgumentError, "not a valid duration"):
            client.maintain(expire_before="soon")


if __name__ == "__main__":
    unittest.main()
