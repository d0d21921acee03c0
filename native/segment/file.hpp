// Pools as files: creating without a window, opening without trust, leaving without a trace.
#pragma once
#include <functional>
#include <memory>
#include <string>

#include "segment/member.hpp"

namespace onecopy {

// The directory in which a pool is looked for. `pool_directory`: this user's own, in which short
// names are looked up. It is refused (not_allowed) if it is a link, belongs to anybody but this
// user and root, or may be written by others. `path`: of a path that the user has given. There it
// is the file that must be this user's, or have been made for several; see Pool.create's `mode`.
// Pools are made only in a directory that is as safe as the pool directory.
enum class Through { pool_directory, path };

struct CreateSpec {
    Through way = Through::pool_directory;
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
    std::string file{};  // what the step was about, if not the pool's file
    u32 limit = 0;       // no_slot: how many slots the pool has
};
constexpr const char* kNotAPool = "not a pool";  // `what`, of a file that never was one
// `what`, of a pool whose members have all died, and whose name was left.
constexpr const char* kStale = "all members of the pool are gone, and its name is left";

// What opening does with a pool whose members have all died. `keep` is for those who only look.
enum class WhenStale { remove, keep };

// These functions give the interpreter to others while they wait: the policy is asked, and none
// of the process's mutexes is held. A fork meanwhile leaves nothing of it in the child.

// ok, exists, no_memory, not_allowed, bad_argument, system_error, interrupted
Status create_pool(const CreateSpec& spec, std::shared_ptr<Member>& out, Failure& why,
                   WaitPolicy& p);
// ok, no_entry (also, with kStale: all members of a non-persistent pool are dead), not_allowed,
// bad_version, corrupt, no_slot, read_elsewhere, system_error, interrupted. The same pool opened
// twice in a process is the same Member.
Status open_pool(Through way, const std::string& directory, const std::string& name,
                 WhenStale when_stale, std::shared_ptr<Member>& out, Failure& why, WaitPolicy& p);
// The file of a persistent pool that nobody writes, mapped privately: what changes in the memory of
// this process never reaches it, and it needs no right to write. Any number of readers, or members:
// written_elsewhere, and open_pool answers read_elsewhere. The rest as open_pool.
Status open_to_read(Through way, const std::string& directory, const std::string& name,
                    std::shared_ptr<Member>& out, Failure& why, WaitPolicy& p);
// Has `see` look at a pool without joining it: nothing is locked, and nothing in it can be changed.
// What members change meanwhile may look contradictory. no_entry with kStale: all members are dead;
// the name stays.
Status look_at_pool(Through way, const std::string& directory, const std::string& name,
                    const std::function<void(Member&)>& see, Failure& why);
// Returns when the file has what the memory had; nothing to do for a memfd, and for who only reads.
Status flush_pool(Member& m, Failure& why);
// Removes the name now; members go on. ok, no_entry, ...
Status unlink_pool(Member& m, Failure& why, WaitPolicy& p);
// What a name in the pool directory is, for `gc`: removes it if nobody uses it. `removed` without
// `remove`: would be removed.
// `locked`: the directory is, so the other names in it cannot be looked at either.
enum class Orphan { in_use, removed, kept_persistent, not_a_pool, failed, locked, interrupted };
Orphan sweep_pool(Through way, const std::string& directory, const std::string& name, bool remove,
                  WaitPolicy& p);
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
// Says that a process is making this file: one whose name begins with `.onecopy-new-` is removed by
// the next use of the directory unless a process holds it so. False: it was removed just now.
bool hold_new_file(int fd) noexcept;
// The descriptor of the pool directory, to be closed by the caller. Made with mode 0700 with
// `create`; refused as `Through::pool_directory` says.
Status open_pool_directory(const std::string& directory, bool create, int& out, Failure& why);

// In a child after fork: adds this process to the rendezvous file of a memfd pool, so that others
// find the pool when the parent is gone. Does nothing for other pools, or twice in a process. Not
// from inside a fork handler, and with no Member::mutex nor shared lock held. Where a descriptor is
// wanting for it, it can be called again.
void announce(Member& m, WaitPolicy& p);

// Leaves now (as the last shared_ptr would), with the mapping kept for views that are still around.
// Idempotent.
void leave_pool(Member& m) noexcept;
// At exit: leave every pool (views stay mapped), so that the last one out removes the name. No
// other thread of the process may use a pool any more.
void leave_all() noexcept;
// At exit, when another thread may still be at work in the pools: remove the names of those that
// nobody else is a member of, and give up nothing else. The pools go on working in this process.
void depart_all() noexcept;

}  // namespace onecopy
