// The consumers' side of a queue that redelivers. What was taken stays in its slot until it is
// finished. If its taker dies first, it is given out again. docs/design/0003-redelivery.md has the
// states and the table of deaths.
//
//|     finished        taken, returned or done            never taken
//|   ────────────┬───────────────────────────────────┬─────────────────┬────────
//|             floor                               head              tail
//
// Everything here happens under the consumer lock. COMMITS:
//
//|   get        a queued message: head := h+1 [queue.head]
//|              one that came back: its word := taken (by me, again)
//|   task_done  its word := done; then its cell is emptied, and floor := f+1 [queue.floor] for as
//|              long as the slot at the floor is done
//|   give_back  its word := returned, by its taker
//|   a death    its word := returned, by the next process that sees `header.death_epoch` move
#include <algorithm>
#include <climits>

#include "queue/body.hpp"
#include "sync/event_count.hpp"

namespace onecopy {

namespace {

u32 this_thread() noexcept {
    static std::atomic<u32> last{0};
    thread_local const u32 number =
        last.fetch_add(1, std::memory_order_relaxed) & Taking::kThreadMask;
    return number;
}

}  // namespace

// ---- the slots ----------------------------------------------------------------------------------

bool Queue::range(Range& r) noexcept {
    // [queue.tail]
    r = {b_->floor.load_relaxed(), b_->head.load_relaxed(), b_->tail.load_acquire()};
    if (r.floor <= r.head && r.head <= r.tail && r.tail - r.floor <= limit_) [[likely]]
        return true;
    m_->mark_corrupt();
    return false;
}

Slot* Queue::slot_at(u64 position, Cached& cached) noexcept {
    Slot* const slots = slots_of(table(position / kChunkSlots).load_relaxed(), cached);
    return slots == nullptr ? nullptr : slots + position % kChunkSlots;
}

// Takes the reference out of a slot that is done. The block, which the caller may have to free. 0:
// there was none.
Handle Queue::empty_slot(Slot& slot) noexcept {
    const Handle block = slot.cell.load_relaxed();
    return block != 0 && swap_cell(*m_, slot.cell, block, 0) == Status::ok ? block : 0;
}

// As `empty_slot`, but frees the block under the lock. For repairs and drops, where time does not
// matter.
void Queue::clear_slot(Slot& slot, WaitPolicy& p) noexcept {
    const Handle block = empty_slot(slot);
    if (block == 0) return;
    UninterruptibleWait uninterruptible(p);
    try_free(*m_, handle_index(block), uninterruptible);
}

// Moves the floor over the slots that are done. A chunk that it leaves is taken out of the table
// before the floor moves on. So when a producer sees a floor that is one chunk further, the entry
// of the table is free (see `entries_for`).
void Queue::advance(Effects& e, WaitPolicy& p) noexcept {
    Range r;
    if (!range(r)) return;
    for (u64 floor = r.floor; floor < r.head;) {
        shm_atomic<u64>& cell = table(floor / kChunkSlots);
        const Handle chunk = cell.load_relaxed();
        Slot* const slots = slots_of(chunk, floor_chunk_);
        if (slots == nullptr) return;
        const u64 from = floor;
        while (floor < r.head && taking_of(slots[floor % kChunkSlots]).state() == Taking::done) {
            if (++floor % kChunkSlots == 0) break;
        }
        if (floor == from) return;
        b_->floor.store_release(floor);  // COMMIT [queue.floor]
        e.room += floor - from;
        if (floor % kChunkSlots != 0) return;
        if (swap_cell(*m_, cell, chunk, 0) != Status::ok) return;
        if (e.emptied != 0) {
            UninterruptibleWait uninterruptible(p);
            try_free(*m_, handle_index(e.emptied), uninterruptible);
        }
        e.emptied = chunk;
    }
}

// As `take_last_chunk`; the caller frees it with what else is done.
void Queue::release_last_chunk(Effects& e, WaitPolicy& p) noexcept {
    const Handle chunk = take_last_chunk();
    if (chunk == 0) return;
    if (e.emptied != 0) {
        UninterruptibleWait uninterruptible(p);
        try_free(*m_, handle_index(e.emptied), uninterruptible);
    }
    e.emptied = chunk;
}

// ---- the dead -----------------------------------------------------------------------------------

// Checks every slot that was taken. The messages of a process that died or left are returned. It
// also repairs: it counts the returned slots again, empties those that are done, and moves the
// floor.
[[gnu::noinline]] bool Queue::rescan(Effects& e, WaitPolicy& p) noexcept {
    // Before the generations, so that a death that is missed here is seen next time.
    // [pool.death_epoch]
    const u64 death_epoch = m_->header().death_epoch.load_acquire();
    const bool dropping = b_->closed.load_acquire() == kDropping;  // [queue.closed]
    Range r;
    if (!range(r)) return false;
    u64 returned = 0, first = r.head, came_back = 0;
    const bool sound = walk(r.floor, r.head, [&](Slot& slot, u64 position) {
        Taking t = taking_of(slot);
        if (t.state() == Taking::taken && m_->passed(t.tag())) {
            t = t.back();
            set_taking(slot, t);  // COMMIT
            ++came_back;
        }
        if (t.state() == Taking::returned) {
            if (dropping) {
                t = {Taking::done};
                set_taking(slot, t);  // COMMIT
            } else {
                if (returned++ == 0) first = position;
            }
        }
        if (t.state() == Taking::done) clear_slot(slot, p);
        return true;
    });
    if (!sound) return false;
    b_->first_returned.store_relaxed(first);
    b_->returned.store_relaxed(returned);
    b_->seen_death_epoch.store_relaxed(death_epoch);
    if (!dropping) e.came_back += came_back;
    advance(e, p);
    return true;
}

// The first call under the consumer lock. False: the queue is corrupt.
inline bool Queue::refresh(Effects& e, WaitPolicy& p) noexcept {
    // [pool.death_epoch]
    const bool news =
        b_->seen_death_epoch.load_relaxed() != m_->header().death_epoch.load_acquire();
    if (news && !rescan(e, p)) return false;
    if (b_->closed.load_acquire() == kDropping) [[unlikely]] {  // [queue.closed]
        while (drop_some(e, p)) {
        }
    }
    return true;
}

void Queue::note_takers(const Range& r, Effects& e) noexcept {
    walk(r.floor, r.head, [&](Slot& slot, u64) {
        const Taking t = taking_of(slot);
        const u32 taker = tag_slot(t.tag());
        if (t.state() != Taking::taken || taker == m_->slot || taker >= m_->geo().max_processes)
            return true;
        e.takers[taker / 64] |= u64{1} << (taker % 64);
        e.others = true;
        return true;
    });
}

// Does the wakes and frees that were noted. It needs no lock; repairs call it with the lock.
void Queue::tell(const Effects& e, WaitPolicy& p) noexcept {
    if (e.room != 0) {
        notify(b_->not_full, static_cast<int>(std::min<u64>(e.room, INT_MAX)));
        if (b_->floor.load() == b_->tail.load()) notify_all(b_->all_done);
    }
    if (e.came_back != 0)
        notify(b_->not_empty, static_cast<int>(std::min<u64>(e.came_back, INT_MAX)));
    UninterruptibleWait uninterruptible(p);
    if (e.finished != 0) try_free(*m_, handle_index(e.finished), uninterruptible);
    if (e.emptied != 0) try_free(*m_, handle_index(e.emptied), uninterruptible);
}

// Unlocks, wakes and frees, and asks whether the noted takers live. A taker that is dead is cleaned
// up by that: `death_epoch` moves.
void Queue::leave_takings(const Effects& e, WaitPolicy& p) noexcept {
    unlock(b_->get_lock);
    tell(e, p);
    if (!e.others) [[likely]]
        return;
    p.about_to_block();  // cleaning up may take a while
    for (u32 slot = 0; slot < m_->geo().max_processes; ++slot) {
        // Under the present generation: if it has moved since, `death_epoch` has moved too, or is
        // about to.
        if (e.takers[slot / 64] >> (slot % 64) & 1)
            m_->gone(make_tag(slot, m_->row(slot).gen.load_acquire()));  // [row.gen]
    }
}

// For a caller that found nothing to take, or is about to give up: checks every taker. True: there
// is a returned message to take.
[[gnu::noinline]] bool Queue::look_for_the_dead(WaitPolicy& p) noexcept {
    if (b_->floor.load() == b_->head.load() && b_->closed.load() != kDropping)
        return false;  // no message is taken
    for (int round = 0; round < 2; ++round) {
        if (usable(*m_) != Status::ok) return false;
        UninterruptibleWait uninterruptible(p, os::monotonic_ns() + kLockGrace);
        if (enter_consumer(uninterruptible) != Status::ok) return false;
        Effects e;
        Range r;
        const bool sound = refresh(e, uninterruptible) && range(r);
        if (sound && round == 0) note_takers(r, e);
        leave_takings(e, uninterruptible);
        // [pool.death_epoch]
        if (!sound || !e.others ||
            b_->seen_death_epoch.load_relaxed() == m_->header().death_epoch.load_acquire())
            break;
    }
    return b_->returned.load_relaxed() != 0;
}

// ---- get ----------------------------------------------------------------------------------------

Status Queue::take_slot(Slot& slot, u64 position, bool again, Message& msg) noexcept {
    const u32 length = slot.length.load_relaxed();
    msg.block = slot.cell.load_relaxed();
    Status s = length > kInlineBytes ? Status::corrupt : Status::ok;
    if (s == Status::ok && msg.block != 0) s = hold(*m_, msg.block);
    if (s != Status::ok) [[unlikely]] {
        msg.block = 0;
        if (s == Status::closed) return s;
        m_->mark_corrupt();  // the slot owned its block, so it cannot be gone
        return Status::corrupt;
    }
    msg.length = length;
    const u32 times = again ? std::min(taking_of(slot).times() + 1, Taking::kMostTimes) : 0;
    msg.redeliveries = times;
    msg.position = position;
    std::memcpy(msg.bytes, slot.bytes, length);
    // COMMIT of a message that came back. For others, the head is.
    set_taking(slot, Taking::by(m_->tag(), this_thread(), times));
    return Status::ok;
}

[[gnu::noinline]] Status Queue::take_returned(const Range& r, Message* msgs, u32 n,
                                              u32& moved) noexcept {
    u64 left = b_->returned.load_relaxed();
    Status s = Status::ok;
    auto take = [&](Slot& slot, u64 position) {
        if (taking_of(slot).state() != Taking::returned) return true;
        s = take_slot(slot, position, true, msgs[moved]);
        if (s != Status::ok) return false;
        ++moved;
        b_->first_returned.store_relaxed(position + 1);
        b_->returned.store_relaxed(--left);
        return left != 0 && moved != n;
    };
    const u64 from = std::max(b_->first_returned.load_relaxed(), r.floor);
    if (!walk(from, r.head, take)) return Status::corrupt;
    if (s == Status::ok && moved != n && left != 0) {  // fewer than were counted
        m_->mark_corrupt();
        return Status::corrupt;
    }
    return s;
}

inline Status Queue::take_queued(const Range& r, Message* msgs, u32 n, u32& moved,
                                 Effects& e) noexcept {
    const u64 until = std::min(r.tail, r.head + (n - moved));
    u64 head = r.head;
    Status s = Status::ok;
    for (; head != until; ++head, ++moved) {
        Slot* const slot = slot_at(head, get_chunk_);
        s = slot == nullptr ? Status::corrupt : take_slot(*slot, head, false, msgs[moved]);
        if (s != Status::ok) [[unlikely]]
            break;
    }
    if (head == r.head) return s;
    b_->head.store_release(head);  // COMMIT [queue.head]
    // Once in a chunk, so that a queue which is never empty finds its dead takers too.
    if (head / kChunkSlots != r.head / kChunkSlots) [[unlikely]]
        note_takers({r.floor, head, r.tail}, e);
    return s;
}

// Consumer lock held. Takes 1..n messages: first those that came back, then queued ones. So they
// come in order.
inline Status Queue::take_locked(Message* msgs, u32 n, u32& moved, Effects& e,
                                 WaitPolicy& p) noexcept {
    if (!refresh(e, p)) return Status::corrupt;
    // Before the tail: nothing is put after `closed` is set, so an empty queue stays empty.
    const bool closed = b_->closed.load_acquire() != 0;  // [queue.closed]
    Range r;
    if (!range(r)) return Status::corrupt;
    Status s = Status::ok;
    if (b_->returned.load_relaxed() != 0) [[unlikely]]
        s = take_returned(r, msgs, n, moved);
    if (s == Status::ok && moved < n) s = take_queued(r, msgs, n, moved, e);
    if (moved != 0 || s != Status::ok) return moved != 0 ? Status::ok : s;
    if (closed) release_last_chunk(e, p);
    return closed ? Status::shut_down : Status::would_block;
}

Status Queue::try_take(Message* msgs, u32 n, u32& moved, WaitPolicy& p) noexcept {
    moved = 0;
    if (Status s = usable(*m_); s != Status::ok) return s;
    if (Status s = enter_consumer(p); s != Status::ok) return s;
    Effects e;
    const Status s = take_locked(msgs, n, moved, e, p);
    leave_takings(e, p);
    return s;
}

Status Queue::take_some(Message* msgs, u32 n, u32& moved, WaitPolicy& p) noexcept {
    Status s = try_take(msgs, n, moved, p);
    if (s == Status::would_block && p.may_wait()) {
        s = wait_for(
            b_->not_empty, {*m_, WaitPurpose::get, b_}, p,
            [&] { return try_take(msgs, n, moved, p); },
            [&] {
                // Tail first: the head only grows. If this misses a message because of that,
                // another thread has taken it. [commit/sleepers]
                const u64 tail = b_->tail.load();
                return tail != b_->head.load() || b_->returned.load() != 0 ||
                       b_->closed.load() != 0 || usable(*m_) != Status::ok ||
                       b_->seen_death_epoch.load() != m_->header().death_epoch.load();
            },
            [&] { look_for_the_dead(p); });
    }
    // Nothing to take: once more, after asking whether a dead taker is the reason.
    if (s != Status::would_block && s != Status::timed_out && s != Status::shut_down) return s;
    if (look_for_the_dead(p) && try_take(msgs, n, moved, p) == Status::ok) return Status::ok;
    return s;
}

// ---- task_done ----------------------------------------------------------------------------------

Status Queue::finish_locked(u64 position, Effects& e, WaitPolicy& p) noexcept {
    Slot* const slot = slot_at(position, floor_chunk_);
    if (slot == nullptr) return Status::corrupt;
    const Taking t = taking_of(*slot);
    if (t.state() != Taking::taken || t.tag() != m_->tag()) return Status::bad_argument;
    set_taking(*slot, {Taking::done});  // COMMIT
    // Now, and not when the floor gets here: an older message may take long.
    e.finished = empty_slot(*slot);
    advance(e, p);
    if (b_->closed.load_relaxed() != 0) [[unlikely]]
        release_last_chunk(e, p);
    return Status::ok;
}

Status Queue::settle(u64 position, Settle how, WaitPolicy& p) noexcept {
    if (Status s = usable(*m_); s != Status::ok) return s;
    if (Status s = enter_consumer(p); s != Status::ok) return s;
    Effects e;
    Range r;
    Status s = range(r) ? Status::bad_argument : Status::corrupt;
    if (s == Status::bad_argument && position >= r.floor && position < r.head)
        s = (this->*how)(position, e, p);
    leave_takings(e, p);
    return s;
}

Status Queue::finish(u64 position, WaitPolicy& p) noexcept {
    return settle(position, &Queue::finish_locked, p);
}

// The living taker returns the message. The steps are those after a death, for one message.
Status Queue::give_back(u64 position, WaitPolicy& p) noexcept {
    return redelivers_ ? settle(position, &Queue::return_locked, p) : Status::bad_argument;
}

Status Queue::return_locked(u64 position, Effects& e, WaitPolicy& p) noexcept {
    if (b_->closed.load_acquire() == kDropping)
        return finish_locked(position, e, p);  // [queue.closed]
    Slot* const slot = slot_at(position, floor_chunk_);
    if (slot == nullptr) return Status::corrupt;
    const Taking t = taking_of(*slot);
    if (t.state() != Taking::taken || t.tag() != m_->tag()) return Status::bad_argument;
    set_taking(*slot, t.back());  // COMMIT
    // Derived: after a death before these, `rescan` makes them.
    if (position < b_->first_returned.load_relaxed() || b_->returned.load_relaxed() == 0)
        b_->first_returned.store_relaxed(position);
    b_->returned.store_relaxed(b_->returned.load_relaxed() + 1);
    ++e.came_back;
    return Status::ok;
}

Status Queue::finish_lowest(WaitPolicy& p) noexcept {
    if (Status s = usable(*m_); s != Status::ok) return s;
    if (Status s = enter_consumer(p); s != Status::ok) return s;
    Effects e;
    Range r;
    Status s = Status::corrupt;
    u64 found = ~u64{0};
    const bool sound = range(r) && walk(r.floor, r.head, [&](Slot& slot, u64 position) {
                           const Taking t = taking_of(slot);
                           if (t.state() != Taking::taken || t.tag() != m_->tag()) return true;
                           // This thread's own message comes first: if a process has several
                           // workers, each finishes what it took.
                           const bool own = t.thread() == this_thread();
                           if (own || found == ~u64{0}) found = position;
                           return !own;
                       });
    if (sound) s = found == ~u64{0} ? Status::bad_argument : finish_locked(found, e, p);
    leave_takings(e, p);
    return s;
}

// ---- the end, counts ----------------------------------------------------------------------------

// After an immediate shutdown, consumer lock held. Drops the returned messages, and at most one
// chunk of queued ones. True: there are more.
bool Queue::drop_some(Effects& e, WaitPolicy& p) noexcept {
    if (b_->returned.load_relaxed() != 0 && !rescan(e, p)) return false;
    Range r;
    if (!range(r)) return false;
    const u64 until = std::min(r.tail, r.head + kChunkSlots);
    if (until == r.head) return false;
    auto mark = [](Slot& slot, u64) {
        set_taking(slot, {Taking::done});
        return true;
    };
    if (!walk(r.head, until, mark)) return false;
    b_->head.store_release(until);  // COMMIT [queue.head]: taken and done at once
    auto clear = [&](Slot& slot, u64) {
        clear_slot(slot, p);
        return true;
    };
    if (!walk(r.head, until, clear)) return false;
    advance(e, p);
    return until != r.tail;
}

Status Queue::drop_everything(WaitPolicy& p) noexcept {
    for (bool more = true; more;) {
        if (Status s = enter_consumer(p); s != Status::ok) return s;
        Effects e;
        more = drop_some(e, p);
        leave_takings(e, p);
    }
    look_for_the_dead(p);
    return usable(*m_);
}

// Not a snapshot: a message that is returned or taken during the call may count or not.
u64 Queue::size_with_returned() noexcept {
    // [pool.death_epoch]
    const bool news =
        b_->seen_death_epoch.load_relaxed() != m_->header().death_epoch.load_acquire();
    if (news && usable(*m_) == Status::ok && try_lock(b_->get_lock, *m_)) {
        UnboundedWait wait;
        Effects e;
        refresh(e, wait);
        leave_takings(e, wait);
    }
    return std::min(std::min(ahead_of(b_->head), limit_) + b_->returned.load(), limit_);
}

u64 Queue::unfinished_takings() noexcept {
    UnboundedWait outer;
    UninterruptibleWait uninterruptible(outer, os::monotonic_ns() + kLockGrace);
    if (usable(*m_) != Status::ok || enter_consumer(uninterruptible) != Status::ok)
        return ahead_of(b_->floor);
    Range r{};
    u64 unfinished = 0;
    if (range(r)) {
        unfinished = r.tail - r.head;
        walk(r.floor, r.head, [&](Slot& slot, u64) {
            unfinished += taking_of(slot).state() != Taking::done;
            return true;
        });
    }
    unlock(b_->get_lock);
    return unfinished;
}

}  // namespace onecopy
