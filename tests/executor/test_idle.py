"""Workers and parents that have nothing to do sleep in the kernel, without a time limit."""

import os
import select
import signal
import subprocess
import sys
import threading
from contextlib import suppress
from pathlib import Path

import children
import pytest

import onecopy as oc
from executor import calls
from onecopy import multiprocessing as dropin
from onecopy._workers import mailbox
from onecopy._workers.ends import Ends

METHODS = ["fork", "spawn", "forkserver"]


class Epoll:
    """An epoll that tells of each wait."""

    def __init__(self, told):
        self._told = told
        self._epoll = select.epoll()
        self.register = self._epoll.register
        self.unregister = self._epoll.unregister

    def poll(self, timeout):
        self._told.put((os.getpid(), timeout))
        return self._epoll.poll(timeout)


def tell_of_waits(told):
    """Be a worker that tells of each of its waits."""

    class Select:
        EPOLLIN, EPOLLEXCLUSIVE = select.EPOLLIN, select.EPOLLEXCLUSIVE

        @staticmethod
        def epoll():
            return Epoll(told)

    mailbox.select = Select


def wait_until_all_sleep(told, workers):
    """Read what they tell until each of them has gone to sleep for good."""
    awake = set(workers)
    while awake:
        pid, timeout = told.get(timeout=children.LIMIT)
        if timeout is None:
            awake.discard(pid)


def run_in(executor):
    """Run calls, and tell which workers have run them."""
    futures = [executor.submit(calls.pid) for _ in range(6)]
    return {future.result(children.LIMIT) for future in futures}


@pytest.fixture
def parents_waits(monkeypatch):
    """Record the time limits with which threads of this process wait for workers."""
    waits = []
    ready = Ends._ready

    def recorded(ends, timeout):
        waits.append(timeout)
        return ready(ends, timeout)

    monkeypatch.setattr(Ends, "_ready", recorded)
    return waits


@pytest.mark.parametrize("method", METHODS)
def test_an_idle_executor_sleeps(pool, parents_waits, method):
    told = pool.queue()
    context = dropin.get_context(method)
    with oc.Executor(2, pool, context, initializer=tell_of_waits, initargs=(told,)) as executor:
        wait_until_all_sleep(told, run_in(executor))
        wait_until_all_sleep(told, run_in(executor))  # again
    assert parents_waits
    assert set(parents_waits) == {None}


@pytest.mark.parametrize("method", METHODS)
def test_an_idle_pool_sleeps(pool, parents_waits, method):
    told = pool.queue()
    workers = dropin.get_context(method).Pool(2, tell_of_waits, (told,))
    try:
        wait_until_all_sleep(told, [worker.pid for worker in workers._pool])
        for _ in range(2):
            ran = {workers.apply(calls.pid) for _ in range(6)}
            wait_until_all_sleep(told, ran)
    finally:
        workers.terminate()
        workers.join()
        workers._pool.clear()
    assert parents_waits
    assert set(parents_waits) == {None}


def test_workers_that_sleep_end_with_their_executor(pool):
    told = pool.queue()
    context = dropin.get_context("fork")
    with oc.Executor(3, pool, context, initializer=tell_of_waits, initargs=(told,)) as executor:
        executor.submit(calls.pid).result(children.LIMIT)
        wait_until_all_sleep(told, executor._processes)


def test_a_full_pool_still_wakes_those_that_sleep():
    """A wake-up takes no room there, and neither does the end."""
    with oc.Pool.create(size="2MiB") as pool:
        told = oc.default_pool().queue()
        context = dropin.get_context("fork")
        executor = oc.Executor(2, pool, context, initializer=tell_of_waits, initargs=(told,))
        assert executor.submit(calls.pid).result(children.LIMIT)
        wait_until_all_sleep(told, executor._processes)
        fill = [*as_many_as_fit(pool, bytes(8192)), *as_many_as_fit(pool, b"x")]
        executor.shutdown()
        del fill


def as_many_as_fit(pool, obj):
    """Put an object until the pool is full."""
    with suppress(oc.PoolFull):
        while True:
            yield pool.put(obj)


# ----------------------------------------------------------------------------------------- signals


def blocked_signals(thread=None):
    """Give the mask of a thread of this process, as the kernel has it."""
    thread = threading.get_native_id() if thread is None else thread
    status = Path(f"/proc/self/task/{thread}/status").read_text("ascii").splitlines()
    return next(int(line.split()[1], 16) for line in status if line.startswith("SigBlk"))


def is_all(mask):
    """Tell whether a mask has all signals that handlers are written for."""
    return all(
        mask >> (number - 1) & 1
        for number in signal.valid_signals() - {signal.SIGKILL, signal.SIGSTOP}
    )


def test_the_threads_of_an_executor_have_all_signals_blocked(executor):
    assert executor.submit(blocked_signals).result(children.LIMIT) == blocked_signals()
    assert is_all(blocked_signals(executor._executor_manager_thread.native_id))


def test_the_threads_of_a_pool_have_all_signals_blocked():
    with dropin.get_context("fork").Pool(1) as workers:
        assert workers.apply(blocked_signals) == blocked_signals()
        for thread in (workers._worker_handler, workers._task_handler, workers._result_handler):
            assert is_all(blocked_signals(thread.native_id))
    workers.join()
    workers._pool.clear()


def test_workers_that_a_thread_of_the_engine_has_started_get_signals(pool):
    context = dropin.get_context("fork")
    with oc.Executor(1, pool, context, restart_workers=True) as executor:
        first = executor.submit(calls.pid).result(children.LIMIT)
        os.kill(first, signal.SIGKILL)
        assert executor.submit(blocked_signals).result(children.LIMIT) == blocked_signals()
    with dropin.get_context("fork").Pool(1, maxtasksperchild=1) as workers:
        for _ in range(3):
            assert workers.apply(blocked_signals) == blocked_signals()
    workers.join()
    workers._pool.clear()


READ = "print(next(l.split()[1] for l in open('/proc/self/status') if l.startswith('SigBlk')))"


def test_programs_that_callbacks_start_get_signals(executor):
    masks = []

    def start(_):
        done = subprocess.run([sys.executable, "-c", READ], capture_output=True, check=True)
        masks.append(int(done.stdout, 16))

    future = executor.submit(calls.pid)
    future.add_done_callback(start)
    with dropin.get_context("fork").Pool(1) as workers:
        workers.apply_async(abs, (1,), callback=start).get(children.LIMIT)
        numbers = (start(None) or number for number in range(2))
        assert list(workers.imap(abs, numbers)) == [0, 1]
    workers.join()
    workers._pool.clear()
    children.eventually(lambda: len(masks) == 4, "the callbacks")
    assert masks == [blocked_signals()] * 4
