"""Queues for the campaign, including queues that redeliver."""

from __future__ import annotations

from crash_things import (
    Shot,
    across_chunks,
    across_redelivered_chunks,
    all_of_it,
    closing,
    containers,
    ending,
    large_queue,
    queue_of,
    redelivering,
    redelivering_at_its_end,
    shot,
    size,
    take_message,
    taken,
    taken_and_returned,
    through,
    typed_queue,
    with_containers,
    write_to,
)
from crash_world import Operation, by_reference, item

QUEUE_OPERATIONS = [
    # ---- queue
    Operation("queue", ("Pool.queue",), lambda w: w.pool.queue()),
    Operation("queue, named", ("Pool.queue",), lambda w: w.pool.queue("jobs")),
    Operation("queue, typed", ("Pool.queue",), lambda w: w.pool.queue("shots", type=Shot)),
    Operation(
        "Queue.put, typed",
        ("Queue.put",),
        lambda w: w.queue.put(shot(w, 3)),
        typed_queue,
        look=size,
    ),
    Operation("Queue.get, typed", ("Queue.get",), lambda w: w.queue.get(), typed_queue, look=size),
    Operation("Queue.put", ("Queue.put",), lambda w: w.queue.put(4), queue_of(4), look=size),
    Operation(
        "Queue.put array", ("Queue.put",), lambda w: w.queue.put(item(4)), queue_of(4), look=size
    ),
    Operation(
        "Queue.put containers",
        ("Queue.put",),
        lambda w: w.queue.put(containers(w, 4)),
        queue_of(4),
        look=size,
    ),
    Operation(
        "Queue.get containers", ("Queue.get",), lambda w: w.queue.get(), with_containers, look=size
    ),
    Operation(
        "Queue.put_nowait",
        ("Queue.put_nowait",),
        lambda w: w.queue.put_nowait(item(4)),
        queue_of(4),
        look=size,
    ),
    Operation(
        "Queue.put, first", ("Queue.put",), lambda w: w.queue.put(item(0)), queue_of(0), look=size
    ),
    Operation(
        "Queue.put_many",
        ("Queue.put_many",),
        lambda w: w.queue.put_many([3, item(4), 5, item(6)]),
        queue_of(3),
        several=True,
    ),
    Operation("Queue.get", ("Queue.get",), lambda w: w.queue.get(), queue_of(3), look=size),
    Operation("Queue.get array", ("Queue.get",), lambda w: w.queue.get(), taken, look=size),
    Operation(
        "Queue.get, private pages",
        ("Queue.get",),
        lambda w: write_to(w.queue.get(copy="on_write")),
        large_queue,
        look=size,
    ),
    Operation(
        "Queue.get_many, private pages",
        ("Queue.get_many",),
        lambda w: [write_to(got) for got in w.queue.get_many(2, copy="on_write")],
        large_queue,
        several=True,
    ),
    Operation(
        "Queue.get_nowait", ("Queue.get_nowait",), lambda w: w.queue.get_nowait(), taken, look=size
    ),
    Operation(
        "Queue.get_message",
        ("Queue.get_message",),
        lambda w: w.queue.get_message(),
        taken,
        look=size,
    ),
    Operation(
        "Queue.get_many",
        ("Queue.get_many",),
        lambda w: w.queue.get_many(4),
        queue_of(6),
        several=True,
    ),
    Operation(
        "Queue.get_many across chunks",
        ("Queue.get_many",),
        lambda w: w.queue.get_many(4),
        across_chunks,
        several=True,
    ),
    Operation("Queue.task_done", ("Queue.task_done",), lambda w: w.queue.task_done(), taken),
    Operation("Queue.join", ("Queue.join",), lambda w: w.queue.join(), queue_of(0)),
    Operation(
        "Queue.shutdown", ("Queue.shutdown",), lambda w: w.ending.shutdown(), closing, look=ending
    ),
    Operation(
        "Queue.shutdown, immediate",
        ("Queue.shutdown",),
        lambda w: w.ending.shutdown(immediate=True),
        closing,
        several=True,
    ),
    Operation(
        "Queue.shutdown, nothing left",
        ("Queue.shutdown",),
        lambda w: w.ending.shutdown(),
        through,
        look=ending,
        several=True,
    ),
    Operation(
        "the last task of a queue that was shut down",
        ("Queue.get_message",),
        lambda w: w.message.task_done(),
        redelivering_at_its_end,
        lambda w: w.things.update(message=w.ending.get_message()),
        several=True,
        repeats=False,
    ),
    Operation(
        "Queue.close",
        ("Queue.close",),
        lambda w: w.own.close(),
        ready=lambda w: w.things.update(own=w.pool.queue()),
    ),
    Operation(
        "pickle a queue",
        ("Queue.__reduce__",),
        lambda w: by_reference(w.queue),
        queue_of(3),
        look=size,
    ),
    # ---- a queue that redelivers: what a victim took comes back, unless it was finished
    Operation("queue, redelivering", ("Pool.queue",), lambda w: w.pool.queue(redeliver=True)),
    Operation(
        "get, redelivering", ("Queue.get",), lambda w: w.queue.get(), redelivering(3), look=size
    ),
    Operation(
        "get_message, redelivered",
        ("Queue.get_message",),
        lambda w: w.queue.get_message(),
        taken_and_returned,
        look=size,
    ),
    Operation(
        "get_many, redelivering",
        ("Queue.get_many",),
        lambda w: w.queue.get_many(4),
        taken_and_returned,
        look=size,
    ),
    Operation(
        "put, redelivering",
        ("Queue.put",),
        lambda w: w.queue.put(item(5)),
        taken_and_returned,
        look=size,
    ),
    Operation(
        "task_done, redelivering",
        ("Queue.task_done",),
        lambda w: w.queue.task_done(),
        redelivering(3),
        lambda w: w.queue.get(),
        size,
    ),
    Operation(
        "Message.task_done",
        ("Queue.get_message",),
        lambda w: w.message.task_done(),
        redelivering(3),
        take_message,
        size,
    ),
    Operation(
        "for ... in a queue",
        ("Queue.__next__", "Queue.__iter__"),
        lambda w: next(iter(w.queue)),
        queue_of(2),
        look=size,
    ),
    Operation(
        "put over the oldest",
        ("Queue.put",),
        lambda w: w.queue.put(item(2), drop_oldest=True),
        queue_of(2, maxsize=2),
        look=size,
        several=True,
    ),
    Operation(
        "Message.give_back",
        ("Queue.get_message",),
        lambda w: w.message.give_back(),
        redelivering(3),
        take_message,
        size,
    ),
    Operation(
        "take and finish across chunks",
        ("Queue.get_message",),
        all_of_it,
        across_redelivered_chunks,
        several=True,
    ),
]
