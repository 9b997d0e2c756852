"""`Client`: access to a lake from Python.

Methods have the names of the commands. They return the JSON of the HTTP API as dicts and lists.
Queries return tables. Errors are classes of `headwater.errors`. The client caches nothing, and
several threads can use it at once.
"""

from __future__ import annotations

import http.client
import json
import os
import time
from collections.abc import Iterator, Mapping
from datetime import datetime, timedelta, timezone
from typing import TYPE_CHECKING, Any

from .access import Access
from .backfill import Backfills
from .choices import UsageGrouping
from .connection import ARROW, JSON, Connection, segments
from .environments import Environments
from .errors import make
from .frames import import_package
from .functions import Functions
from .imports import Imports
from .queries import Queries
from .refs import Refs
from .requests import duration_seconds, time_text, user_name
from .runs import FINAL
from .tables import Tables
from .triggers import Triggers
from .watch import Watch

if TYPE_CHECKING:
    import pandas
    import polars
    import pyarrow


# Maximum number of consecutive attempts to resume an event stream without receiving an event.
FOLLOW_RETRIES = 5

# The longest period of `usage`, in days: a hundred years.
DAYS_MAX = 36_500


class Client(
    Refs,
    Tables,
    Imports,
    Triggers,
    Functions,
    Environments,
    Access,
    Backfills,
    Watch,
    Queries,
):
    """A client of one lake.

    `url` is the address of a server, such as `http://127.0.0.1:4280`. Without it, the client uses
    the local lake `lake`, by default the nearest `.headwater` in the parent folders, over its Unix
    socket. If the lake's server is not running, `command` starts it: by default the `headwater`
    installed with this package. `author` is recorded in commits and jobs; the default is the user's
    name. HTTP requests need a `token`: the content of `.headwater/server.token`. `certificate` is a
    PEM file to trust, such as a self-signed certificate. In the lake's folder and its subfolders,
    the client finds the token and the certificate itself. `profile` is the name of a server that
    the user logged in to with `headwater login`. Outside of lakes' folders, the client uses the
    server of the last login.

    A `ref` is a branch, a tag, `branch@commit` or `@commit`. The default is the lake's active
    branch, or `main` with `url`. Every method raises `HeadwaterError`s: the error of the server's
    response, or `UnavailableError` if the server is unreachable.
    """

    def __init__(
        self,
        lake: str | os.PathLike[str] | None = None,
        url: str | None = None,
        command: str | None = None,
        author: str | None = None,
        token: str | None = None,
        certificate: str | os.PathLike[str] | None = None,
        profile: str | None = None,
    ) -> None:
        author = author or user_name()
        if not author.isprintable() or len(author.encode()) > 200:
            hint = "Use one line of at most 200 bytes."
            raise make("invalid_argument", f"`{author!r}` is not a usable author", hint)
        self._connection = Connection(
            lake, url, command, author, token, certificate, profile
        )

    def __repr__(self) -> str:
        connection = self._connection
        return f"Client({f'url={connection.url!r}' if connection.url else f'lake={connection.lake!r}'})"

    # Queries.

    def query(
        self,
        sql: str,
        *,
        ref: str | None = None,
        parameters: Mapping[str, Any] | None = None,
        namespace: str | None = None,
        limit: int | None = None,
        memory: str | int | None = None,
    ) -> pyarrow.Table:
        """Runs one SQL statement and returns its rows as a `pyarrow.Table`.

        `parameters` are the values of `$name` in the statement: text, numbers, True, False or None.
        `namespace` is the namespace of unqualified table names, by default `public`; `limit` is the
        maximum number of rows. `memory` is the memory limit beyond which the statement spills to
        disk: bytes, or text such as `512MiB`. Needs pyarrow. If the statement fails after its first
        rows, the method raises the statement's error.
        """
        import_package("pyarrow")
        body = self._query_body(sql, ref, parameters, namespace, limit, memory)
        with self._connection.send("POST", "/v1/query", body, accept=ARROW) as response:
            return self._table(response)

    def query_pandas(
        self,
        sql: str,
        *,
        ref: str | None = None,
        parameters: Mapping[str, Any] | None = None,
        namespace: str | None = None,
        limit: int | None = None,
        memory: str | int | None = None,
    ) -> pandas.DataFrame:
        """Like `query`, but returns a pandas frame. Needs pyarrow and pandas."""
        import_package("pandas")
        table = self.query(
            sql, ref=ref, parameters=parameters, namespace=namespace, limit=limit, memory=memory
        )
        frame: pandas.DataFrame = table.to_pandas()
        return frame

    def query_polars(
        self,
        sql: str,
        *,
        ref: str | None = None,
        parameters: Mapping[str, Any] | None = None,
        namespace: str | None = None,
        limit: int | None = None,
        memory: str | int | None = None,
    ) -> polars.DataFrame:
        """Like `query`, but returns a polars frame. Needs pyarrow and polars."""
        from_arrow = import_package("polars").from_arrow
        table = self.query(
            sql, ref=ref, parameters=parameters, namespace=namespace, limit=limit, memory=memory
        )
        frame: polars.DataFrame = from_arrow(table)
        return frame

    def query_rows(
        self,
        sql: str,
        *,
        ref: str | None = None,
        parameters: Mapping[str, Any] | None = None,
        namespace: str | None = None,
        limit: int | None = None,
        memory: str | int | None = None,
    ) -> list[dict[str, Any]]:
        """Like `query`, but returns one dict per row. Needs no optional package.

        Values have JSON types, so decimals, dates and times are text.
        """
        body = self._query_body(sql, ref, parameters, namespace, limit, memory)
        with self._connection.send("POST", "/v1/query", body, accept=JSON) as response:
            rows: list[dict[str, Any]] = self._json(response)
            return rows

    # Jobs and usage.

    def jobs(
        self,
        *,
        kind: str | None = None,
        status: str | None = None,
        since: str | datetime | None = None,
        limit: int = 100,
    ) -> list[dict[str, Any]]:
        """Lists jobs, newest first.

        `kind` is `query`, `import`, `run` or `trigger`; `status` is `queued`, `running`,
        `succeeded`, `failed`, `cancelled` or `interrupted`, or several of these, separated by
        commas. `since` is a date, or a time as `datetime` or in RFC 3339.
        """
        filters = {"kind": kind, "status": status, "since": time_text(since), "limit": limit}
        return self._list("/v1/jobs", filters)

    def job(self, id: str) -> dict[str, Any]:
        """Returns a job by its id or a unique part of it."""
        return self._dict("GET", segments("v1", "jobs", id))

    def job_events(
        self, id: str, *, after: int = 0, follow: bool = False
    ) -> Iterator[dict[str, Any]]:
        """Yields a job's events in order, after a sequence number; with `follow`, until the job
        ends.

        A broken stream is resumed after the last received event.
        """
        failures = 0
        while True:
            reached = after
            ended = False
            try:
                for event in self._events(id, after, follow):
                    after = event["sequence"]
                    ended = event["type"] == "ended"
                    yield event
            except (OSError, ValueError, http.client.HTTPException):
                pass
            else:
                if not follow or ended or self.job(id)["status"] in FINAL:
                    return
            failures = failures + 1 if after == reached else 0
            if failures > FOLLOW_RETRIES:
                raise make("unavailable", f"the events of job `{id}` cannot be followed")
            time.sleep(0.1 * failures)

    def _events(self, id: str, after: int, follow: bool) -> Iterator[dict[str, Any]]:
        path = segments("v1", "jobs", id, "events")
        parameters = {"after": after, "follow": follow}
        with self._connection.send(
            "GET", path, parameters=parameters, accept="application/x-ndjson"
        ) as response:
            # A truncated line is invalid JSON, which the caller handles like a lost connection.
            while line := response.readline():
                yield json.loads(line)

    def stop_job(self, id: str) -> dict[str, Any]:
        """Requests that a job stops, and returns the job. A job that has ended does not change."""
        return self._dict("POST", segments("v1", "jobs", id, "stop"))

    def usage(
        self,
        *,
        by: UsageGrouping | tuple[UsageGrouping, UsageGrouping] = "kind",
        days: int | None = None,
        since: str | datetime | None = None,
        until: str | datetime | None = None,
    ) -> list[dict[str, Any]]:
        """Sums usage and cost in groups.

        `by` is `day`, `kind`, `job`, `model`, `function`, `trigger`, `branch` or `author`, or a
        tuple of two of them. With two, the second value is in the field `subgroup` of each line.
        `days` selects the last `days` times 24 hours, at least 1. `since` and `until` are times
        with their zones, as `datetime` or in RFC 3339, or dates. The names of fields contain the
        units.
        """
        if days is not None and since is not None:
            hint = "Give one of them."
            raise make("invalid_argument", "`days` and `since` are both given", hint)
        if days is not None:
            if not 1 <= days <= DAYS_MAX:
                hint = f"Give a number from 1 to {DAYS_MAX}."
                raise make("invalid_argument", f"`days` is {days}", hint)
            since = datetime.now(timezone.utc) - timedelta(days=days)
        groups = by if isinstance(by, str) else ",".join(by)
        filters = {"by": groups, "since": time_text(since), "until": time_text(until)}
        return self._list("/v1/usage", filters)

    def health(self) -> dict[str, Any]:
        """Returns the server's health: `status`, `version`, `pid`, `lake`, `jobs_running`."""
        return self._dict("GET", "/health")

    def stop_server(self, *, drain: str | float | None = None) -> dict[str, Any]:
        """Shuts the server down. Returns before the shutdown is complete.

        The server waits for running jobs at most `drain`, which is seconds or text such as `30s`;
        then it interrupts them. The next request of a client of a local lake starts the server
        again.
        """
        seconds = duration_seconds("drain", drain)
        parameters = {"drain_ms": None if seconds is None else int(seconds * 1000)}
        return self._dict("POST", "/v1/shutdown", parameters=parameters)
