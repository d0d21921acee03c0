"""The public operations that the campaign kills. To add one, add an entry."""

from __future__ import annotations

import inspect
from typing import TYPE_CHECKING

from crash_container_operations import CONTAINER_OPERATIONS, CONTAINERS_NOT_TRIED
from crash_lock_operations import LOCK_OPERATIONS, LOCKS_NOT_TRIED
from crash_pool_operations import POOL_OPERATIONS
from crash_queue_operations import QUEUE_OPERATIONS
from crash_things import (
    Shot,
    acquired,
    at_home,
    fork_and_wait,
    fork_and_write,
    frames,
    frames_and_queue,
    hold_some,
    iterate,
    lend,
    let,
    private_pages,
    published,
    queue_of,
    send_frame,
    stream_of,
    subscribed,
)
from crash_world import Operation, by_reference, item

import onecopy as oc
from onecopy._core.arguments import Elsewhere

if TYPE_CHECKING:
    from collections.abc import Iterator


OPERATIONS = [
    *POOL_OPERATIONS,
    *QUEUE_OPERATIONS,
    # ---- stream
    Operation("stream", ("Pool.stream",), lambda w: w.pool.stream()),
    Operation("stream, typed", ("Pool.stream",), lambda w: w.pool.stream("shots", type=Shot)),
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
    Operation("release private pages", (), lambda w: let(w, "pages"), ready=private_pages),
    *LOCK_OPERATIONS,
    *CONTAINER_OPERATIONS,
]

# Public names that are not killed, and why. Everything else must be covered.
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
            "Pool.can_see",
            "Pool.share",
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
            "Queue.schema",
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
            "Stream.schema",
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
    **dict.fromkeys(
        ("Queue.aio", "Stream.aio", "Subscription.aio", "Frames.aio"),
        "the blocking methods, called again: a wait's only store is the sleepers' bit",
    ),
    "Queue.fileno": "waits as get does, and takes nothing",
    "Pool.__enter__": "gives the pool itself",
    "Queue.__enter__": "gives the queue itself",
    "Queue.__exit__": "as Queue.close",
    "Stream.__enter__": "gives the stream itself",
    "Stream.__exit__": "as Stream.close",
    "Subscription.__enter__": "gives the subscription itself",
    "Subscription.__exit__": "as Subscription.close",
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
# Special methods of the language that act on a pool.
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
    """List the classes of the public interface that live in a pool, also new ones."""
    for face, cls in vars(oc).items():
        if not isinstance(cls, type) or not (hasattr(cls, "member") or cls is oc.Subscription):
            continue
        for name in dir(cls):
            special = name in SPECIAL and getattr(cls, name) is not getattr(object, name, None)
            makes = name == "__init__" and inspect.isfunction(vars(cls).get(name))
            if isinstance(getattr(cls, name), Elsewhere):
                continue  # it does not exist
            if not name.startswith("_") or special or makes:
                yield f"{face}.{name}"
