"""Tests of the client's requests, and of its results for the server's responses."""

import json
import os
import sys
import tempfile
import types
import unittest
from datetime import datetime, timezone
from pathlib import Path
from unittest import mock

from stand_in import Answer, WithServer, serve_tcp

import headwater
from headwater import errors, frames
from headwater.arrow_body import ARROW_END, ArrowBody
from headwater.client import ARROW

JOB = "01a0-job"


def job(status="succeeded", **more):
    return {"id": JOB, "kind": "run", "status": status, **more}


def events(*kinds, first=1):
    import json

    numbered = enumerate(kinds, first)
    return [json.dumps({"sequence": n, "type": kind}).encode() + b"\n" for n, kind in numbered]


class Requests(WithServer):
    def test_every_noun_has_its_path(self):
        client = self.client
        check = self.check
        check(client.branches, "GET", "/v1/branches")
        check(lambda: client.branches(prefix="dev/"), "GET", "/v1/branches", {"prefix": "dev/"})
        check(client.tags, "GET", "/v1/tags")
        check(client.tables, "GET", "/v1/refs/main/tables")
        check(lambda: client.log(limit=3), "GET", "/v1/refs/main/commits", {"limit": "3"})
        check(lambda: client.branch("dev"), "GET", "/v1/branches/dev")
        check(lambda: client.tag("v1"), "GET", "/v1/tags/v1")
        check(lambda: client.resolve("main~2"), "GET", "/v1/refs/main~2")
        check(client.namespaces, "GET", "/v1/refs/main/namespaces")
        check(client.environments, "GET", "/v1/environments")
        check(lambda: client.environment("3f"), "GET", "/v1/environments/3f")
        check(lambda: client.function("price"), "GET", "/v1/functions/price")
        check(lambda: client.function_versions("price"), "GET", "/v1/functions/price/versions")
        check(lambda: client.deployment("3f"), "GET", "/v1/deployments/3f")
        check(client.usage, "GET", "/v1/usage", {"by": "kind"})
        since = datetime(2026, 11, 1, tzinfo=timezone.utc)
        period = {"by": "branch", "since": "2026-11-01T00:00:00+00:00", "until": "2026-12-01"}
        check(
            lambda: client.usage(by="branch", since=since, until="2026-12-01"),
            "GET",
            "/v1/usage",
            period,
        )
        both = {"by": "function,day"}
        check(lambda: client.usage(by=("function", "day")), "GET", "/v1/usage", both)
        check(lambda: client.stop_server(drain="30s"), "POST", "/v1/shutdown", {"drain_ms": "30000"})
        check(lambda: client.jobs(kind="run"), "GET", "/v1/jobs", {"kind": "run", "limit": "100"})
        check(lambda: client.job("ab12"), "GET", "/v1/jobs/ab12")
        check(lambda: client.stop_job("ab12"), "POST", "/v1/jobs/ab12/stop")
        check(client.health, "GET", "/health")

    def test_names_with_slashes_stay_one_segment(self):
        client = self.client
        self.check(
            lambda: client.table("shop.täglich", ref="feature/x@3fa9c1d2"),
            "GET",
            "/v1/refs/feature%2Fx%403fa9c1d2/tables/shop.t%C3%A4glich",
        )
        self.check(
            lambda: client.diff("main", "feature/x", rows=2),
            "GET",
            "/v1/refs/main/diff/feature%2Fx",
            {"rows": "2"},
        )
        self.check(
            lambda: client.diff_table("t", "main", "feature/x", key=["a", "b"], stats=True),
            "GET",
            "/v1/refs/main/diff/feature%2Fx/tables/t",
            {"key": "a,b", "limit": "100", "stats": "true"},
        )

    def test_refs_are_created_merged_and_deleted(self):
        client = self.client
        made = {"name": "dev", "from": "v1", "if_not_exists": False}
        self.check(
            lambda: client.create_branch("dev", from_ref="v1"), "POST", "/v1/branches", body=made
        )
        self.check(lambda: client.create_tag("dev", from_ref="v1"), "POST", "/v1/tags", body=made)
        self.check(
            lambda: client.merge("dev", into="team/main", message="all of it"),
            "POST",
            "/v1/branches/team%2Fmain/merge",
            body={"source": "dev", "message": "all of it", "dry_run": False, "unchecked": False},
        )
        project = self.folder()
        (project / "headwater.toml").write_text("[project]\nname = \"x\"\n")
        merge = {"source": "dev", "dry_run": True, "unchecked": False}
        self.check(
            lambda: client.merge(
                "dev", into="main", dry_run=True, rerun=project, parameters={"day": 3}
            ),
            "POST",
            "/v1/runs",
            body={
                "files": {"headwater.toml": "[project]\nname = \"x\"\n"},
                "ref": "main",
                "dry_run": True,
                "merge": merge,
                "parameters": {"day": "3"},
            },
        )
        self.server.on("DELETE", "/v1/branches/team%2Fdev", Answer(b"", 204))
        self.assertIsNone(client.delete_branch("team/dev", if_exists=True))
        self.assertEqual(self.server.last().parameters, {"if_exists": "true"})

    def test_every_request_has_the_author(self):
        self.server.on("GET", "/v1/tags", Answer([]))
        self.client.tags()
        author = self.server.last().headers["x-headwater-author"]
        # The standard library's server reads headers as Latin-1; the client sends UTF-8.
        self.assertEqual(author.encode("latin-1").decode(), "mø@here")

    def test_problems_are_raised_as_their_classes(self):
        report = {"outcome": "conflict", "conflicts": [{"table": "orders"}]}
        problem = {"code": "merge_conflict", "message": "both", "context": {"report": report}}
        self.server.on("POST", "/v1/branches/main/merge", Answer(problem, 409))
        with self.assertRaises(errors.MergeConflictError) as raised:
            self.client.merge("dev", into="main")
        self.assertEqual(raised.exception.context["report"], report)

    def test_an_answer_of_another_server_is_explained(self):
        self.server.on("GET", "/v1/tags", Answer(b"<html>bad gateway</html>", 502))
        with self.assertRaisesRegex(errors.InternalError, "HTTP status `502`"):
            self.client.tags()

    def test_a_truncated_response_is_an_error(self):
        self.server.on("GET", "/v1/tags", Answer(chunks=[b"[{}"], cut=True))
        with self.assertRaisesRegex(errors.UnavailableError, "cut off"):
            self.client.tags()


