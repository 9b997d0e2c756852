"""Regression tests of DuckDB and its Iceberg extension.

    duckdb_iceberg.py URL TOKEN

Each step has its own table, on the branch `main`. DuckDB writes the table, and both DuckDB and
Headwater must read the same rows. DuckDB gets its token by OAuth, with the client's secret in an
HTTP Basic header.

Needs: duckdb, pytz, duckdb-extension-iceberg, duckdb-extension-avro, duckdb-extension-httpfs,
pyiceberg[pyarrow].
"""

import datetime
import json
import sys
import traceback
import urllib.error
import urllib.request
import uuid

import duckdb
import duckdb_offline
from pyiceberg.catalog import load_catalog


class Clients:
    """DuckDB with the catalog attached, PyIceberg, and Headwater's HTTP API."""

    def __init__(self, url, token):
        self.url, self.token = url, token
        options = {"uri": f"{url}/iceberg", "token": token}
        self.pyiceberg = load_catalog("lake", type="rest", **options)
        self.connection = duckdb_offline.connect()
        self.duck(
            f"CREATE SECRET lake (TYPE iceberg, CLIENT_ID 'duck', CLIENT_SECRET '{token}', "
            f"OAUTH2_SERVER_URI '{url}/iceberg/v1/oauth/tokens')"
        )
        self.duck(f"ATTACH 'main' AS l (TYPE iceberg, ENDPOINT '{url}/iceberg', SECRET lake)")

    def duck(self, *statements):
        """Executes statements in DuckDB. Returns the rows of the last statement."""
        for sql in statements:
            found = self.connection.execute(sql)
        return found.fetchall()

    def own(self, sql):
        """Executes a statement in Headwater. Returns the rows as tuples."""
        try:
            return self.send(sql)
        except urllib.error.HTTPError as error:
            raise AssertionError(f"{sql}: {error.read().decode()}") from error

    def refused(self, sql):
        """Returns the error that Headwater returns for a statement."""
        try:
            rows = self.send(sql)
        except urllib.error.HTTPError as error:
            return json.load(error)
        raise AssertionError(f"{sql}: {rows}")

    def send(self, sql):
        """Sends a statement to Headwater's HTTP API. Returns the rows as tuples."""
        body = json.dumps({"sql": sql}).encode()
        headers = {"authorization": f"Bearer {self.token}", "content-type": "application/json"}
        request = urllib.request.Request(f"{self.url}/v1/query", data=body, headers=headers)
        with urllib.request.urlopen(request) as response:
            return [tuple(row.values()) for row in json.load(response) or []]

    def check(self, table, rows, columns="*"):
        """Checks that both read these rows, in the order of the first column."""
        sql = f"SELECT {columns} FROM {{}} ORDER BY 1"
        found = {
            "DuckDB": [tuple(map(plain, row)) for row in self.duck(sql.format(f"l.public.{table}"))],
            "Headwater": self.own(sql.format(table)),
        }
        for reader, read in found.items():
            assert read == rows, f"{table} as {reader} reads it: {read} instead of {rows}"


def plain(value):
    """Converts a value to its form in JSON."""
    match value:
        case datetime.datetime() | datetime.date():
            return value.isoformat()
        case uuid.UUID():
            return str(value)
    return value


def texts_of_every_language(clients):
    """DuckDB truncates the bounds of texts to 16 bytes, even within a character."""
    words = ["日本語のテキストです、長い文章", "Ελληνικά κείμενα", "👩‍👩‍👧‍👦👩‍👩‍👧‍👦", "plain and long enough to cut"]
    clients.duck("CREATE TABLE l.public.words (id INTEGER, word VARCHAR)")
    for number, word in enumerate(words):
        clients.duck(f"INSERT INTO l.public.words VALUES ({number}, '{word}')")
    clients.check("words", list(enumerate(words)))
    for number, word in enumerate(words):
        assert clients.own(f"SELECT id FROM words WHERE word = '{word}'") == [(number,)], word


def bounds_are_no_values(clients):
    """DuckDB's bounds of nanoseconds differ from the values, so they must not be used as `min` and
    `max`."""
    clients.duck(
        "CREATE TABLE l.public.nanos (id INTEGER, t TIMESTAMP_NS) WITH ('format-version' = '3')",
        "INSERT INTO l.public.nanos VALUES (1, '2021-06-20 14:45:00')",
    )
    at = "2021-06-20T14:45:00"
    assert clients.own("SELECT id, t FROM nanos") == [(1, at)]
    assert clients.own("SELECT min(t) AS t FROM nanos") == [(at,)]
    assert clients.own("SELECT max(t) AS t FROM nanos") == [(at,)]
    assert clients.own("SELECT count(*) AS n FROM nanos WHERE t = '2021-06-20 14:45:00'") == [(1,)]


