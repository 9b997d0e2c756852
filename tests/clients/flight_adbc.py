"""ADBC over Arrow Flight SQL: statements, metadata, prepared statements, ingestion, cancel.

Arguments: the server's URI, its token, a user with a password as NAME:PASSWORD, and the page of the
documentation, whose example runs in the current folder, which is that of the server.
"""

from __future__ import annotations

import datetime
import decimal
import pathlib
import sys
import threading
import time

import adbc_driver_flightsql.dbapi as flight_sql
import adbc_driver_manager
import polars
import pyarrow
from adbc_driver_flightsql import DatabaseOptions

URI, TOKEN, USER, PAGE = sys.argv[1:]
HEADER = DatabaseOptions.RPC_CALL_HEADER_PREFIX.value
DAY = datetime.date(2024, 2, 29)


def connect(reference: str = "main", autocommit: bool = True):
    """Opens a connection at a ref with the server's token."""
    arguments = {
        DatabaseOptions.AUTHORIZATION_HEADER.value: f"Bearer {TOKEN}",
        f"{HEADER}x-headwater-ref": reference,
    }
    return flight_sql.connect(URI, db_kwargs=arguments, autocommit=autocommit)


def runs_statements() -> None:
    """Creates, writes and reads tables, and reads errors with their hints."""
    with connect() as connection, connection.cursor() as cursor:
        cursor.execute("CREATE TABLE orders (id BIGINT, product VARCHAR, price DECIMAL(10, 2))")
        cursor.fetchall()
        cursor.execute("INSERT INTO orders VALUES (1, 'tea', 3.50), (2, 'cup', 12)")
        assert cursor.fetchone()[0] == 2
        cursor.execute("SELECT * FROM orders ORDER BY id")
        rows = cursor.fetch_arrow_table()
        assert rows.column_names == ["id", "product", "price"], rows
        assert rows["price"].to_pylist() == [decimal.Decimal("3.50"), decimal.Decimal(12)]
        cursor.execute("SELECT value FROM generate_series(1, 300000)")
        assert cursor.fetch_arrow_table().num_rows == 300_000
        cursor.execute("EXPLAIN SELECT * FROM orders")
        assert cursor.fetchall()
        for wrong, found, hint in [
            ("SELECT * FROM ordres", "line 1, column 15", "Did you mean `orders`?"),
            ("SELEC 1", "line 1, column 1", "Did you mean `SELECT`?"),
            ("SELECT 1 / 0", "division by zero", ""),
        ]:
            try:
                cursor.execute(wrong)
                cursor.fetchall()
            except adbc_driver_manager.Error as error:
                assert found in str(error) and hint in str(error), error
            else:
                raise AssertionError(wrong)


def runs_the_example() -> None:
    """Runs the example of the documentation."""
    (example,) = [
        block
        for block in pathlib.Path(PAGE).read_text().split("```text\n")
        if block.startswith("import ")
    ]
    example = example.split("```")[0].replace("grpc://127.0.0.1:4280", URI)
    names: dict[str, object] = {}
    exec(example, names)
    assert names["orders"].num_rows == 1, names["orders"]
    with connect() as connection, connection.cursor() as cursor:
        cursor.execute("SELECT count(*) FROM copied")
        assert cursor.fetchone() == (1,)


def binds_parameters() -> None:
    """Prepares statements, binds every type, and inserts many rows with one statement."""
    with connect() as connection, connection.cursor() as cursor:
        cursor.execute("SELECT id FROM orders WHERE product = ? AND price < ?", ("tea", 10))
        assert cursor.fetchall() == [(1,)]
        moment = datetime.datetime(2024, 2, 29, 1, 2, 3, 4)
        values = (True, -7, 0.5, "it's", DAY, moment, decimal.Decimal("1.50"), None)
        cursor.execute("SELECT $1, $2, $3, $4, $5, $6, $7, $8", values)
        assert cursor.fetchone() == values
        cursor.executemany(
            "INSERT INTO orders VALUES ($1, $2, $3)",
            [(3, "pot", decimal.Decimal("40.25")), (4, None, None)],
        )
        cursor.execute("SELECT count(*), max(price) FROM orders")
        assert cursor.fetchone() == (4, decimal.Decimal("40.25"))
        cursor.adbc_prepare("SELECT product FROM orders WHERE id = $1")
        # One row of parameters for each execution.
        cursor.adbc_statement.bind_stream(pyarrow.table({"1": [1, 3]}).to_reader())
        stream, _ = cursor.adbc_statement.execute_query()
        found = pyarrow.RecordBatchReader._import_from_c(stream.address).read_all()
        assert found["product"].to_pylist() == ["tea", "pot"], found


