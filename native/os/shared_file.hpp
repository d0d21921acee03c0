// The descriptor of a pool's file, or of a shared-memory segment. Locks, reservations and writes go
// through here and nowhere else.
//
// A descriptor is a number, and any code of the process can close it: a library that daemonizes
// closes every number, a program that closes a number twice closes whatever file has got it since.
// The kernel gives the number to the next file that is opened. So each use first compares the file
// behind the number with the file that was given, by device and inode. A mapping of the file
// keeps that inode, so no other file can have it.
//
// A lost number does not take the locks along. They belong to the open file description, and a
// member maps one page of the file through it (`hold_on`), which keeps the description as the
// number did. So a process that lost its descriptor still is a member for all others, until it
// leaves or ends. It cannot reserve memory, and it cannot ask which processes are alive: each such
// question is answered by `failed` or `unknown`, and `lost` stays true. No child inherits that
// page: it would keep its parent's locks.
//
// Another thread can close the number, and open another file in it, between the comparison and the
// use. Therefore
//   * the number is a high one, which neither a loop over the first few hundred numbers nor a
//   number that is closed twice meets;
//   * an answer that a process is dead, or that memory is reserved, is given only if the number
//   still was ours after the system call;
//   * memory is given back through the mapping (`give_back`), without any number.
//
// The number can also be one of the same file, opened by other code of this process. Its locks are
// locks of that file, so they answer the same about other processes, and fallocate does the same.
// What was locked through our description stays locked, as after a loss.
#pragma once
#include <atomic>
#include <cstddef>
#include <cstdint>

#include "os/os.hpp"

namespace onecopy::os {

// Open file description locks: other descriptors of the process do not drop them, kill -9 does, and
// they work across PID namespaces and on memfd. The bytes lie far beyond the end of any file.
enum class ByteLock { taken, busy, failed };
// Which lock the other descriptions have on a byte. unknown: the kernel does not tell (errno says
// why), which says nothing about anybody.
enum class Others { none, share, exclude, unknown };

struct FileIdentity {
    std::uint64_t device = 0, inode = 0;
    bool in_memory = false;  // tmpfs, or a memfd: there is no disk behind it
    bool operator==(const FileIdentity&) const = default;
};

#if defined(ONECOPY_FAULTS) && ONECOPY_FAULTS
// From now on this process gets so many bytes reserved, then ENOSPC, as a disk does it.
void disk_has(std::uint64_t bytes) noexcept;
#endif

// Of a descriptor that the caller has opened just now, and that no other code knows: the number is
// not compared. Exclusively, or shared.
ByteLock lock_byte(int number, std::uint64_t byte, bool exclusive) noexcept;
Others others_of(int number, std::uint64_t byte) noexcept;

// The same description, with the same flag, under a number that loops over small numbers do not
// meet; the old one is closed. Without room for that in the table of descriptors: the same number.
int to_high_number(int number) noexcept;

class SharedFile {
  public:
    SharedFile() noexcept = default;
    // Takes the descriptor, and moves it to a high number if there is one. A negative number makes
    // an empty object; errno is kept.
    explicit SharedFile(int number) noexcept;
    SharedFile(SharedFile&& o) noexcept;
    SharedFile& operator=(SharedFile&& o) noexcept;
    ~SharedFile() { close(); }
    explicit operator bool() const noexcept { return number_ >= 0; }

    int number() const noexcept { return number_; }
    const FileIdentity& identity() const noexcept { return identity_; }

    // Whether the number still stands for the file. If not: errno is EBADF, and `lost` is true from
    // now on.
    bool is_ours() const noexcept;
    // As far as anybody has noticed; costs one load.
    bool lost() const noexcept { return lost_.load(std::memory_order_relaxed); }

    ByteLock lock(std::uint64_t byte, bool exclusive) const noexcept;
    // All of them, or none, shared. The descriptor may be one for reading.
    ByteLock share_range(std::uint64_t byte, std::uint64_t count) const noexcept;
    void unlock(std::uint64_t byte) const noexcept;
    // Takes no lock, so it delays no process.
    Others others(std::uint64_t byte) const noexcept;

    // Fallocate; 0 or errno. A reservation that fails keeps what it got until then, except in
    // memory: its caller gives that back.
    int reserve(std::uint64_t offset, std::uint64_t length) const noexcept;
    // Gives back what is reserved in the range and was never written. `mapped` is where the range
    // is mapped. Nobody writes there meanwhile. What the system calls a hole is read first: while
    // the kernel moves a written page, it may look like one that was never written.
    void give_back_unwritten(void* mapped, std::uint64_t offset,
                             std::uint64_t length) const noexcept;
    // As many bytes as could be written at `offset`: all of them, unless the source is not
    // readable, the system refuses, or the number is not ours.
    std::size_t write_at(std::uint64_t offset, const void* from, std::size_t n) const noexcept;

    // A part of the file, in whole pages, for this process alone: a store copies its page. nullptr:
    // errno says why. The mapping keeps the description, and children inherit it.
    void* map_private(std::uint64_t offset, std::size_t length) const noexcept;

    // A descriptor of the same open file description; empty on failure.
    SharedFile duplicate() const noexcept;
    // A new open file description of the same file, through /proc; empty on failure.
    SharedFile again() const noexcept;
    // Keeps the description, and so its locks, also without the number. False: errno.
    bool hold_on() noexcept;
    // Closes the number if it is ours, and releases the description.
    void close() noexcept;

  private:
    int number_ = -1;
    FileIdentity identity_;
    mutable std::atomic<bool> lost_{false};
    void* page_ = nullptr;
    unsigned page_of_ = 0;  // in the line of forks: a child has its parent's pointer, but no page
};

}  // namespace onecopy::os
