"""Access to the lake in a function that is called by name or by a trigger.

    from headwater import lake

    data = lake.read_object("landing", "in/a.csv")
    lake.append("readings", rows)

The function has the rights of its caller, or of the user that deployed its trigger. For each
change, the user that deployed the project also needs the rights. All changes of tables are made on
a hidden branch, where the function sees them. The branch is merged in one commit when the function
returns, and deleted if the function fails. The commit contains the id of the event, so that an
event that is delivered twice changes tables only once.
"""

import os
import sys
from typing import Any

from . import errors

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

    import pandas
    import polars
    import pyarrow

__all__ = ["LakeTable", "append", "put_object", "query", "read_object", "table"]


def read_object(bucket: str, key: str) -> bytes:
    """Returns the content of an object in a bucket of the lake. The maximum size is 256 MiB."""
    _, content = _request("read_object", bucket=_text(bucket), key=_text(key))
    return content


def put_object(bucket: str, key: str, data: "bytes | bytearray | memoryview | str") -> str:
    """Writes an object immediately, and returns its entity tag. Text is written as UTF-8."""
    channel = _channel()
    content = data.encode() if isinstance(data, str) else memoryview(data)
    file = channel.write(content)
    try:
        etag, _ = _request("put_object", file, bucket=_text(bucket), key=_text(key))
    finally:
        os.close(file)
    return str(etag)


def query(sql: str) -> Any:
    """Executes an SQL statement, and returns its rows as a `pyarrow.Table`, at most 256 MiB.

    Queries see the changes that this call has made. The changes of statements such as `UPDATE` are
    committed when the function returns.
    """
    _channel()
    import pyarrow

    _, content = _request("query", sql=_text(sql))
    with pyarrow.ipc.open_stream(content) as reader:
        return reader.read_all()


class LakeTable:
    """A table of the lake, which is read by `to_arrow`, `to_pandas` or `to_polars`.

    Each of these methods reads the table again, with the changes that this call has made.
    """

    def __init__(self, name: str, columns: "tuple[str, ...] | None", filter: "str | None") -> None:
        self.name = name
        self._sql = _select(name, columns, filter)

    def __repr__(self) -> str:
        return f"LakeTable({self.name!r})"

    def to_arrow(self) -> "pyarrow.Table":
        """Returns the rows as a `pyarrow.Table`."""
        return query(self._sql)

    def to_pandas(self) -> "pandas.DataFrame":
        """Returns the rows as a `pandas.DataFrame`."""
        return self.to_arrow().to_pandas()

    def to_polars(self) -> "polars.DataFrame":
        """Returns the rows as a `polars.DataFrame`."""
        import polars

        return polars.from_arrow(self.to_arrow())


def table(
    name: str, *, columns: "Iterable[str] | None" = None, filter: "str | None" = None
) -> LakeTable:
    """Returns a table or view by its name, `namespace.table` outside of the default namespace.

    `columns` are the columns to read, in this order; by default all. `filter` is an SQL condition
    over the table's columns. The server applies both, and reads only the files that may contain
    such rows. Returns at most 256 MiB of rows.
    """
    if isinstance(columns, str):
        raise TypeError("`columns` is a list of names, not text")
    names = None if columns is None else tuple(_text(column) for column in columns)
    if names == ():
        raise ValueError("`columns` is empty")
    return LakeTable(_text(name), names, None if filter is None else _text(filter))


def _select(name: str, columns: "tuple[str, ...] | None", filter: "str | None") -> str:
    listed = "*" if columns is None else ", ".join(map(_quoted, columns))
    sql = f"SELECT {listed} FROM {'.'.join(map(_quoted, name.split('.')))}"
    # The condition ends in its own line, because it may contain a comment.
    return sql if filter is None else f"{sql} WHERE ({filter}\n)"


def _quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'


def append(table: str, rows: Any) -> int:
    """Appends rows to a table, and returns the number of rows. The rows are committed when the
    function returns.

    `rows` is a list of dicts, or a table of pyarrow, pandas or polars. The table is created if it
    does not exist. New columns are added, and missing columns are null. A column or a value that
    does not fit the table's column is an error at once, which names the table, the column and both
    types. An empty list and a frame without rows and columns append nothing and create no table.
    """
    channel, name = _channel(), _text(table)
    try:
        file, count = channel.write_table(rows)
    except channel.UnsupportedRows as error:
        message = f"cannot append to `{name}`: {error}"
        raise errors.make("invalid_argument", message, error.hint) from None
    # Send a request even without rows, because it checks the table's name and the rights.
    operation = "append"
    if file is None:
        operation, file = "append_json", channel.write(b"[]")
    try:
        _request(operation, file, table=name)
    finally:
        os.close(file)
    return int(count)


def _text(value: str) -> str:
    if not isinstance(value, str):
        raise TypeError(f"expected text, not {type(value).__name__}")
    return value


def _channel() -> Any:
    channel = sys.modules.get("headwater_lake")
    if channel is None or not channel.is_connected():
        raise RuntimeError(
            "`headwater.lake` works only in a function that the server runs; "
            "use `headwater.Client` in other programs"
        )
    return channel


def _request(operation: str, file: "int | None" = None, **fields: str) -> "tuple[Any, bytes]":
    value, content, problem = _channel().request(file, operation=operation, **fields)
    if problem is not None:
        raise errors.from_problem(problem)
    return value, content
