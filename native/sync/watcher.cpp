#include "sync/watcher.hpp"

#include <algorithm>
#include <array>
#include <atomic>
#include <condition_variable>
#include <map>
#include <memory>
#include <mutex>
#include <new>
#include <utility>
#include <vector>

#include "base/private_memory.hpp"
#include "os/forks.hpp"
#include "os/os.hpp"
#include "os/waits.hpp"
#include "sync/lock.hpp"

namespace onecopy {

// ---- lists --------------------------------------------------------------------------------------

void NoteList::push_back(Note& n) noexcept {
    n.before_ = last;
    n.after_ = nullptr;
    (last == nullptr ? first : last->after_) = &n;
    last = &n;
}
void NoteList::push_front(Note& n) noexcept {
    n.before_ = nullptr;
    n.after_ = first;
    (first == nullptr ? last : first->before_) = &n;
    first = &n;
}
void NoteList::remove(Note& n) noexcept {
    (n.before_ == nullptr ? first : n.before_->after_) = n.after_;
    (n.after_ == nullptr ? last : n.after_->before_) = n.before_;
    n.before_ = n.after_ = nullptr;
}

// ---- groups and lanes ---------------------------------------------------------------------------

// The notes in one pool. A death is often all that they wait for, or it has taken a wake along. So
// one of them at a time looks for dead processes, and all try again when the pool's epoch moves.
struct PoolOfNotes {
    u64 epoch = 0;
    std::int64_t look = 0;       // when the next one looks
    std::int64_t all_again = 0;  // not before: all try again
    std::size_t groups = 0;
};

struct NoteGroup {
    Liveness* me = nullptr;
    PoolOfNotes* pool = nullptr;
    shm_atomic<u32>* word = nullptr;
    WordKind kind = WordKind::event;
    std::size_t lane = 0;
    u32 expected = 0;
    bool slept_on = false;  // the lane sleeps on the word, with `expected`
    NoteList waiting;
    Note* holder = nullptr;  // of the baton
    // A note without news tries again after a nap, in case that a process was stopped between its
    // commit and its wake. A holder that has not tried by then has a loop that does not run: the
    // baton goes to the next note.
    std::int64_t nap = kFirstNap, look = 0;
};

namespace {

// With many notes the naps become longer, so that a thousand idle tasks cost little: 20 attempts
// per second. What they might miss meanwhile, a look at the pool finds.
constexpr std::int64_t kNapPerNote = 50'000'000, kNapAtMost = 60'000'000'000, kSoon = 1'000'000;
constexpr std::int64_t kPoolLook = 500'000'000;
// After this time for each note, all may try again: processes may come and go all the time.
constexpr std::int64_t kAgainPerNote = 2'000'000;
constexpr std::size_t kShortList = 32;
constexpr std::int64_t kPause = 200'000;                      // ns
constexpr std::size_t kLaneWords = os::kMostWaitedWords - 1;  // the first is the lane's own

// One thread, and the groups that it watches.
struct Lane {
    u32 kick = 0;  // the lane's own word; not in shared memory
    bool asleep = false;
    u64 round = 0;
    std::vector<NoteGroup*> groups;
    // What the thread sleeps on; the first is `kick`.
    std::size_t n = 0;
    std::array<os::WaitedWord, os::kMostWaitedWords> words{};
    std::array<shm_atomic<u32>*, os::kMostWaitedWords> shared{};
    std::array<WordKind, os::kMostWaitedWords> kinds{};
};

bool inside(const void* at, const void* from, std::size_t length) noexcept {
    const auto a = reinterpret_cast<std::uintptr_t>(at), b = reinterpret_cast<std::uintptr_t>(from);
    return a >= b && a - b < length;
}

// Gives a wake back to the word, for another sleeper. It stores nothing: the block of the word may
// have been freed since the thread listed it, and may have another content. The waker has already
// moved the sequence of an event count, so those that are about to sleep find another value. What
// wakes by this looks again: at a lock that another thread has taken meanwhile, it sets the bit of
// waiters.
void pass_on(shm_atomic<u32>& word, WordKind kind) noexcept {
    const u32 seen = word.load();
    if (kind == WordKind::event && (seen & 1u) == 0) return;       // nobody sleeps
    if (kind == WordKind::lock && (seen & kWaiters) != 0) return;  // its release wakes one
    os::futex_wake(word.word(), 1);
}

}  // namespace

// Of one process. All of it is used under `mutex_`, and no other lock is taken under that one.
class Watcher {
  public:
    // nullptr: there is none yet.
    static Watcher* there() noexcept { return current_.load(); }
    static Watcher* make() noexcept {
        static const bool following = (os::run_in_children(in_child), true);
        static_cast<void>(following);
        Watcher* seen = current_.load();
        if (seen != nullptr) return seen;
        auto* fresh = new (std::nothrow) Watcher;
        if (fresh == nullptr || current_.compare_exchange_strong(seen, fresh)) return fresh;
        delete fresh;
        return seen;
    }

