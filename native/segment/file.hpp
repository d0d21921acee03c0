// Pools as files: creating without a window, opening without trust, leaving without a trace.
//
// A name, a lock byte and an inode together say whether a pool has members:
//
//   * Every member has kMemberByte locked, shared, from before the file has its name until it
//     leaves. A process that gets the byte exclusively is alone.
//   * A name is removed only under the lock of the directory, after the inode that it leads to was
//     compared, by a process that has the byte exclusively, or on request (unlink_pool). So a new
//     file under an old name is never removed in the place of the old file.
//   * A process that opens a pool, and gets the byte shared, may have opened a file whose name was
//     removed meanwhile. So it opens the name again, compares, and starts over.
//
// A process that opens a pool for reading only (open_to_read) is no member. It maps the file
// privately: its bookkeeping, and the recovery that it needs, go to pages of its own, and the file
// is never changed. It has *all* slot bytes locked, shared. It gets this lock only if the pool has
// no members. While it has the lock, no process can become a member.
//
// A memfd has no name. Its place takes a rendezvous file (storage/rendezvous.hpp), which is
// compared by the pool's id and not by inode, because it is replaced when it has grown.
#pragma once
#include <functional>
#include <memory>
#include <string>

#include "segment/member.hpp"
#include "storage/directory.hpp"
#include "storage/pool_header.hpp"
#include "storage/pool_names.hpp"

namespace onecopy {

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
// `what`, of a pool whose members have all died, and whose name was left.
constexpr const char* kStale = "all members of the pool are gone, and its name is left";

// What opening does with a pool whose members have all died. `keep` is for processes that only
// look.
enum class WhenStale { remove, keep };

// These functions release the GIL while they wait: the policy is asked, and none of the process's
// mutexes is held. A fork meanwhile leaves nothing of it in the child.

// ok, exists, no_memory, not_allowed, bad_argument, system_error, interrupted
Status create_pool(const CreateSpec& spec, std::shared_ptr<Member>& out, Failure& why,
                   WaitPolicy& p);
// ok, no_entry (also, with kStale: all members of a non-persistent pool are dead), not_allowed,
// bad_version, corrupt, no_slot, read_elsewhere, system_error, interrupted. The same pool opened
// twice in a process is the same Member.
Status open_pool(Through way, const std::string& directory, const std::string& name,
                 WhenStale when_stale, std::shared_ptr<Member>& out, Failure& why, WaitPolicy& p);
// The file of a persistent pool without writers, mapped privately: stores of this process never
// reach the file, and it needs no permission to write. Any number of readers, or members:
// written_elsewhere, and open_pool answers read_elsewhere. The rest as open_pool.
Status open_to_read(Through way, const std::string& directory, const std::string& name,
                    std::shared_ptr<Member>& out, Failure& why, WaitPolicy& p);
// Has `see` look at a pool without joining it: nothing is locked, and nothing in it can be changed.
// While members change the pool, its data may look contradictory. no_entry with kStale: all members
// are dead; the name stays. `everything`: also a pool whose members are all dead, or that is marked
// corrupt.
Status look_at_pool(Through way, const std::string& directory, const std::string& name,
                    const std::function<void(Member&)>& see, Failure& why, bool everything = false);
// Returns when the file has what the memory had; nothing to do for a memfd, and for a reader.
Status flush_pool(Member& m, Failure& why);
// Removes the name now; members stay members. ok, no_entry, ...
Status unlink_pool(Member& m, Failure& why, WaitPolicy& p);
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
// have no other member, and release nothing else. The pools continue to work in this process.
void depart_all() noexcept;

}  // namespace onecopy
