"""Calls of a pool of workers that fail in any way: only that call fails, the pool continues."""

import itertools
import multiprocessing as standard
import os
import signal
import subprocess
import sys
import threading
from contextlib import contextmanager

import numpy as np
import pytest
from children import LIMIT, eventually

import onecopy as oc
from onecopy import multiprocessing
from onecopy.multiprocessing.pool import MaybeEncodingError, Pool, PoolTerminated

pytestmark = pytest.mark.one_in(2)

STARTS = ["fork", "spawn", "forkserver"]


@pytest.fixture(params=STARTS)
def workers(request):
    with multiprocessing.get_context(request.param).Pool(2) as workers:
        yield workers
    workers.join()
    workers._pool.clear()  # the fixture keeps the pool, and so the descriptors of its processes


@contextmanager
def two_workers(*args, **kwargs):
    """Provide a pool, and release its processes at the end."""
    workers = Pool(2, *args, **kwargs)
    try:
        yield workers
    finally:
        workers.terminate()
        workers.join()
        workers._pool.clear()


# --------------------------------------------------------------- what cannot be rebuilt, or sent


class TwoArgumentsError(Exception):
    """An error whose arguments are not those that its class requires."""

    def __init__(self, code, text):
        super().__init__(f"{code}: {text}")


class ExitsError(Exception):
    """An object whose unpickling raises a `BaseException` that is not an `Exception`."""

    def __reduce__(self):
        return sys.exit, ("rebuilt",)


class LockError(Exception):
    """It cannot be pickled, and its `repr` fails."""

    def __init__(self):
        super().__init__("with a lock")
        self.lock = threading.Lock()

    def __repr__(self):
        raise ValueError("not shown")


class OnlyIn:
    """Can be unpickled in one kind of process."""

    def __init__(self, where):
        self.where = where
        self.rest = np.ones(10_000)

    def __getstate__(self):
        return self.where, self.rest

    def __setstate__(self, state):
        where = "child" if standard.parent_process() else "parent"
        if where != state[0]:
            raise LookupError(f"not in the {where}")
        self.where, self.rest = state


def _two(_):
    raise TwoArgumentsError(404, "gone")


def _exits(_):
    raise ExitsError


def _gives_two(_):
    return TwoArgumentsError(404, "gone")


def _only_in_a_child(_):
    return [OnlyIn("child")]


def _locked(_):
    raise LockError


def _twice(number):
    return 2 * number


KINDS = {
    "error": (
        _two,
        1,
        oc.NotRebuilt,
        r"error of a call, .*TwoArgumentsError: 404: gone.*missing 1",
    ),
    "exit": (_exits, 1, oc.NotRebuilt, "ExitsError.*SystemExit: rebuilt"),
    "result": (
        _only_in_a_child,
        1,
        oc.NotRebuilt,
        r"list.*not in the parent.*OnlyIn.__setstate__",
    ),
    "error as result": (_gives_two, 1, oc.NotRebuilt, r"result of a call, .*TwoArgumentsError"),
    "arguments": (_twice, OnlyIn("parent"), oc.NotRebuilt, "arguments.*LookupError: not in the ch"),
    "unsendable": (
        _locked,
        1,
        MaybeEncodingError,
        "LockError, whose __repr__ raises.*cannot pickle",
    ),
}
WAYS = {
    "apply": lambda pool, function, item: pool.apply(function, (item,)),
    "apply_async": lambda pool, function, item: pool.apply_async(function, (item,)).get(LIMIT),
    "map": lambda pool, function, item: pool.map(function, [item] * 3),
    "starmap": lambda pool, function, item: pool.starmap(function, [(item,)] * 3),
    "map_async": lambda pool, function, item: pool.map_async(function, [item]).get(LIMIT),
    "imap": lambda pool, function, item: pool.imap(function, [item] * 3).next(LIMIT),
    "imap in chunks": lambda pool, function, item: next(pool.imap(function, [item] * 3, 2)),
    "imap_unordered": lambda pool, function, item: pool.imap_unordered(function, [item]).next(
        LIMIT
    ),
}


