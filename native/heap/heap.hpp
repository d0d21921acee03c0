// The allocator: two-level segregated fit. The boundary tags are not in the heap but in the block
// table.
#pragma once
#include <string>
#include <vector>

#include "heap/blocks.hpp"

namespace onecopy {

struct Allocated {
    u32 index = 0;
    unsigned char* data = nullptr;
    u64 zero_from = 0, zero_to = 0;  // this part of the payload is zero, if zeros were wanted
};
struct BlockSpec {
    u64 bytes;
    u8 flags = 0;
    BodyKind kind = BodyKind::none;
    u32 home = kNil;          // frames body
    bool zero = false;        // payload zeroed
    bool zero_later = false;  // the caller will call `zero`, where other threads can run
};
// A block that this process holds once, with its memory reserved. ok, no_memory (now), too_large
// (ever), timed_out, interrupted, corrupt. Before it answers no_memory, it looks for blocks of dead
// processes.
Status allocate(Member& m, const BlockSpec& spec, WaitPolicy& p, Allocated& out) noexcept;
// Makes the first `bytes` of the payload zero. Memory that was reserved for this block is zero
// already, and is not touched.
void zero(const Allocated& block, u64 bytes) noexcept;

// Gives the memory of free spans back to the system. How many bytes.
u64 trim(Member& m, WaitPolicy& p) noexcept;

void format_heap(Member& m) noexcept;  // in a fresh pool
// Notes that the memory of the whole heap was reserved.
void note_reserved(Member& m) noexcept;
// Reserves what the marks and the extents bitmap say is reserved. 0 or errno.
int reserve_marked(Member& m) noexcept;
Status lock_heap(Member& m, WaitPolicy& p) noexcept;  // repairs the heap if the last owner died
// Gives back the memory of a block that is `freeing` by us and has no cells any more. If the heap
// lock is not to be had, because its owner is stopped, the block is left. The next process that has
// the lock and needs memory, or gives some back, frees it. The wait is just long enough to notice
// that.
void give_back(Member& m, u32 index, WaitPolicy& p) noexcept;
// Frees the blocks that `give_back` left, in any process. True: there were some.
bool give_back_left(Member& m, WaitPolicy& p) noexcept;
// Heap lock held. Makes a free span of a block that is `freeing` by us, or was left; it has no
// cells any more.
void free_span(Member& m, u32 index) noexcept;
void rebuild_heap(Member& m) noexcept;  // heap lock held

struct HeapStats {
    u64 capacity, used, body_bytes, committed, heap_top, blocks, bodies;
};
HeapStats heap_stats(Member& m) noexcept;
std::vector<std::string> validate_heap(Member& m, WaitPolicy& p);

}  // namespace onecopy
