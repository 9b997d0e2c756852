"""Writes a report about the orders as HTML and CSV into the bucket `reports`."""

import csv
import html
import io

from headwater import lake

SQL = """
    SELECT product, count(*) AS orders, sum(amount) AS total
    FROM orders GROUP BY product ORDER BY total DESC, product
"""


def as_csv(columns, rows):
    """Returns the rows as CSV."""
    text = io.StringIO()
    writer = csv.DictWriter(text, columns, lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()


def as_html(day, columns, rows):
    """Returns the rows as a page."""
    def line(tag, values):
        cells = "".join(f"<{tag}>{html.escape(str(value))}</{tag}>" for value in values)
        return f"<tr>{cells}</tr>\n"

    body = "".join(line("td", row.values()) for row in rows)
    return f"<h1>Orders of {day}</h1>\n<table>\n{line('th', columns)}{body}</table>\n"


def handler(event, context):
    day = event["time"][:10]
    table = lake.query(SQL)
    columns, rows = table.column_names, table.to_pylist()
    lake.put_object("reports", f"orders/{day}.csv", as_csv(columns, rows))
    lake.put_object("reports", f"orders/{day}.html", as_html(day, columns, rows))
    return {"day": day, "products": len(rows)}
