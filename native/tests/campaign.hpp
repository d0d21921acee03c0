// A small world for campaigns. It has a pool with one of everything in it, a survivor that is a
// member throughout, an actor that is killed or stopped, and checks of what must be true
// afterwards. Each world is a process of its own: nothing of one reaches the next, and a watchdog
// ends one that hangs.
#pragma once
#include <sys/resource.h>

#include <algorithm>
#include <cstring>

#include "base/crash_point.hpp"
#include "frames/frames.hpp"
#include "queue/queue.hpp"
#include "stream/stream.hpp"
#include "tests/campaign_containers.hpp"
#include "tests/campaign_locks.hpp"
#include "tests/check.hpp"

#if defined(ONECOPY_FAULTS) && ONECOPY_FAULTS

namespace onecopy::campaign {

constexpr u32 kFrames = 3;
constexpr u64 kFrameBytes = 5000;
constexpr u32 kDepth = 2;
// A bound, not a measurement: recovery takes a few milliseconds
constexpr std::int64_t kRecoveryBound = 1'000'000'000;

// What can be counted in a pool. A death leaves each number as it was before the operation, or as
// it is after it.
struct State {
    enum Field {
        used,
        blocks,
        body_bytes,
        bodies,
        first,
        items,
        narrow_items,
        unfinished,
        names,
        free_frames,
        lossy,
        lossless,
        latest,
        readers,
        extra_items,
        extra_tasks,
        extra_closed,
        content,
        fields
    };
    u64 of[fields] = {};
};
inline const char* const kFieldNames[] = {
    "used",         "blocks",     "body bytes",  "bodies",      "first item",   "items",
    "narrow items", "unfinished", "names",       "free frames", "lossy head",   "lossless head",
    "latest head",  "readers",    "extra items", "extra tasks", "extra closed", "content"};

// Outside of the pool, and shared by all processes of a campaign.
struct Ledger {
    FaultRecord actor, recoverer;
    u64 next[2];   // number of the next item of each queue; moved when a put has returned
    u64 taken[2];  // items below it were returned by a get
    Handle extra;  // a structure or block that an operation's preparation made
    u64 steps;     // crash points of an operation that went through
    u64 recovery_steps;
    std::int64_t slowest;  // ns, of all recoveries
    u64 note[8];           // an operation's own
    State before, after, seen;
};
inline Ledger& ledger() {
    static Ledger* const it = static_cast<Ledger*>(
        mmap(nullptr, sizeof(Ledger), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0));
    return *it;
}

// ---- a member and what it works with, opened before crash points count
// ------------------------------------------------------------

struct Hand {
    explicit Hand(Member& member) : m(member) {
        open("queue", queues[0]);
        open("narrow", queues[1]);
        open("lossy", streams[0]);
        open("lossless", streams[1]);
        open("latest", streams[2]);
        open("frames", frames);
        locks.open([this](const char* name, auto& out) { open(name, out); });
    }
    template <class T>
    void open(const char* name, T& out) {
        Handle h = 0;
        CHECK(directory::find(m, NameKind::object, name, wait, h) == Status::ok);
        CHECK(T::open(m, h, out) == Status::ok);
        drop(m, handle_index(h), wait);  // the name keeps it
    }
    Member& m;
    UnboundedWait wait;
    Queue queues[2];
    Stream streams[3];
    Frames frames;
    Locks locks;
    Handle held[8] = {};  // what `ready` got
    u32 reader[3] = {kSubscribers, kSubscribers, kSubscribers};
};

inline u32 allocate_block(Hand& h, u64 bytes) {
    Allocated a;
    CHECK(allocate(h.m, {.bytes = bytes}, h.wait, a) == Status::ok);
    return a.index;
}
inline void release_hold(Hand& h, u32 index) {
    drop(h.m, index, h.wait);
}
inline unsigned char* data_of(Hand& h, Handle block) {
    BlockInfo info;
    CHECK(inspect(h.m, handle_index(block), info) == Status::ok);
    return info.data;
}

// ---- items: numbered, the number also in their block and its children
// --------------------------------------------------------------

enum class Kind { text, block, children };

inline Message item(Hand& h, u64 number, Kind kind) {
    Message msg;
    msg.length = 8;
    std::memcpy(msg.bytes, &number, 8);
    if (kind == Kind::text) return msg;
    const u32 index = allocate_block(h, 3000);
    msg.block = handle_of(h.m, index);
    auto* words = reinterpret_cast<u64*>(data_of(h, msg.block));
    copy_in(words, &number, 8);
    const u64 none[2] = {0, 0};
    copy_in(words + 1, none, sizeof none);
    if (kind == Kind::children) {
        declare_cells(h.m, index, 8, 8, 2);
        for (int i = 1; i <= 2; ++i) {
            const u32 child = allocate_block(h, 700);
            copy_in(data_of(h, handle_of(h.m, child)), &number, 8);
            CHECK(swap_cell(h.m, reinterpret_cast<shm_atomic<u64>&>(words[i]), 0,
                            handle_of(h.m, child)) == Status::ok);
            release_hold(h, child);
        }
    }
    return msg;
}
inline u64 number_of(Hand& h, const Message& msg) {
    u64 number = 0;
    CHECK(msg.length == 8);
    std::memcpy(&number, msg.bytes, 8);
    if (msg.block == 0) return number;
    auto* words = reinterpret_cast<u64*>(data_of(h, msg.block));
    CHECK(words[0] == number);
    for (int i = 1; i <= 2; ++i) {
        if (words[i] != 0) CHECK(*reinterpret_cast<u64*>(data_of(h, words[i])) == number);
    }
    return number;
}
inline void done_with(Hand& h, const Message& msg) {
    if (msg.block != 0) release_hold(h, handle_index(msg.block));
}

inline void put(Hand& h, Kind kind, int which = 0) {
    u64& next = ledger().next[which];
    const Message msg = item(h, next, kind);
    CHECK(h.queues[which].put(msg, h.wait) == Status::ok);
    ++next;
    done_with(h, msg);
}
inline void get(Hand& h, int which = 0) {
    Message msg;
    CHECK(h.queues[which].get(msg, h.wait) == Status::ok);
    ledger().taken[which] = number_of(h, msg) + 1;
    done_with(h, msg);
}
inline void put_several(Hand& h, u32 n) {
    Message msgs[64];
    for (u32 i = 0; i < n; ++i)
        msgs[i] = item(h, ledger().next[0] + i, i % 5 == 3 ? Kind::block : Kind::text);
    u32 done = 0;
    CHECK(h.queues[0].put_many(msgs, n, done, h.wait) == Status::ok && done == n);
    ledger().next[0] += n;
    for (u32 i = 0; i < n; ++i)
        done_with(h, msgs[i]);
}
inline void get_several(Hand& h, u32 n) {
    Message msgs[64];
    u32 got = 0;
    CHECK(h.queues[0].get_many(msgs, n, got, h.wait) == Status::ok && got == n);
    ledger().taken[0] = number_of(h, msgs[n - 1]) + 1;
    for (u32 i = 0; i < n; ++i)
        done_with(h, msgs[i]);
}
inline void publish(Hand& h, int which, Kind kind) {
    const Message msg = item(h, h.streams[which].published(), kind);
    CHECK(h.streams[which].publish(msg, h.wait) == Status::ok);
    done_with(h, msg);
}
// Reads what is there. No number may come twice, and a lossless stream may miss none.
inline u64 read_all(Hand& h, int which) {
    u64 last = ~u64{0}, missed = 0, n = 0;
    for (;; ++n) {
        Message msg;
        WaitPolicy now(0);
        const Status s = h.streams[which].read(h.reader[which], msg, missed, now);
        if (s == Status::would_block) return n;
        CHECK(s == Status::ok);
        const u64 number = number_of(h, msg);
        CHECK(last == ~u64{0} || number > last);
        CHECK(which != 1 || last == ~u64{0} || number == last + 1);
        last = number;
        done_with(h, msg);
    }
}
inline void set_name(Hand& h, const char* name, u64 bytes, bool only_new = false) {
    const u32 index = allocate_block(h, bytes);
    Handle found = 0;
    const Status s =
        directory::set(h.m, NameKind::object, name, handle_of(h.m, index), only_new, h.wait, found);
    CHECK(s == Status::ok || (only_new && s == Status::exists));
    if (found != 0) release_hold(h, handle_index(found));
    release_hold(h, index);
}
inline void erase_name(Hand& h, const char* name) {
    const Status s = directory::erase(h.m, NameKind::object, name, h.wait);
    CHECK(s == Status::ok || s == Status::no_entry);
}

// ---- the pool
// -------------------------------------------------------------------------------------------------

inline int make_world(u32 rows) {
    const int fd = test::make_pool(24 * kMiB, rows);
    auto m = test::join_pool(fd);
    UnboundedWait wait;
    auto name = [&](const char* as, Handle h) {
        Handle found;
        CHECK(directory::set(*m, NameKind::object, as, h, true, wait, found) == Status::ok);
        drop(*m, handle_index(h), wait);
    };
    Handle h;
    CHECK(Queue::create(*m, 200, 0, wait, h) == Status::ok);
    name("queue", h);
    CHECK(Queue::create(*m, 1, 0, wait, h) == Status::ok);
    name("narrow", h);
    constexpr const char* kPolicies[] = {"lossy", "lossless", "latest"};
    for (u32 i = 0; i < 3; ++i) {
        CHECK(Stream::create(*m, kDepth, static_cast<StreamPolicy>(i), wait, h) == Status::ok);
        name(kPolicies[i], h);
    }
    CHECK(Frames::create(*m, kFrames, kFrameBytes, "", 0, wait, h) == Status::ok);
    name("frames", h);
    make_locks(*m, [](Member& of, const char* as, Handle lock) {
        UnboundedWait policy;
        Handle found;
        CHECK(directory::set(of, NameKind::object, as, lock, true, policy, found) == Status::ok);
        drop(of, handle_index(lock), policy);
    });
    Ledger& l = ledger();
    l.next[0] = l.next[1] = l.taken[0] = l.taken[1] = l.extra = 0;
    std::memset(l.note, 0, sizeof l.note);
    l.actor = l.recoverer = {};
    return fd;
}

// Takes all items out. Their numbers must be consecutive, none was returned by a get before, and
// none that was put is missing.
inline void drain(Hand& h, int which, u64& first, u64& n) {
    Ledger& l = ledger();
    WaitPolicy now(0);
    Message msg;
    first = n = 0;
    const u64 there = h.queues[which].size();
    u64 expected = 0;
    for (; h.queues[which].size() != 0; ++n) {
        CHECK(h.queues[which].get(msg, h.wait) == Status::ok);
        const u64 number = number_of(h, msg);
        if (n == 0) expected = first = number;
        CHECK(number == expected);  // order kept, none lost in between
        ++expected;
        done_with(h, msg);
    }
    CHECK(n == there);
    if (n != 0) {
        CHECK(first >= l.taken[which]);    // none delivered twice
        CHECK(expected >= l.next[which]);  // none lost that was put
        l.next[which] = expected;
    } else {
        CHECK(l.taken[which] <= l.next[which] + 64);
        first = l.next[which];
    }
    l.taken[which] = l.next[which];
    CHECK(h.queues[which].get(msg, now) != Status::ok);
}

inline u64 occupied_rows(Member& m) {
    u64 n = 0;
    for (u32 i = 0; i < m.geo().max_processes; ++i)
        n += m.row(i).state.load() != static_cast<u32>(RowState::free);
    return n;
}

template <class Act>
void with_container(Hand& h, Act act) {
    const Handle extra = ledger().extra;
    List list;
    Dict dict;
    if (extra == 0) return;
    if (List::open(h.m, extra, list) == Status::ok) act(list);
    if (Dict::open(h.m, extra, dict) == Status::ok) act(dict);
}

// Takes the items of the queues out.
inline State measure(Hand& h) {
    State s;
    const HeapStats heap = heap_stats(h.m);
    s.of[State::used] = heap.used;
    s.of[State::blocks] = heap.blocks;
    s.of[State::body_bytes] = heap.body_bytes;
    s.of[State::bodies] = heap.bodies;
    s.of[State::unfinished] = h.queues[0].unfinished();
    s.of[State::names] = directory::count(h.m, NameKind::object);
    s.of[State::free_frames] = h.frames.available();
    for (int i = 0; i < 3; ++i) {
        s.of[State::lossy + i] = h.streams[i].published();
        s.of[State::readers] += h.streams[i].subscribers();
    }
    Queue queue;
    if (Handle extra = ledger().extra; extra != 0 && Queue::open(h.m, extra, queue) == Status::ok) {
        s.of[State::extra_items] = queue.size();
        s.of[State::extra_tasks] = queue.unfinished();
        s.of[State::extra_closed] = queue.is_shut_down();
    } else if (Stream stream; extra != 0 && Stream::open(h.m, extra, stream) == Status::ok) {
        Message none;
        WaitPolicy now(0);
        s.of[State::extra_closed] =
            stream.publish(item(h, 0, Kind::text), now) == Status::shut_down;
    }
    with_container(h, [&](auto& thing) { s.of[State::content] = digest(h.m, thing, h.wait); });
    u64 ignored;
    drain(h, 0, s.of[State::first], s.of[State::items]);
    drain(h, 1, ignored, s.of[State::narrow_items]);
    return s;
}

// Everything is usable, whether anybody has cleaned up after the dead or not. First it brings the
// numbers of the queues in order.
inline void use_everything(Hand& h) {
    u64 first, n;
    drain(h, 0, first, n);
    drain(h, 1, first, n);
    for (Kind kind : {Kind::text, Kind::block, Kind::children})
        put(h, kind);
    put(h, Kind::block, 1);
    drain(h, 0, first, n);
    CHECK(n == 3);
    drain(h, 1, first, n);
    CHECK(n == 1);
    for (const char* name : {"x", "y", "z"}) {
        set_name(h, name, 300);
        set_name(h, name, 200);
        erase_name(h, name);
    }
    for (int i = 0; i < 3; ++i) {
        if (h.reader[i] != kSubscribers)
            read_all(h, i);
        else
            CHECK(h.streams[i].subscribe(h.wait, h.reader[i]) == Status::ok);
        const bool behind = i == 2 && read_all(h, i) != 0;  // latest: starts with the newest
        publish(h, i, Kind::block);
        CHECK(read_all(h, i) == 1 || behind);
        h.streams[i].unsubscribe(h.reader[i]);
        h.reader[i] = kSubscribers;
    }
    Handle frames[kFrames];
    for (Handle& frame : frames)
        CHECK(h.frames.acquire(h.wait, frame) == Status::ok);
    for (Handle frame : frames)
        release_hold(h, handle_index(frame));
    release_hold(h, allocate_block(h, 5 * kMiB));
    use_locks(h.locks, h.wait);
    with_container(h, [&](auto& thing) { use(h.m, thing, h.wait); });
}

// When the dead are cleaned up, and everything is taken out and given back, the pool contains
// exactly what it was made with.
inline void expect_idle(Hand& h, const HeapStats& idle, const char* what) {
    Ledger& l = ledger();
    with_container(h, [&](auto& thing) { use(h.m, thing, h.wait); });
    if (l.extra != 0 && h.m.local[handle_index(l.extra)] != 0)
        release_hold(h, handle_index(l.extra));
    l.extra = 0;
    use_everything(h);
    std::vector<directory::Item> items;
    CHECK(directory::list(h.m, h.wait, items) == Status::ok);
    for (std::size_t i = 6 + kLockCount; i < items.size(); ++i)
        CHECK(directory::erase(h.m, items[i].kind, items[i].name, h.wait) == Status::ok);
    CHECK(h.frames.available() == kFrames);
    for (int i = 0; i < 3; ++i) {
        CHECK(h.streams[i].subscribers() == 0);
        for (u32 k = 0; k < kDepth; ++k)
            publish(h, i, Kind::text);
    }
    // A queue that has nothing left gives its last chunk back.
    for (int which = 0; which < 2; ++which) {
        const u64 bodies = heap_stats(h.m).bodies;
        for (u32 i = 0;
             i < kChunkSlots && bodies != idle.bodies && heap_stats(h.m).bodies >= bodies; ++i) {
            put(h, Kind::text, which);
            get(h, which);
        }
    }
    CHECK(occupied_rows(h.m) == 1);
    const HeapStats now = heap_stats(h.m);
    if (now.used != idle.used || now.blocks != idle.blocks || now.bodies != idle.bodies ||
        now.body_bytes != idle.body_bytes) {
        std::fprintf(
            stderr,
            "%s: used %lu in %lu blocks, %lu in %lu bodies; before: %lu in %lu, %lu in %lu\n", what,
            now.used, now.blocks, now.body_bytes, now.bodies, idle.used, idle.blocks,
            idle.body_bytes, idle.bodies);
        CHECK(!"something leaked, or was freed twice");
    }
    test::expect_sound(h.m, what);
}

}  // namespace onecopy::campaign
#endif
