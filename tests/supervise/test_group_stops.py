"""How groups end: at the end of a block, by a signal, with the program, and when it is killed."""

import multiprocessing
import os
import signal
import threading
from pathlib import Path

import pytest
from children import LIMIT, eventually, running
from programs import Running, run
from worker_functions import forever, take, tell

import onecopy as oc
from onecopy._workers.parents import Parent

pytestmark = pytest.mark.one_in(2)

METHODS = ["fork", "spawn", "forkserver"]


@pytest.fixture
def told(pool):
    return pool.queue()


def gone(pids):
    for pid in pids:
        eventually(lambda pid=pid: not running(pid), "a worker to end")


# ------------------------------------------------------------------------------------ one group


def cleans_up(told):
    try:
        told.put(os.getpid())
        forever()
    finally:
        told.put("cleaned up")


@pytest.mark.parametrize("start_method", METHODS)
def test_workers_clean_up(told, start_method):
    with oc.supervise(cleans_up, args=(told,), mp_context=start_method) as group:
        take(told)
    assert take(told) == "cleaned up"
    assert group.workers[0].last_exit.code == 128 + signal.SIGTERM
    assert group.join(0)


def is_deaf(told):
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    told.put(os.getpid())
    forever()


def is_stopped(pid):
    os.kill(pid, signal.SIGSTOP)
    stat = Path(f"/proc/{pid}/stat")
    eventually(lambda: stat.read_text().rpartition(")")[2].split()[0] == "T", "it to stop")


@pytest.mark.parametrize("worker", [is_deaf, tell])
@pytest.mark.parametrize("how", ["grace", "stop"])
def test_one_that_does_not_end_is_killed(told, worker, how):
    with oc.supervise(worker, 2, args=(told,), grace=0.2 if how == "grace" else 3600) as group:
        for _ in range(2):
            told_by = take(told)
            if worker is tell:
                is_stopped(told_by[0])
        if how == "stop":
            group.stop(0)
    assert {worker.last_exit.code for worker in group.workers} == {-9}


def test_a_shorter_stop_counts(told):
    group = oc.supervise(is_deaf, args=(told,), grace=3600)
    take(told)
    stopper = threading.Thread(target=group.stop)
    stopper.start()
    group.stop(0)
    stopper.join(LIMIT)
    group.stop()  # without effect now
    assert group.workers[0].last_exit.code == -9


def test_a_signal_handler_may_stop_a_group(told):
    """Wherever the main thread is: also where it has the group's lock."""
    group = oc.supervise(tell, args=(told,), grace=float("inf"))
    before = signal.signal(signal.SIGUSR1, lambda *_: group.stop())
    try:
        with group._lock:
            signal.raise_signal(signal.SIGUSR1)
    finally:
        signal.signal(signal.SIGUSR1, before)
    assert group.join(0)


def test_a_signal_handler_stops_what_is_joined(ours):
    program = Running(
        GROUP + "group = oc.supervise(work, 2)\n"
        "signal.signal(signal.SIGTERM, lambda *_: group.stop())\n"
        "print('ready', flush=True)\n"
        "assert group.join()\n",
        holding=False,
    )
    pids = [take(ours), take(ours)]
    program.says("ready")
    program.is_asleep()
    program.signal(signal.SIGTERM)
    assert program.end() == (0, "")
    gone(pids)


def test_join_with_a_timeout(told):
    group = oc.supervise(tell, args=(told,))
    assert not group.join(0)
    assert not group.join(0.001)
    assert len(group.pids) == 1
    group.stop()
    assert group.join()


def test_the_handler_of_sigterm(told):
    before = signal.getsignal(signal.SIGTERM)
    with oc.supervise(forever) as outer:
        ours = signal.getsignal(signal.SIGTERM)
        assert ours is not before
        with oc.supervise(forever):
            assert signal.getsignal(signal.SIGTERM) is ours
        assert signal.getsignal(signal.SIGTERM) is ours
        thread = threading.Thread(target=outer.stop)
        thread.start()
        thread.join(LIMIT)
    assert signal.getsignal(signal.SIGTERM) is before


def test_a_handler_that_was_set_meanwhile_stays():
    before = signal.getsignal(signal.SIGTERM)
    try:
        with oc.supervise(forever):
            signal.signal(signal.SIGTERM, signal.SIG_IGN)
        assert signal.getsignal(signal.SIGTERM) is signal.SIG_IGN
    finally:
        signal.signal(signal.SIGTERM, before)


def forks(told):
    child = os.fork()
    if child == 0:
        told.put(signal.getsignal(signal.SIGTERM) is signal.SIG_DFL)
        signal.pause()
    eventually(lambda: told.qsize() == 1, "the child")  # Python forgets a signal during a fork
    os.kill(child, signal.SIGTERM)
    told.put(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))


