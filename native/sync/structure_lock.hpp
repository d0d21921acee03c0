// Waits inside an operation: for the short critical section of a structure, and for what is needed
// while its lock is held.
#pragma once
#include "sync/lock.hpp"

namespace onecopy {

// Gives the interpreter away as the caller's policy does, but is never interrupted (a shared lock
// may be held: signal handlers must not run then) and has its own deadline: an operation that has
// begun is finished.
class UninterruptibleWait final : public WaitPolicy {
  public:
    explicit UninterruptibleWait(WaitPolicy& outer, std::int64_t deadline_ns = kForever) noexcept
        : WaitPolicy(deadline_ns), outer_(outer) {}
    void about_to_block() noexcept override { outer_.about_to_block(); }

  private:
    WaitPolicy& outer_;
};

// As the caller's policy, interruptions too, but at most until a deadline.
class BoundedWait final : public WaitPolicy {
  public:
    BoundedWait(WaitPolicy& outer, std::int64_t deadline_ns) noexcept
        : WaitPolicy(deadline_ns), outer_(outer) {}
    void about_to_block() noexcept override { outer_.about_to_block(); }
    bool interrupted() noexcept override { return outer_.interrupted(); }

  private:
    WaitPolicy& outer_;
};

// How long somebody who does not want to wait for a message gives the owner of the lock: enough to
// find out that it is dead.
constexpr std::int64_t kLockGrace = 200'000'000;

[[gnu::noinline]] inline Status enter_slow(LockWord& l, Liveness& me, WaitPolicy& p) noexcept {
    if (p.may_wait()) return lock_slow(l, me, p);
    UninterruptibleWait uninterruptible(p, os::monotonic_ns() + kLockGrace);
    Status s = lock_slow(l, me, uninterruptible);
    return s == Status::timed_out ? Status::would_block : s;
}
// As `lock`, but a zero deadline means "do not wait for a change", not "do not wait 100 ns for the
// lock".
inline Status enter(LockWord& l, Liveness& me, WaitPolicy& p) noexcept {
    return try_lock(l, me) ? Status::ok : enter_slow(l, me, p);
}

}  // namespace onecopy
