#include "os/os.hpp"

#include <dirent.h>
#include <fcntl.h>
#include <linux/futex.h>
#include <poll.h>
#include <sched.h>
#include <sys/mman.h>
#include <sys/random.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include <atomic>
#include <cerrno>
#include <climits>
#include <cstdio>
#include <cstdlib>
#include <cstring>

#include "base/crash_point.hpp"

#ifndef MADV_POPULATE_READ
#define MADV_POPULATE_READ 22
#endif
#ifndef MADV_POPULATE_WRITE
#define MADV_POPULATE_WRITE 23
#endif

namespace onecopy::os {

std::int64_t monotonic_ns() noexcept {
    timespec t{};
    clock_gettime(CLOCK_MONOTONIC, &t);
    return t.tv_sec * 1'000'000'000LL + t.tv_nsec;
}

bool nap(std::int64_t ns) noexcept {
    const timespec t{0, static_cast<long>(ns)};
    return nanosleep(&t, nullptr) == 0;
}

std::int64_t coarse_ns() noexcept {
    timespec t{};
    clock_gettime(CLOCK_MONOTONIC_COARSE, &t);
    return t.tv_sec * 1'000'000'000LL + t.tv_nsec;
}

std::uint64_t wall_clock_ns() noexcept {
    timespec t{};
    clock_gettime(CLOCK_REALTIME, &t);
    return static_cast<std::uint64_t>(t.tv_sec) * 1'000'000'000 +
           static_cast<std::uint64_t>(t.tv_nsec);
}

Wake futex_wait(std::uint32_t* word, std::uint32_t expected, std::int64_t timeout_ns) noexcept {
    timespec t{timeout_ns / 1'000'000'000, timeout_ns % 1'000'000'000};
    // Not FUTEX_PRIVATE_FLAG: the word is shared between processes, keyed by file and offset.
    if (syscall(SYS_futex, word, FUTEX_WAIT, expected, &t, nullptr, 0) == 0) return Wake::woken;
    switch (errno) {
        case EAGAIN:
            return Wake::changed;
        case EINTR:
            return Wake::signal;
        default:
            return Wake::timed_out;
    }
}

int futex_wake(std::uint32_t* word, int how_many) noexcept {
    long n = syscall(SYS_futex, word, FUTEX_WAKE, how_many, nullptr, nullptr, 0);
    return n < 0 ? 0 : static_cast<int>(n);
}

int open_again(int fd) noexcept {
    char path[48];
    std::snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
    // Not blocking: what has the number by now may be a pipe.
    return open(path, O_RDWR | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
}

void* map_shared(int fd, std::size_t length, bool writable) noexcept {
    void* at = mmap(nullptr, length, writable ? PROT_READ | PROT_WRITE : PROT_READ,
                    MAP_SHARED | MAP_NORESERVE, fd, 0);
    return at == MAP_FAILED ? nullptr : at;
}

void* map_private(int fd, std::size_t length) noexcept {
    void* at = mmap(nullptr, length, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_NORESERVE, fd, 0);
    return at == MAP_FAILED ? nullptr : at;
}

void* map_scratch(std::size_t length) noexcept {
    void* at = mmap(nullptr, length, PROT_READ | PROT_WRITE,
                    MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    return at == MAP_FAILED ? nullptr : at;
}

void wipe_on_fork(void* from, std::size_t length) noexcept {
    static_cast<void>(madvise(from, length, MADV_WIPEONFORK));
}

void unmap(void* base, std::size_t length) noexcept {
    munmap(base, length);
}

bool keep_from_children(void* from, std::size_t length) noexcept {
    return madvise(from, length, MADV_DONTFORK) == 0;
}

bool give_to_children(void* from, std::size_t length) noexcept {
    return madvise(from, length, MADV_DOFORK) == 0;
}

bool forbid_access(void* from, std::size_t length) noexcept {
    return mprotect(from, length, PROT_NONE) == 0;
}

bool forbid_writing(void* from, std::size_t length) noexcept {
    return mprotect(from, length, PROT_READ) == 0;
}

int write_back(void* base, std::size_t length) noexcept {
    while (msync(base, length, MS_SYNC) != 0) {
        if (errno != EINTR) return errno;
    }
    return 0;
}

// Whether the system really takes pages away. qemu-user, which runs containers of another machine,
// answers 0 and does nothing: what was given back would keep its content. 0 or errno.
static int takes_pages() noexcept {
    enum Answer { unknown, yes, no };
    static std::atomic<Answer> answer{unknown};  // of this process; threads find the same
    if (answer.load(std::memory_order_relaxed) == unknown) [[unlikely]] {
        void* page =
            mmap(nullptr, page_size(), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
        if (page == MAP_FAILED) return errno;
        auto* byte = static_cast<volatile unsigned char*>(page);
        *byte = 1;
        const int refused = madvise(page, page_size(), MADV_REMOVE) == 0 ? 0 : errno;
        // A refusal says nothing for the next time: the memory may be locked now (mlockall).
        if (refused == 0) answer.store(*byte == 0 ? yes : no, std::memory_order_relaxed);
        munmap(page, page_size());
        if (refused != 0) return refused;
    }
    return answer.load(std::memory_order_relaxed) == yes ? 0 : EOPNOTSUPP;
}

int give_back(void* from, std::size_t length) noexcept {
    if (const int error = takes_pages()) return error;
    before_store();
    while (madvise(from, length, MADV_REMOVE) != 0) {
        if (errno != EINTR && errno != EAGAIN) return errno;
    }
    crash_point();
    return 0;
}

std::vector<std::string> names_in(int dirfd, std::string_view prefix) {
    std::vector<std::string> names;
    // A description of its own: reading moves its offset.
    const int fd = openat(dirfd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    DIR* directory = fd < 0 ? nullptr : fdopendir(fd);
    if (directory == nullptr) {
        if (fd >= 0) close(fd);
        return names;
    }
    while (const dirent* entry = readdir(directory))
        if (std::string_view(entry->d_name).starts_with(prefix)) names.emplace_back(entry->d_name);
    closedir(directory);
    return names;
}

bool is_readable(int fd) noexcept {
    pollfd one{fd, POLLIN, 0};
    int n;
    do {
        n = poll(&one, 1, 0);
    } while (n < 0 && errno == EINTR);
    return n > 0 && (one.revents & POLLNVAL) == 0;  // a closed number tells nothing
}

bool files_may_grow() noexcept {
    rlimit limit{};
    return getrlimit(RLIMIT_FSIZE, &limit) == 0 && limit.rlim_cur == RLIM_INFINITY;
}

static bool counts_what_is_mapped() noexcept {
    const int fd = open("/proc/sys/vm/overcommit_memory", O_RDONLY | O_CLOEXEC);
    char mode = '2';
    const bool told = fd >= 0 && read(fd, &mode, 1) == 1;
    if (fd >= 0) close(fd);
    return !told || mode == '2';
}

bool mappings_are_free() noexcept {
    rlimit space{}, data{};
    if (getrlimit(RLIMIT_AS, &space) != 0 || getrlimit(RLIMIT_DATA, &data) != 0) return false;
    if (space.rlim_cur != RLIM_INFINITY || data.rlim_cur != RLIM_INFINITY) return false;
    static const bool counted = counts_what_is_mapped();  // a setting of the system, asked once
    return !counted;
}

std::uintptr_t page_size() noexcept {
    static const auto bytes = static_cast<std::uintptr_t>(sysconf(_SC_PAGESIZE));
    return bytes;
}

bool is_written(const void* at) noexcept {
    const std::uintptr_t page = reinterpret_cast<std::uintptr_t>(at) & ~(page_size() - 1);
    unsigned char there = 0;
    return mincore(reinterpret_cast<void*>(page), 1, &there) != 0 || (there & 1) != 0;
}

void map_ahead(void* from, std::size_t length) noexcept {
    const std::uintptr_t start = reinterpret_cast<std::uintptr_t>(from),
                         page = start & ~(page_size() - 1);
    // To read, although they will be written: only then several are mapped by one fault, and in a
    // file in memory each is writable at once.
    madvise(reinterpret_cast<void*>(page), start + length - page, MADV_POPULATE_READ);
}

int populate(void* from, std::size_t length) noexcept {
    while (madvise(from, length, MADV_POPULATE_WRITE) != 0) {
        // A kernel before 5.14: the memory is reserved, only not mapped yet.
        if (errno == EINVAL) return 0;
        if (errno != EINTR && errno != EAGAIN) return errno;
    }
    return 0;
}

std::uint64_t birth_ns(int fd) noexcept {
    struct statx s{};
    if (statx(fd, "", AT_EMPTY_PATH, STATX_BTIME, &s) != 0 || (s.stx_mask & STATX_BTIME) == 0)
        return 0;
    return static_cast<std::uint64_t>(s.stx_btime.tv_sec) * 1'000'000'000 + s.stx_btime.tv_nsec;
}

namespace {
constexpr std::uint64_t kByMount = std::uint64_t{1} << 63;  // no inode is that large
}  // namespace

Identity identity() noexcept {
    Identity id{static_cast<std::uint32_t>(getpid()), 0, 0, 0};
    std::uint32_t seen_as = id.pid;
    // With a point in it. Under qemu-user, the file of the plain name has a start that other
    // processes do not find there: qemu makes it up.
    int fd = open("/proc/self/./stat", O_RDONLY | O_CLOEXEC);
    if (fd < 0) id.error = errno;
    if (fd >= 0) {
        char text[1024];
        ssize_t n = read(fd, text, sizeof text - 1);
        close(fd);
        if (n > 0) {
            text[n] = 0;
            seen_as = static_cast<std::uint32_t>(std::strtoul(text, nullptr, 10));
            // The command name may contain blanks and brackets: fields are counted from the last
            // ')'.
            char* at = std::strrchr(text, ')');
            for (int field = 2; at != nullptr && field < 22; ++field)
                at = std::strchr(at + 1, ' ');
            if (at != nullptr) id.start_ticks = std::strtoull(at + 1, nullptr, 10);
        }
    }
    struct stat s{};
    if (seen_as != id.pid) {
        // /proc belongs to a namespace above ours (`unshare --pid` without `--mount-proc`), and
        // has another number for this process. Processes that see the same /proc find this process
        // in it by that number. So the identity is that number, and the device number of /proc in
        // the place of a namespace.
        id.pid = seen_as;
        if (stat("/proc", &s) == 0) id.pid_namespace = kByMount | s.st_dev;
    } else if (stat("/proc/self/ns/pid", &s) == 0) {
        id.pid_namespace = s.st_ino;
    }
    return id;
}

int usable_cpus() noexcept {
    cpu_set_t set;
    CPU_ZERO(&set);
    if (sched_getaffinity(0, sizeof set, &set) != 0) return 1;
    return CPU_COUNT(&set);
}

bool random_bytes(void* to, std::size_t n) noexcept {
    return getrandom(to, n, 0) == static_cast<ssize_t>(n);
}

}  // namespace onecopy::os
