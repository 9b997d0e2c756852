"""Tests of answers of handlers that are generators."""

import unittest

from headwater.lambda_answers import answer_of
from headwater.lambda_context import client_context


class Server:
    """Records the messages that a worker would send."""

    def __init__(self):
        self.sent = []

    def begin_answer(self, media_type):
        self.sent.append(media_type)

    def send_bytes(self, content):
        self.sent.append(bytes(content))


def generator(*values):
    yield from values


class Answers(unittest.TestCase):
    def test_parts_are_sent_one_by_one_to_a_client_that_streams(self):
        server = Server()
        answer = answer_of(generator("a", b"b"))
        self.assertIsNone(answer.headwater_answer(server, True))
        self.assertEqual(server.sent, ["text/plain; charset=utf-8", b"a", b"b"])

    def test_other_clients_get_the_whole_answer(self):
        answer = answer_of(generator("a", b"b"))
        self.assertEqual(answer.headwater_answer(None, False), "ab")
        self.assertIsNone(answer_of(generator()).headwater_answer(None, False))

    def test_the_first_value_may_describe_the_response(self):
        described = {"statusCode": 202, "headers": {"a": "b"}}
        whole = answer_of(generator(described, "x")).headwater_answer(None, False)
        self.assertEqual(whole, {**described, "body": "x", "isBase64Encoded": False})

    def test_a_generator_of_other_values_is_unchanged(self):
        self.assertEqual(list(answer_of(generator({"n": 1}, {"n": 2}))), [{"n": 1}, {"n": 2}])


class ClientContext(unittest.TestCase):
    def test_fields_that_were_not_sent_are_none(self):
        context = client_context({"client": {"app_title": "shop"}, "custom": {"a": 1}})
        self.assertEqual((context.client.app_title, context.custom), ("shop", {"a": 1}))
        self.assertEqual((context.client.installation_id, context.env), (None, None))
        self.assertIsNone(client_context(None))


if __name__ == "__main__":
    unittest.main()
