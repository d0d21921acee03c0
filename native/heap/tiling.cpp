// Two-level segregated fit (Masmano, Ripoll, Crespo, Real: TLSF, ECRTS 2004). The boundary tags are
// in the block table.
//
// Truth: header.heap_top, and offset and size of entries that are live, tentative or freeing. Free
// lists, neighbour links, bitmaps and counters are derived. They change under the heap lock. After
// a death `rebuild_heap` makes them again.
#include "heap/tiling.hpp"

#include <algorithm>
#include <bit>

#include "os/memory.hpp"

namespace onecopy::tiling {
namespace {

struct Bucket {
    u32 first, second;
};

Bucket bucket_of(u64 units) noexcept {
    if (units < kSecondLevels) return {0, static_cast<u32>(units)};
    const u32 log = log2_floor(units);
    return {log - 3, static_cast<u32>(units >> (log - 4)) & (kSecondLevels - 1)};
}
// The first bucket in which every span is large enough.
Bucket bucket_for(u64 units) noexcept {
    if (units >= kSecondLevels) units += (u64{1} << (log2_floor(units) - 4)) - 1;
    return bucket_of(units);
}

// The smallest span of a list that is large enough, within a bounded search. If several are equal,
// the first one: the span that was freed last is still in the caches. kNil: none.
u32 best_of(Member& m, u32 head, u64 size) noexcept {
    constexpr int kLooks = 32;
    u32 best = kNil;
    u64 best_size = ~u64{0};
    for (int i = 0; i < kLooks && head != kNil && best_size != size; ++i) {
        if (!is_entry(m, head)) {
            broken(m);
            return kNil;
        }
        const u64 has = m.block(head).size.load_relaxed();
        if (has >= size && has < best_size) {
            best = head;
            best_size = has;
        }
        head = m.block(head).links[kNextFree].load_relaxed();
    }
    return best;
}

// The index is believed only so far that the entry exists: the caller checks the span.
u32 find_fit(Member& m, u64 units) noexcept {
    HeapIndex& heads = m.heads();
    // First the bucket of the request itself, whose spans may be large enough or not: the commonest
    // request is for a size that was just freed.
    const Bucket own = bucket_of(units);
    if (own.first >= kFirstLevels) return kNil;
    if (const u32 same =
            best_of(m, heads.heads[own.first][own.second].load_relaxed(), units * kUnit);
        same != kNil)
        return same;
    const Bucket at = bucket_for(units);
    if (at.first >= kFirstLevels) return kNil;
    u32 second = heads.second[at.first].load_relaxed() & (~0u << at.second);
    u32 first = at.first;
    if (second == 0) {
        const u64 above = heads.first.load_relaxed() & (~u64{0} << 1 << at.first);
        if (above == 0) return kNil;
        first = static_cast<u32>(std::countr_zero(above));
        if (first >= kFirstLevels) {
            broken(m);
            return kNil;
        }
        second = heads.second[first].load_relaxed();
    }
    second &= (1u << kSecondLevels) - 1;
    if (second == 0) return kNil;
    return best_of(m, heads.heads[first][static_cast<u32>(std::countr_zero(second))].load_relaxed(),
                   units * kUnit);
}

inline void count_block(Member& m, u8 flags, u64 bytes, bool more) noexcept {
    Header& h = m.header();
    auto& sum = flags & kFlagBody ? h.body_bytes : h.used;
    auto& number = flags & kFlagBody ? h.live_bodies : h.live_blocks;
    sum.store_relaxed(more ? sum.load_relaxed() + bytes : sum.load_relaxed() - bytes);
    number.store_relaxed(more ? number.load_relaxed() + 1 : number.load_relaxed() - 1);
}

}  // namespace

void reset_lists(HeapIndex& heads) noexcept {
    heads.first.store_relaxed(0);
    for (auto& bits : heads.second)
        bits.store_relaxed(0);
    for (auto& row : heads.heads) {
        for (auto& head : row)
            head.store_relaxed(kNil);
    }
}

bool push_free(Member& m, u32 index, u64 size) noexcept {
    HeapIndex& heads = m.heads();
    Block& b = m.block(index);
    const Bucket at = bucket_of(size / kUnit);
    auto& head = heads.heads[at.first][at.second];
    const u32 next = head.load_relaxed();
    if (!is_entry_or_nil(m, next)) return broken(m);
    b.links[kPrevFree].store_relaxed(kNil);
    b.links[kNextFree].store_relaxed(next);
    if (next != kNil) m.block(next).links[kPrevFree].store_relaxed(index);
    head.store_relaxed(index);
    heads.second[at.first].store_relaxed(heads.second[at.first].load_relaxed() | 1u << at.second);
    heads.first.store_relaxed(heads.first.load_relaxed() | u64{1} << at.first);
    return true;
}

bool remove_free(Member& m, u32 index, u64 size) noexcept {
    HeapIndex& heads = m.heads();
    Block& b = m.block(index);
    const u32 previous = b.links[kPrevFree].load_relaxed(),
              next = b.links[kNextFree].load_relaxed();
    if (!is_entry_or_nil(m, previous) || !is_entry_or_nil(m, next)) return broken(m);
    if (next != kNil && m.block(next).links[kPrevFree].load_relaxed() != index) return broken(m);
    if (previous != kNil) {
        if (m.block(previous).links[kNextFree].load_relaxed() != index) return broken(m);
        if (next != kNil) m.block(next).links[kPrevFree].store_relaxed(previous);
        m.block(previous).links[kNextFree].store_relaxed(next);
        return true;
    }
    const Bucket at = bucket_of(size / kUnit);
    auto& head = heads.heads[at.first][at.second];
    if (head.load_relaxed() != index) return broken(m);
    if (next != kNil) m.block(next).links[kPrevFree].store_relaxed(kNil);
    head.store_relaxed(next);
    if (next != kNil) return true;
    const u32 left = heads.second[at.first].load_relaxed() & ~(1u << at.second);
    heads.second[at.first].store_relaxed(left);
    if (left == 0) heads.first.store_relaxed(heads.first.load_relaxed() & ~(u64{1} << at.first));
    return true;
}

u32 new_entry(Member& m) noexcept {
    Header& h = m.header();
    const u32 free = h.free_entries.load_relaxed();
    if (free != kNil) {
        if (!is_entry(m, free) || state_of(m, free) != BlockState::unused) {
            broken(m);
            return kNil;
        }
        h.free_entries.store_relaxed(m.block(free).links[kNextFree].load_relaxed());
        return free;
    }
    const u32 top = h.blocks_top.load_relaxed();
    const u64 reserved = h.blocks_reserved.load_relaxed();
    // + 1: entry 0 is not used.
    if (top == 0 || top > reserved + 1 || reserved > m.geo().max_blocks) {
        broken(m);
        return kNil;
    }
    if (top >= m.geo().max_blocks) return kNil;
    if (top >= reserved) {
        constexpr u64 kStep = 64 * kKiB / sizeof(Block);
        const u64 more =
            std::min<u64>(std::max<u64>(kStep, reserved / 4), m.geo().max_blocks - reserved);
        // The heap lock is held: no other thread reserves here.
        const u64 from = m.geo().blocks_off + reserved * sizeof(Block);
        if (os::reserve_all(m.file, m.base + from, from, more * sizeof(Block)) != 0) return kNil;
        h.blocks_reserved.store_release(reserved + more);  // [pool.blocks_reserved]
    }
    if (state_of(m, top) != BlockState::unused) {  // fresh memory is zero
        broken(m);
        return kNil;
    }
    h.blocks_top.store_release(top + 1);  // [pool.blocks_top]
    return top;
}

namespace {

// Makes room at the end of the tiling. It takes address space only; the process that gets the block
// reserves the memory.
u32 extend(Member& m, u64 size) noexcept {
    Header& h = m.header();
    const u64 top = h.heap_top.load_relaxed();
    const u32 last = h.last_entry.load_relaxed();
    Place place;
    if (top > m.geo().capacity || !is_entry_or_nil(m, last)) {
        broken(m);
        return kNil;
    }
    if (last != kNil && state_of(m, last) == BlockState::span) {
        if (!read_span(m, last, place)) return kNil;
        if (place.offset + place.size != top) {
            broken(m);
            return kNil;
        }
        if (place.size >= size) return last;  // the search in its list did not reach it
        const u64 more = size - place.size;
        if (more > m.geo().capacity - top || !remove_free(m, last, place.size)) return kNil;
        m.block(last).size.store_relaxed(size);
        h.heap_top.store_release(top + more);  // [pool.heap_top]
        return push_free(m, last, size) ? last : kNil;
    }
    if (size > m.geo().capacity - top) return kNil;
    const u32 fresh = new_entry(m);
    if (fresh == kNil) return kNil;
    set_span(m, fresh, top, size, last, kNil);
    if (last != kNil) m.block(last).links[kNextNeighbour].store_relaxed(fresh);
    h.last_entry.store_relaxed(fresh);
    h.heap_top.store_release(top + size);  // [pool.heap_top]
    return push_free(m, fresh, size) ? fresh : kNil;
}

}  // namespace

Status take_span(Member& m, const BlockSpec& spec, u64 size, u32& out, u64& offset) noexcept {
    u32 index = find_fit(m, size / kUnit);
    if (index == kNil && !m.corrupt()) index = extend(m, size);
    if (index == kNil) return m.corrupt() ? Status::corrupt : Status::no_memory;
    Block& b = m.block(index);
    Place place;
    if (!read_span(m, index, place) || !(place.size >= size || broken(m)) ||
        !remove_free(m, index, place.size))
        return Status::corrupt;
    offset = place.offset;
    const u64 rest = place.size - size;
    if (rest != 0) {
        const u32 next = b.links[kNextNeighbour].load_relaxed();
        if (!is_entry_or_nil(m, next)) {
            broken(m);
            return Status::corrupt;
        }
        const u32 remainder = new_entry(m);
        if (remainder == kNil) {
            push_free(m, index, place.size);
            return m.corrupt() ? Status::corrupt : Status::no_memory;
        }
        set_span(m, remainder, offset + size, rest, index, next);
        if (next != kNil)
            m.block(next).links[kPrevNeighbour].store_relaxed(remainder);
        else
            m.header().last_entry.store_relaxed(remainder);
        b.links[kNextNeighbour].store_relaxed(remainder);
        b.size.store_relaxed(size);
        if (!push_free(m, remainder, rest)) return Status::corrupt;
    }
    b.slack.store_relaxed(static_cast<u32>(size - spec.bytes));
    b.cells_count.store_relaxed(0);
    b.links[kHome].store_relaxed(spec.home);
    b.links[kKind].store_relaxed(static_cast<u32>(spec.kind));
    count_block(m, spec.flags, spec.bytes, true);
    {
        std::lock_guard guard(m.mutex);
        b.holder_word(m.slot / 64).fetch_or(u64{1} << (m.slot % 64));
        ++m.local[index];
        u32 gen = BlockWord{b.word.load_relaxed()}.gen() + 1;
        if (gen == 0) gen = 1;  // a handle is never null
        b.word.store(BlockWord::make(gen, BlockState::live, kNoSlot, spec.flags).raw);  // COMMIT
    }
    out = index;
    return Status::ok;
}

}  // namespace onecopy::tiling

