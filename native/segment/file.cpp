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

#include <cerrno>
#include <climits>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <string_view>
#include <utility>
#include <vector>

#include "base/private_memory.hpp"
#include "directory/directory.hpp"
#include "heap/heap.hpp"
#include "os/memory.hpp"
#include "os/processes.hpp"
#include "segment/registry.hpp"

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
constexpr std::int64_t kOpenPatience = 1'000'000'000, kDirectoryPatience = 5'000'000'000;

class Fd {
  public:
    explicit Fd(int n = -1) noexcept : n_(n) {}
    ~Fd() { reset(); }
    Fd(Fd&& o) noexcept : n_(std::exchange(o.n_, -1)) {}
    Fd& operator=(Fd&& o) noexcept {
        if (this != &o) reset(std::exchange(o.n_, -1));
        return *this;
    }
    int get() const noexcept { return n_; }
    int release() noexcept { return std::exchange(n_, -1); }
    void reset(int n = -1) noexcept {
        const int saved = errno;
        if (n_ >= 0) close(n_);
        n_ = n;
        errno = saved;
    }
    explicit operator bool() const noexcept { return n_ >= 0; }

  private:
    int n_;
};

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
    out.reset(open(bare(directory).c_str(), O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC));
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

// flock of the directory. Bounded: its holder may be stopped, and we may be on our way out.
class DirectoryLock {
  public:
    explicit DirectoryLock(int fd) noexcept : fd_(fd) {
        const std::int64_t end = os::monotonic_ns() + kDirectoryPatience;
        while (flock(fd_, LOCK_EX | LOCK_NB) != 0) {
            if (errno == EINTR) continue;
            if (errno != EWOULDBLOCK || os::monotonic_ns() > end) return;
            os::nap(1'000'000);
        }
        held_ = true;
        crash_point();
    }
    ~DirectoryLock() { release(); }
    DirectoryLock(const DirectoryLock&) = delete;
    DirectoryLock& operator=(const DirectoryLock&) = delete;
    void release() noexcept {
        const int saved = errno;
        if (held_) happened(flock(fd_, LOCK_UN));
        held_ = false;
        errno = saved;
    }
    explicit operator bool() const noexcept { return held_; }

  private:
    int fd_;
    bool held_ = false;
};

// ---- mapping ------------------------------------------------------------------------------------

// Through an open file description of its own, which never carries a lock, and which nobody but the
// mapping keeps. Forked children inherit the mapping: through the description that the locks are
// on, it would keep those after the parent's death.
Status map_segment(const os::PoolFile& again, u64 bytes, unsigned char*& base, Failure& why) {
    if (!again) return fail(why, "open the pool file again");
    base = static_cast<unsigned char*>(
        os::map_shared(again.number(), static_cast<std::size_t>(bytes), true));
    return base == nullptr ? fail_to_map(why) : Status::ok;
}

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
std::vector<std::unique_ptr<Pool>>& pools() noexcept {  // under pools_mutex
    static auto& all = *new std::vector<std::unique_ptr<Pool>>;
    return all;
}
Pool* pool_of(const Member* m) noexcept {
    for (auto& p : pools())
        if (p->member == m) return p.get();
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

Reach reach(const Line& l, const std::string& id, u64 own_namespace, os::PoolFile& out) {
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
    os::PoolFile fd(open(path, O_RDWR | O_CLOEXEC | O_NONBLOCK));
    // It can have been closed since.
    if (!fd) return errno == ENOENT ? Reach::stale : Reach::unknown;
    // Without the seals whoever has it could cut it short under our mapping.
    const int seals = fcntl(fd.number(), F_GET_SEALS);
    HeaderCopy h;
    if (seals < 0 || (seals & (F_SEAL_SHRINK | F_SEAL_GROW)) != (F_SEAL_SHRINK | F_SEAL_GROW) ||
        !h.read(fd.number()))
        return Reach::stale;
    if (h.get().magic != kMagic || PoolId::of(h.get()).hex() != id) return Reach::stale;
    out = std::move(fd);
    return Reach::found;
}
// With `unknown` in errno: what stands in the way.
Reach reach_any(const Rendezvous& r, os::PoolFile& out) {
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
        Fd fd(openat(dirfd, place.name.c_str(), O_RDONLY | kOpenFlags));
        Rendezvous r;
        return fd && read_rendezvous(fd.get(), r) && r.id == place.id.hex();
    }
    struct stat st{};
    return fstatat(dirfd, place.name.c_str(), &st, AT_SYMLINK_NOFOLLOW) == 0 &&
           S_ISREG(st.st_mode) && st.st_dev == place.dev && st.st_ino == place.ino;
}

