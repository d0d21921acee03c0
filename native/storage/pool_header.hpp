// The first page of a pool file: read and checked before anything is mapped.
#pragma once
#include <cstdio>
#include <string>

#include "layout/layout.hpp"
#include "os/files.hpp"
#include "storage/failure.hpp"

namespace onecopy {

constexpr const char* kNotAPool = "not a pool";  // Failure::what, for a file that never was a pool

namespace storage {

struct HeaderCopy {
    alignas(Header) unsigned char bytes[sizeof(Header)];
    const Header& get() const noexcept { return *reinterpret_cast<const Header*>(bytes); }
    // False: the file is too short, or (errno is not 0) the system could not read it.
    bool read(int fd) noexcept { return os::read_at(fd, 0, bytes, sizeof bytes) == sizeof bytes; }
};

// After `HeaderCopy::read` failed; errno is from there.
inline Status no_header(Failure& why) noexcept {
    if (errno != 0) return fail(why, "read the pool file");
    return fail(why, kNotAPool, Status::corrupt);
}

// Checks that this is a pool of onecopy, and that the file has all bytes that its header names. The
// flag `corrupt` is not checked.
Status verify(const Header& h, u64 file_size, Failure& why);

struct PoolId {
    u64 id[2] = {0, 0};
    bool operator==(const PoolId&) const = default;
    static PoolId of(const Header& h) noexcept { return {{h.id[0], h.id[1]}}; }
    std::string hex() const {
        char text[33];
        std::snprintf(text, sizeof text, "%016llx%016llx", static_cast<unsigned long long>(id[0]),
                      static_cast<unsigned long long>(id[1]));
        return text;
    }
};

}  // namespace storage
}  // namespace onecopy