namespace onecopy {

using namespace tiling;

void free_span(Member& m, u32 index) noexcept {
    Header& h = m.header();
    Block& b = m.block(index);
    Place place;
    if (!read_place(m, index, place)) return;
    // Both neighbours are checked before anything is changed.
    u32 previous = b.links[kPrevNeighbour].load_relaxed(),
        next = b.links[kNextNeighbour].load_relaxed();
    Place left, right;
    if (!is_entry_or_nil(m, previous) || !is_entry_or_nil(m, next) || previous == index ||
        next == index) {
        broken(m);
        return;
    }
    const bool merge_right = next != kNil && state_of(m, next) == BlockState::span;
    const bool merge_left = previous != kNil && state_of(m, previous) == BlockState::span;
    if (merge_right &&
        (!read_span(m, next, right) || !(right.offset == place.offset + place.size || broken(m))))
        return;
    if (merge_left &&
        (!read_span(m, previous, left) || !(left.offset + left.size == place.offset || broken(m))))
        return;
    const u32 after = merge_right ? m.block(next).links[kNextNeighbour].load_relaxed() : kNil;
    const u32 before = merge_left ? m.block(previous).links[kPrevNeighbour].load_relaxed() : kNil;
    if (!is_entry_or_nil(m, after) || !is_entry_or_nil(m, before)) {
        broken(m);
        return;
    }

    const BlockWord w{b.word.load_relaxed()};
    const u64 slack = b.slack.load_relaxed();
    b.cells_count.store_relaxed(0);
    b.word.store(BlockWord::make(w.gen(), BlockState::span, kNoSlot, 0).raw);  // COMMIT
    count_block(m, w.flags(), place.size - slack, false);
    if (merge_right) {
        if (!remove_free(m, next, right.size)) return;
        place.size += right.size;
        return_entry(m, next);
        next = after;
    }
    if (merge_left) {
        if (!remove_free(m, previous, left.size)) return;
        place = {left.offset, place.size + left.size};
        return_entry(m, previous);
        previous = before;
    }
    set_span(m, index, place.offset, place.size, previous, next);
    if (previous != kNil) m.block(previous).links[kNextNeighbour].store_relaxed(index);
    if (next != kNil)
        m.block(next).links[kPrevNeighbour].store_relaxed(index);
    else
        h.last_entry.store_relaxed(index);
    push_free(m, index, place.size);
}

}  // namespace onecopy
