"""Inputs of a function, written as its default arguments, and checks that the decorators share.

`Model` is a table, `Parameter` a value of the run. Headwater reads both from the source, without
running the source, and passes the table or value when it calls the function. Both are immutable and
hashable, and are compared by their fields.

Both classes behave like frozen dataclasses, but do not use `dataclasses`, because the import of
`dataclasses` takes longer than the whole start of a function.

The functions `check_...` check arguments of the markers and of the decorators, such as columns,
packages and programs.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable
    from typing import NoReturn


class _Marker:
    """The base class of both markers: equality and hash by fields."""

    __slots__: tuple[str, ...] = ()

    def _fields(self) -> tuple[object, ...]:
        return tuple(getattr(self, name) for name in self.__slots__)

    def __eq__(self, other: object) -> bool:
        if type(other) is not type(self):
            return NotImplemented
        return self._fields() == other._fields()

    def __hash__(self) -> int:
        return hash((type(self).__name__, self._fields()))

    def __repr__(self) -> str:
        pairs = zip(self.__slots__, self._fields())
        return f"{type(self).__name__}({', '.join(f'{name}={value!r}' for name, value in pairs)})"

    def __setattr__(self, name: str, value: object) -> None:
        raise AttributeError(f"cannot change `{name}` of {self!r}")

    def __delattr__(self, name: str) -> None:
        raise AttributeError(f"cannot remove `{name}` of {self!r}")

    def __reduce__(self) -> tuple[type, tuple[object, ...]]:
        return type(self), self._fields()


class Model(_Marker):
    """A table that a function reads: another model's output, or a table of the lake.

    `name` is the model's or table's name, `namespace.table` for a table outside the default
    namespace. `columns` are the columns to read, in this order; by default all. `filter` is an SQL
    condition over the table's columns: the function gets only the rows that match it. `$name` in
    the condition is a parameter. With `incremental`, a model that appends or merges reads only the
    rows that were appended to the table since the model's last run.

    The function gets a `pyarrow.Table`. With `batches`, it gets an iterable of
    `pyarrow.RecordBatch`es of about 100,000 rows, which are read during the iteration; each
    iteration begins at the first row. The iterable has a `schema`, `to_batches()` like a table, and
    `to_reader()`, which returns a `pyarrow.RecordBatchReader`.

    Raises `InvalidProjectError` for an empty name or filter, and for invalid or duplicate columns.
    """

    __slots__ = ("name", "columns", "filter", "incremental", "batches")

    name: str
    columns: tuple[str, ...] | None
    filter: str | None
    incremental: bool
    batches: bool

    def __init__(
        self,
        name: str,
        columns: Iterable[str] | None = None,
        filter: str | None = None,
        incremental: bool = False,
        batches: bool = False,
    ) -> None:
        set_field = object.__setattr__
        set_field(self, "name", check_text(name, "the name of a model"))
        set_field(self, "columns", None if columns is None else check_columns(columns))
        set_field(self, "filter", None if filter is None else check_text(filter, "a filter"))
        set_field(self, "incremental", check_flag(incremental, "incremental"))
        set_field(self, "batches", check_flag(batches, "batches"))


class Parameter(_Marker):
    """A parameter of the run: `headwater run --param NAME=VALUE`, or the project's default.

    `name` is a parameter of the project's `headwater.toml`, which sets its type and default. The
    function gets a `str`, `int`, `float` or `bool`, or None if the parameter has neither a value
    nor a default. Raises `InvalidProjectError` for an empty name.
    """

    __slots__ = ("name",)

    name: str

    def __init__(self, name: str) -> None:
        object.__setattr__(self, "name", check_text(name, "the name of a parameter"))


def refuse(message: str, hint: str | None = None) -> NoReturn:
    """Raises `InvalidProjectError`."""
    from .errors import InvalidProjectError

    raise InvalidProjectError("invalid_project", message, hint)


def check_text(value: object, what: str) -> str:
    """Returns the value; raises an error if it is not a text or is empty."""
    if not isinstance(value, str):
        refuse(f"{what} must be text, not `{value!r}`")
    if not value.strip():
        refuse(f"{what} is empty: `{value!r}`")
    return value


def check_flag(value: object, what: str) -> bool:
    """Returns the value; raises an error unless it is True or False."""
    if not isinstance(value, bool):
        refuse(f"{what} must be True or False, not `{value!r}`")
    return value


def check_columns(columns: object) -> tuple[str, ...]:
    """Returns the column names as a tuple; raises an error for an invalid or duplicate name."""
    if isinstance(columns, str) or not hasattr(columns, "__iter__"):
        refuse(f"columns must be a list of names, not `{columns!r}`", f"Write `columns=[{columns!r}]`.")
    names = tuple(check_text(name, "the name of a column") for name in columns)
    if not names:
        refuse("the list of columns is empty: `[]`", "Leave `columns` out to read every column.")
    for index, name in enumerate(names):
        if name in names[:index]:
            refuse(f"column `{name}` is named twice", "Name each column once.")
    return names


def check_lineage(lineage: object) -> dict[str, tuple[str, ...]]:
    """Checks a model's `lineage`. Returns the source columns of each column."""
    if not isinstance(lineage, dict):
        refuse(f"`lineage` is a dict, not `{lineage!r}`")
    sources = {}
    for column in check_columns(list(lineage)):
        given = lineage[column]
        if not isinstance(given, (str, list, tuple)):
            refuse(f"the lineage of `{column}` is a list of columns, not `{given!r}`")
        sources[column] = tuple(
            check_text(source, "a column in lineage")
            for source in ((given,) if isinstance(given, str) else given)
        )
    return sources


def check_declaration(columns: object) -> tuple[str, ...] | dict[str, str]:
    """Checks a model's `columns`. Returns names as a tuple, and a dict of types as a dict."""
    if not isinstance(columns, dict):
        return check_columns(columns)
    names = check_columns(list(columns))
    return {name: check_text(columns[name], "the type of a column") for name in names}


def check_packages(pip: object) -> dict[str, str]:
    if not hasattr(pip, "items"):
        hint = 'Write `pip={"polars": "1.38.1"}`.'
        refuse(f"pip must map packages to versions, not `{pip!r}`", hint)
    packages: dict[str, str] = {}
    for package, version in pip.items():
        check_text(package, "the name of a package")
        if not isinstance(version, str) or not version.strip():
            hint = f'Write `pip={{"{package}": "1.2.3"}}`.'
            refuse(f"the version of package `{package}` is not text: `{version!r}`", hint)
        packages[package] = version
    return packages


def check_programs(system: object) -> tuple[str, ...]:
    hint = 'Write `system=["chromium"]`.'
    if isinstance(system, str) or not hasattr(system, "__iter__"):
        refuse(f"system must be a list of programs, not `{system!r}`", hint)
    for program in system:
        name = check_text(program, "the name of a program")
        if not all(one.isascii() and (one.isalnum() or one in "_-.+") for one in name):
            refuse(f"`{name}` is not the name of a program", hint)
    return tuple(system)
