"""One cluster of Dask with two workers: `python -m benchmarks.dask_cluster WAY ROUNDS MIB`.

WAY is plain, private, readonly or born. It prints the median of each case in milliseconds, as JSON.
Each case checks its data. The first round of each case is not counted.
"""

from __future__ import annotations

import json
import sys
from statistics import median
from typing import TYPE_CHECKING, Any

import numpy as np

from benchmarks.harness import clock

if TYPE_CHECKING:
    from collections.abc import Callable

TO_WORKER, GATHER, SCATTER = "worker to worker", "gather", "scatter"
ARGUMENT, FRAME, RECHUNK, EMPTY = "argument of submit", "gather of a frame", "rechunk", "500 tasks"
CASES = (TO_WORKER, GATHER, SCATTER, ARGUMENT, FRAME, RECHUNK, EMPTY)
TASKS = 500


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


def cases(client: Any, mib: int) -> dict[str, Callable[[int], float]]:
    from distributed import wait

    first, second = list(client.scheduler_info(n_workers=-1)["workers"])
    count = mib << 20

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

    def empty(value: int) -> float:
        start = clock()
        made = client.map(number, range(TASKS), pure=False)
        got = client.gather(made)
        spent = clock() - start
        assert got == list(range(TASKS)), value
        return spent

    steps = (to_worker, gather, scatter, argument, gather_frame, rechunk, empty)
    return dict(zip(CASES, steps, strict=True))


def main(way: str, rounds: int, mib: int) -> None:
    import warnings

    from distributed import Client, LocalCluster

    warnings.simplefilter("ignore")  # "Sending large graph" is what is measured
    if way != "plain":
        import onecopy.dask

        writable: Any = "readonly" if way == "readonly" else "private"
        size = 40 * mib << 20
        assert onecopy.dask.enable(size, writable=writable, born=way == "born")
    with (
        LocalCluster(
            n_workers=2, threads_per_worker=1, processes=True, dashboard_address=":0"
        ) as cluster,
        Client(cluster) as client,
    ):
        found = {}
        for name, step in cases(client, mib).items():
            times = [step(value) for value in range(rounds + 1)][1:]
            found[name] = median(times) * 1000
    print(json.dumps(found))


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]))
