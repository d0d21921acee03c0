// Which parts of a pool's memory are in use, in the order of their addresses.
// docs/design/0022-observer.md
//
//|  heap   |0                                                            capacity|
//|  cells  |   0   |   1   |   2   |  …                              | n - 1 |       n <= kMapCells
//|  blocks    [a][b]  [c          ]       the largest part of cell 0 is a's or b's, of cell 1 c's
#pragma once
#include <vector>

#include "layout/layout.hpp"

namespace onecopy::observer {

inline constexpr u64 kMapCells = 512;

struct Cell {
    u64 used;     // bytes that blocks take
    u64 largest;  // bytes that `block` takes, more than any other block
    u32 block;    // 0: none
    u32 thing;    // the one that keeps `block`; 0: none
    u32 holder;   // one of the slots that hold `block`; only if `holders` is not 0
    u32 holders;  // how many hold it
};

struct MemoryMap {
    u64 cell_bytes = 0;
    std::vector<Cell> cells;

    MemoryMap() = default;
    // All cells are free. Throws std::bad_alloc.
    explicit MemoryMap(u64 capacity);

    // A block, by its place in the heap, with the thing that keeps it. What lies outside of the
    // cells is left out.
    void add(u64 offset, u64 size, u32 block, u32 thing) noexcept;
};

}  // namespace onecopy::observer
