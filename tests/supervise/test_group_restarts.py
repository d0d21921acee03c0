"""Workers that fail are replaced."""

import multiprocessing
import os
import signal
import threading

import pytest
from children import LIMIT, eventually, running
from pickle_errors import UNPICKLABLE
from worker_functions import both, do, end, ended, forever, replaced, runs, serve, take, tell

import onecopy as oc
from onecopy import multiprocessing as onecopys
from onecopy.supervisor.group import Policy

pytestmark = pytest.mark.one_in(2)

METHODS = ["fork", "spawn", "forkserver"]


@pytest.fixture
def told(pool):
    return pool.queue()


@pytest.mark.parametrize("start_method", METHODS)
def test_a_killed_worker_is_replaced(pool, told, start_method):
    tasks = pool.queue(redeliver=True)
    with oc.supervise(serve, 2, args=(tasks, told), mp_context=start_method) as group:
        assert [worker.index for worker in group.workers] == [0, 1]
        assert [worker.name for worker in group.workers] == ["serve-0", "serve-1"]
        first, second = group.pids
        tasks.put_many(range(20))
        assert sorted(take(told)[0] for _ in range(20)) == list(range(20))
        os.kill(first, signal.SIGKILL)
        worker = replaced(group, 0, first)
        assert (worker.restarts, worker.last_exit.pid, worker.last_exit.code) == (1, first, -9)
        assert str(worker.last_exit) == "was killed by SIGKILL"
        assert group.workers[1].pid == second
        assert group.pids == (worker.pid, second)
        tasks.put_many(range(20))
        tasks.join(LIMIT)
    assert group.pids == ()
    assert not running(worker.pid)
    assert not running(second)


@pytest.mark.parametrize("context", [multiprocessing, onecopys, onecopys.get_context("fork"), None])
def test_where_processes_come_from(told, context):
    with oc.supervise(tell, 1, args=(told, 1), kwargs={"more": 2}, mp_context=context) as group:
        assert take(told) == (*group.pids, 1, 2)


ENDS = {
    "kill": (-9, None, "was killed by SIGKILL"),
    "raise": (1, "LookupError: no such camera", "raised LookupError: no such camera"),
    "exit": (3, None, "ended with exit code 3"),
    "words": (1, "nothing to do here", "raised nothing to do here"),
    "_exit": (4, None, "ended with exit code 4"),
    "term": (143, None, "ended with exit code 143"),
}


@pytest.mark.parametrize("how", ENDS)
@pytest.mark.parametrize("start_method", METHODS)
def test_how_it_ended(told, how, start_method):
    with oc.supervise(end, args=(how, told), mp_context=start_method, name="camera") as group:
        pid, successor = both(told)
        runs(group, successor)
        worker = group.workers[0]
        assert (worker.name, worker.pid, worker.restarts) == ("camera-0", successor, 1)
        code, error, text = ENDS[how]
        assert worker.last_exit == type(worker.last_exit)(pid, code, error)
        assert str(worker.last_exit) == text
        assert worker.last_exit.failed


def test_a_worker_that_returns_is_done(told):
    group = oc.supervise(told.put, 3, args=(1,))
    assert group.join(LIMIT)
    assert [take(told) for _ in range(3)] == [1, 1, 1]
    assert {worker.last_exit.code for worker in group.workers} == {0}
    assert {worker.restarts for worker in group.workers} == {0}
    assert repr(group) == "<onecopy.WorkerGroup 'put', 3 workers, ended>"


def test_a_queue_that_is_shut_down_ends_its_workers(pool, told, capfd):
    tasks = pool.queue()
    group = oc.supervise(serve, 2, args=(tasks, told))
    tasks.put_many(range(10))
    tasks.shutdown()
    assert group.join(LIMIT)
    assert told.qsize() == 10
    assert {worker.last_exit.code for worker in group.workers} == {0}
    assert capfd.readouterr().err == ""


