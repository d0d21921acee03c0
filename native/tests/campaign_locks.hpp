// The locks of a campaign's world, and what must be possible with each of them at any time.
#pragma once
#include "directory/directory.hpp"
#include "locks/barrier.hpp"
#include "locks/condition.hpp"
#include "locks/event.hpp"
#include "locks/mutex.hpp"
#include "locks/rwlock.hpp"
#include "locks/semaphore.hpp"
#include "tests/check.hpp"

namespace onecopy::campaign {

constexpr u32 kTokens = 2;
constexpr u32 kParties = 2;
// The names that they have in the directory, in this order.
inline constexpr const char* kLockNames[] = {"mutex",     "rmutex",    "rw writer",
                                             "rw reader", "rw fair",   "semaphore",
                                             "event",     "condition", "barrier"};
constexpr u32 kLockCount = sizeof kLockNames / sizeof kLockNames[0];

inline void make_locks(Member& m, void (*name)(Member&, const char*, Handle)) {
    UnboundedWait wait;
    Handle h = 0, recursive = 0;
    CHECK(Mutex::create(m, false, wait, h) == Status::ok);
    name(m, "mutex", h);
    CHECK(Mutex::create(m, true, wait, recursive) == Status::ok);
    hold_again(m, handle_index(recursive));
    name(m, "rmutex", recursive);
    for (u32 prefer = 0; prefer < 3; ++prefer) {
        CHECK(RwLock::create(m, static_cast<Prefer>(prefer), wait, h) == Status::ok);
        name(m, kLockNames[2 + prefer], h);
    }
    CHECK(Semaphore::create(m, kTokens, 0, wait, h) == Status::ok);
    name(m, "semaphore", h);
    CHECK(Event::create(m, wait, h) == Status::ok);
    name(m, "event", h);
    CHECK(Condition::create(m, recursive, wait, h) == Status::ok);
    name(m, "condition", h);
    CHECK(Barrier::create(m, kParties, wait, h) == Status::ok);
    name(m, "barrier", h);
    drop(m, handle_index(recursive), wait);
}

struct Locks {
    Mutex mutex, rmutex;
    RwLock rw[3];
    Semaphore semaphore;
    Event event;
    Condition condition;
    Barrier barrier;
    template <class Open>
    void open(Open open_it) {
        open_it("mutex", mutex);
        open_it("rmutex", rmutex);
        for (int i = 0; i < 3; ++i)
            open_it(kLockNames[2 + i], rw[i]);
        open_it("semaphore", semaphore);
        open_it("event", event);
        open_it("condition", condition);
        open_it("barrier", barrier);
    }
};

inline void arrive_and_trip(Barrier& barrier, WaitPolicy& p) {
    Barrier::Arrival first, second;
    CHECK(barrier.arrive(p, first) == Status::ok && first.index == 0 && !first.trips);
    CHECK(barrier.arrive(p, second) == Status::ok && second.index == 1 && second.trips);
    CHECK(barrier.trip(p, second) == Status::ok && barrier.wait(p, first) == Status::ok);
}

// A survivor can use everything, whatever process died with whatever.
inline void use_locks(Locks& l, WaitPolicy& p) {
    WaitPolicy now(0);
    for (Mutex* mutex : {&l.mutex, &l.rmutex}) {
        CHECK(good(mutex->acquire(p)) && mutex->mine() && mutex->release() == Status::ok &&
              !mutex->locked());
        CHECK(mutex->acquire(now) == Status::ok &&
              mutex->release() == Status::ok);  // a death is reported once
    }
    for (RwLock& rw : l.rw) {
        const Status s = rw.read(p);
        CHECK(good(s));
        if (s == Status::owner_died) rw.downgrade();
        CHECK(rw.readers() == 1 && rw.write(now) == Status::deadlock &&
              rw.read_release() == Status::ok && rw.readers() == 0);
        CHECK(rw.write(now) == Status::ok && rw.write_release() == Status::ok);
        CHECK(rw.read(now) == Status::ok && rw.read_release() == Status::ok);
    }
    u64 value = 0;
    CHECK(l.semaphore.value(value, p) == Status::ok && value == kTokens);
    for (u32 i = 0; i < kTokens; ++i)
        CHECK(l.semaphore.acquire(now) == Status::ok);
    CHECK(l.semaphore.acquire(now) == Status::would_block);
    CHECK(l.semaphore.release(kTokens, p) == Status::ok);
    CHECK(l.event.set() == Status::ok && l.event.wait(now) == Status::ok &&
          l.event.clear() == Status::ok);
    CHECK(l.event.wait(now) == Status::would_block);
    CHECK(l.rmutex.acquire(p) == Status::ok && l.condition.notify(l.rmutex, 1) == Status::ok);
    Status again;
    CHECK(l.condition.wait(l.rmutex, now, again) == Status::timed_out && again == Status::ok);
    CHECK(l.condition.waiting() == 0 && l.rmutex.release() == Status::ok);
    Barrier::Arrival arrival;
    if (l.barrier.is_broken() || l.barrier.waiting() != 0 ||
        l.barrier.arrive(now, arrival) != Status::ok) {
        CHECK(l.barrier.reset(p) == Status::ok);
        arrive_and_trip(l.barrier, p);
    } else {
        CHECK(l.barrier.abort(p) == Status::ok && l.barrier.is_broken() &&
              l.barrier.wait(p, arrival) == Status::broken);
        CHECK(l.barrier.reset(p) == Status::ok);
    }
    CHECK(!l.barrier.is_broken() && l.barrier.waiting() == 0);
}

}  // namespace onecopy::campaign
