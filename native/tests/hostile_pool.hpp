// A sound pool with some of everything in it, and the ways in which hostile_test.cpp spoils it.
#pragma once
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

namespace onecopy::hostile {

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

inline Allocated block_of(Member& m, u64 bytes, u8 flags = 0) {
    UnboundedWait wait;
    Allocated a;
    CHECK(allocate(m, {.bytes = bytes, .flags = flags, .zero = true}, wait, a) == Status::ok);
    return a;
}
inline void name_block(Member& m, NameKind kind, const char* name, Handle h) {
    UnboundedWait wait;
    Handle found = 0;
    CHECK(directory::set(m, kind, name, h, false, wait, found) == Status::ok);
}
inline Message text(const char* of = "hello") {
    Message msg;
    msg.length = static_cast<u32>(std::strlen(of));
    std::memcpy(msg.bytes, of, msg.length);
    return msg;
}

// Everything that can lie in a pool, with free lists that are not trivial. It answers where it
// lies: the regions worth spoiling.
inline std::vector<Region> furnish(Member& m) {
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

    constexpr std::string_view kSchema = R"({"record":"Frame","fields":[["id","int"]]})";
    CHECK(Queue::create(m, 10, 0, wait, h, kSchema) == Status::ok);
    Queue typed;
    CHECK(Queue::open(m, h, typed) == Status::ok);
    CHECK(typed.put(text(), wait) == Status::ok);
    name_block(m, NameKind::queue, "typed", h);
    body("typed queue body", h, 256 + 3 * 8 + kSchema.size());
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
    for (int i = 0; i < 4; ++i) {  // in use; they come back when this member leaves
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

inline std::vector<Change> directed(const std::vector<Region>& regions, int fd) {
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

inline std::vector<Change> random_changes(const std::vector<Region>& regions,
                                          std::mt19937_64& random) {
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
        // Small numbers are indices that exist. Others are wild, or wild in their upper half only.
        const u64 values[] = {random() % 64, random(), random() % 64 << 32 | random() % 64,
                              random() % (2 * kCapacity), random() >> random() % 64};
        some.push_back({r.name, offset, width, values[random() % std::size(values)]});
    }
    return some;
}

inline void apply(int fd, const std::vector<Change>& changes) {
    for (const Change& c : changes)
        CHECK(pwrite(fd, &c.value, c.width, static_cast<off_t>(c.offset)) ==
              static_cast<ssize_t>(c.width));
}

}  // namespace onecopy::hostile
