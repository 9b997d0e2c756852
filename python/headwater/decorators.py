"""Decorators that turn a project's functions into models, expectations and callable functions.

A decorator leaves the function callable, and stores its own arguments in the function's attribute
`__headwater__`: a dict with the keys `model`, `python`, `expectation` and `function`. The order of
decorators does not matter. Headwater reads the decorators from the source, without running the
source. The decorators check the same rules again when the module is imported.
"""

from __future__ import annotations

from .markers import (
    check_columns,
    check_declaration,
    check_flag,
    check_lineage,
    check_packages,
    check_programs,
    check_text,
    refuse,
)
from .quantity import parse_duration, parse_size

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping
    from typing import Any, Literal, TypeVar

    Function = TypeVar("Function", bound=Callable[..., Any])

PRIORITIES = ("low", "normal", "high")
# Keys of triggers that only `headwater.toml` can contain.
TARGETS = ("function", "import", "run", "parameters")
CPUS_HINT = "Write a number of processors, such as `cpus=1.5`."
MONEY_HINT = "Write an amount, such as `2.5`."
# Characters that must not occur in names of namespaces and tables.
RESERVED = frozenset("/\\\"`@#~*")
MATERIALIZATIONS = ("none", "replace", "append", "merge", "overwrite_partitions")


def model(
    name: str | None = None,
    materialization: Literal["none", "replace", "append", "merge", "overwrite_partitions"] = "none",
    keys: str | Iterable[str] | None = None,
    columns: Iterable[str] | Mapping[str, str] | None = None,
    partition_by: str | Iterable[str] | None = None,
    allow_takeover: bool = False,
    reuse: bool = False,
    network: bool | Iterable[str] = False,
    memory: str | int | None = None,
    timeout: str | float | None = None,
    cpus: float | None = None,
    tmp: str | int | None = None,
    env: Mapping[str, str] | None = None,
    secrets: Iterable[str] | None = None,
    priority: Literal["low", "normal", "high"] | None = None,
    overwrite_filter: str | None = None,
    tags: str | Iterable[str] | None = None,
    retries: int = 0,
    backoff: str | float | None = None,
    outputs: Iterable[str] = (),
    expect: str | Iterable[str] | None = None,
    expect_or_warn: str | Iterable[str] | None = None,
    expect_or_quarantine: str | Iterable[str] | None = None,
    lineage: Mapping[str, str | Iterable[str]] | None = None,
) -> Callable[[Function], Function]:
    """Turns a function into a model, which returns one table.

    `name` is the model's name, by default the function's. `materialization` is `none` (the result
    is only passed to other models), `replace` (the result replaces the table's content), `append`
    (the result is added to the table), `merge` (the result is upserted by the columns `keys`) or
    `overwrite_partitions` (the result replaces the rows that match the SQL condition
    `overwrite_filter`, or without a condition the rows in the partitions of the result). `columns`
    are the required columns of the result: names, or names with types such as
    `{"id": "bigint not null"}`. `partition_by` is one field or a list of `column`,
    `day(column)` (or `year`, `month`, `hour`), `bucket(16, column)` and `truncate(4, column)`.
    `allow_takeover` permits overwriting a table that no model of the project created. With `reuse`,
    the functions of one run that have the same folder, packages and limits use one process, which
    keeps modules and global variables. `network` allows all network access, or only access to the
    hosts in a list such as `["api.example.com:443"]`. `memory` is the memory limit, such as
    `"512MiB"` or a number of bytes. `timeout` is the time limit, such as `"1min"` or a number of
    seconds. `cpus` is the maximum number of processors, such as `1.5`. `tmp` is the size of `/tmp`,
    by default 1 GiB. `env` are environment variables, whose values Headwater never shows. `secrets`
    are names of the lake's secrets, which the function gets as environment variables. `priority`
    determines the order of queued calls. `tags` are names by which
    `headwater run --select tag:NAME` selects models. `retries` is the maximum number of repetitions
    after a failure that may be transient: an exception, an exceeded `timeout` or an ended process.
    `backoff` is the wait before the first repetition, by default 1 s. Each further wait is twice as
    long. `outputs` are addresses to which the model's rows are written after a run. `expect` is one
    condition in SQL or a list of conditions that every row of the result must satisfy. With
    `expect_or_warn`, rows that violate a condition cause only a warning. With
    `expect_or_quarantine`, such rows are written to the table `NAME_quarantine` instead. `lineage`
    maps columns in `columns` to the input columns from which they are computed, as in `{"total":
    ["orders.amount"]}`; `system.lineage` shows them.

    The function returns a pyarrow table, a pandas or polars frame, or a list of dicts, or yields
    several of these. Raises `InvalidProjectError` for invalid arguments.
    """
    settings = {
        "name": name if name is None else _check_name(name, "model"),
        "materialization": _check_materialization(materialization),
        "keys": None if keys is None else _check_keys(keys),
        "columns": None if columns is None else check_declaration(columns),
        "partition_by": None if partition_by is None else _check_partition(partition_by),
        "allow_takeover": check_flag(allow_takeover, "allow_takeover"),
        "reuse": _check_reuse(reuse, network),
        "network": _check_network(network),
        "memory": _check_measure(memory, "memory", parse_size, "512MiB"),
        "timeout": _check_measure(timeout, "timeout", parse_duration, "1min"),
        "cpus": _check_number("cpus", cpus, 0.01, 1024, CPUS_HINT),
        "tmp": _check_measure(tmp, "tmp", parse_size, "2GiB"),
        "env": None if env is None else _check_variables(env),
        "secrets": None if secrets is None else _check_secrets(secrets, env),
        "priority": _check_priority(priority),
        "overwrite_filter": _check_filter(overwrite_filter),
        "tags": None if tags is None else _check_tags(tags),
        "retries": _check_retries(retries),
        "backoff": _check_measure(backoff, "backoff", parse_duration, "5s"),
        "outputs": _check_outputs(outputs),
        "expect": _check_conditions(expect, "expect"),
        "expect_or_warn": _check_conditions(expect_or_warn, "expect_or_warn"),
        "expect_or_quarantine": _check_conditions(expect_or_quarantine, "expect_or_quarantine"),
        "lineage": None if lineage is None else check_lineage(lineage),
    }
    return _attach("model", settings)


