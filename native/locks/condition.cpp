#include "locks/condition.hpp"

#include <algorithm>
#include <cstddef>
#include <utility>

namespace onecopy {

struct Condition::Place {
    shm_atomic<u32> word;
    shm_atomic<u32> tag;
    shm_atomic<u64> ticket;
    ONECOPY_SHARED_STRUCT(Place, word, tag, ticket)
};

struct Condition::Body {
    static constexpr u64 kMagic = 0x32'64'6e'6f'63'63'6f'6fULL;  // "ooccond2"
    shm_atomic<u64> magic;
    shm_atomic<u32> places;
    shm_atomic<u32> spare;
    shm_atomic<u64> lock;
    shm_atomic<u64> more;
    shm_atomic<u64> ticket;
    shm_atomic<u32> used;
    ONECOPY_SHARED_STRUCT(Body, magic, places, spare, lock, more, ticket, used)
};

struct Condition::Chunk {
    static constexpr u64 kMagic = 0x31'73'63'6c'70'63'6f'6fULL;  // "oocplcs1"
    shm_atomic<u64> magic;
    shm_atomic<u64> more;
    ONECOPY_SHARED_STRUCT(Chunk, magic, more)
};

namespace {

// Further places, when those of the body do not suffice. The number of chunks is bounded, so the
// chain has an end in a damaged pool, too.
constexpr u32 kChunkPlaces = 1024, kMostChunks = 4096;

constexpr u64 kPlacesOffset = 64;
enum State : u32 { kFree = 0, kWaiting = 1, kNotified = 2, kStateBits = 3 };
constexpr u32 word_of(u64 ticket, State state) noexcept {
    return static_cast<u32>(ticket << 2) | state;
}
constexpr u32 state_of(u32 word) noexcept {
    return word & kStateBits;
}
// Several threads of each process may wait.
constexpr u32 places_for(u32 processes) noexcept {
    return std::clamp(processes * 2, 256u, 1024u);
}

}  // namespace

Status Condition::create(Member& m, Handle mutex, WaitPolicy& p, Handle& out) noexcept {
    static_assert(sizeof(Body) <= kPlacesOffset && sizeof(Place) == 16);
    Mutex lock;
    if (Status s = Mutex::open(m, mutex, lock); s != Status::ok) return s;
    Allocated block;
    const u32 places = places_for(m.geo().max_processes);
    if (Status s = create_body(m, BodyKind::condition, kPlacesOffset + u64{places} * sizeof(Place),
                               p, block);
        s != Status::ok)
        return s;
    auto& b = *reinterpret_cast<Body*>(block.data);
    b.places.store_relaxed(places);
    static_assert(offsetof(Body, more) == offsetof(Body, lock) + 8);
    declare_cells(m, block.index, offsetof(Body, lock), 8, 2);
    if (Status s = swap_cell(m, b.lock, 0, mutex); s != Status::ok) {
        UninterruptibleWait uninterruptible(p);
        drop(m, block.index, uninterruptible);
        return s;
    }
    finish_body(b);
    out = handle_of(m, block.index);
    return Status::ok;
}

Status Condition::open(Member& m, Handle h, Condition& out) noexcept {
    Body* b = nullptr;
    const u32 places = places_for(m.geo().max_processes);
    if (Status s =
            open_body(m, h, BodyKind::condition, kPlacesOffset + u64{places} * sizeof(Place), b);
        s != Status::ok)
        return s;
    if (b->places.load_relaxed() != places) return Status::corrupt;
    out.m_ = &m;
    out.b_ = b;
    out.lock_ = b->lock.load_acquire();  // [block.cell]
    out.places_ = places;
    return Status::ok;
}

namespace {
template <class Place>
Place* places_after(void* head) noexcept {
    return reinterpret_cast<Place*>(static_cast<unsigned char*>(head) + kPlacesOffset);
}
}  // namespace

// Chunks are added with the mutex held, and go with the condition. So a process that has the
// condition may walk the chain.
template <class Act>
bool Condition::each_until(u32 limit, Act act) const noexcept {
    Place* places = places_after<Place>(b_);
    Handle more = b_->more.load_acquire();  // [block.cell]
    u32 count = places_;
    for (u32 chunk = 0, first = 0;; ++chunk) {
        for (u32 i = 0; i < count && first + i < limit; ++i)
            if (act(places[i])) return true;
        first += count;
        Chunk* next = nullptr;
        if (first >= limit || more == 0 || chunk == kMostChunks ||
            open_chunk(more, next) != Status::ok)
            return false;
        places = places_after<Place>(next);
        more = next->more.load_acquire();  // [block.cell]
        count = kChunkPlaces;
    }
}
template <class Act>
void Condition::each_used(Act act) const noexcept {
    each_until(b_->used.load_acquire(), [&](Place& at) {  // [condition.used]
        act(at);
        return false;
    });
}

Status Condition::open_chunk(Handle h, Chunk*& out) const noexcept {
    return open_body(*m_, h, BodyKind::condition_places,
                     kPlacesOffset + u64{kChunkPlaces} * sizeof(Place), out);
}

// Mutex held. A place that is free, or in which a dead process waited.
Status Condition::take_place(WaitPolicy& p, Place*& out) noexcept {
    u32 index = 0;
    for (int look = 0; look < 2; ++look) {
        index = 0;
        const bool found = each_until(~u32{0}, [&](Place& at) {
            ++index;
            const u32 word = at.word.load();
            if (state_of(word) != kFree) {
                // A notification of a dead process is left for `hand_over`.
                if (state_of(word) != kWaiting) return false;
                const u32 tag = at.tag.load();
                if (!m_->passed(tag) && (look == 0 || !m_->gone(tag))) return false;
            }
            out = &at;
            return true;
        });
        if (found) break;
        if (look == 0) continue;
        if (Status s = add_chunk(p, out); s != Status::ok) return s;
        ++index;
    }
    if (index > b_->used.load_relaxed()) b_->used.store_release(index);  // [condition.used]
    const u64 ticket = b_->ticket.load_relaxed();
    b_->ticket.store_relaxed(ticket + 1);
    // It must not be the dead process's place any more when it gets this one's tag.
    out->word.store(word_of(ticket, kFree));
    out->ticket.store_relaxed(ticket);
    out->tag.store_relaxed(m_->tag());
    out->word.store(word_of(ticket, kWaiting));  // COMMIT of wait
    return Status::ok;
}

// Mutex held. A death before the commit leaves a block that only the dead process held.
Status Condition::add_chunk(WaitPolicy& outer, Place*& first) noexcept {
    shm_atomic<u64>* last = &b_->more;
    u32 chunks = 0;
    for (Chunk* next = nullptr; last->load_acquire() != 0; last = &next->more) {  // [block.cell]
        if (++chunks == kMostChunks) return Status::table_full;
        // [block.cell]
        if (Status s = open_chunk(last->load_acquire(), next); s != Status::ok) return s;
    }
    Allocated block;
    BoundedWait p(outer, WaitPolicy::kForever);  // for the heap lock, not for a notification
    if (Status s = create_body(*m_, BodyKind::condition_places,
                               kPlacesOffset + u64{kChunkPlaces} * sizeof(Place), p, block);
        s != Status::ok)
        return s;
    auto& chunk = *reinterpret_cast<Chunk*>(block.data);
    declare_cells(*m_, block.index, offsetof(Chunk, more), 8, 1);
    finish_body(chunk);
    const Status s = swap_cell(*m_, *last, 0, handle_of(*m_, block.index));  // COMMIT
    drop(*m_, block.index, p);
    first = places_after<Place>(&chunk);
    return s;
}

// Whether a process was notified and died before it took the mutex.
bool Condition::is_dead_notified(const Place& at, bool ask_the_kernel) const noexcept {
    if (state_of(at.word.load()) != kNotified) return false;
    const u32 tag = at.tag.load();
    return m_->passed(tag) || (ask_the_kernel && tag_slot(tag) != m_->slot && m_->gone(tag));
}

// Mutex held. Passes the notifications of dead processes to living waiters. It wakes a waiter
// first, and then clears the dead place. So two deaths can wake one waiter too many, but never one
// too few.
void Condition::hand_over() noexcept {
    each_used([this](Place& at) {
        if (!is_dead_notified(at, false)) return;
        wake(1);
        at.word.store(at.word.load() & ~kStateBits);
    });
}

bool Condition::is_dead_notified_somewhere() const noexcept {
    return each_until(b_->used.load_acquire(),  // [condition.used]
                      [this](Place& at) { return is_dead_notified(at, true); });
}

// Without the mutex. Sleeps until the place has changed, the wait has to end, or there is something
// to hand over (would_block).
Status Condition::sleep(const Stay& mine, WaitPolicy& p) noexcept {
    const int budget = Spin::budget();
    for (int i = 0; i < budget && mine.word->load_relaxed() == mine.waiting; ++i)
        cpu_relax();
    Waiting waiting(*m_, WaitPurpose::condition, b_);
    std::int64_t nap = kFirstNap, look = os::monotonic_ns() + nap;
    while (mine.word->load() == mine.waiting) {
        const std::int64_t ns = p.may_wait() ? p.left(nap) : 0;
        if (ns == 0) return Status::timed_out;
        p.about_to_block();
        waiting.sleeps();
        if (os::maybe_signal(os::futex_wait(mine.word->word(), mine.waiting, ns)) &&
            p.interrupted())
            return Status::interrupted;
        if (const std::int64_t now = os::monotonic_ns(); now >= look) {
            if (Status s = usable(*m_); s != Status::ok) return s;
            if (is_dead_notified_somewhere()) return Status::would_block;
            nap = std::min(nap * 2, kLongestNap);
            look = now + nap;
        }
    }
    return Status::ok;
}

// `sleep` of a caller that notes. timed_out: noted. A notification moves the word, and always
// wakes, so there is no bit of sleepers.
Status Condition::note(const Stay& mine, WaitPolicy& p) noexcept {
    if (mine.word->load() != mine.waiting) return Status::ok;
    if (had_a_nap(p, *m_) && is_dead_notified_somewhere()) return Status::would_block;
    p.note(*m_, *mine.word, WordKind::place, mine.waiting, false);
    return Status::timed_out;
}

Status Condition::begin(Mutex& mutex, WaitPolicy& p, Stay& mine) noexcept {
    if (Status s = usable(*m_); s != Status::ok) return s;
    if (!mutex.mine()) return Status::not_held;
    Place* taken = nullptr;
    if (Status s = take_place(p, taken); s != Status::ok) return s;
    mine = {};
    mine.word = &taken->word;
    mine.tag_of_place = &taken->tag;
    mine.waiting = taken->word.load();
    mine.tag = m_->tag();
    mine.depth = mutex.release_all();
    return Status::ok;
}

// Mutex held again. would_block: it was for others, and this waiter sleeps again.
Status Condition::end(Stay& mine, Status why, Status again) noexcept {
    if (std::exchange(mine.hands_over, false)) hand_over();
    const bool notified = mine.word->load() != mine.waiting;
    if (why == Status::would_block) {
        // A death in the mutex must be reported, so the wait ends: for the caller, a wake without a
        // reason.
        if (!notified && again == Status::ok) return Status::would_block;
        why = Status::ok;
    }
    // This caller will not act on the notification, so another waiter gets it.
    if (notified && why == Status::interrupted) wake(1);
    std::exchange(mine.word, nullptr)->store(mine.waiting & ~kStateBits);  // free
    return notified && why != Status::interrupted ? Status::ok : why;
}

Status Condition::wait(Mutex& mutex, WaitPolicy& p, Status& again) noexcept {
    again = Status::ok;
    Stay mine;
    if (Status s = begin(mutex, p, mine); s != Status::ok) return s;
    UninterruptibleWait uninterruptible(
        p);  // the caller has the mutex again before it does anything else
    for (;;) {
        const Status why = sleep(mine, p);
        mine.hands_over = why == Status::would_block;
        again = mutex.acquire_again(mine.depth, uninterruptible);
        if (!good(again)) return again;
        const Status s = end(mine, why, again);
        if (s != Status::would_block) return s;
        mutex.release_all();
    }
}

// ---- the same in steps --------------------------------------------------------------------------

Status Condition::attempt(Mutex& mutex, WaitPolicy& p, Stay& mine, Status& again) noexcept {
    again = Status::ok;
    if (mine.word == nullptr || mine.tag != m_->tag()) return Status::closed;
    for (;;) {
        if (mine.asleep) {
            if (Status s = usable(*m_); s != Status::ok) return s;
            const Status why = note(mine, p);
            if (why == Status::timed_out) return Status::would_block;
            mine.hands_over |= why == Status::would_block;
            mine.why = why;
            mine.asleep = false;
        }
        again = mutex.acquire_again(mine.depth, p);
        if (!good(again)) return again;
        const Status s = end(mine, mine.why, again);
        if (s != Status::would_block) return s;
        mutex.release_all();
        mine.asleep = true;
    }
}

void Condition::give_up(Stay& mine, Status why) noexcept {
    // What was interrupted stays so: its caller gets an exception.
    if (mine.why != Status::interrupted || mine.asleep) mine.why = why;
    mine.asleep = false;
}

void Condition::leave(Stay& mine) noexcept {
    const bool there = mine.word != nullptr && mine.tag == m_->tag() && usable(*m_) == Status::ok;
    mine.word = nullptr;
    // A process with the mutex may be notifying this place. Then `hand_over` finds the notification
    // there, as a dead process's.
    if (there) mine.tag_of_place->store(kAbandoned);  // COMMIT of leave
}

// Mutex held.
void Condition::wake(u32 n) noexcept {
    if (n >= b_->used.load_relaxed()) {
        // All of them: the order does not matter. A dead waiter may be woken too.
        each_used([this](Place& at) {
            const u32 word = at.word.load();
            if (state_of(word) != kWaiting) return;
            // COMMIT of notify
            at.word.store((word & ~kStateBits) | (m_->passed(at.tag.load()) ? kFree : kNotified));
            os::futex_wake(at.word.word(), 1);
        });
        return;
    }
    while (n != 0) {
        Place* first = nullptr;
        u64 lowest = ~u64{0};
        each_used([&](Place& at) {
            const u64 ticket = at.ticket.load_relaxed();
            if (state_of(at.word.load()) == kWaiting && ticket < lowest) {
                first = &at;
                lowest = ticket;
            }
        });
        if (first == nullptr) return;
        const u32 word = first->word.load(), tag = first->tag.load();
        if (m_->passed(tag) || (tag_slot(tag) != m_->slot && m_->gone(tag))) {
            first->word.store(word & ~kStateBits);  // dead: the next waiter gets it
            continue;
        }
        first->word.store((word & ~kStateBits) | kNotified);  // COMMIT of notify
        os::futex_wake(first->word.word(), 1);
        --n;
    }
}

Status Condition::notify(Mutex& mutex, u32 n) noexcept {
    if (Status s = usable(*m_); s != Status::ok) return s;
    if (!mutex.mine()) return Status::not_held;
    wake(n);
    return Status::ok;
}

u32 Condition::waiting() const noexcept {
    u32 n = 0;
    each_used([&](Place& at) {
        n += state_of(at.word.load()) == kWaiting && !m_->passed(at.tag.load());
    });
    return n;
}

u64 Condition::layout() noexcept {
    return fold_layouts(
        {Body::layout(), Place::layout(), Chunk::layout(), kPlacesOffset, kChunkPlaces});
}

std::vector<std::string> Condition::validate(Member& m, u32 index) {
    const std::string who = "condition " + std::to_string(index) + ": ";
    Condition c;
    if (open(m, handle_of(m, index), c) != Status::ok) return makes_no_sense(who);
    std::vector<std::string> out;
    Mutex lock;
    if (Mutex::open(m, c.lock_, lock) != Status::ok)
        out.push_back(who + "what it refers to is no lock");
    u32 i = 0;
    const u32 used = c.b_->used.load();
    c.each_until(~u32{0}, [&](Place& at) {
        const u32 state = state_of(at.word.load());
        const std::string name = "place " + std::to_string(i);
        if (state == kStateBits) out.push_back(who + name + " has no valid state");
        if (state != kFree && i >= used)
            out.push_back(who + name + " is taken, but was never used");
        const u32 tag = at.tag.load();
        if (state != kFree && tag != kAbandoned && tag_slot(tag) >= m.geo().max_processes)
            out.push_back(who + name + " belongs to no slot");
        ++i;
        return false;
    });
    if (used > i) out.push_back(who + "it has used more places than it has");
    return out;
}

void Condition::observe(Member& m, u32 index, Observed& out) {
    Condition condition;
    if (open(m, handle_of(m, index), condition) != Status::ok) return;
    out.readable = true;
    out.fact("lock", handle_index(condition.lock_));
    condition.each_used([&](Place& at) {
        const u32 state = state_of(at.word.load()), tag = at.tag.load();
        if (state == kFree || m.passed(tag)) return;
        out.owner(m, state == kNotified ? "notified" : "waiter", tag);
    });
}

}  // namespace onecopy
