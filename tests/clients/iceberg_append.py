"""Appends a row to a table of a branch with PyIceberg, over the Iceberg REST catalog.

    iceberg_append.py URL TOKEN

Needs: pyiceberg[pyarrow].
"""

import sys

import pyarrow as pa
from pyiceberg.catalog import load_catalog


def main():
    """Loads the table, and appends a row."""
    url, token = sys.argv[1:]
    options = {"uri": f"{url}/iceberg/dev", "token": token, "header.x-headwater-author": "py@lab"}
    table = load_catalog("lake", type="rest", **options).load_table("public.orders")
    table.append(pa.table({"id": [41]}, schema=pa.schema([("id", pa.int64())])))


if __name__ == "__main__":
    main()
