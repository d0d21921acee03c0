// Kills a member after each of its shared stores in turn; a survivor recovers it. Then kills the recoverer at each of *its* stores.
// Needs a fault build. The Python campaign covers the public operations; this one the ground they stand on.
#include "base/crash_point.hpp"
#include "heap/heap.hpp"
#include "queue/queue.hpp"
#include "stream/stream.hpp"
#include "frames/frames.hpp"
#include "tests/check.hpp"

using namespace onecopy;

#if defined(ONECOPY_FAULTS) && ONECOPY_FAULTS
namespace {

using Act = void (*)(Member&);

Handle named(Member& m, const char* name) {
    Stubborn wait;
    Handle h = 0;
    CHECK(directory::find(m, NameKind::object, name, wait, h) == Status::ok);
    return h;
}
Queue the_queue(Member& m) {
    Queue q;
    CHECK(Queue::open(m, named(m, "queue"), q) == Status::ok);
    return q;
}
Message text() {
    Message msg;
    msg.length = 5;
    std::memcpy(msg.bytes, "hello", 5);
    return msg;
}

void put_block(Member& m) {
    Stubborn wait;
    Allocated a;
    CHECK(allocate(m, {.bytes = 3000}, wait, a) == Status::ok);
    Message msg = text();
    msg.block = handle_of(m, a.index);
    CHECK(the_queue(m).put(msg, wait) == Status::ok);
    drop(m, a.index, wait);
}
void put_text(Member& m) {
    Stubborn wait;
    CHECK(the_queue(m).put(text(), wait) == Status::ok);
}
void get_one(Member& m) {
    Stubborn wait;
    Message msg;
    CHECK(the_queue(m).get(msg, wait) == Status::ok);
    if (msg.block != 0) drop(m, handle_index(msg.block), wait);
}
void many(Member& m) {
    for (int i = 0; i < 70; ++i) put_text(m);
    for (int i = 0; i < 70; ++i) get_one(m);
}
void set_name(Member& m) {
    Stubborn wait;
    Handle found;
    Allocated a;
    CHECK(allocate(m, {.bytes = 100}, wait, a) == Status::ok);
    CHECK(directory::set(m, NameKind::object, "x", handle_of(m, a.index), false, wait, found) == Status::ok);
    drop(m, a.index, wait);
}
void erase_name(Member& m) {
    Stubborn wait;
    set_name(m);
    CHECK(directory::erase(m, NameKind::object, "x", wait) == Status::ok);
}
void publish(Member& m) {
    Stubborn wait;
    Stream s;
    CHECK(Stream::open(m, named(m, "stream"), s) == Status::ok);
    Allocated a;
    CHECK(allocate(m, {.bytes = 100}, wait, a) == Status::ok);
    Message msg = text();
    msg.block = handle_of(m, a.index);
    CHECK(s.publish(msg, wait) == Status::ok);
    drop(m, a.index, wait);
}
void subscribe(Member& m) {
    Stubborn wait;
    Stream s;
    CHECK(Stream::open(m, named(m, "stream"), s) == Status::ok);
    u32 me;
    CHECK(s.subscribe(wait, me) == Status::ok);
    publish(m);
    Message msg;
    u64 missed = 0;
    CHECK(s.read(me, msg, missed, wait) == Status::ok);
    drop(m, handle_index(msg.block), wait);
    s.unsubscribe(me);
}
void frame(Member& m) {
    Stubborn wait;
    Frames f;
    CHECK(Frames::open(m, named(m, "frames"), f) == Status::ok);
    Handle h;
    CHECK(f.acquire(wait, h) == Status::ok);
    Message msg = text();
    msg.block = h;
    CHECK(the_queue(m).put(msg, wait) == Status::ok);
    drop(m, handle_index(h), wait);
}
void make_and_drop_queue(Member& m) {
    Stubborn wait;
    Handle h;
    CHECK(Queue::create(m, 10, 0, wait, h) == Status::ok);
    Queue q;
    CHECK(Queue::open(m, h, q) == Status::ok);
    Allocated a;
    CHECK(allocate(m, {.bytes = 100}, wait, a) == Status::ok);
    Message msg = text();
    msg.block = handle_of(m, a.index);
    CHECK(q.put(msg, wait) == Status::ok);
    drop(m, a.index, wait);
    drop(m, handle_index(h), wait);
}
void leave(Member& m) { m.leave(); }

struct Operation { const char* name; Act act; };
const Operation operations[] = {{"put_block", put_block}, {"put_text", put_text}, {"get", get_one}, {"many", many}, {"set", set_name}, {"erase", erase_name},
                                {"publish", publish}, {"subscribe", subscribe}, {"frame", frame}, {"make_and_drop_queue", make_and_drop_queue}, {"leave", leave}};

int fresh() {
    const int fd = test::make_pool(16 * kMiB, 16);
    auto m = test::join_pool(fd);
    Stubborn wait;
    Handle q, s, f, found;
    CHECK(Queue::create(*m, 1000, 0, wait, q) == Status::ok);
    CHECK(Stream::create(*m, 2, StreamPolicy::lossy, wait, s) == Status::ok);
    CHECK(Frames::create(*m, 3, 5000, "", 0, wait, f) == Status::ok);
    CHECK(directory::set(*m, NameKind::object, "queue", q, true, wait, found) == Status::ok);
    CHECK(directory::set(*m, NameKind::object, "stream", s, true, wait, found) == Status::ok);
    CHECK(directory::set(*m, NameKind::object, "frames", f, true, wait, found) == Status::ok);
    put_block(*m);
    return fd;
}

// Runs `act` as a member of its own and dies after `step` stores. True: it died there.
bool dies_at(int fd, u64 step, void (*act)(int)) {
    static u64 at;
    at = step;
    const pid_t child = fork();
    if (child == 0) {
        crash_after(at);
        act(fd);
        crash_after(0);
        _exit(0);
    }
    int status = 0;
    CHECK(waitpid(child, &status, 0) == child);
    if (WIFSIGNALED(status)) {
        CHECK(WTERMSIG(status) == SIGKILL);
        return true;
    }
    CHECK(WIFEXITED(status) && WEXITSTATUS(status) == 0);
    return false;
}

Act current;
void as_member(int fd) {
    auto m = test::join_pool(fd);
    current(*m);
    m.release();  // not leave(): the process ends as a crash does
}
void as_recoverer(int fd) {
    auto m = test::join_pool(fd);
    collect_dead(*m);
    m.release();
}

void survivors_go_on(int fd, const char* what) {
    auto m = test::join_pool(fd);
    collect_dead(*m);
    test::expect_sound(*m, what);
    Stubborn wait;
    put_text(*m);
    put_block(*m);
    Queue q = the_queue(*m);
    Message msg;
    Patience now(0);
    while (q.size() != 0) {
        CHECK(q.get(msg, now) == Status::ok);
        if (msg.block != 0) drop(*m, handle_index(msg.block), wait);
    }
    set_name(*m);
    CHECK(directory::erase(*m, NameKind::object, "x", wait) == Status::ok);
    subscribe(*m);
    frame(*m);
    get_one(*m);
    Frames f;
    CHECK(Frames::open(*m, named(*m, "frames"), f) == Status::ok);
    CHECK(f.available() == 3);
    // Two stream slots of 100 bytes, three frames: nothing else may be alive.
    CHECK(heap_stats(*m).used <= 3 * round_up(5000, 64) + 2 * 128);
    test::expect_sound(*m, what);
}

}  // namespace

