// What lives in a pool under a name, or is a structure without one, and how much memory each keeps.
#pragma once
#include <string>
#include <vector>

#include "directory/directory.hpp"

namespace onecopy::directory {

struct Thing {
    std::string name;  // empty: it has none
    NameKind kind;
    u64 bytes;      // asked for: of its own block, and of every block that it keeps alive
    u64 blocks;     // that these are; what two things refer to counts for each
    u32 processes;  // that have it open (dead ones too, until they are cleaned up)
};
// For people: each thing as it is at some moment. What belongs to another thing, as a list's lock
// does, is counted there and not listed. Blocks that refer to others are held while they are looked
// at.
Status things(Member& m, WaitPolicy& p, std::vector<Thing>& out);  // may throw bad_alloc

}  // namespace onecopy::directory
