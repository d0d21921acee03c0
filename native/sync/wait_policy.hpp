// How long a caller is ready to wait, and what it must do around a wait. The core knows no Python:
// the binding derives from this to release the GIL before the first block and to run signal
// handlers when a wait is interrupted.
#pragma once
#include <cstdint>

#include "os/os.hpp"

namespace onecopy {

class WaitPolicy {
  public:
    static constexpr std::int64_t kForever = -1;
    explicit WaitPolicy(std::int64_t deadline_ns = kForever) noexcept : deadline_(deadline_ns) {}
    virtual ~WaitPolicy() = default;
    WaitPolicy(const WaitPolicy&) = delete;
    WaitPolicy& operator=(const WaitPolicy&) = delete;

    // Called before the thread may sleep, possibly several times.
    virtual void about_to_block() noexcept {}
    // Called after a nap that a signal may have cut short, or failed to; never while a shared lock
    // is held. True gives up the wait.
    virtual bool interrupted() noexcept { return false; }

    bool may_wait() const noexcept { return deadline_ != 0; }
    // Nanoseconds left, at most `cap`; 0 when the deadline has passed.
    std::int64_t left(std::int64_t cap) const noexcept {
        if (deadline_ == kForever) return cap;
        std::int64_t rest = deadline_ == 0 ? 0 : deadline_ - os::monotonic_ns();
        return rest <= 0 ? 0 : (rest < cap ? rest : cap);
    }

  private:
    std::int64_t deadline_;  // monotonic ns; 0: do not wait; kForever
};

// Waits of the core itself (a structure's lock while something is released): no deadline, not
// interruptible. It gives the interpreter away too, whoever the caller is: a destructor, a look for
// the dead.
class UnboundedWait final : public WaitPolicy {
  public:
    ~UnboundedWait() override {
        if (outside_ != nullptr) step_in(outside_);
    }
    void about_to_block() noexcept override {
        if (outside_ == nullptr && step_out != nullptr && !stays_inside) outside_ = step_out();
    }
    // The binding installs itself here. `step_out` answers nullptr if this thread does not have the
    // interpreter, or cannot do without.
    static inline void* (*step_out)() noexcept = nullptr;
    static inline void (*step_in)(void* outside) noexcept = nullptr;
    // This thread must not lose the interpreter now: it is about to fork, and has mutexes that
    // others take while they have the interpreter.
    static inline thread_local bool stays_inside = false;

  private:
    void* outside_ = nullptr;
};

}  // namespace onecopy
