"""Ways to hand a table on that people use today, and the least it could take: seconds, one line each.

Arguments: which way, the table's bytes, how often. Each time counts from the table as it lies in memory to
the end of the first look at all of it.
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


def made(size):
    rows = size // COLUMNS // 8
    return pyarrow.table({f"c{n}": numpy.arange(rows) + n for n in range(COLUMNS)})


def looked_at(table):
    return [pc.sum(column).as_py() for column in table.columns]


def copy(size, times):
    """Two threads, from huge pages to huge pages that nobody has touched yet."""
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

    table = made(size)
    with tempfile.TemporaryDirectory() as folder:
        path = os.path.join(folder, "table.parquet")
        for _ in range(times):
            began = time.monotonic()
            pyarrow.parquet.write_table(table, path)
            looked_at(pyarrow.parquet.read_table(path))
            yield time.monotonic() - began


def flight(size, times):
    import pyarrow.flight

    table = made(size)

    class Server(pyarrow.flight.FlightServerBase):
        def do_get(self, context, ticket):
            return pyarrow.flight.RecordBatchStream(table)

    # Over the loopback within one process: gRPC does not outlive a fork.
    server = Server("grpc://127.0.0.1:0")
    client = pyarrow.flight.connect(f"grpc://127.0.0.1:{server.port}")
    for _ in range(times):
        began = time.monotonic()
        looked_at(client.do_get(pyarrow.flight.Ticket(b"")).read_all())
        yield time.monotonic() - began
    client.close()
    server.shutdown()


def ray(size, times):
    import ray

    ray.init(num_cpus=2, include_dashboard=False, logging_level="ERROR", log_to_driver=False,
             object_store_memory=3 * size)

    @ray.remote
    def parent():
        table = made(size)
        began = time.monotonic()
        return began, ray.put(table), time.monotonic() - began

    @ray.remote
    def child(table):
        began = time.monotonic()
        looked_at(table)
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
