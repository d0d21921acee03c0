"""Shows progress during a run: live bars in a terminal, plain lines elsewhere."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Protocol

from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    SpinnerColumn,
    TaskID,
    TextColumn,
)

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from rich.console import Console


class Display(Protocol):
    """Shows the progress of each role of each transport."""

    def begin(self, transport: str, turn: int) -> None:
        """Begin this transport's run number `turn`, counted from 0."""

    def advance(self, role: str, frames: int) -> None:
        """Count frames that a role has done in the current run."""

    def end(self, rate: float) -> None:
        """Finish the run and show its rate in frames per second."""


@contextlib.contextmanager
def display(
    console: Console, transports: Sequence[str], roles: dict[str, str], frames: int, turns: int
) -> Iterator[Display]:
    """Show progress until the block ends.

    Parameters
    ----------
    console : rich.console.Console
        The console.
    transports : sequence of str
        Names, in the order of the first runs.
    roles : dict of str to str
        The text beside the bar of each role.
    frames, turns : int
        Frames of each run, and runs of each transport.

    Yields
    ------
    Display
        The display, which the caller informs of the progress.
    """
    if console.is_terminal:
        with _Bars(console, transports, roles, frames * turns) as bars:
            yield bars
    else:
        yield _Lines(console, list(roles)[-1], frames, turns)


class _Bars:
    """One bar per role, for each transport."""

    def __init__(
        self, console: Console, transports: Sequence[str], roles: dict[str, str], total: int
    ) -> None:
        self._progress = Progress(
            SpinnerColumn(),
            TextColumn("{task.fields[transport]:<22}", style="bold"),
            TextColumn("{task.description:<22}"),
            BarColumn(bar_width=30),
            MofNCompleteColumn(),
            TextColumn("{task.fields[rate]}", style="green"),
            console=console,
        )
        self._tasks: dict[tuple[str, str], TaskID] = {}
        for transport in transports:
            for position, (role, words) in enumerate(roles.items()):
                self._tasks[transport, role] = self._progress.add_task(
                    words,
                    total=total,
                    start=False,
                    transport=transport if position == 0 else "",
                    rate="",
                )
        self._transport = ""
        self._last_role = list(roles)[-1]

    def __enter__(self) -> _Bars:
        self._progress.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._progress.stop()

    def begin(self, transport: str, turn: int) -> None:  # noqa: ARG002 - one bar for all turns
        self._transport = transport
        for (owner, _), task in self._tasks.items():
            if owner == transport:
                self._progress.start_task(task)

    def advance(self, role: str, frames: int) -> None:
        self._progress.advance(self._tasks[self._transport, role], frames)

    def end(self, rate: float) -> None:
        task = self._tasks[self._transport, self._last_role]
        self._progress.update(task, rate=f"{rate:,.0f} frames/s")


class _Lines:
    """A line at each quarter of each run, and at its end."""

    def __init__(self, console: Console, last_role: str, frames: int, turns: int) -> None:
        self._console = console
        self._last_role = last_role
        self._frames = frames
        self._turns = turns
        self._title = ""
        self._done = 0

    def begin(self, transport: str, turn: int) -> None:
        self._title = f"{transport}, run {turn + 1} of {self._turns}"
        self._done = 0
        self._say("starting its processes")

    def advance(self, role: str, frames: int) -> None:
        if role != self._last_role:
            return
        before, self._done = self._done, self._done + frames
        if before * 4 // self._frames != self._done * 4 // self._frames:
            self._say(f"{self._done} of {self._frames} pictures written")

    def end(self, rate: float) -> None:
        self._say(f"{rate:,.0f} frames/s")

    def _say(self, words: str) -> None:
        # No wrapping, because a log or another program reads this.
        self._console.print(f"{self._title}: {words}", soft_wrap=True)
