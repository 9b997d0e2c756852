"""Backfills: runs of a project for each value of a parameter, several at once.

The steps are those of the command `headwater backfill`. The first value runs on the branch itself,
which creates the tables. Every other value runs on its own branch of the resulting commit. The
branches are merged one at a time. After a merge conflict, the value runs again on the merged state,
and merges of other values wait.
"""

from __future__ import annotations

import os
import threading
import uuid
import warnings
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor, as_completed
from datetime import date
from string import ascii_letters, digits
from typing import TYPE_CHECKING, Any, TypedDict

from .backfill_values import parse_values
from .connection import segments
from .errors import HeadwaterError, make
from .notebook import shown
from .project import read_project
from .requests import selectors, without_none
from .runs import RunningJob, Runs

if TYPE_CHECKING:
    from .client import Client

# Errors that a retry cannot avoid.
PERMANENT = ("invalid_argument", "invalid_project", "forbidden", "cancelled", "ref_not_found")

# The wait before the first retry of a value, which doubles up to the maximum, in seconds.
RETRY_SECONDS = 1.0
RETRY_SECONDS_MAX = 30.0

JOBS_MAX = 64


class ValueReport(TypedDict):
    """The outcome of one value of a backfill.

    `status` is `merged`, `unchanged` or `failed`. `attempts` is the number of runs. `job` is the id
    of the last run, `commit` the commit of the merge, and `error` the error of a failed value.
    """

    value: str
    status: str
    attempts: int
    job: str | None
    commit: str | None
    error: HeadwaterError | None


OnValue = Callable[[ValueReport], object]


class Backfills(Runs):
    """Backfills of projects."""

    def backfill(
        self,
        project_dir: str | os.PathLike[str],
        parameter: str,
        values: str | Iterable[str | int | float | date],
        *,
        ref: str | None = None,
        parameters: Mapping[str, object] | None = None,
        strict: bool = True,
        select: str | Iterable[str] = (),
        exclude: str | Iterable[str] = (),
        jobs: int = 4,
        retries: int = 2,
        on_value: OnValue | None = None,
    ) -> dict[str, Any]:
        """Runs the project in a folder once for each value of a parameter, and merges the results
        into the branch `ref`.

        `values` is a list of values, or text: a range with both ends, such as
        `"2026-01-01..2026-01-31"`, `"2026-01..2026-06"` or `"0..15"`, or `"JFK,LGA"`. `parameters`
        are the other parameters, the same in all runs. At most `jobs` values run at once. A failed
        value runs again up to `retries` times. `on_value` is called with the report of each value
        when it has ended. Ctrl-C stops the runs; merged values stay merged.

        Returns `parameter`, `branch`, `total` and `values`, the report of each value: `value`,
        `status` (`merged`, `unchanged` or `failed`), `attempts`, `job`, `commit` and `error`. If
        values fail, the other values are merged. The method then raises an error with the code of
        the first failed value and with this report in `context["report"]`.
        """
        if not 1 <= jobs <= JOBS_MAX:
            raise make("invalid_argument", f"`jobs` cannot be `{jobs}`", "Give 1 to 64.")
        if parameter in (parameters or {}):
            message = f"the parameter `{parameter}` is given twice"
            raise make("invalid_argument", message, "Remove it from `parameters=`.")
        request = self._run_request(
            read_project(project_dir),
            ref=None,
            parameters=parameters,
            strict=strict,
            select=selectors(select) or None,
            exclude=selectors(exclude) or None,
        )
        client: Any = self
        work = _Backfill(client, self._at(ref), request, parameter, retries)
        return work.run(parse_values(parameter, values), jobs, on_value)

    def start_backfill(
        self,
        project_dir: str | os.PathLike[str],
        parameter: str,
        values: str | Iterable[str | int | float | date] | None = None,
        *,
        partitions_of: str | None = None,
        ref: str | None = None,
        parameters: Mapping[str, object] | None = None,
        strict: bool = True,
        select: str | Iterable[str] = (),
        exclude: str | Iterable[str] = (),
        jobs: int = 4,
        retries: int = 2,
    ) -> RunningJob:
        """Starts a backfill as one job of the server, and does not wait for its end.

        The arguments are those of `backfill`. With `partitions_of`, the values are the partitions
        of this table, which is partitioned by one column. `result()` of the returned job waits for
        the end and returns the report. If values fail, it raises an error with the report in
        `context["report"]`.
        """
        if (values is None) == (partitions_of is None):
            message = "a backfill needs either values or a table"
            raise make("invalid_argument", message, "Give `values` or `partitions_of`.")
        run = self._run_request(
            read_project(project_dir),
            ref=ref,
            parameters=parameters,
            strict=strict,
            select=selectors(select) or None,
            exclude=selectors(exclude) or None,
        )
        request: dict[str, Any] = {
            "run": run,
            "parameter": parameter,
            "values": None if values is None else parse_values(parameter, values),
            "partitions_of": partitions_of,
            "jobs": jobs,
            "retries": retries,
        }
        answer = self._dict("POST", "/v1/backfills", without_none(request))
        return self.running_job(answer["id"])


