// The owner process of a shared-memory segment: while it lives, the segment stays, also if no
// process holds it.
//
// The access time of the file names the owner process:
//
//|  seconds       kOwnerEpoch + the clock tick since boot at which the process started
//|  nanoseconds   pid, and above it (kOwnerPidBits) seven bits of its PID namespace
//
// A process that maps a file sets the access time. Under `relatime`, the default of Linux, it does
// so only if that time is in the past. A process that writes to mapped memory sets the other two
// times. A time that names no process (`touch`, a mount with `strictatime`, a creator without a
// /proc of its own) counts as a dead owner.
//
// All functions here are called with `segments_mutex` held.
#pragma once
#include "os/files.hpp"
#include "storage/liveness.hpp"

namespace onecopy {

constexpr std::int64_t kOwnerEpoch = std::int64_t{1} << 36;  // the year 4147
constexpr unsigned kOwnerPidBits = 22;  // of Linux; with seven more it is less than a second
constexpr unsigned kOwnerNamespaceMask = 127;

namespace storage {

// Seven bits of the namespace. Pid 0: no process.
using Owner = ProcessMark;

// This process; no process if /proc belongs to another PID namespace, in which this process has
// another pid. False: this process could not find out (errno).
bool this_process(Owner& out) noexcept;
// The owner of segments that this process makes now: the top of the tree of processes, as far as it
// is known. The first answer of this process counts, or, if the parent had an answer before it
// forked, that one. Without an answer it is the process `parent`, which has started this process.
// If `parent` is 0 or has ended, it is this process. False: errno is set.
bool owner_of_new(u32 parent, Owner& out) noexcept;

Owner owner_of(const os::FileStatus& file) noexcept;
bool mark_owner(int file, const Owner& owner) noexcept;
// dead never changes. unknown: this process lacked a resource to find out (errno). A process that
// cannot be seen from here, because it is hidden or in another container, counts as alive.
os::Life life_of_owner(const Owner& owner) noexcept;

// After this call, this process counts as dead for itself: it is ending.
void end_ownership() noexcept;
// In a forked child: it is another process, and has the owner process of its parent.
void forget_this_process() noexcept;

}  // namespace storage
}  // namespace onecopy
