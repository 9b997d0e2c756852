"""Runs of projects, and jobs that a program follows while it does other work."""

from __future__ import annotations

import os
import time
from collections.abc import Generator, Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Any

from .choices import Priority
from .connection import segments
from .errors import HeadwaterError, from_problem
from .notebook import shown
from .project import FileContent, read_project
from .requests import OnEvent, Requests, parameter_text, selectors, without_none

if TYPE_CHECKING:
    from .client import Client

FINAL = ("succeeded", "failed", "cancelled", "interrupted")

# The time between two requests for the state of a job, in seconds.
POLL_SECONDS = 0.05


class RunningJob:
    """A job that has been started, such as a run.

    `result` waits for the end of the job. In asynchronous code, `await job` does the same without
    blocking the event loop.
    """

    def __init__(self, client: Client, id: str) -> None:
        self._client = client
        self.id = id

    def __repr__(self) -> str:
        return f"RunningJob({self.id!r})"

    def state(self) -> dict[str, Any]:
        """Returns the job: `status`, and after its end `result` or `error`."""
        return self._client.job(self.id)

    def done(self) -> bool:
        """Returns true if the job has ended."""
        return self.state()["status"] in FINAL

    def events(self) -> Iterator[dict[str, Any]]:
        """Yields the job's events in order, until it ends."""
        return self._client.job_events(self.id, follow=True)

    def stop(self) -> dict[str, Any]:
        """Requests that the job stops, and returns the job."""
        return self._client.stop_job(self.id)

    def result(self, timeout: float | None = None) -> dict[str, Any]:
        """Waits for the end of the job and returns its result, which is the report for a run.

        Raises the job's error. If the job has not ended after `timeout` seconds, raises the
        built-in `TimeoutError`, and the job continues.
        """
        if timeout is None:
            for _ in self.events():
                pass
            return _result(self.state())
        deadline = time.monotonic() + timeout
        while True:
            job = self.state()
            if job["status"] in FINAL:
                return _result(job)
            left = deadline - time.monotonic()
            if left <= 0:
                raise TimeoutError(f"job `{self.id}` has not ended after {timeout} s")
            time.sleep(min(POLL_SECONDS, left))

    def __await__(self) -> Generator[Any, None, dict[str, Any]]:
        import asyncio

        return asyncio.to_thread(self.result).__await__()


