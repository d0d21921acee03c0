// Kills a member at each of its crash points in turn. Then checks that the others can work, with
// nothing lost and nothing leaked. Then kills the recoverer at each of *its* crash points.
//
//|  crash_test                      a slice of everything; seed=7 is another one
//|  crash_test brief                the first and the last steps of everything, a few in between
//|  crash_test full                 every crash point of every operation
//|  crash_test nested               many crash points, and for each of them many of its recoverer's
//|  crash_test everything           every crash point of the recoverer for every one of the
//|                                  operation: quadratic, takes hours
//|  crash_test ... seed=7 only=put  that seed; operations whose name contains the text
#include "tests/crash_containers.hpp"
#include "tests/crash_files.hpp"
#include "tests/crash_locks.hpp"
#include "tests/crash_operations.hpp"
#include "tests/crash_segments.hpp"
#include "tests/descendants.hpp"

#if defined(ONECOPY_FAULTS) && ONECOPY_FAULTS

extern "C" const char __executable_start;  // where the program was loaded; from the linker

using namespace onecopy;
using namespace onecopy::campaign;

namespace {

constexpr u64 kCompletes = 1'000'000;  // a step that no operation reaches
constexpr unsigned kHang = 20;         // seconds

// Whether recovery has a time limit. Only in long runs, which have a machine for themselves. In a
// slice, beside other tests, only the watchdog ends it.
bool timed = false;

char what[160];  // the case that is tried, for messages

enum Outcome : int { kDied = 0, kFailed = 1, kCompleted = 10 };

// Which process cleans up first.
enum class Rescue { survivor, newcomer, nobody };

void act_as_recoverer(int fd, u64 step) {
    crash_after(step, &ledger().recoverer);
    auto m = test::join_pool(fd);
    collect_dead(*m);
    ledger().recovery_steps = crash_steps();
    crash_after(0);
    kill(getpid(), SIGKILL);
}

void act_as_actor(const Operation& op, int fd, u64 step) {
    Ledger& l = ledger();
    if (op.flags & kJoining) crash_after(step, &l.actor);
    auto m = test::join_pool(fd);
    if (!(op.flags & kJoining)) {
        Hand h(*m);
        op.ready(h);
        if (step != 0) {
            (op.flags & kChild ? crash_child_after : crash_after)(step, &l.actor);
            op.act(h);
        }
    }
    if (!(op.flags & kChild)) l.steps = crash_steps();
    crash_after(0);
    l.note[7] = 1;            // it has ended
    kill(getpid(), SIGKILL);  // it dies with everything that it has
}

// Every process that comes out of `start`, adopted ones included, has ended when this returns.
template <class Start>
void to_the_end(Start start) {
    test::Descendants descendants;
    const pid_t child = fork();
    if (child == 0) {
        start();
        _exit(kFailed);
    }
    int status = 0;
    CHECK(waitpid(child, &status, 0) == child && WIFSIGNALED(status) &&
          WTERMSIG(status) == SIGKILL);
    descendants.await();
}

void rescue(Hand& survivor, int fd, Rescue by) {
    if (by == Rescue::survivor) collect_dead(survivor.m);
    if (by == Rescue::newcomer) {
        auto m = test::join_pool(fd);
        collect_dead(*m);
    }
    if (by == Rescue::nobody) {
        use_everything(survivor);
        collect_dead(survivor.m);
    }
}

void compare(const Operation& op, const State& now) {
    Ledger& l = ledger();
    for (int f = 0; f < State::fields; ++f) {
        if ((op.flags & kInBetween) && f != State::content) continue;
        const u64 before = l.before.of[f], after = l.after.of[f], is = now.of[f];
        bool good = is == before || is == after;
        if (op.flags & kMany) good = is >= std::min(before, after) && is <= std::max(before, after);
        // What has happened at one step has happened at all later ones.
        else if (before != after && l.seen.of[f] == 1 && is == before)
            good = false;
        if (!good)
            std::fprintf(stderr, "%s: %s is %lu; %lu before the operation, %lu after it\n", what,
                         kFieldNames[f], is, before, after);
        CHECK(good);
        if (is != before) l.seen.of[f] = 1;
    }
}

// One world. step 0: the actor gets ready, and does nothing.
[[noreturn]] void world(const Operation& op, u64 step, u64 recoverer_step, Rescue by, bool again) {
    alarm(kHang);
    test::Descendants::adopt();
    Ledger& l = ledger();
    const int fd = make_world(op.rows);
    auto member = test::join_pool(fd);
    Hand survivor(*member);
    const HeapStats idle = heap_stats(*member);
    op.prepare(survivor);
    l.steps = l.recovery_steps = 0;
    l.note[7] = 0;
    to_the_end([&] { act_as_actor(op, fd, step); });
    // It died where it had to, or it ended; nothing else.
    const bool died = l.actor.step != 0;
    if (died) CHECK(l.actor.step == step);
    if (!(op.flags & kChild)) CHECK(died != (l.note[7] == 1));
    bool recoverer_died = false;
    if (recoverer_step != 0) {
        to_the_end([&] { act_as_recoverer(fd, recoverer_step); });
        recoverer_died = l.recoverer.step != 0;
        if (recoverer_died) CHECK(l.recoverer.step == recoverer_step);
        CHECK(recoverer_died != (l.recovery_steps != 0));
    }
    const std::int64_t start = os::monotonic_ns();
    rescue(survivor, fd, by);
    const bool pristine = by != Rescue::nobody;
    State now;
    if (pristine) {
        CHECK(occupied_rows(*member) == 1);
        test::expect_sound(*member, what);
        now = measure(survivor);
    }
    const std::int64_t took = os::monotonic_ns() - start;
    l.slowest = std::max(l.slowest, took);
    CHECK(!timed || took < kRecoveryBound);
    if (step == 0)
        l.before = now;
    else if (step == kCompletes)
        l.after = now;
    else if (pristine)
        compare(op, now);
    expect_idle(survivor, idle, what);
    if (again) {
        op.prepare(survivor);
        to_the_end([&] { act_as_actor(op, fd, kCompletes); });
        CHECK(l.note[7] == 1);
        collect_dead(*member);
        expect_idle(survivor, idle, what);
    }
    if (recoverer_step != 0) _exit(recoverer_died ? kDied : kCompleted);
    _exit(died ? kDied : kCompleted);
}

template <class World>
Outcome in_a_process(World run) {
    std::fflush(stdout);
    const pid_t child = fork();
    if (child == 0) run();
    int status = 0;
    CHECK(waitpid(child, &status, 0) == child);
    if (WIFEXITED(status) && (WEXITSTATUS(status) == kDied || WEXITSTATUS(status) == kCompleted))
        return static_cast<Outcome>(WEXITSTATUS(status));
    const bool hung = WIFSIGNALED(status) && WTERMSIG(status) == SIGALRM;
    std::fprintf(stderr, "FAILED: %s: %s (status %d)\n", what, hung ? "it hung" : "see above",
                 status);
    // Where the actor died, for addr2line.
    std::fprintf(stderr, "  the actor died at %#lx, the recoverer at %#lx\n",
                 ledger().actor.place - reinterpret_cast<u64>(&__executable_start),
                 ledger().recoverer.place == 0
                     ? 0
                     : ledger().recoverer.place - reinterpret_cast<u64>(&__executable_start));
    std::exit(1);
}

constexpr u64 kAll = ~u64{0};

struct Plan {
    u64 deaths = 24;       // of each operation, about
    u64 nested_every = 5;  // one of so many has a recoverer that dies; 0: none
    u64 nested = 5;        // deaths of a recoverer, about
    u64 again_every = 4;
    u64 seed = 0;
    const char* only = "";
    // Always the first and the last ones, and some of those in between.
    bool takes(u64 step, u64 last, u64 wanted) const {
        if (step <= 2 || step + 2 > last || last <= wanted) return true;
        return (step + seed) % ((last + wanted - 1) / wanted) == 0;
    }
};

struct Totals {
    u64 operations = 0, steps = 0, deaths = 0, nested = 0;
};

void try_operation(const Operation& op, const Plan& plan, Totals& totals) {
    Ledger& l = ledger();
    l.seen = {};
    std::snprintf(what, sizeof what, "%s, only getting ready", op.name);
    in_a_process([&] { world(op, 0, 0, Rescue::survivor, false); });
    std::snprintf(what, sizeof what, "%s, going through", op.name);
    in_a_process([&] { world(op, kCompletes, 0, Rescue::survivor, false); });
    u64 last = l.steps;
    u64 deaths = 0, nested = 0;
    if (op.flags & kChild) {  // nobody counts the child's steps for it
        for (last = 1; in_a_process([&] { world(op, last, 0, Rescue::survivor, false); }) == kDied;
             ++last) {
        }
        --last;
        l.seen = {};
    }
    CHECK(last != 0);
    for (u64 step = 1; step <= last; ++step) {
        if (!plan.takes(step, last, plan.deaths)) continue;
        const auto by = static_cast<Rescue>((step + plan.seed) % 3);
        std::snprintf(what, sizeof what, "%s, killed at step %lu of %lu, rescue %d", op.name, step,
                      last, static_cast<int>(by));
        if (in_a_process([&] {
                world(op, step, 0, by, (step + plan.seed) % plan.again_every == 0);
            }) == kCompleted)
            break;
        ++deaths;
        if (plan.nested_every == 0 || (deaths + plan.seed) % plan.nested_every != 0) continue;
        // How many steps the recoverer has.
        u64 inner_last = 0;
        std::snprintf(what, sizeof what, "%s, killed at step %lu, recovered by another", op.name,
                      step);
        in_a_process([&] { world(op, step, kCompletes, Rescue::survivor, false); });
        inner_last = l.recovery_steps;
        for (u64 inner = 1; inner <= inner_last; ++inner) {
            if (!plan.takes(inner, inner_last, plan.nested)) continue;
            const auto then = static_cast<Rescue>((step + inner + plan.seed) % 3);
            std::snprintf(what, sizeof what,
                          "%s, killed at step %lu of %lu, its recoverer at %lu of %lu, rescue %d",
                          op.name, step, last, inner, inner_last, static_cast<int>(then));
            if (in_a_process([&] { world(op, step, inner, then, false); }) == kCompleted) break;
            ++nested;
        }
    }
    std::printf("%-36s %4lu steps, %4lu deaths, %5lu of recoverers\n", op.name, last, deaths,
                nested);
    ++totals.operations;
    totals.steps += last;
    totals.deaths += deaths;
    totals.nested += nested;
}

// ---- files
// -------------------------------------------------------------------------------------------------

// `hidden`: on a file system without unnamed files.
[[noreturn]] void file_world(const FileCase& one, bool memfd, bool hidden, u64 step) {
    alarm(kHang);
    Ledger& l = ledger();
    l.actor = {};
    l.steps = 0;
    char path[] = "/dev/shm/onecopy-crash-XXXXXX";
    CHECK(mkdtemp(path) != nullptr);
    directory_of_world() = path;
    os::without_unnamed_files(hidden);
    Process actor([&] {
        Joined pool;
        one.ready(memfd, pool);
        crash_after(step, &l.actor);
        one.act(memfd, pool);
        l.steps = crash_steps();
        crash_after(0);
        kill(getpid(), SIGKILL);
    });
    Process outsider([&] { come_after(one, memfd); });
    Joined survivor;
    if (one.survivor) made(memfd, survivor);
    int status = actor.run();
    CHECK(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL);
    const bool died = l.actor.step != 0;
    if (died) CHECK(l.actor.step == step);
    CHECK(died != (l.steps != 0));
    const std::int64_t start = os::monotonic_ns();
    status = outsider.run();
    CHECK(WIFEXITED(status) && WEXITSTATUS(status) == 0);
    if (survivor != nullptr) work_in(*survivor);
    const std::int64_t took = os::monotonic_ns() - start;
    l.slowest = std::max(l.slowest, took);
    CHECK(!timed || took < kRecoveryBound);
    survivor.reset();
    CHECK(files_in_directory() == 0);
    CHECK(rmdir(path) == 0);
    _exit(died ? kDied : kCompleted);
}

void try_files(const FileCase& one, bool memfd, bool hidden, const Plan& plan, Totals& totals) {
    const char* const kind = hidden  ? (memfd ? "hidden memfd" : "hidden")
                             : memfd ? "memfd"
                                     : "file";
    std::snprintf(what, sizeof what, "%s (%s), going through", one.name, kind);
    CHECK(in_a_process([&] { file_world(one, memfd, hidden, kCompletes); }) == kCompleted);
    const u64 last = ledger().steps;
    u64 deaths = 0;
    for (u64 step = 1; step <= last; ++step) {
        if (!plan.takes(step, last, plan.deaths)) continue;
        std::snprintf(what, sizeof what, "%s (%s), killed at step %lu of %lu", one.name, kind, step,
                      last);
        CHECK(in_a_process([&] { file_world(one, memfd, hidden, step); }) == kDied);
        ++deaths;
    }
    std::printf("%-33s %-12s %4lu steps, %4lu deaths\n", one.name, kind, last, deaths);
    ++totals.operations;
    totals.steps += last;
    totals.deaths += deaths;
}

// ---- shared-memory segments ---------------------------------------------------------------------

// `hidden`: on a file system without unnamed files. `sweeper_step`: where a process dies that
// sweeps after the actor's death; 0: there is none.
[[noreturn]] void segment_world(const SegmentCase& one, bool hidden, u64 step, u64 sweeper_step) {
    alarm(kHang);
    Ledger& l = ledger();
    l.actor = l.recoverer = {};
    l.steps = l.recovery_steps = l.note[7] = 0;
    char path[] = "/dev/shm/onecopy-crash-XXXXXX";
    CHECK(mkdtemp(path) != nullptr);
    directory_of_world() = path;
    os::without_unnamed_files(hidden);
    Process actor([&] {
        Held held;
        one.ready(held);
        crash_after(step, &l.actor);
        one.act(held);
        l.steps = crash_steps();
        l.note[7] = 1;  // it went through
        crash_after(0);
        kill(getpid(), SIGKILL);
    });
    Process sweeper([&] {
        crash_after(sweeper_step, &l.recoverer);
        sweep_all();
        l.recovery_steps = crash_steps();
        crash_after(0);
        kill(getpid(), SIGKILL);
    });
    Process outsider([&] { sweep_after(one); });
    Held survivor;
    if (one.survivor == Survivor::holds) {
        stale_but_held(survivor);
    } else if (one.survivor != Survivor::none) {
        CHECK(make_segment(survivor) == Status::ok);
        if (one.survivor == Survivor::owns) survivor->release();
    }
    int status = actor.run();
    CHECK(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL);
    const bool died = l.actor.step != 0;
    if (died) CHECK(l.actor.step == step);
    CHECK(died != (l.note[7] == 1));
    bool sweeper_died = false;
    if (sweeper_step != 0) {
        status = sweeper.run();
        CHECK(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL);
        sweeper_died = l.recoverer.step != 0;
    }
    status = outsider.run();
    CHECK(WIFEXITED(status) && WEXITSTATUS(status) == 0);
    if (survivor != nullptr && one.survivor != Survivor::owns) {
        expect_whole(*survivor);
        CHECK(one.may_lose_name || survivor->has_name());
    }
    if (survivor != nullptr) {
        // Its own end: it takes along what it owns.
        keep_segments();
        release_segments(path);
        CHECK(survivor->number() == -1);
    }
    CHECK(files_in_directory() == 0);
    CHECK(rmdir(path) == 0);
    if (sweeper_step != 0) _exit(sweeper_died ? kDied : kCompleted);
    _exit(died ? kDied : kCompleted);
}

void try_segments(const SegmentCase& one, bool hidden, const Plan& plan, Totals& totals) {
    Ledger& l = ledger();
    const char* const kind = hidden ? "hidden" : "unnamed";
    std::snprintf(what, sizeof what, "%s (%s), going through", one.name, kind);
    CHECK(in_a_process([&] { segment_world(one, hidden, kCompletes, 0); }) == kCompleted);
    const u64 last = l.steps;
    u64 deaths = 0, nested = 0;
    for (u64 step = 1; step <= last; ++step) {
        if (!plan.takes(step, last, plan.deaths)) continue;
        std::snprintf(what, sizeof what, "%s (%s), killed at step %lu of %lu", one.name, kind, step,
                      last);
        CHECK(in_a_process([&] { segment_world(one, hidden, step, 0); }) == kDied);
        ++deaths;
        if (plan.nested_every == 0 || (deaths + plan.seed) % plan.nested_every != 0) continue;
        std::snprintf(what, sizeof what, "%s (%s), killed at step %lu, swept by another", one.name,
                      kind, step);
        in_a_process([&] { segment_world(one, hidden, step, kCompletes); });
        const u64 inner_last = l.recovery_steps;
        for (u64 inner = 1; inner <= inner_last; ++inner) {
            if (!plan.takes(inner, inner_last, plan.nested)) continue;
            std::snprintf(what, sizeof what,
                          "%s (%s), killed at step %lu of %lu, its sweeper at %lu of %lu", one.name,
                          kind, step, last, inner, inner_last);
            CHECK(in_a_process([&] { segment_world(one, hidden, step, inner); }) == kDied);
            ++nested;
        }
    }
    std::printf("%-46s %-7s %4lu steps, %4lu deaths, %5lu of sweepers\n", one.name, kind, last,
                deaths, nested);
    ++totals.operations;
    totals.steps += last;
    totals.deaths += deaths;
    totals.nested += nested;
}

}  // namespace

