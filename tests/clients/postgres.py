"""Drivers for PostgreSQL on a branch: psycopg and asyncpg.

Arguments: host, port, token.
"""

from __future__ import annotations

import asyncio
import datetime
import decimal
import sys

import asyncpg
import psycopg

HOST, PORT, TOKEN = sys.argv[1], int(sys.argv[2]), sys.argv[3]
DAY = datetime.date(2024, 2, 29)


def with_psycopg() -> None:
    """Writes and reads every type that a Python program has, in both formats."""
    place = {"host": HOST, "port": PORT, "user": "ann", "password": TOKEN, "dbname": "main"}
    with psycopg.connect(**place, autocommit=True) as connection:
        connection.execute(
            "CREATE TABLE sales (id BIGINT, product VARCHAR, price DECIMAL(10, 2), day DATE, "
            "paid BOOLEAN)"
        )
        row = (1, "tea 'n' milk", decimal.Decimal("3.50"), DAY, True)
        connection.execute("INSERT INTO sales VALUES (%s, %s, %s, %s, %s)", row)
        for binary in (False, True):
            cursor = connection.cursor(binary=binary)
            found = cursor.execute("SELECT * FROM sales WHERE id = %s AND day = %s", (1, DAY))
            assert found.fetchall() == [row], binary
        missing = "SELECT * FROM sails"
        try:
            connection.execute(missing)
        except psycopg.errors.UndefinedTable as error:
            assert "sales" in (error.diag.message_hint or ""), error
        else:
            raise AssertionError(missing)
    with psycopg.connect(**place) as connection:
        assert connection.execute("SELECT count(*) FROM sales").fetchone() == (1,)
        with connection.cursor(name="server_side") as cursor:
            cursor.execute("SELECT value FROM generate_series(1, 2500) ORDER BY value")
            assert sum(value for (value,) in cursor) == 2500 * 2501 // 2


async def with_asyncpg() -> None:
    """Reads prepared statements in binary format, with types that the server infers."""
    connection = await asyncpg.connect(
        host=HOST, port=PORT, user="ann", password=TOKEN, database="main", ssl=False
    )
    assert await connection.fetchval("SELECT id FROM sales WHERE day = $1", DAY) == 1
    row = await connection.fetchrow("SELECT price, day, paid FROM sales WHERE id = $1", 1)
    assert tuple(row) == (decimal.Decimal("3.50"), DAY, True), row
    await connection.close()


with_psycopg()
asyncio.run(with_asyncpg())
