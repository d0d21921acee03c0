// What an observer sees of a set of frames.
#include <algorithm>
#include <bit>

#include "frames/body.hpp"

namespace onecopy {

void Frames::observe(Member& m, u32 index, Observed& out) {
    Frames f;
    if (open(m, handle_of(m, index), f) != Status::ok) return;
    out.readable = true;
    out.fact("frames", f.count_);
    out.fact("frame_bytes", f.frame_bytes_);
    out.owner(m, "inner", f.b_->lock.word.load());
    const u32 top = table_top(m), rows = m.geo().max_processes;
    u64 home = 0;
    for (u32 i = 0; i < std::min(f.count_, kMostLookedAt); ++i) {
        const u32 at = handle_index(f.cell(i).load_acquire());  // [frames.cell]
        if (at == 0 || at >= top) continue;
        Block& block = m.block(at);
        const BlockWord word{block.word.load_acquire()};  // [block.word]
        bool held = false;
        for (u32 w = 0; w < kHolderWords; ++w) {
            for (u64 bits = block.holder_word(w).load(); bits != 0; bits &= bits - 1) {
                const u32 slot = w * 64 + static_cast<u32>(std::countr_zero(bits));
                if (slot >= rows) continue;
                out.part("frame", slot, false, at, word.gen());
                held = true;
            }
        }
        if (held) continue;
        // The body's own reference is one.
        if (RefsWord{block.refs.load()}.count() > 1) {
            out.part("frame", kNoSlot, false, at, word.gen());
        } else {
            ++home;
        }
    }
    out.fact("at_home", home);
}

}  // namespace onecopy
