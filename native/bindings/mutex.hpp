// The class LockBase, for the condition that takes one.
#pragma once
#include "bindings/sync.hpp"
#include "locks/mutex.hpp"

namespace onecopy::py {

struct MutexObject : SyncObject<Mutex> {
    OnDeath on_death;
    // A condition had to take the lock back from a dead owner, and nobody dealt with that. The
    // caller has the lock. When it releases the lock, the next owner gets `owner_died`.
    Shared<bool> unrepaired = false;
    // How many of the next releases do nothing. A task that is destroyed while it waits at a
    // condition cannot take the lock again, but its `with` block still releases the lock. So each
    // such task adds one (docs/design/0021-asyncio.md).
    Shared<unsigned> owed = 0;
    // Called after the lock was taken. If it raises, the lock is given back. It may refer back to
    // the lock: the garbage collector knows.
    Slot then;
};

// The lock behind a Python object whose `acquire` and `release` are LockBase's own. (A derived
// class may have others.) So the two functions below do what calling the methods would. nullptr
// without an exception: it is no such object.
MutexObject* plain_mutex(PyObject* lock) noexcept;
// Waits without a limit. True, or an exception; with OwnerDied it is held.
PyObject* acquire_mutex(PyObject* lock) noexcept;
PyObject* release_mutex(MutexObject& lock) noexcept;

// This thread does not have what it should have: RuntimeError, or the class that the object's own
// class names as `_not_held`. It is looked up here, on the way to an error, so it costs nothing
// else.
[[gnu::format(printf, 2, 3)]] PyObject* raise_not_held(nb::handle self, const char* format,
                                                       ...) noexcept;

}  // namespace onecopy::py
