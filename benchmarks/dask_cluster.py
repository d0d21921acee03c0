"""A cluster of Dask with two workers: `python -m benchmarks.dask_cluster WAY ROUNDS MEGABYTES`.

WAY is plain, private, readonly or born. It prints the median of each case in milliseconds, as JSON.
Each case checks its data. The first two rounds of each case are not counted, because memory is used
for the first time: two values in turn, each before the one before it is released.

Then an array of the same size is broadcast to a cluster with four workers. The memory of the
workers is measured while each has it and has read a number of each page. It is the sum of their
PSS, less the same sum before, in copies of the array.
"""

from __future__ import annotations

import contextlib
import json
import os
import sys
from statistics import median
from typing import TYPE_CHECKING, Any

import numpy as np

from benchmarks import memory
from benchmarks.harness import clock

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

TO_WORKER, GATHER, SCATTER = "worker to worker", "gather", "scatter"
ARGUMENT, FRAME, RECHUNK = "argument of submit", "gather of a frame", "rechunk"
TRANSPOSED, SHUFFLE, MERGE, EMPTY = "x + x.T", "shuffle", "merge", "2,000 empty tasks"
CASES = (TO_WORKER, GATHER, SCATTER, ARGUMENT, FRAME, RECHUNK, TRANSPOSED, SHUFFLE, MERGE, EMPTY)
BROADCAST, BROADCAST_MEMORY = "broadcast to four workers", "memory of four workers"
TASKS = 2000
BROADCASTS = 5
WARM = 2  # rounds that are not counted


