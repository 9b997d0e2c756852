"""Descriptions of values that cannot be rows of a table, for error messages.

A description names the column, the row and the value. Used for results of functions, and for rows
that a function appends to a table.
"""


def type_name(value):
    kind = type(value)
    if kind.__module__ == "builtins":
        return kind.__qualname__
    return f"{kind.__module__.split('.')[0]}.{kind.__qualname__}"


def why_no_rows(rows):
    """Returns the reason why a value is not a list of dicts with keys."""
    wrong = next(((n, row) for n, row in enumerate(rows, 1) if not isinstance(row, dict)), None)
    if wrong is None:
        return "its dicts have no keys"
    number, row = wrong
    return f"item {number} is {shown(row)}, but each item must be a dict"


def why_no_column(pyarrow, name, values, error):
    """Returns the reason why values cannot be one column: two incompatible values, or one value
    that Arrow cannot convert, or else Arrow's error."""
    numbers = {"int", "float"}
    first = None
    for number, value in enumerate(values, 1):
        kind = type_name(value)
        if value is None:
            continue
        if first is None:
            first = (number, value, kind)
        elif kind != first[2] and not {kind, first[2]} <= numbers:
            row, other, _ = first
            return f"column `{name}` has {shown(other)} in row {row}, and {shown(value)} in row {number}"
    for number, value in enumerate(values, 1):
        reason = why_no_value(pyarrow, value)
        if reason:
            return f"column `{name}` has {shown(value)} in row {number}, {reason}"
    return f"column `{name}` cannot be converted: {error}"


def why_no_value(pyarrow, value):
    """Returns the reason why one value cannot be converted; None if it can."""
    if isinstance(value, int) and not -(1 << 63) <= value < 1 << 63:
        return "which does not fit in 64 bits"
    try:
        pyarrow.array([value])
    except (pyarrow.ArrowException, TypeError, ValueError, OverflowError) as error:
        return f"which cannot be converted: {error}"
    return None


def shown(value):
    """Formats a value with its type, shortened to one line."""
    try:
        text = repr(value)
    except Exception:
        text = "..."
    text = text if len(text) <= 40 else f"{text[:37]}..."
    return f"`{text}` ({type_name(value)})"