def test_forked_children_have_the_default_handler(told):
    with oc.supervise(forks, args=(told,)):
        eventually(lambda: told.qsize() == 2, "its end")
        assert take(told) is True
        assert take(told) == -signal.SIGTERM


# ------------------------------------------------------------------------------------- programs

# Their functions are those of a program without a file, so only a forked worker finds them.
FORK = """
import multiprocessing, warnings
multiprocessing.set_start_method("fork")
warnings.filterwarnings("ignore", ".*multi-threaded, use of fork", DeprecationWarning)
"""
GROUP = (
    FORK
    + """
pool = oc.Pool.open("ours")
told = pool.queue("told")
def work():
    try:
        told.put(os.getpid())
        threading.Event().wait()
    finally:
        told.put("cleaned up")
def deaf():
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    told.put(os.getpid())
    threading.Event().wait()
"""
)


@pytest.fixture
def ours():
    """Where programs define the functions of their workers."""
    with oc.Pool.create("ours", size="16MiB") as pool:
        yield pool.queue("told")


WAYS = {
    "a block": "with oc.supervise(work, 2):\n    threading.Event().wait()",
    "a join in a block": "with oc.supervise(work, 2) as group:\n    group.join()",
    "a join": "oc.supervise(work, 2).join()",
    "no block": "oc.supervise(work, 2); threading.Event().wait()",
}


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_all(ours, way, number):
    program = Running(GROUP + WAYS[way], holding=False)
    pids = [take(ours), take(ours)]
    program.is_asleep()
    if number == signal.SIGINT:
        for pid in pids:  # Ctrl-C reaches all processes of a terminal
            os.kill(pid, number)
    program.signal(number)
    status, stderr = program.end()
    assert [take(ours), take(ours)] == ["cleaned up"] * 2
    gone(pids)
    if number == signal.SIGINT:
        assert status == -signal.SIGINT
        assert stderr.count("KeyboardInterrupt") == 1, stderr
        assert stderr.count("Traceback") == 1
    else:
        assert (status, stderr) == (128 + signal.SIGTERM, "")


def test_a_second_ctrl_c_kills(ours):
    program = Running(
        GROUP + "with oc.supervise(deaf, 2, grace=3600):\n    print('ready', flush=True)\n"
        "    threading.Event().wait()",
        holding=False,
    )
    pids = [take(ours), take(ours)]
    program.says("ready")
    program.is_asleep()
    program.signal(signal.SIGINT)
    program.signal(signal.SIGINT)
    while program._process.poll() is None:  # one that came with the first counts as one
        program.is_asleep()
        program.signal(signal.SIGINT)
    assert program.end()[0] == -signal.SIGINT
    gone(pids)


@pytest.mark.parametrize("start_method", METHODS)
def test_workers_end_with_a_program_that_is_killed(ours, start, start_method):
    """They get SIGTERM, as from `stop`, and are killed if they do not end."""
    child = start("spawn", supervise_for, start_method, ours)
    pids = [take(ours) for _ in range(4)]
    child.kill()
    assert [take(ours), take(ours)] == ["cleaned up"] * 2
    gone(pids)


def supervise_for(start_method, told):
    oc.supervise(cleans_up, 2, args=(told,), mp_context=start_method)
    oc.supervise(is_deaf, 2, args=(told,), mp_context=start_method, grace=0.1).join()


def test_a_program_that_just_ends():
    text = """
def work(): threading.Event().wait()
group = oc.supervise(work, 2)
other = oc.supervise(work)
"""
    assert run(FORK + text, holding=False) == (0, "")


def test_a_program_with_an_error():
    text = """
def work(): threading.Event().wait()
with oc.supervise(work, 2) as group:
    pids = group.pids
    raise LookupError("on purpose")
"""
    status, stderr = run(FORK + text, holding=False)
    assert status == 1
    assert stderr.splitlines()[-1] == "LookupError: on purpose"
    assert stderr.count("Traceback") == 1


# ------------------------------------------------------------------- the parent, from its child


def wait_for_parent(told):
    parent = Parent()
    told.put(parent.ended)
    parent.wait()
    told.put(parent.ended)


def have_a_child(start_method, told, refused):
    if refused:
        os.pidfd_open = refuse
    multiprocessing.get_context(start_method).Process(
        target=wait_for_parent, args=(told,), daemon=False
    ).start()
    forever()


def refuse(pid):
    raise OSError(38, "no such call")


@pytest.mark.parametrize("start_method", METHODS)
def test_a_child_waits_for_its_parent_s_end(told, start, start_method):
    child = start("spawn", have_a_child, start_method, told, False)
    assert take(told) is False
    child.kill()
    assert take(told) is True


def test_where_nothing_announces_it(told, start):
    child = start("spawn", have_a_child, "fork", told, True)
    assert take(told) is False
    child.kill()
    assert take(told) is True
