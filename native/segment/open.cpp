// How a name, a lock byte and an inode together decide who is there:
//
//   * Every member holds kMemberByte shared, from before the file has its name until it leaves. Who
//   gets it exclusively is alone.
//   * A name is only ever removed under flock(directory), after the inode it leads to was compared,
//   by somebody who holds the byte exclusively
//     (or on request, unlink_pool). So a name that was given anew in the meantime is not removed in
//     the place of the old one.
//   * Who opens, and gets the byte shared, may have opened a file whose name is gone by then: its
//   link count is 0, and it starts over.
//
// Who opens for reading only (open_to_read) is no member. It maps the file privately: its
// bookkeeping, and whatever recovery it takes, goes to pages of its own, and the file is never
// changed. It holds *all* slot bytes shared, so with one lock it knows that nobody is a member, and
// nobody becomes one.
//
// A memfd has no name. In its place stands a rendezvous file that says where members' descriptors
// are in /proc; it is compared by the pool's id, not by inode, because it is rewritten when it
// grows.
#include "segment/file.hpp"

#include <fcntl.h>
#include <linux/memfd.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <climits>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <functional>
#include <list>
#include <string_view>
#include <utility>
#include <vector>

#include "base/private_memory.hpp"
#include "directory/directory.hpp"
#include "heap/heap.hpp"
#include "os/memory.hpp"
#include "os/processes.hpp"
#include "segment/descriptor.hpp"
#include "sync/structure_lock.hpp"

#ifndef MFD_NOEXEC_SEAL
#define MFD_NOEXEC_SEAL 0x0008U
#endif
#ifndef MADV_POPULATE_WRITE
#define MADV_POPULATE_WRITE 23
#endif
#ifndef RENAME_NOREPLACE
#define RENAME_NOREPLACE 1
#endif

