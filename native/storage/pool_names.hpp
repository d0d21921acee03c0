// Names of pools: what stands behind one, and when it may be removed.
#pragma once
#include <string>

#include "os/files.hpp"
#include "storage/directory.hpp"
#include "storage/new_file.hpp"
#include "storage/pool_header.hpp"

namespace onecopy {

// What a name in the pool directory is, for `gc`: removes it if nobody uses it. `removed` without
// `remove`: would be removed.
// `locked`: the directory is, so the other names in it cannot be looked at either.
enum class Orphan { in_use, removed, kept_persistent, not_a_pool, failed, locked, interrupted };
Orphan sweep_pool(Through way, const std::string& directory, const std::string& name, bool remove,
                  WaitPolicy& p);

namespace storage {

bool valid_name(const std::string& name) noexcept;
bool is_hidden(const std::string& name) noexcept;

// A name in a directory, and what it must lead to for us to touch it.
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
// What stands behind a name; removes it if it is of no use to anybody.
Orphan look_behind(int dirfd, const std::string& name, bool remove);
// Adds a line of this process to the rendezvous of a memfd. It locks the directory itself.
// no_entry: the file is gone, or another pool's.
Status add_line(int dirfd, const Place& place, int memory, WaitPolicy& p);

// Files of pools in the making.
extern const NewFileKind kPoolFiles;

}  // namespace storage
}  // namespace onecopy
