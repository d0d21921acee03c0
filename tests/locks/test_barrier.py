"""Barrier: processes wait for each other, also when one dies."""

import pickle
import threading

import pytest
from children import LIMIT, asleep, eventually

import onecopy as oc

# ----------------------------------------------------------------------------------------- Barrier


def pass_barrier(barrier, answers, rounds=1):
    for _ in range(rounds):
        try:
            answers.put(barrier.wait())
        except threading.BrokenBarrierError as error:
            answers.put(str(error) or "broken")
            return


def test_barrier(pool, start, method):
    barrier, answers = pool.barrier("b", 3), pool.queue()
    running = [start(method, pass_barrier, barrier, answers, 5) for _ in range(3)]
    assert [child.wait() for child in running] == [0, 0, 0]
    got = answers.get_many(100)
    assert sorted(got) == sorted(list(range(3)) * 5)
    assert (barrier.parties, barrier.n_waiting, barrier.broken) == (3, 0, False)
    assert pool.barrier("b").parties == 3
    with pytest.raises(oc.OneCopyError, match=r"parties=3.*parties=4"):
        pool.barrier("b", 4)
    with pytest.raises(oc.OneCopyError, match="the number of parties"):
        pool.barrier("c")
    with pytest.raises(ValueError, match="parties=0"):
        pool.barrier("d", 0)


def test_barrier_of_one(pool):
    calls = []
    barrier = pool.barrier(None, 1, action=lambda: calls.append(1))
    assert [barrier.wait() for _ in range(3)] == [0, 0, 0]
    assert calls == [1, 1, 1]


def test_the_action_runs_once_before_anybody_goes_on(pool):
    calls, seen = [], []
    barrier = pool.barrier(None, 3, action=lambda: calls.append(len(seen)))

    def party():
        barrier.wait()
        seen.append(len(calls))

    threads = [threading.Thread(target=party) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert calls == [0]
    assert seen == [1, 1, 1]


def test_an_action_that_raises_breaks_the_barrier(pool, start):
    answers = pool.queue()

    def fail():
        raise KeyError("no")

    barrier = pool.barrier("b", 2, action=fail)
    child = start("fork", pass_barrier, pool.barrier("b"), answers)
    eventually(lambda: barrier.n_waiting == 1, "the child to wait")
    with pytest.raises(KeyError):
        barrier.wait()
    assert answers.get(timeout=LIMIT) == "broken"
    assert child.wait() == 0
    assert barrier.broken


def test_a_time_out_breaks_the_barrier(pool, start):
    barrier, answers = pool.barrier(None, 3, timeout=0.05), pool.queue()
    child = start("fork", pass_barrier, pickle.loads(pickle.dumps(barrier)), answers)
    with pytest.raises(threading.BrokenBarrierError):
        barrier.wait()
    assert answers.get(timeout=LIMIT) == "broken"
    assert child.wait() == 0
    assert barrier.broken
    with pytest.raises(threading.BrokenBarrierError):
        barrier.wait()
    barrier.reset()
    assert not barrier.broken


def test_abort_and_reset(pool, start, method):
    barrier, answers = pool.barrier(None, 2), pool.queue()
    child = start(method, pass_barrier, barrier, answers)
    eventually(lambda: barrier.n_waiting == 1, "the child to wait")
    barrier.abort()
    assert answers.get(timeout=LIMIT) == "broken"
    assert child.wait() == 0
    barrier.reset()
    child = start(method, pass_barrier, barrier, answers)
    eventually(lambda: barrier.n_waiting == 1, "the child to wait")
    barrier.reset()
    assert answers.get(timeout=LIMIT) == "broken"
    assert child.wait() == 0
    child = start(method, pass_barrier, barrier, answers)
    assert barrier.wait(timeout=LIMIT) + answers.get(timeout=LIMIT) == 1
    assert child.wait() == 0


def test_a_death_breaks_the_barrier_and_is_named(pool, start, method):
    barrier, answers = pool.barrier(None, 3), pool.queue()
    victim = start(method, pass_barrier, barrier, answers)
    eventually(lambda: barrier.n_waiting == 1, "the victim to wait")
    survivor = start(method, pass_barrier, barrier, answers)
    eventually(lambda: barrier.n_waiting == 2, "the survivor to wait")
    victim.kill()
    assert f"process {victim.pid} died" in answers.get(timeout=LIMIT)
    assert survivor.wait() == 0
    assert barrier.broken
    with pytest.raises(threading.BrokenBarrierError, match=str(victim.pid)):
        barrier.wait()
    barrier.reset()
    running = [start("fork", pass_barrier, barrier, answers) for _ in range(3)]
    assert [child.wait() for child in running] == [0, 0, 0]
    assert sorted(answers.get_many(3)) == [0, 1, 2]
    assert pool.validate() == []


def test_the_last_to_come_does_not_pass_with_the_dead(pool, start):
    """No process has checked yet: the barrier checks itself."""
    barrier, answers = pool.barrier(None, 2), pool.queue()
    victim = start("fork", pass_barrier, barrier, answers)
    eventually(lambda: barrier.n_waiting == 1, "the victim to wait")
    victim.kill()
    with pytest.raises(threading.BrokenBarrierError, match=f"process {victim.pid} died"):
        barrier.wait()


def die_in_action(barrier_name, pool, ready):
    def action():
        ready.put("in action")
        threading.Event().wait()

    pool.barrier(barrier_name, action=action).wait()


def test_a_death_in_the_action_breaks_the_barrier(pool, start):
    barrier, answers, ready = pool.barrier("b", 2), pool.queue(), pool.queue()
    waiter = start("fork", pass_barrier, barrier, answers)
    eventually(lambda: barrier.n_waiting == 1, "the child to wait")
    actor = start("fork", die_in_action, "b", pool, ready)
    assert ready.get(timeout=LIMIT) == "in action"
    late = start("fork", pass_barrier, barrier, answers)
    eventually(lambda: asleep(late.pid), "the late one to wait")
    actor.kill()
    assert f"process {actor.pid} died" in answers.get(timeout=LIMIT)
    assert f"process {actor.pid} died" in answers.get(timeout=LIMIT)
    assert [waiter.wait(), late.wait()] == [0, 0]


def test_more_who_come_than_parties(pool, start):
    barrier, answers = pool.barrier(None, 2), pool.queue(maxsize=0)
    running = [start("fork", pass_barrier, barrier, answers, 100_000) for _ in range(4)]
    eventually(lambda: answers.qsize() >= 400, "the rounds")
    barrier.abort()
    assert [child.wait() for child in running] == [0] * 4
    got = answers.get_many(1_000_000)
    assert got.count("broken") == 4
    assert got.count(0) == got.count(1) >= 199


def test_barrier_in_the_default_pool():
    assert oc.Barrier(1).wait() == 0
    assert "0 of 2 waiting" in repr(oc.Barrier(2))
