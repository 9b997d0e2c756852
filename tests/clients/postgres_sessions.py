"""Tests of `pg_stat_activity`, `pg_cancel_backend` and `pg_terminate_backend` with psycopg.

Arguments: host, port, the server's token, the tokens of the users ana and eve, and a statement that
runs for hours.
"""

from __future__ import annotations

import sys
import threading
import time

import psycopg

HOST, PORT, OWNER, ANA, EVE, ENDLESS = sys.argv[1:7]
TOKENS = {"owner": OWNER, "ana": ANA, "eve": EVE}


def connect(user: str, name: str = "", autocommit: bool = True) -> psycopg.Connection:
    """Connects as a user, with a name of the client program."""
    return psycopg.connect(
        host=HOST,
        port=PORT,
        user=user,
        password=TOKENS[user],
        dbname="main",
        application_name=name,
        autocommit=autocommit,
    )


def rows(connection: psycopg.Connection, sql: str, *parameters: object) -> list[tuple]:
    """Returns the rows of a query."""
    return connection.execute(sql, parameters or None).fetchall()


class Endless:
    """A connection that runs a statement in a thread until it is stopped."""

    def __init__(self, user: str, name: str, sql: str = ENDLESS) -> None:
        self.connection = connect(user, name)
        self.sql, self.error = sql, None
        self.thread = threading.Thread(target=self.run)
        self.thread.start()

    def run(self) -> None:
        try:
            self.connection.execute(self.sql)
        except psycopg.Error as error:
            self.error = error

    def state(self) -> str:
        """Waits for the end. Returns the SQLSTATE."""
        self.thread.join(timeout=60)
        assert not self.thread.is_alive(), "the statement is still running"
        assert self.error is not None, "the statement ended without an error"
        return self.error.sqlstate


def until_running(connection: psycopg.Connection, name: str) -> int:
    """Waits until the statement of a client program is running. Returns the number of its
    connection."""
    sql = "SELECT pid, state FROM pg_stat_activity WHERE application_name = %s"
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        found = rows(connection, sql, name)
        if found and found[0][1] == "active":
            return found[0][0]
        time.sleep(0.05)
    raise AssertionError(f"{name} does not run")


def shows_connections() -> None:
    """A row has the client, the state and the last statement of a connection."""
    with connect("ana", "first", autocommit=False) as first, connect("ana") as second:
        shown = (
            "SELECT datname, usename, state, query, backend_type, client_addr, "
            "backend_start <= now() FROM pg_stat_activity WHERE pid = %s"
        )
        pid = first.info.backend_pid
        assert rows(first, "SELECT pg_backend_pid()") == [(pid,)]
        assert rows(second, shown, pid) == [
            (
                "main",
                "ana",
                "idle in transaction",
                "SELECT pg_backend_pid()",
                "client backend",
                "127.0.0.1",
                True,
            )
        ]
        first.rollback()
        assert rows(second, shown, pid)[0][2] == "idle"
        second.execute("SET application_name = 'renamed'")
        named = "SELECT application_name FROM pg_stat_activity WHERE pid = pg_backend_pid()"
        assert rows(second, named) == [("renamed",)]
        second.execute("SELECT * FROM pg_catalog.pg_stat_activity")


def cancels_a_statement() -> None:
    """The cancelled statement has the SQLSTATE 57014, and its connection remains usable."""
    long = Endless("ana", "long")
    with connect("ana") as other:
        until_running(other, "long")
        query = (
            "SELECT pg_cancel_backend(pid) FROM pg_stat_activity "
            "WHERE state = 'active' AND query LIKE 'WITH d(x)%' AND pid <> pg_backend_pid()"
        )
        assert rows(other, query) == [(True,)]
        assert long.state() == "57014", long.error
        assert rows(long.connection, "SELECT 1") == [(1,)]
        assert rows(other, query) == []
        idle = long.connection.info.backend_pid
        assert rows(other, "SELECT pg_cancel_backend(%s)", idle) == [(True,)]
        assert rows(long.connection, "SELECT 2") == [(2,)], "an idle connection is unchanged"
    long.connection.close()


def ends_a_connection() -> None:
    """The ended connection has the SQLSTATE 57P01, and its transaction is rolled back."""
    with connect("owner") as owner:
        owner.execute("CREATE TABLE shop.notes (id BIGINT)")
        long = Endless("ana", "ended")
        pid = until_running(owner, "ended")
        # As Superset's button that stops a query.
        sql = f"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE pid='{pid}'"
        assert rows(owner, sql) == [(True,)]
        assert long.state() == "57P01", long.error
        assert long.connection.closed
        writer = connect("owner", "writer", autocommit=False)
        writer.execute("INSERT INTO shop.notes VALUES (1)")
        pid = writer.info.backend_pid
        assert rows(owner, "SELECT pg_terminate_backend(%s)", pid) == [(True,)]
        try:
            writer.execute("SELECT 1")
            raise AssertionError("the connection was not ended")
        except psycopg.OperationalError as error:
            assert error.sqlstate in ("57P01", None), error
        deadline = time.monotonic() + 60
        while rows(owner, "SELECT pid FROM pg_stat_activity WHERE pid = %s", pid):
            assert time.monotonic() < deadline, "the connection is still shown"
            time.sleep(0.05)
        assert rows(owner, "SELECT count(*) FROM shop.notes") == [(0,)]
        assert rows(owner, "SELECT pg_terminate_backend(%s)", pid) == [(False,)]


def ends_copies() -> None:
    """A COPY that waits for rows of its client is cancelled too."""
    with connect("owner", "copy") as copying, connect("owner") as owner:
        cursor = copying.cursor()
        try:
            with cursor.copy("COPY shop.notes FROM STDIN") as copy:
                copy.write(b"1\n")
                until_running(owner, "copy")
                pid = copying.info.backend_pid
                assert rows(owner, "SELECT pg_cancel_backend(%s)", pid) == [(True,)]
            raise AssertionError("the COPY was not cancelled")
        except psycopg.Error as error:
            assert error.sqlstate == "57014", error
        assert rows(owner, "SELECT count(*) FROM shop.notes") == [(0,)]


def separates_users() -> None:
    """A user neither sees nor signals the connections of others; an administrator does both."""
    long = Endless("ana", "of ana")
    with connect("eve") as eve, connect("owner") as owner:
        pid = until_running(owner, "of ana")
        assert rows(eve, "SELECT DISTINCT usename FROM pg_stat_activity") == [("eve",)]
        for function in ("pg_cancel_backend", "pg_terminate_backend"):
            assert rows(eve, f"SELECT {function}({pid})") == [(False,)]
            numbers = f"SELECT bool_or({function}(n)) FROM generate_series(1, 500) AS t (n)"
            numbers += f" WHERE n <> {eve.info.backend_pid}"
            assert rows(eve, numbers) == [(False,)]
        assert long.thread.is_alive()
        users = "SELECT DISTINCT usename FROM pg_stat_activity ORDER BY usename"
        assert rows(owner, users) == [("ana",), ("eve",), ("owner",)]
        assert rows(owner, f"SELECT pg_cancel_backend({pid})") == [(True,)]
    assert long.state() == "57014", long.error
    long.connection.close()


for test in [
    shows_connections,
    cancels_a_statement,
    ends_a_connection,
    ends_copies,
    separates_users,
]:
    test()
    print(test.__name__)
