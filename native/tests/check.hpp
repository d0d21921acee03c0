// Enough to test the core without Python: a pool in a memfd, members in child processes, and checks
// that say where they failed.
#pragma once
#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
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

// Waits as long as it takes.
inline u64 trim(Member& m) noexcept {
    UnboundedWait wait;
    return trim(m, wait);
}
inline std::vector<std::string> validate(Member& m) {
    UnboundedWait wait;
    return validate(m, wait);
}

}  // namespace onecopy

namespace onecopy::test {

// A member with an open file description of its own, as a process of its own has.
inline std::unique_ptr<Member> join_pool(int file) {
    const int fd = os::open_again(file);
    const off_t size = lseek(fd, 0, SEEK_END);
    const int unlocked = os::open_again(file);  // forked children inherit the mapping
    void* base = os::map_shared(unlocked, static_cast<std::size_t>(size), true);
    CHECK(base != nullptr && close(unlocked) == 0);
    auto m = std::make_unique<Member>(static_cast<unsigned char*>(base),
                                      static_cast<std::size_t>(size), os::SharedFile(fd));
    CHECK(m->check() == Status::ok);
    CHECK(m->join() == Status::ok);
    return m;
}

inline int make_pool(u64 capacity, u32 processes = 64) {
    install_recovery();
    const Geometry g = geometry(capacity, processes);
    const int fd = memfd_create("onecopy-test", MFD_CLOEXEC);
    CHECK(fd >= 0 && ftruncate(fd, static_cast<off_t>(g.file_size)) == 0);
    CHECK(fallocate(fd, 0, 0, static_cast<off_t>(fixed_bytes(g))) == 0);
    auto* base = static_cast<unsigned char*>(os::map_shared(fd, g.file_size, true));
    format(base, g, 0);
    Member m(base, g.file_size, os::SharedFile(os::open_again(fd)));
    format_heap(m);
    directory::format(m);
    CHECK(m.check() == Status::ok);
    return fd;
}

// The number of a member's descriptor: for tests that take it away.
inline int descriptor(const Member& m) {
    return m.file.number();
}

// Memory under a block is marked as reserved, and what is marked has memory: a process that writes
// there must not be killed by SIGBUS. There may be more memory than marks: a process may have died
// between the reservation and the mark.
inline void expect_backed(Member& m, const char* what) {
    struct stat file{};
    CHECK(fstat(descriptor(m), &file) == 0);
    const Geometry& g = m.geo();
    const Header& h = m.header();
    u64 marked = fixed_bytes(g) + h.names_reserved.load() * sizeof(NameEntry) +
                 h.blocks_reserved.load() * sizeof(Block);
    for (u64 e = 0; e * kExtent < g.capacity; ++e) {
        const auto& bits = m.at<shm_atomic<u64>>(g.extents_off + e / 64 * 8);
        if (bits.load() >> (e % 64) & 1) marked += std::min(kExtent, g.capacity - e * kExtent);
    }
    const u32 top = std::min(h.blocks_top.load(), g.max_blocks);
    for (u32 i = 1; i < top; ++i) {
        const Block& block = m.block(i);
        if (BlockWord{block.word.load()}.state() != BlockState::live) continue;
        const u64 from = block.offset.load_relaxed(), to = from + block.size.load_relaxed();
        for (u64 e = from / kExtent; e * kExtent < to; ++e) {
            const auto& bits = m.at<shm_atomic<u64>>(g.extents_off + e / 64 * 8);
            if ((bits.load() >> (e % 64) & 1) == 0)
                std::fprintf(stderr, "%s: extent %lu under block %u is not reserved\n", what, e, i);
            CHECK(bits.load() >> (e % 64) & 1);
        }
    }
    const u64 has = static_cast<u64>(file.st_blocks) * 512;
    if (has < marked) std::fprintf(stderr, "%s: %lu of %lu bytes have memory\n", what, has, marked);
    CHECK(has >= marked);
}

inline void expect_sound(Member& m, const char* what) {
    const auto wrong = validate(m);
    for (const auto& line : wrong)
        std::fprintf(stderr, "%s: %s\n", what, line.c_str());
    CHECK(wrong.empty());
    expect_backed(m, what);
}

}  // namespace onecopy::test
