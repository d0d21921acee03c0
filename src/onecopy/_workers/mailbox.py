"""A queue whose readers sleep in the kernel, at a bell, until there is something for them.

The wait of a queue itself looks around several times a second: the process that has put something
may have died before it could wake the reader. Here the reader also watches, by pidfd, every process
that could have put something. So a death wakes it, and it need not look around.

A reader says that it sleeps before it looks at the queue for the last time; a writer looks at
the count of sleepers after it has put something. Both have a full fence in between, so one of them
sees the other.
"""

from __future__ import annotations

import select
from contextlib import suppress
from functools import partial
from queue import Empty
from typing import TYPE_CHECKING, Any, TypeVar

from onecopy import coroutines
from onecopy._workers.bells import Bell
from onecopy._workers.parents import Parent
from onecopy.errors import Closed
from onecopy.locks import Semaphore

if TYPE_CHECKING:
    from collections.abc import Callable

    from onecopy.queue import Message, Queue

__all__ = ["Mailbox", "Reader"]

T = TypeVar("T")

_AWAKE = 0.01  # seconds that a worker waits at the queue itself, which wakes it sooner, for a call
_MOMENT = 5e-5  # seconds: the native core looks for a message that long before it sleeps
_IDLE_AFTER = 1.0  # second after which a worker without a call drops what it keeps for calls
_LOOK_EVERY = 1.0  # second in which it looks whether its parent lives, where no descriptor says so


class Mailbox:
    """A queue, a bell, and a count of readers that sleep. It is passed to workers as an argument.

    Parameters
    ----------
    queue : Queue
        The queue.

    Attributes
    ----------
    queue : Queue
        The queue. What is put into it by itself wakes no reader that sleeps.

    Raises
    ------
    PoolFull
        There is no room for the count.
    OSError
        There is no descriptor left.
    """

    def __init__(self, queue: Queue, bell: Bell | None = None, asleep: Any = None) -> None:
        self.queue = queue
        self._bell: Bell | None = Bell() if bell is None else bell
        # A worker that is killed while it sleeps stays in the count. That costs writers a ring now
        # and then, and wakes no reader.
        self._asleep: Any = (
            Semaphore._open(None, queue.member, None, 0, False) if asleep is None else asleep
        )

    def __reduce__(self) -> Any:
        return type(self), (self.queue, self._bell, self._asleep)

    @property
    def bell(self) -> Bell:
        """What wakes a reader that sleeps.

        Raises
        ------
        Closed
            The mailbox was closed in this process.
        """
        if self._bell is None:
            raise Closed("the mailbox was closed in this process")
        return self._bell

    def ring(self) -> None:
        """Wake a reader that sleeps; without effect once the mailbox is closed."""
        bell = self._bell
        if bell is not None:
            bell.ring()

    def wake(self, wanted: int = 1, readers: int = 1) -> None:
        """Wake a reader, after something was put, if too few are awake.

        Parameters
        ----------
        wanted : int
            How many messages are not done: they are in the queue, or a reader works at them.
        readers : int
            How many readers there are, asleep or awake.
        """
        asleep = self._asleep.get_value()
        if asleep and wanted > readers - asleep:
            self.ring()

    def sleep(self, wait: Callable[[], T], awake: T) -> T:
        """Be a reader that sleeps while `wait` is called, unless there is a message.

        Parameters
        ----------
        wait : callable
            Returns when a bell rings, or for a reason of its own.
        awake : object
            What is returned if `wait` is not called.

        Returns
        -------
        object
            What `wait` returns, or `awake`.
        """
        self._asleep.release()
        try:
            return wait() if self.queue.empty() else awake
        finally:
            self._asleep.acquire(False)

    @property
    def is_quiet(self) -> bool:
        """Whether there is nothing for a reader, neither a message nor the end.

        That a `get` which does not wait finds nothing says less: it also gives up if another
        process has the queue's lock.
        """
        return self.queue.empty() and not self.queue.is_shut_down

    def take(self, get: Callable[[bool, float], T], expected: bool = False) -> T | None:
        """Take a message where there is one reader, by the queue's `get`; None: there is none.

        Parameters
        ----------
        get : callable
            The queue's `get`, or a function with the same parameters.
        expected : bool
            Whether a message is likely to come soon. Then the thread looks for it for a moment,
            because falling asleep and being woken takes as long as a short call.
        """
        wait = _MOMENT if self.queue.empty() else _AWAKE
        if expected or wait == _AWAKE:
            with suppress(Empty):
                return get(True, wait)
        return None

    def wake_next(self) -> None:
        """Wake another reader, where this one was woken, if there is more than it takes."""
        if self.queue.qsize() and self._asleep.get_value():
            self.ring()

    def end(self) -> None:
        """Let all readers know that there will be no more; they get what is there."""
        self.queue.shutdown()
        self.ring()  # each one that wakes of it wakes the next

    def close(self) -> None:
        """Close the queue, and the descriptor of the bell, in this process."""
        self.queue.close()
        self._asleep.detach()
        self._bell = None


