"""Executors that are shut down while calls are left, from any place, and whose workers end."""

import multiprocessing
import os
import signal
import threading
import traceback
from concurrent.futures import CancelledError
from concurrent.futures.process import BrokenProcessPool

import children
import pytest

import onecopy as oc
from executor import calls

pytestmark = pytest.mark.one_in(2)


@pytest.mark.parametrize("method", ["spawn", "forkserver"])
@pytest.mark.parametrize(("workers", "limit"), [(2, 1), (1, 2), (2, 3)])
@pytest.mark.parametrize("dropped", [False, True])
def test_no_call_is_lost_when_workers_are_replaced(pool, method, workers, limit, dropped):
    context = multiprocessing.get_context(method)
    executor = oc.Executor(workers, pool, context, max_tasks_per_child=limit)
    futures = [executor.submit(pow, i, 2) for i in range(7)]
    executor.shutdown(wait=False)
    if dropped:
        del executor
    assert [future.result(60) for future in futures] == [i * i for i in range(7)]


def test_two_workers_stay_two_after_shutdown(pool, tmp_path):
    context = multiprocessing.get_context("forkserver")
    executor = oc.Executor(2, pool, context, max_tasks_per_child=1)
    marks = [tmp_path / str(i) for i in range(4)]
    futures = [
        executor.submit(calls.meet, _Zeros(), mine, other)
        for mine, other in [(0, 1), (1, 0), (2, 3), (3, 2)]
        for mine, other in [(marks[mine], marks[other])]
    ]
    executor.shutdown(wait=False)
    assert [future.result(60) for future in futures] == [0] * 4


class _Zeros:
    def sum(self):
        return 0


def test_a_map_goes_on_after_shutdown(pool):
    context = multiprocessing.get_context("forkserver")
    executor = oc.Executor(2, pool, context, max_tasks_per_child=2)
    results = executor.map(pow, range(9), [2] * 9)
    executor.shutdown(wait=False)
    assert list(results) == [i * i for i in range(9)]


@pytest.mark.parametrize("wait", [True, False])
def test_shutdown_in_a_callback(pool, tmp_path, wait):
    executor = oc.Executor(2, pool)
    future = executor.submit(calls.wait_for, tmp_path / "go")
    more = executor.submit(pow, 2, 3)
    done, errors = threading.Event(), []

    def callback(_):
        try:
            executor.shutdown(wait=wait)
        except BaseException as error:  # noqa: BLE001 - whatever it is
            errors.append(error)
        done.set()

    future.add_done_callback(callback)
    (tmp_path / "go").touch()
    assert done.wait(60)
    assert errors == []
    assert more.result(60) == 8
    executor.shutdown()


def test_each_call_has_an_error_of_its_own(executor, tmp_path):
    futures = [executor.submit(calls.wait_for, tmp_path / "never") for _ in range(5)]
    children.eventually(futures[0].running, "a call to run")
    os.kill(next(iter(executor._processes)), signal.SIGKILL)
    errors, lengths = [], []
    for future in futures:
        with pytest.raises(BrokenProcessPool) as caught:
            future.result(60)
        errors.append(caught.value)
        lengths.append(len(traceback.extract_tb(caught.value.__traceback__)))
    assert len({id(error) for error in errors}) == 5
    assert len(set(lengths)) == 1


def test_a_callback_may_submit_when_the_executor_breaks(executor, tmp_path):
    future = executor.submit(calls.wait_for, tmp_path / "never")
    told = []

    def callback(_):
        try:
            executor.submit(pow, 2, 3)
        except BrokenProcessPool as error:
            told.append(error)

    future.add_done_callback(callback)
    children.eventually(future.running, "the call to run")
    os.kill(next(iter(executor._processes)), signal.SIGKILL)
    children.eventually(lambda: told, "the callback to be called")


@pytest.mark.parametrize("end", ["terminate_workers", "kill_workers"])
@pytest.mark.parametrize("restart", [False, True])
def test_workers_are_ended_at_once(pool, context, tmp_path, end, restart):
    initializer = None if end == "terminate_workers" else calls.ignore_termination
    with oc.Executor(
        2, pool, context, initializer=initializer, restart_workers=restart
    ) as executor:
        futures = [executor.submit(calls.wait_for, tmp_path / "never") for _ in range(8)]
        children.eventually(futures[0].running, "a call to run")
        processes = list(executor._processes.values())
        getattr(executor, end)()
        for future in futures:
            with pytest.raises((BrokenProcessPool, CancelledError)):
                future.result(60)
        assert futures[-1].cancelled()
        with pytest.raises(RuntimeError):
            executor.submit(pow, 2, 3)
    for process in processes:
        process.join(60)
    getattr(executor, end)()  # a second call does nothing
    del futures, future, executor, processes, process
    children.eventually(lambda: pool.stats().used == 0, "the pool to be empty")