class Runs(Requests):
    """Runs and unit tests of projects."""

    def run(
        self,
        project_dir: str | os.PathLike[str],
        *,
        ref: str | None = None,
        parameters: Mapping[str, object] | None = None,
        strict: bool = True,
        no_cache: bool = False,
        no_reuse: bool = False,
        no_repeat: bool = False,
        select: str | Iterable[str] = (),
        exclude: str | Iterable[str] = (),
        retry: str | None = None,
        dry_run: bool = False,
        preview: int | None = None,
        tail: bool = False,
        priority: Priority | None = None,
        on_event: OnEvent | None = None,
    ) -> dict[str, Any]:
        """Runs the project in a folder on the branch `ref` and waits for its end; Ctrl-C stops it.

        `parameters` are the project's parameters. In a strict run, a false expectation fails the
        run. `no_cache` also runs unchanged models, and `no_reuse` also runs models whose tables
        were computed on other branches. After a conflict with another run, the run is repeated up
        to 3 times, unless `no_repeat` is set. `select` and `exclude` are selectors of models in
        dbt's syntax, such as `"+orders"` or `"tag:daily"`. `retry` is the id of a failed run to
        continue. With `preview`, nothing is merged, and `preview` in each step of the report
        contains up to this number of rows: the first rows or, with `tail`, the last rows.
        `priority` is `low`, `normal` or `high`, and determines the order of queued calls.
        `on_event` is called with each event: a dict with `sequence`, `time`, `type` and the fields
        of the type (`log`, `planned`, `step_started`, `step_ended`, ...).

        Returns the run's report: `commit`, `tables`, `steps`, `usage`, `cost`; with `dry_run`,
        returns the plan. Raises the run's error, usually `RunFailedError`, with the job id in
        `context["job"]`. A failed run does not change the branch.
        """
        request = self._run_request(
            read_project(project_dir),
            ref=ref,
            parameters=parameters,
            strict=None if retry and strict else strict,
            no_cache=no_cache,
            no_reuse=no_reuse or None,
            no_repeat=no_repeat or None,
            select=selectors(select) or None,
            exclude=selectors(exclude) or None,
            retry=retry,
            dry_run=dry_run,
            preview=None if preview is None else {"rows": preview, "tail": tail},
            priority=priority,
        )
        return self._work("/v1/runs", request, on_event)

    def start_run(
        self,
        project_dir: str | os.PathLike[str],
        *,
        ref: str | None = None,
        parameters: Mapping[str, object] | None = None,
        strict: bool = True,
        no_cache: bool = False,
        no_reuse: bool = False,
        no_repeat: bool = False,
        select: str | Iterable[str] = (),
        exclude: str | Iterable[str] = (),
        priority: Priority | None = None,
    ) -> RunningJob:
        """Starts a run like `run` and does not wait for its end.

        `result()` of the returned job waits for the end. In asynchronous code, use `await`.
        """
        request = self._run_request(
            read_project(project_dir),
            ref=ref,
            parameters=parameters,
            strict=strict,
            no_cache=no_cache,
            no_reuse=no_reuse or None,
            no_repeat=no_repeat or None,
            select=selectors(select) or None,
            exclude=selectors(exclude) or None,
            dry_run=False,
            priority=priority,
        )
        return self.running_job(self._dict("POST", "/v1/runs", request)["id"])

    def retry(self, job: str) -> RunningJob:
        """Continues a failed run with its own files, and does not wait for its end.

        Models that succeeded in the failed run are not run again. `run` with `retry=` continues a
        run with the current files of a folder.
        """
        return self.running_job(self._dict("POST", "/v1/runs", {"retry": job})["id"])

    def rerun(self, job: str, *, exact: bool = True, branch: str | None = None) -> RunningJob:
        """Repeats a run with its own files and parameters, and does not wait for its end.

        The new run uses the commit from which the earlier run started and the package versions that
        it used, on a new branch, by default `rerun/JOB`. The branch is deleted if the new run fails
        or is stopped before a model has written a table. With `exact=False`, the new run uses the
        current state of the earlier run's branch.
        """
        how = without_none({"exact": exact or None, "branch": branch})
        path = segments("v1", "jobs", job, "rerun")
        return self.running_job(self._dict("POST", path, {}, how)["id"])

    def running_job(self, id: str) -> RunningJob:
        """Returns a job by its id, to wait for its result."""
        client: Any = self
        return RunningJob(client, id)

    def test(
        self,
        project_dir: str | os.PathLike[str],
        select: str | Iterable[str] = (),
        on_event: OnEvent | None = None,
    ) -> dict[str, Any]:
        """Runs the unit tests of a project, or only the unit tests of the selected models.

        Returns the report. Raises `ExpectationFailedError` with the differences of failed tests.
        """
        chosen = selectors(select) or None
        request = {"files": read_project(project_dir), "select": chosen, "test": True}
        return self._work("/v1/runs", without_none(request), on_event)

    def _run_request(
        self,
        files: Mapping[str, FileContent],
        *,
        ref: str | None,
        parameters: Mapping[str, object] | None,
        **fields: Any,
    ) -> dict[str, Any]:
        texts = {name: parameter_text(name, value) for name, value in (parameters or {}).items()}
        request = {"files": files, "parameters": texts, **fields}
        return without_none({**request, "ref": self._at_if_known(ref)})

    def _work(self, path: str, request: dict[str, Any], on_event: OnEvent | None) -> dict[str, Any]:
        """Starts a job and follows its events to the end. Returns the job's result, or the plan of
        a dry run."""
        client: Any = self
        answer: dict[str, Any] = self._dict("POST", path, request)
        if request.get("dry_run"):
            return answer
        try:
            for event in client.job_events(answer["id"], follow=True):
                if on_event is not None:
                    on_event(event)
        except KeyboardInterrupt:
            self._dict("POST", segments("v1", "jobs", answer["id"], "stop"))
            raise
        return _result(self._dict("GET", segments("v1", "jobs", answer["id"])))


def _result(job: Mapping[str, Any]) -> dict[str, Any]:
    """Returns the result of a job that has ended, or raises its error."""
    if job["status"] != "succeeded":
        raise job_error(job)
    result: dict[str, Any] = shown(job.get("result") or {})
    return result


def job_error(job: Mapping[str, Any]) -> HeadwaterError:
    """Returns a job's error, with its id in the context."""
    fallback = {"code": "internal", "message": f"job `{job['id']}` ended as `{job['status']}`"}
    if job["status"] in ("cancelled", "interrupted"):
        fallback["code"] = job["status"]
    error = from_problem(job.get("error") or fallback)
    error.context.setdefault("job", job["id"])
    return error