    bool put(Note& n, Liveness& me, shm_atomic<u32>& word, WordKind kind, u32 seen, bool soon,
             bool all) noexcept {
        const std::lock_guard guard(mutex_);
        if (n.watcher_ != this) {
            n.watcher_ = this;
            add_to_all(n);
        }
        NoteGroup* had = std::exchange(n.baton_, nullptr);
        take_off(n);
        n.woken_ = false;
        if (had != nullptr && had->word != &word) {
            pass_baton(*had, false);
            had = nullptr;
        }
        NoteGroup* g = had != nullptr ? had : group_of(me, word, kind);
        if (g == nullptr) return false;
        if (had != nullptr) {
            g->holder = nullptr;
            g->look = 0;  // it was the end of the holder's time
        }
        n.word_ = &word;
        n.kind_ = kind;
        n.seen_ = seen;
        n.all_ = all || !n.one_;
        n.at_ = Note::At::waiting;
        n.group_ = g;
        if (g->waiting.empty() && n.nap_ns_ != 0) g->nap = n.nap_ns_;
        // The holder of the baton has waited longest.
        if (had != nullptr) {
            g->waiting.push_front(n);
        } else {
            g->waiting.push_back(n);
        }
        if (!g->slept_on) g->expected = seen;
        const std::int64_t now = os::monotonic_ns();
        const std::int64_t look = soon ? now + kSoon : end_of_nap(*g, now);
        if (g->look == 0 || (soon && look < g->look)) g->look = look;
        if (g->holder == nullptr && (soon || !g->slept_on)) kick(*lanes_[g->lane]);
        return true;
    }

    void end(Note& n, bool unused) noexcept {
        const std::lock_guard guard(mutex_);
        take_off(n);
        remove_from_all(n);
        n.watcher_ = nullptr;
        n.noted_ = n.remembers_ = n.nap_ = n.turn_ = false;
        n.nap_ns_ = 0;
        const bool woken = std::exchange(n.woken_, false);
        auto* word = std::exchange(n.word_, nullptr);
        if (NoteGroup* had = std::exchange(n.baton_, nullptr)) {
            pass_baton(*had, unused);
        } else if (unused && woken && word != nullptr) {
            pass_on(*word, n.kind_);
        }
    }

    Note* take(Sink& sink) noexcept {
        const std::lock_guard guard(mutex_);
        Note* n = sink.told_.first;
        if (n == nullptr) {
            os::clear_eventfd(sink.fd_);
            return nullptr;
        }
        sink.told_.remove(*n);
        n->at_ = Note::At::off;
        return n;
    }

    // Every wait on words in a range tries again.
    void tell(const void* from, std::size_t length) noexcept {
        const std::lock_guard guard(mutex_);
        for (auto& [word, g] : groups_) {
            if (inside(word, from, length)) tell_all(*g);
        }
        for (auto at = groups_.begin(); at != groups_.end();)
            drop_if_empty(*(at++)->second);
    }

    void forget(const void* from, std::size_t length) noexcept {
        std::unique_lock guard(mutex_);
        for (auto at = groups_.begin(); at != groups_.end();) {
            NoteGroup& g = *(at++)->second;
            if (!inside(g.word, from, length)) continue;
            tell_all(g);
            if (g.holder != nullptr) std::exchange(g.holder, nullptr)->baton_ = nullptr;
            drop_if_empty(g);
        }
        for (Note* n = newest_; n != nullptr; n = n->older_) {
            if (inside(n->word_, from, length)) n->word_ = nullptr;
        }
        for (auto& each : lanes_) {
            Lane& lane = *each;
            bool touches = false;
            for (std::size_t i = 1; i < lane.n; ++i)
                touches = touches || inside(lane.shared[i], from, length);
            if (!lane.asleep || !touches) continue;
            const u64 round = lane.round;
            kick(lane);
            rounds_.wait(guard, [&] { return lane.round != round; });
        }
    }

