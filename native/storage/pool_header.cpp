#include "storage/pool_header.hpp"

namespace onecopy::storage {

Status verify(const Header& h, u64 file_size, Failure& why) {
    if (h.magic != kMagic) return fail(why, kNotAPool, Status::corrupt);
    if (h.version != kVersion || h.layout_hash != layout_hash())
        return fail(why, "a pool of another version or build", Status::bad_version);
    if (h.max_processes == 0 || h.max_processes > kMaxProcesses || h.capacity == 0 ||
        h.capacity > kMaxCapacity)
        return fail(why, "the header's limits are impossible", Status::corrupt);
    const Geometry g = geometry(h.capacity, h.max_processes);
    if (g.capacity != h.capacity || g.rows_off != h.rows_off || g.heads_off != h.heads_off ||
        g.buckets_off != h.buckets_off || g.extents_off != h.extents_off ||
        g.names_off != h.names_off || g.blocks_off != h.blocks_off || g.heap_off != h.heap_off ||
        g.max_names != h.max_names || g.max_blocks != h.max_blocks || g.file_size != h.file_size)
        return fail(why, "the header's offsets do not fit its limits", Status::corrupt);
    if (file_size != g.file_size)
        return fail(why, "the file is not as long as its header says", Status::corrupt);
    return Status::ok;
}

}  // namespace onecopy::storage
