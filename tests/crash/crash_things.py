"""The things that the campaign's operations use: made before, and checked afterwards."""

from __future__ import annotations

import gc
import os
import signal
from datetime import timedelta
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import numpy.typing as npt
from crash_world import World, item

import onecopy as oc
from onecopy._core.kinds import Kind

if TYPE_CHECKING:
    from collections.abc import Callable


def large_item(index: int) -> dict[str, object]:
    """Make an item whose data is received in private pages."""
    return {"number": index, "data": np.full(75_000, index, "i4")}


def exported_place(w: World) -> None:
    [w.things["place"]], w.things["lease"] = w.pool.export([np.full(75_000, 1, "i4")], "4KiB")


def queue_of(count: int, **options: int) -> Callable[[World], None]:
    def prepare(w: World) -> None:
        w.things["queue"] = w.pool.queue(**options)
        for index in range(count):
            w.queue.put(item(index) if index % 2 else index)

    return prepare


class Result(NamedTuple):
    """Part of an item."""

    score: float
    where: object


def containers(w: World, index: int) -> dict[str, object]:
    """Make an item with all that the core takes apart itself, and something that it does not."""
    there, shared = w.pool.full(50, index), [1, {2, "three"}]
    return {
        "number": index,
        "data": np.full(3000, index, "i4"),
        "there": [there, there[::2], w.pool.zeros(5)],
        "small": (np.zeros(3), np.float32(1), 10**30, "text " * 20),
        "shared": [shared, shared, frozenset([(1, 2)])],
        "result": Result(0.5, timedelta(1)),
        "pickled": range(3),
    }


# A message of a typed channel. Its annotations are no texts: CPython itself may end by a
# segmentation fault if it evaluates a text without memory.
Shot = NamedTuple(  # noqa: UP014 - a class would have texts
    "Shot",
    [
        ("number", int),
        ("data", npt.NDArray[np.int32]),
        ("there", list[npt.NDArray[np.float64]]),
    ],
)


def shot(w: World, index: int) -> Shot:
    return Shot(index, np.full(3000, index, "i4"), [w.pool.full(50, float(index))])


def typed_queue(w: World) -> None:
    w.things["queue"] = w.pool.queue(type=Shot)
    for index in range(3):
        w.queue.put(shot(w, index))


def with_containers(w: World) -> None:
    queue_of(0)(w)
    for index in range(3):
        w.queue.put(containers(w, index))


def across_chunks(w: World) -> None:
    queue_of(0)(w)
    w.queue.put_many(range(66))
    assert w.queue.get_many(62) == list(range(62))


def redelivering(count: int) -> Callable[[World], None]:
    def prepare(w: World) -> None:
        w.things["queue"] = w.pool.queue(redeliver=True)
        for index in range(count):
            w.queue.put(item(index) if index % 2 else index)

    return prepare


def taken_and_returned(w: World) -> None:
    """A process has taken two messages and died. They are the first to be taken again."""
    redelivering(5)(w)
    pid = os.fork()
    if pid == 0:
        w.queue.get_many(2)
        os.kill(os.getpid(), signal.SIGKILL)
    os.waitpid(pid, 0)


def across_redelivered_chunks(w: World) -> None:
    w.things["queue"] = w.pool.queue(redeliver=True)
    w.queue.put_many(range(66))
    for index in range(62):
        message = w.queue.get_message()
        assert message.item == index
        message.task_done()


def take_message(w: World) -> None:
    w.things["message"] = w.queue.get_message()


def all_of_it(w: World) -> list[object]:
    """Take and finish three."""
    got = [w.queue.get_message() for _ in range(3)]
    for message in got:
        message.task_done()
    return got


def taken(w: World) -> None:
    queue_of(2)(w)
    w.queue.get()


def stream_of(policy: str) -> Callable[[World], None]:
    def prepare(w: World) -> None:
        w.things["stream"] = w.pool.stream(depth=4, policy=policy)
        if policy == "lossless":
            # a subscription of a survivor, which must get all messages
            w.things["eye"] = w.stream.subscribe()
        for index in range(3):
            w.stream.publish(item(index))

    return prepare


def subscribed(w: World) -> None:
    w.things["sub"] = w.stream.subscribe()
    w.stream.publish(item(3))


def frames(w: World) -> None:
    w.things["frames"] = w.pool.frames(None, (100,), "i4", 3)


def acquired(w: World) -> None:
    w.things["frame"] = w.frames.acquire()


def named(w: World) -> None:
    w.pool["a"] = item(1)
    w.pool["b"] = 2


def ref(w: World) -> None:
    w.things["ref"] = w.pool.put(item(1))


def large_ref(w: World) -> None:
    w.things["ref"] = w.pool.put(large_item(1))


