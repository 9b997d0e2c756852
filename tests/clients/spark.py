"""Works on a branch of a lake with Spark, over the Iceberg REST catalog and through metadata files.

    spark.py URL TOKEN FOLDER

`FOLDER` contains the jars that `spark_jars.py` wrote. The script creates the branch `dev`. After
each step, Spark, Headwater, PyIceberg, DuckDB and polars must read the same rows.

Needs: the packages of `iceberg_rest.py`, pyspark, snowpark-connect-deps-iceberg.
"""

import pathlib
import sys

import snowpark_connect_deps_iceberg
from iceberg_rest import BRANCH, Clients, ordered
from pyspark.sql import SparkSession

ON_READ = ", ".join(f"'write.{change}.mode' = 'merge-on-read'" for change in ("delete", "update", "merge"))


class Spark:
    """Spark with the branch as its catalog `lake`."""

    def __init__(self, url, token, folder):
        theirs = pathlib.Path(snowpark_connect_deps_iceberg.__file__).parent / "jars"
        runtime = next(theirs.glob("iceberg-spark-runtime-3.5_2.12-*.jar"))
        catalog = "org.apache.iceberg.spark.SparkCatalog"
        extensions = "org.apache.iceberg.spark.extensions.IcebergSparkSessionExtensions"
        settings = {
            "spark.jars": f"{runtime},{folder}/shaded.jar",
            "spark.sql.extensions": extensions,
            "spark.sql.catalog.lake": catalog,
            "spark.sql.catalog.lake.type": "rest",
            "spark.sql.catalog.lake.uri": f"{url}/iceberg/{BRANCH}",
            "spark.sql.catalog.lake.token": token,
            "spark.sql.catalog.lake.cache-enabled": "false",
            "spark.sql.session.timeZone": "UTC",
            "spark.sql.shuffle.partitions": "1",
            "spark.ui.enabled": "false",
            "spark.driver.host": "127.0.0.1",
            "spark.driver.bindAddress": "127.0.0.1",
        }
        builder = SparkSession.builder.master("local[1]")
        for name, value in settings.items():
            builder = builder.config(name, value)
        self.session = builder.getOrCreate()
        self.session.sparkContext.setLogLevel("ERROR")

    def sql(self, sql):
        """Executes a statement and returns its rows."""
        return [row.asDict(recursive=True) for row in self.session.sql(sql).collect()]

    def rows(self, table):
        """Returns the rows of a table in the order of `id`."""
        return ordered(self.sql(f"SELECT * FROM lake.{table}"))

    def rows_of(self, metadata_file):
        """Returns the rows of the table that a metadata file describes, in the order of `id`."""
        read = self.session.read.format("iceberg").load(metadata_file)
        return ordered([row.asDict(recursive=True) for row in read.collect()])


class AllReaders(Clients):
    """All readers of the tables, including Spark."""

    def __init__(self, url, token, folder):
        super().__init__(url, token)
        self.spark = Spark(url, token, folder)

    def check(self, name, rows):
        """Checks that all readers read these rows. Spark reads them from the catalog and from the
        metadata file."""
        wanted = ordered(rows)
        found = {
            "spark": self.spark.rows(name),
            "spark by its metadata file": self.spark.rows_of(self.table(name).metadata_location),
        }
        for reader, rows in found.items():
            assert rows == wanted, f"{name} as {reader} reads it: {rows} instead of {wanted}"
        super().check(name, wanted)


def spark_writes(clients, version):
    """Tests Spark's statements: create, insert, delete, update, merge, rewrite of data files, and
    time travel, with delete files."""
    spark, table = clients.spark, f"raw.spark{version}"

    def rows(*rows):
        return [dict(zip(("id", "name", "day", "more"), row)) for row in rows]

    spark.sql(
        f"CREATE TABLE lake.{table} (id BIGINT, name STRING, day DATE, more INT) USING iceberg "
        f"PARTITIONED BY (days(day), bucket(4, id)) TBLPROPERTIES ('format-version' = '{version}', {ON_READ})"
    )
    spark.sql(
        f"INSERT INTO lake.{table} VALUES (1, 'a', DATE '2026-01-01', NULL), (2, 'b', DATE '2026-01-01', NULL), "
        f"(3, 'c', DATE '2026-01-02', 3), (4, 'd', DATE '2026-01-02', 4)"
    )
    one, two = (1, "a", "2026-01-01", None), (2, "b", "2026-01-01", None)
    clients.check(table, rows(one, two, (3, "c", "2026-01-02", 3), (4, "d", "2026-01-02", 4)))
    first = clients.table(table).current_snapshot().snapshot_id
    spark.sql(f"DELETE FROM lake.{table} WHERE id = 2")
    spark.sql(f"UPDATE lake.{table} SET name = 'cc' WHERE id = 3")
    clients.check(table, rows(one, (3, "cc", "2026-01-02", 3), (4, "d", "2026-01-02", 4)))
    spark.sql(
        f"MERGE INTO lake.{table} t USING (SELECT 4L AS id UNION ALL SELECT 5L) s ON t.id = s.id "
        "WHEN MATCHED THEN UPDATE SET more = 40 "
        "WHEN NOT MATCHED THEN INSERT (id, name) VALUES (s.id, 'e')"
    )
    merged = [one, (3, "cc", "2026-01-02", 3), (4, "d", "2026-01-02", 40), (5, "e", None, None)]
    clients.check(table, rows(*merged))
    deletes = spark.sql(f"SELECT content, file_format FROM lake.{table}.delete_files")
    assert {row["file_format"] for row in deletes} == {"PUFFIN" if version == 3 else "PARQUET"}, deletes
    spark.sql(f"CALL lake.system.rewrite_data_files(table => '{table}', options => map('rewrite-all', 'true'))")
    clients.check(table, rows(*merged))
    past = spark.sql(f"SELECT count(*) AS n FROM lake.{table} VERSION AS OF {first}")
    ours = clients.headwater.sql(f"SELECT count(*) AS n FROM {table} FOR VERSION AS OF {first}")
    assert past == ours == [{"n": 4}], (past, ours)


