"""Alternatives for the transfer of a table, and a copy of the bytes as a lower bound. Prints the
seconds of each round in a line.

Arguments: the alternative, the table's size in bytes, the number of rounds. The measured time
begins when the table is in memory, and ends when all values have been read.
"""

import mmap
import os
import sys
import tempfile
import threading
import time

import numpy
import pyarrow
import pyarrow.compute as pc

COLUMNS = 8
MADV_HUGEPAGE = 14


def create(size):
    rows = size // COLUMNS // 8
    return pyarrow.table({f"c{n}": numpy.arange(rows) + n for n in range(COLUMNS)})


def read_all(table):
    return [pc.sum(column).as_py() for column in table.columns]


def copy(size, times):
    """Copies between huge pages with two threads; the target pages are not allocated yet."""
    source = mmap.mmap(-1, size)
    source.madvise(MADV_HUGEPAGE)
    source = numpy.frombuffer(source, dtype=numpy.uint8)
    source[:] = 7
    for _ in range(times):
        target = mmap.mmap(-1, size)
        target.madvise(MADV_HUGEPAGE)
        view = numpy.frombuffer(target, dtype=numpy.uint8)
        half = size // 2
        parts = [slice(0, half), slice(half, size)]
        threads = [
            threading.Thread(target=numpy.copyto, args=(view[part], source[part])) for part in parts
        ]
        began = time.monotonic()
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        yield time.monotonic() - began
        del view, target


def parquet(size, times):
    import pyarrow.parquet

    table = create(size)
    with tempfile.TemporaryDirectory() as folder:
        path = os.path.join(folder, "table.parquet")
        for _ in range(times):
            began = time.monotonic()
            pyarrow.parquet.write_table(table, path)
            read_all(pyarrow.parquet.read_table(path))
            yield time.monotonic() - began


def flight(size, times):
    import pyarrow.flight

    table = create(size)

    class Server(pyarrow.flight.FlightServerBase):
        def do_get(self, context, ticket):
            return pyarrow.flight.RecordBatchStream(table)

    # Use loopback within one process, because gRPC does not support forks.
    server = Server("grpc://127.0.0.1:0")
    client = pyarrow.flight.connect(f"grpc://127.0.0.1:{server.port}")
    for _ in range(times):
        began = time.monotonic()
        read_all(client.do_get(pyarrow.flight.Ticket(b"")).read_all())
        yield time.monotonic() - began
    client.close()
    server.shutdown()


def ray(size, times):
    import ray

    ray.init(num_cpus=2, include_dashboard=False, logging_level="ERROR", log_to_driver=False,
             object_store_memory=3 * size)

    @ray.remote
    def parent():
        table = create(size)
        began = time.monotonic()
        return began, ray.put(table), time.monotonic() - began

    @ray.remote
    def child(table):
        began = time.monotonic()
        read_all(table)
        return time.monotonic() - began

    for _ in range(times):
        _, table, written = ray.get(parent.remote())
        yield written + ray.get(child.remote(table))
    ray.shutdown()


def main(way, size, times):
    for seconds in globals()[way](int(size), int(times)):
        print(seconds, flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
