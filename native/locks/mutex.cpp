#include "locks/mutex.hpp"

#include <atomic>

namespace onecopy {

struct Mutex::Body {
    static constexpr u64 kMagic = 0x31'78'65'74'75'6d'63'6fULL;  // "ocmutex1"
    shm_atomic<u64> magic;
    shm_atomic<u32> recursive;
    LockWord word;
    shm_atomic<u64> thread;
    shm_atomic<u32> depth;
    shm_atomic<u32> pid;
    shm_atomic<std::int64_t> since;
    ONECOPY_SHARED_STRUCT(Body, magic, recursive, word, thread, depth, pid, since)
};

namespace {
// Which thread of which process. It contains the tag, because threads of forked siblings have the
// same numbers, and because the number of a dead owner is still there when another process takes
// the word over.
u64 this_thread(const Member& m) noexcept {
    static std::atomic<u32> numbers{0};
    // Zero until the first use: a thread_local with a constructor would be checked at every use.
    static thread_local u32 number;
    if (number == 0) [[unlikely]]
        number = numbers.fetch_add(1, std::memory_order_relaxed) + 1;
    return u64{m.tag()} << 32 | number;
}
constexpr u32 kDeepest = 0x7fffffff;
}  // namespace

Status Mutex::create(Member& m, bool recursive, WaitPolicy& p, Handle& out) noexcept {
    static_assert(sizeof(Body) <= 64, "one cache line");
    Allocated block;
    if (Status s = create_body(m, BodyKind::mutex, sizeof(Body), p, block); s != Status::ok)
        return s;
    auto& b = *reinterpret_cast<Body*>(block.data);
    b.recursive.store_relaxed(recursive);
    finish_body(b);
    out = handle_of(m, block.index);
    return Status::ok;
}

Status Mutex::open(Member& m, Handle h, Mutex& out) noexcept {
    Body* b = nullptr;
    if (Status s = open_body(m, h, BodyKind::mutex, sizeof(Body), b); s != Status::ok) return s;
    out.m_ = &m;
    out.b_ = b;
    out.recursive_ = b->recursive.load_relaxed() != 0;
    return Status::ok;
}

inline void Mutex::note_owner() noexcept {
    if (recursive_) {
        b_->depth.store_relaxed(1);
        b_->thread.store_relaxed(this_thread(*m_));
    }
    b_->pid.store_relaxed(m_->own_row().pid.load_relaxed());
    b_->since.store_relaxed(os::coarse_ns());
}

bool Mutex::mine() const noexcept {
    if ((b_->word.word.load_relaxed() & ~kWaiters) != m_->tag()) return false;
    return !recursive_ || b_->thread.load_relaxed() == this_thread(*m_);
}

Status Mutex::acquire(WaitPolicy& p) noexcept {
    if (Status s = usable(*m_); s != Status::ok) return s;
    if (recursive_ && mine()) {  // first: two loads cost less than an exchange that fails
        const u32 depth = b_->depth.load_relaxed();
        if (depth >= kDeepest) return Status::too_large;
        b_->depth.store_relaxed(depth + 1);
        return Status::ok;
    }
    if (try_lock(b_->word, *m_)) [[likely]] {
        note_owner();
        return Status::ok;
    }
    return acquire_slow(p);
}

[[gnu::noinline]] Status Mutex::acquire_slow(WaitPolicy& p) noexcept {
    const Status s = p.may_wait() ? lock_slow(b_->word, *m_, p) : lock_at_once(b_->word, *m_);
    if (!good(s)) return s;
    if (s == Status::owner_died) died_ = b_->pid.load_relaxed();
    note_owner();
    return s;
}

Status Mutex::await(WaitPolicy& p) noexcept {
    if (Status s = usable(*m_); s != Status::ok) return s;
    return mine() ? Status::ok : await_turn(p);
}

Status Mutex::await_turn(WaitPolicy& p) noexcept {
    if (Status s = usable(*m_); s != Status::ok) return s;
    if (recursive_ && mine()) return Status::ok;
    const Status s = await_free(b_->word, *m_, p, dead_);
    if (s == Status::owner_died) died_ = b_->pid.load_relaxed();
    return s;
}

void Mutex::forget() noexcept {
    onecopy::forget(b_->word, dead_);
}

Status Mutex::release() noexcept {
    if (Status s = m_->may_give_back(); s != Status::ok) return s;
    if (recursive_) {
        if (!mine()) return Status::not_held;
        const u32 depth = b_->depth.load_relaxed();
        if (depth > 1) {
            b_->depth.store_relaxed(depth - 1);
            return Status::ok;
        }
        b_->thread.store_relaxed(0);
    }
    u32 seen = b_->word.word.load_relaxed();
    do {
        const u32 owner = seen & ~kWaiters;
        if (owner != m_->tag() && (owner == 0 || m_->passed(owner))) return Status::not_held;
    } while (!b_->word.word.cas(seen, 0));  // COMMIT
    if (seen & kWaiters) os::futex_wake(b_->word.word.word(), 1);
    return Status::ok;
}

Status Mutex::abandon() noexcept {
    if (Status s = m_->may_give_back(); s != Status::ok) return s;
    if (!mine()) return Status::not_held;
    b_->thread.store_relaxed(0);
    u32 seen = b_->word.word.load_relaxed();
    do {
        if ((seen & ~kWaiters) != m_->tag()) return Status::not_held;
    } while (!b_->word.word.cas(seen, kAbandoned | kWaiters));  // COMMIT
    if (seen & kWaiters) os::futex_wake(b_->word.word.word(), 1);
    return Status::ok;
}

bool Mutex::is_anothers() const noexcept {
    return (b_->word.word.load() & ~kWaiters) != 0 && !mine();
}

bool Mutex::once() const noexcept {
    return !recursive_ || b_->depth.load_relaxed() <= 1;
}

u32 Mutex::release_all() noexcept {
    const u32 depth = recursive_ ? b_->depth.load_relaxed() : 1;
    b_->thread.store_relaxed(0);
    unlock(b_->word);
    return depth;
}

Status Mutex::acquire_again(u32 depth, WaitPolicy& p) noexcept {
    const Status s = acquire(p);
    if (good(s) && recursive_) b_->depth.store_relaxed(depth);
    return s;
}

bool Mutex::locked() const noexcept {
    const u32 owner = b_->word.word.load() & ~kWaiters;
    return owner != 0 && is_alive(*m_, owner);
}

bool Mutex::owner(Owner& out) const noexcept {
    const u32 owner = b_->word.word.load() & ~kWaiters;
    if (owner == 0) return false;
    out = {b_->pid.load_relaxed(), is_alive(*m_, owner), b_->since.load_relaxed()};
    return true;
}

u64 Mutex::layout() noexcept {
    return Body::layout();
}

std::vector<std::string> Mutex::validate(Member& m, u32 index) {
    const std::string who = "lock " + std::to_string(index) + ": ";
    Mutex lock;
    if (open(m, handle_of(m, index), lock) != Status::ok) return makes_no_sense(who);
    if (!makes_sense(m, lock.b_->word.word.load()))
        return {who + "its owner is no slot of the pool"};
    return {};
}

void Mutex::observe(Member& m, u32 index, Observed& out) {
    Mutex lock;
    if (open(m, handle_of(m, index), lock) != Status::ok) return;
    out.readable = true;
    const Body& b = *lock.b_;
    out.fact("recursive", lock.recursive_);
    const u32 word = b.word.word.load();
    const auto since = static_cast<u64>(b.since.load_relaxed());
    const u32 pid = b.pid.load_relaxed();
    // The owner writes them after the word. If the word changed meanwhile, they may be another's.
    if (b.word.word.load() != word) return out.owner(m, "owner", word);
    out.owner(m, "owner", word, pid, since);
}

}  // namespace onecopy
