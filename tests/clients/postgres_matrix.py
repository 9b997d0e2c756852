"""Executes statements as several users, and prints the SQLSTATE of each.

    postgres_matrix.py HOST PORT < CASES

The standard input is a JSON object with `users` (names with their passwords), `rows` (each row is
one or more statements, separated by semicolons) and `endless` (a statement that does not end). Each
row is executed in the simple and in the extended protocol. The output contains, for each user and
row, two SQLSTATEs; `00000` means success.

Needs: psycopg.
"""

import json
import sys
import threading

import psycopg

HOST, PORT = sys.argv[1:3]
WORKS = "00000"


def connect(user, password):
    return psycopg.connect(
        host=HOST, port=PORT, user=user, password=password, dbname="main", autocommit=True
    )


def copy(connection, sql):
    """Copies a row to the server, or all rows from the server."""
    with connection.cursor() as cursor, cursor.copy(sql) as copied:
        if " FROM STDIN" in sql:
            copied.write("7\n")
        else:
            list(copied)


def simple(connection, sql):
    result = connection.pgconn.exec_(sql.encode())
    failed = psycopg.pq.ExecStatus.FATAL_ERROR
    if result.status == failed:
        return result.error_field(psycopg.pq.DiagnosticField.SQLSTATE).decode()
    return WORKS


def extended(connection, sql):
    for statement in sql.split(";"):
        connection.execute(statement.strip(), prepare=True)
    return WORKS


def state(run, connection, sql):
    """Executes a statement and returns its SQLSTATE. Rolls back if a transaction is still open."""
    try:
        found = run(connection, sql) or WORKS
    except psycopg.Error as error:
        found = error.sqlstate
    if connection.info.transaction_status != psycopg.pq.TransactionStatus.IDLE:
        connection.execute("ROLLBACK")
    return found


def cancelled(connection, endless):
    """Returns the SQLSTATE of a statement that its own session has cancelled."""
    ended = threading.Event()

    def cancel():
        while not ended.wait(0.05):
            connection.cancel()

    canceller = threading.Thread(target=cancel)
    canceller.start()
    try:
        return state(simple, connection, endless)
    finally:
        ended.set()
        canceller.join()


def main():
    cases = json.load(sys.stdin)
    answers = {}
    for user, password in cases["users"]:
        connection = connect(user, password)
        found = {}
        for name, sql in cases["rows"]:
            forms = [copy] if " STD" in sql else [simple, extended]
            states = [state(form, connection, sql) for form in forms]
            found[name] = [states[0], states[-1]]
        found["other::cancel"] = [cancelled(connection, cases["endless"])] * 2
        answers[user] = found
        connection.close()
    json.dump(answers, sys.stdout)


main()
