#include "frames/frames.hpp"

#include <algorithm>
#include <bit>
#include <cstddef>

#include "recovery/recovery.hpp"
#include "sync/event_count.hpp"
#include "sync/structure_lock.hpp"
#include "sync/unlocks.hpp"

namespace onecopy {

namespace {
constexpr u32 kLargestCount = 1u << 24;
}  // namespace

struct Frames::Body {
    static constexpr u64 kMagic = 0x31'65'6d'61'72'66'63'6fULL;  // "ocframe1"
    static constexpr u64 kCellsOffset = 1024;
    // line 0: fixed
    shm_atomic<u64> magic;
    shm_atomic<u64> frame_bytes;
    shm_atomic<u32> count;
    shm_atomic<u32> meta_length;
    // line 1
    alignas(64) LockWord lock;
    // line 2
    alignas(64) unsigned char meta[kFrameMetaBytes];
};

namespace {

bool has_holder(Block& block) noexcept {
    for (u32 w = 0; w < kHolderWords; ++w) {
        if (block.holder_word(w).load() != 0) return true;
    }
    return false;
}

// Holders before refs: who passes a block on adds the reference before it drops its hold, so one of
// the two is seen.
bool at_home(Block& block) noexcept {
    return !has_holder(block) && RefsWord{block.refs.load()}.count() == 1;
}

bool is_free(Block& block) noexcept {
    return BlockWord{block.word.load()}.state() == BlockState::live && at_home(block);
}

// Entries below this exist.
u32 table_top(Member& m) noexcept {
    const u32 top = m.header().blocks_top.load_relaxed();
    return top <= m.geo().max_blocks ? top : 0;
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
    // [holders/word]: who sets a bit from now on sees `tentative` and turns it back; who did so
    // before is seen here.
    if (!at_home(block)) {
        word = mine.raw;
        block.word.cas(word, live.raw);  // fails if somebody turned it back already
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
    if (Status s = m.usable(); s != Status::ok) return s;
    if (count == 0 || frame_bytes == 0 || meta_len > kFrameMetaBytes) return Status::bad_argument;
    if (count > kLargestCount || frame_bytes > m.geo().capacity / count) return Status::too_large;
    Allocated body;
    Status s = allocate(m,
                        {.bytes = Body::kCellsOffset + u64{count} * 8,
                         .flags = kFlagBody,
                         .kind = BodyKind::frames,
                         .zero = true},
                        p, body);
    if (s != Status::ok) return s;
    auto& b = *reinterpret_cast<Body*>(body.data);
    b.frame_bytes.store_relaxed(frame_bytes);
    b.count.store_relaxed(count);
    b.meta_length.store_relaxed(meta_len);
    copy_in(b.meta, meta, meta_len);
    b.magic.store_release(Body::kMagic);  // [frames.magic]
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
        drop(m, body.index, uninterruptible);  // takes the frames made so far with it
        return s;
    }
    out = handle_of(m, body.index);
    return Status::ok;
}

Status Frames::open(Member& m, Handle h, Frames& out) noexcept {
    BlockInfo info;
    const u32 index = handle_index(h);
    if (Status s = inspect(m, index, info); s != Status::ok) return s;
    if (handle_of(m, index) != h) return Status::stale;
    if (info.kind != BodyKind::frames) return Status::bad_argument;
    if (info.length < Body::kCellsOffset) return Status::corrupt;
    auto& b = *reinterpret_cast<Body*>(info.data);
    if (b.magic.load_acquire() != Body::kMagic) return Status::corrupt;  // [frames.magic]
    const u32 count = b.count.load_relaxed(), meta_length = b.meta_length.load_relaxed();
    const u64 frame_bytes = b.frame_bytes.load_relaxed();
    if (count == 0 || count > kLargestCount || meta_length > kFrameMetaBytes || frame_bytes == 0)
        return Status::corrupt;
    if (info.length < Body::kCellsOffset + u64{count} * 8) return Status::corrupt;
    out.m_ = &m;
    out.b_ = &b;
    out.index_ = index;
    out.count_ = count;
    out.meta_length_ = meta_length;
    out.frame_bytes_ = frame_bytes;
    return Status::ok;
}

inline Status Frames::usable() const noexcept {
    return m_->usable();
}

inline shm_atomic<u64>& Frames::cell(u32 i) const noexcept {
    return reinterpret_cast<shm_atomic<u64>*>(reinterpret_cast<unsigned char*>(b_) +
                                              Body::kCellsOffset)[i];
}

// ---- acquire ------------------------------------------------------------------------------------

// Lock taken over from a dead owner, whose slot is cleaned or being cleaned: a frame it was looking
// at is live, and a frame that got its new generation gets it into the cell too.
[[gnu::noinline]] void Frames::repair() noexcept {
    for (u32 i = 0; i < count_; ++i) {
        const Handle h = cell(i).load_relaxed();
        const u32 index = handle_index(h);
        if (h == 0 || index >= table_top(*m_)) continue;
        Block& block = m_->block(index);
        const BlockWord word{block.word.load()};
        if (word.state() == BlockState::tentative) {
            u64 seen = word.raw;
            block.word.cas(seen,
                           BlockWord::make(word.gen(), BlockState::live, 0, word.flags()).raw);
        }
        // [frames.cell]
        if (word.gen() != handle_gen(h)) cell(i).store_release(make_handle(word.gen(), index));
    }
}

Status Frames::try_acquire(WaitPolicy& p, Handle& out) noexcept {
    if (Status s = usable(); s != Status::ok) return s;
    Status s = enter(b_->lock, *m_, p);
    if (!good(s)) return s;
    if (s == Status::owner_died) repair();
    s = Status::would_block;
    // From the front: the frame that came home last among the first ones is the one that is still
    // warm.
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
    // Several bodies share an event, so whoever brings a frame home must wake all.
    // [commit/sleepers]
    return wait_for(
        m_->header().frame_home[index_ % 15], p, [&] { return try_acquire(p, out); },
        [&] { return any_free() || usable() != Status::ok; }, [&] { collect_dead(*m_); });
}

// ---- looks --------------------------------------------------------------------------------------

bool Frames::any_free() const noexcept {
    const u32 top = table_top(*m_);
    for (u32 i = 0; i < count_; ++i) {
        const u32 index = handle_index(cell(i).load_relaxed());
        if (index >= top || is_free(m_->block(index))) return true;  // outside: let acquire say so
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

std::vector<std::string> Frames::validate(Member& m, u32 index) {
    std::vector<std::string> out;
    const std::string who = "frames " + std::to_string(index) + ": ";
    Frames f;
    if (open(m, handle_of(m, index), f) != Status::ok)
        return {who + "its fixed fields make no sense"};
    UnboundedWait outer;
    UninterruptibleWait wait(outer, os::monotonic_ns() + 2'000'000'000);
    Status s = lock(f.b_->lock, m, wait);
    if (!good(s)) return {who + "its lock cannot be taken"};
    const Unlocks unlocks(f.b_->lock);
    if (s == Status::owner_died) f.repair();
    std::vector<u32> seen;
    constexpr std::size_t kMostLines = 50;
    bool half_made = false;
    for (u32 i = 0; i < f.count_ && out.size() < kMostLines; ++i) {
        const Handle h = f.cell(i).load();
        const std::string name = "frame " + std::to_string(i);
        if (h == 0) {
            // By a process that died, or is still at it: nobody else knows this body yet.
            half_made = true;
            continue;
        }
        if (half_made) out.push_back(who + name + " follows a place without a frame");
        BlockInfo info;
        const u32 at = handle_index(h);
        if (at >= table_top(m) || inspect(m, at, info) != Status::ok) {
            out.push_back(who + name + " is no block");
            continue;
        }
        Block& block = m.block(at);
        const BlockWord word{block.word.load()};
        seen.push_back(at);
        if (word.state() != BlockState::live) out.push_back(who + name + " is not live");
        if (info.length != f.frame_bytes_) out.push_back(who + name + " has another length");
        if (block.links[kHome].load_relaxed() != index)
            out.push_back(who + name + " does not know its home");
        if (RefsWord{block.refs.load()}.count() == 0)
            out.push_back(who + name + " is not counted as referred to");
    }
    std::sort(seen.begin(), seen.end());
    if (std::adjacent_find(seen.begin(), seen.end()) != seen.end())
        out.push_back(who + "a frame stands in it twice");
    return out;
}

}  // namespace onecopy