def python(
    version: str | None = None,
    pip: Mapping[str, str] | None = None,
    system: Iterable[str] | None = None,
) -> Callable[[Function], Function]:
    """Sets the Python version and the packages of a function.

    `version` is a Python version such as `"3.12"`; `pip` maps packages to exact versions, as in
    `{"polars": "1.38.1"}`. The project sets the defaults. `pip={}` requests no packages. pyarrow is
    always available. Functions with the same packages share one environment. `system` are programs
    that must be installed on the machine, such as `["chromium"]`. Headwater checks this before the
    run starts.

    Raises `InvalidProjectError` for an invalid version or package.
    """
    settings = {
        "version": None if version is None else _check_version(version),
        "pip": None if pip is None else check_packages(pip),
        "system": None if system is None else check_programs(system),
    }
    return _attach("python", settings)


def expectation(
    name: str | None = None,
    reuse: bool = False,
    tags: str | Iterable[str] | None = None,
    severity: Literal["fail", "warn"] = "fail",
) -> Callable[[Function], Function]:
    """Turns a function into an expectation, which returns True if its tables are valid.

    `name` is the expectation's name, by default the function's. A false result fails a strict run.
    In other runs, or with the `severity` `"warn"`, a false result is a warning. `reuse` is as for
    models. `tags` are names by which `headwater run --select tag:NAME` selects the expectation.
    Raises `InvalidProjectError` for invalid arguments.
    """
    settings = {
        "name": name if name is None else _check_name(name, "expectation"),
        "reuse": check_flag(reuse, "reuse"),
        "tags": None if tags is None else _check_tags(tags),
        "severity": _check_severity(severity),
    }
    return _attach("expectation", settings)


