#include "locks/semaphore.hpp"

#include <algorithm>

#include "sync/unlocks.hpp"

namespace onecopy {

struct Semaphore::Body {
    static constexpr u64 kMagic = 0x31'61'6d'65'73'63'6f'6fULL;  // "oocsema1"
    // line 0: fixed
    shm_atomic<u64> magic;
    shm_atomic<u64> initial;
    shm_atomic<u32> flags;
    // line 1: under the lock
    alignas(64) LockWord lock;
    shm_atomic<u64> value;  // derived
    shm_atomic<u64> extra;
    // line 2: sleepers
    alignas(64) EventCount freed;
    char pad[60];
    ONECOPY_SHARED_STRUCT(Body, magic, initial, flags, lock, value, extra, freed, pad)
};

namespace {
constexpr u64 kHeldOffset = 192;
constexpr u64 kMostExtra = u64{1} << 62;
}  // namespace

Status Semaphore::create(Member& m, u64 initial, u32 flags, WaitPolicy& p, Handle& out) noexcept {
    static_assert(sizeof(Body) == kHeldOffset);
    if (initial > kLargest) return Status::too_large;
    Allocated block;
    const u64 bytes = kHeldOffset + Shares::bytes(m.geo().max_processes);
    if (Status s = create_body(m, BodyKind::semaphore, bytes, p, block); s != Status::ok) return s;
    auto& b = *reinterpret_cast<Body*>(block.data);
    b.initial.store_relaxed(initial);
    b.value.store_relaxed(initial);
    if (flags & kKeepsNothing) b.extra.store_relaxed(initial);
    b.flags.store_relaxed(flags);
    finish_body(b);
    out = handle_of(m, block.index);
    return Status::ok;
}

Status Semaphore::open(Member& m, Handle h, Semaphore& out) noexcept {
    Body* b = nullptr;
    const u64 bytes = kHeldOffset + Shares::bytes(m.geo().max_processes);
    if (Status s = open_body(m, h, BodyKind::semaphore, bytes, b); s != Status::ok) return s;
    const u64 initial = b->initial.load_relaxed();
    if (initial > kLargest) return Status::corrupt;
    out.m_ = &m;
    out.b_ = b;
    out.held_ = Shares(reinterpret_cast<unsigned char*>(b) + kHeldOffset, m.geo().max_processes);
    out.initial_ = initial;
    out.flags_ = b->flags.load_relaxed();
    return Status::ok;
}

// ---- under the lock -----------------------------------------------------------------------------

// Entries of dead processes count until they are returned, here and everywhere: the sum is over
// what the table says.
void Semaphore::recount() noexcept {
    const u64 all = stock() + b_->extra.load_acquire();  // [semaphore.extra]
    u64 taken = 0;
    for (u32 slot = 0; slot < held_.used(*m_); ++slot)
        taken += Shares::count(held_[slot].load());  // [semaphore.held]
    if (taken > all) return m_->mark_corrupt();
    b_->value.store_release(all - taken);  // [semaphore.value]
}

// Frees what dead processes held.
void Semaphore::return_tokens() noexcept {
    bool changed = false;
    for (u32 slot = 0; slot < held_.used(*m_); ++slot) {
        const u64 w = held_[slot].load();
        if (Shares::count(w) == 0 || !Shares::passed(*m_, slot, w)) continue;
        held_[slot].store_release(0);  // COMMIT [semaphore.held]
        changed = true;
    }
    if (changed) recount();
}

// Takes up to n tokens off a process's entry. How many.
u64 Semaphore::give_back_to(u32 slot, u64 n) noexcept {
    const u64 w = held_[slot].load(), k = std::min<u64>(Shares::count(w), n);
    // COMMIT
    if (k != 0)
        held_[slot].store_release(  // [semaphore.held]
            Shares::word(Shares::count(w) - static_cast<u32>(k), Shares::gen(w)));
    return k;
}

// Takes the lock. A dead owner may have committed and not counted it: then counts again.
Status Semaphore::enter(WaitPolicy& p) noexcept {
    if (Status s = usable(*m_); s != Status::ok) return s;
    const Status s = onecopy::enter(b_->lock, *m_, p);
    if (s != Status::owner_died) return s;
    recount();
    return Status::ok;
}

Status Semaphore::try_acquire(WaitPolicy& p) noexcept {
    if (Status s = enter(p); s != Status::ok) return s;
    const u64 own = held_[m_->slot].load();
    // Also before this process writes its entry over one that an earlier owner of the slot left.
    if (b_->value.load_relaxed() == 0 || (Shares::count(own) != 0 && Shares::gen(own) != m_->gen))
        return_tokens();
    const u64 value = b_->value.load_relaxed();
    if (value == 0) {
        unlock(b_->lock);
        return Status::would_block;
    }
    if (const u64 extra = b_->extra.load_relaxed(); extra != 0) {
        b_->extra.store_release(extra - 1);  // COMMIT [semaphore.extra]
    } else {
        shm_atomic<u64>& entry = held_[m_->slot];
        entry.store_release(
            Shares::word(Shares::own(*m_, entry.load()) + 1, m_->gen));  // COMMIT [semaphore.held]
    }
    b_->value.store_release(value - 1);  // [semaphore.value]
    unlock(b_->lock);
    return Status::ok;
}

// ---- for callers --------------------------------------------------------------------------------

Status Semaphore::acquire(WaitPolicy& p) noexcept {
    Status s = try_acquire(p);
    if (s != Status::would_block) return s;
    if (!p.may_wait()) return held_.probe(*m_) ? try_acquire(p) : s;
    return wait_for(
        b_->freed, {*m_, WaitPurpose::semaphore, b_}, p, [&] { return try_acquire(p); },
        [&] { return b_->value.load() != 0 || usable(*m_) != Status::ok; },  // [semaphore.value]
        [&] { held_.probe(*m_); });
}

Status Semaphore::wait_ready(WaitPolicy& p) noexcept {
    u64 there = 0;
    const Status s = wait_for(
        b_->freed, {*m_, WaitPurpose::semaphore, b_}, p,
        [&] {
            if (Status now = value(there, p); now != Status::ok) return now;
            return there != 0 ? Status::ok : Status::would_block;
        },
        [&] { return b_->value.load() != 0 || usable(*m_) != Status::ok; },  // [semaphore.value]
        [&] { held_.probe(*m_); });
    // This thread takes nothing: the wake may have been for one that takes.
    if (s == Status::ok) notify(b_->freed);
    return s;
}

Status Semaphore::release(u64 n, WaitPolicy& outer) noexcept {
    UninterruptibleWait p(outer);  // what one has is given back, however long the caller would wait
    if (Status s = enter(p); s != Status::ok) return s;
    Status s = Status::ok;
    // A token of a dead process cannot be given back for it any more.
    if (Shares::own(*m_, held_[m_->slot].load()) < n) return_tokens();
    if ((flags_ & kBounded) != 0 && b_->value.load_relaxed() + n > initial_) s = Status::not_held;
    if (n > kLargest || b_->extra.load_relaxed() + n > kMostExtra) s = Status::too_large;
    if (s == Status::ok) {
        // First our own tokens. Then tokens that other processes took: they were handed to us. A
        // token without an owner is an extra one.
        u64 left = n - give_back_to(m_->slot, n);
        for (u32 slot = 0; left != 0 && slot < held_.used(*m_); ++slot)
            left -= give_back_to(slot, left);
        if (left != 0)
            b_->extra.store_release(b_->extra.load_relaxed() + left);  // COMMIT [semaphore.extra]
        b_->value.store_release(b_->value.load_relaxed() + n);         // [semaphore.value]
    }
    unlock(b_->lock);
    if (s == Status::ok) notify(b_->freed, static_cast<int>(n));
    return s;
}

Status Semaphore::value(u64& out, WaitPolicy& p) noexcept {
    held_.probe(*m_);  // a caller that asks for the value wants the dead to be found
    if (Status s = enter(p); s != Status::ok) return s;
    return_tokens();
    out = b_->value.load_relaxed();
    unlock(b_->lock);
    return Status::ok;
}

u64 Semaphore::layout() noexcept {
    return fold_layouts({Body::layout(), kHeldOffset, Shares::layout()});
}

void Semaphore::repair(Member& m, u32 index, WaitPolicy& p) noexcept {
    Semaphore sem;
    if (open(m, handle_of(m, index), sem) == Status::ok && sem.enter(p) == Status::ok)
        unlock(sem.b_->lock);
}

std::vector<std::string> Semaphore::validate(Member& m, u32 index) {
    const std::string who = "semaphore " + std::to_string(index) + ": ";
    Semaphore sem;
    if (open(m, handle_of(m, index), sem) != Status::ok) return makes_no_sense(who);
    CheckWait wait;
    if (sem.enter(wait) != Status::ok) return {who + "its lock cannot be taken"};
    const Unlocks unlocks(sem.b_->lock);
    std::vector<std::string> out;
    u64 taken = 0;
    for (u32 slot = 0; slot < m.geo().max_processes; ++slot)
        taken += Shares::count(sem.held_[slot].load());
    const u64 all = sem.stock() + sem.b_->extra.load_relaxed(),
              value = sem.b_->value.load_relaxed();
    if (taken + value != all) {
        out.push_back(who + std::to_string(all) + " tokens, of which " + std::to_string(taken) +
                      " are held and " + std::to_string(value) + " free");
    }
    if ((sem.flags_ & kBounded) != 0 && value > sem.initial_)
        out.push_back(who + "more is free than there ever was");
    return out;
}

void Semaphore::observe(Member& m, u32 index, Observed& out) {
    Semaphore sem;
    if (open(m, handle_of(m, index), sem) != Status::ok) return;
    out.readable = true;
    const Body& b = *sem.b_;
    out.fact("initial", sem.initial_);
    out.fact("value", b.value.load_acquire());  // [semaphore.value]
    out.fact("bounded", (sem.flags_ & kBounded) != 0);
    out.owner(m, "inner", b.lock.word.load());
    for (u32 slot = 0; slot < sem.held_.used(m); ++slot) {
        const u64 w = sem.held_[slot].load();  // [semaphore.held]
        if (Shares::count(w) != 0)
            out.part("holder", slot, Shares::passed(m, slot, w), Shares::count(w));
    }
}

}  // namespace onecopy
