// What locks have in common beyond a body: tables of how many each process has, and what is said of
// an owner.
#pragma once
#include <algorithm>

#include "body/observed.hpp"
#include "sync/event_count.hpp"

namespace onecopy {

// How many each process has: one word for each member slot. When the generation of a slot moves,
// its entry has no owner.
//
//|  word   count:32 | generation:32
//
// The generation is the whole one, not the 20 bits of a lock word: an entry may lie untouched for
// months. Neighbouring slots lie in different cache lines, so processes that count at the same time
// do not disturb each other.
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
    // Slots that were ever used. All entries above are empty.
    u32 used(const Member& m) const noexcept {
        return std::min(m.header().rows_used.load_acquire(), slots_);  // [pool.rows_used]
    }

    // What the entry of this process counts. An entry with another generation belongs to an earlier
    // owner of the slot.
    static u32 own(const Member& m, u64 word) noexcept {
        return gen(word) == m.gen ? count(word) : 0;
    }
    // Whether the process of an entry has left, or is known to be dead. Cheap.
    static bool passed(const Member& m, u32 slot, u64 word) noexcept {
        return m.row(slot).gen.load_acquire() != gen(word);  // [row.gen]
    }
    // Asks the kernel too. Cleans up after the process if it is dead.
    static bool gone(Member& m, u32 slot, u64 word) noexcept {
        if (passed(m, slot, word)) return true;
        return slot != m.slot && m.gone(make_tag(slot, gen(word))) && passed(m, slot, word);
    }

    // Asks about every process that has something. True: one more of them is known to be dead.
    bool probe(Member& m) const noexcept {
        bool news = false;
        for (u32 slot = 0; slot < used(m); ++slot) {
            const u64 w = (*this)[slot].load();
            if (count(w) != 0 && !passed(m, slot, w)) news |= gone(m, slot, w);
        }
        return news;
    }

    // The table as `layout_hash` sees it.
    static constexpr u64 layout() noexcept { return fold_layouts({kSpread, 8}); }

  private:
    static constexpr u32 kSpread = 8;
    static constexpr u32 stride(u32 slots) noexcept { return (slots + kSpread - 1) / kSpread; }
    shm_atomic<u64>* table_ = nullptr;
    u32 slots_ = 0;
};

// The process that holds a lock exclusively. It is shown to people.
struct Owner {
    u32 pid = 0;
    bool alive = false;
    std::int64_t since_ns = 0;  // CLOCK_MONOTONIC
};

// Whether the owner of a tag lives, as far as the kernel knows. For people: it cleans up nothing.
inline bool is_alive(const Member& m, u32 tag) noexcept {
    if (m.passed(tag)) return false;
    const u32 slot = tag_slot(tag);
    return m.is_alive(slot);
}

// For `validate`: a lock word names a slot that exists, or none.
inline bool makes_sense(const Member& m, u32 word) noexcept {
    const u32 owner = word & ~kWaiters;
    return owner == 0 || owner == kAbandoned || tag_slot(owner) < m.geo().max_processes;
}

}  // namespace onecopy
