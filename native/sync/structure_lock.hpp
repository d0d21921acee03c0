// Waits inside of an operation: for the lock of a structure, which is held for a short time, and
// for what an operation needs while it has that lock.
#pragma once
#include "sync/lock.hpp"

namespace onecopy {

// Releases the interpreter as the caller's policy does, but signal handlers never run: a shared
// lock may be held. It has its own deadline, because an operation that has begun is finished.
class UninterruptibleWait final : public WaitPolicy {
  public:
    explicit UninterruptibleWait(WaitPolicy& outer, std::int64_t deadline_ns = kForever) noexcept
        : WaitPolicy(deadline_ns), outer_(outer) {}
    void about_to_block() noexcept override { outer_.about_to_block(); }

  private:
    WaitPolicy& outer_;
};

// As the caller's policy, with its interruptions, but at most until a deadline.
class BoundedWait final : public WaitPolicy {
  public:
    BoundedWait(WaitPolicy& outer, std::int64_t deadline_ns) noexcept
        : WaitPolicy(deadline_ns), outer_(outer) {}
    void about_to_block() noexcept override { outer_.about_to_block(); }
    bool interrupted() noexcept override { return outer_.interrupted(); }

  private:
    WaitPolicy& outer_;
};

// How long a caller that does not want to wait for a message waits for the lock: long enough to
// find out that its owner is dead.
constexpr std::int64_t kLockGrace = 200'000'000;

[[gnu::noinline]] inline Status enter_slow(LockWord& l, Liveness& me, WaitPolicy& p) noexcept {
    if (p.may_wait() && !p.notes()) return lock_slow(l, me, p);
    UninterruptibleWait uninterruptible(p, os::monotonic_ns() + kLockGrace);
    Status s = lock_slow(l, me, uninterruptible);
    return s == Status::timed_out ? Status::would_block : s;
}
// As `lock`. But a deadline of zero means "do not wait for a change", and not "do not wait 100 ns
// for the lock".
inline Status enter(LockWord& l, Liveness& me, WaitPolicy& p) noexcept {
    return try_lock(l, me) ? Status::ok : enter_slow(l, me, p);
}

}  // namespace onecopy
