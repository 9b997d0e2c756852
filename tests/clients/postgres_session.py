"""Tests of sessions with psycopg: settings, SQLSTATEs, prepared statements in SQL, equal names.

Arguments: host, port, token.
"""

from __future__ import annotations

import sys
import time

import psycopg

HOST, PORT, TOKEN = sys.argv[1], int(sys.argv[2]), sys.argv[3]


def with_settings() -> None:
    """Sets settings of the connection, of the session and of a transaction."""
    place = {"host": HOST, "port": PORT, "user": "ann", "password": TOKEN, "dbname": "main"}
    options = "-csearch_path=first -capplication_name=tests"
    with psycopg.connect(**place, options=options, autocommit=True) as connection:
        # DISCARD ALL removes prepared statements, which psycopg would use again.
        connection.prepare_threshold = None

        def shown(name: str = "search_path") -> str:
            cursor = connection.execute(f"SHOW {name}")
            assert cursor.description[0].name == name, cursor.description
            return cursor.fetchone()[0]

        assert (shown(), shown("TimeZone")) == ("first", "UTC")
        connection.execute("SET search_path = second")
        connection.execute("SET application_name = other")
        for reset in ("RESET search_path", "RESET ALL", "DISCARD ALL"):
            connection.execute("SET search_path = second")
            connection.execute(reset)
            assert shown() == "first", reset
        assert connection.info.parameter_status("application_name") == "tests"
        connection.execute("SET LOCAL search_path = second")
        assert shown() == "first", "SET LOCAL needs a transaction"
        for end, expected in (("COMMIT", "third"), ("ROLLBACK", "first")):
            connection.execute("BEGIN")
            connection.execute("SET search_path = third")
            connection.execute("SET LOCAL search_path = second")
            connection.execute("SAVEPOINT One")
            connection.execute("SET LOCAL search_path = other")
            connection.execute("ROLLBACK TO one")
            assert shown() == "second"
            connection.execute(end)
            assert shown() == expected, end
            connection.execute("RESET search_path")
        connection.execute("DISCARD PLANS")
        connection.execute("ANALYZE")
        connection.execute("BEGIN")
        try:
            connection.execute("COMMIT AND CHAIN")
        except psycopg.errors.FeatureNotSupported:
            connection.execute("ROLLBACK")
        else:
            raise AssertionError("the new transaction is missing")


def with_sqlstates() -> None:
    """Errors have the SQLSTATEs of PostgreSQL, by which drivers choose the exception class."""
    place = {"host": HOST, "port": PORT, "user": "ann", "password": TOKEN, "dbname": "main"}
    with psycopg.connect(**place, autocommit=True) as connection:
        connection.execute("CREATE TABLE states (id INT NOT NULL)")
        connection.execute("INSERT INTO states VALUES (1)")
        for statement, expected in (
            ("SELECT 1 / 0", "22012"),
            ("SELECT id / (id - 1) FROM states", "22012"),
            ("SELECT 9223372036854775807 + 1", "22003"),
            ("SELECT '99999999999'::int", "22003"),
            ("SELECT 'x'::int", "22P02"),
            ("SELECT 'never'::date", "22007"),
            ("SELECT 'never'::timestamp", "22007"),
            ("INSERT INTO states VALUES (NULL)", "23502"),
            ("SELECT nothing(id) FROM states", "42883"),
            ("SELECT id FROM states AS a, states AS b", "42702"),
            ("SELECT id FROM states GROUP BY id + 1", "42803"),
            ("SELECT nothing FROM states", "42703"),
            ("SELECT nothing.id FROM states", "42P01"),
            ("SELECT * FROM stats", "42P01"),
            ("CREATE TABLE states (id INT)", "42P07"),
            ("SELEC 1", "42601"),
            ("DEALLOCATE nothing", "26000"),
            ("SHOW nothing", "42704"),
        ):
            for prepare in (False, True):
                try:
                    connection.execute(statement, prepare=prepare)
                except psycopg.Error as error:
                    assert error.sqlstate == expected, (statement, error.sqlstate, str(error))
                else:
                    raise AssertionError(statement)


