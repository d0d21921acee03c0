// What of the list of members the rest of this folder uses.
#pragma once

namespace onecopy {

class Member;

// From here on a child of a fork gets a membership of its own; see `register_member`.
void member_is_made(Member& m) noexcept;

// Which process this is, in the line of forks that led to it: a mark that was copied by a fork is
// not taken for one's own. (Process ids would not do: a parent and its child can both be process 1,
// each of its own namespace.)
unsigned lineage() noexcept;

}  // namespace onecopy
