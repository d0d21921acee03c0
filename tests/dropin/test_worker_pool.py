"""Pools of workers, beyond CPython's own tests: which process dies, and which owns memory."""

import concurrent.futures
import gc
import itertools
import os
import signal
from concurrent.futures.process import BrokenProcessPool

import numpy as np
import pytest
from children import LIMIT, eventually, running, used

import onecopy as oc
from onecopy import multiprocessing
from onecopy._codec.backing import lease_of
from onecopy.multiprocessing.pool import MaybeEncodingError, Pool, ThreadPool, WorkerDied

STARTS = ["fork", "spawn", "forkserver"]


def _negative(image):
    image *= -1  # the worker owns its arguments
    return image


def _dies_at(number, deadly):
    if number in deadly:
        os.kill(os.getpid(), signal.SIGKILL)
    return number


def _where(array):
    lease = lease_of(array)
    return None if lease is None else lease.handle, array.flags.writeable


def _unpicklable(_):
    return lambda: None


@pytest.fixture(params=STARTS)
def workers(request):
    with multiprocessing.get_context(request.param).Pool(2) as workers:
        yield workers
    workers.join()
    workers._pool.clear()  # the fixture keeps the pool, and so the descriptors of its processes


def test_arrays_there_and_back(workers):
    images = [np.full(20_000, number) for number in range(1, 9)]
    for number, answer in enumerate(workers.imap(_negative, images), 1):
        assert answer[0] == answer[-1] == -number
        answer[0] = 0
    assert [image[0] for image in images] == list(range(1, 9))
    assert workers.apply(_where, (images[0],))[1]
    shared = oc.default_pool().array(images[0])
    assert workers.apply(_where, (shared,)) == (lease_of(shared).handle, False)


def test_a_worker_that_dies_is_told_and_replaced(workers):
    tasks = [workers.apply_async(_dies_at, (number, {3, 4, 11})) for number in range(16)]
    for number, task in enumerate(tasks):
        if number in {3, 4, 11}:
            with pytest.raises(WorkerDied, match="_dies_at was killed, or crashed"):
                task.get(LIMIT)
        else:
            assert task.get(LIMIT) == number
    assert workers.map(abs, [-1, -2]) == [1, 2]


def test_deaths_in_a_map(workers):
    with pytest.raises(WorkerDied):
        workers.starmap(_dies_at, [(number, {2}) for number in range(8)], chunksize=1)
    order = workers.imap_unordered(_dies_quietly, range(8))
    got = []
    for _ in range(8):
        try:
            got.append(next(order))
        except WorkerDied:
            got.append("died")
    assert sorted(map(str, got)) == [*"0123467", "died"]


def _dies_quietly(number):
    return _dies_at(number, {5})


def test_nothing_leaks_when_workers_die():
    with Pool(2) as workers:
        for turn in range(10):
            arrays = [np.full(10_000, number) for number in range(8)]
            tasks = [workers.apply_async(_dies_with, (array,)) for array in arrays]
            died = 0
            for task in tasks:
                try:
                    task.get(LIMIT)
                except WorkerDied:
                    died += 1
            assert died == 2, turn
        del arrays, tasks, task
    workers.join()
    del workers
    gc.collect()
    pool = oc.default_pool()
    eventually(lambda: used(pool) == 0, "the memory to be free")
    assert pool.validate() == []


def _dies_with(array):
    if array[0] in {1, 6}:
        os.kill(os.getpid(), signal.SIGKILL)
    return array


def test_a_generator_is_not_run_far_ahead():
    begun = itertools.count()
    with Pool(2) as workers:
        results = workers.imap(_slow, (next(begun) for _ in range(100_000)))
        assert [next(results) for _ in range(3)] == [0, 1, 2]
        assert next(begun) < 1000
        workers.terminate()
    workers.join()


def _slow(number):
    if number == 3:
        signal.pause()
    return number


def test_results_that_cannot_be_sent(workers):
    with pytest.raises(MaybeEncodingError):
        workers.apply(_unpicklable, (1,))
    assert workers.apply(abs, (-1,)) == 1


def test_workers_that_are_replaced_in_turn():
    with Pool(2, maxtasksperchild=1) as workers:
        assert len(set(workers.map(_pid, range(6), chunksize=1))) == 6
    workers.join()


def _pid(_):
    return os.getpid()


@pytest.mark.parametrize("end", ["join", "terminate", "exit", "join twice"])
def test_every_way_to_end_a_pool(end):
    with Pool(2) as workers:
        assert workers.map(abs, [-1]) == [1]
        if end == "terminate":
            workers.terminate()
        elif end != "exit":
            workers.close()
            workers.join()
        if end == "join twice":
            workers.join()
    workers.terminate()
    workers.join()
    workers._pool.clear()


class Poison:
    """Can be pickled, and not unpickled."""

    def __reduce__(self):
        return _refuses, ()


def _refuses():
    raise ValueError("not here")


def test_a_task_that_no_worker_can_rebuild(workers):
    poison = workers.apply_async(abs, (Poison(),))
    others = [workers.apply_async(abs, (-number,)) for number in range(8)]
    with pytest.raises(oc.NotRebuilt, match="ValueError: not here"):
        poison.get(LIMIT)
    assert [task.get(LIMIT) for task in others] == list(range(8))


