// Large copies into blocks.
#pragma once
#include "segment/member.hpp"

namespace onecopy {

constexpr u64 kLargeCopy = 256 * kKiB;  // below this a look at the pages costs more than it saves

// Copies into a block that no other process reads yet; as `copy_in`, but pages that this process
// has not mapped cost no fault each.
void fill(Member& m, unsigned char* to, const unsigned char* from, u64 bytes) noexcept;

}  // namespace onecopy
