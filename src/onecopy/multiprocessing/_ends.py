"""The ends of a queue as if it were a pipe, for code that waits on several things at once.

`multiprocessing.connection.wait`, and `selectors`, want file descriptors. A queue in shared memory
has none; so a thread of this process, which begins when somebody first asks for the descriptor,
waits for the queue and rings an eventfd.
"""

from __future__ import annotations

import contextlib
import os
import threading
import weakref
from typing import TYPE_CHECKING, Any

from onecopy import queue as own
from onecopy.errors import OneCopyError

if TYPE_CHECKING:
    from onecopy.queue import Queue

__all__ = ["ReadEnd", "WriteEnd"]


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
        return _alive(self)._wait_ready(timeout)

    def fileno(self) -> int:
        """Give a descriptor that can be read while there is something to take.

        It belongs to this object and this process.
        """
        queue = _alive(self)
        if self._bell is None or self._bell.pid != os.getpid():  # a fork's child has no threads
            self._bell = _Bell(queue)
        return self._bell.fd

    def close(self) -> None:
        """Close this end in this process; the queue itself stays as it is."""
        self.closed = True
        if self._bell is not None:
            self._bell.stop()
            self._bell = None


def _alive(end: ReadEnd | WriteEnd) -> Queue:
    queue = end._queue()
    if end.closed or queue is None:
        raise OSError("this end of the queue is closed")
    return queue


class _Bell:
    """An eventfd that is set while a queue has something to take.

    The thread rings only while `_silent` is set, and clears it; whoever takes something hushes the
    bell, and the thread looks again. The thread has an object of its own for the queue: it keeps
    nobody's.
    """

    def __init__(self, queue: Queue) -> None:
        self.pid = os.getpid()
        self.fd = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
        self._close = weakref.finalize(self, os.close, self.fd)
        self._close.atexit = False
        self._silent = threading.Event()
        self._silent.set()
        self._lock = threading.Lock()
        member = queue.member
        self.watched = own.Queue._open(member, member.hold(queue.handle), None)
        # Whoever takes something from this object hushes the bell, however he takes it.
        for name in ("get", "get_nowait", "get_many", "get_message"):
            setattr(queue, name, _hushing(getattr(type(queue), name), weakref.ref(queue), self))
        weakref.finalize(queue, self.stop).atexit = False
        threading.Thread(
            target=_watch, args=(self,), name="onecopy-queue-bell", daemon=True
        ).start()

    def ring(self) -> None:
        with self._lock:
            if self._close.alive:
                self._silent.clear()
                os.eventfd_write(self.fd, 1)

    def hush(self) -> None:
        with self._lock:
            if not self._silent.is_set() and self._close.alive:
                os.eventfd_read(self.fd)
            self._silent.set()

    def stop(self) -> None:
        if self.pid != os.getpid():
            return  # a fork's child: the thread, and the lock, are the parent's
        with self._lock:
            self._close()
            self._silent.set()
        self.watched._stop_waiting()
        self.watched.detach()

    def wanted(self) -> bool:
        self._silent.wait()
        return self._close.alive


def _hushing(method: Any, queue: weakref.ref[Queue], bell: _Bell) -> Any:
    def take(*args: Any, **kwargs: Any) -> Any:
        try:
            return method(queue(), *args, **kwargs)
        finally:
            if bell.pid == os.getpid():
                bell.hush()

    return take


def _watch(bell: _Bell) -> None:
    """Ring while there is something, until nobody wants to hear it any more."""
    with contextlib.suppress(OneCopyError):  # the pool is gone
        while bell.wanted():
            if bell.watched._wait_ready():
                bell.ring()
