// Cleaning up the slot of a dead process. docs/design/0001-the-heart.md, "Recovery".
//
// Everything is done in the name of the dead process and in its row, under its lock byte, in a
// fixed order of idempotent steps:
//
//|  1 resolve the intent of its reference operation
//|  2 generation += 1: its locks name nobody from here on
//|  3 its holder bits; blocks that it was freeing
//|  4 row := free
//
// If the process that does this dies, its lock on the byte goes with it, and the next one begins
// from the top.
#include "recovery/recovery.hpp"

#include <algorithm>
#include <mutex>

#include "body/structures.hpp"
#include "os/forks.hpp"

namespace onecopy {
namespace {

// Open file description locks do not exclude threads of one process from each other: this does. It
// is recursive, because cleaning up one member may have to wait for a lock that another dead member
// has.
std::recursive_mutex one_recovery_at_a_time;

bool cell_is_inside(Member& m, u64 offset) noexcept {
    return offset >= m.geo().names_off && offset <= m.length - 8 && offset % 8 == 0;
}

void resolve(Member& m, u32 slot) noexcept {
    Row& row = m.row(slot);
    const auto kind = static_cast<IntentKind>(row.intent.load_acquire());  // [row.intent]
    if (kind == IntentKind::none) return;
    // [row.op]
    const u64 op = row.op.load(), cell_at = row.intent_cell.load_relaxed(),
              mark_at = row.intent_mark.load_relaxed();
    const Handle old = row.intent_old.load_relaxed(), next = row.intent_new.load_relaxed();
    const bool needs_mark = kind == IntentKind::put || kind == IntentKind::take;
    if (kind > IntentKind::undo || !cell_is_inside(m, cell_at) ||
        (needs_mark && !cell_is_inside(m, mark_at))) {
        m.mark_corrupt();
        return;
    }
    auto& cell = m.at<shm_atomic<u64>>(cell_at);
    // The cell of a plain swap, and the mark of the other kinds, are guarded by a lock that the
    // dead process has: nobody can take it over before the generation moves. Or they lie in a block
    // that only the dead process knew.
    bool committed = false;
    // [queue.tail]
    if (needs_mark)
        committed =
            m.at<shm_atomic<u64>>(mark_at).load_acquire() > row.intent_position.load_relaxed();
    if (kind == IntentKind::plain) committed = cell.load_acquire() == next;  // [queue.tail]
    if (committed) {
        // A put that has happened is finished: its cell belongs to the consumers by now, and must
        // not be touched.
        if (kind != IntentKind::put) {
            if (kind == IntentKind::take) cell.store(0);
            if (old != 0 && !refs::landed(m, old, slot, op, 1))
                refs::add(m, old, slot, op * 4 + 1, -1);
        }
    } else if (kind == IntentKind::take) {
        // Nothing has happened yet: the item is still in the queue.
    } else {
        row.intent.store_release(static_cast<u32>(IntentKind::undo));  // [row.intent]
        cell.store(old);
        if (next != 0 && !refs::landed(m, next, slot, op, 2) &&
            refs::landed(m, next, slot, op, 0)) {
            refs::add(m, next, slot, op * 4 + 2, -1);
        }
    }
    row.intent.store_release(static_cast<u32>(IntentKind::none));  // [row.intent]
}

// `slot` is ours by its lock byte. It may be the slot that this process has just taken.
void clean(Member& m, u32 slot) noexcept {
    Row& row = m.row(slot);
    row.state.store_release(static_cast<u32>(RowState::reaping));  // [row.state]
    resolve(m, slot);
    row.gen.store(Member::next_generation(row.gen.load()));
    // After a death in between, the next recoverer does both again. [pool.death_epoch]
    m.header().death_epoch.fetch_add(1);
    if (slot == m.slot)
        m.gen = row.gen.load();  // from here on this process locks under the new generation
    UnboundedWait wait;
    const u64 bit = u64{1} << (slot % 64);
    // [pool.blocks_top]
    const u32 top = std::min(m.header().blocks_top.load_acquire(), m.geo().max_blocks);
    for (u32 i = 1; i < top; ++i) {
        Block& b = m.block(i);
        // Entries of every state: the process may have died while it looked at a stale handle, or
        // before it committed an allocation.
        if (b.holder_word(slot / 64).load() & bit) b.holder_word(slot / 64).fetch_and(~bit);
        BlockWord w{b.word.load()};
        if (w.slot() == slot && w.state() == BlockState::tentative) {
            u64 expected = w.raw;
            b.word.cas(expected,
                       BlockWord::make(w.gen(), BlockState::live, kNoSlot, w.flags()).raw);
        } else if (w.slot() == slot && w.state() == BlockState::freeing) {
            // Decided before its death, and never taken back: this process finishes it in its own
            // name. (In a slot that was just taken, it is ours already.)
            u64 expected = w.raw;
            const u64 ours = BlockWord::make(w.gen(), BlockState::freeing, m.slot, w.flags()).raw;
            if (w.raw == ours || b.word.cas(expected, ours)) finish_free(m, i, wait);
            continue;
        }
        // Also a block that it released and did not get to free. If it is a frame, its home is
        // notified.
        if (BlockWord{b.word.load()}.state() == BlockState::live) try_free(m, i, wait);
    }
    row.swept.store_relaxed(row.swept.load_relaxed() + 1);
}

}  // namespace

void recover_held(Member& m, u32 slot) noexcept {
    clean(m, slot);
    m.row(slot).state.store_release(static_cast<u32>(RowState::free));  // [row.state]
}

bool recover(Member& m, u32 slot) noexcept {
    if (slot == m.slot || slot >= m.geo().max_processes || !m.joined) return false;
    std::unique_lock only(one_recovery_at_a_time, std::try_to_lock);
    // Another thread recovers, or this thread is inside of a recovery: the caller looks again
    // later.
    if (!only.owns_lock()) return false;
    // Our own open file description must not be asked about bytes that it has locked itself: those
    // are its slot's and the member byte.
    if (m.lock_slot(slot) != os::ByteLock::taken) return false;
    // [row.state]
    const bool dead = m.row(slot).state.load_acquire() != static_cast<u32>(RowState::free);
    if (dead) {
        recover_held(m, slot);
    } else {
        // The slot is empty, so a lock word with this generation has no owner: a process that has a
        // lock does not free its row before the generation moves.
        m.row(slot).gen.store(Member::next_generation(m.row(slot).gen.load()));
    }
    m.unlock_slot(slot);
    return dead;
}

namespace {
void in_forked_child() noexcept {
    // Another thread of the parent may have had it; that thread does not exist here.
    new (&one_recovery_at_a_time) std::recursive_mutex;
}

void format_upper(Member& m, bool reserved) noexcept {
    format_heap(m);
    if (reserved) note_reserved(m);
    format_names(m);
}
}  // namespace

void install_recovery() noexcept {
    Member::upper = {&format_upper, &reserve_marked,
                     [](Member& m, u32 block, WaitPolicy& p) noexcept { drop(m, block, p); }};
    Member::recover_slot = &recover;
    static const bool installed = (os::run_in_children(in_forked_child), true);
    static_cast<void>(installed);
    Member::recover_own = [](Member& m) noexcept { clean(m, m.slot); };
}

}  // namespace onecopy