def test_always(told):
    with oc.supervise(told.put, args=(1,), restart="always", backoff=0) as group:
        for _ in range(20):  # more than max_restarts: these are no failures
            take(told)
        eventually(lambda: group.workers[0].restarts >= 19, "restarts")
        assert group.failure is None


def test_never(told):
    with oc.supervise(tell, 2, args=(told,), restart="never") as group:
        first, second = group.pids
        os.kill(first, signal.SIGKILL)
        assert ended(group).last_exit.code == -9
        assert group.pids == (second,)
        os.kill(second, signal.SIGKILL)
        assert group.join(LIMIT)
    assert [worker.restarts for worker in group.workers] == [0, 0]


# ------------------------------------------------------------------------------ what is a death


def with_a_child(told):
    """Fork: the child has all descriptors, also those that report a death."""
    child = os.fork()
    if child == 0:
        forever()
    told.put((os.getpid(), child))
    forever()


def test_a_death_shows_though_a_grandchild_lives(told):
    with oc.supervise(with_a_child, args=(told,)) as group:
        pid, child = take(told)
        os.kill(pid, signal.SIGKILL)
        successor, second_child = take(told)
        runs(group, successor)
        assert group.workers[0].last_exit.code == -9
        assert running(child)
    for each in (child, second_child):
        os.kill(each, signal.SIGKILL)
        eventually(lambda each=each: not running(each), "a grandchild to be gone")


def without_descriptors(index):
    if index.value == 0:
        index.value = 1
        os.closerange(3, 256)
        index.value = 2
    else:
        index.value += 1
    forever()


def test_a_worker_that_closes_its_descriptors_lives(pool):
    index = pool.value("q", 0)
    with oc.supervise(without_descriptors, args=(index,)) as group:
        pid = group.pids[0]
        eventually(lambda: index.value == 2, "it to close them")
        with oc.supervise(forever) as other:  # its sentinel has been readable for a long time then
            os.kill(other.pids[0], signal.SIGKILL)
            replaced(other, 0, None)
        assert group.pids == (pid,)
        assert group.workers[0].restarts == 0


@pytest.mark.parametrize("start_method", METHODS)
def test_where_the_kernel_has_no_pidfds(told, monkeypatch, start_method):
    def refuse(pid):
        raise OSError(38, "no such call")

    monkeypatch.setattr(os, "pidfd_open", refuse)
    with oc.supervise(end, args=("kill", told), mp_context=start_method) as group:
        pid, successor = both(told)
        runs(group, successor)
        assert group.workers[0].last_exit.pid == pid
    assert not running(successor)


def test_a_program_that_ignores_its_children(told, monkeypatch):
    """The kernel gives no status then; a worker that has ended is replaced anyway."""
    before = signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    try:
        with oc.supervise(end, args=("kill", told), mp_context="fork") as group:
            pid, successor = both(told)
            runs(group, successor)
            end_of_it = group.workers[0].last_exit
            assert (end_of_it.pid, end_of_it.code) == (pid, None)
            assert str(end_of_it).startswith("ended with a status that something else")
    finally:
        signal.signal(signal.SIGCHLD, before)
        multiprocessing.process._children.clear()  # whose status cannot be read


# ------------------------------------------------------------------------------------ back-off


def policy(**options):
    values = {
        "restart": "on-failure",
        "backoff": 0.5,
        "factor": 2.0,
        "most": 3.0,
        "restarts": 5,
        "window": 60.0,
        "grace": 5.0,
    }
    return Policy(**(values | options))


def test_the_delays():
    assert [policy().delay(failures) for failures in range(1, 6)] == [0.5, 1, 2, 3, 3]
    assert policy().delay(100_000) == 3  # more than a float can have
    assert policy(factor=1.0).delay(7) == 0.5
    assert policy(backoff=0.0).delay(7) == 0


