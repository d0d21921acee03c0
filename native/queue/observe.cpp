// What an observer sees of a queue.
#include <algorithm>

#include "queue/body.hpp"

namespace onecopy {

void Queue::observe(Member& m, u32 index, Observed& out) {
    Queue q;
    if (open(m, handle_of(m, index), q) != Status::ok) return;
    out.readable = true;
    const Body& b = *q.b_;
    // Head, then tail, then head again: if the head stayed, both were true at one instant.
    u64 head = b.head.load(), tail = b.tail.load();
    for (int i = 0; i < 3 && b.head.load() != head; ++i) {
        head = b.head.load();
        tail = b.tail.load();
    }
    const u64 floor = q.redelivers_ ? std::min(b.floor.load(), head) : head;
    const u64 returned = q.redelivers_ ? std::min(b.returned.load(), head - floor) : 0;
    const u64 done = q.redelivers_ ? floor : std::min(b.done.load(), tail);
    out.fact("put", tail);
    out.fact("taken", head);
    out.fact("depth", (tail < head ? 0 : tail - head) + returned);
    out.fact("maxsize", q.maxsize());
    out.fact("room", q.limit_);
    out.fact("occupied", tail < floor ? 0 : tail - floor);
    out.fact("unfinished", tail < done ? 0 : tail - done);
    out.fact("closed", b.closed.load());
    out.fact("redelivers", q.redelivers_);
    out.take_schema(q.schema_, q.schema_hash_);
    out.owner(m, "inner", b.put_lock.word.load());
    out.owner(m, "inner", b.get_lock.word.load());
    if (!q.redelivers_) return;
    constexpr u64 kMostLookedAt = 4096;
    std::vector<u64> takers(m.geo().max_processes, 0);
    q.walk(floor, std::min(head, floor + kMostLookedAt), [&](Slot& slot, u64) {
        const Taking t = taking_of(slot);
        if (t.state() == Taking::taken && tag_slot(t.tag()) < takers.size() && !m.passed(t.tag()))
            ++takers[tag_slot(t.tag())];
        return true;
    });
    for (u32 slot = 0; slot < takers.size(); ++slot)
        if (takers[slot] != 0) out.part("taker", slot, false, takers[slot]);
}

}  // namespace onecopy
