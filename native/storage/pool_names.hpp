// Names of pools: the state of a name, and when it may be removed.
#pragma once
#include <string>

#include "os/files.hpp"
#include "storage/directory.hpp"
#include "storage/new_file.hpp"
#include "storage/pool_header.hpp"

namespace onecopy {

// Finds the state of a name in the pool directory, for `gc`; removes the name if no process uses
// its file. `removed` without `remove`: it would be removed. `locked`: the directory is locked, so
// its other names cannot be checked either.
enum class PoolFileState {
    in_use,
    removed,
    kept_persistent,
    not_a_pool,
    failed,
    locked,
    interrupted
};
PoolFileState sweep_pool(Through way, const std::string& directory, const std::string& name,
                         bool remove, WaitPolicy& p);

namespace storage {

bool valid_name(const std::string& name) noexcept;
bool is_hidden(const std::string& name) noexcept;

// A name in a directory, and the file to which it must lead. Otherwise it is not changed.
struct Place {
    std::string directory;  // absolute
    std::string name;
    u64 dev = 0;  // of the pool file; not used for a rendezvous
    u64 ino = 0;
    PoolId id;
    bool memfd = false;
};

// ---- the directory is locked --------------------------------------------------------------------

// Whether the name still leads to the pool.
bool still_there(int dirfd, const Place& place);
// ok, no_entry (it leads elsewhere), or why it is not locked or not removed.
Status remove_name(int dirfd, const Place& place, const DirectoryLock& directory_lock);
// Finds the state of a name; removes the name if no process uses its file.
PoolFileState look_behind(int dirfd, const std::string& name, bool remove);
// Adds a line for this process to the rendezvous file of a memfd. It locks the directory itself.
// no_entry: the file does not exist, or belongs to another pool.
Status add_line(int dirfd, const Place& place, int memory, WaitPolicy& p);

// Files of pools that are being made.
extern const NewFileKind kPoolFiles;

}  // namespace storage
}  // namespace onecopy
