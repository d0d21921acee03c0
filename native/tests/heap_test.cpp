// Random allocations and frees by one member: tiling, counters and utilisation stay right, and
// contents stay as they are.
#include <algorithm>
#include <cstring>
#include <random>

#include "heap/heap.hpp"
#include "tests/check.hpp"

using namespace onecopy;

int main() {
    const int fd = test::make_pool(256 * kMiB);
    auto m = test::join_pool(fd);
    UnboundedWait wait;
    const unsigned seed = 7;
    std::mt19937_64 random(seed);
    struct Live {
        Allocated a;
        u64 bytes;
        unsigned char mark;
    };
    std::vector<Live> live;
    u64 held = 0;
    for (int i = 0; i < 200'000; ++i) {
        if (live.empty() || (held < 100 * kMiB && random() % 2)) {
            const u64 bytes = u64{1} << (random() % 22), mark = random() % 255 + 1;
            Live l{{}, bytes, static_cast<unsigned char>(mark)};
            CHECK(allocate(*m, {.bytes = bytes}, wait, l.a) == Status::ok);
            CHECK(reinterpret_cast<std::uintptr_t>(l.a.data) % 64 == 0);
            l.a.data[0] = l.a.data[bytes - 1] = l.mark;
            held += bytes;
            live.push_back(l);
        } else {
            std::swap(live[random() % live.size()], live.back());
            const Live l = live.back();
            live.pop_back();
            CHECK(l.a.data[0] == l.mark && l.a.data[l.bytes - 1] == l.mark);
            held -= l.bytes;
            drop(*m, l.a.index, wait);
        }
        if (i % 20'000 == 0) test::expect_sound(*m, "during");
    }
    const HeapStats s = heap_stats(*m);
    std::printf("held %lu used %lu committed %lu\n", held, s.used, s.committed);
    Handle stale = handle_of(*m, live.front().a.index);
    rebuild_heap(*m);
    test::expect_sound(*m, "after a rebuild");
    for (const Live& l : live)
        drop(*m, l.a.index, wait);
    CHECK(heap_stats(*m).used == 0);
    CHECK(hold(*m, stale) == Status::stale);
    test::expect_sound(*m, "empty");
    CHECK(trim(*m) > 0 && heap_stats(*m).committed < 4 * kMiB);
    Allocated a;
    CHECK(allocate(*m, {.bytes = 512 * kMiB}, wait, a) == Status::too_large);
    CHECK(allocate(*m, {.bytes = 256 * kMiB}, wait, a) == Status::ok);
    Allocated b;
    CHECK(allocate(*m, {.bytes = 1}, wait, b) == Status::no_memory);
    drop(*m, a.index, wait);
    test::expect_sound(*m, "end");
    std::puts("heap: ok");
    return 0;
}
