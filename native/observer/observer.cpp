#include "observer/observer.hpp"

#include <algorithm>
#include <atomic>
#include <bit>
#include <cstring>

namespace onecopy::observer {
namespace {

constexpr std::size_t kMostThings = 1u << 16;
constexpr u32 kFarthest = 64;  // steps from a block to the thing that keeps it

u32 blocks_top(Member& m) noexcept {
    return std::min(m.header().blocks_top.load_acquire(), m.geo().max_blocks);  // [pool.blocks_top]
}

BlockWord word_of(Member& m, u32 index) noexcept {
    return BlockWord{m.block(index).word.load_acquire()};  // [block.word]
}

bool is_live(BlockWord word) noexcept {
    return word.state() == BlockState::live || word.state() == BlockState::tentative;
}

template <class Each>
void each_holder(Member& m, u32 index, u32 rows, Each each) {
    for (u32 w = 0; w < kHolderWords; ++w) {
        for (u64 bits = m.block(index).holder_word(w).load(); bits != 0; bits &= bits - 1) {
            const u32 slot = w * 64 + static_cast<u32>(std::countr_zero(bits));
            if (slot < rows) each(slot);
        }
    }
}

// ---- blocks: which one refers to which ----------------------------------------------------------

// `parents[child]` is one of the blocks that refer to it; 0: none is known. For a frame, a referrer
// other than its own frames body counts first.
std::vector<u32> find_parents(Member& m, u32 top) {
    std::vector<u32> parents(top, 0);
    for (u32 i = 1; i < top; ++i) {
        Block& b = m.block(i);
        if (!is_live(word_of(m, i))) continue;
        // [block.cells]
        const u64 count = b.cells_count.load_acquire(), stride = b.cells_stride.load_relaxed(),
                  first = b.cells_offset.load_relaxed();
        BlockInfo info;
        if (count == 0 || inspect(m, i, info) != Status::ok) continue;
        if (first % 8 != 0 || stride % 8 != 0 || stride == 0 || first > info.size ||
            count > info.size || (count - 1) * stride + 8 > info.size - first)
            continue;
        for (u64 c = 0; c < count; ++c) {
            // [block.cell]
            const u32 child = handle_index(
                reinterpret_cast<shm_atomic<u64>*>(info.data + first + c * stride)->load_acquire());
            if (child == 0 || child >= top || child == i) continue;
            const bool frames = info.kind == BodyKind::frames && (info.flags & kFlagBody) != 0;
            if (!frames || parents[child] == 0) parents[child] = i;
        }
    }
    return parents;
}

// ---- names --------------------------------------------------------------------------------------

struct Name {
    u32 index, kind;
    std::string text;
};

std::vector<Name> find_names(Member& m, u32 top) {
    std::vector<Name> found;
    // [pool.names_top]
    const u32 names = std::min(m.header().names_top.load_acquire(), m.geo().max_names);
    for (u32 i = 0; i < names; ++i) {
        NameEntry& entry = m.name(i);
        const Handle value = entry.value.load_acquire();  // [block.cell]
        const u32 length = entry.name_len.load_relaxed(), kind = entry.kind.load_relaxed();
        if (value == 0 || length == 0 || length > kNameBytes || kind == 0 || kind > kNameKinds)
            continue;
        char text[kNameBytes];
        std::memcpy(text, entry.name, length);
        std::atomic_thread_fence(std::memory_order_acquire);
        // The entry may have been freed and written again meanwhile.
        const u32 index = handle_index(value);
        if (entry.value.load() != value || index == 0 || index >= top) continue;
        if (word_of(m, index).gen() != handle_gen(value)) continue;
        found.push_back({index, kind, std::string(text, length)});
    }
    return found;
}

// ---- processes ----------------------------------------------------------------------------------

struct Extent {
    u64 from, to;
    u32 index;
};

void resolve(Member& m, const std::vector<Extent>& bodies, u64 subject, Wait& out) {
    Header& h = m.header();
    if (subject == m.offset_of(&h.heap_lock)) {
        out.part = "heap";
    } else if (subject == m.offset_of(&h.names_lock)) {
        out.part = "names";
    } else if (subject == m.offset_of(&h.memory_freed)) {
        out.part = "memory";
    } else {
        const auto after =
            std::upper_bound(bodies.begin(), bodies.end(), subject,
                             [](u64 offset, const Extent& body) { return offset < body.from; });
        if (after != bodies.begin() && subject < std::prev(after)->to)
            out.subject = std::prev(after)->index;
    }
}

void read_waits(Member& m, Row& row, const std::vector<Extent>& bodies, Process& out) {
    u32 used = 0;
    for (WaitRecord& record : row.waits) {
        for (int tries = 0; tries < 3; ++tries) {
            const u64 who = record.who.load_acquire();  // [row.wait]
            if (who == 0) break;
            const u64 what = record.what.load_relaxed();
            std::atomic_thread_fence(std::memory_order_acquire);
            if (record.who.load_relaxed() != who) continue;
            ++used;
            const u64 why = what >> kWaitSubjectBits;
            if (why == 0 || why > kWaitPurposes) break;
            Wait wait{static_cast<WaitPurpose>(why),
                      static_cast<u32>(who & ((u64{1} << kWaitThreadBits) - 1)),
                      who >> kWaitThreadBits << kWaitTimeShift, 0, ""};
            resolve(m, bodies, what & ((u64{1} << kWaitSubjectBits) - 1), wait);
            out.waits.push_back(wait);
            break;
        }
    }
    out.more_may_wait = used == kWaitRecords;
}

os::Life life_of(const Member& m, u32 slot) noexcept {
    if (m.readonly) return os::Life::dead;
    switch (m.file.others(kSlotByte + slot)) {
        case os::Others::none:
            return os::Life::dead;
        case os::Others::unknown:
            return os::Life::unknown;
        default:
            return os::Life::alive;
    }
}

void read_processes(Member& m, const std::vector<Extent>& bodies, Pool& out) {
    // [pool.rows_used]
    const u32 rows = std::min(m.header().rows_used.load_acquire(), m.geo().max_processes);
    for (u32 slot = 0; slot < rows; ++slot) {
        Row& row = m.row(slot);
        const u32 state = row.state.load_acquire(), gen = row.gen.load_acquire();  // [row.state]
        // A row that is reserved for a child (embryo) has the parent's numbers, and is no process.
        if (state == static_cast<u32>(RowState::free) ||
            state == static_cast<u32>(RowState::embryo) ||
            state > static_cast<u32>(RowState::reaping))
            continue;
        Process one{};
        one.slot = slot;
        one.gen = gen;
        one.state = static_cast<RowState>(state);
        one.pid = row.pid.load_relaxed();
        one.parent_pid = row.parent_pid.load_relaxed();
        one.start_ticks = row.start_ticks.load_relaxed();
        one.pid_namespace = row.pid_namespace.load_relaxed();
        one.born_ns = row.born_ns.load_relaxed();
        one.life = life_of(m, slot);
        read_waits(m, row, bodies, one);
        // Left, or taken over by another process, while it was read. [row.state] [row.gen]
        if (row.gen.load_acquire() != gen || row.state.load_acquire() != state) continue;
        out.processes.push_back(std::move(one));
    }
}

// ---- things -------------------------------------------------------------------------------------

// The thing that keeps a block: the nearest one on the way from referrer to referrer. 0: none.
u32 keeper_of(const std::vector<u32>& parents, const std::vector<bool>& is_thing, u32 index) {
    for (u32 steps = 0; steps < kFarthest; ++steps) {
        index = parents[index];
        if (index == 0 || is_thing[index]) return index;
    }
    return 0;
}

void read_thing(Member& m, u32 rows, Thing& thing) {
    const BlockWord before = word_of(m, thing.index);
    each_holder(m, thing.index, rows, [&](u32 slot) { thing.open_in.push_back(slot); });
    if (thing.body == BodyKind::none) {
        thing.seen.readable = true;
        return;
    }
    if (const Structure* kind = structure_of(thing.body); kind != nullptr)
        kind->observe(m, thing.index, thing.seen);
    // Freed, and perhaps something else by now.
    const BlockWord after = word_of(m, thing.index);
    if (before.gen() != after.gen() || !is_live(after)) thing.seen = {};
}

}  // namespace

Pool observe(Member& m) {
    const Header& h = m.header();
    Pool out{};
    out.id[0] = h.id[0];
    out.id[1] = h.id[1];
    out.heap = heap_stats(m);
    out.created_ns = h.created_ns;
    out.flags = h.flags;
    out.max_processes = m.geo().max_processes;
    out.creator_pid = h.creator_pid;
    out.creator_uid = h.creator_uid;
    out.corrupt = m.corrupt();
    out.own_namespace = os::own_pid_namespace();
    const u32 top = blocks_top(m), rows = m.geo().max_processes;

    std::vector<u64> bytes(rows, 0), blocks(rows, 0);
    std::vector<bool> is_thing(top, false);
    std::vector<Extent> bodies;
    for (u32 i = 1; i < top; ++i) {
        const BlockWord word = word_of(m, i);
        BlockInfo info;
        if (!is_live(word) || inspect(m, i, info) != Status::ok) continue;
        if ((word.flags() & kFlagBody) == 0) {
            each_holder(m, i, rows, [&](u32 slot) {
                ++blocks[slot];
                bytes[slot] += info.length;
            });
            continue;
        }
        const u64 from = m.geo().heap_off + info.offset;
        if (structure_of(info.kind) == nullptr) continue;
        if (out.things.size() >= kMostThings) {
            out.truncated = true;
            continue;
        }
        is_thing[i] = true;
        bodies.push_back({from, from + info.size, i});
        Thing thing{};
        thing.index = i;
        thing.gen = word.gen();
        thing.body = info.kind;
        out.things.push_back(std::move(thing));
    }
    std::sort(bodies.begin(), bodies.end(),
              [](const Extent& a, const Extent& b) { return a.from < b.from; });

    std::vector<u32> place(top, 0);  // of a thing, plus one
    for (u32 i = 0; i < out.things.size(); ++i)
        place[out.things[i].index] = i + 1;
    for (Name& name : find_names(m, top)) {
        if (place[name.index] == 0) {
            if (out.things.size() >= kMostThings) {
                out.truncated = true;
                continue;
            }
            Thing thing{};
            thing.index = name.index;
            thing.gen = word_of(m, name.index).gen();
            out.things.push_back(std::move(thing));
            place[name.index] = static_cast<u32>(out.things.size());
            is_thing[name.index] = true;
        }
        Thing& thing = out.things[place[name.index] - 1];
        thing.name_kind = name.kind;
        thing.name = std::move(name.text);
    }

    const std::vector<u32> parents = find_parents(m, top);
    out.map = MemoryMap(m.geo().capacity);
    for (u32 i = 1; i < top; ++i) {
        BlockInfo info;
        if (!is_live(word_of(m, i)) || inspect(m, i, info) != Status::ok) continue;
        const u32 thing = is_thing[i] ? i : keeper_of(parents, is_thing, i);
        out.map.add(info.offset, info.size, i, place[thing] == 0 ? 0 : thing);
        if (thing == 0 || place[thing] == 0) continue;
        out.things[place[thing] - 1].bytes += info.length;
        ++out.things[place[thing] - 1].blocks;
    }
    for (Cell& cell : out.map.cells) {
        if (cell.block == 0) continue;
        each_holder(m, cell.block, rows, [&](u32 slot) {
            cell.holder = slot;
            ++cell.holders;
        });
    }
    for (Thing& thing : out.things) {
        thing.parent = keeper_of(parents, is_thing, thing.index);
        read_thing(m, rows, thing);
        if (thing.body != BodyKind::frames) continue;
        for (const Observed::Part& part : thing.seen.parts) {
            if (part.slot != kNoSlot || part.count >= top) continue;
            const u32 block = static_cast<u32>(part.count),
                      keeper = keeper_of(parents, is_thing, block);
            out.referrers.push_back({block, keeper == thing.index ? 0 : keeper});
        }
    }

    // Last, so that the age of a wait is not older than what is said of its subject.
    read_processes(m, bodies, out);
    for (Process& process : out.processes) {
        process.blocks = blocks[process.slot];
        process.bytes = bytes[process.slot];
    }
    Observed locks;
    locks.owner(m, "heap", m.header().heap_lock.word.load());
    locks.owner(m, "names", m.header().names_lock.word.load());
    for (const Observed::Part& lock : locks.parts)
        out.locks.push_back({lock.role, lock.slot, lock.passed});
    out.now_ns = static_cast<u64>(os::monotonic_ns());
    return out;
}

}  // namespace onecopy::observer