@pytest.mark.parametrize("kind", KINDS)
def test_what_cannot_be_rebuilt_fails_its_call(workers, kind):
    function, item, error, text = KINDS[kind]
    others = [workers.apply_async(_twice, (number,)) for number in range(6)]
    for way in WAYS.values():
        with pytest.raises(error, match=text):
            way(workers, function, item)
    assert [other.get(LIMIT) for other in others] == [0, 2, 4, 6, 8, 10]
    assert workers.map(_twice, range(4)) == [0, 2, 4, 6]


def test_the_cause_is_what_unpickling_raised(workers):
    with pytest.raises(oc.NotRebuilt) as caught:
        workers.apply(_only_in_a_child, (1,))
    assert isinstance(caught.value.__cause__, LookupError)


def test_in_order_around_what_cannot_be_rebuilt():
    with two_workers() as workers:
        results = workers.imap(_some_fail, range(6))
        got = []
        for _ in range(6):
            try:
                got.append(results.next(LIMIT))
            except oc.NotRebuilt:
                got.append(None)
        assert got == [0, 2, None, 6, 8, None]
        with pytest.raises(StopIteration):
            results.next(LIMIT)


def _some_fail(number):
    return _two(number) if number % 3 == 2 else 2 * number


def test_no_worker_is_replaced_for_it():
    with two_workers() as workers:
        before = [worker.pid for worker in workers._pool]
        for function in (_two, _gives_two, _only_in_a_child, _locked):
            with pytest.raises((oc.NotRebuilt, MaybeEncodingError)):
                workers.apply(function, (1,))
        with pytest.raises(oc.NotRebuilt):
            workers.apply(_twice, (OnlyIn("parent"),))
        assert [worker.pid for worker in workers._pool] == before


# ------------------------------------------------------------------------- callbacks that raise


@pytest.fixture
def reported(monkeypatch):
    """Collect what is reported as uncaught in a thread."""
    told = []
    monkeypatch.setattr(threading, "excepthook", lambda args: told.append(args.exc_value))
    return told


def _raises(_):
    raise ValueError("the callback's own")


def _fails(number):
    raise LookupError(number)


@pytest.mark.parametrize("kind", [ValueError, SystemExit, KeyboardInterrupt])
@pytest.mark.parametrize("call", ["apply_async", "map_async", "starmap_async"])
def test_callbacks_that_raise(reported, call, kind):
    def callback(_):
        raise kind("the callback's own")

    items = {"apply_async": (4,), "map_async": [4], "starmap_async": [(4,)]}[call]
    right = 8 if call == "apply_async" else [8]
    with two_workers() as workers:
        give = getattr(workers, call)
        result = give(_twice, items, callback=callback)
        assert result.get(LIMIT) == right
        assert result.successful()
        result = give(_fails, items, error_callback=callback)
        with pytest.raises(LookupError):
            result.get(LIMIT)
        assert give(_twice, items).get(LIMIT) == right
        workers.close()
        workers.join()
    assert [type(error) for error in reported] == [kind, kind]


@pytest.mark.parametrize("end", ["terminate", "close"])
def test_a_callback_that_ends_the_pool(reported, end):
    with two_workers() as workers:
        done = threading.Event()

        def callback(_):
            getattr(workers, end)()
            done.set()

        result = workers.apply_async(_twice, (1,), callback=callback)
        assert done.wait(LIMIT)
        assert result.get(LIMIT) == 2
        workers.join()
    assert reported == []


# ---------------------------------------------------------------------------- pools that are ended


def _waits(_):
    signal.pause()


@pytest.mark.parametrize("way", ["apply_async", "map_async", "imap", "imap_unordered"])
def test_calls_that_are_left_when_the_pool_is_terminated(way):
    with two_workers() as workers:
        errors = []
        if way == "apply_async":
            result = workers.apply_async(_waits, (1,), error_callback=errors.append).get
        elif way == "map_async":
            result = workers.map_async(_waits, range(9), error_callback=errors.append).get
        else:
            result = getattr(workers, way)(_waits, range(9)).next
        workers.terminate()
        with pytest.raises(PoolTerminated):
            result(LIMIT)
        assert errors == []
        with pytest.raises(ValueError, match="not running"):
            workers.apply_async(_twice, (1,))


@contextmanager
def handler(function):
    """Have a function called by SIGALRM."""
    before = signal.signal(signal.SIGALRM, lambda *_: function())
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def _signals_and_waits(pid):
    os.kill(pid, signal.SIGALRM)
    signal.pause()


