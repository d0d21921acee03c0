"""Keeps objects alive that are arguments of a process that is being started.

``Process.start`` drops its arguments as soon as they are pickled. The child unpickles them later. A
pickled reference keeps nothing alive. So the `Popen` object of the child keeps what is pickled by
reference, until the child has ended or the `Popen` object is deleted.
"""

from __future__ import annotations

import sys
import threading
from typing import Any
from weakref import ref

from onecopy import _native

__all__ = ["Keeping", "drop_for_ended", "keep_for_child"]

_KEPT = "_onecopy_kept"  # an attribute of the Popen; it is deleted with it, also if a start fails

# The Popens that have the attribute. There is no lock: each step on the set is atomic in the
# interpreter, so a finalizer or a fork between two steps finds it consistent. A forked child has
# copies of the kept objects. They are released in the same way.
_given: set[ref[Any]] = set()


# `innermost`: the `Keeping` block that this thread is in, and the outer one, or None. The
# references are weak. If an exception of a signal handler prevented a block from being entered or
# left, its dead reference is skipped.
_now = threading.local()


class Keeping:
    """A ``with`` block that collects in `kept` what this thread pickles by reference.

    It is for messages other than the arguments of a child. Their sender must keep the collected
    objects until the message has arrived.
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
    """Keep an object alive for the child for which it is being pickled, if there is one.

    This also releases what was kept for children that have ended. Several threads may start
    children at the same time.

    Parameters
    ----------
    obj : object
        The object that is pickled by reference. The call has no effect outside of
        `multiprocessing.Process.start` (methods spawn and forkserver) and `Keeping`.
    """
    keeping = _keeping()
    if keeping is not None:
        keeping.kept.append(obj)
    context = sys.modules.get("multiprocessing.context")  # not loaded: no process is being started
    if context is None:
        return
    popen = context.get_spawning_popen()
    if popen is None:
        return
    attributes = vars(popen)
    if _KEPT not in attributes:  # once for each child
        drop_for_ended()
        attributes[_KEPT] = []
        _release_when_ended(popen)
        _given.add(ref(popen))
    attributes[_KEPT].append(obj)


def _release_when_ended(popen: Any) -> None:
    """Release what is kept as soon as a `poll` finds that the child has ended, as in `join`."""
    known, real = ref(popen), type(popen).poll

    def poll(*args: Any, **kwargs: Any) -> Any:
        popen = known()
        status = real(popen, *args, **kwargs)
        if status is not None:
            vars(popen).pop(_KEPT, None)
        return status

    popen.poll = poll


def drop_for_ended() -> bool:
    """Release what was kept for children that have ended, also if their `Process` still exists.

    This does not call `waitpid`: multiprocessing must get the exit status.

    Returns
    -------
    bool
        Whether anything was released.
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
        elif (sentinel := getattr(popen, "sentinel", -1)) >= 0:  # else the child is being started
            running.append((sentinel, popen))
    if running:
        # The sentinel is readable when the child has ended, or has closed its end. In both cases
        # the child has read its arguments.
        ended += [popen for sentinel, popen in running if _native.is_readable(sentinel)]
    for popen in ended:
        _given.discard(ref(popen))
        vars(popen).pop(_KEPT, None)
    return bool(ended)
