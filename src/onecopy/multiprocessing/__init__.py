"""The standard library's `multiprocessing`, with everything shared on onecopy.

>>> from onecopy import multiprocessing

Every name of `multiprocessing` and its modules is here; what has no counterpart is the standard
library's own. Queues, locks and their friends, values, arrays,
worker pools, managers and shared memory are onecopy's: they live in the default pool
(`onecopy.default_pool`), may be pickled at any time and used by processes that are no relatives,
and survive the death of any process that uses them. Processes, pipes, and what else is not about
sharing are the standard library's own objects; the start method is one setting for both.
"""

import importlib
import multiprocessing as standard
from typing import Any

from onecopy.multiprocessing.context import (
    AuthenticationError,
    BufferTooShort,
    Process,
    ProcessError,
    TimeoutError,
    default_context,
)

__all__ = [
    "Array",
    "AuthenticationError",
    "Barrier",
    "BoundedSemaphore",
    "BufferTooShort",
    "Condition",
    "Event",
    "JoinableQueue",
    "Lock",
    "Manager",
    "Pipe",
    "Pool",
    "Process",
    "ProcessError",
    "Queue",
    "RLock",
    "RawArray",
    "RawValue",
    "Semaphore",
    "SimpleQueue",
    "TimeoutError",
    "Value",
    "active_children",
    "allow_connection_pickling",
    "cpu_count",
    "current_process",
    "freeze_support",
    "get_all_start_methods",
    "get_context",
    "get_logger",
    "get_start_method",
    "log_to_stderr",
    "parent_process",
    "reducer",
    "set_executable",
    "set_forkserver_preload",
    "set_start_method",
]

Array = default_context.Array
Barrier = default_context.Barrier
BoundedSemaphore = default_context.BoundedSemaphore
Condition = default_context.Condition
Event = default_context.Event
JoinableQueue = default_context.JoinableQueue
Lock = default_context.Lock
Manager = default_context.Manager
Pipe = default_context.Pipe
Pool = default_context.Pool
Queue = default_context.Queue
RLock = default_context.RLock
RawArray = default_context.RawArray
RawValue = default_context.RawValue
Semaphore = default_context.Semaphore
SimpleQueue = default_context.SimpleQueue
Value = default_context.Value
active_children = default_context.active_children
allow_connection_pickling = default_context.allow_connection_pickling
cpu_count = default_context.cpu_count
current_process = default_context.current_process
freeze_support = default_context.freeze_support
get_all_start_methods = default_context.get_all_start_methods
get_context = default_context.get_context
get_logger = default_context.get_logger
get_start_method = default_context.get_start_method
log_to_stderr = default_context.log_to_stderr
parent_process = default_context.parent_process
reducer = default_context.reducer
set_executable = default_context.set_executable
set_forkserver_preload = default_context.set_forkserver_preload
set_start_method = default_context.set_start_method

_MODULES = frozenset(
    {
        "connection",
        "context",
        "dummy",
        "forkserver",
        "heap",
        "managers",
        "pool",
        "popen_fork",
        "popen_forkserver",
        "popen_spawn_posix",
        "process",
        "queues",
        "reduction",
        "resource_sharer",
        "resource_tracker",
        "shared_memory",
        "sharedctypes",
        "spawn",
        "synchronize",
        "util",
    }
)


def __getattr__(name: str) -> Any:
    """Import a module of the package when it is first asked for; give what else there is."""
    if name in _MODULES:
        return importlib.import_module(f"{__name__}.{name}")
    try:
        return getattr(standard, name)
    except AttributeError:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}") from None


def __dir__() -> list[str]:
    """List the modules too."""
    return sorted([*globals(), *_MODULES])
