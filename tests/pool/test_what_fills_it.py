"""What fills a pool is counted and named."""

import re

import numpy as np
import pytest

import onecopy as oc
from onecopy import inspect

# -------------------------------------------------------------------------------- what fills a pool


def test_the_largest_things_are_named(pool):
    queue = pool.queue("jobs")
    queue.put(np.zeros(1 << 20, "u1"))
    pool.frames("cam0", (1 << 20,), "u1", 3)
    pool["small"] = 1
    pool.list([b"x" * 500_000])
    largest = pool.stats().largest
    assert [(thing.kind, thing.name) for thing in largest] == [
        ("frames", "cam0"),
        ("queue", "jobs"),
        ("object", "small"),
    ]
    assert largest[0].bytes >= 3 << 20
    assert largest[1].bytes >= 1 << 20
    assert [thing.processes for thing in largest] == [0, 1, 0]


def test_inspect_lists_all_things_by_size(pool):
    jobs = pool.queue("jobs")
    anonymous = pool.queue()
    anonymous.put(np.zeros(1 << 20, "u1"))
    kept = pool.list([np.zeros(9000, "u1")])
    gate = pool.lock("gate")
    kept.append(pool.event())  # belongs to the list
    things = inspect.inspect_pool(pool.name).things
    assert [(thing.kind, thing.name) for thing in things] == [
        ("queue", None),
        ("list", None),
        ("queue", "jobs"),
        ("lock", "gate"),
    ]
    assert [thing.bytes for thing in things] == sorted((t.bytes for t in things), reverse=True)
    assert pool.validate() == []
    del jobs, anonymous, kept, gate


def test_a_thing_that_refers_to_itself_is_counted_once(pool):
    ring = pool.list(name="ring")
    ring.append(ring)
    assert [thing.name for thing in pool.stats().largest] == ["ring"]


def test_a_full_pool_says_what_fills_it(pool):
    for number in range(15):
        pool.frames(f"cam {number}", (1 << 20,), "u1", 4).acquire()
    jobs = pool.queue("jobs")
    jobs.put(np.zeros(2 << 20, "u1"))
    kept = [pool.frames(f"cam {number}") for number in range(15)]
    with pytest.raises(oc.PoolFull) as caught:
        pool.empty(8 << 20, "u1")
    text = str(caught.value)
    assert "62.0 MiB of 64.0 MiB are in use" in text
    assert "frames 'cam 0' (4.0 MiB)" in text
    assert "Pool.delete" in text
    del kept


def test_a_pool_full_of_structures_says_so():
    with oc.Pool.create(size="8MiB") as pool:
        queues = []
        with pytest.raises(oc.PoolFull) as caught:  # noqa: PT012 - each may be the one
            for number in range(600):
                queues.append(pool.queue(f"reply {number}", maxsize=16))
                queues[-1].put(b"done")
        text = str(caught.value)
        size = r"(7\.\d|8\.0) MiB"
        assert re.search(rf"{size} of 8.0 MiB are in use in [1-9]\d+ blocks", text)
        assert re.search(rf"{size} of it by queues, locks and other structures", text)
        assert "queue 'reply 0' (16" in text
