"""Tests of the client's requests about imports and maintenance."""

import json
import os
import unittest
from pathlib import Path
from unittest import mock

from stand_in import Answer, WithServer

import headwater
from headwater import errors

JOB = "01a0-job"


class Imports(WithServer):
    def setUp(self):
        super().setUp()
        self.server.on("POST", "/v1/imports", Answer({"id": JOB, "status": "queued"}, 202))

    def test_an_import_sends_absolute_paths(self):
        ended = json.dumps({"sequence": 1, "type": "ended"}).encode() + b"\n"
        self.server.on("GET", f"/v1/jobs/{JOB}/events", Answer(ended))
        job = {"id": JOB, "status": "succeeded", "result": {"table": "orders", "rows": 3}}
        self.server.on("GET", f"/v1/jobs/{JOB}", Answer(job))
        answer = self.client.import_files(
            "orders",
            [Path("incoming"), "/data/*.csv"],
            nulls=["NA"],
            types={"id": "long"},
            on_error="reject",
            partition_by=["days(day)", "bucket(16, id), city"],
        )
        self.assertEqual(answer, job["result"])
        self.assertEqual(
            self.server.seen[0].body,
            {
                "table": "orders",
                "sources": [os.path.abspath("incoming"), "/data/*.csv"],
                "nulls": ["NA"],
                "types": {"id": "long"},
                "partition": [
                    {"column": "day", "transform": "day"},
                    {"column": "id", "transform": "bucket[16]"},
                    {"column": "city", "transform": "identity"},
                ],
                "on_error": "reject",
                "again": False,
                "dry_run": False,
            },
        )

    def test_an_import_can_be_started(self):
        job = self.client.start_import("orders", "/data/a.csv", ref="dev", nulls="NA")
        self.assertEqual(job.id, JOB)
        self.assertEqual(
            self.server.last().body,
            {
                "table": "orders",
                "sources": ["/data/a.csv"],
                "ref": "dev",
                "nulls": ["NA"],
                "types": {},
                "partition": [],
                "on_error": "stop",
                "again": False,
            },
        )
        with self.assertRaisesRegex(TypeError, "`dry_run`"):
            self.client.start_import("orders", "/data/a.csv", dry_run=True)

    def test_a_client_with_a_profile_sends_files(self):
        folder = self.folder()
        profiles = {"team": {"url": self.client._connection.url, "token": "t"}}
        path = folder / "headwater" / "profiles.json"
        path.parent.mkdir()
        path.write_text(json.dumps({"profiles": profiles}))
        (folder / "a b.csv").write_text("id\n1\n")
        self.server.on("POST", "/v1/uploads", Answer({"path": "/uploads/1/a b.csv"}, 201))
        with mock.patch.dict(os.environ, {"XDG_CONFIG_HOME": str(folder)}):
            client = headwater.Client(profile="team")
            client.start_import("orders", [folder / "a b.csv", "s3://bucket/b.csv"])
            with self.assertRaisesRegex(errors.InvalidArgumentError, "not a readable file"):
                client.start_import("orders", folder)
        upload, started = self.server.seen
        self.assertEqual((upload.body, upload.parameters), (b"id\n1\n", {"name": "a b.csv"}))
        self.assertEqual(upload.headers["content-type"], "application/octet-stream")
        self.assertEqual(started.body["sources"], ["/uploads/1/a b.csv", "s3://bucket/b.csv"])

    def test_the_sent_files_of_an_import_that_ended_are_deleted(self):
        folder = self.folder()
        profiles = {"team": {"url": self.client._connection.url, "token": "t"}}
        path = folder / "headwater" / "profiles.json"
        path.parent.mkdir()
        path.write_text(json.dumps({"profiles": profiles}))
        (folder / "a.csv").write_text("id\n1\n")
        on = self.server.on
        on("POST", "/v1/uploads", Answer({"path": "/uploads/1/a.csv"}, 201))
        on("DELETE", "/v1/uploads", Answer(b"", 204))
        on("POST", "/v1/imports", Answer({"id": JOB, "status": "queued"}, 202))
        on("GET", f"/v1/jobs/{JOB}/events", Answer(b""))
        failed = {"code": "bad_row", "message": "row 2 is too long"}
        for job, error in [
            ({"status": "succeeded", "result": {"rows": 1}}, None),
            ({"status": "failed", "error": failed}, errors.BadRowError),
        ]:
            on("GET", f"/v1/jobs/{JOB}", Answer({"id": JOB, **job}))
            self.server.seen.clear()
            with mock.patch.dict(os.environ, {"XDG_CONFIG_HOME": str(folder)}):
                client = headwater.Client(profile="team")
                if error is None:
                    self.assertEqual(client.import_files("t", folder / "a.csv")["rows"], 1)
                else:
                    with self.assertRaises(error):
                        client.import_files("t", folder / "a.csv")
            deletions = [seen for seen in self.server.seen if seen.method == "DELETE"]
            paths = [seen.parameters["path"] for seen in deletions]
            self.assertEqual(paths, ["/uploads/1/a.csv"])
        # A file that is missing prevents the import, so the files before it are not needed.
        self.server.seen.clear()
        with mock.patch.dict(os.environ, {"XDG_CONFIG_HOME": str(folder)}):
            client = headwater.Client(profile="team")
            with self.assertRaisesRegex(errors.InvalidArgumentError, "not a readable file"):
                client.import_files("t", [folder / "a.csv", folder / "b.csv"])
        self.assertEqual([seen.method for seen in self.server.seen], ["POST", "DELETE"])

    def test_maintenance_can_be_started(self):
        path = "/v1/branches/dev/tables/orders/maintain"
        self.server.on("POST", path, Answer({"id": JOB, "status": "queued"}, 202))
        job = self.client.start_maintain("orders", ref="dev", sort="day", expire_before="1h30m")
        self.assertEqual(job.id, JOB)
        self.assertEqual(
            self.server.last().body,
            {
                "compact": False,
                "sort": ["day"],
                "zorder": [],
                "manifests": False,
                "expire_before_seconds": 5_400,
                "orphans": False,
                "force": False,
            },
        )
        with self.assertRaisesRegex(TypeError, "`dry_run`"):
            self.client.start_maintain("orders", dry_run=True)


if __name__ == "__main__":
    unittest.main()