@pytest.mark.parametrize("way", ["apply", "map", "imap", "imap_unordered", "wait"])
def test_a_signal_handler_ends_the_pool_that_is_waited_for(way):
    with two_workers() as workers:

        def end():
            workers.terminate()
            workers.join()

        ways = {
            "apply": lambda: workers.apply(_signals_and_waits, (os.getpid(),)),
            "map": lambda: workers.map(_signals_and_waits, [os.getpid()]),
            "imap": lambda: next(workers.imap(_signals_and_waits, [os.getpid()])),
            "imap_unordered": lambda: next(
                workers.imap_unordered(_signals_and_waits, [os.getpid()])
            ),
            "wait": lambda: _wait_and_get(workers.apply_async(_signals_and_waits, (os.getpid(),))),
        }
        with handler(end), pytest.raises(PoolTerminated):
            ways[way]()


def _wait_and_get(result):
    result.wait()
    result.get(0)


@pytest.mark.stress
@pytest.mark.parametrize("turn", range(40))
def test_a_signal_handler_ends_the_pool_at_any_instant(turn):
    with two_workers() as workers:

        def end():
            workers.terminate()
            workers.join()

        with handler(end):
            signal.setitimer(signal.ITIMER_REAL, 0.001 + turn * 0.0007)
            try:
                for number in itertools.count():
                    result = workers.apply_async(_twice, (number,))
                    assert next(workers.imap(_twice, [number])) == 2 * number
                    assert result.get(LIMIT) == 2 * number
            except (PoolTerminated, ValueError):  # it ended while it waited, or before it asked
                pass


def test_a_handler_that_terminates_while_the_pool_is_terminated(monkeypatch):
    with two_workers() as workers:
        join = workers._worker_handler.join

        def interrupted(*args):
            monkeypatch.setattr(workers._worker_handler, "join", join)
            workers.terminate()  # as a handler does, in the middle of the other call
            workers.join()
            join(*args)

        monkeypatch.setattr(workers._worker_handler, "join", interrupted)
        workers.terminate()


def test_terminate_while_an_iterable_waits_for_this_thread(monkeypatch):
    monkeypatch.setattr("onecopy.multiprocessing._pool_threads._ITERABLE_TIMEOUT", 0.01)
    go, asked = threading.Event(), threading.Event()

    def items():
        yield 1
        asked.set()
        go.wait()

    with two_workers() as workers:
        results = workers.imap(_twice, items())
        assert results.next(LIMIT) == 2
        assert asked.wait(LIMIT)
        workers.terminate()
        with pytest.raises(PoolTerminated):
            results.next(LIMIT)
        workers.join()
        go.set()
        workers._task_handler.join()


# ---------------------------------------------------------------------- workers that cannot begin


def _bad_initializer():
    raise LookupError("in the initializer")


def _exits_early():
    os._exit(3)


def _good_at_the_third_go(path):
    with path.open("a") as file:
        file.write("x")
    if len(path.read_text()) < 3:
        raise LookupError("not yet")


@pytest.mark.parametrize("method", STARTS)
def test_an_initializer_that_raises(method):
    started = []

    class Counted(Pool):
        @staticmethod
        def Process(ctx, *args, **kwargs):  # noqa: N802 - the standard library's
            started.append(1)
            return ctx.Process(*args, **kwargs)

    workers = Counted(2, _bad_initializer, context=multiprocessing.get_context(method))
    left = [workers.apply_async(_twice, (1,)), workers.map_async(_twice, range(300))]
    endless = workers.imap(_twice, itertools.count())
    for get in (*(each.get for each in left), endless.next):
        with pytest.raises(LookupError, match="in the initializer") as caught:
            get(LIMIT)
        assert "_bad_initializer" in str(caught.value.__cause__)
    with pytest.raises(StopIteration):
        endless.next(LIMIT)
    with pytest.raises(LookupError, match="in the initializer"):
        workers.map(_twice, range(3))
    with pytest.raises(LookupError, match="in the initializer"):
        workers.imap_unordered(_twice, range(3)).next(LIMIT)
    # Five failures end the pool. Failed workers are replaced until the pool has received the
    # reports, but at most five reports are on their way at a time.
    assert 5 <= len(started) <= 2 + 5 + 6
    workers.close()
    workers.join()
    workers._pool.clear()


