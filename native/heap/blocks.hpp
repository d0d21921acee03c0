// Blocks: who owns them, and the one way references change. Allocation itself is in heap/heap.hpp.
//
// Ownership: a process owns by its holder bit (behind it a private count), a container owns by a
// reference cell (a u64 in shared memory that contains a handle; the block counts the cells that
// point at it). See docs/design/0001-the-heart.md for every step and death.
#pragma once
#include "segment/member.hpp"

namespace onecopy {

struct BlockInfo {
    unsigned char* data;
    u64 offset;  // in the heap
    u64 length;  // bytes asked for
    u64 size;    // bytes taken
    u8 flags;    // BlockFlags
    BodyKind kind;
};

// ---- process ownership. hold/drop are counted per process and thread-safe.
// `hold`: ok, stale, corrupt (index outside the table). On ok the caller owes one drop.
Status hold(Member& m, Handle h) noexcept;
// Gives up one hold; frees the block if nothing else owns it. May wait for the heap lock.
void drop(Member& m, u32 index, WaitPolicy& p) noexcept;
// As `hold` for a block this process holds already (no check needed).
void hold_again(Member& m, u32 index) noexcept;

// Offsets come from shared memory: read once, checked against the heap. corrupt if they point
// outside.
Status inspect(Member& m, u32 index, BlockInfo& out) noexcept;
Handle handle_of(Member& m, u32 index) noexcept;  // of a block that is held

// ---- references
// Sets *cell (which contains `old`) to `next`, moving the counts. The caller guards the cell (a
// structure's lock, or sole ownership) and holds `next`. table_full when `next` has 2^20-1
// references. After it, the caller calls try_free(old) when it holds no shared lock it would mind
// keeping.
Status swap_cell(Member& m, shm_atomic<u64>& cell, Handle old, Handle next) noexcept;

// Put a reference into `cell` (null before) together with moving `tail` from position to
// position+1; `fill` writes the rest of the slot in between.
template <class Fill>
Status put_cell(Member& m, shm_atomic<u64>& cell, Handle next, shm_atomic<u64>& tail, u64 position,
                Fill fill) noexcept;
// Take the reference out of `cell` together with moving `head` from position to position+1. The
// caller already holds the block.
Status take_cell(Member& m, shm_atomic<u64>& cell, Handle old, shm_atomic<u64>& head,
                 u64 position) noexcept;

// Frees the block if nobody owns it. Safe to call at any time on any index.
void try_free(Member& m, u32 index, WaitPolicy& p) noexcept;

// The second half of try_free, for a block that is `freeing` by us (recovery takes such blocks over
// from the dead).
void finish_free(Member& m, u32 index, WaitPolicy& p) noexcept;

// Declares that a held block contains `count` reference cells (all null now), `stride` bytes apart,
// the first at `offset`.
void declare_cells(Member& m, u32 index, u32 offset, u32 stride, u32 count) noexcept;

// Building blocks, for this layer and for recovery.
namespace refs {
// False: would overflow or underflow.
bool add(Member& m, Handle h, u64 slot, u64 tag, int delta) noexcept;
bool landed(Member& m, Handle h, u64 slot, u64 op, u64 step) noexcept;
void arm(Member& m, IntentKind kind, shm_atomic<u64>& cell, Handle old, Handle next,
         shm_atomic<u64>* mark, u64 position) noexcept;
void disarm(Member& m) noexcept;
}  // namespace refs

template <class Fill>
Status put_cell(Member& m, shm_atomic<u64>& cell, Handle next, shm_atomic<u64>& tail, u64 position,
                Fill fill) noexcept {
    std::lock_guard guard(m.mutex);
    Row& row = m.own_row();
    refs::arm(m, IntentKind::put, cell, 0, next, &tail, position);
    if (!refs::add(m, next, m.slot, row.op.load_relaxed() * 4, +1)) {
        refs::disarm(m);
        return Status::table_full;
    }
    cell.store_relaxed(next);
    fill();
    tail.store_release(position + 1);  // COMMIT [queue.tail]
    refs::disarm(m);
    return Status::ok;
}

}  // namespace onecopy
