"""Large copies into a pool: the same bytes, whichever way the copy is made."""

import threading

import children
import numpy as np
import pytest

import onecopy as oc

# Near the size at which large copies begin, and near the size of one piece.
SIZES = [(256 << 10) - 1, 256 << 10, (1 << 20) - 1, (1 << 20) + 1, 5_000_001]


def numbers(nbytes, start=0):
    """Bytes that all differ from their neighbours, and from the bytes for another start."""
    count = -(-nbytes // 8)
    return (np.arange(count, dtype=np.uint64) * 0x9E3779B97F4A7C15 + start).view(np.uint8)[:nbytes]


def put_and_compare(pool, start=0):
    for size in SIZES:
        for offset in (0, 1, 4095):
            data = numbers(size + offset, start)[offset:]
            assert np.array_equal(pool.put(data).get(), data)


@pytest.fixture(params=["shm", "memfd", "file"])
def backed(request, tmp_path):
    backing = tmp_path / "pool" if request.param == "file" else request.param
    with oc.Pool.create(size="64MiB", backing=backing) as pool:
        yield pool


def test_in_a_fresh_pool_and_where_others_lay(backed):
    put_and_compare(backed)
    put_and_compare(backed, start=1)


def test_all_that_is_copied(backed):
    data = numbers(3_000_001)
    text = "é" * 1_000_000
    for obj in (data.tobytes(), text):
        assert backed.put(obj).get() == obj
    assert bytes(backed.put(memoryview(data)).get()) == data.tobytes()
    several = backed.put({"a": data, "b": data[::-1].copy()}).get()
    assert np.array_equal(several["a"], data)
    assert np.array_equal(several["b"], data[::-1])


def test_memory_that_another_process_wrote(pool, start):
    child = start("fork", _puts, pool)
    assert child.wait() == 0
    put_and_compare(pool, start=3)


def test_after_a_fork(pool, start):
    put_and_compare(pool)
    assert start("fork", _puts, pool).wait() == 0


def _puts(pool):
    put_and_compare(pool, start=2)


def test_in_threads(pool):
    wrong = []

    def work(start):
        for step in range(4):
            data = numbers(3_000_001, start * 100 + step)
            if not np.array_equal(pool.put(data).get(), data):
                wrong.append((start, step))

    threads = [threading.Thread(target=work, args=(start,)) for start in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(children.LIMIT)
        assert not thread.is_alive()
    assert not wrong


def test_fill_writes_into_an_array_of_the_pool(backed):
    data = numbers(5_000_001)
    array = backed.empty(data.size + 2, np.uint8)
    array[:] = 7
    backed.member.fill(array[1:-1], data)
    assert np.array_equal(array[1:-1], data)
    assert array[0] == array[-1] == 7
    backed.member.fill(array[:0], b"")


def test_fill_says_what_does_not_fit(pool):
    array = pool.empty(100, np.uint8)
    with pytest.raises(ValueError, match="99 bytes do not fill an array of 100 bytes"):
        pool.member.fill(array, bytes(99))
    with pytest.raises(ValueError, match="does not lie in this pool"):
        pool.member.fill(np.zeros(100, np.uint8), bytes(100))
    with (
        oc.Pool.create(size="16MiB") as other,
        pytest.raises(ValueError, match="does not lie in this pool"),
    ):
        other.member.fill(array, bytes(100))
    with pytest.raises((ValueError, BufferError), match="contiguous"):
        pool.member.fill(array[::2], bytes(50))
    array.flags.writeable = False
    with pytest.raises((ValueError, BufferError), match="read-only"):
        pool.member.fill(array, bytes(100))