class Arguments(unittest.TestCase):
    def test_no_server_is_unavailable(self):
        with serve_tcp() as (_, url):
            client = headwater.Client(url=url)
        with self.assertRaisesRegex(errors.UnavailableError, f"no server responds at `{url}`"):
            client.tags()

    def test_the_token_is_sent(self):
        with serve_tcp() as (server, url):
            server.on("GET", "/v1/tags", Answer([]))
            headwater.Client(url=url).tags()
            self.assertNotIn("authorization", server.last().headers)
            headwater.Client(url=url, token="abc").tags()
            self.assertEqual(server.last().headers["authorization"], "Bearer abc")

    def test_the_token_of_the_nearest_lakes_server_is_found(self):
        with tempfile.TemporaryDirectory() as folder, serve_tcp() as (server, url):
            server.on("GET", "/v1/tags", Answer([]))
            lake = Path(folder) / ".headwater"
            lake.mkdir()
            token = lake / "server.token"
            token.write_text("secret\n")
            before = os.getcwd()
            self.addCleanup(os.chdir, before)
            os.chdir(folder)
            for noted, shown in ((url.removeprefix("http://"), "Bearer secret"), ("127.0.0.1:1", None)):
                record = {"http": noted, "token_file": str(token)}
                (lake / "server.json").write_text(json.dumps(record))
                headwater.Client(url=url).tags()
                self.assertEqual(server.last().headers.get("authorization"), shown)
            os.chdir(before)

    def test_the_active_branch_of_a_profile_is_set(self):
        with tempfile.TemporaryDirectory() as folder, serve_tcp() as (server, url):
            server.on("GET", "/v1/branches/dev", Answer({"name": "dev", "commit": "3fa9"}))
            server.on("GET", "/v1/refs/dev/tables", Answer([]))
            path = Path(folder) / "headwater" / "profiles.json"
            path.parent.mkdir()
            profiles = {"team": {"url": url, "token": "t"}, "other": {"url": url, "token": "o"}}
            path.write_text(json.dumps({"default": "other", "profiles": profiles}))
            with mock.patch.dict(os.environ, {"XDG_CONFIG_HOME": folder}):
                client = headwater.Client(profile="team")
                self.assertEqual(client.checkout("dev")["commit"], "3fa9")
                client.tables()
                headwater.Client(profile="team").tables()
            profiles["team"]["branch"] = "dev"
            self.assertEqual(json.loads(path.read_text())["profiles"], profiles)
            self.assertEqual(path.stat().st_mode & 0o777, 0o600)
            with self.assertRaisesRegex(errors.InvalidArgumentError, "no active branch"):
                headwater.Client(url=url).checkout("dev")

    def test_invalid_client_arguments_are_rejected(self):
        for arguments in (
            {"url": "127.0.0.1:4280"},
            {"url": "ftp://127.0.0.1"},
            {"url": "http://127.0.0.1:port"},
            {"url": "http://127.0.0.1/v1"},
            {"url": "http://127.0.0.1", "lake": "."},
            {"url": "http://127.0.0.1", "author": "two\nlines"},
            {"url": "http://127.0.0.1", "token": "two words"},
        ):
            with self.subTest(arguments), self.assertRaises(errors.InvalidArgumentError):
                headwater.Client(**arguments)
        with self.assertRaisesRegex(errors.InvalidArgumentError, "`''` is not a valid name"):
            headwater.Client(url="http://127.0.0.1").table("")
        with self.assertRaisesRegex(errors.InvalidArgumentError, "`days` is 0"):
            headwater.Client(url="http://127.0.0.1").usage(days=0)


