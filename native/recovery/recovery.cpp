// What a dead process leaves behind, and how it goes away. docs/design/0001-the-heart.md,
// "Recovery".
//
// Everything is done in the dead process's name and in its row, under its lock byte, in a fixed
// order of idempotent steps:
//   1 resolve its reference intent   2 generation += 1 (its locks are nobody's)   3 its bits, its
//   half-freed blocks   4 row free
// If the recoverer dies, its hold on the byte dies with it and the next one starts from the top.
#include "recovery/recovery.hpp"

#include <algorithm>
#include <mutex>

#include "containers/dict.hpp"
#include "containers/list.hpp"
#include "directory/directory.hpp"
#include "frames/frames.hpp"
#include "locks/barrier.hpp"
#include "locks/condition.hpp"
#include "locks/event.hpp"
#include "locks/mutex.hpp"
#include "locks/rwlock.hpp"
#include "locks/semaphore.hpp"
#include "os/forks.hpp"
#include "queue/queue.hpp"
#include "stream/stream.hpp"

namespace onecopy {
namespace {

// Open file description locks do not exclude threads of one process from each other: this does.
// Recursive, because cleaning one member may have to wait for a lock that another dead one holds.
std::recursive_mutex one_recovery_at_a_time;

bool cell_is_inside(Member& m, u64 offset) noexcept {
    return offset >= m.geo().names_off && offset <= m.length - 8 && offset % 8 == 0;
}

void resolve(Member& m, u32 slot) noexcept {
    Row& row = m.row(slot);
    const auto kind = static_cast<IntentKind>(row.intent.load_acquire());
    if (kind == IntentKind::none) return;
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
    // The cell of a plain swap, and the mark of the others, are guarded by a lock that the dead
    // process holds and that nobody can take over before its generation moves, or lie in a block
    // that only it could reach.
    bool committed = false;
    if (needs_mark)
        committed =
            m.at<shm_atomic<u64>>(mark_at).load_acquire() > row.intent_position.load_relaxed();
    if (kind == IntentKind::plain) committed = cell.load_acquire() == next;
    if (committed) {
        // A put that happened is finished: the cell belongs to the consumers now and must not be
        // touched.
        if (kind != IntentKind::put) {
            if (kind == IntentKind::take) cell.store(0);
            if (old != 0 && !refs::landed(m, old, slot, op, 1))
                refs::add(m, old, slot, op * 4 + 1, -1);
        }
    } else if (kind == IntentKind::take) {
        // Nothing happened yet: the item is still in the queue.
    } else {
        row.intent.store_release(static_cast<u32>(IntentKind::undo));
        cell.store(old);
        if (next != 0 && !refs::landed(m, next, slot, op, 2) &&
            refs::landed(m, next, slot, op, 0)) {
            refs::add(m, next, slot, op * 4 + 2, -1);
        }
    }
    row.intent.store_release(static_cast<u32>(IntentKind::none));
}

// `slot` is ours by its lock byte; it may be the slot we have just moved into.
void clean(Member& m, u32 slot) noexcept {
    Row& row = m.row(slot);
    row.state.store_release(static_cast<u32>(RowState::reaping));
    resolve(m, slot);
    row.gen.store(Member::next_generation(row.gen.load()));
    // [pool.death_epoch] a death in between: the next recoverer does both again.
    m.header().death_epoch.fetch_add(1);
    if (slot == m.slot) m.gen = row.gen.load();  // from here on we lock under the new generation
    UnboundedWait wait;
    const u64 bit = u64{1} << (slot % 64);
    const u32 top = std::min(m.header().blocks_top.load_acquire(), m.geo().max_blocks);
    for (u32 i = 1; i < top; ++i) {
        Block& b = m.block(i);
        // Entries of every state: it may have died while it looked at a stale handle or before it
        // committed an allocation.
        if (b.holder_word(slot / 64).load() & bit) b.holder_word(slot / 64).fetch_and(~bit);
        BlockWord w{b.word.load()};
        if (w.slot() == slot && w.state() == BlockState::tentative) {
            u64 expected = w.raw;
            b.word.cas(expected,
                       BlockWord::make(w.gen(), BlockState::live, kNoSlot, w.flags()).raw);
        } else if (w.slot() == slot && w.state() == BlockState::freeing) {
            // Decided before it died, and never reverted: finish it as ours. (In our own new slot
            // it is ours already.)
            u64 expected = w.raw;
            const u64 ours = BlockWord::make(w.gen(), BlockState::freeing, m.slot, w.flags()).raw;
            if (w.raw == ours || b.word.cas(expected, ours)) finish_free(m, i, wait);
            continue;
        }
        // Also what it had let go of without getting to free it; and a frame's home hears of it.
        if (BlockWord{b.word.load()}.state() == BlockState::live) try_free(m, i, wait);
    }
    row.swept.store_relaxed(row.swept.load_relaxed() + 1);
}

}  // namespace

void recover_held(Member& m, u32 slot) noexcept {
    clean(m, slot);
    m.row(slot).state.store_release(static_cast<u32>(RowState::free));
}

bool recover(Member& m, u32 slot) noexcept {
    if (slot == m.slot || slot >= m.geo().max_processes || !m.joined) return false;
    std::unique_lock only(one_recovery_at_a_time, std::try_to_lock);
    // Another thread is at it, or we are inside a recovery: the caller looks again later.
    if (!only.owns_lock()) return false;
    // Our own description must not be asked about bytes it holds itself; it holds only its slot's
    // and the membership's.
    if (m.lock_slot(slot) != os::ByteLock::taken) return false;
    const bool dead = m.row(slot).state.load_acquire() != static_cast<u32>(RowState::free);
    if (dead) {
        recover_held(m, slot);
    } else {
        // Nobody is there, so a lock word that names this generation has no owner: nobody who holds
        // a lock frees its row before the generation moves.
        m.row(slot).gen.store(Member::next_generation(m.row(slot).gen.load()));
    }
    m.unlock_slot(slot);
    return dead;
}

u32 collect_dead(Member& m) noexcept {
    if (!m.readonly && !m.file.is_ours()) return 0;  // noted, also where there is nobody to ask for
    u32 cleaned = 0;
    const u32 rows = std::min(m.header().rows_used.load_acquire(), m.geo().max_processes);
    for (u32 slot = 0; slot < rows; ++slot) {
        if (slot != m.slot && m.row(slot).state.load_acquire() != static_cast<u32>(RowState::free))
            cleaned += recover(m, slot);
    }
    return cleaned;
}

namespace {
void in_forked_child() noexcept {
    // Another thread of the parent may have been inside; it does not exist here.
    new (&one_recovery_at_a_time) std::recursive_mutex;
}
}  // namespace

namespace {
void format_upper(Member& m, bool reserved) noexcept {
    format_heap(m);
    if (reserved) note_reserved(m);
    directory::format(m);
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

std::vector<std::string> validate(Member& m, WaitPolicy& p) {
    std::vector<std::string> wrong = validate_heap(m, p);
    auto take = [&](std::vector<std::string>&& more) {
        wrong.insert(wrong.end(), more.begin(), more.end());
    };
    take(directory::validate(m));
    if (m.corrupt()) wrong.push_back("pool: it was marked corrupt");
    const u32 top = std::min(m.header().blocks_top.load_acquire(), m.geo().max_blocks);
    std::vector<u32> counted(top, 0);
    auto count = [&](Handle h) {
        const u32 i = handle_index(h);
        if (h != 0 && i < top) ++counted[i];
    };
    for (u32 i = 0; i < std::min(m.header().names_top.load_acquire(), m.geo().max_names); ++i)
        count(m.name(i).value.load_acquire());
    for (u32 i = 1; i < top; ++i) {
        Block& b = m.block(i);
        if (BlockWord{b.word.load()}.state() != BlockState::live) continue;
        BlockInfo info;
        if (inspect(m, i, info) != Status::ok) {
            wrong.push_back("block " + std::to_string(i) + ": lies outside the heap");
            continue;
        }
        switch (info.kind) {
            case BodyKind::queue:
                take(Queue::validate(m, i));
                break;
            case BodyKind::stream:
                take(Stream::validate(m, i));
                break;
            case BodyKind::frames:
                take(Frames::validate(m, i));
                break;
            case BodyKind::mutex:
                take(Mutex::validate(m, i));
                break;
            case BodyKind::rwlock:
                take(RwLock::validate(m, i));
                break;
            case BodyKind::semaphore:
                take(Semaphore::validate(m, i));
                break;
            case BodyKind::event:
                take(Event::validate(m, i));
                break;
            case BodyKind::condition:
                take(Condition::validate(m, i));
                break;
            case BodyKind::barrier:
                take(Barrier::validate(m, i));
                break;
            case BodyKind::list:
                take(List::validate(m, i));
                break;
            case BodyKind::dict:
                take(Dict::validate(m, i));
                break;
            default:
                break;
        }
    }
    // Only now: looking into a structure may have repaired it.
    for (u32 i = 1; i < top; ++i) {
        Block& b = m.block(i);
        BlockInfo info;
        if (BlockWord{b.word.load()}.state() != BlockState::live ||
            inspect(m, i, info) != Status::ok)
            continue;
        const u64 n = b.cells_count.load_acquire(), stride = b.cells_stride.load_relaxed(),
                  first = b.cells_offset.load_relaxed();
        if (n != 0 && (stride == 0 || (stride | first) % 8 != 0 || first > info.size ||
                       (n - 1) * stride + 8 > info.size - first)) {
            wrong.push_back("block " + std::to_string(i) +
                            ": its reference cells lie outside of it");
            continue;
        }
        for (u64 c = 0; c < n; ++c)
            count(
                reinterpret_cast<shm_atomic<u64>*>(info.data + first + c * stride)->load_acquire());
    }
    for (u32 i = 1; i < top; ++i) {
        const BlockWord w{m.block(i).word.load()};
        const u32 says = RefsWord{m.block(i).refs.load()}.count();
        if (w.state() == BlockState::live && says != counted[i]) {
            wrong.push_back("block " + std::to_string(i) + ": counts " + std::to_string(says) +
                            " references, there are " + std::to_string(counted[i]));
        }
        if (w.state() != BlockState::live && says != 0)
            wrong.push_back("block " + std::to_string(i) + ": is not live and counts references");
    }
    for (u32 s = 0; s < m.geo().max_processes; ++s) {
        if (m.row(s).state.load() == static_cast<u32>(RowState::free) &&
            m.row(s).intent.load() != 0) {
            wrong.push_back("slot " + std::to_string(s) +
                            ": nobody occupies it, but an intent is open");
        }
    }
    return wrong;
}

}  // namespace onecopy
