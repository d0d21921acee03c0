"""The tests of CPython that do not apply, with reasons; and those that are adapted.

A name is ``Class.test`` of the suite, or ``Class``. It applies to every start method and to both
kinds of objects (processes and managers).
"""

import sys
from typing import Any

CLASSES = (
    "_TestQueue",
    "TestSimpleQueue",
    "_TestLock",
    "_TestSemaphore",
    "_TestCondition",
    "_TestEvent",
    "_TestBarrier",
    "_TestValue",
    "_TestArray",
    "_TestSharedCTypes",
    "_TestSharedMemory",
    "_TestContainers",
    "_TestPool",
    "_TestPoolWorkerErrors",
    "_TestPoolWorkerLifetime",
    "TestPoolNotLeakOnFailure",
    "_TestMyManager",
    "_TestRemoteManager",
    "_TestManagerRestart",
    "TestManagerExceptions",
    "TestSyncManagerTypes",
    "TestInitializers",
    "TestTimeouts",
    "TestStartMethod",
)
"""The classes of the suite that are about what onecopy provides."""

EXCLUDED = {
    "_TestQueue.test_queue_feeder_donot_stop_onexc": (
        "an object that cannot be pickled raises in put, where the mistake is; the test wants the "
        "error to be printed by a thread and the object to be dropped"
    ),
    "_TestQueue.test_closed_queue_empty_exceptions": (
        "wants close() to have no effect on a queue that was never used"
    ),
    "_TestLock.test_repr_lock": (
        "wants the names of processes and threads; ours shows the process number of the owner, "
        "which need not be a relative, and how long it has had the lock"
    ),
    "_TestLock.test_repr_rlock": "as test_repr_lock",
    "_TestLock.test_lock_locked_2processes": (
        "its process ends and has the lock, and it wants locked() to stay true; ours says false as "
        "soon as the owner is dead. tests/locks/test_locks.py asks while the owner is alive"
    ),
    "_TestLock.test_rlock_locked_2processes": "as test_lock_locked_2processes",
    "_TestSharedMemory.test_shared_memory_cleaned_after_process_termination": (
        "wants the resource tracker to report a leak at exit; there is no tracker, and no leak"
    ),
    "_TestSharedMemory.test_shared_memory_tracking": (
        "wants the end of an attached process to remove the memory, and the tracker to report it"
    ),
    "_TestSharedMemory.test_shared_memory_name_with_embedded_null": (
        "writes to the private attribute _name; that such names are refused is tested in "
        "tests/shared_memory/test_shared_memory.py"
    ),
    "_TestSharedMemory.test_shared_memory_SharedMemoryServer_ignores_sigint": (
        "sends a signal to the manager's server process; ours has none"
    ),
    "TestStartMethod.test_preload_resources": (
        "runs a script that lies beside CPython's tests and uses multiprocessing itself"
    ),
    "TestStartMethod.test_mixed_startmethod": (
        "wants what a fork context made to be refused by a spawned process; ours goes anywhere"
    ),
}
"""Tests that do not run, with the reason."""


stale: list[str] = []
"""Names above that the suite does not have, once it was applied."""


def _check_invariant(self: Any, cond: Any) -> None:
    """Look at the condition itself; CPython's test looks at the semaphores inside its own."""
    if self.TYPE == "processes":
        assert cond.n_waiting == 0


def apply(suite: Any) -> None:
    """Take the excluded tests out of the suite, and adapt those that look inside of objects."""
    suite._TestCondition.check_invariant = _check_invariant
    stale.extend(unknown(suite))
    for name in EXCLUDED:
        cls, _, test = name.partition(".")
        found = getattr(suite, cls, None)
        if found is not None and test in vars(found):
            delattr(found, test)


def unknown(suite: Any) -> list[str]:
    """Exclusions and classes that name nothing in the suite of this interpreter."""
    wrong = []
    for name in [*EXCLUDED, *CLASSES]:
        cls, _, test = name.partition(".")
        found = getattr(suite, cls, None)
        if found is None or (test and not hasattr(found, test)):
            wrong.append(name)
    return [name for name in wrong if name not in MISSING.get(sys.version_info[:2], ())]


_SINCE_3_13 = (
    "_TestQueue.test_closed_queue_empty_exceptions",
    "TestManagerExceptions",
    "_TestSharedMemory.test_shared_memory_tracking",
    "_TestSharedMemory.test_shared_memory_name_with_embedded_null",
)
_SINCE_3_14 = (
    "_TestLock.test_repr_lock",
    "_TestLock.test_repr_rlock",
    "_TestLock.test_lock_locked_2processes",
    "_TestLock.test_rlock_locked_2processes",
)
MISSING: dict[tuple[int, int], tuple[str, ...]] = {
    (3, 11): _SINCE_3_13 + _SINCE_3_14,
    (3, 12): _SINCE_3_13 + _SINCE_3_14,
    (3, 13): _SINCE_3_14,
}
"""What early releases of an interpreter do not have yet."""
