"""Works on a branch of a lake with PyIceberg, DuckDB and polars, over the Iceberg REST catalog.

    iceberg_rest.py URL TOKEN

Creates the branch `dev`. The clients know this branch only as a part of the catalog's address.
After each step, all clients and Headwater itself must read the same rows. The branch `main`
contains none of the tables until the last step merges `dev`.

Needs: pyiceberg[pyarrow], pyiceberg-core, pytz, polars, duckdb, duckdb-extension-iceberg,
duckdb-extension-avro, duckdb-extension-httpfs.
"""

import datetime
import decimal
import json
import pathlib
import sys
import urllib.error
import urllib.request

import duckdb_offline
import polars
import pyarrow as pa
import pyarrow.parquet as pq
from pyiceberg.catalog import load_catalog
from pyiceberg.exceptions import CommitFailedException, NamespaceNotEmptyError, NoSuchTableError
from pyiceberg.expressions import (
    AlwaysFalse,
    AlwaysTrue,
    And,
    EqualTo,
    GreaterThan,
    GreaterThanOrEqual,
    In,
    IsNaN,
    IsNull,
    LessThan,
    LessThanOrEqual,
    Not,
    NotEqualTo,
    NotIn,
    NotNaN,
    NotNull,
    Or,
    StartsWith,
)
from pyiceberg.transforms import BucketTransform, IdentityTransform
from pyiceberg.types import DoubleType, LongType

BRANCH = "dev"


class Headwater:
    """Headwater's HTTP API."""

    def __init__(self, url, token):
        self.url, self.token = url, token

    def ask(self, path, body=None):
        """Sends a request and returns the JSON response."""
        data = None if body is None else json.dumps(body).encode()
        headers = {"authorization": f"Bearer {self.token}", "content-type": "application/json"}
        request = urllib.request.Request(self.url + path, data=data, headers=headers)
        try:
            with urllib.request.urlopen(request) as response:
                return json.load(response)
        except urllib.error.HTTPError as error:
            raise AssertionError(f"{path}: {error.read().decode()}") from error

    def sql(self, sql, branch=BRANCH):
        """Executes a statement and returns its rows."""
        return self.ask("/v1/query", {"sql": sql, "ref": branch})

    def rows(self, table):
        """Returns the rows of a table in the order of `id`."""
        return ordered(self.sql(f"SELECT * FROM {table}"))

    def commits(self):
        """Returns the branch's commits, newest first."""
        return self.ask(f"/v1/refs/{BRANCH}/commits?limit=1000")


class Duck:
    """DuckDB with the branch attached as its warehouse."""

    def __init__(self, url, token):
        self.connection = duckdb_offline.connect()
        self.connection.execute(
            f"ATTACH '{BRANCH}' AS lake (TYPE iceberg, ENDPOINT '{url}/iceberg', TOKEN '{token}')"
        )

    def sql(self, sql):
        """Executes a statement and returns its rows."""
        return self.connection.execute(sql).fetchall()

    def rows(self, table):
        """Returns the rows of a table in the order of `id`."""
        found = self.connection.execute(f"SELECT * FROM lake.{table}")
        names = [column[0] for column in found.description]
        return ordered([dict(zip(names, row)) for row in found.fetchall()])


class Clients:
    """All readers of the tables."""

    def __init__(self, url, token):
        self.headwater = Headwater(url, token)
        self.headwater.ask("/v1/branches", {"name": BRANCH})
        options = {"uri": f"{url}/iceberg/{BRANCH}", "header.x-headwater-author": "py@lab"}
        self.pyiceberg = load_catalog("lake", type="rest", token=token, **options)
        self.duck = Duck(url, token)

    def table(self, name):
        """Loads a table with PyIceberg."""
        return self.pyiceberg.load_table(name)

    def check(self, name, rows):
        """Checks that all readers read these rows."""
        wanted = ordered(rows)
        found = {
            "headwater": self.headwater.rows(name),
            "pyiceberg": ordered(self.table(name).scan().to_arrow().to_pylist()),
            "duckdb": self.duck.rows(name),
            "polars": ordered(polars.scan_iceberg(self.table(name)).collect().to_dicts()),
        }
        for reader, rows in found.items():
            assert rows == wanted, f"{name} as {reader} reads it: {rows} instead of {wanted}"