def test_a_worker_that_fails_waits_and_the_others_go_on(told):
    with oc.supervise(tell, 2, args=(told,), backoff=3600, backoff_max=3600) as group:
        first, second = group.pids
        os.kill(first, signal.SIGKILL)
        assert ended(group).restarts == 0
        assert group.pids == (second,)
        assert not group.join(0)
    assert group.join()  # it did not wait for the restart


class Refusing:
    """A context that has no memory for some processes."""

    def __init__(self, refused):
        self._context = multiprocessing.get_context("fork")
        self._refused = refused
        self.asked = 0

    def __getattr__(self, name):
        return self._start_one if name == "Process" else getattr(self._context, name)

    def _start_one(self, **options):
        self.asked += 1
        if self.asked in self._refused:
            raise BlockingIOError(11, "no process number left")
        return self._context.Process(**options)


def test_a_restart_that_fails_is_tried_again(told):
    context = Refusing({2, 3})
    with oc.supervise(end, args=("kill", told), mp_context=context, backoff=0) as group:
        runs(group, both(told)[1])
        worker = group.workers[0]
        assert worker.restarts == 3
        assert worker.last_exit.pid is None
        assert "no process number left" in str(worker.last_exit)


def test_a_first_start_that_fails_stops_those_before(told):
    with pytest.raises(BlockingIOError, match="no process number left"):
        oc.supervise(tell, 3, args=(told,), mp_context=Refusing({3}))
    assert multiprocessing.active_children() == []


@pytest.mark.parametrize("start_method", ["spawn", "forkserver"])
def test_what_cannot_be_pickled(start_method):
    with pytest.raises(UNPICKLABLE, match=r"pickle|local object"):
        oc.supervise(lambda: None, 2, mp_context=start_method)
    assert multiprocessing.active_children() == []


class Closing:
    """A context whose processes call a function when they have been closed."""

    def __init__(self, closed):
        self._context = multiprocessing.get_context("fork")
        self._closed = closed

    def __getattr__(self, name):
        return self._start_one if name == "Process" else getattr(self._context, name)

    def _start_one(self, **options):
        process = self._context.Process(**options)
        close = process.close

        def close_and_tell():
            close()
            self._closed()

        process.close = close_and_tell
        return process


def test_no_thread_sees_a_closed_process(told):
    """The group's thread closes a process that has ended. Another thread may ask at that moment."""
    made = threading.Event()
    seen = []

    def look():
        assert made.wait(LIMIT)
        thread = threading.Thread(target=lambda: seen.append(group.workers[0]))
        thread.start()
        thread.join(LIMIT)

    with oc.supervise(end, args=("kill", told), mp_context=Closing(look)) as group:
        made.set()
        runs(group, both(told)[1])
        assert [worker.pid for worker in seen] == [None]
        assert seen[0].last_exit.code == -9


# ------------------------------------------------------------------------------------- on_exit


def test_each_end_is_told(told):
    ends = []
    with oc.supervise(end, args=("exit", told), on_exit=ends.append) as group:
        pid, successor = both(told)
        runs(group, successor)
    assert [(worker.pid, worker.last_exit.pid, worker.last_exit.code) for worker in ends] == [
        (None, pid, 3),
        (None, successor, 143),
    ]
    assert [worker.restarts for worker in ends] == [0, 1]
    assert group.workers[0] == ends[-1]


def test_what_on_exit_raises_is_reported(told, monkeypatch):
    reported = []
    monkeypatch.setattr(threading, "excepthook", reported.append)

    def complain(worker):
        raise RuntimeError("on purpose")

    with oc.supervise(end, args=("exit", told), on_exit=complain) as group:
        runs(group, both(told)[1])
        assert group.workers[0].restarts == 1
    assert [str(each.exc_value) for each in reported] == ["on purpose"] * 2
    assert reported[0].thread.name == "onecopy-supervise-end"


