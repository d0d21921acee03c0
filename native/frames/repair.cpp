// What the next owner of the frames' lock repairs, and what `validate` checks.
#include <algorithm>

#include "frames/body.hpp"
#include "sync/unlocks.hpp"

namespace onecopy {

// The lock was taken over from a dead owner, whose slot is cleaned or is being cleaned. A frame
// that the owner was checking becomes live again. A frame that has its new generation gets it
// into its cell too.
[[gnu::noinline]] void Frames::repair_frames() noexcept {
    for (u32 i = 0; i < count_; ++i) {
        const Handle h = cell(i).load_acquire();  // [frames.cell]
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

void Frames::repair(Member& m, u32 index, WaitPolicy& p) noexcept {
    Frames f;
    if (open(m, handle_of(m, index), f) != Status::ok) return;
    const Status s = lock(f.b_->lock, m, p);
    if (!good(s)) return;
    if (s == Status::owner_died) f.repair_frames();
    unlock(f.b_->lock);
}

u64 Frames::layout() noexcept {
    return fold_layouts({Body::layout(), Body::kCellsOffset});
}

std::vector<std::string> Frames::validate(Member& m, u32 index) {
    std::vector<std::string> out;
    const std::string who = "frames " + std::to_string(index) + ": ";
    Frames f;
    if (open(m, handle_of(m, index), f) != Status::ok) return makes_no_sense(who);
    CheckWait wait;
    Status s = lock(f.b_->lock, m, wait);
    if (!good(s)) return {who + "its lock cannot be taken"};
    const Unlocks unlocks(f.b_->lock);
    if (s == Status::owner_died) f.repair_frames();
    std::vector<u32> seen;
    constexpr std::size_t kMostLines = 50;
    bool half_made = false;
    for (u32 i = 0; i < f.count_ && out.size() < kMostLines; ++i) {
        const Handle h = f.cell(i).load();
        const std::string name = "frame " + std::to_string(i);
        if (h == 0) {
            // A process made this body, and died or is still at it: no other process knows the body
            // yet.
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
