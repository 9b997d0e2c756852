"""Functions and deployments: methods of `Client`."""

from __future__ import annotations

import http.client
import json
import os
import time
import uuid
from collections.abc import Iterable, Iterator, Mapping
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

from .choices import FunctionSetting
from .connection import ARROW, JSON, segments
from .errors import HeadwaterError, make
from .frames import import_package, is_table, to_stream
from .function_files import read_function
from .function_logs import CallFollower
from .project import FileContent, read_project
from .requests import duration_seconds, parameter_text, size_bytes, without_none
from .responses import Responses
from .runs import FINAL

if TYPE_CHECKING:
    import pyarrow

# The number of recent function calls to search for the calls of one function.
CALLS_MAX = 2_000

# The time for which the server waits for a new call in one request, in milliseconds.
WAIT_MS = 30_000

# Pause after a request that returned no call, because a server that shuts down responds without
# waiting, in seconds.
PAUSE_SECONDS = 0.1

# Calls that start at about the same time may be recorded out of order. So each list of new calls
# begins this long before the newest known call.
OVERLAP = timedelta(seconds=5)


class Functions(Responses):
    """Methods of `Client` for functions and deployments."""

    # Calls.

    def functions(self) -> list[dict[str, Any]]:
        """Lists the functions by name: functions of the deployed version, and functions without a
        project."""
        return self._list("/v1/functions")

    def invoke(self, function: str, /, **arguments: Any) -> Any:
        """Calls a function and returns its result; a table is a list of dicts.

        The function belongs to the deployed version, or was deployed without a project. In the
        second case, `NAME:VERSION` calls a version or an alias. Arguments are JSON values. One
        argument can be a `pyarrow.Table` or a pandas or polars frame. Ctrl-C stops the function.
        Raises the error of the function.
        """
        with self._invoke(function, arguments, JSON) as response:
            return self._json(response)

    def invoke_table(self, function: str, /, **arguments: Any) -> pyarrow.Table:
        """Like `invoke`, for a function that returns a table. Returns a `pyarrow.Table`."""
        import_package("pyarrow")
        with self._invoke(function, arguments, ARROW) as response:
            return self._table(response)

    def invoke_project(
        self, project_dir: str | os.PathLike[str], function: str, /, **arguments: Any
    ) -> Any:
        """Calls a function of the project in a folder, which need not be deployed.

        Arguments are JSON values. Returns the result as `invoke` does.
        """
        return self._invoke_files(read_project(project_dir), function, arguments)

    def _invoke_files(
        self, files: Mapping[str, FileContent], function: str, arguments: Mapping[str, Any]
    ) -> Any:
        request = {"arguments": dict(arguments), "files": dict(files)}
        path = segments("v1", "functions", function, "invoke")
        with self._connection.send("POST", path, request, accept=JSON) as response:
            return self._json(response)

    def _invoke(
        self, function: str, arguments: Mapping[str, Any], accept: str
    ) -> http.client.HTTPResponse:
        path = segments("v1", "functions", function, "invoke")
        tables = {name: value for name, value in arguments.items() if is_table(value)}
        if not tables:
            return self._connection.send("POST", path, {"arguments": arguments}, accept=accept)
        if len(tables) > 1:
            hint = "Store the other tables in the lake, and let a model read them there."
            raise make("invalid_argument", "a call accepts only one table", hint)
        (name, table), = tables.items()
        others = {key: value for key, value in arguments.items() if key != name}
        parameters = {"table": name, "arguments": json.dumps(others)}
        return self._connection.send("POST", path, to_stream(table), parameters, accept)

    def invoke_async(
        self,
        function: str,
        arguments: Mapping[str, Any] | None = None,
        *,
        key: str | None = None,
        order_key: str | None = None,
    ) -> str:
        """Calls a function of the deployed version asynchronously, and returns the id of the event.

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
        """Calls a function of the deployed version asynchronously, once for each event.

        An event has the attributes of CloudEvents: `source`, `type` and, if needed, `data`, `id`
        and others; a missing `id` is generated. The function receives the event as its only
        argument. Events with the same `partitionkey` are delivered one after the other.

        All events are accepted or none; they are durable on return. A call accepts at most 10,000
        events and 8 MiB. Returns a dict for each event: `event` is the id in Headwater, and
        `duplicate` is true if an event with the same `source` and `id` was sent within the last 10
        minutes. Duplicates are not added.
        """
        defaults = {"specversion": "1.0"}
        sent = [{**defaults, "id": str(uuid.uuid4()), **event} for event in events]
        path = segments("v1", "functions", function, "events")
        accepted: list[dict[str, Any]] = self._connection.json("POST", path, sent)
        return accepted

    # Functions without a project.

    def deploy_function(
        self,
        name: str,
        source: str | os.PathLike[str],
        *,
        runtime: str | None = None,
        handler: str | None = None,
        description: str | None = None,
        memory: str | int | None = None,
        timeout: str | float | None = None,
        env: Mapping[str, str | int | float | bool] | None = None,
        secrets: Iterable[str] | None = None,
        network: Iterable[str] | None = None,
        system: Iterable[str] | None = None,
        layers: Iterable[str] | None = None,
        reserved_concurrency: int | None = None,
        provisioned_concurrency: int | None = None,
        reset: Iterable[FunctionSetting] = (),
    ) -> dict[str, Any]:
        """Deploys a function without a project, as a new version, and returns its description.

        Settings that are `None` are unchanged; in a new function, they have their defaults. `reset`
        are settings to reset to their defaults, such as `"memory"`.

        `source` is the function's folder, or a ZIP archive, of at most 1 GiB. `runtime` is
        `python3.11`, `nodejs20`, `provided` and so on; a new function needs one. `handler` is the
        file without its ending, a dot and the function; not for `provided`. `memory` is bytes, or
        text such as `256MiB`; `timeout` is seconds, or text such as `30s`. `env` are all
        environment variables. `secrets` are names of secrets, which are environment variables of
        the same name. `network` are hosts that the function may connect to, or `*` for all.
        `system` are programs of the system that the function needs. `layers` are versions of
        layers, such as `deps:3`.
        `reserved_concurrency` is the maximum number of concurrent calls, and
        `provisioned_concurrency` the number of instances that the server keeps ready.
        """
        seconds = duration_seconds("timeout", timeout)
        variables = {key: parameter_text(key, value) for key, value in (env or {}).items()}
        request = {
            "runtime": runtime,
            "handler": handler,
            "description": description,
            "memory_bytes": size_bytes("memory", memory),
            "timeout_ms": None if seconds is None else int(seconds * 1000),
            "env": None if env is None else variables,
            "secrets": _names(secrets),
            "network": _names(network),
            "system": _names(system),
            "layers": _names(layers),
            "reserved_concurrency": reserved_concurrency,
            "provisioned_concurrency": provisioned_concurrency,
            "reset": _names(reset) or None,
        }
        path = segments("v1", "functions", name)
        return self._send_files("PUT", path, source, without_none(request))

    def _send_files(
        self, method: str, path: str, source: str | os.PathLike[str], request: dict[str, Any]
    ) -> dict[str, Any]:
        """Sends a request with the files of a folder or archive. Deletes the upload of a request
        that failed, because the next attempt uploads the files again."""
        files = self._function_files(source)
        try:
            return self._dict(method, path, {**files, **request})
        except BaseException:
            if "upload" in files:
                self._delete_uploads([files["upload"]])
            raise

    def _function_files(self, source: str | os.PathLike[str]) -> dict[str, Any]:
        """Returns the part of a deployment with the files. A large archive is uploaded."""
        files = read_function(source)
        if isinstance(files, dict):
            return files
        with files:
            parameters = {"name": "function.zip"}
            uploaded = self._connection.json("POST", "/v1/uploads", files, parameters)
        return {"upload": uploaded["path"]}

    def function(self, name: str) -> dict[str, Any]:
        """Describes a function without a project: its settings, files, versions and aliases.

        Raises `FunctionNotFoundError`.
        """
        return self._dict("GET", segments("v1", "functions", name))

    def function_versions(self, name: str) -> list[dict[str, Any]]:
        """Lists the versions of a function without a project."""
        return self._list(segments("v1", "functions", name, "versions"))

    def function_aliases(self, name: str) -> dict[str, dict[str, Any]]:
        """Returns the aliases of a function without a project, by name."""
        aliases: dict[str, dict[str, Any]] = self.function(name)["aliases"]
        return aliases

    def create_function_alias(
        self,
        name: str,
        alias: str,
        version: int | None,
        *,
        weights: Mapping[int, float] | None = None,
        description: str = "",
    ) -> dict[str, Any]:
        """Creates an alias of a version of a function, and returns it.

        `version` is the number of a version, or `None` for the latest state. `weights` are the
        shares of calls, from 0 to 1, that other versions get.
        """
        path = segments("v1", "functions", name, "aliases", alias)
        return self._dict("POST", path, _alias(version, weights, description))

    def update_function_alias(
        self,
        name: str,
        alias: str,
        version: int | None,
        *,
        weights: Mapping[int, float] | None = None,
        description: str = "",
    ) -> dict[str, Any]:
        """Replaces an alias of a function, and returns it. The arguments are those of
        `create_function_alias`."""
        path = segments("v1", "functions", name, "aliases", alias)
        return self._dict("PUT", path, _alias(version, weights, description))

    def delete_function_alias(self, name: str, alias: str, *, if_exists: bool = False) -> None:
        """Deletes an alias of a function, with its URL."""
        path = segments("v1", "functions", name, "aliases", alias)
        self._connection.json("DELETE", path, parameters={"if_exists": if_exists or None})

    def function_url(self, name: str, *, alias: str | None = None) -> dict[str, Any]:
        """Returns the URL of a function without a project, or of its alias. `path` is the path of
        the URL at the server's HTTP address."""
        path = segments("v1", "functions", name, "url")
        return self._dict("GET", path, parameters={"alias": alias})

    def set_function_url(
        self,
        name: str,
        *,
        auth: str | None = None,
        alias: str | None = None,
        stream: bool | None = None,
        exists: bool | None = None,
    ) -> dict[str, Any]:
        """Creates or changes the URL of a function without a project, and returns the URL.

        Settings that are `None` are unchanged; a new URL needs `auth`. `exists=False` only creates
        a URL, and raises `AlreadyExistsError` if there is one; `exists=True` only changes it.

        With `auth="none"`, every client that reaches the HTTP address may call the function; with
        `auth="iam"`, requests are signed with an access key. With `stream`, responses are returned
        while the function writes them.
        """
        path = segments("v1", "functions", name, "url")
        request = without_none({"auth": auth, "stream": stream, "exists": exists})
        return self._dict("PUT", path, request, {"alias": alias})

    def delete_function_url(self, name: str, *, alias: str | None = None) -> None:
        """Deletes the URL of a function without a project, or of its alias."""
        path = segments("v1", "functions", name, "url")
        self._connection.json("DELETE", path, parameters={"alias": alias})

    def publish_layer(
        self, name: str, source: str | os.PathLike[str], *, description: str = ""
    ) -> dict[str, Any]:
        """Publishes a version of a layer, and returns its description.

        `source` is the layer's folder, or a ZIP archive, of at most 1 GiB. Functions import its
        files below `python/` and `nodejs/`. The first version creates the layer.
        """
        path = segments("v1", "layers", name, "versions")
        return self._send_files("POST", path, source, {"description": description})

    def layers(self) -> list[dict[str, Any]]:
        """Lists the versions of layers, by layer and number."""
        return self._list("/v1/layers")

    def delete_layer(self, name: str, version: int, *, if_exists: bool = False) -> None:
        """Deletes a version of a layer. Functions that use the version keep its files."""
        path = segments("v1", "layers", name, "versions", str(version))
        self._connection.json("DELETE", path, parameters={"if_exists": if_exists or None})

    def delete_function(self, name: str, *, if_exists: bool = False) -> None:
        """Deletes a function without a project, with its versions."""
        path = segments("v1", "functions", name)
        self._connection.json("DELETE", path, parameters={"if_exists": if_exists or None})

    def function_logs(
        self, name: str, *, limit: int = 10, follow: bool = False
    ) -> Iterator[dict[str, Any]]:
        """Yields the last calls of a function, oldest first: the `job` of each call, and its
        `events`, which include the output as events of type `log`.

        `limit` is the maximum number of earlier calls. A name without a version or alias includes
        the calls of all versions. Without `follow`, raises `JobNotFoundError` if no call is
        recorded.

        With `follow`, then yields the output of running and later calls as soon as it is printed,
        until the caller stops the iteration: the `job` of the call, and only its new `events`. A
        call is yielded several times while it runs, and the last time with its ended `job`.
        """
        client: Any = self
        recorded = self._recorded_calls()
        calls = self._calls_of(name, recorded)
        if not calls and not follow:
            message = f"no recorded call of function `{name}`"
            raise make("job_not_found", message, "List the functions with `functions()`.")
        running = []
        for call in calls[max(len(calls) - limit, 0) :]:
            if follow and call["status"] not in FINAL:
                running.append(call)
                continue
            events = list(client.job_events(call["id"]))
            yield {"job": client.job(call["id"]), "events": events}
        if follow:
            newest = recorded[0]["created"] if recorded else None
            new_calls = self._new_calls(name, {call["id"] for call in calls}, newest)
            yield from CallFollower(client).follow(running, new_calls)

    def _recorded_calls(self, since: str | None = None) -> list[dict[str, Any]]:
        """Returns the recorded calls of all functions, newest first."""
        return self._list("/v1/jobs", {"kind": "function", "limit": CALLS_MAX, "since": since})

    def _new_calls(
        self, name: str, known: set[str], newest: str | None
    ) -> Iterator[list[dict[str, Any]]]:
        """Yields the calls of a function that are recorded after the newest known call of any
        function, as lists. After each wait without a new call, yields an empty list."""
        while True:
            since = _after(newest) if newest else None
            filters = {"kind": "function", "limit": 1, "wait_ms": WAIT_MS, "since": since}
            found = self._list("/v1/jobs", filters)
            if not found:
                yield []
                time.sleep(PAUSE_SECONDS)
                continue
            latest = str(found[0]["created"])
            # Calls that were recorded since the last list are listed, too.
            calls = self._calls_of(name, self._recorded_calls(_before(newest or latest)))
            yield [call for call in calls if call["id"] not in known]
            # Forget calls that later lists do not contain, so that the set does not grow forever.
            known = {call["id"] for call in calls}
            newest = latest

    def _calls_of(self, name: str, calls: list[dict[str, Any]]) -> list[dict[str, Any]]:
        """Returns the calls of one function, oldest first."""
        try:
            triggers = self._list("/v1/triggers")
        except HeadwaterError:
            # Without the right to list triggers, calls by triggers are not found.
            triggers = []
        own = [one for one in triggers if _is_call_of(one.get("function") or "", name)]
        authors = {f"trigger {one['name']}" for one in own}
        found = [
            call
            for call in calls
            if _is_call_of(call["summary"], name) or call["author"] in authors
        ]
        return found[::-1]

    # Deployments.

    def deploy(
        self, project: str | os.PathLike[str] = ".", *, dry_run: bool = False
    ) -> dict[str, Any]:
        """Validates the project in a folder and activates it as a new version.

        Returns the version, its contents and the changes. `dry_run` deploys nothing. Raises
        `InvalidProjectError` with the errors of all files; then the active version does not change.
        """
        request = {"files": read_project(project), "dry_run": dry_run}
        return self._dict("POST", "/v1/deployments", request)

    def deployments(self) -> list[dict[str, Any]]:
        """Lists the deployed versions, newest first."""
        return self._list("/v1/deployments")

    def deployment(self, version: str | None = None) -> dict[str, Any]:
        """Returns a deployed version, by default the active one; a prefix of the version is
        enough. Raises `DeploymentNotFoundError`."""
        if version is not None:
            return self._dict("GET", segments("v1", "deployments", version))
        versions = self.deployments()
        return versions[_active(versions)]

    def rollback(self, version: str | None = None) -> dict[str, Any]:
        """Activates an earlier version, by default the version before the active version; a prefix
        of the version is enough."""
        if version is None:
            versions = self.deployments()
            before = _active(versions) + 1
            if before == len(versions):
                message = "no version was deployed before the active one"
                hint = "List the versions with `deployments()`."
                raise make("deployment_not_found", message, hint)
            version = str(versions[before]["version"])
        return self._dict("POST", segments("v1", "deployments", version, "activate"), {})


