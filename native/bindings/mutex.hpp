// The class LockBase, for the condition that takes one.
#pragma once
#include "bindings/sync.hpp"
#include "locks/mutex.hpp"

namespace onecopy::py {

struct MutexObject : SyncObject<Mutex> {
    OnDeath on_death;
    // A condition had to take the lock back from a dead owner, and nobody could deal with that: the
    // caller has the lock, and releasing it leaves it to the next one to be told.
    bool unrepaired = false;
};

// The lock behind a Python object whose `acquire` and `release` are LockBase's own (a class derived
// from it may have others), so that the two functions below do what calling them would. nullptr
// without an exception: it is not one of those.
MutexObject* plain_mutex(PyObject* lock) noexcept;
// Waits for ever. True, or an exception; with OwnerDied it is held.
PyObject* acquire_mutex(PyObject* lock) noexcept;
PyObject* release_mutex(MutexObject& lock) noexcept;

}  // namespace onecopy::py
