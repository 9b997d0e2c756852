"""Runs of a project, and calls of its functions, after each edit.

The files are compared by content, so a save without a change starts no run. Editors may write
several files, or one file in several steps, so a run starts only after an interval without changes.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from .choices import Priority
from .errors import HeadwaterError
from .project import FileContent, read_project
from .requests import OnEvent, selectors
from .runs import Runs


@dataclass(frozen=True)
class WatchedCall:
    """The outcome of one call of a function: its result, or its error."""

    result: Any = None
    error: HeadwaterError | None = None


@dataclass(frozen=True)
class WatchedRun:
    """The outcome of one run: its report, or its error."""

    report: dict[str, Any] | None = None
    error: HeadwaterError | None = None


class Watch(Runs):
    """Runs of a project after each edit."""

    def watch(
        self,
        project_dir: str | os.PathLike[str],
        *,
        ref: str | None = None,
        parameters: Mapping[str, object] | None = None,
        strict: bool = True,
        no_cache: bool = False,
        no_reuse: bool = False,
        select: str | Iterable[str] = (),
        exclude: str | Iterable[str] = (),
        priority: Priority | None = None,
        interval: float = 0.2,
        on_event: OnEvent | None = None,
    ) -> Iterator[WatchedRun]:
        """Runs the project in a folder as `run` does, and again after each edit.

        Yields the outcome of each run: `report`, or `error` for a failed run or for files that
        cannot be read. The next run starts when the caller requests the next outcome and the files
        have changed. `interval` is the time between two reads of the files, in seconds, and the
        time without changes before a run starts. Models that an edit does not affect do not run.
        """
        for files in _rounds(project_dir, interval):
            if isinstance(files, HeadwaterError):
                yield WatchedRun(error=files)
            else:
                request = self._run_request(
                    files,
                    ref=ref,
                    parameters=parameters,
                    strict=strict,
                    no_cache=no_cache,
                    no_reuse=no_reuse or None,
                    select=selectors(select) or None,
                    exclude=selectors(exclude) or None,
                    priority=priority,
                    dry_run=False,
                )
                yield self._watched_run(request, on_event)

    def watch_function(
        self,
        project_dir: str | os.PathLike[str],
        function: str,
        arguments: Mapping[str, Any] | None = None,
        *,
        interval: float = 0.2,
    ) -> Iterator[WatchedCall]:
        """Calls a function of the project in a folder as `invoke_project` does, and again after each
        edit.

        Yields the outcome of each call: `result`, or `error` for a failed call or for files that
        cannot be read. `interval` is as in `watch`.
        """
        client: Any = self
        for files in _rounds(project_dir, interval):
            if isinstance(files, HeadwaterError):
                yield WatchedCall(error=files)
                continue
            try:
                outcome = WatchedCall(result=client._invoke_files(files, function, arguments or {}))
            except HeadwaterError as error:
                outcome = WatchedCall(error=error)
            yield outcome

    def _watched_run(self, request: dict[str, Any], on_event: OnEvent | None) -> WatchedRun:
        try:
            return WatchedRun(report=self._work("/v1/runs", request, on_event))
        except HeadwaterError as error:
            return WatchedRun(error=error)


# The files of a project, or the error of reading them.
Files = dict[str, FileContent] | HeadwaterError


def _read(project_dir: str | os.PathLike[str]) -> Files:
    try:
        return read_project(project_dir)
    except HeadwaterError as error:
        return error


def _rounds(project_dir: str | os.PathLike[str], interval: float) -> Iterator[Files]:
    """Yields the files of a project, first as they are and then after each edit."""
    files = _read(project_dir)
    while True:
        yield files
        files = _edited(project_dir, files, interval)


def _edited(project_dir: str | os.PathLike[str], known: Files, interval: float) -> Files:
    """Waits until the files differ from `known` and have been unchanged for an interval."""
    last, changed = known, False
    while True:
        time.sleep(interval)
        files = _read(project_dir)
        if not _same(files, last):
            last, changed = files, True
        elif changed:
            return files


def _same(one: Files, other: Files) -> bool:
    if isinstance(one, HeadwaterError) and isinstance(other, HeadwaterError):
        return one.message == other.message
    return one == other
