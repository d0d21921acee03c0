// Anything may stand in a segment: a pool is spoilt, one word at a time and at random, and then
// used. Every round ends in a status; a signal or a hang is a bug. A pool that was found corrupt
// stays refused.
//
//   hostile_test [rounds] [seed]     rounds 0: every directed mutation once, and as many random
//   ones
//
// Rounds run in children with an alarm. Half of them spoil the file before it is opened, half while
// it is in use.
#include <algorithm>
#include <cstring>
#include <map>
#include <random>
#include <vector>

#include "frames/frames.hpp"
#include "queue/queue.hpp"
#include "stream/stream.hpp"
#include "tests/campaign_containers.hpp"
#include "tests/campaign_locks.hpp"
#include "tests/check.hpp"

using namespace onecopy;

namespace {

constexpr u64 kCapacity = 16 * kMiB;
constexpr u32 kProcesses = 8;
constexpr unsigned kWatchdog = 20;  // seconds

enum Outcome : int { kSound = 0, kRefused = 40, kFoundCorrupt = 41, kBroken = 42 };

struct Region {
    const char* name;
    u64 offset, length;
};
struct Change {
    const char* where;
    u64 offset;
    u32 width;
    u64 value;
};

// ---- a sound pool
// -------------------------------------------------------------------------------------------------

Allocated block_of(Member& m, u64 bytes, u8 flags = 0) {
    UnboundedWait wait;
    Allocated a;
    CHECK(allocate(m, {.bytes = bytes, .flags = flags, .zero = true}, wait, a) == Status::ok);
    return a;
}
void name_block(Member& m, NameKind kind, const char* name, Handle h) {
    UnboundedWait wait;
    Handle found = 0;
    CHECK(directory::set(m, kind, name, h, false, wait, found) == Status::ok);
}
Message text(const char* of = "hello") {
    Message msg;
    msg.length = static_cast<u32>(std::strlen(of));
    std::memcpy(msg.bytes, of, msg.length);
    return msg;
}

// Everything that can lie in a pool, its free lists not trivial. Where it lies: the regions worth
// spoiling.
std::vector<Region> furnish(Member& m) {
    UnboundedWait wait;
    std::vector<Region> regions;
    auto body = [&](const char* name, Handle h, u64 length) {
        BlockInfo info;
        CHECK(inspect(m, handle_index(h), info) == Status::ok);
        regions.push_back({name, m.geo().heap_off + info.offset, std::min(length, info.length)});
    };
    std::vector<Allocated> gaps;
    for (u64 bytes : {100, 5000, 100, 300, 90'000, 100, 5000, 64})
        gaps.push_back(block_of(m, bytes));

    Handle h = 0;
    CHECK(Queue::create(m, 200, 0, wait, h) == Status::ok);
    Queue queue;
    CHECK(Queue::open(m, h, queue) == Status::ok);
    for (int i = 0; i < 70; ++i) {
        Message msg = text();
        if (i % 3 == 0) msg.block = handle_of(m, block_of(m, 200 + static_cast<u64>(i)).index);
        CHECK(queue.put(msg, wait) == Status::ok);
        if (msg.block != 0) drop(m, handle_index(msg.block), wait);
    }
    name_block(m, NameKind::queue, "queue", h);
    body("queue body", h, 256 + 40);
    BlockInfo info;
    CHECK(inspect(m, handle_index(h), info) == Status::ok);
    body("queue chunk", reinterpret_cast<shm_atomic<u64>*>(info.data + 256)->load(),
         4 * sizeof(Slot));
    drop(m, handle_index(h), wait);

    for (StreamPolicy policy :
         {StreamPolicy::lossy, StreamPolicy::lossless, StreamPolicy::latest}) {
        const char* names[] = {"lossy", "lossless", "latest"};
        CHECK(Stream::create(m, 4, policy, wait, h) == Status::ok);
        Stream stream;
        CHECK(Stream::open(m, h, stream) == Status::ok);
        for (int i = 0; i < 6; ++i) {
            Message msg = text();
            if (i % 2 == 0) msg.block = handle_of(m, block_of(m, 300).index);
            CHECK(stream.publish(msg, wait) == Status::ok);
            if (msg.block != 0) drop(m, handle_index(msg.block), wait);
        }
        name_block(m, NameKind::stream, names[static_cast<u32>(policy)], h);
        body("stream body", h, 192 + 2 * 64);
        regions.push_back({"stream ring", regions.back().offset + 192 + 64 * 64, 4 * sizeof(Slot)});
        drop(m, handle_index(h), wait);
    }

    CHECK(Frames::create(m, 3, 1000, "meta", 4, wait, h) == Status::ok);
    name_block(m, NameKind::frames, "frames", h);
    body("frames body", h, 256);
    body("frames cells", h, 1024 + 24);
    regions.back().offset += 1024;
    regions.back().length = 24;
    drop(m, handle_index(h), wait);

    CHECK(Queue::create(m, 100, kQueueRedelivers, wait, h) == Status::ok);
    Queue again;
    CHECK(Queue::open(m, h, again) == Status::ok);
    for (int i = 0; i < 8; ++i) {
        Message msg = text();
        if (i % 2 == 0) msg.block = handle_of(m, block_of(m, 250).index);
        CHECK(again.put(msg, wait) == Status::ok);
        if (msg.block != 0) drop(m, handle_index(msg.block), wait);
    }
    for (int i = 0; i < 4; ++i) {  // taken, and come back when this member leaves
        Message msg;
        CHECK(again.get(msg, wait) == Status::ok);
        if (msg.block != 0) drop(m, handle_index(msg.block), wait);
        if (i == 1) CHECK(again.task_done(wait) == Status::ok);
    }
    name_block(m, NameKind::queue, "again", h);
    body("redelivering body", h, 256 + 24);
    CHECK(inspect(m, handle_index(h), info) == Status::ok);
    body("redelivering chunk", reinterpret_cast<shm_atomic<u64>*>(info.data + 256)->load(),
         6 * sizeof(Slot));
    drop(m, handle_index(h), wait);

    campaign::make_locks(m, [](Member& of, const char* as, Handle lock) {
        UnboundedWait policy;
        name_block(of, NameKind::object, as, lock);
        drop(of, handle_index(lock), policy);
    });
    for (const char* name : campaign::kLockNames) {
        CHECK(directory::find(m, NameKind::object, name, wait, h) == Status::ok);
        body("lock", h, 192 + 16 * 8);
        drop(m, handle_index(h), wait);
    }

    // A list and a dict, with holes and long keys: their bodies, tables, and what these lead to.
    auto container = [&](const char* name, Handle of, const char* const(&parts)[4]) {
        name_block(m, NameKind::object, name, of);
        body(parts[0], of, 40);
        CHECK(inspect(m, handle_index(of), info) == Status::ok);
        const Handle table = reinterpret_cast<ContainerBody*>(info.data)->root.load();
        CHECK(inspect(m, handle_index(table), info) == Status::ok);
        auto& t = *reinterpret_cast<ContainerTable*>(info.data);
        body(parts[1], table, sizeof t);
        body(parts[2], t.main.load(), 200);
        body(parts[3], t.chunks[0].load(), 1800);
        drop(m, handle_index(of), wait);
    };
    List list;
    CHECK(List::create(m, wait, h) == Status::ok && List::open(m, h, list) == Status::ok);
    for (u64 i = 0; i < 20; ++i) {
        const Handle item = campaign::numbered(m, i, wait);
        CHECK(list.extend(&item, 1, wait) == Status::ok);
        drop(m, handle_index(item), wait);
    }
    CHECK(list.erase({2, 9, 3}, wait) == Status::ok);
    container("list", h, {"list body", "list table", "list order", "list chunk"});
    Dict dict;
    CHECK(Dict::create(m, wait, h) == Status::ok && Dict::open(m, h, dict) == Status::ok);
    for (u32 i = 0; i < 20; ++i) {
        const campaign::Numbered key(i, i % 4 == 0 ? 90 : 20);
        const Handle item = campaign::numbered(m, i, wait);
        Handle found;
        CHECK(dict.set(key.key(), item, false, wait, found) == Status::ok);
        drop(m, handle_index(item), wait);
        if (i % 5 == 4) CHECK(dict.erase(key.key(), wait) == Status::ok);
    }
    container("dict", h, {"dict body", "dict table", "dict buckets", "dict chunk"});

    const Allocated child = block_of(m, 5000), parent = block_of(m, 1000, kFlagEnvelope);
    auto* cells = reinterpret_cast<shm_atomic<u64>*>(parent.data);
    declare_cells(m, parent.index, 0, 8, 2);
    CHECK(swap_cell(m, cells[0], 0, handle_of(m, child.index)) == Status::ok);
    name_block(m, NameKind::object, "parent", handle_of(m, parent.index));
    for (int i = 0; i < 8; ++i)
        name_block(m, NameKind::object, ("name" + std::to_string(i)).c_str(),
                   handle_of(m, child.index));
    CHECK(directory::erase(m, NameKind::object, "name3", wait) == Status::ok);
    drop(m, parent.index, wait);
    drop(m, child.index, wait);
    for (std::size_t i = 0; i < gaps.size(); i += 2)
        drop(m, gaps[i].index, wait);
    for (std::size_t i = 1; i < gaps.size(); i += 2) {
        name_block(m, NameKind::array, ("gap" + std::to_string(i)).c_str(),
                   handle_of(m, gaps[i].index));
        drop(m, gaps[i].index, wait);
    }

    const Geometry& g = m.geo();
    regions.push_back({"header", 0, sizeof(Header)});
    regions.push_back({"rows", g.rows_off, 3 * sizeof(Row)});
    regions.push_back({"heap index", g.heads_off, offsetof(HeapIndex, heads)});
    for (u32 first = 0; first < kFirstLevels; ++first)
        for (u32 second = 0; second < kSecondLevels; ++second)
            if (m.heads().heads[first][second].load() != kNil)
                regions.push_back({"heap index",
                                   g.heads_off + offsetof(HeapIndex, heads) +
                                       (u64{first} * kSecondLevels + second) * 4,
                                   4});
    for (u32 b = 0; b < kBuckets; ++b)
        if (m.at<shm_atomic<u32>>(g.buckets_off + u64{b} * 4).load() != 0)
            regions.push_back({"name buckets", g.buckets_off + u64{b} * 4, 4});
    regions.push_back({"extents", g.extents_off, 16});
    for (u32 i = 0; i < 12; ++i)
        regions.push_back({"name entries", g.names_off + u64{i} * sizeof(NameEntry), 48});
    regions.push_back({"blocks", g.blocks_off, u64{m.header().blocks_top.load()} * sizeof(Block)});
    test::expect_sound(m, "before");
    return regions;
}

// ---- what is done to it
// -------------------------------------------------------------------------------------------------

std::vector<Change> directed(const std::vector<Region>& regions, int fd) {
    std::vector<Change> all;
    auto add = [&](const Region& r, u64 offset, u32 width) {
        u64 is = 0;
        CHECK(pread(fd, &is, width, static_cast<off_t>(offset)) == static_cast<ssize_t>(width));
        const u64 mask = width == 8 ? ~u64{0} : (u64{1} << width * 8) - 1,
                  sign = u64{1} << (width * 8 - 1);
        for (u64 value : {u64{0}, u64{1}, u64{2}, mask, mask - 1, sign, sign - 1, is + 1, is - 1,
                          is ^ sign, is << 1, is + 64, is - 64, u64{7}, u64{40'000'000}})
            if ((value & mask) != is) all.push_back({r.name, offset, width, value & mask});
    };
    for (const Region& r : regions) {
        for (u64 at = 0; at + 4 <= r.length; at += 4) {
            add(r, r.offset + at, 4);
            if ((r.offset + at) % 8 == 0 && at + 8 <= r.length) add(r, r.offset + at, 8);
            if (std::string_view(r.name) == "name entries" && at == 28)
                add(r, r.offset + at, 1), add(r, r.offset + at + 1, 1);
        }
    }
    return all;
}

std::vector<Change> random_changes(const std::vector<Region>& regions, std::mt19937_64& random) {
    std::vector<Change> some;
    const u64 how_many = u64{1} << random() % 6;
    for (u64 i = 0; i < how_many; ++i) {
        // A kind of place first: there are many more buckets than headers.
        std::vector<std::string_view> kinds;
        for (const Region& each : regions)
            if (std::find(kinds.begin(), kinds.end(), each.name) == kinds.end())
                kinds.push_back(each.name);
        const std::string_view kind = kinds[random() % kinds.size()];
        std::vector<const Region*> of_kind;
        for (const Region& each : regions)
            if (each.name == kind) of_kind.push_back(&each);
        const Region& r = *of_kind[random() % of_kind.size()];
        const u32 width = r.length >= 8 && random() % 2 ? 8 : 4;
        const u64 offset = r.offset + random() % (r.length / width) * width;
        // Small numbers are indices that exist; others are wild, or wild in their upper half only.
        const u64 values[] = {random() % 64, random(), random() % 64 << 32 | random() % 64,
                              random() % (2 * kCapacity), random() >> random() % 64};
        some.push_back({r.name, offset, width, values[random() % std::size(values)]});
    }
    return some;
}

void apply(int fd, const std::vector<Change>& changes) {
    for (const Change& c : changes)
        CHECK(pwrite(fd, &c.value, c.width, static_cast<off_t>(c.offset)) ==
              static_cast<ssize_t>(c.width));
}

// ---- use
// -------------------------------------------------------------------------------------------------

// Touches all of what a pool says is there: a wrong place is a fault.
void read_block(Member& m, Handle h) {
    BlockInfo info;
    if (inspect(m, handle_index(h), info) != Status::ok || info.length == 0) return;
    const volatile unsigned char* data = info.data;
    for (u64 at = 0; at < info.length; at += 4096)
        static_cast<void>(data[at]);
    static_cast<void>(data[info.length - 1]);
}
void write_block(const Allocated& a, u64 bytes) {
    std::memset(a.data, 0x5a, bytes);
}

struct Opened {
    Queue queue;
    Stream streams[3];
    Frames frames;
    Handle handles[5] = {};
    bool there[5] = {};
    Queue again;
    Handle again_handle = 0;
    campaign::Locks locks;
    bool locks_there[campaign::kLockCount] = {};
    Handle lock_handles[campaign::kLockCount] = {};
    List list;
    Dict dict;
    Handle list_handle = 0, dict_handle = 0;
};
constexpr NameKind kKinds[] = {NameKind::queue, NameKind::stream, NameKind::stream,
                               NameKind::stream, NameKind::frames};
constexpr const char* kNames[] = {"queue", "lossy", "lossless", "latest", "frames"};

void open_all(Member& m, Opened& o) {
    WaitPolicy wait(os::monotonic_ns() + 50'000'000);
    for (int i = 0; i < 5; ++i) {
        if (o.there[i]) continue;
        if (directory::find(m, kKinds[i], kNames[i], wait, o.handles[i]) != Status::ok) continue;
        const Status s = i == 0  ? Queue::open(m, o.handles[0], o.queue)
                         : i < 4 ? Stream::open(m, o.handles[i], o.streams[i - 1])
                                 : Frames::open(m, o.handles[4], o.frames);
        o.there[i] = s == Status::ok;
        if (!o.there[i]) drop(m, handle_index(o.handles[i]), wait);
    }
    auto find = [&](NameKind kind, const char* name, Handle& h, auto& out) {
        if (h != 0 || directory::find(m, kind, name, wait, h) != Status::ok) return false;
        if (std::remove_reference_t<decltype(out)>::open(m, h, out) == Status::ok) return true;
        drop(m, handle_index(h), wait);
        h = 0;
        return false;
    };
    find(NameKind::queue, "again", o.again_handle, o.again);
    find(NameKind::object, "list", o.list_handle, o.list);
    find(NameKind::object, "dict", o.dict_handle, o.dict);
    u32 i = 0;
    o.locks.open([&](const char* name, auto& lock) {
        o.locks_there[i] =
            find(NameKind::object, name, o.lock_handles[i], lock) || o.locks_there[i];
        ++i;
    });
}

void use_again(Member& m, Queue& q) {
    auto soon = [] { return os::monotonic_ns() + 2'000'000; };
    UnboundedWait wait;
    q.size();
    q.unfinished();
    q.full();
    for (int i = 0; i < 12; ++i) {
        WaitPolicy p(i % 4 ? 0 : soon()), r(soon()), d(soon());
        Message msg;
        if (i % 3 == 0) {
            msg = text("again");
            q.put(msg, p);
        } else if (q.get(msg, p) == Status::ok) {
            if (msg.block != 0) read_block(m, msg.block), drop(m, handle_index(msg.block), wait);
            if (i % 2)
                q.task_done(msg.position, r);
            else
                q.task_done(d);
        }
    }
    WaitPolicy j(soon());
    q.join(j);
}

// Not `use_locks`, which knows what must come out.
void use_locks_somehow(Opened& o) {
    auto soon = [] { return os::monotonic_ns() + 2'000'000; };
    campaign::Locks& l = o.locks;
    for (int round = 0; round < 2; ++round) {
        WaitPolicy p(round == 0 ? 0 : soon()), q(round == 0 ? 0 : soon()), r(soon()), s(soon()),
            t(soon());
        Owner who;
        if (o.locks_there[0] && good(l.mutex.acquire(p)))
            l.mutex.locked(), l.mutex.owner(who), round ? l.mutex.abandon() : l.mutex.release();
        Status again = Status::ok;
        if (o.locks_there[1] && good(l.rmutex.acquire(q))) {
            l.rmutex.acquire(q);
            if (o.locks_there[7]) {
                l.condition.waiting();
                l.condition.notify(l.rmutex, round ? 1000 : 2);
                l.condition.wait(l.rmutex, r, again);
            }
            if (good(again)) l.rmutex.release(), l.rmutex.release();
        }
        for (u32 i = 0; i < 3; ++i) {
            if (!o.locks_there[2 + i]) continue;
            WaitPolicy u(round == 0 ? 0 : soon()), v(round == 0 ? 0 : soon());
            RwLock& rw = l.rw[i];
            const Status in = rw.read(u);
            rw.readers();
            rw.owner(who);
            if (in == Status::owner_died) rw.downgrade();
            if (good(in)) rw.read_release();
            if (good(rw.write(v))) round ? rw.abandon() : rw.write_release();
        }
        u64 value = 0;
        if (o.locks_there[5]) {
            l.semaphore.value(value, s);
            if (l.semaphore.acquire(s) == Status::ok) l.semaphore.release(1, s);
            l.semaphore.release(3, s);
        }
        if (o.locks_there[6]) l.event.set(), l.event.wait(s), l.event.clear(), l.event.wait(s);
        if (o.locks_there[8]) {
            Barrier::Arrival mine;
            l.barrier.waiting();
            if (l.barrier.arrive(t, mine) == Status::ok)
                mine.trips ? l.barrier.trip(t, mine) : l.barrier.wait(t, mine);
            round ? l.barrier.reset(t) : l.barrier.abort(t);
        }
    }
}

void use_containers_somehow(Member& m, Opened& o, Handle item) {
    auto soon = [] { return os::monotonic_ns() + 2'000'000; };
    UnboundedWait wait;
    Handle out = 0;
    u64 n = 0;
    std::vector<Handle> all;
    auto release = [&](Status s) {
        if (s == Status::ok && out != 0) read_block(m, out);
        if (out != 0) drop(m, handle_index(out), wait);
        for (Handle each : all)
            read_block(m, each), drop(m, handle_index(each), wait);
        all.clear();
        out = 0;
    };
    if (o.list_handle != 0) {
        List& l = o.list;
        WaitPolicy p(soon());
        const u32 order[] = {2, 0, 1};
        l.size(p, n);
        if (item != 0) l.extend(&item, 1, p), l.set(3, item, p);
        release(l.get(5, p, out));
        release(l.get({0, 1 << 20, 2}, p, all));
        if (l.get(-1, p, out) == Status::ok) l.erase_if(-1, out, p), release(Status::ok);
        out = 0;
        l.erase_at(1, p);
        if (item != 0) l.assign({2, 4, 1}, &item, 1, p, n), l.assign({0, 99, 30}, &item, 1, p, n);
        l.erase({1, 6, 2}, p);
        l.reverse(p);
        l.repeat(2, p);
        if (l.get({0, 3, 1}, p, all) == Status::ok && all.size() == 3)
            l.erase({3, 1 << 20, 1}, p), l.reorder(all.data(), order, 3, p);
        release(Status::ok);
        l.pass(p);
        if (item != 0) l.extend(&item, 1, p);
        l.clear(p);
    }
    if (o.dict_handle != 0) {
        Dict& d = o.dict;
        WaitPolicy p(soon());
        DictItems items;
        d.size(p, n);
        for (u32 i = 0; i < 26; ++i) {
            const campaign::Numbered key(i, i % 4 == 0 ? 90 : 20);
            release(d.get(key.key(), p, out));
            if (item != 0 && i % 2) {
                if (d.set(key.key(), item, i % 3 == 0, p, out) != Status::exists) out = 0;
                release(Status::ok);
            }
            if (i % 7 == 0) d.erase(key.key(), p);
        }
        for (DictCursor at; !at.at_end && d.values(at, 5, p, all) == Status::ok;)
            release(Status::ok);
        release(Status::ok);
        d.items(true, true, p, items);
        all = items.values;
        release(Status::ok);
        items = {};
        if (d.last(p, items) == Status::ok && items.values.size() == 1)
            d.erase_if({reinterpret_cast<const unsigned char*>(items.keys.data()),
                        items.lengths[0] & ~kTwoForms, items.lengths[0] & ~kTwoForms},
                       items.values[0], true, p);
        all = items.values;
        release(Status::ok);
        d.pass(p);
        d.clear(p);
    }
    if (o.list_handle != 0) drop(m, handle_index(o.list_handle), wait);
    if (o.dict_handle != 0) drop(m, handle_index(o.dict_handle), wait);
    o.list_handle = o.dict_handle = 0;
}

void use(Member& m, Opened& o) {
    auto soon = [] { return os::monotonic_ns() + 2'000'000; };
    UnboundedWait wait;
    heap_stats(m);
    validate(m);
    collect_dead(m);
    open_all(m, o);
    std::vector<Allocated> mine;
    for (u64 bytes : {64, 100, 5000, 300, 90'000, 3'000'000, 64, 128}) {
        Allocated a;
        if (allocate(m, {.bytes = bytes, .zero = bytes == 300}, wait, a) != Status::ok) continue;
        write_block(a, bytes);
        mine.push_back(a);
    }
    if (o.there[0]) {
        o.queue.size();
        o.queue.unfinished();
        for (int i = 0; i < 140; ++i) {
            Message msg;
            WaitPolicy p(i % 16 ? 0 : soon());
            if (o.queue.get(msg, p) == Status::ok && msg.block != 0) {
                read_block(m, msg.block);
                drop(m, handle_index(msg.block), wait);
            }
            if (i % 2) continue;
            msg = text("again");
            if (!mine.empty() && i % 4) msg.block = handle_of(m, mine[0].index);
            WaitPolicy q(i % 16 ? 0 : soon());
            o.queue.put(msg, q);
        }
        Message many[100];
        u32 n = 0;
        WaitPolicy p(soon()), q(soon()), r(soon());
        o.queue.get_many(many, 100, n, p);
        for (u32 i = 0; i < n; ++i)
            if (many[i].block != 0) drop(m, handle_index(many[i].block), wait);
        for (auto& each : many)
            each = text();
        o.queue.put_many(many, 100, n, q);
        for (int k = 0; k < 3; ++k) {
            WaitPolicy done(soon());
            o.queue.task_done(done);
        }
        o.queue.join(r);
    }
    for (int k = 0; k < 3; ++k) {
        if (!o.there[k + 1]) continue;
        Stream& s = o.streams[k];
        s.subscribers();
        u32 me = 0;
        WaitPolicy p(soon());
        const bool in = s.subscribe(p, me) == Status::ok;
        for (int i = 0; i < 12; ++i) {
            Message msg = text();
            if (!mine.empty() && i % 2) msg.block = handle_of(m, mine.back().index);
            WaitPolicy q(i % 4 ? 0 : soon()), r(i % 4 ? 0 : soon());
            s.publish(msg, q);
            u64 missed = 0;
            if (in && i % 3 && s.read(me, msg, missed, r) == Status::ok && msg.block != 0) {
                read_block(m, msg.block);
                drop(m, handle_index(msg.block), wait);
            }
        }
        if (in) s.unsubscribe(me);
    }
    if (o.there[4]) {
        o.frames.available();
        for (int i = 0; i < 4; ++i) {
            Handle h = 0;
            WaitPolicy p(i % 2 ? 0 : soon());
            if (o.frames.acquire(p, h) != Status::ok) continue;
            read_block(m, h);
            if (i != 1) drop(m, handle_index(h), wait);
        }
    }
    if (o.again_handle != 0) use_again(m, o.again);
    use_locks_somehow(o);
    use_containers_somehow(m, o, mine.empty() ? 0 : handle_of(m, mine[0].index));
    std::vector<directory::Item> items;
    directory::list(m, wait, items);
    directory::count(m, NameKind::object);
    for (const auto& item : items) {
        Handle h = 0, found = 0;
        if (directory::find(m, item.kind, item.name, wait, h) != Status::ok) continue;
        read_block(m, h);
        directory::set(m, item.kind, item.name + "2", h, true, wait, found);
        directory::erase(m, item.kind, item.name, wait);
        drop(m, handle_index(h), wait);
    }
    for (const Allocated& a : mine)
        drop(m, a.index, wait);
    trim(m);
    for (u64 h :
         {u64{0}, u64{1}, ~u64{0}, u64{5} << 32 | 3, u64{1} << 32 | 0x7fffffff, u64{1} << 32 | 2}) {
        if (hold(m, h) == Status::ok) drop(m, handle_index(h), wait);
    }
    for (int i = 0; i < 5; ++i)
        if (o.there[i]) drop(m, handle_index(o.handles[i]), wait);
    for (Handle lock : o.lock_handles)
        if (lock != 0) drop(m, handle_index(lock), wait);
    if (o.again_handle != 0) drop(m, handle_index(o.again_handle), wait);
    validate(m);
}

// Once it was found corrupt, nothing goes any more.
bool is_refused(Member& m, Opened& o) {
    UnboundedWait wait;
    Allocated a;
    Handle h = 0;
    Message msg = text();
    WaitPolicy now(0);
    if (allocate(m, {.bytes = 100}, wait, a) != Status::corrupt) return false;
    if (directory::find(m, NameKind::object, "parent", wait, h) != Status::corrupt) return false;
    if (o.there[0] &&
        (o.queue.put(msg, now) != Status::corrupt || o.queue.get(msg, now) != Status::corrupt))
        return false;
    if (o.there[1] && o.streams[0].publish(msg, now) != Status::corrupt) return false;
    if (o.there[4] && o.frames.acquire(now, h) != Status::corrupt) return false;
    return m.check() != Status::ok;  // its version may be spoilt as well
}

int round_of(int file, const std::vector<Change>& changes, bool in_use) {
    const int fd = os::open_again(file);
    const off_t size = lseek(fd, 0, SEEK_END);
    if (!in_use) apply(fd, changes);
    auto* base =
        static_cast<unsigned char*>(os::map_shared(fd, static_cast<std::size_t>(size), true));
    auto m = std::make_unique<Member>(base, static_cast<std::size_t>(size), os::PoolFile(fd));
    if (m->check() != Status::ok) return kRefused;
    if (reserve_marked(*m) != 0 || m->join() != Status::ok) return kRefused;
    Opened o;
    if (in_use) {
        open_all(*m, o);
        Message msg;
        WaitPolicy now(0);
        UnboundedWait wait;
        if (o.queue.get(msg, now) == Status::ok && msg.block != 0)
            drop(*m, handle_index(msg.block), wait);
        apply(m->file.number(), changes);
    }
    use(*m, o);
    const bool corrupt = m->corrupt();
    if (corrupt && !is_refused(*m, o)) return kBroken;
    m.reset();
    return corrupt ? kFoundCorrupt : kSound;
}

// ---- the campaign
// -------------------------------------------------------------------------------------------------

class Campaign {
  public:
    explicit Campaign(unsigned seed)
        : random_(seed), file_(test::make_pool(kCapacity, kProcesses)) {
        auto m = test::join_pool(file_);
        regions_ = furnish(*m);
        const Geometry g = m->geo();
        const u64 heap_top = m->header().heap_top.load();
        m.reset();
        for (auto [from, to] : {std::pair{u64{0}, g.names_off + 64 * kKiB},
                                {g.blocks_off, g.blocks_off + 64 * kKiB},
                                {g.heap_off, g.heap_off + heap_top}}) {
            snapshot_.push_back({from, std::vector<unsigned char>(to - from)});
            CHECK(pread(file_, snapshot_.back().bytes.data(), to - from,
                        static_cast<off_t>(from)) == static_cast<ssize_t>(to - from));
        }
        all_ = directed(regions_, file_);
        std::shuffle(all_.begin(), all_.end(), random_);
    }

    int run(u64 rounds) {
        const u64 half = rounds == 0 ? all_.size() : std::min<u64>(rounds / 2, all_.size());
        const u64 wild = rounds == 0 ? all_.size() : rounds - half;
        for (u64 i = 0; i < half; ++i)
            one({all_[i]}, i % 2 != 0);
        for (u64 i = 0; i < wild; ++i)
            one(random_changes(regions_, random_), i % 2 != 0);
        std::printf(
            "hostile: %lu directed of %zu, %lu random; sound %lu, refused %lu, found corrupt %lu, "
            "FAILED %lu\n",
            half, all_.size(), wild, counts_[kSound], counts_[kRefused], counts_[kFoundCorrupt],
            failed_);
        return failed_ == 0 ? 0 : 1;
    }

  private:
    struct Part {
        u64 offset;
        std::vector<unsigned char> bytes;
    };

    void restore() {
        const Geometry g = geometry(kCapacity, kProcesses);
        CHECK(fallocate(file_, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 0,
                        static_cast<off_t>(g.file_size)) == 0);
        for (const Part& p : snapshot_)
            CHECK(pwrite(file_, p.bytes.data(), p.bytes.size(), static_cast<off_t>(p.offset)) ==
                  static_cast<ssize_t>(p.bytes.size()));
    }

    void one(const std::vector<Change>& changes, bool in_use) {
        restore();
        std::fflush(nullptr);
        const pid_t child = fork();
        if (child == 0) {
            alarm(kWatchdog);
            std::_Exit(round_of(file_, changes, in_use));
        }
        int status = 0;
        CHECK(waitpid(child, &status, 0) == child);
        if (WIFEXITED(status) && WEXITSTATUS(status) != kBroken &&
            (WEXITSTATUS(status) == 0 || WEXITSTATUS(status) >= kRefused)) {
            ++counts_[WEXITSTATUS(status)];
            return;
        }
        if (++failed_ > 40) return;
        const char* what = !WIFSIGNALED(status)          ? "a corrupt pool was not refused"
                           : WTERMSIG(status) == SIGALRM ? "hang"
                                                         : strsignal(WTERMSIG(status));
        std::fprintf(stderr, "%s, %s:", what, in_use ? "spoilt in use" : "spoilt before");
        for (const Change& c : changes)
            std::fprintf(stderr, " [%s +%#lx u%u := %#lx]", c.where, c.offset - start_of(c),
                         c.width * 8, c.value);
        std::fprintf(stderr, "\n");
    }
    u64 start_of(const Change& c) const {
        for (const Region& r : regions_)
            if (c.offset >= r.offset && c.offset < r.offset + r.length) return r.offset;
        return 0;
    }

    std::mt19937_64 random_;
    int file_;
    std::vector<Region> regions_;
    std::vector<Part> snapshot_;
    std::vector<Change> all_;
    std::map<int, u64> counts_;
    u64 failed_ = 0;
};

}  // namespace

int main(int argc, char** argv) {
    const u64 rounds = argc > 1 ? std::strtoull(argv[1], nullptr, 10) : 2000;
    const unsigned seed = argc > 2 ? static_cast<unsigned>(std::strtoul(argv[2], nullptr, 10)) : 1;
    std::printf("hostile: seed %u\n", seed);
    std::fflush(stdout);
    return Campaign(seed).run(rounds);
}