def partitions_by_uuid(clients):
    """In a manifest, a UUID as a partition value has sixteen bytes."""
    one, other = str(uuid.UUID(int=7)), str(uuid.UUID(int=2**127 + 5))
    clients.duck(
        "CREATE TABLE l.public.uuids (id INTEGER, v UUID) PARTITIONED BY (v)",
        f"INSERT INTO l.public.uuids VALUES (1, '{one}'), (2, '{other}'), (3, NULL)",
    )
    clients.own("INSERT INTO uuids SELECT id + 3, v FROM uuids")
    rows = [(1, one), (2, other), (3, None), (4, one), (5, other), (6, None)]
    clients.check("uuids", rows)
    assert clients.duck(f"SELECT count(*) FROM l.public.uuids WHERE v = '{one}'") == [(2,)]
    read = clients.pyiceberg.load_table("public.uuids").scan().to_arrow().to_pylist()
    assert sorted((row["id"], row["v"] and str(row["v"])) for row in read) == rows, read


def partitions_by_nanoseconds(clients):
    """In a manifest, nanoseconds as a partition value are a number."""
    clients.duck(
        "CREATE TABLE l.public.moments (id INTEGER, t TIMESTAMP_NS) PARTITIONED BY (t) "
        "WITH ('format-version' = '3')",
        "INSERT INTO l.public.moments VALUES (1, '2021-06-20 14:45:00'), (2, NULL)",
    )
    clients.own("INSERT INTO moments VALUES (3, '2021-06-20 14:45:00')")
    clients.check("moments", [(1,), (2,), (3,)], "id")
    same = clients.own("SELECT count(*) AS n FROM moments WHERE t = '2021-06-20 14:45:00'")
    assert same == [(2,)]


def two_times_of_one_column(clients):
    """A table can be partitioned by the year and the month of the same column."""
    clients.duck(
        "CREATE TABLE l.public.times (id INTEGER, ts TIMESTAMP)",
        "INSERT INTO l.public.times VALUES (1, '2021-06-20 14:45:00')",
        "ALTER TABLE l.public.times SET PARTITIONED BY (year(ts), month(ts))",
        "INSERT INTO l.public.times VALUES (2, '2022-07-20 14:45:00')",
    )
    clients.own("INSERT INTO times VALUES (3, '2023-08-20 14:45:00')")
    clients.own("ALTER TABLE times ADD COLUMN more INT")
    clients.duck("INSERT INTO l.public.times VALUES (4, '2023-08-20 14:45:00', 4)")
    clients.check("times", [(1, None), (2, None), (3, None), (4, 4)], "id, more")
    spec = clients.pyiceberg.load_table("public.times").spec()
    assert [str(field.transform) for field in spec.fields] == ["year", "month"], spec
    clients.duck(
        "CREATE TABLE l.public.days (id INTEGER, ts TIMESTAMP) "
        "PARTITIONED BY (month(ts), day(ts))",
        "INSERT INTO l.public.days VALUES (1, '2021-06-20 14:45:00')",
    )
    clients.check("days", [(1,)], "id")


def upgrades_with_rows(clients):
    """The existing rows of an upgraded table get row ids, and later rows get other row ids."""
    clients.duck(
        "CREATE TABLE l.public.upgraded (id INTEGER)",
        "INSERT INTO l.public.upgraded SELECT range FROM range(10)",
        "ALTER TABLE l.public.upgraded SET ('format-version' = '3')",
        "INSERT INTO l.public.upgraded SELECT range FROM range(10, 15)",
        "INSERT INTO l.public.upgraded SELECT range FROM range(15, 20)",
    )
    clients.own("INSERT INTO upgraded VALUES (20), (21)")
    clients.duck("INSERT INTO l.public.upgraded VALUES (22)")
    clients.check("upgraded", [(number,) for number in range(23)])
    ids = clients.own("SELECT count(*) AS n, count(DISTINCT _row_id) AS ids FROM upgraded")
    assert ids == [(23, 23)], ids


def many_snapshots_in_one_commit(clients):
    """A transaction of many statements commits one snapshot for each statement."""
    clients.duck("CREATE TABLE l.public.many (id INTEGER)", "BEGIN")
    for number in range(60):
        clients.duck(f"INSERT INTO l.public.many VALUES ({number})")
    clients.duck("COMMIT")
    clients.check("many", [(number,) for number in range(60)])


