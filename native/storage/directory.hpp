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

// The directory in which a pool is looked for. `pool_directory`: this user's own, in which short
// names are looked up. It is refused (not_allowed) if it is a link, belongs to anybody but this
// user and root, or may be written by others. `path`: of a path that the user has given. There it
// is the file that must be this user's, or have been made for several; see Pool.create's `mode`.
// Pools are made only in a directory that is as safe as the pool directory.
enum class Through { pool_directory, path };

namespace storage {

constexpr std::int64_t kDirectoryWait = 5'000'000'000;

inline std::int64_t from_now(std::int64_t ns) noexcept {
    return os::monotonic_ns() + ns;
}

// Without slashes at its end: with one, a symbolic link would be followed in spite of O_NOFOLLOW.
std::string bare(std::string directory);
std::string absolute(const std::string& directory);

// No link is followed in the place of the directory.
Status open_directory(const std::string& directory, Fd& out, Failure& why);
// Refuses a directory that another user than this one and root can change. `create`: makes it, with
// mode 0700.
Status trusted_directory(Through way, const std::string& directory, bool create, Fd& out,
                         Failure& why);
// The directory through which a pool is looked for.
Status directory_for(Through way, const std::string& directory, Fd& out, Failure& why);

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
    // For a process that leaves the pool. What it cannot do, the next process that opens or sweeps
    // does. So a signal ends the wait, unless it comes at once: a profiler sends signals all the
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
        if (good(status_)) os::unlock_all(fd_);
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
        const unsigned process = os::lineage();
        for (int naps = 1; !os::try_lock_all(fd_); ++naps) {
            if (errno != EWOULDBLOCK) return Status::system_error;
            const std::int64_t ns = p.left(1'000'000);
            if (ns == 0) return Status::timed_out;
            p.about_to_block();
            if (ends(!os::nap(ns), naps)) return Status::interrupted;
            // A signal handler has forked, and this is the child: the descriptor is closed here.
            if (os::lineage() != process) return Status::system_error;
        }
        return Status::ok;
    }
    int fd_;
    Status status_ = Status::not_held;
};

}  // namespace storage

// The lock of the pool directory, under which names are given and taken, for as long as the object
// lives. The directory is checked as `Through::pool_directory` says.
struct LockedDirectory;
struct Unlock {
    void operator()(LockedDirectory* directory) const noexcept;
};
using LockedDirectoryPtr = std::unique_ptr<LockedDirectory, Unlock>;
// ok, interrupted, no_entry, not_allowed, system_error (ETIMEDOUT: its holder may be stopped)
Status lock_directory(const std::string& directory, Failure& why, WaitPolicy& p,
                      LockedDirectoryPtr& out);
int descriptor_of(const LockedDirectory& directory) noexcept;  // for as long as it lives
// The descriptor of the pool directory, to be closed by the caller. Made with mode 0700 with
// `create`; refused as `Through::pool_directory` says.
Status open_pool_directory(const std::string& directory, bool create, int& out, Failure& why);

}  // namespace onecopy
