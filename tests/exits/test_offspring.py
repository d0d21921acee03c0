"""Processes that a member starts, and threads that fork: how they end, and what others see."""

import multiprocessing
import os
import signal
import threading
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool

import numpy as np
import pytest
from children import LIMIT, asleep, eventually, used
from programs import Running, left, run

import onecopy as oc

pytestmark = pytest.mark.one_in(2)

METHODS = ["fork", "forkserver", "spawn"]


def test_threads_that_fork_while_others_work():
    """A child uses the pool and ends by `os._exit`, `sys.exit` or a kill; the others continue."""
    text = """
    import random, warnings
    warnings.filterwarnings("ignore", ".*multi-threaded, use of fork", DeprecationWarning)
    done = threading.Event()
    def work(mine):
        while not done.is_set():
            queue.put(np.full(3000, 7, "u1")); got = queue.get()
            mine.put(1); mine.get(); pool[f"x{threading.get_ident()}"] = np.zeros(1000)
            pool.zeros(1000); stream.publish(1); frames.acquire()
    def fork():
        ends = {"_exit": 3, "exit": 0, "kill": -9, "term": -15}
        for number in range(12):
            how = list(ends)[number % 4]
            child = os.fork()
            if child == 0:
                mine = pool.queue()
                for index in range(20):
                    mine.put(np.full(2000, index)); assert (mine.get() == index).all()
                    queue.put(array); pool["from a child"] = index; frames.acquire()
                assert array.sum() == 700_000
                if how == "_exit": os._exit(3)
                if how == "exit": sys.exit()  # ends the thread, and with it the child
                os.kill(os.getpid(), signal.SIGKILL if how == "kill" else signal.SIGTERM)
            got = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
            if got != ends[how]: failures.append((how, got))
    failures = []
    del frame, received
    workers = [threading.Thread(target=work, args=(pool.queue(),)) for _ in range(2)]
    forkers = [threading.Thread(target=fork) for _ in range(2)]
    for thread in workers + forkers: thread.start()
    for thread in forkers: thread.join()
    done.set()
    for thread in workers: thread.join()
    assert not failures, failures
    pool.collect()
    assert pool.stats().processes == 1, pool.stats()
    assert pool.validate() == [], pool.validate()
    """
    assert run(text) == (0, "")
    assert left() == []


# -------------------------------------------------------------------------------- multiprocessing


ENDS = {"return": 0, "sys.exit": 5, "exception": 1, "os._exit": 6, "SIGKILL": -9, "SIGTERM": -15}


def end(how, queue, array):
    queue.put(array[::2])
    mine = queue.member.put({"a": np.zeros(10_000)})
    match how:
        case "sys.exit":
            raise SystemExit(5)
        case "exception":
            raise LookupError("on purpose")
        case "os._exit":
            os._exit(6)
        case "SIGKILL":
            os.kill(os.getpid(), signal.SIGKILL)
        case "SIGTERM":
            os.kill(os.getpid(), signal.SIGTERM)
    del mine


@pytest.mark.parametrize("start_method", METHODS)
@pytest.mark.parametrize("how", ENDS)
def test_a_child_of_multiprocessing(pool, capfd, start_method, how):
    queue, array = pool.queue(), pool.full(10_000, 7, "u1")
    process = multiprocessing.get_context(start_method).Process(
        target=end, args=(how, queue, array)
    )
    process.start()
    process.join(LIMIT)
    assert process.exitcode == ENDS[how]
    process.close()
    assert queue.get(timeout=LIMIT).sum() == 35_000
    if how in {"return", "sys.exit"}:  # it left the pool itself
        assert pool.stats().processes == 1
    pool.collect()
    assert pool.stats().processes == 1
    del array
    assert used(pool) == 0
    stderr = capfd.readouterr().err
    if how != "exception":
        assert stderr == ""
    elif start_method != "forkserver":  # the server's stderr was another one when it began
        assert stderr.endswith("LookupError: on purpose\n")
    assert "ignored" not in stderr


@pytest.mark.parametrize("start_method", METHODS)
def test_a_child_s_threads_may_finish(pool, capfd, start_method):
    """A child of multiprocessing waits for its threads; their work in a pool continues."""
    go, done = pool.queue(), pool.queue()
    process = multiprocessing.get_context(start_method).Process(
        target=leave_a_thread, args=(go, done)
    )
    process.start()
    assert done.get(timeout=LIMIT) == "returning"
    eventually(lambda: asleep(process.pid), "the child to wait for its thread")
    go.put(np.zeros(1000))
    process.join(LIMIT)
    assert process.exitcode == 0
    process.close()
    assert done.get(timeout=LIMIT) == "finished"
    assert pool.stats().processes == 1
    assert capfd.readouterr().err == ""


def leave_a_thread(go, done):
    def late():
        kept = go.get()
        for _ in range(20):
            go.put([kept, np.zeros(1000)])
            go.get()
        done.put("finished")

    threading.Thread(target=late).start()
    done.put("returning")


def test_daemons_of_multiprocessing_are_ended_with_their_parent():
    text = """
    import multiprocessing
    def forever(queue): queue.put(os.getpid()); bounded.get()
    context = multiprocessing.get_context("fork")
    for _ in range(3): context.Process(target=forever, args=(queue,), daemon=True).start()
    queue.get()
    """
    assert run(text) == (0, "")
    # They got SIGTERM: the last one may have been killed.
    with pytest.raises(oc.PoolNotFound):
        oc.Pool.open("theirs")
    assert left() == []


