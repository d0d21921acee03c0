// "Something changed": a word to sleep on that nobody owns, so no death can hold it.
//
//   word   sequence:31 | sleepers:1
//
// Sleeper: set the bit, look at the condition once more, sleep on the value. Waker: after its
// commit and a full fence, if the bit is set, move the sequence and wake. A wake that is lost with
// its process costs one nap (at most 100 ms).
#pragma once
#include <climits>

#include "base/bits.hpp"
#include "base/status.hpp"
#include "layout/layout.hpp"
#include "sync/lock.hpp"
#include "sync/wait_policy.hpp"

namespace onecopy {

inline void notify_slow(EventCount& event, int how_many) noexcept {
    u32 value = event.word.fetch_add(2) + 2;
    // The bit stays: others may sleep.
    if (how_many == 1 && os::futex_wake(event.word.word(), 1) != 0) return;
    // Nobody slept, or all are to wake. Clearing moves the sequence too, so that who has just set
    // the bit and is about to sleep finds another value, and who already sleeps is woken after it.
    event.word.cas(value, (value + 2) & ~1u);
    os::futex_wake(event.word.word(), INT_MAX);
}
// Call after the commit. [commit/sleepers]
inline void notify(EventCount& event, int how_many = 1) noexcept {
    fence();
    if (event.word.load_relaxed() & 1u) notify_slow(event, how_many);
}
inline void notify_all(EventCount& event) noexcept {
    notify(event, INT_MAX);
}

// Runs `attempt` until it answers something other than would_block. `ready` is a cheap look without
// side effects that tells whether an attempt is worth while; `idle` runs after each nap, and at
// least every 100 ms of waiting (a chance to look for the dead).
template <class Attempt, class Ready, class Idle>
Status wait_for(EventCount& event, WaitPolicy& policy, Attempt attempt, Ready ready,
                Idle idle) noexcept {
    // A wake meant for one may have reached us: who gives up passes it on.
    auto give_up = [&](Status s) {
        if (s == Status::timed_out || s == Status::interrupted) notify(event);
        return s;
    };
    constexpr int kSpinBeforeRelease = 200;  // about 5 us: not worth giving the GIL away
    Status s = attempt();
    if (s != Status::would_block || !policy.may_wait()) return s;
    std::int64_t nap = kFirstNap, look = 0;
    for (;;) {
        const int budget = Spin::budget();
        bool news = false, undisturbed = false;
        for (int i = 0; i < budget && !news; ++i) {
            if (i == kSpinBeforeRelease) policy.about_to_block();
            cpu_relax();
            news = ready();
        }
        if (news) {
            Spin::paid();
        } else {
            Spin::wasted();
            policy.about_to_block();
            u32 seen = event.word.fetch_or(1u) | 1u;
            // [commit/sleepers]: either we see the change or the waker sees our bit.
            if (!ready()) {
                std::int64_t ns = policy.left(nap);
                if (ns == 0) return give_up(Status::timed_out);
                const std::int64_t asleep = os::monotonic_ns();
                const os::Wake how = os::futex_wait(event.word.word(), seen, ns);
                if (how == os::Wake::woken) Spin::slept(os::monotonic_ns() - asleep);
                if (os::maybe_signal(how) && policy.interrupted())
                    return give_up(Status::interrupted);
                undisturbed = how == os::Wake::timed_out;
            } else {
                news = true;
            }
        }
        s = attempt();
        if (s != Status::would_block) return give_up(s);
        // Somebody was faster. If that goes on (or what `ready` sees is not what `attempt` sees, in
        // a pool that lies), the deadline still holds.
        if (news && policy.left(1) == 0) return give_up(Status::timed_out);
        // By the clock, not only after an undisturbed nap: signals, and news that others take, may
        // cut every nap short.
        const std::int64_t now = os::monotonic_ns();
        if (look == 0) look = now + nap;
        if (!undisturbed && now < look) continue;
        idle();
        nap = nap * 2 < kLongestNap ? nap * 2 : kLongestNap;
        look = now + nap;
        s = attempt();  // what `idle` found may be what was missing
        if (s != Status::would_block) return give_up(s);
    }
}

}  // namespace onecopy
