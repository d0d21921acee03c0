#include "locks/rwlock.hpp"

#include <algorithm>

namespace onecopy {

struct RwLock::Body {
    static constexpr u64 kMagic = 0x31'6b'63'6f'6c'77'72'6fULL;  // "orwlock1"
    // line 0: fixed
    shm_atomic<u64> magic;
    shm_atomic<u32> prefer;
    // line 1: writers
    alignas(64) LockWord writer;
    shm_atomic<u32> closed;  // tag of the writer that keeps readers out; 0: open
    shm_atomic<u32> active;  // tag of the writer that writes; 0: none
    shm_atomic<u32> turn;    // fair: 1 while readers that wait go before the next writer
    shm_atomic<u32> pid;
    shm_atomic<std::int64_t> since;
    // line 2: sleepers
    alignas(64) EventCount may_read;
    EventCount drained;
    ONECOPY_SHARED_STRUCT(Body, magic, prefer, writer, closed, active, turn, pid, since, may_read,
                          drained)
};

namespace {

constexpr u64 kReadersOffset = 192;

// Which locks this thread has, and how. It lets a reader read again without waiting for a writer
// that waits for it. It refuses a call that would wait for itself, also in a signal handler that
// runs while this thread waits to write. The key is handle and tag: a lock that is gone matches
// nothing, nor does one that the parent had before a fork.
enum class Writing : u8 { no, waiting, inside };
struct Has {
    u64 pool;
    Handle lock;
    u32 tag;
    u32 reads;
    Writing writing;
};
// A fixed number: so no allocation can fail while the lock is half taken.
struct AllThatThreadHas {
    static constexpr u32 kMost = 64;
    Has all[kMost];
    u32 n = 0;
};
thread_local constinit AllThatThreadHas this_thread{};

Has* find(const Member& m, Handle lock) noexcept {
    const u64 pool = m.header().id[0];
    for (u32 i = 0; i < this_thread.n; ++i) {
        Has& h = this_thread.all[i];
        if (h.lock == lock && h.pool == pool && h.tag == m.tag()) return &h;
    }
    return nullptr;
}
void remove(u32 i) noexcept {
    this_thread.all[i] = this_thread.all[--this_thread.n];
}
// Whether one more can be remembered.
bool has_room(const Member& m) noexcept {
    if (this_thread.n < AllThatThreadHas::kMost) [[likely]]
        return true;
    // Locks that were held before a fork, or in a pool that was left and joined again.
    for (u32 i = this_thread.n; i-- > 0;) {
        if (this_thread.all[i].pool == m.header().id[0] && this_thread.all[i].tag != m.tag())
            remove(i);
    }
    return this_thread.n < AllThatThreadHas::kMost;
}
// False: there is no room any more. Signal handlers that ran in a wait may have taken locks.
bool remember(const Member& m, Handle lock, u32 reads, Writing writing) noexcept {
    if (!has_room(m)) return false;
    this_thread.all[this_thread.n++] = {m.header().id[0], lock, m.tag(), reads, writing};
    return true;
}
void forget(const Member& m, Handle lock) noexcept {
    if (Has* h = find(m, lock)) remove(static_cast<u32>(h - this_thread.all));
}

// ns that a writer lets readers go first: they may be dead.
constexpr std::int64_t kLongestTurn = 100'000'000;

}  // namespace

Status RwLock::create(Member& m, Prefer prefer, WaitPolicy& p, Handle& out) noexcept {
    static_assert(sizeof(Body) == kReadersOffset);
    if (prefer > Prefer::fair) return Status::bad_argument;
    Allocated block;
    const u64 bytes = kReadersOffset + Shares::bytes(m.geo().max_processes);
    if (Status s = create_body(m, BodyKind::rwlock, bytes, p, block); s != Status::ok) return s;
    auto& b = *reinterpret_cast<Body*>(block.data);
    b.prefer.store_relaxed(static_cast<u32>(prefer));
    finish_body(b);
    out = handle_of(m, block.index);
    return Status::ok;
}

Status RwLock::open(Member& m, Handle h, RwLock& out) noexcept {
    Body* b = nullptr;
    const u64 bytes = kReadersOffset + Shares::bytes(m.geo().max_processes);
    if (Status s = open_body(m, h, BodyKind::rwlock, bytes, b); s != Status::ok) return s;
    const u32 prefer = b->prefer.load_relaxed();
    if (prefer > static_cast<u32>(Prefer::fair)) return Status::corrupt;
    out.m_ = &m;
    out.b_ = b;
    out.handle_ = h;
    out.readers_ =
        Shares(reinterpret_cast<unsigned char*>(b) + kReadersOffset, m.geo().max_processes);
    out.prefer_ = static_cast<Prefer>(prefer);
    return Status::ok;
}

// ---- readers ------------------------------------------------------------------------------------

// Only threads of this process change the entry. If it has another generation, it belongs to an
// earlier, dead owner of the slot.
void RwLock::read_again() noexcept {
    shm_atomic<u64>& entry = readers_[m_->slot];
    u64 seen = entry.load();
    while (!entry.cas(seen, Shares::word(Shares::own(*m_, seen) + 1, m_->gen))) {
    }
}

void RwLock::count_out() noexcept {
    shm_atomic<u64>& entry = readers_[m_->slot];
    u64 seen = entry.load();
    while (!entry.cas(seen, Shares::word(Shares::count(seen) - 1, m_->gen))) {
    }
    if (Shares::count(seen) == 1) notify(b_->drained);
}

bool RwLock::count_in() noexcept {
    read_again();  // [rwlock.closed/readers]
    if (b_->closed.load() != 0) [[unlikely]] {
        count_out();
        return false;
    }
    if (prefer_ == Prefer::fair && b_->turn.load_relaxed() != 0) {
        b_->turn.store(0);
        notify(b_->drained);
    }
    return true;
}

Status RwLock::read(WaitPolicy& p) noexcept {
    if (Status s = usable(*m_); s != Status::ok) return s;
    if (Has* h = find(*m_, handle_)) {
        if (h->writing != Writing::no) return Status::deadlock;
        read_again();  // no look at `closed`: a writer that waits, waits for this thread
        ++h->reads;
        return Status::ok;
    }
    if (!has_room(*m_)) return Status::table_full;
    if (!count_in()) [[unlikely]] {
        if (Status s = read_slow(p); s != Status::ok) return s;
    }
    if (!remember(*m_, handle_, 1, Writing::no)) [[unlikely]] {
        count_out();
        return Status::table_full;
    }
    return Status::ok;
}

[[gnu::noinline]] Status RwLock::read_slow(WaitPolicy& p) noexcept {
    auto attempt = [&] {
        if (Status s = usable(*m_); s != Status::ok) return s;
        // Not counted in while it is closed: that would only disturb a writer that waits for the
        // last reader.
        if (b_->closed.load() == 0 && count_in()) return Status::ok;
        return writer_is_dead() ? take_over(p) : Status::would_block;
    };
    if (!p.may_wait()) {
        ask_for_writers();
        return attempt();
    }
    return wait_for(
        b_->may_read, {*m_, WaitPurpose::read_lock, b_}, p, attempt,
        [&] { return b_->closed.load() == 0 || writer_is_dead() || usable(*m_) != Status::ok; },
        [&] { ask_for_writers(); });
}

// Both names: a process may have taken the lock over from a dead writer, and died before it wrote
// its own tag into `closed`.
void RwLock::ask_for_writers() noexcept {
    if (const u32 closed = b_->closed.load(); closed != 0) m_->gone(closed);
    if (const u32 writer = b_->writer.word.load() & ~kWaiters; writer != 0) m_->gone(writer);
}

// Closed for a writer that is dead, and no other has come yet. A new writer writes its tag into
// `closed` at once.
bool RwLock::writer_is_dead() const noexcept {
    const u32 closed = b_->closed.load(), writer = b_->writer.word.load() & ~kWaiters;
    return closed != 0 && m_->passed(closed) && (writer == 0 || m_->passed(writer));
}

// A reader has met a dead writer. It takes the lock for writing first, whatever the dead writer was
// doing.
Status RwLock::take_over(WaitPolicy& p) noexcept {
    const Status taken = lock_at_once(b_->writer, *m_);
    if (!good(taken)) return taken;  // another process does it
    if (b_->active.load() == 0) {
        // The dead writer was only waiting, and readers may be inside: this thread becomes one of
        // them.
        read_again();
        let_readers_in();
        unlock(b_->writer);
        return Status::ok;
    }
    return enter_as_writer(p);
}

Status RwLock::read_release() noexcept {
    if (Status s = m_->may_give_back(); s != Status::ok) return s;
    Has* h = find(*m_, handle_);
    if (h == nullptr || h->reads == 0) return Status::not_held;
    if (--h->reads == 0) forget(*m_, handle_);
    count_out();  // COMMIT
    return Status::ok;
}

// ---- writers ------------------------------------------------------------------------------------

// The slot of a process that reads. kNoSlot: there is none.
u32 RwLock::a_reader() const noexcept {
    for (u32 slot = 0; slot < readers_.used(*m_); ++slot) {
        if (reads(slot)) return slot;
    }
    return kNoSlot;
}
bool RwLock::reads(u32 slot) const noexcept {
    const u64 w = readers_[slot].load();  // [rwlock.closed/readers]
    return Shares::count(w) != 0 && !Shares::passed(*m_, slot, w);
}

void RwLock::let_readers_in() noexcept {
    b_->closed.store(0);
    notify_all(b_->may_read);
}

// fair, the writer's word held: the last writer has promised the next turn to readers. The turn is
// over when one of them is inside.
Status RwLock::wait_for_turn(WaitPolicy& p) noexcept {
    const std::int64_t limit = os::monotonic_ns() + kLongestTurn;
    const Status s = wait_for(
        b_->drained, {*m_, WaitPurpose::drain, b_}, p,
        [&] {
            if (b_->turn.load() == 0) return Status::ok;
            if (os::monotonic_ns() < limit) return Status::would_block;
            b_->turn.store(0);
            return Status::ok;
        },
        [&] { return b_->turn.load() == 0; }, [] {});
    // A caller with a shorter deadline does not wait for readers that may be dead.
    if (s == Status::would_block || s == Status::timed_out) b_->turn.store(0);
    return s == Status::would_block ? Status::ok : s;
}

// The writer's word held. Afterwards there are no readers, and none can enter.
Status RwLock::close_and_drain(WaitPolicy& p) noexcept {
    if (prefer_ == Prefer::fair && b_->turn.load() != 0) {
        if (Status s = wait_for_turn(p); s != Status::ok) return s;
    }
    // Readers go first, unless a writer has died while it wrote: then nobody reads before a new
    // owner got `owner_died`.
    const bool readers_first = prefer_ == Prefer::reader && b_->active.load() == 0;
    if (!readers_first) b_->closed.store(m_->tag());  // [rwlock.closed/readers]
    u32 blocker = kNoSlot;
    auto attempt = [&] {
        if ((blocker = a_reader()) != kNoSlot) {
            // The reader may be dead. A process without its descriptor never learns that.
            const Status s = usable(*m_);
            return s == Status::ok ? Status::would_block : s;
        }
        if (!readers_first) return Status::ok;
        b_->closed.store(m_->tag());  // [rwlock.closed/readers]
        if ((blocker = a_reader()) == kNoSlot) return Status::ok;
        let_readers_in();
        return Status::would_block;
    };
    const Status s = wait_for(
        b_->drained, {*m_, WaitPurpose::drain, b_}, p, attempt,
        [&] { return !reads(blocker) || usable(*m_) != Status::ok; }, [&] { readers_.probe(*m_); });
    // A caller that does not wait finds dead readers too.
    return s == Status::would_block && readers_.probe(*m_) ? attempt() : s;
}

// The writer's word is ours. `active` tells whether a writer died while it wrote. The word does not
// tell it: several writers may have died since.
Status RwLock::enter_as_writer(WaitPolicy& p) noexcept {
    const bool damaged = b_->active.load() != 0;  // [rwlock.active]
    const Status s =
        remember(*m_, handle_, 0, Writing::waiting) ? close_and_drain(p) : Status::table_full;
    if (s != Status::ok) {
        forget(*m_, handle_);
        if (s == Status::closed) return s;  // the pool was left, and the word belongs to nobody
        if (damaged) {
            leave_damaged();  // the next owner must hear of it instead of this one
        } else {
            let_readers_in();
            unlock(b_->writer);
        }
        return s;
    }
    if (damaged) died_ = b_->pid.load_relaxed();
    b_->pid.store_relaxed(m_->own_row().pid.load_relaxed());
    b_->since.store_relaxed(os::coarse_ns());
    b_->active.store_release(m_->tag());  // COMMIT [rwlock.active]
    find(*m_, handle_)->writing = Writing::inside;
    return damaged ? Status::owner_died : Status::ok;
}

Status RwLock::write(WaitPolicy& p) noexcept {
    if (Status s = usable(*m_); s != Status::ok) return s;
    if (find(*m_, handle_) != nullptr) return Status::deadlock;
    if (!has_room(*m_)) return Status::table_full;
    const Status s = p.may_wait() ? lock(b_->writer, *m_, p) : lock_at_once(b_->writer, *m_);
    return good(s) ? enter_as_writer(p) : s;
}

Status RwLock::write_release() noexcept {
    if (Status s = m_->may_give_back(); s != Status::ok) return s;
    Has* h = find(*m_, handle_);
    if (h == nullptr || h->writing != Writing::inside) return Status::not_held;
    forget(*m_, handle_);
    b_->active.store_release(0);  // [rwlock.active]
    if (prefer_ == Prefer::fair && (b_->may_read.word.load() & 1u) != 0) b_->turn.store(1);
    let_readers_in();  // COMMIT
    unlock(b_->writer);
    return Status::ok;
}

void RwLock::downgrade() noexcept {
    Has* h = find(*m_, handle_);
    if (h == nullptr || h->writing != Writing::inside) return;
    read_again();
    h->reads = 1;
    h->writing = Writing::no;
    b_->active.store_release(0);  // [rwlock.active]
    let_readers_in();
    unlock(b_->writer);
}

Status RwLock::abandon() noexcept {
    if (Status s = m_->may_give_back(); s != Status::ok) return s;
    Has* h = find(*m_, handle_);
    if (h == nullptr || h->writing != Writing::inside) return Status::not_held;
    forget(*m_, handle_);
    leave_damaged();
    return Status::ok;
}

// The writer's word is ours.
void RwLock::leave_damaged() noexcept {
    b_->active.store(kAbandoned);
    b_->closed.store(kAbandoned);
    const bool waiters = b_->writer.word.exchange(kAbandoned | kWaiters) & kWaiters;  // COMMIT
    if (waiters) os::futex_wake(b_->writer.word.word(), 1);
    notify_all(b_->may_read);
}

// ---- looks --------------------------------------------------------------------------------------

bool RwLock::owner(Owner& out) const noexcept {
    const u32 active = b_->active.load();
    if (active == 0) return false;
    out = {b_->pid.load_relaxed(), is_alive(*m_, active), b_->since.load_relaxed()};
    return true;
}

u32 RwLock::readers() const noexcept {
    u32 n = 0;
    for (u32 slot = 0; slot < readers_.used(*m_); ++slot) {
        const u64 w = readers_[slot].load();
        if (Shares::count(w) != 0 && !Shares::passed(*m_, slot, w) &&
            is_alive(*m_, make_tag(slot, Shares::gen(w))))
            n += Shares::count(w);
    }
    return n;
}

u64 RwLock::layout() noexcept {
    return fold_layouts({Body::layout(), kReadersOffset, Shares::layout()});
}

std::vector<std::string> RwLock::validate(Member& m, u32 index) {
    const std::string who = "rwlock " + std::to_string(index) + ": ";
    RwLock lock;
    if (open(m, handle_of(m, index), lock) != Status::ok) return makes_no_sense(who);
    std::vector<std::string> out;
    const u32 writer = lock.b_->writer.word.load() & ~kWaiters, closed = lock.b_->closed.load(),
              active = lock.b_->active.load();
    if (!makes_sense(m, writer)) out.push_back(who + "its writer is no slot of the pool");
    if (writer == 0 && (closed != 0 || active != 0))
        out.push_back(who + "it is closed, and there is no writer");
    if (active != 0 && closed == 0)
        out.push_back(who + "a writer is inside, but readers may enter");
    return out;
}

void RwLock::observe(Member& m, u32 index, Observed& out) {
    RwLock lock;
    if (open(m, handle_of(m, index), lock) != Status::ok) return;
    out.readable = true;
    const Body& b = *lock.b_;
    out.fact("prefer", static_cast<u32>(lock.prefer_));
    const u32 active = b.active.load(), writer = b.writer.word.load();  // [rwlock.active]
    const auto since = static_cast<u64>(b.since.load_relaxed());
    const u32 pid = b.pid.load_relaxed();
    if (active != 0) {
        out.owner(m, "writer", active, pid, since);
    } else {
        out.owner(m, "next writer", writer);
    }
    for (u32 slot = 0; slot < lock.readers_.used(m); ++slot) {
        const u64 w = lock.readers_[slot].load();  // [rwlock.closed/readers]
        if (Shares::count(w) != 0 && !Shares::passed(m, slot, w))
            out.part("reader", slot, false, Shares::count(w));
    }
}

}  // namespace onecopy
