"""Functions whose results have about a gigabyte, each with what it begins with; run as functions and, to
compare, as a plain script. Arguments of the script: which, how large, how often."""

import sys
import time

import numpy
import pandas
import polars
import pyarrow
import pyarrow.compute as pc


def numbers(size):
    return pyarrow.table({f"c{n}": numpy.arange(size // 64) * 3 + n for n in range(8)})


def texts(size):
    rows = size // 32
    return pyarrow.table({"n": numpy.arange(rows), "text": pc.cast(numpy.arange(rows) * 1009, "string")})


def arrow_numbers(table):
    return pyarrow.table({name: pc.add(table[name], 1) for name in table.column_names})


def arrow_texts(table):
    return pyarrow.table({"n": table["n"], "text": pc.binary_join_element_wise(table["text"], "of", "-")})


def numpy_numbers(table):
    return pyarrow.table({name: numpy.sqrt(table[name].to_numpy()) for name in table.column_names})


def polars_numbers(table):
    return polars.from_arrow(table).filter(polars.col("c1") % 7 != 1)


def polars_texts(table):
    frame = polars.from_arrow(table).with_columns(text=polars.col("text") + "-of")
    return frame.to_arrow()


def pandas_numbers(table):
    frame = table.to_pandas()
    return frame[frame["c1"] % 7 != 1]


def pandas_texts(table):
    frame = table.to_pandas(types_mapper=pandas.ArrowDtype)
    return pyarrow.Table.from_pandas(frame[frame["n"] > 1000], preserve_index=False)


def begin(which, size):
    return (texts if which.endswith("texts") else numbers)(size)


def f(which, size):
    """Says how long the work took, and when it ended."""
    table = begin(which, size)
    began = time.monotonic_ns()
    made = globals()[which](table)
    ended = time.monotonic_ns()
    print(ended - began, ended)
    return made


def main(which, size, times):
    table = begin(which, int(size))
    for _ in range(int(times)):
        began = time.monotonic()
        made = globals()[which](table)
        print(time.monotonic() - began, flush=True)
        del made


if __name__ == "__main__":
    main(*sys.argv[1:])