  private:
    // A forked child has none of the watcher's threads, and another thread of the parent may have
    // had the mutex during the fork. So the child does not use this watcher any more, and makes its
    // own when it needs one. Notes that it inherits still point to the parent's watcher.
    static void in_child() noexcept { current_.store(nullptr); }

    // ---- notes

    void add_to_all(Note& n) noexcept {
        n.newer_ = nullptr;
        n.older_ = newest_;
        if (newest_ != nullptr) newest_->newer_ = &n;
        newest_ = &n;
        ++notes_;
    }
    void remove_from_all(Note& n) noexcept {
        (n.newer_ == nullptr ? newest_ : n.newer_->older_) = n.older_;
        if (n.older_ != nullptr) n.older_->newer_ = n.newer_;
        n.older_ = n.newer_ = nullptr;
        --notes_;
    }
    void take_off(Note& n) noexcept {
        if (n.at_ == Note::At::waiting) {
            n.group_->waiting.remove(n);
            drop_if_empty(*n.group_);
        } else if (n.at_ == Note::At::fired) {
            n.sink_->told_.remove(n);
        }
        n.at_ = Note::At::off;
        n.group_ = nullptr;
    }
    // The group stays, even if it is empty now.
    void fire(Note& n, bool after_nap) noexcept {
        n.group_->waiting.remove(n);
        n.group_ = nullptr;
        n.woken_ = true;
        n.nap_ = after_nap;
        n.at_ = Note::At::fired;
        const bool first = n.sink_->told_.empty();
        n.sink_->told_.push_back(n);
        if (first) os::signal_eventfd(n.sink_->fd_);
    }

    // ---- groups

    NoteGroup* group_of(Liveness& me, shm_atomic<u32>& word, WordKind kind) noexcept {
        if (const auto at = groups_.find(&word); at != groups_.end()) return at->second.get();
        NoteGroup* made = nullptr;
        static_cast<void>(within_memory([&] {
            const auto [pool, is_new] = pools_.try_emplace(&me);
            if (is_new) {
                pool->second.epoch = me.epoch();
                pool->second.look = os::monotonic_ns() + kPoolLook;
            }
            auto g = std::make_unique<NoteGroup>();
            g->me = &me;
            g->pool = &pool->second;
            g->word = &word;
            g->kind = kind;
            while (g->lane < lanes_.size() && lanes_[g->lane]->groups.size() >= kLaneWords)
                ++g->lane;
            if (g->lane == lanes_.size() && !add_lane()) return Status::out_of_memory;
            lanes_[g->lane]->groups.push_back(g.get());
            made = g.get();
            try {
                groups_.emplace(&word, std::move(g));
            } catch (const std::bad_alloc&) {
                lanes_[made->lane]->groups.pop_back();
                made = nullptr;
                return Status::out_of_memory;
            }
            ++made->pool->groups;
            return Status::ok;
        }));
        if (made == nullptr) drop_pool_if_empty(me);
        return made;
    }
    void drop_pool_if_empty(Liveness& me) noexcept {
        if (const auto at = pools_.find(&me); at != pools_.end() && at->second.groups == 0)
            pools_.erase(at);
    }
    void drop_if_empty(NoteGroup& g) noexcept {
        if (!g.waiting.empty() || g.holder != nullptr) return;
        std::erase(lanes_[g.lane]->groups, &g);
        --g.pool->groups;
        drop_pool_if_empty(*g.me);
        groups_.erase(g.word);
    }
    void tell_all(NoteGroup& g) noexcept {
        while (Note* n = g.waiting.first)
            fire(*n, false);
    }
    // The first that wants a wake for itself gets the baton.
    bool fire_one(NoteGroup& g, bool after_nap) noexcept {
        Note* n = g.waiting.first;
        while (n != nullptr && n->all_)
            n = n->after_;
        if (n == nullptr) return false;
        fire(*n, after_nap);
        n->baton_ = &g;
        g.holder = n;
        g.look = os::monotonic_ns() + kLongestNap;
        return true;
    }
    void wake(NoteGroup& g, bool after_nap) noexcept {
        g.nap = after_nap ? next_nap(g.nap) : kFirstNap;
        g.look = 0;
        bool told = false;
        for (Note *n = g.waiting.first, *next = nullptr; n != nullptr; n = next) {
            next = n->after_;
            n->nap_ns_ = g.nap;
            if (!n->all_) continue;
            fire(*n, after_nap);
            told = true;
        }
        // What only looks takes nothing: the wake may have been for a process that takes.
        if (!fire_one(g, after_nap) && told && !after_nap) pass_on(*g.word, g.kind);
        drop_if_empty(g);
    }
    // `unused`: the holder did not try.
    void pass_baton(NoteGroup& g, bool unused) noexcept {
        g.holder = nullptr;
        if (fire_one(g, false)) return;
        if (unused) pass_on(*g.word, g.kind);
        if (!g.waiting.empty()) {
            g.expected = g.waiting.last->seen_;
            g.look = end_of_nap(g, os::monotonic_ns());
            kick(*lanes_[g.lane]);
        }
        drop_if_empty(g);
    }

