"""A dict that processes share, by name or by reference: its lock, and deaths of processes."""

import gc
import pickle
import random
import threading

import numpy as np
import pytest
from children import LIMIT, asleep, eventually

import onecopy as oc

pytestmark = pytest.mark.one_in(2)


@pytest.fixture
def shared(pool):
    return pool.dict({"a": 1, "b": 2, "c": 3})


# --------------------------------------------------------------------------- by reference, by name


def work(shared, answers):
    shared["child"] = np.arange(10_000)
    del shared["a"]
    answers.put([list(shared), shared["b"]])


def test_in_another_process(pool, shared, start, method):
    answers = pool.queue()
    child = start(method, work, shared, answers)
    assert answers.get(timeout=LIMIT) == [["b", "c", "child"], 2]
    assert child.wait() == 0
    assert (shared["child"] == np.arange(10_000)).all()


def test_names(pool):
    shared = pool.dict({"a": 1}, name="settings")
    assert pool.dict({"b": 2}, name="settings") == {"a": 1}
    assert pool.dict(name="settings").handle == shared.handle
    assert "'settings'" in repr(shared)
    pool.list(name="settings")  # another kind
    again = pickle.loads(pickle.dumps(shared))
    assert again.name == "settings"
    again["c"] = 3
    assert shared["c"] == 3


def test_a_dict_in_a_dict_stays_alive(pool):
    shared = pool.dict({"inner": pool.dict({"x": pool.list([1])})})
    gc.collect()
    assert shared["inner"]["x"] == [1]
    shared["inner"]["x"].append(2)
    assert shared["inner"]["x"] == [1, 2]
    shared.clear()
    gc.collect()
    assert pool.stats().structures == 3
    assert pool.validate() == []


def test_a_named_object_that_is_a_queue_stays_alive(pool):
    pool["jobs"] = pool.queue()
    gc.collect()
    pool["jobs"].put(1)
    assert pool["jobs"].get() == 1


def test_closing(pool, shared):
    shared.detach()
    for act in (lambda: len(shared), lambda: shared["a"], shared.lock, shared.clear):
        with pytest.raises(oc.OneCopyError, match="closed"):
            act()


# ------------------------------------------------------------------------------------ several steps


def add_up(shared, rounds):
    for number in range(rounds):
        with shared.lock():
            shared["sum"] += 1
        shared.setdefault(number % 50, number)


def test_compound_updates_under_the_lock(pool, start, method):
    shared = pool.dict({"sum": 0})
    children = [start(method, add_up, shared, 500) for _ in range(4)]
    for child in children:
        assert child.wait() == 0
    assert shared["sum"] == 2000
    assert len(shared) == 51
    assert [shared[number] for number in range(50)] == list(range(50))
    assert pool.validate() == []


def set_plainly(shared, ready):
    ready.put(None)
    shared["a"] = "plain"


def test_a_plain_set_does_not_get_in_between(pool, shared, start, method):
    ready = pool.queue()
    with shared.lock():
        before = shared["a"]
        child = start(method, set_plainly, shared, ready)
        ready.get(timeout=LIMIT)
        eventually(lambda: asleep(child.pid), "the child to wait")
        shared["a"] = before + 1
        assert shared["a"] == 2
    assert child.wait() == 0
    assert shared["a"] == "plain"


def one_wins(shared, number, ready):
    ready.put(None)
    for key in range(200):
        shared.setdefault(key, number)
        shared[number, key] = shared[key]


def test_setdefault_has_one_winner(pool, start):
    shared, ready = pool.dict(), pool.queue()
    children = [start("fork", one_wins, shared, number, ready) for number in range(3)]
    for child in children:
        assert child.wait() == 0
    for key in range(200):
        assert len({shared[key], *(shared[number, key] for number in range(3))}) == 1


def test_threads(shared):
    def work(number):
        for _ in range(300):
            with shared.lock():
                shared["a"] += 1
            shared[number] = number
            shared.pop(number)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert shared["a"] == 1201
    assert len(shared) == 3


# ------------------------------------------------------------------------------------------- deaths


def die_inside(shared, ready):
    with shared.lock():
        shared["a"] = "half"
        ready.put(None)
        threading.Event().wait()


def test_an_owner_of_the_lock_is_killed(pool, start, method):
    shared, ready = pool.dict({"a": 1}, name="accounts"), pool.queue()
    child = start(method, die_inside, shared, ready)
    ready.get(timeout=LIMIT)
    child.kill()
    with pytest.warns(oc.OwnerDiedWarning, match=f"process {child.pid} died.*dict 'accounts'"):
        assert shared["a"] == "half"
    assert shared["a"] == "half"
    assert pool.validate() == []


def mutate_for_ever(shared, seed):
    seeded = random.Random(seed)  # noqa: S311 - to be repeated
    while True:
        number = seeded.randrange(60)
        key = ("k" * 80, number) if number % 3 else number
        what = seeded.randrange(20)
        if what == 0:
            shared.clear()
        elif what == 1 and shared:
            shared.popitem() if number else shared.copy()
        elif what < 7:
            shared.pop(key, None)
        else:
            shared[key] = {"number": number, "data": np.full(1500, number)}


def whole(shared):
    for key, value in shared.items():
        number = key if isinstance(key, int) else key[1]
        assert value["number"] == number
        assert (value["data"] == number).all()


@pytest.mark.parametrize("round_", range(3))
def test_writers_are_killed_in_the_middle(pool, start, round_):
    shared = pool.dict()
    seeded = random.Random(round_)  # noqa: S311 - to be repeated
    writers = []
    for death in range(12):
        while len(writers) < 2:
            # Only one process at a time takes the last entry, which another one may have cleared.
            writers.append(start("fork", mutate_or_find_nothing, shared, round_ * 100 + death))
        for _ in range(seeded.randrange(1, 30)):
            whole(shared)
        writers.pop(seeded.randrange(2)).kill()
        whole(shared)
    for writer in writers:
        writer.kill()
    pool.collect()
    assert pool.validate() == []
    whole(shared)
    for key in shared:
        assert shared[key]["number"] in (key, key[1] if isinstance(key, tuple) else key)
    shared.clear()
    gc.collect()
    stats = pool.stats()
    assert (stats.used, stats.structures) == (0, 3)


def mutate_or_find_nothing(shared, seed):
    while True:
        try:
            mutate_for_ever(shared, seed)
        except KeyError:
            seed += 1
