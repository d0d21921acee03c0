// The threads of one process use everything at once, by one member and one mapping. Made for
// ThreadSanitizer (make tsan), and true without it.
//
// What TSan does not see: it knows no fences (`fence()`, the release and acquire fences around a
// stream's stamp), so for it the bytes that those order are unordered. They are read and written by
// relaxed atomics (copy_in_racy, copy_out_racy), so it reports no race; that a torn message is
// discarded is checked here by content. It does not see other processes either: another mapping is
// another address.
#include <atomic>
#include <chrono>
#include <cstring>
#include <random>
#include <thread>
#include <vector>

#include "frames/frames.hpp"
#include "locks/condition.hpp"
#include "locks/mutex.hpp"
#include "locks/rwlock.hpp"
#include "locks/semaphore.hpp"
#include "queue/queue.hpp"
#include "stream/stream.hpp"
#include "tests/check.hpp"

using namespace onecopy;

namespace {

constexpr u64 kBlockBytes = 600;
std::atomic<bool> over{false};
std::atomic<u64> moved{0};

struct Soon final : WaitPolicy {
    Soon() noexcept : WaitPolicy(os::monotonic_ns() + 5'000'000) {}
};

void fill(unsigned char* to, u64 bytes, u64 mark) {
    for (u64 i = 0; i + 8 <= bytes; i += 8)
        std::memcpy(to + i, &mark, 8);
}
u64 check_mark(const unsigned char* from, u64 bytes) {
    u64 first = 0, here = 0;
    std::memcpy(&first, from, 8);
    for (u64 i = 0; i + 8 <= bytes; i += 8) {
        std::memcpy(&here, from + i, 8);
        CHECK(here == first);
    }
    return first;
}

// Every third message has its bytes in a block, the others inline.
bool make_message(Member& m, u64 mark, Message& msg) {
    msg.block = 0;
    msg.length = 64;
    fill(msg.bytes, 64, mark);
    if (mark % 3 != 0) return true;
    UnboundedWait wait;
    Allocated a;
    const Status s = allocate(m, {.bytes = kBlockBytes}, wait, a);
    CHECK(s == Status::ok || s == Status::no_memory);
    if (s != Status::ok) return false;
    fill(a.data, kBlockBytes, mark);
    msg.block = handle_of(m, a.index);
    return true;
}
void release_message(Member& m, const Message& msg) {
    UnboundedWait wait;
    if (msg.block != 0) drop(m, handle_index(msg.block), wait);
}
void take_message(Member& m, const Message& msg) {
    CHECK(msg.length == 64);
    const u64 mark = check_mark(msg.bytes, 64);
    if (msg.block != 0) {
        BlockInfo info;
        CHECK(inspect(m, handle_index(msg.block), info) == Status::ok &&
              info.length == kBlockBytes);
        CHECK(check_mark(info.data, kBlockBytes) == mark);
    }
    release_message(m, msg);
    moved.fetch_add(1, std::memory_order_relaxed);
}

void putter(Member& m, Queue& q, u64 seed) {
    std::mt19937_64 random(seed);
    while (!over.load(std::memory_order_relaxed)) {
        Message msg;
        if (!make_message(m, random(), msg)) continue;
        Soon p;
        const Status s = q.put(msg, p);
        CHECK(s == Status::ok || s == Status::timed_out || s == Status::no_memory);
        release_message(m, msg);
    }
}
void getter(Member& m, Queue& q, u64 seed) {
    std::mt19937_64 random(seed);
    while (!over.load(std::memory_order_relaxed)) {
        Message msgs[8];
        u32 n = 0;
        Soon p;
        const Status s = random() % 2 ? q.get(msgs[0], p) : q.get_many(msgs, 8, n, p);
        CHECK(s == Status::ok || s == Status::timed_out);
        if (s != Status::ok) continue;
        for (u32 i = 0; i < std::max(n, 1u); ++i)
            take_message(m, msgs[i]);
        UnboundedWait wait;
        for (u32 i = 0; i < std::max(n, 1u); ++i)
            CHECK(q.task_done(wait) == Status::ok);
    }
}
void publisher(Member& m, Stream& stream, u64 seed) {
    std::mt19937_64 random(seed);
    while (!over.load(std::memory_order_relaxed)) {
        Message msg;
        if (!make_message(m, random(), msg)) continue;
        Soon p;
        const Status s = stream.publish(msg, p);
        CHECK(s == Status::ok || s == Status::timed_out);
        release_message(m, msg);
    }
}
void subscriber(Member& m, Stream& stream) {
    while (!over.load(std::memory_order_relaxed)) {
        u32 me = 0;
        UnboundedWait wait;
        CHECK(stream.subscribe(wait, me) == Status::ok);
        for (int i = 0; i < 100 && !over.load(std::memory_order_relaxed); ++i) {
            Message msg;
            u64 missed = 0;
            Soon p;
            const Status s = stream.read(me, msg, missed, p);
            CHECK(s == Status::ok || s == Status::timed_out);
            if (s == Status::ok) take_message(m, msg);
        }
        stream.unsubscribe(me);
    }
}
void framer(Member& m, Frames& frames, u64 seed) {
    UnboundedWait wait;
    std::mt19937_64 random(seed);
    while (!over.load(std::memory_order_relaxed)) {
        Handle h = 0;
        Soon p;
        const Status s = frames.acquire(p, h);
        CHECK(s == Status::ok || s == Status::timed_out);
        if (s != Status::ok) continue;
        BlockInfo info;
        CHECK(inspect(m, handle_index(h), info) == Status::ok);
        fill(info.data, info.length, random());
        std::this_thread::yield();
        check_mark(info.data, info.length);
        drop(m, handle_index(h), wait);
    }
}
void namer(Member& m, u64 seed) {
    UnboundedWait wait;
    std::mt19937_64 random(seed);
    while (!over.load(std::memory_order_relaxed)) {
        const std::string name = "name" + std::to_string(random() % 20);
        Handle h = 0;
        switch (random() % 4) {
            case 0: {
                Allocated a;
                if (allocate(m, {.bytes = kBlockBytes}, wait, a) != Status::ok) break;
                fill(a.data, kBlockBytes, random());
                const Status s = directory::set(m, NameKind::object, name, handle_of(m, a.index),
                                                random() % 2, wait, h);
                CHECK(s == Status::ok || s == Status::exists);
                if (s == Status::exists) drop(m, handle_index(h), wait);
                drop(m, a.index, wait);
                break;
            }
            case 1: {
                const Status s = directory::erase(m, NameKind::object, name, wait);
                CHECK(s == Status::ok || s == Status::no_entry);
                break;
            }
            default: {
                const Status s = directory::find(m, NameKind::object, name, wait, h);
                CHECK(s == Status::ok || s == Status::no_entry);
                if (s != Status::ok) break;
                BlockInfo info;
                CHECK(inspect(m, handle_index(h), info) == Status::ok);
                check_mark(info.data, info.length);
                CHECK(hold(m, h) == Status::ok);
                drop(m, handle_index(h), wait);
                drop(m, handle_index(h), wait);
            }
        }
    }
}
void allocator(Member& m, u64 seed) {
    UnboundedWait wait;
    std::mt19937_64 random(seed);
    while (!over.load(std::memory_order_relaxed)) {
        Allocated held[6];
        for (Allocated& a : held) {
            const u64 bytes = u64{64} << random() % 17;
            if (allocate(m, {.bytes = bytes}, wait, a) != Status::ok) continue;
            fill(a.data, 64, random());
        }
        for (Allocated& a : held)
            if (a.index != 0) check_mark(a.data, 64), drop(m, a.index, wait);
        if (random() % 64 == 0) trim(m);
        heap_stats(m);
    }
}

// ---- locks: plain variables behind each, so that TSan sees whether they order anything
// ----------------------------------------------------------------

struct Guarded {
    Mutex mutex;
    RwLock rw[3];
    Semaphore one;  // one token: a lock by another name
    Condition condition;
    u64 by_mutex = 0, by_rw[3] = {}, by_token = 0, box = 0, taken = 0;  // not atomic
};
void locker(Guarded& g, u64 seed) {
    std::mt19937_64 random(seed);
    while (!over) {
        Soon p, q, r;
        if (g.mutex.acquire(p) == Status::ok) {
            ++g.by_mutex;
            CHECK(g.mutex.release() == Status::ok);
        }
        const u64 i = random() % 3;
        if (random() % 4 == 0) {
            if (g.rw[i].write(q) == Status::ok) {
                ++g.by_rw[i];
                CHECK(g.rw[i].write_release() == Status::ok);
            }
        } else if (g.rw[i].read(q) == Status::ok) {
            const u64 seen = g.by_rw[i];
            CHECK(g.by_rw[i] == seen && g.rw[i].read_release() == Status::ok);
        }
        if (g.one.acquire(r) == Status::ok) {
            ++g.by_token;
            CHECK(g.one.release(1, r) == Status::ok);
        }
    }
}
void boxer(Guarded& g, bool gives) {
    while (!over) {
        Soon p, q;
        if (g.mutex.acquire(p) != Status::ok) continue;
        if (gives) {
            ++g.box;
            CHECK(g.condition.notify(g.mutex, 1) == Status::ok);
        } else {
            Status again = Status::ok;
            while (g.box == 0 && g.condition.wait(g.mutex, q, again) == Status::ok) {
            }
            CHECK(again == Status::ok);
            if (g.box != 0) --g.box, ++g.taken;
        }
        CHECK(g.mutex.release() == Status::ok);
    }
}

}  // namespace

