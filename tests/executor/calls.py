"""Calls for workers, in a module, so that spawned workers find them."""

import os
import signal
import time
from pathlib import Path

import numpy as np

import onecopy as oc


def where(array):
    """Report what the worker got: its sum, and whether it can be written."""
    return float(array.sum()), array.flags.writeable


def total(array, *more, model=None):
    """Add up an array and numbers."""
    return float(array.sum()) + sum(more)


def slow_total(array, *more):
    """The same, but slowly."""
    time.sleep(0.002)
    return total(array, *more)


def total_of(ref):
    """Add up the array of a reference."""
    return float(ref.get().sum())


def write(array):
    """Try to write."""
    array[0] = 1


def write_in(parts):
    """Try to write to each of several."""
    for array in parts.values():
        write(array)


def total_in(parts):
    """Add up several arrays that lie inside of another object."""
    return float(sum(array.sum() for arrays in parts.values() for array in arrays))


def totals(array, other, ref, number):
    """Add up arrays from several places."""
    return float(array.sum() + other.sum() + ref.get().sum()) + number


def length(table):
    """Look at a table of any library."""
    return len(table)


def same(obj):
    """Return the argument."""
    return obj


def rows(frame, _):
    """Look at a table."""
    return len(frame), float(frame["number"].sum())


def grown(array):
    """Make a result that is half as large again."""
    return np.ones(array.size * 3 // 2)


def fail_with(array):
    """Fail, with the arguments in the frames of the cause."""
    try:
        write(array)
    except ValueError as error:
        raise ValueError("after a look") from error


def kind(obj):
    """Report the argument."""
    return type(obj).__name__


def ones(n):
    """Make a large result."""
    return np.ones(n)


def a_reference(n):
    """Make a reference that is the only one to its object."""
    return {"ref": oc.Pool.of(_member()).put(np.full(n, 3.0))}


_pool = None


def use_pool(pool):
    """Remember a pool; an initializer."""
    global _pool  # noqa: PLW0603
    _pool = pool


def _member():
    return _pool.member


def ignore_termination():
    """Ignore SIGTERM; an initializer."""
    signal.signal(signal.SIGTERM, signal.SIG_IGN)


def die():
    """End as `kill -9` does."""
    os.kill(os.getpid(), signal.SIGKILL)


def die_once(mark, value):
    """Die the first time."""
    path = Path(mark)
    try:
        path.touch(exist_ok=False)
    except FileExistsError:
        return value
    return die()


def die_with(array, mark):
    """Die the first time, while it has an array."""
    return die_once(mark, float(array.sum()))


def pid():
    """Return which worker this is."""
    return os.getpid()


def count(path, number):
    """Leave a file for each run of a call."""
    with Path(path).open("a") as file:
        file.write(f"{number}\n")
    return number


def wait_for(path):
    """Work until a file exists."""
    while not Path(path).exists():
        time.sleep(0.005)
    return True


def meet(array, mine, other):
    """Wait until another call runs."""
    Path(mine).touch()
    wait_for(other)
    return int(array.sum())


def fail():
    """Fail."""
    raise ValueError("on purpose")


def fork_and_die(told):
    """Die, and leave a child behind."""
    child = os.fork()
    if child == 0:
        signal.pause()
    told.put(child)
    die()
