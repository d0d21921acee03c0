"""Calls whose arguments, results or errors cannot be pickled or unpickled: only they fail."""

import multiprocessing
import os
import sys
import threading

import numpy as np
import pytest

import onecopy as oc
from executor import calls

pytestmark = pytest.mark.one_in(2)


class TwoArgumentsError(Exception):
    """An error whose arguments are not those that its class requires."""

    def __init__(self, code, text):
        super().__init__(f"{code}: {text}")


class KeywordOnlyError(Exception):
    """As above."""

    def __init__(self, *, code):
        super().__init__(f"code {code}")


class TakesApartError(Exception):
    """An error whose class rejects its arguments with another error."""

    def __init__(self, stuff):
        super().__init__(stuff.text)


class Stuff:
    """An error that processes its arguments."""

    text = "text"


class LeavesTheInterpreterError(Exception):
    """An object whose unpickling raises a `BaseException` that is not an `Exception`."""

    def __reduce__(self):
        return sys.exit, ("rebuilt",)


class HasALockError(Exception):
    """It cannot be pickled."""

    def __init__(self):
        super().__init__("with a lock")
        self.lock = threading.Lock()


class PicklesBadlyError(Exception):
    """An object whose pickling raises a `BaseException` that is not an `Exception`."""

    def __reduce__(self):
        raise SystemExit("while it is pickled")


class OnlyIn:
    """Can be unpickled in one kind of process."""

    def __init__(self, where):
        self.where = where
        self.rest = np.ones(100_000)

    def __getstate__(self):
        return self.where, self.rest

    def __setstate__(self, state):
        where = "child" if multiprocessing.parent_process() else "parent"
        if where != state[0]:
            raise LookupError(f"not in the {where}")
        self.where, self.rest = state


ERRORS = {
    "two": (
        lambda: TwoArgumentsError(404, "gone"),
        ["TwoArgumentsError", "404: gone", "missing 1", "super"],
    ),
    "keyword": (
        lambda: KeywordOnlyError(code=3),
        ["KeywordOnlyError", "code 3", "TypeError", "__reduce__"],
    ),
    "apart": (
        lambda: TakesApartError(Stuff()),
        ["TakesApartError", "AttributeError", "no attribute 'text'"],
    ),
    "exit": (LeavesTheInterpreterError, ["LeavesTheInterpreterError", "SystemExit"]),
    "lock": (HasALockError, ["HasALockError", "with a lock", "cannot pickle", "process"]),
    "pickles": (PicklesBadlyError, ["PicklesBadlyError", "while it is pickled"]),
}


def raises(kind):
    """Raise one of these errors."""
    error = ERRORS[kind][0]()
    raise error


def gives(kind):
    """Return one of these errors."""
    return ERRORS[kind][0]()


def only_in(where):
    """Make an object that can be unpickled in one kind of process."""
    return OnlyIn(where)


def takes(obj):
    """Take any object."""
    return type(obj).__name__


@pytest.fixture(params=[False, True], ids=["", "restart"])
def workers(request, pool, context):
    """Two workers, with each start method."""
    with oc.Executor(2, pool, context, restart_workers=request.param) as executor:
        yield executor


def the_rest_goes_on(executor, others):
    """Tell whether calls before and after a failed one run in the same workers."""
    assert [each.result(60) for each in others] == [i * i for i in range(len(others))]
    before = set(executor._processes)
    assert list(executor.map(pow, range(8), [2] * 8)) == [i * i for i in range(8)]
    assert before <= set(executor._processes)


@pytest.mark.parametrize("kind", ERRORS)
def test_an_error_that_cannot_be_rebuilt(workers, kind):
    others = [workers.submit(pow, i, 2) for i in range(6)]
    with pytest.raises(oc.NotRebuilt) as caught:
        workers.submit(raises, kind).result(60)
    for word in [type(gives(kind)).__name__, *ERRORS[kind][1]]:
        assert word in str(caught.value)
    the_rest_goes_on(workers, others)


def test_a_result_that_is_such_an_error(workers):
    with pytest.raises(oc.NotRebuilt, match=r"the result of a call, .*TwoArgumentsError: 404"):
        workers.submit(gives, "two").result(60)
    the_rest_goes_on(workers, [])


def test_a_result_that_only_the_worker_can_rebuild(workers):
    others = [workers.submit(pow, i, 2) for i in range(6)]
    with pytest.raises(oc.NotRebuilt, match=rf"OnlyIn.*process {os.getpid()}.*not in the parent"):
        workers.submit(only_in, "child").result(60)
    the_rest_goes_on(workers, others)


def test_the_cause_is_what_unpickling_raised(executor):
    with pytest.raises(oc.NotRebuilt) as caught:
        executor.submit(only_in, "child").result(60)
    assert isinstance(caught.value.__cause__, LookupError)


def test_arguments_that_only_the_parent_can_rebuild(workers):
    others = [workers.submit(pow, i, 2) for i in range(6)]
    for obj in (OnlyIn("parent"), [OnlyIn("parent")]):
        with pytest.raises(oc.NotRebuilt, match=r"not in the child.*OnlyIn.__setst") as caught:
            workers.submit(takes, obj).result(60)
        assert "__setstate__" in str(caught.value.__cause__)  # where it was raised
    the_rest_goes_on(workers, others)


def test_an_array_of_objects(executor):
    array = np.empty(1, object)
    array[0] = TwoArgumentsError(1, "x")
    with pytest.raises(oc.NotRebuilt):
        executor.submit(calls.same, array).result(60)
    assert executor.submit(pow, 2, 3).result(60) == 8


def test_a_map_gives_the_error_in_its_place(executor):
    results = executor.map(raises, ["two", "keyword"])
    with pytest.raises(oc.NotRebuilt, match="TwoArgumentsError"):
        next(results)
    assert executor.submit(pow, 2, 3).result(60) == 8


def test_workers_that_leave_after_such_a_call(pool):
    context = multiprocessing.get_context("forkserver")
    with oc.Executor(1, pool, context, max_tasks_per_child=1) as executor:
        futures = [executor.submit(raises, "two") for _ in range(3)]
        for future in futures:
            with pytest.raises(oc.NotRebuilt):
                future.result(60)
        assert executor.submit(pow, 2, 3).result(60) == 8


def test_nothing_stays_in_the_pool(pool):
    with oc.Executor(2, pool) as executor:
        with pytest.raises(oc.NotRebuilt):
            executor.submit(only_in, "child").result(60)
        with pytest.raises(oc.NotRebuilt):
            executor.submit(takes, OnlyIn("parent")).result(60)
    del executor
    assert pool.stats().used == 0
    assert pool.validate() == []
