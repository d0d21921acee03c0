// A lock in shared memory that survives its owner.
//
//|  word   waiters:1 | generation:20 | slot+1:11      0: free
//
// The word names the owner by slot and generation. So a waiter can find out that the owner is dead:
// its row has another generation, or the lock byte of its slot is free. Then the waiter takes the
// word over and gets `owner_died`. It repairs the structure before it uses it. Robust pthread
// mutexes are no help: they contain thread ids, and those differ between PID namespaces.
#pragma once
#include "base/status.hpp"
#include "layout/layout.hpp"
#include "sync/wait_policy.hpp"

namespace onecopy {

constexpr u32 kWaiters = 1u << 31;
constexpr u32 kTagSlotBits = 11;
constexpr u32 make_tag(u32 slot, u32 gen) noexcept {
    return (gen & 0xfffff) << kTagSlotBits | (slot + 1);
}
constexpr u32 tag_slot(u32 tag) noexcept {
    return (tag & ((1u << kTagSlotBits) - 1)) - 1;
}
constexpr u32 tag_gen(u32 tag) noexcept {
    return (tag & ~kWaiters) >> kTagSlotBits;
}

// The tag of a slot that cannot exist, so its generation has always passed. It is the word of
// a lock without an owner whose last owner left it damaged.
constexpr u32 kAbandoned = (1u << kTagSlotBits) - 1;

// Where the record of a wait is.
struct WaitNote {
    u64 who = 0;  // what is in the record; 0: there is none
    u32 tag = 0;  // of the member that wrote it
    u32 place = 0;
};

// What a lock needs to know of the member that takes it.
class Liveness {
  public:
    virtual ~Liveness() = default;
    virtual u32 tag() const noexcept = 0;
    // Whether the owner's generation has passed. Cheap.
    virtual bool passed(u32 tag) const noexcept = 0;
    // Whether the owner is dead. May ask the kernel, and clean up the owner's slot. True only after
    // its intent is resolved.
    virtual bool gone(u32 tag) noexcept = 0;
    // `gone` cannot prove a death any more, so waiting for a dead owner would never end.
    virtual bool cannot_tell() const noexcept = 0;
    // Cleans up after the dead members of the pool.
    virtual void look_for_the_dead() noexcept = 0;
    // Another number after a member has left or died, and after this process has lost the pool or
    // found it damaged: waits in the pool try again. Cheap.
    virtual u64 epoch() const noexcept = 0;
    // Writes down what this thread waits for, and removes that again. For people who look at the
    // pool; the place of the record is in `WaitNote`.
    virtual WaitNote note_wait(WaitPurpose why, const void* subject) noexcept = 0;
    virtual void forget_wait(const WaitNote& note) noexcept = 0;
};

// What a thread waits for, for the time of one wait. Nothing is written before `sleeps` is called,
// so a wait that needs no sleep costs nothing.
class Waiting {
  public:
    Waiting(Liveness& me, WaitPurpose why, const void* subject) noexcept
        : me_(me), subject_(subject), why_(why) {}
    ~Waiting() {
        if (note_.who != 0) me_.forget_wait(note_);
    }
    Waiting(const Waiting&) = delete;
    Waiting& operator=(const Waiting&) = delete;
    // Before a sleep: the first one writes the record.
    void sleeps() noexcept {
        if (asked_) return;
        asked_ = true;
        note_ = me_.note_wait(why_, subject_);
    }
    Liveness& me() const noexcept { return me_; }

  private:
    Liveness& me_;
    const void* subject_;
    WaitNote note_;
    WaitPurpose why_;
    bool asked_ = false;
};

// Of a wait that notes, before its next attempt. Whether it had a nap without news.
inline bool had_a_nap(WaitPolicy& policy, Liveness& me) noexcept {
    if (policy.has_turn()) me.look_for_the_dead();
    return policy.had_a_nap();
}

inline bool try_lock(LockWord& lock, const Liveness& me) noexcept {
    u32 free = 0;
    return lock.word.cas(free, me.tag());
}
Status lock_slow(LockWord& lock, Liveness& me, WaitPolicy& policy) noexcept;

// ok, owner_died, timed_out, interrupted, lost. `would_block` instead of timed_out when the
// deadline is zero.
inline Status lock(LockWord& l, Liveness& me, WaitPolicy& policy) noexcept {
    return try_lock(l, me) ? Status::ok : lock_slow(l, me, policy);
}
// Does not wait. Takes a free lock, or the lock of a dead owner; finding that out may cost a system
// call. ok, owner_died, would_block.
Status lock_at_once(LockWord& lock, Liveness& me) noexcept;
// Waits until the lock is free, and does not take it. It is for a caller that may be held up, by
// Python, between the wake and its next step. ok. owner_died: the owner `tag` is dead, and stays in
// the word until a process takes the lock or calls `forget`. would_block or timed_out, interrupted.
Status await_free(LockWord& lock, Liveness& me, WaitPolicy& policy, u32& tag) noexcept;
// Frees the lock if the dead owner that `await_free` found is still in it.
void forget(LockWord& lock, u32 tag) noexcept;
inline void unlock(LockWord& l) noexcept {
    if (l.word.exchange(0) & kWaiters) os::futex_wake(l.word.word(), 1);
}
// For an owner that cannot repair the damage that it found: the next owner gets `owner_died` again.
inline void unlock_damaged(LockWord& l) noexcept {
    if (l.word.exchange(kAbandoned | kWaiters) & kWaiters) os::futex_wake(l.word.word(), 1);
}

// How many looks to take before sleeping. Per thread.
//
//|  look paid (news came within the budget)     the budget doubles, up to its largest value
//|  all looks wasted                            it halves, down to its smallest value
//|  wasted, but the sleep was short             looking longer would have paid: try the largest
//|                                              budget, at once the first time. Each try that does
//|                                              not pay doubles the number of short sleeps until
//|                                              the next one.
//
// The last line is for two processes that answer each other: the first wait of each was long, and
// both would sleep for ever, although each answer takes less time than a wake-up. Where there are
// more threads than cores, sleeps are short too, but looking does not pay: the other side needs the
// core. There, tries become rare.
class Spin {
  public:
    static int budget() noexcept;
    static void paid() noexcept;
    static void wasted() noexcept;
    // After `wasted`: how long the thread slept then until it was woken.
    static void slept(std::int64_t ns) noexcept;
};

// ns between two looks at the owner. In a fault build a campaign can make them so long that a lost
// wake is noticed.
#if defined(ONECOPY_FAULTS) && ONECOPY_FAULTS
inline std::int64_t kFirstNap = 20'000'000, kLongestNap = 100'000'000;
#else
constexpr std::int64_t kFirstNap = 20'000'000, kLongestNap = 100'000'000;
#endif

}  // namespace onecopy
