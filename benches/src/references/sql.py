"""A SQL engine from PyPI that runs statements from standard input and reports their times.

Arguments: `duckdb` or `polars`, and the number of threads. Each line of input is a JSON request,
and each line of output is an answer: `[seconds, rows, texts, difference]`, or `{"error": text}`. A
request has `sql`, or `tables` (the Parquet files of each table, by name). If the request has
`texts`, the answer contains the first column as text. If the request has `answer` (an Arrow file),
`difference` describes the first difference between the rows of that file and the engine's rows,
regardless of their order. `difference` is empty if the rows are equal.
"""

import datetime
import decimal
import json
import math
import sys
import time

import pyarrow
import pyarrow.ipc

TOLERANCE = 1e-6


class DuckDb:
    def __init__(self, threads):
        import duckdb

        self.connection = duckdb.connect(config={"allow_unsigned_extensions": "true"})
        self.connection.execute(f"SET threads = {threads}")
        # Disable the progress bar, which would be written between the answers.
        self.connection.execute("SET enable_progress_bar = false")

    def open(self, name, files):
        listed = ", ".join(f"'{file}'" for file in files)
        source = f"SELECT * FROM read_parquet([{listed}])"
        self.connection.execute(f"CREATE OR REPLACE VIEW {name} AS {source}")

    def run(self, sql):
        result = self.connection.execute(sql)
        if not result.description:
            return None
        # DuckDB 2 has another name for the method of DuckDB 1.
        fetch = getattr(result, "to_arrow_table", None) or result.fetch_arrow_table
        return fetch()


class Polars:
    def __init__(self, threads):
        import os

        os.environ["POLARS_MAX_THREADS"] = threads
        import polars

        self.polars = polars
        self.context = polars.SQLContext()

    def open(self, name, files):
        self.context.register(name, self.polars.scan_parquet(files))

    def run(self, sql):
        return self.context.execute(sql, eager=True).to_arrow()


def plain(value):
    """Converts a value to a form that is equal in all engines: numbers to floats, dates to
    timestamps."""
    if isinstance(value, (bool, int, float, decimal.Decimal)):
        return float(value)
    if isinstance(value, datetime.date) and not isinstance(value, datetime.datetime):
        return datetime.datetime(value.year, value.month, value.day).isoformat()
    if isinstance(value, datetime.datetime):
        return value.replace(tzinfo=None).isoformat()
    return None if value is None else str(value)


def rows(table):
    columns = [[plain(value) for value in column.to_pylist()] for column in table.columns]
    found = list(zip(*columns))
    found.sort(key=sort_key)
    return found


def sort_key(row):
    """Orders rows by texts first, because rounding of numbers must not change the order."""
    texts = [value for value in row if not isinstance(value, float)]
    texts = [(0, "") if value is None else (1, value) for value in texts]
    return texts, [value for value in row if isinstance(value, float)]


def equal(a, b):
    if isinstance(a, float) and isinstance(b, float):
        both_nan = math.isnan(a) and math.isnan(b)
        return both_nan or math.isclose(a, b, rel_tol=TOLERANCE, abs_tol=TOLERANCE)
    return a == b


def difference(table, path):
    with pyarrow.OSFile(path, "rb") as file:
        other = pyarrow.ipc.open_file(file).read_all()
    if table.num_columns != other.num_columns or table.num_rows != other.num_rows:
        shapes = [f"{t.num_rows} rows of {t.num_columns} columns" for t in (other, table)]
        return f"{shapes[0]}, expected {shapes[1]}"
    for expected, found in zip(rows(table), rows(other)):
        if not all(equal(a, b) for a, b in zip(expected, found)):
            return f"row {found}, expected {expected}"
    return ""


def answer(engine, request):
    for name, files in request.get("tables", {}).items():
        engine.open(name, files)
    if "sql" not in request:
        return [0.0, 0, [], ""]
    began = time.perf_counter()
    table = engine.run(request["sql"])
    took = time.perf_counter() - began
    if table is None:
        return [took, 0, [], ""]
    texts = [str(value) for value in table.column(0).to_pylist()] if request.get("texts") else []
    found = difference(table, request["answer"]) if "answer" in request else ""
    return [took, table.num_rows, texts, found]


def main():
    engine = {"duckdb": DuckDb, "polars": Polars}[sys.argv[1]](sys.argv[2])
    for line in sys.stdin:
        try:
            result = answer(engine, json.loads(line))
        except Exception as error:
            result = {"error": str(error)}
        print(json.dumps(result), flush=True)


main()
