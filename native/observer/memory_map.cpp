#include "observer/memory_map.hpp"

#include <algorithm>

namespace onecopy::observer {
namespace {

constexpr u64 kPage = 4096;

constexpr u64 divided_up(u64 number, u64 by) noexcept {
    return number / by + (number % by != 0);
}

}  // namespace

MemoryMap::MemoryMap(u64 capacity)
    : cell_bytes(std::max(divided_up(divided_up(capacity, kMapCells), kPage), u64{1}) * kPage),
      cells(divided_up(capacity, cell_bytes), Cell{}) {}

void MemoryMap::add(u64 offset, u64 size, u32 block, u32 thing) noexcept {
    for (u64 i = offset / cell_bytes; i < cells.size() && size != 0; ++i) {
        Cell& cell = cells[i];
        const u64 here = std::min((i + 1) * cell_bytes - offset, size);
        // Blocks seem to overlap if one is freed and its memory given out again meanwhile.
        cell.used = std::min(cell.used + here, cell_bytes);
        if (here > cell.largest) {
            cell.largest = here;
            cell.block = block;
            cell.thing = thing;
        }
        offset += here;
        size -= here;
    }
}

}  // namespace onecopy::observer
