// The mutexes that a fork takes, and its work on the descriptors of this process.
//
// Order of the mutexes: shared-memory segments, pools, list of members, each member's. None is
// recursive. The only thread of the child is the copy of the thread that locked them, and it may
// unlock a plain mutex. A recursive mutex stores the thread's id and would refuse.
#pragma once
#include <mutex>

namespace onecopy {

// Guards the list of this process's pools, and the list of descriptors that a forked child must not
// keep. A fork takes it. So it is held only for a few steps in memory, or to open, map or close a
// file. It is never held while a thread waits for another process, for memory or for the GIL.
std::mutex& pools_mutex() noexcept;

// Installs the fork handlers, once. Without pools_mutex.
void follow_forks() noexcept;

namespace storage {

// Held during each step on a shared-memory segment, so that no forked child gets a copy of a file
// lock that one step takes. A fork takes this mutex.
std::mutex& segments_mutex() noexcept;

// Sets the steps of the members of pools in a fork; they run with `pools_mutex` held. `steps` must
// stay valid. Called once.
struct MemberSteps {
    void (*prepare)() noexcept;
    void (*parent)() noexcept;
    void (*child)() noexcept;
};
void follow_members(const MemberSteps& steps) noexcept;

}  // namespace storage
}  // namespace onecopy
