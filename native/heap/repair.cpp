// What the next owner of the heap lock rebuilds, and what `validate` checks.
#include <algorithm>

#include "heap/tiling.hpp"
#include "sync/unlocks.hpp"

namespace onecopy {

using namespace tiling;

namespace {

// Sorts `n` blocks by their offsets. They are chained by their next neighbours. A radix sort, from
// the lowest digit to the highest, in place: recovery must not need memory. False: the chain leads
// to no entry.
bool sort_by_offset(Member& m, u32& first, u32 n) noexcept {
    constexpr u32 kDigitBits = 10;
    u32 heads[1 << kDigitBits], tails[1 << kDigitBits];
    const auto link = [&](u32 from, u32 to) {
        auto& next = m.block(from).links[kNextNeighbour];
        if (next.load_relaxed() != to) next.store_relaxed(to);
    };
    for (u32 shift = 0; m.geo().capacity / kUnit >> shift != 0; shift += kDigitBits) {
        std::fill(std::begin(heads), std::end(heads), kNil);
        u32 at = first;
        for (u32 left = n; left != 0; --left) {
            if (!is_entry(m, at)) return broken(m);
            const u32 next = m.block(at).links[kNextNeighbour].load_relaxed();
            const u64 units = m.block(at).offset.load_relaxed() / kUnit;
            const u64 digit = units >> shift & ((1 << kDigitBits) - 1);
            if (heads[digit] == kNil)
                heads[digit] = at;
            else
                link(tails[digit], at);
            tails[digit] = at;
            at = next;
        }
        u32 last = kNil;
        for (u32 digit = 0; digit < 1 << kDigitBits; ++digit) {
            if (heads[digit] == kNil) continue;
            if (last == kNil)
                first = heads[digit];
            else
                link(last, heads[digit]);
            last = tails[digit];
        }
    }
    return true;
}

}  // namespace

void rebuild_heap(Member& m) noexcept {
    Header& h = m.header();
    const u32 top = h.blocks_top.load_relaxed();
    // The last owner died: no unlock has ordered what it stored. [pool.heap_top]
    const u64 heap_top = h.heap_top.load_acquire();
    const u64 reserved = h.blocks_reserved.load_acquire();  // [pool.blocks_reserved]
    if (top == 0 || top > reserved + 1 || reserved > m.geo().max_blocks ||
        top > m.geo().max_blocks || heap_top > m.geo().capacity) {
        m.mark_corrupt();
        return;
    }
    // Two chains through links that are derived: entries that nobody needs, and blocks.
    u32 spare = kNil, taken = kNil, blocks_taken = 0;
    u64 used = 0, bodies = 0, blocks = 0, body_bytes = 0;
    for (u32 i = top; i-- > 1;) {
        Block& b = m.block(i);
        const BlockWord w{b.word.load_acquire()};  // [block.word]
        if (w.state() > BlockState::freeing) {
            m.mark_corrupt();
            return;
        }
        if (w.state() == BlockState::unused || w.state() == BlockState::span) {
            if (b.links[kNextFree].load_relaxed() != spare) b.links[kNextFree].store_relaxed(spare);
            spare = i;
            continue;
        }
        if (b.links[kNextNeighbour].load_relaxed() != taken)
            b.links[kNextNeighbour].store_relaxed(taken);
        taken = i;
        ++blocks_taken;
        const u64 size = b.size.load_relaxed();
        (w.flags() & kFlagBody ? body_bytes : used) += size - b.slack.load_relaxed();
        (w.flags() & kFlagBody ? bodies : blocks) += 1;
    }
    if (!sort_by_offset(m, taken, blocks_taken)) return;
    reset_lists(m.heads());
    h.free_entries.store_relaxed(kNil);
    u64 at = 0;
    u32 previous = kNil;
    const auto take_spare = [&] {
        const u32 index = spare;
        if (index != kNil)
            spare = is_entry(m, index) ? m.block(index).links[kNextFree].load_relaxed() : kNil;
        return is_entry(m, index) ? index : kNil;
    };
    auto lay_span = [&](u64 end) {
        u32 index = take_spare();
        if (index == kNil) index = new_entry(m);
        if (index == kNil) return;  // the next rebuild finds the gap again
        set_span(m, index, at, end - at, previous, kNil);
        if (previous != kNil) m.block(previous).links[kNextNeighbour].store_relaxed(index);
        push_free(m, index, end - at);
        previous = index;
    };
    for (u32 index = taken; blocks_taken != 0; --blocks_taken) {
        if (!is_entry(m, index)) {
            m.mark_corrupt();
            return;
        }
        Block& b = m.block(index);
        const u32 next = b.links[kNextNeighbour].load_relaxed();
        const u64 offset = b.offset.load_relaxed(), size = b.size.load_relaxed();
        if (offset < at || size == 0 || size > heap_top || offset > heap_top - size ||
            (offset | size) % kUnit != 0) {
            m.mark_corrupt();
            return;
        }
        if (offset > at) lay_span(offset);
        b.links[kPrevNeighbour].store_relaxed(previous);
        b.links[kNextNeighbour].store_relaxed(kNil);
        if (previous != kNil) m.block(previous).links[kNextNeighbour].store_relaxed(index);
        previous = index;
        at = offset + size;
        index = next;
    }
    if (at < heap_top) lay_span(heap_top);
    for (u32 index = take_spare(); index != kNil; index = take_spare())
        return_entry(m, index);
    h.last_entry.store_relaxed(previous);
    h.used.store_relaxed(used);
    h.body_bytes.store_relaxed(body_bytes);
    h.live_blocks.store_relaxed(static_cast<u32>(blocks));
    h.live_bodies.store_relaxed(static_cast<u32>(bodies));
}

std::vector<std::string> validate_heap(Member& m, WaitPolicy& wait) {
    std::vector<std::string> wrong;
    auto say = [&](const std::string& what) {
        if (wrong.size() < 50) wrong.push_back("heap: " + what);
    };
    Header& h = m.header();
    // Not lock_heap: a corrupt pool is checked too.
    const Status locked = lock(h.heap_lock, m, wait);
    if (!good(locked)) return {"heap: its lock could not be taken"};
    const Unlocks unlocks(h.heap_lock);
    if (locked == Status::owner_died) rebuild_heap(m);
    const u32 top = std::min(h.blocks_top.load_relaxed(), m.geo().max_blocks);
    struct Tile {
        u64 offset, size;
        u32 index;
        bool span;
    };
    std::vector<Tile> tiles;
    u64 used = 0, body_bytes = 0, spans = 0;
    for (u32 i = 1; i < top; ++i) {
        Block& b = m.block(i);
        const BlockWord w{b.word.load()};
        if (w.state() == BlockState::unused) continue;
        if (w.state() > BlockState::freeing) {
            say("block " + std::to_string(i) + " has no valid state");
            continue;
        }
        const bool span = w.state() == BlockState::span;
        tiles.push_back({b.offset.load_relaxed(), b.size.load_relaxed(), i, span});
        spans += span;
        if (!span)
            (w.flags() & kFlagBody ? body_bytes : used) +=
                b.size.load_relaxed() - b.slack.load_relaxed();
        for (u32 s = 0; s < m.geo().max_processes; ++s) {
            if ((b.holder_word(s / 64).load() >> (s % 64) & 1) &&
                m.row(s).state.load() == static_cast<u32>(RowState::free)) {
                say("block " + std::to_string(i) + " is held by slot " + std::to_string(s) +
                    ", which nobody occupies");
            }
        }
    }
    std::sort(tiles.begin(), tiles.end(),
              [](const Tile& x, const Tile& y) { return x.offset < y.offset; });
    u64 at = 0;
    u32 previous = kNil;
    bool was_span = false;
    for (const Tile& t : tiles) {
        if (t.offset != at)
            say("the tiling breaks at byte " + std::to_string(at) + ": the next block starts at " +
                std::to_string(t.offset));
        if (m.block(t.index).links[kPrevNeighbour].load_relaxed() != previous)
            say("block " + std::to_string(t.index) + " has a wrong left neighbour");
        if (t.span && was_span)
            say("two free spans lie side by side at byte " + std::to_string(t.offset));
        was_span = t.span;
        previous = t.index;
        at = t.offset + t.size;
    }
    if (at != h.heap_top.load_relaxed())
        say("the tiling ends at " + std::to_string(at) + ", the heap at " +
            std::to_string(h.heap_top.load_relaxed()));
    if (previous != h.last_entry.load_relaxed())
        say("the last block is not the one the header names");
    if (used != h.used.load_relaxed())
        say("used is " + std::to_string(h.used.load_relaxed()) + ", live blocks have " +
            std::to_string(used) + " bytes");
    if (body_bytes != h.body_bytes.load_relaxed()) say("body bytes are miscounted");
    u64 listed = 0;
    for (u32 f = 0; f < kFirstLevels; ++f) {
        for (u32 s = 0; s < kSecondLevels; ++s) {
            u64 steps = 0;
            for (u32 i = m.heads().heads[f][s].load_relaxed(); i != kNil && steps <= tiles.size();
                 i = m.block(i).links[kNextFree].load_relaxed(), ++steps) {
                if (i >= top || state_of(m, i) != BlockState::span) {
                    say("a free list contains what is not free");
                    break;
                }
            }
            listed += steps;
        }
    }
    if (listed != spans)
        say(std::to_string(spans) + " free spans, " + std::to_string(listed) +
            " in the free lists");
    return wrong;
}

}  // namespace onecopy
