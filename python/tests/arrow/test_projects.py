"""Tests of the client's runs and deployments with a real server."""

import os
import unittest
from pathlib import Path

from real_server import RealServer

from headwater import errors

PROJECT = """
[project]
name = "test"

[parameters.n]
type = "int"
default = 1
"""

APPEND = "-- headwater: materialization = append\n"


class Projects(RealServer):
    def test_the_command_and_the_client_send_the_same_files(self):
        settings = Path(self.folder, "headwater.toml").read_text()
        functions = """
[functions.upper]
command = ["sh", "./web/upper.sh", "web"]
files = ["web/lib/", "assets"]
"""
        self.write("headwater.toml", settings + functions)
        for path in (
            "models/a.sql",
            "models/deep/b.sql",
            "models/.hidden.sql",
            "models/__pycache__/c.sql",
            "data/d.sql",
            "build/e.py",
            "dist/f.py",
            "shop.egg-info/g.py",
            "packages/site-packages/h.py",
            "env/pyvenv.cfg",
            "env/i.py",
            "cache/CACHEDIR.TAG",
            "cache/j.py",
            "other/headwater.toml",
            "other/k.sql",
            "third/bauplan_project.yml",
            "third/l.sql",
            "web/node_modules/m.py",
            "web/upper.sh",
            "web/other.sh",
            "web/lib/text.txt",
            "web/lib/.cache",
            "notes.md",
            "notes.yaml",
        ):
            self.write(path, "SELECT 1 AS n")
        self.write("assets/logo", b"\xff\x00")
        os.symlink("../notes.md", Path(self.folder, "web/lib/linked"))
        by_command = self.json("deploy", "--dry-run")["deployment"]
        by_client = self.client.deploy(self.folder, dry_run=True)["deployment"]
        self.assertEqual(by_client["files"], by_command["files"])
        self.assertIn("web/lib/text.txt", by_client["files"])
        self.assertEqual(by_client["version"], by_command["version"], "the contents differ")

    def test_a_project_is_backfilled_over_values(self):
        self.write("headwater.toml", PROJECT)
        self.write("squares.sql", f"{APPEND}SELECT $n AS n, $n * $n AS square")
        ended = []
        backfill = self.client.backfill
        report = backfill(self.folder, "n", "1..4", jobs=2, on_value=ended.append)
        self.assertEqual((report["parameter"], report["branch"], report["total"]), ("n", "main", 4))
        outcomes = [(one["value"], one["status"], one["error"]) for one in report["values"]]
        self.assertEqual(outcomes, [(value, "merged", None) for value in "1234"])
        self.assertEqual(sorted(one["value"] for one in ended), list("1234"))
        squares = [{"n": n, "square": n * n} for n in range(1, 5)]
        self.assertEqual(self.rows("SELECT * FROM squares ORDER BY n"), squares)
        self.assertEqual([branch["name"] for branch in self.client.branches()], ["main"])
        with self.assertRaisesRegex(errors.InvalidArgumentError, "is given twice"):
            backfill(self.folder, "n", [1], parameters={"n": 1})

    def test_values_that_fail_are_reported_and_the_others_are_merged(self):
        self.write("headwater.toml", PROJECT)
        divided = "SELECT $n AS n, 1 / (CASE WHEN $n = 3 THEN 0 ELSE 1 END) AS one"
        self.write("numbers.sql", APPEND + divided)
        with self.assertRaises(errors.HeadwaterError) as raised:
            self.client.backfill(self.folder, "n", range(1, 6), retries=0)
        error = raised.exception
        self.assertEqual(error.message, "1 of 5 values were not backfilled")
        self.assertIn("n=3: ", error.causes[0])
        report = error.context["report"]
        failed = [one for one in report["values"] if one["error"]]
        self.assertEqual([(one["value"], one["attempts"]) for one in failed], [("3", 1)])
        merged = [row["n"] for row in self.rows("SELECT n FROM numbers ORDER BY n")]
        self.assertEqual(merged, [1, 2, 4, 5])
        self.assertEqual([branch["name"] for branch in self.client.branches()], ["main"])

    def test_a_backfill_that_is_stopped_leaves_no_branch_and_no_running_job(self):
        self.write("headwater.toml", PROJECT)
        self.write("numbers.sql", f"{APPEND}SELECT $n AS n")

        def press(_):
            raise KeyboardInterrupt

        with self.assertRaises(KeyboardInterrupt):
            self.client.backfill(self.folder, "n", "1..9", jobs=2, on_value=press)
        self.assertEqual([branch["name"] for branch in self.client.branches()], ["main"])
        self.assertEqual(self.client.jobs(kind="run", status="running,queued"), [])

    def test_a_project_runs_again_after_each_edit(self):
        self.write("headwater.toml", PROJECT)
        self.write("answer.sql", f"{APPEND.replace('append', 'replace')}SELECT 1 AS n")
        outcomes = self.client.watch(self.folder, interval=0.01)
        self.assertEqual(next(outcomes).report["steps"][0]["step"], "answer")
        self.assertEqual(self.rows("SELECT n FROM answer"), [{"n": 1}])
        self.write("answer.sql", "SELEC 2 AS n")
        failed = next(outcomes)
        self.assertIsNone(failed.report)
        self.assertIsInstance(failed.error, errors.HeadwaterError)
        self.write("answer.sql", b"\xff")
        self.assertIn("is not UTF-8 text", next(outcomes).error.message)
        self.write("answer.sql", f"{APPEND.replace('append', 'replace')}SELECT 3 AS n")
        self.assertIsNone(next(outcomes).error)
        self.assertEqual(self.rows("SELECT n FROM answer"), [{"n": 3}])
        outcomes.close()

    def test_a_function_is_called_again_after_each_edit(self):
        double = "import headwater\n\n\n@headwater.function()\ndef double(n):\n    return n * 2\n"
        self.write("headwater.toml", PROJECT)
        self.write("double.py", double)
        calls = self.client.watch_function(self.folder, "double", {"n": 4}, interval=0.01)
        self.assertEqual(next(calls).result, 8)
        self.write("double.py", double.replace("n * 2", "n * missing"))
        failed = next(calls)
        self.assertIsInstance(failed.error, errors.FunctionFailedError)
        self.write("double.py", double.replace("n * 2", "n * 3"))
        self.assertEqual(next(calls).result, 12)
        calls.close()

    def test_a_failed_run_is_continued_with_its_own_files(self):
        replace = APPEND.replace("append", "replace")
        self.write("headwater.toml", PROJECT)
        self.write("first.sql", f"{replace}SELECT $n AS n")
        self.write("second.sql", f"{replace}SELECT 1 / (n - 1) AS n FROM first")
        with self.assertRaises(errors.HeadwaterError) as raised:
            self.client.run(self.folder)
        self.write("second.sql", f"{replace}SELECT n FROM first")
        retry = self.client.retry(raised.exception.context["job"])
        with self.assertRaises(errors.HeadwaterError) as again:
            retry.result()
        self.assertEqual(again.exception.code, raised.exception.code)
        started = [one["step"] for one in retry.events() if one["type"] == "step_started"]
        self.assertEqual(started, ["second"])
        self.client.run(self.folder, retry=retry.id, parameters={"n": 1})
        self.assertEqual(self.rows("SELECT n FROM second"), [{"n": 1}])


if __name__ == "__main__":
    unittest.main()