def test_terminate_with_a_task_in_the_queue_that_cannot_be_rebuilt():
    begun = multiprocessing.Event()
    with Pool(1, initializer=_have_event, initargs=(begun,)) as workers:
        workers.apply_async(_begin_and_wait)
        for _ in range(
            2000
        ):  # more than are handed out at a time: the thread that hands them out is busy
            workers.apply_async(abs, (Poison(),))
        assert begun.wait(LIMIT)
        workers.terminate()
    workers.join()
    workers._pool.clear()


def _have_event(begun):
    global _begun  # noqa: PLW0603 - a worker has it from its initializer
    _begun = begun


def _begin_and_wait():
    _begun.set()
    signal.pause()


def _has_a_pool(method, pids):
    workers = multiprocessing.get_context(method).Pool(2)
    tasks = [workers.apply_async(_tells_and_waits, (pids,)) for _ in range(20)]
    tasks[0].get()


def _tells_and_waits(pids):
    pids.put(os.getpid())
    signal.pause()


@pytest.mark.parametrize("method", STARTS)
def test_workers_end_with_the_process_that_has_the_pool(method):
    pids = multiprocessing.Queue()
    # Spawned: a forked child cannot use the fork server of this process.
    parent = multiprocessing.get_context("spawn").Process(target=_has_a_pool, args=(method, pids))
    parent.start()
    at_work = [pids.get(timeout=LIMIT) for _ in range(2)]
    parent.kill()
    parent.join()
    parent.close()
    for pid in at_work:
        os.kill(pid, signal.SIGUSR1)  # ends that task before it is complete, and its worker
        eventually(lambda pid=pid: not running(pid), "the worker to end")
    assert pids.empty()  # no worker has begun another task


def _idle(method, ready):
    with multiprocessing.get_context(method).Pool(2) as workers:
        ready.put(list({workers.apply(os.getpid) for _ in range(10)}))
        signal.pause()


@pytest.mark.parametrize("method", STARTS)
def test_idle_workers_end_with_the_process_that_has_the_pool(method):
    ready = multiprocessing.Queue()
    parent = multiprocessing.get_context("spawn").Process(target=_idle, args=(method, ready))
    parent.start()
    workers = ready.get(timeout=LIMIT)
    parent.kill()
    parent.join()
    parent.close()
    for pid in workers:
        eventually(lambda pid=pid: not running(pid), "the worker to end")


def test_misuse():
    with pytest.raises(ValueError, match="at least 1"):
        Pool(-1)
    with pytest.raises(TypeError, match="callable"):
        Pool(1, initializer=5)
    with ThreadPool(2) as threads:
        assert threads.map(abs, [-1]) == [1]


# ------------------------------------------------------------------------------ concurrent.futures


@pytest.mark.parametrize("method", STARTS)
def test_the_standard_executor_on_our_context(method):
    context = multiprocessing.get_context(method)
    with concurrent.futures.ProcessPoolExecutor(2, mp_context=context) as executor:
        answers = list(executor.map(_negative, [np.full(20_000, n) for n in range(8)]))
        assert [answer[-1] for answer in answers] == [-n for n in range(8)]
        with pytest.raises(BrokenProcessPool):
            executor.submit(_dies_at, 1, {1}).result(LIMIT)


# ----------------------------------------------------------------- a program like a data loader's


class Loader:
    """As data loaders do: workers take indices, and return batches in order."""

    def __init__(self, context, data, workers):
        self.indices = [context.Queue() for _ in range(workers)]
        self.answers = context.Queue()
        self.done = context.Event()
        self.processes = [
            context.Process(target=_load, args=(data, queue, self.answers, self.done), daemon=True)
            for queue in self.indices
        ]
        for process in self.processes:
            process.start()

    def __iter__(self):
        count = 20
        for number in range(count):
            self.indices[number % len(self.indices)].put((number, range(number, number + 5)))
        waiting = {}
        for number in range(count):
            while number not in waiting:
                key, batch = self.answers.get(timeout=LIMIT)
                waiting[key] = batch
            yield waiting.pop(number)

    def close(self):
        self.done.set()
        for queue in self.indices:
            queue.put(None)
        for process in self.processes:
            process.join(LIMIT)
            assert process.exitcode == 0
            process.close()
        for queue in [*self.indices, self.answers]:
            queue.cancel_join_thread()
            queue.close()


def _load(data, indices, answers, done):
    while (asked := indices.get()) is not None and not done.is_set():
        key, numbers = asked
        answers.put((key, {"x": np.stack([data[n] for n in numbers]), "y": list(numbers)}))


@pytest.mark.parametrize("method", STARTS)
def test_a_data_loader(method):
    data = np.arange(30 * 1000).reshape(30, 1000)
    loader = Loader(multiprocessing.get_context(method), data, 2)
    for number, batch in enumerate(loader):
        assert batch["y"] == list(range(number, number + 5))
        assert np.array_equal(batch["x"], data[number : number + 5])
        batch["x"] += 1
    loader.close()
