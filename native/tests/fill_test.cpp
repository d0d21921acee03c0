// Large copies into a pool. Every byte arrives, and none beside it changes. It does not matter in
// which state the pages are (never written, written and not mapped here, mapped), where the copy
// begins and ends, or whether the system refuses to write the file.
#include <sys/mman.h>
#include <sys/resource.h>

#include <cstring>
#include <random>
#include <vector>

#include "heap/heap.hpp"
#include "segment/fill.hpp"
#include "tests/check.hpp"

using namespace onecopy;

namespace {

constexpr u64 kRoom = 6 * kMiB;
constexpr unsigned char kBefore = 0xa5;

enum class Pages { fresh, written, mapped };

void unmap_pages(Member& m, const Allocated& a) {
    const u64 page = os::page_size(), start = m.offset_of(a.data) / page * page,
              end = m.offset_of(a.data) + kRoom;
    // Of a shared mapping, only the mapping goes.
    CHECK(madvise(m.base + start, end - start, MADV_DONTNEED) == 0);
}

bool is_all(const unsigned char* data, u64 n, unsigned char value) {
    return n == 0 || (data[0] == value && std::memcmp(data, data + 1, n - 1) == 0);
}

// Fresh pages, reserved.
void renew(Member& m, unsigned char* from, u64 bytes) {
    CHECK(os::give_back(from, bytes) == 0 && m.file.reserve(m.offset_of(from), bytes) == 0);
}

// In a block of its own, with room at both sides.
void check_fill(Member& m, Pages pages, const std::vector<unsigned char>& source, u64 offset,
                u64 bytes) {
    UnboundedWait wait;
    Allocated a;
    CHECK(allocate(m, {.bytes = kRoom}, wait, a) == Status::ok);
    if (pages == Pages::fresh) {
        renew(m, a.data, kRoom);
    } else {
        std::memset(a.data, kBefore, kRoom);
        if (pages == Pages::written) unmap_pages(m, a);
    }
    const unsigned char around = pages == Pages::fresh ? 0 : kBefore;
    fill(m, a.data + offset, source.data() + offset % 7, bytes);
    CHECK(std::memcmp(a.data + offset, source.data() + offset % 7, bytes) == 0);
    CHECK(is_all(a.data, offset, around));
    CHECK(is_all(a.data + offset + bytes, kRoom - offset - bytes, around));
    drop(m, a.index, wait);
}

void check_all(Member& m, const std::vector<unsigned char>& source, std::mt19937_64& random) {
    for (const Pages pages : {Pages::fresh, Pages::written, Pages::mapped}) {
        for (const u64 bytes : {u64{1}, kLargeCopy - 1, kLargeCopy, kLargeCopy + 1, kMiB - 1, kMiB,
                                kMiB + 4097, 5 * kMiB}) {
            for (const u64 offset : {u64{0}, u64{1}, u64{64}, random() % kMiB})
                check_fill(m, pages, source, offset, bytes);
        }
    }
}

}  // namespace

int main() {
    const int fd = test::make_pool(64 * kMiB);
    auto m = test::join_pool(fd);
    std::mt19937_64 random(7);
    std::vector<unsigned char> source(kRoom);
    for (unsigned char& byte : source)
        byte = static_cast<unsigned char>(random());
    CHECK(m->file.identity().in_memory && m->file.is_ours());
    check_all(*m, source, random);
    check_all(*test::join_pool(fd), source, random);  // without what was noted so far

    // Written without a fault, where the kernel tells what is there.
    UnboundedWait wait;
    Allocated a;
    CHECK(allocate(*m, {.bytes = kRoom}, wait, a) == Status::ok);
    renew(*m, a.data, kRoom);
    if (!os::is_written(a.data + kRoom / 2)) {
        auto other = test::join_pool(fd);  // none of it is mapped for this one
        const auto faults = [] {
            rusage use{};
            CHECK(getrusage(RUSAGE_THREAD, &use) == 0);
            return use.ru_minflt;
        };
        const long before = faults();
        fill(*other, other->base + m->offset_of(a.data), source.data(), kRoom);
        CHECK(faults() - before < static_cast<long>(kRoom / 4096 / 4));
        CHECK(std::memcmp(a.data, source.data(), kRoom) == 0);
        CHECK(os::is_written(a.data + kRoom / 2));
    }
    drop(*m, a.index, wait);

    // The descriptor leads to another file by now: that file stays as it is.
    const auto damaged = test::join_pool(fd);
    CHECK(allocate(*damaged, {.bytes = kMiB}, wait, a) == Status::ok);
    renew(*damaged, a.data, kMiB);
    const int other = memfd_create("other", MFD_CLOEXEC);
    CHECK(other >= 0 && dup2(other, damaged->file.number()) >= 0);
    fill(*damaged, a.data, source.data(), kMiB);
    CHECK(lseek(other, 0, SEEK_END) == 0 && damaged->file.lost());
    CHECK(std::memcmp(a.data, source.data(), kMiB) == 0);
    CHECK(close(damaged->file.number()) == 0 && close(other) == 0);
    drop(*damaged, a.index, wait);

    // Beyond this limit a write into a file is SIGXFSZ.
    const rlimit limit{1 << 20, RLIM_INFINITY};
    CHECK(setrlimit(RLIMIT_FSIZE, &limit) == 0 && !os::files_may_grow());
    CHECK(allocate(*m, {.bytes = kRoom}, wait, a) == Status::ok);
    std::memset(a.data, 0, kRoom);
    fill(*m, a.data, source.data(), kRoom);
    CHECK(std::memcmp(a.data, source.data(), kRoom) == 0);
    drop(*m, a.index, wait);
    std::puts("fill: ok");
    return 0;
}
