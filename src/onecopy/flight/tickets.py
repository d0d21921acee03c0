"""The tickets of a server: which object each one holds, until when, and for how many fetches."""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass
from secrets import token_urlsafe
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from onecopy._native import Ref
    from onecopy.flight.contents import Content

__all__ = ["Held", "Tickets"]

_TOKEN_BYTES = 32  # random ones: nobody guesses a token


@dataclass(eq=False)
class Held:
    """What one ticket holds."""

    ref: Ref[object]
    content: Content
    deadline: float | None  # by `time.monotonic`
    fetches: int | None  # that are allowed
    begun: int = 0  # fetches that were begun and did not fail
    done: int = 0


class Tickets:
    """Tickets by their tokens. Any thread may call the methods.

    The lock is never held while memory is released: that may run other code.
    """

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._held: dict[str, Held] = {}
        self._watcher: threading.Thread | None = None

    def __len__(self) -> int:
        return len(self._held)

    def add(self, held: Held) -> str:
        """Keep an object, and return the token for it."""
        token = token_urlsafe(_TOKEN_BYTES)
        with self._changed:
            self._held[token] = held
            if held.deadline is not None:
                if self._watcher is None:
                    self._watcher = threading.Thread(
                        target=self._watch, name="onecopy: tickets", daemon=True
                    )
                    self._watcher.start()
                self._changed.notify_all()
        return token

    def find(self, token: str) -> Held:
        """Return what a ticket holds.

        Raises
        ------
        KeyError
            There is no such ticket, it has expired, or no fetch is left.
        """
        with self._changed:
            held = self._held.get(token)
            if held is None or (held.deadline is not None and held.deadline <= time.monotonic()):
                raise KeyError("no such ticket")
            if held.fetches is not None and held.begun >= held.fetches:
                raise KeyError("no fetch is left")
            return held

    def begin(self, token: str) -> Held:
        """Begin a fetch; as `find`."""
        with self._changed:
            held = self.find(token)
            held.begun += 1
            return held

    def end(self, token: str, *, complete: bool) -> None:
        """End a fetch. The last one allowed ends the ticket. A failed one does not count."""
        gone = None
        with self._changed:
            held = self._held.get(token)
            if held is None:
                return
            if not complete:
                held.begun -= 1
                return
            held.done += 1
            if held.fetches is not None and held.done >= held.fetches:
                gone = self._held.pop(token)
        del gone

    def release(self, token: str) -> bool:
        """End a ticket. Fetches that were begun continue. False: there is none."""
        with self._changed:
            gone = self._held.pop(token, None)
        return gone is not None

    def clear(self) -> None:
        """End all tickets, and the thread that watches them."""
        with self._changed:
            gone, self._held = self._held, {}
            watcher = self._watcher
            self._changed.notify_all()
        del gone
        if watcher is not None and watcher is not threading.current_thread():
            watcher.join()

    def forget(self) -> None:
        """Drop everything in a forked child, where a lock may be taken and there is no thread."""
        self.__init__()  # type: ignore[misc]  # as new

    def _watch(self) -> None:
        """End the tickets that expire; as long as there are any that can."""
        while True:
            with self._changed:
                deadlines = [h.deadline for h in self._held.values() if h.deadline is not None]
                if not deadlines:
                    self._watcher = None
                    return
                now = time.monotonic()
                if min(deadlines) > now:
                    self._changed.wait(min(deadlines) - now)
                now = time.monotonic()
                late = [
                    token
                    for token, held in self._held.items()
                    if held.deadline is not None and held.deadline <= now
                ]
                gone = [self._held.pop(token) for token in late]
            del gone
