// A member with a queue that redelivers, for redeliver_test.cpp.
#pragma once
#include <algorithm>
#include <vector>

#include "base/crash_point.hpp"
#include "heap/heap.hpp"
#include "queue/queue.hpp"
#include "tests/check.hpp"

namespace onecopy::redeliver {

constexpr u32 kMost = 400;

// What processes that may die say they did. The memory belongs to the test: no store in it is a
// crash point.
struct Log {
    bool tried_get, tried_shutdown, shut_down;
    u32 taken, puts, done;
    u64 took[kMost], finished[kMost];
    u64 finishing;  // value + 1; 0: none
};
inline Log* log_book = nullptr;

inline Handle named(Member& m) {
    UnboundedWait wait;
    Handle h = 0;
    CHECK(directory::find(m, NameKind::object, "queue", wait, h) == Status::ok);
    return h;
}

// A member with the queue open. Values are numbers, put in ascending order; even ones have a block.
struct Party {
    std::unique_ptr<Member> m;
    Queue q;
    std::vector<Message> hand;

    explicit Party(int fd) : m(test::join_pool(fd)) {
        CHECK(Queue::open(*m, named(*m), q) == Status::ok);
    }

    static u64 value(const Message& msg) {
        u64 v;
        CHECK(msg.length == sizeof v);
        std::memcpy(&v, msg.bytes, sizeof v);
        return v;
    }
    void put(u64 v) {
        UnboundedWait wait;
        Message msg;
        msg.length = sizeof v;
        std::memcpy(msg.bytes, &v, sizeof v);
        Allocated a;
        if (v % 2 == 0) {
            CHECK(allocate(*m, {.bytes = 3000}, wait, a) == Status::ok);
            std::memcpy(a.data, &v, sizeof v);
            msg.block = handle_of(*m, a.index);
        }
        CHECK(q.put(msg, wait) == Status::ok);
        if (v % 2 == 0) drop(*m, a.index, wait);
    }
    void keep(const Message& msg) {
        const u64 v = value(msg);
        CHECK((msg.block != 0) == (v % 2 == 0));
        BlockInfo info;
        if (msg.block != 0) {
            CHECK(inspect(*m, handle_index(msg.block), info) == Status::ok);
            CHECK(*reinterpret_cast<u64*>(info.data) == v);
        }
        hand.push_back(msg);
    }
    // With a log: for members that may die.
    void get(u32 n, bool logged = true) {
        WaitPolicy now(0);
        std::vector<Message> msgs(n);
        u32 got = 0;
        if (logged) log_book->tried_get = true;
        const Status s = n == 1 ? q.get(msgs[0], now) : q.get_many(msgs.data(), n, got, now);
        CHECK(s == Status::ok);
        if (n == 1) got = 1;
        for (u32 i = 0; i < got; ++i) {
            keep(msgs[i]);
            if (logged) log_book->took[log_book->taken++] = value(msgs[i]);
        }
    }
    void release_message(std::size_t at) {
        UnboundedWait wait;
        if (hand[at].block != 0) drop(*m, handle_index(hand[at].block), wait);
        hand.erase(hand.begin() + static_cast<std::ptrdiff_t>(at));
    }
    void finish(std::size_t at, bool logged = true) {
        UnboundedWait wait;
        const u64 v = value(hand[at]);
        if (logged) log_book->finishing = v + 1;
        CHECK(q.task_done(hand[at].position, wait) == Status::ok);
        if (logged) {
            log_book->finished[log_book->done++] = v;
            log_book->finishing = 0;
        }
        CHECK(q.task_done(hand[at].position, wait) == Status::bad_argument);
        release_message(at);
    }
    void finish_lowest(bool logged = true) {
        UnboundedWait wait;
        const u64 v = value(hand[0]);
        if (logged) log_book->finishing = v + 1;
        CHECK(q.task_done(wait) == Status::ok);
        if (logged) {
            log_book->finished[log_book->done++] = v;
            log_book->finishing = 0;
        }
        release_message(0);
    }
    void end_as_a_crash_does() { static_cast<void>(m.release()); }
};

// A pool with the queue, whose first `before` positions were used; then `count` messages from 0 on.
u64 bodies_of_an_empty_queue = 0;
inline int fresh(u64 before, u64 count, u64 maxsize = 300) {
    const int fd = test::make_pool(16 * kMiB, 16);
    auto m = test::join_pool(fd);
    UnboundedWait wait;
    Handle q, found;
    CHECK(Queue::create(*m, maxsize, kQueueRedelivers, wait, q) == Status::ok);
    CHECK(directory::set(*m, NameKind::object, "queue", q, true, wait, found) == Status::ok);
    bodies_of_an_empty_queue = heap_stats(*m).body_bytes;
    Party party(fd);
    for (u64 i = 0; i < before; ++i) {
        party.put(i);
        party.get(1, false);
        party.finish(0, false);
    }
    for (u64 i = 0; i < count; ++i)
        party.put(i);
    return fd;
}

template <class Act>
void in_a_child(Act act) {
    const pid_t child = fork();
    if (child == 0) {
        act();
        _exit(0);
    }
    int status = 0;
    CHECK(waitpid(child, &status, 0) == child && WIFEXITED(status) && WEXITSTATUS(status) == 0);
}
inline void take_and_end(int fd, u32 n) {
    in_a_child([&] {
        Party party(fd);
        party.get(n, false);
        party.end_as_a_crash_does();
    });
}

inline void empty_again(Party& party) {
    UnboundedWait wait;
    WaitPolicy now(0);
    CHECK(party.q.join(now) == Status::ok && party.q.unfinished() == 0 && party.q.size() == 0 &&
          party.q.occupied() == 0);
    test::expect_sound(*party.m, "empty");
    CHECK(heap_stats(*party.m).used == 0);
    if (party.q.is_shut_down()) return;
    bool all = heap_stats(*party.m).body_bytes == bodies_of_an_empty_queue;
    for (u64 i = 0; !all && i < kChunkSlots; ++i) {  // until the chunk has been left
        party.put(i);
        party.get(1, false);
        CHECK(party.hand[0].redeliveries == 0);
        party.finish(0, false);
        all = heap_stats(*party.m).body_bytes == bodies_of_an_empty_queue;
    }
    CHECK(all);
}

}  // namespace onecopy::redeliver