def large_queue(w: World) -> None:
    queue_of(0)(w)
    for index in range(3):
        w.queue.put(large_item(index))


def private_pages(w: World) -> None:
    w.things["pages"] = w.pool.put(large_item(1)).get("on_write")
    write_to(w.pages)


def write_to(got: Any) -> None:
    """Write to private pages. No other process may see it."""
    got["data"][::5000] = 77
    assert (got["data"][1:5000] == got["number"]).all()


def second_ref(w: World) -> None:
    w.things["mine"] = w.pool.put(item(2))


def let(w: World, *names: str) -> None:
    """Release things that were inherited or prepared."""
    for name in names:
        del w.things[name]
    gc.collect()


def size(w: World) -> int:
    return w.queue.qsize()


def published(w: World) -> tuple[int, int]:
    return w.stream.published, w.stream.subscribers


def at_home(w: World) -> int:
    return w.frames.available


def names(w: World) -> list[str]:
    return list(w.pool)


def closing(w: World) -> None:
    """End the queue here: the campaign does not drain a queue that was shut down."""
    w.things["ending"] = w.pool.queue()
    w.ending.put_many([item(0), 1, item(2)])


def through(w: World) -> None:
    closing(w)
    w.ending.get_many(3)


def redelivering_at_its_end(w: World) -> None:
    w.things["ending"] = w.pool.queue(redeliver=True)
    w.ending.put(item(0))
    w.ending.shutdown()


def use_named_queue(w: World) -> None:
    w.things["queue"] = w.pool.queue("thing")
    w.queue.put(item(0))


def everything_named(w: World) -> None:
    use_named_queue(w)
    w.pool["thing"] = item(1)
    w.things["value"] = w.pool.value("d", 1.5, name="thing")
    w.pool.lock("thing")
    w.pool.frames("thing", (100,), "i4", 3)


def kinds_named(w: World) -> list[str]:
    return [kind.name for kind in Kind if "thing" in w.pool.member.name_list(kind)]


def ending(w: World) -> tuple[int, bool]:
    return w.ending.qsize(), w.ending.is_shut_down


def fork_and_wait(w: World) -> None:
    pid = os.fork()
    if pid == 0:
        w.pool.put(item(7))
        os.kill(os.getpid(), signal.SIGKILL)
    os.waitpid(pid, 0)


def fork_and_write(w: World) -> None:
    pid = os.fork()
    if pid == 0:
        write_to(w.pages)
        let(w, "pages")
        os.kill(os.getpid(), signal.SIGKILL)
    os.waitpid(pid, 0)


def hold_some(w: World) -> None:
    w.things["held"] = [w.pool.put(item(1)), w.pool.zeros(500), w.pool.queue()]


# ---- memory that was written, and is free again

LARGE = 6 << 20  # two of them fit the pool; each has whole extents of 2 MiB


def spoil_memory(w: World) -> None:
    array = w.pool.empty(LARGE, "u1")
    array[:] = 255
    del array
    gc.collect()


def spoil_and_collect(w: World) -> None:
    spoil_memory(w)
    w.pool.collect()


def zeros_are_zero(w: World) -> None:
    zeros = w.pool.zeros(LARGE, "u1")
    assert not zeros.any()
    del zeros
    gc.collect()


# ---- another pool, in which the second survivor is, or nobody


def other(w: World) -> None:
    w.second("make other")


def other_is_well(w: World) -> None:
    with oc.Pool.open("other") as pool:
        assert pool.validate() == []
        assert pool.put(1).get() == 1
    gc.collect()
    w.second("leave other")
    assert {path.name for path in w.directory.iterdir()} == {"campaign.pool"}


def other_can_be_made(w: World) -> None:
    with oc.Pool("other", size="1MiB") as pool:
        assert pool.validate() == []
        assert pool.put(1).get() == 1
    gc.collect()
    assert {path.name for path in w.directory.iterdir()} == {"campaign.pool"}


def other_may_be_gone(w: World) -> None:
    w.second("leave other")
    other_can_be_made(w)


def opened_other(w: World) -> None:
    w.things["other"] = oc.Pool.open("other")
    w.things["in other"] = w.other.put(item(1))


def leave_other(w: World) -> None:
    w.other.close()
    let(w, "in other", "other")


def iterate(w: World) -> list[object]:
    return [next(w.sub)]


def lend(w: World) -> None:
    with w.frames.lend() as frame:
        frame[:] = 3


def send_frame(w: World) -> None:
    frame = w.frames.acquire()
    frame[:] = 4
    w.queue.put({"number": 0, "data": np.zeros(1, "i4"), "frame": frame})


def frames_and_queue(w: World) -> None:
    frames(w)
    queue_of(0)(w)
