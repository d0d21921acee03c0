// The last one counts like the others: of the subscribers of a stream, of the members of a pool, of
// the frames, of the names, of the heap's extents. A loop that ends one too early shows here and
// hardly anywhere else.
#include <sys/stat.h>

#include <cstring>
#include <string>

#include "frames/frames.hpp"
#include "queue/queue.hpp"
#include "stream/stream.hpp"
#include "tests/campaign_locks.hpp"
#include "tests/check.hpp"

using namespace onecopy;

namespace {

Message number(u64 n) {
    Message msg;
    msg.length = sizeof n;
    std::memcpy(msg.bytes, &n, sizeof n);
    return msg;
}
u64 number_of(const Message& msg) {
    u64 n = 0;
    CHECK(msg.length == sizeof n);
    std::memcpy(&n, msg.bytes, sizeof n);
    return n;
}

template <class Thing, class... Arguments>
Thing made(Member& m, Handle& h, Arguments... arguments) {
    UnboundedWait wait;
    Thing out;
    CHECK(Thing::create(m, arguments..., wait, h) == Status::ok);
    CHECK(Thing::open(m, h, out) == Status::ok);
    return out;
}
template <class Thing>
Thing opened(Member& m, Handle h) {
    Thing out;
    CHECK(hold(m, h) == Status::ok && Thing::open(m, h, out) == Status::ok);
    return out;
}

// A member that is gone, as after a death: its descriptor is closed, and with it its lock. Its
// blocks stay until a process cleans up.
void die(std::unique_ptr<Member>& m) {
    m->unlock_slot(m->slot);
    m->joined = false;
}

// ---- streams
// -------------------------------------------------------------------------------------------------

// All subscribers but one have read everything. The publisher waits for that one, whichever it is.
void a_lossless_stream_waits_for_each_subscriber() {
    const int fd = test::make_pool(16 * kMiB, 8);
    auto m = test::join_pool(fd);
    UnboundedWait wait;
    WaitPolicy now(0);
    for (u32 slow = 0; slow < kSubscribers; ++slow) {
        Handle h = 0;
        Stream stream = made<Stream>(*m, h, 2u, StreamPolicy::lossless);
        for (u32 i = 0; i < kSubscribers; ++i) {
            u32 me = kSubscribers;
            CHECK(stream.subscribe(wait, me) == Status::ok && me == i);
        }
        u32 none = 0;
        CHECK(stream.subscribers() == kSubscribers);
        CHECK(stream.subscribe(wait, none) == Status::table_full);
        for (u64 i = 0; i < stream.depth(); ++i)
            CHECK(stream.publish(number(i), now) == Status::ok);
        for (u32 i = 0; i < kSubscribers; ++i) {
            for (u64 n = 0; n < stream.depth() && i != slow; ++n) {
                Message msg;
                u64 missed = 0;
                CHECK(stream.read(i, msg, missed, now) == Status::ok);
                CHECK(number_of(msg) == n && missed == 0);
            }
        }
        CHECK(stream.publish(number(2), now) == Status::would_block);
        Message msg;
        u64 missed = 0;
        CHECK(stream.read(slow, msg, missed, now) == Status::ok && number_of(msg) == 0);
        CHECK(stream.publish(number(2), now) == Status::ok);
        CHECK(stream.publish(number(3), now) == Status::would_block);
        for (u64 n = 1; n < 3; ++n)
            CHECK(stream.read(slow, msg, missed, now) == Status::ok && number_of(msg) == n);
        CHECK(missed == 0);
        drop(*m, handle_index(h), wait);
    }
}

// The same with one that is dead. The publisher does not wait for it, whichever it is, and its
// place is free.
void a_dead_subscriber_is_in_nobodys_way() {
    const int fd = test::make_pool(16 * kMiB, 8);
    auto m = test::join_pool(fd);
    UnboundedWait wait;
    WaitPolicy now(0);
    for (u32 dead : {0u, 1u, kSubscribers - 2, kSubscribers - 1}) {
        Handle h = 0;
        Stream stream = made<Stream>(*m, h, 2u, StreamPolicy::lossless);
        auto other = test::join_pool(fd);
        Stream theirs = opened<Stream>(*other, h);
        u32 me = 0;
        for (u32 i = 0; i < kSubscribers; ++i)
            CHECK((i == dead ? theirs : stream).subscribe(wait, me) == Status::ok && me == i);
        for (u64 n = 0; n < stream.depth(); ++n) {
            CHECK(stream.publish(number(n), now) == Status::ok);
            for (u32 i = 0; i < kSubscribers; ++i) {
                Message msg;
                u64 missed = 0;
                if (i != dead) CHECK(stream.read(i, msg, missed, now) == Status::ok);
            }
        }
        CHECK(stream.publish(number(2), now) == Status::would_block);
        die(other);
        CHECK(stream.publish(number(2), now) == Status::ok);
        CHECK(stream.subscribers() == kSubscribers - 1);
        CHECK(stream.subscribe(wait, me) == Status::ok && me == dead);
        drop(*m, handle_index(h), wait);
        other.reset();
        collect_dead(*m);
        test::expect_sound(*m, "a dead subscriber");
    }
}

// ---- members
// -------------------------------------------------------------------------------------------------

// As many members as a pool can have. What the last one has is respected: a hold, a reader's share,
// a token. When it dies, all of it is given back.
void the_last_member_counts() {
    const int fd = test::make_pool(16 * kMiB, kMaxProcesses);
    std::vector<std::unique_ptr<Member>> members;
    for (u32 i = 0; i < kMaxProcesses; ++i) {
        members.push_back(test::join_pool(fd));
        CHECK(members.back()->slot == i);
    }
    Member& first = *members.front();
    Member& last = *members.back();
    UnboundedWait wait;
    WaitPolicy now(0);
    Handle h[5] = {};
    RwLock rw = made<RwLock>(first, h[0], Prefer::writer);
    Semaphore tokens = made<Semaphore>(first, h[1], u64{1}, u32{0});
    Frames frames = made<Frames>(first, h[2], 1u, u64{100}, "", 0u);
    Barrier barrier = made<Barrier>(first, h[3], 3u);
    Allocated block;
    CHECK(allocate(first, {.bytes = 100}, wait, block) == Status::ok);
    h[4] = handle_of(first, block.index);

    RwLock their_rw = opened<RwLock>(last, h[0]);
    Semaphore their_tokens = opened<Semaphore>(last, h[1]);
    Frames their_frames = opened<Frames>(last, h[2]);
    Barrier their_barrier = opened<Barrier>(last, h[3]);
    Handle frame = 0;
    Barrier::Arrival arrival;
    CHECK(their_rw.read(wait) == Status::ok && their_tokens.acquire(wait) == Status::ok &&
          their_frames.acquire(wait, frame) == Status::ok &&
          their_barrier.arrive(wait, arrival) == Status::ok && hold(last, h[4]) == Status::ok);

    CHECK(rw.readers() == 1 && rw.write(now) == Status::would_block);
    CHECK(tokens.acquire(now) == Status::would_block);
    CHECK(frames.available() == 0 && frames.acquire(now, frame) == Status::would_block);
    CHECK(barrier.waiting() == 1);
    drop(first, block.index, wait);
    BlockInfo info;
    CHECK(hold(first, h[4]) == Status::ok && inspect(first, block.index, info) == Status::ok);
    drop(first, block.index, wait);

    die(members.back());
    CHECK(collect_dead(first) == 1);
    CHECK(hold(first, h[4]) == Status::stale);
    CHECK(rw.write(now) == Status::ok && rw.write_release() == Status::ok);
    CHECK(tokens.acquire(now) == Status::ok && tokens.release(1, wait) == Status::ok);
    CHECK(frames.acquire(now, frame) == Status::ok);
    drop(first, handle_index(frame), wait);
    CHECK(barrier.arrive(now, arrival) == Status::broken && barrier.reset(wait) == Status::ok);
    CHECK(barrier.waiting() == 0 && barrier.arrive(now, arrival) == Status::ok);
    CHECK(arrival.index == 0 && barrier.abort(wait) == Status::ok);
    for (int i = 0; i < 4; ++i)
        drop(first, handle_index(h[i]), wait);
    test::expect_sound(first, "the last member has died");
}

// ---- names and frames
// -------------------------------------------------------------------------------------------------

// The first, the second and the last entry of the directory; also after the directory was made
// again because the owner of its lock had died.
void each_name_survives_a_rebuild() {
    const int fd = test::make_pool(16 * kMiB, 8);
    auto m = test::join_pool(fd);
    UnboundedWait wait;
    constexpr u64 kNames = 300;  // more than are reserved at a time
    Allocated block;
    CHECK(allocate(*m, {.bytes = 100}, wait, block) == Status::ok);
    Handle found = 0;
    for (u64 i = 0; i < kNames; ++i)
        CHECK(directory::set(*m, NameKind::object, std::to_string(i), handle_of(*m, block.index),
                             true, wait, found) == Status::ok);
    {
        auto other = test::join_pool(fd);
        CHECK(lock(other->header().names_lock, *other, wait) == Status::ok);
        die(other);
    }
    for (u64 i = 0; i < kNames; ++i) {
        CHECK(directory::find(*m, NameKind::object, std::to_string(i), wait, found) == Status::ok);
        drop(*m, handle_index(found), wait);
        CHECK(directory::erase(*m, NameKind::object, std::to_string(i), wait) == Status::ok);
    }
    CHECK(directory::count(*m, NameKind::object) == 0);
    test::expect_sound(*m, "the directory was made again");
    drop(*m, block.index, wait);
}

void the_last_frame_is_one() {
    const int fd = test::make_pool(16 * kMiB, 8);
    auto m = test::join_pool(fd);
    UnboundedWait wait;
    WaitPolicy now(0);
    Handle h = 0, out[5] = {}, none = 0;
    Frames frames = made<Frames>(*m, h, 5u, u64{100}, "", 0u);
    for (Handle& frame : out)
        CHECK(frames.acquire(now, frame) == Status::ok);
    CHECK(frames.available() == 0 && frames.acquire(now, none) == Status::would_block);
    for (Handle& frame : out) {
        drop(*m, handle_index(frame), wait);
        CHECK(frames.available() == 1 && frames.acquire(wait, frame) == Status::ok);
    }
    for (Handle frame : out)
        drop(*m, handle_index(frame), wait);
    drop(*m, handle_index(h), wait);
    test::expect_sound(*m, "frames");
}

// ---- extents
// -------------------------------------------------------------------------------------------------

u64 on_disk(const Member& m) {
    struct stat s{};
    CHECK(fstat(test::descriptor(m), &s) == 0);
    return static_cast<u64>(s.st_blocks) * 512;
}

// The heap ends in the middle of an extent. That extent is reserved, marked and given back as the
// others are.
void the_last_extent_counts() {
    constexpr u64 kCapacity = 2 * kExtent + kExtent / 2;
    const int fd = test::make_pool(kCapacity, 8);
    auto m = test::join_pool(fd);
    UnboundedWait wait;
    Allocated block;
    CHECK(allocate(*m, {.bytes = kExtent + kExtent / 4}, wait, block) == Status::ok);
    test::expect_sound(*m, "a block that ends in the second extent");
    const u64 first = handle_of(*m, block.index);
    CHECK(allocate(*m, {.bytes = kExtent + kExtent / 4}, wait, block) == Status::ok);
    test::expect_sound(*m, "a block that ends with the heap");
    CHECK(heap_stats(*m).committed == kCapacity);
    const u64 all = on_disk(*m);
    // As in a copy of the file without its holes.
    CHECK(os::give_back(m->heap(), kCapacity) == 0 && on_disk(*m) == all - kCapacity);
    CHECK(reserve_marked(*m) == 0 && on_disk(*m) == all);
    drop(*m, block.index, wait);
    drop(*m, handle_index(first), wait);
    CHECK(trim(*m) >= kCapacity);
    CHECK(heap_stats(*m).committed == 0 && on_disk(*m) == all - kCapacity);
    note_reserved(*m);
    CHECK(heap_stats(*m).committed == kCapacity && reserve_marked(*m) == 0);
    CHECK(on_disk(*m) == all);
    test::expect_sound(*m, "all is marked");
}

// A process may die after it has reserved memory and before it marks it.
void trim_gives_back_what_is_not_marked() {
    constexpr u64 kCapacity = 4 * kExtent;
    const int fd = test::make_pool(kCapacity, 8);
    auto m = test::join_pool(fd);
    UnboundedWait wait;
    Allocated block;
    CHECK(allocate(*m, {.bytes = kCapacity}, wait, block) == Status::ok);
    drop(*m, block.index, wait);
    trim(*m);
    const u64 before = on_disk(*m);
    CHECK(m->file.reserve(m->geo().heap_off, kCapacity) == 0);
    CHECK(on_disk(*m) == before + kCapacity && heap_stats(*m).committed == 0);
    CHECK(trim(*m) == 0 && on_disk(*m) == before);  // it counts what was marked
    test::expect_sound(*m, "what was not marked");
}

// ---- references
// -------------------------------------------------------------------------------------------------

// A block that has as many references as it can have. An operation that refuses it leaves nothing
// behind: no lock, no entry of the directory.
void a_reference_that_is_refused_leaves_nothing_behind() {
    const int fd = test::make_pool(16 * kMiB, 8);
    auto m = test::join_pool(fd);
    UnboundedWait wait;
    WaitPolicy now(0);
    Handle h = 0, q = 0, found = 0;
    Stream stream = made<Stream>(*m, h, 2u, StreamPolicy::lossy);
    Queue queue = made<Queue>(*m, q, u64{4}, u32{0});
    Allocated block;
    CHECK(allocate(*m, {.bytes = 100}, wait, block) == Status::ok);
    shm_atomic<u64>& refs = m->block(block.index).refs;
    const u64 before = refs.load();
    refs.store(RefsWord::make(kMaxRefs, 0, 0).raw);
    Message msg = number(1);
    msg.block = handle_of(*m, block.index);
    for (int i = 0; i < 300; ++i)
        CHECK(directory::set(*m, NameKind::object, std::to_string(i), msg.block, true, wait,
                             found) == Status::table_full);
    CHECK(m->header().names_top.load() == 1);  // the same entry each time
    CHECK(stream.publish(msg, now) == Status::table_full);
    CHECK(stream.publish(number(1), now) == Status::ok && stream.published() == 1);
    CHECK(queue.put(msg, now) == Status::table_full);
    CHECK(queue.put(number(1), now) == Status::ok && queue.size() == 1);
    refs.store(before);
    CHECK(stream.publish(msg, now) == Status::ok && queue.put(msg, now) == Status::ok);
    test::expect_sound(*m, "references were refused");
    for (u32 index : {handle_index(h), handle_index(q), block.index})
        drop(*m, index, wait);
    CHECK(heap_stats(*m).used == 0 && heap_stats(*m).bodies == 0);
}

// The system refuses memory: here because the descriptor is for reading only. The block that should
// lie there is given back.
void a_reservation_that_fails_keeps_no_block() {
    const int fd = test::make_pool(16 * kMiB, 8);
    auto m = test::join_pool(fd);
    UnboundedWait wait;
    Allocated block;
    CHECK(allocate(*m, {.bytes = 1}, wait, block) == Status::ok);  // the table has memory
    drop(*m, block.index, wait);
    const int own = test::descriptor(*m), writable = dup(own);
    const std::string path = "/proc/self/fd/" + std::to_string(own);
    const int readable = ::open(path.c_str(), O_RDONLY | O_CLOEXEC);
    CHECK(writable >= 0 && readable >= 0 && dup2(readable, own) == own);
    CHECK(allocate(*m, {.bytes = 5 * kMiB}, wait, block) == Status::system_error);
    CHECK(dup2(writable, own) == own && close(writable) == 0 && close(readable) == 0);
    CHECK(heap_stats(*m).used == 0 && heap_stats(*m).blocks == 0);
    CHECK(allocate(*m, {.bytes = 16 * kMiB}, wait, block) == Status::ok);
    drop(*m, block.index, wait);
    test::expect_sound(*m, "a reservation has failed");
}

}  // namespace

int main() {
    a_reservation_that_fails_keeps_no_block();
    a_reference_that_is_refused_leaves_nothing_behind();
    a_lossless_stream_waits_for_each_subscriber();
    a_dead_subscriber_is_in_nobodys_way();
    the_last_member_counts();
    each_name_survives_a_rebuild();
    the_last_extent_counts();
    trim_gives_back_what_is_not_marked();
    the_last_frame_is_one();
    std::puts("edges: the last one counts like the others");
    return 0;
}
