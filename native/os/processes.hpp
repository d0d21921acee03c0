// Processes and their threads, as /proc shows them.
#pragma once
#include <cstdint>
#include <vector>

namespace onecopy::os {

// unknown: neither is proven; errno says why this process could not find out: EMFILE, ENOENT (there
// is no /proc here), EACCES (the process is hidden from us), and so on.
enum class Life { alive, dead, unknown };

// Of the process `pid` that started at a tick whose bits under `mask` are `start_bits`; 0: it could
// not find out its own start, so it looks like a later process of that number. Another
// process that has the number by now counts as dead. A zombie is dead once its last thread is gone:
// a leader that ended before its other threads is a zombie too.
Life life_of(std::uint32_t pid, std::uint64_t start_bits, std::uint64_t mask) noexcept;

// alive: and `start_ticks` is the tick at which it started.
Life start_of(std::uint32_t pid, std::uint64_t& start_ticks) noexcept;

// Of a process that started at that tick and has the number `pid` in a PID namespace below ours,
// which is not known; here it has another number. dead: /proc shows all processes, and none is it.
Life life_inside(std::uint32_t pid, std::uint64_t start_ticks) noexcept;
// The inode that stands for it; 0: it is not known.
std::uint64_t own_pid_namespace() noexcept;
std::uint32_t own_pid() noexcept;
std::uint32_t parent_pid() noexcept;

// The kernel's ids of all threads of this process. False: they cannot be listed (no /proc, no
// descriptor or no memory left), which says nothing about how many there are.
bool own_threads(std::vector<std::uint32_t>& out) noexcept;
std::uint32_t own_thread_id() noexcept;
// What the C library calls this thread; Python's `threading.get_ident`.
unsigned long this_thread() noexcept;
// Signal handlers run; nothing else does in this thread.
[[noreturn]] void hang() noexcept;

}  // namespace onecopy::os
