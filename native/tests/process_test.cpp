// What happens to a membership when its process forks, when the child runs another program, when
// the parent has given up its privileges, and when another library has a fork handler too.
//
//|  process_test             all of it
//|  process_test exec        one case
//|  process_test --list      their names
#include <setjmp.h>
#include <sys/prctl.h>

#include <cstring>
#include <string_view>

#include "heap/heap.hpp"
#include "segment/file.hpp"
#include "tests/check.hpp"

using namespace onecopy;

namespace {

// ---- processes that wait for each other
// ----------------------------------------------------------------

// One byte is one signal. End of file: the other process has died.
class Signal {
  public:
    Signal() { CHECK(pipe2(ends_, O_CLOEXEC) == 0); }
    void send() const { CHECK(write(ends_[1], "", 1) == 1); }
    void await() {
        char c = 0;
        close(ends_[1]);
        CHECK(read(ends_[0], &c, 1) == 1);
    }
    int keep_in_exec() const {  // the end for writing
        const int fd = dup(ends_[1]);
        CHECK(fd >= 0);
        return fd;
    }

  private:
    int ends_[2];
};

template <class Run>
pid_t start(Run run) {
    const pid_t child = fork();
    CHECK(child >= 0);
    if (child == 0) {
        run();
        _exit(0);
    }
    return child;
}
int end_of(pid_t child) {
    int status = 0;
    CHECK(waitpid(child, &status, 0) == child);
    return status;
}
bool ended_well(pid_t child) {
    return end_of(child) == 0;
}

u32 occupied_rows(Member& m) {
    u32 n = 0;
    for (u32 i = 0; i < m.geo().max_processes; ++i)
        n += m.row(i).state.load() != static_cast<u32>(RowState::free);
    return n;
}

// A block with a word in it, held by `m`.
shm_atomic<u64>& word_in(Member& m, u64 value) {
    UnboundedWait wait;
    Allocated a;
    CHECK(allocate(m, {.bytes = 4096, .zero = true}, wait, a) == Status::ok);
    auto& word = *reinterpret_cast<shm_atomic<u64>*>(a.data);
    word.store(value);
    return word;
}

// ---- the cases
// -------------------------------------------------------------------------------------------------

// A forked child is a member of its own. When it runs another program it is a member no more,
// although the process lives: the exec closes its descriptor, and with it its lock.
void exec() {
    const int fd = test::make_pool(kMiB, 8);
    auto m = test::join_pool(fd);
    register_member(*m);
    Signal there;
    const int to_parent = there.keep_in_exec();
    const pid_t child = start([&] {
        char end[16];
        std::snprintf(end, sizeof end, "%d", to_parent);
        execl("/proc/self/exe", "process_test", "--another-program", end, nullptr);
    });
    close(to_parent);
    there.await();
    // It is another program now, and lives.
    CHECK(occupied_rows(*m) == 2);
    CHECK(collect_dead(*m) == 1 && occupied_rows(*m) == 1);
    CHECK(kill(child, SIGKILL) == 0);
    end_of(child);
    test::expect_sound(*m, "after an exec");
}

[[noreturn]] void another_program(const char* end) {
    const int to_parent = std::atoi(end);
    CHECK(prctl(PR_SET_PDEATHSIG, SIGKILL) == 0);  // it is not left behind when the test fails
    CHECK(write(to_parent, "", 1) == 1);
    for (;;)
        pause();
}

// A child for which the table had no room gets an error. What it has of the parent's memory is not
// there (a segmentation fault), or stays as it was at the fork. It never shows what others write.
sigjmp_buf no_memory;
void full_table() {
    const int fd = test::make_pool(kMiB, 2);
    auto m = test::join_pool(fd);
    auto other = test::join_pool(fd);
    auto& word = word_in(*m, 1);
    register_member(*m);
    Signal written;
    const pid_t child = start([&] {
        CHECK(!m->joined);
        for (int signal : {SIGSEGV, SIGBUS}) {
            struct sigaction action{};
            action.sa_handler = [](int) { siglongjmp(no_memory, 1); };
            CHECK(sigaction(signal, &action, nullptr) == 0);
        }
        if (sigsetjmp(no_memory, 1) != 0) _exit(0);
        CHECK(word.load() == 1);
        written.await();
        CHECK(word.load() == 1);
    });
    word.store(2);
    written.send();
    CHECK(ended_well(child));
    CHECK(occupied_rows(*m) == 2 && collect_dead(*m) == 0);
    forget_member(*m);
}

// Another library maps memory of its own in the child, in a handler that runs before ours. It gets
// the place that the pool's mapping leaves free in a child.
Member* of_parent = nullptr;
unsigned char* of_another_library = nullptr;
void maps_in_the_child() {
    if (of_parent == nullptr) return;
    void* const place = of_parent->base;
    void* const at = mmap(place, 2 * kMiB, PROT_READ | PROT_WRITE,
                          MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE, -1, 0);
    // It gets the place only if it is free.
    of_another_library = at == place ? static_cast<unsigned char*>(at) : nullptr;
    if (of_another_library != nullptr) std::memset(of_another_library, 0x5a, 2 * kMiB);
}
void mapping_of_another_library() {
    pthread_atfork(nullptr, nullptr, maps_in_the_child);  // before the pools' own
    char path[] = "/dev/shm/onecopy-process-XXXXXX";
    CHECK(mkdtemp(path) != nullptr);
    std::shared_ptr<Member> m;
    Failure why;
    UnboundedWait wait;
    install_recovery();
    CHECK(create_pool({.directory = path, .name = "p", .capacity = 8 * kMiB}, m, why, wait) ==
          Status::ok);
    of_parent = m.get();
    auto& word = word_in(*m, 1);
    const u64 at = m->offset_of(&word);
    const pid_t child = start([&] {
        if (of_another_library == nullptr) _exit(0);  // the place was not free: nothing was there
        for (u64 i = 0; i < 2 * kMiB; ++i)
            CHECK(of_another_library[i] == 0x5a);
        std::memset(of_another_library, 0xa5, 2 * kMiB);
        of_another_library = nullptr;
        _exit(7);  // the place was free
    });
    const int status = end_of(child);
    CHECK(WIFEXITED(status) && (WEXITSTATUS(status) == 0 || WEXITSTATUS(status) == 7));
    CHECK(m->at<shm_atomic<u64>>(at).load() == 1);
    of_parent = nullptr;
    collect_dead(*m);
    test::expect_sound(*m, "after a fork with another library's mapping");
    m.reset();
    CHECK(rmdir(path) == 0);
}

// A daemon joins as root, gives up its privileges, and forks. Its child may not open the pool
// again. The child lives in any case; if it cannot be a member, it gets an error.
void privileges() {
    if (geteuid() != 0) return;  // only root has privileges to give up
    const int fd = test::make_pool(kMiB, 8);
    CHECK(fchmod(fd, 0600) == 0);  // as a pool's file is
    auto survivor = test::join_pool(fd);
    const pid_t daemon = start([&] {
        auto m = test::join_pool(fd);
        word_in(*m, 1);
        register_member(*m);
        CHECK(setresgid(65534, 65534, 65534) == 0 && setresuid(65534, 65534, 65534) == 0);
        CHECK(os::open_again(test::descriptor(*m)) < 0);  // it has none
        CHECK(ended_well(start([&] {
            if (!m->joined) return;
            UnboundedWait wait;
            Allocated a;
            CHECK(allocate(*m, {.bytes = 100}, wait, a) == Status::ok);
            m->leave();
        })));
        CHECK(m->joined);
        word_in(*m, 2);
        m->leave();
    });
    CHECK(ended_well(daemon));
    collect_dead(*survivor);
    CHECK(occupied_rows(*survivor) == 1 && heap_stats(*survivor).used == 0);
    test::expect_sound(*survivor, "after a daemon");
}

struct Case {
    const char* name;
    void (*run)();
};
const Case kCases[] = {
    {"exec", exec},
    {"full-table", full_table},
    {"mapping", mapping_of_another_library},
    {"privileges", privileges},
};

}  // namespace

int main(int argc, char** argv) {
    const std::string_view wanted = argc > 1 ? argv[1] : "";
    if (wanted == "--another-program" && argc > 2) another_program(argv[2]);
    alarm(60);
    for (const Case& one : kCases) {
        if (wanted == "--list") std::puts(one.name);
        if (!wanted.empty() && wanted != one.name) continue;
        // In a process of its own: fork handlers of one case must not stay for the next.
        const int status = end_of(start([&] { one.run(); }));
        if (status != 0) {
            std::fprintf(stderr, "FAILED: %s: see above (status %d)\n", one.name, status);
            return 1;
        }
    }
    std::puts("process: a membership follows its process");
    return 0;
}
