"""Threads that begin at the same instant."""

from __future__ import annotations

import sys
import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING

from children import LIMIT

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

FREE = not getattr(sys, "_is_gil_enabled", lambda: True)()  # whether threads run at the same time
ROUNDS = 300 if FREE else 60


@contextmanager
def _switching() -> Iterator[None]:
    # With the GIL, threads are interleaved as often as possible.
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-5)
    try:
        yield
    finally:
        sys.setswitchinterval(before)


def run(*functions: Callable[[], object]) -> list[object]:
    """Run each function in a thread of its own; return their answers, or raise what one raised."""
    barrier = threading.Barrier(len(functions))
    answers: list[object] = [None] * len(functions)
    raised: list[BaseException] = []

    def work(i: int, function: Callable[[], object]) -> None:
        try:
            barrier.wait(LIMIT)
            answers[i] = function()
        except BaseException as error:  # noqa: BLE001 - it is raised in the test
            raised.append(error)

    threads = [
        threading.Thread(target=work, args=each, daemon=True) for each in enumerate(functions)
    ]
    with _switching():
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(LIMIT)
    assert not any(thread.is_alive() for thread in threads)
    if raised:
        raise raised[0]
    return answers


def until(stop: threading.Event, step: Callable[[], object]) -> Callable[[], None]:
    """Return a function that does a step again and again, until the event is set."""

    def work() -> None:
        while not stop.is_set():
            step()

    return work


def stopping(stop: threading.Event, function: Callable[[], object]) -> Callable[[], object]:
    """Return a function that sets the event when it has ended."""

    def work() -> object:
        try:
            return function()
        finally:
            stop.set()

    return work