    std::int64_t next_nap(std::int64_t nap) const noexcept {
        const std::int64_t all = std::min(notes_, kNapAtMost / kNapPerNote) * kNapPerNote;
        return all > kLongestNap ? all : std::min(nap * 2, kLongestNap);
    }
    // Naps end together, so that a loop with many notes wakes up once for many of them.
    static std::int64_t end_of_nap(const NoteGroup& g, std::int64_t now) noexcept {
        const std::int64_t end = now + g.nap, step = std::min(g.nap / 4, kLongestNap / 4);
        return g.nap <= kFirstNap || step == 0 ? end : end / step * step;
    }

    // ---- pools

    // One of its notes looks for dead processes. Whether a member has left or died since the last
    // time, so that all of them must try again.
    bool look_at_pool(NoteGroup& g, std::int64_t now) noexcept {
        PoolOfNotes& pool = *g.pool;
        pool.look = now + kPoolLook;
        g.waiting.first->turn_ = true;
        if (pool.all_again > now) return false;
        const u64 epoch = g.me->epoch();
        if (std::exchange(pool.epoch, epoch) == epoch) return false;
        pool.all_again = now + notes_ * kAgainPerNote;
        return true;
    }
    void wake_pool(const PoolOfNotes* pool) noexcept {
        for (auto at = groups_.begin(); at != groups_.end();) {
            NoteGroup& g = *(at++)->second;
            if (g.pool == pool && g.holder == nullptr && !g.waiting.empty()) wake(g, true);
        }
    }

    // ---- lanes

