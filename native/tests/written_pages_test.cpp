// Private mappings that are kept for their next owner: it sees the file, whatever the one before
// has written, also on a system that does not tell the truth about pages, or tells nothing.
#include <fcntl.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/wait.h>

#include <cerrno>
#include <cstdarg>
#include <cstdio>
#include <cstring>

#include "os/os.hpp"
#include "os/written_pages.hpp"
#include "segment/private_pages.hpp"
#include "tests/check.hpp"

namespace {
enum class System { honest, keeps_pages, other_addresses, short_answers, no_pagemap, locked };
System system_is = System::honest;
}  // namespace

// Instead of the C library's.
extern "C" int madvise(void* from, std::size_t length, int advice) noexcept {
    if (advice == MADV_DONTNEED && system_is == System::keeps_pages) return 0;  // as qemu-user
    if (advice == MADV_DONTNEED && system_is == System::locked) {
        errno = EINVAL;
        return -1;
    }
    return static_cast<int>(syscall(SYS_madvise, from, length, advice));
}
extern "C" ssize_t pread(int fd, void* to, std::size_t bytes, off_t at) {
    // As under qemu-user: the addresses are those of the emulator.
    if (system_is == System::other_addresses) at = 0;
    if (system_is == System::short_answers) bytes = bytes > 8 ? bytes / 2 : 0;
    return syscall(SYS_pread64, fd, to, bytes, at);
}
extern "C" int open(const char* path, int flags, ...) {
    va_list rest;
    va_start(rest, flags);
    const auto mode = va_arg(rest, mode_t);
    va_end(rest);
    if (system_is == System::no_pagemap && std::strcmp(path, "/proc/self/pagemap") == 0) {
        errno = ENOENT;
        return -1;
    }
    return static_cast<int>(syscall(SYS_openat, AT_FDCWD, path, flags, mode));
}

using namespace onecopy;

namespace {

constexpr u64 kBytes = 4 * kMiB;

struct Segment {
    int fd = test::make_pool(64 * kMiB);
    std::unique_ptr<Member> m = test::join_pool(fd);
    u64 offset = round_up(m->geo().heap_off, os::page_size()) + 8 * kMiB;
    unsigned char* shared(u64 at = 0) const { return m->base + offset + at; }