def _active(versions: list[dict[str, Any]]) -> int:
    """Returns the index of the active version."""
    for index, version in enumerate(versions):
        if version["active"]:
            return index
    message = "no version of the project is deployed"
    raise make("deployment_not_found", message, "Deploy a project with `deploy()`.")


def _alias(
    version: int | None, weights: Mapping[int, float] | None, description: str
) -> dict[str, Any]:
    shares = {str(number): share for number, share in (weights or {}).items()}
    return {"version": version, "weights": shares, "description": description}


def _after(moment: str) -> str:
    """Returns the time one nanosecond after a time of the server."""
    seconds, _, fraction = moment.removesuffix("Z").partition(".")
    nanoseconds = int(fraction.ljust(9, "0")) + 1
    if nanoseconds < 10**9:
        return f"{seconds}.{nanoseconds:09}Z"
    return f"{(datetime.fromisoformat(seconds) + timedelta(seconds=1)).isoformat()}Z"


def _before(moment: str) -> str:
    """Returns a time that is `OVERLAP` before a time of the server, without fractions."""
    seconds = moment.removesuffix("Z").partition(".")[0]
    return f"{(datetime.fromisoformat(seconds) - OVERLAP).isoformat()}Z"


def _is_call_of(called: str, name: str) -> bool:
    """Returns true if a call of `called` is a call of the function `name`.

    A name without a version or alias includes the calls of all versions. The address of a
    destination, such as `table://log.calls`, is not a function.
    """
    version = called.removeprefix(f"{name}:")
    return called == name or (version != called and not version.startswith("//"))


def _names(value: str | Iterable[str] | None) -> list[str] | None:
    if value is None:
        return None
    return [value] if isinstance(value, str) else list(value)
