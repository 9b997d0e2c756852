"""Python environments of functions: methods of `Client`."""

from __future__ import annotations

from typing import Any

from .connection import segments
from .requests import Requests

SECONDS_PER_DAY = 24 * 60 * 60


class Environments(Requests):
    """Methods of `Client` for the Python environments of functions."""

    def environments(self) -> list[dict[str, Any]]:
        """Lists the environments with their Python versions, requirements, packages and sizes."""
        return self._list("/v1/environments")

    def environment(self, id: str) -> dict[str, Any]:
        """Describes an environment: its packages, its zygote, and its running and waiting calls.

        A prefix of the id is enough. Raises `EnvironmentNotFoundError`.
        """
        return self._dict("GET", segments("v1", "environments", id))

    def prune_environments(self, *, days: int = 30, dry_run: bool = False) -> dict[str, Any]:
        """Removes the environments that were not used for this number of days. A later call creates
        them again.

        With `days=0`, removes all environments that no function is using. Returns `removed`, `busy`
        and the freed `bytes`; with `dry_run`, removes nothing.
        """
        request = {"unused_seconds": days * SECONDS_PER_DAY, "dry_run": dry_run}
        return self._dict("POST", "/v1/environments/prune", request)

    def rebuild_environment(self, id: str) -> dict[str, Any]:
        """Resolves the packages of an environment again within their requirements. Running calls
        keep the old packages.

        Returns the `environment`, and the versions of each changed package in `changed`.
        """
        return self._dict("POST", segments("v1", "environments", id, "rebuild"), {})