def spark_evolves(clients):
    """Changes columns and partitions, and reads rows that were written before and after the
    changes."""
    spark, table = clients.spark, "raw.evolved"
    spark.sql(f"CREATE TABLE lake.{table} (id BIGINT, name STRING, part INT) USING iceberg")
    spark.sql(f"INSERT INTO lake.{table} VALUES (1, 'a', 1)")
    spark.sql(f"ALTER TABLE lake.{table} RENAME COLUMN name TO title")
    spark.sql(f"ALTER TABLE lake.{table} ALTER COLUMN part TYPE BIGINT")
    spark.sql(f"ALTER TABLE lake.{table} ADD COLUMN inside STRUCT<x: INT, y: STRING> COMMENT 'nested' AFTER id")
    spark.sql(f"ALTER TABLE lake.{table} ADD PARTITION FIELD truncate(1, title)")
    spark.sql(f"INSERT INTO lake.{table} VALUES (2, named_struct('x', 2, 'y', 'b'), 'bb', 5000000000)")
    one = {"id": 1, "inside": None, "title": "a", "part": 1}
    two = {"id": 2, "inside": {"x": 2, "y": "b"}, "title": "bb", "part": 5000000000}
    clients.check(table, [one, two])
    spark.sql(f"ALTER TABLE lake.{table} DROP PARTITION FIELD truncate(1, title)")
    spark.sql(f"ALTER TABLE lake.{table} DROP COLUMN inside")
    clients.headwater.sql(f"INSERT INTO {table} VALUES (3, 'c', 3)")
    del one["inside"], two["inside"]
    clients.check(table, [one, two, {"id": 3, "title": "c", "part": 3}])


def each_changes_the_others(clients):
    """Changes rows that another client wrote, with delete files and with new files."""
    headwater, spark, table = clients.headwater, clients.spark, "raw.shared_with_spark"
    for mode in ("merge-on-read", "copy-on-write"):
        headwater.sql(f"CREATE TABLE {table} AS SELECT 1 AS id, 'ours' AS name UNION ALL SELECT 2, 'ours'")
        for change in ("delete", "update", "merge"):
            headwater.sql(f"ALTER TABLE {table} SET TBLPROPERTIES ('write.{change}.mode' = '{mode}')")
        spark.sql(f"UPDATE lake.{table} SET name = 'spark' WHERE id = 2")
        spark.sql(f"INSERT INTO lake.{table} VALUES (3, 'spark'), (4, 'spark')")
        headwater.sql(f"UPDATE {table} SET name = 'again' WHERE id = 3")
        spark.sql(f"DELETE FROM lake.{table} WHERE id = 1")
        headwater.sql(f"DELETE FROM {table} WHERE id = 4")
        clients.check(table, [{"id": 2, "name": "spark"}, {"id": 3, "name": "again"}])
        headwater.sql(f"DROP TABLE {table}")


def spark_alone(clients):
    """Registers the metadata files of tables that Spark created in a folder, without the REST
    catalog."""
    spark = clients.spark
    inside = clients.table("raw.evolved").location().removesuffix("/").rpartition("/raw/")[0]
    spark.session.conf.set("spark.sql.catalog.plain", "org.apache.iceberg.spark.SparkCatalog")
    spark.session.conf.set("spark.sql.catalog.plain.type", "hadoop")
    spark.session.conf.set("spark.sql.catalog.plain.warehouse", f"{inside}/from_spark")
    for version in (2, 3):
        name = f"plain.raw.alone{version}"
        spark.sql(
            f"CREATE TABLE {name} (id BIGINT, name STRING) USING iceberg "
            f"TBLPROPERTIES ('format-version' = '{version}', {ON_READ})"
        )
        spark.sql(f"INSERT INTO {name} VALUES (1, 'a'), (2, 'b'), (3, 'c')")
        spark.sql(f"DELETE FROM {name} WHERE id = 2")
        latest = spark.sql(f"SELECT file FROM {name}.metadata_log_entries ORDER BY timestamp DESC LIMIT 1")
        table = f"raw.alone{version}"
        clients.pyiceberg.register_table(table, latest[0]["file"])
        clients.check(table, [{"id": 1, "name": "a"}, {"id": 3, "name": "c"}])


def main():
    """Runs all steps in order."""
    clients = AllReaders(*sys.argv[1:])
    clients.spark.sql("CREATE NAMESPACE lake.raw")
    steps = [
        lambda: spark_writes(clients, 2),
        lambda: spark_writes(clients, 3),
        lambda: spark_evolves(clients),
        lambda: each_changes_the_others(clients),
        lambda: spark_alone(clients),
    ]
    for number, step in enumerate(steps, 1):
        step()
        print(f"step {number} of {len(steps)}: as it should be", flush=True)


if __name__ == "__main__":
    main()
