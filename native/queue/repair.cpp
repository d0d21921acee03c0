// What the next owner of a queue's consumer lock repairs, and what `validate` checks. The producer
// lock needs no repair: recovery has resolved the intent of its dead owner.
#include <algorithm>

#include "body/schema.hpp"
#include "queue/body.hpp"
#include "sync/unlocks.hpp"

namespace onecopy {

// ---- after a death ------------------------------------------------------------------------------

// The last owner of the consumer lock died.
void Queue::repair_takings(WaitPolicy& p) noexcept {
    Effects e;
    rescan(e, p);
    tell(e, p);
}

// A consumer died after the last take of a chunk and before it emptied the entry of the table. Only
// the chunk just below head can be left (below floor, in a queue that redelivers). All others were
// emptied by earlier takes, or stand in entries that the tail may already use again.
[[gnu::noinline]] void Queue::repair_chunk(WaitPolicy& p) noexcept {
    const u64 chunk = lowest().load_relaxed() / kChunkSlots;
    if (chunk == 0) return;
    shm_atomic<u64>& cell = table(chunk - 1);
    const Handle left = cell.load_relaxed();
    if (left == 0 || swap_cell(*m_, cell, left, 0) != Status::ok) return;
    UninterruptibleWait uninterruptible(p);
    try_free(*m_, handle_index(left), uninterruptible);
}

[[gnu::noinline]] Status Queue::repair_consumer(WaitPolicy& p) noexcept {
    repair_chunk(p);
    if (redelivers_) repair_takings(p);
    return Status::ok;
}

void Queue::repair(Member& m, u32 index, WaitPolicy& p) noexcept {
    Queue q;
    if (open(m, handle_of(m, index), q) != Status::ok) return;
    if (good(lock(q.b_->put_lock, m, p))) unlock(q.b_->put_lock);
    if (q.enter_consumer(p) == Status::ok) unlock(q.b_->get_lock);
}

u64 Queue::layout() noexcept {
    return fold_layouts({Body::layout(), Slot::layout(), kTableOffset, kChunkSlots});
}

// ---- validate -----------------------------------------------------------------------------------

// Both locks held.
void Queue::check_table(std::vector<std::string>& out) {
    Body& b = *b_;
    const std::string who = "queue " + std::to_string(index_) + ": ";
    auto say = [&](const std::string& what) {
        if (out.size() < 50) out.push_back(who + what);
    };
    const u64 head = b.head.load(), tail = b.tail.load(), done = b.done.load(),
              low = lowest().load();
    if (low > head)
        return say("floor " + std::to_string(low) + " lies beyond head " + std::to_string(head));
    if (head > tail)
        return say("head " + std::to_string(head) + " lies beyond tail " + std::to_string(tail));
    if (tail - low > limit_)
        return say(std::to_string(tail - low) + " messages, but the limit is " +
                   std::to_string(limit_));
    if (b.seen_head.load() > low) say("the producers' copy of head lies beyond head");
    if (b.seen_tail.load() > tail) say("the consumers' copy of tail lies beyond tail");
    if (done > tail) say("more tasks are done than were put");
    const u64 first = low / kChunkSlots, last = tail / kChunkSlots;
    for (u64 chunk = first; chunk < first + entries_; ++chunk) {
        const Handle h = table(chunk).load();
        const std::string name = "chunk " + std::to_string(chunk);
        if (h == 0) {
            const bool needed = low != tail || b.closed.load() == 0;
            if (needed && chunk * kChunkSlots < tail) say(name + " is missing");
            continue;
        }
        if (chunk > last) {
            say(name + " lies beyond the tail or below the head but is still referred to");
            continue;
        }
        BlockInfo info;
        const u32 index = handle_index(h);
        if (inspect(*m_, index, info) != Status::ok || handle_of(*m_, index) != h) {
            say(name + " refers to a block that is gone");
            continue;
        }
        if (info.kind != BodyKind::queue_chunk || info.length < kChunkBytes) {
            say(name + " refers to a block that is no chunk");
            continue;
        }
        Block& block = m_->block(index);
        if (block.cells_count.load_relaxed() != kChunkSlots ||
            block.cells_stride.load_relaxed() != sizeof(Slot) ||
            block.cells_offset.load_relaxed() != offsetof(Slot, cell)) {
            say(name + " does not declare its cells");
        }
        auto* slots = reinterpret_cast<Slot*>(info.data);
        for (u64 i = 0; i < kChunkSlots; ++i) {
            const u64 position = chunk * kChunkSlots + i;
            const Handle cell = slots[i].cell.load();
            const std::string slot = "slot " + std::to_string(position);
            if (position < low || position >= tail) {
                if (cell != 0) say(slot + " holds no message but refers to a block");
                continue;
            }
            if (slots[i].length.load_relaxed() > kInlineBytes) say(slot + " is longer than a slot");
            if (cell != 0 && (inspect(*m_, handle_index(cell), info) != Status::ok ||
                              handle_of(*m_, handle_index(cell)) != cell)) {
                say(slot + " refers to a block that is gone");
            }
        }
    }
}

// Both locks held, the table checked.
void Queue::check_takings(std::vector<std::string>& out) {
    const std::string who = "queue " + std::to_string(index_) + ": ";
    Range r;
    if (!range(r)) return out.push_back(who + "floor, head and tail make no sense");
    u64 returned = 0;
    // A queue that was shut down and has nothing left has no chunk.
    const bool any = table(r.floor / kChunkSlots).load_relaxed() != 0;
    walk(any ? r.floor - r.floor % kChunkSlots : r.floor, r.head, [&](Slot& slot, u64 position) {
        const Taking t = taking_of(slot);
        auto say = [&](const char* what) {
            out.push_back(who + "slot " + std::to_string(position) + " " + what);
        };
        if (position < r.floor) {
            if (t.state() != Taking::done) say("lies below the floor and is not done");
            return true;
        }
        if (t.state() == Taking::never) say("lies below the head and was never taken");
        if (t.state() == Taking::done && slot.cell.load() != 0)
            say("is done but refers to a block");
        if (t.state() == Taking::done && position == r.floor) say("is done, but the floor stays");
        if (t.state() == Taking::returned && position < b_->first_returned.load())
            say("came back, and nobody will look for it");
        returned += t.state() == Taking::returned;
        return true;
    });
    if (returned != b_->returned.load()) {
        out.push_back(who + "counts " + std::to_string(b_->returned.load()) +
                      " returned messages, there are " + std::to_string(returned));
    }
}

std::vector<std::string> Queue::validate(Member& m, u32 index) {
    std::vector<std::string> out;
    const std::string who = "queue " + std::to_string(index) + ": ";
    Queue q;
    if (open(m, handle_of(m, index), q) != Status::ok) return makes_no_sense(who);
    if (q.schema_hash_ != 0 && schema_hash(q.schema_) != q.schema_hash_)
        out.push_back(who + "its schema is damaged");
    CheckWait put_wait;
    if (!good(lock(q.b_->put_lock, m, put_wait)))
        return {who + "its producer lock cannot be taken"};
    const Unlocks producers(q.b_->put_lock);
    CheckWait get_wait;
    if (q.enter_consumer(get_wait) != Status::ok) {
        out.push_back(who + "its consumer lock cannot be taken");
    } else {
        const Unlocks consumers(q.b_->get_lock);
        q.check_table(out);
        if (q.redelivers_ && out.empty()) q.check_takings(out);
    }
    return out;
}

}  // namespace onecopy