int main(int argc, char** argv) {
    Plan plan;
    bool timings = false;
    for (int i = 1; i < argc; ++i) {
        const std::string_view arg = argv[i];
        timed |= arg == "timed" || arg == "full" || arg == "nested" || arg == "everything";
        if (arg == "brief") plan.deaths = 3, plan.nested_every = 7, plan.nested = 1;
        if (arg == "full") plan.deaths = kAll, plan.nested_every = 0, plan.again_every = 1;
        if (arg == "nested") plan.deaths = 60, plan.nested_every = 1, plan.nested = 30;
        if (arg == "everything")
            plan.deaths = plan.nested = kAll, plan.nested_every = 1, plan.again_every = 1;
        if (arg == "timings") timings = true;
        if (arg.starts_with("seed=")) plan.seed = std::strtoull(argv[i] + 5, nullptr, 10);
        if (arg.starts_with("only=")) plan.only = argv[i] + 5;
    }
    std::printf("crash: seed=%lu\n", plan.seed);
    crash_after(0);  // its fork handler comes before the pools'
    ledger();        // before the first fork, so that all processes have it
    install_recovery();
    const std::int64_t start = os::monotonic_ns();
    Totals totals;
    auto try_it = [&](const Operation& op) {
        if (std::strstr(op.name, plan.only) == nullptr) return;
        const std::int64_t from = os::monotonic_ns();
        try_operation(op, plan, totals);
        if (timings)
            std::printf("    %.2f s\n", static_cast<double>(os::monotonic_ns() - from) / 1e9);
    };
    for (const Operation& op : kOperations)
        try_it(op);
    for (const Operation& op : kLockOperations)
        try_it(op);
    for (const Operation& op : kContainerOperations)
        try_it(op);
    for (const FileCase& one : kFileCases) {
        for (bool memfd : {false, true}) {
            if (std::strstr(one.name, plan.only) == nullptr || (memfd && one.persistent)) continue;
            try_files(one, memfd, false, plan, totals);
            if (std::strncmp(one.name, "create", 6) == 0) try_files(one, memfd, true, plan, totals);
        }
    }
    for (const SegmentCase& one : kSegmentCases) {
        for (bool hidden : {false, true}) {
            if (std::strstr(one.name, plan.only) != nullptr)
                try_segments(one, hidden, plan, totals);
        }
    }
    std::printf(
        "crash: %lu operations, %lu crash points, %lu deaths, %lu deaths of recoverers, all "
        "survived; slowest recovery %.1f ms; %.1f s\n",
        totals.operations, totals.steps, totals.deaths, totals.nested,
        static_cast<double>(ledger().slowest) / 1e6,
        static_cast<double>(os::monotonic_ns() - start) / 1e9);
    return 0;
}
#else
int main() {
    std::puts("crash: skipped, needs -DONECOPY_FAULTS=ON");
    return 0;
}
#endif
