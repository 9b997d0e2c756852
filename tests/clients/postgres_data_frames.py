"""Tests of data frame packages on a branch: ibis, pandas, polars, connectorx, and the ADBC driver.

Arguments: host, port, token.
"""

from __future__ import annotations

import os
import sys
from datetime import date
from pathlib import Path

import adbc_driver_postgresql.dbapi
import ibis
import pandas
import polars
import sqlalchemy

HOST, PORT, TOKEN = sys.argv[1], int(sys.argv[2]), sys.argv[3]
URI = f"postgresql://ann:{TOKEN}@{HOST}:{PORT}/main"


def reads_with_pandas() -> None:
    """Writes a frame through SQLAlchemy, and reads it with parameters."""
    engine = sqlalchemy.create_engine(URI.replace("postgresql", "postgresql+psycopg"))
    frame = pandas.DataFrame(
        {
            "id": [1, 2, 3],
            "product": ["tea", "cup", None],
            "price": [3.5, 12.0, 40.25],
            "day": pandas.to_datetime(["2026-11-01", "2026-11-02", "2026-11-02"]),
        }
    )
    with engine.begin() as connection:
        assert frame.to_sql("orders", connection, index=False) in (3, -1)
    query = sqlalchemy.text("SELECT * FROM orders WHERE id >= :first ORDER BY id")
    with engine.connect() as connection:
        found = pandas.read_sql(query, connection, params={"first": 2})
        assert found["price"].tolist() == [12.0, 40.25], found
        whole = pandas.read_sql_table("orders", connection)
        assert whole.shape == (3, 4), whole
        chunks = pandas.read_sql("SELECT id FROM orders ORDER BY id", connection, chunksize=2)
        assert [len(chunk) for chunk in chunks] == [2, 1]
    with engine.begin() as connection:
        more = frame.assign(id=[4, 5, 6])
        more.to_sql("orders", connection, index=False, if_exists="append")
        frame.to_sql("replaced", connection, index=False)
    with engine.begin() as connection:
        frame.head(1).to_sql("replaced", connection, index=False, if_exists="replace")
    with engine.connect() as connection:
        assert pandas.read_sql("SELECT count(*) AS n FROM orders", connection)["n"][0] == 6
        assert pandas.read_sql("SELECT count(*) AS n FROM replaced", connection)["n"][0] == 1


def reads_with_adbc() -> None:
    """Reads Arrow tables through the ADBC driver, with metadata and parameters."""
    with adbc_driver_postgresql.dbapi.connect(URI) as connection:
        with connection.cursor() as cursor:
            cursor.execute(
                "SELECT id, product, price, CAST(day AS DATE) AS day FROM orders ORDER BY id"
            )
            table = cursor.fetch_arrow_table()
            assert table.column("id").to_pylist() == [1, 2, 3, 4, 5, 6], table
            assert table.column("day").to_pylist()[0] == date(2026, 11, 1)
            cursor.execute("SELECT id FROM orders WHERE id = $1", (2,))
            assert cursor.fetchall() == [(2,)]
        objects = connection.adbc_get_objects(depth="tables").read_all().to_pylist()
        names = [
            entry["table_name"]
            for catalog in objects
            if catalog["catalog_name"] == "main"
            for namespace in catalog["catalog_db_schemas"]
            if namespace["db_schema_name"] == "public"
            for entry in namespace["db_schema_tables"]
        ]
        assert {"orders", "replaced"} <= set(names), objects
        frame = pandas.read_sql("SELECT count(*) AS n FROM orders", connection)
        assert frame["n"][0] == 6, frame


def reads_with_polars() -> None:
    """Reads with both engines of polars."""
    query = "SELECT product, sum(price) AS total FROM orders GROUP BY product ORDER BY product"
    for engine in ["adbc", "connectorx"]:
        frame = polars.read_database_uri(query, URI, engine=engine)
        assert frame["total"].to_list() == [24.0, 7.0, 80.5], (engine, frame)
    parts = polars.read_database_uri(
        "SELECT id, price FROM orders",
        URI,
        engine="connectorx",
        partition_on="id",
        partition_num=2,
    )
    assert parts["id"].sort().to_list() == [1, 2, 3, 4, 5, 6], parts


def computes_with_ibis() -> None:
    """Describes tables, and runs expressions in the server."""
    connection = ibis.postgres.connect(
        host=HOST, port=PORT, user="ann", password=TOKEN, database="main"
    )
    assert {"orders", "replaced"} <= set(connection.list_tables()), connection.list_tables()
    orders = connection.table("orders")
    assert orders.schema().names == ("id", "product", "price", "day"), orders.schema()
    by_product = (
        orders.filter(orders.id < 4)
        .group_by("product")
        .aggregate(total=ibis._.price.sum(), count=ibis._.count())
        .order_by(ibis.desc("total"))
    )
    found = by_product.execute()
    assert found["total"].tolist() == [40.25, 12.0, 3.5], found
    joined = orders.join(by_product, "product").select("id", "total").order_by("id")
    assert joined.to_pyarrow().column("id").to_pylist() == [1, 2, 4, 5]
    ranked = orders.mutate(rank=ibis.row_number().over(order_by=orders.price.desc()))
    assert ranked.filter(ranked["rank"] < 2).count().execute() == 2
    days = orders.mutate(month=orders.day.truncate("M"), year=orders.day.year())
    assert days.execute()["year"].unique().tolist() == [2026]
    connection.create_table("totals", by_product)
    assert connection.table("totals").count().execute() == 3
    connection.create_view("cheap", orders.filter(orders.price < 5))
    assert connection.table("cheap").count().execute() == 2
    connection.raw_sql("DROP VIEW cheap").close()
    connection.raw_sql("DROP TABLE totals").close()
    connection.disconnect()


def runs_the_documentation() -> None:
    """Runs the example of the documentation."""
    page = Path(__file__).parents[2] / "docs/postgres.md"
    example = page.read_text().split("```python\n")[1].split("```")[0]
    os.environ["HEADWATER_TOKEN"] = TOKEN
    exec(example.replace("5432", str(PORT)), {})


reads_with_pandas()
reads_with_adbc()
reads_with_polars()
computes_with_ibis()
runs_the_documentation()
