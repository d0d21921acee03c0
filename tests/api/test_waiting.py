"""Waits release the GIL, need no processor time, and can be interrupted."""

import os
import queue as standard
import resource
import signal
import threading
import time

import pytest
from children import LIMIT, asleep, eventually

import onecopy as oc

CALLS = ["get", "put", "acquire", "stream", "publish", "join", "get_many"]
LOCKS = ["lock", "rlock", "read", "write", "semaphore", "event", "condition", "barrier"]


def blocked_by_a_lock(pool, kind):
    lock, rlock, rwlock = pool.lock(), pool.rlock(), pool.rwlock()
    for mine in (lock, rlock, rwlock.write()):
        owner = threading.Thread(target=mine.acquire)
        owner.start()
        owner.join()
    condition = pool.condition()
    condition.acquire()
    return {
        "lock": lock.acquire,
        "rlock": rlock.acquire,
        "read": rwlock.read().acquire,
        "write": rwlock.write().acquire,
        "semaphore": pool.semaphore(None, 0).acquire,
        "event": pool.event().wait,
        "condition": condition.wait,
        "barrier": pool.barrier(None, 2).wait,
    }[kind]


@pytest.fixture(params=CALLS + LOCKS)
def blocked(request, pool):
    """Return a call that waits for ever."""
    if request.param in LOCKS:
        yield blocked_by_a_lock(pool, request.param)
        return
    queue = pool.queue(maxsize=1)
    stream = pool.stream(depth=1, policy="lossless")
    subscription = stream.subscribe()
    frames = pool.frames(None, (10,), "u1", 1)
    frame = frames.acquire()
    if request.param in {"put", "join"}:
        queue.put(1)
    stream.publish(1)
    if request.param == "stream":
        subscription.get()
    yield {
        "get": queue.get,
        "put": lambda: queue.put(2),
        "acquire": frames.acquire,
        "stream": subscription.get,
        "publish": lambda: stream.publish(2),
        "join": queue.join,
        "get_many": lambda: queue.get_many(5),
    }[request.param]
    subscription.close()
    del frame


class Interrupted(Exception):  # noqa: N818 - no error
    """The exception of a signal handler."""


@pytest.mark.parametrize("to", ["the thread", "another thread"])
def test_a_signal_ends_the_wait(blocked, to):
    """A signal that another thread gets interrupts no nap; Python's main thread handles it."""

    def handle(number, frame):
        raise Interrupted

    before = signal.signal(signal.SIGUSR1, handle)
    main = threading.get_ident()

    def interrupt():
        eventually(lambda: asleep_thread(os.getpid(), main_tid), "the wait")
        signal.pthread_kill(main if to == "the thread" else threading.get_ident(), signal.SIGUSR1)

    main_tid = threading.get_native_id()
    thread = threading.Thread(target=interrupt)
    try:
        thread.start()
        with pytest.raises(Interrupted):
            blocked()
    finally:
        thread.join()
        signal.signal(signal.SIGUSR1, before)


def asleep_thread(pid, tid):
    with open(f"/proc/{pid}/task/{tid}/stat") as stat:  # noqa: PTH123 - short
        return stat.read().rpartition(")")[2].split()[0] == "S"


def test_a_signal_whose_handler_returns_does_not_end_the_wait(pool):
    queue = pool.queue()
    handled = []
    before = signal.signal(signal.SIGUSR1, lambda *_: handled.append(1))
    main, main_tid = threading.get_ident(), threading.get_native_id()

    def interrupt():
        for count in range(1, 4):
            eventually(lambda: asleep_thread(os.getpid(), main_tid), "the wait")
            signal.pthread_kill(main, signal.SIGUSR1)
            eventually(lambda count=count: len(handled) >= count, "the handler")
        queue.put("there")

    thread = threading.Thread(target=interrupt)
    try:
        thread.start()
        assert queue.get(timeout=LIMIT) == "there"
    finally:
        thread.join()
        signal.signal(signal.SIGUSR1, before)
    assert len(handled) == 3


def test_other_threads_run_meanwhile(pool):
    queue, answer = pool.queue(), []
    thread = threading.Thread(target=lambda: answer.append(queue.get()))
    thread.start()
    total = sum(range(1_000_000))  # would not end while the other thread had the GIL
    queue.put(total)
    thread.join()
    assert answer == [total]


def wait_for_ever(queue):
    queue.get()


def test_ctrl_c_ends_a_child_that_waits(pool, start):
    queue = pool.queue()
    child = start("stranger", interruptible, queue, ready := pool.queue())
    ready.get(timeout=LIMIT)
    eventually(lambda: asleep(child.pid), "the child to wait")
    os.kill(child.pid, signal.SIGINT)
    assert child.wait() == 7


def interruptible(queue, ready):
    signal.signal(signal.SIGINT, signal.default_int_handler)
    ready.put(None)
    try:
        queue.get()
    except KeyboardInterrupt:
        raise SystemExit(7) from None


def test_timeouts_are_about_what_was_asked(pool):
    """Waits do not end too early. On a busy machine nothing else can be asserted."""
    queue = pool.queue()
    for timeout in (0.0, 0.01, 0.15):
        before = time.monotonic()
        with pytest.raises(standard.Empty):
            queue.get(timeout=timeout)
        assert time.monotonic() - before >= timeout


@pytest.mark.slow
def test_waiting_costs_nothing(pool, start):
    queue, ready = pool.queue(), pool.queue()
    children = [start("fork", wait_and_report, queue, ready) for _ in range(4)]
    for _ in children:
        ready.get(timeout=LIMIT)
    for child in children:
        eventually(lambda child=child: asleep(child.pid), "the child to wait")
    threading.Event().wait(5)  # the time for which they are measured
    queue.shutdown()
    spent = [ready.get(timeout=LIMIT) for _ in children]
    assert sum(spent) < 0.05 * 5
    assert [child.wait() for child in children] == [0] * len(children)


def wait_and_report(queue, ready):
    ready.put(None)
    before = resource.getrusage(resource.RUSAGE_SELF)
    with pytest.raises(oc.ShutDown):
        queue.get()
    after = resource.getrusage(resource.RUSAGE_SELF)
    ready.put(after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime)