Status remove_name(int dirfd, const Place& place) {
    DirectoryLock directory_lock(dirfd);
    if (!directory_lock) return Status::system_error;
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
    int make(int dirfd) {
        dirfd_ = dirfd;
        const int fd = openat(dirfd, ".", O_TMPFILE | O_RDWR | O_CLOEXEC, 0600);
        if (fd >= 0) {
            // Without a /proc it could not be given a name.
            if (access("/proc/self/fd", F_OK) == 0) return fd;
            close(fd);
        } else if (errno != EOPNOTSUPP && errno != EISDIR && errno != ENOENT && errno != EINVAL) {
            return fd;
        }
        return make_hidden(dirfd);
    }
    // The membership byte is held from here on: a hidden file in which nobody has it was left by a
    // process that died, and is removed by the next one that needs a hidden file here.
    int make_hidden(int dirfd) {
        dirfd_ = dirfd;
        for (const std::string& left : os::names_in(dirfd, kHidden))
            look_behind(dirfd, left, true);
        for (int i = 0; i < 16; ++i) {
            std::string name = random_name();
            Fd fd(openat(dirfd, name.c_str(), O_RDWR | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC,
                         0600));
            if (!fd && errno != EEXIST) return -1;
            if (!fd) continue;
            crash_point();
            if (hold_new_file(fd.get())) {
                hidden_ = name;
                return fd.release();
            }
            // There are no locks to be had, or it was swept.
            const int error = errno;
            unlinkat(dirfd, name.c_str(), 0);
            errno = error;
        }
        return -1;
    }
    // Another open file description of it; empty on failure.
    os::PoolFile open_again(const os::PoolFile& file) const {
        if (hidden_.empty()) return file.again();
        return os::PoolFile(
            openat(dirfd_, hidden_.c_str(), O_RDWR | O_NOFOLLOW | O_CLOEXEC));
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
    int dirfd_ = -1;
    std::string hidden_;
};

// Adds our line to a rendezvous. no_entry: it is gone, or another pool's.
Status add_line(int dirfd, const Place& place, const Member& m) {
    const std::string own = own_line(m);
    if (own.empty()) return Status::system_error;
    DirectoryLock directory_lock(dirfd);
    if (!directory_lock) return Status::system_error;
    Fd fd(openat(dirfd, place.name.c_str(), O_RDWR | O_APPEND | kOpenFlags));
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
        Fd to(fresh.make_hidden(dirfd));
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
    const os::PoolFile fd(openat(dirfd, name.c_str(), O_RDWR | kOpenFlags));
    if (!fd) {
        // What no file of a pool can be: a directory, a link, a device without a driver.
        const bool is_other =
            errno == EISDIR || errno == ELOOP || errno == ENXIO || errno == ENODEV;
        return is_other ? Orphan::not_a_pool : Orphan::failed;
    }
    struct stat st{};
    if (fstat(fd.number(), &st) != 0) return Orphan::failed;
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
        return gone_if_alone(fd);
    }
    if (Rendezvous r; read_rendezvous(fd.number(), r)) {
        os::PoolFile memory;
        switch (reach_any(r, memory)) {
            case Reach::unknown:
                return errno == EACCES || errno == EPERM ? Orphan::in_use : Orphan::failed;
            case Reach::stale:
                return gone();
            case Reach::found:
                break;
        }
        return gone_if_alone(memory);
    }
    // Only what stands in the first line of the header, which is the same in every version: pools
    // of older builds must go too.
    HeaderCopy h;
    if (!h.read(fd.number()) || h.get().magic != kMagic) return Orphan::not_a_pool;
    const os::Others others = fd.others(kMemberByte);
    if (others == os::Others::unknown) return Orphan::failed;
    if (others != os::Others::none) return Orphan::in_use;
    if (h.get().flags & kPersistent) return Orphan::kept_persistent;
    return gone_if_alone(fd);
}

// ---- leaving ------------------------------------------------------------------------------------

// Gives the membership byte up; the last one takes the name along. Under pools_mutex.
void depart(const os::PoolFile& file, const Place& place, bool persistent) noexcept {
    file.unlock(kMemberByte);
    if (persistent || file.lock(kMemberByte, true) != os::ByteLock::taken) return;
    Fd dirfd(open(place.directory.c_str(), O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC));
    // Without memory to read a rendezvous, the name stays to whoever looks behind it next.
    if (dirfd) static_cast<void>(within_memory([&] { return remove_name(dirfd.get(), place); }));
    file.unlock(kMemberByte);
}