@pytest.mark.parametrize("method", ["spawn", "forkserver"])
@pytest.mark.parametrize("restart", [False, True])
def test_no_worker_comes_after_all_were_ended(pool, tmp_path, method, restart):
    """One that has run its share of calls at that moment has left in order."""
    begun, resume, ran = (tmp_path / name for name in ("begun", "continue", "ran"))
    executor = oc.Executor(
        1,
        pool,
        multiprocessing.get_context(method),
        initializer=calls.ignore_termination,
        max_tasks_per_child=1,
        restart_workers=restart,
    )
    first = executor.submit(calls.meet, _Zeros(), begun, resume)
    others = [executor.submit(calls.count, ran, number) for number in range(4)]
    children.eventually(begun.exists, "the call to begin")
    executor.terminate_workers()
    resume.touch()
    assert first.result(60) == 0
    for future in others:
        with pytest.raises((BrokenProcessPool, CancelledError)) as caught:
            future.result(60)
        assert future.cancelled() or "forcefully shut down" in str(caught.value)
    assert not others[0].cancelled()  # it lay ready for a worker
    executor.shutdown()
    assert not ran.exists()
    del first, others, future, executor, caught
    children.eventually(lambda: pool.stats().used == 0, "the pool to be empty")


def test_an_end_that_there_is_not(pool):
    with oc.Executor(1, pool) as executor, pytest.raises(ValueError, match="operation"):
        executor._force_shutdown(operation="stop")


@pytest.mark.parametrize("end", ["terminate_workers", "kill_workers"])
def test_ending_workers_that_there_are_none_of(pool, end):
    executor = oc.Executor(1, pool)
    getattr(executor, end)()
    with pytest.raises(RuntimeError):
        executor.submit(pow, 2, 3)


def test_workers_are_ended_in_a_signal_handler(pool, tmp_path):
    executor = oc.Executor(1, pool)
    future = executor.submit(calls.wait_for, tmp_path / "never")
    before = signal.signal(signal.SIGUSR1, lambda *_: executor.kill_workers())
    try:
        children.eventually(future.running, "the call to run")
        signal.raise_signal(signal.SIGUSR1)
        with pytest.raises(BrokenProcessPool):
            future.result(60)
    finally:
        signal.signal(signal.SIGUSR1, before)
    executor.shutdown()


@pytest.mark.parametrize("error", [SystemExit, KeyboardInterrupt, LookupError])
@pytest.mark.parametrize("restart", [False, True])
def test_a_callback_that_raises_ends_nothing(pool, monkeypatch, caplog, error, restart):
    told = []
    monkeypatch.setattr(threading, "excepthook", lambda hooked: told.append(hooked.exc_type))
    seen = []

    def raising(_):
        raise error("in the callback")

    with oc.Executor(1, pool=pool, restart_workers=restart) as executor:
        begin = pool.event()
        future = executor.submit(begin.wait)
        future.add_done_callback(raising)
        future.add_done_callback(seen.append)
        begin.set()
        assert future.result(children.LIMIT)
        assert executor.submit(abs, -3).result(children.LIMIT) == 3
    assert seen == [future]
    seen.clear()
    if error is LookupError:  # as in the standard library
        assert "LookupError: in the callback" in caplog.text
        caplog.clear()  # the error keeps frames
    else:
        assert told == [error]


def test_a_callback_of_a_future_that_is_done_raises_in_its_caller(executor):
    future = executor.submit(abs, -3)
    assert future.result(children.LIMIT) == 3

    def raising(_):
        raise SystemExit

    with pytest.raises(SystemExit):
        future.add_done_callback(raising)


def _raises(text):
    raise LookupError(text)


@pytest.mark.parametrize("restart", [False, True])
def test_an_initializer_that_raises_is_named(pool, restart):
    with oc.Executor(
        2, pool=pool, initializer=_raises, initargs=("not here",), restart_workers=restart
    ) as executor:
        future = executor.submit(abs, -3)
        with pytest.raises(
            BrokenProcessPool, match=r"initializer.*LookupError: not here"
        ) as caught:
            future.result(children.LIMIT)
    assert "in _raises" in str(caught.value.__cause__)


def test_an_executor_is_described(pool):
    with oc.Executor(2, pool=pool) as executor:
        assert repr(executor) == "<onecopy.Executor, 0 of 2 workers started, 0 calls>"
        assert executor.submit(abs, -3).result() == 3
        assert repr(executor).startswith("<onecopy.Executor, ")
    assert repr(executor) == "<onecopy.Executor, shut down>"
