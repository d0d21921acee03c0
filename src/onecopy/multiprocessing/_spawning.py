"""What a process that is being started needs stays alive until it has arrived there."""

from __future__ import annotations

import sys

__all__ = ["keep_alive"]

_KEPT = "_onecopy_kept"  # an attribute of the object that stands for the start of a process


def keep_alive(obj: object) -> None:
    """Keep an object for a process that is being spawned with it, if one is.

    A pickle holds nothing, and `Process.start` forgets the arguments as soon as it has written
    them; the child may read them much later. So what is pickled in between is kept by the object
    that multiprocessing has for the started process, which lives as long as its `Process`.

    Parameters
    ----------
    obj : object
        What was just pickled. Outside the start of a process, nothing is done.
    """
    context = sys.modules.get("multiprocessing.context")
    if context is None:
        return
    started = context.get_spawning_popen()
    if started is not None:
        vars(started).setdefault(_KEPT, []).append(obj)
