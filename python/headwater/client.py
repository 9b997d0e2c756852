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
from collections.abc import Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Any

from . import partition
from .access import Access
from .arrow_body import ArrowBody
from .connection import ARROW, JSON, Connection, segments
from .errors import HeadwaterError, make
from .frames import import_package, is_table, to_stream
from .project import read_project
from .queries import Queries
from .refs import Refs
from .requests import OnEvent, user_name, without_none
from .runs import FINAL, Runs, job_error
from .tables import Tables

if TYPE_CHECKING:
    import pandas
    import polars
    import pyarrow


# Maximum time to wait for the error of an incomplete response, in seconds.
ERROR_SECONDS_MAX = 2.0

# Maximum number of consecutive attempts to resume an event stream without receiving an event.
FOLLOW_RETRIES = 5


class Client(Refs, Tables, Access, Runs, Queries):
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
    ) -> pyarrow.Table:
        """Runs one SQL statement and returns its rows as a `pyarrow.Table`.

        `parameters` are the values of `$name` in the statement: text, numbers, True, False or None.
        `namespace` is the namespace of unqualified table names, by default `public`; `limit` is the
        maximum number of rows. Needs pyarrow. If the statement fails after its first rows, the
        method raises the statement's error.
        """
        import_package("pyarrow")
        with self._query(sql, ref, parameters, namespace, limit, ARROW) as response:
            return self._table(response)

    def query_pandas(
        self,
        sql: str,
        *,
        ref: str | None = None,
        parameters: Mapping[str, Any] | None = None,
        namespace: str | None = None,
        limit: int | None = None,
    ) -> pandas.DataFrame:
        """Like `query`, but returns a pandas frame. Needs pyarrow and pandas."""
        import_package("pandas")
        table = self.query(
            sql, ref=ref, parameters=parameters, namespace=namespace, limit=limit
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
    ) -> polars.DataFrame:
        """Like `query`, but returns a polars frame. Needs pyarrow and polars."""
        from_arrow = import_package("polars").from_arrow
        table = self.query(
            sql, ref=ref, parameters=parameters, namespace=namespace, limit=limit
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
    ) -> list[dict[str, Any]]:
        """Like `query`, but returns one dict per row. Needs no optional package.

        Values have JSON types, so decimals, dates and times are text.
        """
        with self._query(sql, ref, parameters, namespace, limit, JSON) as response:
            rows: list[dict[str, Any]] = self._json(response)
            return rows

    def _query(
        self,
        sql: str,
        ref: str | None,
        parameters: Mapping[str, Any] | None,
        namespace: str | None,
        limit: int | None,
        accept: str,
    ) -> http.client.HTTPResponse:
        body = self._query_body(sql, ref, parameters, namespace, limit)
        return self._connection.send("POST", "/v1/query", body, accept=accept)

    def _table(self, response: http.client.HTTPResponse) -> pyarrow.Table:
        """Reads the rows of a response as Arrow. Raises an error if the response is incomplete."""
        pyarrow = import_package("pyarrow")
        body = ArrowBody(response)
        try:
            with pyarrow.ipc.open_stream(body) as reader:
                table = reader.read_all()
            body.check_end()
            return table
        except (OSError, EOFError, ValueError, http.client.HTTPException) as cut:
            raise self._cut(response, cut) from cut

    def _json(self, response: http.client.HTTPResponse) -> Any:
        """Reads a response as JSON. Raises an error if the response is incomplete."""
        try:
            return json.loads(response.read())
        except (OSError, ValueError, http.client.HTTPException) as cut:
            raise self._cut(response, cut) from cut

    def _cut(self, response: http.client.HTTPResponse, cut: BaseException) -> HeadwaterError:
        """Returns the error of an incomplete response: the job's error, if available."""
        job_id = response.getheader("x-headwater-job")
        deadline = time.monotonic() + ERROR_SECONDS_MAX
        while job_id:
            try:
                job = self.job(job_id)
            except HeadwaterError:
                break
            if job["status"] in FINAL or time.monotonic() > deadline:
                if job.get("error"):
                    return job_error(job)
                break
            time.sleep(0.02)
        hint = "Check with `headwater job ls` whether the request succeeded before you send it again."
        cause = str(cut) or type(cut).__name__
        return make("unavailable", "the response was cut off", hint, causes=[cause])

    # Functions.

    def functions(self) -> list[dict[str, Any]]:
        """Lists the functions of the deployed version by name."""
        return self._list("/v1/functions")

    def invoke(self, function: str, /, **arguments: Any) -> Any:
        """Calls a function of the deployed version and returns its result; a table is a list of dicts.

        Arguments are JSON values. One argument can be a `pyarrow.Table` or a pandas or polars
        frame. Ctrl-C stops the function. Raises the error of the function.
        """
        with self._invoke(function, arguments, JSON) as response:
            return self._json(response)

    def invoke_table(self, function: str, /, **arguments: Any) -> pyarrow.Table:
        """Like `invoke`, for a function that returns a table. Returns a `pyarrow.Table`."""
        import_package("pyarrow")
        with self._invoke(function, arguments, ARROW) as response:
            return self._table(response)

    def _invoke(
        self, function: str, arguments: Mapping[str, Any], accept: str
    ) -> http.client.HTTPResponse:
        path = segments("v1", "functions", function, "invoke")
        tables = {name: value for name, value in arguments.items() if is_table(value)}
        if not tables:
            return self._connection.send("POST", path, {"arguments": arguments}, accept=accept)
        if len(tables) > 1:
            hint = "Store the other tables in the lake, and let a model read them there."
            raise make("invalid_argument", "a call accepts only one table", hint)
        (name, table), = tables.items()
        others = {key: value for key, value in arguments.items() if key != name}
        parameters = {"table": name, "arguments": json.dumps(others)}
        return self._connection.send("POST", path, to_stream(table), parameters, accept)

    # Deployments.

    def deploy(
        self, project: str | os.PathLike[str] = ".", *, dry_run: bool = False
    ) -> dict[str, Any]:
        """Validates the project in a folder and activates it as a new version.

        Returns the version, its contents and the changes. `dry_run` deploys nothing. Raises
        `InvalidProjectError` with the errors of all files; then the active version does not change.
        """
        request = {"files": read_project(project), "dry_run": dry_run}
        return self._dict("POST", "/v1/deployments", request)

    def deployments(self) -> list[dict[str, Any]]:
        """Lists the deployed versions, newest first."""
        return self._list("/v1/deployments")

    def rollback(self, version: str) -> dict[str, Any]:
        """Activates an earlier version; a prefix of the version is enough."""
        return self._dict("POST", segments("v1", "deployments", version, "activate"), {})

    # Imports.

    def import_files(
        self,
        table: str,
        sources: str | os.PathLike[str] | Iterable[str | os.PathLike[str]],
        *,
        ref: str | None = None,
        nulls: Iterable[str] = (),
        types: Mapping[str, str] | None = None,
        on_error: str = "stop",
        again: bool = False,
        dry_run: bool = False,
        partition_by: str | Iterable[str] = (),
        format: str | None = None,
        delimiter: str | None = None,
        header: bool | None = None,
        encoding: str | None = None,
        date_format: str | None = None,
        decimal_comma: bool = False,
        on_event: OnEvent | None = None,
    ) -> dict[str, Any]:
        """Imports files into a table on the branch `ref` and waits for the end.

        `sources` are files, folders and globs on the server's machine. Relative paths start at this
        process's working folder. A missing table is created. `nulls` are texts that mean null.
        `types` are Iceberg types by column. `partition_by` are the partition fields of a new table:
        `column`, `day(column)` (or `year`, `month`, `hour`), `bucket(16, column)` or `truncate(4,
        column)`. A bad row raises `BadRowError`. With `on_error="reject"`, bad rows are written to
        `<table>__rejected` instead. Files that were imported before are skipped, except with
        `again`. The format (`csv`, `ndjson`, `parquet`, `arrow`), delimiter, header and encoding
        are detected by default. `date_format`, such as `DD.MM.YYYY`, and `decimal_comma` set the
        formats of CSV files.

        Returns the import's report: `commit`, `files`, `files_skipped`, `rows`, `rows_rejected`,
        ...; with `dry_run`, returns the plan, with every column and its type.
        """
        listed = [sources] if isinstance(sources, (str, os.PathLike)) else list(sources)
        fields = [partition_by] if isinstance(partition_by, str) else list(partition_by)
        request = {
            "table": table,
            "sources": [_absolute(source) for source in listed],
            "ref": self._at_if_known(ref),
            "nulls": [nulls] if isinstance(nulls, str) else list(nulls),
            "types": dict(types or {}),
            "partition": [
                _partition_field(part) for text in fields for part in partition.split(text)
            ],
            "on_error": on_error,
            "again": again,
            "dry_run": dry_run,
            "format": format,
            "delimiter": delimiter,
            "header": header,
            "encoding": encoding,
            "date_format": date_format,
            "decimal_comma": decimal_comma or None,
        }
        return self._work("/v1/imports", without_none(request), on_event)

    # Jobs and usage.

    def jobs(
        self,
        *,
        kind: str | None = None,
        status: str | None = None,
        since: str | None = None,
        limit: int = 100,
    ) -> list[dict[str, Any]]:
        """Lists jobs, newest first.

        `kind` is `query`, `import`, `run` or `trigger`; `status` is `queued`, `running`,
        `succeeded`, `failed`, `cancelled` or `interrupted`, or several separated by commas. `since`
        is a date or a time in RFC 3339.
        """
        filters = {"kind": kind, "status": status, "since": since, "limit": limit}
        return self._list("/v1/jobs", filters)

    def job(self, id: str) -> dict[str, Any]:
        """Returns a job by its id or a unique part of it."""
        return self._dict("GET", segments("v1", "jobs", id))

    def job_events(
        self, id: str, *, after: int = 0, follow: bool = False
    ) -> Iterator[dict[str, Any]]:
        """Yields a job's events in order, after a sequence number; with `follow` until it ends.

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
            # A truncated line is invalid JSON, so it is handled like a broken chunk.
            while line := response.readline():
                yield json.loads(line)

    def stop_job(self, id: str) -> dict[str, Any]:
        """Requests a job to stop and returns its state. An ended job does not change."""
        return self._dict("POST", segments("v1", "jobs", id, "stop"))

    def usage(
        self, *, by: str = "kind", since: str | None = None, until: str | None = None
    ) -> list[dict[str, Any]]:
        """Sums usage and cost.

        `by` is `day`, `kind`, `job`, `model`, `function`, `trigger`, `branch` or `author`.

        `since` and `until` are dates or times in RFC 3339. The names of fields contain the units.
        """
        return self._list("/v1/usage", {"by": by, "since": since, "until": until})

    def health(self) -> dict[str, Any]:
        """Returns the server's health: `status`, `version`, `pid`, `lake`, `jobs_running`."""
        return self._dict("GET", "/health")


def _absolute(source: str | os.PathLike[str]) -> str:
    text = os.fspath(source)
    return text if "://" in text else os.path.abspath(text)


def _partition_field(field: str) -> dict[str, str]:
    found = partition.parse(field)
    if found is None:
        raise make("invalid_argument", f"partition `{field}` is not valid", partition.HINT)
    column, transform = found
    return {"column": column, "transform": transform}
