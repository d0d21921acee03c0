// What the bodies of all locks and their friends have in common: a block of a kind, a magic number,
// and tables of who has how many.
#pragma once
#include <algorithm>
#include <string>
#include <vector>

#include "heap/heap.hpp"
#include "sync/event_count.hpp"
#include "sync/structure_lock.hpp"

namespace onecopy {

// A fresh body of `bytes` zeros, held once for the caller.
inline Status create_body(Member& m, BodyKind kind, u64 bytes, WaitPolicy& p,
                          Allocated& out) noexcept {
    if (Status s = m.usable(); s != Status::ok) return s;
    return allocate(m, {.bytes = bytes, .flags = kFlagBody, .kind = kind, .zero = true}, p, out);
}

// The body of a handle that the caller holds. bad_argument: another kind; corrupt: too short, or
// never finished.
template <class Body>
Status open_body(Member& m, Handle h, BodyKind kind, u64 bytes, Body*& out) noexcept {
    BlockInfo info;
    if (Status s = inspect(m, handle_index(h), info); s != Status::ok) return s;
    if (handle_of(m, handle_index(h)) != h) return Status::stale;
    if (info.kind != kind) return Status::bad_argument;
    if (info.length < bytes) return Status::corrupt;
    auto* body = reinterpret_cast<Body*>(info.data);
    if (body->magic.load_acquire() != Body::kMagic) return Status::corrupt;  // [body.magic]
    out = body;
    return Status::ok;
}

inline Status usable(const Member& m) noexcept {
    return m.usable();
}

// Who has how many: one word per member slot, so that what a process has is nobody's as soon as its
// generation moves.
//
//   word   count:32 | generation:32      the whole generation, not the 20 bits of a lock word: an
//   entry may lie untouched for months
//
// Neighbouring slots lie in different cache lines: processes that count at the same time do not
// disturb each other.
class Shares {
  public:
    static constexpr u64 bytes(u32 slots) noexcept { return u64{stride(slots)} * kSpread * 8; }
    Shares() = default;
    Shares(void* table, u32 slots) noexcept
        : table_(static_cast<shm_atomic<u64>*>(table)), slots_(slots) {}

    static constexpr u32 gen(u64 word) noexcept { return static_cast<u32>(word); }
    static constexpr u32 count(u64 word) noexcept { return static_cast<u32>(word >> 32); }
    static constexpr u64 word(u32 count, u32 gen) noexcept { return u64{count} << 32 | gen; }

    shm_atomic<u64>& operator[](u32 slot) const noexcept {
        return table_[slot % kSpread * stride(slots_) + slot / kSpread];
    }
    // Slots that were ever used: no entry above has anything.
    u32 used(const Member& m) const noexcept {
        return std::min(m.header().rows_used.load_acquire(), slots_);
    }

    // What this process's own entry counts; an entry of another generation is a predecessor's in
    // the slot.
    static u32 own(const Member& m, u64 word) noexcept {
        return gen(word) == m.gen ? count(word) : 0;
    }
    // Whether an entry is of a process that has left, or is known to be dead. Cheap.
    static bool passed(const Member& m, u32 slot, u64 word) noexcept {
        return m.row(slot).gen.load_acquire() != gen(word);
    }
    // Asks the kernel too, and cleans up after it if it is dead.
    static bool gone(Member& m, u32 slot, u64 word) noexcept {
        if (passed(m, slot, word)) return true;
        return slot != m.slot && m.gone(make_tag(slot, gen(word))) && passed(m, slot, word);
    }

    // Asks about every process that has something. True: one more is known to be gone.
    bool probe(Member& m) const noexcept {
        bool news = false;
        for (u32 slot = 0; slot < used(m); ++slot) {
            const u64 w = (*this)[slot].load();
            if (count(w) != 0 && !passed(m, slot, w)) news |= gone(m, slot, w);
        }
        return news;
    }

  private:
    static constexpr u32 kSpread = 8;
    static constexpr u32 stride(u32 slots) noexcept { return (slots + kSpread - 1) / kSpread; }
    shm_atomic<u64>* table_ = nullptr;
    u32 slots_ = 0;
};

// Who holds something exclusively, for people to read.
struct Owner {
    u32 pid = 0;
    bool alive = false;
    std::int64_t since_ns = 0;  // CLOCK_MONOTONIC
};

// Whether the owner of a tag lives, as far as the kernel knows. No cleaning: this is for looking.
inline bool is_alive(const Member& m, u32 tag) noexcept {
    if (m.passed(tag)) return false;
    const u32 slot = tag_slot(tag);
    return m.is_alive(slot);
}

// Checks for `validate`: a lock word names a slot that exists, or nobody.
inline bool makes_sense(const Member& m, u32 word) noexcept {
    const u32 owner = word & ~kWaiters;
    return owner == 0 || owner == kAbandoned || tag_slot(owner) < m.geo().max_processes;
}

}  // namespace onecopy
