"""RWLock: readers together, a writer alone, also when one dies."""

import os
import pickle
import signal
import threading
import warnings

import pytest
from children import LIMIT, asleep, eventually

import onecopy as oc

pytestmark = pytest.mark.one_in(2)


@pytest.fixture(params=["writer", "reader", "fair"])
def rw(request, pool):
    """A lock with each preference."""
    return pool.rwlock("it", request.param)


def read_and_stay(rw, ready):
    with rw.read():
        ready.put("inside")
        threading.Event().wait()


def write_and_stay(rw, ready):
    with rw.write():
        ready.put("inside")
        threading.Event().wait()


def write_once(rw, ready):
    ready.put("waits")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        with rw.write():
            ready.put("inside")


def read_once(rw, ready):
    ready.put("waits")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        with rw.read():
            ready.put("inside")


def test_readers_are_inside_together(rw, pool, start, method):
    ready = pool.queue()
    for _ in range(3):
        start(method, read_and_stay, rw, ready)
    for _ in range(3):
        ready.get(timeout=LIMIT)
    with rw.read():
        assert rw.readers == 4
    assert rw.readers == 3
    assert rw.write().acquire(timeout=0.02) is False
    assert rw.read().acquire(False)  # a writer that stopped waiting does not stop others
    rw.read().release()


def test_a_writer_is_alone(rw, pool, start, method):
    ready = pool.queue()
    child = start(method, write_and_stay, rw, ready)
    ready.get(timeout=LIMIT)
    assert rw.owner.pid == child.pid
    assert rw.read().acquire(False) is False
    assert rw.write().acquire(False) is False
    assert rw.read().acquire(timeout=0.02) is False
    with pytest.raises(TimeoutError, match=r"for reading within 0\.02 seconds"), rw.read(0.02):
        pass
    with pytest.raises(TimeoutError, match="for writing"), rw.write(timeout=0.02):
        pass
    assert rw.readers == 0


def test_a_thread_cannot_wait_for_itself(rw):
    with rw.read():
        with pytest.raises(RuntimeError, match="a reader cannot become a writer"):
            rw.write().acquire()
        with pytest.raises(RuntimeError), rw.write():
            pass
    with rw.write():
        with pytest.raises(RuntimeError, match="would wait for itself"):
            rw.write().acquire(False)
        with pytest.raises(RuntimeError, match="would wait for itself"):
            rw.read().acquire(timeout=1)
    with rw.write():
        pass


def test_a_reader_may_read_again_while_a_writer_waits(rw, pool, start):
    ready = pool.queue()
    with rw.read():
        child = start("fork", write_once, rw, ready)
        ready.get(timeout=LIMIT)
        eventually(lambda: asleep(child.pid), "the writer to wait")
        with rw.read():
            assert rw.readers >= 1
    ready.get(timeout=LIMIT)
    assert child.wait() == 0


def test_each_side_is_released_by_the_thread_that_took_it(rw):
    with pytest.raises(RuntimeError, match="does not have the lock for reading"):
        rw.read().release()
    with pytest.raises(RuntimeError, match="does not have the lock for writing"):
        rw.write().release()
    errors = []

    def release():
        try:
            rw.read().release()
        except RuntimeError as error:
            errors.append(error)

    with rw.read():
        thread = threading.Thread(target=release)
        thread.start()
        thread.join()
        with pytest.raises(RuntimeError, match="for writing"):
            rw.write().release()
    assert len(errors) == 1


def test_a_dead_reader_is_not_waited_for(rw, pool, start, method):
    ready = pool.queue()
    reader = start(method, read_and_stay, rw, ready)
    ready.get(timeout=LIMIT)
    writer = start("fork", write_once, rw, ready)
    ready.get(timeout=LIMIT)
    eventually(lambda: asleep(writer.pid), "the writer to wait")
    assert ready.empty()
    reader.kill()
    assert ready.get(timeout=LIMIT) == "inside"
    assert writer.wait() == 0
    assert pool.validate() == []


