"""Calls a Python function that is defined in SQL with the rows of one batch.

The server adds this module to the files of the function. The function's code is the module
`sql_function`. `headwater_sql_settings` contains its name and its result type, which is the schema
of an Arrow stream without rows in Base64.
"""

import base64

import headwater_sql_settings as settings
import pyarrow
import sql_function

TYPE = pyarrow.ipc.open_stream(base64.b64decode(settings.RESULT)).schema.field(0).type

ACCEPTED = "a pyarrow array, a pandas or polars series, a numpy array or a list"

#: The errors of conversions from Python and between types.
CONVERSION_ERRORS = (pyarrow.ArrowException, TypeError, ValueError, OverflowError)


class ResultError(Exception):
    """The returned value does not match the definition. The caller adds the function's name."""


def call(rows):
    """Calls the function with one array for each column, and returns its values as a table."""
    function = getattr(sql_function, settings.HANDLER)
    values = to_array(function(*map(combined, rows.itercolumns())))
    if len(values) != len(rows):
        raise ResultError(f"returned {len(values)} values for {len(rows)} rows")
    return pyarrow.table([values], names=["value"])


def combined(column):
    """Returns the chunks of a column as one array."""
    if column.num_chunks == 1:
        return column.chunk(0)
    return pyarrow.concat_arrays(column.chunks) if column.chunks else pyarrow.array([], column.type)


def to_array(values):
    """Converts a returned value to an array of the result type."""
    package = type(values).__module__.partition(".")[0]
    if isinstance(values, pyarrow.ChunkedArray):
        values = combined(values)
    elif package == "polars" and hasattr(values, "to_arrow"):
        values = values.to_arrow()
    elif isinstance(values, (list, tuple)) or package in ("numpy", "pandas"):
        values = converted(values, package == "pandas")
    if not isinstance(values, pyarrow.Array):
        raise ResultError(f"returned `{type(values).__name__}`, not {ACCEPTED}")
    if pyarrow.types.is_dictionary(values.type):
        values = values.dictionary_decode()
    if values.type == TYPE:
        return values
    if not pyarrow.types.is_null(values.type) and family(values.type) != family(TYPE):
        raise ResultError(f"returned values of type {values.type}, not {TYPE}")
    try:
        return to_dates(values) if is_time_for_date(values.type) else values.cast(TYPE)
    except CONVERSION_ERRORS as error:
        raise ResultError(f"returned values that are not {TYPE}: {error}") from None


def is_time_for_date(kind):
    """Returns true if a type has a time of day, and the result type is a date."""
    return pyarrow.types.is_date(TYPE) and pyarrow.types.is_timestamp(kind)


def to_dates(values):
    """Converts times to dates. A time of day is an error, because it would be lost."""
    if values.type.tz is not None:
        import pyarrow.compute

        values = pyarrow.compute.local_timestamp(values)
    dates = values.cast(TYPE, safe=False)
    if not dates.cast(values.type).equals(values):
        raise ResultError(f"returned timestamps with a time of day, not values of type {TYPE}")
    return dates


def converted(values, is_pandas):
    """Converts Python values, or an array of numpy or pandas. The type is inferred, because pyarrow
    truncates numbers to a given type. Nested values need a given type."""
    kind = TYPE if pyarrow.types.is_nested(TYPE) else None
    try:
        return pyarrow.array(values, type=kind, from_pandas=is_pandas)
    except CONVERSION_ERRORS as error:
        raise ResultError(f"returned values that are not {TYPE}: {error}") from None


def family(kind):
    """Returns the group of a type. Values are converted only within a group."""
    types = pyarrow.types
    if types.is_integer(kind) or types.is_floating(kind) or types.is_decimal(kind):
        return "number"
    if types.is_string(kind) or types.is_large_string(kind) or str(kind) == "string_view":
        return "text"
    if types.is_binary(kind) or types.is_large_binary(kind) or types.is_fixed_size_binary(kind):
        return "binary"
    if types.is_date(kind) or types.is_timestamp(kind):
        return "date"
    return kind.id
