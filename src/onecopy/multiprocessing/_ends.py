"""The ends of a queue as if it were a pipe, for code that waits on several things at once.

`multiprocessing.connection.wait`, and `selectors`, want file descriptors. A queue in shared memory
has none; so a thread of this process, which begins when somebody first asks for the descriptor,
waits for the queue and rings an eventfd: the bell. Until then nothing here costs the queue
anything.

Who takes something through the queue's own object and finds that it was the last hushes the bell
at once. What others take (other processes, other objects) the thread finds out: while it has rung,
and only then, it looks again every `_LOOK_AGAIN` seconds.
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

__all__ = ["ReadEnd", "Rings", "WriteEnd"]

_LOOK_AGAIN = 0.025


class WriteEnd:
    """The end that things are put in: `send`."""

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
    """The end that things come out of: `recv`, `poll`, and a `fileno` to wait for.

    The descriptor can be read while there is something in the queue. As with a pipe that several
    processes read, it may be gone when one gets there.
    """

    def __init__(self, queue: Queue) -> None:
        self._queue = weakref.ref(queue)
        self._bell: _Bell | None = None
        self.closed = False

    def recv(self) -> Any:
        """Take an object; wait for one.

        Raises
        ------
        OSError
            The end is closed.
        """
        return _alive(self).get()

    def poll(self, timeout: float | None = 0.0) -> bool:
        """Tell whether there is something to take, after `timeout` seconds at most (None: ever)."""
        there = _alive(self)._wait_ready(timeout)
        if not there:
            self.hush()
        return there

    def fileno(self) -> int:
        """Give a descriptor that can be read while there is something to take.

        It belongs to this object and this process.

        Raises
        ------
        OSError
            The end is closed.
        """
        with _making:
            queue = _alive(self)
            bell = self._bell
            if bell is not None and bell.pid != os.getpid():  # a fork's child has no threads
                bell.stop()
                bell = None
            if bell is None:
                bell = self._bell = _Bell(queue)
                _let_hush(queue)
            return bell.fileno()

    def hush(self) -> None:
        """Silence the descriptor if there is nothing to take, rather than when the thread looks."""
        bell = self._bell
        queue = self._queue()
        if bell is None or queue is None or not bell.rung or bell.pid != os.getpid():
            return
        with suppress(OneCopyError):  # closed: its bell has been stopped
            if not queue._wait_ready(0):
                bell.silence()

    def close(self) -> None:
        """Close this end in this process; the queue itself stays as it is."""
        with _making:
            self.closed = True
            bell, self._bell = self._bell, None
        if bell is not None:
            bell.stop()


def _alive(end: ReadEnd | WriteEnd) -> Queue:
    queue = end._queue()
    if end.closed or queue is None:
        raise OSError("this end of the queue is closed")
    return queue


_making = threading.RLock()  # a finalizer or a signal handler may close an end meanwhile


def _begin_child() -> None:
    """Replace the lock: a thread that is not in this child may have had it."""
    global _making  # noqa: PLW0603 - there is one
    _making = threading.RLock()


os.register_at_fork(after_in_child=_begin_child)


class _Descriptor:
    """An eventfd that is closed when nobody uses it any more."""

    __slots__ = ("number",)

    def __init__(self) -> None:
        self.number = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)

    def __del__(self, close: Any = os.close) -> None:
        close(self.number)


class _Bell:
    """An eventfd that is set while a queue has something to take, and the thread that sets it.

    Only the thread rings, and it drains the descriptor before it goes to sleep; so the descriptor
    is never set while the thread sleeps, whatever the order in which others hush it. Who hushes
    drains first and releases `_rung` then, upon which the thread looks at the queue: what came in
    between is rung for again.

    The thread has an object of its own for the queue: it keeps nobody's. The finalizer of the queue
    stops the bell, in whatever thread, between whatever two steps of it: so what is locked here may
    be locked again, or released twice, by one thread (`threading.Event` could not).
    """

    def __init__(self, queue: Queue) -> None:
        self.pid = os.getpid()
        self._rung = threading.Lock()  # held from a ring to the hush; the thread waits for that
        self._use = threading.RLock()  # of the descriptor: it must not be closed under a thread
        self._descriptor: _Descriptor | None = _Descriptor()
        member = queue.member
        self.watched = own.Queue._open(member, member.hold(queue.handle), None)
        weakref.finalize(queue, self.stop).atexit = False
        threading.Thread(
            target=_watch, args=(self,), name="onecopy-queue-bell", daemon=True
        ).start()

    def fileno(self) -> int:
        """Give the descriptor's number."""
        descriptor = self._descriptor
        if descriptor is None:
            raise OSError("this end of the queue is closed")
        return descriptor.number

    @property
    def rung(self) -> bool:
        """Whether it has not been hushed since it rang."""
        return self._rung.locked()

    def ring(self) -> None:
        """Set the descriptor."""
        self._rung.acquire(blocking=False)
        self._do(lambda fd: os.eventfd_write(fd, 1))

    def silence(self) -> None:
        """Clear the descriptor, and have the thread look."""
        with suppress(BlockingIOError):  # it is silent
            self._do(os.eventfd_read)
        self._have_a_look()

    def hushed(self, timeout: float) -> bool:
        """Wait for somebody to hush it; to be called by the thread, after it has rung."""
        return self._rung.acquire(timeout=timeout)

    def stop(self) -> None:
        """End the thread, and close the descriptor."""
        if self.pid != os.getpid():  # a fork's child: the thread, and the locks, are the parent's
            self._descriptor = None
            return
        with self._use:
            self._descriptor = None
        self.watched._stop_waiting()
        self._have_a_look()
        self.watched.detach()

    def _do(self, operation: Callable[[int], object]) -> None:
        with self._use:
            descriptor = self._descriptor
            try:
                if descriptor is not None:
                    operation(descriptor.number)
            finally:
                del descriptor  # so that it is `stop` that closes it, at once

    def _have_a_look(self) -> None:
        with suppress(RuntimeError):  # somebody was faster
            self._rung.release()


