// A file in memory is charged to the control group of the process that touches a page first. Beyond
// the group's limit the kernel kills; fallocate never says so. So the limit is looked at before.
//
// Read with plain system calls and buffers on the stack: an allocation may be under way because
// memory is short.
#include "os/memory.hpp"

#include <fcntl.h>
#include <sys/vfs.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <cstdio>
#include <cstdlib>
#include <cstring>

#include "os/os.hpp"

namespace onecopy::os {
namespace {

constexpr std::uint64_t kNone = ~std::uint64_t{0};
// v1 has no word for "no limit", but a number near 2^63, rounded to pages.
constexpr std::uint64_t kNoLimit = std::uint64_t{1} << 62;

using Path = char[kLongestGroup];

bool join(Path& out, const char* directory, const char* name) noexcept {
    const int n = std::snprintf(out, sizeof out, "%s%s", directory, name);
    return n > 0 && static_cast<std::size_t>(n) < sizeof out;
}

// The lines of a file. What does not fit in `text` is cut off.
class Lines {
  public:
    Lines(const char* directory, const char* name) noexcept {
        Path path;
        if (join(path, directory, name)) fd_ = open(path, O_RDONLY | O_CLOEXEC);
    }
    ~Lines() {
        if (fd_ >= 0) close(fd_);
    }
    Lines(const Lines&) = delete;
    Lines& operator=(const Lines&) = delete;

    bool next() noexcept {
        std::size_t length = 0;
        for (int c = get(); c >= 0 || length != 0; c = get()) {
            if (c < 0 || c == '\n') {
                text[length] = 0;
                return true;
            }
            if (length < sizeof text - 1) text[length++] = static_cast<char>(c);
        }
        return false;
    }
    char text[2048];  // two paths, and what stands around them

