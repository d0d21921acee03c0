// One name of a directory of shared-memory segments.
#pragma once
#include "os/processes.hpp"
#include "storage/shared_memory.hpp"

namespace onecopy::storage {

// Made by onecopy, by this user.
bool is_segment(const os::FileStatus& file) noexcept;
// alive, dead or unknown, as `life_of_owner`; a hidden file has no owner.
os::Life owner_life(const os::FileStatus& file, const std::string& name) noexcept;
// Finds the state of a name; removes the name if it is stale. With `segments_mutex` held.
SegmentState sweep_segment(int directory, const std::string& name, bool remove) noexcept;

}  // namespace onecopy::storage
