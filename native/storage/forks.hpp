// What a fork waits for, and what it does with the descriptors of this process.
//
// Order of the mutexes: shared-memory segments, pools, list of members, each member's. All are
// plain ones: the child's only thread is the copy of the one that took them, and it may unlock
// those (a recursive mutex would refuse, it remembers the thread's id).
#pragma once
#include <mutex>

namespace onecopy {

// Guards what this process knows of its pools, and the list of descriptors that a child of a fork
// must not keep. A fork takes it, so it is held for a few steps in memory, or for opening, mapping
// or closing a file: never while anybody waits for another process, for memory or for the GIL.
std::mutex& pools_mutex() noexcept;

// Installs the fork handlers, once. Without pools_mutex.
void follow_forks() noexcept;

namespace storage {

// Held through each step of a shared-memory segment, so that no child has a copy of a lock that was
// meant for a step. A fork takes it.
std::mutex& segments_mutex() noexcept;

// What the members of pools do in a fork, with `pools_mutex` held. `steps` stay. One caller.
struct MemberSteps {
    void (*prepare)() noexcept;
    void (*parent)() noexcept;
    void (*child)() noexcept;
};
void follow_members(const MemberSteps& steps) noexcept;

}  // namespace storage
}  // namespace onecopy