def with_session_functions() -> None:
    """Statements that only the session knows: settings in SQL, waiting, PREPARE and EXECUTE."""
    place = {"host": HOST, "port": PORT, "user": "ann", "password": TOKEN, "dbname": "main"}
    with psycopg.connect(**place, autocommit=True) as connection:

        def answer(sql: str, *values: object) -> object:
            cursor = connection.execute(sql, values or None)
            row = cursor.fetchone()
            return row[0] if row else None

        assert answer("SELECT set_config('work_mem', '64MB', false)") == "64MB"
        assert answer("SHOW work_mem") == "64MB"
        assert answer("SELECT set_config('app.user', %s, %s)", "it's", False) == "it's"
        assert answer("SELECT current_setting('app.user', true)") == "it's"
        with_select_lists(connection)
        assert answer("SELECT pg_catalog.set_config('search_path', '', false)") == ""
        connection.execute("RESET search_path")
        with connection.transaction():
            assert answer("SELECT set_config('app.user', 'local', true)") == "local"
            assert answer("SHOW app.user") == "local"
        assert answer("SHOW app.user") == "it's"
        connection.execute("SET default_transaction_deferrable = on")
        assert answer("SHOW default_transaction_deferrable") == "on"
        started = time.monotonic()
        assert answer("SELECT pg_sleep(0.3)") == ""
        assert time.monotonic() - started >= 0.3
        connection.execute("SET statement_timeout = 100")
        try:
            connection.execute("SELECT pg_sleep(60)")
        except psycopg.errors.QueryCanceled:
            connection.execute("RESET statement_timeout")
        else:
            raise AssertionError("the timeout has no effect")
        connection.execute("CREATE TABLE prepared (id INT, name TEXT)")
        connection.execute("PREPARE add (int, text) AS INSERT INTO prepared VALUES ($1, $2)")
        assert connection.execute("EXECUTE add (1, 'a')").statusmessage == "INSERT 0 1"
        connection.execute("EXECUTE add (2, NULL)")
        connection.execute("PREPARE named AS SELECT name, id FROM prepared WHERE id = $1")
        for prepare in (False, True):
            cursor = connection.execute("EXECUTE named (1)", prepare=prepare)
            assert [column.name for column in cursor.description or ()] == ["name", "id"]
            assert (cursor.fetchall(), cursor.statusmessage) == ([("a", 1)], "SELECT 1")
        connection.execute("DEALLOCATE named")
        try:
            connection.execute("EXECUTE named (1)")
        except psycopg.errors.InvalidSqlStatementName:
            pass
        else:
            raise AssertionError("the statement was removed")


def with_select_lists(connection: psycopg.Connection) -> None:
    """Selects several settings. The columns are evaluated from left to right."""

    def row(sql: str, *values: object) -> tuple:
        found = []
        for prepare in (False, True):
            connection.execute("SET app.step = 'first'")
            cursor = connection.execute(sql, values or None, prepare=prepare)
            found.append(cursor.fetchone())
        assert found[0] == found[1], found
        return found[0]

    setting = "current_setting('app.step')"
    changed = "set_config('app.step', 'next', false)"
    query = f"SELECT {setting} AS old, {changed}, {setting}, 'a', 7, true"
    assert row(query) == ("first", "next", "next", "a", 7, True)
    assert row("SELECT set_config('app.step', %s, true), " + setting, "b") == ("b", "b")
    assert row("SELECT " + setting) == ("first",)
    assert row("SELECT set_config('app.step', NULL, false), 1") == ("", 1)
    query = "SELECT set_config('work_mem', '1MB', false) FROM pg_show_all_settings() WHERE name = "
    assert (row(query + "'work_mem'"), row(query + "'no_setting'")) == (("1MB",), None)
    # A statement that fails changes nothing.
    for failing in ("set_config('no_setting', 'a', false)", "current_setting('app.none')"):
        try:
            connection.execute(f"SELECT set_config('app.step', 'lost', false), {failing}")
        except psycopg.errors.UndefinedObject:
            assert connection.execute("SHOW app.step").fetchone() == ("first",), failing
        else:
            raise AssertionError(failing)
    # A prepared statement returns the current value.
    query = "SELECT current_setting(%s), " + setting
    for value in ("one", "two"):
        connection.execute(f"SET app.step = '{value}'")
        assert connection.execute(query, ("app.step",), prepare=True).fetchone() == (value, value)
    assert row("SELECT current_setting('app.none', true)") == (None,)
    try:
        connection.execute("SELECT current_setting('app.none')")
    except psycopg.errors.UndefinedObject:
        pass
    else:
        raise AssertionError("the setting does not exist")


