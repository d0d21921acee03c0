// How two processes of interleave_test.cpp meet: what they tell each other, and how one is paused
// while the other one acts.
#pragma once
#include <poll.h>
#include <sys/prctl.h>

#include <ctime>
#include <thread>

#include "tests/crash_operations.hpp"

#if defined(ONECOPY_FAULTS) && ONECOPY_FAULTS

namespace onecopy::interleave {

using namespace onecopy::campaign;

constexpr u64 kNever = 1'000'000;
constexpr std::int64_t kWaits = 20'000'000;     // ns without an end: B waits for A
constexpr std::int64_t kWakes = 2'000'000'000;  // ns in which it must notice that A has continued
constexpr std::int64_t kLongNap = 10'000'000'000;  // longer than that: only a wake helps
constexpr unsigned kHang = 30;

inline char what[160];

// What the two tell each other and the campaign. In shared memory, outside of the pool.
struct Stage {
    std::atomic<u32> a_ready, b_ready, a_go, b_go, a_done, b_done, a_after, b_after;
    std::atomic<u64> handle[4];         // what one of them made, for the other
    std::atomic<u64> mine[2];           // index of the frame each got
    std::atomic<u32> readers, writers;  // inside of a lock
    std::atomic<u32> said[2];           // a Status: what the operation on a file answered
    std::atomic<u64> pool[3];           // the id of the pool that it is a member of; 0: none
};
inline Stage& stage() {
    static Stage* const it = static_cast<Stage*>(
        mmap(nullptr, sizeof(Stage), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0));
    return *it;
}
inline bool comes(const std::atomic<u32>& flag, std::int64_t within) {
    const std::int64_t end = os::monotonic_ns() + within;
    while (flag.load() == 0) {
        if (os::monotonic_ns() > end) return false;
        const timespec nap{0, 50'000};
        nanosleep(&nap, nullptr);
    }
    return true;
}
inline void await(const std::atomic<u32>& flag) {
    CHECK(comes(flag, std::int64_t{kHang} * 1'000'000'000));
}

struct Pair {
    const char* name;
    void (*prepare)(Hand& survivor);
    void (*ready_a)(Hand&);
    void (*a)(Hand&);
    void (*ready_b)(Hand&);
    void (*b)(Hand&);
    bool dead = false;  // a process died before with a lock: no wake comes from there
};

template <class Run>
pid_t start(Run run) {
    const pid_t child = fork();
    if (child == 0) run();
    CHECK(child > 0);
    return child;
}
inline void ends_well(pid_t child) {
    int status = 0;
    CHECK(waitpid(child, &status, 0) == child && WIFEXITED(status) && WEXITSTATUS(status) == 0);
}

enum Outcome : int { kPaused = 0, kPausedAndWaited = 11, kWentThrough = 10 };

struct Meeting {
    bool paused = false, b_waited = false;
    Outcome outcome() const {
        return paused ? (b_waited ? kPausedAndWaited : kPaused) : kWentThrough;
    }
};

// Lets A run until it is paused at the step, or has ended. Then B acts, and A continues. Both are
// ready.
inline Meeting meet(pid_t a, u64 step) {
    Ledger& l = ledger();
    Stage& s = stage();
    Meeting met;
    s.a_go = 1;
    const std::int64_t begun = os::monotonic_ns();
    for (;;) {
        int status = 0;
        const pid_t stopped = waitpid(a, &status, WUNTRACED | WNOHANG);
        if (stopped == a) {
            CHECK(WIFSTOPPED(status) && WSTOPSIG(status) == SIGSTOP);
            CHECK(l.actor.step == step);
            met.paused = true;
            break;
        }
        if (comes(s.a_done, 200'000)) break;
        // A may have to wait for B before it gets there: then B goes first.
        if (os::monotonic_ns() - begun > kWaits) s.b_go = 1;
    }
    s.b_go = 1;
    if (met.paused) {
        met.b_waited = !comes(s.b_done, kWaits);
        CHECK(kill(a, SIGCONT) == 0);
    }
    CHECK(comes(s.a_done, kWakes));
    CHECK(comes(s.b_done, kWakes));  // no wake is lost
    return met;
}

}  // namespace onecopy::interleave

#endif
