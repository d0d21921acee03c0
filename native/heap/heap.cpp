// Two-level segregated fit (Masmano, Ripoll, Crespo, Real: TLSF, ECRTS 2004), with the boundary
// tags in the block table.
//
// Truth: entries that are live, tentative or freeing, with offset and size, and header.heap_top.
// Free lists, neighbour links, bitmaps and counters are derived: they change under the heap lock
// and `rebuild_heap` makes them anew after a dead owner.
#include "heap/heap.hpp"

#include <algorithm>
#include <bit>
#include <cerrno>
#include <cstring>

#include "base/bits.hpp"
#include "os/memory.hpp"
#include "sync/event_count.hpp"
#include "sync/structure_lock.hpp"
#include "sync/unlocks.hpp"

namespace onecopy {
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

void reset_lists(HeapIndex& heads) noexcept {
    heads.first.store_relaxed(0);
    for (auto& bits : heads.second)
        bits.store_relaxed(0);
    for (auto& row : heads.heads) {
        for (auto& head : row)
            head.store_relaxed(kNil);
    }
}

// Whoever may write the file may have written anything into the table and the index. What is used
// as an index, an offset or a size is read once and checked; what cannot be marks the pool corrupt,
// and nobody allocates or frees in it any more.
bool broken(Member& m) noexcept {
    m.mark_corrupt();
    return false;
}

// The loads of the table's end are of the line that the heap lock is on.
bool is_entry(Member& m, u32 index) noexcept {
    const u32 top = m.header().blocks_top.load_relaxed();
    return index != 0 && index < top && top <= m.geo().max_blocks;
}
bool is_entry_or_nil(Member& m, u32 index) noexcept {
    return index == kNil || is_entry(m, index);
}

struct Place {
    u64 offset = 0, size = 0;
};

// Where an entry lies. False, and the pool is marked: it is none, or lies outside of what is tiled.
bool read_place(Member& m, u32 index, Place& out) noexcept {
    if (!is_entry(m, index)) return broken(m);
    const Block& b = m.block(index);
    out = {b.offset.load_relaxed(), b.size.load_relaxed()};
    const u64 top = m.header().heap_top.load_relaxed();
    const bool sound = top <= m.geo().capacity && out.size != 0 && out.size <= top &&
                       out.offset <= top - out.size && (out.offset | out.size) % kUnit == 0;
    return sound || broken(m);
}

BlockState state_of(Member& m, u32 index) noexcept {
    return BlockWord{m.block(index).word.load_relaxed()}.state();
}

bool read_span(Member& m, u32 index, Place& out) noexcept {
    return read_place(m, index, out) && (state_of(m, index) == BlockState::span || broken(m));
}

// `size` as it stands in the entry, checked by the caller.
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

// As push_free. The neighbours in the list must agree, so a ring or a list that runs into another
// one is noticed here.
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

// The smallest span of a list that is large enough, as far as a bounded look reaches; the first one
// if several are equal, because the span that was freed last is the warm one. kNil: none.
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

// Nothing that the index says is believed further than that the entry exists: the caller checks the
// span.
u32 find_fit(Member& m, u64 units) noexcept {
    HeapIndex& heads = m.heads();
    // The request's own bucket first, whose spans may or may not be large enough: the same size
    // again is the commonest request.
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

// An unused entry of the table. kNil: the table, or the memory under it, is full, or the pool is
// broken.
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
        // The heap lock is held: nobody else reserves here.
        const u64 from = m.geo().blocks_off + reserved * sizeof(Block);
        if (os::reserve_all(m.file, m.base + from, from, more * sizeof(Block)) != 0) return kNil;
        h.blocks_reserved.store_release(reserved + more);
    }
    if (state_of(m, top) != BlockState::unused) {  // fresh memory is zero
        broken(m);
        return kNil;
    }
    h.blocks_top.store_release(top + 1);
    return top;
}

void return_entry(Member& m, u32 index) noexcept {
    Header& h = m.header();
    Block& b = m.block(index);
    b.word.store_release(
        BlockWord::make(BlockWord{b.word.load_relaxed()}.gen(), BlockState::unused, kNoSlot, 0)
            .raw);
    b.links[kNextFree].store_relaxed(h.free_entries.load_relaxed());
    h.free_entries.store_relaxed(index);
}

