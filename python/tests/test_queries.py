"""Tests of queries that a program starts, and whose rows it fetches later."""

import unittest

from stand_in import Answer, serve_tcp

import headwater
from headwater import errors

QUERY = "01a0-query"
PATH = f"/v1/queries/{QUERY}"


def state(status, **more):
    return Answer({"id": QUERY, "status": status, "rows": 2, **more})


class StartedQueries(unittest.TestCase):
    def setUp(self):
        serving = serve_tcp()
        self.server, url = serving.__enter__()
        self.addCleanup(serving.__exit__, None, None, None)
        self.client = headwater.Client(url=url, author="ada")
        self.server.on("POST", "/v1/queries", state("running"))

    def test_a_started_query_returns_before_its_end(self):
        started = self.client.start_query("SELECT $n AS n", parameters={"n": 3}, limit=2)
        self.assertEqual(started.id, QUERY)
        sent = self.server.last().body
        self.assertEqual((sent["sql"], sent["parameters"]), ("SELECT $n AS n", {"n": 3}))
        self.server.on("GET", PATH, state("running"), state("running"), state("succeeded"))
        self.assertFalse(started.done())
        self.server.on("GET", f"{PATH}/rows", Answer([{"n": 3}, {"n": 4}]))
        self.assertEqual(started.rows(), [{"n": 3}, {"n": 4}])

    def test_rows_that_are_cut_off_are_an_error(self):
        self.server.on("GET", PATH, state("succeeded"))
        self.server.on("GET", f"{PATH}/rows", Answer(chunks=[b'[{"n": 3}'], cut=True))
        with self.assertRaisesRegex(errors.UnavailableError, "cut off"):
            self.client.running_query(QUERY).rows()

    def test_errors_and_time_limits_are_raised(self):
        started = self.client.running_query(QUERY)
        self.server.on("GET", PATH, state("running"))
        with self.assertRaises(TimeoutError):
            started.wait(timeout=0)
        problem = {"code": "table_not_found", "message": "there is no table `x`"}
        self.server.on("GET", PATH, state("failed", error=problem))
        with self.assertRaises(errors.TableNotFoundError):
            started.wait()

    def test_a_query_is_cancelled_and_deleted(self):
        self.server.on("POST", f"{PATH}/cancel", state("cancelled"))
        self.assertEqual(self.client.running_query(QUERY).cancel()["status"], "cancelled")
        self.server.on("DELETE", PATH, Answer(b"", 204))
        self.client.running_query(QUERY).delete()
        self.server.on("GET", "/v1/queries", Answer([{"id": QUERY}]))
        self.assertEqual(self.client.running_queries(), [{"id": QUERY}])


if __name__ == "__main__":
    unittest.main()
