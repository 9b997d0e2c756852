"""Tables, views and namespaces: the methods of `Client` for the content of a lake."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, TypedDict

from .choices import WriteMode
from .connection import segments
from .errors import make
from .frames import to_stream
from .requests import OnEvent, check_options, without_none
from .runs import RunningJob, Runs

if TYPE_CHECKING:
    from typing_extensions import Unpack

SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86_400, "w": 604_800}


class MaintainOptions(TypedDict, total=False):
    """The options of maintenance, as `maintain` describes them."""

    ref: str | None
    compact: bool
    sort: str | Iterable[str]
    zorder: str | Iterable[str]
    manifests: bool
    expire_before: str | int | None
    keep: int | None
    orphans: bool
    older_than: str | int | None
    force: bool


class Tables(Runs):
    """Methods of `Client` for tables, views and namespaces."""

    def tables(
        self, *, ref: str | None = None, namespace: str | None = None
    ) -> list[dict[str, Any]]:
        """Lists the tables at a ref, by name, with their columns, sizes and numbers of rows."""
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
        sort: str | Iterable[str] = (),
        zorder: str | Iterable[str] = (),
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
        options: MaintainOptions = {
            "ref": ref,
            "compact": compact,
            "sort": sort,
            "zorder": zorder,
            "manifests": manifests,
            "expire_before": expire_before,
            "keep": keep,
            "orphans": orphans,
            "older_than": older_than,
            "force": force,
        }
        path, request = self._maintenance(table, options)
        return self._work(path, {**request, "dry_run": dry_run}, on_event)

    def start_maintain(
        self, table: str | None = None, **options: Unpack[MaintainOptions]
    ) -> RunningJob:
        """Starts the maintenance of a table of a branch, or of all tables, with the options of
        `maintain`, and does not wait for its end."""
        check_options(options, MaintainOptions)
        path, request = self._maintenance(table, options)
        return self.running_job(self._dict("POST", path, request)["id"])

    def _maintenance(
        self, table: str | None, options: MaintainOptions
    ) -> tuple[str, dict[str, Any]]:
        """Returns the path and the body of a request for maintenance."""
        names = ["tables", table] if table is not None else []
        path = segments("v1", "branches", self._at(options.get("ref")), *names, "maintain")
        request = {
            "compact": options.get("compact", False),
            "sort": _columns(options.get("sort", ())),
            "zorder": _columns(options.get("zorder", ())),
            "manifests": options.get("manifests", False),
            "expire_before_seconds": _seconds("expire_before", options.get("expire_before")),
            "keep": options.get("keep"),
            "orphans": options.get("orphans", False),
            "orphans_older_than_seconds": _seconds("older_than", options.get("older_than")),
            "force": options.get("force", False),
        }
        return path, without_none(request)

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


def _columns(value: str | Iterable[str]) -> list[str]:
    return [value] if isinstance(value, str) else list(value)


def _seconds(name: str, duration: str | int | None) -> int | None:
    if duration is None or isinstance(duration, int):
        return duration
    parts = re.findall(r"(\d+)([smhdw])", duration)
    if not parts or "".join(number + unit for number, unit in parts) != duration:
        hint = "Write a number and a unit: `90s`, `15m`, `12h`, `30d`, `2w`."
        raise make("invalid_argument", f"`{duration}` is not a valid duration for `{name}`", hint)
    return sum(int(number) * SECONDS[unit] for number, unit in parts)
