"""Workers that fail again and again, and messages that end each worker that takes them."""

import os
import pickle
import signal
import subprocess
import sys
import threading

import pytest
from children import LIMIT, running
from worker_functions import do, forever, replaced, runs, serve, take, tell

import onecopy as oc

pytestmark = pytest.mark.one_in(2)

QUICK = {"backoff": 0, "max_restarts": 2}


@pytest.fixture
def told(pool):
    return pool.queue()


@pytest.mark.parametrize(
    ("how", "says"),
    [
        ("raise", r"it raised LookupError: no such camera \(process \d+\)"),
        ("kill", r"it was killed by SIGKILL \(process \d+\)"),
        ("exit", r"it ended with exit code 3 \(process \d+\)"),
    ],
)
@pytest.mark.parametrize("start_method", ["fork", "spawn", "forkserver"])
def test_a_crash_loop(told, how, says, start_method):
    group = oc.supervise(do, 2, args=(how, told), mp_context=start_method, name="eyes", **QUICK)
    with pytest.raises(oc.CrashLoop, match=says) as raised:
        group.join(LIMIT)
    worker = raised.value.worker
    assert worker.name in str(raised.value)
    assert "max_restarts=2" in str(raised.value)
    assert "All workers of 'eyes' (2) are stopped" in str(raised.value)
    assert worker.restarts == 2
    assert worker.last_exit.failed
    assert group.pids == ()
    assert group.failure is raised.value
    again = pickle.loads(pickle.dumps(raised.value))
    assert (str(again), again.worker) == (str(raised.value), worker)


def test_one_that_fails_takes_the_others_along(told):
    group = oc.supervise(tell, 3, args=(told,), **QUICK)
    pids = group.pids
    for _ in pids:
        told.get(timeout=LIMIT)  # all run, and have their handlers: forkserver is slower than fork
    for _ in range(2):
        pid = group.pids[1]
        os.kill(pid, signal.SIGKILL)
        replaced(group, 1, pid)
    os.kill(group.pids[1], signal.SIGKILL)
    with pytest.raises(oc.CrashLoop):
        group.join(LIMIT)
    assert [running(pid) for pid in pids] == [False] * 3
    assert group.failure.worker.index == 1
    assert [worker.last_exit.code for worker in group.workers] == [143, -9, 143]


def test_a_limit_of_none():
    group = oc.supervise(do, args=("exit", None), max_restarts=0)
    with pytest.raises(oc.CrashLoop, match="failed 1 times within 60 s"):
        group.join(LIMIT)


def test_failures_that_lie_far_apart_do_not_count(told):
    with oc.supervise(tell, args=(told,), window=0, backoff=0, max_restarts=1) as group:
        for _ in range(5):
            pid = take(told)[0]
            runs(group, pid)
            os.kill(pid, signal.SIGKILL)
        take(told)
        assert group.failure is None


# --------------------------------------------------------------------------- how it is raised

WAITS = {
    "a queue": lambda pool: pool.queue().get(),
    "a lock": lambda pool: forever(),
    "a loop": lambda pool: all(True for _ in iter(int, 1)),
    "another group": lambda pool: oc.supervise(forever).join(),
}


@pytest.mark.parametrize("where", WAITS)
def test_the_block_is_interrupted(pool, where):
    before = signal.getsignal(signal.SIGTERM)
    with (
        pytest.raises(oc.CrashLoop, match="no such camera"),
        oc.supervise(do, args=("raise", None), **QUICK),
    ):
        WAITS[where](pool)
    for thread in threading.enumerate():
        if thread.name == "onecopy-supervise-forever":  # the other group, which was not stopped
            thread._target.__self__.stop()
    assert signal.getsignal(signal.SIGTERM) is before


def test_it_is_raised_at_the_end_of_the_block():
    """A thread is not interrupted; an exception that the block ignores is not lost either."""

    def use():
        try:
            with oc.supervise(do, args=("exit", None), **QUICK) as group:
                group._wait(LIMIT)
                reached.append(True)
        except oc.CrashLoop as error:
            reached.append(error)

    reached = []
    thread = threading.Thread(target=use)
    thread.start()
    thread.join(LIMIT)
    assert reached[0] is True
    assert isinstance(reached[1], oc.CrashLoop)


