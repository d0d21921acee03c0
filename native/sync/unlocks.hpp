// Releases a lock at the end of a scope, also if memory runs out in it.
#pragma once
#include "sync/lock.hpp"

namespace onecopy {

class Unlocks {
  public:
    explicit Unlocks(LockWord& held) noexcept : lock_(held) {}
    ~Unlocks() { unlock(lock_); }
    Unlocks(const Unlocks&) = delete;
    Unlocks& operator=(const Unlocks&) = delete;

  private:
    LockWord& lock_;
};

}  // namespace onecopy