class Reader:
    """How a worker takes what its parent puts into a mailbox.

    Parameters
    ----------
    mailbox : Mailbox
        The mailbox.
    idle : callable, optional
        Called when there has been nothing to do for a second.
    """

    def __init__(self, mailbox: Mailbox, idle: Callable[[], object] = bool) -> None:
        self._mailbox = mailbox
        self._idle = idle
        self._parent = Parent()
        self._poll: Any = None  # an epoll, in which of all workers that wait one is woken
        self._watches = False  # whether the parent's end wakes it

    def take(self) -> Message:
        """Take a message.

        Raises
        ------
        EOFError
            The process that puts them has ended.
        ShutDown, Closed
            There will be no more.
        BaseException
            The message cannot be rebuilt; see `Queue.get_message`.
        """
        message = self._take()
        self._parent.check()  # the rest of what it has put is not wanted
        return message

    def _take(self) -> Message:
        mailbox, queue = self._mailbox, self._mailbox.queue
        if coroutines.are_threads():
            return self._take_with_coroutines()
        with suppress(Empty):
            return queue.get_message(True, _AWAKE)
        timeout: float | None = _IDLE_AFTER
        while True:
            woken = mailbox.sleep(partial(self._sleep, timeout), True)
            self._parent.check()
            if not woken and timeout is not None:
                self._idle()
                timeout = None
            if mailbox.is_quiet:
                continue
            # Not at once, which is in vain too if another reader has the queue's lock.
            try:
                message = queue.get_message(True, _AWAKE)
            except Empty:
                continue
            except BaseException:
                mailbox.ring()  # the end is for all; else there may be more
                raise
            mailbox.wake_next()
            return message

    def _sleep(self, timeout: float | None) -> bool:
        """Wait in the kernel, unless there will be no more messages; False: the time is up."""
        if self._mailbox.queue.is_shut_down:
            return True
        bell, parent = self._mailbox.bell, self._parent.descriptor
        if self._poll is None:
            self._poll = select.epoll()
            self._poll.register(bell.fileno(), select.EPOLLIN | select.EPOLLEXCLUSIVE)
            self._watches = parent >= 0
            if self._watches:
                self._poll.register(parent, select.EPOLLIN)
        if timeout is None and not self._watches:
            timeout = _LOOK_EVERY
        ready = [descriptor for descriptor, _ in self._poll.poll(timeout)]
        if self._watches and parent in ready and not self._parent.ended:
            self._watches = False  # a sentinel, which is no sign
            self._poll.unregister(parent)
        bell.clear()
        return bool(ready)

    def _take_with_coroutines(self) -> Message:
        # Not at descriptors: what waits for these in a worker that was forked is its parent's.
        while True:
            with suppress(Empty):
                return coroutines.take(self._mailbox.queue.get_message, _LOOK_EVERY)
            self._idle()
            self._parent.check()
