"""Tests of the client's requests about triggers and events."""

import unittest

from stand_in import Answer, WithServer

from headwater import errors


class Triggers(WithServer):
    def test_events_are_sent_in_one_request_with_generated_ids(self):
        path = "/v1/functions/score/events"
        event = {"specversion": "1.0", "id": "a", "source": "/s", "type": "t", "data": 1}
        answer = [{"event": "e", "duplicate": False}]
        send = self.client.send_events
        self.check(lambda: send("score", iter([event])), "POST", path, body=[event], answer=answer)
        send("score", [{"source": "/s", "type": "t"}] * 2)
        first, second = self.server.last().body
        self.assertEqual(first["specversion"], "1.0")
        self.assertNotEqual(first["id"], second["id"])

    def test_triggers_are_created_and_deleted(self):
        client = self.client
        bucket = {"name": "landing", "prefix": "in/", "suffix": ""}
        self.check(
            lambda: client.create_trigger("load", bucket="landing", prefix="in/", function="clean"),
            "POST",
            "/v1/triggers",
            body={"name": "load", "bucket": bucket, "function": "clean"},
        )
        self.check(
            lambda: client.create_trigger(
                "merged", run=True, import_into="t", replace=True, merges={"into": ["main"]}
            ),
            "PUT",
            "/v1/triggers/merged",
            body={
                "name": "merged",
                "run": True,
                "import": {"table": "t"},
                "merges": {"into": ["main"]},
            },
        )
        with self.assertRaisesRegex(errors.InvalidArgumentError, "need the name of a bucket"):
            client.create_trigger("load", prefix="in/", function="clean")
        self.server.on("DELETE", "/v1/triggers/load", Answer(b"", 204))
        self.assertIsNone(client.delete_trigger("load"))
        self.server.on("GET", "/v1/triggers", Answer([{"name": "load", "pending": 1}]))
        self.assertEqual(client.trigger("load")["pending"], 1)
        with self.assertRaises(errors.TriggerNotFoundError) as raised:
            client.trigger("laod")
        self.assertEqual(raised.exception.hint, "Did you mean `load`?")


if __name__ == "__main__":
    unittest.main()
