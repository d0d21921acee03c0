// Everything that calls the kernel. Thin: each function is one system call, its loop on EINTR, and
// its error as errno.
#pragma once
#include <cstddef>
#include <cstdint>
#include <string>

namespace onecopy::os {

// ---- time ---------------------------------------------------------------------------------------
std::int64_t monotonic_ns() noexcept;
// The same clock as of the last tick (some ms old), at a quarter of the price.
std::int64_t coarse_ns() noexcept;
// Less than a second. False: a signal has cut it short.
bool nap(std::int64_t ns) noexcept;

// ---- futex (shared between processes) -----------------------------------------------------------
enum class Wake { woken, changed, timed_out, signal };
// A signal may have come just before the nap, or to another thread: then nothing cuts the nap
// short. So whoever naps looks for one after each nap that nobody ended.
constexpr bool maybe_signal(Wake how) noexcept {
    return how == Wake::signal || how == Wake::timed_out;
}
Wake futex_wait(std::uint32_t* word, std::uint32_t expected, std::int64_t timeout_ns) noexcept;
int futex_wake(std::uint32_t* word, int how_many) noexcept;  // number woken

// ---- open file description locks ----------------------------------------------------------------
// They belong to the open file description: other descriptors of the process do not drop them, kill
// -9 does, and they work across PID namespaces and on memfd. Offsets lie far beyond any file size.
enum class ByteLock { taken, busy, failed };
ByteLock lock_byte(int fd, std::uint64_t byte, bool exclusive) noexcept;
void unlock_byte(int fd, std::uint64_t byte) noexcept;
bool byte_is_locked(int fd, std::uint64_t byte) noexcept;  // by somebody else's description
// Somebody else has it shared, and so nobody exclusively.
bool byte_is_shared(int fd, std::uint64_t byte) noexcept;
// All of them, or none; reading is right enough.
ByteLock share_range(int fd, std::uint64_t byte, std::uint64_t count) noexcept;

// ---- files --------------------------------------------------------------------------------------
int open_again(int fd) noexcept;  // a new open file description of the same file, or -1
int reserve(int fd, std::uint64_t offset, std::uint64_t length) noexcept;  // fallocate; 0 or errno
int punch(int fd, std::uint64_t offset, std::uint64_t length) noexcept;
void* map_shared(int fd, std::size_t length, bool writable) noexcept;  // nullptr on failure
// To be written, for this process alone; nullptr on failure.
void* map_private(int fd, std::size_t length) noexcept;
void unmap(void* base, std::size_t length) noexcept;
// Msync: returns when it is on the disk; 0 or errno.
int write_back(void* base, std::size_t length) noexcept;
// As many bytes as could be written at `offset`: all of them, unless the source is not readable, or
// the system refuses.
std::size_t write_at(int fd, std::uint64_t offset, const void* from, std::size_t n) noexcept;
// No RLIMIT_FSIZE: beyond it, a write into a file raises a signal, and one through a mapping does
// not.
bool files_may_grow() noexcept;
// When the file was made; 0: the file system does not tell.
std::uint64_t birth_ns(int fd) noexcept;

struct FileIdentity {
    std::uint64_t device = 0, inode = 0;
    bool in_memory = false;  // tmpfs, or a memfd: there is no disk behind it
};
FileIdentity identify(int fd) noexcept;
bool is_same_file(int fd, const FileIdentity& file) noexcept;

// ---- pages --------------------------------------------------------------------------------------
// Of a shared mapping of a file in memory.
// By anybody, so that the page is there; reserved memory is not.
bool is_written(const void* at) noexcept;
// Pages that are there, for writing; without an effect before Linux 5.14.
void map_ahead(void* from, std::size_t length) noexcept;

// ---- this process -------------------------------------------------------------------------------
struct Identity {
    std::uint32_t pid;
    std::uint64_t start_ticks;  // field 22 of /proc/self/stat
    std::uint64_t pid_namespace;
};
Identity identity() noexcept;
int usable_cpus() noexcept;
bool random_bytes(void* to, std::size_t n) noexcept;

}  // namespace onecopy::os