def compute(count: int, value: int) -> Any:
    return np.full(count // 8, value, "i8") + 1


def ends(array: Any) -> tuple[int, int, int]:
    """Read one number in each page: what is mapped must be there."""
    return int(array[0]), int(array[-1]), int(array[::512].sum() // len(array[::512]))


def frame(count: int, value: int) -> Any:
    import pandas as pd

    return pd.DataFrame({"a": compute(count // 2, value), "b": compute(count // 2, value)})


def number(value: int) -> int:
    return value


def rows(count: int, value: int) -> Any:
    """Make a table of Dask with four partitions: four columns of 8 bytes, and each key once."""
    import dask.dataframe as dd
    import pandas as pd

    def part(number: int) -> Any:
        keys = np.arange(number, count, 4)
        return pd.DataFrame({"key": keys, "value": value, "x": keys / 3, "y": keys / 7})

    return dd.from_map(part, range(4))


def cases(client: Any, count: int) -> dict[str, Callable[[int], float]]:
    from distributed import wait

    first, second = list(client.scheduler_info(n_workers=-1)["workers"])

    def to_worker(value: int) -> float:
        made = client.submit(compute, count, value, workers=[first], pure=False)
        wait(made)
        start = clock()
        got = client.submit(ends, made, workers=[second], pure=False).result()
        spent = clock() - start
        assert got == (value + 1,) * 3
        return spent

    def gather(value: int) -> float:
        made = client.submit(compute, count, value, workers=[first], pure=False)
        wait(made)
        start = clock()
        got = ends(made.result())
        spent = clock() - start
        assert got == (value + 1,) * 3
        return spent

    def scatter(value: int) -> float:
        array = compute(count, value)
        start = clock()
        there = client.scatter(array, hash=False)
        got = client.submit(ends, there, pure=False).result()
        spent = clock() - start
        assert got == (value + 1,) * 3
        return spent

    def argument(value: int) -> float:
        array = compute(count, value)
        start = clock()
        got = client.submit(ends, array, pure=False).result()
        spent = clock() - start
        assert got == (value + 1,) * 3
        return spent

    def gather_frame(value: int) -> float:
        made = client.submit(frame, count, value, workers=[first], pure=False)
        wait(made)
        start = clock()
        got = made.result()
        found = ends(got["a"].to_numpy()), ends(got["b"].to_numpy())
        spent = clock() - start
        assert found == ((value + 1,) * 3,) * 2
        return spent

    def rechunk(value: int) -> float:
        import dask.array as da

        side = int((count // 8) ** 0.5) // 8 * 8
        array = da.full((side, side), value, chunks=(side // 4, side), dtype="i8") + 1
        start = clock()
        got = array.rechunk((side, side // 4)).sum().compute()
        spent = clock() - start
        assert got == side * side * (value + 1)
        return spent

    def transposed(value: int) -> float:
        import dask.array as da

        side = int((count // 8) ** 0.5) // 4 * 4
        array = da.full((side, side), value, chunks=(side // 4, side // 4), dtype="i8") + 1
        array = array.persist()
        wait(array)
        start = clock()
        got = (array + array.T).sum().compute()
        spent = clock() - start
        assert got == side * side * (value + 1) * 2
        return spent

    def shuffle(value: int) -> float:
        made = rows(count // 32, value).persist()
        wait(made)
        start = clock()
        got = made.shuffle("key").map_partitions(len).compute()
        spent = clock() - start
        assert sum(got) == count // 32
        return spent

    def merge(value: int) -> float:
        left, right = rows(count // 64, value).persist(), rows(count // 64, value + 1).persist()
        wait([left, right])
        start = clock()
        got = left.merge(right, on="key")
        found = (got["value_y"] - got["value_x"]).sum().compute()
        spent = clock() - start
        assert found == count // 64  # each key is there once
        return spent

    def empty(value: int) -> float:
        start = clock()
        made = client.map(number, range(TASKS), pure=False)
        got = client.gather(made)
        spent = clock() - start
        assert got == list(range(TASKS)), value
        return spent

    whole = (to_worker, gather, scatter, argument, gather_frame)
    parts = (rechunk, transposed, shuffle, merge, empty)
    return dict(zip(CASES, (*whole, *parts), strict=True))


def broadcasts(client: Any, count: int) -> dict[str, float]:
    workers = list(client.scheduler_info(n_workers=-1)["workers"])
    pids = list(client.run(os.getpid).values())
    times, copies = [], []
    for value in range(BROADCASTS + WARM):
        before = memory.together(pids)
        array = compute(count, value)
        start = clock()
        there = client.scatter(array, broadcast=True, hash=False)
        got = [client.submit(ends, there, workers=[w], pure=False) for w in workers]
        assert client.gather(got) == [(value + 1,) * 3] * len(workers)
        times.append(clock() - start)
        assert len(client.who_has(there)[there.key]) == len(workers)
        # The first one counts. Later ones may use memory that the one before has freed.
        copies.append((memory.together(pids) - before) / count)
        del there, got
    return {BROADCAST: median(times[WARM:]) * 1000, BROADCAST_MEMORY: copies[0]}


@contextlib.contextmanager
def cluster(workers: int) -> Iterator[Any]:
    from distributed import Client, LocalCluster

    with (
        LocalCluster(
            n_workers=workers, threads_per_worker=1, processes=True, dashboard_address=":0"
        ) as made,
        Client(made) as client,
    ):
        yield client


def enable(way: str, size: int) -> None:
    """Have the next clusters work in this way, with a new pool."""
    if way != "plain":
        import onecopy.dask

        writable: Any = "readonly" if way == "readonly" else "private"
        assert onecopy.dask.enable(size, writable=writable, born=way == "born")


def main(way: str, rounds: int, megabytes: int) -> None:
    import warnings

    import dask

    warnings.simplefilter("ignore")  # "Sending large graph" is what is measured
    count = megabytes * 1_000_000 // 8 * 8
    enable(way, 20 * count)
    found = {}
    with cluster(2) as client:
        for name, step in cases(client, count).items():
            times = [step(value) for value in range(rounds + WARM)][WARM:]
            found[name] = median(times) * 1000
    # Dask's memory manager would drop copies that no task needs any more, at instants of its own.
    dask.config.set({"distributed.scheduler.active-memory-manager.start": False})
    enable(way, 4 * count)
    with cluster(4) as client:
        found |= broadcasts(client, count)
    print(json.dumps(found))


if __name__ == "__main__":
    main(sys.argv[1], *map(int, sys.argv[2:]))