def plain(value):
    """Converts a value to its form in JSON, which is the same for all readers."""
    match value:
        case datetime.datetime():
            if value.tzinfo is not None:
                return value.astimezone(datetime.timezone.utc).isoformat().replace("+00:00", "Z")
            return value.isoformat()
        case datetime.date():
            return value.isoformat()
        case decimal.Decimal():
            return str(value)
    return value


def ordered(rows):
    """Returns rows in the order of `id`, with values in their JSON form."""
    rows = [{name: plain(value) for name, value in row.items()} for row in rows]
    return sorted(rows, key=lambda row: row["id"])


def pyiceberg_writes(clients):
    """Tests PyIceberg's changes: create, append, overwrite, delete, upsert, evolve, partition, tag,
    rename, drop."""
    schema = pa.schema([("id", pa.int64()), ("name", pa.string()), ("moment", pa.timestamp("us", "UTC"))])
    catalog, moment = clients.pyiceberg, datetime.datetime(2026, 1, 1, tzinfo=datetime.timezone.utc)

    def row(number, name, at=None):
        return {"id": number, "name": name, "moment": at}

    def arrow(*rows):
        return pa.Table.from_pylist(list(rows), schema=schema)

    catalog.create_namespace("raw", {"owner": "ada"})
    table = catalog.create_table("raw.trips", schema=schema)
    clients.check("raw.trips", [])
    table.append(arrow(row(1, "a", moment), row(2, "b"), row(3, "c")))
    clients.check("raw.trips", [row(1, "a", moment), row(2, "b"), row(3, "c")])
    commit = clients.headwater.commits()[0]
    assert (commit["author"], commit["message"]) == ("py@lab", "append to raw.trips"), commit
    table.overwrite(arrow(row(2, "bb")), overwrite_filter="id = 2")
    table.delete("id = 1")
    clients.check("raw.trips", [row(2, "bb"), row(3, "c")])
    table.upsert(arrow(row(3, "cc"), row(4, "d")), join_cols=["id"])
    clients.check("raw.trips", [row(2, "bb"), row(3, "cc"), row(4, "d")])
    first = table.history()[0].snapshot_id
    assert table.scan(snapshot_id=first).to_arrow().num_rows == 3
    table.manage_snapshots().create_tag(first, "first").commit()
    clients.headwater.sql("INSERT INTO raw.trips VALUES (5, 'ours', NULL)")
    kept = clients.table("raw.trips").snapshot_by_name("first")
    assert kept.snapshot_id == first, "a tag outlives a commit of ours"

    table = clients.table("raw.trips")
    with table.update_schema() as update:
        update.add_column("share", DoubleType())
        update.rename_column("name", "title")
        update.delete_column("moment")
    with table.transaction() as transaction:
        transaction.set_properties(owner="ada")
        transaction.append(pa.table({"id": [6], "title": ["f"], "share": [0.5]}))
    with table.update_spec() as update:
        update.add_field("title", IdentityTransform(), "title_part")
        update.add_field("id", BucketTransform(4), "id_bucket")
    table.append(pa.table({"id": [7, 8], "title": ["g", "h"], "share": [None, 1.5]}))
    rows = [(2, "bb", None), (3, "cc", None), (4, "d", None), (5, "ours", None), (6, "f", 0.5)]
    rows = [*rows, (7, "g", None), (8, "h", 1.5)]
    clients.check("raw.trips", [dict(zip(("id", "title", "share"), row)) for row in rows])
    assert clients.table("raw.trips").properties["owner"] == "ada"

    with catalog.create_table_transaction("raw.made", schema=pa.schema([("id", pa.int64())])) as made:
        made.append(pa.table({"id": [1]}))
    catalog.rename_table("raw.made", "raw.renamed")
    clients.check("raw.renamed", [{"id": 1}])
    catalog.drop_table("raw.renamed")
    assert catalog.list_tables("raw") == [("raw", "trips")]
    try:
        catalog.load_table("raw.renamed")
    except NoSuchTableError:
        pass
    else:
        raise AssertionError("a table that was dropped is still there")


