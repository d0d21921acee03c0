// A queue's body in shared memory, and how its two files (queue.cpp, redeliver.cpp) find their way
// in it. Drawn in queue.hpp.
#pragma once
#include <atomic>

#include "queue/queue.hpp"
#include "sync/structure_lock.hpp"

namespace onecopy {

struct Queue::Body {
    static constexpr u64 kMagic = 0x31'65'75'65'75'71'63'6fULL;  // "ocqueue1"
    // line 0: fixed
    shm_atomic<u64> magic;
    shm_atomic<u64> maxsize;
    shm_atomic<u64> limit;
    shm_atomic<u32> entries;
    shm_atomic<u32> flags;
    // line 1: producers
    alignas(64) LockWord put_lock;
    shm_atomic<u64> tail;
    shm_atomic<u64> seen_head;  // an old value of head; in a queue that redelivers, of floor
    // line 2: consumers
    alignas(64) LockWord get_lock;
    shm_atomic<u64> head;
    shm_atomic<u64> seen_tail;  // an old value of tail
    shm_atomic<u64> done;
    // Only in a queue that redelivers; the last three are derived, by `rescan`.
    shm_atomic<u64> floor;           // everything below is finished
    shm_atomic<u64> returned;        // slots whose taker died, and that nobody has taken again
    shm_atomic<u64> first_returned;  // no slot below it is one of them
    shm_atomic<u64>
        seen_death_epoch;  // header.death_epoch as it was when the takers were last looked at
    // line 3: sleepers
    alignas(64) EventCount not_empty;
    EventCount not_full;
    EventCount all_done;
    shm_atomic<u32> closed;  // 0, or one of Closed
};

enum Closed : u32 {
    kNoMorePuts = 1,
    kDropping = 2,  // and what is in the queue, or comes back to it, is dropped (only in a queue
                    // that redelivers)
};

constexpr u64 kTableOffset = 256;
constexpr u64 kChunkBytes = kChunkSlots * sizeof(Slot);

inline Status Queue::usable() const noexcept {
    return m_->usable();
}

inline shm_atomic<u64>& Queue::table(u64 chunk) const noexcept {
    auto* cells =
        reinterpret_cast<shm_atomic<u64>*>(reinterpret_cast<unsigned char*>(b_) + kTableOffset);
    return cells[chunk >> 32 == 0 ? static_cast<u32>(chunk) % entries_
                                  : chunk % entries_];  // 32-bit division is cheaper
}

inline const shm_atomic<u64>& Queue::lowest() const noexcept {
    return redelivers_ ? b_->floor : b_->head;
}

inline Status Queue::enter_consumer(WaitPolicy& p) noexcept {
    const Status s = enter(b_->get_lock, *m_, p);
    return s == Status::owner_died ? repair_consumer(p) : s;
}

inline Slot* Queue::slots_of(Handle h, Cached& cached) noexcept {
    if (std::atomic_ref(cached.handle).load(std::memory_order_acquire) == h) [[likely]]
        return cached.slots;
    return find_slots(h, cached);
}

}  // namespace onecopy
