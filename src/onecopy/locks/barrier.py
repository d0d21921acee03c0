"""Barrier: threads and processes that wait for each other."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from onecopy._core.arguments import function, integer, seconds, unnamed
from onecopy._core.current import default_member
from onecopy._core.shared import Shared
from onecopy._native import BarrierBase, own_methods

if TYPE_CHECKING:
    from collections.abc import Callable

    from onecopy._aio.parties import AioBarrier
    from onecopy._native import Hold, Member

__all__ = ["Barrier", "checked_parties"]

_MOST = 0xFFFF


def checked_parties(parties: int) -> int:
    """Check a number of parties.

    Raises
    ------
    ValueError
        It is below 1 or above 65,535.
    """
    parties = integer("parties", parties)
    if not 1 <= parties <= _MOST:
        raise ValueError(f"parties={parties}: it must be 1 to {_MOST:,}")
    return parties


@own_methods
class Barrier(Shared, BarrierBase):
    """A point that several threads and processes pass together, like `multiprocessing.Barrier`.

    ``wait(timeout=None)`` returns a different number to each party of a round, from 0 on. The other
    members are ``abort()``, ``reset()``, ``parties``, ``n_waiting``, ``broken``.

    Parameters
    ----------
    parties : int
        How many threads must wait before all of them continue.
    action : callable, optional
        The last party to arrive calls it, before the others continue. It belongs to this object
        (and its pickled copies), not to the barrier in the pool.
    timeout : float, optional
        The default timeout of `wait`, in seconds.

    Raises
    ------
    ValueError
        `parties` is below 1 or above 65,535.
    PoolFull
        There is no room for the barrier.

    Notes
    -----
    If a process dies while it waits or while it runs the action, the barrier breaks. Within a
    fraction of a second, all waiters get `threading.BrokenBarrierError`, which names the process.
    ``reset()`` makes the barrier usable again.

    Examples
    --------
    >>> import threading
    >>> pool = oc.Pool("locks", size="4MiB")
    >>> start = pool.barrier("start", 2)
    >>> other = threading.Thread(target=start.wait)  # or another process
    >>> other.start()
    >>> start.wait(timeout=10) in (0, 1)
    True
    >>> other.join()
    >>> start.abort()  # threads that wait get threading.BrokenBarrierError
    >>> start.broken
    True
    >>> start.reset()
    >>> start.detach()  # this process has it no more; other processes keep it
    """

    _action: Callable[[], object] | None
    _timeout: float | None
    _made_by = "barrier"

    @unnamed
    def __init__(
        self,
        parties: int,
        action: Callable[[], object] | None = None,
        timeout: float | None = None,
    ) -> None:
        self._attach(None, default_member(), checked_parties(parties), action, timeout)

    def _attach(self, hold: Hold | None, member: Member, *state: Any) -> None:
        parties, self._action, self._timeout = state
        function("action", self._action)
        seconds("timeout", self._timeout)
        BarrierBase.__init__(self, hold, member, parties)

    def _state(self) -> tuple[Any, ...]:
        return self.parties, self._action, self._timeout

    def _describe(self) -> str:
        return f", {'broken' if self.broken else f'{self.n_waiting} of {self.parties} waiting'}"

    @property
    def aio(self) -> AioBarrier:
        """`wait` as a coroutine: ``await barrier.aio.wait()``; see docs/asyncio.md."""
        from onecopy._aio.parties import AioBarrier

        return AioBarrier(self, self._action, self._timeout)

    def wait(self, timeout: float | None = None) -> int:
        """Wait until all parties have arrived.

        Parameters
        ----------
        timeout : float, optional
            Seconds. Default: the timeout of the object. When the time is up, the barrier breaks.

        Returns
        -------
        int
            How many parties arrived before this one: 0 to ``parties - 1``.

        Raises
        ------
        threading.BrokenBarrierError
            The barrier is broken (by a timeout, `abort`, an action that raised, or a process that
            died); or it was reset while this thread waited.
        """
        return self._wait_and_do(self._action, self._timeout if timeout is None else timeout)