def files_without_field_ids(clients):
    """Added files without field ids are read by the column names at the time of their addition,
    even after columns were renamed or dropped."""
    schema = pa.schema([("id", pa.int64()), ("a", pa.string()), ("b", pa.string())])
    table = clients.pyiceberg.create_table("raw.found", schema=schema)
    file = f"{table.location().removeprefix('file://')}/data/found.parquet"
    pathlib.Path(file).parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.table({"id": [1], "a": ["x"], "b": ["y"]}, schema=schema), file)
    table.add_files([f"file://{file}"])
    clients.check("raw.found", [{"id": 1, "a": "x", "b": "y"}])
    clients.headwater.sql("ALTER TABLE raw.found RENAME COLUMN a TO c")
    clients.headwater.sql("ALTER TABLE raw.found DROP COLUMN b")
    clients.headwater.sql("ALTER TABLE raw.found ADD COLUMN b STRING")
    rows = clients.headwater.rows("raw.found")
    assert rows == [{"id": 1, "c": "x", "b": None}], rows
    clients.headwater.sql("UPDATE raw.found SET b = 'new'")
    clients.check("raw.found", [{"id": 1, "c": "x", "b": "new"}])


def pyiceberg_conflicts(clients):
    """A commit with a stale table never discards a concurrent change."""
    table = clients.pyiceberg.create_table("raw.contested", schema=pa.schema([("id", pa.int64())]))
    stale = clients.table("raw.contested")
    clients.headwater.sql("INSERT INTO raw.contested VALUES (1)")
    try:
        with stale.update_schema() as update:
            update.add_column("more", LongType())
        stale.append(pa.table({"id": [2], "more": [2]}))
    except CommitFailedException:
        table = clients.table("raw.contested")
        with table.update_schema() as update:
            update.add_column("more", LongType())
        table.append(pa.table({"id": [2], "more": [2]}))
    clients.check("raw.contested", [{"id": 1, "more": None}, {"id": 2, "more": 2}])


def duckdb_writes(clients):
    """Tests DuckDB's statements: create, insert, update, delete, merge, alter, partitions,
    transactions, time travel."""
    duck, headwater = clients.duck, clients.headwater

    def rows(*rows):
        return [dict(zip(("id", "name", "moment"), row)) for row in rows]

    duck.sql("CREATE TABLE lake.raw.d (id BIGINT, name VARCHAR, moment TIMESTAMPTZ)")
    duck.sql("INSERT INTO lake.raw.d VALUES (1, 'a', '2026-01-01 00:00:00+00'), (2, 'b', NULL), (3, 'c', NULL)")
    clients.check("raw.d", rows((1, "a", "2026-01-01T00:00:00Z"), (2, "b", None), (3, "c", None)))
    duck.sql("UPDATE lake.raw.d SET name = 'bb' WHERE id = 2")
    duck.sql("DELETE FROM lake.raw.d WHERE id = 1")
    clients.check("raw.d", rows((2, "bb", None), (3, "c", None)))
    duck.sql(
        "MERGE INTO lake.raw.d USING (VALUES (3, 'cc'), (4, 'dd')) AS v (id, name) ON d.id = v.id "
        "WHEN MATCHED THEN UPDATE SET name = v.name "
        "WHEN NOT MATCHED THEN INSERT VALUES (v.id, v.name, NULL)"
    )
    clients.check("raw.d", rows((2, "bb", None), (3, "cc", None), (4, "dd", None)))

    duck.sql("CREATE TABLE lake.raw.e AS SELECT range AS id, range % 3 AS third FROM range(4)")
    duck.sql("ALTER TABLE lake.raw.e ADD COLUMN note VARCHAR")
    duck.sql("ALTER TABLE lake.raw.e RENAME COLUMN third TO rest")
    clients.check("raw.e", [{"id": n, "rest": n % 3, "note": None} for n in range(4)])

    before = len(headwater.commits())
    for end in ("ROLLBACK", "COMMIT"):
        duck.sql("BEGIN")
        duck.sql("INSERT INTO lake.raw.d VALUES (5, 'both', NULL)")
        duck.sql("INSERT INTO lake.raw.e VALUES (5, 5, 'both')")
        duck.sql(end)
    assert len(headwater.commits()) == before + 1, "two tables, one commit"
    clients.check("raw.d", rows((2, "bb", None), (3, "cc", None), (4, "dd", None), (5, "both", None)))
    counted = headwater.sql("SELECT count(*) AS n FROM raw.e")
    assert counted == [{"n": 5}], counted

    duck.sql("CREATE TABLE lake.raw.p (id BIGINT, day DATE) PARTITIONED BY (bucket(4, id), day(day))")
    duck.sql("INSERT INTO lake.raw.p VALUES (1, '2026-01-01'), (2, '2026-01-02')")
    clients.check("raw.p", [{"id": 1, "day": "2026-01-01"}, {"id": 2, "day": "2026-01-02"}])

    oldest = duck.sql("SELECT min(sequence_number) FROM iceberg_snapshots(lake.raw.d)")[0][0]
    found = f"SELECT snapshot_id FROM iceberg_snapshots(lake.raw.d) WHERE sequence_number = {oldest}"
    version = duck.sql(found)[0][0]
    past = duck.sql(f"SELECT count(*) FROM lake.raw.d AT (VERSION => {version})")
    assert past == [(3,)], past

    duck.sql("CREATE SCHEMA lake.passing")
    duck.sql("CREATE TABLE lake.passing.t (id INTEGER)")
    duck.sql("DROP TABLE lake.passing.t")
    duck.sql("DROP SCHEMA lake.passing")
    names = [namespace["name"] for namespace in headwater.ask(f"/v1/refs/{BRANCH}/namespaces")]
    assert names == ["public", "raw"], names


