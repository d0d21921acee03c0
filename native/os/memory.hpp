// How much memory the machine and the process's cgroup have left for files.
#pragma once
#include <cstddef>
#include <cstdint>

#include "os/shared_file.hpp"

namespace onecopy::os {

constexpr std::size_t kLongestGroup = 1024;  // of a longer path nothing is known

// The memory limit of a control group, v1 or v2, that leaves this process the least.
struct MemoryLimit {
    std::uint64_t limit = 0;         // bytes
    std::uint64_t used = 0;          // without what the kernel can drop (pages of files on disk)
    std::uint64_t room = 0;          // what may still be reserved: limit - used + swap - a margin
    char group[kLongestGroup] = {};  // its directory
};
// Looks at the process's group and at every group above it that can be seen, each time. False: none
// has a limit, or nothing can be known. `proc`: for tests; where /proc is.
bool memory_limit(MemoryLimit& out, const char* proc = "/proc") noexcept;

// 0; ENOSPC or ENOMEM: the file system of the file, or for a file in memory the cgroup, has no room
// for so many bytes more. What is unknown counts as room.
int room_for(const SharedFile& file, std::uint64_t bytes) noexcept;

// As `reserve`, for a range that is zero, not reserved, and not being reserved by another thread:
// all of it, or nothing. Not tried where there is no room for it. `mapped` is where the
// range is mapped.
int reserve_all(const SharedFile& file, void* mapped, std::uint64_t offset,
                std::uint64_t length) noexcept;

}  // namespace onecopy::os