class Queries(WithServer):
    headers = {"x-headwater-job": JOB}

    def test_rows_come_as_dicts(self):
        rows = [{"city": "Oslo", "days": 2}]
        self.server.on("POST", "/v1/query", Answer(rows, headers=self.headers))
        query = self.client.query_rows
        self.assertEqual(query("SELECT 1", ref="dev", limit=5, memory="1MiB"), rows)
        seen = self.server.last()
        self.assertEqual(seen.headers["accept"], "application/json")
        sent = {"sql": "SELECT 1", "ref": "dev", "limit": 5, "memory_bytes_max": 1 << 20}
        self.assertEqual(seen.body, sent)

    def test_a_truncated_response_raises_the_jobs_error(self):
        problem = {"code": "memory_limit", "message": "`1` byte", "context": {}}
        cut = Answer(chunks=[b'[{"city":"Oslo"}'], cut=True, headers=self.headers)
        self.server.on("POST", "/v1/query", cut)
        self.server.on(
            "GET",
            f"/v1/jobs/{JOB}",
            Answer(job("running")),
            Answer(job("failed", error=problem)),
        )
        with self.assertRaises(errors.MemoryLimitError) as raised:
            self.client.query_rows("SELECT 1")
        self.assertEqual(raised.exception.context["job"], JOB)

    def test_a_truncated_response_without_a_job_error_is_unavailable(self):
        self.server.on("POST", "/v1/query", Answer(chunks=[b"["], cut=True, headers=self.headers))
        with self.assertRaisesRegex(errors.UnavailableError, "cut off"):
            self.client.query_rows("SELECT 1")

    def arrow(self):
        """Replaces pyarrow by a module that returns the bytes of a stream as its table."""

        class Reader:
            def __init__(self, body):
                self.body = body

            def __enter__(self):
                return self

            def __exit__(self, *_):
                self.body.close()

            def read_all(self):
                # Like pyarrow's method, accept any end of the data.
                return b"".join(iter(lambda: self.body.read(3), b""))

        pyarrow = types.ModuleType("pyarrow")
        pyarrow.ipc = types.ModuleType("pyarrow.ipc")
        pyarrow.ipc.open_stream = Reader
        return mock.patch.dict(sys.modules, {"pyarrow": pyarrow, "pyarrow.ipc": pyarrow.ipc})

    def test_a_complete_stream_is_a_table(self):
        answer = Answer(chunks=[b"batches", ARROW_END[:3], ARROW_END[3:]], headers=self.headers)
        self.server.on("POST", "/v1/query", answer)
        with self.arrow():
            self.assertEqual(self.client.query("SELECT 1"), b"batches" + ARROW_END)
        self.assertEqual(self.server.last().headers["accept"], ARROW)

    def test_a_stream_without_its_end_is_an_error(self):
        problem = {"code": "disk_full", "message": "no room"}
        self.server.on("POST", "/v1/query", Answer(chunks=[b"batches"], headers=self.headers))
        self.server.on("GET", f"/v1/jobs/{JOB}", Answer(job("failed", error=problem)))
        with self.arrow(), self.assertRaises(errors.DiskFullError):
            self.client.query("SELECT 1")

    def test_an_empty_list_has_no_columns(self):
        with self.assertRaisesRegex(errors.InvalidArgumentError, "an empty list has no columns"):
            frames._to_arrow(None, [])

    def test_without_pyarrow_the_error_says_so(self):
        with mock.patch.dict(sys.modules, {"pyarrow": None, "pyarrow.ipc": None}):
            with self.assertRaisesRegex(ImportError, "pyarrow is not installed"):
                self.client.query("SELECT 1")

    def test_a_polars_frame_is_made_of_the_table(self):
        package = types.SimpleNamespace(from_arrow=lambda table: ["frame", table])
        with (
            mock.patch.object(self.client, "query", return_value="table"),
            mock.patch("headwater.client.import_package", return_value=package),
        ):
            self.assertEqual(self.client.query_polars("SELECT 1"), ["frame", "table"])

    def test_the_tail_of_a_body_is_found_over_short_reads(self):
        class Response:
            rest = b"x" + ARROW_END

            def read(self, size):
                content, self.rest = self.rest[:1], self.rest[1:]
                return content

        ArrowBody(Response()).check_end()


