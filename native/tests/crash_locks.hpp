// The operations of locks, for the crash campaign.
#pragma once
#include "tests/crash_operations.hpp"

#if defined(ONECOPY_FAULTS) && ONECOPY_FAULTS

namespace onecopy::campaign {

// A process that dies with everything that a process can have.
inline void die_with_everything(Hand& survivor) {
    const pid_t child = fork();
    if (child == 0) {
        auto m = test::join_pool(survivor.m.file.number());
        Hand h(*m);
        CHECK(h.locks.mutex.acquire(h.wait) == Status::ok);
        CHECK(h.locks.rmutex.acquire(h.wait) == Status::ok &&
              h.locks.rmutex.acquire(h.wait) == Status::ok);
        CHECK(h.locks.rw[0].write(h.wait) == Status::ok &&
              h.locks.rw[1].write(h.wait) == Status::ok &&
              h.locks.rw[2].read(h.wait) == Status::ok);
        for (u32 i = 0; i < kTokens; ++i)
            CHECK(h.locks.semaphore.acquire(h.wait) == Status::ok);
        Barrier::Arrival arrival;
        CHECK(h.locks.barrier.arrive(h.wait, arrival) == Status::ok);
        kill(getpid(), SIGKILL);
    }
    int status = 0;
    CHECK(waitpid(child, &status, 0) == child && WIFSIGNALED(status) &&
          WTERMSIG(status) == SIGKILL);
}

// A process that dies while it waits at the condition: a place under its tag stays.
inline void die_waiting(Hand& survivor) {
    const pid_t child = fork();
    if (child == 0) {
        auto m = test::join_pool(survivor.m.file.number());
        Hand h(*m);
        CHECK(h.locks.rmutex.acquire(h.wait) == Status::ok);
        alarm(0);
        Status again;
        h.locks.condition.wait(h.locks.rmutex, h.wait, again);
        _exit(1);
    }
    while (survivor.locks.condition.waiting() == 0)
        usleep(200);
    // It has its place first, and then releases the mutex: it must not die in between.
    CHECK(survivor.locks.rmutex.acquire(survivor.wait) == Status::ok &&
          survivor.locks.rmutex.release() == Status::ok);
    kill(child, SIGKILL);
    int status = 0;
    CHECK(waitpid(child, &status, 0) == child && WIFSIGNALED(status));
}

template <int which>
void read_lock(Hand& h) {
    const Status s = h.locks.rw[which].read(h.wait);
    CHECK(good(s));
    if (s == Status::owner_died) h.locks.rw[which].downgrade();
}
template <int which>
void write_lock(Hand& h) {
    CHECK(good(h.locks.rw[which].write(h.wait)));
}
template <int which>
void read_and_release(Hand& h) {
    read_lock<which>(h);
    CHECK(h.locks.rw[which].read_release() == Status::ok);
}
template <int which>
void write_and_release(Hand& h) {
    write_lock<which>(h);
    CHECK(h.locks.rw[which].write_release() == Status::ok);
}
inline void lock_it(Hand& h) {
    CHECK(good(h.locks.mutex.acquire(h.wait)));
}
inline void lock_twice(Hand& h) {
    for (int i = 0; i < 2; ++i)
        CHECK(good(h.locks.rmutex.acquire(h.wait)));
}
template <class Thing, class... Arguments>
void make_and_drop(Hand& h, Arguments... arguments) {
    Handle own;
    CHECK(Thing::create(h.m, arguments..., h.wait, own) == Status::ok);
    release_hold(h, handle_index(own));
}

// Makes every place of a condition free, or one that a thread waits in. Nobody else knows the
// condition, so these are plain stores and no steps of the campaign.
inline void set_all_places(Hand& h, Handle condition, u32 state) {
    BlockInfo info;
    CHECK(inspect(h.m, handle_index(condition), info) == Status::ok);
    u32 places = 0, used = 0;
    std::memcpy(&places, info.data + 8, sizeof places);
    used = places;
    std::memcpy(info.data + 40, &used, sizeof used);
    for (u32 i = 0; i < places; ++i) {
        const u32 word_and_tag[] = {i << 2 | state, h.m.tag()};
        std::memcpy(info.data + 64 + u64{i} * 16, word_and_tag, sizeof word_and_tag);
    }
}
inline void wait_beyond_the_places(Hand& h) {
    Handle lock, own;
    CHECK(Mutex::create(h.m, false, h.wait, lock) == Status::ok &&
          Condition::create(h.m, lock, h.wait, own) == Status::ok);
    Mutex mutex;
    Condition condition;
    CHECK(Mutex::open(h.m, lock, mutex) == Status::ok &&
          Condition::open(h.m, own, condition) == Status::ok &&
          mutex.acquire(h.wait) == Status::ok);
    set_all_places(h, own, 1);
    const u32 others = condition.waiting();
    Status again;
    WaitPolicy now(0);
    for (int times = 0; times < 2; ++times)  // the second one finds the chunk
        CHECK(condition.wait(mutex, now, again) == Status::timed_out && again == Status::ok);
    CHECK(others >= 256 && condition.waiting() == others);
    set_all_places(h, own, 0);
    CHECK(mutex.release() == Status::ok);
    release_hold(h, handle_index(own));
    release_hold(h, handle_index(lock));
}

// It sleeps, so the record of its wait is written and emptied.
inline void wait_in_vain(Hand& h) {
    WaitPolicy soon(os::monotonic_ns() + 2'000'000);
    CHECK(h.locks.event.wait(soon) == Status::timed_out);
}
// With two rows, the next process gets the slot in which this one leaves a record.
inline void die_in_a_wait(Hand& h) {
    victim(h.m.file.number(), 3, wait_in_vain);
}

// ---- waits of tasks, in steps (docs/design/0021-asyncio.md)

inline void begin_a_stay(Hand& h, Condition::Stay& mine) {
    CHECK(good(h.locks.rmutex.acquire(h.wait)) &&
          h.locks.condition.begin(h.locks.rmutex, h.wait, mine) == Status::ok);
    WaitPolicy notes(WaitPolicy::kNote);
    Status again;
    CHECK(h.locks.condition.attempt(h.locks.rmutex, notes, mine, again) == Status::would_block);
}
inline void end_a_stay(Hand& h, Condition::Stay& mine, Status answer) {
    WaitPolicy notes(WaitPolicy::kNote);
    Status again;
    CHECK(h.locks.condition.attempt(h.locks.rmutex, notes, mine, again) == answer &&
          again == Status::ok && h.locks.rmutex.mine());
    CHECK(h.locks.rmutex.release() == Status::ok && h.locks.condition.waiting() == 0);
}
inline void notify_the_stay(Hand& h) {
    CHECK(good(h.locks.rmutex.acquire(h.wait)) &&
          h.locks.condition.notify(h.locks.rmutex, 1) == Status::ok &&
          h.locks.rmutex.release() == Status::ok);
}
inline void stay_until_notified(Hand& h) {
    Condition::Stay mine;
    begin_a_stay(h, mine);
    notify_the_stay(h);
    end_a_stay(h, mine, Status::ok);
}
template <bool notified>
void stay_and_give_up(Hand& h) {
    Condition::Stay mine;
    begin_a_stay(h, mine);
    if (notified) notify_the_stay(h);
    Condition::give_up(mine, Status::interrupted);
    end_a_stay(h, mine, Status::interrupted);
}
// Its task is destroyed while another one has the mutex.
template <bool notified>
void stay_and_leave(Hand& h) {
    Condition::Stay mine;
    begin_a_stay(h, mine);
    if (notified) notify_the_stay(h);
    h.locks.condition.leave(mine);
    CHECK(mine.word == nullptr && h.locks.condition.waiting() == 0);
}
inline void arrive_and_give_up(Hand& h) {
    Barrier::Arrival mine;
    WaitPolicy notes(WaitPolicy::kNote);
    CHECK(h.locks.barrier.arrive(notes, mine) == Status::ok && !mine.trips);
    CHECK(h.locks.barrier.attempt(notes, mine) == Status::would_block);
    CHECK(h.locks.barrier.give_up(h.wait, mine) == Status::broken && h.locks.barrier.is_broken());
    CHECK(h.locks.barrier.reset(h.wait) == Status::ok);
}

inline const Operation kLockOperations[] = {
    {"lock", nothing, nothing, lock_it},
    {"unlock", nothing, lock_it, [](Hand& h) { CHECK(h.locks.mutex.release() == Status::ok); }},
    {"lock a dead one's", die_with_everything, nothing, lock_it, kMany},
    {"lock and abandon a dead one's", die_with_everything, nothing,
     [](Hand& h) { lock_it(h), h.locks.mutex.abandon(); }, kMany},
    {"lock twice", nothing, nothing, lock_twice},
    {"unlock twice", nothing, lock_twice,
     [](Hand& h) {
         for (int i = 0; i < 2; ++i)
             CHECK(h.locks.rmutex.release() == Status::ok);
     }},
    {"lock a dead one's twice", die_with_everything, nothing, lock_twice, kMany},
    {"read and release, prefer writer", nothing, nothing, read_and_release<0>},
    {"read and release, fair", nothing, nothing, read_and_release<2>},
    {"write and release, prefer writer", nothing, nothing, write_and_release<0>},
    {"write and release, prefer reader", nothing, nothing, write_and_release<1>},
    {"write and release, fair", nothing, nothing, write_and_release<2>},
    {"read after a dead writer", die_with_everything, nothing, read_and_release<0>, kMany},
    {"write after a dead writer", die_with_everything, nothing, write_and_release<1>, kMany},
    {"write after a dead reader", die_with_everything, nothing, write_and_release<2>, kMany},
    {"abandon after a dead writer", die_with_everything, nothing,
     [](Hand& h) { write_lock<0>(h), h.locks.rw[0].abandon(); }, kMany},
    {"acquire a token", nothing, nothing,
     [](Hand& h) { CHECK(h.locks.semaphore.acquire(h.wait) == Status::ok); }},
    {"release a token", nothing,
     [](Hand& h) { CHECK(h.locks.semaphore.acquire(h.wait) == Status::ok); },
     [](Hand& h) { CHECK(h.locks.semaphore.release(1, h.wait) == Status::ok); }},
    {"acquire a dead one's token", die_with_everything, nothing,
     [](Hand& h) { CHECK(h.locks.semaphore.acquire(h.wait) == Status::ok); }, kMany},
    {"set and clear an event", nothing, nothing,
     [](Hand& h) {
         CHECK(h.locks.event.set() == Status::ok && h.locks.event.clear() == Status::ok);
     }},
    {"wait for an event in vain", nothing, nothing, wait_in_vain},
    {"wait for an event in a dead waiter's slot", die_in_a_wait, nothing, wait_in_vain, 0, 2},
    {"wait at a condition", nothing,
     [](Hand& h) { CHECK(h.locks.rmutex.acquire(h.wait) == Status::ok); },
     [](Hand& h) {
         Status again;
         WaitPolicy now(0);
         CHECK(h.locks.condition.wait(h.locks.rmutex, now, again) == Status::timed_out &&
               again == Status::ok);
     }},
    {"wait beyond the places of a condition", nothing, nothing, wait_beyond_the_places, kMany},
    {"notify a dead waiter", die_waiting,
     [](Hand& h) { CHECK(h.locks.rmutex.acquire(h.wait) == Status::ok); },
     [](Hand& h) { CHECK(h.locks.condition.notify(h.locks.rmutex, 1) == Status::ok); }, kMany},
    {"notify all, the dead too", die_waiting,
     [](Hand& h) { CHECK(h.locks.rmutex.acquire(h.wait) == Status::ok); },
     [](Hand& h) { CHECK(h.locks.condition.notify(h.locks.rmutex, 1000) == Status::ok); }, kMany},
    {"wait at a condition as a task", nothing, nothing, stay_until_notified, kMany},
    {"give up at a condition as a task", nothing, nothing, stay_and_give_up<false>, kMany},
    {"give up at a condition as a notified task", nothing, nothing, stay_and_give_up<true>, kMany},
    {"leave a condition as a task", nothing, nothing, stay_and_leave<false>, kMany},
    {"leave a condition as a notified task", nothing, nothing, stay_and_leave<true>, kMany},
    {"give up at a barrier as a task", nothing, nothing, arrive_and_give_up, kMany},
    {"pass a barrier", nothing, nothing, [](Hand& h) { arrive_and_trip(h.locks.barrier, h.wait); }},
    {"arrive after a dead party", die_with_everything, nothing,
     [](Hand& h) {
         Barrier::Arrival arrival;
         const Status s = h.locks.barrier.arrive(h.wait, arrival);
         CHECK(s == Status::broken || s == Status::ok);
     },
     kMany},
    {"abort and reset a barrier", nothing, nothing,
     [](Hand& h) {
         CHECK(h.locks.barrier.abort(h.wait) == Status::ok &&
               h.locks.barrier.reset(h.wait) == Status::ok);
     }},
    {"make and drop a lock", nothing, nothing, [](Hand& h) { make_and_drop<Mutex>(h, true); }},
    {"make and drop an rwlock", nothing, nothing,
     [](Hand& h) { make_and_drop<RwLock>(h, Prefer::fair); }},
    {"make and drop a semaphore", nothing, nothing,
     [](Hand& h) { make_and_drop<Semaphore>(h, u64{3}, u32{Semaphore::kKeepsNothing}); }},
    {"make and drop an event", nothing, nothing, [](Hand& h) { make_and_drop<Event>(h); }},
    {"make and drop a barrier", nothing, nothing, [](Hand& h) { make_and_drop<Barrier>(h, 3u); }},
    {"make and drop a condition", nothing, nothing,
     [](Hand& h) {
         Handle lock;
         CHECK(Mutex::create(h.m, false, h.wait, lock) == Status::ok);
         make_and_drop<Condition>(h, lock);
         release_hold(h, handle_index(lock));
     }},
};

}  // namespace onecopy::campaign
#endif
