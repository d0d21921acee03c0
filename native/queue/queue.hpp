// A bounded queue of messages, with many producers, many consumers and two locks.
//
//|  Body (a block of kind queue):
//|    0    line 0  magic, maxsize, limit, table entries, flags,  fixed
//|                 length and hash of the schema
//|    64   line 1  producer lock, tail, seen_head                producers
//|    128  line 2  consumer lock, head, seen_tail, done, floor…  consumers
//|    192  line 3  not_empty, not_full, all_done, closed         sleepers
//|    256  table   u64[entries]: reference cells to chunks of 64 slots (blocks of kind queue_chunk)
//|    ...  schema  of a queue with a type: its text
//
// COMMITS: put: tail := t+1 [queue.tail]. get: head := h+1 [queue.head]. task_done: done += 1.
//
// A queue that was made with kQueueRedelivers keeps what was taken until it is finished. If the
// taker dies, it gives the message out again: redeliver.cpp, docs/design/0003-redelivery.md. The
// ring is the same; its room begins at `floor` and not at `head`.
#pragma once
#include <atomic>
#include <string>
#include <string_view>
#include <vector>

#include "body/observed.hpp"
#include "queue/message.hpp"

namespace onecopy {

constexpr u32 kChunkSlots = 64;
constexpr u64 kUnboundedSize = u64{1} << 20;  // maxsize=0: as many as this, or as fit the pool

enum QueueFlags : u32 { kQueueRedelivers = 1 };

struct Peeked;         // peek.hpp
struct PeekedMessage;  // peek.hpp

class Queue {
  public:
    // `maxsize` 0: unbounded. `schema`: of a typed queue; too_large if it is too long. The body is
    // held once for the caller.
    static Status create(Member& m, u64 maxsize, u32 flags, WaitPolicy& p, Handle& out,
                         std::string_view schema = {}) noexcept;
    // The caller holds `h`. bad_argument: it is no queue. corrupt: its fields make no sense.
    static Status open(Member& m, Handle h, Queue& out) noexcept;

    // ok; would_block/timed_out (full), shut_down, no_memory (no chunk), interrupted
    Status put(const Message& msg, WaitPolicy& p) noexcept;
    // Puts as many as it can before the deadline. `done`: how many.
    Status put_many(const Message* msgs, u32 n, u32& done, WaitPolicy& p) noexcept;
    // ok; would_block/timed_out (empty), shut_down (and empty), interrupted, corrupt. msg.block is
    // held for the caller.
    Status get(Message& msg, WaitPolicy& p) noexcept;
    // At least one, at most n.
    Status get_many(Message* msgs, u32 n, u32& got, WaitPolicy& p) noexcept;

    u64 size() noexcept;  // how many can be taken; exact at some instant
    // How many messages take room. In a queue that redelivers, messages that were taken and not
    // finished count.
    u64 occupied() const noexcept;
    bool full() const noexcept;    // whether there is no room for one more
    u64 maxsize() const noexcept;  // 0: unbounded
    u32 flags() const noexcept;
    bool redelivers() const noexcept { return redelivers_; }
    // In shared memory, with the hash that it must have. Empty: the queue is untyped.
    std::string_view schema(u64& hash) const noexcept;
    // ok. bad_argument: more than was put. In a queue that redelivers: finishes the lowest message
    // that this thread, or else this process, has taken and not finished; bad_argument: there is
    // none.
    Status task_done(WaitPolicy& p) noexcept;
    // Finishes the message at that position. In a queue that redelivers: bad_argument if this
    // process does not have it, or no longer. Other queues: as above.
    Status task_done(u64 position, WaitPolicy& p) noexcept;
    // Puts the message at that position back at the head. It is given out again as redelivered.
    // bad_argument: the queue does not redeliver, or this process does not have the message, or no
    // longer.
    Status give_back(u64 position, WaitPolicy& p) noexcept;
    // Waits until `get` would not wait: there is a message, or there will be none. would_block:
    // `stop` was set, and wake_waiters called.
    Status wait_ready(const std::atomic<bool>& stop, WaitPolicy& p) noexcept;
    // Waits until `put` would not wait for room, and takes none of it.
    Status wait_room(WaitPolicy& p) noexcept;
    void wake_waiters() noexcept;         // they look again
    Status join(WaitPolicy& p) noexcept;  // until all messages that were put are done
    u64 unfinished() noexcept;
    Status shut_down(bool immediate, WaitPolicy& p) noexcept;
    bool is_shut_down() const noexcept;
    static std::vector<std::string> validate(Member& m, u32 index);
    static void observe(Member& m, u32 index, Observed& out);
    static Status peek(Member& m, u32 index, u32 gen, u32 most, u64 budget, Peeked& out);
    static void repair(Member& m, u32 index, WaitPolicy& p) noexcept;
    static u64 layout() noexcept;

