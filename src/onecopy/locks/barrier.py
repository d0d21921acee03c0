"""Barrier: parties that wait for each other."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from onecopy._core.arguments import function, integer, seconds, unnamed
from onecopy._core.current import default_member
from onecopy._core.shared import Shared
from onecopy._native import BarrierBase, own_methods

if TYPE_CHECKING:
    from collections.abc import Callable

    from onecopy._native import Hold, Member

__all__ = ["Barrier", "checked_parties"]

_MOST = 0xFFFF


def checked_parties(parties: int) -> int:
    """Refuse numbers of parties that cannot be.

    Raises
    ------
    ValueError
        It is below 1 or above 65,535.
    """
    parties = integer("parties", parties)
    if not 1 <= parties <= _MOST:
        raise ValueError(f"parties={parties}: it is 1 to {_MOST:,}")
    return parties


@own_methods
class Barrier(Shared, BarrierBase):
    """A point that a number of threads and processes pass together; as `multiprocessing.Barrier`.

    ``wait(timeout=None)`` gives each party of a round another number from 0 on; ``abort()``,
    ``reset()``, ``parties``, ``n_waiting``, ``broken``.

    Parameters
    ----------
    parties : int
        How many must come.
    action : callable, optional
        Called by the last one to come, before the others go on. It belongs to this object (and its
        pickled copies), not to the barrier.
    timeout : float, optional
        What `wait` waits at most, if it is not told otherwise.

    Raises
    ------
    ValueError
        `parties` is below 1 or above 65,535.
    PoolFull
        There is no room for the barrier.

    Notes
    -----
    If a process dies while it waits, or while it runs the action, the barrier cannot fill any more:
    it breaks, and those who wait get `threading.BrokenBarrierError`, which names the process,
    within a fraction of a second. ``reset()`` makes it usable again.
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

    def wait(self, timeout: float | None = None) -> int:
        """Wait until all parties have come.

        Parameters
        ----------
        timeout : float, optional
            Seconds; default: what the object was made with. When it has passed, the barrier breaks.

        Returns
        -------
        int
            How many had come before: 0 to ``parties - 1``.

        Raises
        ------
        threading.BrokenBarrierError
            It is broken: by a time-out, `abort`, an action that raised, or a process that died; or
            it was reset while this thread waited.
        """
        return self._wait_and_do(self._action, self._timeout if timeout is None else timeout)
