// A disk becomes full in the middle of a reservation, and keeps what the reservation got until
// then. Nothing of it stays with the pool, and nothing is taken from others. A process may die at
// each step of it. Needs a fault build, which makes a file in memory behave like one on such a
// disk.
#include <sys/stat.h>

#include <cstring>

#include "heap/heap.hpp"
#include "tests/check.hpp"

#if defined(ONECOPY_FAULTS) && ONECOPY_FAULTS

using namespace onecopy;

namespace {

constexpr u64 kStride = 1024;  // of the bytes that are looked at
constexpr u64 kCapacity = 64 * kMiB, kLarge = 9 * kMiB, kOnDisk = 5 * kMiB + 12'345;

u64 on_disk(int fd) {
    struct stat s{};
    CHECK(fstat(fd, &s) == 0);
    return static_cast<u64>(s.st_blocks) * 512;
}

struct Full {
    const char* name;
    // Bytes of blocks of a survivor around the one that finds no room; 0: none.
    u64 before, after;
    Status (*act)(Member&, WaitPolicy&);
};

Status large(Member& m, WaitPolicy& p) {
    Allocated a;
    return allocate(m, {.bytes = kLarge}, p, a);
}
Status small(Member& m, WaitPolicy& p) {
    Allocated a;
    return allocate(m, {.bytes = 1000}, p, a);
}
Status many_entries(Member& m, WaitPolicy& p) {
    Status s = Status::ok;
    for (Allocated a; s == Status::ok;)
        s = allocate(m, {.bytes = 64}, p, a);
    return s;
}
Status many_names(Member& m, WaitPolicy& p) {
    Allocated a;
    Status s = allocate(m, {.bytes = 64}, p, a);
    for (int i = 0; s == Status::ok; ++i) {
        Handle found;
        s = directory::set(m, NameKind::object, std::to_string(i), handle_of(m, a.index), false, p,
                           found);
    }
    return s;
}

constexpr Full kCases[] = {
    {"the only block", 0, 0, large},
    {"between others, in their extents", 3 * kMiB, 1 * kMiB, large},
    {"at whole extents", 4 * kMiB, 2 * kMiB, large},
    {"a small block, a new extent", 2 * kMiB, 0, small},
    {"a small block, the first extent", 0, 0, small},
};

struct Neighbour {
    Allocated block;
    u64 bytes = 0;
    void write(Member& m, u64 n, WaitPolicy& p) {
        if ((bytes = n) == 0) return;
        CHECK(allocate(m, {.bytes = n}, p, block) == Status::ok);
        for (u64 i = 0; i < n; i += kStride)
            block.data[i] = 7;
    }
    void look() const {
        for (u64 i = 0; i < bytes; i += kStride)
            CHECK(block.data[i] == 7);
    }
};

// False: the victim had ended before that step.
bool killed_at(const Full& full, u64 step, u64 disk) {
    alarm(20);
    const int fd = test::make_pool(kCapacity);
    auto m = test::join_pool(fd);
    UnboundedWait wait;
    Neighbour entries, before, after;
    entries.write(*m, 64, wait);  // the tables have their first piece then
    drop(*m, entries.block.index, wait);
    trim(*m);
    before.write(*m, full.before, wait);
    if (full.after != 0) {  // with room for the large one in front of it
        Allocated room;
        CHECK(allocate(*m, {.bytes = kLarge}, wait, room) == Status::ok);
        after.write(*m, full.after, wait);
        drop(*m, room.index, wait);
        trim(*m);
    }
    const u64 had = on_disk(fd);
    const pid_t child = fork();
    if (child == 0) {
        auto own = test::join_pool(fd);
        os::disk_has(disk);
        crash_after(step);
        CHECK(full.act(*own, wait) == Status::no_memory);
        crash_after(0);
        CHECK(on_disk(fd) <= had);  // at once, and not only when a process collects
        before.look();
        after.look();
        _exit(9);
    }
    int status = 0;
    CHECK(waitpid(child, &status, 0) == child);
    const bool died = WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL;
    CHECK(died || (WIFEXITED(status) && WEXITSTATUS(status) == 9));
    collect_dead(*m);
    trim(*m);
    CHECK(on_disk(fd) <= had);
    before.look();
    after.look();
    test::expect_sound(*m, full.name);
    // What the map says is there, is there: it can be had, and holds.
    Neighbour again;
    again.write(*m, kLarge, wait);
    again.look();
    before.look();
    after.look();
    close(fd);
    return died;
}

// The tables grow under a lock: what they took is given back at once.
void tables(Status (*act)(Member&, WaitPolicy&)) {
    const int fd = test::make_pool(kCapacity);
    auto m = test::join_pool(fd);
    UnboundedWait wait;
    const auto reserved = [&] {
        return m->header().blocks_reserved.load() + m->header().names_reserved.load();
    };
    Allocated first;
    CHECK(allocate(*m, {.bytes = 64}, wait, first) == Status::ok);
    os::disk_has(200 * kKiB);
    CHECK(act(*m, wait) == Status::no_memory);
    const u64 full = on_disk(fd), marked = reserved();
    CHECK(act(*m, wait) == Status::no_memory && on_disk(fd) == full && reserved() == marked);
    os::disk_has(40 * kKiB);  // part of what is asked for
    CHECK(act(*m, wait) == Status::no_memory && on_disk(fd) == full && reserved() == marked);
    os::disk_has(~u64{0});
    test::expect_sound(*m, "tables");
    close(fd);
}

}  // namespace

int main(int argc, char** argv) {
    // A slice, or with "full" every step.
    const u64 stride = argc > 1 && std::strcmp(argv[1], "full") == 0 ? 1 : 5;
    int deaths = 0;
    for (const Full& full : kCases) {
        for (const u64 disk : {u64{0}, 600 * kKiB, kOnDisk}) {
            if (full.act == small && disk == kOnDisk) continue;  // there is room for it
            u64 step = 1;
            for (; killed_at(full, step, disk); step += stride)
                ++deaths;
        }
    }
    tables(many_entries);
    tables(many_names);
    std::printf("full disk: ok, %d deaths\n", deaths);
    return 0;
}

#else
int main() {
    std::puts("full disk: needs a fault build");
    return 0;
}
#endif
