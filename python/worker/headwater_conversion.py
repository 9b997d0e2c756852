"""Converts the values that a function returns or appends: to Arrow tables, booleans and JSON."""

import headwater_batches as batches
from headwater_hints import message_of
from headwater_rows import shown, type_name, why_no_column, why_no_rows

BATCH_ROWS_MAX = 1 << 17  # Maximum rows of a batch. Readers can process the output in batches.


class UnsupportedValue(Exception):
    """The returned value has an unsupported type. The message is the type. The optional `reason`
    explains why the value cannot be converted, and `hint` names a supported value."""

    def __init__(self, returned, reason=None, hint=None):
        super().__init__(returned)
        self.reason = reason
        self.hint = hint


class NoColumns(UnsupportedValue):
    """A value without rows, whose columns are unknown."""


class UnsupportedColumn(UnsupportedValue):
    """A list of dicts with values that one column cannot have."""


DECIMAL_DIGITS_MAX = 38
EMPTY_TABLE = 'pyarrow.schema([("id", pyarrow.int64())]).empty_table()'
EMPTY_HINT = f"Return an empty table that has its columns, such as `{EMPTY_TABLE}`."
PIECES_HINT = "Yield at least one table; each must have the columns of the first."


def to_arrow(value):
    """Converts a returned value to a table or a reader of record batches."""
    import pyarrow

    if isinstance(value, (pyarrow.Table, pyarrow.RecordBatchReader)):
        return value
    if isinstance(value, batches.Batches):
        return value.to_reader()
    if hasattr(value, "__next__"):
        return Pieces(value)
    if isinstance(value, pyarrow.RecordBatch):
        return pyarrow.Table.from_batches([value])
    name = type_name(value)
    try:
        if name == "polars.LazyFrame":
            value = value.collect()
        if name in ("polars.LazyFrame", "polars.DataFrame"):
            return value.to_arrow()
        if name == "pandas.DataFrame":
            return from_pandas(pyarrow, value)
        if isinstance(value, list) and all(isinstance(row, dict) for row in value) and any(value):
            return from_rows(pyarrow, value)
        if hasattr(value, "__arrow_c_stream__") and not name.endswith("Series"):
            return pyarrow.table(value)
    except (pyarrow.ArrowException, TypeError, ValueError) as error:
        raise UnsupportedValue(name, message_of(error)) from error
    if isinstance(value, list):
        if not value:
            raise NoColumns("list", "an empty list has no columns", EMPTY_HINT)
        hint = "Return a list of dicts, each with the values of one row by column."
        raise UnsupportedValue("list", why_no_rows(value), hint)
    raise UnsupportedValue("None" if value is None else name)


# Marks the end of a generator.
END = object()


class Pieces:
    """The values of a generator as the batches of one table. Each value can be anything that
    converts to a table; the first determines the columns."""

    def __init__(self, pieces):
        self._pieces = iter(pieces)
        first = next(self._pieces, END)
        if first is END:
            reason = "the generator yields nothing, so its columns are unknown"
            raise NoColumns("generator", reason, PIECES_HINT)
        self._first = as_table(first)
        self.schema = self._first.schema

    def __iter__(self):
        piece, self._first = self._first, None
        yield from piece.to_batches(max_chunksize=BATCH_ROWS_MAX)
        for piece in self._pieces:
            piece = self._fit(as_table(piece))
            yield from piece.to_batches(max_chunksize=BATCH_ROWS_MAX)

    def _fit(self, table):
        import pyarrow

        more = [name for name in table.schema.names if name not in self.schema.names]
        if more:
            reason = f"a piece has the column `{more[0]}`, which the first does not have"
            raise UnsupportedValue("generator", reason, PIECES_HINT)
        try:
            return table.select(self.schema.names).cast(self.schema)
        except (pyarrow.ArrowException, KeyError, ValueError) as error:
            reason = f"a piece does not have the columns of the first: {message_of(error)}"
            raise UnsupportedValue("generator", reason, PIECES_HINT) from error


