"""How commands show the processes of a pool: the same words in `show`, `inspect` and `holders`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from onecopy.cli.output import escaped

if TYPE_CHECKING:
    from onecopy.inspect import Holder
    from onecopy.observer import ProcessView

__all__ = ["longest_wait", "pid_of", "program_of", "waits_of"]


def pid_of(process: ProcessView | Holder) -> str:
    """Return its number, and say so if it is one of another PID namespace."""
    return str(process.pid) if process.same_namespace else f"{process.pid} (other namespace)"


def program_of(process: ProcessView | Holder) -> str:
    """Return the name of its program; "-": it is not known."""
    from onecopy.observer.system import short_command

    return escaped(short_command(process.command)) or "-"


def waits_of(process: ProcessView | Holder) -> str:
    """Say what its threads wait for; "-": none waits."""
    from onecopy.observer.words import waits_for

    what = ", ".join(dict.fromkeys(escaped(waits_for(wait)) for wait in process.waits))
    return (what or "-") + (", and perhaps more" if process.more_may_wait else "")


def longest_wait(process: ProcessView | Holder) -> str:
    """Say for how long the thread that waits longest has waited; "-": none waits."""
    from onecopy.observer.words import duration

    return duration(max(wait.seconds for wait in process.waits)) if process.waits else "-"
