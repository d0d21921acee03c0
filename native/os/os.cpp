#include "os/os.hpp"

#include <fcntl.h>
#include <linux/futex.h>
#include <linux/magic.h>
#include <sched.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/random.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/vfs.h>
#include <time.h>
#include <unistd.h>

#include <cerrno>
#include <climits>
#include <cstdio>
#include <cstdlib>
#include <cstring>

#include "base/crash_point.hpp"

#ifndef MADV_POPULATE_READ
#define MADV_POPULATE_READ 22
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

namespace {
struct flock region(std::uint64_t byte, short type) noexcept {
    struct flock l{};
    l.l_type = type;
    l.l_whence = SEEK_SET;
    l.l_start = static_cast<off_t>(byte);
    l.l_len = 1;
    l.l_pid = 0;  // required to be 0 for open file description locks
    return l;
}
}  // namespace

ByteLock lock_byte(int fd, std::uint64_t byte, bool exclusive) noexcept {
    struct flock l = region(byte, exclusive ? F_WRLCK : F_RDLCK);
    for (;;) {
        if (fcntl(fd, F_OFD_SETLK, &l) == 0) {
            crash_point();  // a death between two steps that only the kernel sees
            return ByteLock::taken;
        }
        if (errno == EINTR) continue;
        return errno == EAGAIN || errno == EACCES ? ByteLock::busy : ByteLock::failed;
    }
}

void unlock_byte(int fd, std::uint64_t byte) noexcept {
    struct flock l = region(byte, F_UNLCK);
    while (fcntl(fd, F_OFD_SETLK, &l) != 0 && errno == EINTR) {
    }
    crash_point();
}

bool byte_is_locked(int fd, std::uint64_t byte) noexcept {
    struct flock l = region(byte, F_WRLCK);
    while (fcntl(fd, F_OFD_GETLK, &l) != 0) {
        if (errno != EINTR) return true;  // cannot tell: never take from somebody who may live
    }
    return l.l_type != F_UNLCK;
}

bool byte_is_shared(int fd, std::uint64_t byte) noexcept {
    struct flock l = region(byte, F_WRLCK);
    while (fcntl(fd, F_OFD_GETLK, &l) != 0) {
        if (errno != EINTR) return false;
    }
    return l.l_type == F_RDLCK;
}

ByteLock share_range(int fd, std::uint64_t byte, std::uint64_t count) noexcept {
    struct flock l = region(byte, F_RDLCK);
    l.l_len = static_cast<off_t>(count);
    for (;;) {
        if (fcntl(fd, F_OFD_SETLK, &l) == 0) return ByteLock::taken;
        if (errno == EINTR) continue;
        return errno == EAGAIN || errno == EACCES ? ByteLock::busy : ByteLock::failed;
    }
}

int open_again(int fd) noexcept {
    char path[48];
    std::snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
    return open(path, O_RDWR | O_CLOEXEC);
}

int reserve(int fd, std::uint64_t offset, std::uint64_t length) noexcept {
    // tmpfs gives a large fallocate up on any pending signal and undoes its work; with a periodic
    // timer it would never end.
    sigset_t all, before;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    int error = 0;
    while (fallocate(fd, 0, static_cast<off_t>(offset), static_cast<off_t>(length)) != 0) {
        error = errno;
        if (error != EINTR) break;
        error = 0;
    }
    pthread_sigmask(SIG_SETMASK, &before, nullptr);
    if (error == 0) crash_point();
    return error;
}

int punch(int fd, std::uint64_t offset, std::uint64_t length) noexcept {
    while (fallocate(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, static_cast<off_t>(offset),
                     static_cast<off_t>(length)) != 0) {
        if (errno != EINTR) return errno;
    }
    crash_point();
    return 0;
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

void unmap(void* base, std::size_t length) noexcept {
    munmap(base, length);
}

int write_back(void* base, std::size_t length) noexcept {
    while (msync(base, length, MS_SYNC) != 0) {
        if (errno != EINTR) return errno;
    }
    return 0;
}

std::size_t write_at(int fd, std::uint64_t offset, const void* from, std::size_t n) noexcept {
    const auto* bytes = static_cast<const unsigned char*>(from);
    std::size_t done = 0;
    while (done < n) {
        const ssize_t written =
            pwrite(fd, bytes + done, n - done, static_cast<off_t>(offset + done));
        if (written > 0) {
            done += static_cast<std::size_t>(written);
        } else if (written == 0 || errno != EINTR) {
            break;
        }
    }
    return done;
}

bool files_may_grow() noexcept {
    rlimit limit{};
    return getrlimit(RLIMIT_FSIZE, &limit) == 0 && limit.rlim_cur == RLIM_INFINITY;
}

FileIdentity identify(int fd) noexcept {
    struct stat s{};
    struct statfs system{};
    if (fstat(fd, &s) != 0 || fstatfs(fd, &system) != 0) return {};
    return {s.st_dev, s.st_ino, static_cast<std::uint64_t>(system.f_type) == TMPFS_MAGIC};
}

bool is_same_file(int fd, const FileIdentity& file) noexcept {
    struct stat s{};
    return fstat(fd, &s) == 0 && s.st_dev == file.device && s.st_ino == file.inode;
}

namespace {
std::uintptr_t page_size() noexcept {
    static const auto bytes = static_cast<std::uintptr_t>(sysconf(_SC_PAGESIZE));
    return bytes;
}
}  // namespace

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
    Identity id{static_cast<std::uint32_t>(getpid()), 0, 0};
    std::uint32_t seen_as = id.pid;
    int fd = open("/proc/self/stat", O_RDONLY | O_CLOEXEC);
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
        // shows us under another number. It is that number by which we are found in it, by those
        // who see the same /proc.
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
