"""Prints the mean seconds of a task that does nothing, in a flow with the given number of tasks."""

import sys
import time

from prefect import flow, task


@task
def nothing(value: int) -> int:
    return value


@flow
def chain(count: int) -> float:
    nothing(0)
    began = time.perf_counter()
    value = 0
    for _ in range(count):
        value = nothing(value)
    return (time.perf_counter() - began) / count


print(chain(int(sys.argv[1])))