def test_who_does_not_wait_is_not_held_up_by_a_dead_reader(rw, pool, start):
    ready = pool.queue()
    reader = start("fork", read_and_stay, rw, ready)
    ready.get(timeout=LIMIT)
    reader.kill()
    assert rw.write().acquire(False)
    rw.write().release()


@pytest.mark.parametrize("waiter", [read_once, write_once])
def test_a_waiter_finds_the_writers_death_by_itself(waiter, rw, pool, start, method):
    ready = pool.queue()
    writer = start(method, write_and_stay, rw, ready)
    ready.get(timeout=LIMIT)
    child = start("fork", waiter, rw, ready)
    ready.get(timeout=LIMIT)
    eventually(lambda: asleep(child.pid), "the child to wait")
    assert ready.empty()
    writer.kill()
    assert ready.get(timeout=LIMIT) == "inside"
    assert child.wait() == 0
    assert pool.validate() == []


def kill_a_writer(rw, pool, start):
    ready = pool.queue()
    child = start("fork", write_and_stay, rw, ready)
    ready.get(timeout=LIMIT)
    child.kill()
    return child.pid


@pytest.mark.parametrize("side", ["read", "write"])
def test_a_dead_writer_is_told_once(side, rw, pool, start):
    pid = kill_a_writer(rw, pool, start)
    assert not rw.owner.alive
    mine = getattr(rw, side)()
    with pytest.warns(oc.OwnerDiedWarning, match=f"process {pid}"):
        mine.acquire()
    assert rw.readers == (1 if side == "read" else 0)
    assert (rw.owner is None) == (side == "read")
    mine.release()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with rw.read():
            pass
        with rw.write():
            pass


def test_the_callback_of_a_reader_is_alone(pool, start):
    """It repairs, so no other process may read in the meantime."""
    rw = pool.rwlock("x")
    seen = []

    def repair(lock):
        other = pool.rwlock("x")
        thread = threading.Thread(target=lambda: seen.append(other.read().acquire(False)))
        thread.start()
        thread.join()

    mine = pool.rwlock("x", on_owner_death=repair)
    kill_a_writer(rw, pool, start)
    with mine.read():
        assert seen == [False]
        thread = threading.Thread(target=lambda: seen.append(rw.read().acquire(False)))
        thread.start()
        thread.join()
    assert seen == [False, True]


def test_raise_refuses_readers_until_a_writer_has_repaired(pool, start):
    rw = pool.rwlock("x", on_owner_death="raise")
    kill_a_writer(rw, pool, start)
    for _ in range(3):
        with pytest.raises(oc.OwnerDied):
            rw.read().acquire()
        assert rw.readers == 0
    with pytest.raises(oc.OwnerDied):
        rw.write().acquire()
    rw.write().release()
    with rw.read():
        pass
    assert pool.validate() == []


def test_a_callback_that_fails_leaves_it_to_the_next(pool, start):
    def fail(lock):
        raise KeyError("no")

    rw = pool.rwlock("x", on_owner_death=fail)
    kill_a_writer(rw, pool, start)
    for side in (rw.read(), rw.write(), rw.read()):
        with pytest.raises(KeyError):
            side.acquire()
    with pytest.warns(oc.OwnerDiedWarning), pool.rwlock("x").write():
        pass
    with rw.read():
        pass


def test_a_writer_that_died_while_it_waited_is_nobodys_business(rw, pool, start):
    ready = pool.queue()
    with rw.read():
        child = start("fork", write_once, rw, ready)
        ready.get(timeout=LIMIT)
        eventually(lambda: asleep(child.pid), "the writer to wait")
        child.kill()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with rw.read():
            pass
        with rw.write():
            pass
    assert pool.validate() == []