  private:
    int get() noexcept {
        if (at_ == end_) {
            ssize_t n = -1;
            while (fd_ >= 0 && (n = read(fd_, buffer_, sizeof buffer_)) < 0 && errno == EINTR) {
            }
            if (n <= 0) return -1;
            at_ = 0;
            end_ = static_cast<std::size_t>(n);
        }
        return static_cast<unsigned char>(buffer_[at_++]);
    }
    int fd_ = -1;
    char buffer_[1024];
    std::size_t at_ = 0, end_ = 0;
};

// A file that is one number; `otherwise` if it is not there. "max" is kNone.
std::uint64_t number_in(const char* directory, const char* name, std::uint64_t otherwise) noexcept {
    Lines lines(directory, name);
    if (!lines.next()) return otherwise;
    if (std::strcmp(lines.text, "max") == 0) return kNone;
    char* end = lines.text;
    const std::uint64_t n = std::strtoull(lines.text, &end, 10);
    return end == lines.text ? otherwise : n;
}

// Of lines "key value", "key: value kB".
template <class See>
void each_number(Lines& lines, See see) noexcept {
    while (lines.next()) {
        char* blank = std::strchr(lines.text, ' ');
        if (blank == nullptr) continue;
        *blank = 0;
        see(lines.text, std::strtoull(blank + 1, nullptr, 10));
    }
}

std::uint64_t below(std::uint64_t limit, std::uint64_t used) noexcept {
    return limit > used ? limit - used : 0;
}

bool contains(const char* list, const char* word) noexcept {
    const std::size_t n = std::strlen(word);
    for (const char* at = list; (at = std::strstr(at, word)) != nullptr; ++at) {
        if ((at == list || at[-1] == ',') && (at[n] == 0 || at[n] == ',')) return true;
    }
    return false;
}

// Where a hierarchy of control groups is mounted, and which of its groups is to be seen there.
struct Mount {
    bool there = false;
    Path point, root;
};
struct Mounts {
    Mount v1, v2;  // v1: of the memory controller
};

// In mountinfo blanks and the like are octal: \040.
void unescape(char* text) noexcept {
    char* to = text;
    for (const char* from = text; *from != 0; ++from) {
        const auto digit = [&](int i) { return from[i] >= '0' && from[i] <= '7'; };
        if (*from == '\\' && digit(1) && digit(2) && digit(3)) {
            *to++ =
                static_cast<char>((from[1] - '0') << 6 | (from[2] - '0') << 3 | (from[3] - '0'));
            from += 3;
        } else {
            *to++ = *from;
        }
    }
    *to = 0;
}

// "id parent device root point options [tags] - type source options"
void find_mounts(const char* proc, Mounts& out) noexcept {
    for (Lines lines(proc, "/self/mountinfo"); lines.next();) {
        char *rest = nullptr, *fields[5] = {};
        for (int i = 0; i < 5; ++i)
            fields[i] = strtok_r(i == 0 ? lines.text : nullptr, " ", &rest);
        if (fields[4] == nullptr || rest == nullptr) continue;
        const char* tail = std::strstr(rest, " - ");
        if (tail == nullptr) continue;
        tail += 3;
        Mount* mount = nullptr;
        if (std::strncmp(tail, "cgroup2 ", 8) == 0) mount = &out.v2;
        const char* options = std::strrchr(tail, ' ');
        if (std::strncmp(tail, "cgroup ", 7) == 0 && contains(options + 1, "memory"))
            mount = &out.v1;
        // The first one: a second mount of the same hierarchy shows the same.
        if (mount == nullptr || mount->there) continue;
        unescape(fields[3]);
        unescape(fields[4]);
        mount->there = join(mount->root, fields[3], "") && join(mount->point, fields[4], "");
    }
}

// Found once: they do not change under a running process, and there may be hundreds of other
// mounts. In a child whose parent was just looking they are looked for each time.
const Mounts& mounts(const char* proc, Mounts& own) noexcept {
    static Mounts known;
    static std::atomic<int> state{0};  // 1: a thread is looking, 2: known
    if (std::strcmp(proc, "/proc") != 0) {
        find_mounts(proc, own);
        return own;
    }
    if (state.load(std::memory_order_acquire) == 2) return known;
    if (int unknown = 0; state.compare_exchange_strong(unknown, 1)) {
        find_mounts(proc, known);
        state.store(2, std::memory_order_release);
        return known;
    }
    find_mounts(proc, own);
    return own;
}

// The directory of the process's group under a mount. False: it is not visible, because it is
// outside of the mounts.
bool directory_of(const Mount& mount, const char* group, Path& out) noexcept {
    std::size_t n = std::strlen(mount.root);
    if (n == 1) n = 0;  // "/"
    if (std::strncmp(group, mount.root, n) != 0 || (group[n] != 0 && group[n] != '/')) return false;
    group += n;
    // Above the root of the namespace: another tree.
    if (std::strstr(group, "/..") != nullptr) return false;
    return join(out, mount.point, std::strcmp(group, "/") == 0 ? "" : group);
}

struct Names {
    const char *limit, *used, *inactive, *active, *swap_limit, *swap_used;
};
constexpr Names kV1 = {"/memory.limit_in_bytes",       "/memory.usage_in_bytes",
                       "total_inactive_file",          "total_active_file",
                       "/memory.memsw.limit_in_bytes", "/memory.memsw.usage_in_bytes"};
constexpr Names kV2 = {"/memory.max", "/memory.current",  "inactive_file",
                       "active_file", "/memory.swap.max", "/memory.swap.current"};

// What the processes themselves need next, page tables among it.
std::uint64_t margin(std::uint64_t limit) noexcept {
    constexpr std::uint64_t kMost = 64 << 20;
    return std::min(limit / 16, kMost);
}

// The tightest group, as far as it matters to a caller that wants `bytes`.
class Search {
  public:
    Search(const char* proc, std::uint64_t bytes, MemoryLimit& out) noexcept
        : proc_(proc), bytes_(bytes), out_(out) {}
    bool found = false;
    // The process's group in one hierarchy, and those above it.
    void look_upwards(const Mount& mount, const char* group, bool v1) noexcept;

  private:
    bool look_at(const char* group, bool v1, bool is_top, MemoryLimit& out) noexcept;
    std::uint64_t swap_free() noexcept;