def add(array, number):
    return array + number


def put_and_sum(queue, number):
    queue.put(np.full(1000, number))
    return os.getpid()


def die(queue):
    queue.put(os.getpid())
    os.kill(os.getpid(), signal.SIGKILL)


@pytest.mark.parametrize("start_method", METHODS)
def test_workers_of_an_executor(pool, start_method):
    queue, array = pool.queue(), pool.shared_array(1000)
    context = multiprocessing.get_context(start_method)
    with ProcessPoolExecutor(2, mp_context=context) as executor:
        assert [r[0] for r in executor.map(add, [array] * 8, range(8))] == list(range(8))
        workers = set(executor.map(put_and_sum, [queue] * 20, range(20)))
    assert 1 <= len(workers) <= 2
    assert sorted(a[0] for a in queue.get_many(20)) == list(range(20))
    # They have left, and no other process had to recover anything.
    assert pool.stats().processes == 1
    assert pool.validate() == []


@pytest.mark.parametrize("start_method", METHODS)
def test_an_executor_breaks_and_the_pool_does_not(pool, start_method):
    queue = pool.queue()
    context = multiprocessing.get_context(start_method)
    with ProcessPoolExecutor(2, mp_context=context) as executor:
        future = executor.submit(die, queue)
        with pytest.raises(BrokenProcessPool):
            future.result(LIMIT)
    assert queue.get(timeout=LIMIT) > 0
    pool.collect()
    assert pool.stats().processes == 1
    assert pool.validate() == []


# ------------------------------------------------------------------------------ exec, subprocesses


def test_another_program_inherits_nothing():
    """A pool's descriptors are closed on exec: a program that a member starts does not keep it."""
    text = """
    import subprocess
    seen = subprocess.run(
        ["ls", "-l", "/proc/self/fd"], capture_output=True, text=True, close_fds=False, check=True
    ).stdout
    assert "pool" not in seen and "memfd" not in seen, seen
    memfd = oc.Pool.create(backing="memfd", size="16MiB")
    longer = subprocess.Popen(["sleep", "1000"], close_fds=False, stdin=subprocess.DEVNULL,
                              stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    longer.returncode = 0  # leave it to others: no ResourceWarning
    os.write(1, f"{longer.pid}\\n".encode())
    """
    program = Running(text)
    pid = int(program._process.stdout.readline())
    try:
        assert program.end() == (0, "")
        assert left() == []
    finally:
        os.kill(pid, signal.SIGKILL)


def test_a_killed_member_s_subprocess_does_not_keep_it_alive(pool):
    text = f"""
    import subprocess
    pool = oc.Pool.open({pool.name!r}); kept = pool.zeros(100_000)
    longer = subprocess.Popen(["sleep", "1000"], close_fds=False, stdin=subprocess.DEVNULL,
                              stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    os.write(1, f"{{longer.pid}}\\n".encode())
    os.kill(os.getpid(), signal.SIGKILL)
    """
    program = Running(text, holding=False)
    pid = int(program._process.stdout.readline())
    try:
        assert program.end() == (-signal.SIGKILL, "")
        assert used(pool) == 0
        assert pool.stats().processes == 1
    finally:
        os.kill(pid, signal.SIGKILL)


def test_exec_is_a_death(pool):
    text = f"""
    pool = oc.Pool.open({pool.name!r}); kept = pool.zeros(100_000)
    os.write(1, b"ready\\n")
    os.execv("/bin/sh", ["sh", "-c", "read line"])
    """
    program = Running(text, holding=False)
    program.says("ready")
    assert program.end() == (1, "")
    assert used(pool) == 0


def test_a_daemon_process():
    """It forks twice, and its parents end by `os._exit`; the pool exists until it ends."""
    text = """
    gone, go = os.pipe()
    for _ in range(2):
        if os.fork(): os._exit(0)
        os.setsid()
    os.close(go)
    with oc.Pool.open("theirs") as same: assert same == pool
    assert array.sum() == 700_000 and queue.qsize() == 1
    null = os.open("/dev/null", os.O_RDWR)
    for fd in 0, 1: os.dup2(null, fd)
    os.close(null)
    bounded.put(1); queue.get(); pool["alive"] = os.getpid()
    while "stop" not in pool: pass
    """
    program = Running(text)
    status, _ = 0, eventually(lambda: "theirs.pool" in left(), "the pool")
    with oc.Pool.open("theirs") as pool:
        eventually(lambda: "alive" in pool, "the daemon")
        daemon = pool["alive"]
        assert daemon != program.pid
        pool["stop"] = 1
        status, stderr = program.end()  # its stderr is closed when the daemon has ended
        assert (status, stderr) == (0, "")
        pool.collect()
        assert pool.stats().processes == 1
        assert pool.validate() == []


def test_the_last_one_out_takes_it_along_whoever_that_is():
    text = """
    ready, go = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(go); os.read(ready, 1)  # until the parent has gone
        assert array.sum() == 700_000; assert pool["kept"] is not None; queue.get()
        sys.exit()
    """
    assert run(text) == (0, "")
    assert left() == []
