// How long a caller waits, and what it does around a wait. The core knows no Python. The binding
// derives from this class: it releases the GIL before the first sleep, and runs signal handlers
// when a wait is interrupted.
#pragma once
#include <cstdint>

#include "base/shm_atomic.hpp"
#include "os/os.hpp"

namespace onecopy {

// What a word is to the threads that sleep on it: an event count, the word of a lock, or the word
// of one waiter's place, on which nobody else sleeps.
enum class WordKind : std::uint8_t { event, lock, place };

class Liveness;

class WaitPolicy {
  public:
    static constexpr std::int64_t kForever = -1;
    // Does not sleep: what the thread would sleep on is passed to `note`, and the wait answers
    // would_block. Docs: design/0021-asyncio.md.
    static constexpr std::int64_t kNote = -2;
    explicit WaitPolicy(std::int64_t deadline_ns = kForever) noexcept : deadline_(deadline_ns) {}
    virtual ~WaitPolicy() = default;
    WaitPolicy(const WaitPolicy&) = delete;
    WaitPolicy& operator=(const WaitPolicy&) = delete;

    // Called before the thread may sleep, possibly several times.
    virtual void about_to_block() noexcept {}
    // Called after a nap that a signal may have cut short or prevented. Never called while a shared
    // lock is held. True ends the wait.
    virtual bool interrupted() noexcept { return false; }

    // Only of policies with the deadline kNote. The caller has set the bit of sleepers, and has
    // seen after it that there is nothing to do as long as the word has this value. `soon`: there
    // may be something, and others were faster. `me`: the member whose pool the word is in.
    virtual void note(Liveness& me, shm_atomic<std::uint32_t>& word, WordKind, std::uint32_t seen,
                      bool soon) noexcept {
        static_cast<void>(me);
        static_cast<void>(word);
        static_cast<void>(seen);
        static_cast<void>(soon);
    }
    // Whether the last note had a nap without news: time to look at the dead processes that matter
    // for this wait.
    virtual bool had_a_nap() noexcept { return false; }
    // Whether it is this wait's turn to look for dead processes of the pool.
    virtual bool has_turn() noexcept { return false; }
    // What the first attempt of this wait saw. For waits of which each attempt is one call.
    virtual std::uint32_t first_seen(std::uint32_t now) noexcept { return now; }

    bool may_wait() const noexcept { return deadline_ != 0; }
    bool notes() const noexcept { return deadline_ == kNote; }
    // Nanoseconds left, at most `cap`; 0 when the deadline has passed.
    std::int64_t left(std::int64_t cap) const noexcept {
        if (deadline_ < 0) return cap;
        std::int64_t rest = deadline_ == 0 ? 0 : deadline_ - os::monotonic_ns();
        return rest <= 0 ? 0 : (rest < cap ? rest : cap);
    }

  private:
    std::int64_t deadline_;  // monotonic ns; 0: do not wait; kForever; kNote
};

// For waits of the core itself, as for the lock of a structure in a destructor or while it looks
// for dead processes. It has no deadline, and nothing interrupts it. It releases the interpreter
// too.
class UnboundedWait final : public WaitPolicy {
  public:
    ~UnboundedWait() override {
        if (outside_ != nullptr) step_in(outside_);
    }
    void about_to_block() noexcept override {
        if (outside_ == nullptr && step_out != nullptr && !stays_inside) outside_ = step_out();
    }
    // The binding installs itself here. `step_out` releases the interpreter. It answers nullptr if
    // this thread does not have it, or must keep it.
    static inline void* (*step_out)() noexcept = nullptr;
    static inline void (*step_in)(void* outside) noexcept = nullptr;
    // This thread must keep the interpreter: it is about to fork, and has mutexes that other
    // threads take while they have the interpreter.
    static inline thread_local bool stays_inside = false;

  private:
    void* outside_ = nullptr;
};

}  // namespace onecopy