def each_changes_the_others(clients):
    """Changes rows that another client wrote."""
    clients.headwater.sql("CREATE TABLE shared AS SELECT 1 AS id, 'ours' AS name UNION ALL SELECT 2, 'ours'")
    clients.duck.sql("UPDATE lake.public.shared SET name = 'duck' WHERE id = 2")
    clients.table("public.shared").append(
        pa.table({"id": [3, 4], "name": ["py", "py"]}, schema=clients.table("public.shared").schema().as_arrow())
    )
    clients.headwater.sql("UPDATE shared SET name = 'again' WHERE id = 3")
    clients.duck.sql("DELETE FROM lake.public.shared WHERE id = 1")
    rows = [(2, "duck"), (3, "again"), (4, "py")]
    clients.check("public.shared", [{"id": number, "name": name} for number, name in rows])
    clients.table("public.shared").delete("id = 4")
    clients.headwater.sql("DELETE FROM shared WHERE id = 2")
    clients.check("public.shared", [{"id": 3, "name": "again"}])


def plans_are_made_here(clients):
    """PyIceberg reads the same rows from scans that the server plans as from scans that it plans
    itself.

    No partition value is null, because PyIceberg does not accept null as a partition value from a
    server.
    """
    moment = datetime.datetime(2026, 1, 5, 12, tzinfo=datetime.timezone.utc)
    filters = [
        AlwaysTrue(),
        EqualTo("part", "a"),
        NotEqualTo("part", "a"),
        In("part", ["a", "c", "none"]),
        NotIn("part", ["a", "b"]),
        StartsWith("part", "b"),
        Not(StartsWith("part", "b")),
        And(GreaterThanOrEqual("id", 3), LessThan("id", 12)),
        Or(EqualTo("id", 2), IsNull("price")),
        NotNull("price"),
        EqualTo("price", decimal.Decimal("1.50")),
        GreaterThan("price", decimal.Decimal("12.00")),
        EqualTo("day", datetime.date(2026, 1, 3)),
        LessThanOrEqual("moment", moment),
        GreaterThan("moment", moment),
        IsNaN("share"),
        NotNaN("share"),
        LessThan("share", 2.5),
        Not(Or(EqualTo("part", "a"), GreaterThan("id", 9))),
        AlwaysFalse(),
    ]
    options = {"uri": f"{clients.headwater.url}/iceberg/{BRANCH}", "token": clients.headwater.token}
    here = load_catalog("here", type="rest", **options, **{"scan-planning-mode": "server"})
    for version in (2, 3):
        name = f"planned_{version}"
        clients.headwater.sql(
            f"CREATE TABLE {name} (id BIGINT, part VARCHAR, day DATE, moment TIMESTAMP WITH TIME ZONE, "
            "price DECIMAL(9, 2), share DOUBLE) PARTITIONED BY (part) TBLPROPERTIES "
            f"('format-version' = '{version}', 'write.delete.mode' = 'merge-on-read')"
        )
        for number, part in enumerate(["'a'", "'b'", "'bc'", "'c'"]):
            rows = ", ".join(
                f"({row}, {part}, DATE '2026-01-0{1 + row % 9}', "
                f"TIMESTAMP '2026-01-0{1 + row % 9}T12:00:00Z', "
                f"{'NULL' if row % 4 == 0 else f'{row}.50'}, {'NULL' if row == 3 else f'{row}.25'})"
                for row in range(number * 4, number * 4 + 4)
            )
            clients.headwater.sql(f"INSERT INTO {name} VALUES {rows}")
        clients.headwater.sql(f"INSERT INTO {name} VALUES (20, 'd', NULL, NULL, NULL, 'NaN'::DOUBLE)")
        clients.headwater.sql(f"ALTER TABLE {name} ADD PARTITION FIELD day(day)")
        clients.headwater.sql(f"INSERT INTO {name} VALUES (21, 'a', DATE '2026-01-03', NULL, 1.50, 1)")
        clients.headwater.sql(f"DELETE FROM {name} WHERE id IN (1, 6, 7)")
        ours, theirs = here.load_table(f"public.{name}"), clients.table(f"public.{name}")
        assert here.supports_server_side_planning() and not clients.pyiceberg.supports_server_side_planning()
        for wanted in filters:
            planned = ordered(ours.scan(row_filter=wanted).to_arrow().to_pylist())
            expected = ordered(theirs.scan(row_filter=wanted).to_arrow().to_pylist())
            assert repr(planned) == repr(expected), f"{wanted}: {planned} instead of {expected}"
            assert ours.scan(row_filter=wanted).count() == len(expected), wanted
        narrow = ours.scan(row_filter=EqualTo("PART", "a"), selected_fields=("ID",), case_sensitive=False)
        assert sorted(narrow.to_arrow()["id"].to_pylist()) == [0, 2, 3, 21]
        assert len(list(ours.scan(row_filter=EqualTo("part", "a")).plan_files())) == 2
        first = min(theirs.history(), key=lambda entry: entry.timestamp_ms).snapshot_id
        assert ours.scan(snapshot_id=first).to_arrow().num_rows == 4


