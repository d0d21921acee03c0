// Pauses a process (A) before and after each of its shared stores. Meanwhile another one (B) acts
// from start to end, or until it waits for A. Then A continues. This shows races that deaths do
// not: a look that comes too early, a second look that is missing, a wake that is lost.
//
//|  interleave_test                a slice; seed=7 is another one
//|  interleave_test brief          the first and the last store, and one or two in between
//|  interleave_test full           every crash point
//|  interleave_test only=hold      pairs whose name contains the text
#include <ctime>

#include "tests/interleave_files.hpp"
#include "tests/interleave_pairs.hpp"

#if defined(ONECOPY_FAULTS) && ONECOPY_FAULTS

extern "C" const char __executable_start;  // where the program was loaded; from the linker

using namespace onecopy;
using namespace onecopy::campaign;
using namespace onecopy::interleave;

namespace {

void player(int fd, bool is_a, const Pair& pair, u64 step, bool before) {
    Stage& s = stage();
    auto m = test::join_pool(fd);
    {
        Hand h(*m);
        (is_a ? pair.ready_a : pair.ready_b)(h);
        (is_a ? s.a_ready : s.b_ready) = 1;
        await(is_a ? s.a_go : s.b_go);
        if (is_a) {
            (before ? stop_before : stop_at)(step, &ledger().actor);
            pair.a(h);
            ledger().steps = crash_steps();
            stop_at(0);
        } else {
            pair.b(h);
        }
        (is_a ? s.a_done : s.b_done) = 1;
        await(is_a ? s.a_after : s.b_after);
        if (m->joined) {
            scribble(h);
            verify_and_drop(h);
        }
    }
    m.reset();
    _exit(0);
}

[[noreturn]] void world(const Pair& pair, u64 step, bool before) {
    alarm(kHang);
    Ledger& l = ledger();
    Stage& s = stage();
    const int fd = make_world(8);
    std::memset(static_cast<void*>(&s), 0, sizeof s);
    auto member = test::join_pool(fd);
    Hand survivor(*member);
    const HeapStats idle = heap_stats(*member);
    pair.prepare(survivor);
    // Nobody dies from here on, so nobody needs to look by itself: a wake must end every wait.
    if (!pair.dead) kFirstNap = kLongestNap = kLongNap;
    l.steps = 0;
    l.actor = {};
    const pid_t a = start([&] { player(fd, true, pair, step, before); });
    await(s.a_ready);
    const pid_t b = start([&] { player(fd, false, pair, 0, false); });
    await(s.b_ready);
    const Meeting met = meet(a, step);
    s.a_after = 1;
    s.b_after = 1;
    ends_well(a);
    ends_well(b);
    CHECK(met.paused || l.actor.step == 0);
    CHECK(occupied_rows(*member) == 1);
    test::expect_sound(*member, what);
    // With two producers or consumers, the order between them is their own affair.
    Message msg;
    u64 in_queue = survivor.queues[0].size();
    if (in_queue == 0) l.taken[0] = 0;
    if (survivor.queues[1].size() == 0) l.taken[1] = 0;
    expect_idle(survivor, idle, what);
    _exit(met.outcome());
}

template <class World>
int in_a_process(World run) {
    std::fflush(stdout);
    const pid_t child = fork();
    if (child == 0) {
        setpgid(0, 0);  // so that none is left behind when it fails
        run();
    }
    int status = 0;
    CHECK(waitpid(child, &status, 0) == child);
    if (WIFEXITED(status) &&
        (WEXITSTATUS(status) == kPaused || WEXITSTATUS(status) == kPausedAndWaited ||
         WEXITSTATUS(status) == kWentThrough)) {
        return WEXITSTATUS(status);
    }
    kill(-child, SIGKILL);
    const bool hung = WIFSIGNALED(status) && WTERMSIG(status) == SIGALRM;
    std::fprintf(stderr, "FAILED: %s: %s (status %d)\n  A was paused at %#lx\n", what,
                 hung ? "it hung" : "see above", status,
                 ledger().actor.place == 0
                     ? 0
                     : ledger().actor.place - reinterpret_cast<u64>(&__executable_start));
    std::exit(1);
}

}  // namespace

int main(int argc, char** argv) {
    bool full = false;
    u64 seed = 0, slice = 8;
    const char* only = "";
    for (int i = 1; i < argc; ++i) {
        const std::string_view arg = argv[i];
        if (arg == "full") full = true;
        if (arg == "brief") slice = 1;
        if (arg.starts_with("seed=")) seed = std::strtoull(argv[i] + 5, nullptr, 10);
        if (arg.starts_with("only=")) only = argv[i] + 5;
    }
    std::printf("interleave: seed=%lu\n", seed);
    crash_after(0);  // its fork handler comes before the pools'
    ledger();        // before the first fork, so that all processes have them
    stage();
    const std::int64_t begin = os::monotonic_ns();
    u64 pairs = 0, points = 0, pauses = 0, waits = 0;
    // `run` is the world of a pair with A paused at a step.
    auto try_pair = [&](const char* name, auto run) {
        if (std::strstr(name, only) == nullptr) return;
        std::snprintf(what, sizeof what, "%s, without a pause", name);
        CHECK(in_a_process([&] { run(kNever, false); }) == kWentThrough);
        const u64 last = ledger().steps;
        const u64 stride = full ? 1 : std::max<u64>(1, last / slice);
        u64 paused = 0, waited = 0;
        for (u64 step = 1; step <= last; ++step) {
            if (step > 1 && step + 1 <= last && (step + seed) % stride != 0) continue;
            for (bool before : {true, false}) {
                std::snprintf(what, sizeof what, "%s, paused %s store %lu of %lu", name,
                              before ? "before" : "after", step, last);
                const int outcome = in_a_process([&] { run(step, before); });
                paused += outcome != kWentThrough;
                waited += outcome == kPausedAndWaited;
            }
        }
        std::printf("%-32s %4lu crash points, %4lu pauses, %4lu in which the other one waited\n",
                    name, last, paused, waited);
        ++pairs;
        points += last;
        pauses += paused;
        waits += waited;
    };
    for (const Pair& pair : kPairs)
        try_pair(pair.name, [&](u64 step, bool before) { world(pair, step, before); });
    for (const FilePair& pair : kFilePairs) {
        for (const bool memfd : {false, true}) {
            char name[80];
            std::snprintf(name, sizeof name, "%s (%s)", pair.name, memfd ? "memfd" : "file");
            try_pair(name, [&](u64 step, bool before) { file_world(pair, memfd, step, before); });
        }
    }
    std::printf(
        "interleave: %lu pairs, %lu crash points, %lu pauses, %lu waits, all sound; %.1f s\n",
        pairs, points, pauses, waits, static_cast<double>(os::monotonic_ns() - begin) / 1e9);
    return 0;
}
#else
int main() {
    std::puts("interleave: skipped, needs -DONECOPY_FAULTS=ON");
    return 0;
}
#endif
