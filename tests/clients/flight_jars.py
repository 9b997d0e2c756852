"""Writes the jars of Apache Arrow's Java library for Flight SQL.

    flight_jars.py FOLDER

The library is not in a registry of Python packages itself. The package `deephaven-server` contains
it unmodified, with the jars that it needs. The wheel of this package must be in FOLDER. The script
writes the jars to this folder, and deletes the wheel, which is large.
"""

import pathlib
import sys
import zipfile

NEEDED = (
    "arrow-format-",
    "arrow-memory-",
    "arrow-vector-",
    "failureaccess-",
    "flatbuffers-java-",
    "flight-",
    "grpc-api-",
    "grpc-context-",
    "grpc-core-",
    "grpc-netty-",
    "grpc-protobuf-",
    "grpc-stub-",
    "grpc-util-",
    "guava-",
    "jackson-annotations-",
    "jackson-core-",
    "jackson-databind-",
    "jackson-datatype-jsr310-",
    "netty-",
    "perfmark-api-",
    "protobuf-java-",
    "slf4j-api-",
)


def main():
    """Writes the jars."""
    folder = pathlib.Path(sys.argv[1])
    wheel = next(folder.glob("*.whl"))
    with zipfile.ZipFile(wheel) as archive:
        for name in archive.namelist():
            jar = pathlib.PurePosixPath(name).name
            if jar.endswith(".jar") and jar.startswith(NEEDED):
                (folder / jar).write_bytes(archive.read(name))
    wheel.unlink()


if __name__ == "__main__":
    main()