    Segment() { std::memset(shared(), 1, 3 * kBytes); }
    ~Segment() {
        m->leave();
        close(fd);
    }
};

bool shows_file(const PrivatePages& pages, const Segment& s, u64 from, u64 bytes) {
    return std::memcmp(pages.data(), s.shared(from), bytes) == 0;
}
void use(Segment& s, PrivatePages& pages, u64 from, u64 bytes) {
    CHECK(pages.map(*s.m, s.offset + from, bytes) == Status::ok);
    CHECK(shows_file(pages, s, from, bytes));
}

// The next owner never sees what the one before has written. Answers whether it got its mapping.
bool next_owner() {
    Segment s;
    PrivatePages pages;
    use(s, pages, 0, kBytes);
    const unsigned char* before = pages.data();
    pages.data()[0] = 7;
    std::memset(pages.data() + kBytes / 2, 7, 3 * os::page_size());
    pages.unmap();
    const bool kept = s.m->idle_mappings.count() == 1;
    s.shared(5)[0] = 3;  // the block has another owner now
    use(s, pages, 0, kBytes);
    CHECK(PrivatePages::count() == 1);
    CHECK(s.m->idle_mappings.count() == 0 && (!kept || pages.data() == before));
    return kept;
}

void several_owners() {
    Segment s;
    PrivatePages one, two, part;
    use(s, one, 0, kBytes);
    const unsigned char* first = one.data();
    one.unmap();
    CHECK(s.m->idle_mappings.count() == 1);
    use(s, one, 100, kBytes - 200);  // the same pages
    CHECK(one.data() == first + 100 && s.m->idle_mappings.count() == 0);
    one.data()[0] = 9;
    // While it is used, nobody else gets it.
    use(s, two, 0, kBytes);
    const unsigned char* second = two.data();
    CHECK(first != second && second[100] == 1);
    two.data()[200] = 9;
    one.unmap();
    two.unmap();
    // Both are kept. The one that was used last is the next.
    CHECK(s.m->idle_mappings.count() == 2);
    use(s, one, 0, kBytes);
    CHECK(one.data() == second);
    use(s, two, 0, kBytes);
    CHECK(two.data() == first);
    // Other pages have another mapping, and small ones are not kept.
    use(s, part, os::page_size(), kMiB - os::page_size());
    part.unmap();
    CHECK(s.m->idle_mappings.count() == 0);
    one.unmap();
    two.unmap();
    CHECK(s.m->idle_mappings.unmap_all() == 2 && s.m->idle_mappings.count() == 0);
}

// The system writes to pages that nobody uses: it copies what is locked.
void locked_memory() {
    Segment s;
    PrivatePages pages;
    for (const bool still_locked : {true, false}) {
        use(s, pages, 0, kBytes);
        pages.unmap();
        CHECK(s.m->idle_mappings.count() == 1);
        if (mlockall(MCL_CURRENT) != 0) return;  // RLIMIT_MEMLOCK
        if (!still_locked) CHECK(munlockall() == 0);
        s.shared(9)[0] ^= 64;
        use(s, pages, 0, kBytes);
        CHECK(munlockall() == 0);
        pages.unmap();
    }
    // Locked while it is used.
    use(s, pages, 0, kBytes);
    CHECK(mlockall(MCL_CURRENT) == 0 && munlockall() == 0);
    pages.unmap();
    s.shared(9)[0] ^= 64;
    use(s, pages, 0, kBytes);
}

void most_of_them() {
    const int fd = test::make_pool(512 * kMiB);
    auto m = test::join_pool(fd);
    const u64 first = round_up(m->geo().heap_off, os::page_size());
    for (u64 i = 0; i < 200; ++i) {
        PrivatePages pages;
        CHECK(pages.map(*m, first + i * 2 * kMiB, kMiB) == Status::ok);
    }
    CHECK(m->idle_mappings.count() == 128 && PrivatePages::count() == 0);
    m->leave();
    CHECK(m->idle_mappings.count() == 0);
    PrivatePages pages;  // of one that has left: it is not kept
    CHECK(pages.map(*m, first, kMiB) == Status::ok);
    pages.unmap();
    CHECK(m->idle_mappings.count() == 0);
    close(fd);
}

// Together they are not longer than the file.
void bytes_of_them() {
    Segment s;
    PrivatePages pages[4];
    const u64 half = s.m->length / 2;
    for (PrivatePages& each : pages)
        CHECK(each.map(*s.m, 0, half) == Status::ok);
    for (PrivatePages& each : pages)
        each.unmap();
    CHECK(s.m->idle_mappings.count() == 2);
    CHECK(pages[0].map(*s.m, 0, s.m->length) == Status::ok);
    pages[0].unmap();
    CHECK(s.m->idle_mappings.count() == 1);
}

// Of this process, in bytes.
u64 address_space() {
    unsigned long long pages = 0;
    FILE* statm = std::fopen("/proc/self/statm", "re");
    CHECK(statm != nullptr && std::fscanf(statm, "%llu", &pages) == 1);
    std::fclose(statm);
    return pages * os::page_size();
}

// A process with a limit keeps none; and what it has kept before is unmapped when it is in the way.
void limits() {
    Segment s;
    PrivatePages pages;
    use(s, pages, 0, kBytes);
    pages.unmap();
    CHECK(s.m->idle_mappings.count() == 1);
    const rlimit none{RLIM_INFINITY, RLIM_INFINITY};
    const rlimit now{address_space() + kBytes, RLIM_INFINITY};
    CHECK(setrlimit(RLIMIT_AS, &now) == 0);
    // Only with the address space of the idle one.
    use(s, pages, kBytes, 2 * kBytes);
    CHECK(s.m->idle_mappings.count() == 0);
    pages.unmap();
    CHECK(s.m->idle_mappings.count() == 0);
    CHECK(setrlimit(RLIMIT_AS, &none) == 0);
}

// A child has none of its parent's idle mappings. What is used in it is its own.
void children() {
    Segment s;
    register_member(*s.m);
    PrivatePages pages, other;
    use(s, pages, 0, kBytes);
    use(s, other, kBytes, kBytes);
    pages.data()[3] = 7;
    other.unmap();
    pages.unmap();
    use(s, pages, 0, kBytes);
    pages.data()[3] = 7;
    CHECK(s.m->idle_mappings.count() == 1);
    const pid_t child = fork();
    CHECK(child >= 0);
    if (child == 0) {
        CHECK(s.m->idle_mappings.count() == 0);
        CHECK(pages.data()[3] == 7);
        pages.unmap();
        use(s, pages, 0, kBytes);
        use(s, other, kBytes, kBytes);
        other.data()[0] = 8;
        pages.unmap();
        other.unmap();
        CHECK(s.m->idle_mappings.count() == 2);
        _exit(0);
    }
    int status = 0;
    CHECK(waitpid(child, &status, 0) == child && WIFEXITED(status) && WEXITSTATUS(status) == 0);
    CHECK(pages.data()[3] == 7 && pages.data()[4] == 1);
    CHECK(s.m->idle_mappings.count() == 1);
    use(s, other, kBytes, kBytes);
}

void on(System system) {
    system_is = system;
    const bool tells = system == System::honest;
    CHECK(next_owner() == tells);
    Segment s;
    PrivatePages pages;
    use(s, pages, 0, kBytes);
    using os::Written;
    const Written untouched = tells ? Written::no : Written::unknown;
    CHECK(os::is_written_privately(pages.data(), kBytes) == untouched);
    pages.data()[kBytes - 1] = 2;
    CHECK(os::is_written_privately(pages.data(), kBytes) ==
          (tells ? Written::yes : Written::unknown));
    CHECK(os::is_written_privately(pages.data(), kBytes / 2) == untouched);
    pages.unmap();
    if (!tells) return;
    several_owners();
    locked_memory();
    most_of_them();
    bytes_of_them();
    limits();
    children();
}

// Under qemu-user, for example, this system is one of the others.
bool is_honest() {
    Segment s;
    PrivatePages pages;
    use(s, pages, 0, kBytes);
    return os::mappings_are_free() &&
           os::is_written_privately(pages.data(), kBytes) == os::Written::no;
}

}  // namespace

int main() {
    // Each in a process of its own: a process asks its system once.
    for (const System system : {System::honest, System::keeps_pages, System::other_addresses,
                                System::short_answers, System::no_pagemap, System::locked}) {
        const pid_t child = fork();
        if (child == 0) {
            if (system != System::honest || is_honest())
                on(system);
            else
                std::puts("this system does not say what was written, or counts what is mapped");
            return 0;
        }
        int status = 0;
        CHECK(waitpid(child, &status, 0) == child && WIFEXITED(status) && WEXITSTATUS(status) == 0);
    }
    return 0;
}
