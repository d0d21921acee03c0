// Shared-memory segments at the end of a process that has some.
//
// A segment is a file of /dev/shm; src/onecopy/_core/segments.py has the protocol, and all of it
// but this: at the very end, when no Python code runs any more, a process releases what it holds,
// and removes the names of the segments that nobody holds or keeps then. Exit handlers still find
// them all.
//
// Called under the GIL, or when the interpreter has ended.
#pragma once
#include <cstdint>

namespace onecopy::os {

constexpr const char* kSegmentDirectory = "/dev/shm";
// The byte that each holder has locked, shared; far behind the end of any file.
constexpr std::uint64_t kSegmentHoldByte = std::uint64_t{1} << 62;
// A segment's access time names its owner process, the one that keeps it: seconds after kOwnerEpoch
// are the clock tick at which that process started; the nanoseconds are its pid, and above the pid
// some bits of its PID namespace.
constexpr std::int64_t kOwnerEpoch = std::int64_t{1} << 36;
constexpr unsigned kOwnerPidBits = 22;
constexpr unsigned kOwnerNamespaceMask = 127;

// This process holds the segment through this descriptor; no longer.
void hold_segment(int number) noexcept;
void forget_segment(int number) noexcept;

// From now on `release_segments` also looks for segments that this process keeps without holding
// them, as those that its children made.
void keep_segments() noexcept;

// Closes the descriptors, and removes the names of segments that nobody holds any more, and that
// this process kept, or whose owner has ended. Without a descriptor, or a /proc, to find out who
// that is, the name stays, and the next process that uses segments removes it.
void release_segments() noexcept;

}  // namespace onecopy::os