// Under pools_mutex.
void give_up_byte(const Pool& pool) noexcept {
    const Member& m = *pool.member;
    // A forked child that is no member has no descriptor.
    if (!pool.left && !m.readonly && m.file)
        depart(m.file, pool.place, pool.persistent || !m.last_one_unlinks);
}

// The part after Member::leave. Under pools_mutex.
void depart(Pool& pool) {
    give_up_byte(pool);
    // Through a lost number nothing could be unlocked.
    if (pool.member->file.lost()) pool.member->file.close();
    pool.left = true;
    pool.leaving = 0;
}

void leave_marked(std::unique_lock<std::mutex>& guard, Pool& pool) {
    pool.leaving = lineage();  // keeps the member: let_go waits until the mark is gone
    // Giving up what we hold may have to wait for a lock in the segment. Forks and other pools do
    // not wait for that.
    guard.unlock();
    pool.member->leave();
    guard.lock();
    depart(pool);
}

// What the last shared_ptr does.
void let_go(Member* m) noexcept {
    std::unique_lock guard(pools_mutex());
    Pool* pool = pool_of(m);
    // leave_pool may be at it in another thread.
    while (pool != nullptr && pool->leaving == lineage()) {
        guard.unlock();
        os::nap(1'000'000);
        guard.lock();
        pool = pool_of(m);
    }
    if (pool != nullptr && !pool->left) leave_marked(guard, *pool);
    std::erase_if(pools(), [m](const auto& p) { return p->member == m; });
    forget_member(m);
    delete m;  // under the mutex: a fork must not copy half of it
}

// A joined member's place on the books. All memory for it is got when this is made, before others
// can see the member: nothing fails after that. Under pools_mutex, from here to `complete`.
class Adoption {
  public:
    explicit Adoption(const Place& place)
        : pool_(std::make_unique<Pool>()),
          owner_(std::make_shared<Owner>()),
          path_(place.directory + "/" + place.name) {
        pool_->place = place;
        pools().reserve(pools().size() + 1);
        make_room_for_member();
    }
    // `flags` as they were checked, not as they stand in the header by now.
    std::shared_ptr<Member> complete(std::unique_ptr<Member> member, const struct stat& memory,
                                     u64 flags) noexcept {
        const bool persistent = (flags & kPersistent) != 0;
        Member* m = owner_->member = member.release();
        // The mode of a memfd says nothing: it has no name, and who may reach it through /proc may
        // read our memory anyway.
        m->others_may_write = (flags & kOthersMayWrite) != 0 || memory.st_uid != geteuid() ||
                              (!pool_->place.memfd && (memory.st_mode & 022) != 0);
        m->path = std::move(path_);
        m->last_one_unlinks = !persistent;
        pool_->member = m;
        pool_->dev = memory.st_dev;
        pool_->ino = memory.st_ino;
        pool_->persistent = persistent;
        pool_->announced = lineage();
        std::shared_ptr<Member> shared(std::move(owner_), m);
        pool_->shared = shared;
        pools().push_back(std::move(pool_));
        register_member(m);
        return shared;
    }

  private:
    struct Owner {
        Member* member = nullptr;
        ~Owner() {
            if (member != nullptr) let_go(member);
        }
    };
    std::unique_ptr<Pool> pool_;
    std::shared_ptr<Owner> owner_;
    std::string path_;
};

// Takes the mapping over; nullptr, and the mapping is gone: there is no memory.
std::unique_ptr<Member> make_member(unsigned char* base, std::size_t length,
                                    os::PoolFile file) noexcept {
    std::unique_ptr<Member> member(new (std::nothrow) Member(base, length, std::move(file)));
    if (member == nullptr) os::unmap(base, length);
    return member;
}

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

