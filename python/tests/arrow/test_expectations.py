"""Tests of the ready-made expectations and of queries, with the real pyarrow.

These tests are in a separate folder, because the other tests need only Python. To run them:
`uv run --no-project --with pyarrow python -m unittest discover --start-directory tests/arrow`.
"""

import io
import unittest
from decimal import Decimal
from unittest import mock

import pyarrow as pa

import headwater
from headwater import errors, expectations
from headwater.arrow_body import ArrowBody

TABLE = pa.table(
    {
        "id": [1, 2, 3],
        "twice": [1, 1, None],
        "none": pa.array([None, None, None], pa.int64()),
        "city": ["Oslo", "Rome", "Oslo"],
        "code": pa.array(["a", "b", None]).dictionary_encode(),
        "both": ["1-Oslo", "2-Rome", "3-Oslo"],
        "price": [Decimal("1.50"), Decimal("2.50"), None],
        "twice_city": ["1Oslo", "1Rome", None],
    }
)
EMPTY = TABLE.slice(0, 0)


class Expectations(unittest.TestCase):
    def check(self, name, truths, *arguments, table=TABLE):
        function = getattr(expectations, f"expect_column_{name}")
        for column, truth in truths.items():
            with self.subTest(f"{name} {column}"):
                self.assertIs(function(table, column, *arguments), truth)

    def test_nulls(self):
        self.check("no_nulls", {"id": True, "twice": False, "none": False})
        self.check("some_null", {"id": False, "twice": True, "none": True})
        self.check("all_null", {"id": False, "twice": False, "none": True})
        self.check("no_nulls", {"id": True}, table=EMPTY)
        self.check("some_null", {"id": False}, table=EMPTY)
        self.check("all_null", {"id": True}, table=EMPTY)

    def test_uniqueness(self):
        self.check("all_unique", {"id": True, "twice": False, "none": False, "code": True})
        self.check("not_unique", {"id": False, "twice": True, "city": True})
        self.check("all_unique", {"id": True}, table=EMPTY)

    def test_accepted_values(self):
        self.check("accepted_values", {"city": True}, ["Oslo", "Rome", "Bern"])
        self.check("accepted_values", {"city": False, "code": False}, ["Oslo", "a", "b"])
        self.check("accepted_values", {"code": True}, ["a", "b", None])
        self.check("accepted_values", {"city": True}, [], table=EMPTY)
        self.check("accepted_values", {"price": True}, [Decimal("1.5"), Decimal("2.5"), None])
        for values in (["one"], "123"):
            with self.assertRaises(errors.InvalidArgumentError):
                expectations.expect_column_accepted_values(TABLE, "id", values)

    def test_means(self):
        self.check("mean_greater_than", {"id": False, "none": False}, 2)
        self.check("mean_greater_or_equal_than", {"id": True, "price": True, "none": False}, 2)
        self.check("mean_smaller_than", {"id": False, "twice": True, "none": False}, 2)
        self.check("mean_smaller_or_equal_than", {"id": True, "none": False}, 2)
        with self.assertRaisesRegex(errors.InvalidArgumentError, "column `city` of type `string`"):
            expectations.expect_column_mean_greater_than(TABLE, "city", 2)

    def test_concatenation(self):
        self.check("equal_concatenation", {"both": True, "city": False}, ["id", "city"], "-")
        self.check("equal_concatenation", {"both": False}, ["id", "city"])
        self.check("equal_concatenation", {"twice_city": True}, ["twice", "city"])
        self.check("equal_concatenation", {"both": True}, ["id"], table=EMPTY)

    def test_a_missing_column_is_named_with_one_that_is_near(self):
        with self.assertRaises(errors.ColumnNotFoundError) as raised:
            expectations.expect_column_no_nulls(TABLE, "citty")
        self.assertEqual(raised.exception.hint, "Did you mean `city`?")


class Streams(unittest.TestCase):
    def answer(self, content):
        """Returns the result of `Client.query` if the response consists of these bytes."""
        response = mock.MagicMock()
        response.read = io.BytesIO(content).read
        response.__enter__.return_value = response
        response.getheader.return_value = None
        client = headwater.Client(url="http://127.0.0.1")
        with mock.patch.object(client._connection, "send", return_value=response):
            return client.query("SELECT 1")

    def stream(self):
        sink = io.BytesIO()
        with pa.ipc.new_stream(sink, TABLE.schema) as writer:
            writer.write_table(TABLE, max_chunksize=1)
        return sink.getvalue()

    def test_a_complete_stream_is_a_table(self):
        self.assertEqual(self.answer(self.stream()), TABLE)

    def test_a_truncated_stream_is_an_error(self):
        whole = self.stream()
        for length in range(0, len(whole), 8):
            with self.assertRaisesRegex(errors.UnavailableError, "cut off"):
                self.answer(whole[:length])

    def test_the_body_is_a_file_for_arrow(self):
        body = ArrowBody(io.BytesIO(self.stream()))
        self.assertEqual(pa.ipc.open_stream(body).read_all(), TABLE)
        body.check_end()


if __name__ == "__main__":
    unittest.main()
