"""`Pool.delete`: a name ends at once, and its object ends when no process has it any more."""

import contextlib
import gc

import numpy as np
import pytest
from children import LIMIT

import onecopy as oc
from onecopy._core.kinds import Kind
from onecopy.values import named as values

NAME = "thing"


class KindOfThing:
    """How to make one, make another that contradicts it, and check that one still works."""

    def __init__(self, make, anew, works):
        self.make = make
        self.anew = anew
        self.works = works


def queue_works(queue):
    queue.put({"image": np.arange(5000)})
    assert queue.get(timeout=LIMIT)["image"][-1] == 4999


def stream_works(stream):
    sub = stream.subscribe()
    stream.publish(np.arange(5000))
    assert sub.get(timeout=LIMIT)[-1] == 4999
    sub.close()


def frames_work(frames):
    frame = frames.acquire(timeout=LIMIT)
    frame[:] = 7
    assert (frame == 7).all()


def lock_works(lock):
    assert lock.acquire(timeout=LIMIT)
    lock.release()


def rwlock_works(lock):
    with lock.write(timeout=LIMIT):
        pass
    with lock.read(timeout=LIMIT):
        pass


def event_works(event):
    event.set()
    assert event.wait(LIMIT)
    event.clear()


def condition_works(condition):
    with condition:
        condition.notify_all()


def list_works(thing):
    thing.append(np.arange(5000))
    assert thing.pop()[-1] == 4999


def dict_works(thing):
    thing["x"] = np.arange(5000)
    assert thing.pop("x")[-1] == 4999


def value_works(value):
    with value:
        value.value += 1
        assert value.value >= 1


def array_works(array):
    array[0] += 1
    assert array[0] >= 1


def name_object(pool):
    pool[NAME] = np.arange(5000)
    return pool[NAME]


def rename_object(pool):
    assert NAME not in pool
    pool[NAME] = np.arange(3)
    return pool[NAME]


KINDS = {
    "object": KindOfThing(name_object, rename_object, lambda array: array.sum()),
    "queue": KindOfThing(
        lambda pool: pool.queue(NAME, maxsize=3),
        lambda pool: pool.queue(NAME, maxsize=4, redeliver=True),
        queue_works,
    ),
    "stream": KindOfThing(
        lambda pool: pool.stream(NAME, depth=3),
        lambda pool: pool.stream(NAME, depth=4, policy="lossless"),
        stream_works,
    ),
    "frames": KindOfThing(
        lambda pool: pool.frames(NAME, (480, 640, 3), "u1", 3),
        lambda pool: pool.frames(NAME, (720, 1280, 3), "u1", 2),
        frames_work,
    ),
    "array": KindOfThing(
        lambda pool: pool.shared_array((5000,), "f8", name=NAME),
        lambda pool: pool.shared_array((3, 4), "i4", name=NAME).reshape(-1),
        array_works,
    ),
    "lock": KindOfThing(
        lambda pool: pool.lock(NAME),
        lambda pool: pool.lock(NAME, on_owner_death="raise"),
        lock_works,
    ),
    "rlock": KindOfThing(lambda pool: pool.rlock(NAME), lambda pool: pool.rlock(NAME), lock_works),
    "rwlock": KindOfThing(
        lambda pool: pool.rwlock(NAME, prefer="writer"),
        lambda pool: pool.rwlock(NAME, prefer="reader"),
        rwlock_works,
    ),
    "semaphore": KindOfThing(
        lambda pool: pool.semaphore(NAME, 2), lambda pool: pool.semaphore(NAME, 5), lock_works
    ),
    "bounded_semaphore": KindOfThing(
        lambda pool: pool.bounded_semaphore(NAME, 2),
        lambda pool: pool.bounded_semaphore(NAME, 5),
        lock_works,
    ),
    "event": KindOfThing(lambda pool: pool.event(NAME), lambda pool: pool.event(NAME), event_works),
    "condition": KindOfThing(
        lambda pool: pool.condition(NAME),
        lambda pool: pool.condition(NAME, pool.lock()),
        condition_works,
    ),
    "barrier": KindOfThing(
        lambda pool: pool.barrier(NAME, 2),
        lambda pool: pool.barrier(NAME, 1),
        lambda barrier: barrier.parties == 2 or barrier.wait(LIMIT),
    ),
    "value": KindOfThing(
        lambda pool: pool.value("i", 1, name=NAME),
        lambda pool: pool.value("d", 1.5, name=NAME),
        value_works,
    ),
    "list": KindOfThing(
        lambda pool: pool.list([np.arange(5000)], name=NAME),
        lambda pool: pool.list([1], name=NAME),
        list_works,
    ),
    "dict": KindOfThing(
        lambda pool: pool.dict({"a": np.arange(5000)}, name=NAME),
        lambda pool: pool.dict({"b": 1}, name=NAME),
        dict_works,
    ),
}


