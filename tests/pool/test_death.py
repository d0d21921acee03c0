"""Each process may die, by SIGKILL, at any time: the others continue, and all is released."""

import os
import random
import signal
import threading

import numpy as np
import pytest
from children import LIMIT, asleep, eventually, used
from seeds import SEED

import onecopy as oc


def block_in_get(queue, ready):
    ready.put(None)
    queue.get()


def block_in_put(queue, ready):
    ready.put(None)
    queue.put(np.zeros(10_000))


def block_in_acquire(frames, ready):
    ready.put(None)
    frames.acquire()


def block_in_join(queue, ready):
    ready.put(None)
    queue.join()


def test_killed_in_get(pool, method, start):
    queue, ready = pool.queue(), pool.queue()
    child = start(method, block_in_get, queue, ready)
    ready.get(timeout=LIMIT)
    eventually(lambda: asleep(child.pid), "the child to wait")
    child.kill()
    for index in range(200):
        queue.put((index, np.zeros(1000)))
        assert queue.get(timeout=LIMIT)[0] == index
    assert used(pool) == 0
    assert pool.stats().processes == 1
    assert pool.validate() == []


def test_killed_in_put(pool, method, start):
    queue, ready = pool.queue(maxsize=1), pool.queue()
    queue.put(0)
    child = start(method, block_in_put, queue, ready)
    ready.get(timeout=LIMIT)
    eventually(lambda: asleep(child.pid), "the child to wait")
    child.kill()
    assert queue.get(timeout=LIMIT) == 0
    assert queue.empty()
    queue.put(1, timeout=LIMIT)
    assert queue.get(timeout=LIMIT) == 1
    assert used(pool) == 0
    assert pool.validate() == []


def test_killed_in_acquire(pool, method, start):
    frames, ready = pool.frames(None, (1000,), "u1", 1), pool.queue()
    frame = frames.acquire()
    child = start(method, block_in_acquire, frames, ready)
    ready.get(timeout=LIMIT)
    eventually(lambda: asleep(child.pid), "the child to wait")
    child.kill()
    del frame
    assert frames.acquire(timeout=LIMIT).shape == (1000,)
    assert pool.validate() == []


def test_killed_in_join(pool, method, start):
    queue, ready = pool.queue(), pool.queue()
    queue.put(1)
    child = start(method, block_in_join, queue, ready)
    ready.get(timeout=LIMIT)
    eventually(lambda: asleep(child.pid), "the child to wait")
    child.kill()
    queue.get()
    queue.task_done()
    queue.join(timeout=LIMIT)


def hold(pool, ready):
    held = [
        pool.zeros(1 << 20, "u1"),
        pool.put({"a": np.zeros(1 << 20, "u1")}),
        pool.queue(),
        pool.frames(None, (1000,), "u1", 10),
        pool.stream(),
        pool.shared_array(1000),
    ]
    held[2].put_many([np.zeros(10_000)] * 10)
    held[4].publish(np.zeros(10_000))
    ready.put(pool.stats().used)
    threading.Event().wait()


def test_what_the_dead_held_is_free(pool, method, start):
    mine = pool.full(1000, 7, "u1")
    ready = pool.queue("ready")
    ready.put(0)
    assert ready.get() == 0  # a queue allocates its first memory when it is used
    before = pool.stats()
    child = start(method, hold, pool, ready)
    assert ready.get(timeout=LIMIT) > 2 << 20
    child.kill()
    assert pool.collect() > 0
    after = pool.stats()
    assert (after.used, after.blocks) == (before.used, before.blocks)
    assert (after.structures, after.processes) == (before.structures, 1)
    assert (mine == 7).all()
    assert pool.validate() == []


def join(pool, ready):
    ready.put(0)


def test_a_new_member_cleans_up_after_the_dead(pool, start):
    ready = pool.queue("ready")
    ready.put(0)
    assert ready.get() == 0
    before = pool.stats().used
    child = start("spawn", hold, pool, ready)
    assert ready.get(timeout=LIMIT) > 2 << 20
    child.kill()
    assert pool.stats().used > before
    newcomer = start("spawn", join, pool, ready)
    assert ready.get(timeout=LIMIT) == 0
    assert newcomer.wait() == 0
    assert pool.stats().used == before


def fill(pool, ready):
    held = []
    try:
        while True:
            held.append(pool.zeros(1 << 20, "u1"))
    except oc.PoolFull:
        ready.put(len(held))
    threading.Event().wait()


def test_memory_of_the_dead_is_used_when_it_is_needed(pool, method, start):
    ready = pool.queue()
    child = start(method, fill, pool, ready)
    assert ready.get(timeout=LIMIT) > 50
    with pytest.raises(oc.PoolFull, match=f"process {child.pid}"):
        pool.zeros(8 << 20, "u1")
    child.kill()
    assert pool.zeros(32 << 20, "u1").nbytes == 32 << 20


def send_and_die(queue):
    queue.put({"image": np.arange(100_000)})
    queue.put(np.arange(50_000))
    os.kill(os.getpid(), signal.SIGKILL)


