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
    // Called once the lock was taken; if it raises, the lock is given back. It may refer back to
    // the lock: the garbage collector knows.
    nb::object then;
};

// The lock behind a Python object whose `acquire` and `release` are LockBase's own (a class derived
// from it may have others), so that the two functions below do what calling them would. nullptr
// without an exception: it is not one of those.
MutexObject* plain_mutex(PyObject* lock) noexcept;
// Waits for ever. True, or an exception; with OwnerDied it is held.
PyObject* acquire_mutex(PyObject* lock) noexcept;
PyObject* release_mutex(MutexObject& lock) noexcept;

// This thread does not have what it should: RuntimeError, or the class that the object's own class
// names as `_not_held`. Looked up here, where somebody is wrong already, it costs no one else.
[[gnu::format(printf, 2, 3)]] PyObject* raise_not_held(nb::handle self, const char* format,
                                                       ...) noexcept;

}  // namespace onecopy::py