void set_span(Member& m, u32 index, u64 offset, u64 size, u32 previous, u32 next) noexcept {
    Block& b = m.block(index);
    b.offset.store_relaxed(offset);
    b.size.store_relaxed(size);
    b.slack.store_relaxed(0);
    b.links[kPrevNeighbour].store_relaxed(previous);
    b.links[kNextNeighbour].store_relaxed(next);
    b.word.store_release(
        BlockWord::make(BlockWord{b.word.load_relaxed()}.gen(), BlockState::span, kNoSlot, 0).raw);
}

// Makes room at the end of the tiling. Address space only: memory is reserved by whoever gets the
// block.
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
        if (place.size >= size) return last;  // the look into its list did not reach it
        const u64 more = size - place.size;
        if (more > m.geo().capacity - top || !remove_free(m, last, place.size)) return kNil;
        m.block(last).size.store_relaxed(size);
        h.heap_top.store_release(top + more);
        return push_free(m, last, size) ? last : kNil;
    }
    if (size > m.geo().capacity - top) return kNil;
    const u32 fresh = new_entry(m);
    if (fresh == kNil) return kNil;
    set_span(m, fresh, top, size, last, kNil);
    if (last != kNil) m.block(last).links[kNextNeighbour].store_relaxed(fresh);
    h.last_entry.store_relaxed(fresh);
    h.heap_top.store_release(top + size);
    return push_free(m, fresh, size) ? fresh : kNil;
}

void count_block(Member& m, u8 flags, u64 bytes, bool more) noexcept {
    Header& h = m.header();
    auto& sum = flags & kFlagBody ? h.body_bytes : h.used;
    auto& number = flags & kFlagBody ? h.live_bodies : h.live_blocks;
    sum.store_relaxed(more ? sum.load_relaxed() + bytes : sum.load_relaxed() - bytes);
    number.store_relaxed(more ? number.load_relaxed() + 1 : number.load_relaxed() - 1);
}

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

// ---- memory under the heap ----------------------------------------------------------------------

shm_atomic<u64>& extent_word(Member& m, u64 extent) noexcept {
    return m.at<shm_atomic<u64>>(m.geo().extents_off + extent / 64 * 8);
}
bool is_backed(Member& m, u64 extent) noexcept {
    return extent_word(m, extent).load_acquire() >> (extent % 64) & 1;
}

// The first extent at or after `offset`, and the one after the last that ends at or before it.
// Where the tiling ends nobody has what is left of the extent (heap lock held).
u64 first_extent(u64 offset) noexcept {
    return (offset + kExtent - 1) / kExtent;
}
u64 end_extent(Member& m, u64 offset) noexcept {
    return offset == m.header().heap_top.load_relaxed() ? first_extent(offset) : offset / kExtent;
}
int punch_extents(Member& m, u64 first, u64 end) noexcept {
    const u64 to = std::min(end * kExtent, m.geo().capacity);
    return os::give_back(m.heap() + first * kExtent, to - first * kExtent);
}

// Reserves what is missing under [offset, offset+size). No lock: reserving twice is harmless, and
// extents are only given back while they lie in a free span. 0 or errno; or it was interrupted: the
// kernel takes a third of a second for a gigabyte. The bits are set when all is there: until then
// `give_back_reserved` knows by them what this reservation has taken.
int back_with_memory(Member& m, u64 offset, u64 size, WaitPolicy& p, bool& interrupted) noexcept {
    constexpr u64 kPiece = 64 * kMiB / kExtent;
    const u64 first = offset / kExtent, end = (offset + size + kExtent - 1) / kExtent;
    for (u64 e = first; e < end;) {
        if (is_backed(m, e)) {
            ++e;
            continue;
        }
        const u64 start = e;
        while (e < end && e < start + kPiece && !is_backed(m, e))
            ++e;
        p.about_to_block();
        const u64 from = m.geo().heap_off + start * kExtent;
        const u64 to = std::min(m.geo().heap_off + e * kExtent, m.geo().file_size);
        if (int error = os::room_for(m.file, to - from)) return error;
        if (int error = m.file.reserve(from, to - from)) return error;
        if (e < end && p.interrupted()) {
            interrupted = true;
            return 0;
        }
    }
    for (u64 e = first; e < end; ++e)
        if (!is_backed(m, e)) extent_word(m, e).fetch_or(u64{1} << (e % 64));
    return 0;
}

