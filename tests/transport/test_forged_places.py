"""Places that were forged, damaged, or come too late: `StaleRef`, and never other data."""

import gc
import shutil

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as some

import onecopy as oc

MIB = 1 << 20


@pytest.fixture
def exported(pool):
    places, lease = pool.export([np.arange(MIB, dtype="u1")])
    with lease:
        yield places[0]


WRONG_FORMS = [
    b"",
    b"12345678901234567890123456789012",
    "text",
    7,
    ...,
    (),
    [],
    {},
    {"pool": b"", "block": 1},
    (1, 2, 3, 4),
]


@pytest.mark.parametrize("wrong", WRONG_FORMS, ids=repr)
@pytest.mark.parametrize("writable", ["readonly", "private"])
def test_what_is_no_place(pool, exported, wrong, writable):
    with pytest.raises(oc.StaleRef, match="not a place"):
        pool.import_([exported, wrong], writable=writable)


@pytest.mark.parametrize(
    "change",
    [
        {"pool": b""},
        {"pool": b"0" * 32},
        {"pool": "0" * 32},
        {"pool": None},
        {"block": 0},
        {"block": -1},
        {"block": 1 << 64},
        {"block": 1 << 200},
        {"block": (1 << 64) - 1},
        {"block": 1.5},
        {"block": True},
        {"block": None},
        {"offset": -1},
        {"offset": 1},
        {"offset": MIB},
        {"offset": 1 << 63},
        {"offset": (1 << 64) - 1},
        {"offset": 1 << 300},
        {"offset": "0"},
        {"nbytes": 0},
        {"nbytes": -1},
        {"nbytes": MIB + 1},
        {"nbytes": 1 << 63},
        {"nbytes": (1 << 64) - 1},
        {"nbytes": True},
        {"offset": (1 << 64) - 1, "nbytes": 2},  # would wrap in 64 bits
    ],
    ids=str,
)
def test_a_forged_item(pool, exported, change):
    with pytest.raises(oc.StaleRef):
        pool.import_([exported._replace(**change)])
    assert pool.import_([exported])[0].nbytes == MIB


def test_another_generation_of_the_block(pool, exported):
    for generation in (1, 2, 1 << 20, (1 << 31) - 1):
        with pytest.raises(oc.StaleRef):
            pool.import_([exported._replace(block=exported.block + (generation << 32))])


def test_another_index_with_this_generation(pool, exported):
    for index in range(1, 50):
        with pytest.raises(oc.StaleRef):
            pool.import_([exported._replace(block=exported.block + index)])


def test_a_structure_has_no_place(pool, exported):
    queue, values = pool.queue(), pool.list([1, 2])
    for structure in (queue, values):
        with pytest.raises(oc.StaleRef):
            pool.import_([exported._replace(block=structure.handle, nbytes=8)])


@given(
    block=some.integers(-2, 1 << 65),
    offset=some.integers(-2, 2 * MIB),
    nbytes=some.integers(-2, 1 << 65),
)
def test_any_numbers_give_stale_or_bytes_of_the_block(block, offset, nbytes):
    with oc.Pool.create(size="4MiB") as pool:
        places, _lease = pool.export([np.arange(MIB, dtype="u1")])
        forged = places[0]._replace(offset=offset, nbytes=nbytes)
        try:
            [view] = pool.import_([forged])
        except oc.StaleRef:
            assert offset < 0 or nbytes <= 0 or offset + nbytes > MIB
        else:
            assert view == np.arange(MIB, dtype="u1")[offset : offset + nbytes].data
        if block != places[0].block:
            with pytest.raises(oc.StaleRef):
                pool.import_([forged._replace(block=block)])
        assert pool.validate() == []


# ---------------------------------------------------------------------------------------- too late


def test_a_place_after_its_lease(pool):
    places, lease = pool.export([np.zeros(MIB, "u1")])
    lease.release()
    with pytest.raises(oc.StaleRef):
        pool.import_(places)


def test_a_place_whose_memory_has_other_data_now(pool):
    """Memory of that size is used again at once, at the same address and index."""
    places, lease = pool.export([np.zeros(MIB, "u1")])
    lease.release()
    again, _lease = pool.export([np.ones(MIB, "u1")])
    assert again[0].block & 0xFFFFFFFF == places[0].block & 0xFFFFFFFF
    for writable in ("readonly", "private"):
        with pytest.raises(oc.StaleRef):
            pool.import_(places, writable=writable)


@pytest.mark.parametrize("writable", ["readonly", "private"])
def test_if_one_is_gone_nothing_is_held(pool, writable):
    places, lease = pool.export([np.zeros(MIB, "u1")] * 2 + [np.zeros(2 * MIB, "u1")])
    kept, gone = places[:2], places[2]
    views = pool.import_(kept)
    lease.release()
    with pytest.raises(oc.StaleRef):
        pool.import_([*kept, gone], writable=writable)
    del views
    gc.collect()
    assert pool.stats().blocks == 0


def test_a_place_of_another_pool(pool, exported):
    with oc.Pool.create(size="64MiB") as other:
        places, _lease = other.export([np.ones(MIB, "u1")])
        with pytest.raises(oc.StaleRef, match="another pool"):
            pool.import_(places)
        with pytest.raises(oc.StaleRef, match="another pool"):
            other.import_([exported])


def test_a_copy_of_the_file_is_another_pool(tmp_path):
    """It has the same id, and the same numbers lead to other data there."""
    path, copied = tmp_path / "one.pool", tmp_path / "two.pool"
    with oc.Pool.create(backing=path, size="8MiB") as pool:
        pool["x"] = np.zeros(MIB, "u1")
    shutil.copy(path, copied)
    with oc.Pool.open(path) as pool, oc.Pool.open(copied) as other:
        places, _lease = pool.export([pool["x"]])
        assert pool.id == other.id
        assert other.can_see(pool.id)
        assert not other.can_see(places[0].pool)
        with pytest.raises(oc.StaleRef, match="copy of its file"):
            other.import_(places)
        assert pool.import_(places)[0].nbytes == MIB
