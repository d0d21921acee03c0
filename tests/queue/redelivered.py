"""For tests of redelivery: messages with an image, and a check that nothing is left of them."""

import queue as standard
import threading

import numpy as np
from children import LIMIT, used

import onecopy as oc


def image(index):
    return {"index": index, "image": np.full(20_000, index)}


def check(item, index):
    assert item["index"] == index
    assert (item["image"] == index).all()


def drain(queue):
    """Take and finish all messages; return them, and whether each had been taken before."""
    got = []
    while True:
        try:
            message = queue.get_message(block=False)
        except (standard.Empty, oc.ShutDown):
            return got
        item = message.item
        got.append((item["index"] if isinstance(item, dict) else item, message.redelivered))
        message.task_done()


def is_empty(pool, queue):
    queue.join(timeout=LIMIT)
    assert queue.empty()
    assert used(pool) == 0
    assert pool.validate() == []


def forever():
    threading.Event().wait()