    bool add_lane() {
        auto lane = std::make_unique<Lane>();
        lane->groups.reserve(kLaneWords);
        lanes_.reserve(lanes_.size() + 1);
        if (!os::start_thread(
                [](void* of) {
                    Watcher* const self = current_.load();
                    self->run(*static_cast<Lane*>(of));
                },
                lane.get()))
            return false;
        lanes_.push_back(std::move(lane));
        return true;
    }
    // The thread looks at its groups again.
    static void kick(Lane& lane) noexcept {
        if (!lane.asleep) return;
        __atomic_fetch_add(&lane.kick, 1, __ATOMIC_SEQ_CST);
        os::futex_wake(&lane.kick, 1);
    }
    [[noreturn]] void run(Lane& lane) noexcept {
        std::unique_lock guard(mutex_);
        for (;;) {
            const std::int64_t until = list_words(lane);
            lane.asleep = true;
            guard.unlock();
            const int woken = os::futex_wait_any(lane.words.data(), lane.n, until);
            guard.lock();
            lane.asleep = false;
            look_at_words(lane, woken);
            ++lane.round;
            rounds_.notify_all();
            // Its list is long, and notes often come one after the other. It waits for more of
            // them, instead of listing all words again for each.
            if (lane.groups.size() <= kShortList) continue;
            guard.unlock();
            os::nap(kPause);
            guard.lock();
        }
    }
    static std::int64_t list_words(Lane& lane) noexcept {
        std::int64_t until = WaitPolicy::kForever;
        lane.words[0] = {&lane.kick, lane.kick};
        lane.n = 1;
        for (NoteGroup* g : lane.groups) {
            g->slept_on = false;
            // Also if none waits behind a holder: a note that comes later does not wake the thread.
            if (g->waiting.empty() && g->holder == nullptr) continue;
            if (until < 0 || g->look < until) until = g->look;
            if (g->holder != nullptr) continue;
            until = std::min(until, g->pool->look);
            g->slept_on = true;
            lane.words[lane.n] = {g->word->word(), g->expected};
            lane.shared[lane.n] = g->word;
            lane.kinds[lane.n++] = g->kind;
        }
        return until;
    }
    void look_at_words(Lane& lane, int woken) noexcept {
        for (NoteGroup* g : lane.groups)
            g->slept_on = false;
        for (std::size_t i = 1; i < lane.n; ++i) {
            // The kernel names one of those that were woken, and a wake moves the word. So all that
            // have another value count as woken.
            if (woken != static_cast<int>(i) && lane.shared[i]->load() == lane.words[i].expected)
                continue;
            const auto at = groups_.find(lane.shared[i]);
            if (at == groups_.end()) {
                pass_on(*lane.shared[i], lane.kinds[i]);  // all its notes have ended meanwhile
            } else if (NoteGroup& g = *at->second; g.holder == nullptr) {
                wake(g, false);
            }
        }
        const std::int64_t now = os::monotonic_ns();
        // From the end: a group that has no notes any more goes.
        for (std::size_t i = lane.groups.size(); i-- > 0;) {
            NoteGroup& g = *lane.groups[i];
            if (g.waiting.empty() && g.holder == nullptr) continue;
            const bool look = g.holder == nullptr && now >= g.pool->look;
            if (look && look_at_pool(g, now)) {
                wake_pool(g.pool);
                i = std::min(i, lane.groups.size());
                continue;
            }
            if (!look && (g.look == 0 || now < g.look)) continue;
            if (g.holder == nullptr) {
                wake(g, true);
            } else {
                std::exchange(g.holder, nullptr)->baton_ = nullptr;
                if (fire_one(g, false)) continue;
                pass_on(*g.word, g.kind);  // its wake is for a process that tries
                wake(g, true);
            }
        }
    }

    static inline std::atomic<Watcher*> current_{nullptr};
    std::mutex mutex_;
    std::condition_variable rounds_;
    std::map<shm_atomic<u32>*, std::unique_ptr<NoteGroup>> groups_;
    std::map<Liveness*, PoolOfNotes> pools_;
    std::vector<std::unique_ptr<Lane>> lanes_;
    Note* newest_ = nullptr;
    std::int64_t notes_ = 0;  // waits that are not over
};

// ---- for bindings -------------------------------------------------------------------------------

Sink::Sink() noexcept : fd_(os::make_eventfd()) {}
Sink::~Sink() {
    if (fd_ >= 0) os::close_eventfd(fd_);
}
Note* Sink::take() noexcept {
    if (Watcher* const w = Watcher::there()) return w->take(*this);
    os::clear_eventfd(fd_);
    return nullptr;
}

void Sink::ring() noexcept {
    os::signal_eventfd(fd_);
}

void Note::put(Liveness& me, shm_atomic<u32>& word, WordKind kind, u32 seen, bool soon,
               bool for_all) noexcept {
    Watcher* const w = Watcher::make();
    noted_ = w != nullptr && w->put(*this, me, word, kind, seen, soon, for_all);
    failed_ = !noted_;
}
void Note::end(bool unused) noexcept {
    // In a forked child there is nothing to end: its parent's watcher is not there.
    if (watcher_ != nullptr && watcher_ == Watcher::there()) watcher_->end(*this, unused);
    noted_ = failed_ = remembers_ = nap_ = turn_ = false;
}
bool Note::had_a_nap() noexcept {
    return std::exchange(nap_, false);
}
bool Note::has_turn() noexcept {
    return std::exchange(turn_, false);
}
u32 Note::first_seen(u32 now) noexcept {
    if (!std::exchange(remembers_, true)) first_ = now;
    return first_;
}

void forget_notes(const void* from, std::size_t length) noexcept {
    if (Watcher* const w = Watcher::there()) w->forget(from, length);
}
void tell_notes(const void* from, std::size_t length) noexcept {
    if (Watcher* const w = Watcher::there()) w->tell(from, length);
}

}  // namespace onecopy
