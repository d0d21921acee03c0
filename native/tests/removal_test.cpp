// A system that says that it has taken pages away, and has not: qemu-user does so. A block of zeros
// is zero nevertheless.
#include <sys/mman.h>
#include <sys/syscall.h>

#include <cstring>

#include "heap/heap.hpp"
#include "os/os.hpp"
#include "tests/check.hpp"

namespace {
bool takes_pages = true;
}

// Instead of the C library's.
extern "C" int madvise(void* from, std::size_t length, int advice) noexcept {
    if (advice == MADV_REMOVE && !takes_pages) return 0;
    return static_cast<int>(syscall(SYS_madvise, from, length, advice));
}

using namespace onecopy;

namespace {

constexpr u64 kBytes = 8 * kMiB;

// Zeros in memory that was written, freed, and given back as far as the system does that.
void zeros_again() {
    const int fd = test::make_pool(64 * kMiB);
    auto m = test::join_pool(fd);
    UnboundedWait wait;
    Allocated a;
    CHECK(allocate(*m, {.bytes = kBytes}, wait, a) == Status::ok);
    std::memset(a.data, 0xa5, kBytes);
    drop(*m, a.index, wait);
    trim(*m);
    CHECK(allocate(*m, {.bytes = kBytes, .zero_later = true}, wait, a) == Status::ok);
    CHECK((a.zero_to != 0) == takes_pages);
    zero(a, kBytes);
    CHECK(a.data[0] == 0 && std::memcmp(a.data, a.data + 1, kBytes - 1) == 0);
    drop(*m, a.index, wait);
    m->leave();
    close(fd);
}

}  // namespace

int main() {
    // Each in a process of its own: a process asks its system once.
    for (const bool honest : {true, false}) {
        const pid_t child = fork();
        if (child == 0) {
            takes_pages = honest;
            zeros_again();
            void* page = os::map_scratch(os::page_size());
            CHECK(page != nullptr &&
                  (os::give_back(page, os::page_size()) == EOPNOTSUPP) != honest);
            return 0;
        }
        int status = 0;
        CHECK(waitpid(child, &status, 0) == child && WIFEXITED(status) && WEXITSTATUS(status) == 0);
    }
    return 0;
}
