"""Arrays go to and from managers by reference where this is possible."""

from __future__ import annotations

import contextlib
import os
import pickle
import subprocess
import sys
from multiprocessing import process

import children
import namespaces
import numpy as np
import pytest
from serving import KEY, LARGE, by_reference, numbers

import onecopy as oc
from onecopy._codec.backing import lease_of
from onecopy.multiprocessing.managers import SyncManager

pytestmark = pytest.mark.one_in(2)


# ------------------------------------------------------------------------------------- by reference


def test_what_is_put_and_what_comes_back_is_copied_once_each(manager):
    items, array = manager.list(), numbers()
    items.append(array)
    by_reference(None)
    array[0] = -1
    back = items[0]
    assert by_reference(back)
    assert back.flags.writeable
    assert back[0] != -1
    back[1] = -2
    assert items[0][1] != -2
    again = items[0]
    assert np.array_equal(again[2:], array[2:])
    back = again = None
    assert items.pop()[1] == array[1]


def test_an_array_of_the_pool_is_not_copied_at_all(manager):
    items, array = manager.list(), oc.empty((250, 250))
    array[...] = 7
    items.append(array)
    assert not array.flags.writeable
    back = items[0]
    assert np.array_equal(back, array)
    assert not back.flags.writeable
    assert lease_of(back).handle == lease_of(array).handle
    items.append(array[::-2, 5:])
    assert np.array_equal(items[1], array[::-2, 5:])
    assert lease_of(items[1]).handle == lease_of(array).handle
    items.append(oc.array([1, 2, 3]))  # small ones too
    assert by_reference(items[2])


def test_a_shared_array_is_the_same_memory_everywhere(manager):
    items, grid = manager.list(), oc.shared_array((300, 300))
    items.append(grid)
    items[0][5, 5] = 3
    assert grid[5, 5] == 3
    assert type(items[0]) is oc.SharedArray
    assert items.pop()[5, 5] == 3


