// A process with a timer of 2 ms waits for what a dead process has. A signal cuts each of its naps
// short. So it must look for dead processes by the clock, and not only after an undisturbed nap.
//
// Each wait is a process of its own: the watchdog kills one that does not end.
#include <sys/time.h>

#include <cstring>

#include "containers/list.hpp"
#include "frames/frames.hpp"
#include "queue/queue.hpp"
#include "stream/stream.hpp"
#include "tests/campaign_locks.hpp"
#include "tests/check.hpp"

using namespace onecopy;

namespace {

constexpr std::int64_t kLimit = 20'000'000'000;  // ns: a watchdog

// A member, and the locks of its pool.
struct Party {
    explicit Party(int fd) : m(test::join_pool(fd)) {
        locks.open([this](const char* name, auto& out) { open(name, out); });
    }
    template <class Thing>
    void open(const char* name, Thing& out) {
        Handle h = 0;
        CHECK(directory::find(*m, NameKind::object, name, wait, h) == Status::ok);
        CHECK(Thing::open(*m, h, out) == Status::ok);
    }
    template <class Thing>
    Thing open(const char* name) {
        Thing out;
        open(name, out);
        return out;
    }
    std::unique_ptr<Member> m;
    UnboundedWait wait;
    campaign::Locks locks;
};

void name_it(Member& m, const char* as, Handle h) {
    UnboundedWait wait;
    Handle found;
    CHECK(directory::set(m, NameKind::object, as, h, true, wait, found) == Status::ok);
    drop(m, handle_index(h), wait);
}

int pool_with_one_of_each() {
    const int fd = test::make_pool(16 * kMiB, 8);
    auto m = test::join_pool(fd);
    UnboundedWait wait;
    Handle h = 0;
    campaign::make_locks(*m, name_it);
    CHECK(Queue::create(*m, 10, u32{kQueueRedelivers}, wait, h) == Status::ok);
    name_it(*m, "queue", h);
    CHECK(Stream::create(*m, 2, StreamPolicy::lossless, wait, h) == Status::ok);
    name_it(*m, "stream", h);
    CHECK(Frames::create(*m, 2, 1000, "", 0, wait, h) == Status::ok);
    name_it(*m, "frames", h);
    CHECK(List::create(*m, wait, h) == Status::ok);
    name_it(*m, "list", h);
    return fd;
}

Message number(u64 n) {
    Message msg;
    msg.length = sizeof n;
    std::memcpy(msg.bytes, &n, sizeof n);
    return msg;
}

struct Case {
    const char* name;
    void (*takes)(Party&);  // by a process that dies with it
    void (*waits)(Party&);  // by one with a timer
};

const Case kCases[] = {
    {"a mutex", [](Party& p) { CHECK(p.locks.mutex.acquire(p.wait) == Status::ok); },
     [](Party& p) { CHECK(p.locks.mutex.acquire(p.wait) == Status::owner_died); }},
    {"the directory",
     [](Party& p) { CHECK(lock(p.m->header().names_lock, *p.m, p.wait) == Status::ok); },
     [](Party& p) {
         Handle h = 0;
         CHECK(directory::find(*p.m, NameKind::object, "queue", p.wait, h) == Status::ok);
     }},
    {"the heap", [](Party& p) { CHECK(lock_heap(*p.m, p.wait) == Status::ok); },
     [](Party& p) {
         Allocated a;
         CHECK(allocate(*p.m, {.bytes = 100}, p.wait, a) == Status::ok);
     }},
    {"a list that another process has locked",
     [](Party& p) {
         List list = p.open<List>("list");
         CHECK(list.mutex().acquire(p.wait) == Status::ok);
     },
     [](Party& p) {
         List list = p.open<List>("list");
         CHECK(list.mutex().await(p.wait) == Status::owner_died);
     }},
    {"a reader", [](Party& p) { CHECK(p.locks.rw[0].read(p.wait) == Status::ok); },
     [](Party& p) { CHECK(p.locks.rw[0].write(p.wait) == Status::ok); }},
    {"a writer", [](Party& p) { CHECK(p.locks.rw[0].write(p.wait) == Status::ok); },
     [](Party& p) { CHECK(p.locks.rw[0].read(p.wait) == Status::owner_died); }},
    {"all tokens",
     [](Party& p) {
         for (u32 i = 0; i < campaign::kTokens; ++i)
             CHECK(p.locks.semaphore.acquire(p.wait) == Status::ok);
     },
     [](Party& p) { CHECK(p.locks.semaphore.acquire(p.wait) == Status::ok); }},
    {"the last party of a barrier",
     [](Party& p) {
         // Both have come. The second one dies before it releases the first.
         Barrier::Arrival arrival;
         for (u32 i = 0; i < campaign::kParties; ++i)
             CHECK(p.locks.barrier.arrive(p.wait, arrival) == Status::ok);
     },
     [](Party& p) {
         Barrier::Arrival arrival;
         CHECK(p.locks.barrier.arrive(p.wait, arrival) == Status::broken);
     }},
    {"a subscriber that does not read",
     [](Party& p) {
         Stream stream = p.open<Stream>("stream");
         u32 me = 0;
         CHECK(stream.subscribe(p.wait, me) == Status::ok);
         for (u64 i = 0; i < stream.depth(); ++i)
             CHECK(stream.publish(number(i), p.wait) == Status::ok);
     },
     [](Party& p) { CHECK(p.open<Stream>("stream").publish(number(2), p.wait) == Status::ok); }},
    {"all frames",
     [](Party& p) {
         Frames frames = p.open<Frames>("frames");
         Handle frame = 0;
         for (u32 i = 0; i < frames.count(); ++i)
             CHECK(frames.acquire(p.wait, frame) == Status::ok);
     },
     [](Party& p) {
         Handle frame = 0;
         CHECK(p.open<Frames>("frames").acquire(p.wait, frame) == Status::ok);
     }},
    {"a message that is not finished",
     [](Party& p) {
         Queue queue = p.open<Queue>("queue");
         Message msg;
         CHECK(queue.put(number(1), p.wait) == Status::ok && queue.get(msg, p.wait) == Status::ok);
     },
     [](Party& p) {
         Message msg;
         CHECK(p.open<Queue>("queue").get(msg, p.wait) == Status::ok && msg.redeliveries == 1);
     }},
};

template <class Run>
pid_t start(Run run) {
    const pid_t child = fork();
    CHECK(child >= 0);
    if (child == 0) {
        run();
        _exit(0);
    }
    return child;
}

// How it ended; -1: it did not, and was killed.
int end_of(pid_t child) {
    const std::int64_t end = os::monotonic_ns() + kLimit;
    int status = 0;
    while (waitpid(child, &status, WNOHANG) == 0) {
        if (os::monotonic_ns() > end) {
            kill(child, SIGKILL);
            CHECK(waitpid(child, &status, 0) == child);
            return -1;
        }
        usleep(1000);
    }
    return status;
}

volatile sig_atomic_t signals = 0;

void start_timer() {
    struct sigaction action{};
    action.sa_handler = [](int) { signals = signals + 1; };
    CHECK(sigaction(SIGALRM, &action, nullptr) == 0);
    const itimerval every{{0, 2000}, {0, 2000}};
    CHECK(setitimer(ITIMER_REAL, &every, nullptr) == 0);
}

void waiter(int fd, const Case& one) {
    start_timer();  // before it opens anything: that may wait too
    Party party(fd);
    one.waits(party);
    const itimerval never{};
    CHECK(setitimer(ITIMER_REAL, &never, nullptr) == 0);
    CHECK(signals != 0);  // or the wait was none
}

void look_for_the_dead(const Case& one) {
    const int fd = pool_with_one_of_each();
    const pid_t dies = start([&] {
        Party party(fd);
        one.takes(party);
        kill(getpid(), SIGKILL);
    });
    const int died = end_of(dies);
    CHECK(died != -1 && WIFSIGNALED(died) && WTERMSIG(died) == SIGKILL);
    const int status = end_of(start([&] { waiter(fd, one); }));
    if (status != 0) {
        std::fprintf(stderr, "FAILED: the dead owner of %s: %s\n", one.name,
                     status == -1 ? "nobody looked for it" : "see above");
        std::exit(1);
    }
    close(fd);
}

}  // namespace

int main() {
#if defined(ONECOPY_FAULTS) && ONECOPY_FAULTS
    // So long that, on the busiest machine, a signal comes before the end of a nap.
    kFirstNap = kLongestNap = 300'000'000;
#endif
    for (const Case& one : kCases)
        look_for_the_dead(one);
    std::printf("signals: the dead were found in %zu waits under a timer of 2 ms\n",
                std::size(kCases));
    return 0;
}
