// Whether a pool keeps its invariants: the heap, the names, each structure, and the count of all
// references. It knows no structure: it asks them through their table.
#include <algorithm>

#include "body/structures.hpp"
#include "recovery/recovery.hpp"

namespace onecopy {
namespace {

// Calls `look(index, info)` for every live block of the heap.
template <class Look>
void each_block(Member& m, u32 top, Look look) {
    for (u32 i = 1; i < top; ++i) {
        BlockInfo info;
        if (BlockWord{m.block(i).word.load()}.state() == BlockState::live &&
            inspect(m, i, info) == Status::ok)
            look(i, info);
    }
}

}  // namespace

std::vector<std::string> validate(Member& m, WaitPolicy& p) {
    std::vector<std::string> wrong = validate_heap(m, p);
    auto take = [&](std::vector<std::string>&& more) {
        wrong.insert(wrong.end(), more.begin(), more.end());
    };
    take(validate_names(m));
    if (m.corrupt()) wrong.push_back("pool: it was marked corrupt");
    // [pool.blocks_top]
    const u32 top = std::min(m.header().blocks_top.load_acquire(), m.geo().max_blocks);
    std::vector<u32> counted(top, 0);
    auto count = [&](Handle h) {
        const u32 i = handle_index(h);
        if (h != 0 && i < top) ++counted[i];
    };
    // [pool.names_top]
    for (u32 i = 0; i < std::min(m.header().names_top.load_acquire(), m.geo().max_names); ++i)
        count(m.name(i).value.load_acquire());
    for (u32 i = 1; i < top; ++i) {
        BlockInfo info;
        if (BlockWord{m.block(i).word.load()}.state() == BlockState::live &&
            inspect(m, i, info) != Status::ok)
            wrong.push_back("block " + std::to_string(i) + ": lies outside the heap");
    }
    // Repairs first: they free blocks, and the checks look at what they have put right.
    WaitPolicy at_once(0);
    each_block(m, top, [&](u32 i, const BlockInfo& info) {
        const Structure* kind = structure_of(info.kind);
        if (kind != nullptr && kind->repair != nullptr) kind->repair(m, i, at_once);
    });
    each_block(m, top, [&](u32 i, const BlockInfo& info) {
        if (const Structure* kind = structure_of(info.kind)) take(kind->validate(m, i));
    });
    // Only now: a check repairs too, if an owner has died since.
    each_block(m, top, [&](u32 i, const BlockInfo& info) {
        Block& b = m.block(i);
        // [block.cells]
        const u64 n = b.cells_count.load_acquire(), stride = b.cells_stride.load_relaxed(),
                  first = b.cells_offset.load_relaxed();
        if (n != 0 && (stride == 0 || (stride | first) % 8 != 0 || first > info.size ||
                       (n - 1) * stride + 8 > info.size - first)) {
            wrong.push_back("block " + std::to_string(i) +
                            ": its reference cells lie outside of it");
            return;
        }
        // [block.cell]
        for (u64 c = 0; c < n; ++c)
            count(
                reinterpret_cast<shm_atomic<u64>*>(info.data + first + c * stride)->load_acquire());
    });
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