Status create_locked(const CreateSpec& spec, std::shared_ptr<Member>& out, Failure& why) {
    Fd dirfd;
    if (Status s = trusted_directory(spec.way, spec.directory, true, dirfd, why); !good(s))
        return s;
    // Taken? Asked again when it counts; now only to save the work. The name of a pool whose
    // members are all dead is free.
    {
        struct stat st{};
        DirectoryLock directory_lock(dirfd.get());
        if (!directory_lock)
            return why = {ETIMEDOUT, "lock the pool directory", {}}, Status::system_error;
        if (fstatat(dirfd.get(), spec.name.c_str(), &st, AT_SYMLINK_NOFOLLOW) == 0) {
            if (Status s = make_free(dirfd.get(), spec.name, why); !good(s)) return s;
        }
    }

    const Geometry g = geometry(spec.capacity, spec.max_processes);
    auto flag = [](bool set, HeaderFlags which) { return set ? static_cast<u64>(which) : 0; };
    const u64 flags = flag(spec.persistent, kPersistent) | flag(spec.memfd, kMemfd) |
                      flag((spec.mode & 022) != 0, kOthersMayWrite);
    Unpublished file;  // destroyed after the descriptor is
    os::PoolFile fd(spec.memfd ? make_memfd() : file.make(dirfd.get()));
    if (!fd) return fail(why, spec.memfd ? "memfd_create" : "create the pool file");
    if (fd.lock(kMemberByte, false) != os::ByteLock::taken)
        return fail(why, "lock the membership byte");
    if (!happened(fchmod(fd.number(), spec.mode)))
        return fail(why, "set the mode of the pool file");
    if (!happened(ftruncate(fd.number(), static_cast<off_t>(g.file_size))))
        return fail(why, "set the size of the pool file");
    if (spec.memfd && !happened(fcntl(fd.number(), F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW)))
        return fail(why, "seal the memfd");
    if (int error = fd.reserve(0, fixed_bytes(g))) return fail(why, "reserve the tables", error);
    if (spec.prefault) {
        // What it takes before it fails goes with the file, which has no name.
        if (int error = os::room_for(fd, g.capacity))
            return no_room(why, "reserve the heap", fd.identity().in_memory, error);
        if (int error = fd.reserve(g.heap_off, g.capacity))
            return fail(why, "reserve the heap", error);
    }

    unsigned char* base = nullptr;
    if (Status s = map_segment(spec.memfd ? fd.again() : file.open_again(fd), g.file_size, base,
                               why);
        !good(s))
        return s;
    PoolId id;
    if (!os::random_bytes(id.id, sizeof id.id)) {
        const int error = errno;
        os::unmap(base, g.file_size);
        return fail(why, "getrandom", error);
    }
    format(base, g, flags);
    copy_in(reinterpret_cast<Header*>(base)->id, id.id, sizeof id.id);
    struct stat memory{};
    if (fstat(fd.number(), &memory) != 0) {
        const int error = errno;
        os::unmap(base, g.file_size);
        return fail(why, "look at the pool file", error);
    }
    // From here the member owns mapping and descriptor. Nobody else sees the file, so whatever
    // fails leaves nothing behind.
    std::unique_ptr<Member> member = make_member(base, g.file_size, std::move(fd));
    if (member == nullptr) return fail(why, "make the member", Status::out_of_memory);
    format_heap(*member);
    if (spec.prefault) note_reserved(*member);
    directory::format(*member);
    if (Status s = member->check(); !good(s)) return fail(why, "check the new pool", s);
    if (spec.prefault) {
        while (madvise(base + g.heap_off, g.capacity, MADV_POPULATE_WRITE) != 0) {
            // A kernel before 5.14: the memory is reserved, only not mapped yet.
            if (errno == EINVAL) break;
            if (errno != EINTR && errno != EAGAIN) return fail(why, "prefault the heap");
        }
    }
    if (Status s = member->join(); !good(s)) return fail(why, "take a slot", s);

    Unpublished rendezvous;
    Fd text;
    if (spec.memfd) {
        text.reset(rendezvous.make(dirfd.get()));
        if (!text) return fail(why, "create the rendezvous file");
        const std::string own = own_line(*member);
        if (own.empty()) return fail_at(why, "find out who we are", "/proc/self/stat", errno);
        if (fchmod(text.get(), 0600) != 0 ||
            !write_all(text.get(), kRendezvous + id.hex() + "\n" + own))
            return fail(why, "write the rendezvous file");
    }
    Adoption adoption(
        {absolute(spec.directory), spec.name, memory.st_dev, memory.st_ino, id, spec.memfd});
    {
        DirectoryLock directory_lock(dirfd.get());
        if (!directory_lock)
            return why = {ETIMEDOUT, "lock the pool directory", {}}, Status::system_error;
        // Everything is in place and we are its member: with the name the pool exists, and there is
        // no moment in which it looks deserted.
        auto publish = [&] {
            return spec.memfd ? rendezvous.publish(text.get(), spec.name.c_str())
                              : file.publish(member->file.number(), spec.name.c_str());
        };
        bool done = publish();
        if (!done && errno == EEXIST) {
            if (Status s = make_free(dirfd.get(), spec.name, why); !good(s)) return s;
            done = publish();
        }
        if (!done)
            return why = {errno, "publish the pool", {}},
                   errno == ENOENT ? Status::system_error : status_of(errno);
    }
    out = adoption.complete(std::move(member), memory, flags);
    return Status::ok;
}

