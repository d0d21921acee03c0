// Pools as files: creating without a window, opening without trust, leaving without a trace.
#pragma once
#include <memory>
#include <string>

#include "segment/member.hpp"

namespace onecopy {

struct CreateSpec {
    // For shm and memfd: the pool directory; for a file-backed pool: the directory of the file.
    std::string directory;
    std::string name;  // file name in it
    u64 capacity = 0;
    u32 max_processes = 256;
    u32 mode = 0600;
    bool persistent = false;
    // The memory is a memfd; `directory/name` is a rendezvous file that lists members' descriptors.
    bool memfd = false;
    bool prefault = false;
};
// Errno and the step that failed, for the message.
struct Failure {
    int error = 0;
    std::string what;
};
constexpr const char* kNotAPool = "not a pool";  // `what`, of a file that never was one

// ok, exists, no_memory, not_allowed, bad_argument, system_error,
// interrupted
//
// These functions give the process to others while they wait: the patience is asked, and none of
// the process's mutexes is held. A fork meanwhile leaves nothing of it in the child.
Status create_pool(const CreateSpec& spec, std::shared_ptr<Member>& out, Failure& why, Patience& p);
// ok, no_entry (also: all members of a non-persistent pool are dead; the file is removed),
// not_allowed, bad_version, corrupt, no_slot, read_elsewhere, system_error, interrupted. The same
// pool opened twice in a process is the same Member.
Status open_pool(const std::string& directory, const std::string& name,
                 std::shared_ptr<Member>& out, Failure& why, Patience& p);
// The file of a persistent pool that nobody writes, mapped privately: what changes in the memory of
// this process never reaches it, and it needs no right to write. Any number of readers, or members:
// written_elsewhere, and open_pool answers read_elsewhere. The rest as open_pool.
Status open_to_read(const std::string& directory, const std::string& name,
                    std::shared_ptr<Member>& out, Failure& why, Patience& p);
// Returns when the file has what the memory had; nothing to do for a memfd, and for who only reads.
Status flush_pool(Member& m, Failure& why);
// Removes the name now; members go on. ok, no_entry, ...
Status unlink_pool(Member& m, Failure& why, Patience& p);
// What a name in the pool directory is, for `gc`: removes it if nobody uses it. `removed` without
// `remove`: would be removed.
// `locked`: the directory is, so the other names in it cannot be looked at either.
enum class Orphan { in_use, removed, kept_persistent, not_a_pool, failed, locked, interrupted };
Orphan sweep_pool(const std::string& directory, const std::string& name, bool remove, Patience& p);
// The lock under which names are given and taken, for as long as the object lives.
struct LockedDirectory;
struct Unlock {
    void operator()(LockedDirectory* directory) const noexcept;
};
using LockedDirectoryPtr = std::unique_ptr<LockedDirectory, Unlock>;
// ok, interrupted, no_entry, not_allowed, system_error (ETIMEDOUT: its holder may be stopped)
Status lock_directory(const std::string& directory, Failure& why, Patience& p,
                      LockedDirectoryPtr& out);
// 0700 if made here; refuses links, other owners, group- or world-writable.
Status check_directory(const std::string& directory, bool create, Failure& why);

// In a child after fork: adds this process to the rendezvous file of a memfd pool, so that others
// find the pool when the parent is gone. Does nothing for other pools, or twice in a process. Not
// from inside a fork handler, and with no Member::mutex nor shared lock held.
void announce(Member& m, Patience& p);

// Leaves now (as the last shared_ptr would), with the mapping kept for views that are still around.
// Idempotent.
void leave_pool(Member& m) noexcept;
// At exit: leave every pool (views stay mapped), so that the last one out removes the name.
void leave_all() noexcept;

}  // namespace onecopy