def names_in(pool):
    return {kind for kind in Kind if NAME in pool.member.name_list(kind)}


def counts(pool):
    gc.collect()
    stats = pool.stats()
    return stats.used, stats.blocks, stats.structures, stats.structure_bytes


def empty(pool):
    return counts(pool) == (0, 0, 0, 0) and pool.validate() == []


def test_every_kind_is_here():
    assert set(KINDS) == {kind.name.lower() for kind in Kind} - {"value_lock"}


@pytest.mark.parametrize("kind", KINDS)
def test_the_name_is_free_at_once_and_both_work(pool, kind):
    case = KINDS[kind]
    old = case.make(pool)
    case.works(old)
    pool.delete(NAME)
    assert names_in(pool) == set()
    new = case.anew(pool)
    for _ in range(2):
        case.works(old)
        case.works(new)
    del old
    gc.collect()
    case.works(new)
    pool.delete(NAME)
    del new
    assert empty(pool)


@pytest.mark.parametrize("kind", KINDS)
def test_what_nobody_has_is_gone_with_its_name(pool, kind):
    made = KINDS[kind].make(pool)
    KINDS[kind].works(made)
    del made
    assert counts(pool) != (0, 0, 0, 0)
    pool.delete(NAME, kind)
    assert empty(pool)


def keep(pool, kind, ready, go, done):
    """Have it, and use it after it was deleted; then wait to be killed."""
    thing = KINDS[kind].make(pool)
    ready.put(None)
    go.get()
    KINDS[kind].works(thing)
    done.put(None)
    go.get()


@pytest.mark.one_in(4)
@pytest.mark.parametrize("kind", KINDS)
def test_a_process_that_has_it_goes_on_and_its_death_gives_it_back(pool, start, method, kind):
    ready, go, done = pool.queue(), pool.queue(), pool.queue()
    child = start(method, keep, pool, kind, ready, go, done)
    ready.get(timeout=LIMIT)
    there = pool.stats()
    pool.delete(NAME)
    assert names_in(pool) == set()
    kept = pool.stats()
    if kind in {"array", "value"}:  # the named object is freed, the array in it stays
        assert 0 < kept.used < there.used
    else:
        assert (kept.used, kept.structures) == (there.used, there.structures)
    new = KINDS[kind].anew(pool)
    go.put(None)
    done.get(timeout=LIMIT)
    KINDS[kind].works(new)
    child.kill()
    pool.collect()
    pool.delete(NAME)
    del new
    for queue in (ready, go, done):
        queue.close()
    del ready, go, done, queue
    assert empty(pool)


def test_the_messages_of_a_deleted_queue_are_still_got(pool):
    queue = pool.queue(NAME)
    for number in range(100):
        queue.put(np.full(3000, number))
    pool.delete(NAME)
    assert [queue.get()[0] for _ in range(100)] == list(range(100))


def test_what_is_not_there_cannot_be_deleted(pool):
    pool.queue("jobs")
    with pytest.raises(KeyError, match=r"nothing named 'jobz' in pool '.*'.* there is 'jobs'"):
        pool.delete("jobz")
    with pytest.raises(KeyError, match=r"no stream named 'jobs'.*have that name: queue"):
        pool.delete("jobs", kind="stream")
    pool.delete("jobs")
    with pytest.raises(KeyError, match="nothing named 'jobs'"):
        pool.delete("jobs")
    with pytest.raises(ValueError, match="kind='channel': it is one of 'object', 'queue'"):
        pool.delete("jobs", kind="channel")
    with pytest.raises(ValueError, match="1 to 200 bytes"):
        pool.delete("")
    with pytest.raises(TypeError, match="argument 'name' must be a string"):
        pool.delete(3)


