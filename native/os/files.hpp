// System calls on files and directories. Each function is one call, with its loop on EINTR; what
// fails leaves the error in errno. A call that changes what other processes see is followed by a
// crash point if it succeeded.
#pragma once
#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

#include "os/descriptor.hpp"

namespace onecopy::os {

// ---- what a file is -----------------------------------------------------------------------------

struct FileStatus {
    std::uint64_t device = 0, inode = 0;
    std::uint64_t size = 0, links = 0;
    std::uint32_t mode = 0;  // permissions, and the bits below
    std::uint32_t user = 0;
    bool is_file = false;  // and no directory, link, pipe or device
    std::int64_t accessed_s = 0;
    std::uint32_t accessed_ns = 0;
    bool same_file(const FileStatus& o) const noexcept {
        return device == o.device && inode == o.inode;
    }
};
constexpr std::uint32_t kStickyBit = 01000, kOwnerExecutes = 0100;

bool look_at(int number, FileStatus& out) noexcept;
// Of the name itself, where it is a link.
bool look_at(int directory, const char* name, FileStatus& out) noexcept;
// Follows links.
bool look_at_path(const char* path, FileStatus& out) noexcept;

// ---- opening: a descriptor, which a program that is executed does not have; or -1 ---------------

enum class Access { read, write, append };

// No link is followed.
int open_directory(const char* path) noexcept;
// What has the name: no link is followed, and a pipe or a device does not make the caller wait.
int open_at(int directory, const char* name, Access access) noexcept;
// Links are followed; for those of /proc. To write.
int open_path(const char* path) noexcept;
// A file without a name, in the file system of the directory.
int open_unnamed(int directory, std::uint32_t mode) noexcept;
#if defined(ONECOPY_FAULTS) && ONECOPY_FAULTS
// From now on `open_unnamed` answers EOPNOTSUPP in this process, as file systems do that have no
// such files.
void without_unnamed_files(bool without) noexcept;
// From now on only so many calls of `read_at` succeed in this process. Then they fail with EIO, as
// where memory is damaged.
void reads_left(std::uint64_t calls) noexcept;
#endif
// EEXIST: something has the name.
int create_at(int directory, const char* name, std::uint32_t mode) noexcept;
// A file in memory that can be sealed.
int make_memfd() noexcept;

// ---- changing a file ----------------------------------------------------------------------------

bool set_mode(int number, std::uint32_t mode) noexcept;
bool set_size(int number, std::uint64_t bytes) noexcept;
bool set_accessed(int number, std::int64_t seconds, std::uint32_t ns) noexcept;
bool seal_size(int number) noexcept;
bool size_is_sealed(int number) noexcept;
// As many bytes as there are, at most n. errno is 0, unless the system could not read.
std::size_t read_at(int number, std::uint64_t offset, void* to, std::size_t n) noexcept;
bool write_all(int number, std::string_view text) noexcept;
// Bytes that a file system has in all, and that this user may still have. False: it cannot tell.
bool room_of(int number, std::uint64_t& all, std::uint64_t& free) noexcept;

// ---- names --------------------------------------------------------------------------------------

bool make_directory(const char* path, std::uint32_t mode) noexcept;
// An unnamed file, by way of /proc. EEXIST: something has the name.
bool link_unnamed(int number, int directory, const char* name) noexcept;
bool link_name(int directory, const char* from, const char* to) noexcept;
// EEXIST: something has the name. EINVAL, ENOSYS: the file system, or the kernel, cannot do this.
bool rename_to_new(int directory, const char* from, const char* to) noexcept;
bool rename_over(int directory, const char* from, const char* to) noexcept;
bool remove_name(int directory, const char* name) noexcept;
// Empty: it is not known.
std::string current_directory();
// Whether an unnamed file can be given a name.
bool has_proc() noexcept;

// ---- locks --------------------------------------------------------------------------------------

// Of the whole file or directory (flock), exclusively. False with EWOULDBLOCK: another open file
// description has it.
bool try_lock_all(int number) noexcept;
bool unlock_all(int number) noexcept;

// ---- the user of this process -------------------------------------------------------------------
std::uint32_t effective_user() noexcept;

}  // namespace onecopy::os
