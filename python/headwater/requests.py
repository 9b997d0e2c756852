"""The base of the client's methods: connection, active branch and JSON requests."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from datetime import datetime, timedelta, timezone
from typing import Any

from .connection import Connection
from .errors import HeadwaterError, make
from .notebook import shown
from .quantity import parse_duration, parse_size

OnEvent = Callable[[dict[str, Any]], object]


class Requests:
    """Requests over one connection."""

    _connection: Connection

    def _at(self, ref: str | None) -> str:
        """Returns the given ref; by default the active branch, or `main` if there is none."""
        return ref if ref is not None else self._connection.active_branch() or "main"

    def _at_if_known(self, ref: str | None) -> str | None:
        """Like `_at`, but returns None if there is neither a given ref nor an active branch."""
        return ref if ref is not None else self._connection.active_branch()

    def _list(self, path: str, parameters: Mapping[str, Any] | None = None) -> list[dict[str, Any]]:
        answer: list[dict[str, Any]] = shown(
            self._connection.json("GET", path, parameters=parameters)
        )
        return answer

    def _dict(
        self,
        method: str,
        path: str,
        body: Mapping[str, Any] | bytes | None = None,
        parameters: Mapping[str, Any] | None = None,
    ) -> dict[str, Any]:
        answer: dict[str, Any] = shown(self._connection.json(method, path, body, parameters))
        return answer

    def _query_body(
        self,
        sql: str,
        ref: str | None,
        parameters: Mapping[str, Any] | None,
        namespace: str | None,
        limit: int | None,
        memory: str | int | None,
    ) -> dict[str, Any]:
        """Returns the body of a request that executes a statement."""
        given = dict(parameters) if parameters else None
        at = self._at_if_known(ref)
        body = {
            "sql": sql,
            "ref": at,
            "parameters": given,
            "namespace": namespace,
            "limit": limit,
            "memory_bytes_max": size_bytes("memory", memory),
        }
        return without_none(body)

    def _delete_uploads(self, paths: Iterable[str]) -> None:
        """Deletes uploads that are no longer needed. Uploads that cannot be deleted expire after a
        day."""
        for path in paths:
            with suppress(HeadwaterError):
                self._connection.json("DELETE", "/v1/uploads", parameters={"path": path})

    def _work(self, path: str, request: dict[str, Any], on_event: OnEvent | None) -> dict[str, Any]:
        """Starts a job and follows its events to the end. Implemented by the subclass `Runs`."""
        raise NotImplementedError


def without_none(fields: Mapping[str, Any]) -> dict[str, Any]:
    """Returns the fields whose values are not None."""
    return {name: value for name, value in fields.items() if value is not None}


def check_options(options: Mapping[str, Any], known: type) -> None:
    """Raises `TypeError` if an option is not a key of the typed dict `known`."""
    for name in options.keys() - known.__annotations__.keys():
        raise TypeError(f"unexpected keyword argument `{name}`")


def selectors(value: str | Iterable[str]) -> list[str]:
    """Returns selectors of models as a list."""
    return [value] if isinstance(value, str) else list(value)


def parameter_text(name: str, value: object) -> str:
    """Formats a parameter's value as on the command line."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, (str, int, float)):
        return str(value)
    hint = "Give text, a number, True or False."
    raise make("invalid_argument", f"parameter `{name}` cannot be `{value!r}`", hint)


def size_bytes(name: str, value: str | int | None) -> int | None:
    """Returns a size in bytes: a number, or text such as `2GiB`."""
    if not isinstance(value, str):
        return value
    size = parse_size(value)
    if size is None:
        hint = "Write a number with a unit, such as `2GiB`."
        raise make("invalid_argument", f"`{name}` cannot be `{value}`", hint)
    return int(size)


def duration_seconds(name: str, value: str | float | None) -> float | None:
    """Returns a duration in seconds: a number, or text such as `90s`."""
    if not isinstance(value, str):
        return value
    seconds = parse_duration(value)
    if seconds is None:
        hint = "Write a number with a unit, such as `90s`."
        raise make("invalid_argument", f"`{name}` cannot be `{value}`", hint)
    return seconds


def time_text(value: str | datetime | None, direction: int = 0) -> str | None:
    """Returns a time as the API expects it.

    With the direction 1, text such as `90d` means the time 90 days after now; with -1, the time 90
    days before now.
    """
    if isinstance(value, str) and direction and (seconds := parse_duration(value)) is not None:
        value = datetime.now(timezone.utc) + timedelta(seconds=direction * seconds)
    if not isinstance(value, datetime):
        return value
    if value.tzinfo is None:
        hint = "Use `datetime.now(timezone.utc)`."
        raise make("invalid_argument", f"the time `{value}` has no zone", hint)
    return value.isoformat()


def user_name() -> str:
    """Returns the name of the operating system's user."""
    from getpass import getuser

    try:
        return getuser()
    except (KeyError, OSError):
        return f"uid-{os.getuid()}"
