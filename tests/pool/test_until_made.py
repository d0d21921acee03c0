"""`wait=`: a process opens what another process makes, in whichever order they start."""

import os
import queue as standard
import signal
import threading

import numpy as np
import pytest
from children import LIMIT, METHODS, asleep, eventually, start

import onecopy as oc
from onecopy._core.until_made import until_made

THINGS = ["queue", "stream", "frames"]
ARGUMENTS = {
    "queue": {"maxsize": 7, "redeliver": True},
    "stream": {"depth": 3, "policy": "latest"},
    "frames": {"shape": (4, 5), "dtype": "uint8", "count": 2},
}


def report(thing):
    """Wait for the pool, for the answers, and for the thing; tell what was found."""
    pool = oc.Pool.open("camera", wait=True)
    answers = pool.queue("answers", wait=True)
    answers.put(os.getpid())
    found = getattr(pool, thing)("cam0", wait=True)
    answers.put({name: getattr(found, name) for name in ARGUMENTS[thing]})


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("thing", THINGS)
def test_a_process_that_starts_first_waits_for_what_another_one_makes(method, thing):
    child = start(method, report, thing)
    try:
        eventually(lambda: asleep(child.pid), "the child to wait for the pool")
        with oc.Pool("camera", size="16MiB") as pool:
            answers = pool.queue("answers")
            assert answers.get(timeout=LIMIT) == child.pid
            eventually(lambda: asleep(child.pid), "the child to wait for the thing")
            getattr(pool, thing)("cam0", **ARGUMENTS[thing])
            found = answers.get(timeout=LIMIT)
            assert child.wait() == 0
    finally:
        child.end()
    expected = dict(ARGUMENTS[thing])
    if thing == "frames":
        expected["dtype"] = np.dtype("uint8")
    assert found == expected


@pytest.mark.parametrize("thing", THINGS)
def test_what_is_there_is_opened_at_once(pool, thing):
    open_thing = getattr(pool, thing)
    open_thing("cam0", **ARGUMENTS[thing])
    for wait in (True, 0, 0.5):
        assert open_thing("cam0", wait=wait).name == "cam0"
    name = next(iter(ARGUMENTS[thing]))
    with pytest.raises(oc.OneCopyError, match=name):
        open_thing("cam0", **{name: 99}, wait=True)  # arguments still must not contradict


@pytest.mark.parametrize("wait", [0, 0.01])
@pytest.mark.parametrize("thing", THINGS)
def test_a_wait_that_ends_makes_nothing(pool, thing, wait):
    other = getattr(pool, thing)("cam1", **ARGUMENTS[thing])
    before = pool.stats().used
    with pytest.raises(oc.OneCopyError, match=f"wait of {wait:g} s.*'cam0'; the pool has 'cam1'"):
        getattr(pool, thing)("cam0", **ARGUMENTS[thing], wait=wait)
    assert pool.stats().used == before
    assert other.name == "cam1"


def test_a_wait_for_a_pool_that_ends_says_how_long_it_was():
    with pytest.raises(oc.PoolNotFound) as told:
        oc.Pool.open("camera", wait=0.01)
    assert told.value.__notes__ == ["This is so after a wait of 0.01 s."]
    with pytest.raises(oc.PoolNotFound) as told:
        oc.Pool.open("camera", wait=0)
    assert not hasattr(told.value, "__notes__")


def test_a_pool_in_a_file_is_waited_for(tmp_path):
    path = tmp_path / "camera.pool"
    found = standard.Queue()
    waiting = threading.Thread(target=lambda: found.put(oc.Pool.open(path, wait=True)))
    waiting.start()
    made = oc.Pool.create(path, size="16MiB")
    assert found.get(timeout=LIMIT) == made
    waiting.join()


def test_the_pool_of_a_dead_process_is_not_the_one_that_is_waited_for():
    child = start("stranger", leave_a_pool)
    assert child.wait() == -signal.SIGKILL
    child.end()
    with pytest.raises(oc.PoolNotFound):
        oc.Pool.open("camera", wait=0)
    with oc.Pool("camera", size="16MiB"):
        oc.Pool.open("camera", wait=True).close()


def leave_a_pool():
    oc.Pool.create("camera", size="16MiB")
    os.kill(os.getpid(), signal.SIGKILL)


@pytest.mark.parametrize("thing", THINGS)
def test_wrong_arguments(pool, thing):
    open_thing = getattr(pool, thing)
    with pytest.raises(ValueError, match="wait=True needs a name"):
        open_thing(wait=True)
    for call in (
        lambda wait: open_thing("a", wait=wait),
        lambda wait: oc.Pool.open("a", wait=wait),
    ):
        with pytest.raises(TypeError, match="'wait' must be True, False, or a number of seconds"):
            call("5")
        for bad in (-1, float("nan")):
            with pytest.raises(ValueError, match=f"wait={bad!r}: it is True, False, or seconds"):
                call(bad)


def test_other_errors_end_the_wait():
    def find():
        raise PermissionError

    with pytest.raises(PermissionError):
        until_made(find, KeyError, wait=True)


def test_ctrl_c_ends_the_wait():
    def find():
        os.kill(os.getpid(), signal.SIGINT)
        raise KeyError

    with pytest.raises(KeyboardInterrupt):
        until_made(find, KeyError, wait=True)
