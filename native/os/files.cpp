#include "os/files.hpp"

#include <fcntl.h>
#include <limits.h>
#include <linux/memfd.h>
#include <stdio.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/crash_point.hpp"

#ifndef MFD_NOEXEC_SEAL
#define MFD_NOEXEC_SEAL 0x0008U
#endif
#ifndef RENAME_NOREPLACE
#define RENAME_NOREPLACE 1
#endif

namespace onecopy::os {
namespace {

#if defined(ONECOPY_FAULTS) && ONECOPY_FAULTS
bool no_unnamed_files = false;
std::uint64_t reads = ~std::uint64_t{0};
#endif

// Nonblocking: a pipe in the way must not stop us.
constexpr int kOpenFlags = O_NOFOLLOW | O_CLOEXEC | O_NONBLOCK | O_NOCTTY;

void copy_status(const struct stat& from, FileStatus& out) noexcept {
    out.device = from.st_dev;
    out.inode = from.st_ino;
    out.size = static_cast<std::uint64_t>(from.st_size);
    out.links = from.st_nlink;
    out.mode = from.st_mode & 07777;
    out.user = from.st_uid;
    out.is_file = S_ISREG(from.st_mode);
    out.accessed_s = from.st_atim.tv_sec;
    out.accessed_ns = static_cast<std::uint32_t>(from.st_atim.tv_nsec);
}

// A death right after a change is one of those that the crash campaign tries.
bool changed(long result) noexcept {
    if (result != 0) return false;
    crash_point();
    return true;
}

}  // namespace

#if defined(ONECOPY_FAULTS) && ONECOPY_FAULTS
void without_unnamed_files(bool without) noexcept {
    no_unnamed_files = without;
}
void reads_left(std::uint64_t calls) noexcept {
    reads = calls;
}
#endif

void close_descriptor(int number) noexcept {
    ::close(number);
}

void replace_descriptor(int number, int by) noexcept {
    static_cast<void>(dup2(by, number));
}

bool look_at(int number, FileStatus& out) noexcept {
    struct stat st{};
    if (fstat(number, &st) != 0) return false;
    copy_status(st, out);
    return true;
}

bool look_at(int directory, const char* name, FileStatus& out) noexcept {
    struct stat st{};
    if (fstatat(directory, name, &st, AT_SYMLINK_NOFOLLOW) != 0) return false;
    copy_status(st, out);
    return true;
}

bool look_at_path(const char* path, FileStatus& out) noexcept {
    struct stat st{};
    if (stat(path, &st) != 0) return false;
    copy_status(st, out);
    return true;
}

int open_directory(const char* path) noexcept {
    return open(path, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
}

int open_at(int directory, const char* name, Access access) noexcept {
    const int how = access == Access::read    ? O_RDONLY
                    : access == Access::write ? O_RDWR
                                              : O_RDWR | O_APPEND;
    return openat(directory, name, how | kOpenFlags);
}

int open_path(const char* path) noexcept {
    return open(path, O_RDWR | O_CLOEXEC | O_NONBLOCK);
}

int open_unnamed(int directory, std::uint32_t mode) noexcept {
#if defined(ONECOPY_FAULTS) && ONECOPY_FAULTS
    if (no_unnamed_files) {
        errno = EOPNOTSUPP;
        return -1;
    }
#endif
    return openat(directory, ".", O_TMPFILE | O_RDWR | O_CLOEXEC, mode);
}

int create_at(int directory, const char* name, std::uint32_t mode) noexcept {
    const int number =
        openat(directory, name, O_RDWR | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, mode);
    if (number >= 0) crash_point();
    return number;
}

int make_memfd() noexcept {
    int number = static_cast<int>(
        syscall(SYS_memfd_create, "onecopy", MFD_CLOEXEC | MFD_ALLOW_SEALING | MFD_NOEXEC_SEAL));
    if (number < 0 && errno == EINVAL)
        number =
            static_cast<int>(syscall(SYS_memfd_create, "onecopy", MFD_CLOEXEC | MFD_ALLOW_SEALING));
    return number;
}

bool set_mode(int number, std::uint32_t mode) noexcept {
    return changed(fchmod(number, mode));
}

bool set_size(int number, std::uint64_t bytes) noexcept {
    return changed(ftruncate(number, static_cast<off_t>(bytes)));
}

bool set_accessed(int number, std::int64_t seconds, std::uint32_t ns) noexcept {
    const timespec times[2] = {{seconds, static_cast<long>(ns)}, {0, UTIME_OMIT}};
    return changed(futimens(number, times));
}

bool seal_size(int number) noexcept {
    return changed(fcntl(number, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW));
}

bool size_is_sealed(int number) noexcept {
    const int seals = fcntl(number, F_GET_SEALS);
    return seals >= 0 && (seals & (F_SEAL_SHRINK | F_SEAL_GROW)) == (F_SEAL_SHRINK | F_SEAL_GROW);
}

std::size_t read_at(int number, std::uint64_t offset, void* to, std::size_t n) noexcept {
#if defined(ONECOPY_FAULTS) && ONECOPY_FAULTS
    if (reads == 0) return errno = EIO, 0;
    --reads;
#endif
    std::size_t got = 0;
    while (got < n) {
        const ssize_t count = pread(number, static_cast<unsigned char*>(to) + got, n - got,
                                    static_cast<off_t>(offset + got));
        if (count < 0 && errno == EINTR) continue;
        if (count < 0) return got;
        if (count == 0) break;
        got += static_cast<std::size_t>(count);
    }
    errno = 0;
    return got;
}

bool write_all(int number, std::string_view text) noexcept {
    while (!text.empty()) {
        const ssize_t count = write(number, text.data(), text.size());
        if (count < 0 && errno == EINTR) continue;
        if (count <= 0) return false;
        text.remove_prefix(static_cast<std::size_t>(count));
        crash_point();
    }
    return true;
}

bool room_of(int number, std::uint64_t& all, std::uint64_t& free) noexcept {
    struct statvfs system{};
    if (fstatvfs(number, &system) != 0) return false;
    all = std::uint64_t{system.f_blocks} * system.f_frsize;
    free = std::uint64_t{system.f_bavail} * system.f_frsize;
    return true;
}

bool make_directory(const char* path, std::uint32_t mode) noexcept {
    return changed(mkdir(path, mode));
}

bool link_unnamed(int number, int directory, const char* name) noexcept {
    char path[48];
    std::snprintf(path, sizeof path, "/proc/self/fd/%d", number);
    return changed(linkat(AT_FDCWD, path, directory, name, AT_SYMLINK_FOLLOW));
}

bool link_name(int directory, const char* from, const char* to) noexcept {
    return changed(linkat(directory, from, directory, to, 0));
}

bool rename_to_new(int directory, const char* from, const char* to) noexcept {
    return changed(syscall(SYS_renameat2, directory, from, directory, to, RENAME_NOREPLACE));
}

bool rename_over(int directory, const char* from, const char* to) noexcept {
    return changed(renameat(directory, from, directory, to));
}

bool remove_name(int directory, const char* name) noexcept {
    return changed(unlinkat(directory, name, 0));
}

std::string current_directory() {
    char here[PATH_MAX];
    return getcwd(here, sizeof here) == nullptr ? std::string() : std::string(here);
}

bool has_proc() noexcept {
    return access("/proc/self/fd", F_OK) == 0;
}

bool try_lock_all(int number) noexcept {
    while (flock(number, LOCK_EX | LOCK_NB) != 0) {
        if (errno != EINTR) return false;
    }
    crash_point();
    return true;
}

bool unlock_all(int number) noexcept {
    return changed(flock(number, LOCK_UN));
}

std::uint32_t effective_user() noexcept {
    return geteuid();
}

}  // namespace onecopy::os