def namespaces_are_nested(clients):
    """All clients see the same nested namespaces, and the same names that SQL must quote."""
    catalog, headwater = clients.pyiceberg, clients.headwater
    catalog.create_namespace(("deep", "my-eu", "2024 1"), {"owner": "ada"})
    assert catalog.list_namespaces("deep") == [("deep", "my-eu")]
    assert catalog.list_namespaces(("deep", "my-eu")) == [("deep", "my-eu", "2024 1")]
    assert ("deep",) in catalog.list_namespaces() and ("deep", "my-eu") not in catalog.list_namespaces()
    assert catalog.load_namespace_properties(("deep", "my-eu", "2024 1")) == {"owner": "ada"}
    name = ("deep", "my-eu", "2024 1", "day 日")
    rows = pa.table({"id": [1, 2]})
    catalog.create_table(name, schema=rows.schema).append(rows)
    assert catalog.list_tables(name[:-1]) == [name]
    sql = '"deep"."my-eu"."2024 1"."day 日"'
    headwater.sql(f"INSERT INTO {sql} VALUES (3)")
    assert sorted(clients.table(name).scan().to_arrow()["id"].to_pylist()) == [1, 2, 3]
    assert clients.duck.sql('SELECT id FROM lake."deep.my-eu.2024 1"."day 日" ORDER BY id') == [(1,), (2,), (3,)]
    catalog.rename_table(name, ("deep", "moved-here"))
    assert headwater.rows('deep."moved-here"') == [{"id": 1}, {"id": 2}, {"id": 3}]
    try:
        catalog.drop_namespace("deep")
        raise AssertionError("it holds a table and a namespace")
    except NamespaceNotEmptyError:
        pass
    catalog.drop_namespace(("deep", "my-eu", "2024 1"))
    catalog.drop_namespace(("deep", "my-eu"))


def the_branch_merges(clients):
    """`main` contains none of the tables before the merge of the branch, and all of them
    afterwards."""
    headwater = clients.headwater
    assert headwater.ask("/v1/refs/main/tables") == []
    headwater.ask("/v1/branches/main/merge", {"source": BRANCH})
    merged = {table["name"] for table in headwater.ask("/v1/refs/main/tables")}
    assert {"raw.trips", "raw.d", "shared"} <= merged, merged
    assert headwater.sql("SELECT id, name FROM shared", "main") == [{"id": 3, "name": "again"}]


def main():
    """Runs all steps in order."""
    clients = Clients(*sys.argv[1:])
    steps = [
        pyiceberg_writes,
        files_without_field_ids,
        pyiceberg_conflicts,
        duckdb_writes,
        each_changes_the_others,
        plans_are_made_here,
        namespaces_are_nested,
        the_branch_merges,
    ]
    for step in steps:
        step(clients)
        print(f"{step.__name__}: as it should be", flush=True)


if __name__ == "__main__":
    main()