def with_tools() -> None:
    """Sends statements of Npgsql, Grafana, pgAdmin and DataGrip."""
    place = {"host": HOST, "port": PORT, "user": "ann", "password": TOKEN, "dbname": "main"}
    with psycopg.connect(**place, autocommit=True) as connection:

        def rows(sql: str) -> list:
            return connection.execute(sql).fetchall()

        connection.execute("CREATE TABLE tooled (id INT, tags TEXT[])")
        # Npgsql recognizes array types by the function that receives their values.
        types = """
            SELECT typ.typname,
                CASE WHEN proc.proname = 'array_recv' THEN 'a' ELSE typ.typtype END AS typtype,
                CASE WHEN proc.proname = 'array_recv' THEN typ.typelem
                    WHEN typ.typtype = 'r' THEN rngsubtype
                    WHEN typ.typtype = 'd' THEN typ.typbasetype
                END AS elemtypoid
            FROM pg_type AS typ
            LEFT JOIN pg_class AS cls ON (cls.oid = typ.typrelid)
            LEFT JOIN pg_proc AS proc ON proc.oid = typ.typreceive
            LEFT JOIN pg_range ON (pg_range.rngtypid = typ.oid)
            WHERE typ.typname IN ('_int4', 'text') ORDER BY 1"""
        assert rows(types) == [("_int4", "a", 23), ("text", "b", None)]
        names = "user, current_user, session_user, current_catalog, current_role, current_schema"
        cursor = connection.execute(f"SELECT {names}")
        assert [column.name for column in cursor.description] == names.split(", ")
        assert cursor.fetchall() == [("ann", "ann", "ann", "main", "ann", "public")]
        # psycopg reads the type json as a list.
        for options in ("FORMAT JSON", "ANALYZE, BUFFERS, FORMAT JSON"):
            query = f"EXPLAIN ({options}) SELECT id FROM tooled WHERE id > 1 ORDER BY id"
            ((document,),) = rows(query)
            plan = document[0]["Plan"]
            assert isinstance(plan["Node Type"], str) and plan["Total Cost"] >= 0, plan
            assert plan["Startup Cost"] == 0 and plan["Plan Rows"] >= 0, plan
            assert plan["Plans"][0]["Parent Relationship"] == "Outer", plan
        # Grafana splits the search path.
        path = """quote_ident(table_schema) IN (
            SELECT CASE WHEN trim(s[i]) = '"$user"' THEN user ELSE trim(s[i]) END
            FROM generate_series(
                array_lower(string_to_array(current_setting('search_path'), ','), 1),
                array_upper(string_to_array(current_setting('search_path'), ','), 1)) AS i,
                string_to_array(current_setting('search_path'), ',') s)"""
        tables = f"""
            SELECT CASE WHEN {path} THEN quote_ident(table_name)
                ELSE quote_ident(table_schema) || '.' || quote_ident(table_name) END AS "table"
            FROM information_schema.tables WHERE table_name = 'tooled'"""
        assert rows(tables) == [("tooled",)]
        # pgAdmin
        columns = """
            SELECT at.attname, ty.typname FROM pg_catalog.pg_attribute at
            LEFT JOIN pg_catalog.pg_type ty ON (ty.oid = at.atttypid)
            WHERE attrelid = 'tooled'::regclass ORDER BY at.attnum"""
        assert rows(columns) == [("id", "int4"), ("tags", "_text")]
        query = "SELECT relname FROM pg_class WHERE oid = ANY(ARRAY("
        assert ("tooled",) in rows(query + "SELECT attrelid FROM pg_attribute))")
        connection.execute("SET work_mem = '7MB'")
        query = "SELECT setting FROM pg_settings WHERE name IN ('max_index_keys', 'work_mem')"
        assert sorted(rows(query)) == [("32",), ("7MB",)]
        # DataGrip
        (started,) = rows("SELECT round(extract(epoch FROM pg_postmaster_start_time()))")[0]
        assert 0 < time.time() - float(started) < 86_400
        assert rows("SELECT pg_advisory_unlock_all(), current_role") == [("", "ann")]
        for name in ("pg_stat_ssl", "pg_stat_database", "information_schema.role_table_grants"):
            assert rows(f"SELECT * FROM {name}") == []
        assert rows("SHOW max_connections") == [("100",)]
        # TypeORM
        assert rows("SELECT * FROM current_database()") == [("main",)]
        types = """
            SELECT column_name, ('"' || "udt_schema" || '"."' || "udt_name" || '"')::"regtype"
            FROM information_schema.columns WHERE table_name = 'tooled' ORDER BY ordinal_position"""
        assert rows(types) == [("id", "integer"), ("tags", "text[]")]
        # Django lists the indexes of a table.
        indexes = """
            SELECT indexname, array_agg(attname ORDER BY arridx), indisunique FROM (
                SELECT c2.relname AS indexname, idx.*, attr.attname FROM (
                    SELECT * FROM pg_index i, unnest(i.indkey, i.indoption) WITH ORDINALITY
                        koi(key, option, arridx)) idx
                LEFT JOIN pg_class c ON idx.indrelid = c.oid
                LEFT JOIN pg_class c2 ON idx.indexrelid = c2.oid
                LEFT JOIN pg_attribute attr ON attr.attrelid = c.oid AND attr.attnum = idx.key
                WHERE c.relname = 'tooled' AND pg_catalog.pg_table_is_visible(c.oid)) s2
            GROUP BY indexname, indisunique"""
        assert rows(indexes) == []
        # Power BI
        query = "SELECT character_set_name FROM INFORMATION_SCHEMA.character_sets"
        assert rows(query) == [("UTF8",)]


