"""Tests of PostgreSQL drivers on a branch: psycopg and asyncpg.

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
    """Writes and reads values of every Python type, in text and binary format."""
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
        added = "INSERT INTO sales (id, paid) VALUES (%s, %s) RETURNING id + 1 AS next, paid"
        cursor = connection.execute(added, (2, False))
        assert (cursor.fetchall(), cursor.statusmessage) == ([(3, False)], "INSERT 0 1")
        changed = "UPDATE sales SET price = %s WHERE id = %s RETURNING price"
        assert connection.execute(changed, (decimal.Decimal("1.25"), 2)).fetchone() == (
            decimal.Decimal("1.25"),
        )
        cursor = connection.execute("DELETE FROM sales WHERE id = %s RETURNING id", (2,))
        assert (cursor.fetchall(), cursor.statusmessage) == ([(2,)], "DELETE 1")
        upsert = "INSERT INTO sales (id, paid) VALUES (1, true) ON CONFLICT (id) DO "
        cursor = connection.execute(upsert + "NOTHING")
        assert cursor.statusmessage == "INSERT 0 0"
        cursor = connection.execute(upsert + "UPDATE SET paid = excluded.paid")
        assert cursor.statusmessage == "INSERT 0 1"
        missing = "SELECT * FROM sails"
        try:
            connection.execute(missing)
        except psycopg.errors.UndefinedTable as error:
            assert "sales" in (error.diag.message_hint or ""), error
        else:
            raise AssertionError(missing)
        wrong = "\n  SELEC 1"
        try:
            connection.execute(wrong)
        except psycopg.errors.SyntaxError as error:
            assert error.diag.statement_position == "4", error.diag.statement_position
        else:
            raise AssertionError(wrong)
    with psycopg.connect(**place) as connection:
        assert connection.execute("SELECT count(*) FROM sales").fetchone() == (1,)
        with connection.cursor(name="server_side") as cursor:
            cursor.execute("SELECT value FROM generate_series(1, 2500) ORDER BY value")
            assert sum(value for (value,) in cursor) == 2500 * 2501 // 2
        # A cursor WITH HOLD reads the state of its transaction, also after the end of it.
        held = [connection.cursor(name, withhold=True) for name in ("started", "unstarted")]
        for cursor in held:
            cursor.execute("SELECT id FROM sales UNION ALL SELECT 7 ORDER BY id")
        assert held[0].fetchone() == (1,)
        connection.commit()
        connection.execute("DELETE FROM sales WHERE id = 7")
        connection.commit()
        assert (held[0].fetchall(), held[1].fetchall()) == ([(7,)], [(1,), (7,)])


def with_transactions() -> None:
    """Tests commit, rollback and conflicts, in the transactions that psycopg opens by default."""
    place = {"host": HOST, "port": PORT, "user": "ann", "password": TOKEN, "dbname": "main"}
    count = "SELECT count(*) FROM stock"
    with psycopg.connect(**place) as one, psycopg.connect(
        **place, autocommit=True
    ) as other:
        one.execute("CREATE TABLE stock (id BIGINT, amount BIGINT)")
        cursor = one.execute("INSERT INTO stock VALUES (1, 10), (2, 20)")
        assert cursor.rowcount == 2
        assert one.execute(count).fetchone() == (2,)
        one.commit()
        assert other.execute(count).fetchone() == (2,)
        one.execute("DELETE FROM stock")
        assert one.execute(count).fetchone() == (0,)
        assert other.execute(count).fetchone() == (2,)
        one.rollback()
        assert one.execute(count).fetchone() == (2,)
        other.execute("INSERT INTO stock VALUES (3, 30)")
        assert one.execute(count).fetchone() == (2,), "a transaction reads one commit"
        one.rollback()
        one.execute("UPDATE stock SET amount = 11 WHERE id = 1")
        other.execute("UPDATE stock SET amount = 12 WHERE id = 1")
        try:
            one.commit()
        except psycopg.errors.SerializationFailure:
            pass
        else:
            raise AssertionError("both updates were committed")
        assert one.execute("SELECT amount FROM stock WHERE id = 1").fetchone() == (12,)
        names = one.execute("SELECT name FROM system.branches").fetchall()
        assert names == [("main",)], names


def with_equal_changes() -> None:
    """Of two transactions that change the same row, only the first is committed, even if the
    changes are equal. Changes of different rows, and equal rows without a key, are all kept."""
    place = {"host": HOST, "port": PORT, "user": "ann", "password": TOKEN, "dbname": "main"}
    for table, key in (("counters", ""), ("keyed_counters", " PRIMARY KEY")):
        with psycopg.connect(**place) as one, psycopg.connect(**place) as two:

            def commit(*statements: str) -> bool:
                """Executes a statement in each transaction. Returns whether both are committed."""
                for connection, statement in zip((one, two), statements, strict=True):
                    connection.execute(statement)
                one.commit()
                try:
                    two.commit()
                except psycopg.errors.SerializationFailure as error:
                    assert error.sqlstate == "40001"
                    assert "Repeat the transaction" in (error.diag.message_hint or ""), error
                    return False
                return True

            def value(query: str) -> int:
                (found,) = one.execute(f"SELECT {query}").fetchone()
                one.rollback()
                return found

            one.execute(f"CREATE TABLE {table} (id BIGINT{key}, n BIGINT)")
            one.execute(f"INSERT INTO {table} VALUES (1, 1), (2, 2), (3, 3)")
            one.commit()
            increment = f"UPDATE {table} SET n = n + 1 WHERE id = "
            assert not commit(increment + "1", increment + "1")
            two.execute(increment + "1")
            two.commit()
            assert value(f"n FROM {table} WHERE id = 1") == 3
            assert commit(increment + "1", increment + "2")
            assert value(f"sum(n) FROM {table} WHERE id < 3") == 4 + 3
            delete = f"DELETE FROM {table} WHERE id = 3"
            assert not commit(delete, delete)
            insert = f"INSERT INTO {table} VALUES (9, 9)"
            assert commit(insert, insert) == (not key)
            assert value(f"count(*) FROM {table} WHERE id = 9") == (1 if key else 2)


def with_copy() -> None:
    """Copies rows to and from the server. A failed copy must insert no rows."""
    place = {"host": HOST, "port": PORT, "user": "ann", "password": TOKEN, "dbname": "main"}
    rows = [(number, f"tea\t{number}\n", None) for number in range(20_000)]
    with psycopg.connect(**place, autocommit=True) as connection:
        connection.execute("CREATE TABLE copied (id BIGINT, product VARCHAR, day DATE)")
        cursor = connection.cursor()
        with cursor.copy("COPY copied (id, product, day) FROM STDIN") as copy:
            for row in rows:
                copy.write_row(row)
        assert cursor.rowcount == len(rows), cursor.rowcount
        with cursor.copy("COPY (SELECT * FROM copied ORDER BY id) TO STDOUT") as copy:
            copy.set_types(["int8", "text", "date"])
            assert list(copy.rows()) == rows
        try:
            with cursor.copy("COPY copied FROM STDIN") as copy:
                copy.write_row((1, "tea", None))
                raise KeyError
        except KeyError:
            pass
        assert connection.execute("SELECT count(*) FROM copied").fetchone() == (len(rows),)
        wrong = "COPY copied (id, produkt) FROM STDIN"
        try:
            # The error occurs before the rows are sent.
            with cursor.copy(wrong):
                raise AssertionError(wrong)
        except psycopg.errors.UndefinedColumn as error:
            assert error.diag.statement_position == "18", error.diag.statement_position
            assert "product" in (error.diag.message_hint or ""), error


def with_binary_copy() -> None:
    """Copies rows of every type to and from the server in binary format."""
    place = {"host": HOST, "port": PORT, "user": "ann", "password": TOKEN, "dbname": "main"}
    types = ["int8", "int4", "float8", "numeric", "text", "bool", "date", "timestamp"]
    moment = datetime.datetime(2024, 2, 29, 1, 2, 3, 4)
    rows = [
        (1, -2, 0.1, decimal.Decimal("3.50"), "Zoë\t", True, DAY, moment),
        (2, None, None, None, "", False, None, None),
    ]
    with psycopg.connect(**place, autocommit=True) as connection:
        connection.execute(
            "CREATE TABLE typed (a BIGINT, b INT, c DOUBLE PRECISION, d DECIMAL(10, 2), e TEXT, "
            "f BOOLEAN, g DATE, h TIMESTAMP)"
        )
        cursor = connection.cursor()
        with cursor.copy("COPY typed FROM STDIN (FORMAT binary)") as copy:
            copy.set_types(types)
            for row in rows:
                copy.write_row(row)
        assert cursor.rowcount == len(rows), cursor.rowcount
        with cursor.copy("COPY (SELECT * FROM typed ORDER BY a) TO STDOUT WITH BINARY") as copy:
            copy.set_types(types)
            assert list(copy.rows()) == rows
        with cursor.copy("COPY (SELECT * FROM typed LIMIT 0) TO STDOUT (FORMAT binary)") as copy:
            copy.set_types(types)
            assert list(copy.rows()) == []
        try:
            with cursor.copy("COPY typed FROM STDIN (FORMAT binary)") as copy:
                copy.write(b"1\t2\n")
        except psycopg.errors.Error as error:
            assert "binary format" in str(error), error
        else:
            raise AssertionError("text was read as binary")
        assert connection.execute("SELECT count(*) FROM typed").fetchone() == (2,)


def with_columns_that_first_appear_late() -> None:
    """Prepares a query of a column that only the last of nine files has."""
    place = {"host": HOST, "port": PORT, "user": "ann", "password": TOKEN, "dbname": "main"}
    files = [f"late{number}.ndjson" for number in range(1, 10)]
    with psycopg.connect(**place, autocommit=True) as connection:
        for file in files:
            rare = ", 7 AS rare" if file == files[-1] else ""
            connection.execute(f"COPY (SELECT 1 AS id{rare}) TO '{file}'")
        query = f"SELECT rare FROM read_json({files}) WHERE rare IS NOT NULL"
        assert connection.execute(query, prepare=True).fetchall() == [(7,)]


def with_arrays_and_temporary_tables() -> None:
    """Binds arrays, and creates temporary tables that other clients never see."""
    place = {"host": HOST, "port": PORT, "user": "ann", "password": TOKEN, "dbname": "main"}
    visible = "SELECT table_catalog FROM information_schema.tables WHERE table_name = ANY(%s)"
    with psycopg.connect(**place) as connection, psycopg.connect(
        **place, autocommit=True
    ) as other:
        for binary in (False, True):
            form = "%b" if binary else "%t"
            query = f"SELECT a FROM typed WHERE a = ANY({form}) OR e = ANY({form}) ORDER BY a"
            found = connection.execute(query, ([1, 7], ["x", ""])).fetchall()
            assert found == [(1,), (2,)], (binary, found)
        connection.execute("CREATE TEMP TABLE passing ON COMMIT DROP AS SELECT 1 AS a")
        connection.execute("CREATE TEMPORARY VIEW seen AS SELECT a FROM passing")
        assert connection.execute("SELECT a FROM seen").fetchall() == [(1,)]
        # The name of the database is the branch, also within the transaction.
        assert connection.execute(visible, (["passing"],)).fetchall() == [("main",)]
        connection.execute('INSERT INTO "main".public.typed (a) SELECT a + 8 FROM passing')
        assert other.execute(visible, (["passing", "seen"],)).fetchall() == []
        connection.commit()
        assert other.execute(visible, (["passing", "seen"],)).fetchall() == []
        assert other.execute("SELECT a FROM main.public.typed WHERE a > 8").fetchall() == [(9,)]
        # A permanent table that replaces a temporary table is kept.
        connection.execute("CREATE TEMP TABLE kept (a INT)")
        connection.execute("DROP TABLE kept")
        connection.execute("CREATE TABLE kept AS SELECT 1 AS a")
        connection.commit()
        assert other.execute("SELECT a FROM kept").fetchall() == [(1,)]
        # A temporary table remains temporary after its drop is undone, and after other changes.
        connection.execute("CREATE TEMP TABLE passing (a INT)")
        connection.execute("SAVEPOINT before")
        connection.execute("DROP TABLE passing")
        connection.execute("ROLLBACK TO before")
        connection.execute("CREATE TABLE IF NOT EXISTS passing (a INT)")
        connection.execute("ALTER TABLE passing ADD COLUMN b INT")
        connection.execute("ALTER TABLE passing RENAME TO seen")
        connection.execute("SET LOCAL search_path = elsewhere")
        connection.commit()
        assert other.execute(visible, (["passing", "seen"],)).fetchall() == []
        # DISCARD TEMP can be undone, and needs no transaction.
        connection.execute("CREATE TEMP TABLE passing (a INT)")
        connection.execute("SAVEPOINT before")
        for restore in ("ROLLBACK TO before", "SELECT 1"):
            assert connection.execute("DISCARD TEMP").statusmessage == "DISCARD TEMP"
            assert connection.execute(visible, (["passing"],)).fetchall() == []
            connection.execute(restore)
        connection.commit()
        for target in ("TEMP", "PLANS", "SEQUENCES"):
            assert other.execute(f"DISCARD {target}").statusmessage == f"DISCARD {target}"
        try:
            other.execute("CREATE TEMP TABLE passing (a INT)")
        except psycopg.Error as error:
            assert "BEGIN" in (error.diag.message_hint or ""), error
        else:
            raise AssertionError("a temporary table needs a transaction")
        connection.read_only = True
        assert connection.execute("SHOW transaction_read_only").fetchone() == ("on",)
        try:
            connection.execute("INSERT INTO kept VALUES (2)")
        except psycopg.Error as error:
            assert error.sqlstate == "25006", error
        else:
            raise AssertionError("a read-only transaction writes nothing")
        connection.rollback()
        connection.read_only = None
        connection.execute("INSERT INTO kept VALUES (2)")
        connection.rollback()
        with_read_only_default(other)


def with_read_only_default(connection: psycopg.Connection) -> None:
    """Makes transactions and single statements read-only by default, as JDBC drivers do.

    The connection has autocommit.
    """

    def rejects(statement: str) -> None:
        try:
            connection.execute(statement)
        except psycopg.Error as error:
            assert error.sqlstate == "25006", error
        else:
            raise AssertionError(f"`{statement}` writes in a read-only transaction")

    def shown(name: str) -> str:
        return connection.execute(f"SHOW {name}").fetchone()[0]

    insert = "INSERT INTO kept VALUES (3)"
    connection.execute("SET SESSION CHARACTERISTICS AS TRANSACTION READ ONLY")
    assert shown("default_transaction_read_only") == "on"
    assert shown("transaction_read_only") == "on"
    rejects(insert)
    rejects("CREATE TABLE never AS SELECT 1 AS a")
    connection.execute("BEGIN")
    rejects(insert)
    connection.execute("ROLLBACK")
    connection.execute("BEGIN READ WRITE")
    assert shown("transaction_read_only") == "off"
    connection.execute(insert)
    connection.execute("COMMIT")
    rejects(insert)
    connection.execute("SET SESSION CHARACTERISTICS AS TRANSACTION READ WRITE")
    assert shown("transaction_read_only") == "off"
    connection.execute(insert)
    connection.execute("SET default_transaction_read_only = on")
    rejects(insert)
    connection.execute("RESET default_transaction_read_only")
    connection.execute("DELETE FROM kept WHERE a = 3")
    connection.execute("SET default_transaction_isolation = 'read committed'")
    for name in ("default_transaction_isolation", "transaction_isolation"):
        assert shown(name) == "repeatable read", name


def with_declared_types() -> None:
    """Selects parameters whose types psycopg declares, and computes with them."""
    place = {"host": HOST, "port": PORT, "user": "ann", "password": TOKEN, "dbname": "main"}
    pause = datetime.timedelta(days=1, seconds=3)
    moment = datetime.datetime(2024, 2, 29, 1, 2, 3, 4)
    values = (7, 1.5, True, decimal.Decimal("3.50"), b"\x00", DAY, moment, pause, "tea")
    with psycopg.connect(**place, autocommit=True) as connection:
        for binary in (False, True):
            cursor = connection.cursor(binary=binary)
            row = cursor.execute(f"SELECT {', '.join(['%s'] * len(values))}", values).fetchone()
            assert row == values, (binary, row)
            names = [column.name for column in cursor.description]
            assert names == [f"${number}" for number in range(1, len(values) + 1)], names
            sums = "SELECT a + %s AS n, h + %s, now() - %s < now() FROM typed WHERE a = %s LIMIT %s"
            row = cursor.execute(sums, (1, pause, pause, 1, 1)).fetchone()
            assert row == (2, moment + pause, True), (binary, row)


def with_arrays_and_bytes() -> None:
    """Binds arrays and bytes in every format. A copy to another table restores the rows."""
    place = {"host": HOST, "port": PORT, "user": "ann", "password": TOKEN, "dbname": "main"}
    rows = [
        (1, ["x", "y,z", None, "NULL", "", '\\"'], [1, 2], b"\x00\xff\\"),
        (2, [], [], b""),
        (3, None, None, None),
    ]
    with psycopg.connect(**place, autocommit=True) as connection:
        connection.execute(
            "CREATE TABLE packed (id BIGINT, tags TEXT[], numbers BIGINT[], content BYTEA)"
        )
        for form in ("%s", "%t", "%b"):
            connection.execute("DELETE FROM packed")
            insert = f"INSERT INTO packed VALUES (%s, {form}, {form}, {form})"
            for row in rows:
                connection.execute(insert, row)
            found = connection.execute("SELECT * FROM packed ORDER BY id").fetchall()
            assert found == rows, (form, found)
            query = f"SELECT {form}::text[], {form}::bytea, {form}::bytea = content FROM packed"
            values = (["x", "y"], b"\xff", rows[0][3])
            found = connection.execute(f"{query} WHERE id = 1", values).fetchone()
            assert found == (["x", "y"], b"\xff", True), (form, found)
        changed = "UPDATE packed SET tags = %s, content = %s WHERE id = 3"
        connection.execute(changed, (["c", "d"], b"\xfe"))
        found = connection.execute("SELECT tags, content FROM packed WHERE id = 3").fetchone()
        assert found == (["c", "d"], b"\xfe"), found
        connection.execute("UPDATE packed SET tags = NULL, content = NULL WHERE id = 3")
        for wrong in ("INSERT INTO packed (tags) VALUES ('a,b')", "SELECT '{a'::text[]"):
            try:
                connection.execute(wrong)
            except psycopg.Error as error:
                assert error.sqlstate == "22P02", (wrong, error.sqlstate)
            else:
                raise AssertionError(wrong)
        connection.execute("CREATE TABLE unpacked AS SELECT * FROM packed LIMIT 0")
        with_copies(connection, "packed", "unpacked")
        connection.execute(
            "CREATE TABLE kinds (id INT, a BOOLEAN, b REAL, c DOUBLE PRECISION, "
            "d DECIMAL(38, 10), e DATE, f TIME, g TIMESTAMP, h TIMESTAMPTZ, i TEXT, "
            "j STRUCT<a INT, b BYTEA>, k MAP(VARCHAR, INT), l INT[][], m BOOLEAN[], "
            "n TIMESTAMP[], o DECIMAL(10, 2)[], p BYTEA[])"
        )
        connection.execute(
            "INSERT INTO kinds SELECT 1, true, 0.1, 0.2, 3.5, DATE '2024-02-29', "
            "TIME '01:02:03', TIMESTAMP '2024-02-29 01:02:03.000004', "
            "CAST('2024-02-29 01:02:03+02:00' AS TIMESTAMPTZ), 'a\\b', "
            "named_struct('a', 1, 'b', X'00ff'), map(['k'], [2]), [[1, 2], [3]], [true, NULL], "
            "[TIMESTAMP '2024-02-29 01:02:03.000004'], [3.5], [X'00ff', CAST(NULL AS BYTEA)]"
        )
        connection.execute("INSERT INTO kinds (id) VALUES (2)")
        connection.execute("CREATE TABLE other_kinds AS SELECT * FROM kinds LIMIT 0")
        with_copies(connection, "kinds", "other_kinds")


def with_copies(connection: psycopg.Connection, source: str, target: str) -> None:
    """Copies a table to another in every format, and compares the rows."""
    rows = connection.execute(f"SELECT * FROM {source} ORDER BY id").fetchall()
    cursor = connection.cursor()
    for name in ("text", "csv", "binary"):
        connection.execute(f"DELETE FROM {target}")
        with cursor.copy(f"COPY {source} TO STDOUT (FORMAT {name})") as copy:
            data = b"".join(bytes(part) for part in copy)
        with cursor.copy(f"COPY {target} FROM STDIN (FORMAT {name})") as copy:
            copy.write(data)
        found = connection.execute(f"SELECT * FROM {target} ORDER BY id").fetchall()
        assert found == rows, (name, found, rows)


async def with_asyncpg() -> None:
    """Reads prepared statements in binary format, with types that the server infers."""
    connection = await asyncpg.connect(
        host=HOST, port=PORT, user="ann", password=TOKEN, database="main", ssl=False
    )
    assert await connection.fetchval("SELECT id FROM sales WHERE day = $1", DAY) == 1
    row = await connection.fetchrow("SELECT price, day, paid FROM sales WHERE id = $1", 1)
    assert tuple(row) == (decimal.Decimal("3.50"), DAY, True), row
    # The values have the types that the description announced: `typed.b` is an INT.
    assert await connection.fetchval("SELECT b + $1 FROM typed WHERE a = $2 LIMIT $3", 5, 1, 1) == 3
    row = await connection.fetchrow("SELECT $1::int + 1, $2::date, $3::real", 6, DAY, 0.5)
    assert tuple(row) == (7, DAY, 0.5), row
    # asyncpg reads the types of arrays from the catalogs, and encodes their values in binary.
    assert await connection.fetchval("SELECT a FROM typed WHERE a = ANY($1::int[])", [1, 7]) == 1
    # A parameter in ANY is an array of the type of the other side.
    await connection.execute("CREATE TABLE moments (id INT, at TIMESTAMPTZ)")
    await connection.execute("INSERT INTO moments VALUES (1, '2024-02-29 01:02:03Z')")
    zoned = datetime.datetime(2024, 2, 29, 1, 2, 3, tzinfo=datetime.timezone.utc)
    assert await connection.fetchval("SELECT id FROM moments WHERE at = ANY($1)", [zoned]) == 1
    assert await connection.fetchval("SELECT id FROM moments WHERE id <> ALL($1)", [2, 3]) == 1
    moment = datetime.datetime(2024, 2, 29, 1, 2, 3)
    arrays = (["x", None, "y,z"], [1, None], [2], [3], [0.5], [True], [DAY], [moment])
    types = ("text", "int4", "int2", "bigint", "float8", "boolean", "date", "timestamp")
    columns = [f"${number}::{name}[]" for number, name in enumerate(types, 1)]
    row = await connection.fetchrow(f"SELECT {', '.join(columns)}", *arrays)
    assert tuple(row) == tuple(list(array) for array in arrays), row
    row = await connection.fetchrow("SELECT tags, numbers FROM packed WHERE id = 1")
    assert (row["tags"][0], row["numbers"]) == ("x", [1, 2]), row
    insert = "INSERT INTO packed (id, tags, numbers) VALUES (9, $1::text[], $2::bigint[])"
    await connection.execute(insert, ["a"], [1, 2])
    assert await connection.fetchval("SELECT numbers FROM packed WHERE id = 9") == [1, 2]
    await connection.execute("SELECT set_config('app.user', 'ann', false)")
    query = "SELECT current_setting('app.user') AS old, set_config('app.user', $1, false) AS new, 7"
    assert tuple(await connection.fetchrow(query, "bob")) == ("ann", "bob", 7)
    # A connection pool resets its connections.
    await connection.reset()
    # asyncpg sends no Sync before the error arrives.
    try:
        await asyncio.wait_for(connection.prepare("SELECT nothing FROM sales"), 60)
    except asyncpg.UndefinedColumnError:
        pass
    else:
        raise AssertionError("the column does not exist")
    await connection.close()


with_psycopg()
with_transactions()
with_equal_changes()
with_copy()
with_binary_copy()
with_columns_that_first_appear_late()
with_arrays_and_temporary_tables()
with_arrays_and_bytes()
with_declared_types()
asyncio.run(with_asyncpg())
