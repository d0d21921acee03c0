"""`Pool.export` and `Pool.import_` in one process: what gets a place, and what comes back."""

import array
import contextlib
import ctypes
import gc
import mmap
import os
import pickle
import resource
import tempfile
import threading
from pathlib import Path

import numpy as np
import pytest

import onecopy as oc
from onecopy import _native

MIB = 1 << 20


def numbers(nbytes=2 * MIB):
    return np.arange(nbytes, dtype="u1")


def test_a_large_buffer_gets_a_place_and_a_small_one_does_not(pool):
    places, lease = pool.export([b"small", numbers(), b""], threshold="1MiB")
    assert [place is not None for place in places] == [False, True, False]
    assert (lease.nbytes, lease.copied, len(lease)) == (2 * MIB, 2 * MIB, 1)
    small, large, empty = pool.import_(places)
    assert small is empty is None
    assert large.readonly
    assert large == numbers().data


def test_the_threshold_is_the_smallest_that_gets_a_place(pool):
    data = bytes(4096)
    for threshold in (4096, "4KiB"):
        assert pool.export([data], threshold=threshold)[0] != [None]
    assert pool.export([data], threshold=4097)[0] == [None]
    with pytest.raises(ValueError, match="threshold"):
        pool.export([data], threshold="much")


@pytest.mark.parametrize(
    "buffer",
    [
        b"x" * 5000,
        bytearray(b"x" * 5000),
        memoryview(b"x" * 5000)[1:-1],
        pickle.PickleBuffer(np.arange(5000)),
        array.array("d", range(5000)),
        np.arange(6000.0).reshape(20, 300),
        np.asfortranarray(np.arange(6000.0).reshape(20, 300)),
        np.zeros(700, "i4,f8"),
    ],
    ids=lambda buffer: type(buffer).__name__,
)
def test_any_contiguous_buffer(pool, buffer):
    raw = bytes(pickle.PickleBuffer(buffer).raw())
    places, lease = pool.export([buffer], threshold=1)
    with lease:
        assert bytes(pool.import_(places)[0]) == raw


@pytest.mark.parametrize(
    ("buffer", "error"), [(np.arange(9000)[::2], BufferError), ("text", TypeError), (7, TypeError)]
)
def test_what_is_no_contiguous_buffer(pool, buffer, error):
    with pytest.raises(error):
        pool.export([numbers(), buffer])
    with pytest.raises(error):
        pool.where(buffer)
    with pytest.raises(error):
        pool.seal(buffer)
    assert pool.stats().blocks == 0


def test_what_lies_in_the_pool_is_not_copied(pool):
    mine = pool.full(MIB, 7, "u1")
    places, lease = pool.export([mine, mine[100:-100], mine.reshape(1024, 1024)[3]], threshold=500)
    assert pool.stats().blocks == 1
    assert (lease.copied, lease.nbytes) == (0, MIB + MIB - 200 + 1024)
    assert [place.offset for place in places] == [0, 100, 3072]
    assert len({place.block for place in places}) == 1


def test_what_was_exported_is_read_only_for_its_exporter(pool):
    mine = pool.full(MIB, 7, "u1")
    part = mine[10:]
    pool.export([memoryview(part)])
    pool.export([part], threshold=1)
    for one in (mine, part):
        with pytest.raises(ValueError, match="read-only"):
            one[0] = 1
        with pytest.raises(ValueError, match="WRITEABLE"):
            one.flags.writeable = True


def test_results_that_were_born_in_the_pool_are_not_copied(pool):
    with oc.born_in_pool("1MiB", pool):
        born = np.arange(MIB, dtype="u2") + 1
    places, lease = pool.export([pickle.PickleBuffer(born)])
    assert lease.copied == 0
    assert pool.import_(places)[0] == memoryview(born).cast("B")
    assert not born.flags.writeable


def test_a_shared_array_stays_shared(pool):
    shared = pool.shared_array(MIB, "u1")
    places, _ = pool.export([shared])
    [view], [private] = pool.import_(places), pool.import_(places, writable="private")
    assert view.readonly
    shared[5] = 1
    assert view[5] == 1
    assert private[5] == 0
    assert not pool.seal(shared)
    assert shared.flags.writeable


