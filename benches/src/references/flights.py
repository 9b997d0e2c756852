"""The flights example as one script, which calls the same functions and runs the SQL models in
DuckDB.

Arguments: the folder of the models, the folder with one Parquet file per table.
"""

import sys
from pathlib import Path

import duckdb
import pyarrow.parquet as pq

MODELS, TABLES = Path(sys.argv[1]), Path(sys.argv[2])
sys.path.insert(0, str(MODELS))

import delays  # noqa: E402
import expectations  # noqa: E402
import pyarrow  # noqa: E402


def sql(name: str):
    """Returns the result of a SQL model."""
    return duckdb.sql((MODELS / f"{name}.sql").read_text()).to_arrow_table()


def store(name: str, table) -> pyarrow.Table:
    """Writes a result to a file."""
    if not isinstance(table, pyarrow.Table):
        table = table.to_arrow() if hasattr(table, "to_arrow") else pyarrow.Table.from_pandas(table)
    pq.write_table(table, TABLES / f"out_{name}.parquet", compression="zstd")
    return table


flights, weather, airports, airlines, planes = (
    pq.read_table(TABLES / f"{name}.parquet")
    for name in ("flights", "weather", "airports", "airlines", "planes")
)
flights_clean = store("flights_clean", sql("flights_clean"))
store(
    "route_delays",
    delays.route_delays(
        flights_clean.select(["origin", "dest", "arr_delay", "distance"]),
        airports.select(["faa", "name"]),
    ),
)
airline_delays = delays.airline_delays(
    flights_clean.select(["carrier", "dep_delay", "arr_delay", "precipitation"]), 100
)
known = duckdb.sql("SELECT tailnum, year FROM planes WHERE year IS NOT NULL").to_arrow_table()
store("plane_ages", delays.plane_ages(flights_clean.select(["tailnum", "arr_delay"]), known))
airline_scorecard = store("airline_scorecard", sql("airline_scorecard"))
assert expectations.every_flight_has_a_carrier(flights_clean.select(["carrier"]))
assert expectations.each_airline_has_one_row(airline_scorecard.select(["airline"]))
assert expectations.airlines_are_not_too_late(
    airline_scorecard.select(["airline", "mean_delay"]), 60.0
)
