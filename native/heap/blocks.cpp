#include "heap/blocks.hpp"

#include <algorithm>

#include "heap/heap.hpp"
#include "sync/event_count.hpp"
#include "sync/structure_lock.hpp"

namespace onecopy {
namespace {

// Entries below this exist. Read once per use: the mark only grows.
u32 table_top(Member& m) noexcept {
    u32 top = m.header().blocks_top.load_acquire();  // [pool.blocks_top]
    return top <= m.geo().max_blocks ? top : 0;
}

bool any_holder(Block& b) noexcept {
    for (u32 w = 0; w < kHolderWords; ++w) {
        if (b.holder_word(w).load() != 0) return true;
    }
    return false;
}

// The order of the two reads matters. A process that turns a reference into a hold (queue get) sets
// its bit before the count goes down. A process that turns a hold into a reference (queue put)
// raises the count before it clears its bit. So a process that reads the holders first and the
// references second sees at least one of the two.
bool is_owned(Block& b) noexcept {
    return any_holder(b) || RefsWord{b.refs.load()}.count() != 0;
}

void set_bit(Member& m, Block& b) noexcept {
    b.holder_word(m.slot / 64).fetch_or(u64{1} << (m.slot % 64));  // [holders/word]
}
void clear_bit(Member& m, Block& b) noexcept {
    b.holder_word(m.slot / 64).fetch_and(~(u64{1} << (m.slot % 64)));
}

// With the private mutex held: two threads of a process share a slot, so their tentative words look
// the same. True: the block is `freeing`, by us.
bool decide(Member& m, Block& b) noexcept {
    for (;;) {
        BlockWord w{b.word.load()};
        if (w.state() != BlockState::live || is_owned(b)) return false;
        const u64 looking = BlockWord::make(w.gen(), BlockState::tentative, m.slot, w.flags()).raw;
        u64 expected = w.raw;
        if (!b.word.cas(expected, looking)) continue;
        // A process that sets its bit from here on sees `tentative` and turns it back. A bit that
        // was set before is seen now. [holders/word]
        if (is_owned(b)) {
            expected = looking;
            b.word.cas(expected, w.raw);
            continue;  // they may have released it in between, and seen `tentative`: look again
        }
        expected = looking;
        if (b.word.cas(expected,
                       BlockWord::make(w.gen(), BlockState::freeing, m.slot, w.flags()).raw))
            return true;
    }
}

}  // namespace

Status inspect(Member& m, u32 index, BlockInfo& out) noexcept {
    if (index == 0 || index >= table_top(m)) return Status::corrupt;
    Block& b = m.block(index);
    const BlockWord w{b.word.load_acquire()};  // [block.word]
    const u64 offset = b.offset.load_relaxed(), size = b.size.load_relaxed(),
              slack = b.slack.load_relaxed();
    const u64 capacity = m.geo().capacity;
    if (offset > capacity || size > capacity - offset || slack > size || offset % kUnit != 0)
        return Status::corrupt;
    out = {m.heap() + offset, offset,
           size - slack,      size,
           w.flags(),         static_cast<BodyKind>(b.links[kKind].load_relaxed() & 0xff)};
    return Status::ok;
}

Handle handle_of(Member& m, u32 index) noexcept {
    return make_handle(BlockWord{m.block(index).word.load()}.gen(), index);
}

Status hold(Member& m, Handle h) noexcept {
    const u32 index = handle_index(h);
    if (index == 0 || index >= table_top(m)) return h == 0 ? Status::stale : Status::corrupt;
    Block& b = m.block(index);
    {
        std::lock_guard guard(m.mutex);
        if (!m.joined.load(std::memory_order_relaxed)) return Status::closed;
        const bool first = m.local[index] == 0;
        if (first) set_bit(m, b);
        for (;;) {
            BlockWord w{b.word.load()};
            if (w.gen() != handle_gen(h)) break;
            if (w.state() == BlockState::live) {
                ++m.local[index];
                return Status::ok;
            }
            if (w.state() != BlockState::tentative) break;
            // Another process is finding out whether the block can be freed. It cannot: this one
            // holds it.
            u64 expected = w.raw;
            b.word.cas(expected,
                       BlockWord::make(w.gen(), BlockState::live, kNoSlot, w.flags()).raw);
        }
        // The bit belongs to a hold of the block that is here now.
        if (!first) return Status::stale;
        clear_bit(m, b);
    }
    // Our bit may have kept another process from freeing the block that is here now. Then it is for
    // us to free it.
    UnboundedWait wait;
    try_free(m, index, wait);
    return Status::stale;
}

void hold_again(Member& m, u32 index) noexcept {
    std::lock_guard guard(m.mutex);
    if (m.local[index]++ == 0) set_bit(m, m.block(index));
}

void drop(Member& m, u32 index, WaitPolicy& p) noexcept {
    {
        std::lock_guard guard(m.mutex);
        // Left already: the bits went then.
        if (!m.joined.load(std::memory_order_relaxed) || m.local[index] == 0) return;
        if (--m.local[index] != 0) return;
        clear_bit(m, m.block(index));
    }
    try_free(m, index, p);
}

// ---- references ---------------------------------------------------------------------------------

namespace refs {

// If `seen` names the current operation of another row: tells that row that its step landed, before
// the word is overwritten.
static void acknowledge(Member& m, RefsWord seen, u64 my_slot) noexcept {
    const u32 author = seen.slot();
    if (author == my_slot || author >= m.geo().max_processes) return;
    Row& row = m.row(author);
    const u64 op = row.op.load();
    if ((op & 0xffffffff) != seen.tag() >> 2)
        return;  // that row is at another operation: no process will ask
    const u64 full = op * 4 + (seen.tag() & 3);
    u64 known = row.ack.load();
    while (known < full && !row.ack.cas(known, full)) {
    }
}

bool add(Member& m, Handle h, u64 slot, u64 tag, int delta) noexcept {
    const u32 index = handle_index(h);
    if (index == 0 || index >= table_top(m)) return false;
    Block& b = m.block(index);
    u64 seen = b.refs.load();
    for (;;) {
        const RefsWord w{seen};
        if (delta > 0 ? w.count() >= kMaxRefs : w.count() == 0) return false;
        acknowledge(m, w, slot);
        // [block.refs]
        if (b.refs.cas(
                seen, RefsWord::make(w.count() + static_cast<u64>(static_cast<std::int64_t>(delta)),
                                     slot, tag)
                          .raw))
            return true;
    }
}

// Exact; see the design note. The order of the three loads is part of it: the word, the
// acknowledgement, and the generation last. A block that was given out again can only have been so
// after our step landed.
bool landed(Member& m, Handle h, u64 slot, u64 op, u64 step) noexcept {
    const u32 index = handle_index(h);
    if (index == 0 || index >= table_top(m)) return true;
    Block& b = m.block(index);
    const RefsWord w{b.refs.load()};
    const u64 tag = op * 4 + step;
    if (w.slot() == slot && w.tag() == (tag & RefsWord::kTagMask)) return true;
    if (m.row(static_cast<u32>(slot)).ack.load() >= tag) return true;
    return BlockWord{b.word.load()}.gen() != handle_gen(h);
}

void arm(Member& m, IntentKind kind, shm_atomic<u64>& cell, Handle old, Handle next,
         shm_atomic<u64>* mark, u64 position) noexcept {
    Row& row = m.own_row();
    // Before the kind: a death between them leaves no intent.
    row.op.store_release(row.op.load_relaxed() + 1);  // [row.op]
    row.intent_cell.store_relaxed(m.offset_of(&cell));
    row.intent_old.store_relaxed(old);
    row.intent_new.store_relaxed(next);
    row.intent_mark.store_relaxed(mark == nullptr ? 0 : m.offset_of(mark));
    row.intent_position.store_relaxed(position);
    row.intent.store_release(static_cast<u32>(kind));  // [row.intent]
}

void disarm(Member& m) noexcept {
    m.own_row().intent.store_release(static_cast<u32>(IntentKind::none));  // [row.intent]
}

}  // namespace refs

Status swap_cell(Member& m, shm_atomic<u64>& cell, Handle old, Handle next) noexcept {
    if (old == next) return Status::ok;
    std::lock_guard guard(m.mutex);
    refs::arm(m, IntentKind::plain, cell, old, next, nullptr, 0);
    const u64 tag = m.own_row().op.load_relaxed() * 4;
    if (next != 0 && !refs::add(m, next, m.slot, tag, +1)) {
        refs::disarm(m);
        return Status::table_full;
    }
    cell.store_release(next);  // COMMIT [block.cell]
    // The cell was counted. Or it was not our cell: then the pool is damaged.
    if (old != 0 && !refs::add(m, old, m.slot, tag + 1, -1)) m.mark_corrupt();
    refs::disarm(m);
    return Status::ok;
}

Status take_cell(Member& m, shm_atomic<u64>& cell, Handle old, shm_atomic<u64>& head,
                 u64 position) noexcept {
    std::lock_guard guard(m.mutex);
    refs::arm(m, IntentKind::take, cell, old, 0, &head, position);
    head.store_release(position + 1);  // COMMIT [queue.head]
    cell.store_relaxed(0);
    if (!refs::add(m, old, m.slot, m.own_row().op.load_relaxed() * 4 + 1, -1)) [[unlikely]]
        m.mark_corrupt();
    refs::disarm(m);
    return Status::ok;
}

void declare_cells(Member& m, u32 index, u32 offset, u32 stride, u32 count) noexcept {
    Block& b = m.block(index);
    b.cells_offset.store_relaxed(offset);
    b.cells_stride.store_relaxed(stride);
    b.cells_count.store_release(count);  // [block.cells]
}

// ---- releasing
// -----------------------------------------------------------------------------------

namespace {

// Empties the cells of a block that is `freeing` by us. Blocks that lose their last owner by that
// become `freeing` by us too, and join the list that begins with `work`.
void take_apart(Member& m, u32 index, u32& work) noexcept {
    Block& b = m.block(index);
    BlockInfo info;
    if (inspect(m, index, info) != Status::ok) {
        m.mark_corrupt();
        return;
    }
    // [block.cells]
    const u64 count = b.cells_count.load_acquire(), stride = b.cells_stride.load_relaxed(),
              first = b.cells_offset.load_relaxed();
    if (count == 0) return;
    if (first % 8 != 0 || stride % 8 != 0 || stride == 0 || first > info.size ||
        (count - 1) * stride + 8 > info.size - first) {
        m.mark_corrupt();
        return;
    }
    for (u64 i = 0; i < count; ++i) {
        auto& cell = *reinterpret_cast<shm_atomic<u64>*>(info.data + first + i * stride);
        Handle child = cell.load_acquire();  // [block.cell]
        if (child == 0) continue;
        if (info.kind == BodyKind::frames && handle_index(child) < table_top(m)) {
            // In the cells of frames only the index counts: a process may have acquired the frame
            // and died before it wrote the new generation.
            const Handle now = handle_of(m, handle_index(child));
            if (now != child) cell.store(child = now);
        }
        swap_cell(m, cell, child, 0);
        const u32 at = handle_index(child);
        if (at == 0 || at >= table_top(m)) continue;
        std::lock_guard guard(m.mutex);
        if (!decide(m, m.block(at))) continue;
        m.block(at).links[kHome].store_relaxed(work);
        work = at;
    }
}

}  // namespace

void finish_free(Member& m, u32 index, WaitPolicy& outer) noexcept {
    // What is decided is finished: neither a deadline nor a signal may leave it halfway.
    UninterruptibleWait p(outer);
    // No recursion: a chain of messages may be a million long. The list goes through the entries of
    // the blocks themselves, because memory may be freed when there is none left for a list. A
    // block that is being freed needs no home any more.
    u32 work = index;
    m.block(index).links[kHome].store_relaxed(kNil);
    while (work != kNil) {
        const u32 at = work;
        const BlockWord w{at < table_top(m) ? m.block(at).word.load() : 0};
        if (w.state() != BlockState::freeing || w.slot() != m.slot) return m.mark_corrupt();
        work = m.block(at).links[kHome].load_relaxed();
        take_apart(m, at, work);
        give_back(m, at, p);
    }
}

void try_free(Member& m, u32 index, WaitPolicy& p) noexcept {
    if (index == 0 || index >= table_top(m)) return;
    Block& b = m.block(index);
    bool ours = false;
    {
        std::lock_guard guard(m.mutex);
        if (!m.joined.load(std::memory_order_relaxed)) return;
        ours = decide(m, b);
    }
    if (ours) return finish_free(m, index, p);
    // A frame is free again if nothing but its home has it. One wake too many is harmless: the
    // block may be another one by now. The event lies outside of the body, which may be gone.
    const u32 home = b.links[kHome].load_relaxed();
    if (home != kNil && BlockWord{b.word.load()}.state() == BlockState::live && !any_holder(b) &&
        RefsWord{b.refs.load()}.count() == 1) {
        notify_all(m.header().frame_home[home % 15]);  // all: several bodies share an event
    }
}

}  // namespace onecopy
