// Shareable lists. In every build: what they promise, with two writers and two readers, and with a
// claim whose owner is dead. In a fault build also: a writer is killed after each of its shared
// stores in turn; a survivor reads the old item or the new one, and sets the next.
#include <sys/mman.h>

#include <atomic>
#include <cstring>
#include <random>
#include <string>
#include <thread>
#include <vector>

#include "base/crash_point.hpp"
#include "shareable/shareable.hpp"
#include "tests/check.hpp"

using namespace onecopy;

namespace {

using u64 = std::uint64_t;
constexpr u64 kRooms[] = {8, 64, 8, 4096, 1 << 20};
constexpr u64 kItems = std::size(kRooms);

struct Memory {
    u64 length = 0;
    unsigned char* base = nullptr;
    ShareableList list;

    Memory() {
        u64 data = 0;
        for (u64 room : kRooms)
            data += 2 * room;
        length = ShareableList::bytes_for(kItems, data);
        base = static_cast<unsigned char*>(
            mmap(nullptr, length, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0));
        CHECK(base != MAP_FAILED);
        u64 next = 0;
        CHECK(ShareableList::open(base, length, list) == Status::bad_argument);
        CHECK(
            ShareableList::format(base, length, kItems, [&]() noexcept { return kRooms[next++]; }));
        ShareableList::finish(base);
        CHECK(ShareableList::open(base, length, list) == Status::ok);
        for (u64 i = 0; i < kItems; ++i)
            set(i, std::string(kRooms[i], 'a'));
    }
    ~Memory() { munmap(base, length); }
    Memory(const Memory&) = delete;
    Memory& operator=(const Memory&) = delete;

