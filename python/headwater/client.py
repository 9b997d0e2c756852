"""`Client`: a program's way to a lake.

Methods carry the names of the command line's nouns and verbs. What a method answers is the JSON of the
HTTP API as dicts and lists, except queries, which answer tables. Errors are classes of
`headwater.errors`. Nothing is cached, and a client may be used by several threads at once.
"""

from __future__ import annotations

import http.client
import json
import os
import time
from collections.abc import Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Any

from . import partition
from .connection import ARROW, JSON, Connection, segments
from .errors import HeadwaterError, from_problem, make
from .frames import import_package, is_table, to_stream
from .project import read_project
from .refs import Refs
from .requests import OnEvent, without_none
from .tables import Tables

if TYPE_CHECKING:
    import pandas
    import polars
    import pyarrow


# What ends every whole stream of Arrow.
ARROW_END = b"\xff\xff\xff\xff\x00\x00\x00\x00"

# How long a statement whose answer was cut off is given to note its error, in seconds.
ERROR_SECONDS_MAX = 2.0

# How often a job's broken event stream is taken up again without any progress.
FOLLOW_RETRIES = 5

FINAL = ("succeeded", "failed", "cancelled", "interrupted")


class Client(Refs, Tables):
    """A client of one lake.

    `url` is the address of a server, such as `http://127.0.0.1:4280`. Without it, the lake is one on
    this machine: the folder `lake`, or the nearest `.headwater` upwards from the working folder; its
    server is reached over its Unix socket. `command`, by default the `headwater` that was installed with
    this package, starts it if none runs. `author` is noted
    in commits and jobs, by default the user's name. A server asks for its `token` over HTTP, which its
    lake's `.headwater/server.token` holds; below the lake's folder it is found without being named.

    Wherever a method takes a `ref`, it is a branch, a tag, `branch@commit` or `@commit`. Without one, the
    lake's active branch is meant, which `headwater checkout` chooses; by `url` it is `main`. Every method
    raises `HeadwaterError`s: `UnavailableError` where the server cannot be reached, and those of the errors
    that the server answers.
    """

    def __init__(
        self,
        lake: str | os.PathLike[str] | None = None,
        url: str | None = None,
        command: str | None = None,
        author: str | None = None,
        token: str | None = None,
    ) -> None:
        author = author or _user()
        if not author.isprintable() or len(author.encode()) > 200:
            hint = "Use one line of at most 200 bytes."
            raise make("invalid_argument", f"`{author!r}` is not a usable author", hint)
        self._connection = Connection(lake, url, command, author, token)

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
        """Carries out one SQL statement and answers its rows as a `pyarrow.Table`.

        `parameters` are the values of `$name` in the statement: text, numbers, True, False or None. Bare
        table names lie in `namespace`, `public` where nothing is said; `limit` is the most rows to
        answer. Needs pyarrow. A statement that fails after its first rows raises its error, and answers
        no rows.
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
        """As `query`, with the rows as a pandas frame. Needs pyarrow and pandas."""
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
        """As `query`, with the rows as a polars frame. Needs pyarrow and polars."""
        from_arrow = import_package("polars").from_arrow
        table = self.query(
            sql, ref=ref, parameters=parameters, namespace=namespace, limit=limit
        )
        frame: polars.DataFrame = fromto_stream(table)
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
        """As `query`, with one dict per row, by column. Needs no other package.

        Values are those of JSON: decimals, dates and times are text.
        """
        with self._query(sql, ref, parameters, namespace, limit, JSON) as response:
            try:
                rows: list[dict[str, Any]] = json.loads(response.read())
                return rows
            except (OSError, ValueError, http.client.HTTPException) as cut:
                raise self._cut(response, cut) from cut

    def _query(
        self,
        sql: str,
        ref: str | None,
        parameters: Mapping[str, Any] | None,
        namespace: str | None,
        limit: int | None,
        accept: str,
    ) -> http.client.HTTPResponse:
        given = dict(parameters) if parameters else None
        at = self._at_if_known(ref)
        body = {"sql": sql, "ref": at, "parameters": given, "namespace": namespace, "limit": limit}
        body = without_none(body)
        return self._connection.send("POST", "/v1/query", body, accept=accept)

    def _table(self, response: http.client.HTTPResponse) -> pyarrow.Table:
        """The rows of an answer in Arrow, which is never taken for whole where it was cut off."""
        pyarrow = import_package("pyarrow")
        body = ArrowBody(response)
        try:
            with pyarrow.ipc.open_stream(body) as reader:
                table = reader.read_all()
            body.check_end()
            return table
        except (OSError, EOFError, ValueError, http.client.HTTPException) as cut:
            raise self._cut(response, cut) from cut

    def _cut(self, response: http.client.HTTPResponse, cut: BaseException) -> HeadwaterError:
        """Why an answer was cut off: the error that its job noted, as far as that can be known."""
        job_id = response.getheader("x-headwater-job")
        deadline = time.monotonic() + ERROR_SECONDS_MAX
        while job_id:
            try:
                job = self.job(job_id)
            except HeadwaterError:
                break
            if job["status"] in FINAL or time.monotonic() > deadline:
                if job.get("error"):
                    return _job_error(job)
                break
            time.sleep(0.02)
        hint = "Look at what became of it with `headwater job ls`; then ask again."
        cause = str(cut) or type(cut).__name__
        return make("unavailable", "the answer was cut off", hint, causes=[cause])

    # Functions.

    def functions(self) -> list[dict[str, Any]]:
        """The functions of the deployed version, by name."""
        found: list[dict[str, Any]] = self._connection.json("GET", "/v1/functions")
        return found

    def invoke(self, function: str, /, **arguments: Any) -> Any:
        """Calls a function of the deployed version and answers what it returns, a table as a list of dicts.

        The arguments are what JSON can say; one of them may be a `pyarrow.Table`, or a pandas or polars
        frame. Ctrl-C stops the function. Raises its error where it fails.
        """
        with self._invoke(function, arguments, JSON) as response:
            try:
                return json.loads(response.read())
            except (OSError, ValueError, http.client.HTTPException) as cut:
                raise self._cut(response, cut) from cut

    def invoke_table(self, function: str, /, **arguments: Any) -> pyarrow.Table:
        """As `invoke`, for a function that returns a table, which is answered as a `pyarrow.Table`."""
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
            hint = "Put the others into the lake's tables, and have the function's model read them."
            raise make("invalid_argument", "a call takes one table", hint)
        (name, table), = tables.items()
        others = {key: value for key, value in arguments.items() if key != name}
        beside = {"table": name, "arguments": json.dumps(others)}
        return self._connection.send("POST", path, to_stream(table), beside, accept)

    # Deployments.

    def deploy(
        self, project: str | os.PathLike[str] = ".", *, dry_run: bool = False
    ) -> dict[str, Any]:
        """Validates the project in a folder and puts it in force as a version.

        Answers the version, what it holds and what changed. With `dry_run` nothing is deployed. Raises
        `InvalidProjectError` with the errors of all files; the version before stays in force then.
        """
        request = {"files": read_project(project), "dry_run": dry_run}
        return self._dict("POST", "/v1/deployments", request)

    def deployments(self) -> list[dict[str, Any]]:
        """The deployed versions, the last deployed first."""
        return self._list("/v1/deployments")

    def rollback(self, version: str) -> dict[str, Any]:
        """Puts a version in force that was deployed before; the first digits of it are enough."""
        return self._dict("POST", segments("v1", "deployments", version, "activate"), {})

    # Runs and imports.

    def run(
        self,
        project_dir: str | os.PathLike[str],
        *,
        ref: str | None = None,
        parameters: Mapping[str, object] | None = None,
        strict: bool = True,
        no_cache: bool = False,
        dry_run: bool = False,
        priority: str | None = None,
        on_event: OnEvent | None = None,
    ) -> dict[str, Any]:
        """Runs the project in a folder on the branch `ref`, and waits until the run has ended; Ctrl-C stops it.

        `parameters` are values for the project's parameters. In a strict run an expectation that answers
        false fails the run. `no_cache` runs every model, changed or not. `priority` is `low`, `normal` or
        `high`, and says how much its functions matter where more wait than can run. `on_event` is called with each
        event of the run as it comes: dicts with `sequence`, `time`, `type` and what belongs to the type
        (`log`, `step_started`, `step_ended`, ..).

        Answers the run's report: `commit`, `tables`, `steps`, `usage`, `cost`; with `dry_run` the plan,
        and nothing is run. Raises the run's error where it fails, mostly `RunFailedError`, with the
        job's id in `context["job"]`; the branch is then as it was.
        """
        texts = {name: _text(name, value) for name, value in (parameters or {}).items()}
        request = {
            "files": read_project(project_dir),
            "parameters": texts,
            "strict": strict,
            "no_cache": no_cache,
            "dry_run": dry_run,
        }
        at = self._at_if_known(ref)
        asked = without_none({**request, "ref": at, "priority": priority})
        return self._work("/v1/runs", asked, on_event)

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
        """Brings files into a table on the branch `ref`, and waits until they are there.

        `sources` are files, folders and globs on the server's machine; relative ones begin at this
        process's working folder. A table that is not there is made. `nulls` are texts that mean null,
        `types` Iceberg types by column, `partition_by` the partition fields of a new table: `column`,
        `day(column)` (or `year`, `month`, `hour`), `bucket(16, column)` or `truncate(4, column)`. A row
        that cannot be read ends the import with `BadRowError`, or with `on_error="reject"` goes to
        `<table>__rejected`. Files that were imported before are skipped, unless `again`. Format (`csv`,
        `ndjson`, `parquet`, `arrow`), delimiter, header and encoding are found from the files where nothing
        is said. `date_format`, such as `DD.MM.YYYY`, and `decimal_comma` say how CSV files write dates and
        numbers.

        Answers the import's report: `commit`, `files`, `files_skipped`, `rows`, `rows_rejected`, ..;
        with `dry_run` the plan, with every column and its type, and nothing is changed.
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

    def _work(self, path: str, request: dict[str, Any], on_event: OnEvent | None) -> dict[str, Any]:
        """Starts a job and follows it to its end; answers its result, or the plan of a dry run."""
        answer: dict[str, Any] = self._connection.json("POST", path, request)
        if request.get("dry_run"):
            return answer
        try:
            for event in self.job_events(answer["id"], follow=True):
                if on_event is not None:
                    on_event(event)
        except KeyboardInterrupt:
            self.stop_job(answer["id"])
            raise
        job = self.job(answer["id"])
        if job["status"] != "succeeded":
            raise _job_error(job)
        result: dict[str, Any] = job.get("result") or {}
        return result

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

        `kind` is `query`, `import`, `run` or `trigger`; `status` is `queued`, `running`, `succeeded`,
        `failed`, `cancelled` or `interrupted`; several with commas between them. `since` is a day or a
        moment in RFC 3339.
        """
        filters = {"kind": kind, "status": status, "since": since, "limit": limit}
        return self._list("/v1/jobs", filters)

    def job(self, id: str) -> dict[str, Any]:
        """Answers a job as it stands; a part of its id that only it has is enough."""
        return self._dict("GET", segments("v1", "jobs", id))

    def job_events(
        self, id: str, *, after: int = 0, follow: bool = False
    ) -> Iterator[dict[str, Any]]:
        """Yields a job's events in order, those after a sequence; with `follow` until it has ended.

        A stream that breaks is taken up again after the last event that came.
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
            # A line that was cut is no JSON, and raises as a broken chunk does.
            while line := response.readline():
                yield json.loads(line)

    def stop_job(self, id: str) -> dict[str, Any]:
        """Asks a job to stop, and answers how it stands; one that has ended stays as it is."""
        return self._dict("POST", segments("v1", "jobs", id, "stop"))

    def usage(
        self, *, by: str = "kind", since: str | None = None, until: str | None = None
    ) -> list[dict[str, Any]]:
        """Sums up what jobs took and cost, by `day`, `kind`, `job` or `model`.

        `since` and `until` are days or moments in RFC 3339; times are in milliseconds and
        microseconds, sizes in bytes, as the names say.
        """
        return self._list("/v1/usage", {"by": by, "since": since, "until": until})

    def health(self) -> dict[str, Any]:
        """What the server says of itself: `status`, `version`, `pid`, `lake`, `jobs_running`."""
        return self._dict("GET", "/health")


