"""Types, fields and schemas of typed contracts, used in annotations."""

UTC = "UTC"


class ColumnType:
    """The base of column types."""

    def __class_getitem__(cls, zone):
        return cls


class Any(ColumnType):
    """Any type."""


class Bool(ColumnType):
    """Booleans."""


class Int32(ColumnType):
    """32-bit integers."""


class Int64(ColumnType):
    """64-bit integers."""


class Float64(ColumnType):
    """64-bit floats."""


class String(ColumnType):
    """Strings."""


class Binary(ColumnType):
    """Bytes."""


class Date32(ColumnType):
    """Dates in days."""


class Date64(ColumnType):
    """Dates in milliseconds."""


class TimestampMicro(ColumnType):
    """Timestamps in microseconds without a zone."""


class TimestampNano(ColumnType):
    """Timestamps in nanoseconds without a zone."""


class TimestampMicroUTC(ColumnType):
    """Timestamps in microseconds in UTC."""


class TimestampNanoUTC(ColumnType):
    """Timestamps in nanoseconds in UTC."""


class TableField:
    """The metadata of a column."""

    def __init__(self, name=None, doc=None, lineage=None):
        self.name = name
        self.doc = doc
        self.lineage = lineage


class _SchemaType(type):
    def __getitem__(cls, column):
        """Returns a column of the schema, for `lineage`."""
        return cls, column


class TableSchema(metaclass=_SchemaType):
    """The base of schemas."""
