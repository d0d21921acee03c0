#include "sync/lock.hpp"

#include <algorithm>

#include "base/bits.hpp"

namespace onecopy {
namespace {
constexpr int kMaxSpin = 1500;  // about 40 us
constexpr int kMinSpin = 4;
const bool many_cpus = os::usable_cpus() > 1;
// If a sleep is shorter than this, the thread would have lost less time by spinning. A wake-up
// takes 15 to 40 us. The limit is longer, because the waker may have had to be woken first.
constexpr std::int64_t kShortSleep = 100'000;
constexpr int kMaxTryEvery = 1024;  // short sleeps between two tries
thread_local int spin_budget = kMaxSpin;
thread_local int try_every = 1;  // short sleeps from the last try to the next one
thread_local int until_try = 1;  // what is left of them
thread_local bool trying = false;
}  // namespace

int Spin::budget() noexcept {
    return many_cpus ? spin_budget : 0;
}
void Spin::paid() noexcept {
    spin_budget = std::min(kMaxSpin, spin_budget * 2);
    if (trying) {
        trying = false;
        try_every = until_try = 1;
    }
}
void Spin::wasted() noexcept {
    if (trying) {
        trying = false;
        spin_budget = kMinSpin;
        try_every = std::min(kMaxTryEvery, try_every * 2);
        until_try = try_every;
    } else {
        spin_budget = std::max(kMinSpin, spin_budget / 2);
    }
}
void Spin::slept(std::int64_t ns) noexcept {
    if (!many_cpus || ns > kShortSleep || --until_try > 0) return;
    until_try = try_every;
    trying = true;
    spin_budget = kMaxSpin;
}

Status lock_slow(LockWord& lock, Liveness& me, WaitPolicy& policy) noexcept {
    // Critical sections are shorter than 2 us. If the owner has lost its core, this thread sleeps.
    constexpr int kLockSpin = 60;
    if (many_cpus) {
        for (int i = 0; i < kLockSpin; ++i) {
            cpu_relax();
            if (lock.word.load_relaxed() == 0 && try_lock(lock, me)) return Status::ok;
        }
    }
    Waiting waiting(me, WaitPurpose::lock, &lock);
    std::int64_t nap = kFirstNap, look = os::monotonic_ns() + nap;
    for (;;) {
        u32 seen = lock.word.load();
        if (seen == 0) {
            // There may be other sleepers, so the bit stays. At worst, one wake is for nobody.
            if (lock.word.cas(seen, me.tag() | kWaiters)) return Status::ok;
            continue;
        }
        if (me.passed(seen & ~kWaiters)) {
            if (lock.word.cas(seen, me.tag() | kWaiters)) return Status::owner_died;
            continue;
        }
        if (!policy.may_wait()) return Status::would_block;
        if (!(seen & kWaiters)) {
            if (!lock.word.cas(seen, seen | kWaiters)) continue;
            seen |= kWaiters;
        }
        if (policy.notes()) {
            if (had_a_nap(policy, me)) {
                if (me.gone(seen & ~kWaiters)) continue;  // the next look finds that it has passed
                if (me.cannot_tell()) return Status::lost;
            }
            policy.note(me, lock.word, WordKind::lock, seen, false);
            return Status::would_block;
        }
        std::int64_t ns = policy.left(nap);
        if (ns == 0) return Status::timed_out;
        policy.about_to_block();
        waiting.sleeps();
        const os::Wake how = os::futex_wait(lock.word.word(), seen, ns);
        if (os::maybe_signal(how) && policy.interrupted()) return Status::interrupted;
        // By the clock, and not only after an undisturbed nap: signals (a profiler's timer) may cut
        // every nap short.
        const std::int64_t now = os::monotonic_ns();
        if (how != os::Wake::timed_out && now < look) continue;
        if (lock.word.load() == seen && me.gone(seen & ~kWaiters) &&
            lock.word.cas(seen, me.tag() | kWaiters))
            return Status::owner_died;
        if (me.cannot_tell()) return Status::lost;
        nap = std::min(nap * 2, kLongestNap);
        look = now + nap;
    }
}

Status await_free(LockWord& lock, Liveness& me, WaitPolicy& policy, u32& tag) noexcept {
    std::int64_t nap = kFirstNap, look = os::monotonic_ns() + nap;
    bool slept = false;
    Waiting waiting(me, WaitPurpose::lock, &lock);
    for (;;) {
        u32 seen = lock.word.load();
        if (seen == 0) {
            // This thread was woken and takes nothing. Perhaps its wake was the only one, so it
            // wakes the next sleeper.
            if (slept) os::futex_wake(lock.word.word(), 1);
            return Status::ok;
        }
        tag = seen & ~kWaiters;
        if (me.passed(tag)) return Status::owner_died;
        if (!policy.may_wait()) return Status::would_block;
        if (!(seen & kWaiters)) {
            if (!lock.word.cas(seen, seen | kWaiters)) continue;
            seen |= kWaiters;
        }
        if (policy.notes()) {
            if (had_a_nap(policy, me) && me.gone(tag)) return Status::owner_died;
            if (me.cannot_tell()) return Status::lost;
            policy.note(me, lock.word, WordKind::lock, seen, false);
            return Status::would_block;
        }
        const std::int64_t ns = policy.left(nap);
        if (ns == 0) return Status::timed_out;
        policy.about_to_block();
        waiting.sleeps();
        const os::Wake how = os::futex_wait(lock.word.word(), seen, ns);
        slept = true;
        if (os::maybe_signal(how) && policy.interrupted()) return Status::interrupted;
        const std::int64_t now = os::monotonic_ns();
        if (how != os::Wake::timed_out && now < look) continue;
        if (lock.word.load() == seen && me.gone(tag)) return Status::owner_died;
        if (me.cannot_tell()) return Status::lost;
        nap = std::min(nap * 2, kLongestNap);
        look = now + nap;
    }
}

void forget(LockWord& lock, u32 tag) noexcept {
    u32 seen = lock.word.load();
    while ((seen & ~kWaiters) == tag) {
        if (!lock.word.cas(seen, 0)) continue;  // COMMIT
        if (seen & kWaiters) os::futex_wake(lock.word.word(), 1);
        return;
    }
}

Status lock_at_once(LockWord& lock, Liveness& me) noexcept {
    u32 seen = 0;
    if (lock.word.cas(seen, me.tag())) return Status::ok;
    const u32 owner = seen & ~kWaiters;
    if (!me.passed(owner) && !me.gone(owner)) return Status::would_block;
    return lock.word.cas(seen, me.tag() | kWaiters) ? Status::owner_died : Status::would_block;
}

}  // namespace onecopy
