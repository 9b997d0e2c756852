"""Tables of pyarrow, pandas and polars as Arrow streams."""

from __future__ import annotations

from typing import Any

from .errors import make

# The maximum precision of a decimal.
DECIMAL_DIGITS_MAX = 38

EMPTY_TABLE = 'pyarrow.schema([("id", pyarrow.int64())]).empty_table()'
COLUMN_HINT = (
    "Use values of one type in each column. "
    "For integers of more than 64 bits, use `decimal.Decimal`."
)


def is_table(value: object) -> bool:
    """Returns True if a value is a table of pyarrow, pandas or polars."""
    kind = type(value)
    package = kind.__module__.partition(".")[0]
    return package in ("pyarrow", "pandas", "polars") and kind.__name__ in (
        "Table",
        "RecordBatch",
        "RecordBatchReader",
        "DataFrame",
        "LazyFrame",
    )


def import_package(name: str) -> Any:
    """Imports an optional package. The error for a missing package names an alternative without the
    package."""
    from importlib import import_module

    try:
        if name == "pyarrow":
            import_module("pyarrow.ipc")
        return import_module(name)
    except ImportError as error:
        message = f"{name} is not installed; `Client.query_rows` works without it"
        raise ImportError(message, name=name) from error


def to_stream(value: Any) -> bytes:
    """Converts a table to an Arrow stream."""
    pyarrow = import_package("pyarrow")
    table = _to_arrow(pyarrow, value)
    sink = pyarrow.BufferOutputStream()
    with pyarrow.ipc.new_stream(sink, table.schema) as writer:
        writer.write(table)
    content: bytes = sink.getvalue().to_pybytes()
    return content


def _to_arrow(pyarrow: Any, value: Any) -> Any:
    name = f"{type(value).__module__.partition('.')[0]}.{type(value).__name__}"
    if isinstance(value, list) and not value:
        hint = f"Pass an empty table that has its columns, such as `{EMPTY_TABLE}`."
        raise make("invalid_argument", "an empty list has no columns", hint)
    if isinstance(value, list) and all(isinstance(row, dict) for row in value):
        return _from_rows(pyarrow, value)
    if not is_table(value):
        hint = "Pass a pyarrow table, a pandas or polars data frame, or a list of dicts with the rows."
        raise make("invalid_argument", f"`{type(value).__name__}` is not a table", hint)
    if name == "pandas.DataFrame":
        return _from_pandas(pyarrow, value)
    if name == "polars.LazyFrame":
        value = value.collect()
    if name.startswith("polars."):
        return value.to_arrow()
    return value.read_all() if name.endswith("RecordBatchReader") else value


def _from_rows(pyarrow: Any, rows: list[dict[str, Any]]) -> Any:
    """Converts a list of dicts. The error for a wrong value names the column, the row and the
    value."""
    try:
        return _widened(pyarrow, pyarrow.Table.from_pylist(_filled(rows)))
    except (pyarrow.ArrowException, TypeError, ValueError, OverflowError) as error:
        reason = _wrong_value(pyarrow, rows) or f"the rows cannot be converted: {error}"
        raise make("invalid_argument", reason, COLUMN_HINT) from None


def _wrong_value(pyarrow: Any, rows: list[dict[str, Any]]) -> str | None:
    """Describes the first value that Arrow cannot convert, either alone or in one column with the
    value above it."""
    for name in dict.fromkeys(name for row in rows for name in row):
        above: list[Any] = []
        for number, row in enumerate(rows, 1):
            value = row.get(name)
            if value is None:
                continue
            try:
                pyarrow.array([*above, value])
            except (pyarrow.ArrowException, TypeError, ValueError, OverflowError) as error:
                text = repr(value)
                text = text if len(text) <= 40 else f"{text[:37]}..."
                kind = type(value).__name__
                return f"column `{name}` has `{text}` ({kind}) in row {number}: {error}"
            above = [value]
    return None


def _filled(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Adds the columns that only later rows have to the first row, with the value None, because
    Arrow determines the columns from the first row."""
    names = dict.fromkeys(name for row in rows for name in row)
    return [{name: rows[0].get(name) for name in names}, *rows[1:]]


def _from_pandas(pyarrow: Any, frame: Any) -> Any:
    """Converts a pandas frame. A named index, as after `groupby`, becomes columns."""
    if any(name is not None for name in frame.index.names):
        clash = [name for name in frame.index.names if name in frame.columns]
        frame = frame.reset_index(drop=bool(clash))
    table = pyarrow.Table.from_pandas(frame, preserve_index=False)
    objects = [index for index, kind in enumerate(frame.dtypes) if kind == object]
    return _widened(pyarrow, table, objects).replace_schema_metadata(None)


def _widened(pyarrow: Any, table: Any, columns: list[int] | None = None) -> Any:
    """Casts decimal columns to the maximum precision, because the precision that Arrow infers from
    Python objects depends on the values.
    """
    for index in range(table.num_columns) if columns is None else columns:
        kind = table.schema.field(index).type
        if pyarrow.types.is_decimal(kind) and kind.precision <= DECIMAL_DIGITS_MAX:
            column = table.column(index).cast(pyarrow.decimal128(DECIMAL_DIGITS_MAX, kind.scale))
            table = table.set_column(index, table.schema.names[index], column)
    return table
