// Everything that calls the kernel. Thin: each function is one system call, its loop on EINTR, and
// its error as errno.
#pragma once
#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace onecopy::os {

// ---- time ---------------------------------------------------------------------------------------
std::int64_t monotonic_ns() noexcept;
// The same clock as of the last tick (some ms old), at a quarter of the price.
std::int64_t coarse_ns() noexcept;
// Since 1970, by the clock that people set.
std::uint64_t wall_clock_ns() noexcept;
// Less than a second. False: a signal has cut it short.
bool nap(std::int64_t ns) noexcept;

// ---- futex (shared between processes) -----------------------------------------------------------
enum class Wake { woken, changed, timed_out, signal };
// A signal may have come just before the nap, or to another thread: then nothing cuts the nap
// short. So the caller checks for signals after each nap that timed out.
constexpr bool maybe_signal(Wake how) noexcept {
    return how == Wake::signal || how == Wake::timed_out;
}
Wake futex_wait(std::uint32_t* word, std::uint32_t expected, std::int64_t timeout_ns) noexcept;
int futex_wake(std::uint32_t* word, int how_many) noexcept;  // number woken

// ---- files --------------------------------------------------------------------------------------
int open_again(int fd) noexcept;  // a new open file description of the same file, or -1
void* map_shared(int fd, std::size_t length, bool writable) noexcept;  // nullptr on failure
// To be written, for this process alone; nullptr on failure.
void* map_private(int fd, std::size_t length) noexcept;
// Private memory, zero, which takes pages when it is written; nullptr on failure.
void* map_scratch(std::size_t length) noexcept;
// A child of a fork finds zeros there.
void wipe_on_fork(void* from, std::size_t length) noexcept;
void unmap(void* base, std::size_t length) noexcept;
// No child of a fork inherits the mapping. False: errno says why.
bool keep_from_children(void* from, std::size_t length) noexcept;
bool give_to_children(void* from, std::size_t length) noexcept;
// Of pages of a mapping: every access to them faults, or every store. False: errno says why.
bool forbid_access(void* from, std::size_t length) noexcept;
bool forbid_writing(void* from, std::size_t length) noexcept;
// Msync: returns when it is on the disk; 0 or errno.
int write_back(void* base, std::size_t length) noexcept;
// Gives whole pages of a shared mapping back to the system, for all processes; they read as zeros
// from then on. Through the mapping, so no other file can be meant. 0 or errno; EINVAL: the process
// has locked its memory (mlockall); EOPNOTSUPP: the system says that it does, and does not.
int give_back(void* from, std::size_t length) noexcept;
// What begins with `prefix` in a directory; nothing, if it cannot be read.
std::vector<std::string> names_in(int dirfd, std::string_view prefix);
// Whether reading would not wait: there is something, or the end. Asked, and not waited for.
bool is_readable(int fd) noexcept;
// No RLIMIT_FSIZE: beyond it, a write into a file raises a signal, and one through a mapping does
// not.
bool files_may_grow() noexcept;
// A mapping that nobody uses takes nothing from anybody: neither this process has a limit of
// address space or of data (RLIMIT_AS, RLIMIT_DATA), nor does the system count what is only mapped
// (vm.overcommit_memory=2). Unknown counts as no.
bool mappings_are_free() noexcept;
// When the file was made; 0: the file system does not tell.
std::uint64_t birth_ns(int fd) noexcept;

// ---- pages --------------------------------------------------------------------------------------
std::uintptr_t page_size() noexcept;
// Of a shared mapping of a file in memory.
// By anybody, so that the page is there; reserved memory is not.
bool is_written(const void* at) noexcept;
// Pages that are there, for writing; without an effect before Linux 5.14.
void map_ahead(void* from, std::size_t length) noexcept;
// The same, and reserved: 0 or errno. Without an effect before Linux 5.14.
int populate(void* from, std::size_t length) noexcept;

// ---- this process -------------------------------------------------------------------------------
struct Identity {
    std::uint32_t pid;
    std::uint64_t start_ticks;  // field 22 of /proc/self/stat; 0: it could not be read
    std::uint64_t pid_namespace;
    int error;  // why it could not be read
};
Identity identity() noexcept;
int usable_cpus() noexcept;
bool random_bytes(void* to, std::size_t n) noexcept;

}  // namespace onecopy::os
