"""Waiting for several things at once, and descriptors for other people's event loops."""

from __future__ import annotations

import math
import os
import select
import time
import weakref
from typing import TYPE_CHECKING, Any, TypeVar

from onecopy._core.arguments import items, refuse, seconds
from onecopy._native import (
    EventBase,
    FramesBase,
    LockBase,
    QueueBase,
    SemaphoreBase,
    SubscriptionBase,
    Wait,
    Wakeups,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

__all__ = ["Bell", "wait"]

_T = TypeVar("_T", bound=object)

_WITH_LOOK = (QueueBase, SubscriptionBase, FramesBase, SemaphoreBase, LockBase)
_NOUNS: dict[type[Any], str] = {
    QueueBase: "queue",
    SubscriptionBase: "subscription",
    FramesBase: "frames",
    EventBase: "event",
    SemaphoreBase: "semaphore",
    LockBase: "lock",
}
_WAITABLE = "queues, subscriptions, frames, events, locks and semaphores"
_LONGEST = 3600.0  # seconds; then it looks again


def _look_of(thing: object) -> Callable[[Any], bool]:
    """Return a function that tells whether the thing is ready, or notes what to wait for."""
    if isinstance(thing, _WITH_LOOK):
        return thing._wait_ready
    if isinstance(thing, EventBase):
        return thing.wait
    return refuse("things", _WAITABLE, thing)


def _noun_of(thing: object) -> str:
    return next(noun for kind, noun in _NOUNS.items() if isinstance(thing, kind))


def _looks_of(things: Iterable[_T]) -> list[tuple[_T, Callable[[Any], bool]]]:
    """Return each thing, and the function that `_look_of` returns for it.

    A loop over a queue or a subscription takes its messages. So such an argument is refused before
    it is iterated. An iterator that hides one, a generator for example, is left at the first item.
    """
    if isinstance(things, tuple(_NOUNS)):
        refuse(
            "things",
            f"a list of {_WAITABLE}",
            things,
            f"a single one is passed in a list, too: write onecopy.wait([{_noun_of(things)}])",
        )
    items("things", things, f"a list of {_WAITABLE}")
    return [(thing, _look_of(thing)) for thing in things]


def wait(things: Iterable[_T], timeout: float | None = None) -> list[_T]:
    """Wait until one or more of several things are ready, and take nothing.

    Parameters
    ----------
    things : iterable
        Queues, subscriptions, frames, events, locks and semaphores, of one pool or of several.
    timeout : float, optional
        Seconds. 0: do not wait. None: without limit.

    Returns
    -------
    list
        Those that are ready, in the order of `things`. Empty: none in time. A queue or subscription
        is ready when there is something to get, or when it was shut down. Frames: one is free. An
        event: it is set. A lock: it is free, or its owner is dead. A semaphore: it has a token.

    Raises
    ------
    TypeError
        One of them is nothing that can be waited for; or `things` itself is one of these things,
        and not a list of them.
    ValueError
        `timeout` is negative or not a number.
    Closed
        One of them was closed in this process.

    Notes
    -----
    Another process or thread may be faster. So get, or acquire, with ``block=False`` afterwards.

    Examples
    --------
    >>> pool = oc.Pool("factory", size="16MiB")
    >>> jobs, stop = pool.queue("jobs"), pool.event("stop")
    >>> jobs.put(1)
    >>> oc.wait([jobs, stop], timeout=10) == [jobs]
    True
    >>> oc.wait([stop], timeout=0)
    []
    """
    limit = seconds("timeout", timeout)  # before an iterator is used up
    if limit is not None and limit < 0:
        raise ValueError(f"timeout={timeout}: it is a number of seconds, 0 or more")
    pairs = _looks_of(things)
    looks = [look for _, look in pairs]

    def ready() -> list[_T]:
        return [thing for thing, look in pairs if look(0)]

    found = ready()
    if found or limit == 0:
        return found
    end = math.inf if limit is None else time.monotonic() + limit
    wakeups = Wakeups()
    poll = select.poll()
    poll.register(wakeups.fileno(), select.POLLIN)
    waits = [Wait(wakeups, False) for _ in looks]
    notified: Iterable[int] = range(len(looks))
    places = {id(each): place for place, each in enumerate(waits)}
    try:
        while True:
            # All of them, so that each has noted what it waits for.
            news = [_is_ready(looks[place], waits[place]) for place in notified]
            if any(news):
                found = ready()
                if found:
                    return found
                notified = range(len(looks))  # another process was faster
                continue
            left = min(end - time.monotonic(), _LONGEST)
            if left <= 0:
                return ready()
            poll.poll(math.ceil(left * 1000))
            notified = [places[id(each)] for each in wakeups.take()]
    finally:
        for each in waits:
            each.end(True)


def _is_ready(look: Callable[[Any], bool], note: Wait) -> bool:
    if look(note):
        return True
    if note.failed:
        raise MemoryError("there is no memory, or no thread, to wait for a change of shared memory")
    return False


class Bell:
    """A descriptor that is readable while there may be something to get from a queue."""

    def __init__(self, queue: QueueBase) -> None:
        self._queue = weakref.ref(queue)
        self._process = os.getpid()
        self._wakeups = Wakeups()
        self._note = Wait(self._wakeups, False)
        self.set()
        queue._when_empty(self.set)

    def is_ours(self) -> bool:
        """Tell whether this process made it, and not the parent before a fork."""
        return self._process == os.getpid()

    def fileno(self) -> int:
        """Return the descriptor."""
        return self._wakeups.fileno()

    def set(self) -> None:
        """Make it readable, or have it made readable when there is something."""
        queue = self._queue()
        if queue is None or not self.is_ours():
            return
        self._wakeups.take()
        if _is_ready(queue._wait_ready, self._note):
            self._wakeups.ring()
