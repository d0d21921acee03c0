"""What a process is given while it is being started.

``Process.start`` forgets its arguments as soon as they are pickled, and the child unpickles them
later. A pickled reference keeps nothing alive; so what is pickled for a child is kept by the object
that stands for the child, until the child has ended or that object is gone.
"""

from __future__ import annotations

import sys
import threading
from typing import Any
from weakref import ref

from onecopy import _native

__all__ = ["Keeping", "drop_for_ended", "keep_for_child"]

_KEPT = "_onecopy_kept"  # the attribute of a Popen; goes with it, so also when a start fails

# The Popens that have it. No lock: each step on it is one of the interpreter's, and a finalizer or
# a fork in between finds it whole. A forked child has copies of what is kept; they go in the same
# way.
_given: set[ref[Any]] = set()


# `innermost`: the `Keeping` that this thread is in, and what it was in before, or None. The
# references are weak: one that a signal handler's exception kept from being entered, or left,
# counts for nothing.
_now = threading.local()


class Keeping:
    """Within it, what this thread pickles by reference is collected in `kept`.

    For messages other than a child's arguments whose sender sees to it that what they refer to
    stays until they have arrived.
    """

    __slots__ = ("__weakref__", "_outer", "kept")

    def __init__(self) -> None:
        self.kept: list[Any] = []
        self._outer: Any = None

    def __enter__(self) -> list[Any]:
        self._outer = getattr(_now, "innermost", None)
        _now.innermost = ref(self), self._outer
        return self.kept

    def __exit__(self, *_: object) -> None:
        _now.innermost = self._outer


def _keeping() -> Keeping | None:
    innermost = getattr(_now, "innermost", None)
    while innermost is not None:
        keeping: Keeping | None = innermost[0]()
        if keeping is not None:
            return keeping
        innermost = innermost[1]
    return None


def keep_for_child(obj: Any) -> None:
    """Keep an object alive for the child that it is being pickled for, if there is one.

    What was kept for children that have ended is let go of. Threads may start children at once.

    Parameters
    ----------
    obj : object
        What is pickled by reference. Without effect outside of `multiprocessing.Process.start`
        (methods spawn and forkserver) and of `Keeping`.
    """
    keeping = _keeping()
    if keeping is not None:
        keeping.kept.append(obj)
    context = sys.modules.get("multiprocessing.context")  # not loaded: nobody starts a process
    if context is None:
        return
    popen = context.get_spawning_popen()
    if popen is None:
        return
    attributes = vars(popen)
    if _KEPT not in attributes:  # once for each child, however much it is given
        drop_for_ended()
        attributes[_KEPT] = []
        _let_go_when_ended(popen)
        _given.add(ref(popen))
    attributes[_KEPT].append(obj)


def _let_go_when_ended(popen: Any) -> None:
    """Have what is kept go as soon as somebody sees that the child has ended: by a join, say."""
    known, real = ref(popen), type(popen).poll

    def poll(*args: Any, **kwargs: Any) -> Any:
        popen = known()
        status = real(popen, *args, **kwargs)
        if status is not None:
            vars(popen).pop(_KEPT, None)
        return status

    popen.poll = poll


def drop_for_ended() -> bool:
    """Let go of what was kept for children that have ended, though their `Process` lives on.

    They are not waited for: their exit status is multiprocessing's to fetch.

    Returns
    -------
    bool
        Whether there was any.
    """
    if not _given:
        return False
    running: list[tuple[int, Any]] = []
    ended = []
    for known in _given.copy():
        popen = known()
        if popen is None:
            _given.discard(known)
        elif getattr(popen, "returncode", None) is not None:
            ended.append(popen)
        elif (sentinel := getattr(popen, "sentinel", -1)) >= 0:  # else it is being started
            running.append((sentinel, popen))
    if running:
        # Readable once the child has ended, or has closed its end: then it has read what it got.
        ended += [popen for sentinel, popen in running if _native.is_readable(sentinel)]
    for popen in ended:
        _given.discard(ref(popen))
        vars(popen).pop(_KEPT, None)
    return bool(ended)