// Gives back what a reservation for this block has taken before it failed or was interrupted. The
// block is ours still.
//
// Whoever reserves holds a live block in the extent. So under the heap lock nobody is reserving an
// extent that lies in this block and the free spans beside it, and nobody has written there: not we
// yet, and not the others since their blocks were freed. An extent that reaches into another live
// block stays: it is reserved by then, or that block's owner gives it back.
//
// A death before this leaves the memory reserved under a free span, with its bits clear: `trim`
// gives it back, and who allocates there finds it reserved already.
void give_back_reserved(Member& m, u32 index, WaitPolicy& outer) noexcept {
    UninterruptibleWait p(outer);
    if (!good(lock_heap(m, p))) return;
    Place place, beside;
    if (read_place(m, index, place)) {
        u64 from = place.offset, to = place.offset + place.size;
        const Block& b = m.block(index);
        const u32 previous = b.links[kPrevNeighbour].load_relaxed(),
                  next = b.links[kNextNeighbour].load_relaxed();
        const auto is_free = [&](u32 at) {
            return is_entry(m, at) && state_of(m, at) == BlockState::span &&
                   read_span(m, at, beside);
        };
        if (is_free(previous) && beside.offset + beside.size == from) from = beside.offset;
        if (is_free(next) && beside.offset == to) to += beside.size;
        const u64 end = std::min(first_extent(place.offset + place.size), end_extent(m, to));
        for (u64 e = std::max(place.offset / kExtent, first_extent(from)); e < end; ++e) {
            const u64 start = e;
            while (e < end && !is_backed(m, e))
                ++e;
            if (e != start) punch_extents(m, start, e);
        }
    }
    unlock(m.header().heap_lock);
}

// A block whose memory was to go back when the heap's lock was not to be had is `freeing` by
// nobody. Whoever has the lock may free it; no generation of a process is in it, so the death of
// the one that left it changes nothing.
bool is_left(Member& m, u32 index) noexcept {
    const BlockWord w{m.block(index).word.load_acquire()};
    return w.state() == BlockState::freeing && w.slot() == kNoSlot;
}
// With the lock.
bool free_left(Member& m) noexcept {
    m.has_left_blocks.store(false, std::memory_order_relaxed);
    bool any = false;
    const u32 top = std::min(m.header().blocks_top.load_acquire(), m.geo().max_blocks);
    for (u32 i = 1; i < top && !m.corrupt(); ++i) {
        if (!is_left(m, i)) continue;
        free_span(m, i);
        any = true;
    }
    return any;
}
// With the lock, by every operation that has it.
void free_own_left(Member& m) noexcept {
    if (m.has_left_blocks.load(std::memory_order_relaxed)) [[unlikely]]
        free_left(m);
}

Status allocate_once(Member& m, const BlockSpec& spec, u64 size, WaitPolicy& p, Allocated& out,
                     int& error) noexcept {
    u32 index = 0;
    u64 offset = 0;
    if (Status s = lock_heap(m, p); !good(s)) return s;
    free_own_left(m);
    const Status taken = take_span(m, spec, size, index, offset);
    unlock(m.header().heap_lock);
    if (taken != Status::ok) return taken;
    bool interrupted = false;
    error = back_with_memory(m, offset, size, p, interrupted);
    if (error != 0 || interrupted) {
        give_back_reserved(m, index, p);
        drop(m, index, p);
        if (interrupted) return Status::interrupted;
        if (m.file.lost()) return Status::lost;
        return error == ENOSPC || error == ENOMEM || error == EDQUOT ? Status::no_memory
                                                                     : Status::system_error;
    }
    out = {index, m.heap() + offset};
    if (spec.zero) {
        std::memset(out.data, 0, size);
        crash_point();
    }
    return Status::ok;
}

}  // namespace

