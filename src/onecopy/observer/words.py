"""How the observer names processes, times and numbers in sentences."""

from __future__ import annotations

from typing import TYPE_CHECKING

from onecopy.observer.system import short_command

if TYPE_CHECKING:
    from collections.abc import Sequence

    from onecopy.observer.records import ProcessView, WaitView

__all__ = ["duration", "joined", "process_name", "several", "waits_for"]


def duration(seconds: float) -> str:
    """Return a duration in one unit.

    Parameters
    ----------
    seconds : float
        How long.

    Returns
    -------
    str
        For example ``"0.4 s"``, ``"12 s"``, ``"3 min"``, ``"5 h"`` or ``"2 days"``.
    """
    if seconds < 10:
        return f"{seconds:.1f} s"
    if seconds < 120:
        return f"{seconds:.0f} s"
    if seconds < 7200:
        return f"{seconds / 60:.0f} min"
    if seconds < 172800:
        return f"{seconds / 3600:.0f} h"
    return f"{seconds / 86400:.0f} days"


def joined(words: Sequence[str], last: str = "and") -> str:
    """Join words as in a sentence.

    Parameters
    ----------
    words : sequence of str
        At least one.
    last : str, optional
        What stands before the last one.

    Returns
    -------
    str
        For example ``"a, b and c"``.
    """
    if len(words) == 1:
        return words[0]
    return f"{', '.join(words[:-1])} {last} {words[-1]}"


def process_name(process: ProcessView) -> str:
    """Name a process by its pid and its program.

    Parameters
    ----------
    process : ProcessView
        A member of a pool.

    Returns
    -------
    str
        For example ``"4711 (detector.py)"``.
    """
    if not process.same_namespace:
        return f"process {process.pid} of another PID namespace"
    word = short_command(process.command)
    return f"{process.pid} ({word})" if word else str(process.pid)


def several(number: int, what: str) -> str:
    """Count things.

    Parameters
    ----------
    number : int
        How many.
    what : str
        What one is called.

    Returns
    -------
    str
        For example ``"1 message"`` or ``"3 messages"``.
    """
    return f"{number:,} {what}{'' if number == 1 else 's'}"


def waits_for(wait: WaitView) -> str:
    """Say what a thread waits for.

    Parameters
    ----------
    wait : WaitView
        A thread that waits.

    Returns
    -------
    str
        For example ``"get queue 'jobs'"`` or ``"lock of the heap"``.
    """
    verb = wait.why.replace("_", " ")
    if wait.part:
        return wait.part if wait.part == wait.why else f"{verb} of the {wait.part}"
    if wait.thing is None:
        return verb
    name = str(wait.thing)
    return name if wait.thing.kind.replace("_", " ") == verb else f"{verb} {name}"
