"""A table of (date, number, text), and four ways in which workers add up its numbers."""

from __future__ import annotations

from concurrent.futures import Executor, ProcessPoolExecutor
from contextlib import AbstractContextManager, contextmanager, nullcontext
from multiprocessing.managers import SharedMemoryManager
from multiprocessing.shared_memory import SharedMemory
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

import onecopy as oc

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

ROW = np.dtype([("date", "M8[s]"), ("val", "f8"), ("text", "S8")])  # 24 bytes
CHUNK = 1 << 16  # rows made at a time, so that making the table needs little other memory


def make_table(rows: int) -> np.recarray:
    table = np.recarray((rows,), ROW)
    for first in range(0, rows, CHUNK):
        part = table[first : first + CHUNK]
        number = np.arange(first, first + len(part))
        part.date = np.datetime64("2013-01-01T00:00:00") + number
        part.val = number % 1000 / 4
        part.val[number % 10 == 9] = np.nan
        part.text = np.array([b"alpha", b"bravo", b"charlie"])[number % 3]
    return table


def expected_sum(rows: int) -> float:
    """Return the sum of the numbers. They are quarters, so there is no rounding."""
    number = np.arange(1000)
    number[number % 10 == 9] = 0
    return float(rows // 1000 * number.sum() + number[: rows % 1000].sum()) / 4


def add_up(table: np.recarray) -> float:
    """Add up the numbers. This is the task of the workers."""
    return float(np.nansum(table.val))


# How each way prepares the table that the calls get.


def as_it_is(table: np.recarray) -> AbstractContextManager[Any]:
    """Pass the table itself."""
    return nullcontext(table)


@contextmanager
def in_a_block(table: np.recarray) -> Iterator[Block]:
    """Copy the table to a block of shared memory, which the workers open by its name."""
    with SharedMemoryManager() as manager:
        memory = manager.SharedMemory(table.nbytes)
        shared = np.recarray(table.shape, table.dtype, buf=memory.buf)
        np.copyto(shared, table)
        del shared
        yield Block(memory.name, table.shape)
        memory.close()


def in_the_pool(table: np.recarray) -> AbstractContextManager[Any]:
    """Use the same table in onecopy's pool. The original is not needed any more."""
    return nullcontext(oc.put(table).get())


class Block(NamedTuple):
    """The place of a table: all that a worker needs to find it."""

    name: str
    shape: tuple[int, ...]


def use(function: Callable[[np.recarray], float], table: np.recarray | Block) -> float:
    """Call a function with a table, in a worker."""
    if not isinstance(table, Block):
        return function(table)
    memory = SharedMemory(table.name)
    try:
        return function(np.recarray(table.shape, ROW, buf=memory.buf))
    finally:
        memory.close()


class Way(NamedTuple):
    """An executor, and how its workers get the table."""

    executor: type[Executor]
    prepare: Callable[[np.recarray], AbstractContextManager[Any]]


WAYS = {
    "ProcessPoolExecutor": Way(ProcessPoolExecutor, as_it_is),
    "SharedMemory by hand": Way(ProcessPoolExecutor, in_a_block),
    "onecopy.Executor": Way(oc.Executor, as_it_is),
    "onecopy, table in the pool": Way(oc.Executor, in_the_pool),
}
