"""The public operations whose deaths are tried. An entry adds one."""

from __future__ import annotations

import gc
import inspect
import os
import signal
from typing import TYPE_CHECKING, Any

import numpy as np
from crash_container_operations import CONTAINER_OPERATIONS, CONTAINERS_NOT_TRIED
from crash_lock_operations import LOCK_OPERATIONS, LOCKS_NOT_TRIED
from crash_world import Operation, World, by_reference, item

import onecopy as oc
from onecopy._core.arguments import Elsewhere
from onecopy._core.kinds import Kind

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

# ------------------------------------------------------------------------------ what they work with


def large_item(index: int) -> dict[str, object]:
    """Make an item whose data is received in private pages."""
    return {"number": index, "data": np.full(75_000, index, "i4")}


def queue_of(count: int, **options: int) -> Callable[[World], None]:
    def prepare(w: World) -> None:
        w.things["queue"] = w.pool.queue(**options)
        for index in range(count):
            w.queue.put(item(index) if index % 2 else index)

    return prepare


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
    """A process has taken two and died: they are the first to be taken again."""
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
            w.things["eye"] = w.stream.subscribe()  # a survivor's: it must see all
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
    """Write to private pages; nobody else may see it."""
    got["data"][::5000] = 77
    assert (got["data"][1:5000] == got["number"]).all()


def second_ref(w: World) -> None:
    w.things["mine"] = w.pool.put(item(2))


def let(w: World, *names: str) -> None:
    """Let go of things that were inherited or made ready."""
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
    """End the queue by hand: a queue that was shut down is not drained by the campaign."""
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


