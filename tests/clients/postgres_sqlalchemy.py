"""Tests of SQLAlchemy on a branch: its inspector, reflected tables, and nested transactions.

Arguments: host, port, token.
"""

from __future__ import annotations

import re
import sys

import sqlalchemy
from sqlalchemy import BIGINT, DATE, NUMERIC, MetaData, text

HOST, PORT, TOKEN = sys.argv[1], int(sys.argv[2]), sys.argv[3]
URL = sqlalchemy.URL.create(
    "postgresql+psycopg", "ann", TOKEN, host=HOST, port=PORT, database="main"
)


def inspects(engine: sqlalchemy.Engine) -> None:
    """Describes a table and a view."""
    with engine.begin() as connection:
        connection.execute(
            text("CREATE TABLE orders (id BIGINT NOT NULL, price DECIMAL(10, 2), day DATE)")
        )
        connection.execute(text("CREATE VIEW prices AS SELECT price FROM orders"))
    inspector = sqlalchemy.inspect(engine)
    assert inspector.get_schema_names() == ["information_schema", "public"]
    assert inspector.get_table_names() == ["orders"]
    assert inspector.get_view_names() == ["prices"]
    assert inspector.has_table("orders") and not inspector.has_table("nothing")
    columns = [
        (one["name"], type(one["type"]), one["nullable"])
        for one in inspector.get_columns("orders")
    ]
    assert columns == [("id", BIGINT, False), ("price", NUMERIC, True), ("day", DATE, True)]
    assert inspector.get_pk_constraint("orders")["constrained_columns"] == []
    assert inspector.get_foreign_keys("orders") == []
    assert inspector.get_indexes("orders") == []
    assert inspector.get_view_definition("prices") == "SELECT price FROM orders"


def reflects(engine: sqlalchemy.Engine) -> None:
    """Writes and reads a table by its reflected columns."""
    metadata = MetaData()
    metadata.reflect(engine)
    orders = metadata.tables["orders"]
    with engine.begin() as connection:
        connection.execute(orders.insert(), [{"id": 1}, {"id": 2}])
        found = connection.execute(orders.select().where(orders.c.id == 2)).all()
        assert [row.id for row in found] == [2], found


def nests(engine: sqlalchemy.Engine) -> None:
    """Rolls back a part of a transaction, also after an error."""
    count = text("SELECT count(*) FROM orders")
    with engine.begin() as connection:
        connection.execute(text("INSERT INTO orders (id) VALUES (3)"))
        with connection.begin_nested() as nested:
            connection.execute(text("DELETE FROM orders"))
            assert connection.execute(count).scalar() == 0
            nested.rollback()
        assert connection.execute(count).scalar() == 3
        try:
            with connection.begin_nested():
                connection.execute(text("SELECT nothing FROM orders"))
        except sqlalchemy.exc.ProgrammingError:
            pass
        connection.execute(text("INSERT INTO orders (id) VALUES (4)"))
    with engine.connect() as connection:
        assert connection.execute(count).scalar() == 4


def serves_sql_lab(engine: sqlalchemy.Engine) -> None:
    """Makes the calls of Apache Superset's SQL Lab."""
    inspector = sqlalchemy.inspect(engine)
    assert inspector.get_materialized_view_names() == []
    assert inspector.get_temp_table_names() == []
    assert inspector.get_unique_constraints("orders") == []
    assert inspector.get_check_constraints("orders") == []
    assert inspector.get_table_comment("orders") == {"text": None}
    with engine.connect() as connection:

        def query(sql: str) -> list:
            return connection.execute(text(sql)).all()

        assert query("SELECT pg_backend_pid()")[0][0] > 0
        assert query("SELECT datname FROM pg_database WHERE NOT datistemplate") == [("main",)]
        assert query("SELECT version()")[0][0].startswith("PostgreSQL 15.")
        # Superset reads the cost from the first line.
        explain = "EXPLAIN SELECT n FROM generate_series(1, 9) AS t (n) ORDER BY n"
        plan = [line for (line,) in query(explain)]
        cost = re.search(r"cost=([\d\.]+)\.\.([\d\.]+)", plan[0])
        assert cost and float(cost[2]) > 0, plan
        assert plan[1].startswith("  ->  "), plan
        assert query('SELECT * FROM "main"."public"."prices" LIMIT 1') == [(None,)]


engine = sqlalchemy.create_engine(URL)
inspects(engine)
reflects(engine)
nests(engine)
serves_sql_lab(engine)
