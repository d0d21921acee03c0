#include "os/shared_segments.hpp"

#include <dirent.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cstdlib>
#include <cstring>
#include <new>
#include <vector>

#include "base/never_destroyed.hpp"
#include "os/os.hpp"
#include "os/processes.hpp"

namespace onecopy::os {
namespace {

struct Held {
    int number;
    dev_t device;
    ino_t inode;
};

// Made when the module is loaded: to make it later could fail for want of memory.
constinit NeverDestroyed<std::vector<Held>> kept_list;
std::vector<Held>& held() noexcept {
    return kept_list.value;
}
bool keeps = false;

// A process, by what no later one shares with it. Pid 0: nobody.
struct Owner {
    std::uint32_t pid = 0;
    std::uint64_t start_ticks = 0;
    unsigned space = 0;
    bool operator==(const Owner&) const = default;
};

// Nobody, where /proc belongs to another PID namespace, which knows us by another number.
Owner this_process() noexcept {
    char self[16];
    const ssize_t n = readlink("/proc/self", self, sizeof self - 1);
    if (n <= 0) return {};
    self[n] = 0;
    const Identity me = identity();
    if (std::strtoul(self, nullptr, 10) != static_cast<unsigned long>(getpid())) return {};
    if (me.start_ticks == 0) return {};
    return {me.pid, me.start_ticks, static_cast<unsigned>(me.pid_namespace & kOwnerNamespaceMask)};
}

Owner owner_of(const struct stat& st) noexcept {
    const auto rest = static_cast<std::uint64_t>(st.st_atim.tv_nsec);
    const auto pid = static_cast<std::uint32_t>(rest & ((1U << kOwnerPidBits) - 1));
    const std::uint64_t space = rest >> kOwnerPidBits;
    if (st.st_atim.tv_sec <= kOwnerEpoch || pid == 0 || space > kOwnerNamespaceMask) return {};
    return {pid, static_cast<std::uint64_t>(st.st_atim.tv_sec - kOwnerEpoch),
            static_cast<unsigned>(space)};
}

// Made by onecopy, by this user, and to be removed with its last holder.
bool may_be_removed(const struct stat& st) noexcept {
    return S_ISREG(st.st_mode) && (st.st_mode & S_ISVTX) && !(st.st_mode & S_IXUSR) &&
           st.st_uid == geteuid();
}

bool has_ended(const Owner& owner, const Owner& me) noexcept {
    if (owner.pid == 0 || owner == me) return true;
    return me.pid != 0 && owner.space == me.space &&
           life_of(owner.pid, owner.start_ticks, ~std::uint64_t{0}) == Life::dead;
}

bool same_file(const struct stat& a, const struct stat& b) noexcept {
    return a.st_dev == b.st_dev && a.st_ino == b.st_ino;
}

void remove_if_unused(int directory, const char* name, const Owner& me) noexcept {
    // O_NONBLOCK: what is there by now may be a pipe or a device.
    const int file = openat(directory, name, O_RDWR | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);
    if (file < 0) return;
    struct flock exclusive{};
    exclusive.l_type = F_WRLCK;
    exclusive.l_whence = SEEK_SET;
    exclusive.l_start = static_cast<off_t>(kSegmentHoldByte);
    exclusive.l_len = 1;
    struct stat st{}, now{};
    // With the exclusive lock nobody holds it, and whoever attaches waits until it is closed.
    if (fstat(file, &st) == 0 && may_be_removed(st) && has_ended(owner_of(st), me) &&
        fcntl(file, F_OFD_SETLK, &exclusive) == 0 &&
        fstatat(directory, name, &now, AT_SYMLINK_NOFOLLOW) == 0 && same_file(st, now))
        unlinkat(directory, name, 0);
    close(file);
}

// Every descriptor of that file, also those that nobody has noted: the interpreter may have ended a
// daemon thread between its opening of a segment and `hold_segment`. No code uses them any more.
void close_all_of(const struct stat& file) noexcept {
    DIR* numbers = opendir("/proc/self/fd");
    if (numbers == nullptr) return;
    while (const dirent* entry = readdir(numbers)) {
        char* end = nullptr;
        const long number = std::strtol(entry->d_name, &end, 10);
        struct stat st{};
        if (end != entry->d_name && fstat(static_cast<int>(number), &st) == 0 &&
            same_file(st, file))
            close(static_cast<int>(number));
    }
    closedir(numbers);
}

bool was_held(const std::vector<Held>& all, const struct stat& st) noexcept {
    for (const Held& each : all)
        if (each.device == st.st_dev && each.inode == st.st_ino) return true;
    return false;
}

}  // namespace

void hold_segment(int number) noexcept {
    struct stat st{};
    if (fstat(number, &st) != 0) return;
    try {
        held().push_back({number, st.st_dev, st.st_ino});
    } catch (const std::bad_alloc&) {  // its name is removed by the next process that looks
    }
}

void forget_segment(int number) noexcept {
    std::erase_if(held(), [number](const Held& each) { return each.number == number; });
}

void keep_segments() noexcept {
    keeps = true;
}

void release_segments() noexcept {
    std::vector<Held> all;
    all.swap(held());
    if (all.empty() && !keeps) return;
    for (const Held& each : all) {
        // Any code of the process can have closed the number; it is another file's then.
        struct stat st{};
        if (fstat(each.number, &st) == 0 && st.st_dev == each.device && st.st_ino == each.inode)
            close(each.number);
    }
    DIR* directory = opendir(kSegmentDirectory);
    if (directory == nullptr) return;
    const Owner me = this_process();
    const int number = dirfd(directory);
    while (const dirent* entry = readdir(directory)) {
        struct stat st{};
        if (fstatat(number, entry->d_name, &st, AT_SYMLINK_NOFOLLOW) != 0 || !may_be_removed(st))
            continue;
        if ((me.pid != 0 && owner_of(st) == me) || was_held(all, st)) {
            close_all_of(st);
            remove_if_unused(number, entry->d_name, me);
        }
    }
    closedir(directory);
}

}  // namespace onecopy::os