Status lock_heap(Member& m, WaitPolicy& p) noexcept {
    if (m.corrupt()) return Status::corrupt;
    const Status s = lock(m.header().heap_lock, m, p);
    if (s != Status::owner_died) return s;
    rebuild_heap(m);
    if (!m.corrupt()) return s;
    unlock(m.header().heap_lock);
    return Status::corrupt;
}

Status allocate(Member& m, const BlockSpec& spec, WaitPolicy& p, Allocated& out) noexcept {
    if (Status s = m.usable(); s != Status::ok) return s;
    if (spec.bytes > m.geo().capacity) return Status::too_large;
    const u64 size = round_up(std::max<u64>(spec.bytes, 1), kUnit);
    int error = 0;
    Status s = allocate_once(m, spec, size, p, out, error);
    if (s != Status::no_memory) return s;
    // What the dead hold comes first; then memory that lies unused under large free spans.
    bool found = false;
    const u32 rows = std::min(m.header().rows_used.load_acquire(), m.geo().max_processes);
    for (u32 slot = 0; slot < rows && Member::recover_slot != nullptr; ++slot) {
        if (slot != m.slot && m.row(slot).state.load() != static_cast<u32>(RowState::free))
            found |= Member::recover_slot(m, slot);
    }
    found |= give_back_left(m, p);
    if (error != 0) trim(m, p);
    return found || error != 0 ? allocate_once(m, spec, size, p, out, error) : s;
}

void give_back(Member& m, u32 index, WaitPolicy& outer) noexcept {
    // Longer than an owner that has lost its core needs, and long enough to find that it is dead.
    constexpr std::int64_t kFreeWait = 50'000'000;
    LockWord& heap_lock = m.header().heap_lock;
    Status s = m.corrupt() ? Status::corrupt : Status::would_block;
    if (s == Status::would_block && try_lock(heap_lock, m)) s = Status::ok;
    if (s == Status::would_block) {
        // Who gives much back does not wait each time.
        constexpr std::int64_t kBeforeWaitingAgain = 1'000'000'000;
        const std::int64_t now = os::monotonic_ns();
        const bool stuck = now < m.heap_is_stuck_until.load(std::memory_order_relaxed);
        UninterruptibleWait p(outer, stuck ? 0 : now + kFreeWait);
        s = lock_heap(m, p);
        if (good(s))
            m.heap_is_stuck_until.store(0, std::memory_order_relaxed);
        else if (!stuck)
            m.heap_is_stuck_until.store(now + kBeforeWaitingAgain, std::memory_order_relaxed);
    }
    if (!good(s)) {
        shm_atomic<u64>& word = m.block(index).word;
        const BlockWord w{word.load()};
        word.store(BlockWord::make(w.gen(), BlockState::freeing, kNoSlot, w.flags()).raw);
        m.has_left_blocks.store(true, std::memory_order_relaxed);
        return;
    }
    free_span(m, index);
    free_own_left(m);
    unlock(heap_lock);
    notify(m.header().memory_freed);
}

bool give_back_left(Member& m, WaitPolicy& outer) noexcept {
    const u32 top = std::min(m.header().blocks_top.load_acquire(), m.geo().max_blocks);
    u32 first = 1;
    while (first < top && !is_left(m, first))
        ++first;
    if (first >= top || !good(lock_heap(m, outer))) return false;
    const bool any = free_left(m);
    unlock(m.header().heap_lock);
    if (any) notify(m.header().memory_freed);
    return any;
}