def test_an_initializer_that_ends_the_process():
    text = r"before they were ready.*exit code 3"
    with two_workers(_exits_early) as workers, pytest.raises(RuntimeError, match=text):
        workers.apply(_twice, (1,))


def test_an_initializer_whose_error_cannot_be_rebuilt():
    error = pytest.raises(oc.NotRebuilt, match="TwoArgumentsError")
    with two_workers(_two, (1,)) as workers, error:
        workers.apply(_twice, (1,))


def test_an_initializer_that_is_good_later(tmp_path):
    with two_workers(_good_at_the_third_go, (tmp_path / "tries",)) as workers:
        assert workers.map(_twice, range(3)) == [0, 2, 4]


def test_workers_that_end_in_their_tasks_are_no_bad_start():
    with two_workers() as workers:
        for _ in range(20):
            with pytest.raises(multiprocessing.pool.WorkerDied):
                workers.apply(os._exit, (1,))
        assert workers.apply(_twice, (1,)) == 2


def test_many_short_lives_during_a_long_callback():
    with two_workers(maxtasksperchild=1) as workers:
        go = threading.Event()
        first = workers.apply_async(_twice, (1,), callback=lambda _: go.wait())
        others = [workers.apply_async(_twice, (number,)) for number in range(40)]
        go.set()
        assert [other.get(LIMIT) for other in others] == [2 * number for number in range(40)]
        assert first.get(LIMIT) == 2


SCRIPT = """
from onecopy import multiprocessing
def twice(number):
    return 2 * number
pool = multiprocessing.get_context({method!r}).Pool(2)
print(pool.map(twice, range(3)))
"""


@pytest.mark.parametrize("method", ["spawn", "forkserver"])
def test_a_script_without_a_main_guard_is_told_once(tmp_path, method):
    script = tmp_path / "script.py"
    script.write_text(SCRIPT.format(method=method))
    done = subprocess.run(
        [sys.executable, script], capture_output=True, text=True, timeout=LIMIT, check=False
    )
    assert done.returncode == 1
    assert done.stderr.count("Traceback") == 1, done.stderr
    assert done.stderr.count('if __name__ == "__main__":') == 1
    assert done.stdout == ""


# --------------------------------------------------------------------------------- reading ahead


def test_an_iterable_is_read_as_results_are_taken():
    read = itertools.count()
    with two_workers() as workers:
        results = workers.imap(_twice, (next(read) for _ in itertools.count()))
        feed = results._feed
        for number in range(400):
            assert results.next(LIMIT) == 2 * number
        eventually(lambda: feed._parked, "the reading to stop")
        assert workers.apply(_twice, (3,)) == 6  # other calls continue
        assert next(read) <= 400 + workers._ahead + 1


@pytest.mark.parametrize("way", ["imap", "imap_unordered"])
@pytest.mark.parametrize("size", [1, 7])
def test_all_of_a_long_iterable_comes(way, size):
    with two_workers() as workers:
        results = getattr(workers, way)(_twice, iter(range(3000)), size)
        assert sorted(results) == [2 * number for number in range(3000)]


def test_calls_between_results_do_not_wait_for_them():
    with two_workers() as workers:
        for number in workers.imap(_twice, range(400)):
            assert workers.apply(_twice, (number,)) == 2 * number


@pytest.mark.parametrize("dropped", [True, False])
def test_all_is_done_though_nobody_takes_results(tmp_path, dropped):
    trace = tmp_path / "trace"
    with two_workers() as workers:
        results = workers.imap(_leaves_a_trace, [trace] * 500)
        if dropped:
            del results
            eventually(lambda: trace.exists() and trace.stat().st_size == 500, "all to be done")
        workers.close()
        workers.join()
    assert trace.stat().st_size == 500


def _leaves_a_trace(path):
    with path.open("a") as file:
        file.write("x")


@pytest.mark.parametrize("way", ["imap", "imap_unordered"])
def test_an_iterable_that_raises(way):
    def items():
        yield from range(3)
        raise TwoArgumentsError(1, "the iterable's")

    with two_workers() as workers:
        results = getattr(workers, way)(_twice, items())
        got = []
        with pytest.raises(TwoArgumentsError):
            got.extend(results)
        assert sorted(got) == [0, 2, 4]
        with pytest.raises(StopIteration):
            _exhaust(results)
        assert workers.apply(_twice, (1,)) == 2


def _exhaust(results):
    while True:
        results.next(LIMIT)