@pytest.mark.parametrize(
    "array",
    [
        np.asfortranarray(numbers().reshape(250, -1)),
        numbers().reshape(250, -1)[::-1, ::2],
        np.arange(LARGE // 8).astype(">i8"),
        np.arange(LARGE // 8).astype("M8[s]"),
        np.zeros(LARGE // 16, [("a", "f8"), ("b", "<i4"), ("c", ">i4")]),
        np.arange(100, dtype=">i4").reshape(10, 10).T,
        np.array(["a", {"b": 1}], dtype=object),
        np.zeros((0, 5)),
        np.array(5.0),
        np.ma.masked_array(numbers(), numbers() > 0.5),
    ],
    ids=lambda array: f"{array.dtype}-{array.shape}",
)
def test_arrays_of_all_kinds_arrive_equal(manager, array):
    box = manager.list([array])
    for back in (box[0], box[:][0]):
        assert back.dtype in (array.dtype, array.dtype.newbyteorder("="))  # like numpy's pickles
        assert back.shape == array.shape
        assert np.array_equal(back, array)
        assert back.flags.writeable


def test_an_array_that_may_only_be_read_arrives_as_a_copy(manager):
    array = numbers()
    array.flags.writeable = False
    small = np.arange(5)
    small.flags.writeable = False
    for back in manager.list([array, small])[:]:
        back[0] = 1
    assert array[0] != 1


def test_arrays_are_found_wherever_they_are(manager):
    array = numbers()
    table = manager.dict({"made with": array}, keyword=array)
    table.update({"deep": [({"here": array},)]})
    table["twice"] = [array, array]
    for back in (
        table["made with"],
        table["keyword"],
        table["deep"][0][0]["here"],
        *(value for value in table.values()[:2]),
        dict(table.items())["keyword"],
        table.copy()["made with"],
    ):
        assert by_reference(back)
        assert np.array_equal(back, array)
    first, second = table["twice"]
    assert first is second
    names = manager.Namespace(picture=array)
    assert by_reference(names.picture)


class Buffer:
    """An object of another library: its data is a buffer."""

    def __init__(self, data):
        self.data = data

    def __reduce_ex__(self, protocol):
        return Buffer, (pickle.PickleBuffer(self.data),)


def test_buffers_of_other_objects_go_by_reference_too(manager):
    items = manager.list([Buffer(bytearray(b"ab" * LARGE)), Buffer(b"small"), Buffer(b"c" * LARGE)])
    first, second, third = items[:]
    assert bytes(first.data) == b"ab" * LARGE
    assert bytes(second.data) == b"small"
    assert bytes(third.data) == b"c" * LARGE
    assert by_reference(np.frombuffer(first.data, np.uint8))
    assert by_reference(np.frombuffer(third.data, np.uint8))
    assert second.data == b"small"


def test_a_full_pool_is_no_error_the_bytes_follow(manager):
    pool = oc.default_pool()
    filler = []
    with contextlib.suppress(oc.PoolFull):
        while True:
            filler.append(pool.empty(1 << 22, "u1"))
    with contextlib.suppress(oc.PoolFull):
        while True:
            filler.append(pool.empty(LARGE // 2, "u1"))
    items = manager.list([numbers()])
    items.append(Buffer(bytearray(LARGE)))
    back = items[0]
    assert not by_reference(back)
    assert np.array_equal(back, numbers())
    assert items[1].data == bytearray(LARGE)
    filler.clear()
    children.eventually(lambda: by_reference(items[0]), "room")


def put_and_check(address, key, expected):
    """Be a client: put an array, get it back, and report how it came."""
    client = SyncManager(address, key)
    client.connect()
    items = client.list([numbers()])
    items.append(numbers())
    for index in range(2):
        back = items[index]
        assert np.array_equal(back, numbers())
        assert back.flags.writeable
        assert ("by reference" if by_reference(back) else "bytes") == expected, expected


def nest(address, key):
    client = SyncManager(address, key)
    client.connect()
    outer = client.dict({"deep": client.list([numbers()])})
    assert process.current_process().authkey != key
    assert np.array_equal(outer["deep"][0], numbers())
    outer["auto"] = client.Queue()
    outer["auto"].put(1)
    assert outer["auto"].get() == 1


def test_a_proxy_that_comes_from_a_server_knows_the_servers_key(tcp, start):
    assert start("stranger", nest, tcp.address, KEY).wait() == 0


def test_a_client_that_is_no_relative_gets_arrays_by_reference(tcp, start):
    assert start("stranger", put_and_check, tcp.address, KEY, "by reference").wait() == 0
    children.eventually(lambda: children.used(oc.default_pool()) == 0, "its memory to be free")


def test_a_client_with_another_pool_of_its_own_still_uses_the_servers(tcp, start):
    assert start("stranger", with_a_pool_first, tcp.address, KEY).wait() == 0


def with_a_pool_first(address, key):
    mine = oc.default_pool()
    client = SyncManager(address, key)
    client.connect()
    array = oc.array(numbers())
    items = client.list()
    items.append(array)
    back = items[0]
    assert np.array_equal(back, array)
    assert by_reference(back)
    assert mine.stats().used > 0
    array[0] = 5  # it was copied into the other pool: the original is still ours
    assert items[0][0] != 5


def test_where_the_client_looks_for_pools_elsewhere_the_bytes_follow(tcp, start, tmp_path):
    before = oc.default_pool().stats().used
    assert start("stranger", elsewhere, str(tmp_path), tcp.address, KEY).wait() == 0
    assert oc.default_pool().stats().used == before


def elsewhere(directory, address, key):
    os.environ["ONECOPY_DIR"] = directory
    put_and_check(address, key, "bytes")


def run_inside(command, address, expected):
    code = (
        "import sys; sys.path[:0] = eval(sys.argv[1])\n"
        "import test_manager_arrays as t\n"
        "t.put_and_check(eval(sys.argv[2]), t.KEY, sys.argv[3])"
    )
    done = subprocess.run(
        [*command, sys.executable, "-c", code, repr(sys.path), repr(address), expected],
        capture_output=True,
        text=True,
        timeout=children.LIMIT,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")


def test_on_what_looks_like_another_machine_the_bytes_follow(manager, pool_directory):
    run_inside(namespaces.small("16m", pool_directory), manager.address, "bytes")


def test_another_network_is_no_other_machine(manager):
    run_inside(namespaces._unshare("--net"), manager.address, "by reference")
