"""The two ends of a queue, for code that expects a pipe and waits for several things at once.

`multiprocessing.connection.wait` and `selectors` need file descriptors. A queue in shared memory
has none. Therefore this process starts a thread when the descriptor is first asked for. The thread
waits for the queue and sets an eventfd, the readiness event. Until then, nothing in this module
takes time in the queue's operations.

When a thread takes an item through the queue's own object and the queue is empty after that, it
clears the readiness event at once. Other processes, and other objects for the same queue, cannot do
that. For them the thread of this module checks the queue again every `_CHECK_AGAIN` seconds, but
only while the event is set.
"""

from __future__ import annotations

import os
import threading
import weakref
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from onecopy import queue as own
from onecopy.errors import OneCopyError

if TYPE_CHECKING:
    from collections.abc import Callable

    from onecopy.queue import Message, Queue

    _Queue = own.Queue
else:
    _Queue = object

__all__ = ["ClearsReadiness", "ReadEnd", "WriteEnd"]

_CHECK_AGAIN = 0.025


class WriteEnd:
    """The end that items are put into: `send`."""

    def __init__(self, queue: Queue) -> None:
        self._queue = weakref.ref(queue)
        self.closed = False

    def send(self, obj: Any) -> None:
        """Put an object.

        Raises
        ------
        OSError
            The end is closed.
        """
        _alive(self).put(obj)

    def close(self) -> None:
        """Close this end in this process; the queue itself stays as it is."""
        self.closed = True


class ReadEnd:
    """The end that items are taken from: `recv`, `poll`, and a `fileno` to wait for.

    The descriptor is readable while the queue has an item. Another process may take that item
    first, as with a pipe that several processes read.
    """

    def __init__(self, queue: Queue) -> None:
        self._queue = weakref.ref(queue)
        self._readiness: _Readiness | None = None
        self.closed = False

    def recv(self) -> Any:
        """Wait for an object, and take it.

        Raises
        ------
        OSError
            The end is closed.
        """
        return _alive(self).get()

    def poll(self, timeout: float | None = 0.0) -> bool:
        """Return whether the queue has an item; wait at most `timeout` seconds (None: no limit)."""
        there = _alive(self)._wait_ready(timeout)
        if not there:
            self.clear_if_empty()
        return there

    def fileno(self) -> int:
        """Return a descriptor that is readable while the queue has an item.

        The descriptor belongs to this object and this process.

        Raises
        ------
        OSError
            The end is closed.
        """
        with _making:
            queue = _alive(self)
            readiness = self._readiness
            # A forked child does not have the thread.
            if readiness is not None and readiness.pid != os.getpid():
                readiness.stop()
                readiness = None
            if readiness is None:
                readiness = self._readiness = _Readiness(queue)
                _exchange_class(queue)
            return readiness.fileno()

    def clear_if_empty(self) -> None:
        """Clear the readiness event if the queue is empty, before the thread checks the queue."""
        readiness = self._readiness
        queue = self._queue()
        if (
            readiness is None
            or queue is None
            or not readiness.is_set
            or readiness.pid != os.getpid()
        ):
            return
        with suppress(OneCopyError):  # closed: its readiness event has been stopped
            if not queue._wait_ready(0):
                readiness.clear()

    def close(self) -> None:
        """Close this end in this process; the queue itself stays as it is."""
        with _making:
            self.closed = True
            readiness, self._readiness = self._readiness, None
        if readiness is not None:
            readiness.stop()


def _alive(end: ReadEnd | WriteEnd) -> Queue:
    queue = end._queue()
    if end.closed or queue is None:
        raise OSError("this end of the queue is closed")
    return queue


_making = threading.RLock()  # re-entrant: a finalizer or a signal handler may close an end


def _begin_child() -> None:
    """Replace the lock: a thread of the parent, which this child does not have, may hold it."""
    global _making  # noqa: PLW0603 - there is one
    _making = threading.RLock()


os.register_at_fork(after_in_child=_begin_child)


class _Descriptor:
    """An eventfd that is closed when nothing refers to it any more."""

    __slots__ = ("number",)

    def __init__(self) -> None:
        self.number = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)

    def __del__(self, close: Any = os.close) -> None:
        close(self.number)


