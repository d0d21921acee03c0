"""`copy` and `deepcopy` of things in a pool: the same thing, also if its name was deleted."""

import copy
import shutil

import numpy as np
import pytest

import onecopy as oc

pytestmark = pytest.mark.one_in(2)


def unlinked(directory, name, value):
    pool = oc.Pool.create(name, size="4MiB")
    pool.unlink()
    return pool


def renamed(directory, name, value):
    """Each is made under the same name, which the one before does not have any more."""
    pool = oc.Pool.create("camera", size="4MiB")
    (directory / "camera.pool").rename(directory / f"{name}.pool")
    return pool


def memfd(directory, name, value):
    return oc.Pool.create(name, size="4MiB", backing="memfd")


def unlinked_memfd(directory, name, value):
    pool = memfd(directory, name, value)
    pool.unlink()
    return pool


def copied(directory, name, value):
    """All have the same id, because they are copies of one file."""
    original = directory / "original.pool"
    if not original.exists():
        oc.Pool.create(original, size="4MiB", persistent=True).close()
    path = directory / f"{name}.pool"
    shutil.copyfile(original, path)
    path.chmod(0o600)
    return oc.Pool.open(path)


def unlinked_copy(directory, name, value):
    pool = copied(directory, name, value)
    pool.unlink()
    return pool


@pytest.fixture(params=[unlinked, renamed, memfd, unlinked_memfd, copied, unlinked_copy])
def pools(request, pool_directory):
    """Three pools in which the same calls make different things with the same handles."""
    made = [request.param(pool_directory, f"pool{value}", value) for value in range(3)]
    yield made
    for pool in made:
        pool.close()
    del made, pool
    for path in pool_directory.iterdir():
        path.unlink()


# Values and their locks are tested in values/test_sharedctypes.py.
def queue_of(pool, value):
    queue = pool.queue()
    queue.put(value)
    return queue


def stream_of(pool, value):
    return pool.stream(depth=2 + value)


def semaphore_of(pool, value):
    return pool.semaphore(value=value)


def _filled(pool, value):
    pool["a"] = value
    return pool


def _shared(pool, value):
    array = pool.shared_array(3, "i8")
    array[:] = value
    return array


THINGS = {
    "Pool": (_filled, lambda it: it["a"]),
    "Ref": (lambda pool, value: pool.put([value]), lambda it: it.get()[0]),
    "List": (lambda pool, value: pool.list([value]), lambda it: it[0]),
    "Dict": (lambda pool, value: pool.dict({"a": value}), lambda it: it["a"]),
    "List in a list": (lambda pool, value: pool.list([pool.list([value])]), lambda it: it[0][0]),
    "Dict in a dict": (
        lambda pool, value: pool.dict({"a": pool.dict({"b": value})}),
        lambda it: it["a"]["b"],
    ),
    "Queue": (queue_of, lambda it: (it.get(timeout=0), it.put(7))[0]),
    "Stream": (stream_of, lambda it: it.depth - 2),
    "Frames": (
        lambda pool, value: pool.frames(None, (2,), "u1", value + 1),
        lambda it: it.count - 1,
    ),
    "Semaphore": (semaphore_of, lambda it: it.get_value()),
    "array": (lambda pool, value: pool.full(3, value), lambda it: it[0]),
    "SharedArray": (_shared, lambda it: it[0]),
}


@pytest.mark.parametrize("duplicate", [copy.copy, copy.deepcopy])
@pytest.mark.parametrize("thing", THINGS)
def test_a_copy_is_of_that_thing(pools, thing, duplicate):
    make, read = THINGS[thing]
    made = [make(pool, value) for value, pool in enumerate(pools)]
    for value, each in enumerate(made):
        assert read(duplicate(each)) == value


@pytest.mark.parametrize("thing", THINGS)
def test_copies_that_are_made_together_are_of_each(pools, thing):
    """One memo for all copies must not confuse a thing of one pool with a thing of another."""
    make, read = THINGS[thing]
    made = [make(pool, value) for value, pool in enumerate(pools)]
    assert [read(each) for each in copy.deepcopy(made)] == [0, 1, 2]


@pytest.mark.parametrize("kind", ["list", "dict"])
def test_one_container_twice_is_one_copy(pools, kind):
    shared = [getattr(pool, kind)() for pool in pools]
    twice = copy.deepcopy([*shared, *shared])
    assert [twice[i] is twice[i + 3] for i in range(3)] == [True] * 3
    assert len({id(each) for each in twice}) == 3


def test_arrays_are_copied_to_private_memory(pools):
    for value, pool in enumerate(pools):
        array = pool.full(3, value)
        private = copy.deepcopy(array)
        private[:] = 9
        assert np.array_equal(array, [value] * 3)
