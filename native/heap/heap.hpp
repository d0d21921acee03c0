// The allocator: two-level segregated fit over the heap, boundary tags out of line in the block
// table.
#pragma once
#include <string>
#include <vector>

#include "heap/blocks.hpp"

namespace onecopy {

struct Allocated {
    u32 index = 0;
    unsigned char* data = nullptr;
};
struct BlockSpec {
    u64 bytes;
    u8 flags = 0;
    BodyKind kind = BodyKind::none;
    u32 home = kNil;    // frames body
    bool zero = false;  // payload zeroed
};
// A block held once by this process, its memory reserved. ok, no_memory (now), too_large (ever),
// timed_out, interrupted, corrupt. Looks for blocks of dead processes before it says no_memory.
Status allocate(Member& m, const BlockSpec& spec, WaitPolicy& p, Allocated& out) noexcept;

// Gives memory of free spans back to the system. Returns bytes.
u64 trim(Member& m, WaitPolicy& p) noexcept;

void format_heap(Member& m) noexcept;  // on a fresh segment
// Somebody reserved the memory of the whole heap.
void note_reserved(Member& m) noexcept;
// Makes true what marks and extents bitmap say is reserved; 0 or errno.
int reserve_marked(Member& m) noexcept;
Status lock_heap(Member& m, WaitPolicy& p) noexcept;  // repairs after a dead owner
// Heap lock held; block is `freeing` by us, its cells empty.
// Of a block that is `freeing` by us and has no cells any more: its memory goes back, now or, if
// the heap's lock is not to be had (its owner is stopped), with whoever has the lock next and needs
// memory or gives some back. Waits for no longer than it takes to notice.
void give_back(Member& m, u32 index, WaitPolicy& p) noexcept;
// What `give_back` left, in any process. True: there was some.
bool give_back_left(Member& m, WaitPolicy& p) noexcept;
void free_span(Member& m, u32 index) noexcept;
void rebuild_heap(Member& m) noexcept;  // heap lock held

struct HeapStats {
    u64 capacity, used, body_bytes, committed, heap_top, blocks, bodies;
};
HeapStats heap_stats(Member& m) noexcept;
std::vector<std::string> validate_heap(Member& m, WaitPolicy& p);

}  // namespace onecopy
