"""Access to the lake in a function that is called by name or by a trigger.

    from headwater import lake

    data = lake.read_object("landing", "in/a.csv")
    lake.append("readings", rows)

The function has the rights of its caller, or of the user that deployed its trigger. When the
function returns, one commit adds all rows that it appended. If the function fails, no rows are
added. The commit contains the id of the event, so that an event that is delivered twice changes
tables only once.
"""

import os
import sys
from typing import Any

from . import errors

__all__ = ["append", "put_object", "query", "read_object"]


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
    """Returns the rows of a query as a `pyarrow.Table`, at most 256 MiB. The result does not
    contain rows that this call has appended."""
    import pyarrow

    _, content = _request("query", sql=_text(sql))
    with pyarrow.ipc.open_stream(content) as reader:
        return reader.read_all()


def append(table: str, rows: Any) -> int:
    """Appends rows to a table. Returns the number of rows, which are committed when the function
    returns.

    `rows` is a list of dicts, or a table of pyarrow, pandas or polars. The table is created if it
    does not exist. New columns are added, and missing columns are null.
    """
    channel = _channel()
    file, count = channel.write_table(rows)
    try:
        _request("append", file, table=_text(table))
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
