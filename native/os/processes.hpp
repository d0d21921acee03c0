// Processes and their threads, as /proc shows them.
#pragma once
#include <cstdint>
#include <vector>

namespace onecopy::os {

// unknown: not to be seen from here, which says nothing.
enum class Life { alive, dead, unknown };

// Of the process `pid` that started at a tick whose bits under `mask` are `start_bits`. Another
// process that has the number by now counts as dead. A zombie is dead once its last thread is gone:
// a leader that ended before its other threads is a zombie too.
Life life_of(std::uint32_t pid, std::uint64_t start_bits, std::uint64_t mask) noexcept;

// The tick at which the process started; 0: it is dead, or not to be seen from here.
std::uint64_t start_of(std::uint32_t pid) noexcept;

// The kernel's ids of all threads of this process. False: they cannot be listed (no /proc, no
// descriptor or no memory left), which says nothing about how many there are.
bool own_threads(std::vector<std::uint32_t>& out) noexcept;
std::uint32_t own_thread_id() noexcept;

}  // namespace onecopy::os
