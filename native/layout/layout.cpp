#include "layout/layout.hpp"

#include <algorithm>

namespace onecopy {

Geometry geometry(u64 capacity, u32 max_processes) noexcept {
    Geometry g{};
    g.capacity = round_up(capacity, 64 * kKiB);
    g.max_processes = max_processes;
    // Address space only: memory is reserved for the part of both tables that is used.
    g.max_names = static_cast<u32>(std::clamp<u64>(g.capacity / kKiB, 4096, 262144));
    g.max_blocks = static_cast<u32>(std::clamp<u64>(g.capacity / 256, 4096, u64{1} << 26));
    g.rows_off = kHeaderBytes;
    g.heads_off = g.rows_off + round_up(u64{max_processes} * sizeof(Row), 4096);
    g.buckets_off = g.heads_off + round_up(sizeof(HeapIndex), 4096);
    g.extents_off = g.buckets_off + u64{kBuckets} * sizeof(u32);
    g.names_off = g.extents_off + round_up(g.capacity / kExtent / 8 + 8, 4096);
    g.blocks_off = g.names_off + round_up(u64{g.max_names} * sizeof(NameEntry), 64 * kKiB);
    g.heap_off = round_up(g.blocks_off + u64{g.max_blocks} * sizeof(Block), kExtent);
    g.file_size = g.heap_off + g.capacity;
    return g;
}

u64 fixed_layout() noexcept {
    return fold_layouts({kVersion,
                         kPackedVersion,
                         kMessageLayout,
                         sizeof(void*),
                         64,  // cache line
                         LockWord::layout(),
                         EventCount::layout(),
                         Header::layout(),
                         WaitRecord::layout(),
                         Row::layout(),
                         Block::layout(),
                         NameEntry::layout(),
                         HeapIndex::layout(),
                         kMaxProcesses,
                         kUnit,
                         kExtent,
                         kBuckets,
                         kNameBytes,
                         kFirstLevels,
                         kSecondLevels});
}

}  // namespace onecopy
