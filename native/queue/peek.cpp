#include "queue/peek.hpp"

#include <algorithm>
#include <atomic>

#include "queue/body.hpp"

namespace onecopy {
namespace {

constexpr u32 kTries = 4;            // for one message
constexpr u32 kMostChildren = 64;    // of one message
constexpr u64 kMostLookedAt = 4096;  // positions between floor and head

u32 top_of(Member& m) noexcept {
    return std::min(m.header().blocks_top.load_acquire(), m.geo().max_blocks);  // [pool.blocks_top]
}

// The word of the block that a handle names; false: it is another block by now, or freed.
bool is_there(Member& m, Handle h) noexcept {
    const u32 index = handle_index(h);
    if (index == 0 || index >= top_of(m)) return false;
    const BlockWord word{m.block(index).word.load_acquire()};  // [block.word]
    return word.gen() == handle_gen(h) &&
           (word.state() == BlockState::live || word.state() == BlockState::tentative);
}

// Copies the payload of a block, and the handles in its cells if `cells` is given. False: it was
// freed meanwhile, or its place makes no sense.
bool copy_block(Member& m, Handle h, u64& budget, CopiedBlock& out, std::vector<Handle>* cells) {
    if (!is_there(m, h)) return false;
    BlockInfo info;
    if (inspect(m, handle_index(h), info) != Status::ok) return false;
    out.length = info.length;
    if (info.length <= budget) {
        out.bytes.assign(info.data, info.data + info.length);
        out.whole = true;
    }
    if (cells != nullptr) {
        Block& b = m.block(handle_index(h));
        // [block.cells]
        const u64 count = b.cells_count.load_acquire(), stride = b.cells_stride.load_relaxed(),
                  first = b.cells_offset.load_relaxed();
        const bool sound = count != 0 && first % 8 == 0 && stride % 8 == 0 && stride != 0 &&
                           first <= info.size && count <= info.size &&
                           (count - 1) * stride + 8 <= info.size - first;
        for (u64 i = 0; sound && i < std::min<u64>(count, kMostChildren); ++i)
            // [block.cell]
            cells->push_back(
                reinterpret_cast<shm_atomic<u64>*>(info.data + first + i * stride)->load_acquire());
    }
    // What was copied before this was in the block, if the block is still the same one.
    std::atomic_thread_fence(std::memory_order_acquire);
    if (!is_there(m, h)) {
        out = {};
        return false;
    }
    if (out.whole) budget -= info.length;
    return true;
}

}  // namespace

// What it copies is right only if the caller finds afterwards that the message was in the queue all
// the time: then its slot was not written, and its blocks were not freed.
bool Queue::copy_message(u64 position, bool only_returned, u64& budget, PeekedMessage& out) {
    out = {};
    out.position = position;
    const Handle chunk = table(position / kChunkSlots).load_acquire();  // [block.cell]
    BlockInfo info;
    if (chunk == 0 || find_part(*m_, chunk, BodyKind::queue_chunk, kChunkBytes, info) != Status::ok)
        return false;
    Slot& slot = reinterpret_cast<Slot*>(info.data)[position % kChunkSlots];
    const Handle block = slot.cell.load_acquire();  // [block.cell]
    const u32 length = slot.length.load_relaxed();
    const Taking taking = taking_of(slot);
    if (only_returned && taking.state() != Taking::returned) return false;
    if (length > kInlineBytes) return false;
    alignas(8) unsigned char bytes[kInlineBytes];
    copy_out_racy(bytes, slot.bytes, kInlineBytes);
    out.bytes.assign(bytes, bytes + length);
    out.has_block = block != 0;
    if (only_returned) {  // beyond the head, the word means nothing
        out.returned = true;
        out.redeliveries = taking.times() + 1;
    }
    if (block != 0) {
        std::vector<Handle> cells;
        if (!copy_block(*m_, block, budget, out.block, &cells)) return false;
        for (const Handle child : cells) {
            out.children.emplace_back();
            // A cell may be empty.
            if (child != 0 && !copy_block(*m_, child, budget, out.children.back(), nullptr))
                return false;
        }
    }
    std::atomic_thread_fence(std::memory_order_acquire);
    return is_there(*m_, chunk) && slot.cell.load_relaxed() == block &&
           (!redelivers_ || taking_of(slot).raw == taking.raw);
}

void Queue::peek_returned(u32 most, u64& budget, Peeked& out) {
    const u64 head = b_->head.load(), floor = std::min(b_->floor.load(), head);
    const u64 end = std::min(head, floor + kMostLookedAt);
    for (u64 position = floor; position < end && out.messages.size() < most; ++position) {
        PeekedMessage message;
        for (u32 tries = 0; tries < kTries; ++tries) {
            const u64 before = budget;
            if (copy_message(position, true, budget, message)) break;
            budget = before;
            message.returned = false;
        }
        // Others are taken, or done. A slot that cannot be read is counted among those.
        if (message.returned) out.messages.push_back(std::move(message));
    }
}

Status peek(Member& m, u32 index, u32 gen, u32 most, u64 budget, Peeked& out) {
    return Queue::peek(m, index, gen, most, budget, out);
}

Status Queue::peek(Member& m, u32 index, u32 gen, u32 most, u64 budget, Peeked& out) {
    const Handle handle = make_handle(gen, index);
    if (!is_there(m, handle)) return Status::stale;
    Queue q;
    if (Status s = open(m, handle, q); s != Status::ok) return s;
    if (q.redelivers_) q.peek_returned(most, budget, out);
    u64 position = q.b_->head.load_acquire();  // [queue.head]
    for (u32 tries = 0; out.messages.size() < most;) {
        const u64 head = q.b_->head.load_acquire();  // [queue.head]
        const u64 tail = q.b_->tail.load_acquire();  // [queue.tail]
        if (head > position) {
            out.taken += head - position;
            position = head;
            // A consumer is as fast as this: each message is gone before it is copied.
            if (++tries == kTries) break;
        }
        if (position >= tail || tail - position > q.limit_) break;
        PeekedMessage message;
        const u64 before = budget;
        const bool copied = q.copy_message(position, false, budget, message);
        // The check that counts: a message is in the queue as long as the head is not behind it.
        if (q.b_->head.load_acquire() > position) {  // [queue.head]
            budget = before;
            continue;
        }
        if (!copied && ++tries < kTries) {
            budget = before;
            continue;
        }
        if (!copied) {
            message = {};
            message.position = position;
            message.sound = false;
        }
        out.messages.push_back(std::move(message));
        tries = 0;
        ++position;
    }
    return is_there(m, handle) ? Status::ok : Status::stale;
}

}  // namespace onecopy
