"""Tables, views and triggers: the methods of `Client` for the content of a lake."""

from __future__ import annotations

import re
import uuid
from collections.abc import Iterable, Mapping
from typing import Any

from .connection import segments
from .errors import make
from .frames import to_stream
from .requests import OnEvent, Requests, without_none

SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86_400, "w": 604_800}


class Tables(Requests):
    """Methods of `Client` for tables, views and triggers."""

    def tables(self, *, ref: str | None = None, namespace: str | None = None) -> list[dict[str, Any]]:
        """Lists the tables at a ref, by name, with their columns, rows, files and bytes."""
        return self._list(segments("v1", "refs", self._at(ref), "tables"), {"namespace": namespace})

    def table(self, name: str, *, ref: str | None = None) -> dict[str, Any]:
        """Describes a table at a ref. Raises `TableNotFoundError`."""
        return self._dict("GET", segments("v1", "refs", self._at(ref), "tables", name))

    def write(
        self, table: str, rows: Any, *, mode: str = "append", ref: str | None = None
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

    # Triggers and events.

    def triggers(self) -> list[dict[str, Any]]:
        """Lists the project's triggers, by name."""
        return self._list("/v1/triggers")

    def invoke_async(
        self,
        function: str,
        arguments: Mapping[str, Any] | None = None,
        *,
        key: str | None = None,
        order_key: str | None = None,
    ) -> str:
        """Calls a function of the deployed version later, and returns the id of the event.

        The event is durable on return. The call is attempted at least once and retried after
        errors. A second call with the same `key` causes no second event. Calls with the same
        `order_key` are executed one after the other.
        """
        keys = without_none({"key": key, "order_key": order_key})
        request = {"arguments": dict(arguments or {}), **keys}
        path = segments("v1", "functions", function, "invoke-async")
        return str(self._dict("POST", path, request)["event"])

    def send_events(
        self, function: str, events: Iterable[Mapping[str, Any]]
    ) -> list[dict[str, Any]]:
        """Calls a function of the deployed version later, once for each event.

        An event has the attributes of CloudEvents: `source`, `type` and, if needed, `data`, `id`
        and others; a missing `id` is generated. The function receives the event as its only
        argument. Events with the same `partitionkey` are delivered one after the other.

        All events are accepted or none; they are durable on return. At most 10,000 events and 8
        MiB. Returns `event`, the id in Headwater, and `duplicate` for each: an event with the
        `source` and `id` of one that was sent within 10 minutes is not added.
        """
        defaults = {"specversion": "1.0"}
        sent = [{**defaults, "id": str(uuid.uuid4()), **event} for event in events]
        path = segments("v1", "functions", function, "events")
        accepted: list[dict[str, Any]] = self._connection.json("POST", path, sent)
        return accepted

    def trigger_events(
        self, *, status: str | None = None, trigger: str | None = None, limit: int = 100
    ) -> list[dict[str, Any]]:
        """Lists trigger events, newest first, each with the fields of CloudEvents and of the
        delivery.

        `status` is `pending`, `running`, `done` or `failed`, or several of these, separated by
        commas.
        """
        filters = {"status": status, "trigger": trigger, "limit": limit}
        return self._list("/v1/trigger-events", filters)

    def trigger_event(self, id: str) -> dict[str, Any]:
        """Returns an event and its delivery. A unique prefix or suffix of the id is enough."""
        return self._dict("GET", segments("v1", "trigger-events", id))

    def remove_trigger_event(self, id: str) -> dict[str, Any]:
        """Removes a pending or failed event, so that it is never delivered again."""
        return self._dict("DELETE", segments("v1", "trigger-events", id))

    def replay_trigger_event(self, id: str) -> dict[str, Any]:
        """Delivers an event again: restarts the delivery of a failed event, and delivers a pending
        event immediately."""
        return self._dict("POST", segments("v1", "trigger-events", id, "replay"))


def _seconds(name: str, duration: str | int | None) -> int | None:
    if duration is None or isinstance(duration, int):
        return duration
    parts = re.findall(r"(\d+)([smhdw])", duration)
    if not parts or "".join(number + unit for number, unit in parts) != duration:
        hint = "Write a number and a unit: `90s`, `15m`, `12h`, `30d`, `2w`."
        raise make("invalid_argument", f"`{duration}` is not a valid duration for `{name}`", hint)
    return sum(int(number) * SECONDS[unit] for number, unit in parts)