def as_table(piece):
    """Converts one value of a generator to a table."""
    try:
        table = to_arrow(piece)
    except NoColumns as error:
        # Other pieces may have rows, so `lake.append` must not treat the value as empty.
        raise UnsupportedValue(str(error), error.reason, error.hint) from error
    if isinstance(table, Pieces):
        raise UnsupportedValue("generator", "the generator yields a generator", PIECES_HINT)
    return table if hasattr(table, "to_batches") else table.read_all()


def from_rows(pyarrow, rows):
    """Converts a list of dicts; the columns are the keys of all rows."""
    names = list(dict.fromkeys(name for row in rows for name in row))
    columns = {}
    for name in names:
        if not isinstance(name, str):
            reason = f"a row has the key {shown(name)}, but column names must be strings"
            hint = "Use strings as the keys of each dict: the keys are the column names."
            raise UnsupportedValue("list", reason, hint)
        values = [row.get(name) for row in rows]
        try:
            columns[name] = widened(pyarrow, pyarrow.array(values))
        except (pyarrow.ArrowException, TypeError, ValueError, OverflowError) as error:
            reason = why_no_column(pyarrow, name, values, error)
            raise UnsupportedColumn("list", reason) from error
    return pyarrow.table(columns)


def from_pandas(pyarrow, frame):
    """Converts a data frame. A named index, as after `groupby`, becomes columns."""
    if any(name is not None for name in frame.index.names):
        clash = [name for name in frame.index.names if name in frame.columns]
        frame = frame.reset_index(drop=bool(clash))
    frame.columns = [str(name) for name in frame.columns]
    table = pyarrow.Table.from_pandas(frame, preserve_index=False)
    # For a column of Python objects, Arrow infers the type from the values.
    for index, kind in enumerate(frame.dtypes):
        if kind == object and holds_decimals(pyarrow, table.schema.field(index).type):
            column = widened(pyarrow, table.column(index))
            table = table.set_column(index, table.schema.names[index], column)
    return table.replace_schema_metadata(None)


def holds_decimals(pyarrow, kind):
    return widened_type(pyarrow, kind) != kind


def widened(pyarrow, column):
    """Casts the decimals of a column of Python objects to the maximum precision, because the
    precision that Arrow infers depends on the values."""
    kind = widened_type(pyarrow, column.type)
    return column if kind == column.type else column.cast(kind)


def widened_type(pyarrow, kind):
    types = pyarrow.types
    if types.is_decimal(kind) and kind.precision <= DECIMAL_DIGITS_MAX:
        return pyarrow.decimal128(DECIMAL_DIGITS_MAX, kind.scale)
    if types.is_list(kind):
        return pyarrow.list_(kind.value_field.with_type(widened_type(pyarrow, kind.value_type)))
    if types.is_struct(kind):
        fields = (kind.field(index) for index in range(kind.num_fields))
        wide = [field.with_type(widened_type(pyarrow, field.type)) for field in fields]
        return pyarrow.struct(wide)
    return kind


def to_bool(value):
    if isinstance(value, bool):
        return value
    if type_name(value) in ("numpy.bool_", "numpy.bool"):
        return bool(value)
    if hasattr(value, "as_py") and isinstance(value.as_py(), bool):
        return value.as_py()
    raise UnsupportedValue("None" if value is None else type_name(value))


def is_tabular(value):
    """Returns true if a value is a table, or an iterator of tables."""
    if type(value).__module__ == "builtins":
        return hasattr(value, "__next__")
    name = type_name(value)
    if name in ("polars.LazyFrame", "polars.DataFrame", "pandas.DataFrame"):
        return True
    if hasattr(value, "__next__"):
        return True
    return hasattr(value, "__arrow_c_stream__") and not name.endswith("Series")


def plain_value(value):
    """Converts a value that JSON does not support: dates, numpy values, decimals and UUIDs."""
    if hasattr(value, "isoformat"):
        return value.isoformat()
    if hasattr(value, "tolist"):
        return value.tolist()
    if type_name(value) in ("decimal.Decimal", "uuid.UUID"):
        return str(value)
    raise UnsupportedValue(type_name(value), "JSON cannot represent it")
