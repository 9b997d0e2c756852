"""DuckDB with the extensions for Iceberg, which are installed as packages and need no download.

Needs: duckdb and its extension packages for avro, httpfs and iceberg.
"""

import pathlib

import duckdb
import duckdb_extension_avro
import duckdb_extension_httpfs
import duckdb_extension_iceberg


def connect():
    """Returns a connection with the extensions, whose time zone is UTC."""
    connection = duckdb.connect(config={"allow_unsigned_extensions": "true"})
    extensions = {
        "avro": duckdb_extension_avro,
        "httpfs": duckdb_extension_httpfs,
        "iceberg": duckdb_extension_iceberg,
    }
    for name, module in extensions.items():
        folder = pathlib.Path(module.__file__).parent / "extensions"
        file = next(folder.glob(f"v{duckdb.__version__}/**/{name}.duckdb_extension"))
        connection.execute(f"LOAD '{file}'")
    connection.execute("SET TimeZone = 'UTC'")
    return connection
