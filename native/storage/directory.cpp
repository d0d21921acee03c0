#include "storage/directory.hpp"

#include <cstdio>
#include <utility>

#include "os/files.hpp"

namespace onecopy {
namespace storage {

std::string bare(std::string directory) {
    while (directory.size() > 1 && directory.ends_with('/'))
        directory.pop_back();
    return directory;
}

std::string absolute(const std::string& directory) {
    const std::string here = directory.starts_with('/') ? std::string() : os::current_directory();
    return here.empty() ? bare(directory) : here + "/" + bare(directory);
}

Status open_directory(const std::string& directory, Fd& out, Failure& why) {
    out = Fd([path = bare(directory)] { return os::open_directory(path.c_str()); });
    if (out) return Status::ok;
    // A symbolic link shows as ELOOP or ENOTDIR.
    if (errno == ENOTDIR || errno == ELOOP)
        return why = {ENOTDIR, "its directory is no directory, or a symbolic link", {}},
               Status::not_allowed;
    return fail(why, "open the pool directory");
}

// The pool directory of this user. Any user may make a directory of that name first (all users can
// write to /dev/shm and /tmp). So the directory is used only if no user except this one and root
// can change it. The check reads the descriptor that is used afterwards, so it does not matter if
// the directory is replaced in between.
Status trusted_directory(Through way, const std::string& directory, bool create, Fd& out,
                         Failure& why) {
    if (create && !os::make_directory(bare(directory).c_str(), 0700) && errno != EEXIST)
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
    os::FileStatus st;
    if (!os::look_at(out.get(), st)) return fail(why, "look at the pool directory");
    // Root can change every directory.
    if (st.user != os::effective_user() && st.user != 0)
        return refuse("belongs to another user (uid " + std::to_string(st.user) +
                      "; this process has uid " + std::to_string(os::effective_user()) + ")");
    if (st.mode & 022) {
        char mode[16];
        std::snprintf(mode, sizeof mode, "0%03o", static_cast<unsigned>(st.mode & 07777));
        return refuse("is writable by others (mode " + std::string(mode) + ")");
    }
    return Status::ok;
}

Status directory_for(Through way, const std::string& directory, Fd& out, Failure& why) {
    return way == Through::pool_directory ? trusted_directory(way, directory, false, out, why)
                                          : open_directory(directory, out, why);
}

}  // namespace storage

using namespace storage;

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

}  // namespace onecopy
