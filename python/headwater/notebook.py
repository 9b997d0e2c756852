"""Displays the client's answers and the tables of queries in notebooks, as HTML tables.

Answers are ordinary dicts and lists with a method that notebooks call. `%load_ext
headwater.notebook` also displays the rows of `pyarrow.Table`s.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from html import escape
from typing import Any

# The largest number of rows and the largest length of a value that are displayed.
ROWS_MAX = 20
TEXT_MAX = 200

# The displayed columns of the steps of a plan or report, in this order.
STEP_COLUMNS = ("step", "name", "kind", "status", "reason", "rows", "wall_ms", "cost")


class Record(dict[str, Any]):
    """A response with fields; a notebook displays it as a table."""

    def _repr_html_(self) -> str:
        steps = self.get("steps")
        if isinstance(steps, list) and steps and isinstance(steps[0], Mapping):
            return _facts(self) + _table([_step(step) for step in steps], STEP_COLUMNS)
        return _table([{"field": name, "value": value} for name, value in self.items()])


class Records(list[Any]):
    """A list of responses; a notebook displays it as a table."""

    def _repr_html_(self) -> str:
        return _table([one if isinstance(one, Mapping) else {"value": one} for one in self])


def shown(answer: Any) -> Any:
    """Converts a response of the server to a type that notebooks display as a table."""
    if isinstance(answer, dict):
        return Record(answer)
    return Records(answer) if isinstance(answer, list) else answer


def table_html(table: Any) -> str:
    """Returns the first rows of a `pyarrow.Table` as HTML, with the types of its columns."""
    columns = [f"{field.name}\n{field.type}" for field in table.schema]
    first = table.slice(0, ROWS_MAX)
    cells = [first.column(index).to_pylist() for index in range(first.num_columns)]
    rows = [[column[row] for column in cells] for row in range(first.num_rows)]
    return _html(columns, rows, table.num_rows)


def load_ipython_extension(ipython: Any) -> None:
    """Displays `pyarrow.Table`s as HTML tables: `%load_ext headwater.notebook`."""
    html = ipython.display_formatter.formatters["text/html"]
    html.for_type_by_name("pyarrow.lib", "Table", table_html)


def _step(step: Mapping[str, Any]) -> dict[str, Any]:
    """Returns a step of a run with its wall-clock time as the field `wall_ms`."""
    usage = step.get("usage")
    return {**step, "wall_ms": usage.get("wall_ms")} if isinstance(usage, Mapping) else {**step}


def _facts(record: Mapping[str, Any]) -> str:
    """Returns the texts and numbers of a record in one line of HTML."""
    plain = [
        f"<b>{escape(name)}</b> {escape(_text(value))}"
        for name, value in record.items()
        if isinstance(value, (str, int, float)) and not isinstance(value, bool)
    ]
    return f"<p>{' · '.join(plain)}</p>"


def _table(rows: Sequence[Mapping[str, Any]], columns: Iterable[str] = ()) -> str:
    """Returns rows as an HTML table of `columns`, or without them of the columns of all rows."""
    wanted = list(columns) or list(dict.fromkeys(name for row in rows for name in row))
    names = [name for name in wanted if any(row.get(name) is not None for row in rows)]
    cells = [[row.get(name) for name in names] for row in rows[:ROWS_MAX]]
    return _html(names, cells, len(rows))


def _html(columns: Sequence[str], rows: Sequence[Sequence[Any]], count: int) -> str:
    head = "".join(f"<th>{escape(name).replace(chr(10), '<br>')}</th>" for name in columns)
    body = "".join(
        f"<tr>{''.join(f'<td>{escape(_text(value))}</td>' for value in row)}</tr>" for row in rows
    )
    rest = f"<p>{count} rows, the first {len(rows)} are shown</p>" if count > len(rows) else ""
    return f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>{rest}"


def _text(value: Any) -> str:
    text = "" if value is None else str(value)
    return text if len(text) <= TEXT_MAX else f"{text[:TEXT_MAX]}…"
