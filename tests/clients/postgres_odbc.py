"""Tests of ODBC on a branch: descriptions of tables, parameters of every type, and a transaction.

Arguments: host, port, token.
"""

from __future__ import annotations

import sys
from datetime import date, datetime
from decimal import Decimal

import pyodbc

HOST, PORT, TOKEN = sys.argv[1:4]
CONNECTION = (
    "Driver={PostgreSQL Unicode};"
    f"Server={HOST};Port={PORT};Database=main;Uid=ann;Pwd={TOKEN};BoolsAsChar=0"
)
ROW = (1, "Zoë", Decimal("12.50"), 0.5, True, date(2026, 11, 2), datetime(2026, 11, 2, 3, 4, 5))


def writes(connection: pyodbc.Connection) -> None:
    """Inserts rows with parameters: a single row, and an array of rows."""
    cursor = connection.cursor()
    cursor.execute(
        "CREATE TABLE orders (id BIGINT NOT NULL, product TEXT, price DECIMAL(10, 2), "
        "weight DOUBLE PRECISION, paid BOOLEAN, day DATE, changed TIMESTAMP)"
    )
    cursor.execute("CREATE VIEW cheap AS SELECT id FROM orders WHERE price < 5")
    insert = "INSERT INTO orders VALUES (?, ?, ?, ?, ?, ?, ?)"
    cursor.execute(insert, ROW)
    assert cursor.rowcount == 1, cursor.rowcount
    cursor.executemany(insert, [(2, None, None, None, False, None, None), (3, *ROW[1:])])
    connection.commit()


def reads(connection: pyodbc.Connection) -> None:
    """Reads typed values, with parameters."""
    cursor = connection.cursor()
    assert tuple(cursor.execute("SELECT * FROM orders WHERE id = ?", 1).fetchone()) == ROW
    found = cursor.execute("SELECT id FROM orders WHERE day = ? ORDER BY id", ROW[5]).fetchall()
    assert [row.id for row in found] == [1, 3], found
    found = cursor.execute("SELECT product FROM orders WHERE price > ?", Decimal("1.25")).fetchall()
    assert len(found) == 2, found


def describes(connection: pyodbc.Connection) -> None:
    """Lists tables, columns, keys and types."""
    cursor = connection.cursor()
    tables = {(row.table_schem, row.table_name, row.table_type) for row in cursor.tables()}
    assert ("public", "orders", "TABLE") in tables, tables
    assert ("public", "cheap", "VIEW") in tables, tables
    columns = [(row.column_name, row.type_name) for row in cursor.columns(table="orders")]
    assert columns == [
        ("id", "int8"),
        ("product", "text"),
        ("price", "numeric"),
        ("weight", "float8"),
        ("paid", "bool"),
        ("day", "date"),
        ("changed", "timestamp"),
    ], columns
    assert cursor.primaryKeys("orders").fetchall() == []
    assert cursor.foreignKeys("orders").fetchall() == []
    assert cursor.statistics("orders").fetchall() is not None
    assert cursor.getTypeInfo().fetchall()
    assert connection.getinfo(pyodbc.SQL_DBMS_NAME) == "PostgreSQL"


def fails(connection: pyodbc.Connection) -> None:
    """Tests that an error rolls back the transaction."""
    cursor = connection.cursor()
    cursor.execute("DELETE FROM orders")
    try:
        cursor.execute("SELECT pric FROM orders")
    except pyodbc.Error as error:
        assert error.args[0] == "42703", error
    else:
        raise AssertionError("a column that does not exist was found")
    connection.rollback()
    assert cursor.execute("SELECT count(*) FROM orders").fetchval() == 3


with pyodbc.connect(CONNECTION) as connection:
    writes(connection)
    reads(connection)
    describes(connection)
    fails(connection)
