#include "heap/extents.hpp"

#include <algorithm>

#include "heap/tiling.hpp"
#include "os/memory.hpp"
#include "sync/structure_lock.hpp"

namespace onecopy::extents {

using namespace tiling;

static int punch_extents(Member& m, u64 first, u64 end) noexcept {
    const u64 to = std::min(end * kExtent, m.geo().capacity);
    return os::give_back(m.heap() + first * kExtent, to - first * kExtent);
}

// Reserves the memory that is missing under [offset, offset+size). It takes no lock: reserving
// twice is harmless, and an extent is given back only while it lies in a free span, or in a block
// that was not written yet. 0 or errno; or `interrupted`, because the kernel takes a third of a
// second for a gigabyte. The bits are set when all memory is there. Until then they tell
// `give_back_reserved` what this reservation has taken.
//
// A clear bit does not say that an extent is zero: a process may have died in `trim` before it gave
// the memory back. So, where zeros are wanted, an extent that is wholly in the block and has a
// clear bit is given back before it is reserved. No other process has any of it.
int back_with_memory(Member& m, u64 offset, u64 size, WaitPolicy& p, bool& interrupted,
                     Part* zeros) noexcept {
    constexpr u64 kPiece = 64 * kMiB / kExtent;
    Part run;
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
        const u64 own = std::max(start, first_extent(offset)), own_end = (offset + size) / kExtent;
        const Part inside{own * kExtent, std::min(e, own_end) * kExtent};
        const bool zero = zeros != nullptr && inside.from < inside.to &&
                          os::give_back(m.heap() + inside.from, inside.to - inside.from) == 0;
        if (int error = os::room_for(m.file, to - from)) return error;
        if (int error = m.file.reserve(from, to - from)) return error;
        if (zero) {
            run = {run.to == inside.from ? run.from : inside.from, inside.to};
            if (run.to - run.from > zeros->to - zeros->from) *zeros = run;
        }
        if (e < end && p.interrupted()) {
            interrupted = true;
            return 0;
        }
    }
    for (u64 e = first; e < end; ++e)
        if (!is_backed(m, e)) extent_word(m, e).fetch_or(u64{1} << (e % 64));  // [heap.extent]
    return 0;
}

// A process that reserves has a live block in the extent. So under the heap lock, no process is
// reserving an extent that is in this block and the free spans beside it. Nor was it written: this
// process has not begun, and others have not written since their blocks were freed. An extent that
// reaches into another live block stays: it is reserved by then, or the owner of that block gives
// it back.
//
// A death before this leaves the memory reserved under a free span, with its bits clear. `trim`
// gives it back. A process that allocates there finds it reserved already.
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

}  // namespace onecopy::extents

namespace onecopy {

using namespace tiling;
using namespace extents;

void note_reserved(Member& m) noexcept {
    const u64 extents = (m.geo().capacity + kExtent - 1) / kExtent;
    for (u64 e = 0; e < extents; e += 64) {
        const u64 n = std::min(extents - e, u64{64});
        extent_word(m, e).fetch_or(~u64{0} >> (64 - n));  // no bit beyond the last extent
    }
}

// An extent that is reserved already costs one system call. A member that is alone can do this for
// bits that are set beyond the memory of the file. While there are other members, the bits are
// believed: a process that can write the bitmap can cut the file short as well.
int reserve_marked(Member& m) noexcept {
    const Geometry& g = m.geo();
    // [pool.names_reserved]
    const u64 names = std::min<u64>(m.header().names_reserved.load_acquire(), g.max_names);
    // [pool.blocks_reserved]
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

u64 trim(Member& m, WaitPolicy& wait) noexcept {
    if (m.readonly) return 0;  // the memory belongs to the file
    u64 given_back = 0;
    // [pool.blocks_top]
    const u32 top = std::min(m.header().blocks_top.load_acquire(), m.geo().max_blocks);
    for (u32 i = 1; i < top; ++i) {
        if (state_of(m, i) != BlockState::span ||
            (m.block(i).size.load_relaxed() < kExtent && m.header().last_entry.load_relaxed() != i))
            continue;
        // One lock for each span, so that no process waits for all of it.
        if (!good(lock_heap(m, wait))) return given_back;
        Place place;
        if (state_of(m, i) == BlockState::span && read_span(m, i, place)) {
            const u64 first = first_extent(place.offset),
                      end = end_extent(m, place.offset + place.size);
            u64 backed = 0;
            // The bit goes before the memory: a process that finds the bit set may write.
            for (u64 e = first; e < end; ++e) {
                if (!is_backed(m, e)) continue;
                extent_word(m, e).fetch_and(~(u64{1} << (e % 64)));
                backed += kExtent;
            }
            // Also where no bit was set: a process may have died between a reservation and its
            // bits.
            if (first < end && punch_extents(m, first, end) == 0) given_back += backed;
        }
        unlock(m.header().heap_lock);
    }
    return given_back;
}

}  // namespace onecopy
