"""gRPC does not work in a forked child of a process that has started it. This is what remains.

Invariant: in such a child, nothing of this package calls gRPC, and no destructor of gRPC runs.
"""

from __future__ import annotations

import ctypes
import os
import weakref
from typing import Any

from onecopy.flight import sockets

__all__ = ["begin", "check", "is_barred", "keep", "leave", "watch"]

_started = False  # whether this process, or one that it was forked from, has started gRPC
_barred = False  # whether this is a forked child of such a process
_objects: weakref.WeakSet[Any] = weakref.WeakSet()
_services: weakref.WeakSet[Any] = weakref.WeakSet()


def begin() -> None:
    """Say that this process starts gRPC now.

    Raises
    ------
    RuntimeError
        It is a forked child of a process that has started it.
    """
    global _started  # noqa: PLW0603
    check()
    _started = True


def check() -> None:
    """Raise a `RuntimeError` in a forked child of a process that has started gRPC."""
    if _barred:
        raise RuntimeError(
            "oc.serve, oc.fetch and servers cannot be used in this process: it was forked from a "
            "process that had used them, and gRPC does not work after such a fork. Start processes "
            'with the method "spawn" or "forkserver" of multiprocessing, or fork before the first '
            "oc.serve or oc.fetch"
        )


def is_barred() -> bool:
    """Whether `check` raises."""
    return _barred


def keep(thing: Any) -> Any:
    """Return an object of gRPC. A forked child will never destroy it."""
    _objects.add(thing)
    return thing


def watch(service: Any) -> None:
    """As `keep`, for a server. If it `listens`, a forked child also gives up its sockets."""
    _services.add(service)


def leave(thing: Any) -> None:
    """Let an object be, until the process ends: no destructor runs, and nothing at exit."""
    for reference in weakref.getweakrefs(thing):
        # pyarrow ends a server when the interpreter ends. That would wait for its threads.
        at_exit = reference.__callback__
        if isinstance(at_exit, weakref.finalize):
            at_exit.detach()
    # A list of this module would be cleared at the end of the interpreter.
    ctypes.pythonapi.Py_IncRef(ctypes.py_object(thing))


def _forked() -> None:
    global _barred  # noqa: PLW0603
    if not _started:
        return
    first = not _barred
    _barred = True
    if not first:
        return
    for service in list(_services):
        if service.listens:
            sockets.abandon(service.port)
        leave(service)
    for thing in list(_objects):
        leave(thing)


os.register_at_fork(after_in_child=_forked)
