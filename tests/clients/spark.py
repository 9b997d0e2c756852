"""Works on a branch of a lake with Spark, over the Iceberg REST catalog and by metadata files.

    spark.py URL TOKEN FOLDER

`FOLDER` is what `spark_jars.py` filled. Makes the branch `dev`; after each step the rows are compared as
Spark, Headwater, PyIceberg, DuckDB and polars read them.

Needs: what `iceberg_rest.py` needs, pyspark, snowpark-connect-deps-iceberg.
"""

import pathlib
import sys

import snowpark_connect_deps_iceberg
from iceberg_rest import BRANCH, Clients, ordered
from pyspark.sql import SparkSession

ON_READ = ", ".join(f"'write.{change}.mode' = 'merge-on-read'" for change in ("delete", "update", "merge"))


class Spark:
    """Spark, with the branch as its catalog `lake`, and `plain`, a folder that no catalog keeps."""

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
        """What a statement answers."""
        return [row.asDict(recursive=True) for row in self.session.sql(sql).collect()]

    def rows(self, table):
        """The rows of a table, by `id`."""
        return ordered(self.sql(f"SELECT * FROM lake.{table}"))

    def rows_of(self, metadata_file):
        """The rows of the table that a metadata file describes, by `id`."""
        read = self.session.read.format("iceberg").load(metadata_file)
        return ordered([row.asDict(recursive=True) for row in read.collect()])


class Everybody(Clients):
    """All who read the tables, and Spark."""

    def __init__(self, url, token, folder):
        super().__init__(url, token)
        self.spark = Spark(url, token, folder)

    def check(self, name, rows):
        """Whether all read the same, Spark by the metadata file alone too."""
        wanted = ordered(rows)
        found = {
            "spark": self.spark.rows(name),
            "spark by its metadata file": self.spark.rows_of(self.table(name).metadata_location),
        }
        for reader, rows in found.items():
            assert rows == wanted, f"{name} as {reader} reads it: {rows} instead of {wanted}"
        super().check(name, wanted)


def spark_writes(clients, version):
    """Create, insert, delete, update, merge, evolve, rewrite, travel in time, delete files and all."""
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
    """Columns and partitions change, and rows of before and after are read as one table."""
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
    """Rows that one wrote and another changes, by delete files and by new files."""
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
    """Tables that Spark made with no catalog but a folder, taken over by their metadata files."""
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
    """Takes all steps, in order."""
    clients = Everybody(*sys.argv[1:])
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
