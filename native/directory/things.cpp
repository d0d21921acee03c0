#include "directory/things.hpp"

#include <algorithm>
#include <array>
#include <bit>

#include "sync/structure_lock.hpp"

namespace onecopy::directory {
namespace {

// The kind of a structure without a name. False: a part of another structure, or no structure.
bool kind_of(BodyKind body, NameKind& out) noexcept {
    switch (body) {
        case BodyKind::queue:
            out = NameKind::queue;
            return true;
        case BodyKind::stream:
            out = NameKind::stream;
            return true;
        case BodyKind::frames:
            out = NameKind::frames;
            return true;
        case BodyKind::mutex:
            out = NameKind::lock;
            return true;
        case BodyKind::rwlock:
            out = NameKind::rwlock;
            return true;
        case BodyKind::semaphore:
            out = NameKind::semaphore;
            return true;
        case BodyKind::event:
            out = NameKind::event;
            return true;
        case BodyKind::condition:
            out = NameKind::condition;
            return true;
        case BodyKind::barrier:
            out = NameKind::barrier;
            return true;
        case BodyKind::list:
            out = NameKind::list;
            return true;
        case BodyKind::dict:
            out = NameKind::dict;
            return true;
        default:
            return false;
    }
}

u32 table_top(Member& m) noexcept {
    return std::min(m.header().blocks_top.load_acquire(), m.geo().max_blocks);  // [pool.blocks_top]
}

// A hold for as long as a block is looked at.
class Look {
  public:
    Look(Member& m, Handle h, WaitPolicy& p) noexcept
        : m_(m), p_(p), index_(handle_index(h)), held_(hold(m, h) == Status::ok) {}
    ~Look() {
        UninterruptibleWait uninterruptible(p_);
        if (held_) drop(m_, index_, uninterruptible);
    }
    Look(const Look&) = delete;
    Look& operator=(const Look&) = delete;
    explicit operator bool() const noexcept { return held_; }

  private:
    Member& m_;
    WaitPolicy& p_;
    u32 index_;
    bool held_;
};

// The handles in the cells of a held block, one by one.
template <class Each>
void each_child(Member& m, u32 index, Each each) {
    Block& b = m.block(index);
    BlockInfo info;
    // [block.cells]
    const u64 count = b.cells_count.load_acquire(), stride = b.cells_stride.load_relaxed(),
              first = b.cells_offset.load_relaxed();
    if (count == 0 || inspect(m, index, info) != Status::ok) return;
    if (first % 8 != 0 || stride % 8 != 0 || stride == 0 || first > info.size ||
        (count - 1) * stride + 8 > info.size - first)
        return;
    for (u64 i = 0; i < count; ++i) {
        // [block.cell]
        Handle child =
            reinterpret_cast<shm_atomic<u64>*>(info.data + first + i * stride)->load_acquire();
        const u32 at = handle_index(child);
        if (child == 0 || at == 0 || at >= table_top(m)) continue;
        // In the cells of frames only the index counts.
        if (info.kind == BodyKind::frames) child = handle_of(m, at);
        each(child);
    }
}

// A bit for each block. This runs where memory is short, the process's own too: a set of numbers
// would take a hundred times as much.
class Marks {
  public:
    explicit Marks(u32 blocks) : words_((u64{blocks} + 63) / 64) {}
    // False: it was set, or the block is newer than this object.
    bool set(u32 block) {
        if (block / 64 >= words_.size()) return false;
        u64& word = words_[block / 64];
        const u64 bit = u64{1} << block % 64;
        if ((word & bit) != 0) return false;
        if (word == 0) touched_.push_back(block / 64);
        word |= bit;
        return true;
    }
    bool has(u32 block) const noexcept {
        return block / 64 < words_.size() && (words_[block / 64] >> block % 64 & 1) != 0;
    }
    void clear() noexcept {
        for (const u32 word : touched_)
            words_[word] = 0;
        touched_.clear();
    }