namespace onecopy {
namespace {

constexpr char kHidden[] = ".onecopy-new-";  // files in the making, where there is no O_TMPFILE
constexpr char kRendezvous[] = "onecopy-memfd 1 ";
constexpr std::size_t kRendezvousMost = 1 << 20, kRendezvousTidy = 1 << 16;
constexpr std::int64_t kOpenWait = 1'000'000'000, kDirectoryWait = 5'000'000'000;

// Of one attempt to open a pool, which is repeated.
constexpr std::int64_t kShortWait = 50'000'000;
// Bytes that are reserved or written in one system call, which nothing can interrupt.
constexpr u64 kPiece = 64 * kMiB;

std::int64_t from_now(std::int64_t ns) noexcept {
    return os::monotonic_ns() + ns;
}

// For a system call that changes what others see: a death right after it is one of those the crash
// campaign tries.
bool happened(long result) noexcept {
    if (result != 0) return false;
    crash_point();
    return true;
}

Status status_of(int error) noexcept {
    switch (error) {
        case ENOENT:
            return Status::no_entry;
        case EEXIST:
            return Status::exists;
        case ENOSPC:
        case ENOMEM:
        case EDQUOT:
        case EFBIG:
            return Status::no_memory;
        case EACCES:
        case EPERM:
        case EROFS:
        case ELOOP:
            return Status::not_allowed;
        default:
            return Status::system_error;
    }
}
Status fail(Failure& why, const char* step, int error = errno) {
    why = {error, step, {}};
    return status_of(error);
}
Status fail(Failure& why, const char* what, Status status) {
    why = {0, what, {}};
    return status;
}
// Of a file of the system, which says nothing about the pool: ENOENT is no missing pool.
Status fail_at(Failure& why, const char* step, const char* file, int error) {
    why = {error, step, file};
    return Status::system_error;
}
// We could not look, for want of something. Nothing that was to be looked at is proven by it.
bool lacks_means(int error) noexcept {
    return error == EMFILE || error == ENFILE || error == ENOMEM || error == ENOLCK;
}

// What a mapping needs is the process's own: address space.
Status fail_to_map(Failure& why) {
    const Status s = fail(why, "map the pool");
    return s == Status::no_memory ? Status::out_of_memory : s;
}

// As `fail`; names the memory limit, where it is the reason.
Status no_room(Failure& why, const char* step, bool in_memory, int error) {
    const Status s = fail(why, step, error);
    os::MemoryLimit limit;
    if (error == ENOMEM && in_memory && os::memory_limit(limit)) {
        why.what += ": the control group " + std::string(limit.group) + " may use " +
                    std::to_string(limit.limit / kMiB) + " MiB, of which " +
                    std::to_string(limit.room / kMiB) + " MiB are left for pools";
    }
    return s;
}

Status fail_to_open(Failure& why) {
    if (errno == ELOOP)
        return fail(why, "it is a symbolic link; give the path of the file itself",
                    Status::not_allowed);
    return fail(why, "open the pool file");
}

bool valid_name(const std::string& name) noexcept {
    return !name.empty() && name.size() <= NAME_MAX && name != "." && name != ".." &&
           name.find('/') == std::string::npos && name.find('\0') == std::string::npos;
}
bool is_hidden(const std::string& name) noexcept {
    return name.starts_with(kHidden);
}

// ---- the directory ------------------------------------------------------------------------------

// With a slash at its end a symbolic link would be followed in spite of O_NOFOLLOW.
std::string bare(std::string directory) {
    while (directory.size() > 1 && directory.ends_with('/'))
        directory.pop_back();
    return directory;
}

Status open_directory(const std::string& directory, Fd& out, Failure& why) {
    out = Fd([path = bare(directory)] {
        return open(path.c_str(), O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    });
    if (out) return Status::ok;
    // A symbolic link shows as ELOOP or ENOTDIR.
    if (errno == ENOTDIR || errno == ELOOP)
        return why = {ENOTDIR, "its directory is no directory, or a symbolic link", {}},
               Status::not_allowed;
    return fail(why, "open the pool directory");
}

// The pool directory of this user. Anybody may make a directory of that name first (/dev/shm and
// /tmp are open to all): only one that nobody but this user and root can change is used. What is
// checked is the descriptor that is used afterwards, so an exchange in between changes nothing.
Status trusted_directory(Through way, const std::string& directory, bool create, Fd& out,
                         Failure& why) {
    if (create && !happened(mkdir(bare(directory).c_str(), 0700)) && errno != EEXIST)
        return fail(why, "make the pool directory");
    auto refuse = [&](const std::string& problem) {
        out.reset();
        why = {0, "the pool directory " + problem + ". Nothing in it was used or changed. " +
                      (way == Through::pool_directory ? "Remove it, or set ONECOPY_DIR to a"
                                                      : "Choose a") +
                      " directory that belongs to you and that only you may write (mode 0700)"};
        return Status::not_allowed;
    };
    if (Status s = open_directory(directory, out, why); !good(s))
        return s == Status::not_allowed && why.error == ENOTDIR
                   ? refuse("is no directory, or a symbolic link")
                   : s;
    struct stat st{};
    if (fstat(out.get(), &st) != 0) return fail(why, "look at the pool directory");
    // Root can do as it likes anyway.
    if (st.st_uid != geteuid() && st.st_uid != 0)
        return refuse("belongs to another user (uid " + std::to_string(st.st_uid) +
                      "; this process has uid " + std::to_string(geteuid()) + ")");
    if (st.st_mode & 022) {
        char mode[16];
        std::snprintf(mode, sizeof mode, "0%03o", static_cast<unsigned>(st.st_mode & 07777));
        return refuse("is writable by others (mode " + std::string(mode) + ")");
    }
    return Status::ok;
}

// The directory through which a pool is looked for.
Status directory_for(Through way, const std::string& directory, Fd& out, Failure& why) {
    return way == Through::pool_directory ? trusted_directory(way, directory, false, out, why)
                                          : open_directory(directory, out, why);
}

// flock of the directory. Its holder may be stopped: the policy is bounded, and it may be
// interrupted.
class DirectoryLock {
  public:
    DirectoryLock(int fd, WaitPolicy& p) noexcept : fd_(fd) {
        status_ = take(p, [&](bool signal, int naps) {
            constexpr int kNapsBetweenLooks = 20;  // at signals that came to another thread
            return (signal || naps % kNapsBetweenLooks == 0) && p.interrupted();
        });
    }
    // For a process that leaves the pool. Whoever opens or sweeps next does what this does not get
    // to do, so a signal ends the wait, unless it comes at once: a profiler sends them all the
    // time.
    explicit DirectoryLock(int fd) noexcept : fd_(fd) {
        UnboundedWait outer;
        UninterruptibleWait p(outer, from_now(kDirectoryWait));
        status_ = take(p, [came = false](bool signal, int naps) mutable {
            came |= signal;
            return came && naps > 100;
        });
    }
    ~DirectoryLock() { release(); }
    DirectoryLock(const DirectoryLock&) = delete;
    DirectoryLock& operator=(const DirectoryLock&) = delete;
    void release() noexcept {
        const int saved = errno;
        if (good(status_)) happened(flock(fd_, LOCK_UN));
        status_ = Status::not_held;
        errno = saved;
    }
    explicit operator bool() const noexcept { return good(status_); }
    // ok; timed_out, interrupted, system_error (of which errno does not tell)
    Status status() const noexcept { return status_; }
    // Why there is no lock, for the caller of the caller.
    Status fail(Failure& why) const {
        if (status_ == Status::interrupted) return status_;
        why = {ETIMEDOUT, "lock the pool directory", {}};
        return Status::system_error;
    }

  private:
    template <class Ends>
    Status take(WaitPolicy& p, Ends ends) noexcept {
        const unsigned process = lineage();
        for (int naps = 1; flock(fd_, LOCK_EX | LOCK_NB) != 0; ++naps) {
            if (errno == EINTR) continue;
            if (errno != EWOULDBLOCK) return Status::system_error;
            const std::int64_t ns = p.left(1'000'000);
            if (ns == 0) return Status::timed_out;
            p.about_to_block();
            if (ends(!os::nap(ns), naps)) return Status::interrupted;
            // A signal handler has forked, and this is the child: the descriptor is closed here.
            if (lineage() != process) return Status::system_error;
        }
        crash_point();
        return Status::ok;
    }
    int fd_;
    Status status_ = Status::not_held;
};

// ---- the header, before anything is mapped ------------------------------------------------------

struct HeaderCopy {
    alignas(Header) unsigned char bytes[sizeof(Header)];
    const Header& get() const noexcept { return *reinterpret_cast<const Header*>(bytes); }
    bool read(int fd) noexcept {
        std::size_t got = 0;
        while (got < sizeof bytes) {
            ssize_t n = pread(fd, bytes + got, sizeof bytes - got, static_cast<off_t>(got));
            if (n < 0 && errno == EINTR) continue;
            if (n <= 0) return false;
            got += static_cast<std::size_t>(n);
        }
        return true;
    }
};

// Is this a pool of ours, and does the file contain all it says it does? `corrupt` (the flag) is
// not looked at.
Status verify(const Header& h, u64 file_size, Failure& why) {
    if (h.magic != kMagic) return fail(why, kNotAPool, Status::corrupt);
    if (h.version != kVersion || h.layout_hash != layout_hash())
        return fail(why, "a pool of another version or build", Status::bad_version);
    if (h.max_processes == 0 || h.max_processes > kMaxProcesses || h.capacity == 0 ||
        h.capacity > kMaxCapacity)
        return fail(why, "the header's limits are impossible", Status::corrupt);
    const Geometry g = geometry(h.capacity, h.max_processes);
    if (g.capacity != h.capacity || g.rows_off != h.rows_off || g.heads_off != h.heads_off ||
        g.buckets_off != h.buckets_off || g.extents_off != h.extents_off ||
        g.names_off != h.names_off || g.blocks_off != h.blocks_off || g.heap_off != h.heap_off ||
        g.max_names != h.max_names || g.max_blocks != h.max_blocks || g.file_size != h.file_size)
        return fail(why, "the header's offsets do not fit its limits", Status::corrupt);
    if (file_size != g.file_size)
        return fail(why, "the file is not as long as its header says", Status::corrupt);
    return Status::ok;
}

// ---- which pool it is ---------------------------------------------------------------------------

struct PoolId {
    u64 id[2] = {0, 0};
    bool operator==(const PoolId&) const = default;
    static PoolId of(const Header& h) noexcept { return {{h.id[0], h.id[1]}}; }
    std::string hex() const {
        char text[33];
        std::snprintf(text, sizeof text, "%016llx%016llx", static_cast<unsigned long long>(id[0]),
                      static_cast<unsigned long long>(id[1]));
        return text;
    }
};

// A name in a directory, and what it must lead to for us to touch it.
struct Place {
    std::string directory;  // absolute
    std::string name;
    dev_t dev = 0;  // of the pool file; not used for a rendezvous
    ino_t ino = 0;
    PoolId id;
    bool memfd = false;
};

// A pool of this process. Private; found by the member's address.
struct Pool {
    Member* member = nullptr;
    std::weak_ptr<Member> shared;
    Place place;
    dev_t dev = 0;  // of the memory
    ino_t ino = 0;
    bool persistent = false;
    bool left = false;
    // Lineage of the process in which somebody is at it: a fork copies the mark, but not the
    // thread.
    unsigned leaving = 0;
    unsigned announced = 0;  // memfd: of the process whose line stands in the rendezvous
};
std::list<Pool>& pools() noexcept {  // under pools_mutex
    static auto& all = *new std::list<Pool>;
    return all;
}
Pool* pool_of(const Member* m) noexcept {
    for (Pool& p : pools())
        if (p.member == m) return &p;
    return nullptr;
}

std::string absolute(const std::string& directory) {
    char here[PATH_MAX];
    if (directory.starts_with('/') || getcwd(here, sizeof here) == nullptr) return bare(directory);
    return std::string(here) + "/" + bare(directory);
}

// ---- the rendezvous of a memfd ------------------------------------------------------------------

struct Line {
    unsigned pid = 0;
    int fd = -1;
    unsigned long long start = 0, pid_namespace = 0;
};
struct Rendezvous {
    std::string id;  // hex
    std::vector<Line> lines;
};

bool write_all(int fd, std::string_view text) noexcept {
    while (!text.empty()) {
        ssize_t n = write(fd, text.data(), text.size());
        if (n < 0 && errno == EINTR) continue;
        if (n <= 0) return false;
        text.remove_prefix(static_cast<std::size_t>(n));
        crash_point();
    }
    return true;
}

std::string line_text(const Line& l) {
    char text[96];
    std::snprintf(text, sizeof text, "%u %d %llu %llu\n", l.pid, l.fd, l.start, l.pid_namespace);
    return text;
}
// Empty: who we are could not be found out (errno). A line that nobody can check is none.
std::string own_line(const Member& m) {
    const os::Identity me = os::identity();
    errno = me.error;
    if (me.start_ticks == 0) return {};
    return line_text({me.pid, m.file.number(), me.start_ticks, me.pid_namespace});
}

bool read_rendezvous(int fd, Rendezvous& out) {
    std::string text;
    char part[4096];
    while (text.size() < kRendezvousMost) {
        ssize_t n = pread(fd, part, sizeof part, static_cast<off_t>(text.size()));
        if (n < 0 && errno == EINTR) continue;
        if (n <= 0) break;
        text.append(part, static_cast<std::size_t>(n));
        // A pool, or whatever: do not read it all.
        if (!text.starts_with(std::string_view(kRendezvous).substr(0, text.size()))) return false;
    }
    constexpr std::size_t kPrefix = sizeof kRendezvous - 1;
    if (text.size() < kPrefix + 33 || text[kPrefix + 32] != '\n') return false;
    out = {text.substr(kPrefix, 32), {}};
    for (std::size_t at = kPrefix + 33, end; (end = text.find('\n', at)) != std::string::npos;
         at = end + 1) {
        Line l;
        if (std::sscanf(text.c_str() + at, "%u %d %llu %llu", &l.pid, &l.fd, &l.start,
                        &l.pid_namespace) == 4 &&
            l.pid != 0 && l.fd >= 0)
            out.lines.push_back(l);
    }
    return true;
}

os::Life life_of(const Line& l, u64 own_namespace) noexcept {
    return l.pid_namespace == own_namespace ? os::life_of(l.pid, l.start, ~u64{0})
                                            : os::Life::unknown;
}

// stale: it is proven that this line leads to no pool. unknown: everything else (errno says why):
// the process may not be looked into or belongs to another PID namespace, or we lack a descriptor
// or a /proc.
enum class Reach { found, stale, unknown };

Reach reach(const Line& l, const std::string& id, u64 own_namespace, PoolFd& out) {
    // Without a /proc we do not know our own namespace. Otherwise it is another one's process,
    // unless a system call says something else.
    errno = own_namespace == 0 ? ENOENT : EACCES;
    if (const os::Life life = life_of(l, own_namespace); life != os::Life::alive)
        return life == os::Life::dead ? Reach::stale : Reach::unknown;
    char path[64];
    std::snprintf(path, sizeof path, "/proc/%u/fd/%d", l.pid, l.fd);
    struct stat st{};
    // The number may mean anything by now; opening a device or a pipe could have effects. A memfd
    // is a regular file without a name.
    if (stat(path, &st) != 0) return errno == ENOENT ? Reach::stale : Reach::unknown;
    if (!S_ISREG(st.st_mode) || st.st_nlink != 0) return Reach::stale;
    PoolFd fd([&] { return open(path, O_RDWR | O_CLOEXEC | O_NONBLOCK); });
    // It can have been closed since.
    if (!fd) return errno == ENOENT ? Reach::stale : Reach::unknown;
    // Without the seals whoever has it could cut it short under our mapping.
    const int seals = fcntl(fd.get(), F_GET_SEALS);
    HeaderCopy h;
    if (seals < 0 || (seals & (F_SEAL_SHRINK | F_SEAL_GROW)) != (F_SEAL_SHRINK | F_SEAL_GROW) ||
        !h.read(fd.get()))
        return Reach::stale;
    if (h.get().magic != kMagic || PoolId::of(h.get()).hex() != id) return Reach::stale;
    out = std::move(fd);
    return Reach::found;
}
// With `unknown` in errno: what stands in the way.
Reach reach_any(const Rendezvous& r, PoolFd& out) {
    const u64 own_namespace = os::identity().pid_namespace;
    Reach best = Reach::stale;
    int error = 0;
    for (auto it = r.lines.rbegin(); it != r.lines.rend(); ++it) {
        switch (reach(*it, r.id, own_namespace, out)) {
            case Reach::found:
                return Reach::found;
            case Reach::unknown:
                best = Reach::unknown;
                error = errno;
                break;
            case Reach::stale:
                break;
        }
    }
    errno = error;
    return best;
}

// Reach::unknown; errno says why.
Status fail_to_reach(Failure& why) {
    if (errno != EACCES && errno != EPERM)
        return fail_at(why, "look for the pool's members", "/proc", errno);
    return fail(why, "the pool's members cannot be looked into from here", Status::not_allowed);
}

// ---- giving and taking names. The directory is locked -------------------------------------------

// Nonblocking: a FIFO in the way must not stop us.
constexpr int kOpenFlags = O_NOFOLLOW | O_CLOEXEC | O_NONBLOCK | O_NOCTTY;

bool still_there(int dirfd, const Place& place) {
    if (place.memfd) {
        Fd fd([&] { return openat(dirfd, place.name.c_str(), O_RDONLY | kOpenFlags); });
        Rendezvous r;
        return fd && read_rendezvous(fd.get(), r) && r.id == place.id.hex();
    }
    struct stat st{};
    return fstatat(dirfd, place.name.c_str(), &st, AT_SYMLINK_NOFOLLOW) == 0 &&
           S_ISREG(st.st_mode) && st.st_dev == place.dev && st.st_ino == place.ino;
}

// With the lock for it.
Status remove_name(int dirfd, const Place& place, const DirectoryLock& directory_lock) {
    if (!directory_lock) return directory_lock.status();
    if (!still_there(dirfd, place)) return Status::no_entry;
    return happened(unlinkat(dirfd, place.name.c_str(), 0)) ? Status::ok : status_of(errno);
}

std::string random_name() {
    u64 n = 0;
    os::random_bytes(&n, sizeof n);
    char text[sizeof kHidden + 16];
    std::snprintf(text, sizeof text, "%s%016llx", kHidden, static_cast<unsigned long long>(n));
    return text;
}

Orphan look_behind(int dirfd, const std::string& name, bool remove);

// A file that has no name yet, or a hidden one where the file system cannot do without.
class Unpublished {
  public:
    ~Unpublished() {
        if (!hidden_.empty()) happened(unlinkat(dirfd_, hidden_.c_str(), 0));
    }
    // Fd or PoolFd.
    template <class Descriptor>
    Descriptor make(int dirfd) {
        dirfd_ = dirfd;
        Descriptor fd([&] { return make_unnamed(); });
        return fd || errno != EOPNOTSUPP ? std::move(fd) : make_hidden<Descriptor>(dirfd);
    }
    // The membership byte is held from here on: a hidden file in which nobody has it was left by a
    // process that died, and is removed by the next one that needs a hidden file here.
    template <class Descriptor>
    Descriptor make_hidden(int dirfd) {
        dirfd_ = dirfd;
        for (const std::string& left : os::names_in(dirfd, kHidden))
            look_behind(dirfd, left, true);
        for (int i = 0; i < 16; ++i) {
            std::string name = random_name();
            Descriptor fd([&] {
                return openat(dirfd, name.c_str(),
                              O_RDWR | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600);
            });
            if (!fd && errno != EEXIST) return fd;
            if (!fd) continue;
            crash_point();
            if (hold_new_file(fd.get())) {
                hidden_ = name;
                return fd;
            }
            // There are no locks to be had, or it was swept.
            const int error = errno;
            unlinkat(dirfd, name.c_str(), 0);
            errno = error;
        }
        return {};
    }
    // Another open file description of it; empty on failure.
    PoolFd open_again(const os::PoolFile& file) const {
        return PoolFd([&] {
            return hidden_.empty() ? file.again()
                                   : os::PoolFile(openat(dirfd_, hidden_.c_str(),
                                                         O_RDWR | O_NOFOLLOW | O_CLOEXEC));
        });
    }
    // Fails with EEXIST rather than replace.
    bool publish(int fd, const char* name) {
        if (hidden_.empty()) {
            char path[48];
            std::snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
            return happened(linkat(AT_FDCWD, path, dirfd_, name, AT_SYMLINK_FOLLOW));
        }
        if (!happened(
                syscall(SYS_renameat2, dirfd_, hidden_.c_str(), dirfd_, name, RENAME_NOREPLACE))) {
            if (errno != EINVAL && errno != ENOSYS) return false;
            if (!happened(linkat(dirfd_, hidden_.c_str(), dirfd_, name, 0))) return false;
            happened(unlinkat(dirfd_, hidden_.c_str(), 0));
        }
        hidden_.clear();
        return true;
    }
    bool replace(const char* name) {
        if (!happened(renameat(dirfd_, hidden_.c_str(), dirfd_, name))) return false;
        hidden_.clear();
        return true;
    }

  private:
    // EOPNOTSUPP: the file needs a name, for want of the system's support or of a /proc.
    int make_unnamed() const noexcept {
        const int fd = openat(dirfd_, ".", O_TMPFILE | O_RDWR | O_CLOEXEC, 0600);
        if (fd < 0 && (errno == EISDIR || errno == ENOENT || errno == EINVAL)) errno = EOPNOTSUPP;
        if (fd < 0 || access("/proc/self/fd", F_OK) == 0) return fd;
        close(fd);
        errno = EOPNOTSUPP;
        return -1;
    }
    int dirfd_ = -1;
    std::string hidden_;
};

// Adds our line to a rendezvous. no_entry: it is gone, or another pool's.
Status add_line(int dirfd, const Place& place, const Member& m, WaitPolicy& p) {
    const std::string own = own_line(m);
    if (own.empty()) return Status::system_error;
    DirectoryLock directory_lock(dirfd, p);
    if (!directory_lock) return directory_lock.status();
    Fd fd([&] { return openat(dirfd, place.name.c_str(), O_RDWR | O_APPEND | kOpenFlags); });
    if (!fd) return status_of(errno);
    struct stat st{};
    Rendezvous r;
    if (fstat(fd.get(), &st) != 0 || !S_ISREG(st.st_mode) || !read_rendezvous(fd.get(), r) ||
        r.id != place.id.hex())
        return Status::no_entry;
    if (st.st_size > static_cast<off_t>(kRendezvousTidy)) {
        // Many have come and gone. In a new file, so that who reads sees the old text or the new
        // one.
        Unpublished fresh;
        const Fd to = fresh.make_hidden<Fd>(dirfd);
        std::string text = kRendezvous + r.id + "\n";
        const u64 own_namespace = os::identity().pid_namespace;
        for (const Line& l : r.lines)
            if (life_of(l, own_namespace) != os::Life::dead) text += line_text(l);
        if (to && write_all(to.get(), text + own) && fresh.replace(place.name.c_str()))
            return Status::ok;
    }
    // A line cut short by a full file system would run into the next one.
    const std::string lead =
        st.st_size > 0 &&
                [&] {
                    char c = 0;
                    return pread(fd.get(), &c, 1, st.st_size - 1) == 1 && c != '\n';
                }()
            ? "\n"
            : "";
    return write_all(fd.get(), lead + own) ? Status::ok : status_of(errno);
}

// What stands behind a name; removes it if it is of no use to anybody. The directory is locked.
Orphan look_behind(int dirfd, const std::string& name, bool remove) {
    const PoolFd fd([&] { return openat(dirfd, name.c_str(), O_RDWR | kOpenFlags); });
    if (!fd) {
        // What no file of a pool can be: a directory, a link, a device without a driver.
        const bool is_other =
            errno == EISDIR || errno == ELOOP || errno == ENXIO || errno == ENODEV;
        return is_other ? Orphan::not_a_pool : Orphan::failed;
    }
    struct stat st{};
    if (fstat(fd.get(), &st) != 0) return Orphan::failed;
    if (!S_ISREG(st.st_mode)) return Orphan::not_a_pool;
    auto gone = [&] {
        return !remove || happened(unlinkat(dirfd, name.c_str(), 0)) ? Orphan::removed
                                                                     : Orphan::failed;
    };
    // The probe for a mere question must not be a lock: a last member on its way out would take us
    // for somebody.
    auto ask = [&](const os::PoolFile& of) {
        if (!remove) return of.others(kMemberByte);
        switch (of.lock(kMemberByte, true)) {
            case os::ByteLock::taken:
                return os::Others::none;
            case os::ByteLock::busy:
                return os::Others::share;
            case os::ByteLock::failed:
                break;
        }
        return os::Others::unknown;
    };
    auto gone_if_alone = [&](const os::PoolFile& of) {
        const os::Others others = ask(of);
        if (others != os::Others::none)
            return others == os::Others::unknown ? Orphan::failed : Orphan::in_use;
        const Orphan result = gone();
        // Explicitly: a copy of the descriptor in a child would keep it.
        if (remove) of.unlock(kMemberByte);
        return result;
    };
    if (is_hidden(name)) {
        // Left by a process that died while it made the file: one that lives has the byte. A
        // process that has not locked it yet finds that its file has lost its name, and begins
        // anew.
        return gone_if_alone(*fd);
    }
    if (Rendezvous r; read_rendezvous(fd.get(), r)) {
        PoolFd memory;
        switch (reach_any(r, memory)) {
            case Reach::unknown:
                return errno == EACCES || errno == EPERM ? Orphan::in_use : Orphan::failed;
            case Reach::stale:
                return gone();
            case Reach::found:
                break;
        }
        return gone_if_alone(*memory);
    }
    // Only what stands in the first line of the header, which is the same in every version: pools
    // of older builds must go too.
    HeaderCopy h;
    if (!h.read(fd.get()) || h.get().magic != kMagic) return Orphan::not_a_pool;
    const os::Others others = fd->others(kMemberByte);
    if (others == os::Others::unknown) return Orphan::failed;
    if (others != os::Others::none) return Orphan::in_use;
    if (h.get().flags & kPersistent) return Orphan::kept_persistent;
    return gone_if_alone(*fd);
}

// ---- leaving ------------------------------------------------------------------------------------

// Gives the membership byte up; the last one takes the name along.
void depart(const os::PoolFile& file, const Place& place, bool persistent) noexcept {
    file.unlock(kMemberByte);
    if (persistent || file.lock(kMemberByte, true) != os::ByteLock::taken) return;
    Fd dirfd([&] {
        return open(place.directory.c_str(), O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    });
    // Without memory to read a rendezvous, the name stays to whoever looks behind it next.
    if (dirfd) {
        static_cast<void>(within_memory(
            [&] { return remove_name(dirfd.get(), place, DirectoryLock(dirfd.get())); }));
    }
    file.unlock(kMemberByte);
}

// Of a pool with the mark that somebody leaves it, and without pools_mutex.
void give_up_byte(const Pool& pool) noexcept {
    const Member& m = *pool.member;
    // A forked child that is no member has no descriptor.
    if (!m.readonly && m.file) depart(m.file, pool.place, pool.persistent || !m.last_one_unlinks);
}

// Under pools_mutex, which is free meanwhile: what others hold up holds up neither a fork nor what
// other threads do with other pools.
void leave_marked(std::unique_lock<std::mutex>& guard, Pool& pool) noexcept {
    pool.leaving = lineage();  // keeps the member and this entry: drop_member waits
    guard.unlock();
    Member& m = *pool.member;
    m.leave();
    give_up_byte(pool);
    guard.lock();
    // Through a lost number nothing could be unlocked.
    if (m.file.lost()) m.file.close();
    pool.left = true;
    pool.leaving = 0;
}

// Under pools_mutex: from here on a fork passes the member by. It has left.
void take_off_the_books(Member& m, PoolFd& last) noexcept {
    std::erase_if(pools(), [&m](const Pool& p) { return p.member == &m; });
    forget_member(m);
    last.adopt_locked(std::move(m.file));
    // A child would inherit a private mapping, and the locks with it.
    if (m.readonly && m.base != nullptr) os::unmap(std::exchange(m.base, nullptr), m.length);
}

// What the last shared_ptr does.
void drop_member(Member* m) noexcept {
    // First, so that the interpreter is taken back last: not under the mutex, and not before the
    // memory is gone, because gigabytes take the kernel seconds to free.
    UnboundedWait wait;
    wait.about_to_block();
    PoolFd last;
    {
        std::unique_lock guard(pools_mutex());
        Pool* pool = pool_of(m);
        // Another thread may be at it.
        while (pool != nullptr && pool->leaving == lineage()) {
            guard.unlock();
            os::nap(1'000'000);
            guard.lock();
            pool = pool_of(m);
        }
        if (pool != nullptr && !pool->left) leave_marked(guard, *pool);
        take_off_the_books(*m, last);
    }
    delete m;
}

// ---- a member in the making ---------------------------------------------------------------------

struct Discard {
    void operator()(Member* m) const noexcept {
        m->leave();
        PoolFd last;
        {
            std::lock_guard guard(pools_mutex());
            take_off_the_books(*m, last);
        }
        delete m;
    }
};
using Coming = std::unique_ptr<Member, Discard>;

// The descriptor passes from one list to the other, and the mapping appears, in one step, as far as
// a fork is concerned. `map` gives the mapping, or nullptr with errno.
//
// A shared mapping is made through an open file description of its own, which never carries a lock
// and which only the mapping keeps. Forked children inherit the mapping: through the description
// that the locks are on, it would keep those after the parent's death.
template <class Map>
Status coming(u64 length, PoolFd& fd, bool readonly, Coming& out, Failure& why, Map map) {
    std::lock_guard guard(pools_mutex());
    unsigned char* base = map();
    if (base == nullptr) return fail_to_map(why);
    out.reset(new (std::nothrow) Member(base, length, fd.release_locked()));
    if (out == nullptr) {
        os::unmap(base, length);
        return fail(why, "make the member", Status::out_of_memory);
    }
    out->readonly = readonly;
    register_member(*out, false);
    return Status::ok;
}

unsigned char* map_segment(const PoolFd& again, u64 length) noexcept {
    return static_cast<unsigned char*>(os::map_shared(again.get(), length, true));
}

// One thread of a process opens a file at a time: two would become two members.
class Turn {
  public:
    Turn() = default;
    ~Turn() {
        if (mine_.process == 0) return;
        std::lock_guard guard(pools_mutex());
        std::erase(all(), mine_);
    }
    Turn(const Turn&) = delete;
    Turn& operator=(const Turn&) = delete;
    // Under pools_mutex. False: another thread has it.
    bool take(const struct stat& file) {
        const Entry entry{file.st_dev, file.st_ino, lineage()};
        if (std::find(all().begin(), all().end(), entry) != all().end()) return false;
        all().push_back(entry);
        mine_ = entry;
        return true;
    }

  private:
    // A fork copies the entries of threads that the child does not have: those of its parent's
    // lineage count for nothing.
    struct Entry {
        dev_t dev = 0;
        ino_t ino = 0;
        unsigned process = 0;
        bool operator==(const Entry&) const = default;
    };
    static std::vector<Entry>& all() {
        static auto& turns = *new std::vector<Entry>;
        return turns;
    }
    Entry mine_;
};

// A joined member's place on the books. All memory for it is got when this is made, before others
// can see the member: nothing fails after that.
class Adoption {
  public:
    explicit Adoption(const Place& place)
        : pool_(1), owner_(std::make_shared<Owner>()), path_(place.directory + "/" + place.name) {
        pool_.front().place = place;
    }
    // `flags` as they were checked, not as they stand in the header by now.
    std::shared_ptr<Member> complete(Coming member, const struct stat& memory, u64 flags) noexcept {
        const bool persistent = (flags & kPersistent) != 0;
        Member* m = owner_->member = member.release();
        Pool& pool = pool_.front();
        // The mode of a memfd says nothing: it has no name, and who may reach it through /proc may
        // read our memory anyway.
        m->others_may_write = (flags & kOthersMayWrite) != 0 || memory.st_uid != geteuid() ||
                              (!pool.place.memfd && (memory.st_mode & 022) != 0);
        m->path = std::move(path_);
        m->last_one_unlinks = !persistent;
        pool.member = m;
        pool.dev = memory.st_dev;
        pool.ino = memory.st_ino;
        pool.persistent = persistent;
        pool.announced = lineage();
        std::shared_ptr<Member> shared(std::move(owner_), m);
        pool.shared = shared;
        std::lock_guard guard(pools_mutex());
        pools().splice(pools().end(), pool_);
        return shared;
    }

  private:
    struct Owner {
        Member* member = nullptr;
        ~Owner() {
            if (member != nullptr) drop_member(member);
        }
    };
    std::list<Pool> pool_;  // one, until it is complete
    std::shared_ptr<Owner> owner_;
    std::string path_;
};

// ---- creating -----------------------------------------------------------------------------------

int make_memfd() noexcept {
    int fd = static_cast<int>(
        syscall(SYS_memfd_create, "onecopy", MFD_CLOEXEC | MFD_ALLOW_SEALING | MFD_NOEXEC_SEAL));
    if (fd < 0 && errno == EINVAL)
        fd =
            static_cast<int>(syscall(SYS_memfd_create, "onecopy", MFD_CLOEXEC | MFD_ALLOW_SEALING));
    return fd;
}

// Removes what has the name, if that is a pool whose members are all dead. The directory is locked.
Status make_free(int dirfd, const std::string& name, Failure& why) {
    const Orphan found = look_behind(dirfd, name, true);
    if (found == Orphan::removed) return Status::ok;
    if (found == Orphan::failed && lacks_means(errno))
        return fail(why, "look at what has the name");
    return fail(why, "publish the pool", EEXIST);
}

// A signal handler has forked, and this is the child: it has nothing of what was in the making.
Status forked_meanwhile(Failure& why) {
    return why = {ECANCELED, "the process was forked meanwhile, by a signal handler", {}},
           Status::system_error;
}

// Calls `piece(offset, bytes)`, which gives 0 or errno, for all of [from, from+bytes). Between two
// of them signals are looked at. interrupted, ok, or what the error means.
template <class Piece>
Status in_pieces(u64 from, u64 bytes, WaitPolicy& p, Failure& why, const char* step, Piece piece) {
    const unsigned process = lineage();
    for (u64 done = 0; done < bytes; done += kPiece) {
        p.about_to_block();
        if (const int error = piece(from + done, std::min(kPiece, bytes - done)))
            return fail(why, step, error);
        if (p.interrupted()) return Status::interrupted;
        if (lineage() != process) return forked_meanwhile(why);
    }
    return Status::ok;
}

int populate(unsigned char* from, u64 bytes) noexcept {
    while (madvise(from, bytes, MADV_POPULATE_WRITE) != 0) {
        // A kernel before 5.14: the memory is reserved, only not mapped yet.
        if (errno == EINVAL) return 0;
        if (errno != EINTR && errno != EAGAIN) return errno;
    }
    return 0;
}

// Nothing that others can see, or wait for, until it is published.
Status create(const CreateSpec& spec, std::shared_ptr<Member>& out, Failure& why, WaitPolicy& p) {
    Fd dirfd;
    if (Status s = trusted_directory(spec.way, spec.directory, true, dirfd, why); !good(s))
        return s;
    // Taken? Asked again when it counts; now only to save the work. The name of a pool whose
    // members are all dead is free.
    {
        struct stat st{};
        BoundedWait policy(p, from_now(kDirectoryWait));
        DirectoryLock directory_lock(dirfd.get(), policy);
        if (!directory_lock) return directory_lock.fail(why);
        if (fstatat(dirfd.get(), spec.name.c_str(), &st, AT_SYMLINK_NOFOLLOW) == 0) {
            if (Status s = make_free(dirfd.get(), spec.name, why); !good(s)) return s;
        }
    }

    const Geometry g = geometry(spec.capacity, spec.max_processes);
    auto flag = [](bool set, HeaderFlags which) { return set ? static_cast<u64>(which) : 0; };
    const u64 flags = flag(spec.persistent, kPersistent) | flag(spec.memfd, kMemfd) |
                      flag((spec.mode & 022) != 0, kOthersMayWrite);
    Unpublished file;  // destroyed after the descriptor is
    PoolFd fd = spec.memfd ? PoolFd(make_memfd) : file.make<PoolFd>(dirfd.get());
    if (!fd) return fail(why, spec.memfd ? "memfd_create" : "create the pool file");
    if (fd->lock(kMemberByte, false) != os::ByteLock::taken)
        return fail(why, "lock the membership byte");
    if (!happened(fchmod(fd.get(), spec.mode))) return fail(why, "set the mode of the pool file");
    if (!happened(ftruncate(fd.get(), static_cast<off_t>(g.file_size))))
        return fail(why, "set the size of the pool file");
    if (spec.memfd && !happened(fcntl(fd.get(), F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW)))
        return fail(why, "seal the memfd");
    if (int error = fd->reserve(0, fixed_bytes(g))) return fail(why, "reserve the tables", error);
    if (spec.prefault) {
        // What it takes before it fails goes with the file, which has no name.
        if (int error = os::room_for(*fd, g.capacity))
            return no_room(why, "reserve the heap", fd->identity().in_memory, error);
        const Status s = in_pieces(g.heap_off, g.capacity, p, why, "reserve the heap",
                                   [&](u64 at, u64 bytes) { return fd->reserve(at, bytes); });
        if (!good(s)) return s;
    }
    PoolId id;
    if (!os::random_bytes(id.id, sizeof id.id)) return fail(why, "getrandom");
    struct stat memory{};
    if (fstat(fd.get(), &memory) != 0) return fail(why, "look at the pool file");

    // From here the member owns mapping and descriptor. Nobody else sees the file, so whatever
    // fails leaves nothing behind.
    Coming member;
    {
        const PoolFd again =
            spec.memfd ? PoolFd([&] { return fd->again(); }) : file.open_again(*fd);
        if (!again) {  // a memfd is reached through /proc only
            const char* step = "open the pool file again";
            return spec.memfd ? fail_at(why, step, "/proc/self/fd", errno) : fail(why, step);
        }
        const Status s = coming(g.file_size, fd, false, member, why, [&]() noexcept {
            unsigned char* base = map_segment(again, g.file_size);
            if (base == nullptr) return base;
            format(base, g, flags);
            copy_in(reinterpret_cast<Header*>(base)->id, id.id, sizeof id.id);
            return base;
        });
        if (!good(s)) return s;
    }
    format_heap(*member);
    if (spec.prefault) note_reserved(*member);
    directory::format(*member);
    if (Status s = member->check(); !good(s)) return fail(why, "check the new pool", s);
    if (spec.prefault) {
        const Status s =
            in_pieces(0, g.capacity, p, why, "prefault the heap",
                      [&](u64 at, u64 bytes) { return populate(member->heap() + at, bytes); });
        if (!good(s)) return s;
    }
    if (Status s = member->join(); !good(s)) return fail(why, "take a slot", s);

    Unpublished rendezvous;
    Fd text;
    if (spec.memfd) {
        text = rendezvous.make<Fd>(dirfd.get());
        if (!text) return fail(why, "create the rendezvous file");
        const std::string own = own_line(*member);
        if (own.empty()) return fail_at(why, "find out who we are", "/proc/self/stat", errno);
        if (fchmod(text.get(), 0600) != 0 ||
            !write_all(text.get(), kRendezvous + id.hex() + "\n" + own))
            return fail(why, "write the rendezvous file");
    }
    // On the books first: another thread that opens it as soon as it has its name shall find it
    // there. Nobody who leaves looks for a name yet.
    Adoption adoption(
        {absolute(spec.directory), spec.name, memory.st_dev, memory.st_ino, id, spec.memfd});
    const unsigned process = lineage();
    std::shared_ptr<Member> made = adoption.complete(std::move(member), memory, flags);
    made->last_one_unlinks = false;
    {
        BoundedWait policy(p, from_now(kDirectoryWait));
        DirectoryLock directory_lock(dirfd.get(), policy);
        if (lineage() != process) return forked_meanwhile(why);
        if (!directory_lock) return directory_lock.fail(why);
        // Everything is in place and we are its member: with the name the pool exists, and there is
        // no moment in which it looks deserted.
        auto publish = [&] {
            return spec.memfd ? rendezvous.publish(text.get(), spec.name.c_str())
                              : file.publish(made->file.number(), spec.name.c_str());
        };
        made->last_one_unlinks = !spec.persistent;
        bool done = publish();
        if (!done && errno == EEXIST) {
            if (Status s = make_free(dirfd.get(), spec.name, why); !good(s)) {
                made->last_one_unlinks = false;
                return s;
            }
            done = publish();
        }
        if (!done) {
            const int error = errno;
            made->last_one_unlinks = false;
            return why = {error, "publish the pool", {}},
                   error == ENOENT ? Status::system_error : status_of(error);
        }
    }
    member_is_made(*made);
    out = std::move(made);
    return Status::ok;
}

// ---- opening ------------------------------------------------------------------------------------

// What an attempt to open a pool that comes to would_block waits for.
Status busy(Failure& why) {
    return why = {EBUSY, "open the pool: it keeps coming and going", {}}, Status::would_block;
}
Status directory_busy(Failure& why) {
    return why = {ETIMEDOUT, "lock the pool directory", {}}, Status::would_block;
}
Status thread_busy(Failure& why) {
    return why = {EALREADY, "open the pool: another thread is at it", {}}, Status::would_block;
}

// What this process has of a file, or else the right to become its member. ok: `here`, or `turn`.
// would_block.
Status look_here(const struct stat& file, const PoolId& id, std::shared_ptr<Member>& here,
                 Turn& turn, Failure& why, bool to_read) {
    // Those that turn out not to serve: the last pointer must not go while the mutex is held.
    std::vector<std::shared_ptr<Member>> rejected;
    std::lock_guard guard(pools_mutex());
    for (const Pool& p : pools()) {
        if (p.dev != file.st_dev || p.ino != file.st_ino || p.place.id != id) continue;
        rejected.emplace_back();  // before there is a pointer that must be kept
        std::shared_ptr<Member>& member = rejected.back();
        member = p.shared.lock();
        if (member == nullptr) continue;
        const bool serves = !p.left && p.leaving != lineage() && member->joined.load();
        if (member->readonly ? !to_read || serves : !to_read && serves) {
            here = std::move(member);
            return Status::ok;
        }
    }
    return turn.take(file) ? Status::ok : thread_busy(why);
}

// One attempt. would_block: somebody is coming or going right now, has the directory locked, or is
// a thread of this process at the same.
Status try_open(int dirfd, const std::string& directory, const std::string& name,
                WhenStale when_stale, std::shared_ptr<Member>& out, Failure& why) {
    // No signal handler runs in here: it might want to open the same pool.
    UnboundedWait outer;
    UninterruptibleWait policy(outer, from_now(kShortWait));
    PoolFd fd([&] { return openat(dirfd, name.c_str(), O_RDWR | kOpenFlags); });
    if (!fd) {
        if (errno == EISDIR || errno == ENXIO || errno == ENODEV)
            return fail(why, kNotAPool, Status::corrupt);
        if (errno == EACCES || errno == EROFS)
            return fail(why,
                        "it may not be written from here; Pool.open(..., mode=\"r\") only reads");
        return fail_to_open(why);
    }
    struct stat st{};
    if (fstat(fd.get(), &st) != 0) return fail(why, "look at the pool file");
    if (!S_ISREG(st.st_mode)) return fail(why, kNotAPool, Status::corrupt);
    const bool own = st.st_uid == geteuid();
    if (!own && !(st.st_mode & 022))
        return fail(why, "the pool belongs to another user", Status::not_allowed);

    Place place{absolute(directory), name, st.st_dev, st.st_ino, {}, false};
    if (Rendezvous r; own && read_rendezvous(fd.get(), r)) {
        place.memfd = true;
        fd.reset();
        Reach found = reach_any(r, fd);
        if (found == Reach::stale) {
            // Somebody may have added a line since: look again while nobody can.
            DirectoryLock directory_lock(dirfd, policy);
            if (!directory_lock) return directory_busy(why);
            Fd again([&] { return openat(dirfd, name.c_str(), O_RDONLY | kOpenFlags); });
            if (!again) return fail(why, "open the rendezvous file");
            Rendezvous now;
            // Another pool by now.
            if (!read_rendezvous(again.get(), now) || now.id != r.id) return busy(why);
            found = reach_any(now, fd);
            if (found == Reach::stale) {
                if (when_stale == WhenStale::keep) return fail(why, kStale, Status::no_entry);
                happened(unlinkat(dirfd, name.c_str(), 0));
                return fail(why, "all members of the pool are gone", Status::no_entry);
            }
        }
        if (found == Reach::unknown) return fail_to_reach(why);
        if (fstat(fd.get(), &st) != 0) return fail(why, "look at the memfd");
        if (st.st_uid != geteuid())
            return fail(why, "the pool belongs to another user", Status::not_allowed);
    }
    HeaderCopy copy;
    if (!copy.read(fd.get())) return fail(why, kNotAPool, Status::corrupt);
    const Header& h = copy.get();
    if (Status s = verify(h, static_cast<u64>(st.st_size), why); !good(s)) return s;
    if (((h.flags & kMemfd) != 0) != place.memfd)
        return fail(why, "a memfd pool without its memfd", Status::corrupt);
    // The creator must have meant it, and not only a later chmod.
    if (!own && !(h.flags & kOthersMayWrite))
        return fail(why, "the pool belongs to another user", Status::not_allowed);
    place.id = PoolId::of(h);
    const bool persistent = (h.flags & kPersistent) != 0;

    Turn turn;
    std::shared_ptr<Member> here;
    if (Status s = look_here(st, place.id, here, turn, why, false); !good(s)) return s;
    if (here != nullptr) {
        if (here->readonly) return fail(why, "this process reads it", Status::read_elsewhere);
        if (here->corrupt()) return fail(why, "the pool is marked corrupt", Status::corrupt);
        member_is_made(*here);  // it has its name, and its maker is about to say so
        out = std::move(here);
        return Status::ok;
    }

    Adoption adoption(place);
    if (fd->others(kSlotByte) == os::Others::share)
        return fail(why, "somebody reads it", Status::read_elsewhere);
    bool alone = false;
    switch (fd->lock(kMemberByte, true)) {
        case os::ByteLock::failed:
            return fail(why, "lock the membership byte");
        case os::ByteLock::taken:
            alone = true;
            // Nobody is here: its members have died.
            if (!persistent) {
                // If that fails there is no such pool all the same.
                if (when_stale == WhenStale::remove)
                    remove_name(dirfd, place, DirectoryLock(dirfd, policy));
                fd->unlock(kMemberByte);
                return fail(
                    why,
                    when_stale == WhenStale::keep ? kStale : "all members of the pool are gone",
                    Status::no_entry);
            }
            if (fd->lock(kMemberByte, false) != os::ByteLock::taken)
                return fail(why, "lock the membership byte");
            break;
        case os::ByteLock::busy:
            switch (fd->lock(kMemberByte, false)) {
                case os::ByteLock::failed:
                    return fail(why, "lock the membership byte");
                // The last one is leaving, or somebody looks whether anybody is here.
                case os::ByteLock::busy:
                    return busy(why);
                case os::ByteLock::taken:
                    break;
            }
    }
    // We count as a member now: whatever goes wrong, we may be the last one out.
    auto turn_back = [&](Status s) {
        const int error = errno;
        depart(*fd, place, persistent);
        errno = error;
        return s;
    };
    if (fstat(fd.get(), &st) != 0) return turn_back(fail(why, "look at the pool file"));
    if (static_cast<u64>(st.st_size) != h.file_size)
        return turn_back(fail(why, "the file is not as long as its header says", Status::corrupt));
    // By its name: it may have been removed between our open and our lock. A memfd's name is looked
    // at when it gets our line.
    PoolFd again([&] {
        return place.memfd ? fd->again()
                           : os::PoolFile(openat(dirfd, name.c_str(), O_RDWR | kOpenFlags));
    });
    if (!again) {
        const bool removed = !place.memfd && errno == ENOENT;
        return turn_back(removed ? busy(why) : fail(why, "open the pool file again"));
    }
    if (again->identity() != fd->identity())
        return turn_back(busy(why));  // the name has become another file's meanwhile
    // The member owns a descriptor of the same description: turning back still needs one after the
    // member is gone.
    PoolFd second([&] { return fd->duplicate(); });
    if (!second) return turn_back(fail(why, "duplicate the descriptor"));
    Coming member;
    if (Status s = coming(h.file_size, second, false, member, why,
                          [&] { return map_segment(again, h.file_size); });
        !good(s))
        return turn_back(s);
    again.reset();
    if (Status s = member->check(); !good(s)) {
        fail(why,
             member->corrupt() ? "the pool is marked corrupt" : "the pool's marks are impossible",
             s);
        member.reset();
        return turn_back(s);
    }
    // Nobody vouches for what the marks say of a file that was lying about: copied with holes, cut
    // short and grown again.
    if (const int error = alone ? reserve_marked(*member) : 0; error != 0) {
        // What it took goes back while nobody is, or becomes, a member: the next one who is alone
        // reserves anew. With the byte shared again we leave as everybody does.
        if (fd->lock(kMemberByte, true) == os::ByteLock::taken) {
            fd->give_back_unwritten(member->base, 0, h.file_size);
            static_cast<void>(fd->lock(kMemberByte, false));
        }
        member.reset();
        return turn_back(fail(why, "reserve what the pool says it has", error));
    }
    if (Status s = member->join(); !good(s)) {
        fail(why, "take a slot", s);
        why.limit = member->geo().max_processes;
        // It has just come.
        if (s == Status::no_slot && fd->others(kSlotByte) == os::Others::share)
            s = Status::read_elsewhere;
        member.reset();
        return turn_back(s);
    }
    if (place.memfd) {
        if (Status s = add_line(dirfd, place, *member, policy); !good(s)) {
            const int error = errno;
            member.reset();
            turn_back(s);
            if (s == Status::timed_out) return directory_busy(why);
            // The last one left: the name says more.
            if (s == Status::no_entry) return busy(why);
            return why = {error, "add to the rendezvous file", {}}, s;
        }
    }
    out = adoption.complete(std::move(member), st, h.flags);
    member_is_made(*out);
    return Status::ok;
}

// ---- opening for reading only -------------------------------------------------------------------

// A pool's file that was opened and checked, of which nothing is mapped yet.
struct Opened {
    PoolFd fd;
    struct stat st{};
    HeaderCopy copy;
    Place place;
    const Header& header() const noexcept { return copy.get(); }
};

// Opens the memory of a pool to read it, and locks nothing. Of a memfd the rendezvous is followed.
Status open_and_check(int dirfd, const std::string& directory, const std::string& name,
                      bool follow_rendezvous, Opened& out, Failure& why) {
    out.fd = PoolFd([&] { return openat(dirfd, name.c_str(), O_RDONLY | kOpenFlags); });
    if (!out.fd) {
        if (errno == ENXIO || errno == ENODEV) return fail(why, kNotAPool, Status::corrupt);
        return fail_to_open(why);
    }
    if (fstat(out.fd.get(), &out.st) != 0) return fail(why, "look at the pool file");
    if (!S_ISREG(out.st.st_mode)) return fail(why, kNotAPool, Status::corrupt);
    const bool own = out.st.st_uid == geteuid();
    if (!own && !(out.st.st_mode & 022))
        return fail(why, "the pool belongs to another user", Status::not_allowed);
    bool memfd = false;
    if (Rendezvous r; read_rendezvous(out.fd.get(), r)) {
        if (!follow_rendezvous)
            return fail(why, "its memory is a memfd", Status::written_elsewhere);
        if (!own) return fail(why, "the pool belongs to another user", Status::not_allowed);
        switch (reach_any(r, out.fd)) {
            case Reach::found:
                break;
            case Reach::stale:
                return fail(why, kStale, Status::no_entry);
            case Reach::unknown:
                return fail_to_reach(why);
        }
        if (fstat(out.fd.get(), &out.st) != 0) return fail(why, "look at the memfd");
        if (out.st.st_uid != geteuid())
            return fail(why, "the pool belongs to another user", Status::not_allowed);
        memfd = true;
    }
    if (!out.copy.read(out.fd.get())) return fail(why, kNotAPool, Status::corrupt);
    const Header& h = out.header();
    if (Status s = verify(h, static_cast<u64>(out.st.st_size), why); !good(s)) return s;
    if (((h.flags & kMemfd) != 0) != memfd)
        return fail(why, "a memfd pool without its memfd", Status::corrupt);
    if (!own && !(h.flags & kOthersMayWrite))
        return fail(why, "the pool belongs to another user", Status::not_allowed);
    out.place = {absolute(directory), name, out.st.st_dev, out.st.st_ino, PoolId::of(h), memfd};
    return Status::ok;
}

Status try_read(int dirfd, const std::string& directory, const std::string& name,
                std::shared_ptr<Member>& out, Failure& why) {
    Opened opened;
    if (Status s = open_and_check(dirfd, directory, name, false, opened, why); !good(s)) return s;
    auto& [fd, st, copy, place] = opened;
    const Header& h = opened.header();

    Turn turn;
    if (Status s = look_here(st, place.id, out, turn, why, true); !good(s) || out != nullptr)
        return s;
    Adoption adoption(place);
    // Never unlocked: the descriptor and the mapping keep it, here and in children that were forked
    // meanwhile, until the last of them is gone.
    switch (fd->share_range(kSlotByte, kMaxProcesses)) {
        case os::ByteLock::failed:
            return fail(why, "lock the slots");
        case os::ByteLock::busy:
            return fail(why, "somebody is a member", Status::written_elsewhere);
        case os::ByteLock::taken:
            break;
    }
    if ((h.flags & kPersistent) == 0) return fail(why, kStale, Status::no_entry);
    // Only now nobody changes it any more.
    if (fstat(fd.get(), &st) != 0) return fail(why, "look at the pool file");
    if (static_cast<u64>(st.st_size) != h.file_size)
        return fail(why, "the file is not as long as its header says", Status::corrupt);
    Coming member;
    if (Status s = coming(
            h.file_size, fd, true, member, why,
            [&] { return static_cast<unsigned char*>(os::map_private(fd.get(), h.file_size)); });
        !good(s))
        return s;
    if (Status s = member->check(); !good(s))
        return fail(
            why,
            member->corrupt() ? "the pool is marked corrupt" : "the pool's marks are impossible",
            s);
    if (Status s = member->join(); !good(s)) return fail(why, "take a slot", s);
    out = adoption.complete(std::move(member), st, h.flags);
    member_is_made(*out);
    return Status::ok;
}

// Attempts until one comes to something. Nothing is in the making between them, so signal handlers
// may run.
template <class Attempt>
Status open_by(Attempt attempt, Through way, const std::string& directory, const std::string& name,
               Failure& why, WaitPolicy& p) {
    if (!valid_name(name) || is_hidden(name))
        return fail(why, "not a valid name", Status::bad_argument);
    const std::int64_t began = os::monotonic_ns();
    for (;;) {
        Fd dirfd;
        if (Status s = directory_for(way, directory, dirfd, why); !good(s)) return s;
        const Status s = attempt(dirfd.get());
        if (s != Status::would_block) return s;
        const std::int64_t limit = why.error == ETIMEDOUT ? kDirectoryWait : kOpenWait;
        if (why.error != EALREADY && os::monotonic_ns() - began > limit)
            return Status::system_error;
        p.about_to_block();
        os::nap(500'000);
        if (p.interrupted()) return Status::interrupted;
    }
}

}  // namespace

// ---- the interface ------------------------------------------------------------------------------

struct LockedDirectory {
    LockedDirectory(Fd fd, WaitPolicy& p) noexcept
        : directory(std::move(fd)), lock(directory.get(), p) {}
    Fd directory;
    DirectoryLock lock;
};
void Unlock::operator()(LockedDirectory* directory) const noexcept {
    delete directory;
}

int descriptor_of(const LockedDirectory& directory) noexcept {
    return directory.directory.get();
}

Status open_pool_directory(const std::string& directory, bool create, int& out, Failure& why) {
    Fd fd;
    const Status s = trusted_directory(Through::pool_directory, directory, create, fd, why);
    std::lock_guard guard(pools_mutex());
    out = fd.release_locked().release();
    return s;
}

Status create_pool(const CreateSpec& spec, std::shared_ptr<Member>& out, Failure& why,
                   WaitPolicy& p) {
    if (!valid_name(spec.name) || is_hidden(spec.name))
        return fail(why, "not a valid name", Status::bad_argument);
    if (spec.capacity == 0 || spec.capacity > kMaxCapacity)
        return fail(why, "a pool has a size of 1 byte to 64 TiB", Status::bad_argument);
    if (spec.max_processes == 0 || spec.max_processes > kMaxProcesses)
        return fail(why, "max_processes is 1 to 512", Status::bad_argument);
    if ((spec.mode & ~0666u) != 0 || (spec.mode & 0600) != 0600)
        return fail(why,
                    "its mode is 0600 and, for others, any of 0066: no pool is executed, and its "
                    "owner reads and writes it",
                    Status::bad_argument);
    // The memory of a memfd goes with its last member, and its rendezvous is for its owner alone.
    if (spec.memfd && (spec.persistent || (spec.mode & 066) != 0))
        return fail(why, "a memfd pool is neither persistent nor for others", Status::bad_argument);
    return create(spec, out, why, p);
}

Status open_pool(Through way, const std::string& directory, const std::string& name,
                 WhenStale when_stale, std::shared_ptr<Member>& out, Failure& why, WaitPolicy& p) {
    return open_by(
        [&](int dirfd) { return try_open(dirfd, directory, name, when_stale, out, why); }, way,
        directory, name, why, p);
}

Status open_to_read(Through way, const std::string& directory, const std::string& name,
                    std::shared_ptr<Member>& out, Failure& why, WaitPolicy& p) {
    return open_by([&](int dirfd) { return try_read(dirfd, directory, name, out, why); }, way,
                   directory, name, why, p);
}

Status look_at_pool(Through way, const std::string& directory, const std::string& name,
                    const std::function<void(Member&)>& see, Failure& why) {
    if (!valid_name(name) || is_hidden(name))
        return fail(why, "not a valid name", Status::bad_argument);
    Fd dirfd;
    if (Status s = directory_for(way, directory, dirfd, why); !good(s)) return s;
    Opened opened;
    if (Status s = open_and_check(dirfd.get(), directory, name, true, opened, why); !good(s))
        return s;
    const Header& h = opened.header();
    if (!(h.flags & kPersistent) && opened.fd->others(kMemberByte) == os::Others::none)
        return fail(why, kStale, Status::no_entry);
    unsigned char* base = nullptr;
    os::PoolFile file;
    {
        // No child inherits the mapping, which would keep the pool's memory.
        std::lock_guard guard(pools_mutex());
        base = static_cast<unsigned char*>(os::map_shared(opened.fd.get(), h.file_size, false));
        if (base == nullptr) return fail_to_map(why);
        os::keep_from_children(base, h.file_size);
        file = opened.fd.release_locked();
    }
    Member member(base, h.file_size, std::move(file));
    // Readers have every slot's byte locked: then nobody is a member.
    member.readonly = member.file.others(kSlotByte) == os::Others::share;
    if (Status s = member.check(); !good(s))
        return fail(
            why,
            member.corrupt() ? "the pool is marked corrupt" : "the pool's marks are impossible", s);
    see(member);
    return Status::ok;
}

bool hold_new_file(int fd) noexcept {
    struct stat st{};
    return os::share_byte_of_new(fd, kMemberByte) == os::ByteLock::taken && fstat(fd, &st) == 0 &&
           st.st_nlink > 0;
}

Status flush_pool(Member& m, Failure& why) {
    if (m.readonly || m.header().flags & kMemfd) return Status::ok;
    const int error = os::write_back(m.base, m.length);
    return error == 0 ? Status::ok : fail(why, "write the pool to the disk", error);
}

Status unlink_pool(Member& m, Failure& why, WaitPolicy& p) {
    Place place;
    {
        std::lock_guard guard(pools_mutex());
        const Pool* pool = pool_of(&m);
        if (pool == nullptr) return Status::no_entry;
        place = pool->place;
    }
    Fd dirfd;
    if (Status s = open_directory(place.directory, dirfd, why); !good(s)) return s;
    BoundedWait policy(p, from_now(kDirectoryWait));
    const DirectoryLock directory_lock(dirfd.get(), policy);
    if (!directory_lock) return directory_lock.fail(why);
    const Status s = remove_name(dirfd.get(), place, directory_lock);
    if (good(s)) {
        std::lock_guard guard(pools_mutex());
        // Others find that the name is gone, or not theirs, when they look.
        m.last_one_unlinks = false;
        m.path.clear();
    }
    return s;
}

Orphan sweep_pool(Through way, const std::string& directory, const std::string& name, bool remove,
                  WaitPolicy& p) {
    if (!valid_name(name)) return Orphan::not_a_pool;
    Failure why;
    Fd dirfd;
    if (!good(directory_for(way, directory, dirfd, why))) return Orphan::failed;
    BoundedWait policy(p, from_now(kOpenWait));
    const DirectoryLock directory_lock(dirfd.get(), policy);
    if (directory_lock) return look_behind(dirfd.get(), name, remove);
    return directory_lock.status() == Status::interrupted ? Orphan::interrupted : Orphan::locked;
}

Status lock_directory(const std::string& directory, Failure& why, WaitPolicy& p,
                      LockedDirectoryPtr& out) {
    Fd dirfd;
    if (Status s = trusted_directory(Through::pool_directory, directory, false, dirfd, why);
        !good(s))
        return s;
    BoundedWait policy(p, from_now(kDirectoryWait));
    out.reset(new LockedDirectory(std::move(dirfd), policy));
    return out->lock ? Status::ok : out->lock.fail(why);
}

void announce(Member& m, WaitPolicy& p) {
    Place place;
    {
        std::lock_guard guard(pools_mutex());
        const Pool* pool = pool_of(&m);
        if (pool == nullptr || !pool->place.memfd || pool->announced == lineage() || pool->left ||
            !m.joined.load())
            return;
        place = pool->place;
    }
    Failure why;
    Fd dirfd;
    BoundedWait policy(p, from_now(kDirectoryWait));
    Status s = open_directory(place.directory, dirfd, why);
    if (good(s)) s = add_line(dirfd.get(), place, m, policy);
    // Whether it works or not, unless it is for want of a descriptor, or of time: not finding us is
    // no reason to try on every operation.
    if (s == Status::timed_out || s == Status::would_block) return;
    if (!good(s) && lacks_means(errno)) return;
    std::lock_guard guard(pools_mutex());
    if (Pool* pool = pool_of(&m); pool != nullptr) pool->announced = lineage();
}

void leave_all() noexcept {
    std::unique_lock guard(pools_mutex());
    for (Pool& p : pools())
        if (!p.left) leave_marked(guard, p);
}

void depart_all() noexcept {
    // Another thread may be at it, and wait for a disk or a directory. What is left undone here the
    // next opener does.
    const std::int64_t end = os::monotonic_ns() + kOpenWait;
    std::unique_lock guard(pools_mutex(), std::try_to_lock);
    while (!guard.owns_lock()) {
        if (os::monotonic_ns() > end) return;
        os::nap(1'000'000);
        static_cast<void>(guard.try_lock());
    }
    for (Pool& p : pools()) {
        if (p.left || p.leaving == lineage() || p.persistent || !p.member->last_one_unlinks)
            continue;
        p.leaving = lineage();  // keeps the member and this entry: drop_member waits
        guard.unlock();
        give_up_byte(p);
        guard.lock();
        p.leaving = 0;
    }
}

void leave_pool(Member& m) noexcept {
    std::unique_lock guard(pools_mutex());
    Pool* pool = pool_of(&m);
    if (pool != nullptr && !pool->left && pool->leaving != lineage()) leave_marked(guard, *pool);
}

}  // namespace onecopy