def with_advisory_locks() -> None:
    """Takes locks as the migrations of Rails, Flyway and golang-migrate do."""
    place = {"host": HOST, "port": PORT, "user": "ann", "password": TOKEN, "dbname": "main"}
    with (
        psycopg.connect(**place, autocommit=True) as one,
        psycopg.connect(**place, autocommit=True) as two,
    ):

        def called(connection: psycopg.Connection, function: str, *key: int) -> object:
            keys = ", ".join(["%s"] * len(key))
            return connection.execute(f"SELECT {function}({keys})", key).fetchone()[0]

        assert called(one, "pg_try_advisory_lock", 2053462845) is True
        assert called(one, "pg_advisory_lock", 2053462845) == ""
        assert called(two, "pg_try_advisory_lock", 2053462845) is False
        assert called(two, "pg_try_advisory_lock", 1, 2) is True
        assert called(two, "pg_advisory_unlock", 2053462845) is False
        two.execute("SET statement_timeout = '100ms'")
        try:
            called(two, "pg_advisory_lock", 2053462845)
        except psycopg.errors.QueryCanceled:
            pass
        else:
            raise AssertionError("the lock is held")
        two.execute("RESET statement_timeout")
        assert called(one, "pg_advisory_unlock", 2053462845) is True
        assert called(two, "pg_try_advisory_lock", 2053462845) is False
        assert one.execute("SELECT pg_advisory_unlock(2053462845)").fetchone() == (True,)
        assert called(two, "pg_try_advisory_lock", 2053462845) is True
        for connection in (one, two):
            assert called(connection, "pg_try_advisory_lock_shared", 8) is True
        assert called(one, "pg_try_advisory_lock", 8) is False, "the other connection shares it"
        assert called(two, "pg_advisory_unlock_shared", 8) is True
        assert called(one, "pg_try_advisory_xact_lock", 8) is True
        assert called(one, "pg_advisory_unlock_shared", 8) is True
        query = "SELECT pg_try_advisory_lock(hashtext(%s))"
        assert one.execute(query, ("migrations",)).fetchone() == (True,)
        # psycopg, node-postgres and JDBC also compute the number first.
        ((number,),) = one.execute("SELECT hashtext('migrations')::bigint").fetchall()
        assert called(two, "pg_try_advisory_lock", number) is False
        assert called(one, "pg_advisory_unlock", number) is True
        with one.transaction():
            assert called(one, "pg_try_advisory_xact_lock", 7) is True
            assert called(two, "pg_try_advisory_xact_lock", 7) is False
        assert called(two, "pg_try_advisory_xact_lock", 7) is True
        assert called(one, "pg_try_advisory_lock", 7) is True, "released after the statement"
        two.close()
        # The server may notice the end of the connection later.
        assert called(one, "pg_advisory_lock", 2053462845) == ""
        one.execute("SELECT pg_advisory_unlock_all()")


def with_equal_names() -> None:
    """A result can have several columns of one name."""
    place = {"host": HOST, "port": PORT, "user": "ann", "password": TOKEN, "dbname": "main"}
    with psycopg.connect(**place, autocommit=True) as connection:
        connection.execute("CREATE TABLE equals (id INT, name TEXT)")
        connection.execute("INSERT INTO equals VALUES (1, 'a')")
        for prepare in (False, True):
            query = "SELECT *, id, upper(name) AS name FROM equals"
            cursor = connection.execute(query, prepare=prepare)
            assert [column.name for column in cursor.description or ()] == ["id", "name"] * 2
            assert cursor.fetchall() == [(1, "a", 1, "A")]
            cursor = connection.execute("SELECT *, equals.* FROM equals", prepare=prepare)
            assert [column.name for column in cursor.description or ()] == ["id", "name"] * 2
            assert cursor.fetchall() == [(1, "a", 1, "a")]


with_settings()
with_sqlstates()
with_session_functions()
with_tools()
with_advisory_locks()
with_equal_names()