// ---- opening ------------------------------------------------------------------------------------

// One attempt. would_block: somebody is coming or going right now. `rejected` keeps members alive
// that turned out not to serve: if ours were the last pointer, letting go would need the mutex we
// hold.
Status try_open(int dirfd, const std::string& directory, const std::string& name,
                WhenStale when_stale, std::vector<std::shared_ptr<Member>>& rejected,
                std::shared_ptr<Member>& out, Failure& why) {
    os::PoolFile fd(openat(dirfd, name.c_str(), O_RDWR | kOpenFlags));
    if (!fd) {
        if (errno == EISDIR || errno == ENXIO || errno == ENODEV)
            return fail(why, kNotAPool, Status::corrupt);
        if (errno == EACCES || errno == EROFS)
            return fail(why,
                        "it may not be written from here; Pool.open(..., mode=\"r\") only reads");
        return fail_to_open(why);
    }
    struct stat st{};
    if (fstat(fd.number(), &st) != 0) return fail(why, "look at the pool file");
    if (!S_ISREG(st.st_mode)) return fail(why, kNotAPool, Status::corrupt);
    const bool own = st.st_uid == geteuid();
    if (!own && !(st.st_mode & 022))
        return fail(why, "the pool belongs to another user", Status::not_allowed);

    Place place{absolute(directory), name, st.st_dev, st.st_ino, {}, false};
    if (Rendezvous r; own && read_rendezvous(fd.number(), r)) {
        place.memfd = true;
        fd.close();
        Reach found = reach_any(r, fd);
        if (found == Reach::stale) {
            // Somebody may have added a line since: look again while nobody can.
            DirectoryLock directory_lock(dirfd);
            if (!directory_lock)
                return why = {ETIMEDOUT, "lock the pool directory", {}}, Status::system_error;
            Fd again(openat(dirfd, name.c_str(), O_RDONLY | kOpenFlags));
            if (!again) return fail(why, "open the rendezvous file");
            Rendezvous now;
            // Another pool by now.
            if (!read_rendezvous(again.get(), now) || now.id != r.id) return Status::would_block;
            found = reach_any(now, fd);
            if (found == Reach::stale) {
                if (when_stale == WhenStale::keep) return fail(why, kStale, Status::no_entry);
                happened(unlinkat(dirfd, name.c_str(), 0));
                return fail(why, "all members of the pool are gone", Status::no_entry);
            }
        }
        if (found == Reach::unknown) return fail_to_reach(why);
        if (fstat(fd.number(), &st) != 0) return fail(why, "look at the memfd");
        if (st.st_uid != geteuid())
            return fail(why, "the pool belongs to another user", Status::not_allowed);
    }
    HeaderCopy copy;
    if (!copy.read(fd.number())) return fail(why, kNotAPool, Status::corrupt);
    const Header& h = copy.get();
    if (Status s = verify(h, static_cast<u64>(st.st_size), why); !good(s)) return s;
    if (((h.flags & kMemfd) != 0) != place.memfd)
        return fail(why, "a memfd pool without its memfd", Status::corrupt);
    // The creator must have meant it, and not only a later chmod.
    if (!own && !(h.flags & kOthersMayWrite))
        return fail(why, "the pool belongs to another user", Status::not_allowed);
    place.id = PoolId::of(h);
    const bool persistent = (h.flags & kPersistent) != 0;

    for (auto& p : pools()) {
        if (p->dev != st.st_dev || p->ino != st.st_ino || p->place.id != place.id) continue;
        std::shared_ptr<Member> here = p->shared.lock();
        if (here == nullptr) continue;
        if (here->readonly) {
            rejected.push_back(std::move(here));
            return fail(why, "this process reads it", Status::read_elsewhere);
        }
        if (!p->left && p->leaving != lineage() && here->joined.load()) {
            if (here->corrupt()) {
                rejected.push_back(std::move(here));
                return fail(why, "the pool is marked corrupt", Status::corrupt);
            }
            out = std::move(here);
            return Status::ok;
        }
        rejected.push_back(std::move(here));
    }

    Adoption adoption(place);
    if (fd.others(kSlotByte) == os::Others::share)
        return fail(why, "somebody reads it", Status::read_elsewhere);
    bool alone = false;
    switch (fd.lock(kMemberByte, true)) {
        case os::ByteLock::failed:
            return fail(why, "lock the membership byte");
        case os::ByteLock::taken:
            alone = true;
            // Nobody is here: its members have died.
            if (!persistent) {
                // If that fails there is no such pool all the same.
                if (when_stale == WhenStale::remove) remove_name(dirfd, place);
                fd.unlock(kMemberByte);
                return fail(
                    why,
                    when_stale == WhenStale::keep ? kStale : "all members of the pool are gone",
                    Status::no_entry);
            }
            if (fd.lock(kMemberByte, false) != os::ByteLock::taken)
                return fail(why, "lock the membership byte");
            break;
        case os::ByteLock::busy:
            switch (fd.lock(kMemberByte, false)) {
                case os::ByteLock::failed:
                    return fail(why, "lock the membership byte");
                // The last one is leaving, or somebody looks whether anybody is here.
                case os::ByteLock::busy:
                    return Status::would_block;
                case os::ByteLock::taken:
                    break;
            }
    }
    // We count as a member now: whatever goes wrong, we may be the last one out.
    auto turn_back = [&](Status s) {
        const int error = errno;
        depart(fd, place, persistent);
        errno = error;
        return s;
    };
    if (fstat(fd.number(), &st) != 0) return turn_back(fail(why, "look at the pool file"));
    if (!place.memfd && st.st_nlink == 0) {  // removed between our open and our lock
        fd.unlock(kMemberByte);
        return Status::would_block;
    }
    if (static_cast<u64>(st.st_size) != h.file_size)
        return turn_back(fail(why, "the file is not as long as its header says", Status::corrupt));
    const os::PoolFile again =
        place.memfd ? fd.again()
                    : os::PoolFile(openat(dirfd, name.c_str(), O_RDWR | kOpenFlags));
    if (again && again.identity() != fd.identity())
        return turn_back(Status::would_block);  // the name has become another file's meanwhile
    unsigned char* base = nullptr;
    if (Status s = map_segment(again, h.file_size, base, why); !good(s)) return turn_back(s);
    // The member owns a descriptor of the same description: turning back still needs one after the
    // member is gone.
    os::PoolFile second = fd.duplicate();
    if (!second) {
        const Status s = fail(why, "duplicate the descriptor");
        os::unmap(base, h.file_size);
        return turn_back(s);
    }
    std::unique_ptr<Member> member = make_member(base, h.file_size, std::move(second));
    if (member == nullptr) return turn_back(fail(why, "make the member", Status::out_of_memory));
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
        if (fd.lock(kMemberByte, true) == os::ByteLock::taken) {
            fd.give_back_unwritten(member->base, 0, h.file_size);
            static_cast<void>(fd.lock(kMemberByte, false));
        }
        member.reset();
        return turn_back(fail(why, "reserve what the pool says it has", error));
    }
    if (Status s = member->join(); !good(s)) {
        fail(why, "take a slot", s);
        why.limit = member->geo().max_processes;
        // It has just come.
        if (s == Status::no_slot && fd.others(kSlotByte) == os::Others::share)
            s = Status::read_elsewhere;
        member.reset();
        return turn_back(s);
    }
    if (place.memfd) {
        if (Status s = add_line(dirfd, place, *member); !good(s)) {
            const int error = errno;
            member->leave();
            member.reset();
            turn_back(s);
            // The last one left: the name says more.
            if (s == Status::no_entry) return Status::would_block;
            return why = {error, "add to the rendezvous file", {}}, s;
        }
    }
    out = adoption.complete(std::move(member), st, h.flags);
    return Status::ok;
}

