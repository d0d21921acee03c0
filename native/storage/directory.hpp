// The directory in which files get and lose their names: its owner and rights, and its lock.
#pragma once
#include <memory>
#include <string>

#include "os/files.hpp"
#include "os/forks.hpp"
#include "storage/descriptors.hpp"
#include "storage/failure.hpp"
#include "sync/structure_lock.hpp"

namespace onecopy {

// The directory in which a pool is looked for. `pool_directory`: this user's own directory, in
// which short names are looked up. It is refused (not_allowed) if it is a link, if it belongs to
// another user than this one and root, or if other users may write to it. `path`: the directory of
// a path that the user has given. There, the file must belong to this user, or must have been made
// for several users; see `mode` of Pool.create. Pools are made only in a directory that is as safe
// as the pool directory.
enum class Through { pool_directory, path };

namespace storage {

constexpr std::int64_t kDirectoryWait = 5'000'000'000;

inline std::int64_t from_now(std::int64_t ns) noexcept {
    return os::monotonic_ns() + ns;
}

// Without slashes at its end: O_NOFOLLOW does not prevent that "link/" is followed.
std::string bare(std::string directory);
std::string absolute(const std::string& directory);

// If the directory is a symbolic link, it is not followed.
Status open_directory(const std::string& directory, Fd& out, Failure& why);
// Refuses a directory that a user except this one and root can change. `create`: makes it with mode
// 0700.
Status trusted_directory(Through way, const std::string& directory, bool create, Fd& out,
                         Failure& why);
// The directory through which a pool is looked for.
Status directory_for(Through way, const std::string& directory, Fd& out, Failure& why);

// flock of the directory. The holder of the lock may be a stopped process. So the wait is bounded,
// and a signal may interrupt it.
class DirectoryLock {
  public:
    DirectoryLock(int fd, WaitPolicy& p) noexcept : fd_(fd) {
        status_ = take(p, [&](bool signal, int naps) {
            constexpr int kNapsBetweenLooks = 20;  // at signals that came to another thread
            return (signal || naps % kNapsBetweenLooks == 0) && p.interrupted();
        });
    }
    // For a process that leaves the pool. If it cannot get the lock, the next process that opens or
    // sweeps does the work. So a signal ends the wait, except a signal that comes at once: a
    // profiler sends signals all the time.
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
        if (good(status_)) os::unlock_all(fd_);
        status_ = Status::not_held;
        errno = saved;
    }
    explicit operator bool() const noexcept { return good(status_); }
    // ok; timed_out, interrupted, system_error (errno is not set then)
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
        const unsigned process = os::lineage();
        for (int naps = 1; !os::try_lock_all(fd_); ++naps) {
            if (errno != EWOULDBLOCK) return Status::system_error;
            const std::int64_t ns = p.left(1'000'000);
            if (ns == 0) return Status::timed_out;
            p.about_to_block();
            if (ends(!os::nap(ns), naps)) return Status::interrupted;
            // A signal handler has forked, and this is the child, where the descriptor is closed.
            if (os::lineage() != process) return Status::system_error;
        }
        return Status::ok;
    }
    int fd_;
    Status status_ = Status::not_held;
};

}  // namespace storage

// Holds the lock of the pool directory while the object exists. Names are given and removed under
// this lock. The directory is checked as for `Through::pool_directory`.
struct LockedDirectory;
struct Unlock {
    void operator()(LockedDirectory* directory) const noexcept;
};
using LockedDirectoryPtr = std::unique_ptr<LockedDirectory, Unlock>;
// ok, interrupted, no_entry, not_allowed, system_error (ETIMEDOUT: its holder may be stopped)
Status lock_directory(const std::string& directory, Failure& why, WaitPolicy& p,
                      LockedDirectoryPtr& out);
int descriptor_of(const LockedDirectory& directory) noexcept;  // valid while `directory` exists
// The descriptor of the pool directory; the caller closes it. `create`: makes the directory with
// mode 0700. It is refused as for `Through::pool_directory`.
Status open_pool_directory(const std::string& directory, bool create, int& out, Failure& why);

}  // namespace onecopy