def test_everything_of_a_name_goes_or_one_kind(pool):
    things = [case.make(pool) for case in KINDS.values()]
    assert names_in(pool) == set(Kind)
    pool.delete(NAME, kind="value")  # and its lock
    assert names_in(pool) == set(Kind) - {Kind.VALUE, Kind.VALUE_LOCK}
    pool.delete(NAME, kind="queue")
    assert names_in(pool) == set(Kind) - {Kind.VALUE, Kind.VALUE_LOCK, Kind.QUEUE}
    pool.delete(NAME)
    assert names_in(pool) == set()
    del things
    assert empty(pool)


def test_other_names_stay(pool):
    for name in ("a", "thing", "b"):
        pool.lock(name)
        pool[name] = 1
    pool.delete("thing")
    assert list(pool) == ["a", "b"]
    assert pool.member.name_list(Kind.LOCK) == ["a", "b"]
    assert pool.validate() == []


def test_a_pool_that_is_read_keeps_its_names(tmp_path):
    path = str(tmp_path / "kept")
    with oc.Pool.create(backing=path, size="16MiB") as pool:
        pool[NAME] = 1
    del pool
    gc.collect()
    with oc.Pool.open(path, mode="r") as pool:
        with pytest.raises(oc.OneCopyError, match="opened with mode='r'"):
            pool.delete(NAME)
        assert pool[NAME] == 1


# -------------------------------------------------------------------------------------------- races


def delete_all(pool, number, results):
    deleted = 0
    for index in range(number):
        try:
            pool.delete(f"name {index}")
        except KeyError:
            continue
        deleted += 1
    results.put(deleted)


def test_of_several_deleters_one_succeeds(pool, start, method):
    number = 300
    for index in range(number):
        pool.event(f"name {index}")
    results = pool.queue()
    children = [start(method, delete_all, pool, number, results) for _ in range(3)]
    delete_all(pool, number, results)
    assert [child.wait() for child in children] == [0, 0, 0]
    assert sum(results.get(timeout=LIMIT) for _ in range(4)) == number
    assert pool.member.name_list(Kind.EVENT) == []
    assert pool.validate() == []


def open_and_use(pool, stop):
    try:
        while not stop.is_set():
            event = pool.event(NAME)
            event.set()
            assert event.is_set()
            stream = pool.stream(NAME, depth=2)
            stream.publish(np.arange(3000))
            value = pool.value("i", 0, name=NAME)
            with value:
                value.value += 1
                assert value.value >= 1
    finally:
        stop.set()  # also if it fails


def test_deleters_and_openers_meet(pool, start, method):
    stop = pool.event()
    children = [start(method, open_and_use, pool, stop) for _ in range(2)]
    deleted = 0
    while deleted < 300 and not stop.is_set():
        with contextlib.suppress(KeyError):
            pool.delete(NAME)
            deleted += 1
    stop.set()
    assert [child.wait() for child in children] == [0, 0]
    for kind in names_in(pool):
        pool.member.name_del(kind, NAME)
    assert deleted == 300
    del stop
    assert empty(pool)


def test_a_value_that_is_deleted_while_it_is_opened_has_the_lock_that_others_get(pool, monkeypatch):
    """The value is looked up, then its lock: in between another process deletes and makes both."""
    first = pool.value("i", 7, name=NAME)
    plain = values.open_or_create
    others = []

    def slow(member, kind, *arguments, **options):
        if kind is Kind.VALUE_LOCK and not others:
            others.append(None)
            pool.delete(NAME)
            others.append(pool.value("i", 8, name=NAME))
        return plain(member, kind, *arguments, **options)

    with monkeypatch.context() as patch:
        patch.setattr(values, "open_or_create", slow)
        opened = pool.value("i", 9, name=NAME)
    other = others[1]
    assert (first.value, other.value, opened.value) == (7, 8, 8)
    other.value = 5
    assert opened.value == 5
    assert opened.get_lock().handle == other.get_lock().handle
    assert opened.get_lock().handle != first.get_lock().handle


def test_a_value_that_is_deleted_and_not_made_again_leaves_no_lock(pool, monkeypatch):
    pool.value("i", 7, name=NAME)
    plain = values.open_or_create
    done = []

    def slow(member, kind, *arguments, **options):
        if kind is Kind.VALUE_LOCK and not done:
            done.append(None)
            pool.delete(NAME)
        return plain(member, kind, *arguments, **options)

    with monkeypatch.context() as patch:
        patch.setattr(values, "open_or_create", slow)
        with pytest.raises(oc.OneCopyError, match="has no value"):
            pool.value(name=NAME)
    assert names_in(pool) == set()
    assert empty(pool)
