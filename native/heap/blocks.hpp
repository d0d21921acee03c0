// Blocks: which processes own them, and the one way in which references change. Allocation is in
// heap/heap.hpp.
//
// A process owns a block by its holder bit; behind the bit it has a private count. A container owns
// a block by a reference cell, a u64 in shared memory that contains a handle; the block counts the
// cells that refer to it. Every step and every death: docs/design/0001-the-heart.md.
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
// Gives up one hold. Frees the block if nothing else owns it. May wait for the heap lock.
void drop(Member& m, u32 index, WaitPolicy& p) noexcept;
// As `hold`, for a block that this process holds already: nothing needs to be checked.
void hold_again(Member& m, u32 index) noexcept;

// The place of a block. The offsets come from shared memory: they are read once and checked against
// the heap. corrupt: they point outside.
Status inspect(Member& m, u32 index, BlockInfo& out) noexcept;
Handle handle_of(Member& m, u32 index) noexcept;  // of a block that is held

// ---- references
// Sets `cell` from `old` to `next`, and moves the counts. The caller guards the cell, by the
// structure's lock or because only it knows the cell, and holds `next`. table_full: `next` has
// 2^20-1 references. Afterwards the caller calls try_free(old), as soon as it has no lock that it
// should not keep.
Status swap_cell(Member& m, shm_atomic<u64>& cell, Handle old, Handle next) noexcept;

// Puts a reference into `cell`, which is null, and moves `tail` from position to position+1. `fill`
// writes the rest of the slot in between.
template <class Fill>
Status put_cell(Member& m, shm_atomic<u64>& cell, Handle next, shm_atomic<u64>& tail, u64 position,
                Fill fill) noexcept;
// Takes the reference out of `cell`, and moves `head` from position to position+1. The caller holds
// the block already.
Status take_cell(Member& m, shm_atomic<u64>& cell, Handle old, shm_atomic<u64>& head,
                 u64 position) noexcept;

// Frees the block if it has no owner. It may be called at any time with any index.
void try_free(Member& m, u32 index, WaitPolicy& p) noexcept;

// The second half of try_free, for a block that is `freeing` by us. Recovery takes such blocks over
// from dead processes.
void finish_free(Member& m, u32 index, WaitPolicy& p) noexcept;

// Declares that a held block contains `count` reference cells, `stride` bytes apart, the first at
// `offset`. All of them are null now.
void declare_cells(Member& m, u32 index, u32 offset, u32 stride, u32 count) noexcept;

// The steps of a change of references, for this folder and for recovery.
namespace refs {
// False: the count would overflow or underflow.
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
