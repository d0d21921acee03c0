// What fork.cpp and file.cpp share. Nothing else includes this.
#pragma once
#include <mutex>

namespace onecopy {

class Member;

// Guards what this process knows of its pools, and the list of descriptors that a child of a fork
// must not keep. Outermost of the process-private mutexes (then the list of members, then each
// Member::mutex). A fork takes it, so it is held for a few steps in memory, or for opening, mapping
// or closing a file: never while anybody waits for another process, for memory or for the GIL.
std::mutex& pools_mutex() noexcept;

// Installs the fork handlers, once. Without pools_mutex.
void follow_forks() noexcept;

// From here on a child of a fork gets a membership of its own; see `register_member`.
void member_is_made(Member& m) noexcept;

// Which process this is, in the line of forks that led to it: a mark that was copied by a fork is
// not taken for one's own. (Process ids would not do: a parent and its child can both be process 1,
// each of its own namespace.)
unsigned lineage() noexcept;

}  // namespace onecopy
