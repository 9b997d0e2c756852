"""Tests of requests to the lake over HTTP in a sandbox."""

import json
import os
import sys
import unittest

from headwater.http_connection import Request
from headwater.lambda_lake import respond


class Channel:
    """Stands for the connection of a worker to the server."""

    def __init__(self):
        self.sent = []
        self.answer = (None, b"", None)

    def is_connected(self):
        return True

    def write(self, content):
        self.sent.append(bytes(content))
        return os.open(os.devnull, os.O_RDONLY)

    def request(self, file=None, **fields):
        self.sent.append(fields)
        return self.answer


class Requests(unittest.TestCase):
    def setUp(self):
        self.channel = Channel()
        sys.modules["headwater_lake"] = self.channel
        self.addCleanup(sys.modules.pop, "headwater_lake")

    def ask(self, method, path, body=b"", call="c1", **headers):
        headers.setdefault("authorization", "Bearer c1")
        request = Request(method, f"/headwater/lake/{path}", headers, True)
        request.body = body
        status, media_type, content = respond(request, call)
        return status, media_type, content

    def test_a_query_returns_json_or_arrow(self):
        self.channel.answer = (None, b"[]", None)
        answer = self.ask("POST", "query", b"SELECT 1")
        self.assertEqual(answer, (200, "application/json", b"[]"))
        arrow = "application/vnd.apache.arrow.stream"
        self.assertEqual(self.ask("POST", "query", b"SELECT 1", accept=arrow)[1], arrow)
        self.assertEqual([one["json"] for one in self.channel.sent], [True, False])

    def test_rows_and_objects_are_passed_on(self):
        self.channel.answer = (2, b"", None)
        self.assertEqual(self.ask("POST", "append/shop.a%20b", b"[{}]")[2], b"2")
        self.ask("PUT", "objects/landing/in/a%20b.csv", b"x")
        self.ask("GET", "objects/landing/in/a.csv")
        self.assertEqual(
            self.channel.sent,
            [
                b"[{}]",
                {"operation": "append_json", "table": "shop.a b"},
                b"x",
                {"operation": "put_object", "bucket": "landing", "key": "in/a b.csv"},
                {"operation": "read_object", "bucket": "landing", "key": "in/a.csv"},
            ],
        )

    def test_only_the_running_call_has_a_valid_token(self):
        for call, token in ((None, "Bearer c1"), ("c2", "Bearer c1"), ("c1", ""), ("c1", "Bearer")):
            answer = self.ask("POST", "query", b"SELECT 1", call=call, authorization=token)
            self.assertEqual(answer[0], 401)
        self.assertEqual(self.channel.sent, [])

    def test_problems_have_a_status(self):
        for code, status in (
            ("forbidden", 403),
            ("table_not_found", 404),
            ("merge_conflict", 409),
            ("invalid_argument", 400),
        ):
            self.channel.answer = (None, b"", {"code": code, "message": "no"})
            answer = self.ask("POST", "query", b"SELECT 1")
            self.assertEqual((answer[0], json.loads(answer[2])["code"]), (status, code))

    def test_other_paths_are_not_operations(self):
        for method, path in (("GET", "query"), ("POST", "append/"), ("PUT", "objects/landing")):
            self.assertEqual(self.ask(method, path)[0], 404)


if __name__ == "__main__":
    unittest.main()