def test_importing_holds_what_was_exported(pool):
    places, lease = pool.export([numbers()])
    [view] = pool.import_(places)
    assert not lease.released
    lease.release()
    lease.release()
    assert lease.released
    assert not lease
    assert view == numbers().data
    assert pool.stats().blocks == 1
    del view
    assert pool.stats().blocks == 0


def test_the_lease_ends_with_its_block_or_its_last_reference(pool):
    with pool.export([numbers()])[1]:
        assert pool.stats().blocks == 1
    assert pool.stats().blocks == 0
    pool.export([numbers()])
    gc.collect()
    assert pool.stats().blocks == 0


def test_a_lease_is_not_pickled(pool):
    _, lease = pool.export([numbers()])
    with pytest.raises(TypeError, match="Send the places"):
        pickle.dumps(lease)


def test_places_travel_as_plain_numbers(pool):
    places, _lease = pool.export([numbers()])
    again = pickle.loads(pickle.dumps(places))
    assert again == places
    plain = [bytes(places[0][0]), *map(int, places[0][1:])]
    for form in (again[0], plain, tuple(plain)):
        assert pool.import_([form])[0] == numbers().data


# ---------------------------------------------------------------------------------- private views


def test_private_memory_changes_nothing_else(pool):
    places, _lease = pool.export([numbers(), numbers()[:5000]], threshold=1)
    original = pool.import_(places)
    for view, before in zip(pool.import_(places, writable="private"), original, strict=True):
        mine = np.frombuffer(view, "u1")
        mine += 1
        assert (mine == np.frombuffer(before, "u1") + 1).all()
    assert original[0] == numbers().data
    assert pool.import_(places)[0] == numbers().data


def test_an_unwritten_private_view_has_the_same_place(pool):
    places, lease = pool.export([numbers()])
    [view] = pool.import_(places, writable="private")
    lease.release()
    again, second = pool.export([np.frombuffer(view, "u4").reshape(2, -1)])
    assert again == places
    assert second.copied == 0
    part, third = pool.export([view[8192 : MIB + 8192]])
    assert (part[0].block, part[0].offset, third.copied) == (places[0].block, 8192, 0)
    assert pool.import_(part)[0] == numbers()[8192 : MIB + 8192].data


@pytest.mark.parametrize(
    "array_of",
    [
        lambda view: np.frombuffer(view, "u1"),
        lambda view: np.ndarray((2, MIB), "u1", view),
        lambda view: np.ndarray((2, MIB), "u1", view).T[:, 1],
        lambda view: np.ndarray((2, MIB), "u1", view).ravel().data,
        lambda view: pickle.PickleBuffer(np.asarray(view)),
        lambda view: pickle.loads(
            pickle.dumps(np.empty(2 * MIB, "u1"), 5, buffer_callback=lambda _: None),
            buffers=[view],
        ),
    ],
)
def test_arrays_over_a_private_view_have_its_place(pool, array_of):
    places, _lease = pool.export([numbers()])
    [view] = pool.import_(places, writable="private")
    [place], second = pool.export([array_of(view)])
    assert place.block == places[0].block
    assert second.copied == 0


@pytest.mark.parametrize("at", [0, MIB, 2 * MIB - 1])
def test_a_written_private_view_is_copied(pool, at):
    places, _lease = pool.export([numbers()])
    [view] = pool.import_(places, writable="private")
    before = view[at]
    view[at] ^= 255
    again, second = pool.export([view])
    assert again[0].block != places[0].block
    assert second.copied == 2 * MIB
    assert pool.import_(again)[0] == view
    assert pool.import_(places)[0][at] == before


def test_a_part_that_was_not_written_is_not_copied(pool):
    places, _lease = pool.export([numbers(8 * MIB)])
    [view] = pool.import_(places, writable="private")
    view[0] = 9
    _, second = pool.export([view[4 * MIB :]])
    assert second.copied == 0