  private:
    struct Body;
    // Where the chunk of a handle lies. Used under the lock of its side only. The handle is stored
    // last, so a fork in between leaves no wrong pair.
    struct Cached {
        Handle handle = 0;
        Slot* slots = nullptr;
    };
    shm_atomic<u64>& table(u64 chunk) const noexcept;
    Slot* slots_of(Handle h, Cached& cached) noexcept;
    Slot* find_slots(Handle h, Cached& cached) noexcept;
    Status add_chunk(shm_atomic<u64>& cell, WaitPolicy& p, Handle& out) noexcept;
    Status put_locked(const Message* msgs, u32 n, u32& moved, WaitPolicy& p) noexcept;
    Status try_put(const Message* msgs, u32 n, u32& moved, WaitPolicy& p) noexcept;
    Status put_some(const Message* msgs, u32 n, u32& moved, WaitPolicy& p) noexcept;
    // Where the room for producers begins.
    const shm_atomic<u64>& lowest() const noexcept;
    u64 ahead_of(const shm_atomic<u64>& mark) const noexcept;
    Status enter_consumer(WaitPolicy& p) noexcept;
    Status repair_consumer(WaitPolicy& p) noexcept;
    Handle take_last_chunk() noexcept;
    void repair_chunk(WaitPolicy& p) noexcept;
    Status get_locked(Message* msgs, u32 n, u32& moved, Handle& emptied, WaitPolicy& p) noexcept;
    Status leave_consumer(Status s, u32 moved, Handle emptied, WaitPolicy& p) noexcept;
    Status try_get(Message* msgs, u32 n, u32& moved, WaitPolicy& p) noexcept;
    Status get_some(Message* msgs, u32 n, u32& moved, WaitPolicy& p) noexcept;
    u64 add_done(u64 n, bool clamp) noexcept;
    Status take_everything(WaitPolicy& p) noexcept;
    void check_table(std::vector<std::string>& out);

    // ---- peek.cpp
    bool copy_message(u64 position, bool only_returned, u64& budget, PeekedMessage& out);
    void peek_returned(u32 most, u64& budget, Peeked& out);

    // ---- redeliver.cpp
    struct Range;    // floor, head, tail
    struct Effects;  // work that an operation under the consumer lock leaves for later
    bool range(Range& r) noexcept;
    Slot* slot_at(u64 position, Cached& cached) noexcept;
    template <class Visit>
    bool walk(u64 from, u64 to, Visit visit) noexcept;
    bool rescan(Effects& e, WaitPolicy& p) noexcept;
    bool refresh(Effects& e, WaitPolicy& p) noexcept;
    void repair_takings(WaitPolicy& p) noexcept;
    Status take_slot(Slot& slot, u64 position, bool again, Message& msg) noexcept;
    Status take_returned(const Range& r, Message* msgs, u32 n, u32& moved) noexcept;
    Status take_queued(const Range& r, Message* msgs, u32 n, u32& moved, Effects& e) noexcept;
    Status take_locked(Message* msgs, u32 n, u32& moved, Effects& e, WaitPolicy& p) noexcept;
    Status try_take(Message* msgs, u32 n, u32& moved, WaitPolicy& p) noexcept;
    Status take_some(Message* msgs, u32 n, u32& moved, WaitPolicy& p) noexcept;
    Handle empty_slot(Slot& slot) noexcept;
    void clear_slot(Slot& slot, WaitPolicy& p) noexcept;
    void advance(Effects& e, WaitPolicy& p) noexcept;
    void release_last_chunk(Effects& e, WaitPolicy& p) noexcept;
    Status finish_locked(u64 position, Effects& e, WaitPolicy& p) noexcept;
    using Settle = Status (Queue::*)(u64 position, Effects& e, WaitPolicy& p) noexcept;
    Status settle(u64 position, Settle how, WaitPolicy& p) noexcept;
    Status finish(u64 position, WaitPolicy& p) noexcept;
    Status return_locked(u64 position, Effects& e, WaitPolicy& p) noexcept;
    Status finish_lowest(WaitPolicy& p) noexcept;
    bool drop_some(Effects& e, WaitPolicy& p) noexcept;
    Status drop_everything(WaitPolicy& p) noexcept;
    void note_takers(const Range& r, Effects& e) noexcept;
    void tell(const Effects& e, WaitPolicy& p) noexcept;
    void leave_takings(const Effects& e, WaitPolicy& p) noexcept;
    bool look_for_the_dead(WaitPolicy& p) noexcept;
    u64 size_with_returned() noexcept;
    u64 unfinished_takings() noexcept;
    void check_takings(std::vector<std::string>& out);

    Member* m_ = nullptr;
    Body* b_ = nullptr;
    u32 index_ = 0;
    u64 limit_ = 0;  // read once at `open`, and checked
    u32 entries_ = 0;
    std::string_view schema_;
    u64 schema_hash_ = 0;
    bool redelivers_ = false;
    Cached put_chunk_, get_chunk_, floor_chunk_;
};

}  // namespace onecopy