def test_what_the_dead_had_sent_arrives(pool, method, start):
    queue = pool.queue()
    child = start(method, send_and_die, queue)
    assert child.wait() == -signal.SIGKILL
    pool.collect()
    image, array = queue.get(timeout=LIMIT)["image"], queue.get(timeout=LIMIT)
    more = [pool.zeros(50_000) for _ in range(50)]
    np.testing.assert_array_equal(image, np.arange(100_000))
    np.testing.assert_array_equal(array, np.arange(50_000))
    del image, array, more
    assert used(pool) == 0


def take_one(queue, ready):
    got = queue.get()
    ready.put(None)
    threading.Event().wait()
    del got


def test_what_the_dead_had_taken_is_free(pool, method, start):
    queue, ready = pool.queue(), pool.queue()
    queue.put(np.zeros(100_000))
    child = start(method, take_one, queue, ready)
    ready.get(timeout=LIMIT)
    assert queue.empty()
    assert pool.stats().used >= 800_000
    child.kill()
    assert used(pool) == 0


def name_things(pool, ready):
    pool["a"] = np.arange(10_000)
    pool.queue("jobs").put_many(range(10))
    pool.shared_array(5, "i4", name="grid")[:] = 3
    ready.put(None)
    threading.Event().wait()


def test_named_things_of_the_dead_stay(pool, method, start):
    ready = pool.queue()
    child = start(method, name_things, pool, ready)
    ready.get(timeout=LIMIT)
    child.kill()
    pool.collect()
    np.testing.assert_array_equal(pool["a"], np.arange(10_000))
    assert pool.queue("jobs").get_many(100) == list(range(10))
    assert pool.shared_array(name="grid").tolist() == [3] * 5


def be_the_last(name):
    pool = oc.Pool.create(name, size="16MiB")
    pool["a"] = np.zeros(1000)
    os.kill(os.getpid(), signal.SIGKILL)


def test_the_file_of_a_dead_pool_goes_with_the_next_use(pool_directory, method, start):
    assert start(method, be_the_last, "dead").wait() == -signal.SIGKILL
    assert (pool_directory / "dead.pool").exists()
    with pytest.raises(oc.PoolNotFound):
        oc.Pool.open("dead")
    assert list(pool_directory.iterdir()) == []
    with oc.Pool("dead", size="16MiB") as pool:
        assert len(pool) == 0


def work(pool, queue, stream, frames, seed):
    randomness = random.Random(seed)  # noqa: S311 - not for secrets
    kept = []
    subscription = stream.subscribe()
    while True:
        match randomness.randrange(8):
            case 0:
                queue.put((seed, np.full(randomness.randrange(20_000), 7, "u1")), timeout=1)
            case 1:
                kept.append(queue.get(timeout=1))
            case 2:
                kept.append(pool.zeros(randomness.randrange(1, 30_000), "u1"))
            case 3:
                pool[f"name {randomness.randrange(20)}"] = kept[-1:]
            case 4:
                kept.append(pool.get(f"name {randomness.randrange(20)}"))
            case 5:
                stream.publish({"a": np.zeros(randomness.randrange(10_000), "u1")})
            case 6:
                kept.append(frames.acquire(timeout=1))
            case 7:
                kept.append(subscription.get(timeout=1) if stream.published else None)
        del kept[:-5]


def run_until_killed(pool, queue, stream, frames, seed, ready):
    import queue as standard

    ready.put(None)
    while True:
        try:
            work(pool, queue, stream, frames, seed)
        except (standard.Empty, standard.Full, oc.PoolFull):
            seed += 1
        except oc.OneCopyError as error:
            if "full" not in str(error):
                raise


@pytest.mark.stress
@pytest.mark.timeout(600)
def test_killed_at_random(pool, start):
    print(f"seed {SEED}")
    randomness = random.Random(SEED)  # noqa: S311 - not for secrets
    queue, stream = pool.queue("q", maxsize=64), pool.stream("s", depth=8)
    frames = pool.frames("f", (5000,), "u1", 12)
    ready = pool.queue("ready")
    for turn in range(40):
        children = [
            start("fork", run_until_killed, pool, queue, stream, frames, SEED + turn + index, ready)
            for index in range(4)
        ]
        for _ in children:
            ready.get(timeout=LIMIT)
        threading.Event().wait(randomness.random() * 0.05)  # any moment is suitable
        for child in children:
            child.kill()
        pool.collect()
        assert pool.validate() == [], f"seed {SEED}, turn {turn}"
        assert pool.stats().processes == 1
        queue.put("alive", timeout=0) if not queue.full() else queue.get_many(64, timeout=0)
        assert frames.available >= 1 or queue.qsize()
    while not queue.empty():
        queue.get()
    pool.clear()
    del queue, stream, frames, ready
    pool.member.name_del(2, "q")
    pool.member.name_del(3, "s")
    pool.member.name_del(4, "f")
    assert used(pool) == 0
    assert pool.validate() == []