OPERATIONS = [
    # ---- pools
    Operation(
        "create",
        ("Pool.create",),
        lambda w: oc.Pool.create("other", size="1MiB"),
        look=other_can_be_made,
    ),
    Operation(
        "create, memfd",
        ("Pool.create",),
        lambda w: oc.Pool.create("other", size="1MiB", backing="memfd"),
        look=other_can_be_made,
    ),
    Operation("open", ("Pool.open",), lambda w: oc.Pool.open("other"), other, look=other_is_well),
    Operation(
        "open or create", ("Pool.__init__",), lambda w: oc.Pool("other"), other, look=other_is_well
    ),
    Operation(
        "close", ("Pool.close", "Pool.__exit__"), leave_other, other, opened_other, other_is_well
    ),
    Operation(
        "unlink",
        ("Pool.unlink",),
        lambda w: w.other.unlink(),
        other,
        opened_other,
        other_may_be_gone,
    ),
    Operation("collect", ("Pool.collect",), lambda w: w.pool.collect(), ready=hold_some),
    Operation("validate", ("Pool.validate",), lambda w: w.pool.validate(), queue_of(3)),
    Operation("pickle a pool", ("Pool.__reduce__",), lambda w: by_reference(w.pool)),
    # ---- objects
    Operation("put small", ("Pool.put",), lambda w: w.pool.put(1)),
    Operation("put", ("Pool.put",), lambda w: w.pool.put(item(1))),
    Operation(
        "put tree", ("Pool.put",), lambda w: w.pool.put([item(1), np.zeros(9000), b"x" * 5000])
    ),
    Operation(
        "put what lies in the pool", ("Pool.put",), lambda w: w.pool.put([w.pool.zeros(900)])
    ),
    Operation("empty", ("Pool.empty",), lambda w: w.pool.empty(1000)),
    Operation("empty, large", ("Pool.empty",), lambda w: w.pool.empty(5 << 20, "u1")),
    Operation("zeros", ("Pool.zeros",), lambda w: w.pool.zeros(1000)),
    Operation("full", ("Pool.full",), lambda w: w.pool.full(1000, 7)),
    Operation("array", ("Pool.array",), lambda w: w.pool.array(np.arange(1000))),
    Operation("shared_array", ("Pool.shared_array",), lambda w: w.pool.shared_array(1000)),
    Operation(
        "shared_array, named",
        ("Pool.shared_array",),
        lambda w: w.pool.shared_array(1000, name="grid"),
    ),
    Operation("value", ("Pool.value",), lambda w: w.pool.value("d", 1.5)),
    Operation("value, named", ("Pool.value",), lambda w: w.pool.value("d", 1.5, name="level")),
    Operation("Ref.get", ("Ref.get",), lambda w: w.ref.get(), ref),
    Operation(
        "Ref.get, private pages", ("Ref.get",), lambda w: write_to(w.ref.get("on_write")), large_ref
    ),
    Operation("Ref.release", ("Ref.release",), lambda w: w.mine.release(), ready=second_ref),
    Operation(
        "pickle a Ref", ("Ref.__reduce__",), lambda w: by_reference(w.mine), ready=second_ref
    ),
    # ---- names
    Operation(
        "pool[...] =",
        ("Pool.__setitem__", "Pool.update"),
        lambda w: w.pool.update(c=item(3)),
        named,
        look=names,
    ),
    Operation(
        "pool[...] = anew", ("Pool.__setitem__",), lambda w: w.pool.update(a=4), named, look=names
    ),
    Operation(
        "pool[...]", ("Pool.__getitem__", "Pool.get"), lambda w: w.pool.get("a"), named, look=names
    ),
    Operation(
        "in, len, list",
        ("Pool.__contains__", "Pool.__len__", "Pool.__iter__"),
        lambda w: ("a" in w.pool, len(w.pool), list(w.pool)),
        named,
        look=names,
    ),
    Operation(
        "del pool[...]", ("Pool.__delitem__",), lambda w: w.pool.__delitem__("a"), named, look=names
    ),
    Operation("pop", ("Pool.pop",), lambda w: w.pool.pop("a"), named, look=names),
    Operation("popitem", ("Pool.popitem",), lambda w: w.pool.popitem(), named, look=names),
    Operation("clear", ("Pool.clear",), lambda w: w.pool.clear(), named, several=True),
    Operation(
        "setdefault",
        ("Pool.setdefault",),
        lambda w: w.pool.setdefault("c", item(3)),
        named,
        look=names,
    ),
    Operation(
        "keys, values, items",
        ("Pool.keys", "Pool.values", "Pool.items"),
        lambda w: (list(w.pool.keys()), list(w.pool.values()), list(w.pool.items())),
        named,
        look=names,
    ),
    *(
        Operation(
            f"delete {kind}",
            ("Pool.delete",),
            lambda w: w.pool.delete("thing"),
            make,
            look=kinds_named,
            several=kind == "everything",
            repeats=False,
        )
        for kind, make in (
            ("an object", lambda w: w.pool.update(thing=item(1))),
            ("a queue", lambda w: w.pool.queue("thing").put(item(1))),
            ("a queue that is in use", use_named_queue),
            ("frames", lambda w: w.pool.frames("thing", (100,), "i4", 3)),
            ("a list", lambda w: w.pool.list([item(1), 2], name="thing")),
            ("everything", everything_named),
        )
    ),
    Operation(
        "frames anew in another shape",
        ("Pool.frames",),
        lambda w: w.pool.frames("thing", (50, 2), "i4", 2),
        lambda w: w.pool.frames("thing", (100,), "i4", 3).close(),
        look=kinds_named,
        several=True,
    ),
    # ---- queue
    Operation("queue", ("Pool.queue",), lambda w: w.pool.queue()),
    Operation("queue, named", ("Pool.queue",), lambda w: w.pool.queue("jobs")),
    Operation("Queue.put", ("Queue.put",), lambda w: w.queue.put(4), queue_of(4), look=size),
    Operation(
        "Queue.put array", ("Queue.put",), lambda w: w.queue.put(item(4)), queue_of(4), look=size
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
    # ---- stream
    Operation("stream", ("Pool.stream",), lambda w: w.pool.stream()),
    *(
        Operation(f"{what}, {policy}", (covers,), act, stream_of(policy), ready, published)
        for policy in ("lossy", "lossless", "latest")
        for what, covers, act, ready in (
            (
                "Stream.publish",
                "Stream.publish",
                lambda w: w.stream.publish(item(3)),
                lambda w: None,
            ),
            (
                "Stream.subscribe",
                "Stream.subscribe",
                lambda w: w.stream.subscribe(),
                lambda w: None,
            ),
            (
                "Stream.subscribe with a history",
                "Stream.subscribe",
                lambda w: w.stream.subscribe(history=2),
                lambda w: None,
            ),
            (
                "Stream.latest",
                "Stream.latest",
                lambda w: w.stream.latest(),
                lambda w: None,
            ),
        )
    ),
    *(
        Operation(
            f"Subscription.get, {policy}",
            ("Subscription.get",),
            lambda w: w.sub.get(timeout=5),
            stream_of(policy),
            subscribed,
            published,
        )
        for policy in ("lossy", "lossless", "latest")
    ),
    Operation(
        "for ... in a subscription",
        ("Subscription.__next__", "Subscription.__iter__"),
        iterate,
        stream_of("lossy"),
        subscribed,
        published,
    ),
    Operation(
        "Subscription.close",
        ("Subscription.close",),
        lambda w: w.sub.close(),
        stream_of("lossy"),
        subscribed,
    ),
    Operation(
        "Stream.shutdown", ("Stream.shutdown",), lambda w: w.stream.shutdown(), stream_of("lossy")
    ),
    Operation(
        "Stream.close by a publisher",
        ("Stream.close",),
        lambda w: w.stream.publish(item(3)) or w.stream.close(),
        stream_of("lossy"),
    ),
    Operation(
        "pickle a stream",
        ("Stream.__reduce__",),
        lambda w: by_reference(w.stream),
        stream_of("latest"),
        look=published,
    ),
    # ---- frames
    Operation("frames", ("Pool.frames",), lambda w: w.pool.frames(None, (100,), "i4", 3)),
    Operation(
        "Frames.acquire", ("Frames.acquire",), lambda w: w.frames.acquire(), frames, look=at_home
    ),
    Operation(
        "return a frame", ("Frames.acquire",), lambda w: let(w, "frame"), frames, acquired, at_home
    ),
    Operation("Frames.lend", ("Frames.lend",), lend, frames, look=at_home),
    Operation(
        "send a frame",
        ("Frames.acquire", "Queue.put"),
        send_frame,
        frames_and_queue,
        look=at_home,
        several=True,
    ),
    Operation("Frames.close", ("Frames.close",), lambda w: w.frames.close(), frames, look=at_home),
    Operation(
        "pickle frames",
        ("Frames.__reduce__",),
        lambda w: by_reference(w.frames),
        frames,
        look=at_home,
    ),
    # ---- processes
    Operation(
        "fork, the parent dies", ("os.fork",), fork_and_wait, queue_of(2), hold_some, several=True
    ),
    Operation(
        "fork, the child dies",
        ("os.fork",),
        fork_and_wait,
        queue_of(2),
        hold_some,
        several=True,
        in_child=True,
    ),
    Operation(
        "fork with private pages, the child dies",
        ("os.fork",),
        fork_and_write,
        queue_of(2),
        private_pages,
        several=True,
        in_child=True,
    ),
    Operation("let go of private pages", (), lambda w: let(w, "pages"), ready=private_pages),
    *LOCK_OPERATIONS,
    *CONTAINER_OPERATIONS,
]

# Public and not killed by itself, and why. Everything else must be covered.
NOT_TRIED = {
    **dict.fromkeys(
        (
            "Pool.name",
            "Pool.id",
            "Pool.size",
            "Pool.closed",
            "Pool.readonly",
            "Pool.member",
            "Pool.stats",
            "Pool.of",
        ),
        "tells what this process knows, or reads counters",
    ),
    **dict.fromkeys(
        (
            "Queue.empty",
            "Queue.full",
            "Queue.qsize",
            "Queue.maxsize",
            "Queue.redeliver",
            "Queue.name",
            "Queue.handle",
            "Queue.member",
            "Queue.is_shut_down",
        ),
        "reads head, tail or what is fixed",
    ),
    **dict.fromkeys(
        ("Queue.detach", "Stream.detach", "Frames.detach"), "what close and Pool.close call"
    ),
    **dict.fromkeys(
        (
            "Stream.depth",
            "Stream.policy",
            "Stream.published",
            "Stream.subscribers",
            "Stream.name",
            "Stream.handle",
            "Stream.member",
        ),
        "reads counters or what is fixed",
    ),
    **dict.fromkeys(("Subscription.missed", "Subscription.closed"), "private to the process"),
    **dict.fromkeys(("Subscription.__init__", "Subscription.__reduce__"), "refused"),
    **dict.fromkeys(
        (
            "Frames.available",
            "Frames.count",
            "Frames.shape",
            "Frames.dtype",
            "Frames.name",
            "Frames.handle",
            "Frames.member",
        ),
        "reads counters or what is fixed",
    ),
    **dict.fromkeys(
        ("Ref.handle", "Ref.member", "Ref.nbytes", "Ref.released"), "reads what is fixed"
    ),
    "Pool.__enter__": "gives the pool itself",
    "Queue.__enter__": "gives the queue itself",
    "Queue.__exit__": "as Queue.close",
    "Stream.__enter__": "gives the stream itself",
    "Stream.__exit__": "as Stream.close",
    "Frames.__enter__": "gives the frames themselves",
    "Frames.__exit__": "as Frames.close",
    "Pool.flush": "one system call that changes nothing in memory",
    **dict.fromkeys(
        ("Queue.__init__", "Stream.__init__", "Frames.__init__"),
        "as Pool.queue, Pool.stream and Pool.frames, in the default pool",
    ),
    **LOCKS_NOT_TRIED,
    **CONTAINERS_NOT_TRIED,
}
# Methods with a meaning in the language that act on a pool.
SPECIAL = (
    "__getitem__",
    "__setitem__",
    "__delitem__",
    "__contains__",
    "__len__",
    "__iter__",
    "__next__",
    "__enter__",
    "__exit__",
    "__reduce__",
)


def public_operations() -> Iterator[str]:
    """List what the classes of the public face offer that live in a pool: new ones too."""
    for face, cls in vars(oc).items():
        if not isinstance(cls, type) or not (hasattr(cls, "member") or cls is oc.Subscription):
            continue
        for name in dir(cls):
            special = name in SPECIAL and getattr(cls, name) is not getattr(object, name, None)
            makes = name == "__init__" and inspect.isfunction(vars(cls).get(name))
            if isinstance(getattr(cls, name), Elsewhere):
                continue  # there is none
            if not name.startswith("_") or special or makes:
                yield f"{face}.{name}"
