"""Private pages that are kept for the next array in the same part of the pool."""

import mmap
import resource
from pathlib import Path

import numpy as np
import pytest

import onecopy as oc

LARGE = 1 << 20  # bytes: a smaller mapping is not kept


@pytest.mark.parametrize("backing", ["shm", "memfd", "file"])
def test_the_next_array_shows_nothing_of_what_was_written(tmp_path, pool_directory, backing):
    """Mappings are kept for the next array; sizes, places and writes change from round to round."""
    place = {"name": str(tmp_path / "on-disk")} if backing == "file" else {"backing": backing}
    random = np.random.default_rng(5)
    with oc.Pool.create(size="16MiB", **place) as pool:
        kept = []
        for number in range(120):
            nbytes = int(random.integers(LARGE, 4 * LARGE))
            ref = pool.put({"a": np.full(nbytes, number, "u1")})
            several = [ref.get("on_write")["a"] for _ in range(1 + number % 3)]
            for got in several:
                assert (got == number).all()
                first = int(random.integers(nbytes))
                got[first : first + int(random.integers(nbytes))] = 255
                got[[0, -1]] = 254
            assert (ref.get()["a"] == number).all()
            kept = several[:1] if number % 5 == 0 else kept  # its part of the pool is not free
        assert kept[0][0] == 254


@pytest.mark.skipif(
    Path("/proc/sys/vm/overcommit_memory").read_text(encoding="ascii").strip() == "2",
    reason="what is mapped is counted",
)
def test_the_next_array_has_the_same_pages(pool):
    """What was used once costs no faults any more. (The kernel maps 16 pages with each.)"""
    faults = []
    for number in range(4):
        ref = pool.put(np.full(4 * LARGE, number, "u1"))
        before = resource.getrusage(resource.RUSAGE_THREAD).ru_minflt
        got = ref.get("on_write")
        assert got[:: mmap.PAGESIZE].sum() == number * 4 * LARGE // mmap.PAGESIZE
        faults.append(resource.getrusage(resource.RUSAGE_THREAD).ru_minflt - before)
        got[number] = 9
        del got, ref
    assert max(faults[1:]) < 32 <= faults[0], faults
