"""The syntax of partition fields: `city`, `day(time)`, `bucket(16, id)`."""

from __future__ import annotations

HINT = (
    "Write `column`, `year(column)`, `month(column)`, `day(column)`, `hour(column)`, "
    "`bucket(16, column)` or `truncate(4, column)`."
)

_PLAIN = ("identity", "year", "years", "month", "months", "day", "days", "hour", "hours", "void")
_WIDE = ("bucket", "truncate")
_WIDTH_MAX = 2**31 - 1


def split(text: str) -> list[str]:
    """Splits a list of fields at the commas outside parentheses."""
    found, depth, first = [], 0, 0
    for at, letter in enumerate(text):
        if letter == "," and depth == 0:
            found.append(text[first:at].strip())
            first = at + 1
        depth += (letter == "(") - (letter == ")")
    return [*found, text[first:].strip()]


def parse(field: str) -> tuple[str, str] | None:
    """Returns a field's column and transform (`day`, `bucket[16]`); None if the field is
    invalid."""
    transform, bracket, rest = (part.strip() for part in field.partition("("))
    if not bracket:
        return (transform, "identity") if transform and ")" not in transform else None
    parts = [part.strip() for part in rest[:-1].split(",")] if rest.endswith(")") else []
    transform = transform.lower()
    if len(parts) == 1 and parts[0] and transform in _PLAIN:
        return parts[0], transform.removesuffix("s")
    if len(parts) != 2 or transform not in _WIDE:
        return None
    width, column = parts if _is_number(parts[0]) else (parts[1], parts[0])
    if not column or not _is_number(width) or not 1 <= int(width) <= _WIDTH_MAX:
        return None
    return column, f"{transform}[{int(width)}]"


def _is_number(text: str) -> bool:
    return text.isascii() and text.isdigit()