def function(
    name: str | None = None,
    reuse: bool = False,
    network: bool | Iterable[str] = False,
    memory: str | int | None = None,
    timeout: str | float | None = None,
    cpus: float | None = None,
    tmp: str | int | None = None,
    env: Mapping[str, str] | None = None,
    secrets: Iterable[str] | None = None,
    priority: Literal["low", "normal", "high"] | None = None,
    reserved_concurrency: int | None = None,
    provisioned_concurrency: int | None = None,
    on_success: str | None = None,
    on_failure: str | None = None,
    outputs: Iterable[str] | None = None,
    calls_per_day: int | None = None,
    time_per_day: str | float | None = None,
    money_per_day: float | None = None,
    on: Iterable[Mapping[str, object]] | None = None,
) -> Callable[[Function], Function]:
    """Makes a function callable by name, over HTTP or by `headwater function invoke`.

    `name` is the name for calls, by default the function's name. With `reuse`, the process can
    serve further calls. Modules and globals then keep their state between calls, and `/tmp` is
    emptied. `network`, `memory`, `timeout`, `cpus`, `tmp`, `env`, `secrets` and `priority` have the
    same meaning as in `model`. `reserved_concurrency` is the maximum number of concurrent calls.
    `provisioned_concurrency` is the number of processes that the server starts before calls and
    keeps; it requires `reuse`. `on_success` and `on_failure` are the destinations of asynchronous
    calls: the name of a function, or an address such as `queue://orders`. `outputs` are addresses
    to which the server writes the returned value, such as `table://shop.orders`. `calls_per_day`,
    `time_per_day` and `money_per_day` are the daily budget of the function: a number of calls,
    billed time such as `"2h"`, and a cost in the currency of the rate card. `on` is a list of
    triggers that call the function with an event. Each trigger is a dict with the keys of
    `[[trigger]]` in `headwater.toml`, such as `{"schedule": "0 6 * * *"}` or
    `{"bucket": {"name": "landing"}, "retries": 2}`. Without the key `name`, the first trigger has
    the function's name.

    Each call passes its arguments by name, as JSON or a pyarrow table. The function returns a
    table, as a model does, or a JSON value. Raises `InvalidProjectError` for invalid arguments.
    """
    settings = {
        "name": name if name is None else _check_callable_name(name),
        "reuse": _check_reuse(reuse, network),
        "network": _check_network(network),
        "memory": _check_measure(memory, "memory", parse_size, "512MiB"),
        "timeout": _check_measure(timeout, "timeout", parse_duration, "1min"),
        "cpus": _check_number("cpus", cpus, 0.01, 1024, CPUS_HINT),
        "tmp": _check_measure(tmp, "tmp", parse_size, "2GiB"),
        "env": None if env is None else _check_variables(env),
        "secrets": None if secrets is None else _check_secrets(secrets, env),
        "priority": _check_priority(priority),
        "reserved_concurrency": _check_concurrency("reserved", reserved_concurrency),
        "provisioned_concurrency": _check_concurrency("provisioned", provisioned_concurrency),
        "on_success": _check_destination(on_success),
        "on_failure": _check_destination(on_failure),
        "outputs": None if outputs is None else _check_outputs(outputs),
        "calls_per_day": _check_calls(calls_per_day),
        "time_per_day": _check_measure(time_per_day, "time_per_day", parse_duration, "2h"),
        "money_per_day": _check_number("money_per_day", money_per_day, 0, 1e300, MONEY_HINT),
        "on": None if on is None else _check_triggers(on),
    }
    return _attach("function", settings)


def _attach(kind: str, settings: Mapping[str, object]) -> Callable[[Function], Function]:
    def decorate(function: Function) -> Function:
        if not callable(function):
            refuse(f"`@headwater.{kind}` decorates functions, not `{function!r}`")
        title = _title(function)
        noted: dict[str, Mapping[str, object]] = getattr(function, "__headwater__", {})
        if kind in noted:
            refuse(f"function `{title}` has `@headwater.{kind}` twice", "Keep one of them.")
        both = sorted({kind, *noted} & {"model", "expectation", "function"})
        if len(both) > 1:
            said = {"model": "a model", "expectation": "an expectation", "function": "a callable"}
            first, second = sorted((said[one] for one in both), key=lambda text: "model" not in text)
            refuse(f"function `{title}` is both {first} and {second}", "Write two functions.")
        function.__headwater__ = {**noted, kind: settings}  # type: ignore[attr-defined]
        return function

    return decorate


def _title(function: object) -> str:
    return str(getattr(function, "__name__", repr(function)))


def _check_name(name: object, kind: str) -> str:
    if callable(name):
        hint = f"Write `@headwater.{kind}()`."
        refuse(f"`@headwater.{kind}` is used without parentheses on `{_title(name)}`", hint)
    text = check_text(name, f"the name of the {kind}")
    # The server checks the other rules for names.
    if not all(part and part == part.strip() and RESERVED.isdisjoint(part) for part in text.split(".")):
        hint = "Choose a valid name, as in `orders`, `my-orders` or `sales.orders`."
        refuse(f"`{text}` is not a usable {kind} name", hint)
    return text


