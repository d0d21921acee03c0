// Queues that redeliver. In every build: what they promise, with takers that end. In a fault build
// also: a member is killed after each of its shared stores in turn. A survivor finds every message
// that was not finished, in order, and flagged if it was given out before. With an argument, the
// recoverer is killed at each of *its* stores too.
#include <algorithm>

#include "tests/redeliver_party.hpp"

using namespace onecopy;
using namespace onecopy::redeliver;

namespace {

// ---- what is promised ---------------------------------------------------------------------------

void comes_back_first_and_in_order(u64 before, u32 taken) {
    constexpr u64 kCount = 150;
    const int fd = fresh(before, kCount);
    take_and_end(fd, taken);
    Party party(fd);
    // The death is noticed by the sweep, or, when all was taken, by the get that finds nothing.
    if (taken != kCount) CHECK(collect_dead(*party.m) == 1);
    CHECK(party.q.size() == (taken != kCount ? kCount : 0));
    for (u64 i = 0; i < kCount; ++i) {
        party.get(1, false);
        CHECK(Party::value(party.hand.back()) == i &&
              party.hand.back().redeliveries == u32{i < taken});
    }
    Message msg;
    WaitPolicy now(0);
    CHECK(party.q.get(msg, now) == Status::would_block);
    CHECK(party.q.unfinished() == kCount && party.q.join(now) == Status::would_block);
    while (!party.hand.empty())
        party.finish(party.hand.size() / 2, false);
    empty_again(party);
    close(fd);
}

void finished_memory_is_free_behind_one_that_takes_long() {
    const int fd = fresh(0, 200);
    Party party(fd);
    party.get(200, false);
    while (party.hand.size() > 1)
        party.finish(1, false);
    CHECK(heap_stats(*party.m).used == 3000 && party.q.occupied() == 200 &&
          party.q.unfinished() == 1);
    test::expect_sound(*party.m, "the first takes long");
    party.finish_lowest(false);
    empty_again(party);
    close(fd);
}

void what_is_not_finished_takes_room() {
    const int fd = fresh(0, 3, 3);
    Party party(fd);
    WaitPolicy now(0);
    Message msg;
    msg.length = 8;
    party.get(2, false);
    CHECK(party.q.full() && party.q.size() == 1 && party.q.put(msg, now) == Status::would_block);
    party.finish(1, false);
    CHECK(party.q.full() &&
          party.q.put(msg, now) == Status::would_block);  // the slot of the first is in the way
    party.finish(0, false);
    CHECK(!party.q.full() && party.q.occupied() == 1);
    party.put(3);
    party.put(5);
    CHECK(party.q.full());
    party.get(3, false);
    while (!party.hand.empty())
        party.finish_lowest(false);
    empty_again(party);
    close(fd);
}

void only_the_taker_may_finish() {
    const int fd = fresh(0, 3);
    Party party(fd), other(fd);
    UnboundedWait wait;
    party.get(2, false);
    CHECK(other.q.task_done(party.hand[0].position, wait) == Status::bad_argument);
    CHECK(other.q.task_done(wait) == Status::bad_argument);
    for (u64 position : {u64{2}, u64{3}, u64{64}, ~u64{0}})
        CHECK(party.q.task_done(position, wait) == Status::bad_argument);
    other.get(1, false);
    CHECK(Party::value(other.hand[0]) == 2);
    party.finish_lowest(false);
    party.finish_lowest(false);
    CHECK(party.q.task_done(wait) == Status::bad_argument);
    other.finish(0, false);
    empty_again(party);
    close(fd);
}

void a_taker_that_leaves_has_not_finished() {
    const int fd = fresh(0, 3);
    Party party(fd);
    {
        Party other(fd);
        other.get(2, false);
        other.m->leave();
    }
    CHECK(party.q.size() == 3);
    party.get(3, false);
    for (u64 i = 0; i < 3; ++i)
        CHECK(Party::value(party.hand[i]) == i && party.hand[i].redeliveries == u32{i < 2});
    while (!party.hand.empty())
        party.finish_lowest(false);
    empty_again(party);
    close(fd);
}

void a_busy_queue_finds_its_dead() {
    const int fd = fresh(0, 3);
    take_and_end(fd, 1);
    Party party(fd);
    u64 next = 3, gets = 0;
    // Never empty, so nobody waits or asks in vain.
    for (;; ++gets) {
        CHECK(gets <= kChunkSlots);
        party.put(next++);
        WaitPolicy now(0);
        Message msg;
        CHECK(party.q.get(msg, now) == Status::ok);
        UnboundedWait wait;
        if (msg.block != 0) drop(*party.m, handle_index(msg.block), wait);
        CHECK(party.q.task_done(msg.position, wait) == Status::ok);
        if (msg.redeliveries != 0) {
            CHECK(Party::value(msg) == 0);
            break;
        }
    }
    CHECK(party.q.size() != 0);
    party.get(static_cast<u32>(party.q.size()), false);
    while (!party.hand.empty())
        party.finish_lowest(false);
    empty_again(party);
    close(fd);
}

void shut_down() {
    for (const bool immediate : {false, true}) {
        const int fd = fresh(0, 150);
        Party party(fd);
        UnboundedWait wait;
        WaitPolicy now(0);
        Message msg;
        party.get(1, false);
        take_and_end(fd, 2);
        CHECK(party.q.shut_down(immediate, wait) == Status::ok);
        CHECK(party.q.shut_down(false, wait) == Status::ok);
        collect_dead(*party.m);
        for (u64 i = 1; i < 150 && !immediate; ++i) {
            party.get(1, false);
            CHECK(Party::value(party.hand.back()) == i &&
                  party.hand.back().redeliveries == u32{i < 3});
        }
        CHECK(party.q.get(msg, wait) == Status::shut_down &&
              party.q.get(msg, now) == Status::shut_down);
        CHECK(party.q.join(now) == Status::would_block &&
              party.q.unfinished() == (immediate ? 1 : 150));
        while (!party.hand.empty())
            party.finish_lowest(false);
        empty_again(party);
        close(fd);
    }
}

void a_taker_that_dies_after_the_end() {
    for (const bool immediate : {false, true}) {
        const int fd = fresh(0, 2);
        in_a_child([&] {
            Party party(fd);
            UnboundedWait wait;
            party.get(2, false);
            CHECK(party.q.shut_down(immediate, wait) == Status::ok);
            party.end_as_a_crash_does();
        });
        Party party(fd);
        if (!immediate) {
            party.get(2, false);
            CHECK(party.hand[0].redeliveries != 0 && party.hand[1].redeliveries != 0);
            while (!party.hand.empty())
                party.finish_lowest(false);
        }
        WaitPolicy now(0);
        CHECK(party.q.join(now) == Status::ok);
        empty_again(party);
        close(fd);
    }
}

void promises() {
    for (const u64 before : {0, 1, 60, 63, 64}) {
        for (const u32 taken : {1, 4, 64, 100, 150})
            comes_back_first_and_in_order(before, taken);
    }
    finished_memory_is_free_behind_one_that_takes_long();
    what_is_not_finished_takes_room();
    only_the_taker_may_finish();
    a_taker_that_leaves_has_not_finished();
    a_busy_queue_finds_its_dead();
    shut_down();
    a_taker_that_dies_after_the_end();
    std::puts("redeliver: promises kept");
}

// ---- deaths -------------------------------------------------------------------------------------

#if defined(ONECOPY_FAULTS) && ONECOPY_FAULTS

struct Operation {
    const char* name;
    u64 before, count;  // as in `fresh`
    u32 returned;       // a process that died had taken so many
    void (*act)(Party&);
    void (*first)(Party&) = nullptr;  // without deaths
};

void put(Party& party, u64 n) {
    for (u64 i = 0; i < n; ++i) {
        party.put(1000 + i);
        ++log_book->puts;
    }
}
void end(Party& party, bool immediate) {
    UnboundedWait wait;
    log_book->tried_shutdown = true;
    CHECK(party.q.shut_down(immediate, wait) == Status::ok);
    log_book->shut_down = true;
}

const Operation operations[] = {
    {"put", 0, 0, 0, [](Party& p) { put(p, 2); }},
    {"put_over_the_edge", 62, 1, 0, [](Party& p) { put(p, 2); }},
    {"get", 0, 3, 0,
     [](Party& p) {
         p.get(1);
         p.get(1);
     }},
    {"get_many", 0, 4, 0, [](Party& p) { p.get(3); }},
    {"get_many_over_the_edge", 62, 4, 0, [](Party& p) { p.get(4); }},
    {"task_done", 0, 3, 0,
     [](Party& p) {
         p.get(3);
         p.finish(1);
         p.finish(1);
         p.finish(0);
     }},
    {"task_done_lowest", 0, 3, 0,
     [](Party& p) {
         p.get(2);
         p.finish_lowest();
         p.finish_lowest();
     }},
    {"task_done_over_the_edge", 62, 3, 0,
     [](Party& p) {
         p.get(3);
         p.finish(1);
         p.finish(1);
         p.finish(0);
     }},
    {"task_done_over_two_edges", 63, 67, 0, [](Party& p) { p.finish(0); },
     [](Party& p) {
         p.get(67);
         while (p.hand.size() > 1)
             p.finish(1);
     }},
    {"returned", 0, 4, 2,
     [](Party& p) {
         p.get(1);
         p.finish(0);
         p.get(1);
     }},
    {"returned_many", 62, 4, 3,
     [](Party& p) {
         p.get(4);
         p.finish(2);
     }},
    {"a_death_unnoticed", 0, 1, 1,
     [](Party& p) {
         p.get(1);
         p.finish(0);
     }},
    {"shut_down", 0, 3, 1,
     [](Party& p) {
         p.get(1);
         end(p, false);
         p.get(2);
         p.finish(0);
     }},
    {"shut_down_immediate", 62, 5, 2,
     [](Party& p) {
         p.get(1);
         end(p, true);
     }},
    {"leave", 0, 4, 1,
     [](Party& p) {
         p.get(3);
         p.m->leave();
     }},
};
const Operation* current = nullptr;

int prepared() {
    *log_book = {};
    const int fd = fresh(current->before, current->count);
    if (current->returned != 0) take_and_end(fd, current->returned);
    if (current->returned < current->count)
        CHECK(collect_dead(*test::join_pool(fd)) == (current->returned != 0));
    return fd;
}

// Runs `act` as a member of its own and dies after `step` stores. True: it died there.
bool dies_at(int fd, u64 step, void (*act)(Party&)) {
    const pid_t child = fork();
    if (child == 0) {
        Party party(fd);
        if (act == current->act && current->first != nullptr) current->first(party);
        crash_after(step);
        act(party);
        crash_after(0);
        party.end_as_a_crash_does();
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

// Cleans up, repairs, and takes one message along into its death.
void recover_and_take(Party& party) {
    collect_dead(*party.m);
    static_cast<void>(party.q.size());
    Message msg;
    WaitPolicy now(0);
    log_book->tried_get = true;
    if (party.q.get(msg, now) == Status::ok) log_book->took[log_book->taken++] = Party::value(msg);
}

bool among(const u64* values, u32 n, u64 v) {
    return std::find(values, values + n, v) != values + n;
}

// `swept`: the dead are cleaned up first, so everything comes in order. Otherwise the process that
// gets must find out.
void survivors_go_on(int fd, bool swept, const char* what) {
    const Log& l = *log_book;
    Party party(fd);
    if (swept) {
        collect_dead(*party.m);
        test::expect_sound(*party.m, what);  // takes every lock over, so it repairs
    }
    Message msg;
    WaitPolicy now(0);
    std::vector<u64> got;
    u32 surprises = 0;  // flagged, although no process came to say that it took them
    Status s;
    while ((s = party.q.get(msg, now)) == Status::ok) {
        const u64 v = Party::value(msg);
        if (swept) {
            CHECK(got.empty() || got.back() < v);
        } else {
            CHECK(std::find(got.begin(), got.end(), v) == got.end());
        }
        got.push_back(v);
        party.keep(msg);
        CHECK(!among(l.finished, l.done, v));
        const bool before = among(l.took, l.taken, v) || v < current->returned;
        if (before) CHECK(msg.redeliveries != 0);
        if (msg.redeliveries != 0 && !before) {
            CHECK(l.tried_get);
            ++surprises;
        }
    }
    CHECK(surprises <= 67);
    CHECK(s == (party.q.is_shut_down() ? Status::shut_down : Status::would_block));
    CHECK(!l.shut_down || party.q.is_shut_down());
    CHECK(!party.q.is_shut_down() || l.tried_shutdown);
    const bool dropped =
        party.q.is_shut_down() && std::strcmp(current->name, "shut_down_immediate") == 0;
    if (dropped) {
        CHECK(got.empty());
    } else {
        for (u64 v = 0; v < current->count; ++v) {
            const bool there = std::find(got.begin(), got.end(), v) != got.end();
            CHECK(there || among(l.finished, l.done, v) || l.finishing == v + 1);
        }
        for (u64 i = 0; i < l.puts; ++i)
            CHECK(std::find(got.begin(), got.end(), 1000 + i) != got.end());
    }
    collect_dead(*party.m);
    test::expect_sound(*party.m, what);
    while (!party.hand.empty())
        party.finish(party.hand.size() / 2, false);
    empty_again(party);
}

void campaign(bool nested, const char* only) {
    unsigned long total = 0, nested_total = 0;
    for (const Operation& op : operations) {
        if (only != nullptr && std::strcmp(only, op.name) != 0) continue;
        current = &op;
        u64 step = 1;
        for (;; ++step) {
            char what[128];
            std::snprintf(what, sizeof what, "%s, killed at step %lu", op.name, step);
            int fd = prepared();
            const bool died = dies_at(fd, step, op.act);
            survivors_go_on(fd, step % 2 == 0, what);
            close(fd);
            if (!died) break;
            ++total;
            for (u64 again = 1; nested; ++again) {
                fd = prepared();
                CHECK(dies_at(fd, step, op.act));
                const bool recoverer_died = dies_at(fd, again, recover_and_take);
                std::snprintf(what, sizeof what, "%s, killed at step %lu, its recoverer at %lu",
                              op.name, step, again);
                survivors_go_on(fd, (step + again) % 2 == 0, what);
                close(fd);
                if (!recoverer_died) break;
                ++nested_total;
            }
        }
        CHECK(step > 1);
        std::printf("%-26s %lu steps\n", op.name, step - 1);
        std::fflush(stdout);
    }
    std::printf("redeliver: %lu deaths, %lu deaths of recoverers, all survived\n", total,
                nested_total);
}
#else
void campaign(bool, const char*) {
    std::puts("redeliver: no deaths, they need -DONECOPY_FAULTS=ON");
}
#endif

}  // namespace

// redeliver_test [nested [operation]]
int main(int argc, char** argv) {
    void* shared =
        mmap(nullptr, sizeof(Log), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    CHECK(shared != MAP_FAILED);
    log_book = static_cast<Log*>(shared);
    promises();
    campaign(argc > 1, argc > 2 ? argv[2] : nullptr);
    return 0;
}
