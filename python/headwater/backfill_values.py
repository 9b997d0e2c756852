"""The values of a backfill: a list, or a range of days, months or numbers.

The rules are the same as in the command, `crates/backfill/src/parameter_values.rs`.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from datetime import date, timedelta
from itertools import islice

from .errors import HeadwaterError, make
from .requests import parameter_text

# Maximum number of values.
VALUES_MAX = 10_000

FORMS = "Write `2026-01-01..2026-01-31`, `2026-01..2026-06`, `0..15`, `JFK,LGA`, or give a list."


def parse_values(
    name: str, values: str | Iterable[str | int | float | date]
) -> list[str]:
    """Returns the values of a parameter as texts, in order.

    A text is a range `FROM..TO`, which includes both ends, or values separated by commas. Raises
    `InvalidArgumentError` for a range that is not valid, for a value that occurs twice and for more
    than 10,000 values.
    """
    texts = list(islice(_texts(name, values), VALUES_MAX + 1))
    if not texts:
        raise _invalid(f"the parameter `{name}` has no values")
    if len(texts) > VALUES_MAX:
        message = f"the parameter `{name}` has more than {VALUES_MAX} values"
        raise make("invalid_argument", message, "Run several backfills, each with fewer values.")
    seen: set[str] = set()
    for text in texts:
        if text in seen:
            raise _invalid(f"the parameter `{name}` has the value `{text}` twice")
        seen.add(text)
    return texts


def _texts(name: str, values: str | Iterable[str | int | float | date]) -> Iterator[str]:
    if not isinstance(values, str):
        for value in values:
            yield value.isoformat() if isinstance(value, date) else parameter_text(name, value)
        return
    start, dots, end = values.partition("..")
    if not values.strip():
        return
    if not dots:
        yield from (value.strip() for value in values.split(","))
        return
    found = _range(start.strip(), end.strip())
    if found is None:
        raise _invalid(f"`{values}` is not a range of dates or numbers")
    yield from found


def _range(start: str, end: str) -> Iterable[str] | None:
    """Returns the values of a range, or None unless both ends are days, months or whole numbers."""
    first_day, last_day = _day(start), _day(end)
    if first_day is not None and last_day is not None:
        days = range((last_day - first_day).days + 1)
        return ((first_day + timedelta(days=day)).isoformat() for day in days)
    first_month, last_month = _month(start), _month(end)
    if first_month is not None and last_month is not None:
        months = range(first_month, last_month + 1)
        return (f"{month // 12:04}-{month % 12 + 1:02}" for month in months)
    if re.fullmatch(r"[+-]?[0-9]+", start) and re.fullmatch(r"[+-]?[0-9]+", end):
        return map(str, range(int(start), int(end) + 1))
    return None


def _day(text: str) -> date | None:
    if not re.fullmatch(r"[0-9]{4}-[0-9]{2}-[0-9]{2}", text):
        return None
    try:
        return date.fromisoformat(text)
    except ValueError:
        return None


def _month(text: str) -> int | None:
    """Returns a month as the number of months since the year 0."""
    first = _day(f"{text}-01")
    return None if first is None else first.year * 12 + first.month - 1


def _invalid(message: str) -> HeadwaterError:
    return make("invalid_argument", message, FORMS)
