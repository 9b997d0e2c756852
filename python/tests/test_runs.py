"""Tests of runs that a program starts and follows, and of the display of answers in notebooks."""

import asyncio
import json
import tempfile
import unittest
from pathlib import Path

from stand_in import Answer, serve_tcp

import headwater
from headwater import errors, notebook

JOB = "01a0-job"
STEP = {"step": "daily", "kind": "sql", "status": "succeeded", "usage": {"wall_ms": 12}}
REPORT = {"project": "shop", "branch": "main", "steps": [STEP], "cost": 0.5}


def job(status, **more):
    return Answer({"id": JOB, "kind": "run", "status": status, **more})


class StartedRuns(unittest.TestCase):
    def setUp(self):
        serving = serve_tcp()
        self.server, url = serving.__enter__()
        self.addCleanup(serving.__exit__, None, None, None)
        self.client = headwater.Client(url=url, author="ada")
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.project = Path(folder.name)
        (self.project / "headwater.toml").write_text('[project]\nname = "shop"\n')
        self.server.on("POST", "/v1/runs", job("queued"))
        ended = json.dumps({"sequence": 1, "type": "ended"}).encode() + b"\n"
        self.server.on("GET", f"/v1/jobs/{JOB}/events", Answer(ended))

    def test_a_started_run_returns_before_its_end(self):
        started = self.client.start_run(self.project, select="daily", parameters={"day": 3})
        self.assertEqual(started.id, JOB)
        sent = self.server.last().body
        self.assertEqual((sent["select"], sent["parameters"]), (["daily"], {"day": "3"}))
        self.client.start_run(self.project)
        self.assertNotIn("select", self.server.last().body, "the server rejects an empty list")
        self.server.on("GET", f"/v1/jobs/{JOB}", job("running"), job("succeeded", result=REPORT))
        self.assertFalse(started.done())
        self.assertEqual(started.result(), REPORT)

    def test_a_run_can_be_awaited(self):
        self.server.on("GET", f"/v1/jobs/{JOB}", job("succeeded", result=REPORT))

        async def both():
            runs = [self.client.start_run(self.project) for _ in range(2)]
            return await asyncio.gather(*runs)

        self.assertEqual(asyncio.run(both()), [REPORT, REPORT])

    def test_errors_and_time_limits_are_raised(self):
        started = self.client.running_job(JOB)
        self.server.on("GET", f"/v1/jobs/{JOB}", job("running"))
        with self.assertRaises(TimeoutError):
            started.result(timeout=0)
        problem = {"code": "run_failed", "message": "`daily` failed"}
        self.server.on("GET", f"/v1/jobs/{JOB}", job("failed", error=problem))
        with self.assertRaises(errors.RunFailedError) as raised:
            started.result(timeout=60)
        self.assertEqual(raised.exception.context["job"], JOB)

    def test_a_run_is_repeated(self):
        self.server.on("POST", "/v1/jobs/old/rerun", job("queued"))
        self.assertEqual(self.client.rerun("old", branch="check").id, JOB)
        self.assertEqual(self.server.last().parameters, {"exact": "true", "branch": "check"})

    def test_a_backfill_is_started_as_one_job(self):
        self.server.on("POST", "/v1/backfills", job("queued"))
        days = "2026-01-01..2026-01-02"
        self.assertEqual(self.client.start_backfill(self.project, "day", days).id, JOB)
        sent = self.server.last().body
        self.assertEqual(sent["values"], ["2026-01-01", "2026-01-02"])
        self.assertEqual((sent["parameter"], sent["jobs"], sent["retries"]), ("day", 4, 2))
        self.assertIn("headwater.toml", sent["run"]["files"])
        self.client.start_backfill(self.project, "day", partitions_of="trips", ref="dev")
        sent = self.server.last().body
        self.assertEqual((sent["partitions_of"], sent["run"]["ref"]), ("trips", "dev"))
        self.assertNotIn("values", sent)
        with self.assertRaises(errors.HeadwaterError):
            self.client.start_backfill(self.project, "day")

    def test_a_backfill_reports_each_value(self):
        self.server.on("POST", "/v1/backfills", job("queued"))
        merged = {"value": "1", "status": "merged", "attempts": 1, "job": "a", "commit": "c"}
        problem = {"code": "run_failed", "message": "`daily` failed"}
        failed = {"value": "2", "status": "failed", "attempts": 3, "error": problem}
        events = [{"type": "value_ended", "report": one} for one in (merged, failed)]
        numbered = enumerate([*events, {"type": "ended"}])
        lines = [json.dumps({"sequence": n, **event}).encode() + b"\n" for n, event in numbered]
        self.server.on("GET", f"/v1/jobs/{JOB}/events", Answer(b"".join(lines)))
        report = {"parameter": "n", "branch": "main", "total": 2, "values": [merged, failed]}
        missing = "1 of 2 values were not backfilled"
        error = {"code": "run_failed", "message": missing, "context": {"report": report}}
        self.server.on("GET", f"/v1/jobs/{JOB}", job("failed", error=error))
        ended = []
        with self.assertRaises(errors.RunFailedError) as raised:
            self.client.backfill(self.project, "n", [1, 2], on_value=ended.append)
        self.assertEqual(raised.exception.message, missing)
        values = raised.exception.context["report"]["values"]
        for first, second in (ended, values):
            self.assertEqual((first["status"], first["error"]), ("merged", None))
            self.assertIsInstance(second["error"], errors.RunFailedError)

    def test_a_run_is_stopped(self):
        self.server.on("POST", f"/v1/jobs/{JOB}/stop", job("cancelled"))
        self.assertEqual(self.client.running_job(JOB).stop()["status"], "cancelled")


class Display(unittest.TestCase):
    def test_answers_are_plain_dicts_and_lists_with_html(self):
        report = notebook.shown(REPORT)
        self.assertEqual(json.loads(json.dumps(report)), REPORT)
        html = report._repr_html_()
        for part in ("<b>project</b> shop", "<th>wall_ms</th>", "<td>daily</td>", "<td>12</td>"):
            self.assertIn(part, html)
        listed = notebook.shown([{"name": "<main>"}, {"name": "dev"}])
        self.assertIn("<td>&lt;main&gt;</td>", listed._repr_html_())
        self.assertEqual(notebook.shown(None), None)

    def test_long_lists_are_cut(self):
        html = notebook.shown([{"n": n} for n in range(30)])._repr_html_()
        self.assertEqual(html.count("<tr>"), 1 + notebook.ROWS_MAX)
        self.assertIn("30 rows, the first 20 are shown", html)

    def test_the_extension_registers_tables(self):
        registered = {}

        class Formatter:
            def for_type_by_name(self, module, name, function):
                registered[module, name] = function

        class Shell:
            class display_formatter:
                formatters = {"text/html": Formatter()}

        notebook.load_ipython_extension(Shell())
        self.assertEqual(registered, {("pyarrow.lib", "Table"): notebook.table_html})


if __name__ == "__main__":
    unittest.main()