void free_span(Member& m, u32 index) noexcept {
    Header& h = m.header();
    Block& b = m.block(index);
    Place place;
    if (!read_place(m, index, place)) return;
    // Both neighbours are looked at before anything is changed.
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

void format_heap(Member& m) noexcept {
    Header& h = m.header();
    reset_lists(m.heads());
    h.free_entries.store_relaxed(kNil);
    h.last_entry.store_relaxed(kNil);
    h.blocks_top.store_relaxed(1);  // index 0 is never issued: a handle of 0 is null
}

void note_reserved(Member& m) noexcept {
    const u64 extents = (m.geo().capacity + kExtent - 1) / kExtent;
    for (u64 e = 0; e < extents; e += 64) {
        const u64 n = std::min(extents - e, u64{64});
        extent_word(m, e).fetch_or(~u64{0} >> (64 - n));  // no bit beyond the last extent
    }
}

// What is reserved already costs a look. For a set bit beyond the file's memory a member that is
// alone can do this; while others are at it, they are believed: who may write the bitmap may cut
// the file short as well.
int reserve_marked(Member& m) noexcept {
    const Geometry& g = m.geo();
    const u64 names = std::min<u64>(m.header().names_reserved.load_acquire(), g.max_names);
    const u64 blocks = std::min<u64>(m.header().blocks_reserved.load_acquire(), g.max_blocks);
    if (int error = m.file.reserve(0, fixed_bytes(g))) return error;
    if (int error = names == 0 ? 0 : m.file.reserve(g.names_off, names * sizeof(NameEntry)))
        return error;
    if (int error = blocks == 0 ? 0 : m.file.reserve(g.blocks_off, blocks * sizeof(Block)))
        return error;
    const u64 extents = (g.capacity + kExtent - 1) / kExtent;
    for (u64 e = 0; e < extents; ++e) {
        const u64 first = e;
        while (e < extents && is_backed(m, e))
            ++e;
        if (e == first) continue;
        const u64 from = g.heap_off + first * kExtent,
                  to = std::min(g.heap_off + e * kExtent, g.file_size);
        if (int error = m.file.reserve(from, to - from)) return error;
    }
    return 0;
}

namespace {

// Puts `n` blocks that are chained by their next neighbours into the order of their offsets: by one
// digit after the other, the lowest first. In place, because recovery must not need memory. False:
// the chain leads astray.
bool sort_by_offset(Member& m, u32& first, u32 n) noexcept {
    constexpr u32 kDigitBits = 10;
    u32 heads[1 << kDigitBits], tails[1 << kDigitBits];
    const auto link = [&](u32 from, u32 to) {
        auto& next = m.block(from).links[kNextNeighbour];
        if (next.load_relaxed() != to) next.store_relaxed(to);
    };
    for (u32 shift = 0; m.geo().capacity / kUnit >> shift != 0; shift += kDigitBits) {
        std::fill(std::begin(heads), std::end(heads), kNil);
        u32 at = first;
        for (u32 left = n; left != 0; --left) {
            if (!is_entry(m, at)) return broken(m);
            const u32 next = m.block(at).links[kNextNeighbour].load_relaxed();
            const u64 units = m.block(at).offset.load_relaxed() / kUnit;
            const u64 digit = units >> shift & ((1 << kDigitBits) - 1);
            if (heads[digit] == kNil)
                heads[digit] = at;
            else
                link(tails[digit], at);
            tails[digit] = at;
            at = next;
        }
        u32 last = kNil;
        for (u32 digit = 0; digit < 1 << kDigitBits; ++digit) {
            if (heads[digit] == kNil) continue;
            if (last == kNil)
                first = heads[digit];
            else
                link(last, heads[digit]);
            last = tails[digit];
        }
    }
    return true;
}

}  // namespace

void rebuild_heap(Member& m) noexcept {
    Header& h = m.header();
    const u32 top = h.blocks_top.load_relaxed();
    const u64 heap_top = h.heap_top.load_relaxed(), reserved = h.blocks_reserved.load_relaxed();
    if (top == 0 || top > reserved + 1 || reserved > m.geo().max_blocks ||
        top > m.geo().max_blocks || heap_top > m.geo().capacity) {
        m.mark_corrupt();
        return;
    }
    // Chains through what is derived: entries that nobody needs, and blocks.
    u32 spare = kNil, taken = kNil, blocks_taken = 0;
    u64 used = 0, bodies = 0, blocks = 0, body_bytes = 0;
    for (u32 i = top; i-- > 1;) {
        Block& b = m.block(i);
        const BlockWord w{b.word.load_acquire()};
        if (w.state() > BlockState::freeing) {
            m.mark_corrupt();
            return;
        }
        if (w.state() == BlockState::unused || w.state() == BlockState::span) {
            if (b.links[kNextFree].load_relaxed() != spare) b.links[kNextFree].store_relaxed(spare);
            spare = i;
            continue;
        }
        if (b.links[kNextNeighbour].load_relaxed() != taken)
            b.links[kNextNeighbour].store_relaxed(taken);
        taken = i;
        ++blocks_taken;
        const u64 size = b.size.load_relaxed();
        (w.flags() & kFlagBody ? body_bytes : used) += size - b.slack.load_relaxed();
        (w.flags() & kFlagBody ? bodies : blocks) += 1;
    }
    if (!sort_by_offset(m, taken, blocks_taken)) return;
    reset_lists(m.heads());
    h.free_entries.store_relaxed(kNil);
    u64 at = 0;
    u32 previous = kNil;
    const auto take_spare = [&] {
        const u32 index = spare;
        if (index != kNil)
            spare = is_entry(m, index) ? m.block(index).links[kNextFree].load_relaxed() : kNil;
        return is_entry(m, index) ? index : kNil;
    };
    auto lay_span = [&](u64 end) {
        u32 index = take_spare();
        if (index == kNil) index = new_entry(m);
        if (index == kNil) return;  // the gap is found again by the next rebuild
        set_span(m, index, at, end - at, previous, kNil);
        if (previous != kNil) m.block(previous).links[kNextNeighbour].store_relaxed(index);
        push_free(m, index, end - at);
        previous = index;
    };
    for (u32 index = taken; blocks_taken != 0; --blocks_taken) {
        if (!is_entry(m, index)) {
            m.mark_corrupt();
            return;
        }
        Block& b = m.block(index);
        const u32 next = b.links[kNextNeighbour].load_relaxed();
        const u64 offset = b.offset.load_relaxed(), size = b.size.load_relaxed();
        if (offset < at || size == 0 || size > heap_top || offset > heap_top - size ||
            (offset | size) % kUnit != 0) {
            m.mark_corrupt();
            return;
        }
        if (offset > at) lay_span(offset);
        b.links[kPrevNeighbour].store_relaxed(previous);
        b.links[kNextNeighbour].store_relaxed(kNil);
        if (previous != kNil) m.block(previous).links[kNextNeighbour].store_relaxed(index);
        previous = index;
        at = offset + size;
        index = next;
    }
    if (at < heap_top) lay_span(heap_top);
    for (u32 index = take_spare(); index != kNil; index = take_spare())
        return_entry(m, index);
    h.last_entry.store_relaxed(previous);
    h.used.store_relaxed(used);
    h.body_bytes.store_relaxed(body_bytes);
    h.live_blocks.store_relaxed(static_cast<u32>(blocks));
    h.live_bodies.store_relaxed(static_cast<u32>(bodies));
}

u64 trim(Member& m, WaitPolicy& wait) noexcept {
    if (m.readonly) return 0;  // the memory is the file's
    u64 given_back = 0;
    const u32 top = std::min(m.header().blocks_top.load_acquire(), m.geo().max_blocks);
    for (u32 i = 1; i < top; ++i) {
        if (state_of(m, i) != BlockState::span ||
            (m.block(i).size.load_relaxed() < kExtent && m.header().last_entry.load_relaxed() != i))
            continue;
        // A lock per span: nobody waits for all of it.
        if (!good(lock_heap(m, wait))) return given_back;
        Place place;
        if (state_of(m, i) == BlockState::span && read_span(m, i, place)) {
            const u64 first = first_extent(place.offset),
                      end = end_extent(m, place.offset + place.size);
            u64 backed = 0;
            // Before the hole: who finds the bit set may write.
            for (u64 e = first; e < end; ++e) {
                if (!is_backed(m, e)) continue;
                extent_word(m, e).fetch_and(~(u64{1} << (e % 64)));
                backed += kExtent;
            }
            // Also where no bit was set: somebody may have died between a reservation and its bits.
            if (first < end && punch_extents(m, first, end) == 0) given_back += backed;
        }
        unlock(m.header().heap_lock);
    }
    return given_back;
}

HeapStats heap_stats(Member& m) noexcept {
    Header& h = m.header();
    u64 extents = 0;
    for (u64 e = 0; e < m.geo().capacity / kExtent + 1; e += 64)
        extents += static_cast<u64>(std::popcount(extent_word(m, e).load_relaxed()));
    return {m.geo().capacity,
            h.used.load_relaxed(),
            h.body_bytes.load_relaxed(),
            std::min(extents * kExtent, m.geo().capacity),
            h.heap_top.load_relaxed(),
            h.live_blocks.load_relaxed(),
            h.live_bodies.load_relaxed()};
}

std::vector<std::string> validate_heap(Member& m, WaitPolicy& wait) {
    std::vector<std::string> wrong;
    auto say = [&](const std::string& what) {
        if (wrong.size() < 50) wrong.push_back("heap: " + what);
    };
    Header& h = m.header();
    // Not lock_heap: a corrupt pool is looked at too.
    const Status locked = lock(h.heap_lock, m, wait);
    if (!good(locked)) return {"heap: its lock could not be taken"};
    const Unlocks unlocks(h.heap_lock);
    if (locked == Status::owner_died) rebuild_heap(m);
    const u32 top = std::min(h.blocks_top.load_relaxed(), m.geo().max_blocks);
    struct Tile {
        u64 offset, size;
        u32 index;
        bool span;
    };
    std::vector<Tile> tiles;
    u64 used = 0, body_bytes = 0, spans = 0;
    for (u32 i = 1; i < top; ++i) {
        Block& b = m.block(i);
        const BlockWord w{b.word.load()};
        if (w.state() == BlockState::unused) continue;
        if (w.state() > BlockState::freeing) {
            say("block " + std::to_string(i) + " has no valid state");
            continue;
        }
        const bool span = w.state() == BlockState::span;
        tiles.push_back({b.offset.load_relaxed(), b.size.load_relaxed(), i, span});
        spans += span;
        if (!span)
            (w.flags() & kFlagBody ? body_bytes : used) +=
                b.size.load_relaxed() - b.slack.load_relaxed();
        for (u32 s = 0; s < m.geo().max_processes; ++s) {
            if ((b.holder_word(s / 64).load() >> (s % 64) & 1) &&
                m.row(s).state.load() == static_cast<u32>(RowState::free)) {
                say("block " + std::to_string(i) + " is held by slot " + std::to_string(s) +
                    ", which nobody occupies");
            }
        }
    }
    std::sort(tiles.begin(), tiles.end(),
              [](const Tile& x, const Tile& y) { return x.offset < y.offset; });
    u64 at = 0;
    u32 previous = kNil;
    bool was_span = false;
    for (const Tile& t : tiles) {
        if (t.offset != at)
            say("the tiling breaks at byte " + std::to_string(at) + ": the next block starts at " +
                std::to_string(t.offset));
        if (m.block(t.index).links[kPrevNeighbour].load_relaxed() != previous)
            say("block " + std::to_string(t.index) + " has a wrong left neighbour");
        if (t.span && was_span)
            say("two free spans lie side by side at byte " + std::to_string(t.offset));
        was_span = t.span;
        previous = t.index;
        at = t.offset + t.size;
    }
    if (at != h.heap_top.load_relaxed())
        say("the tiling ends at " + std::to_string(at) + ", the heap at " +
            std::to_string(h.heap_top.load_relaxed()));
    if (previous != h.last_entry.load_relaxed())
        say("the last block is not the one the header names");
    if (used != h.used.load_relaxed())
        say("used is " + std::to_string(h.used.load_relaxed()) + ", live blocks have " +
            std::to_string(used) + " bytes");
    if (body_bytes != h.body_bytes.load_relaxed()) say("body bytes are miscounted");
    u64 listed = 0;
    for (u32 f = 0; f < kFirstLevels; ++f) {
        for (u32 s = 0; s < kSecondLevels; ++s) {
            u64 steps = 0;
            for (u32 i = m.heads().heads[f][s].load_relaxed(); i != kNil && steps <= tiles.size();
                 i = m.block(i).links[kNextFree].load_relaxed(), ++steps) {
                if (i >= top || state_of(m, i) != BlockState::span) {
                    say("a free list contains what is not free");
                    break;
                }
            }
            listed += steps;
        }
    }
    if (listed != spans)
        say(std::to_string(spans) + " free spans, " + std::to_string(listed) +
            " in the free lists");
    return wrong;
}

}  // namespace onecopy
