"""SIGTERM and SIGINT, in a process that supervises and in its workers.

The handler of SIGTERM raises: SystemExit, so that `with` blocks, `finally` and exit handlers run;
or, in the block of a group that gave up, its `CrashLoop`, so that the block does not wait for
workers that are no more. A handler of the program's own is left alone. Only the main thread changes
handlers.
"""

from __future__ import annotations

import os
import signal
import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Protocol

    class Group(Protocol):
        """What is used of a `WorkerGroup` here."""

        @property
        def failure(self) -> BaseException | None: ...


__all__ = ["Termination", "be_a_worker", "termination"]


class Termination:
    """Handles SIGTERM in this process."""

    def __init__(self) -> None:
        self._groups: list[Group] = []  # for which the handler is there
        self._blocks: list[Group] = []  # whose `with` block the main thread is in
        self._replaced = False  # whether the default handler is to be restored
        self._stopping = 0  # calls of `stop` that the main thread is in
        self._sent = False  # whether a signal of `interrupt` is under way
        self._sending = threading.Lock()
        self._process = os.getpid()

    def take_over(self, group: Group) -> None:
        """Set the handler for a group, if this is the main thread and there is no other one."""
        if not _in_main_thread():
            return
        handler = signal.getsignal(signal.SIGTERM)
        if handler is signal.SIG_DFL:
            signal.signal(signal.SIGTERM, _on_sigterm)
            self._replaced = True
        elif handler is not _on_sigterm:
            return
        self._groups.append(group)

    def give_back(self, group: Group) -> None:
        """Restore the default handler, if this was the last group."""
        if group in self._groups:
            self._groups.remove(group)
        self._restore()

    def _restore(self) -> None:
        # A signal that is under way would kill the process then; its handler comes here again.
        if self._replaced and not self._groups and not self._sent and _in_main_thread():
            self._replaced = False
            if signal.getsignal(signal.SIGTERM) is _on_sigterm:
                signal.signal(signal.SIGTERM, signal.SIG_DFL)

    def enter(self, group: Group) -> None:
        """Raise the failure of a group, in the main thread also if it comes later."""
        if _in_main_thread():
            self._blocks.append(group)
        if group.failure is not None:
            raise group.failure

    def leave(self, group: Group) -> None:
        """Do not raise the failure any more."""
        if group in self._blocks:
            self._blocks.remove(group)

    def interrupt(self, group: Group) -> None:
        """Make the main thread check the failures of groups, if it is in this group's block."""
        main = threading.main_thread().ident
        with self._sending:
            ready = not self._sent and signal.getsignal(signal.SIGTERM) is _on_sigterm
            if ready and group in self._blocks and main is not None:
                self._sent = True
                signal.pthread_kill(main, signal.SIGTERM)

    @contextmanager
    def stopping(self) -> Iterator[None]:
        """Delay failures while the main thread waits for a group to stop."""
        counts = _in_main_thread()
        self._stopping += counts
        try:
            yield
        finally:
            self._stopping -= counts

    def came(self, number: int) -> None:
        """Raise the exception of a SIGTERM."""
        if os.getpid() != self._process:  # in a forked child, before `forget`, which may not raise
            signal.signal(number, signal.SIG_DFL)
            signal.raise_signal(number)
        ours, self._sent = self._sent, False
        if not self._stopping:
            for group in reversed(self._blocks):
                if group.failure is not None:
                    self.leave(group)
                    raise group.failure
        if not ours:
            raise SystemExit(128 + number)
        self._restore()

    def forget(self) -> None:
        """In a forked child: the groups and the handler are the parent's."""
        self.__init__()  # type: ignore[misc]  # another thread may have had the lock
        if signal.getsignal(signal.SIGTERM) is _on_sigterm:
            signal.signal(signal.SIGTERM, signal.SIG_DFL)


termination: Termination = Termination()
os.register_at_fork(after_in_child=termination.forget)


def _on_sigterm(number: int, _: Any) -> None:
    termination.came(number)


def _on_sigint(number: int, _: Any) -> None:
    """Do nothing: Ctrl-C reaches all processes of a terminal, and the supervisor ends this one."""


def be_a_worker(mask: set[signal.Signals | int]) -> None:
    """Set a worker's signals: SIGTERM raises SystemExit, and SIGINT is left to the supervisor.

    Parameters
    ----------
    mask : set of signals
        Those that are to be blocked; what came in between is handled now.
    """
    signal.set_wakeup_fd(-1)  # it may belong to an event loop of the process that forked
    signal.signal(signal.SIGTERM, _on_sigterm)
    # Not SIG_IGN, which programs that the worker starts would inherit.
    signal.signal(signal.SIGINT, _on_sigint)
    signal.pthread_sigmask(signal.SIG_SETMASK, mask)


def _in_main_thread() -> bool:
    return threading.current_thread() is threading.main_thread()