def reads_metadata() -> None:
    """Lists branches, namespaces, tables and columns, and the properties of the server."""
    with connect() as connection:
        info = connection.adbc_get_info()
        assert info["vendor_name"] == "Headwater", info
        assert connection.adbc_get_table_types() == ["TABLE", "VIEW"]
        objects = connection.adbc_get_objects(depth="all", catalog_filter="main").read_all()
        (catalog,) = objects.to_pylist()
        names = {
            table["table_name"]: [column["column_name"] for column in table["table_columns"]]
            for schema in catalog["catalog_db_schemas"]
            if schema["db_schema_name"] == "public"
            for table in schema["db_schema_tables"]
        }
        assert names["orders"] == ["id", "product", "price"], names
        schema = connection.adbc_get_table_schema("orders")
        assert schema.field("id").type == pyarrow.int64(), schema
        assert connection.adbc_get_table_schema("orders", catalog_filter="main") == schema


def ingests_tables() -> None:
    """Creates, appends to and replaces tables with Arrow data. A failed ingestion changes nothing."""
    rows = pyarrow.table(
        {
            "id": pyarrow.array([1, 2], pyarrow.int32()),
            "note": ["a", None],
            "at": [datetime.datetime(2026, 1, 1, 10), None],
        }
    )
    with connect() as connection, connection.cursor() as cursor:
        assert cursor.adbc_ingest("ingested", rows, mode="create") == 2
        assert cursor.adbc_ingest("ingested", rows, mode="append") == 2
        swapped = rows.select(["note", "id"])
        assert cursor.adbc_ingest("ingested", swapped, mode="create_append") == 2
        assert cursor.adbc_ingest("created", rows, mode="create_append") == 2
        cursor.execute("SELECT count(*), sum(id), count(at) FROM ingested")
        assert cursor.fetchone() == (6, 9, 2)
        assert cursor.adbc_ingest("ingested", rows, mode="replace") == 2
        for table, mode in [("ingested", "create"), ("missing", "append")]:
            try:
                cursor.adbc_ingest(table, rows, mode=mode)
            except adbc_driver_manager.Error as error:
                assert table in str(error), error
            else:
                raise AssertionError((table, mode))
        cursor.execute("SELECT count(*) FROM ingested")
        assert cursor.fetchone() == (2,)
        many = pyarrow.table({"n": pyarrow.array(range(200_000)), "t": ["x" * 20] * 200_000})
        batches = many.to_batches(max_chunksize=10_000)
        reader = pyarrow.RecordBatchReader.from_batches(many.schema, batches)
        assert cursor.adbc_ingest("many", reader, mode="create") == 200_000
        cursor.execute("SELECT count(*) FROM many")
        assert cursor.fetchone() == (200_000,)
        frame = polars.DataFrame({"id": [5], "product": ["jar"], "price": [1.25]})
        frame.write_database("framed", connection, engine="adbc", if_table_exists="replace")
        read = polars.read_database("SELECT product FROM framed", connection)
        assert read["product"].to_list() == ["jar"], read