    void set(u64 i, const std::string& text) const {
        UnboundedWait wait;
        CHECK(list.write(i, ItemKind::bytes, text.data(), text.size(), wait) == Status::ok);
    }
    std::string get(u64 i) const {
        UnboundedWait wait;
        std::vector<u64> to(kRooms[i] / 8);
        ShareableList::Item item;
        CHECK(list.read(i, to.data(), kRooms[i], item, wait) == Status::ok);
        CHECK(item.kind == ItemKind::bytes);
        return {reinterpret_cast<const char*>(to.data()), item.length};
    }
    u64& word(u64 i, u64 field) const {
        return *reinterpret_cast<u64*>(base + 64 + 32 * i + 8 * field);
    }
};

template <class Body>
int in_child(Body body) {
    const pid_t pid = fork();
    CHECK(pid >= 0);
    if (pid == 0) {
        body();
        _exit(0);
    }
    int status = 0;
    CHECK(waitpid(pid, &status, 0) == pid);
    return status;
}

void basics() {
    Memory m;
    UnboundedWait wait;
    for (u64 i = 0; i < kItems; ++i) {
        CHECK(m.list.room(i) == kRooms[i]);
        CHECK(m.get(i) == std::string(kRooms[i], 'a'));
        for (u64 n : {u64{0}, u64{1}, u64{7}, kRooms[i] - 1, kRooms[i]}) {
            m.set(i, std::string(n, 'b'));
            CHECK(m.get(i) == std::string(n, 'b'));
        }
        const std::string larger(kRooms[i] + 1, 'c');
        CHECK(m.list.write(i, ItemKind::bytes, larger.data(), larger.size(), wait) ==
              Status::too_large);
    }
}

// An entry may contain anything: reading gives an error, or some bytes; never a wrong address.
void spoilt() {
    Memory m;
    std::mt19937_64 random(1);
    std::vector<u64> to(ShareableList::kMostRoom / 8);
    for (int round = 0; round < 20'000; ++round) {
        const u64 i = random() % kItems, field = random() % 2 * 2;  // state or where
        u64& word = m.word(i, field);
        const u64 before = word;
        word = random() % 3 == 0 ? random() : before ^ u64{1} << random() % 64;
        WaitPolicy now(0);
        ShareableList::Item item;
        const Status s = m.list.read(i, to.data(), to.size() * 8, item, now);
        CHECK(s == Status::ok || s == Status::corrupt);
        if (m.list.room(i) == 0)
            CHECK(s == Status::corrupt &&
                  m.list.write(i, ItemKind::null, to.data(), 0, now) == Status::corrupt);
        word = before;
    }
    for (u64 at : {u64{8}, u64{16}, u64{24}}) {
        u64& word = *reinterpret_cast<u64*>(m.base + at);
        const u64 before = word;
        for (u64 value : {~u64{0}, u64{1} << 33, before + 1, m.length + 1}) {
            word = value;
            ShareableList other;
            const Status s = ShareableList::open(m.base, m.length, other);
            CHECK(s == Status::ok || s == Status::corrupt || s == Status::bad_version);
            if (s == Status::ok) CHECK(other.room(kItems) == 0 || value == before + 1);
        }
        word = before;
    }
}

void taken_over() {
    Memory m;
    u64 theirs = 0;
    int pipes[2];
    CHECK(pipe(pipes) == 0);
    in_child([&] {
        const u64 mine = ShareableList::own_claim();
        CHECK(write(pipes[1], &mine, sizeof mine) == sizeof mine);
    });
    CHECK(read(pipes[0], &theirs, sizeof theirs) == sizeof theirs);
    CHECK(theirs != ShareableList::own_claim() && theirs != 0);
    m.word(1, 1) = theirs;  // died with it
    m.set(1, "after a death");
    CHECK(m.get(1) == "after a death" && m.word(1, 1) == 0);

    // A process with that number that started at another time is another process.
    m.word(1, 1) = ShareableList::own_claim() ^ u64 { 5 } << 22;
    m.set(1, "another start");
    CHECK(m.get(1) == "another start");

    // Nobody here can tell whether a process of another namespace lives. After a while there is an
    // error, and the item stays.
    m.word(1, 1) = ShareableList::own_claim() ^ u64 { 1 } << 60;
    UnboundedWait wait;
    CHECK(m.list.write(1, ItemKind::null, nullptr, 0, wait) == Status::timed_out);
    CHECK(m.get(1) == "another start");
    m.word(1, 1) = 0;
    close(pipes[0]);
    close(pipes[1]);
}

void torn(u64 i, int rounds) {
    Memory m;
    std::atomic<bool> over{false};
    std::atomic<int> reading{0};
    auto writer = [&](unsigned seed) {
        std::mt19937 random(seed);
        for (int round = 0; round < rounds; ++round)
            m.set(i,
                  std::string(random() % (kRooms[i] + 1), static_cast<char>('a' + random() % 26)));
    };
    auto reader = [&] {
        for (bool first = true; !over.load(); first = false) {
            const std::string text = m.get(i);
            CHECK(text.find_first_not_of(text.empty() ? 'a' : text[0]) == std::string::npos);
            if (first) ++reading;
        }
    };
    // One writer in another process: the claim between processes, and between threads. It is forked
    // before there are threads, because the allocator of a sanitizer does not survive it otherwise.
    int go[2];
    CHECK(pipe(go) == 0);
    const pid_t pid = fork();
    if (pid == 0) {
        char byte;
        CHECK(read(go[0], &byte, 1) == 1);
        writer(3);
        _exit(0);
    }
    std::thread readers[] = {std::thread(reader), std::thread(reader)};
    while (reading.load() < 2)  // otherwise all may have been written before anybody reads
        std::this_thread::yield();
    CHECK(write(go[1], "!", 1) == 1);
    std::thread writers[] = {std::thread(writer, 1), std::thread(writer, 2)};
    for (auto& thread : writers)
        thread.join();
    int status = 0;
    CHECK(waitpid(pid, &status, 0) == pid && status == 0);
    over.store(true);
    for (auto& thread : readers)
        thread.join();
    close(go[0]);
    close(go[1]);
}

// A reader is overtaken twice in the middle of its copy, by writes of the same kind and length; the
// second one writes what is being copied. The reader's mapping has a page that it cannot read,
// where it stops. The writes go through another mapping.
struct Overtaken {
    unsigned char* page = nullptr;
    const ShareableList* writer = nullptr;
    std::string text;
    u64 times = 0;
} overtaken_state;

void write_twice(int) {
    Overtaken& o = overtaken_state;
    ++o.times;
    UnboundedWait wait;
    for (char c : {'b', 'c'}) {
        std::memset(o.text.data(), c, o.text.size());
        CHECK(o.writer->write(0, ItemKind::bytes, o.text.data(), o.text.size(), wait) ==
              Status::ok);
    }
    CHECK(mprotect(o.page, os::page_size(), PROT_READ | PROT_WRITE) == 0);
}

void overtaken() {
    const u64 page = os::page_size(), room = 64 * page;
    const u64 length = ShareableList::bytes_for(1, 2 * room);
    const int fd = memfd_create("shareable", MFD_CLOEXEC);
    CHECK(fd >= 0 && ftruncate(fd, static_cast<off_t>(length)) == 0);
    unsigned char* maps[2];
    for (auto& map : maps) {
        map = static_cast<unsigned char*>(
            mmap(nullptr, length, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0));
        CHECK(map != MAP_FAILED);
    }
    ShareableList writer, reader;
    CHECK(ShareableList::format(maps[0], length, 1, [&]() noexcept { return room; }));
    ShareableList::finish(maps[0]);
    CHECK(ShareableList::open(maps[0], length, writer) == Status::ok &&
          ShareableList::open(maps[1], length, reader) == Status::ok);
    Overtaken& o = overtaken_state;
    o.writer = &writer;
    o.text.assign(room, 'a');
    UnboundedWait wait;
    CHECK(writer.write(0, ItemKind::bytes, o.text.data(), room, wait) == Status::ok);
    const auto* first = static_cast<unsigned char*>(memmem(maps[1], length, o.text.data(), room));
    CHECK(first != nullptr);
    const u64 middle = (static_cast<u64>(first - maps[1]) + room / 2) / page * page;
    o.page = maps[1] + middle;
    struct sigaction action{}, before{};
    action.sa_handler = write_twice;
    CHECK(sigaction(SIGSEGV, &action, &before) == 0);
    CHECK(mprotect(o.page, page, PROT_NONE) == 0);
    std::vector<u64> to(room / 8);
    ShareableList::Item item;
    CHECK(reader.read(0, to.data(), room, item, wait) == Status::ok && item.length == room);
    CHECK(sigaction(SIGSEGV, &before, nullptr) == 0);
    CHECK(o.times == 1);
    CHECK(std::memcmp(to.data(), o.text.data(), room) == 0);  // all of the last one
    for (auto* map : maps)
        munmap(map, length);
    close(fd);
}

#if defined(ONECOPY_FAULTS) && ONECOPY_FAULTS
// A writer is stopped before and after each of its shared stores, and another one writes the same
// item.
void meetings() {
    constexpr u64 i = 1, kSteps = 5;  // claim, two halves, state, claim
    const std::string first(60, 'y'), second(40, 'z');
    u64 stops = 0;
    for (const bool early : {true, false}) {
        for (u64 step = 1; step <= kSteps; ++step) {
            Memory m;
            m.set(i, std::string(50, 'x'));
            const pid_t a = fork();
            if (a == 0) {
                (early ? stop_before : stop_at)(step, nullptr);
                m.set(i, first);
                stop_at(0);
                _exit(0);
            }
            int status = 0;
            CHECK(waitpid(a, &status, WUNTRACED) == a);
            if (WIFEXITED(status)) continue;  // nothing can be stopped before that one
            CHECK(WIFSTOPPED(status));
            ++stops;
            const pid_t b = fork();
            if (b == 0) {
                m.set(i, second);
                _exit(0);
            }
            // It has ended, or it waits for the one that is stopped.
            siginfo_t ended{};
            for (int looks = 0; looks < 20 && ended.si_pid != b; ++looks) {
                usleep(1000);
                CHECK(waitid(P_PID, static_cast<id_t>(b), &ended, WEXITED | WNOHANG | WNOWAIT) ==
                      0);
            }
            CHECK(kill(a, SIGCONT) == 0);
            for (const pid_t writer : {a, b})
                CHECK(waitpid(writer, &status, 0) == writer && status == 0);
            const std::string found = m.get(i);
            CHECK(found == first || found == second);
            CHECK(m.word(i, 1) == 0);
        }
    }
    CHECK(stops >= kSteps + 3);  // after each, and before claim, commit and release
}

// Each death of a set: the old item or the new one. It is known which: the third store from the end
// commits.
void deaths() {
    const std::string before(60, 'x'), after(50, 'y'), later(40, 'z');
    for (u64 i : {u64{1}, u64{3}, u64{4}}) {
        u64 step = 1;
        bool committed = false;
        for (;; ++step) {
            Memory m;
            m.set(i, before);
            const int status = in_child([&] {
                crash_after(step);
                m.set(i, after);
                crash_after(0);
            });
            if (status == 0) break;
            CHECK(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL);
            const std::string found = m.get(i);
            CHECK(found == before || found == after);
            CHECK(!committed || found == after);  // once committed, later deaths keep it
            committed = found == after;
            // The process that takes over may die at each of its stores too.
            for (u64 nested = 1;; ++nested) {
                const int again = in_child([&] {
                    crash_after(nested);
                    m.set(i, later);
                    crash_after(0);
                });
                const std::string now = m.get(i);
                CHECK(now == found || now == later);
                if (again == 0) break;
            }
            CHECK(m.get(i) == later && m.word(i, 1) == 0);
            m.set(i, before);
            CHECK(m.get(i) == before);
        }
        CHECK(committed && step == 6);  // claim, two halves, state, claim
    }
}
#endif

}  // namespace

int main() {
    basics();
    spoilt();
    taken_over();
    overtaken();
    torn(1, 30'000);
    torn(3, 10'000);
    torn(4, 100);
#if defined(ONECOPY_FAULTS) && ONECOPY_FAULTS
    meetings();
    deaths();
    std::puts("shareable lists: every death of a set, and of a process that takes over");
#endif
    return 0;
}
