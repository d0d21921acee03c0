"""The process's own memory is used up at each allocation of each public operation, in turn.

The operation then raises MemoryError, or does without; it never ends the process, and leaves the
pool sound, nothing leaked, and itself possible. Python's allocations count like those of the core.
It needs a fault build, as the crash campaign does; `make crash` tries every allocation.
"""

import contextlib
import gc
import mmap
import os
import pickle
import signal
import struct
import sys
import traceback
import warnings

import pytest

from onecopy import _native

if not hasattr(_native, "fail_allocation"):
    pytest.skip("needs a fault build: make faults", allow_module_level=True)

from crash_operations import OPERATIONS
from crash_world import HANG, nothing, world

FULL = os.environ.get("ONECOPY_CRASH") == "full"
FIRST = 10  # allocations that a slice tries one by one, and the number of others that it tries
WARM = 3  # rounds without a failure: afterwards nothing more is loaded


class Actor:
    """Tries an operation in its own process, and records its progress."""

    def __init__(self, operation, directory) -> None:
        self.operation = operation
        self._directory = directory
        # the allocation that fails; the allocations of the whole operation
        self._note = mmap.mmap(-1, 16)

    def run(self) -> tuple[int, int]:
        """Return the allocation at which it ended (0: none), and their number."""
        sys.stderr.flush()
        pid = os.fork()
        if pid == 0:
            self._be_the_actor()
        _, status = os.waitpid(pid, 0)
        at, number = struct.unpack("2Q", self._note[:16])
        return (0 if os.waitstatus_to_exitcode(status) == 0 else at), number

    def _be_the_actor(self) -> None:
        try:
            signal.alarm(0)
            with warnings.catch_warnings(), world(self._directory) as at:
                # Errors that cannot be raised, for example in a destructor, are written.
                sys.unraisablehook = nothing
                for _ in range(WARM):
                    number = self._try(at, 0)
                for nth in self._chosen(number):
                    self._note[:16] = struct.pack("2Q", nth, number)
                    self._try(at, nth)
        except BaseException:  # noqa: BLE001 - nothing may get back into pytest from here
            traceback.print_exc()
            sys.stderr.flush()
            os._exit(1)
        os._exit(0)

    def _chosen(self, number: int) -> list[int]:
        if FULL or number <= 2 * FIRST:
            return list(range(1, number + 1))
        return [*range(1, FIRST + 1), *range(FIRST + 1, number + 1, -(-number // FIRST))]

    def _try(self, at, nth: int) -> int:
        """Try it with the nth allocation failing (0: none); return the number of allocations."""
        operation = self.operation
        signal.alarm(HANG)
        operation.prepare(at)
        operation.ready(at)
        result = None
        number = 0
        try:
            _native.fail_allocation(nth)
            result = operation.act(at)
            number = _native.allocations()
            _native.fail_allocation(0)
        except BaseException as error:
            _native.fail_allocation(0)
            if nth == 0 or not _is_for_want_of_memory(error):
                raise
            del error
            # What it did not do (for example, release a lock) can be done now. What it did must not
            # be repeated.
            with contextlib.suppress(Exception):
                operation.act(at)
        result = None  # noqa: F841 - as above
        gc.collect()
        assert at.pool.validate() == []
        operation.look(at)
        at.second("look")
        at.settle()
        return number


def _is_for_want_of_memory(error: BaseException | None) -> bool:
    # Exceptions of CPython: pickle hides why an import failed, and its interpreter hides a lack of
    # memory.
    if isinstance(error, pickle.PicklingError) and "import of module" in str(error):
        return True
    if isinstance(error, SystemError) and "without" in str(error):
        return True
    while error is not None and not isinstance(error, MemoryError):
        error = error.__cause__ or error.__context__
    return error is not None


# What an operation took and could not return is lost with it. What it has put is put again by the
# second try. So the numbers, which `settle` checks, have gaps.
LOSES = {
    "get_many, redelivering",
    "Queue.get array",
    "Queue.get_many across chunks",
    "Queue.get_message",
    "Queue.get, private pages",
    "Queue.get_many, private pages",
    "Queue.put_many",
    "for ... in a subscription",
    "take and finish across chunks",
}


# asyncio does not survive it: if a callback of a future finds no memory, the task is never run
# again, and `asyncio.run` waits for it. An `asyncio.Event` with one waiter that is cancelled hangs
# so at one in ten of its allocations.
ASYNCIO = ("Condition.aio, ", "Barrier.aio, ")


def _tried():
    for operation in OPERATIONS:
        if operation.name not in LOSES and not operation.name.startswith(ASYNCIO):
            yield pytest.param(operation, id=operation.name)


@pytest.mark.one_in(7, check=3)
@pytest.mark.timeout(1800 if FULL else 120)
@pytest.mark.parametrize("operation", list(_tried()))
def test_no_memory_in(operation, pool_directory, record_property):
    ended_at, number = Actor(operation, pool_directory).run()
    assert ended_at == 0, f"it ended at allocation {ended_at} of {number}"
    record_property("allocations", number)
