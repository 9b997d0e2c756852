"""What every noun of the client needs: the connection, the active branch and JSON requests."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from .connection import Connection

OnEvent = Callable[[dict[str, Any]], object]


class Requests:
    """Requests of one connection."""

    _connection: Connection

    def _at(self, ref: str | None) -> str:
        """The ref that is meant: the active branch where none is given."""
        return ref if ref is not None else self._connection.active_branch() or "main"

    def _at_if_known(self, ref: str | None) -> str | None:
        """The same for a request that may leave the ref out."""
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
        """Starts a job and follows it to its end; the implementation follows events."""
        raise NotImplementedError


def without_none(fields: Mapping[str, Any]) -> dict[str, Any]:
    """The fields that have a value."""
    return {name: value for name, value in fields.items() if value is not None}
