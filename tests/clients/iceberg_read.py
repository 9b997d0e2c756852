"""Reads an Iceberg table with PyIceberg and DuckDB, and prints their results as one JSON document.

    iceberg_read.py METADATA_LOCATION [SNAPSHOT_ID]

For each engine, the document contains all rows ordered by `id`, and the ids of the rows with
`id >= 3`. For PyIceberg, it also contains the number of files that this filter leaves to read, and
the bounds of `id` in each file. Both come from manifests only. Values have a form that does not
depend on the engine: decimals and bytes are strings, and times are in ISO form and UTC, in
nanoseconds if the column has nanoseconds.

Needs: pyiceberg[pyarrow], pytz, duckdb, duckdb-extension-iceberg, duckdb-extension-avro.
"""

import datetime
import decimal
import json
import pathlib
import sys
import uuid

import duckdb
import duckdb_extension_avro
import duckdb_extension_iceberg
import pyarrow
import pyarrow.compute
from pyiceberg.conversions import from_bytes
from pyiceberg.table import StaticTable


def plain(value):
    """Converts a value to its form in JSON, which is the same for both engines."""
    match value:
        case bool() | int() | float() | str() | None:
            return value
        case decimal.Decimal():
            return str(value)
        case bytes() | bytearray():
            return bytes(value).hex()
        case uuid.UUID():
            return str(value)
        case datetime.datetime():
            if value.tzinfo is not None:
                value = value.astimezone(datetime.timezone.utc)
            return value.isoformat()
        case datetime.date() | datetime.time():
            return value.isoformat()
        case dict():
            return {str(key): plain(item) for key, item in value.items()}
        case list() if value and all(isinstance(item, tuple) for item in value):
            return {str(key): plain(item) for key, item in value}
        case list() | tuple():
            return [plain(item) for item in value]
    raise TypeError(f"no plain form for {type(value)}")


def rows_of(arrow_table):
    """Returns the rows of an Arrow table, ordered by `id`."""
    for index, field in enumerate(arrow_table.schema):
        if pyarrow.types.is_timestamp(field.type) and field.type.unit == "ns":
            texts = pyarrow.compute.strftime(arrow_table.column(index), "%Y-%m-%dT%H:%M:%S")
            arrow_table = arrow_table.set_column(index, field.name, texts)
    rows = [{name: plain(value) for name, value in row.items()} for row in arrow_table.to_pylist()]
    return sorted(rows, key=lambda row: row["id"])


def with_pyiceberg(location, snapshot):
    """Reads the table with PyIceberg."""
    table = StaticTable.from_metadata(location)
    scan = table.scan(snapshot_id=snapshot)
    filtered = table.scan(row_filter="id >= 3", snapshot_id=snapshot)
    field = scan.projection().find_field("id")

    def bound(bounds):
        return from_bytes(field.field_type, bounds[field.field_id])

    files = [task.file for task in scan.plan_files()]
    return {
        "rows": rows_of(scan.to_arrow()),
        "filtered": sorted(filtered.to_arrow()["id"].to_pylist()),
        "filtered_files": len(list(filtered.plan_files())),
        "bounds": sorted([bound(file.lower_bounds), bound(file.upper_bounds)] for file in files),
        "history": len(table.history()),
    }


def extension(module, name):
    """Returns the path of a DuckDB extension in a PyPI package."""
    folder = pathlib.Path(module.__file__).parent / "extensions"
    return next(folder.glob(f"v{duckdb.__version__}/**/{name}.duckdb_extension"))


def with_duckdb(location, snapshot):
    """Reads the table with DuckDB."""
    connection = duckdb.connect(config={"allow_unsigned_extensions": "true"})
    for module, name in ((duckdb_extension_avro, "avro"), (duckdb_extension_iceberg, "iceberg")):
        connection.execute(f"LOAD '{extension(module, name)}'")
    connection.execute("SET TimeZone = 'UTC'")
    path = location.removeprefix("file://")
    at = f", snapshot_from_id = {snapshot}" if snapshot else ""
    source = f"iceberg_scan('{path}'{at})"
    types = connection.execute(f"DESCRIBE SELECT * FROM {source}").fetchall()
    fine = [column[0] for column in types if column[1] == "TIMESTAMP_NS"]
    texts = [f"strftime(\"{name}\", '%Y-%m-%dT%H:%M:%S.%n') AS \"{name}\"" for name in fine]
    columns = f"* REPLACE ({', '.join(texts)})" if texts else "*"
    found = connection.execute(f"SELECT {columns} FROM {source} ORDER BY id")
    names = [column[0] for column in found.description]
    rows = [dict(zip(names, map(plain, row))) for row in found.fetchall()]
    filtered = connection.execute(f"SELECT id FROM {source} WHERE id >= 3 ORDER BY id").fetchall()
    return {"rows": rows, "filtered": [row[0] for row in filtered]}


def main():
    """Prints the results of both engines."""
    location = sys.argv[1]
    snapshot = int(sys.argv[2]) if len(sys.argv) > 2 else None
    engines = {"pyiceberg": with_pyiceberg, "duckdb": with_duckdb}
    print(json.dumps({name: read(location, snapshot) for name, read in engines.items()}))


if __name__ == "__main__":
    main()