def test_who_waits_can_be_interrupted(rw, pool, start):
    """An interrupted writer leaves the lock free."""

    class Stop(Exception):  # noqa: N818 - no error
        pass

    def stop(number, frame):
        raise Stop

    ready = pool.queue()
    reader = start("fork", read_and_stay, rw, ready)
    ready.get(timeout=LIMIT)
    before = signal.signal(signal.SIGUSR1, stop)
    main = threading.get_ident()

    def interrupt():
        eventually(lambda: asleep_thread(native), "the wait")
        signal.pthread_kill(main, signal.SIGUSR1)

    native = threading.get_native_id()
    thread = threading.Thread(target=interrupt)
    try:
        thread.start()
        with pytest.raises(Stop):
            rw.write().acquire()
    finally:
        thread.join()
        signal.signal(signal.SIGUSR1, before)
    with rw.read():
        pass
    reader.kill()
    with rw.write():
        pass


def asleep_thread(tid):
    with open(f"/proc/{os.getpid()}/task/{tid}/stat") as stat:  # noqa: PTH123 - short
        return stat.read().rpartition(")")[2].split()[0] == "S"


def read_all_the_time(rw, ready, stop):
    ready.put(None)
    while not stop.is_set():
        with rw.read():
            pass


@pytest.mark.parametrize("prefer", ["writer", "fair"])
def test_readers_do_not_starve_a_writer(prefer, pool, start):
    rw, ready, stop = pool.rwlock(None, prefer), pool.queue(), pool.event()
    readers = [start("fork", read_all_the_time, rw, ready, stop) for _ in range(3)]
    for _ in readers:
        ready.get(timeout=LIMIT)
    for _ in range(20):
        with rw.write(timeout=LIMIT):
            pass
    stop.set()
    assert [reader.wait() for reader in readers] == [0, 0, 0]


def write_all_the_time(rw, ready, stop):
    ready.put(None)
    while not stop.is_set():
        with rw.write():
            pass


@pytest.mark.parametrize("prefer", ["fair", "reader"])
def test_writers_do_not_starve_a_reader(prefer, pool, start):
    rw, ready, stop = pool.rwlock(None, prefer), pool.queue(), pool.event()
    writers = [start("fork", write_all_the_time, rw, ready, stop) for _ in range(2)]
    for _ in writers:
        ready.get(timeout=LIMIT)
    for _ in range(20):
        with rw.read(timeout=LIMIT):
            pass
    stop.set()
    assert [writer.wait() for writer in writers] == [0, 0]


def read_or_write(rw, pair, ready, seed, times):
    import random

    chance = random.Random(seed)  # noqa: S311 - not for secrets
    ready.put(None)
    for _ in range(times) if times else iter(int, 1):
        if chance.random() < 0.7:
            with rw.read():
                first, second = int(pair[0]), int(pair[1])
            if first != second:
                os._exit(9)
        else:
            with rw.write():
                pair[0] += 1
                pair[1] += 1
                pair[2] += 1


