// What fork.cpp and file.cpp share. Nothing else includes this.
#pragma once
#include <mutex>

namespace onecopy {

class Member;

// Outermost of the process-private mutexes (then the list of members, then each Member::mutex).
// Held while a pool is created, opened, swept or finally let go, and over a fork: descriptors in
// the making carry locks, and a fork in between would put a copy of them into a child that knows
// nothing of them and would hold the locks for as long as it lives. Its holder never waits for the
// GIL nor for a lock in a shared segment that others can see, except for a slot while joining.
std::mutex& pools_mutex() noexcept;

// Which process this is, in the line of forks that led to it: a mark that was copied by a fork is
// not taken for one's own. (Process ids would not do: a parent and its child can both be process 1,
// each of its own namespace.)
unsigned lineage() noexcept;

}  // namespace onecopy