class _Readiness:
    """An eventfd that is set while a queue has an item, and the thread that sets it.

    Only the thread sets the event, and it clears the event before it sleeps. So the event is never
    set while the thread sleeps, in whatever order other threads clear it. A thread that clears the
    event reads the eventfd first, and then releases `_until_cleared`. This makes the thread check
    the queue again. If an item arrived in between, the thread sets the event again.

    The thread has a queue object of its own, so it does not keep the user's object alive. The
    finalizer of the user's object stops this one. It may run in any thread, between any two of its
    steps. Therefore one thread must be able to acquire the locks of this class again, or to release
    them twice. With `threading.Event` that is not possible.
    """

    def __init__(self, queue: Queue) -> None:
        self.pid = os.getpid()
        self._until_cleared = (
            threading.Lock()
        )  # held from `set` to `clear`; the thread waits for it
        self._use = threading.RLock()  # of the descriptor: no thread closes it during a call
        self._descriptor: _Descriptor | None = _Descriptor()
        member = queue.member
        self.watched = own.Queue._open(member.hold(queue.handle), member, None)
        weakref.finalize(queue, self.stop).atexit = False
        threading.Thread(
            target=_watch, args=(self,), name="onecopy-queue-readiness", daemon=True
        ).start()

    def fileno(self) -> int:
        """Return the descriptor's number."""
        descriptor = self._descriptor
        if descriptor is None:
            raise OSError("this end of the queue is closed")
        return descriptor.number

    @property
    def is_set(self) -> bool:
        """Whether the event was set and has not been cleared since."""
        return self._until_cleared.locked()

    def set(self) -> None:
        """Set the event; only the thread does this."""
        self._until_cleared.acquire(blocking=False)
        self._do(lambda fd: os.eventfd_write(fd, 1))

    def clear(self) -> None:
        """Clear the event, and make the thread check the queue."""
        with suppress(BlockingIOError):  # it was not set
            self._do(os.eventfd_read)
        self._wake_thread()

    def wait_until_cleared(self, timeout: float) -> bool:
        """Wait until another thread clears the event; only the thread calls this, after `set`."""
        return self._until_cleared.acquire(timeout=timeout)

    def stop(self) -> None:
        """End the thread, and close the descriptor."""
        if self.pid != os.getpid():  # a forked child: the thread and the locks are the parent's
            self._descriptor = None
            return
        with self._use:
            self._descriptor = None
        self.watched._stop_waiting()
        self._wake_thread()
        self.watched.detach()

    def _do(self, operation: Callable[[int], object]) -> None:
        with self._use:
            descriptor = self._descriptor
            try:
                if descriptor is not None:
                    operation(descriptor.number)
            finally:
                del descriptor  # so that `stop` closes it at once

    def _wake_thread(self) -> None:
        with suppress(RuntimeError):  # another thread released it first
            self._until_cleared.release()


def _watch(readiness: _Readiness) -> None:
    """Set the event while the queue has an item, until `stop` is called."""
    watched = readiness.watched
    with suppress(OneCopyError):  # stopped, or the pool is gone
        while True:
            if not watched._wait_ready(0):
                readiness.clear()
                if not watched._wait_ready():
                    return  # stopped
            readiness.set()
            while not readiness.wait_until_cleared(_CHECK_AGAIN) and watched._wait_ready(0):
                pass


# ------------------------------------------------------------- the queue with a readiness event


class ClearsReadiness(_Queue):
    """The base class that a queue gets with its readiness event: it clears the event when empty.

    The class of the queue object is exchanged when the event is made. So methods of subclasses, and
    methods that a program has replaced, are called as before. A queue without a readiness event
    takes no extra time.
    """

    __slots__ = ()

    if TYPE_CHECKING:
        _read_end: ReadEnd

    def __init_subclass__(cls) -> None:
        """Do not call the hooks of the queue's class: the program has derived no class here."""

    def get(self, *args: Any, **kwargs: Any) -> Any:
        """Take an object."""
        try:
            return super().get(*args, **kwargs)
        finally:
            self._read_end.clear_if_empty()

    def get_nowait(self, *args: Any, **kwargs: Any) -> Any:
        """Take an object, if there is one."""
        try:
            return super().get_nowait(*args, **kwargs)
        finally:
            self._read_end.clear_if_empty()

    def get_many(self, *args: Any, **kwargs: Any) -> list[Any]:
        """Take the objects that are in the queue."""
        try:
            return super().get_many(*args, **kwargs)
        finally:
            self._read_end.clear_if_empty()

    def get_message(self, *args: Any, **kwargs: Any) -> Message:
        """Take an object, as a message."""
        try:
            return super().get_message(*args, **kwargs)
        finally:
            self._read_end.clear_if_empty()

    def empty(self) -> bool:
        """Return whether the queue is empty."""
        none = super().empty()
        if none:
            self._read_end.clear_if_empty()
        return none


def _exchange_class(queue: Queue) -> None:
    """Exchange the class of a queue for one that clears the event; it is made once per class."""
    cls: Any = type(queue)
    if issubclass(cls, ClearsReadiness):
        return
    derived = vars(cls).get("_with_readiness")
    if derived is None:
        names = {"__slots__": (), "__doc__": cls.__doc__}
        names |= {name: getattr(cls, name) for name in ("__module__", "__qualname__")}
        derived = cls._with_readiness = type(cls)(cls.__name__, (ClearsReadiness, cls), names)
    with suppress(TypeError):  # another object layout: then only the thread clears the event
        queue.__class__ = derived
