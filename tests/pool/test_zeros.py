"""`Pool.zeros` writes only what was not reserved for the array just now."""

from pathlib import Path

import numpy as np
import pytest

import onecopy as oc

PIECE = 2 << 20  # bytes; memory is reserved, and given back, in pieces of this size
BYTES = 8 * PIECE


def shared_bytes_touched():
    """Give the bytes of shared memory that this process has touched."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("RssShmem:"):
            return int(line.split()[1]) * 1024
    raise AssertionError("no RssShmem in /proc/self/status")


def spoiled(pool, spans):
    """Write into memory of the pool, and give it back."""
    array = pool.empty(BYTES, "u1")
    for first, end in spans:
        array[first:end] = 255
    del array


SPANS = {
    "first byte": [(0, 1)],
    "last byte": [(BYTES - 1, BYTES)],
    "all": [(0, BYTES)],
    "first page": [(0, 4096)],
    "one page in the middle": [(3 * PIECE + 8192, 3 * PIECE + 12288)],
    "across the ends of pieces": [(n * PIECE - 3, n * PIECE + 5) for n in range(1, 8)],
    "each 37th page": [(n, n + 1) for n in range(0, BYTES, 37 * 4096)],
    "every second piece": [(n, n + PIECE) for n in range(0, BYTES, 2 * PIECE)],
}


@pytest.mark.parametrize("spans", SPANS.values(), ids=SPANS)
@pytest.mark.parametrize("backing", ["shm", "memfd"])
def test_what_was_written_is_zero(backing, spans):
    with oc.Pool.create("written", size=4 * BYTES, backing=backing) as pool:
        spoiled(pool, spans)
        for _ in range(2):
            zeros = pool.zeros(BYTES, "u1")
            assert not zeros.any()
            zeros[:] = 1
            del zeros


@pytest.mark.parametrize("first", [0, 1, 63, 64, 4095, 4096, 4097])
def test_an_array_that_begins_within_a_page(first):
    with oc.Pool.create("within", size=4 * BYTES) as pool:
        spoiled(pool, SPANS["all"])
        before = pool.empty(max(first, 1), "u1")
        before[:] = 7
        zeros = pool.zeros(BYTES - 2 * 4096, "u1")
        assert not zeros.any()
        assert (before == 7).all()


def test_a_pool_on_a_disk(tmp_path):
    with oc.Pool.create(tmp_path / "disk", size=4 * BYTES) as pool:
        spoiled(pool, SPANS["each 37th page"])
        assert not pool.zeros(BYTES, "u1").any()


def test_memory_that_pickled_data_had():
    with oc.Pool.create("put", size=4 * BYTES) as pool:
        ref = pool.put(np.full(BYTES, 9, "u1"))
        del ref
        assert not pool.zeros(BYTES, "u1").any()


@pytest.mark.parametrize("spans", SPANS.values(), ids=SPANS)
def test_memory_that_was_given_back(spans):
    with oc.Pool.create("given", size=4 * BYTES) as pool:
        spoiled(pool, spans)
        pool.collect()
        zeros = pool.zeros(BYTES, "u1")
        assert not zeros.any()


def test_memory_that_was_never_written_is_not_touched():
    with oc.Pool.create("fresh", size=4 * BYTES) as pool:
        _kept = pool.queue()
        before = shared_bytes_touched()
        zeros = pool.zeros(BYTES, "u1")
        # The array begins and ends within a piece that may be another one's, too.
        assert shared_bytes_touched() - before < 2 * PIECE
        assert not zeros.any()
        assert shared_bytes_touched() - before > BYTES - PIECE  # reading it is what touches it
