#include "locks/barrier.hpp"

#include <algorithm>

#include "sync/unlocks.hpp"

namespace onecopy {

struct Barrier::Body {
    static constexpr u64 kMagic = 0x31'72'72'61'62'63'6f'6fULL;  // "oocbarr1"
    // line 0: fixed
    shm_atomic<u64> magic;
    shm_atomic<u32> parties;
    // line 1: under the lock
    alignas(64) LockWord lock;
    shm_atomic<u32> culprit;
    shm_atomic<u64> state;
    shm_atomic<u64> resets;  // bit phase%64: that phase ended by a reset; of the last 64 phases
    // line 2: sleepers
    alignas(64) EventCount changed;
    char pad[60];
    ONECOPY_SHARED_STRUCT(Body, magic, parties, lock, culprit, state, resets, changed, pad)
};

namespace {

constexpr u64 kWaitingOffset = 192;
enum Kind : u32 { kFilling = 0, kTripping = 1, kBroken = 2 };
constexpr u64 state_of(u32 phase, Kind kind) noexcept {
    return u64{phase} << 32 | kind;
}
constexpr u32 phase_of(u64 state) noexcept {
    return static_cast<u32>(state >> 32);
}
constexpr u32 kind_of(u64 state) noexcept {
    return static_cast<u32>(state);
}

// What an entry counts for a phase.
constexpr u32 counted(u64 word, u32 phase) noexcept {
    const u32 c = Shares::count(word);
    return c >> 16 == (phase & 0xffff) ? c & 0xffff : 0;
}
constexpr u64 entry_of(u32 phase, u32 count, u32 gen) noexcept {
    return Shares::word(phase << 16 | count, gen);
}

}  // namespace

Status Barrier::create(Member& m, u32 parties, WaitPolicy& p, Handle& out) noexcept {
    static_assert(sizeof(Body) == kWaitingOffset);
    if (parties == 0 || parties > kMostParties) return Status::bad_argument;
    Allocated block;
    const u64 bytes = kWaitingOffset + Shares::bytes(m.geo().max_processes);
    if (Status s = create_body(m, BodyKind::barrier, bytes, p, block); s != Status::ok) return s;
    auto& b = *reinterpret_cast<Body*>(block.data);
    b.parties.store_relaxed(parties);
    finish_body(b);
    out = handle_of(m, block.index);
    return Status::ok;
}

Status Barrier::open(Member& m, Handle h, Barrier& out) noexcept {
    Body* b = nullptr;
    const u64 bytes = kWaitingOffset + Shares::bytes(m.geo().max_processes);
    if (Status s = open_body(m, h, BodyKind::barrier, bytes, b); s != Status::ok) return s;
    const u32 parties = b->parties.load_relaxed();
    if (parties == 0 || parties > kMostParties) return Status::corrupt;
    out.m_ = &m;
    out.b_ = b;
    out.waiting_ =
        Shares(reinterpret_cast<unsigned char*>(b) + kWaitingOffset, m.geo().max_processes);
    out.parties_ = parties;
    return Status::ok;
}

// owner_died: every change is one store, so there is nothing to repair.
Status Barrier::enter(WaitPolicy& p) noexcept {
    if (Status s = usable(*m_); s != Status::ok) return s;
    const Status s = onecopy::enter(b_->lock, *m_, p);
    return s == Status::owner_died ? Status::ok : s;
}

// ---- under the lock -----------------------------------------------------------------------------

u32 Barrier::arrived(u32 phase) const noexcept {
    u32 n = 0;
    for (u32 slot = 0; slot < waiting_.used(*m_); ++slot)
        n += counted(waiting_[slot].load(), phase);  // [barrier.waiting]
    return n;
}

// Whether a party that waits, or that runs the action, is dead. Then this phase can never be
// complete.
bool Barrier::find_the_dead(u32 phase, bool ask_the_kernel) noexcept {
    for (u32 slot = 0; slot < waiting_.used(*m_); ++slot) {
        const u64 w = waiting_[slot].load();
        if (counted(w, phase) == 0) continue;
        if (!(ask_the_kernel ? Shares::gone(*m_, slot, w) : Shares::passed(*m_, slot, w))) continue;
        // The row still says which process it was, unless another one has taken the slot since.
        // [row.state]
        const bool vacant = m_->row(slot).state.load_acquire() == static_cast<u32>(RowState::free);
        b_->culprit.store_relaxed(vacant ? m_->row(slot).pid.load_relaxed() : 0);
        return true;
    }
    return false;
}

void Barrier::move_on(u32 phase, bool by_reset) noexcept {
    const u64 bit = u64{1} << (phase % 64);
    b_->resets.store_relaxed(by_reset ? b_->resets.load_relaxed() | bit
                                      : b_->resets.load_relaxed() & ~bit);
    b_->culprit.store_relaxed(0);
    b_->state.store(state_of(phase + 1, kFilling));  // COMMIT [barrier.state]
    for (u32 slot = 0; slot < waiting_.used(*m_); ++slot) {
        if (waiting_[slot].load() != 0) waiting_[slot].store_relaxed(0);
    }
    notify_all(b_->changed);
}

void Barrier::break_it(u32 phase) noexcept {
    b_->state.store(state_of(phase, kBroken));  // COMMIT [barrier.state]
    notify_all(b_->changed);
}

// ---- for callers --------------------------------------------------------------------------------

Status Barrier::try_arrive(WaitPolicy& p, Arrival& out) noexcept {
    if (Status s = enter(p); s != Status::ok) return s;
    const u64 state = b_->state.load();
    const u32 phase = phase_of(state);
    Status s = Status::ok;
    // The last party to arrive asks the kernel: a party that is dead must not release the others.
    const bool last = kind_of(state) == kFilling && arrived(phase) + 1 >= parties_;
    if (kind_of(state) != kBroken && find_the_dead(phase, last)) {
        break_it(phase);
        s = Status::broken;
    } else if (kind_of(state) == kBroken) {
        s = Status::broken;
    } else if (kind_of(state) == kTripping) {
        s = Status::would_block;
    } else {
        shm_atomic<u64>& entry = waiting_[m_->slot];
        out = {phase, arrived(phase), false, m_->tag()};
        const u64 w = entry.load();
        // COMMIT
        entry.store_release(  // [barrier.waiting]
            entry_of(phase, (Shares::gen(w) == m_->gen ? counted(w, phase) : 0) + 1, m_->gen));
        if (out.index + 1 >= parties_) {
            out.trips = true;
            b_->state.store_release(state_of(phase, kTripping));  // [barrier.state]
        }
    }
    unlock(b_->lock);
    return s;
}

Status Barrier::arrive(WaitPolicy& p, Arrival& out) noexcept {
    return wait_for(
        b_->changed, {*m_, WaitPurpose::barrier, b_}, p, [&] { return try_arrive(p, out); },
        [&] { return kind_of(b_->state.load()) != kTripping || usable(*m_) != Status::ok; },
        [&] {
            const u64 state = b_->state.load();
            // Then try_arrive breaks it.
            if (kind_of(state) == kTripping) find_the_dead(phase_of(state), true);
        });
}

// A waiter leaves a phase that is not over.
void Barrier::count_out(u32 phase) noexcept {
    shm_atomic<u64>& entry = waiting_[m_->slot];
    const u64 w = entry.load();
    if (Shares::gen(w) == m_->gen && counted(w, phase) != 0)
        entry.store_release(entry_of(phase, counted(w, phase) - 1, m_->gen));  // [barrier.waiting]
}

// would_block: the phase is not over.
Status Barrier::outcome(const Arrival& mine) const noexcept {
    const u64 state = b_->state.load();  // [barrier.state]
    if (phase_of(state) == mine.phase)
        return kind_of(state) == kBroken ? Status::broken : Status::would_block;
    return b_->resets.load() >> (mine.phase % 64) & 1 ? Status::broken : Status::ok;
}

Status Barrier::await(WaitPolicy& p, const Arrival& mine) noexcept {
    return wait_for(
        b_->changed, {*m_, WaitPurpose::barrier, b_}, p,
        [&] {
            if (Status u = usable(*m_); u != Status::ok) return u;
            return outcome(mine);
        },
        [&] { return outcome(mine) != Status::would_block || usable(*m_) != Status::ok; },
        [&] {
            UninterruptibleWait uninterruptible(p);
            if (!find_the_dead(mine.phase, true) || enter(uninterruptible) != Status::ok) return;
            if (const u64 state = b_->state.load(); phase_of(state) == mine.phase &&
                                                    kind_of(state) != kBroken &&
                                                    find_the_dead(mine.phase, false)) {
                break_it(mine.phase);
            }
            unlock(b_->lock);
        });
}

// How the phase was when this party stopped: would_block if it was not over, and is broken now.
Status Barrier::stop_waiting(WaitPolicy& p, const Arrival& mine) noexcept {
    UninterruptibleWait uninterruptible(p);
    if (Status e = enter(uninterruptible); e != Status::ok) return e;
    const Status now = outcome(mine);  // it may have tripped before this thread had the lock
    if (now == Status::would_block) break_it(mine.phase);
    if (now != Status::ok) count_out(mine.phase);
    unlock(b_->lock);
    return now;
}

namespace {
constexpr bool is_over(Status s) noexcept {
    return s == Status::ok || s == Status::closed || s == Status::corrupt || s == Status::lost;
}
}  // namespace

Status Barrier::wait(WaitPolicy& p, const Arrival& mine) noexcept {
    const Status s = await(p, mine);
    if (is_over(s)) return s;
    const Status now = stop_waiting(p, mine);
    if (now == Status::ok) return s == Status::interrupted ? s : now;
    return now == Status::would_block || now == Status::broken ? s : now;
}

Status Barrier::attempt(WaitPolicy& p, const Arrival& mine) noexcept {
    const Status s = await(p, mine);
    if (is_over(s) || s == Status::would_block) return s;
    const Status now = stop_waiting(p, mine);
    return now == Status::would_block ? Status::broken : now;
}

Status Barrier::give_up(WaitPolicy& p, const Arrival& mine) noexcept {
    // The parent of a forked child is the party, not the child.
    if (mine.tag != m_->tag()) return Status::broken;
    const Status now = stop_waiting(p, mine);
    return now == Status::would_block ? Status::broken : now;
}

Status Barrier::trip(WaitPolicy& outer, const Arrival& mine) noexcept {
    UninterruptibleWait p(outer);
    if (Status s = enter(p); s != Status::ok) return s;
    const u64 state = b_->state.load();
    const bool ours = phase_of(state) == mine.phase && kind_of(state) == kTripping;
    if (ours) move_on(mine.phase, false);
    unlock(b_->lock);
    return ours ? Status::ok : Status::broken;
}

Status Barrier::abort(WaitPolicy& outer) noexcept {
    UninterruptibleWait p(outer);
    if (Status s = enter(p); s != Status::ok) return s;
    break_it(phase_of(b_->state.load()));
    unlock(b_->lock);
    return Status::ok;
}

Status Barrier::reset(WaitPolicy& outer) noexcept {
    UninterruptibleWait p(outer);
    if (Status s = enter(p); s != Status::ok) return s;
    move_on(phase_of(b_->state.load()), true);
    unlock(b_->lock);
    return Status::ok;
}

u32 Barrier::waiting() const noexcept {
    const u64 state = b_->state.load();
    u32 n = 0;
    for (u32 slot = 0; slot < waiting_.used(*m_); ++slot) {
        const u64 w = waiting_[slot].load();
        if (!Shares::passed(*m_, slot, w)) n += counted(w, phase_of(state));
    }
    return n;
}

bool Barrier::is_broken() const noexcept {
    return kind_of(b_->state.load()) == kBroken;
}
u32 Barrier::culprit() const noexcept {
    return b_->culprit.load_relaxed();
}

u64 Barrier::layout() noexcept {
    return fold_layouts({Body::layout(), kWaitingOffset, Shares::layout()});
}

std::vector<std::string> Barrier::validate(Member& m, u32 index) {
    const std::string who = "barrier " + std::to_string(index) + ": ";
    Barrier barrier;
    if (open(m, handle_of(m, index), barrier) != Status::ok) return makes_no_sense(who);
    CheckWait wait;
    if (barrier.enter(wait) != Status::ok) return {who + "its lock cannot be taken"};
    const Unlocks unlocks(barrier.b_->lock);
    std::vector<std::string> out;
    const u64 state = barrier.b_->state.load();
    const u32 there = barrier.arrived(phase_of(state));
    if (kind_of(state) > kBroken) out.push_back(who + "it has no valid state");
    if (there > barrier.parties_) out.push_back(who + "more have arrived than it has parties");
    return out;
}

void Barrier::observe(Member& m, u32 index, Observed& out) {
    Barrier barrier;
    if (open(m, handle_of(m, index), barrier) != Status::ok) return;
    out.readable = true;
    const u64 state = barrier.b_->state.load();  // [barrier.state]
    out.fact("parties", barrier.parties_);
    out.fact("broken", kind_of(state) == kBroken);
    out.fact("acting", kind_of(state) == kTripping);
    out.fact("culprit", barrier.b_->culprit.load_relaxed());
    out.owner(m, "inner", barrier.b_->lock.word.load());
    for (u32 slot = 0; slot < barrier.waiting_.used(m); ++slot) {
        const u64 w = barrier.waiting_[slot].load();  // [barrier.waiting]
        if (const u32 n = counted(w, phase_of(state)); n != 0)
            out.part("arrived", slot, Shares::passed(m, slot, w), n);
    }
}

}  // namespace onecopy