class Work(WithServer):
    def project(self):
        root = self.folder()
        (root / "headwater.toml").write_text("[project]\n")
        (root / "a.sql").write_text("SELECT 1")
        return root

    def started(self, *streams, ended):
        self.server.on("POST", "/v1/runs", Answer(job("queued"), 202))
        self.server.on("GET", f"/v1/jobs/{JOB}/events", *streams)
        self.server.on("GET", f"/v1/jobs/{JOB}", Answer(ended))

    def test_a_run_is_followed_to_its_report(self):
        report = {"project": "shop", "commit": "3fa9c1d2"}
        stream = Answer(chunks=events("started", "step_ended", "ended"))
        self.started(stream, ended=job(result=report))
        came = []
        answer = self.client.run(
            self.project(),
            ref="dev",
            parameters={"minimum": 1.5, "all": True},
            strict=False,
            on_event=came.append,
        )
        self.assertEqual(answer, report)
        self.assertEqual([event["type"] for event in came], ["started", "step_ended", "ended"])
        self.assertEqual(
            self.server.seen[0].body,
            {
                "files": {"a.sql": "SELECT 1", "headwater.toml": "[project]\n"},
                "ref": "dev",
                "parameters": {"minimum": "1.5", "all": "true"},
                "strict": False,
                "no_cache": False,
                "dry_run": False,
            },
        )
        self.assertEqual(self.server.seen[1].parameters, {"after": "0", "follow": "true"})

    def test_a_broken_event_stream_is_resumed(self):
        broken = Answer(chunks=[*events("started", "log"), b'{"sequence": 3, "ty'], cut=True)
        rest = Answer(chunks=events("log", "ended", first=3))
        self.started(broken, rest, ended=job(result={}))
        came = []
        self.client.run(self.project(), on_event=came.append)
        self.assertEqual([event["sequence"] for event in came], [1, 2, 3, 4])
        self.assertEqual(self.server.seen[2].parameters["after"], "2")

    def test_a_failed_run_raises_its_error(self):
        problem = {"code": "expectation_failed", "message": "`positive` is false"}
        stream = Answer(chunks=events("started", "ended"))
        self.started(stream, ended=job("failed", error=problem))
        with self.assertRaises(errors.ExpectationFailedError) as raised:
            self.client.run(self.project())
        self.assertEqual(raised.exception.context["job"], JOB)

    def test_an_interrupted_run_raises_its_status(self):
        self.started(Answer(chunks=events("started")), ended=job("interrupted"))
        with self.assertRaises(errors.InterruptedError):
            self.client.run(self.project())

    def test_ctrl_c_stops_the_run(self):
        def press(_):
            raise KeyboardInterrupt

        self.started(Answer(chunks=events("started", "ended")), ended=job("cancelled"))
        self.server.on("POST", f"/v1/jobs/{JOB}/stop", Answer(job("running")))
        with self.assertRaises(KeyboardInterrupt):
            self.client.run(self.project(), on_event=press)
        self.assertEqual(self.server.last().path, f"/v1/jobs/{JOB}/stop")

    def test_a_dry_run_returns_the_plan(self):
        plan = {"project": "shop", "steps": []}
        self.server.on("POST", "/v1/runs", Answer(plan))
        self.assertEqual(self.client.run(self.project(), dry_run=True), plan)
        self.assertEqual(len(self.server.seen), 1)

    def test_a_preview_asks_for_rows(self):
        self.started(Answer(chunks=events("ended")), ended=job(result={"steps": []}))
        self.client.run(self.project(), preview=3, tail=True)
        self.assertEqual(self.server.seen[0].body["preview"], {"rows": 3, "tail": True})

    def test_a_parameter_is_a_plain_value(self):
        with self.assertRaisesRegex(errors.InvalidArgumentError, "parameter `day` cannot be"):
            self.client.run(self.project(), parameters={"day": [1]})


if __name__ == "__main__":
    unittest.main()
