#include "storage/pool_names.hpp"

#include <climits>

#include "storage/liveness.hpp"
#include "storage/rendezvous.hpp"

namespace onecopy {
namespace storage {
namespace {

constexpr std::int64_t kSweepWait = 1'000'000'000;

constexpr char kHidden[] = ".onecopy-new-";  // files that are being made, if there is no O_TMPFILE

// A hidden file in which no process has the membership byte locked was left by a process that died.
// The next process that needs a hidden file in this directory removes it.
void remove_leftovers(int dirfd) {
    for (const std::string& left : os::names_in(dirfd, kHidden))
        look_behind(dirfd, left, true);
}

}  // namespace

constexpr NewFileKind kPoolFiles{kHidden, 0600, kMemberByte, remove_leftovers};

bool valid_name(const std::string& name) noexcept {
    return !name.empty() && name.size() <= NAME_MAX && name != "." && name != ".." &&
           name.find('/') == std::string::npos && name.find('\0') == std::string::npos;
}
bool is_hidden(const std::string& name) noexcept {
    return name.starts_with(kHidden);
}

bool still_there(int dirfd, const Place& place) {
    if (place.memfd) {
        Fd fd([&] { return os::open_at(dirfd, place.name.c_str(), os::Access::read); });
        Rendezvous r;
        return fd && read_rendezvous(fd.get(), r) && r.id == place.id.hex();
    }
    os::FileStatus st;
    return os::look_at(dirfd, place.name.c_str(), st) && st.is_file && st.device == place.dev &&
           st.inode == place.ino;
}

// With the lock for it.
Status remove_name(int dirfd, const Place& place, const DirectoryLock& directory_lock) {
    if (!directory_lock) return directory_lock.status();
    if (!still_there(dirfd, place)) return Status::no_entry;
    return os::remove_name(dirfd, place.name.c_str()) ? Status::ok : status_of(errno);
}

Status add_line(int dirfd, const Place& place, int memory, WaitPolicy& p) {
    const std::string own = own_line(memory);
    if (own.empty()) return Status::system_error;
    DirectoryLock directory_lock(dirfd, p);
    if (!directory_lock) return directory_lock.status();
    Fd fd([&] { return os::open_at(dirfd, place.name.c_str(), os::Access::append); });
    if (!fd) return status_of(errno);
    return append_line(dirfd, place.name, fd.get(), place.id.hex(), own);
}

// Finds the state of a name; removes the name if no process uses its file. The directory is locked.
PoolFileState look_behind(int dirfd, const std::string& name, bool remove) {
    const PoolFd fd([&] { return os::open_at(dirfd, name.c_str(), os::Access::write); });
    if (!fd) {
        // This is not the file of a pool: a directory, a link, a device without a driver.
        const bool is_other =
            errno == EISDIR || errno == ELOOP || errno == ENXIO || errno == ENODEV;
        return is_other ? PoolFileState::not_a_pool : PoolFileState::failed;
    }
    os::FileStatus st;
    if (!os::look_at(fd.get(), st)) return PoolFileState::failed;
    if (!st.is_file) return PoolFileState::not_a_pool;
    auto gone = [&] {
        return !remove || os::remove_name(dirfd, name.c_str()) ? PoolFileState::removed
                                                               : PoolFileState::failed;
    };
    auto gone_if_alone = [&](const os::SharedFile& of) {
        const os::Others others = users_of(of, kMemberByte, remove);
        if (others != os::Others::none)
            return others == os::Others::unknown ? PoolFileState::failed : PoolFileState::in_use;
        const PoolFileState result = gone();
        // Explicitly: a copy of the descriptor in a child would keep the lock.
        if (remove) of.unlock(kMemberByte);
        return result;
    };
    if (is_hidden(name)) {
        // Left by a process that died while it made the file: a living process has the byte
        // locked. A process that has not locked it yet notices that its file has lost its name, and
        // makes the file again.
        return gone_if_alone(*fd);
    }
    if (Rendezvous r; read_rendezvous(fd.get(), r)) {
        PoolFd memory;
        switch (reach_any(r, memory)) {
            case Reach::unknown:
                return errno == EACCES || errno == EPERM ? PoolFileState::in_use
                                                         : PoolFileState::failed;
            case Reach::stale:
                return gone();
            case Reach::found:
                break;
        }
        return gone_if_alone(*memory);
    }
    // Uses only the first line of the header, which is the same in every version: pools of older
    // builds must be removed too.
    HeaderCopy h;
    if (!h.read(fd.get())) return errno != 0 ? PoolFileState::failed : PoolFileState::not_a_pool;
    if (h.get().magic != kMagic) return PoolFileState::not_a_pool;
    const os::Others others = fd->others(kMemberByte);
    if (others == os::Others::unknown) return PoolFileState::failed;
    if (others != os::Others::none) return PoolFileState::in_use;
    if (h.get().flags & kPersistent) return PoolFileState::kept_persistent;
    return gone_if_alone(*fd);
}

}  // namespace storage

using namespace storage;

PoolFileState sweep_pool(Through way, const std::string& directory, const std::string& name,
                         bool remove, WaitPolicy& p) {
    if (!valid_name(name)) return PoolFileState::not_a_pool;
    Failure why;
    Fd dirfd;
    if (!good(directory_for(way, directory, dirfd, why))) return PoolFileState::failed;
    BoundedWait policy(p, from_now(kSweepWait));
    const DirectoryLock directory_lock(dirfd.get(), policy);
    if (directory_lock) return look_behind(dirfd.get(), name, remove);
    return directory_lock.status() == Status::interrupted ? PoolFileState::interrupted
                                                          : PoolFileState::locked;
}

}  // namespace onecopy
