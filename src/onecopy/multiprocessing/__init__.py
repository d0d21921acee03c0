"""The standard library's `multiprocessing`, with everything shared on onecopy.

>>> from onecopy import multiprocessing

The package has every name of `multiprocessing` and of its modules. Queues, locks, semaphores,
events, conditions, barriers, values, arrays, worker pools, managers and shared memory are those of
onecopy. They are in the default pool (`onecopy.default_pool`). They can be pickled at any time, any
process of the user can use them, and they stay usable if a process that uses them dies. Processes,
pipes and all other names are the standard library's own objects. Both packages have one start
method: to set it in one sets it in the other.
"""

import importlib
import multiprocessing as standard
from typing import Any, Final

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

Array: Final = default_context.Array
Barrier: Final = default_context.Barrier
BoundedSemaphore: Final = default_context.BoundedSemaphore
Condition: Final = default_context.Condition
Event: Final = default_context.Event
JoinableQueue: Final = default_context.JoinableQueue
Lock: Final = default_context.Lock
Manager: Final = default_context.Manager
Pipe: Final = default_context.Pipe
Pool: Final = default_context.Pool
Queue: Final = default_context.Queue
RLock: Final = default_context.RLock
RawArray: Final = default_context.RawArray
RawValue: Final = default_context.RawValue
Semaphore: Final = default_context.Semaphore
SimpleQueue: Final = default_context.SimpleQueue
Value: Final = default_context.Value
active_children: Final = default_context.active_children
allow_connection_pickling: Final = default_context.allow_connection_pickling
cpu_count: Final = default_context.cpu_count
current_process: Final = default_context.current_process
freeze_support: Final = default_context.freeze_support
get_all_start_methods: Final = default_context.get_all_start_methods
get_context: Final = default_context.get_context
get_logger: Final = default_context.get_logger
get_start_method: Final = default_context.get_start_method
log_to_stderr: Final = default_context.log_to_stderr
parent_process: Final = default_context.parent_process
reducer: Final = default_context.reducer
set_executable: Final = default_context.set_executable
set_forkserver_preload: Final = default_context.set_forkserver_preload
set_start_method: Final = default_context.set_start_method

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
    """Import a module of the package at its first use; return other names of the original."""
    if name in _MODULES:
        return importlib.import_module(f"{__name__}.{name}")
    try:
        return getattr(standard, name)
    except AttributeError:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}") from None


def __dir__() -> list[str]:
    """List the modules too."""
    return sorted([*globals(), *_MODULES])