def _watch(bell: _Bell) -> None:
    """Ring while there is something, until nobody wants to hear it any more."""
    watched = bell.watched
    with suppress(OneCopyError):  # stopped, or the pool is gone
        while True:
            if not watched._wait_ready(0):
                bell.silence()
                if not watched._wait_ready():
                    return  # stopped
            bell.ring()
            while not bell.hushed(_LOOK_AGAIN) and watched._wait_ready(0):
                pass


# ------------------------------------------------------------------- the queue whose bell may ring


class Rings(_Queue):
    """What a queue with a bell has before its own class: whoever finds it empty hushes the bell.

    The object's class is exchanged when the bell is made. Then methods of subclasses, and those
    that somebody patches, are called as before, and a queue without a bell pays nothing.
    """

    __slots__ = ()

    if TYPE_CHECKING:
        _read_end: ReadEnd

    def __init_subclass__(cls) -> None:
        """Keep the hooks of the queue's class out of it: nobody has derived a class."""

    def get(self, *args: Any, **kwargs: Any) -> Any:
        """Take an object."""
        try:
            return super().get(*args, **kwargs)
        finally:
            self._read_end.hush()

    def get_nowait(self, *args: Any, **kwargs: Any) -> Any:
        """Take an object, if there is one."""
        try:
            return super().get_nowait(*args, **kwargs)
        finally:
            self._read_end.hush()

    def get_many(self, *args: Any, **kwargs: Any) -> list[Any]:
        """Take what is there."""
        try:
            return super().get_many(*args, **kwargs)
        finally:
            self._read_end.hush()

    def get_message(self, *args: Any, **kwargs: Any) -> Message:
        """Take an object, with what belongs to it."""
        try:
            return super().get_message(*args, **kwargs)
        finally:
            self._read_end.hush()

    def empty(self) -> bool:
        """Tell whether there is nothing to take."""
        none = super().empty()
        if none:
            self._read_end.hush()
        return none


def _let_hush(queue: Queue) -> None:
    """Exchange the class of a queue for one that hushes, which is made once per class."""
    cls: Any = type(queue)
    if issubclass(cls, Rings):
        return
    ringing = vars(cls).get("_ringing")
    if ringing is None:
        names = {"__slots__": (), "__doc__": cls.__doc__}
        names |= {name: getattr(cls, name) for name in ("__module__", "__qualname__")}
        ringing = cls._ringing = type(cls)(cls.__name__, (Rings, cls), names)
    with suppress(TypeError):  # an odd layout: then the thread alone hushes
        queue.__class__ = ringing