@contextlib.contextmanager
def no_more_descriptors():
    """Nothing can be opened, /proc/self/pagemap neither."""
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (0, limits[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, limits)


def test_if_the_system_does_not_tell_it_counts_as_written(pool):
    places, _lease = pool.export([numbers()])
    views = pool.import_(places, writable="private")
    with no_more_descriptors():
        assert _native.was_written(views[0])
        _, second = pool.export(views)
    assert second.copied == 2 * MIB
    assert pool.export(views)[1].copied == 0


def test_results_of_private_views_are_ordinary(pool):
    places, _lease = pool.export([numbers()])
    [view] = pool.import_(places, writable="private")
    result = np.asarray(view) + 1
    assert pool.export([result])[1].copied == 2 * MIB


def test_a_private_view_of_another_pool_is_copied(pool):
    with oc.Pool.create(size="16MiB") as other:
        places, _lease = other.export([numbers()])
        views = other.import_(places, writable="private")
        again, second = pool.export(views)
        assert second.copied == 2 * MIB
        assert pool.import_(again)[0] == numbers().data


def test_with_torch_loaded_memory_is_private_and_read_only(pool):
    _native.guard_writes(True)  # as torch does; the fixture puts it back
    before = _native.private_mappings()
    places, _lease = pool.export([numbers()])
    [view] = pool.import_(places)
    assert _native.private_mappings() == before + 1
    assert view.readonly
    assert pool.export([view])[0] == places


# ------------------------------------------------------------------------------- where, seal, share


def test_where(pool):
    mine = pool.empty(5000, "u1")
    place = pool.where(mine[17:])
    assert (place.offset, place.nbytes) == (17, 4983)
    assert place.pool[:16] == pool.id
    assert pool.where(np.empty(5000)) is None
    assert pool.where(b"") is None
    assert pool.where(mine[:0]) is None
    with oc.Pool.create(size="1MiB") as other:
        assert other.where(mine) is None
    assert mine.flags.writeable


def test_memory_of_two_blocks_has_no_place(pool):
    """As a library may give it that makes buffers of addresses."""
    first, second = pool.empty(64, "u1"), pool.empty(64, "u1")
    low, high = sorted([first.ctypes.data, second.ctypes.data])
    both = (ctypes.c_ubyte * (high + 64 - low)).from_address(low)
    assert pool.where(both) is None
    assert pool.where(memoryview(both)[:64].cast("B")).nbytes == 64
    assert pool.export([both], threshold=1)[1].copied == high + 64 - low


def test_seal(pool):
    mine = pool.empty(5000, "u1")
    assert not pool.seal(np.empty(5000))
    assert not pool.seal(b"x" * 100)
    assert pool.seal(mine[5:])
    assert not mine.flags.writeable
    assert pool.seal(memoryview(mine))
    [view] = pool.import_([pool.where(mine)])
    assert pool.seal(view)


def test_share(pool):
    assert pool.share() == 0
    mine = pool.empty(MIB, "u1")
    assert pool.share() == mine.nbytes
    assert pool.share(1) == 0
    pool["kept"] = mine
    del mine
    assert pool.share() == 0
    with pytest.raises(TypeError):
        pool.share("me")


def test_can_see(pool):
    with oc.Pool.create(size="1MiB") as other:
        assert pool.can_see(pool.id)
        assert pool.can_see(pool.where(pool.empty(10)).pool)
        assert not pool.can_see(other.id)
        assert not other.can_see(pool.id)
    for nothing in (b"", pool.id[:-1], pool.id * 2, pool.id.hex(), None):
        assert not pool.can_see(nothing)
    assert not other.can_see(other.id)


# ---------------------------------------------------------------------- full, closed, other users


def test_a_full_pool_gives_no_place(pool):
    kept = pool.empty(60 * MIB, "u1")
    places, lease = pool.export([numbers(), numbers(16 * MIB), numbers(), kept[:MIB]])
    assert [place is not None for place in places] == [True, False, True, True]
    assert lease.nbytes == 5 * MIB
    assert pool.export([numbers(100 * MIB)])[0] == [None]
    del kept, lease
    assert pool.stats().blocks == 0


def test_a_closed_pool():
    pool = oc.Pool.create(size="16MiB")
    places, lease = pool.export([numbers()])
    [view] = pool.import_(places)
    pool.close()
    for call in (
        lambda: pool.export([b"x"]),
        lambda: pool.import_(places),
        lambda: pool.where(view),
        lambda: pool.seal(view),
        pool.share,
    ):
        with pytest.raises(oc.Closed):
            call()
    assert view == numbers().data
    lease.release()


def test_a_pool_that_others_may_write(tmp_path):
    tmp_path.chmod(0o755)
    with oc.Pool.create(tmp_path / "open.pool", size="16MiB", mode=0o666) as pool:
        mine = pool.empty(MIB, "u1")
        with pytest.raises(oc.Untrusted, match="other users may write"):
            pool.export([mine])
        with pytest.raises(oc.Untrusted, match="other users may write"):
            pool.import_([pool.where(mine)])
        assert not pool.can_see(pool.id)
        assert mine.flags.writeable


def test_a_pool_that_is_open_for_reading_only(tmp_path):
    path = tmp_path / "kept.pool"
    with oc.Pool.create(backing=path, size="16MiB") as pool:
        pool["data"] = numbers()
    with oc.Pool.open(path, "r") as reader:
        data = reader["data"]
        places, lease = reader.export([data, numbers()])
        assert places[1] is None
        assert lease.copied == 0
        assert reader.import_(places)[0] == numbers().data
        [private] = reader.import_(places[:1], writable="private")
        private[0] = 99
        assert data[0] == 0
        assert reader.share() == 0


def test_arguments(pool):
    with pytest.raises(ValueError, match="'readonly' or 'private'"):
        pool.import_([], writable=True)
    assert pool.import_([]) == []
    places, lease = pool.export([])
    assert places == []
    assert lease.released


# ------------------------------------------------------------------------------------------ threads


def test_threads_export_and_import_at_the_same_time(pool):
    errors = []

    def work(value):
        try:
            for _ in range(50):
                data = np.full(300_000, value, "u1")
                places, lease = pool.export([data], threshold=1)
                views = pool.import_(places, writable="private" if value % 2 else "readonly")
                lease.release()
                assert views[0] == data.data
        except BaseException as error:  # noqa: BLE001 - it is looked at below
            errors.append(error)

    threads = [threading.Thread(target=work, args=(value,)) for value in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert errors == []
    assert pool.stats().blocks == 0
    assert pool.validate() == []


def test_one_lease_is_released_by_many_threads(pool):
    for _ in range(20):
        _, lease = pool.export([numbers()] * 3)
        threads = [threading.Thread(target=lease.release) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert pool.stats().blocks == 0


def test_an_exporter_in_an_arrow_buffer(pool):
    arrow = pytest.importorskip("pyarrow")
    places, _lease = pool.export([numbers()])
    [view] = pool.import_(places, writable="private")
    assert pool.export([arrow.py_buffer(view)])[0] == places
    mine = pool.full(MIB, 3, "u1")
    assert pool.export([arrow.py_buffer(mine)])[1].copied == 0


def test_a_pool_of_anonymous_memory():
    with oc.Pool.create(size="16MiB", backing="memfd") as pool:
        places, _lease = pool.export([numbers()])
        assert pool.import_(places)[0] == numbers().data
        [private] = pool.import_(places, writable="private")
        private[1] = 0
        assert pool.import_(places)[0][1] == 1


def test_written_pages_are_what_the_kernel_says():
    page = mmap.PAGESIZE
    path = Path("/dev/shm")  # noqa: S108 - memory, as pools have
    if not path.is_dir():
        pytest.skip("no /dev/shm")
    with tempfile.TemporaryFile(dir=path) as file:
        os.posix_fallocate(file.fileno(), 0, 2 * page)
        private = np.frombuffer(mmap.mmap(file.fileno(), 2 * page, flags=mmap.MAP_PRIVATE), "u1")
        assert not _native.was_written(private)
        assert private.sum() == 0
        assert not _native.was_written(private)
        private[page] = 1
        assert not _native.was_written(private[:page])
        assert _native.was_written(private)