// ---- opening for reading only -------------------------------------------------------------------

// A pool's file that was opened and checked, of which nothing is mapped yet.
struct Opened {
    os::PoolFile fd;
    struct stat st{};
    HeaderCopy copy;
    Place place;
    const Header& header() const noexcept { return copy.get(); }
};

// Opens the memory of a pool to read it, and locks nothing. Of a memfd the rendezvous is followed.
Status open_and_check(int dirfd, const std::string& directory, const std::string& name,
                      bool follow_rendezvous, Opened& out, Failure& why) {
    out.fd = os::PoolFile(openat(dirfd, name.c_str(), O_RDONLY | kOpenFlags));
    if (!out.fd) {
        if (errno == ENXIO || errno == ENODEV) return fail(why, kNotAPool, Status::corrupt);
        return fail_to_open(why);
    }
    if (fstat(out.fd.number(), &out.st) != 0) return fail(why, "look at the pool file");
    if (!S_ISREG(out.st.st_mode)) return fail(why, kNotAPool, Status::corrupt);
    const bool own = out.st.st_uid == geteuid();
    if (!own && !(out.st.st_mode & 022))
        return fail(why, "the pool belongs to another user", Status::not_allowed);
    bool memfd = false;
    if (Rendezvous r; read_rendezvous(out.fd.number(), r)) {
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
        if (fstat(out.fd.number(), &out.st) != 0) return fail(why, "look at the memfd");
        if (out.st.st_uid != geteuid())
            return fail(why, "the pool belongs to another user", Status::not_allowed);
        memfd = true;
    }
    if (!out.copy.read(out.fd.number())) return fail(why, kNotAPool, Status::corrupt);
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
                std::vector<std::shared_ptr<Member>>& rejected, std::shared_ptr<Member>& out,
                Failure& why) {
    Opened opened;
    if (Status s = open_and_check(dirfd, directory, name, false, opened, why); !good(s)) return s;
    auto& [fd, st, copy, place] = opened;
    const Header& h = opened.header();

    for (auto& p : pools()) {
        if (p->dev != st.st_dev || p->ino != st.st_ino || p->place.id != place.id) continue;
        std::shared_ptr<Member> here = p->shared.lock();
        if (here == nullptr) continue;
        if (here->readonly && !p->left && p->leaving != lineage() && here->joined.load()) {
            out = std::move(here);
            return Status::ok;
        }
        rejected.push_back(std::move(here));
    }
    Adoption adoption(place);
    // Never unlocked: the descriptor and the mapping keep it, here and in children that were forked
    // meanwhile, until the last of them is gone.
    switch (fd.share_range(kSlotByte, kMaxProcesses)) {
        case os::ByteLock::failed:
            return fail(why, "lock the slots");
        case os::ByteLock::busy:
            return fail(why, "somebody is a member", Status::written_elsewhere);
        case os::ByteLock::taken:
            break;
    }
    if ((h.flags & kPersistent) == 0) return fail(why, kStale, Status::no_entry);
    // Only now nobody changes it any more.
    if (fstat(fd.number(), &st) != 0) return fail(why, "look at the pool file");
    if (static_cast<u64>(st.st_size) != h.file_size)
        return fail(why, "the file is not as long as its header says", Status::corrupt);
    auto* base = static_cast<unsigned char*>(
        os::map_private(fd.number(), static_cast<std::size_t>(h.file_size)));
    if (base == nullptr) return fail_to_map(why);
    std::unique_ptr<Member> member = make_member(base, h.file_size, std::move(fd));
    if (member == nullptr) return fail(why, "make the member", Status::out_of_memory);
    member->readonly = true;
    if (Status s = member->check(); !good(s))
        return fail(
            why,
            member->corrupt() ? "the pool is marked corrupt" : "the pool's marks are impossible",
            s);
    if (Status s = member->join(); !good(s)) return fail(why, "take a slot", s);
    out = adoption.complete(std::move(member), st, h.flags);
    return Status::ok;
}

}  // namespace

