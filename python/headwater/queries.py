"""Queries whose results the server keeps, so that a program can fetch them later and in pages."""

from __future__ import annotations

import time
from collections.abc import Generator, Iterator, Mapping
from typing import TYPE_CHECKING, Any

from .connection import ARROW, JSON, segments
from .errors import from_problem
from .frames import import_package
from .requests import Requests, without_none
from .runs import FINAL

if TYPE_CHECKING:
    from http.client import HTTPResponse

    import pyarrow

    from .client import Client

# The longest time for which one request waits for the end of a query, in seconds.
WAIT_SECONDS_MAX = 30.0


class RunningQuery:
    """A query that has been started.

    `result` waits for its end. In asynchronous code, `await query` does the same without blocking
    the event loop. The server keeps the rows for 24 hours, even if it restarts.
    """

    def __init__(self, client: Client, id: str) -> None:
        self._client = client
        self.id = id

    def __repr__(self) -> str:
        return f"RunningQuery({self.id!r})"

    def state(self, *, wait: float = 0) -> dict[str, Any]:
        """Returns the state: `status`, `columns`, `rows`, `bytes`, `expires`, and `error`.

        Waits at most `wait` seconds, limited to 60, for the end of the query.
        """
        parameters = {"wait_ms": int(wait * 1000)}
        return self._client._dict("GET", self._path(), parameters=parameters)

    def done(self) -> bool:
        """Returns true if the query has ended."""
        return self.state()["status"] in FINAL

    def cancel(self) -> dict[str, Any]:
        """Cancels the query and returns its state."""
        return self._client._dict("POST", self._path("cancel"), {})

    def delete(self) -> None:
        """Deletes the query and its rows. Cancels a running query first."""
        self._client._connection.json("DELETE", self._path())

    def wait(self, timeout: float | None = None) -> dict[str, Any]:
        """Waits for the end of the query and returns its state.

        Raises the error of the query. If the query has not ended after `timeout` seconds, raises
        the built-in `TimeoutError`, and the query continues.
        """
        deadline = None if timeout is None else time.monotonic() + timeout
        while True:
            left = WAIT_SECONDS_MAX if deadline is None else deadline - time.monotonic()
            state = self.state(wait=max(0.0, min(left, WAIT_SECONDS_MAX)))
            if state["status"] in FINAL:
                if state.get("error"):
                    raise from_problem(state["error"])
                return state
            if left <= 0:
                raise TimeoutError(f"query `{self.id}` has not ended after {timeout} s")

    def result(
        self, timeout: float | None = None, *, offset: int = 0, limit: int | None = None
    ) -> pyarrow.Table:
        """Waits for the end of the query and returns its rows as a `pyarrow.Table`.

        `offset` is the number of rows to skip, and `limit` the maximum number of rows. Needs
        pyarrow. Raises the errors of `wait`.
        """
        import_package("pyarrow")
        self.wait(timeout)
        with self._page(offset, limit, ARROW) as response:
            return self._client._table(response)

    def rows(self, *, offset: int = 0, limit: int | None = None) -> list[dict[str, Any]]:
        """Like `result`, but returns one dict per row. Needs no optional package."""
        self.wait()
        with self._page(offset, limit, JSON) as response:
            rows: list[dict[str, Any]] = self._client._json(response)
            return rows

    def _page(self, offset: int, limit: int | None, accept: str) -> HTTPResponse:
        page = without_none({"offset": offset, "limit": limit})
        send = self._client._connection.send
        return send("GET", self._path("rows"), parameters=page, accept=accept)

    def pages(self, rows: int = 100_000) -> Iterator[pyarrow.Table]:
        """Yields the rows in tables of at most `rows` rows. Needs pyarrow."""
        count = self.wait()["rows"]
        for offset in range(0, count, rows):
            yield self.result(offset=offset, limit=rows)

    def __await__(self) -> Generator[Any, None, pyarrow.Table]:
        import asyncio

        return asyncio.to_thread(self.result).__await__()

    def _path(self, *more: str) -> str:
        return segments("v1", "queries", self.id, *more)


class Queries(Requests):
    """Methods of `Client` for queries that run while the program does other work."""

    def start_query(
        self,
        sql: str,
        *,
        ref: str | None = None,
        parameters: Mapping[str, Any] | None = None,
        namespace: str | None = None,
        limit: int | None = None,
        memory: str | int | None = None,
    ) -> RunningQuery:
        """Starts a statement, as `query` does, but does not wait for its end.

        `result()` of the returned query waits for the end. In asynchronous code, use `await`.
        """
        body = self._query_body(sql, ref, parameters, namespace, limit, memory)
        return self.running_query(self._dict("POST", "/v1/queries", body)["id"])

    def running_query(self, id: str) -> RunningQuery:
        """Returns a started query by its id, to read its rows."""
        client: Any = self
        return RunningQuery(client, id)

    def running_queries(self) -> list[dict[str, Any]]:
        """Returns the states of the user's started queries that are kept, newest first."""
        return self._list("/v1/queries")
