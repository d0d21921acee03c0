"""A process loses something in the middle of a public operation; natively: losses_test.cpp.

It loses the pool's descriptor, which is closed or becomes another file's; or all descriptors but a
few are in use. It may get an exception, or continue. It does not end because of it, and no other
process is harmed. Private memory that is used up: test_no_memory.py.
"""

import os
import resource
import signal
import struct
import sys
import traceback
from contextlib import suppress
from pathlib import Path

import pytest

from onecopy import _native

if not hasattr(_native, "lose_at"):
    pytest.skip("needs a fault build: make faults", allow_module_level=True)

from crash_operations import OPERATIONS
from crash_world import HANG, NEVER, Victims, world

# The core has the same campaign (losses_test.cpp), which `make test` runs.
pytestmark = pytest.mark.check

FULL = os.environ.get("ONECOPY_CRASH") == "full"
FREE = range(5)  # descriptors
CONTENT = b"another file" * 1000
TRIED = [
    pytest.param(operation, id=operation.name, marks=[pytest.mark.slow] * (number % 3 != 0))
    for number, operation in enumerate(each for each in OPERATIONS if not each.in_child)
]


class Losers(Victims):
    """Victims that do not die of a loss."""

    def lose(self, arm):
        """Run the operation in a victim that loses something; return whether it lost it."""
        self.operation.prepare(self.world)
        self._record[:32] = bytes(32)
        pid = os.fork()
        if pid == 0:
            self._lose(arm)
        _, status = os.waitpid(pid, 0)
        assert os.WIFSIGNALED(status), f"it failed, status {status}"
        assert os.WTERMSIG(status) == signal.SIGKILL, f"it was ended by {os.WTERMSIG(status)}"
        happened, self.last = struct.unpack("2Q", self._record[:16])
        assert self.world.pool.stats().processes in (2, 3)  # no living process was treated as dead
        self._recover()
        self._go_on()
        return bool(happened)

    def _lose(self, arm):
        try:
            signal.alarm(HANG)
            self.operation.ready(self.world)
            happened = arm()
            with suppress(Exception):
                kept = self.operation.act(self.world)  # noqa: F841 - it dies with it
            steps = _native.crash_steps()
            self._record[:16] = struct.pack("2Q", happened(), steps)
        except BaseException:  # noqa: BLE001 - nothing may get back into pytest from here
            traceback.print_exc()
            sys.stderr.flush()
            os._exit(1)
        os.kill(os.getpid(), signal.SIGKILL)


@pytest.fixture
def losers(operation, pool_directory):
    with world(pool_directory) as at:
        losers = Losers(at, operation)
        losers.measure()
        yield losers


def with_free_descriptors(count):
    """Use all descriptors except some."""

    def arm():
        resource.setrlimit(resource.RLIMIT_NOFILE, (128, 128))
        taken = []
        with suppress(OSError):
            while True:
                taken.append(os.open(os.devnull, os.O_RDONLY))
        assert len(taken) >= count
        for descriptor in taken[:count]:
            os.close(descriptor)
        return lambda: True

    return arm


def descriptors_of(path):
    """Numbers of this process that lead to a file."""
    file = path.stat()
    for number in Path("/proc/self/fd").iterdir():
        with suppress(OSError):
            if os.path.samestat(os.fstat(int(number.name)), file):
                yield int(number.name)


def without_descriptor(pool, step, by):
    """Close the pool's descriptor, or make it lead to another file, at a step."""

    def arm():
        # The member's descriptor is the first one. Private pages have opened a second one.
        own = min(descriptors_of(Path(pool.member.path)))
        before = os.fstat(own)
        _native.lose_at(step, own, by)

        def happened():
            _native.crash_after(0)
            with suppress(OSError):
                return not os.path.samestat(os.fstat(own), before)
            return True

        return happened

    return arm


@pytest.mark.timeout(600)
@pytest.mark.parametrize("operation", TRIED)
def test_few_descriptors(losers):
    for count in FREE:
        assert losers.lose(with_free_descriptors(count))


@pytest.mark.timeout(600)
@pytest.mark.parametrize("kind", ["closed", "replaced"])
@pytest.mark.parametrize("operation", TRIED)
def test_lost_descriptor(losers, kind, tmp_path):
    other = tmp_path / "other"
    other.write_bytes(CONTENT)
    descriptor = os.open(other, os.O_RDWR)
    by = descriptor if kind == "replaced" else -1
    pool = losers.world.pool
    try:
        assert not losers.lose(without_descriptor(pool, NEVER, by))
        last = losers.last
        steps = (
            range(1, last + 1) if FULL else sorted({1, 2, last // 2, last} & {*range(1, last + 1)})
        )
        for step in steps:
            # An operation does not always take as many steps as it did the first time.
            assert losers.lose(without_descriptor(pool, step, by)) or losers.last < step
            assert other.read_bytes() == CONTENT
            assert (
                other.stat().st_blocks * 512 < 2 * len(CONTENT) + 8192
            )  # nothing was reserved in it
    finally:
        os.close(descriptor)
