#include "queue/queue.hpp"

#include <algorithm>

#include "body/schema.hpp"
#include "queue/body.hpp"
#include "sync/event_count.hpp"

namespace onecopy {

namespace {

constexpr u64 kLargestSize = u64{1} << 36;

constexpr u64 limit_for(u64 maxsize) noexcept {
    return maxsize == 0 ? kUnboundedSize : maxsize;
}
// Two more than the limit needs. A consumer empties an entry, and a producer fills it again. In
// between at least one whole chunk is taken, so the entry needs no lock of its own.
constexpr u64 entries_for(u64 limit) noexcept {
    return (limit + kChunkSlots - 1) / kChunkSlots + 2;
}

}  // namespace

// ---- create and open ----------------------------------------------------------------------------

Status Queue::create(Member& m, u64 maxsize, u32 flags, WaitPolicy& p, Handle& out,
                     std::string_view schema) noexcept {
    static_assert(sizeof(Body) == kTableOffset);
    if (Status s = usable(m); s != Status::ok) return s;
    if (maxsize > kLargestSize || schema.size() > kLongestSchema) return Status::too_large;
    if ((flags & ~kQueueRedelivers) != 0) return Status::bad_argument;
    const u64 limit = limit_for(maxsize);
    const u64 entries = entries_for(limit);
    Allocated block;
    const u64 end = kTableOffset + entries * 8;
    if (Status s = create_body(m, BodyKind::queue, end + schema.size(), p, block); s != Status::ok)
        return s;
    auto& b = *reinterpret_cast<Body*>(block.data);
    b.maxsize.store_relaxed(maxsize);
    b.limit.store_relaxed(limit);
    b.entries.store_relaxed(static_cast<u32>(entries));
    b.flags.store_relaxed(flags);
    write_schema(b, end, schema);
    finish_body(b);
    declare_cells(m, block.index, kTableOffset, 8, static_cast<u32>(entries));
    out = handle_of(m, block.index);
    return Status::ok;
}

Status Queue::open(Member& m, Handle h, Queue& out) noexcept {
    Body* body = nullptr;
    u64 length = 0;
    if (Status s = open_body(m, h, BodyKind::queue, kTableOffset, body, length); s != Status::ok)
        return s;
    const Body& b = *body;
    const u64 maxsize = b.maxsize.load_relaxed(), limit = b.limit.load_relaxed();
    const u32 entries = b.entries.load_relaxed(), flags = b.flags.load_relaxed();
    if ((flags & ~kQueueRedelivers) != 0) return Status::corrupt;
    if (maxsize > kLargestSize || limit != limit_for(maxsize) || entries != entries_for(limit))
        return Status::corrupt;
    const u64 end = kTableOffset + u64{entries} * 8;
    if (length < end || !find_schema(b, end, length, out.schema_, out.schema_hash_))
        return Status::corrupt;
    out.m_ = &m;
    out.b_ = body;
    out.index_ = handle_index(h);
    out.limit_ = limit;
    out.entries_ = entries;
    out.redelivers_ = (flags & kQueueRedelivers) != 0;
    out.put_chunk_ = {};
    out.get_chunk_ = {};
    out.floor_chunk_ = {};
    return Status::ok;
}

std::string_view Queue::schema(u64& hash) const noexcept {
    hash = schema_hash_;
    return schema_;
}

// ---- chunks -------------------------------------------------------------------------------------

[[gnu::noinline]] Slot* Queue::find_slots(Handle h, Cached& cached) noexcept {
    BlockInfo info;
    if (h == 0 || find_part(*m_, h, BodyKind::queue_chunk, kChunkBytes, info) != Status::ok) {
        m_->mark_corrupt();
        return nullptr;
    }
    auto* slots = reinterpret_cast<Slot*>(info.data);
    std::atomic_ref(cached.handle).store(0, std::memory_order_relaxed);
    std::atomic_ref(cached.slots).store(slots, std::memory_order_release);
    std::atomic_ref(cached.handle).store(h, std::memory_order_release);
    return slots;
}

// Producer lock held.
[[gnu::noinline]] Status Queue::add_chunk(shm_atomic<u64>& cell, WaitPolicy& p,
                                          Handle& out) noexcept {
    // For the heap lock. Signal handlers must not run here.
    UninterruptibleWait uninterruptible(p, os::monotonic_ns() + 1'000'000'000);
    Allocated chunk;
    Status s = create_body(*m_, BodyKind::queue_chunk, kChunkBytes, uninterruptible, chunk);
    if (s == Status::too_large) return Status::no_memory;
    if (s != Status::ok) return s;
    declare_cells(*m_, chunk.index, offsetof(Slot, cell), sizeof(Slot), kChunkSlots);
    out = handle_of(*m_, chunk.index);
    s = swap_cell(*m_, cell, 0, out);
    UninterruptibleWait releasing(p);
    drop(*m_, chunk.index, releasing);
    return s;
}

// ---- put ----------------------------------------------------------------------------------------

// Producer lock held. Puts 1..n messages into the chunk of the tail.
//
// A put and a get are one function each, without a call inside, however large the compiler finds
// them.
[[gnu::always_inline]] inline Status Queue::put_locked(const Message* msgs, u32 n, u32& moved,
                                                       WaitPolicy& p) noexcept {
    Body& b = *b_;
    if (b.closed.load_relaxed() != 0) return Status::shut_down;
    u64 tail = b.tail.load_relaxed();
    u64 used = tail - b.seen_head.load_relaxed();
    if (used >= limit_) {
        // What the consumer did to older entries of the table is done. [queue.head] [queue.floor]
        const u64 head = lowest().load_acquire();
        used = tail - head;
        if (used > limit_) {
            m_->mark_corrupt();
            return Status::corrupt;
        }
        b.seen_head.store_relaxed(head);
        if (used == limit_) return Status::would_block;
    }
    shm_atomic<u64>& cell = table(tail / kChunkSlots);
    Handle chunk = cell.load_relaxed();
    if (chunk == 0) [[unlikely]] {
        if (Status s = add_chunk(cell, p, chunk); s != Status::ok) return s;
    }
    Slot* const slots = slots_of(chunk, put_chunk_);
    if (slots == nullptr) return Status::corrupt;
    Slot* slot = slots + tail % kChunkSlots;
    const u64 count = std::min({u64{n}, kChunkSlots - tail % kChunkSlots, limit_ - used});
    u64 committed = tail;
    Status s = Status::ok;
    for (u64 i = 0; i < count; ++i, ++slot, ++tail) {
        const Message& msg = msgs[i];
        copy_in(slot->bytes, msg.bytes, msg.length);
        slot->length.store_relaxed(msg.length);
        if (msg.block == 0) continue;
        if (committed != tail) b.tail.store_release(tail);  // COMMIT [queue.tail]
        s = put_cell(*m_, slot->cell, msg.block, b.tail, tail, [] {});
        committed = s == Status::ok ? tail + 1 : tail;
        moved = static_cast<u32>(i);
        if (s != Status::ok) return i == 0 ? s : Status::ok;  // the next attempt meets it again
    }
    if (committed != tail) b.tail.store_release(tail);  // COMMIT [queue.tail]
    moved = static_cast<u32>(count);
    return Status::ok;
}

[[gnu::always_inline]] inline Status Queue::try_put(const Message* msgs, u32 n, u32& moved,
                                                    WaitPolicy& p) noexcept {
    moved = 0;
    if (Status s = usable(*m_); s != Status::ok) return s;
    // owner_died: nothing to repair. The intent of the dead owner was resolved before the lock
    // could be taken over.
    if (Status s = enter(b_->put_lock, *m_, p); !good(s)) return s;
    Status s = put_locked(msgs, n, moved, p);
    unlock(b_->put_lock);
    if (moved != 0) notify(b_->not_empty, static_cast<int>(moved));
    return s;
}

[[gnu::always_inline]] inline Status Queue::put_some(const Message* msgs, u32 n, u32& moved,
                                                     WaitPolicy& p) noexcept {
    Status s = try_put(msgs, n, moved, p);
    if (s != Status::would_block || !p.may_wait()) [[likely]]
        return s;
    return [&]() __attribute__((noinline)) {
        return wait_for(
            b_->not_full, {*m_, WaitPurpose::put, b_}, p,
            [&] { return try_put(msgs, n, moved, p); },
            [&] {
                // Head first: the tail only grows, so the room that this sees was there.
                // [commit/sleepers]
                const u64 head = lowest().load();
                return b_->tail.load() - head < limit_ || b_->closed.load() != 0 ||
                       usable(*m_) != Status::ok;
            },
            [] {});
    }();
}

Status Queue::put(const Message& msg, WaitPolicy& p) noexcept {
    if (msg.length > kInlineBytes) return Status::bad_argument;
    u32 moved;
    return put_some(&msg, 1, moved, p);
}

Status Queue::put_many(const Message* msgs, u32 n, u32& done, WaitPolicy& p) noexcept {
    done = 0;
    for (u32 i = 0; i < n; ++i) {
        if (msgs[i].length > kInlineBytes) return Status::bad_argument;
    }
    while (done < n) {
        u32 moved = 0;
        Status s = put_some(msgs + done, n - done, moved, p);
        done += moved;
        if (s != Status::ok) return s;
    }
    return Status::ok;
}

// ---- get ----------------------------------------------------------------------------------------

// Consumer lock held. Takes the chunk of a queue that was shut down and has nothing left: nothing
// is put into it any more. 0: there is none. The caller frees it. A death before the swap leaves it
// to the next process that takes or shuts down. A death after it leaves it to the sweep.
[[gnu::noinline]] Handle Queue::take_last_chunk() noexcept {
    if (b_->closed.load_acquire() == 0) return 0;  // [queue.closed]
    const u64 tail = b_->tail.load_acquire();      // [queue.tail]
    if (lowest().load_relaxed() != tail) return 0;
    shm_atomic<u64>& cell = table(tail / kChunkSlots);
    const Handle chunk = cell.load_relaxed();
    return chunk != 0 && swap_cell(*m_, cell, chunk, 0) == Status::ok ? chunk : 0;
}

// Consumer lock held. Takes 1..n messages from the chunk of the head.
[[gnu::always_inline]] inline Status Queue::get_locked(Message* msgs, u32 n, u32& moved,
                                                       Handle& emptied, WaitPolicy& p) noexcept {
    Body& b = *b_;
    u64 head = b.head.load_relaxed();
    u64 there = b.seen_tail.load_relaxed() - head;
    if (there - 1 >= limit_) {             // none, as far as it was seen
        u64 tail = b.tail.load_acquire();  // [queue.tail]
        if (tail == head) {
            // Nothing is put after `closed` is set, so an empty queue stays empty.
            if (b.closed.load_acquire() == 0) return Status::would_block;  // [queue.closed]
            tail = b.tail.load_acquire();                                  // [queue.tail]
            if (tail == head) {
                emptied = take_last_chunk();
                return Status::shut_down;
            }
        }
        there = tail - head;
        if (there > limit_) {
            m_->mark_corrupt();
            return Status::corrupt;
        }
        b.seen_tail.store_relaxed(tail);
    }
    shm_atomic<u64>& cell = table(head / kChunkSlots);
    const Handle chunk = cell.load_relaxed();
    Slot* const slots = slots_of(chunk, get_chunk_);
    if (slots == nullptr) return Status::corrupt;
    Slot* slot = slots + head % kChunkSlots;
    const u64 count = std::min({u64{n}, kChunkSlots - head % kChunkSlots, there});
    u64 committed = head;
    Status s = Status::ok;
    u64 i = 0;
    for (; i < count; ++i, ++slot, ++head) {
        Message& msg = msgs[i];
        const u32 length = slot->length.load_relaxed();
        if (length > kInlineBytes) [[unlikely]] {
            m_->mark_corrupt();
            s = Status::corrupt;
            break;
        }
        msg.block = slot->cell.load_relaxed();
        msg.length = length;
        std::memcpy(msg.bytes, slot->bytes, length);
        if (msg.block == 0) continue;
        if (committed != head) b.head.store_release(head);  // COMMIT [queue.head]
        committed = head;
        s = hold(*m_, msg.block);
        // The slot owned the block, so it cannot be gone, unless this process has left.
        if (s != Status::ok) [[unlikely]] {
            msg.block = 0;
            if (s == Status::closed) break;
            m_->mark_corrupt();
            s = Status::corrupt;
            break;
        }
        s = take_cell(*m_, slot->cell, msg.block, b.head, head);
        if (s != Status::ok) [[unlikely]] {
            UninterruptibleWait uninterruptible(p);
            drop(*m_, handle_index(msg.block), uninterruptible);
            msg.block = 0;
            break;
        }
        committed = head + 1;
    }
    if (committed < head) b.head.store_release(head);  // COMMIT [queue.head]
    moved = static_cast<u32>(i);
    if (i != 0 && head % kChunkSlots == 0 && swap_cell(*m_, cell, chunk, 0) == Status::ok)
        emptied = chunk;
    return i != 0 ? Status::ok : s;
}

[[gnu::always_inline]] inline Status Queue::leave_consumer(Status s, u32 moved, Handle emptied,
                                                           WaitPolicy& p) noexcept {
    unlock(b_->get_lock);
    if (moved != 0) notify(b_->not_full, static_cast<int>(moved));
    if (emptied != 0) [[unlikely]] {
        UninterruptibleWait uninterruptible(p);
        try_free(*m_, handle_index(emptied), uninterruptible);
    }
    return s;
}

[[gnu::always_inline]] inline Status Queue::try_get(Message* msgs, u32 n, u32& moved,
                                                    WaitPolicy& p) noexcept {
    moved = 0;
    if (Status s = usable(*m_); s != Status::ok) return s;
    if (Status s = enter_consumer(p); s != Status::ok) return s;
    Handle emptied = 0;
    Status s = get_locked(msgs, n, moved, emptied, p);
    return leave_consumer(s, moved, emptied, p);
}

[[gnu::always_inline]] inline Status Queue::get_some(Message* msgs, u32 n, u32& moved,
                                                     WaitPolicy& p) noexcept {
    Status s = try_get(msgs, n, moved, p);
    if (s != Status::would_block || !p.may_wait()) [[likely]]
        return s;
    return [&]() __attribute__((noinline)) {
        return wait_for(
            b_->not_empty, {*m_, WaitPurpose::get, b_}, p,
            [&] { return try_get(msgs, n, moved, p); },
            [&] {
                // Tail first: the head only grows. If this misses a message because of that,
                // another thread has taken it. [commit/sleepers]
                const u64 tail = b_->tail.load();
                return tail != b_->head.load() || b_->closed.load() != 0 ||
                       usable(*m_) != Status::ok;
            },
            [] {});
    }();
}

Status Queue::get(Message& msg, WaitPolicy& p) noexcept {
    u32 moved;
    if (redelivers_) [[unlikely]]
        return take_some(&msg, 1, moved, p);
    return get_some(&msg, 1, moved, p);
}

Status Queue::get_many(Message* msgs, u32 n, u32& got, WaitPolicy& p) noexcept {
    got = 0;
    if (n == 0) return Status::ok;
    if (redelivers_) [[unlikely]]
        return take_some(msgs, n, got, p);
    if (Status s = get_some(msgs, n, got, p); s != Status::ok) return s;
    // Further chunks, as long as that needs no wait: an interruption must not lose messages that
    // were taken.
    while (got < n && try_lock(b_->get_lock, *m_)) {
        u32 moved = 0;
        Handle emptied = 0;
        Status s = get_locked(msgs + got, n - got, moved, emptied, p);
        leave_consumer(s, moved, emptied, p);
        if (s != Status::ok) break;
        got += moved;
    }
    return Status::ok;
}

Status Queue::wait_ready(const std::atomic<bool>& stop, WaitPolicy& p) noexcept {
    auto ready = [&] {
        const u64 tail = b_->tail.load();
        if (tail != b_->head.load() || b_->closed.load() != 0) return true;
        return redelivers_ && size_with_returned() != 0;  // looks for dead takers too
    };
    bool stopped = false;
    const Status s = wait_for(
        b_->not_empty, {*m_, WaitPurpose::read_or_end, b_}, p,
        [&] {
            if (Status now = usable(*m_); now != Status::ok) return now;
            // A thread that `wake_waiters` wakes sees it, or sees it before it sleeps. [queue.stop]
            stopped = stop.load(std::memory_order_acquire);
            return stopped || ready() ? Status::ok : Status::would_block;
        },
        [&] {
            return stop.load(std::memory_order_acquire) || ready() || usable(*m_) != Status::ok;
        },
        [] {});
    // This thread takes nothing. It passes the wake on, which may have been for a thread that
    // takes. If the wake dies with this process, that thread loses one nap.
    if (s == Status::ok) notify(b_->not_empty);
    return s == Status::ok && stopped ? Status::would_block : s;
}

Status Queue::wait_room(WaitPolicy& p) noexcept {
    auto room = [&] {
        const u64 head = lowest().load();
        return b_->tail.load() - head < limit_ || b_->closed.load() != 0;
    };
    const Status s = wait_for(
        b_->not_full, {*m_, WaitPurpose::put, b_}, p,
        [&] {
            if (Status now = usable(*m_); now != Status::ok) return now;
            return room() ? Status::ok : Status::would_block;
        },
        [&] { return room() || usable(*m_) != Status::ok; }, [] {});
    return s;
}

void Queue::wake_waiters() noexcept {
    if (usable(*m_) == Status::ok) notify_all(b_->not_empty);  // [queue.stop]
}

// ---- counts, tasks, the end ---------------------------------------------------------------------

// How far the tail is ahead of a mark that only grows. Exact at some instant, if the mark does not
// move around the read of the tail.
u64 Queue::ahead_of(const shm_atomic<u64>& mark) const noexcept {
    u64 at = mark.load();
    for (int tries = 0; tries < 1000; ++tries) {
        const u64 tail = b_->tail.load();
        const u64 again = mark.load();
        if (again == at) return std::min(tail - at, limit_);
        at = again;
    }
    return b_->tail.load() - at;
}

u64 Queue::size() noexcept {
    if (redelivers_) [[unlikely]]
        return size_with_returned();
    return std::min(ahead_of(b_->head), limit_);
}

u64 Queue::occupied() const noexcept {
    return ahead_of(lowest());
}
bool Queue::full() const noexcept {
    return occupied() >= limit_;
}
u64 Queue::maxsize() const noexcept {
    return b_->maxsize.load_relaxed();
}
u32 Queue::flags() const noexcept {
    return b_->flags.load_relaxed();
}
// [queue.closed]
bool Queue::is_shut_down() const noexcept {
    return b_->closed.load_acquire() != 0;  // [queue.closed]
}

u64 Queue::unfinished() noexcept {
    return redelivers_ ? unfinished_takings() : ahead_of(b_->done);
}

// Adds n to done, but not beyond tail. Returns how many were added: n, or fewer (clamp), or 0.
u64 Queue::add_done(u64 n, bool clamp) noexcept {
    u64 done = b_->done.load();
    for (;;) {
        const u64 tail = b_->tail.load();
        u64 add = n;
        if (n > tail - done) {
            if (!clamp) return 0;
            add = tail - done;
        }
        if (add == 0) return 0;
        if (!b_->done.cas(done, done + add)) continue;  // COMMIT of task_done
        if (done + add == tail) notify_all(b_->all_done);
        return add;
    }
}

Status Queue::task_done(WaitPolicy& p) noexcept {
    if (redelivers_) return finish_lowest(p);
    if (Status s = usable(*m_); s != Status::ok) return s;
    return add_done(1, false) == 1 ? Status::ok : Status::bad_argument;
}

Status Queue::task_done(u64 position, WaitPolicy& p) noexcept {
    return redelivers_ ? finish(position, p) : task_done(p);
}

Status Queue::join(WaitPolicy& p) noexcept {
    const shm_atomic<u64>& mark = redelivers_ ? b_->floor : b_->done;
    // The mark first: it never passes the tail, so if they are equal, they were so when the tail
    // was read.
    auto finished = [&] {
        const u64 done = mark.load(), tail = b_->tail.load();
        if (done > tail) m_->mark_corrupt();
        return done == tail;
    };
    auto attempt = [&] {
        if (Status s = usable(*m_); s != Status::ok) return s;
        if (finished()) return Status::ok;
        return m_->corrupt() ? Status::corrupt : Status::would_block;
    };
    auto look = [&] {
        if (redelivers_) look_for_the_dead(p);
    };
    Status s = wait_for(
        b_->all_done, {*m_, WaitPurpose::join, b_}, p, attempt,
        [&] { return finished() || usable(*m_) != Status::ok; }, look);
    if (s != Status::would_block && s != Status::timed_out) return s;
    look();  // once, also for a caller that does not wait
    return finished() ? Status::ok : s;
}

Status Queue::shut_down(bool immediate, WaitPolicy& p) noexcept {
    if (Status s = usable(*m_); s != Status::ok) return s;
    // Under the producer lock: a put has committed before, or it sees `closed`.
    if (Status s = enter(b_->put_lock, *m_, p); !good(s)) return s;
    const u32 how = immediate && redelivers_ ? kDropping : kNoMorePuts;
    if (b_->closed.load_relaxed() < how) b_->closed.store_release(how);  // COMMIT [queue.closed]
    unlock(b_->put_lock);
    notify_all(b_->not_empty);
    notify_all(b_->not_full);
    Status s = Status::ok;
    if (immediate) s = redelivers_ ? drop_everything(p) : take_everything(p);
    // If another thread is taking, it finds `closed` set when nothing is left, or the next one
    // does.
    if (try_lock(b_->get_lock, *m_)) leave_consumer(Status::ok, 0, take_last_chunk(), p);
    notify_all(b_->all_done);
    return s;
}

Status Queue::take_everything(WaitPolicy& p) noexcept {
    for (;;) {
        Message taken[16];
        u32 moved = 0;
        Status s = try_get(taken, 16, moved, p);
        if (s != Status::ok) return s == Status::shut_down ? Status::ok : s;
        UninterruptibleWait uninterruptible(p);
        for (u32 i = 0; i < moved; ++i) {
            if (taken[i].block != 0) drop(*m_, handle_index(taken[i].block), uninterruptible);
        }
        add_done(moved, true);
    }
}

}  // namespace onecopy
