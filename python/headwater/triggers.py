"""Triggers and their events: methods of `Client`."""

from __future__ import annotations

from collections.abc import Mapping
from difflib import get_close_matches
from typing import Any

from .connection import segments
from .errors import make
from .requests import Requests, without_none


class Triggers(Requests):
    """Methods of `Client` for triggers and their events."""

    def triggers(self) -> list[dict[str, Any]]:
        """Lists the triggers of the deployed version and the triggers without a project, by name,
        with their numbers of events."""
        return self._list("/v1/triggers")

    def trigger(self, name: str) -> dict[str, Any]:
        """Returns a trigger with its numbers of events. Raises `TriggerNotFoundError`."""
        triggers = {trigger["name"]: trigger for trigger in self.triggers()}
        if name in triggers:
            return triggers[name]
        near = get_close_matches(name, triggers, 1)
        hint = f"Did you mean `{near[0]}`?" if near else "List the triggers with `triggers()`."
        raise make("trigger_not_found", f"there is no trigger `{name}`", hint)

    def create_trigger(
        self,
        name: str,
        *,
        bucket: str | Mapping[str, Any] | None = None,
        prefix: str | None = None,
        suffix: str | None = None,
        schedule: str | Mapping[str, Any] | None = None,
        queue: str | Mapping[str, Any] | None = None,
        function: str | None = None,
        run: bool = False,
        import_into: str | Mapping[str, Any] | None = None,
        replace: bool = False,
        **settings: Any,
    ) -> dict[str, Any]:
        """Creates a trigger without a project, and returns it. The trigger has the rights of this
        client's user.

        The source of the events is a bucket, a schedule, a queue, or another source in `settings`.
        `prefix` and `suffix` limit the keys of the bucket. A schedule is a cron pattern, a rate or
        a single time. The target is a function, a run of the deployed project, or an import into a
        table. `settings` are other keys of `[[trigger]]`, with the values that they have in
        `headwater.toml`, such as `merges={"into": ["main"]}`, `branch="dev"` or `retries=3`. With
        `replace`, the new trigger replaces a created trigger with this name. Without it, a name in
        use raises `AlreadyExistsError`.
        """
        if isinstance(bucket, str):
            bucket = {"name": bucket, "prefix": prefix or "", "suffix": suffix or ""}
        elif prefix is not None or suffix is not None:
            message = "`prefix` and `suffix` need the name of a bucket"
            raise make("invalid_argument", message, "Pass `bucket=` as text.")
        given = {
            "name": name,
            "bucket": bucket,
            "schedule": schedule,
            "queue": queue,
            "function": function,
            "run": run or None,
            "import": {"table": import_into} if isinstance(import_into, str) else import_into,
        }
        trigger = {**settings, **without_none(given)}
        if replace:
            return self._dict("PUT", segments("v1", "triggers", name), trigger)
        return self._dict("POST", "/v1/triggers", trigger)

    def delete_trigger(self, name: str, *, if_exists: bool = False) -> None:
        """Deletes a trigger that was created without a project, and its pending and failed
        events."""
        path = segments("v1", "triggers", name)
        self._connection.json("DELETE", path, parameters={"if_exists": if_exists or None})

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
