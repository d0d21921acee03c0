// A condition variable over a Mutex.
//
//|  Body (a block of kind condition):
//|    0    magic, places                     fixed
//|    16   lock                              reference cell: the mutex lives as long as the condition
//|    24   more                              reference cell: further places, or 0
//|    32   ticket                            the next one
//|    40   used                              no place at or above it was ever taken
//|    64   places  {word u32, tag u32, ticket u64}
//|         word: ticket:30 | state:2 (free, waiting, notified); what this waiter sleeps on
//|
//|  Further places (a block of kind condition_places):
//|    0    magic
//|    8    more                              reference cell
//|    64   places
//
// Further places are added when more threads wait than ever before. They stay as long as the
// condition.
//
// Places change only while the mutex is held. The ticket in the word distinguishes one stay in a
// place from the next, for a thread that sleeps on the word.
//
// COMMITS: wait: word := waiting. notify: word := notified. Further places: more := the chunk. A
// waiter that cannot take the mutex again: tag := kAbandoned. Then the place is as one of a dead
// process.
#pragma once
#include "locks/mutex.hpp"

namespace onecopy {

class Condition {
  public:
    // The caller holds `mutex` as long as the call lasts.
    static Status create(Member& m, Handle mutex, WaitPolicy& p, Handle& out) noexcept;
    static Status open(Member& m, Handle h, Condition& out) noexcept;
    Handle lock_handle() const noexcept { return lock_; }

    // `mutex` is the one of lock_handle(). The caller holds it, and has it again afterwards in
    // every case; `again` says how it was taken again (ok, owner_died; otherwise it is not held).
    // ok: notified; would_block or timed_out, interrupted; not_held; no_memory: there is no place
    // for one more waiter.
    Status wait(Mutex& mutex, WaitPolicy& p, Status& again) noexcept;

    // The same wait in steps, for a waiter that has no thread (docs/design/0021-asyncio.md):
    // `begin`, `attempt` until it does not answer would_block, perhaps `give_up` in between. Or, at
    // any time, `leave`.
    struct Stay {
        shm_atomic<u32>* word = nullptr;  // of the place; nullptr: the stay is over
        shm_atomic<u32>* tag_of_place = nullptr;
        u32 waiting = 0;  // the word's value as long as nobody has notified
        u32 tag = 0;      // of the member that waits: a forked child has another one
        u32 depth = 0;    // of the mutex
        bool asleep = true;
        bool hands_over = false;  // a dead process was notified
        Status why = Status::ok;  // how the sleep ended; would_block: to hand over
    };
    // The caller holds the mutex. ok: it has released it, and waits. not_held, no_memory: as
    // `wait`.
    Status begin(Mutex& mutex, WaitPolicy& p, Stay& mine) noexcept;
    // would_block: `p` notes, and has noted what it waits for; or `p` does not wait. Otherwise the
    // stay is over, and the answers are those of `wait`.
    Status attempt(Mutex& mutex, WaitPolicy& p, Stay& mine, Status& again) noexcept;
    // It stops waiting for a notification. timed_out: one that has come counts. interrupted: one
    // that has come goes to another waiter.
    static void give_up(Stay& mine, Status why) noexcept;
    // Without the mutex: the caller will never have it again.
    void leave(Stay& mine) noexcept;

    // Wakes the n waiters that have waited longest. not_held.
    Status notify(Mutex& mutex, u32 n) noexcept;
    u32 waiting() const noexcept;
    static std::vector<std::string> validate(Member& m, u32 index);
    static void observe(Member& m, u32 index, Observed& out);
    static u64 layout() noexcept;

  private:
    struct Body;
    struct Place;
    struct Chunk;
    // Calls `act(place)` for the first `limit` places, until it answers true. Whether it did.
    template <class Act>
    bool each_until(u32 limit, Act act) const noexcept;
    template <class Act>
    void each_used(Act act) const noexcept;
    Status open_chunk(Handle h, Chunk*& out) const noexcept;
    Status add_chunk(WaitPolicy& p, Place*& first) noexcept;
    Status take_place(WaitPolicy& p, Place*& out) noexcept;
    void wake(u32 n) noexcept;
    bool is_dead_notified(const Place& at, bool ask_the_kernel) const noexcept;
    void hand_over() noexcept;
    bool is_dead_notified_somewhere() const noexcept;
    Status sleep(const Stay& mine, WaitPolicy& p) noexcept;
    Status note(const Stay& mine, WaitPolicy& p) noexcept;
    Status end(Stay& mine, Status why, Status again) noexcept;
    Member* m_ = nullptr;
    Body* b_ = nullptr;
    Handle lock_ = 0;
    u32 places_ = 0;
};

}  // namespace onecopy
