// The class LockBase, for the condition that takes one.
#pragma once
#include "bindings/sync.hpp"
#include "locks/mutex.hpp"

namespace onecopy::py {

struct MutexObject : SyncObject<Mutex> {
    OnDeath on_death;
};

}  // namespace onecopy::py