class ArrowBody:
    """The body of an answer as the file that Arrow reads, which knows whether it came whole.

    Arrow takes the end of a file for the end of a stream, whatever stands there; a server that fails
    leaves the end-of-stream marker out.
    """

    def __init__(self, response: http.client.HTTPResponse) -> None:
        self.response = response
        self.closed = False
        self._tail = b""

    def readable(self) -> bool:
        """Yes."""
        return True

    def read(self, size: int = -1) -> bytes:
        """Up to `size` bytes; fewer only at the end."""
        content = self.response.read(None if size < 0 else size)
        self._tail = (self._tail + content[-len(ARROW_END) :])[-len(ARROW_END) :]
        return content

    def close(self) -> None:
        """Says that Arrow needs no more; the response stays open for `check_end`."""
        self.closed = True

    def check_end(self) -> None:
        """Raises `EOFError` unless the stream ended with its marker, and nothing was lost."""
        while self.read(65_536):
            pass
        if self._tail != ARROW_END:
            raise EOFError("the stream of record batches has no end")


def _job_error(job: Mapping[str, Any]) -> HeadwaterError:
    """Why a job failed, with its id in the context."""
    fallback = {"code": "internal", "message": f"job `{job['id']}` ended as `{job['status']}`"}
    if job["status"] in ("cancelled", "interrupted"):
        fallback["code"] = job["status"]
    error = from_problem(job.get("error") or fallback)
    error.context.setdefault("job", job["id"])
    return error


def _text(name: str, value: object) -> str:
    """A parameter's value as the command line would say it."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, (str, int, float)):
        return str(value)
    hint = "Give text, a number, True or False."
    raise make("invalid_argument", f"parameter `{name}` cannot be `{value!r}`", hint)


def _absolute(source: str | os.PathLike[str]) -> str:
    text = os.fspath(source)
    return text if "://" in text else os.path.abspath(text)


def _partition_field(field: str) -> dict[str, str]:
    found = partition.parse(field)
    if found is None:
        raise make("invalid_argument", f"partition `{field}` is not known", partition.HINT)
    column, transform = found
    return {"column": column, "transform": transform}


def _user() -> str:
    from getpass import getuser

    try:
        return getuser()
    except (KeyError, OSError):
        return f"uid-{os.getuid()}"
