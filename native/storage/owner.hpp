// The process that a shared-memory segment belongs to: while it lives, the segment stays though
// nobody holds it.
//
// It stands in the time of the file's last access:
//
//   seconds       kOwnerEpoch + the clock tick since boot at which the process started
//   nanoseconds   pid, and above it (kOwnerPidBits) seven bits of its PID namespace
//
// A process that maps a file sets that time, but under `relatime`, the rule of Linux, only if the
// time is past; a process that writes to mapped memory sets the other two times. A time that names
// nobody (`touch`, a mount with `strictatime`, a creator without a /proc of its own) counts as
// dead.
//
// Everything here is called with `segments_mutex` held.
#pragma once
#include "os/files.hpp"
#include "storage/liveness.hpp"

namespace onecopy {

constexpr std::int64_t kOwnerEpoch = std::int64_t{1} << 36;  // the year 4147
constexpr unsigned kOwnerPidBits = 22;  // of Linux; with seven more it is less than a second
constexpr unsigned kOwnerNamespaceMask = 127;

namespace storage {

// Seven bits of the namespace. Pid 0: nobody.
using Owner = ProcessMark;

// This process; nobody, where /proc belongs to another PID namespace, which knows us by another
// number. False: it could not be found out now (errno).
bool this_process(Owner& out) noexcept;
// The owner of what this process makes now: the top of the tree of processes, as far as it is
// known. That is what was found first, in this process or, before a fork, in its parent; else the
// process `parent`, which has started this one; else (0, or it has ended) this process. False:
// errno.
bool owner_of_new(u32 parent, Owner& out) noexcept;

Owner owner_of(const os::FileStatus& file) noexcept;
bool mark_owner(int file, const Owner& owner) noexcept;
// dead is for ever. unknown: this process could not look, for want of means (errno). What cannot be
// seen from here, because it is hidden or in another container, counts as alive.
os::Life life_of_owner(const Owner& owner) noexcept;

// From here on this process counts as dead for itself: it ends.
void end_ownership() noexcept;
// In a child of a fork, which is another process. It has its parent's owner.
void forget_this_process() noexcept;

}  // namespace storage
}  // namespace onecopy