def test_the_block_s_own_error_comes_first():
    def use():
        try:
            with oc.supervise(do, args=("exit", None), **QUICK) as group:
                group._wait(LIMIT)
                {}["own"]
        except KeyError as error:
            raised.append(error)

    raised = []
    thread = threading.Thread(target=use)
    thread.start()
    thread.join(LIMIT)
    assert raised[0].args == ("own",)
    assert "failed 3 times" in raised[0].__notes__[0]


def test_groups_within_each_other(told):
    """The inner block is left, and its group stopped, when the outer group gives up."""
    with (
        pytest.raises(oc.CrashLoop, match="'outer'"),
        oc.supervise(do, args=("exit", None), name="outer", backoff=0.05),
        oc.supervise(tell, args=(told,), name="inner") as inner,
    ):
        forever()
    assert inner.join(0)
    assert inner.failure is None


def test_a_program_s_own_handler_is_not_touched():
    def handler(number, frame):
        raise AssertionError("nobody sent it")

    before = signal.signal(signal.SIGTERM, handler)
    try:
        group = oc.supervise(do, args=("exit", None), **QUICK)
        assert signal.getsignal(signal.SIGTERM) is handler
        assert group._wait(LIMIT)
        with pytest.raises(oc.CrashLoop), group:  # not in the block: at its beginning
            forever()
        assert signal.getsignal(signal.SIGTERM) is handler
    finally:
        signal.signal(signal.SIGTERM, before)


# ------------------------------------------------------------------------- cannot even begin


class OnlyHere:
    """An argument that no worker can rebuild."""

    def __reduce__(self):
        return _rebuild, (os.getpid(),)


def _rebuild(pid):
    raise ImportError("no camera driver here")


@pytest.mark.parametrize("start_method", ["spawn", "forkserver"])
def test_what_a_worker_cannot_rebuild(start_method, capfd):
    with pytest.raises(oc.CrashLoop, match=r"ended with exit code 1 .*before .*forever") as raised:
        oc.supervise(forever, args=(OnlyHere(),), mp_context=start_method).join(LIMIT)
    assert "is not started again" in str(raised.value)
    assert raised.value.worker.restarts == 0
    if start_method == "spawn":  # the server's stderr was another one when it began
        assert capfd.readouterr().err.count("ImportError: no camera") == 1


def test_a_program_without_a_main_guard(tmp_path):
    program = tmp_path / "program.py"
    program.write_text(
        "import onecopy as oc\ndef work(): pass\noc.supervise(work, 2, mp_context='spawn').join()\n"
    )
    done = subprocess.run(
        [sys.executable, program], capture_output=True, text=True, timeout=LIMIT, check=False
    )
    assert done.returncode == 1
    assert "without `if __name__ == '__main__':`" in done.stderr.splitlines()[-1]
    assert done.stderr.count("An attempt has been made to start a new process") <= 2


# ------------------------------------------------------------------------------------- poison


def careful(tasks, told):
    """Discard a message that has ended two workers."""
    while True:
        with tasks.get_message() as message:
            if message.deliveries > 2:
                told.put(("gave up", message.item, message.deliveries, message.redelivered))
            else:
                do(message.item, told)
                told.put(message.item)


@pytest.mark.parametrize("how", ["kill", "raise"])
def test_a_message_that_ends_each_worker_is_given_up(pool, told, how):
    tasks = pool.queue(redeliver=True)
    tasks.put_many([1, 2, how, 3, 4])
    with oc.supervise(careful, 2, args=(tasks, told), backoff=0):
        tasks.join(LIMIT)
        got = [take(told) for _ in range(5)]
    assert ("gave up", how, 3, True) in got
    assert {each for each in got if isinstance(each, int)} == {1, 2, 3, 4}


@pytest.mark.parametrize("start_method", ["fork", "spawn", "forkserver"])
def test_or_it_is_a_crash_loop_and_nothing_is_lost(pool, told, start_method):
    """Each successor first takes what its predecessor had."""
    tasks = pool.queue(redeliver=True)
    tasks.put_many(["kill", 1])
    with pytest.raises(oc.CrashLoop, match=r"Message\.deliveries"):
        oc.supervise(serve, args=(tasks, told), mp_context=start_method, **QUICK).join(LIMIT)
    pool.collect()
    for item, deliveries in (("kill", 4), (1, 1)):
        with tasks.get_message(timeout=LIMIT) as message:
            assert (message.item, message.deliveries) == (item, deliveries)
    tasks.join(LIMIT)