def drops_a_former_partition(clients):
    """All manifests of a transaction have the schema at its end."""
    clients.duck(
        "CREATE TABLE l.public.dropped (id INTEGER, a INTEGER, b INTEGER) PARTITIONED BY (b)",
        "INSERT INTO l.public.dropped VALUES (1, 1, 1)",
        "ALTER TABLE l.public.dropped SET PARTITIONED BY (a)",
        "BEGIN",
        "INSERT INTO l.public.dropped VALUES (2, 2, 2)",
        "ALTER TABLE l.public.dropped DROP COLUMN b",
        "COMMIT",
    )
    clients.check("dropped", [(1, 1), (2, 2)])
    clients.own("INSERT INTO dropped VALUES (3, 3)")
    clients.own("DELETE FROM dropped WHERE id = 1")
    clients.check("dropped", [(2, 2), (3, 3)])


def dates_become_timestamps(clients):
    """Bounds that were written before a column was widened have the column's earlier type."""
    clients.duck(
        "CREATE TABLE l.public.widened (id INTEGER, d DATE) WITH ('format-version' = '3')",
        "BEGIN",
        "INSERT INTO l.public.widened VALUES (1, '2021-06-20')",
        "ALTER TABLE l.public.widened ALTER COLUMN d TYPE TIMESTAMP",
        "INSERT INTO l.public.widened VALUES (2, '2021-06-21 14:45:00')",
        "COMMIT",
    )
    clients.check("widened", [(1, "2021-06-20T00:00:00"), (2, "2021-06-21T14:45:00")])


def types_of_other_engines(clients):
    """Headwater keeps columns whose types it cannot read. Statements that read these columns fail
    with an error that names the column."""
    clients.duck(
        "CREATE TABLE l.public.foreign_types (id INTEGER, v VARIANT) "
        "WITH ('format-version' = '3')",
        "INSERT INTO l.public.foreign_types VALUES (1, 42::VARIANT), (2, [1, 2]::VARIANT)",
    )
    assert clients.own("SELECT id FROM foreign_types ORDER BY id") == [(1,), (2,)]
    assert clients.own("SELECT count(*) AS n FROM foreign_types") == [(2,)]
    for sql, words in (
        ("SELECT v FROM foreign_types", "column `v` has the type `variant`"),
        ("SELECT * FROM foreign_types", "column `v` has the type `variant`"),
        ("INSERT INTO foreign_types (id) VALUES (3)", "cannot write the table"),
        ("UPDATE foreign_types SET id = 5", "variant"),
        ("DELETE FROM foreign_types WHERE id = 1", "cannot write the table"),
    ):
        refused = clients.refused(sql)
        assert words in refused["message"] and refused["code"] == "unsupported_statement", (sql, refused)
    clients.own("ALTER TABLE foreign_types RENAME COLUMN id TO number")
    found = clients.duck("SELECT number, v::VARCHAR FROM l.public.foreign_types ORDER BY number")
    assert found == [(1, "42"), (2, "[1, 2]")], found
    clients.duck("INSERT INTO l.public.foreign_types VALUES (3, 'x'::VARIANT)")
    assert clients.own("SELECT number FROM foreign_types ORDER BY number") == [(1,), (2,), (3,)]
    clients.duck(
        "CREATE TABLE l.public.places (id INTEGER, g GEOMETRY) WITH ('format-version' = '3')",
        "INSERT INTO l.public.places VALUES (1, 'POINT (1 2)'::GEOMETRY)",
    )
    assert clients.own("SELECT id FROM places") == [(1,)]
    found = clients.duck("SELECT g::VARCHAR FROM l.public.places")
    assert found == [("POINT (1 2)",)], found


STEPS = [
    texts_of_every_language,
    bounds_are_no_values,
    partitions_by_uuid,
    partitions_by_nanoseconds,
    two_times_of_one_column,
    upgrades_with_rows,
    many_snapshots_in_one_commit,
    drops_a_former_partition,
    dates_become_timestamps,
    types_of_other_engines,
]


def main():
    clients = Clients(*sys.argv[1:3])
    failed = []
    for step in STEPS:
        try:
            step(clients)
        except Exception:  # Continue, so that each step is reported.
            failed.append(f"{step.__name__}:\n{traceback.format_exc()}")
            try:
                clients.duck("ROLLBACK")
            except duckdb.Error:
                pass
    sys.exit("\n".join(failed) if failed else 0)


if __name__ == "__main__":
    main()