def test_nobody_reads_what_is_being_written(rw, pool, start):
    pair, ready = pool.shared_array(3, "i8"), pool.queue()
    running = [start("fork", read_or_write, rw, pair, ready, seed, 2000) for seed in range(3)]
    threads = [
        threading.Thread(target=read_or_write, args=(rw, pair, ready, seed, 500))
        for seed in range(3, 5)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [child.wait() for child in running] == [0, 0, 0]
    assert pair[0] == pair[1] == pair[2] > 0


@pytest.mark.one_in(2)
def test_killed_at_any_instant(rw, pool, start):
    pair, ready = pool.shared_array(3, "i8"), pool.queue()

    def repair(lock):
        pair[:2] = pair[:2].min()

    mine = pool.rwlock("it", on_owner_death=repair)
    for turn in range(12):
        victims = [
            start("fork", read_or_write, mine, pair, ready, turn * 3 + index, 0)
            for index in range(3)
        ]
        for _ in victims:
            ready.get(timeout=LIMIT)
        reached = int(pair[2]) + 20
        eventually(lambda reached=reached: int(pair[2]) >= reached, "the children to write")
        for victim in victims:
            victim.kill()
            with mine.read(timeout=LIMIT):
                assert pair[0] == pair[1]
        with mine.write(timeout=LIMIT):
            assert pair[0] == pair[1]
        assert pool.validate() == []


def test_a_forked_child_has_nothing_of_its_parents(rw, pool, start):
    answers = pool.queue()
    with rw.read():
        assert start("fork", release_what_it_has_not, rw, answers).wait() == 0
        assert rw.readers == 1
    with rw.write():
        assert start("fork", release_what_it_has_not, rw, answers).wait() == 0
    assert all("does not have the lock" in answer for answer in answers.get_many(4))
    assert answers.empty()


def release_what_it_has_not(rw, answers):
    for side in (rw.read(), rw.write()):
        try:
            side.release()
        except RuntimeError as error:
            answers.put(str(error))


def test_by_name_and_by_handle(pool):
    rw = pool.rwlock("x", "fair")
    assert pool.rwlock("x").prefer == "fair"
    assert pickle.loads(pickle.dumps(rw)).prefer == "fair"
    with pytest.raises(oc.OneCopyError, match=r"prefer='fair'.*prefer='reader'"):
        pool.rwlock("x", "reader")
    with pytest.raises(ValueError, match="'writer', 'reader', 'fair'"):
        pool.rwlock("y", "nobody")
    assert oc.RWLock().prefer == "writer"


def test_the_time_of_a_side_is_that_of_its_acquire(rw, pool, start):
    ready = pool.queue()
    start("fork", write_and_stay, rw, ready)
    ready.get(timeout=LIMIT)
    assert rw.read(timeout=0.01).acquire() is False
    assert rw.write(timeout=0.01).acquire() is False
    with pytest.raises(TimeoutError, match="at once"), rw.read(timeout=-1):
        pass


def test_a_promise_to_dead_readers_is_not_kept_for_ever(pool, start):
    rw, ready = pool.rwlock(None, "fair"), pool.queue()
    with rw.write():
        reader = start("fork", read_once, rw, ready)
        ready.get(timeout=LIMIT)
        eventually(lambda: asleep(reader.pid), "the reader to wait")
        reader.kill()
    for _ in range(3):
        assert rw.write().acquire(block=False)
        rw.write().release()


def try_to_read(rw, log, stop):
    while not stop.is_set():
        try:
            if rw.read().acquire(block=False):
                log.append("read")
                rw.read().release()
        except oc.OwnerDied:
            log.append("refused")


def test_nobody_reads_before_somebody_was_told(rw, pool, start):
    """Also while readers come and go all the time, and a writer gets the lock."""
    for turn in range(10):
        mine = pool.rwlock("it", on_owner_death="raise")
        kill_a_writer(rw, pool, start)
        log, stop = [], threading.Event()
        threads = [threading.Thread(target=try_to_read, args=(mine, log, stop)) for _ in range(2)]
        for thread in threads:
            thread.start()
        with pytest.raises(oc.OwnerDied):
            mine.write().acquire(timeout=LIMIT)
        assert "read" not in log, f"turn {turn}"
        stop.set()
        for thread in threads:
            thread.join()
        mine.write().release()


def test_readers_are_told_that_they_have_nothing(pool, start):
    rw = pool.rwlock("x", on_owner_death="raise")
    kill_a_writer(rw, pool, start)
    with pytest.raises(oc.OwnerDied, match="cannot be read before a process has acquired the lock"):
        rw.read().acquire()
    with pytest.raises(oc.OwnerDied, match="then release the lock"):
        rw.write().acquire()
    rw.write().release()


def test_many_locks_at_a_time(pool):
    locks = [pool.rwlock() for _ in range(65)]
    for lock in locks[:64]:
        lock.read().acquire()
    with pytest.raises(oc.OneCopyError, match="too many"):
        locks[64].read().acquire()
    with pytest.raises(oc.OneCopyError, match="too many"):
        locks[64].write().acquire()
    for lock in locks[:64]:
        lock.read().release()
    with locks[64].write():
        pass
