// Blocks and free spans tile the heap. For the files of this folder: what is read of the tiling,
// and what is derived from it (free lists, neighbour links). All of it under the heap lock.
#pragma once
#include "heap/heap.hpp"

namespace onecopy::tiling {

// ---- what is read, and checked before it is used ------------------------------------------------

// A process that can write the file may have written anything into the table and the index. What is
// used as an index, an offset or a size is read once and checked. A wrong value marks the pool
// corrupt; then no process allocates or frees in it any more.
inline bool broken(Member& m) noexcept {
    m.mark_corrupt();
    return false;
}

// These loads cost little: they read the cache line of the heap lock.
inline bool is_entry(Member& m, u32 index) noexcept {
    const u32 top = m.header().blocks_top.load_relaxed();
    return index != 0 && index < top && top <= m.geo().max_blocks;
}
inline bool is_entry_or_nil(Member& m, u32 index) noexcept {
    return index == kNil || is_entry(m, index);
}

struct Place {
    u64 offset = 0, size = 0;
};

// The place of an entry. False: there is no such entry, or it is outside of the tiling. Then the
// pool is marked corrupt.
inline bool read_place(Member& m, u32 index, Place& out) noexcept {
    if (!is_entry(m, index)) return broken(m);
    const Block& b = m.block(index);
    out = {b.offset.load_relaxed(), b.size.load_relaxed()};
    const u64 top = m.header().heap_top.load_relaxed();
    const bool sound = top <= m.geo().capacity && out.size != 0 && out.size <= top &&
                       out.offset <= top - out.size && (out.offset | out.size) % kUnit == 0;
    return sound || broken(m);
}

inline BlockState state_of(Member& m, u32 index) noexcept {
    return BlockWord{m.block(index).word.load_relaxed()}.state();
}

inline bool read_span(Member& m, u32 index, Place& out) noexcept {
    return read_place(m, index, out) && (state_of(m, index) == BlockState::span || broken(m));
}

// ---- what is derived ----------------------------------------------------------------------------

void reset_lists(HeapIndex& heads) noexcept;
// Puts a free span into its list. `size` is the one in the entry; the caller has checked it.
bool push_free(Member& m, u32 index, u64 size) noexcept;
// Takes it out of its list. The neighbours in the list must name each other: so a ring, or a list
// that runs into another one, is noticed here.
bool remove_free(Member& m, u32 index, u64 size) noexcept;
// An unused entry of the table. kNil: the table, or the memory under it, is full, or the pool is
// corrupt.
u32 new_entry(Member& m) noexcept;
inline void return_entry(Member& m, u32 index) noexcept {
    Header& h = m.header();
    Block& b = m.block(index);
    b.word.store_release(  // [block.word]
        BlockWord::make(BlockWord{b.word.load_relaxed()}.gen(), BlockState::unused, kNoSlot, 0)
            .raw);
    b.links[kNextFree].store_relaxed(h.free_entries.load_relaxed());
    h.free_entries.store_relaxed(index);
}
inline void set_span(Member& m, u32 index, u64 offset, u64 size, u32 previous, u32 next) noexcept {
    Block& b = m.block(index);
    b.offset.store_relaxed(offset);
    b.size.store_relaxed(size);
    b.slack.store_relaxed(0);
    b.links[kPrevNeighbour].store_relaxed(previous);
    b.links[kNextNeighbour].store_relaxed(next);
    b.word.store_release(  // [block.word]
        BlockWord::make(BlockWord{b.word.load_relaxed()}.gen(), BlockState::span, kNoSlot, 0).raw);
}
// Takes a span for a block that this process holds once. The store of its word is the COMMIT.
Status take_span(Member& m, const BlockSpec& spec, u64 size, u32& out, u64& offset) noexcept;

}  // namespace onecopy::tiling
