"""Tables, views and namespaces: the methods of `Client` for the content of a lake."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any

from .choices import WriteMode
from .connection import segments
from .errors import make
from .frames import to_stream
from .requests import OnEvent, Requests, without_none

SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86_400, "w": 604_800}


class Tables(Requests):
    """Methods of `Client` for tables, views and namespaces."""

    def tables(
        self, *, ref: str | None = None, namespace: str | None = None
    ) -> list[dict[str, Any]]:
        """Lists the tables at a ref, by name, with their columns, rows, files and bytes."""
        return self._list(segments("v1", "refs", self._at(ref), "tables"), {"namespace": namespace})

    def table(self, name: str, *, ref: str | None = None) -> dict[str, Any]:
        """Describes a table at a ref. Raises `TableNotFoundError`."""
        return self._dict("GET", segments("v1", "refs", self._at(ref), "tables", name))

    def write(
        self, table: str, rows: Any, *, mode: WriteMode = "append", ref: str | None = None
    ) -> dict[str, Any]:
        """Writes a pyarrow table, a pandas or polars frame, or a list of dicts into a table, as one
        commit.

        A table that does not exist is created. `append` adds rows. It matches columns by name, adds
        new columns, and sets missing columns to null. `replace` replaces rows and columns. The rows
        are durable on return. Their maximum size as an Arrow stream is 256 MiB. Needs pyarrow.

        Returns the report: `commit`, `rows`, `created_table`, `columns_added`, `bytes_written`.
        """
        path = segments("v1", "branches", self._at(ref), "tables", table, "rows")
        return self._dict("POST", path, to_stream(rows), {"mode": mode})

    def drop_table(self, name: str, *, ref: str | None = None, if_exists: bool = False) -> None:
        """Drops a table from a branch. Other branches and earlier commits keep the table."""
        path = segments("v1", "branches", self._at(ref), "tables", name)
        self._connection.json("DELETE", path, parameters={"if_exists": if_exists or None})

    def maintain(
        self,
        table: str | None = None,
        *,
        ref: str | None = None,
        compact: bool = False,
        sort: Iterable[str] = (),
        zorder: Iterable[str] = (),
        manifests: bool = False,
        expire_before: str | int | None = None,
        keep: int | None = None,
        orphans: bool = False,
        older_than: str | int | None = None,
        force: bool = False,
        dry_run: bool = False,
        on_event: OnEvent | None = None,
    ) -> dict[str, Any]:
        """Maintains a table of a branch, or all tables, and waits for the end.

        `compact` rewrites small data files; `sort` and `zorder` rewrite all data files in the order
        of columns; `manifests` merges manifests. `expire_before` and `keep` expire old snapshots;
        `orphans` removes files that no snapshot references and that are older than `older_than`.
        Durations are seconds, or text such as `30d`. Returns the report; with `dry_run`, changes
        nothing and reports the changes that would be made.
        """
        names = ["tables", table] if table is not None else []
        path = segments("v1", "branches", self._at(ref), *names, "maintain")
        request = {
            "compact": compact,
            "sort": [sort] if isinstance(sort, str) else list(sort),
            "zorder": [zorder] if isinstance(zorder, str) else list(zorder),
            "manifests": manifests,
            "expire_before_seconds": _seconds("expire_before", expire_before),
            "keep": keep,
            "orphans": orphans,
            "orphans_older_than_seconds": _seconds("older_than", older_than),
            "force": force,
            "dry_run": dry_run,
        }
        return self._work(path, without_none(request), on_event)

    # Views.

    def views(
        self, *, ref: str | None = None, namespace: str | None = None
    ) -> list[dict[str, Any]]:
        """Lists the views at a ref, by name, with their columns and SQL."""
        return self._list(segments("v1", "refs", self._at(ref), "views"), {"namespace": namespace})

    def view(self, name: str, *, ref: str | None = None) -> dict[str, Any]:
        """Describes a view at a ref. Raises `TableNotFoundError`."""
        return self._dict("GET", segments("v1", "refs", self._at(ref), "views", name))

    def create_view(
        self, name: str, sql: str, *, ref: str | None = None, or_replace: bool = False
    ) -> dict[str, Any]:
        """Creates a view of the query `sql` on a branch, and describes it. Raises
        `AlreadyExistsError`."""
        quoted = ".".join('"' + part.replace('"', '""') + '"' for part in name.split("."))
        verb = "CREATE OR REPLACE VIEW" if or_replace else "CREATE VIEW"
        branch = self._at(ref)
        body = {"sql": f"{verb} {quoted} AS {sql}", "ref": branch}
        self._connection.json("POST", "/v1/query", body)
        return self.view(name, ref=branch)

    def drop_view(self, name: str, *, ref: str | None = None, if_exists: bool = False) -> None:
        """Drops a view from a branch. Other branches and earlier commits keep the view."""
        path = segments("v1", "branches", self._at(ref), "views", name)
        self._connection.json("DELETE", path, parameters={"if_exists": if_exists or None})

    # Namespaces.

    def namespaces(self, *, ref: str | None = None) -> list[dict[str, Any]]:
        """Lists the namespaces at a ref, by name."""
        return self._list(segments("v1", "refs", self._at(ref), "namespaces"))

    def create_namespace(self, name: str, *, ref: str | None = None) -> dict[str, Any]:
        """Creates a namespace on a branch, with its missing parents: `sales` for `sales.eu`. Raises
        `AlreadyExistsError`."""
        path = segments("v1", "branches", self._at(ref), "namespaces")
        return self._dict("POST", path, {"name": name})

    def drop_namespace(
        self, name: str, *, ref: str | None = None, if_exists: bool = False
    ) -> None:
        """Drops an empty namespace from a branch. Raises `NotEmptyError`."""
        path = segments("v1", "branches", self._at(ref), "namespaces", name)
        self._connection.json("DELETE", path, parameters={"if_exists": if_exists or None})


def _seconds(name: str, duration: str | int | None) -> int | None:
    if duration is None or isinstance(duration, int):
        return duration
    parts = re.findall(r"(\d+)([smhdw])", duration)
    if not parts or "".join(number + unit for number, unit in parts) != duration:
        hint = "Write a number and a unit: `90s`, `15m`, `12h`, `30d`, `2w`."
        raise make("invalid_argument", f"`{duration}` is not a valid duration for `{name}`", hint)
    return sum(int(number) * SECONDS[unit] for number, unit in parts)
