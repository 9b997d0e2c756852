"""Requests shared by all methods of the client: connection, active branch, JSON."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from .connection import Connection

OnEvent = Callable[[dict[str, Any]], object]


class Requests:
    """Requests of one connection."""

    _connection: Connection

    def _at(self, ref: str | None) -> str:
        """Returns the given ref, or the active branch."""
        return ref if ref is not None else self._connection.active_branch() or "main"

    def _at_if_known(self, ref: str | None) -> str | None:
        """Like `_at`, for a request with an optional ref."""
        return ref if ref is not None else self._connection.active_branch()

    def _list(self, path: str, parameters: Mapping[str, Any] | None = None) -> list[dict[str, Any]]:
        answer: list[dict[str, Any]] = self._connection.json("GET", path, parameters=parameters)
        return answer

    def _dict(
        self,
        method: str,
        path: str,
        body: Mapping[str, Any] | bytes | None = None,
        parameters: Mapping[str, Any] | None = None,
    ) -> dict[str, Any]:
        answer: dict[str, Any] = self._connection.json(method, path, body, parameters)
        return answer

    def _work(self, path: str, request: dict[str, Any], on_event: OnEvent | None) -> dict[str, Any]:
        """Starts a job and follows it to its end; the subclass follows the events."""
        raise NotImplementedError


def without_none(fields: Mapping[str, Any]) -> dict[str, Any]:
    """Returns the fields that have a value."""
    return {name: value for name, value in fields.items() if value is not None}
