"""Backfills: runs of a project for each value of a parameter, several at once.

The server does the work as one job, like that of the command `headwater backfill`.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from datetime import date
from typing import Any, TypedDict, cast

from .backfill_values import parse_values
from .errors import HeadwaterError, from_problem, make
from .project import read_project
from .requests import selectors, without_none
from .runs import RunningJob, Runs

JOBS_MAX = 64


class ValueReport(TypedDict):
    """The outcome of one value of a backfill.

    `status` is `merged`, `unchanged`, `failed`, or `waiting` if the value did not run. `attempts`
    is the number of runs. `job` is the id of the last run, `commit` the commit of the merge, and
    `error` the error of a failed value.
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
        value runs again up to `retries` times. When a value has ended, `on_value` is called with
        its report. Ctrl-C stops the runs; merged values stay merged.

        Returns `parameter`, `branch`, `total` and `values`, the report of each value: `value`,
        `status` (`merged`, `unchanged`, `failed` or `waiting`), `attempts`, `job`, `commit` and
        `error`. If some values fail, the other values are still merged. The method then raises an
        error with the code of the first failed value and with this report in `context["report"]`.
        """
        if not 1 <= jobs <= JOBS_MAX:
            raise make("invalid_argument", f"`jobs` cannot be `{jobs}`", "Give 1 to 64.")
        if parameter in (parameters or {}):
            message = f"the parameter `{parameter}` is given twice"
            raise make("invalid_argument", message, "Remove it from `parameters=`.")
        job = self.start_backfill(
            project_dir,
            parameter,
            values,
            ref=ref,
            parameters=parameters,
            strict=strict,
            select=select,
            exclude=exclude,
            jobs=jobs,
            retries=retries,
        )
        try:
            for event in job.events():
                if on_value is not None and event["type"] == "value_ended":
                    on_value(_report(event["report"]))
        except BaseException:
            _stop(job)
            raise
        return _result(job)

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
        the end and returns the report. If some values fail, `result()` raises an error with the
        report in `context["report"]`.
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


def _stop(job: RunningJob) -> None:
    """Stops a backfill, and waits until its runs have ended and its branches are deleted."""
    with suppress(HeadwaterError):
        job.stop()
        job.result()


def _result(job: RunningJob) -> dict[str, Any]:
    """Returns the report of a backfill that has ended. Raises an error if a value failed."""
    try:
        report = job.result()
    except HeadwaterError as error:
        failed = error.context.get("report")
        if isinstance(failed, dict) and "values" in failed:
            failed["values"] = [_report(value) for value in failed["values"]]
        raise
    report["values"] = [_report(value) for value in report["values"]]
    return report


def _report(value: Mapping[str, Any]) -> ValueReport:
    """Returns the report of a value, with its error as an exception."""
    error = value.get("error")
    return cast(ValueReport, {**value, "error": None if error is None else from_problem(error)})
