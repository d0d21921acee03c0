#include "stream/stream.hpp"

#include <algorithm>
#include <atomic>

#include "body/schema.hpp"
#include "sync/event_count.hpp"
#include "sync/unlocks.hpp"

namespace onecopy {

struct Stream::Subscriber {
    alignas(64) shm_atomic<u64> cursor;  // the next message to read
    shm_atomic<u32> owner;               // tag; 0: the entry is free
    shm_atomic<u64> missed;              // for people: messages that it never got
    ONECOPY_SHARED_STRUCT(Subscriber, cursor, owner, missed)
};

struct Stream::Body {
    static constexpr u64 kMagic = 0x31'6d'61'65'72'74'63'6fULL;  // "octream1"
    // line 0: fixed
    shm_atomic<u64> magic;
    shm_atomic<u32> depth;
    shm_atomic<u32> policy;
    shm_atomic<u32> table;
    shm_atomic<u32> schema_bytes;  // 0: untyped. body/schema.hpp
    shm_atomic<u64> schema_hash;
    // line 1: publishers
    alignas(64) LockWord lock;
    shm_atomic<u64> head;
    shm_atomic<u64> slowest;  // lossless: no living subscriber has a cursor below it
    shm_atomic<u32> closed;
    // line 2
    alignas(64) EventCount published;
    EventCount space;
    // line 3 and on
    Subscriber subscribers[kSubscribers];
    ONECOPY_SHARED_STRUCT(Body, magic, depth, policy, table, schema_bytes, schema_hash, lock, head,
                          slowest, closed, published, space, subscribers)
};

namespace {
constexpr u64 kRingOffset = 192 + u64{kSubscribers} * 64;
constexpr u32 kLargestDepth = 1u << 24;
constexpr u64 written(u64 message) noexcept {
    return 2 * message + 2;
}
}  // namespace

// ---- create and open ----------------------------------------------------------------------------

Status Stream::create(Member& m, u32 depth, StreamPolicy policy, WaitPolicy& p, Handle& out,
                      std::string_view schema) noexcept {
    static_assert(sizeof(Body) == kRingOffset);
    if (Status s = usable(m); s != Status::ok) return s;
    if (depth == 0 || policy > StreamPolicy::latest) return Status::bad_argument;
    if (depth > kLargestDepth || schema.size() > kLongestSchema) return Status::too_large;
    // latest: a reader copies the newest message while a publisher writes the next one beside it.
    if (policy == StreamPolicy::latest) depth = std::max(depth, 2u);
    Allocated block;
    const u64 end = kRingOffset + u64{depth} * sizeof(Slot);
    if (Status s = create_body(m, BodyKind::stream, end + schema.size(), p, block); s != Status::ok)
        return s;
    auto& b = *reinterpret_cast<Body*>(block.data);
    b.depth.store_relaxed(depth);
    b.policy.store_relaxed(static_cast<u32>(policy));
    b.table.store_relaxed(kSubscribers);
    write_schema(b, end, schema);
    finish_body(b);
    declare_cells(m, block.index, static_cast<u32>(kRingOffset + offsetof(Slot, cell)),
                  sizeof(Slot), depth);
    out = handle_of(m, block.index);
    return Status::ok;
}

Status Stream::open(Member& m, Handle h, Stream& out) noexcept {
    Body* body = nullptr;
    u64 length = 0;
    if (Status s = open_body(m, h, BodyKind::stream, kRingOffset, body, length); s != Status::ok)
        return s;
    const Body& b = *body;
    const u32 depth = b.depth.load_relaxed(), policy = b.policy.load_relaxed();
    if (depth == 0 || depth > kLargestDepth || policy > static_cast<u32>(StreamPolicy::latest))
        return Status::corrupt;
    if (policy == static_cast<u32>(StreamPolicy::latest) && depth < 2) return Status::corrupt;
    const u64 end = kRingOffset + u64{depth} * sizeof(Slot);
    if (b.table.load_relaxed() != kSubscribers || length < end ||
        !find_schema(b, end, length, out.schema_, out.schema_hash_))
        return Status::corrupt;
    out.m_ = &m;
    out.b_ = body;
    out.index_ = handle_index(h);
    out.depth_ = depth;
    out.policy_ = static_cast<StreamPolicy>(policy);
    return Status::ok;
}

std::string_view Stream::schema(u64& hash) const noexcept {
    hash = schema_hash_;
    return schema_;
}

inline Slot& Stream::slot(u64 message) const noexcept {
    auto* ring = reinterpret_cast<Slot*>(reinterpret_cast<unsigned char*>(b_) + kRingOffset);
    return ring[message >> 32 == 0 ? static_cast<u32>(message) % depth_ : message % depth_];
}

// ---- publish ------------------------------------------------------------------------------------

// The lowest cursor of a subscriber that is not known to be dead. `head` if there is none.
u64 Stream::slowest(u64 head) const noexcept {
    u64 lowest = head;
    for (Subscriber& sub : b_->subscribers) {
        const u32 owner = sub.owner.load();  // [stream.owner]
        if (owner == 0 || m_->passed(owner)) continue;
        lowest = std::min(lowest, sub.cursor.load());  // [stream.cursor]
    }
    return lowest;
}

u32 Stream::slowest_reader() const noexcept {
    u64 lowest = ~u64{0};
    u32 pid = 0;
    for (Subscriber& sub : b_->subscribers) {
        const u32 owner = sub.owner.load();    // [stream.owner]
        const u64 cursor = sub.cursor.load();  // [stream.cursor]
        if (owner == 0 || m_->passed(owner) || cursor >= lowest) continue;
        if (tag_slot(owner) >= m_->geo().max_processes) continue;
        lowest = cursor;
        pid = m_->row(tag_slot(owner)).pid.load_relaxed();
    }
    return pid;
}

// For a publisher of a lossless stream that sleeps. [commit/sleepers]
bool Stream::room() const noexcept {
    const u64 head = b_->head.load();
    return head - slowest(head) < depth_ || b_->closed.load() != 0 || usable(*m_) != Status::ok;
}

// Frees the entries of dead subscribers that have not read up to `head`. It may ask the kernel, and
// clean up their slots.
void Stream::evict_dead(u64 head) noexcept {
    for (Subscriber& sub : b_->subscribers) {
        u32 owner = sub.owner.load();
        if (owner == 0 || owner == m_->tag() || sub.cursor.load() > head) continue;
        if (m_->passed(owner) || m_->gone(owner)) sub.owner.cas(owner, 0);
    }
}

Status Stream::try_publish(const Message& msg, WaitPolicy& p) noexcept {
    if (Status s = usable(*m_); s != Status::ok) return s;
    Body& b = *b_;
    // owner_died: recovery has resolved its intent. The slot that it may have been writing is
    // written over.
    if (Status s = enter(b.lock, *m_, p); !good(s)) return s;
    if (b.closed.load_relaxed() != 0) {
        unlock(b.lock);
        return Status::shut_down;
    }
    const u64 k = b.head.load_relaxed();
    if (policy_ == StreamPolicy::lossless && k - b.slowest.load_relaxed() >= depth_) {
        const u64 lowest = slowest(k);
        b.slowest.store_relaxed(lowest);
        if (k - lowest >= depth_) {
            unlock(b.lock);
            return Status::would_block;
        }
    }
    Slot& s = slot(k);
    const Handle old = s.cell.load_relaxed();
    s.stamp.store_relaxed(written(k) - 1);
    // A reader that sees a byte of message k sees this stamp too. [stream.stamp]
    std::atomic_thread_fence(std::memory_order_release);
    copy_in_racy(s.bytes, msg.bytes, msg.length);
    s.length.store_relaxed(msg.length);
    if (old != msg.block) {
        if (Status done = swap_cell(*m_, s.cell, old, msg.block); done != Status::ok) {
            // The bytes of the old message are overwritten, and the new one is not there: the stamp
            // stays odd.
            unlock(b.lock);
            return done;
        }
    }
    s.stamp.store_release(written(k));  // [stream.stamp]
    b.head.store_release(k + 1);        // COMMIT [stream.head]
    unlock(b.lock);
    if (old != 0 && old != msg.block) {
        UninterruptibleWait uninterruptible(p);
        try_free(*m_, handle_index(old), uninterruptible);
    }
    notify_all(b.published);
    return Status::ok;
}

Status Stream::publish(const Message& msg, WaitPolicy& p) noexcept {
    if (msg.length > kInlineBytes) return Status::bad_argument;
    Status s = try_publish(msg, p);
    if (s != Status::would_block) return s;
    if (!p.may_wait()) {
        // A publisher that does not wait is the only one that looks for dead subscribers here.
        const u64 head = b_->head.load();
        if (policy_ != StreamPolicy::lossless || head - slowest(head) < depth_) return s;
        evict_dead(head - depth_);
        return head - slowest(head) < depth_ ? try_publish(msg, p) : s;
    }
    return wait_for(
        b_->space, {*m_, WaitPurpose::publish, b_}, p, [&] { return try_publish(msg, p); },
        [&] { return room(); },
        [&] {
            const u64 head = b_->head.load();
            if (head >= depth_) evict_dead(head - depth_);
        });
}

Status Stream::close(WaitPolicy& p) noexcept {
    if (Status s = usable(*m_); s != Status::ok) return s;
    // Under the lock: a publish has committed before, or it sees `closed`.
    if (Status s = enter(b_->lock, *m_, p); !good(s)) return s;
    b_->closed.store_release(1);  // COMMIT [stream.closed]
    unlock(b_->lock);
    notify_all(b_->published);
    notify_all(b_->space);
    return Status::ok;
}

// ---- subscribe and read -------------------------------------------------------------------------

// Where a new subscriber begins that wants the last `history` messages. Publisher lock held.
u64 Stream::first_of(u32 history, u64 head) const noexcept {
    if (policy_ == StreamPolicy::latest) history = 1;
    u64 first = head - std::min({u64{history}, u64{depth_}, head});
    // The oldest one is gone if a publisher died while it wrote over it.
    while (first < head && slot(first).stamp.load_acquire() != written(first))  // [stream.stamp]
        ++first;
    return first;
}

Status Stream::subscribe(WaitPolicy& p, u32& subscriber, u32 history) noexcept {
    if (Status s = usable(*m_); s != Status::ok) return s;
    Body& b = *b_;
    // Under the publisher lock: no process can write over a message between the choice of the
    // cursor and the commit.
    if (Status s = enter(b.lock, *m_, p); !good(s)) return s;
    const u64 head = b.head.load_relaxed();
    u32 found = kSubscribers;
    for (int look = 0; look < 2 && found == kSubscribers; ++look) {
        if (look == 1) evict_dead(head);
        for (u32 i = 0; i < kSubscribers && found == kSubscribers; ++i) {
            const u32 owner = b.subscribers[i].owner.load();
            if (owner == 0 || m_->passed(owner)) found = i;
        }
    }
    if (found != kSubscribers) {
        Subscriber& sub = b.subscribers[found];
        sub.owner.store(0);  // a dead owner's tag: the cursor must not move under a tag
        const u64 first = first_of(history, head);
        // Before the commit: a publisher that relies on `slowest` must not pass the new cursor. A
        // death in between leaves `slowest` too low, and the next publisher computes it again.
        if (first < b.slowest.load_relaxed()) b.slowest.store_relaxed(first);
        sub.cursor.store(first);
        if (sub.missed.load_relaxed() != 0) sub.missed.store_relaxed(0);
        sub.owner.store(m_->tag());  // COMMIT [stream.owner]
        subscriber = found;
    }
    unlock(b.lock);
    notify_all(b.space);  // a dead subscriber may have been evicted
    return found == kSubscribers ? Status::table_full : Status::ok;
}

void Stream::unsubscribe(u32 subscriber) noexcept {
    if (subscriber >= kSubscribers || m_->may_give_back() != Status::ok) return;
    u32 mine = m_->tag();
    if (!b_->subscribers[subscriber].owner.cas(mine, 0)) return;  // COMMIT [stream.owner]
    notify_all(b_->space);
    notify_all(b_->published);  // another thread of this process may wait in `read`
}

// Copies a message that `head` has passed, and holds its block.
Stream::Copy Stream::copy_out(u64 message, Message& msg, WaitPolicy& p) noexcept {
    const auto corrupt = [this] {
        m_->mark_corrupt();
        return Copy::corrupt;
    };
    Slot& s = slot(message);
    const u64 stamp = s.stamp.load_acquire();  // [stream.stamp]
    if (stamp != written(message)) {
        // `head` says that the message was there, and no process writes beyond `head`.
        return stamp < written(message) || stamp > written(b_->head.load()) ? corrupt()
                                                                            : Copy::overwritten;
    }
    const u32 length = s.length.load_relaxed();
    copy_out_racy(msg.bytes, s.bytes, std::min(length, kInlineBytes));
    const Handle block = s.cell.load_relaxed();
    const Status held = block == 0 ? Status::ok : hold(*m_, block);
    // If any of the above came from a later message, its odd stamp is seen here. [stream.stamp]
    std::atomic_thread_fence(std::memory_order_acquire);
    if (s.stamp.load_relaxed() != stamp) {
        if (block != 0 && held == Status::ok) {
            UninterruptibleWait uninterruptible(p);
            drop(*m_, handle_index(block), uninterruptible);
        }
        return Copy::overwritten;
    }
    if (held != Status::ok) return corrupt();  // the slot owned the block, so it cannot be gone
    msg.block = block;
    msg.length = length;
    if (length <= kInlineBytes) return Copy::whole;
    if (block != 0) {
        UninterruptibleWait uninterruptible(p);
        drop(*m_, handle_index(block), uninterruptible);
    }
    return corrupt();
}

// Threads that share a subscription may lose a count.
inline void Stream::count_missed(Subscriber& sub, u64 n) noexcept {
    sub.missed.store_relaxed(sub.missed.load_relaxed() + n);
}

Status Stream::try_read(u32 subscriber, Message& msg, u64& missed, WaitPolicy& p) noexcept {
    if (Status s = usable(*m_); s != Status::ok) return s;
    Body& b = *b_;
    Subscriber& sub = b.subscribers[subscriber];
    for (u32 torn = 0;;) {
        if (sub.owner.load() != m_->tag()) return Status::stale;
        u64 cursor = sub.cursor.load();
        u64 head = b.head.load_acquire();  // [stream.head]
        if (head == cursor) {
            // Nothing is published after `closed` is set.
            if (b.closed.load_acquire() == 0) return Status::would_block;  // [stream.closed]
            head = b.head.load_acquire();                                  // [stream.head]
            if (head == cursor) return Status::shut_down;
        }
        // The cursor is read twice: another thread of this process may have moved it before `head`
        // was read.
        const bool overtaken = policy_ == StreamPolicy::lossless && head - cursor > depth_ &&
                               sub.cursor.load() == cursor;
        if (head < cursor || overtaken) {
            m_->mark_corrupt();
            return Status::corrupt;
        }
        // Where to continue. The cursor moves by CAS, because threads of one process may share the
        // subscription.
        u64 from = cursor;
        if (policy_ == StreamPolicy::latest) {
            from = head - 1;
        } else if (policy_ == StreamPolicy::lossy && head - cursor > depth_) {
            from = head - depth_;
        }
        // A publisher has overtaken this reader: keep more and more distance to it.
        if (torn != 0)
            from = std::max(from,
                            std::min(head - 1, cursor + (u64{1} << std::min(torn - 1, 20u)) - 1));
        if (from != cursor) {
            if (!sub.cursor.cas(cursor, from)) continue;
            missed += from - cursor;
            count_missed(sub, from - cursor);
            cursor = from;
        }
        const Copy copy = copy_out(cursor, msg, p);
        if (copy == Copy::corrupt) return Status::corrupt;
        // COMMIT [stream.cursor]
        if (copy == Copy::whole) {
            if (sub.cursor.cas(cursor, cursor + 1)) {
                if (policy_ == StreamPolicy::lossless) notify(b.space);
                return Status::ok;
            }
            if (msg.block != 0) {  // another thread has read it
                UninterruptibleWait uninterruptible(p);
                drop(*m_, handle_index(msg.block), uninterruptible);
            }
            continue;
        }
        if (sub.cursor.cas(cursor, cursor + 1)) {
            ++missed;
            count_missed(sub, 1);
        }
        ++torn;
    }
}

Status Stream::read(u32 subscriber, Message& msg, u64& missed, WaitPolicy& p) noexcept {
    if (subscriber >= kSubscribers) return Status::bad_argument;
    Status s = try_read(subscriber, msg, missed, p);
    if (s != Status::would_block || !p.may_wait()) return s;
    Subscriber& sub = b_->subscribers[subscriber];
    return wait_for(
        b_->published, {*m_, WaitPurpose::read, b_}, p,
        [&] { return try_read(subscriber, msg, missed, p); },
        [&] {  // [commit/sleepers]
            return b_->head.load() != sub.cursor.load() || b_->closed.load() != 0 ||
                   sub.owner.load() != m_->tag() || usable(*m_) != Status::ok;
        },
        [] {});
}

Status Stream::wait_ready(u32 subscriber, WaitPolicy& p) noexcept {
    if (subscriber >= kSubscribers) return Status::bad_argument;
    const Subscriber& sub = b_->subscribers[subscriber];
    auto ready = [&] {
        return b_->head.load() != sub.cursor.load() || b_->closed.load() != 0 ||
               sub.owner.load() != m_->tag();
    };
    return wait_for(
        b_->published, {*m_, WaitPurpose::read, b_}, p,
        [&] {
            if (Status now = usable(*m_); now != Status::ok) return now;
            return ready() ? Status::ok : Status::would_block;
        },
        [&] { return ready() || usable(*m_) != Status::ok; }, [] {});  // [commit/sleepers]
}

// A slot is written over when its message is `depth` behind the newest one. So only in a ring of
// one slot can a publisher destroy the newest message before it commits the next one. It is still
// writing, which its lock tells, or it has died.
Status Stream::newest(Message& msg, WaitPolicy& p) noexcept {
    for (;;) {
        if (Status s = usable(*m_); s != Status::ok) return s;
        const u64 head = b_->head.load_acquire();  // [stream.head]
        if (head == 0) return Status::would_block;
        Copy copy = copy_out(head - 1, msg, p);
        if (copy == Copy::overwritten && b_->head.load_acquire() == head) {  // [stream.head]
            if (Status s = enter(b_->lock, *m_, p); !good(s)) return s;
            const bool same = b_->head.load_relaxed() == head;
            if (same) copy = copy_out(head - 1, msg, p);
            unlock(b_->lock);
            if (same && copy == Copy::overwritten) return Status::would_block;
        }
        if (copy == Copy::whole) return Status::ok;
        if (copy == Copy::corrupt) return Status::corrupt;
    }
}

// ---- looks --------------------------------------------------------------------------------------

u32 Stream::depth() const noexcept {
    return depth_;
}
StreamPolicy Stream::policy() const noexcept {
    return policy_;
}
u64 Stream::published() const noexcept {
    return b_->head.load_acquire();  // [stream.head]
}  // [stream.head]

u32 Stream::subscribers() const noexcept {
    u32 n = 0;
    for (Subscriber& sub : b_->subscribers) {
        const u32 owner = sub.owner.load();
        if (owner != 0 && !m_->passed(owner)) ++n;
    }
    return n;
}

// Publisher lock held.
void Stream::check_ring(std::vector<std::string>& out) {
    const std::string who = "stream " + std::to_string(index_) + ": ";
    auto say = [&](const std::string& what) {
        if (out.size() < 50) out.push_back(who + what);
    };
    const u64 head = b_->head.load();
    if (b_->slowest.load() > head) say("the noted slowest cursor lies beyond head");
    for (u32 i = 0; i < kSubscribers; ++i) {
        Subscriber& sub = b_->subscribers[i];
        const u32 owner = sub.owner.load();
        if (owner == 0) continue;
        const std::string name = "subscriber " + std::to_string(i);
        if (tag_slot(owner) >= m_->geo().max_processes) {
            say(name + " belongs to no slot");
            continue;
        }
        if (m_->passed(owner)) continue;  // dead: evicted when the entry is needed
        const u64 cursor = sub.cursor.load();
        if (cursor > head) say(name + " has read beyond head");
        if (policy_ == StreamPolicy::lossless && cursor <= head && head - cursor > depth_ &&
            sub.owner.load() == owner) {
            say(name + " was overtaken, but nothing may be lost");
        }
    }
    for (u64 i = 0; i < depth_; ++i) {
        Slot& s = slot(i);
        const Handle cell = s.cell.load();
        const u64 stamp = s.stamp.load();
        const std::string name = "slot " + std::to_string(i);
        if (cell != 0) {
            BlockInfo info;
            const u32 at = handle_index(cell);
            if (inspect(*m_, at, info) != Status::ok || handle_of(*m_, at) != cell)
                say(name + " refers to a block that is gone");
        }
        if (s.length.load_relaxed() > kInlineBytes) say(name + " is longer than a slot");
        if (stamp == 0) {
            if (i < head) say(name + " was never written, but head has passed it");
            continue;
        }
        const u64 message = (stamp - 1) / 2;
        if (message % depth_ != i || message > head) {
            say(name + " carries the stamp of message " + std::to_string(message));
        } else if (message != head && (stamp % 2 != 0 || head - message > depth_)) {
            // Only the slot of the next message may be half written: a publisher died.
            say(name + " carries message " + std::to_string(message) +
                ", which is not the last of that place");
        }
    }
}

u64 Stream::layout() noexcept {
    return fold_layouts({Body::layout(), Subscriber::layout(), Slot::layout(), kRingOffset});
}

std::vector<std::string> Stream::validate(Member& m, u32 index) {
    std::vector<std::string> out;
    const std::string who = "stream " + std::to_string(index) + ": ";
    Stream st;
    if (open(m, handle_of(m, index), st) != Status::ok) return makes_no_sense(who);
    if (st.schema_hash_ != 0 && schema_hash(st.schema_) != st.schema_hash_)
        out.push_back(who + "its schema is damaged");
    CheckWait wait;
    if (!good(lock(st.b_->lock, m, wait))) return {who + "its publisher lock cannot be taken"};
    const Unlocks unlocks(st.b_->lock);
    st.check_ring(out);
    return out;
}

void Stream::observe(Member& m, u32 index, Observed& out) {
    Stream stream;
    if (open(m, handle_of(m, index), stream) != Status::ok) return;
    out.readable = true;
    Body& b = *stream.b_;
    out.fact("depth", stream.depth_);
    out.fact("policy", static_cast<u32>(stream.policy_));
    out.take_schema(stream.schema_, stream.schema_hash_);
    out.fact("closed", b.closed.load_acquire());  // [stream.closed]
    out.owner(m, "inner", b.lock.word.load());
    for (Subscriber& sub : b.subscribers) {
        const u32 owner = sub.owner.load();  // [stream.owner]
        // The cursor first: the head only grows, so the lag is not negative.
        const u64 cursor = sub.cursor.load(), head = b.head.load_acquire();  // [stream.head]
        const u64 missed = sub.missed.load_relaxed();
        if (owner == 0 || sub.owner.load() != owner) continue;
        out.owner(m, "subscriber", owner, head < cursor ? 0 : head - cursor, missed);
    }
    out.fact("published", b.head.load_acquire());  // [stream.head]
}

}  // namespace onecopy