  private:
    std::vector<u64> words_;
    std::vector<u32> touched_;
};

struct Kept {
    u64 bytes = 0, blocks = 0;
};

// The processes that hold a block, or one of several.
class Holders {
  public:
    void add(Block& b) noexcept {
        for (u32 w = 0; w < kHolderWords; ++w)
            words_[w] |= b.holder_word(w).load_relaxed();
    }
    u32 count() const noexcept {
        u32 n = 0;
        for (const u64 word : words_)
            n += static_cast<u32>(std::popcount(word));
        return n;
    }

  private:
    std::array<u64, kHolderWords> words_{};
};

// What a held block keeps alive: itself, and all that it refers to, at any distance. `reached`: the
// blocks. `leaves`: which processes hold those that refer to nothing.
Kept kept_by(Member& m, u32 root, WaitPolicy& p, Marks& seen, Marks& reached, Holders& leaves) {
    Kept kept;
    std::vector<Handle> todo;
    seen.clear();
    seen.set(root);
    auto count = [&](u32 index) {
        BlockInfo info;
        if (inspect(m, index, info) != Status::ok) return;
        kept.bytes += info.length;
        ++kept.blocks;
    };
    auto meet = [&](Handle h) {
        const u32 index = handle_index(h);
        if (!seen.set(index)) return;  // two cells refer to it, or a ring
        Block& b = m.block(index);
        const BlockWord w{b.word.load()};
        if (w.gen() != handle_gen(h) || w.state() != BlockState::live) return;
        reached.set(index);
        // A block that refers to nothing, as a frame, is not held: others would notice a hold.
        if (b.cells_count.load_acquire() == 0) {  // [block.cells]
            leaves.add(b);
            count(index);
        } else {
            todo.push_back(h);
        }
    };
    count(root);
    each_child(m, root, meet);
    while (!todo.empty()) {
        const Handle h = todo.back();
        todo.pop_back();
        const Look look(m, h, p);
        if (!look) continue;
        count(handle_index(h));
        each_child(m, handle_index(h), meet);
    }
    return kept;
}

}  // namespace

Status things(Member& m, WaitPolicy& p, std::vector<Thing>& out) {
    out.clear();
    std::vector<Item> named;
    if (Status s = list(m, p, named); s != Status::ok) return s;
    Marks roots(table_top(m)), reached(table_top(m)), seen(table_top(m));
    auto look_at = [&](std::string name, NameKind kind, Handle h) {
        Holders holders, leaves;
        holders.add(m.block(handle_index(h)));  // before this process holds it
        const Look look(m, h, p);
        if (!look) return;
        const Kept kept = kept_by(m, handle_index(h), p, seen, reached, leaves);
        // A process that has a value open holds its memory, and not the block that says which type
        // it has.
        const Holders& open = kind == NameKind::value ? leaves : holders;
        out.push_back(
            {std::move(name), kind, kept.bytes, kept.blocks, open.count(), handle_index(h)});
    };
    for (Item& item : named) {
        const u32 index = handle_index(item.value);
        if (index == 0 || index >= table_top(m)) continue;
        roots.set(index);
        look_at(std::move(item.name), item.kind, item.value);
    }
    std::vector<u32> without;  // things without a name, and where each stands in `out`
    const std::size_t first = out.size();
    for (u32 i = 1; i < table_top(m); ++i) {
        Block& b = m.block(i);
        const BlockWord w{b.word.load_acquire()};  // [block.word]
        NameKind kind;
        if (w.state() != BlockState::live || (w.flags() & kFlagBody) == 0 || roots.has(i) ||
            !kind_of(static_cast<BodyKind>(b.links[kKind].load_relaxed() & 0xff), kind))
            continue;
        const std::size_t before = out.size();
        look_at({}, kind, make_handle(w.gen(), i));
        if (out.size() != before) without.push_back(i);
    }
    std::size_t kept = first;
    for (std::size_t i = 0; i < without.size(); ++i) {
        if (!reached.has(without[i])) out[kept++] = std::move(out[first + i]);
    }
    out.erase(out.begin() + static_cast<std::ptrdiff_t>(kept), out.end());
    std::stable_sort(out.begin(), out.end(),
                     [](const Thing& a, const Thing& b) { return a.bytes > b.bytes; });
    return Status::ok;
}

}  // namespace onecopy::directory