def uses_transactions() -> None:
    """Commits and rolls back; a conflict is an error, and other clients see nothing until then."""
    with connect() as other, other.cursor() as reader:

        def count() -> int:
            reader.execute("SELECT count(*) FROM orders")
            return reader.fetchone()[0]

        before = count()
        with connect(autocommit=False) as connection:
            with connection.cursor() as cursor:
                cursor.execute("INSERT INTO orders VALUES (5, 'lid', 1)")
                cursor.fetchall()
                assert count() == before
                cursor.execute("SELECT count(*) FROM orders")
                assert cursor.fetchone() == (before + 1,)
            connection.rollback()
            with connection.cursor() as cursor:
                cursor.execute("INSERT INTO orders VALUES (6, 'lid', 1)")
                cursor.fetchall()
            connection.commit()
        assert count() == before + 1
    # Equal changes of the same row conflict too.
    for prices in ((2, 2), (0, 1)):
        with connect(autocommit=False) as one, connect(autocommit=False) as two:
            for price, connection in zip(prices, (one, two), strict=True):
                with connection.cursor() as cursor:
                    cursor.execute(f"UPDATE orders SET price = {price} WHERE id = 1")
                    cursor.fetchall()
            one.commit()
            try:
                two.commit()
            except adbc_driver_manager.Error as error:
                assert "Repeat the transaction" in str(error), error
            else:
                raise AssertionError(f"a conflict of {prices}")


def reads_other_refs() -> None:
    """A header selects a branch."""
    with connect("dev") as connection, connection.cursor() as cursor:
        cursor.execute("CREATE TABLE only_here AS SELECT 7 AS n")
        cursor.fetchall()
        cursor.execute("SELECT n FROM only_here")
        assert cursor.fetchone() == (7,)
    with connect() as connection, connection.cursor() as cursor:
        try:
            cursor.execute("SELECT n FROM only_here")
            cursor.fetchall()
        except adbc_driver_manager.Error as error:
            assert "only_here" in str(error), error
        else:
            raise AssertionError("a table of another branch")


def cancels() -> None:
    """Cancels a statement that would not end."""
    endless = "SELECT sum(a.value * b.value) FROM generate_series(1, 3000000) AS a, \
        generate_series(1, 3000000) AS b"
    with connect() as connection, connection.cursor() as cursor:
        failed: list[BaseException] = []

        def run() -> None:
            try:
                cursor.execute(endless)
                cursor.fetchall()
            except adbc_driver_manager.Error as error:
                failed.append(error)

        thread = threading.Thread(target=run)
        thread.start()
        deadline = time.monotonic() + 60
        with connect() as other, other.cursor() as watcher:
            running = "SELECT count(*) FROM system.jobs WHERE status = 'running' \
                AND summary LIKE '%generate_series(1, 3000000)%' AND summary NOT LIKE '%jobs%'"
            while time.monotonic() < deadline:
                watcher.execute(running)
                if watcher.fetchone()[0] > 0:
                    break
            cursor.adbc_cancel()
            thread.join(60)
            assert failed and not thread.is_alive(), failed
            while time.monotonic() < deadline:
                watcher.execute(running)
                if watcher.fetchone()[0] == 0:
                    return
    raise AssertionError("the statement still runs")


def logs_in_with_a_password() -> None:
    """Logs in with a user name and a password. Wrong credentials are rejected."""
    name, password = USER.split(":", 1)
    options = {"username": name, "password": password}
    with flight_sql.connect(URI, db_kwargs=options, autocommit=True) as connection:
        with connection.cursor() as cursor:
            cursor.execute("SELECT 1")
            cursor.fetchall()
            try:
                cursor.execute("SELECT * FROM orders")
                cursor.fetchall()
            except adbc_driver_manager.Error as error:
                assert "orders" in str(error), error
            else:
                raise AssertionError("a table without a grant")
    token = DatabaseOptions.AUTHORIZATION_HEADER.value
    for wrong in [{"username": name, "password": "wrong"}, {token: "Bearer wrong"}, {}]:
        try:
            with flight_sql.connect(URI, db_kwargs=wrong, autocommit=True) as connection:
                with connection.cursor() as cursor:
                    cursor.execute("SELECT 1")
                    cursor.fetchall()
        except adbc_driver_manager.Error as error:
            text = str(error).lower()
            assert "password" in text or "token" in text, error
        else:
            raise AssertionError(wrong)


runs_statements()
runs_the_example()
binds_parameters()
reads_metadata()
ingests_tables()
uses_transactions()
reads_other_refs()
cancels()
logs_in_with_a_password()
