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

}  // namespace onecopy::py
