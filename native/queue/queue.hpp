// A bounded queue of messages, many producers, many consumers, two locks.
//
// Body (a block of kind queue):
//   0    line 0  magic, maxsize, table entries, flags          fixed
//   64   line 1  producer lock, tail, seen_head                producers
//   128  line 2  consumer lock, head, seen_tail, floor, done   consumers
//   192  line 3  not_empty, not_full, all_done, closed         sleepers
//   256  table   u64[entries]: reference cells to chunks of 64 slots (blocks of kind queue_chunk)
//
// COMMITS: put: tail := t+1 [queue.tail]. get: head := h+1 [queue.head]. task_done: done += 1.
#pragma once
#include <string>
#include <vector>

#include "heap/heap.hpp"
#include "queue/message.hpp"

namespace onecopy {

constexpr u32 kChunkSlots = 64;
constexpr u64 kUnboundedSize = u64{1} << 20;  // maxsize=0: as many as this, or as fit the pool

class Queue {
  public:
    // `maxsize` 0: unbounded. The body is held once for the caller.
    static Status create(Member& m, u64 maxsize, u32 flags, Patience& p, Handle& out) noexcept;
    // `h` is held by the caller. bad_argument if it is no queue, corrupt if its fields make no sense.
    static Status open(Member& m, Handle h, Queue& out) noexcept;

    // ok; would_block/timed_out (full), shut_down, no_memory (no chunk), interrupted
    Status put(const Message& msg, Patience& p) noexcept;
    // Puts as many as it can before the deadline; `done` says how many went.
    Status put_many(const Message* msgs, u32 n, u32& done, Patience& p) noexcept;
    // ok; would_block/timed_out (empty), shut_down (and empty), interrupted, corrupt. msg.block is held for the caller.
    Status get(Message& msg, Patience& p) noexcept;
    // At least one, at most n.
    Status get_many(Message* msgs, u32 n, u32& got, Patience& p) noexcept;

    u64 size() const noexcept;      // exact at some instant
    u64 maxsize() const noexcept;   // 0: unbounded
    u32 flags() const noexcept;
    Status task_done(u64 n) noexcept;            // bad_argument: more than was put
    Status join(Patience& p) noexcept;           // until done == tail
    u64 unfinished() const noexcept;
    Status shut_down(bool immediate, Patience& p) noexcept;
    bool is_shut_down() const noexcept;
    static std::vector<std::string> validate(Member& m, u32 index);

  private:
    struct Body;
    // Where the chunk of a handle lies; touched under the lock of its side only. The handle is stored last, so that a fork
    // in between leaves no wrong pair.
    struct Cached {
        Handle handle = 0;
        Slot* slots = nullptr;
    };
    Status usable() const noexcept;
    shm_atomic<u64>& table(u64 chunk) const noexcept;
    Slot* slots_of(Handle h, Cached& cached) noexcept;
    Slot* find_slots(Handle h, Cached& cached) noexcept;
    Status add_chunk(shm_atomic<u64>& cell, Patience& p, Handle& out) noexcept;
    Status put_locked(const Message* msgs, u32 n, u32& moved, Patience& p) noexcept;
    Status try_put(const Message* msgs, u32 n, u32& moved, Patience& p) noexcept;
    Status put_some(const Message* msgs, u32 n, u32& moved, Patience& p) noexcept;
    Status enter_consumer(Patience& p) noexcept;
    void repair_consumer(Patience& p) noexcept;
    Status get_locked(Message* msgs, u32 n, u32& moved, Handle& emptied, Patience& p) noexcept;
    Status leave_consumer(Status s, u32 moved, Handle emptied, Patience& p) noexcept;
    Status try_get(Message* msgs, u32 n, u32& moved, Patience& p) noexcept;
    Status get_some(Message* msgs, u32 n, u32& moved, Patience& p) noexcept;
    u64 add_done(u64 n, bool clamp) noexcept;
    void check_table(std::vector<std::string>& out);

    Member* m_ = nullptr;
    Body* b_ = nullptr;
    u32 index_ = 0;
    u64 limit_ = 0;  // copied once when opened and checked
    u32 entries_ = 0;
    Cached put_chunk_, get_chunk_;
};

}  // namespace onecopy
