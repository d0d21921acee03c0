#include "os/processes.hpp"

#include <dirent.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cerrno>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <new>

namespace onecopy::os {

namespace {

struct Stat {
    Life life;  // alive: and the start is known
    std::uint64_t start_ticks;
};

constexpr Stat kDead{Life::dead, 0}, kUnknown{Life::unknown, 0};

// /proc has no process of that number. That is a proof only where /proc shows every process.
Stat not_listed(std::uint32_t pid) noexcept {
    // No /proc here, and then we are not in it either.
    if (access("/proc/self/stat", F_OK) != 0) return kUnknown;
    // Mounted with hidepid, it shows us only processes like our own, and the first one is one of
    // root's; or of our own user, who then has all of them in a container.
    if (access("/proc/1", F_OK) != 0) {
        errno = EACCES;
        return kUnknown;
    }
    // The kernel knows a number of our own namespace, also if /proc does not show it.
    char self[16];
    const ssize_t n = readlink("/proc/self", self, sizeof self - 1);
    if (n <= 0) return kUnknown;
    self[n] = 0;
    const bool is_own = std::strtoul(self, nullptr, 10) == static_cast<unsigned long>(getpid());
    if (is_own && !(kill(static_cast<pid_t>(pid), 0) != 0 && errno == ESRCH)) {
        errno = EACCES;
        return kUnknown;
    }
    return kDead;
}

Stat stat_of(std::uint32_t pid) noexcept {
    if (pid == 0) return kDead;  // no process has that number
    char path[32];
    std::snprintf(path, sizeof path, "/proc/%u/./stat", pid);  // as in `identity`
    const int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0) {
        // ESRCH: it ended while we were opening.
        if (errno == ESRCH) return kDead;
        return errno == ENOENT ? not_listed(pid) : kUnknown;
    }
    char text[1024];
    const ssize_t n = read(fd, text, sizeof text - 1);
    const int error = errno;
    close(fd);
    // It ended between our two calls.
    if (n < 0 && error == ESRCH) return kDead;
    errno = error;
    if (n <= 0) return kUnknown;
    text[n] = 0;
    // The command name may contain blanks and brackets: fields are counted from the last ')'.
    const char* at = std::strrchr(text, ')');
    if (at == nullptr || at[1] != ' ') return kUnknown;
    const char state = at[2];
    std::uint64_t threads = 0;
    for (int field = 2; at != nullptr && field < 22; ++field) {
        if (field == 20) threads = std::strtoull(at + 1, nullptr, 10);
        at = std::strchr(at + 1, ' ');
    }
    if (at == nullptr) return kUnknown;
    const bool ended = state == 'X' || state == 'x' || (state == 'Z' && threads <= 1);
    return ended ? kDead : Stat{Life::alive, std::strtoull(at + 1, nullptr, 10)};
}

}  // namespace

Life life_of(std::uint32_t pid, std::uint64_t start_bits, std::uint64_t mask) noexcept {
    const Stat found = stat_of(pid);
    if (found.life == Life::alive && start_bits == 0) {
        errno = EACCES;
        return Life::unknown;
    }
    return found.life == Life::alive && (found.start_ticks & mask) != start_bits ? Life::dead
                                                                                 : found.life;
}

Life start_of(std::uint32_t pid, std::uint64_t& start_ticks) noexcept {
    const Stat found = stat_of(pid);
    start_ticks = found.start_ticks;
    return found.life;
}

namespace {

// Of the last number in the line NSpid of /proc/PID/status: the process's own. 0: it has just
// ended.
Life innermost_pid(const char* pid, std::uint32_t& out) noexcept {
    out = 0;
    char path[32];
    std::snprintf(path, sizeof path, "/proc/%s/status", pid);
    const int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0) return errno == ENOENT || errno == ESRCH ? Life::dead : Life::unknown;
    char text[4096];
    const ssize_t n = read(fd, text, sizeof text - 1);
    const int error = errno;
    close(fd);
    errno = error;
    if (n < 0) return errno == ESRCH ? Life::dead : Life::unknown;
    text[n] = 0;
    const char* at = std::strstr(text, "NSpid:");
    const char* end = at == nullptr ? nullptr : std::strchr(at, '\n');
    if (end == nullptr) return Life::dead;
    while (at < end) {
        char* next = nullptr;
        const unsigned long number = std::strtoul(at + std::strcspn(at, "0123456789\n"), &next, 10);
        if (next == nullptr || next > end || number == 0) break;
        out = static_cast<std::uint32_t>(number);
        at = next;
    }
    return Life::alive;
}

}  // namespace

Life life_inside(std::uint32_t pid, std::uint64_t start_ticks) noexcept {
    if (access("/proc/1", F_OK) != 0) {  // processes are hidden from us: it may be one of those
        errno = EACCES;
        return Life::unknown;
    }
    DIR* directory = opendir("/proc");
    if (directory == nullptr) return Life::unknown;
    Life found = Life::dead;
    while (found == Life::dead) {
        errno = 0;
        const dirent* entry = readdir(directory);
        if (entry == nullptr) {
            if (errno != 0) found = Life::unknown;
            break;
        }
        char* end = nullptr;
        const unsigned long here = std::strtoul(entry->d_name, &end, 10);
        if (here == 0 || *end != 0) continue;
        const Stat one = stat_of(static_cast<std::uint32_t>(here));
        if (one.life == Life::unknown && (errno == EMFILE || errno == ENFILE || errno == ENOMEM))
            found = Life::unknown;
        if (one.life != Life::alive || one.start_ticks != start_ticks) continue;
        std::uint32_t there = 0;
        const Life looked = innermost_pid(entry->d_name, there);
        if (looked == Life::unknown) found = Life::unknown;
        if (looked == Life::alive && there == pid) found = Life::alive;
    }
    const int error = errno;
    closedir(directory);
    errno = error;
    return found;
}

std::uint64_t own_pid_namespace() noexcept {
    struct stat s{};
    return stat("/proc/self/ns/pid", &s) == 0 ? s.st_ino : 0;
}

std::uint32_t own_pid() noexcept {
    return static_cast<std::uint32_t>(getpid());
}

std::uint32_t parent_pid() noexcept {
    return static_cast<std::uint32_t>(getppid());
}

bool own_threads(std::vector<std::uint32_t>& out) noexcept {
    out.clear();
    DIR* directory = opendir("/proc/self/task");
    if (directory == nullptr) return false;
    bool complete = true;
    for (;;) {
        errno = 0;
        const dirent* entry = readdir(directory);
        if (entry == nullptr) {
            complete = complete && errno == 0;
            break;
        }
        const auto id = static_cast<std::uint32_t>(std::strtoul(entry->d_name, nullptr, 10));
        if (id == 0) continue;  // "." and ".."
        try {
            out.push_back(id);
        } catch (const std::bad_alloc&) {
            complete = false;
            break;
        }
    }
    closedir(directory);
    return complete;
}

unsigned long this_thread() noexcept {
    return pthread_self();
}

void hang() noexcept {
    for (;;)
        pause();
}

std::uint32_t own_thread_id() noexcept {
    return static_cast<std::uint32_t>(syscall(SYS_gettid));
}

}  // namespace onecopy::os
