// The memory under the heap, for the files of this folder. An extent of 2 MiB has memory, or is a
// hole in the pool file. One bit for each extent says that its memory is reserved.
#pragma once
#include "heap/heap.hpp"

namespace onecopy::extents {

inline shm_atomic<u64>& extent_word(Member& m, u64 extent) noexcept {
    return m.at<shm_atomic<u64>>(m.geo().extents_off + extent / 64 * 8);
}
inline bool is_backed(Member& m, u64 extent) noexcept {
    return extent_word(m, extent).load_acquire() >> (extent % 64) & 1;  // [heap.extent]
}

// The first extent at or after `offset`, and the one behind the last extent that ends at or before
// it. At the end of the tiling, nobody has the rest of the extent (heap lock held).
inline u64 first_extent(u64 offset) noexcept {
    return (offset + kExtent - 1) / kExtent;
}
inline u64 end_extent(Member& m, u64 offset) noexcept {
    return offset == m.header().heap_top.load_relaxed() ? first_extent(offset) : offset / kExtent;
}

// A part of the heap, or nothing.
struct Part {
    u64 from = 0, to = 0;
};
// Reserves the memory that is missing under [offset, offset+size). Takes no lock. 0 or errno; or
// `interrupted`. `zeros`, if it is not nullptr: a part of the range that is zero, the longest one.
int back_with_memory(Member& m, u64 offset, u64 size, WaitPolicy& p, bool& interrupted,
                     Part* zeros) noexcept;
// Gives back what a reservation for this block has taken before it failed or was interrupted. The
// block is still ours.
void give_back_reserved(Member& m, u32 index, WaitPolicy& outer) noexcept;

}  // namespace onecopy::extents
