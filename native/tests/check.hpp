// Just enough to test the core without Python: a pool in a memfd, members in child processes, and
// checks that say where they failed.
#pragma once
#include <fcntl.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <memory>

#include "directory/directory.hpp"
#include "heap/heap.hpp"
#include "recovery/recovery.hpp"
#include "segment/member.hpp"

#define CHECK(condition)                                                         \
    do {                                                                         \
        if (!(condition)) {                                                      \
            std::fprintf(stderr, "%s:%d: %s\n", __FILE__, __LINE__, #condition); \
            std::exit(1);                                                        \
        }                                                                        \
    } while (false)

namespace onecopy {

// For as long as it takes.
inline u64 trim(Member& m) noexcept {
    Stubborn wait;
    return trim(m, wait);
}
inline std::vector<std::string> validate(Member& m) {
    Stubborn wait;
    return validate(m, wait);
}

}  // namespace onecopy

namespace onecopy::test {

// A member on an open file description of its own, as a process of its own would have.
inline std::unique_ptr<Member> join_pool(int file) {
    const int fd = os::open_again(file);
    const off_t size = lseek(fd, 0, SEEK_END);
    void* base = os::map_shared(fd, static_cast<std::size_t>(size), true);
    CHECK(base != nullptr);
    auto m = std::make_unique<Member>(static_cast<unsigned char*>(base),
                                      static_cast<std::size_t>(size), fd);
    CHECK(m->check() == Status::ok);
    CHECK(m->join() == Status::ok);
    return m;
}

inline int make_pool(u64 capacity, u32 processes = 64) {
    install_recovery();
    const Geometry g = geometry(capacity, processes);
    const int fd = memfd_create("onecopy-test", MFD_CLOEXEC);
    CHECK(fd >= 0 && ftruncate(fd, static_cast<off_t>(g.file_size)) == 0);
    CHECK(os::reserve(fd, 0, fixed_bytes(g)) == 0);
    auto* base = static_cast<unsigned char*>(os::map_shared(fd, g.file_size, true));
    format(base, g, 0);
    Member m(base, g.file_size, os::open_again(fd));
    format_heap(m);
    directory::format(m);
    CHECK(m.check() == Status::ok);
    return fd;
}

inline void expect_sound(Member& m, const char* what) {
    const auto wrong = validate(m);
    for (const auto& line : wrong)
        std::fprintf(stderr, "%s: %s\n", what, line.c_str());
    CHECK(wrong.empty());
}

}  // namespace onecopy::test
