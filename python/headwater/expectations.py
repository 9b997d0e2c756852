"""Ready-made expectations over pyarrow tables.

Each function takes a `pyarrow.Table` and the name of a column, and returns True or False. An
expectation can therefore be one line:

    @headwater.expectation()
    def every_order_has_an_id(orders=headwater.Model("orders", columns=["id"])):
        return expectations.expect_column_no_nulls(orders, "id")

All functions raise `ColumnNotFoundError` for a missing column, and leave the table unchanged. A
function imports pyarrow only if it needs pyarrow.
"""

from __future__ import annotations

from .errors import make

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from typing import Any

    import pyarrow


def expect_column_no_nulls(table: pyarrow.Table, column: str) -> bool:
    """Returns True if no value of the column is null, or the table is empty."""
    return bool(_column(table, column).null_count == 0)


def expect_column_some_null(table: pyarrow.Table, column: str) -> bool:
    """Returns True if at least one value of the column is null."""
    return bool(_column(table, column).null_count > 0)


def expect_column_all_null(table: pyarrow.Table, column: str) -> bool:
    """Returns True if every value of the column is null, or the table is empty."""
    values = _column(table, column)
    return bool(values.null_count == len(values))


def expect_column_all_unique(table: pyarrow.Table, column: str) -> bool:
    """Returns True if all values of the column are distinct; nulls count as equal."""
    values = _column(table, column)
    return len(values.unique()) == len(values)


def expect_column_not_unique(table: pyarrow.Table, column: str) -> bool:
    """Returns True if some value of the column occurs more than once; nulls count as equal."""
    return not expect_column_all_unique(table, column)


def expect_column_accepted_values(
    table: pyarrow.Table, column: str, accepted_values: Iterable[Any]
) -> bool:
    """Returns True if every value of the column is in the list of accepted values. Nulls are
    accepted if the list contains None.

    Raises `InvalidArgumentError` if the column's type cannot represent an accepted value.
    """
    import pyarrow
    import pyarrow.compute as pc

    if isinstance(accepted_values, str):
        message = f"accepted values must be a list, not `{accepted_values!r}`"
        raise make("invalid_argument", message, f"Write `[{accepted_values!r}]`.")
    values = _column(table, column)
    if pyarrow.types.is_dictionary(values.type):
        values = values.cast(values.type.value_type)
    try:
        accepted = pyarrow.array(list(accepted_values), type=values.type)
    except (pyarrow.ArrowException, TypeError, OverflowError) as error:
        message = (
            f"the accepted values of column `{column}` are not all of its type `{values.type}`"
        )
        raise make("invalid_argument", message, causes=[str(error)]) from error
    # For an empty table, Arrow returns null. An empty table fulfils the expectation.
    return pc.all(pc.is_in(values, value_set=accepted)).as_py() is not False


def expect_column_mean_greater_than(table: pyarrow.Table, column: str, value: float) -> bool:
    """Returns True if the mean of a numeric column is greater than `value`; False without
    values."""
    mean = _mean(table, column)
    return mean is not None and bool(mean > value)


def expect_column_mean_greater_or_equal_than(
    table: pyarrow.Table, column: str, value: float
) -> bool:
    """Returns True if the mean of a numeric column is at least `value`; False without values."""
    mean = _mean(table, column)
    return mean is not None and bool(mean >= value)


def expect_column_mean_smaller_than(table: pyarrow.Table, column: str, value: float) -> bool:
    """Returns True if the mean of a numeric column is less than `value`; False without values."""
    mean = _mean(table, column)
    return mean is not None and bool(mean < value)


def expect_column_mean_smaller_or_equal_than(
    table: pyarrow.Table, column: str, value: float
) -> bool:
    """Returns True if the mean of a numeric column is at most `value`; False without values."""
    mean = _mean(table, column)
    return mean is not None and bool(mean <= value)


def expect_column_equal_concatenation(
    table: pyarrow.Table, target: str, columns: Sequence[str], separator: str = ""
) -> bool:
    """Returns True if a text column equals, in every row, the joined text of other columns.

    Arrow casts columns of other types to text. If one of the other columns is null, the target must
    be null.
    """
    import pyarrow
    import pyarrow.compute as pc

    if isinstance(columns, str) or not columns:
        raise make("invalid_argument", f"columns must be a list of names, not `{columns!r}`")
    text = pyarrow.large_string()
    expected = _column(table, target).cast(text)
    parts = [_column(table, column).cast(text) for column in columns]
    between = pyarrow.scalar(separator, type=text)
    joined = pc.binary_join_element_wise(*parts, between, null_handling="emit_null")
    equal = pc.fill_null(pc.equal(expected, joined), False)
    both_null = pc.and_(pc.is_null(expected), pc.is_null(joined))
    return pc.all(pc.or_(equal, both_null)).as_py() is not False


def _column(table: pyarrow.Table, column: str) -> Any:
    names = table.column_names
    if column in names:
        return table.column(column)
    from difflib import get_close_matches

    near = get_close_matches(str(column), names, n=1)
    hint = f"Did you mean `{near[0]}`?" if near else f"Choose from {', '.join(names) or 'none'}."
    raise make("column_not_found", f"no column `{column}` in the table", hint)


def _mean(table: pyarrow.Table, column: str) -> Any:
    import pyarrow
    import pyarrow.compute as pc

    values = _column(table, column)
    try:
        return pc.mean(values).as_py()
    except pyarrow.ArrowNotImplementedError as error:
        message = f"column `{column}` of type `{values.type}` has no mean"
        raise make("invalid_argument", message) from error
