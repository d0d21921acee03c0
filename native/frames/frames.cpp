#include "frames/frames.hpp"

#include <algorithm>
#include <bit>
#include <cstddef>

#include "frames/body.hpp"
#include "sync/event_count.hpp"

namespace onecopy {

namespace {
constexpr u32 kLargestCount = 1u << 24;
}  // namespace

namespace {

bool has_holder(Block& block) noexcept {
    for (u32 w = 0; w < kHolderWords; ++w) {
        if (block.holder_word(w).load() != 0) return true;
    }
    return false;
}

// Holders before references: a process that passes a block on adds the reference before it drops
// its hold. So one of the two is seen.
bool at_home(Block& block) noexcept {
    return !has_holder(block) && RefsWord{block.refs.load()}.count() == 1;
}

bool is_free(Block& block) noexcept {
    return BlockWord{block.word.load()}.state() == BlockState::live && at_home(block);
}

constexpr u32 next_gen(u32 gen) noexcept {
    return gen + 1 == 0 ? 1 : gen + 1;
}

// Frames lock held. Takes the frame if it is free: held once for the caller, under a new
// generation.
bool take_frame(Member& m, u32 index, WaitPolicy& p, Handle& out) noexcept {
    Block& block = m.block(index);
    const BlockWord live{block.word.load()};
    if (live.state() != BlockState::live || !at_home(block)) return false;
    const BlockWord mine = BlockWord::make(live.gen(), BlockState::tentative, m.slot, live.flags());
    u64 word = live.raw;
    if (!block.word.cas(word, mine.raw)) return false;
    // A process that sets its bit from now on sees `tentative` and turns it back. A bit that was
    // set before is seen here. [holders/word]
    if (!at_home(block)) {
        word = mine.raw;
        block.word.cas(word, live.raw);  // fails if another process has turned it back already
        return false;
    }
    hold_again(m, index);
    word = mine.raw;
    const u32 gen = next_gen(live.gen());
    // COMMIT of acquire
    if (!block.word.cas(word,
                        BlockWord::make(gen, BlockState::live, live.slot(), live.flags()).raw)) {
        UninterruptibleWait uninterruptible(p);
        drop(m, index, uninterruptible);
        return false;
    }
    out = make_handle(gen, index);
    return true;
}

}  // namespace

// ---- create and open ----------------------------------------------------------------------------

Status Frames::create(Member& m, u32 count, u64 frame_bytes, const void* meta, u32 meta_len,
                      WaitPolicy& p, Handle& out) noexcept {
    static_assert(offsetof(Body, meta) == 128 && sizeof(Body) == Body::kCellsOffset);
    if (Status s = usable(m); s != Status::ok) return s;
    if (count == 0 || frame_bytes == 0 || meta_len > kFrameMetaBytes) return Status::bad_argument;
    if (count > kLargestCount || frame_bytes > m.geo().capacity / count) return Status::too_large;
    Allocated body;
    Status s = create_body(m, BodyKind::frames, Body::kCellsOffset + u64{count} * 8, p, body);
    if (s != Status::ok) return s;
    auto& b = *reinterpret_cast<Body*>(body.data);
    b.frame_bytes.store_relaxed(frame_bytes);
    b.count.store_relaxed(count);
    b.meta_length.store_relaxed(meta_len);
    copy_in(b.meta, meta, meta_len);
    finish_body(b);
    declare_cells(m, body.index, Body::kCellsOffset, 8, count);
    auto* cells = reinterpret_cast<shm_atomic<u64>*>(body.data + Body::kCellsOffset);
    UninterruptibleWait uninterruptible(p);
    for (u32 i = 0; i < count && s == Status::ok; ++i) {
        Allocated frame;
        s = allocate(m, {.bytes = frame_bytes, .home = body.index}, p, frame);
        if (s != Status::ok) break;
        s = swap_cell(m, cells[i], 0, handle_of(m, frame.index));
        drop(m, frame.index, uninterruptible);
    }
    if (s != Status::ok) {
        drop(m, body.index, uninterruptible);  // frees the frames that were made so far, too
        return s;
    }
    out = handle_of(m, body.index);
    return Status::ok;
}

Status Frames::open(Member& m, Handle h, Frames& out) noexcept {
    Body* body = nullptr;
    u64 length = 0;
    if (Status s = open_body(m, h, BodyKind::frames, Body::kCellsOffset, body, length);
        s != Status::ok)
        return s;
    const Body& b = *body;
    const u32 count = b.count.load_relaxed(), meta_length = b.meta_length.load_relaxed();
    const u64 frame_bytes = b.frame_bytes.load_relaxed();
    if (count == 0 || count > kLargestCount || meta_length > kFrameMetaBytes || frame_bytes == 0)
        return Status::corrupt;
    if (length < Body::kCellsOffset + u64{count} * 8) return Status::corrupt;
    out.m_ = &m;
    out.b_ = body;
    out.index_ = handle_index(h);
    out.count_ = count;
    out.meta_length_ = meta_length;
    out.frame_bytes_ = frame_bytes;
    return Status::ok;
}

// ---- acquire ------------------------------------------------------------------------------------

Status Frames::try_acquire(WaitPolicy& p, Handle& out) noexcept {
    if (Status s = usable(*m_); s != Status::ok) return s;
    Status s = enter(b_->lock, *m_, p);
    if (!good(s)) return s;
    if (s == Status::owner_died) repair_frames();
    s = Status::would_block;
    // From the front: of the first frames, the one that was freed last is still in the caches.
    for (u32 i = 0; i < count_; ++i) {
        const u32 index = handle_index(cell(i).load_relaxed());
        if (index >= table_top(*m_)) {
            m_->mark_corrupt();
            s = Status::corrupt;
            break;
        }
        if (!take_frame(*m_, index, p, out)) continue;
        cell(i).store_release(out);  // [frames.cell]
        s = Status::ok;
        break;
    }
    unlock(b_->lock);
    return s;
}

Status Frames::acquire(WaitPolicy& p, Handle& out) noexcept {
    Status s = try_acquire(p, out);
    if (s != Status::would_block) return s;
    if (!p.may_wait()) return s;
    // Several bodies share an event, so a process that frees a frame wakes all waiters.
    // [commit/sleepers]
    return wait_for(
        m_->header().frame_home[index_ % 15], {*m_, WaitPurpose::frame, b_}, p,
        [&] { return try_acquire(p, out); },
        [&] { return any_free() || usable(*m_) != Status::ok; }, [&] { collect_dead(*m_); });
}

Status Frames::wait_ready(WaitPolicy& p) noexcept {
    return wait_for(
        m_->header().frame_home[index_ % 15], {*m_, WaitPurpose::frame, b_}, p,
        [&] {
            if (Status s = usable(*m_); s != Status::ok) return s;
            return any_free() ? Status::ok : Status::would_block;
        },
        [&] { return any_free() || usable(*m_) != Status::ok; }, [&] { collect_dead(*m_); });
}

// ---- looks --------------------------------------------------------------------------------------

bool Frames::any_free() const noexcept {
    const u32 top = table_top(*m_);
    for (u32 i = 0; i < count_; ++i) {
        const u32 index = handle_index(cell(i).load_relaxed());
        if (index >= top || is_free(m_->block(index)))
            return true;  // outside of the table: `acquire` reports it
    }
    return false;
}

u32 Frames::available() const noexcept {
    const u32 top = table_top(*m_);
    u32 n = 0;
    for (u32 i = 0; i < count_; ++i) {
        const u32 index = handle_index(cell(i).load_relaxed());
        if (index < top && is_free(m_->block(index))) ++n;
    }
    return n;
}

std::vector<FrameHolder> Frames::holders() const {
    const u32 top = table_top(*m_), rows = m_->geo().max_processes;
    std::vector<FrameHolder> all;
    const auto count_for = [&all](u32 slot) {
        auto found = std::find_if(all.begin(), all.end(),
                                  [slot](const FrameHolder& h) { return h.slot == slot; });
        if (found == all.end()) found = all.insert(all.end(), {slot, 0, false, 0});
        ++found->frames;
    };
    for (u32 i = 0; i < std::min(count_, kMostLookedAt); ++i) {
        const u32 index = handle_index(cell(i).load_relaxed());
        if (index >= top) continue;
        Block& block = m_->block(index);
        bool held = false;
        for (u32 w = 0; w < kHolderWords; ++w) {
            for (u64 bits = block.holder_word(w).load_relaxed(); bits != 0; bits &= bits - 1) {
                const u32 slot = w * 64 + static_cast<u32>(std::countr_zero(bits));
                if (slot >= rows) continue;
                count_for(slot);
                held = true;
            }
        }
        if (!held && !is_free(block)) count_for(kNoSlot);
    }
    for (FrameHolder& holder : all) {
        if (holder.slot == kNoSlot) continue;
        holder.pid = m_->row(holder.slot).pid.load_relaxed();
        holder.alive = m_->is_alive(holder.slot);
    }
    std::stable_sort(all.begin(), all.end(), [](const FrameHolder& a, const FrameHolder& b) {
        return a.frames > b.frames;
    });
    return all;
}

u32 Frames::count() const noexcept {
    return count_;
}
u64 Frames::frame_bytes() const noexcept {
    return frame_bytes_;
}
const unsigned char* Frames::meta() const noexcept {
    return b_->meta;
}
u32 Frames::meta_length() const noexcept {
    return meta_length_;
}

}  // namespace onecopy
