// What a pool contains under names, structures without a name, and how much memory each keeps.
#pragma once
#include <string>
#include <vector>

#include "directory/directory.hpp"

namespace onecopy::directory {

struct Thing {
    std::string name;  // empty: it has no name
    NameKind kind;
    u64 bytes;      // as asked for: of its own block, and of every block that it keeps alive
    u64 blocks;     // how many these are; a block that two things refer to counts for both
    u32 processes;  // how many have it open; dead ones count until they are cleaned up
    u32 index;      // of its block
};
// For people: each thing as it is at some moment. What belongs to another thing, as the lock of a
// list does, is counted there and not listed. Blocks that refer to others are held while they are
// looked at.
Status things(Member& m, WaitPolicy& p, std::vector<Thing>& out);  // may throw bad_alloc

}  // namespace onecopy::directory
