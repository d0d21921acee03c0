// Allocation, and giving back. The tiling is in tiling.hpp, the memory under it in extents.hpp.
#include "heap/heap.hpp"

#include <algorithm>
#include <bit>
#include <cerrno>
#include <cstring>

#include "base/bits.hpp"
#include "heap/extents.hpp"
#include "heap/tiling.hpp"
#include "sync/event_count.hpp"
#include "sync/structure_lock.hpp"

namespace onecopy {

using namespace tiling;
using namespace extents;

namespace {

// A block that could not be freed, because the heap lock could not be acquired, is `freeing`
// without a process. Any process that has the lock may free it. It names no process, so the death
// of the one that left it changes nothing.
bool is_left(Member& m, u32 index) noexcept {
    const BlockWord w{m.block(index).word.load_acquire()};  // [block.word]
    return w.state() == BlockState::freeing && w.slot() == kNoSlot;
}
// With the lock.
bool free_left(Member& m) noexcept {
    m.has_left_blocks.store(false, std::memory_order_relaxed);
    bool any = false;
    // [pool.blocks_top]
    const u32 top = std::min(m.header().blocks_top.load_acquire(), m.geo().max_blocks);
    for (u32 i = 1; i < top && !m.corrupt(); ++i) {
        if (!is_left(m, i)) continue;
        free_span(m, i);
        any = true;
    }
    return any;
}
// Every operation calls it with the heap lock.
void free_own_left(Member& m) noexcept {
    if (m.has_left_blocks.load(std::memory_order_relaxed)) [[unlikely]]
        free_left(m);
}

Status allocate_once(Member& m, const BlockSpec& spec, u64 size, WaitPolicy& p, Allocated& out,
                     int& error) noexcept {
    u32 index = 0;
    u64 offset = 0;
    if (Status s = lock_heap(m, p); !good(s)) return s;
    free_own_left(m);
    const Status taken = take_span(m, spec, size, index, offset);
    unlock(m.header().heap_lock);
    if (taken != Status::ok) return taken;
    bool interrupted = false;
    Part zeros;
    const bool wanted = spec.zero || spec.zero_later;
    error = back_with_memory(m, offset, size, p, interrupted, wanted ? &zeros : nullptr);
    if (error != 0 || interrupted) {
        give_back_reserved(m, index, p);
        drop(m, index, p);
        if (interrupted) return Status::interrupted;
        if (m.file.lost()) return Status::lost;
        return error == ENOSPC || error == ENOMEM || error == EDQUOT ? Status::no_memory
                                                                     : Status::system_error;
    }
    out = {index, m.heap() + offset};
    if (zeros.to != 0) {
        out.zero_from = zeros.from - offset;
        out.zero_to = zeros.to - offset;
    }
    if (spec.zero) zero(out, size);
    return Status::ok;
}

}  // namespace

void zero(const Allocated& block, u64 bytes) noexcept {
    const u64 from = std::min(block.zero_from, bytes), to = std::min(block.zero_to, bytes);
    std::memset(block.data, 0, from);
    std::memset(block.data + to, 0, bytes - to);
    crash_point();
}

Status lock_heap(Member& m, WaitPolicy& p) noexcept {
    if (m.corrupt()) return Status::corrupt;
    const Status s = lock(m.header().heap_lock, m, p);
    if (s != Status::owner_died) return s;
    rebuild_heap(m);
    if (!m.corrupt()) return s;
    unlock(m.header().heap_lock);
    return Status::corrupt;
}

Status allocate(Member& m, const BlockSpec& spec, WaitPolicy& p, Allocated& out) noexcept {
    if (Status s = m.usable(); s != Status::ok) return s;
    if (spec.bytes > m.geo().capacity) return Status::too_large;
    const u64 size = round_up(std::max<u64>(spec.bytes, 1), kUnit);
    int error = 0;
    Status s = allocate_once(m, spec, size, p, out, error);
    if (s != Status::no_memory) return s;
    // First the blocks of dead processes. Then reserved memory under large free spans.
    bool found = recover_dead(m) != 0;
    found |= give_back_left(m, p);
    if (error != 0) trim(m, p);
    return found || error != 0 ? allocate_once(m, spec, size, p, out, error) : s;
}

void give_back(Member& m, u32 index, WaitPolicy& outer) noexcept {
    // Longer than an owner needs that has lost its core, and long enough to find out that it is
    // dead.
    constexpr std::int64_t kFreeWait = 50'000'000;
    LockWord& heap_lock = m.header().heap_lock;
    Status s = m.corrupt() ? Status::corrupt : Status::would_block;
    if (s == Status::would_block && try_lock(heap_lock, m)) s = Status::ok;
    if (s == Status::would_block) {
        // A caller that gives back many blocks does not wait for each of them.
        constexpr std::int64_t kBeforeWaitingAgain = 1'000'000'000;
        const std::int64_t now = os::monotonic_ns();
        const bool stuck = now < m.heap_is_stuck_until.load(std::memory_order_relaxed);
        UninterruptibleWait p(outer, stuck ? 0 : now + kFreeWait);
        s = lock_heap(m, p);
        if (good(s))
            m.heap_is_stuck_until.store(0, std::memory_order_relaxed);
        else if (!stuck)
            m.heap_is_stuck_until.store(now + kBeforeWaitingAgain, std::memory_order_relaxed);
    }
    if (!good(s)) {
        shm_atomic<u64>& word = m.block(index).word;
        const BlockWord w{word.load()};
        word.store(BlockWord::make(w.gen(), BlockState::freeing, kNoSlot, w.flags()).raw);
        m.has_left_blocks.store(true, std::memory_order_relaxed);
        return;
    }
    free_span(m, index);
    free_own_left(m);
    unlock(heap_lock);
    notify(m.header().memory_freed);
}

bool give_back_left(Member& m, WaitPolicy& outer) noexcept {
    // [pool.blocks_top]
    const u32 top = std::min(m.header().blocks_top.load_acquire(), m.geo().max_blocks);
    u32 first = 1;
    while (first < top && !is_left(m, first))
        ++first;
    if (first >= top || !good(lock_heap(m, outer))) return false;
    const bool any = free_left(m);
    unlock(m.header().heap_lock);
    if (any) notify(m.header().memory_freed);
    return any;
}

void format_heap(Member& m) noexcept {
    Header& h = m.header();
    reset_lists(m.heads());
    h.free_entries.store_relaxed(kNil);
    h.last_entry.store_relaxed(kNil);
    h.blocks_top.store_relaxed(1);  // index 0 is never given out: a handle of 0 is null
}

HeapStats heap_stats(Member& m) noexcept {
    Header& h = m.header();
    u64 extents = 0;
    for (u64 e = 0; e < m.geo().capacity / kExtent + 1; e += 64)
        extents += static_cast<u64>(std::popcount(extent_word(m, e).load_relaxed()));
    return {m.geo().capacity,
            h.used.load_relaxed(),
            h.body_bytes.load_relaxed(),
            std::min(extents * kExtent, m.geo().capacity),
            h.heap_top.load_relaxed(),
            h.live_blocks.load_relaxed(),
            h.live_bodies.load_relaxed()};
}

}  // namespace onecopy
