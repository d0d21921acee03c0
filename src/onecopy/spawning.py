"""What a process is given while it is being started.

``Process.start`` forgets its arguments as soon as they are pickled, and the child unpickles them
later. A pickled reference keeps nothing alive; so what is pickled for a child is kept by the object
that stands for the child, until that is gone.
"""

from __future__ import annotations

import sys
from typing import Any

__all__ = ["keep_for_child"]


def keep_for_child(obj: Any) -> None:
    """Keep an object alive for the child that it is being pickled for, if there is one.

    Parameters
    ----------
    obj : object
        What is pickled by reference. Without effect outside of `multiprocessing.Process.start`
        (methods spawn and forkserver).
    """
    context = sys.modules.get("multiprocessing.context")  # not loaded: nobody starts a process
    if context is None:
        return
    popen = context.get_spawning_popen()
    if popen is not None:
        vars(popen).setdefault("_onecopy_kept", []).append(obj)