    const char* proc_;
    std::uint64_t bytes_;
    MemoryLimit& out_;
    std::uint64_t swap_free_ = kNone;  // not looked up yet
};

std::uint64_t Search::swap_free() noexcept {
    if (swap_free_ != kNone) return swap_free_;
    swap_free_ = 0;
    Lines meminfo(proc_, "/meminfo");
    each_number(meminfo, [&](const char* key, std::uint64_t n) {
        if (std::strcmp(key, "SwapFree:") == 0) swap_free_ = n * 1024;
    });
    return swap_free_;
}

// One group; `is_top`: what is above it cannot be seen. Not memory.high: beyond it the kernel slows
// down, and does not kill.
bool Search::look_at(const char* group, bool v1, bool is_top, MemoryLimit& out) noexcept {
    const Names& names = v1 ? kV1 : kV2;
    std::uint64_t limit = number_in(group, names.limit, kNone);
    if (limit >= kNoLimit && !(v1 && is_top)) return false;
    const std::uint64_t all = number_in(group, names.used, kNone);
    if (all == kNone) return false;
    // Nearly always. The rest takes the kernel longer to tell.
    if (limit < kNoLimit && !(v1 && is_top) && bytes_ < below(limit, all) &&
        margin(limit) <= below(limit, all) - bytes_)
        return false;
    std::uint64_t files = 0;
    Lines stat(group, "/memory.stat");
    each_number(stat, [&](const char* key, std::uint64_t n) {
        if (std::strcmp(key, names.inactive) == 0 || std::strcmp(key, names.active) == 0)
            files += n;
        // Of groups above that cannot be seen.
        if (v1 && std::strcmp(key, "hierarchical_memory_limit") == 0) limit = std::min(limit, n);
    });
    if (limit >= kNoLimit) return false;
    const std::uint64_t used = below(all, files);
    std::uint64_t room = below(limit, used);
    if (swap_free() != 0) {
        const std::uint64_t most = number_in(group, names.swap_limit, kNone),
                            taken = number_in(group, names.swap_used, 0);
        // v1 counts memory and swap together.
        room = v1 ? std::min(room + swap_free_, below(most, below(taken, files)))
                  : room + std::min(swap_free_, below(most, taken));
    }
    out.limit = limit;
    out.used = used;
    out.room = below(room, margin(limit));
    return join(out.group, group, "");
}

void Search::look_upwards(const Mount& mount, const char* group, bool v1) noexcept {
    Path directory;
    if (!mount.there || !directory_of(mount, group, directory)) return;
    MemoryLimit here;
    for (const std::size_t top = std::strlen(mount.point);;) {
        const bool is_top = std::strlen(directory) == top && std::strcmp(mount.root, "/") != 0;
        // `<=`: if a group leaves as much room as a group below it, the upper one is reported.
        if (look_at(directory, v1, is_top, here) && (!found || here.room <= out_.room)) {
            out_ = here;
            found = true;
        }
        char* slash = std::strrchr(directory, '/');
        if (slash == nullptr || static_cast<std::size_t>(slash - directory) < top) return;
        *slash = 0;
        // An old kernel's group that does not count what is below it.
        if (v1 && number_in(directory, "/memory.use_hierarchy", 1) == 0) return;
    }
}

// As `memory_limit`; false also where there is room for `bytes`.
bool tightest(MemoryLimit& out, const char* proc, std::uint64_t bytes) noexcept {
    Mounts own;
    const Mounts& known = mounts(proc, own);
    if (!known.v1.there && !known.v2.there) return false;
    Search search(proc, bytes, out);
    for (Lines groups(proc, "/self/cgroup"); groups.next();) {  // "number:controllers:group"
        char* controllers = std::strchr(groups.text, ':');
        char* group = controllers == nullptr ? nullptr : std::strchr(controllers + 1, ':');
        if (group == nullptr) continue;
        *group++ = 0;
        if (contains(controllers + 1, "memory"))
            search.look_upwards(known.v1, group, true);
        else if (std::strcmp(groups.text, "0:") == 0)
            search.look_upwards(known.v2, group, false);
    }
    return search.found;
}

}  // namespace

bool memory_limit(MemoryLimit& out, const char* proc) noexcept {
    return tightest(out, proc, kNone);
}

int room_for(const SharedFile& file, std::uint64_t bytes) noexcept {
    struct statfs system{};
    // No blocks: a file system in memory without a limit.
    if (file.is_ours() && fstatfs(file.number(), &system) == 0 && system.f_blocks != 0 &&
        bytes / static_cast<std::uint64_t>(system.f_bsize) >
            static_cast<std::uint64_t>(system.f_bfree))
        return ENOSPC;
    MemoryLimit limit;
    return file.identity().in_memory && tightest(limit, "/proc", bytes) && bytes > limit.room
               ? ENOMEM
               : 0;
}

int reserve_all(const SharedFile& file, void* mapped, std::uint64_t offset,
                std::uint64_t length) noexcept {
    if (const int full = room_for(file, length)) return full;
    const int error = file.reserve(offset, length);
    if (error != 0) give_back(mapped, static_cast<std::size_t>(length));
    return error;
}

}  // namespace onecopy::os
