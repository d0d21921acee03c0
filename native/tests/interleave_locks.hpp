// Operations that meet: locks, and the end of what a process waits for.
#pragma once
#include "tests/crash_locks.hpp"
#include "tests/interleave_blocks.hpp"

#if defined(ONECOPY_FAULTS) && ONECOPY_FAULTS

namespace onecopy::interleave {

using namespace onecopy::campaign;

// ---- locks: two processes that must not be inside together

inline void write_inside() {
    Stage& s = stage();
    CHECK(s.writers.fetch_add(1) == 0 && s.readers.load() == 0);
    crash_point();  // a pause in there
    CHECK(s.writers.load() == 1 && s.readers.load() == 0);
    s.writers.fetch_sub(1);
}
inline void read_inside() {
    Stage& s = stage();
    s.readers.fetch_add(1);
    CHECK(s.writers.load() == 0);
    crash_point();
    CHECK(s.writers.load() == 0);
    s.readers.fetch_sub(1);
}
template <int which>
void reads_locked(Hand& h) {
    CHECK(h.locks.rw[which].read(h.wait) == Status::ok);
    read_inside();
    CHECK(h.locks.rw[which].read_release() == Status::ok);
}
template <int which>
void writes_locked(Hand& h) {
    CHECK(h.locks.rw[which].write(h.wait) == Status::ok);
    write_inside();
    CHECK(h.locks.rw[which].write_release() == Status::ok);
}
template <int which>
void writes_and_downgrades(Hand& h) {  // from its first look on it is inside
    CHECK(h.locks.rw[which].write(h.wait) == Status::ok);
    stage().readers.fetch_add(1);
    h.locks.rw[which].downgrade();
    CHECK(stage().writers.load() == 0);
    stage().readers.fetch_sub(1);
    CHECK(h.locks.rw[which].read_release() == Status::ok);
}
template <int which>
void abandons(Hand& h) {
    CHECK(h.locks.rw[which].abandon() == Status::ok);
}
template <int which>
void reads_after_abandon(Hand& h) {
    CHECK(h.locks.rw[which].read(h.wait) == Status::owner_died);
    h.locks.rw[which].downgrade();
    CHECK(h.locks.rw[which].read_release() == Status::ok);
}
inline void locks(Hand& h) {
    CHECK(h.locks.mutex.acquire(h.wait) == Status::ok);
    write_inside();
    CHECK(h.locks.mutex.release() == Status::ok);
}
inline void locks_twice(Hand& h) {
    for (int i = 0; i < 2; ++i)
        CHECK(h.locks.rmutex.acquire(h.wait) == Status::ok);
    write_inside();
    for (int i = 0; i < 2; ++i)
        CHECK(h.locks.rmutex.release() == Status::ok);
}
inline void takes_a_token(Hand& h) {
    CHECK(h.locks.semaphore.acquire(h.wait) == Status::ok);
    crash_point();
    CHECK(h.locks.semaphore.release(1, h.wait) == Status::ok);
}
inline void takes_a_token_if_there(Hand& h) {  // one is always there
    WaitPolicy now(0);
    CHECK(h.locks.semaphore.acquire(now) == Status::ok);
    CHECK(h.locks.semaphore.release(1, h.wait) == Status::ok);
}
inline void waits_to_be_notified(Hand& h) {
    CHECK(h.locks.rmutex.acquire(h.wait) == Status::ok);
    Status again;
    CHECK(h.locks.condition.wait(h.locks.rmutex, h.wait, again) == Status::ok &&
          again == Status::ok);
    CHECK(h.locks.rmutex.release() == Status::ok);
}
// Until both wait for the condition.
inline void await_two(Hand& h) {
    while (h.locks.condition.waiting() < 2) {
        const timespec nap{0, 50'000};
        nanosleep(&nap, nullptr);
    }
}
inline void notifies(Hand& h) {
    for (bool done = false; !done;) {
        CHECK(h.locks.rmutex.acquire(h.wait) == Status::ok);
        done = h.locks.condition.waiting() != 0;
        CHECK(h.locks.condition.notify(h.locks.rmutex, 1) == Status::ok);
        CHECK(h.locks.rmutex.release() == Status::ok);
        const timespec nap{0, 50'000};
        if (!done) nanosleep(&nap, nullptr);
    }
}
// The dead process has waited longer, and nobody knows yet that it is dead. One notification is for
// the living waiter.
inline void notifies_beside_a_dead_one(Hand& h) {
    await_two(h);
    CHECK(h.locks.rmutex.acquire(h.wait) == Status::ok);
    CHECK(h.locks.condition.notify(h.locks.rmutex, 1) == Status::ok);
    CHECK(h.locks.rmutex.release() == Status::ok);
}
inline void waits_for_event(Hand& h) {
    CHECK(h.locks.event.wait(h.wait) == Status::ok);
}
inline void sets_and_clears_event(Hand& h) {  // until the other one has begun
    while (stage().a_done.load() == 0) {
        CHECK(h.locks.event.set() == Status::ok && h.locks.event.clear() == Status::ok);
        const timespec nap{0, 50'000};
        nanosleep(&nap, nullptr);
    }
}
inline void sets_event(Hand& h) {
    CHECK(h.locks.event.set() == Status::ok);
}
inline void passes_barrier(Hand& h) {
    Barrier::Arrival mine;
    CHECK(h.locks.barrier.arrive(h.wait, mine) == Status::ok);
    CHECK((mine.trips ? h.locks.barrier.trip(h.wait, mine) : h.locks.barrier.wait(h.wait, mine)) ==
          Status::ok);
}

// ---- the end of what a process waits for

inline Stream the_extra_stream(Hand& h) {
    Stream s;
    CHECK(Stream::open(h.m, ledger().extra, s) == Status::ok);
    return s;
}
inline void full_extra_stream(Hand& h) {  // the survivor subscribes, and does not read
    CHECK(Stream::create(h.m, 1, StreamPolicy::lossless, h.wait, ledger().extra) == Status::ok);
    Stream s = the_extra_stream(h);
    u32 slow = 0;
    CHECK(s.subscribe(h.wait, slow) == Status::ok);
    CHECK(s.publish(item(h, 0, Kind::text), h.wait) == Status::ok);
}
inline void follows_extra(Hand& h) {
    CHECK(the_extra_stream(h).subscribe(h.wait, h.reader[0]) == Status::ok);
}
inline void reads_to_the_end(Hand& h) {
    Message msg;
    u64 missed = 0;
    CHECK(the_extra_stream(h).read(h.reader[0], msg, missed, h.wait) == Status::shut_down);
}
inline void publishes_to_the_end(Hand& h) {
    CHECK(the_extra_stream(h).publish(item(h, 1, Kind::text), h.wait) == Status::shut_down);
}
inline void closes_stream(Hand& h) {
    CHECK(the_extra_stream(h).close(h.wait) == Status::ok);
}
template <u64 size, u64 items>
void extra_queue_of(Hand& h) {
    CHECK(Queue::create(h.m, size, 0, h.wait, ledger().extra) == Status::ok);
    for (u64 i = 0; i < items; ++i)
        CHECK(the_extra_queue(h).put(item(h, i, Kind::text), h.wait) == Status::ok);
}
inline void gets_to_the_end(Hand& h) {
    Message msg;
    CHECK(the_extra_queue(h).get(msg, h.wait) == Status::shut_down);
}
inline void puts_to_the_end(Hand& h) {
    CHECK(the_extra_queue(h).put(item(h, 9, Kind::text), h.wait) == Status::shut_down);
}
// A queue that redelivers. A process took its only message and died with it; nobody has noticed
// yet.
inline void taken_by_a_dead_one(Hand& h) {
    CHECK(Queue::create(h.m, 2, kQueueRedelivers, h.wait, ledger().extra) == Status::ok);
    CHECK(the_extra_queue(h).put(item(h, 0, Kind::text), h.wait) == Status::ok);
    victim(h.m.file.number(), 0, [](Hand& v) {
        Message msg;
        CHECK(hold(v.m, ledger().extra) == Status::ok);
        CHECK(the_extra_queue(v).get(msg, v.wait) == Status::ok);
    });
}
inline void gets_what_came_back(Hand& h) {
    Queue q = the_extra_queue(h);
    Message msg;
    CHECK(q.get(msg, h.wait) == Status::ok && msg.redeliveries == 1);
    CHECK(q.task_done(msg.position, h.wait) == Status::ok);
}
inline void notices(Hand& h) {
    collect_dead(h.m);
    the_extra_queue(h).size();
}
template <bool immediate>
void shuts_down(Hand& h) {
    CHECK(the_extra_queue(h).shut_down(immediate, h.wait) == Status::ok);
}
inline void joins_queue(Hand& h) {
    CHECK(the_extra_queue(h).join(h.wait) == Status::ok);
}
inline void finishes(Hand& h) {
    Message msg;
    CHECK(the_extra_queue(h).get(msg, h.wait) == Status::ok);
    CHECK(the_extra_queue(h).task_done(h.wait) == Status::ok);
}

// Two threads of one process wait: it is not enough to wake one of them.
template <class Wait>
void twice(Wait wait) {
    std::thread other(wait);
    wait();
    other.join();
}
inline void takes_all_tokens(Hand& h) {
    for (u32 i = 0; i < kTokens; ++i)
        CHECK(h.locks.semaphore.acquire(h.wait) == Status::ok);
}
inline void releases_all_tokens(Hand& h) {
    CHECK(h.locks.semaphore.release(kTokens, h.wait) == Status::ok);
}
inline void two_wait_for_tokens(Hand& h) {
    twice([&h] {
        UnboundedWait wait;
        CHECK(h.locks.semaphore.acquire(wait) == Status::ok);
    });
    CHECK(h.locks.semaphore.release(2, h.wait) == Status::ok);
}
inline void two_wait_to_be_notified(Hand& h) {
    twice([&h] { waits_to_be_notified(h); });
}
inline void notifies_all(Hand& h) {  // once, when both wait
    await_two(h);
    CHECK(h.locks.rmutex.acquire(h.wait) == Status::ok);
    CHECK(h.locks.condition.notify(h.locks.rmutex, 1'000'000) == Status::ok);
    CHECK(h.locks.rmutex.release() == Status::ok);
}
inline void notifies_each(Hand& h) {  // of two waiters, first the one that has waited longer
    await_two(h);
    for (int i = 0; i < 2; ++i) {
        CHECK(h.locks.rmutex.acquire(h.wait) == Status::ok);
        CHECK(h.locks.condition.notify(h.locks.rmutex, 1) == Status::ok);
        CHECK(h.locks.rmutex.release() == Status::ok);
    }
}
inline void waits_at_broken_barrier(Hand& h) {
    Barrier::Arrival mine;
    CHECK(h.locks.barrier.arrive(h.wait, mine) == Status::ok);
    CHECK(h.locks.barrier.wait(h.wait, mine) == Status::broken);
}
template <bool reset>
void breaks_barrier(Hand& h) {
    while (h.locks.barrier.waiting() == 0) {
        const timespec nap{0, 50'000};
        nanosleep(&nap, nullptr);
    }
    CHECK((reset ? h.locks.barrier.reset(h.wait) : h.locks.barrier.abort(h.wait)) == Status::ok);
}

}  // namespace onecopy::interleave

#endif
