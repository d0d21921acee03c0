"""The cost of receiving arrays by reference, in private pages, or as copies.

Run ``python -m benchmarks.private_pages``. It is a separate program, because it compares onecopy
with itself. For each size, rounds of all ways alternate. Before each measurement, the same is done
once: a mapping that is kept has its pages from then on. It prints the medians in microseconds:

get         `Ref.get`, and then the release of the array
read        the same, with one pass over all of it (`sum` of bytes as int64)
write 1     the same, with a store to one byte
write all   the same, with a store to one byte of each page
"""

from __future__ import annotations

import argparse
import statistics
import time
from typing import TYPE_CHECKING, Any

import numpy as np

import onecopy as oc

if TYPE_CHECKING:
    from collections.abc import Callable

PAGE = 4096
WAYS: dict[str, Any] = {"by reference": None, "on_write": "on_write", "copied": True}


def nothing(_: Any) -> None:
    """Do nothing with the array."""


def read(array: Any) -> None:
    """Read the whole array once."""
    array.view(np.int64).sum()


def write_one(array: Any) -> None:
    """Store a byte."""
    array[0] = 1


def write_all(array: Any) -> None:
    """Store a byte in each page."""
    array[::PAGE] = 1


WORK: dict[str, Callable[[Any], None]] = {
    "get": nothing,
    "read": read,
    "write 1": write_one,
    "write all": write_all,
}


def seconds(ref: oc.Ref, copy: Any, work: Callable[[Any], None]) -> float:
    """Time one call of `Ref.get`, the work on the array, and the release of the array."""
    start = time.perf_counter()
    array = ref.get(copy)
    work(array)
    del array
    return time.perf_counter() - start


def main() -> None:
    """Print a table."""
    arguments = argparse.ArgumentParser(description=__doc__)
    sizes = "65536,262144,524288,1048576,10485760,104857600"
    arguments.add_argument("--sizes", default=sizes, help="in bytes, with commas")
    arguments.add_argument("--rounds", type=int, default=0, help="default: by size, 30 to 1000")
    chosen = arguments.parse_args()
    with oc.Pool.create(size="512MiB") as pool:
        print(f"{'bytes':>11} {'':12} " + " ".join(f"{name:>10}" for name in WORK))
        for nbytes in map(int, chosen.sizes.split(",")):
            ref = pool.put(np.zeros(nbytes, np.uint8))
            rounds = chosen.rounds or min(1000, max(30, (256 << 20) // nbytes // 8))
            times: dict[tuple[str, str], list[float]] = {}
            for _ in range(rounds):
                for name, work in WORK.items():
                    for way, copy in WAYS.items():
                        if copy is None and name.startswith("write"):
                            continue  # it is read-only
                        seconds(ref, copy, work)
                        times.setdefault((way, name), []).append(seconds(ref, copy, work))
            for way in WAYS:
                cells = (times.get((way, name)) for name in WORK)
                row = " ".join(
                    f"{'-':>10}" if t is None else f"{1e6 * statistics.median(t):10.1f}"
                    for t in cells
                )
                print(f"{nbytes:11,} {way:12} {row}", flush=True)
            ref.release()


if __name__ == "__main__":
    main()