def test_on_exit_may_stop_the_group(told):
    made = threading.Event()  # a worker may end before the name `group` is bound
    group = oc.supervise(
        do, 2, args=("exit", told), on_exit=lambda _: made.wait(LIMIT) and group.stop()
    )
    made.set()
    assert group.join(LIMIT)
    assert {worker.restarts for worker in group.workers} == {0}


# -------------------------------------------------------------------------- what uses it


def test_several_groups_and_threads(told):
    def use(number):
        try:
            with oc.supervise(tell, 2, args=(told, number), name=f"group{number}") as group:
                for _ in range(2):
                    os.kill(group.pids[0], signal.SIGKILL)
                    replaced(group, 0, group.pids[0])
        except BaseException as error:  # noqa: BLE001 - looked at below
            failed.append(error)

    failed = []
    threads = [threading.Thread(target=use, args=(number,)) for number in range(3)]
    for thread in threads:
        thread.start()
    with oc.supervise(tell, args=(told, 7)) as group:
        for thread in threads:
            thread.join(LIMIT)
        assert len(group.pids) == 1
    assert failed == []


def a_group_of_its_own(told):
    group = oc.supervise(tell, 2, args=(told,))
    told.put(group.pids)
    # It ends without a message about its group.


def test_a_worker_may_have_a_group(told):
    group = oc.supervise(a_group_of_its_own, args=(told,))
    got = [take(told)]
    assert group.join(LIMIT)
    while told.qsize():
        got.append(take(told))
    pids = next(each for each in got if len(each) == 2)
    for pid in pids:
        eventually(lambda pid=pid: not running(pid), "its workers to end")
    assert group.workers[0].last_exit.code == 0


def use_inherited(group, told):
    told.put(os.getpid())
    group.stop()
    try:
        group.join()
    except RuntimeError as error:
        told.put(str(error))
    with pytest.raises(RuntimeError):
        group.__enter__()


def test_a_forked_child_has_no_say(told, start):
    with oc.supervise(forever, 2) as group:
        pids = group.pids
        child = start("fork", use_inherited, group, told)
        assert child.wait() == 0
        take(told)
        assert take(told) == f"the workers of 'forever' are those of process {os.getpid()}"
        assert group.pids == pids


def test_it_does_not_pickle():
    with oc.supervise(forever) as group, pytest.raises(TypeError, match="children of this process"):
        group.__reduce__()


@pytest.mark.parametrize(
    ("options", "error", "says"),
    [
        ({"n": 0}, ValueError, "n=0: a group has at least one worker"),
        ({"n": 1.5}, TypeError, "float"),
        ({"target": 7}, TypeError, "must be callable, not int"),
        ({"restart": "sometimes"}, ValueError, "on-failure, always, never"),
        ({"backoff": -1}, ValueError, "backoff=-1: seconds"),
        ({"backoff_factor": 0.5}, ValueError, "backoff_factor=0.5 must be at least 1"),
        ({"max_restarts": -1}, ValueError, "max_restarts=-1"),
        ({"grace": float("nan")}, ValueError, "grace=nan"),
        ({"mp_context": "thread"}, ValueError, "thread"),
    ],
)
def test_what_makes_no_sense(options, error, says):
    target = options.pop("target", forever)
    n = options.pop("n", 1)
    with pytest.raises(error, match=says):
        oc.supervise(target, n, **options)


def tell_mask(told, first):
    told.put(signal.pthread_sigmask(signal.SIG_BLOCK, ()))
    if first.value == 0:
        first.value = 1
        os.kill(os.getpid(), signal.SIGKILL)
    forever()


@pytest.mark.parametrize("start_method", METHODS)
def test_a_successor_hears_signals_too(pool, start_method):
    told, first = pool.queue(), pool.value("q", 0)
    with oc.supervise(tell_mask, args=(told, first), mp_context=start_method):
        masks = [take(told) for _ in range(2)]
    assert masks == [set(), set()]