// ---- the interface ------------------------------------------------------------------------------

Status open_pool_directory(const std::string& directory, bool create, int& out, Failure& why) {
    Fd fd;
    const Status s = trusted_directory(Through::pool_directory, directory, create, fd, why);
    out = fd.release();
    return s;
}

Status create_pool(const CreateSpec& spec, std::shared_ptr<Member>& out, Failure& why) {
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
    std::lock_guard guard(pools_mutex());
    return create_locked(spec, out, why);
}

Status open_pool(Through way, const std::string& directory, const std::string& name,
                 WhenStale when_stale, std::shared_ptr<Member>& out, Failure& why) {
    if (!valid_name(name) || is_hidden(name))
        return fail(why, "not a valid name", Status::bad_argument);
    std::vector<std::shared_ptr<Member>> rejected;  // destroyed after the mutex is free
    std::lock_guard guard(pools_mutex());
    Fd dirfd;
    if (Status s = directory_for(way, directory, dirfd, why); !good(s)) return s;
    const std::int64_t end = os::monotonic_ns() + kOpenPatience;
    for (;;) {
        const Status s = try_open(dirfd.get(), directory, name, when_stale, rejected, out, why);
        if (s != Status::would_block) return s;
        if (os::monotonic_ns() > end)
            return why = {EBUSY, "open the pool: it keeps coming and going", {}},
                   Status::system_error;
        os::nap(500'000);
    }
}

Status open_to_read(Through way, const std::string& directory, const std::string& name,
                    std::shared_ptr<Member>& out, Failure& why) {
    if (!valid_name(name) || is_hidden(name))
        return fail(why, "not a valid name", Status::bad_argument);
    std::vector<std::shared_ptr<Member>> rejected;  // destroyed after the mutex is free
    std::lock_guard guard(pools_mutex());
    Fd dirfd;
    if (Status s = directory_for(way, directory, dirfd, why); !good(s)) return s;
    return try_read(dirfd.get(), directory, name, rejected, out, why);
}

Status look_at_pool(Through way, const std::string& directory, const std::string& name,
                    const std::function<void(Member&)>& see, Failure& why) {
    if (!valid_name(name) || is_hidden(name))
        return fail(why, "not a valid name", Status::bad_argument);
    // A fork waits until we are done, so no child inherits half of it.
    std::lock_guard guard(pools_mutex());
    Fd dirfd;
    if (Status s = directory_for(way, directory, dirfd, why); !good(s)) return s;
    Opened opened;
    if (Status s = open_and_check(dirfd.get(), directory, name, true, opened, why); !good(s))
        return s;
    const Header& h = opened.header();
    if (!(h.flags & kPersistent) && opened.fd.others(kMemberByte) == os::Others::none)
        return fail(why, kStale, Status::no_entry);
    auto* base = static_cast<unsigned char*>(
        os::map_shared(opened.fd.number(), static_cast<std::size_t>(h.file_size), false));
    if (base == nullptr) return fail_to_map(why);
    Member member(base, h.file_size, std::move(opened.fd));
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

Status unlink_pool(Member& m) {
    std::lock_guard guard(pools_mutex());
    Pool* pool = pool_of(&m);
    if (pool == nullptr) return Status::no_entry;
    Failure why;
    Fd dirfd;
    if (Status s = open_directory(pool->place.directory, dirfd, why); !good(s)) return s;
    const Status s = remove_name(dirfd.get(), pool->place);
    if (good(s)) {
        // Others find that the name is gone, or not theirs, when they look.
        m.last_one_unlinks = false;
        m.path.clear();
    }
    return s;
}

Orphan sweep_pool(Through way, const std::string& directory, const std::string& name, bool remove) {
    if (!valid_name(name)) return Orphan::not_a_pool;
    std::lock_guard guard(pools_mutex());
    Failure why;
    Fd dirfd;
    if (!good(directory_for(way, directory, dirfd, why))) return Orphan::failed;
    DirectoryLock directory_lock(dirfd.get());
    return directory_lock ? look_behind(dirfd.get(), name, remove) : Orphan::failed;
}

void announce(Member& m) {
    std::lock_guard guard(pools_mutex());
    Pool* pool = pool_of(&m);
    if (pool == nullptr || !pool->place.memfd || pool->announced == lineage() || pool->left ||
        !m.joined.load())
        return;
    // Whether it works or not, unless it is for want of a descriptor: not finding us is no reason
    // to try on every operation.
    Failure why;
    Fd dirfd;
    Status s = open_directory(pool->place.directory, dirfd, why);
    if (good(s)) s = add_line(dirfd.get(), pool->place, m);
    if (good(s) || !lacks_means(errno)) pool->announced = lineage();
}

void leave_all() noexcept {
    std::unique_lock guard(pools_mutex());
    for (auto& p : pools())
        if (!p->left) leave_marked(guard, *p);
}

void depart_all() noexcept {
    // Another thread may be at it, and wait for a disk or a directory. What is left undone here the
    // next opener does.
    const std::int64_t end = os::monotonic_ns() + kOpenPatience;
    std::unique_lock guard(pools_mutex(), std::try_to_lock);
    while (!guard.owns_lock()) {
        if (os::monotonic_ns() > end) return;
        os::nap(1'000'000);
        static_cast<void>(guard.try_lock());
    }
    for (auto& p : pools())
        if (!p->persistent && p->member->last_one_unlinks) give_up_byte(*p);
}

void leave_pool(Member& m) noexcept {
    std::unique_lock guard(pools_mutex());
    Pool* pool = pool_of(&m);
    if (pool != nullptr && !pool->left && pool->leaving != lineage()) leave_marked(guard, *pool);
}

}  // namespace onecopy