def _check_callable_name(name: object) -> str:
    if callable(name):
        hint = "Write `@headwater.function()`."
        refuse(f"`@headwater.function` is used without parentheses on `{_title(name)}`", hint)
    text = check_text(name, "the name of the function")
    if len(text) > 200 or not all(one.isascii() and (one.isalnum() or one in "_-.") for one in text):
        refuse(f"`{text}` is not a valid function name", "Use letters, digits, `_`, `-` and `.`.")
    return text


def _check_materialization(value: object) -> str:
    if value not in MATERIALIZATIONS:
        known = ", ".join(f"`{name}`" for name in MATERIALIZATIONS)
        refuse(f"unknown materialization `{value}`", f"Use one of {known}.")
    return str(value)


def _check_filter(value: object) -> str | None:
    return None if value is None else check_text(value, "overwrite_filter")


def _check_conditions(value: object, name: str) -> tuple[str, ...] | None:
    if value is None:
        return None
    conditions = (value,) if isinstance(value, str) else value
    if not hasattr(conditions, "__iter__"):
        refuse(f"{name} is a list of conditions, not `{value!r}`")
    return tuple(check_text(condition, name) for condition in conditions)


def _check_keys(keys: object) -> tuple[str, ...]:
    return check_columns([keys] if isinstance(keys, str) else keys)


def _check_partition(value: object) -> tuple[str, ...]:
    from . import partition

    fields = (value,) if isinstance(value, str) else value
    if not hasattr(fields, "__iter__"):
        refuse(f"partition_by must be a list of fields, not `{value!r}`")
    found = []
    for field in fields:
        for part in partition.split(check_text(field, "a partition field")):
            if partition.parse(part) is None:
                refuse(f"partition `{part}` is not valid", partition.HINT)
            found.append(part)
    return tuple(found)


def _check_measure(
    value: object, what: str, parse: Callable[[str], float | None], example: str
) -> str | float | None:
    if value is None:
        return None
    hint = f'Write a number and a unit, such as `{what}="{example}"`.'
    if isinstance(value, (int, float)) and not isinstance(value, bool) and value > 0:
        return value
    if not isinstance(value, str):
        refuse(f"{what} `{value!r}` is not valid", hint)
    if parse(value) is None:
        refuse(f"{what} `{value}` is not valid", hint)
    return value


def _check_reuse(value: bool, network: object) -> bool:
    reuse = check_flag(value, "reuse")
    if reuse and network:
        hint = "Leave out `reuse` or `network`."
        refuse("a function with network access cannot reuse a process", hint)
    return reuse


def _check_network(value: object) -> bool | tuple[str, ...]:
    if isinstance(value, bool):
        return value
    hint = 'Write `network=True` or `network=["api.example.com:443"]`.'
    if isinstance(value, str) or not hasattr(value, "__iter__"):
        refuse(f"network must be True, False or a list of hosts, not `{value!r}`", hint)
    for host in value:
        if any(letter in check_text(host, "a host") for letter in "/*@ \n"):
            refuse(f"`{host}` is not a valid host", hint)
    return tuple(value)


def _check_number(name: str, value: object, low: float, high: float, hint: str) -> float | None:
    number = isinstance(value, (int, float)) and not isinstance(value, bool)
    if value is not None and not (number and low <= value <= high):  # type: ignore[operator]
        refuse(f"{name} `{value!r}` is not valid", hint)
    return value  # type: ignore[return-value]


def _check_calls(value: object) -> int | None:
    is_count = isinstance(value, int) and not isinstance(value, bool)
    if value is not None and not (is_count and value >= 0):  # type: ignore[operator]
        refuse(f"calls_per_day `{value!r}` is not valid", "Write a number, such as `1000`.")
    return value  # type: ignore[return-value]


def _check_priority(value: object) -> str | None:
    if value is not None and value not in PRIORITIES:
        refuse(f"unknown priority `{value}`", "Use `low`, `normal` or `high`.")
    return value


def _check_destination(value: object) -> str | None:
    if value is not None and (not isinstance(value, str) or not value):
        refuse(f"a destination cannot be `{value!r}`", "Name a function or write an address.")
    return value


