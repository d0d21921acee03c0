// A queue's body in shared memory, and how its files (queue.cpp, redeliver.cpp, repair.cpp) find
// their way in it. Drawn in queue.hpp.
#pragma once
#include <atomic>

#include "queue/queue.hpp"

namespace onecopy {

struct Queue::Body {
    static constexpr u64 kMagic = 0x31'65'75'65'75'71'63'6fULL;  // "ocqueue1"
    // line 0: fixed
    shm_atomic<u64> magic;
    shm_atomic<u64> maxsize;
    shm_atomic<u64> limit;
    shm_atomic<u32> entries;
    shm_atomic<u32> flags;
    shm_atomic<u64> schema_hash;  // 0: untyped. body/schema.hpp
    shm_atomic<u32> schema_bytes;
    // line 1: producers
    alignas(64) LockWord put_lock;
    shm_atomic<u64> tail;
    shm_atomic<u64> seen_head;  // an old value of head; of floor in a queue that redelivers
    // line 2: consumers
    alignas(64) LockWord get_lock;
    shm_atomic<u64> head;
    shm_atomic<u64> seen_tail;  // an old value of tail
    shm_atomic<u64> done;
    // Only in a queue that redelivers. The last three are derived, by `rescan`.
    shm_atomic<u64> floor;           // all positions below are finished
    shm_atomic<u64> returned;        // slots whose taker died, and that were not taken since
    shm_atomic<u64> first_returned;  // no slot below it is one of them
    shm_atomic<u64>
        seen_death_epoch;  // header.death_epoch, read when the takers were last looked at
    // line 3: sleepers
    alignas(64) EventCount not_empty;
    EventCount not_full;
    EventCount all_done;
    shm_atomic<u32> closed;  // 0, or one of Closed
    ONECOPY_SHARED_STRUCT(Body, magic, maxsize, limit, entries, flags, schema_hash, schema_bytes,
                          put_lock, tail, seen_head, get_lock, head, seen_tail, done, floor,
                          returned, first_returned, seen_death_epoch, not_empty, not_full, all_done,
                          closed)
};

enum Closed : u32 {
    kNoMorePuts = 1,
    kDropping =
        2,  // also drops what is in the queue or comes back to it; only if the queue redelivers
};

constexpr u64 kTableOffset = 256;
constexpr u64 kChunkBytes = kChunkSlots * sizeof(Slot);

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

// ---- a queue that redelivers (redeliver.cpp, repair.cpp)

struct Queue::Range {
    u64 floor, head, tail;
};

struct Queue::Effects {
    u64 room = 0;                   // by how much floor moved
    u64 came_back = 0;              // messages that have become returned
    Handle finished = 0;            // the block of a message that is done
    Handle emptied = 0;             // the chunk that floor has left
    bool others = false;            // there are takers other than this process
    u64 takers[kHolderWords] = {};  // their slots, one bit each: to be asked whether they live
};

inline Taking taking_of(const Slot& slot) noexcept {
    return {slot.stamp.load_acquire()};  // [queue.taking], where the last owner died
}
inline void set_taking(Slot& slot, Taking t) noexcept {
    slot.stamp.store_release(t.raw);  // [queue.taking]
}

// Visits the slots of [from, to) until `visit` answers false. False: the queue is corrupt.
template <class Visit>
bool Queue::walk(u64 from, u64 to, Visit visit) noexcept {
    Cached chunk;
    for (u64 position = from; position < to; ++position) {
        Slot* const slot = slot_at(position, chunk);
        if (slot == nullptr) return false;
        if (!visit(*slot, position)) break;
    }
    return true;
}

}  // namespace onecopy