class _Backfill:
    """A running backfill. Its methods are called by several threads."""

    def __init__(
        self, client: Client, branch: str, request: dict[str, Any], parameter: str, retries: int
    ) -> None:
        self._client = client
        self._branch = branch
        self._request = request
        self._parameter = parameter
        self._retries = retries
        self._prefix = f"backfill/{uuid.uuid4().hex[:8]}"
        # Set when the backfill is stopped.
        self._stopped = threading.Event()
        # The ids of running jobs. The lock also ensures that no job starts after the stop.
        self._jobs: set[str] = set()
        self._starting = threading.Lock()
        # Locked during a merge.
        self._merging = threading.Lock()

    def run(self, values: list[str], jobs: int, on_value: OnValue | None) -> dict[str, Any]:
        """Runs all values, and then the project once more to check the merged tables."""
        reports = {}
        on_value = on_value or (lambda _: None)
        with ThreadPoolExecutor(jobs, thread_name_prefix="backfill") as threads:
            try:
                first = _report(values[0])
                self._run_first(first)
                reports[values[0]] = first
                on_value(first)
                # The other values need the tables of the first value.
                others = values[1:] if first["error"] is None else []
                start = self._head() if others else ""
                running = [threads.submit(self._run_value, value, start) for value in others]
                for ended in as_completed(running):
                    report = ended.result()
                    reports[report["value"]] = report
                    on_value(report)
                if others and all(report["error"] is None for report in reports.values()):
                    self._run_job(values[-1], self._branch)
            except BaseException:
                self._stop()
                threads.shutdown(cancel_futures=True)
                raise
        return self._result(values, [reports[value] for value in values if value in reports])

    def _result(self, values: list[str], reports: list[ValueReport]) -> dict[str, Any]:
        """Returns the report of the backfill. Raises an error if a value failed."""
        result: dict[str, Any] = shown(
            {
                "parameter": self._parameter,
                "branch": self._branch,
                "total": len(values),
                "values": reports,
            }
        )
        errors = [(report["value"], report["error"]) for report in reports if report["error"]]
        failed = [(value, error) for value, error in errors if error is not None]
        if not failed:
            return result
        missing = len(values) - (len(reports) - len(failed))
        hint = "Correct the error, and run the backfill again."
        if len(reports) == len(values):
            hint = f"Run the missing values again: {[value for value, _ in failed]}."
        raise make(
            failed[0][1].code,
            f"{missing} of {len(values)} values were not backfilled",
            hint,
            {"report": result},
            [f"{self._parameter}={value}: {error.message}" for value, error in failed],
        )

    def _run_first(self, report: ValueReport) -> None:
        """Runs the first value on the branch itself."""

        def attempt() -> None:
            result = self._run_job(report["value"], self._branch, report)
            _set_commit(report, result.get("commit"))

        self._repeat(report, attempt)

    def _run_value(self, value: str, start: str) -> ValueReport:
        """Runs a value on a branch of the commit `start`, and merges the branch."""
        report = _report(value)
        branch = f"{self._prefix}-{_branch_part(value)}"

        def attempt() -> None:
            try:
                self._run_on_branch(report, branch, start)
                with self._merging:
                    try:
                        self._merge(report, branch)
                    except HeadwaterError as error:
                        if error.code != "merge_conflict":
                            raise
                        # This thread holds the lock, so no other value is merged at the same time.
                        self._delete(branch)
                        report["attempts"] += 1
                        self._run_on_branch(report, branch, self._head())
                        self._merge(report, branch)
            finally:
                self._delete(branch)

        self._repeat(report, attempt)
        return report

    def _repeat(self, report: ValueReport, attempt: Callable[[], None]) -> None:
        """Repeats an attempt after errors that a retry can avoid. Stores the last error in the
        report."""
        while True:
            report["attempts"] += 1
            try:
                attempt()
                return
            except HeadwaterError as error:
                repeats = report["attempts"] <= self._retries and error.code not in PERMANENT
                wait = RETRY_SECONDS * 2 ** (report["attempts"] - 1)
                if not repeats or self._stopped.wait(min(wait, RETRY_SECONDS_MAX)):
                    report["status"], report["commit"], report["error"] = "failed", None, error
                    return

    def _run_on_branch(self, report: ValueReport, branch: str, start: str) -> None:
        self._client.create_branch(branch, from_ref=f"@{start}")
        self._run_job(report["value"], branch, report)

    def _merge(self, report: ValueReport, branch: str) -> None:
        message = f"Backfill {self._parameter}={report['value']}"
        merged = self._client.merge(branch, into=self._branch, message=message)
        _set_commit(report, merged["commit"] if merged["tables"] else None)

    def _run_job(
        self, value: str, branch: str, report: ValueReport | None = None
    ) -> dict[str, Any]:
        """Runs the project with a value on a branch, and waits for the end. Returns the result."""
        parameters = {**self._request["parameters"], self._parameter: value}
        request = {**self._request, "ref": branch, "parameters": parameters}
        with self._starting:
            if self._stopped.is_set():
                raise make("cancelled", "the backfill was stopped")
            id = str(self._client._dict("POST", "/v1/runs", request)["id"])
            self._jobs.add(id)
        if report is not None:
            report["job"] = id
        # After Ctrl-C, the id remains, so that `_stop` stops the job.
        try:
            result = self._client.running_job(id).result()
        except HeadwaterError:
            self._jobs.discard(id)
            raise
        self._jobs.discard(id)
        return result

    def _stop(self) -> None:
        """Stops the running jobs. The threads that wait for the jobs then delete their branches."""
        with self._starting:
            self._stopped.set()
            running = sorted(self._jobs)
        for id in running:
            try:
                self._client.stop_job(id)
            except HeadwaterError as error:
                warnings.warn(f"job `{id}` may still run: {error.message}", stacklevel=2)

    def _head(self) -> str:
        return str(self._client.branch(self._branch)["commit"])

    def _delete(self, branch: str) -> None:
        try:
            path = segments("v1", "branches", branch)
            self._client._connection.json("DELETE", path, parameters={"if_exists": True})
        except HeadwaterError as error:
            warnings.warn(f"branch `{branch}` remains: {error.message}", stacklevel=2)


def _report(value: str) -> ValueReport:
    """Returns the report of a value that did not run yet."""
    return {
        "value": value,
        "status": "failed",
        "attempts": 0,
        "job": None,
        "commit": None,
        "error": None,
    }


def _set_commit(report: ValueReport, commit: str | None) -> None:
    report["status"] = "unchanged" if commit is None else "merged"
    report["commit"] = commit


def _branch_part(value: str) -> str:
    """Returns the last part of the name of a value's branch. Bytes that names may not contain are
    written as hexadecimal numbers."""
    allowed = (ascii_letters + digits + "-").encode()
    return "".join(chr(byte) if byte in allowed else f"_{byte:02x}" for byte in value.encode())
