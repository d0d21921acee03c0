// A process loses something in the middle of an operation. It may be the pool's descriptor, which
// another part of the program has closed or made another file; the last free descriptors; or the
// rest of its memory. The operation may fail with an error, or continue. The process must not be
// ended by it, and no other process may be harmed: no living member is taken for dead, no other
// file is written, no name of a pool in use is removed, nothing leaks.
//
//|  losses_test                        every kind; a slice of the steps
//|  losses_test brief                  of each kind, every fourth operation
//|  losses_test replaced               one kind: closed, replaced, descriptors, memory, files
//|  losses_test ... full seed=7 only=put
#include <sys/resource.h>

#include <algorithm>
#include <string_view>

#include "base/private_memory.hpp"
#include "tests/crash_containers.hpp"
#include "tests/crash_files.hpp"
#include "tests/crash_locks.hpp"
#include "tests/crash_operations.hpp"
#include "tests/descendants.hpp"

#if defined(ONECOPY_FAULTS) && ONECOPY_FAULTS

using namespace onecopy;
using namespace onecopy::campaign;

namespace {

constexpr u64 kNever = 1'000'000;
constexpr unsigned kHang = 20;         // seconds
constexpr u64 kOtherBytes = 6 * kMiB;  // of the other file: more than the heap's first extents
constexpr int kMostFree = 5;           // descriptors

char what[160];

enum Outcome : int { kLost = 0, kWentThrough = 10 };

// In the ledger: what was done to the actor, and how it ended.
enum Note : int { kInjected = 6, kThrough = 7 };

// ---- the losses
// -------------------------------------------------------------------------------------------------

Member* actor = nullptr;
int other_file = -1;

int make_other_file() {
    const int fd = memfd_create("another file", MFD_CLOEXEC);
    CHECK(fd >= 0 && ftruncate(fd, static_cast<off_t>(kOtherBytes)) == 0);
    static unsigned char page[4096];
    std::memset(page, 0x5a, sizeof page);
    for (u64 at = 0; at < kOtherBytes; at += 2 * sizeof page)  // with holes
        CHECK(pwrite(fd, page, sizeof page, static_cast<off_t>(at)) == sizeof page);
    return fd;
}
u64 blocks_of(int fd) {
    struct stat file{};
    CHECK(fstat(fd, &file) == 0 && file.st_size == static_cast<off_t>(kOtherBytes));
    return static_cast<u64>(file.st_blocks);
}
void expect_untouched(int fd) {
    static unsigned char page[4096];
    for (u64 at = 0; at < kOtherBytes; at += sizeof page) {
        CHECK(pread(fd, page, sizeof page, static_cast<off_t>(at)) == sizeof page);
        const unsigned char is = at / sizeof page % 2 == 0 ? 0x5a : 0;
        CHECK(std::all_of(page, page + sizeof page, [is](unsigned char c) { return c == is; }));
    }
    CHECK(blocks_of(fd) * 512 == kOtherBytes / 2);  // nor is anything reserved in its holes
}

void note_injected(bool done) {
    if (done) ledger().note[kInjected] = 1;
}
void close_descriptor() noexcept {
    const int own = test::descriptor(*actor);
    close(own);
    note_injected(fcntl(own, F_GETFD) < 0);
}
void replace_descriptor() noexcept {
    const int own = test::descriptor(*actor);
    dup2(other_file, own);
    struct stat mine{}, other{};
    note_injected(fstat(own, &mine) == 0 && fstat(other_file, &other) == 0 &&
                  mine.st_ino == other.st_ino);
}

// So that exactly n are free.
void leave_descriptors(u64 n) {
    const rlimit few{64, 64};
    CHECK(setrlimit(RLIMIT_NOFILE, &few) == 0);
    std::vector<int> taken;
    for (int fd; (fd = open("/dev/null", O_RDONLY | O_CLOEXEC)) >= 0;)
        taken.push_back(fd);
    CHECK(errno == EMFILE && taken.size() >= n);
    for (u64 i = 0; i < n; ++i)
        close(taken[i]);
    note_injected(true);
}

enum class Kind : int { closed, replaced, descriptors, memory, files };

// A failed CHECK reports what went wrong. That is expected here, and nobody needs to read it.
void be_quiet() {
    const int null = open("/dev/null", O_WRONLY | O_CLOEXEC);
    CHECK(null >= 0 && dup2(null, STDERR_FILENO) == STDERR_FILENO);
    close(null);
}

// What any member does now and then.
void go_on(Hand& h) {
    collect_dead(h.m);
    release_hold(h, allocate_block(h, 5 * kMiB));
    trim(h.m);
}

void act(const Operation& op, Kind kind, int fd, u64 step) {
    auto m = test::join_pool(fd);
    Hand h(*m);
    actor = m.get();
    op.ready(h);
    be_quiet();
    switch (kind) {
        case Kind::closed:
            call_at(step, close_descriptor, &ledger().actor);
            break;
        case Kind::replaced:
            call_at(step, replace_descriptor, &ledger().actor);
            break;
        case Kind::descriptors:
            call_at(kNever, nullptr);
            leave_descriptors(step - 1);
            break;
        case Kind::memory:
            call_at(kNever, nullptr);
            fail_allocation(step, true);
            break;
        case Kind::files:
            CHECK(false);
    }
    const pid_t me = getpid();
    try {
        op.act(h);
        if (kind != Kind::memory) go_on(h);
    } catch (const std::bad_alloc&) {
        // As the binding does, which makes a MemoryError of it.
    }
    const bool refused = allocations() >= step;
    fail_allocation(0, false);
    if (getpid() != me) _exit(0);
    ledger().steps = crash_steps();
    if (kind == Kind::memory) note_injected(refused);
    ledger().note[kThrough] = 1;
    kill(getpid(), SIGKILL);
}

// It ended by itself: it killed itself, or got an error. Nothing else.
bool may_end_so(int status) {
    return (WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL) ||
           (WIFEXITED(status) && WEXITSTATUS(status) == 1);
}

[[noreturn]] void world(const Operation& op, Kind kind, u64 step) {
    alarm(kHang);
    test::Descendants::adopt();
    Ledger& l = ledger();
    other_file = make_other_file();
    const int fd = make_world(op.rows);
    auto member = test::join_pool(fd);
    Hand survivor(*member);
    const HeapStats idle = heap_stats(*member);
    op.prepare(survivor);
    l.steps = 0;
    l.note[kInjected] = l.note[kThrough] = 0;
    const u32 gen = member->gen;
    test::Descendants descendants;
    const pid_t child = fork();
    if (child == 0) {
        act(op, kind, fd, step);
        _exit(2);
    }
    int status = 0;
    CHECK(waitpid(child, &status, 0) == child);
    if (!may_end_so(status)) std::fprintf(stderr, "it was ended with status %d\n", status);
    CHECK(may_end_so(status));
    descendants.await();
    // The survivor lives, and nobody has taken it for dead.
    CHECK(member->own_row().gen.load() == gen &&
          member->own_row().state.load() == static_cast<u32>(RowState::live));
    expect_untouched(other_file);
    collect_dead(*member);
    CHECK(occupied_rows(*member) == 1);
    test::expect_sound(*member, what);
    if (l.note[kThrough] == 0) {  // it may have got the error before or after the commit
        l.next[0] = std::max(l.next[0], l.taken[0]);
        l.next[1] = std::max(l.next[1], l.taken[1]);
    }
    expect_idle(survivor, idle, what);
    _exit(l.note[kInjected] != 0 ? kLost : kWentThrough);
}

// ---- files, with few descriptors
// -------------------------------------------------------------------------------------------------

[[noreturn]] void file_world(const FileCase& one, bool memfd, u64 step) {
    alarm(kHang);
    Ledger& l = ledger();
    l.note[kInjected] = 0;
    char path[] = "/dev/shm/onecopy-losses-XXXXXX";
    CHECK(mkdtemp(path) != nullptr);
    directory_of_world() = path;
    Process actor_process([&] {
        Joined pool;
        one.ready(memfd, pool);
        be_quiet();
        leave_descriptors(step - 1);
        one.act(memfd, pool);
        kill(getpid(), SIGKILL);
    });
    Process outsider([&] { come_after(one, memfd); });
    Joined survivor;
    if (one.survivor) made(memfd, survivor);
    CHECK(may_end_so(actor_process.run()));
    const int status = outsider.run();
    CHECK(WIFEXITED(status) && WEXITSTATUS(status) == 0);
    if (survivor != nullptr) work_in(*survivor);
    survivor.reset();
    CHECK(files_in_directory() == 0);
    CHECK(rmdir(path) == 0);
    CHECK(l.note[kInjected] == 1);
    _exit(kLost);
}

// ---- all of them
// -------------------------------------------------------------------------------------------------

template <class World>
Outcome in_a_process(World run) {
    std::fflush(stdout);
    const pid_t child = fork();
    if (child == 0) {
        setpgid(0, 0);  // so that none is left behind when it fails
        run();
    }
    int status = 0;
    CHECK(waitpid(child, &status, 0) == child);
    if (WIFEXITED(status) && (WEXITSTATUS(status) == kLost || WEXITSTATUS(status) == kWentThrough))
        return static_cast<Outcome>(WEXITSTATUS(status));
    kill(-child, SIGKILL);
    const bool hung = WIFSIGNALED(status) && WTERMSIG(status) == SIGALRM;
    std::fprintf(stderr, "FAILED: %s: %s (status %d)\n", what, hung ? "it hung" : "see above",
                 status);
    std::exit(1);
}

struct Plan {
    bool full = false;
    bool brief = false;
    u64 seed = 7;
    const char* only = "";
    // With `brief`, each kind begins with another operation, so none is left out by all of them.
    bool takes(Kind kind, u64 operation) const {
        return !brief || (operation + static_cast<u64>(kind)) % 4 == 0;
    }
    bool takes(u64 step, u64 last) const {
        const u64 wanted = 6;
        if (full || step <= 2 || step == last || last <= wanted) return true;
        return (step + seed) % ((last + wanted - 1) / wanted) == 0;
    }
};

struct KindOfLoss {
    const char* name;
    Kind kind;
};
const KindOfLoss kKinds[] = {
    {"closed", Kind::closed}, {"replaced", Kind::replaced}, {"descriptors", Kind::descriptors},
    {"memory", Kind::memory}, {"files", Kind::files},
};

// How many times something was lost.
u64 try_operation(const Operation& op, const KindOfLoss& loss, const Plan& plan) {
    u64 lost = 0;
    auto lose_at = [&](u64 step) {
        std::snprintf(what, sizeof what, "%s, %s, %lu", op.name, loss.name, step);
        const bool did = in_a_process([&] { world(op, loss.kind, step); }) == kLost;
        lost += did;
        return did;
    };
    if (loss.kind == Kind::descriptors) {
        for (u64 step = 1; step <= kMostFree; ++step)
            CHECK(lose_at(step));
    } else if (loss.kind == Kind::memory) {
        for (u64 step = 1; lose_at(step); ++step) {
        }
    } else {
        CHECK(!lose_at(kNever));
        const u64 last = ledger().steps;
        for (u64 step = 1; step <= last; ++step) {
            if (plan.takes(step, last)) lose_at(step);
        }
        CHECK(last == 0 || lost != 0);
    }
    return lost;
}

void try_kind(const KindOfLoss& loss, const Plan& plan) {
    u64 lost = 0, operations = 0, number = 0;
    auto try_it = [&](const Operation& op) {
        if (std::strstr(op.name, plan.only) == nullptr || (op.flags & (kJoining | kChild))) return;
        if (!plan.takes(loss.kind, number++)) return;
        lost += try_operation(op, loss, plan);
        ++operations;
    };
    if (loss.kind == Kind::files) {
        for (const FileCase& one : kFileCases) {
            for (const bool memfd : {false, true}) {
                if (std::strstr(one.name, plan.only) == nullptr || (memfd && one.persistent))
                    continue;
                for (u64 step = 1; step <= 2 * kMostFree; ++step) {
                    std::snprintf(what, sizeof what, "%s (%s), %lu free descriptors", one.name,
                                  memfd ? "memfd" : "file", step - 1);
                    CHECK(in_a_process([&] { file_world(one, memfd, step); }) == kLost);
                    ++lost;
                }
                ++operations;
            }
        }
    } else {
        for (const Operation& op : kOperations)
            try_it(op);
        for (const Operation& op : kLockOperations)
            try_it(op);
        for (const Operation& op : kContainerOperations)
            try_it(op);
    }
    CHECK(operations == 0 || lost != 0);  // or the campaign has shown nothing
    std::printf("%-12s %3lu operations, %5lu losses\n", loss.name, operations, lost);
    std::fflush(stdout);
}

}  // namespace

int main(int argc, char** argv) {
    Plan plan;
    std::string_view wanted;
    for (int i = 1; i < argc; ++i) {
        const std::string_view arg = argv[i];
        if (arg == "full")
            plan.full = true;
        else if (arg == "brief")
            plan.brief = true;
        else if (arg.starts_with("seed="))
            plan.seed = std::strtoull(argv[i] + 5, nullptr, 10);
        else if (arg.starts_with("only="))
            plan.only = argv[i] + 5;
        else
            wanted = arg;
    }
    std::printf("losses: seed=%lu\n", plan.seed);
    crash_after(0);  // its fork handler comes before the pools'
    ledger();        // before the first fork, so that all processes have it
    for (const KindOfLoss& loss : kKinds) {
        if (!wanted.empty() && wanted != loss.name) continue;
        try_kind(loss, plan);
    }
    std::puts("losses: nobody came to harm");
    return 0;
}
#else
int main() {
    std::puts("losses: skipped, needs -DONECOPY_FAULTS=ON");
    return 0;
}
#endif