int main(int argc, char** argv) {
    const double seconds = argc > 1 ? std::atof(argv[1]) : 3;
    const int file = test::make_pool(64 * kMiB, 8);
    auto member = test::join_pool(file);
    Member& m = *member;
    UnboundedWait wait;
    Handle h[5] = {};
    Queue queue;
    Stream streams[3];
    Frames frames;
    CHECK(Queue::create(m, 100, 0, wait, h[0]) == Status::ok &&
          Queue::open(m, h[0], queue) == Status::ok);
    for (u32 i = 0; i < 3; ++i) {
        CHECK(Stream::create(m, 4, static_cast<StreamPolicy>(i), wait, h[i + 1]) == Status::ok);
        CHECK(Stream::open(m, h[i + 1], streams[i]) == Status::ok);
    }
    CHECK(Frames::create(m, 3, 1000, "", 0, wait, h[4]) == Status::ok &&
          Frames::open(m, h[4], frames) == Status::ok);

    Guarded guarded;
    Handle lock[6] = {};
    CHECK(Mutex::create(m, false, wait, lock[0]) == Status::ok &&
          Mutex::open(m, lock[0], guarded.mutex) == Status::ok);
    for (u32 i = 0; i < 3; ++i)
        CHECK(RwLock::create(m, static_cast<Prefer>(i), wait, lock[1 + i]) == Status::ok &&
              RwLock::open(m, lock[1 + i], guarded.rw[i]) == Status::ok);
    CHECK(Semaphore::create(m, 1, 0, wait, lock[4]) == Status::ok &&
          Semaphore::open(m, lock[4], guarded.one) == Status::ok);
    CHECK(Condition::create(m, lock[0], wait, lock[5]) == Status::ok &&
          Condition::open(m, lock[5], guarded.condition) == Status::ok);

    std::vector<std::thread> threads;
    for (u64 i = 0; i < 3; ++i)
        threads.emplace_back([&, i] { locker(guarded, 60 + i); });
    for (bool gives : {true, false})
        threads.emplace_back([&, gives] { boxer(guarded, gives); });
    for (u64 i = 0; i < 2; ++i) {
        threads.emplace_back([&, i] { putter(m, queue, i); });
        threads.emplace_back([&, i] { getter(m, queue, 10 + i); });
        threads.emplace_back([&, i] { framer(m, frames, 20 + i); });
        threads.emplace_back([&, i] { namer(m, 30 + i); });
        threads.emplace_back([&, i] { allocator(m, 40 + i); });
    }
    for (u64 i = 0; i < 3; ++i) {
        threads.emplace_back([&, i] { publisher(m, streams[i], 50 + i); });
        threads.emplace_back([&, i] { subscriber(m, streams[i]); });
        threads.emplace_back([&, i] { subscriber(m, streams[i]); });
    }
    std::this_thread::sleep_for(std::chrono::duration<double>(seconds));
    over = true;
    for (auto& t : threads)
        t.join();
    CHECK(!m.corrupt());
    test::expect_sound(m, "after the threads");
    CHECK(queue.unfinished() == queue.size());
    std::printf("threads: %zu threads, %lu messages\n", threads.size(), moved.load());
    CHECK(guarded.by_mutex != 0 && guarded.by_token != 0 && guarded.taken != 0);
    for (Handle each : h)
        drop(m, handle_index(each), wait);
    for (Handle each : lock)
        drop(m, handle_index(each), wait);
    return 0;
}
