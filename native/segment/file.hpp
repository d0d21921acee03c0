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

// ok, exists, no_memory, not_allowed, bad_argument, system_error
Status create_pool(const CreateSpec& spec, std::shared_ptr<Member>& out, Failure& why);
// ok, no_entry (also: all members of a non-persistent pool are dead; the file is removed),
// not_allowed, bad_version, corrupt, no_slot, read_elsewhere, system_error. The same pool opened
// twice in a process is the same Member.
Status open_pool(const std::string& directory, const std::string& name,
                 std::shared_ptr<Member>& out, Failure& why);
// The file of a persistent pool that nobody writes, mapped privately: what changes in the memory of
// this process never reaches it, and it needs no right to write. Any number of readers, or members:
// written_elsewhere, and open_pool answers read_elsewhere. The rest as open_pool.
Status open_to_read(const std::string& directory, const std::string& name,
                    std::shared_ptr<Member>& out, Failure& why);
// Returns when the file has what the memory had; nothing to do for a memfd, and for who only reads.
Status flush_pool(Member& m, Failure& why);
// Removes the name now; members go on. ok, no_entry, ...
Status unlink_pool(Member& m);
// What a name in the pool directory is, for `gc`: removes it if nobody uses it. `removed` without
// `remove`: would be removed.
enum class Orphan { in_use, removed, kept_persistent, not_a_pool, failed };
Orphan sweep_pool(const std::string& directory, const std::string& name, bool remove);
// 0700 if made here; refuses links, other owners, group- or world-writable.
Status check_directory(const std::string& directory, bool create, Failure& why);

// In a child after fork: adds this process to the rendezvous file of a memfd pool, so that others
// find the pool when the parent is gone. Does nothing for other pools, or twice in a process. Not
// from inside a fork handler, and with no Member::mutex nor shared lock held.
void announce(Member& m);

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
