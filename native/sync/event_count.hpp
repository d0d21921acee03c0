// "Something has changed": a word to sleep on. Nobody owns it, so no death can hold it.
//
//|  word   sequence:31 | sleepers:1
//
// A sleeper sets the bit, looks at the condition once more, and sleeps on the value. A waker has
// committed. After a full fence, if the bit is set, it moves the sequence and wakes. If a process
// dies before it wakes a sleeper, the sleeper loses one nap (at most 100 ms).
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
    // The bit stays: there may be other sleepers.
    if (how_many == 1 && os::futex_wake(event.word.word(), 1) != 0) return;
    // Nobody slept, or all are woken. Clearing the bit moves the sequence too. So a thread that has
    // just set the bit and is about to sleep finds another value. A thread that sleeps already is
    // woken by what follows.
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

// `wait_for` of a caller that does not sleep. [commit/sleepers]: a change after the note moves the
// word, or `ready` has seen it.
template <class Attempt, class Ready, class Idle>
[[gnu::noinline]] Status note_wait(EventCount& event, Liveness& me, WaitPolicy& policy,
                                   Attempt attempt, Ready ready, Idle idle) noexcept {
    constexpr int kMostTries = 8;
    const bool look = had_a_nap(policy, me);
    if (look) idle();
    for (int tries = 0;; ++tries) {
        if (look || tries != 0) {
            if (const Status s = attempt(); s != Status::would_block) return s;
        }
        const u32 seen = event.word.fetch_or(1u) | 1u;
        const bool news = ready();
        if (news && tries < kMostTries) continue;
        policy.note(me, event.word, WordKind::event, seen, news);
        return Status::would_block;
    }
}

// Runs `attempt` until it answers something other than would_block. `ready` looks whether an
// attempt is worthwhile; it is cheap and has no side effects. `idle` runs after each nap, and at
// least after every 100 ms of waiting. It looks for dead processes. `waiting` says what for.
template <class Attempt, class Ready, class Idle>
Status wait_for(EventCount& event, Waiting&& waiting, WaitPolicy& policy, Attempt attempt,
                Ready ready, Idle idle) noexcept {
    // A wake for one waiter may have reached this thread. If it gives up, it passes the wake on.
    auto give_up = [&](Status s) {
        if (s == Status::timed_out || s == Status::interrupted) notify(event);
        return s;
    };
    // About 5 us: for less, releasing the GIL costs more than it gains
    constexpr int kSpinBeforeRelease = 200;
    Status s = attempt();
    if (s != Status::would_block || !policy.may_wait()) return s;
    if (policy.notes()) return note_wait(event, waiting.me(), policy, attempt, ready, idle);
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
            // [commit/sleepers]: either this thread sees the change, or the waker sees the bit.
            if (!ready()) {
                std::int64_t ns = policy.left(nap);
                if (ns == 0) return give_up(Status::timed_out);
                waiting.sleeps();
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
        // Another thread was faster. If that happens repeatedly, or if `ready` disagrees with
        // `attempt` (in a damaged pool), the deadline still holds.
        if (news && policy.left(1) == 0) return give_up(Status::timed_out);
        // By the clock, and not only after an undisturbed nap: signals may cut every nap short, and
        // so may changes that other threads take.
        const std::int64_t now = os::monotonic_ns();
        if (look == 0) look = now + nap;
        if (!undisturbed && now < look) continue;
        idle();
        nap = nap * 2 < kLongestNap ? nap * 2 : kLongestNap;
        look = now + nap;
        s = attempt();  // `idle` may have returned something
        if (s != Status::would_block) return give_up(s);
    }
}

}  // namespace onecopy