def _check_outputs(value: object) -> tuple[str, ...]:
    hint = 'Write a list of addresses, such as `outputs=["table://shop.orders"]`.'
    if isinstance(value, str) or not hasattr(value, "__iter__"):
        refuse(f"outputs must be a list of addresses, not `{value!r}`", hint)
    for address in value:
        if "://" not in check_text(address, "an output"):
            refuse(f"`{address}` is not an address", hint)
    return tuple(value)


def _check_triggers(on: object) -> tuple[dict[str, object], ...]:
    hint = 'Write a list of dicts, such as `on=[{"schedule": "0 6 * * *"}]`.'
    if isinstance(on, str) or hasattr(on, "items") or not hasattr(on, "__iter__"):
        refuse(f"on must be a list of triggers, not `{on!r}`", hint)
    triggers = []
    for trigger in on:
        if not hasattr(trigger, "items"):
            refuse(f"`{trigger!r}` is not a trigger", hint)
        for key in trigger:
            # The server checks the other rules for triggers.
            if check_text(key, "the key of a trigger") in TARGETS:
                other = "Remove the key, or declare the trigger in headwater.toml."
                refuse(f"a trigger in `on` always calls its function; the key `{key}` is not supported", other)
        triggers.append(dict(trigger))
    return tuple(triggers)


def _check_concurrency(kind: str, value: object) -> int | None:
    number = isinstance(value, int) and not isinstance(value, bool)
    if value is not None and not (number and 0 <= value <= 10_000):  # type: ignore[operator]
        refuse(f"{kind}_concurrency cannot be `{value!r}`", "Use a number from 0 to 10,000.")
    return value  # type: ignore[return-value]


def _check_retries(value: object) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value <= 100:
        refuse(f"retries cannot be `{value!r}`", "Use a number from 0 to 100.")
    return value


def _check_severity(value: object) -> str:
    if value not in ("fail", "warn"):
        refuse(f"unknown severity `{value}`", "Use `fail` or `warn`.")
    return value


def _check_tags(value: object) -> tuple[str, ...]:
    tags = (value,) if isinstance(value, str) else value
    if not hasattr(tags, "__iter__"):
        refuse(f"tags must be a list of names, not `{value!r}`")
    found = tuple(check_text(tag, "a tag") for tag in tags)
    for tag in found:
        if not all(letter.isalnum() or letter in "_-./" for letter in tag):
            refuse(f"`{tag}` is not a tag", "Use letters, digits, `_`, `-`, `.` and `/`.")
    return found


def _check_variables(env: object) -> dict[str, str]:
    """Checks environment variables. Error messages never contain their values."""
    hint = 'Write `env={"NAME": "value"}`.'
    if not hasattr(env, "items"):
        refuse("env must map names to values", hint)
    variables: dict[str, str] = {}
    for name, value in env.items():
        check_text(name, "the name of an environment variable")
        if not (name.isascii() and name.isidentifier()):
            refuse(f"`{name}` is not the name of an environment variable", hint)
        if not isinstance(value, str) or "\0" in value:
            refuse(f"the value of the environment variable `{name}` is not text", hint)
        variables[name] = value
    return variables


def _check_version(version: object) -> str:
    if callable(version):
        hint = 'Write `@headwater.python("3.11")`.'
        refuse(f"`@headwater.python` is used without parentheses on `{_title(version)}`", hint)
    if not isinstance(version, str):
        hint = f'Write `"{version}"`: a number loses digits, `3.10` becomes `3.1`.'
        refuse(f"a Python version must be text, not `{version!r}`", hint)
    parts = version.split(".")
    if not (1 < len(parts) <= 3 and all(part.isdecimal() for part in parts) and parts[0] == "3"):
        refuse(f"`{version}` is not a Python version", 'Write a version such as `"3.11"`.')
    return version


def _check_secrets(secrets: object, env: Mapping[str, str] | None) -> tuple[str, ...]:
    hint = 'Write `secrets=["STRIPE_KEY"]`.'
    if isinstance(secrets, str) or not hasattr(secrets, "__iter__"):
        refuse("secrets must be a list of names", hint)
    names = tuple(secrets)
    for name in names:
        check_text(name, "the name of a secret")
        if not (name.isascii() and name.isidentifier()):
            refuse(f"`{name}` is not a valid secret name", hint)
        if name in (env or {}):
            refuse(f"`{name}` is both in `env` and in `secrets`", "Remove it from `env`.")
    return names
