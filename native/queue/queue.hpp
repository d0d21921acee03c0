// A bounded queue of messages, many producers, many consumers, two locks.
//
// Body (a block of kind queue):
//   0    line 0  magic, maxsize, table entries, flags          fixed
//   64   line 1  producer lock, tail, seen_head                producers
//   128  line 2  consumer lock, head, seen_tail, floor         consumers
//   192  line 3  not_empty, not_full, done, all_done, closed   sleepers and task_done
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
    Member* m_ = nullptr;
    Body* b_ = nullptr;
    u32 index_ = 0;
    u64 limit_ = 0;  // copied once when opened and checked
    u32 entries_ = 0;
};

}  // namespace onecopy