int main(int argc, char**) {
    const bool nested = argc > 1;
    unsigned long total = 0, nested_total = 0;
    for (const Operation& op : operations) {
        current = op.act;
        u64 step = 1;
        for (;; ++step) {
            char what[96];
            std::snprintf(what, sizeof what, "%s, killed at step %lu", op.name, step);
            int fd = fresh();
            const bool died = dies_at(fd, step, as_member);
            survivors_go_on(fd, what);
            close(fd);
            if (!died) break;
            ++total;
            for (u64 again = 1; nested; ++again) {
                fd = fresh();
                CHECK(dies_at(fd, step, as_member));
                const bool recoverer_died = dies_at(fd, again, as_recoverer);
                std::snprintf(what, sizeof what, "%s, killed at step %lu, its recoverer at %lu", op.name, step, again);
                survivors_go_on(fd, what);
                close(fd);
                if (!recoverer_died) break;
                ++nested_total;
            }
        }
        std::printf("%-20s %lu steps\n", op.name, step - 1);
        std::fflush(stdout);
    }
    std::printf("crash: %lu deaths, %lu deaths of recoverers, all survived\n", total, nested_total);
    return 0;
}
#else
int main() {
    std::puts("crash: skipped, needs -DONECOPY_FAULTS=ON");
    return 0;
}
#endif
