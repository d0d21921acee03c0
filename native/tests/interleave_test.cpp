// Pauses a process (A) before and after each of its shared stores, lets another one (B) act from
// start to end meanwhile, or until it is seen to wait for A, and then lets A go on. Shows the races
// that deaths do not: a look that comes too early, a second look that is missing, a wake that is
// lost.
//
//   interleave_test                a slice; seed=7 is another one
//   interleave_test brief          the first and the last store, and one or two in between
//   interleave_test full           every crash point
//   interleave_test only=hold      pairs whose name contains the text
#include <poll.h>
#include <sys/prctl.h>

#include <ctime>
#include <thread>

#include "tests/crash_containers.hpp"
#include "tests/crash_files.hpp"
#include "tests/crash_locks.hpp"
#include "tests/crash_operations.hpp"

#if defined(ONECOPY_FAULTS) && ONECOPY_FAULTS

extern "C" const char __executable_start;  // where the program was loaded; from the linker

using namespace onecopy;
using namespace onecopy::campaign;

namespace {

constexpr u64 kNever = 1'000'000;
constexpr std::int64_t kWaits = 20'000'000;     // ns without an end: B waits for A
constexpr std::int64_t kWakes = 2'000'000'000;  // ns in which it has to notice that A has gone on
constexpr std::int64_t kLongNap = 10'000'000'000;  // longer than that: only a wake helps
constexpr unsigned kHang = 30;

char what[160];

// What the two tell each other and the campaign. In shared memory, outside of the pool.
struct Stage {
    std::atomic<u32> a_ready, b_ready, a_go, b_go, a_done, b_done, a_after, b_after;
    std::atomic<u64> handle[4];         // what one of them made, for the other
    std::atomic<u64> mine[2];           // index of the frame each got
    std::atomic<u32> readers, writers;  // inside of a lock
    std::atomic<u32> said[2];           // a Status: what the operation on a file answered
    std::atomic<u64> pool[3];           // the id of the pool that one is in; 0: none
};
Stage& stage() {
    static Stage* const it = static_cast<Stage*>(
        mmap(nullptr, sizeof(Stage), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0));
    return *it;
}
bool comes(const std::atomic<u32>& flag, std::int64_t within) {
    const std::int64_t end = os::monotonic_ns() + within;
    while (flag.load() == 0) {
        if (os::monotonic_ns() > end) return false;
        const timespec nap{0, 50'000};
        nanosleep(&nap, nullptr);
    }
    return true;
}
void await(const std::atomic<u32>& flag) {
    CHECK(comes(flag, std::int64_t{kHang} * 1'000'000'000));
}

struct Pair {
    const char* name;
    void (*prepare)(Hand& survivor);
    void (*ready_a)(Hand&);
    void (*a)(Hand&);
    void (*ready_b)(Hand&);
    void (*b)(Hand&);
    bool dead = false;  // somebody died before with a lock: no wake comes from there
};

// ---- blocks that somebody holds: nobody else's bytes may appear in them
// ----------------------------------------------------------------

constexpr u64 kMark = 0x1122334455667788;
constexpr u64 kSize = 2000;

void keep(Hand& h, Handle block) {
    for (Handle& place : h.held) {
        if (place == 0) {
            place = block;
            return;
        }
    }
    CHECK(!"too many");
}
// Overwrites whatever memory the allocator gives out.
void scribble(Hand& h) {
    u32 blocks[6];
    const u64 sizes[6] = {kSize, kSize, 3000, 700, 300, kFrameBytes};
    for (int i = 0; i < 6; ++i) {
        blocks[i] = allocate_block(h, sizes[i]);
        std::memset(data_of(h, handle_of(h.m, blocks[i])), 0xee, sizes[i]);
    }
    for (u32 block : blocks)
        release_hold(h, block);
}
void verify_and_drop(Hand& h) {
    for (Handle& block : h.held) {
        if (block == 0) continue;
        const BlockWord word{h.m.block(handle_index(block)).word.load()};
        CHECK(word.gen() == handle_gen(block) &&
              (word.state() == BlockState::live || word.state() == BlockState::tentative));
        CHECK(*reinterpret_cast<u64*>(data_of(h, block)) == kMark);
        release_hold(h, handle_index(block));
        block = 0;
    }
}
Handle marked_block(Hand& h) {
    const Handle block = handle_of(h.m, allocate_block(h, kSize));
    *reinterpret_cast<u64*>(data_of(h, block)) = kMark;
    return block;
}

void offers(Hand& h) {  // makes a block that only it holds, and tells the other
    stage().handle[0] = marked_block(h);
}
void drops_offered(Hand& h) {
    release_hold(h, handle_index(stage().handle[0]));
}
void drops_and_recycles(Hand& h) {
    drops_offered(h);
    const Handle again = marked_block(h);
    release_hold(h, handle_index(again));
}
void offers_what_is_recycled(Hand& h) {
    offers(h);
    drops_offered(h);
    stage().handle[1] = marked_block(h);
    CHECK(handle_index(stage().handle[1]) == handle_index(stage().handle[0]));
}
void drops_new_life(Hand& h) {
    release_hold(h, handle_index(stage().handle[1]));
}
void holds_offered(Hand& h) {
    const Status s = hold(h.m, stage().handle[0]);
    CHECK(s == Status::ok || s == Status::stale);
    if (s == Status::ok) keep(h, stage().handle[0]);
}
void both_hold(Hand& h) {
    CHECK(hold(h.m, stage().handle[0]) == Status::ok);
}
void survivor_offers(Hand& h) {  // an extra block, held by the survivor too
    stage().handle[0] = ledger().extra = marked_block(h);
}

// ---- queue
// -------------------------------------------------------------------------------------------------

void sends_and_keeps(Hand& h) {
    const Handle block = marked_block(h);
    Message msg;
    msg.length = 8;
    std::memcpy(msg.bytes, &kMark, 8);
    msg.block = block;
    Queue& q = h.queues[1];
    CHECK(q.put(msg, h.wait) == Status::ok);
    stage().handle[0] = block;
}
void takes_and_keeps(Hand& h) {
    Message msg;
    CHECK(h.queues[1].get(msg, h.wait) == Status::ok);
    keep(h, msg.block);
}
void puts_block(Hand& h) {
    put(h, Kind::block);
}
void gets(Hand& h) {
    Message msg;
    CHECK(h.queues[0].get(msg, h.wait) == Status::ok);
    number_of(h, msg);
    done_with(h, msg);
}
void puts_narrow(Hand& h) {
    put(h, Kind::block, 1);
}
void gets_narrow(Hand& h) {
    get(h, 1);
}
// Two producers: the numbers are theirs, so only the consumer side is looked at.
void puts_number_under_lock(Hand& h) {
    Message msg = item(h, kMark, Kind::block);
    CHECK(h.queues[0].put(msg, h.wait) == Status::ok);
    done_with(h, msg);
}
void takes_both(Hand& h) {
    for (int i = 0; i < 2; ++i) {
        Message msg;
        CHECK(h.queues[0].get(msg, h.wait) == Status::ok && number_of(h, msg) == kMark);
        done_with(h, msg);
    }
}

// ---- frames
// -------------------------------------------------------------------------------------------------

template <int who>
void acquires(Hand& h) {
    Handle frame;
    CHECK(h.frames.acquire(h.wait, frame) == Status::ok);
    *reinterpret_cast<u64*>(data_of(h, frame)) = kMark;
    keep(h, frame);
    stage().mine[who] = handle_index(frame);
    const u64 other = stage().mine[1 - who];
    CHECK(other != handle_index(frame));  // a frame has one user
}
void all_out(Hand& h) {
    for (u32 i = 0; i < kFrames; ++i) {
        Handle frame;
        CHECK(h.frames.acquire(h.wait, frame) == Status::ok);
        *reinterpret_cast<u64*>(data_of(h, frame)) = kMark;
        keep(h, frame);
    }
}
void returns_one(Hand& h) {
    const Handle frame = h.held[1];
    h.held[1] = 0;
    release_hold(h, handle_index(frame));
}
void returns_last(Hand& h) {
    const Handle frame = h.held[kFrames - 1];
    h.held[kFrames - 1] = 0;
    release_hold(h, handle_index(frame));
}
void knows_a_frame(Hand& h) {
    Handle frame;
    CHECK(h.frames.acquire(h.wait, frame) == Status::ok);
    stage().handle[0] = frame;
    *reinterpret_cast<u64*>(data_of(h, frame)) = kMark;
    release_hold(h, handle_index(frame));
}
void holds_frame(Hand& h) {
    const Status s = hold(h.m, stage().handle[0]);
    CHECK(s == Status::ok || s == Status::stale);
    if (s != Status::ok) return;
    keep(h, stage().handle[0]);
    stage().mine[1] = handle_index(stage().handle[0]);
    CHECK(stage().mine[0] != stage().mine[1]);
}

// ---- stream
// -------------------------------------------------------------------------------------------------

template <int which>
void three_published(Hand& h) {
    for (u32 i = 0; i < kDepth + 1; ++i)
        publish(h, which, Kind::block);
}
template <int which>
void reads(Hand& h) {
    read_all(h, which);
}
template <int which>
void waits_for_one(Hand& h) {
    Message msg;
    u64 missed = 0;
    CHECK(h.streams[which].read(h.reader[which], msg, missed, h.wait) == Status::ok);
    number_of(h, msg);
    done_with(h, msg);
}
template <int which>
void follows(Hand& h) {
    subscribe<which>(h);
    publish(h, which, Kind::block);
}
template <int which>
void publishes(Hand& h) {
    publish(h, which, Kind::block);
}
template <int which>
void publishes_round(Hand& h) {
    for (u32 i = 0; i < kDepth + 1; ++i)
        publish(h, which, Kind::block);
}
void unfollows(Hand& h) {
    unsubscribe<1>(h);
}

// ---- names
// -------------------------------------------------------------------------------------------------

void named_block(Hand& h, const char* name) {
    const Handle block = marked_block(h);
    Handle found;
    CHECK(directory::set(h.m, NameKind::object, name, block, false, h.wait, found) == Status::ok);
    release_hold(h, handle_index(block));
}
void sets(Hand& h) {
    named_block(h, "x");
}
void finds(Hand& h) {
    Handle found = 0;
    const Status s = directory::find(h.m, NameKind::object, "x", h.wait, found);
    CHECK(s == Status::ok || s == Status::no_entry);
    if (s == Status::ok) keep(h, found);
}
void erases(Hand& h) {
    erase_name(h, "x");
}
template <char name>
void names_offered(Hand& h) {
    const char text[2] = {name, 0};
    Handle found;
    CHECK(hold(h.m, stage().handle[0]) == Status::ok);
    CHECK(directory::set(h.m, NameKind::object, text, stage().handle[0], false, h.wait, found) ==
          Status::ok);
    release_hold(h, handle_index(stage().handle[0]));
}
template <char name>
void unnames(Hand& h) {
    const char text[2] = {name, 0};
    erase_name(h, text);
}
void offered_under_two_names(Hand& h) {
    survivor_offers(h);
    names_offered<'x'>(h);
    names_offered<'y'>(h);
    release_hold(h, handle_index(ledger().extra));  // the names have it
    ledger().extra = 0;
}
void names_frames(Hand& h) {
    Handle own;
    CHECK(Frames::create(h.m, 2, 3000, "abc", 3, h.wait, own) == Status::ok);
    name_as(h, NameKind::frames, "x", own);
}
// Whoever finds them can use them, whatever becomes of the name.
void finds_frames(Hand& h) {
    Handle found = 0, frame = 0;
    const Status s = directory::find(h.m, NameKind::frames, "x", h.wait, found);
    CHECK(s == Status::ok || s == Status::no_entry);
    if (s != Status::ok) return;
    Frames frames;
    CHECK(Frames::open(h.m, found, frames) == Status::ok &&
          frames.acquire(h.wait, frame) == Status::ok);
    release_hold(h, handle_index(found));
    std::memset(data_of(h, frame), 0x5a, 3000);
    release_hold(h, handle_index(frame));
}
void erases_unused(Hand& h) {
    u32 erased;
    CHECK(directory::erase_unused(h.m, NameKind::frames, {}, h.wait, erased) == Status::ok);
}
void erases_all_kinds(Hand& h) {
    directory::KindSet erased;
    const Status s = directory::erase(h.m, ~directory::KindSet{0}, "x", h.wait, erased);
    CHECK((s == Status::ok) == (erased != 0) && (s == Status::ok || s == Status::no_entry));
}
// Containers without a lock in common: the count is the only place where they meet.
template <int cell>
void refers(Hand& h) {
    Allocated box;
    CHECK(allocate(h.m, {.bytes = 64, .zero = true}, h.wait, box) == Status::ok);
    declare_cells(h.m, box.index, 0, 8, 1);
    auto& place = *reinterpret_cast<shm_atomic<u64>*>(box.data);
    CHECK(hold(h.m, stage().handle[0]) == Status::ok);
    for (int i = 0; i < 2; ++i) {
        CHECK(swap_cell(h.m, place, 0, stage().handle[0]) == Status::ok);
        CHECK(swap_cell(h.m, place, stage().handle[0], 0) == Status::ok);
    }
    CHECK(swap_cell(h.m, place, 0, stage().handle[0]) == Status::ok);
    release_hold(h, handle_index(stage().handle[0]));
    release_hold(h, box.index);  // takes the reference with it
}

// ---- heap and members
// -------------------------------------------------------------------------------------------------

void allocates(Hand& h) {
    keep(h, marked_block(h));
}
void frees(Hand& h) {
    release_hold(h, handle_index(h.held[1])), h.held[1] = 0;
}
void some_blocks(Hand& h) {
    for (int i = 0; i < 3; ++i)
        keep(h, marked_block(h));
}
void collects(Hand& h) {
    collect_dead(h.m);
}
// Nothing of the dead is to be freed, so who sweeps does not wait for the heap's lock.
void dead_with_nothing(Hand& h) {
    victim(h.m.file.number(), 0, nothing);
}
// Somebody died inside a put (a get), with its reference counted (its hold taken) and nothing
// committed: the lock is its, and so is the open intent.
void died_in_put(Hand& h) {
    few_items(h);
    static Message msg;
    victim(
        h.m.file.number(), 13, [](Hand& v) { CHECK(v.queues[0].put(msg, v.wait) == Status::ok); },
        [](Hand& v) { msg = item(v, kMark, Kind::block); });
    CHECK(h.queues[0].size() == 4);
    CHECK(h.m.row(1).intent.load() == static_cast<u32>(IntentKind::put));
}
void died_in_get(Hand& h) {
    put(h, Kind::block);
    put(h, Kind::block);
    victim(h.m.file.number(), 9 + 1, [](Hand& v) { get(v); });
    CHECK(h.queues[0].size() == 2);
    CHECK(h.m.row(1).intent.load() == static_cast<u32>(IntentKind::take));
}
void joins(Hand& h) {
    auto m = test::join_pool(h.m.file.number());
    Hand other(*m);
    const Handle block = marked_block(other);
    CHECK(*reinterpret_cast<u64*>(data_of(other, block)) == kMark);
    release_hold(other, handle_index(block));
}
void leaves(Hand& h) {
    std::memset(h.held, 0, sizeof h.held);
    h.m.leave();
}
void forks(Hand& h) {
    int ends[2];
    CHECK(pipe(ends) == 0);
    const pid_t child = fork();
    CHECK(child >= 0);
    if (child == 0) {
        // What the parent held is held by the child too, and intact after the parent has let go.
        char go = 0;
        CHECK(read(ends[0], &go, 1) == 1);
        scribble(h);
        verify_and_drop(h);
        h.m.leave();
        _exit(0);
    }
    verify_and_drop(h);
    scribble(h);
    CHECK(write(ends[1], "", 1) == 1);
    int status = 0;
    CHECK(waitpid(child, &status, 0) == child && WIFEXITED(status) && WEXITSTATUS(status) == 0);
    close(ends[0]);
    close(ends[1]);
}
// With the survivor and the two players the table is full.
void five_dead(Hand& h) {
    for (int i = 0; i < 5; ++i)
        victim(h.m.file.number(), 0, [](Hand& v) { allocate_block(v, kSize); });
}
void ready_to_fork(Hand& h) {
    some_blocks(h);
    register_member(h.m);
}

// ---- locks: two who must not be inside together
// ----------------------------------------------------------------

void write_inside() {
    Stage& s = stage();
    CHECK(s.writers.fetch_add(1) == 0 && s.readers.load() == 0);
    crash_point();  // a pause in there
    CHECK(s.writers.load() == 1 && s.readers.load() == 0);
    s.writers.fetch_sub(1);
}
void read_inside() {
    Stage& s = stage();
    s.readers.fetch_add(1);
    CHECK(s.writers.load() == 0);
    crash_point();
    CHECK(s.writers.load() == 0);
    s.readers.fetch_sub(1);
}
template <int which>
void reads_locked(Hand& h) {
    CHECK(h.locks.rw[which].read(h.wait) == Status::ok);
    read_inside();
    CHECK(h.locks.rw[which].read_release() == Status::ok);
}
template <int which>
void writes_locked(Hand& h) {
    CHECK(h.locks.rw[which].write(h.wait) == Status::ok);
    write_inside();
    CHECK(h.locks.rw[which].write_release() == Status::ok);
}
template <int which>
void writes_and_downgrades(Hand& h) {  // from its first look on it is inside
    CHECK(h.locks.rw[which].write(h.wait) == Status::ok);
    stage().readers.fetch_add(1);
    h.locks.rw[which].downgrade();
    CHECK(stage().writers.load() == 0);
    stage().readers.fetch_sub(1);
    CHECK(h.locks.rw[which].read_release() == Status::ok);
}
template <int which>
void abandons(Hand& h) {
    CHECK(h.locks.rw[which].abandon() == Status::ok);
}
template <int which>
void reads_after_abandon(Hand& h) {
    CHECK(h.locks.rw[which].read(h.wait) == Status::owner_died);
    h.locks.rw[which].downgrade();
    CHECK(h.locks.rw[which].read_release() == Status::ok);
}
void locks(Hand& h) {
    CHECK(h.locks.mutex.acquire(h.wait) == Status::ok);
    write_inside();
    CHECK(h.locks.mutex.release() == Status::ok);
}
void locks_twice(Hand& h) {
    for (int i = 0; i < 2; ++i)
        CHECK(h.locks.rmutex.acquire(h.wait) == Status::ok);
    write_inside();
    for (int i = 0; i < 2; ++i)
        CHECK(h.locks.rmutex.release() == Status::ok);
}
void takes_a_token(Hand& h) {
    CHECK(h.locks.semaphore.acquire(h.wait) == Status::ok);
    crash_point();
    CHECK(h.locks.semaphore.release(1, h.wait) == Status::ok);
}
void takes_a_token_if_there(Hand& h) {  // one is always there
    WaitPolicy now(0);
    CHECK(h.locks.semaphore.acquire(now) == Status::ok);
    CHECK(h.locks.semaphore.release(1, h.wait) == Status::ok);
}
void waits_to_be_notified(Hand& h) {
    CHECK(h.locks.rmutex.acquire(h.wait) == Status::ok);
    Status again;
    CHECK(h.locks.condition.wait(h.locks.rmutex, h.wait, again) == Status::ok &&
          again == Status::ok);
    CHECK(h.locks.rmutex.release() == Status::ok);
}
// Until both wait for the condition.
void await_two(Hand& h) {
    while (h.locks.condition.waiting() < 2) {
        const timespec nap{0, 50'000};
        nanosleep(&nap, nullptr);
    }
}
void notifies(Hand& h) {
    for (bool done = false; !done;) {
        CHECK(h.locks.rmutex.acquire(h.wait) == Status::ok);
        done = h.locks.condition.waiting() != 0;
        CHECK(h.locks.condition.notify(h.locks.rmutex, 1) == Status::ok);
        CHECK(h.locks.rmutex.release() == Status::ok);
        const timespec nap{0, 50'000};
        if (!done) nanosleep(&nap, nullptr);
    }
}
// The dead one has waited longer, and nobody knows that it is dead: one notification is for the
// living.
void notifies_beside_a_dead_one(Hand& h) {
    await_two(h);
    CHECK(h.locks.rmutex.acquire(h.wait) == Status::ok);
    CHECK(h.locks.condition.notify(h.locks.rmutex, 1) == Status::ok);
    CHECK(h.locks.rmutex.release() == Status::ok);
}
void waits_for_event(Hand& h) {
    CHECK(h.locks.event.wait(h.wait) == Status::ok);
}
void sets_and_clears_event(Hand& h) {  // as often as it takes for the other one to have begun
    while (stage().a_done.load() == 0) {
        CHECK(h.locks.event.set() == Status::ok && h.locks.event.clear() == Status::ok);
        const timespec nap{0, 50'000};
        nanosleep(&nap, nullptr);
    }
}
void sets_event(Hand& h) {
    CHECK(h.locks.event.set() == Status::ok);
}
void passes_barrier(Hand& h) {
    Barrier::Arrival mine;
    CHECK(h.locks.barrier.arrive(h.wait, mine) == Status::ok);
    CHECK((mine.trips ? h.locks.barrier.trip(h.wait, mine) : h.locks.barrier.wait(h.wait, mine)) ==
          Status::ok);
}

// ---- the end of what somebody waits for
// ------------------------------------------------------------------------

Stream the_extra_stream(Hand& h) {
    Stream s;
    CHECK(Stream::open(h.m, ledger().extra, s) == Status::ok);
    return s;
}
void full_extra_stream(Hand& h) {  // the survivor subscribes, and does not read
    CHECK(Stream::create(h.m, 1, StreamPolicy::lossless, h.wait, ledger().extra) == Status::ok);
    Stream s = the_extra_stream(h);
    u32 slow = 0;
    CHECK(s.subscribe(h.wait, slow) == Status::ok);
    CHECK(s.publish(item(h, 0, Kind::text), h.wait) == Status::ok);
}
void follows_extra(Hand& h) {
    CHECK(the_extra_stream(h).subscribe(h.wait, h.reader[0]) == Status::ok);
}
void reads_to_the_end(Hand& h) {
    Message msg;
    u64 missed = 0;
    CHECK(the_extra_stream(h).read(h.reader[0], msg, missed, h.wait) == Status::shut_down);
}
void publishes_to_the_end(Hand& h) {
    CHECK(the_extra_stream(h).publish(item(h, 1, Kind::text), h.wait) == Status::shut_down);
}
void closes_stream(Hand& h) {
    CHECK(the_extra_stream(h).close(h.wait) == Status::ok);
}
template <u64 size, u64 items>
void extra_queue_of(Hand& h) {
    CHECK(Queue::create(h.m, size, 0, h.wait, ledger().extra) == Status::ok);
    for (u64 i = 0; i < items; ++i)
        CHECK(the_extra_queue(h).put(item(h, i, Kind::text), h.wait) == Status::ok);
}
void gets_to_the_end(Hand& h) {
    Message msg;
    CHECK(the_extra_queue(h).get(msg, h.wait) == Status::shut_down);
}
void puts_to_the_end(Hand& h) {
    CHECK(the_extra_queue(h).put(item(h, 9, Kind::text), h.wait) == Status::shut_down);
}
// A queue that redelivers, whose only message somebody took and died with; nobody has noticed yet.
void taken_by_a_dead_one(Hand& h) {
    CHECK(Queue::create(h.m, 2, kQueueRedelivers, h.wait, ledger().extra) == Status::ok);
    CHECK(the_extra_queue(h).put(item(h, 0, Kind::text), h.wait) == Status::ok);
    victim(h.m.file.number(), 0, [](Hand& v) {
        Message msg;
        CHECK(hold(v.m, ledger().extra) == Status::ok);
        CHECK(the_extra_queue(v).get(msg, v.wait) == Status::ok);
    });
}
void gets_what_came_back(Hand& h) {
    Queue q = the_extra_queue(h);
    Message msg;
    CHECK(q.get(msg, h.wait) == Status::ok && msg.redeliveries == 1);
    CHECK(q.task_done(msg.position, h.wait) == Status::ok);
}
void notices(Hand& h) {
    collect_dead(h.m);
    the_extra_queue(h).size();
}
template <bool immediate>
void shuts_down(Hand& h) {
    CHECK(the_extra_queue(h).shut_down(immediate, h.wait) == Status::ok);
}
void joins_queue(Hand& h) {
    CHECK(the_extra_queue(h).join(h.wait) == Status::ok);
}
void finishes(Hand& h) {
    Message msg;
    CHECK(the_extra_queue(h).get(msg, h.wait) == Status::ok);
    CHECK(the_extra_queue(h).task_done(h.wait) == Status::ok);
}

// Two threads of one process wait: one of them is not enough to wake.
template <class Wait>
void twice(Wait wait) {
    std::thread other(wait);
    wait();
    other.join();
}
void takes_all_tokens(Hand& h) {
    for (u32 i = 0; i < kTokens; ++i)
        CHECK(h.locks.semaphore.acquire(h.wait) == Status::ok);
}
void releases_all_tokens(Hand& h) {
    CHECK(h.locks.semaphore.release(kTokens, h.wait) == Status::ok);
}
void two_wait_for_tokens(Hand& h) {
    twice([&h] {
        UnboundedWait wait;
        CHECK(h.locks.semaphore.acquire(wait) == Status::ok);
    });
    CHECK(h.locks.semaphore.release(2, h.wait) == Status::ok);
}
void two_wait_to_be_notified(Hand& h) {
    twice([&h] { waits_to_be_notified(h); });
}
void notifies_all(Hand& h) {  // once, when both wait
    await_two(h);
    CHECK(h.locks.rmutex.acquire(h.wait) == Status::ok);
    CHECK(h.locks.condition.notify(h.locks.rmutex, 1'000'000) == Status::ok);
    CHECK(h.locks.rmutex.release() == Status::ok);
}
void notifies_each(Hand& h) {  // two that wait: the longer one first
    await_two(h);
    for (int i = 0; i < 2; ++i) {
        CHECK(h.locks.rmutex.acquire(h.wait) == Status::ok);
        CHECK(h.locks.condition.notify(h.locks.rmutex, 1) == Status::ok);
        CHECK(h.locks.rmutex.release() == Status::ok);
    }
}
void waits_at_broken_barrier(Hand& h) {
    Barrier::Arrival mine;
    CHECK(h.locks.barrier.arrive(h.wait, mine) == Status::ok);
    CHECK(h.locks.barrier.wait(h.wait, mine) == Status::broken);
}
template <bool reset>
void breaks_barrier(Hand& h) {
    while (h.locks.barrier.waiting() == 0) {
        const timespec nap{0, 50'000};
        nanosleep(&nap, nullptr);
    }
    CHECK((reset ? h.locks.barrier.reset(h.wait) : h.locks.barrier.abort(h.wait)) == Status::ok);
}

// ---- containers ---------------------------------------------------------------------------------

void appends(Hand& h) {
    List list = the_list(h);
    const Handle item = numbered(h.m, 900, h.wait);
    CHECK(when_free(list, h.wait, [&] { return list.extend(&item, 1, h.wait); }) == Status::ok);
    release_hold(h, handle_index(item));
}
void pops(Hand& h) {
    List list = the_list(h);
    for (bool done = false; !done;) {
        Handle out = 0;
        CHECK(when_free(list, h.wait, [&] { return list.get(-1, h.wait, out); }) == Status::ok);
        CHECK(number_in(h.m, out) != 0);
        const Status s = when_free(list, h.wait, [&] { return list.erase_if(-1, out, h.wait); });
        CHECK(s == Status::ok || s == Status::stale);
        done = s == Status::ok;
        release_hold(h, handle_index(out));
    }
}
void reads_list(Hand& h) {
    List list = the_list(h);
    for (int i = 0; i < 2; ++i) {
        std::vector<Handle> all;
        CHECK(when_free(list, h.wait, [&] { return list.get({0, INT64_MAX, 1}, h.wait, all); }) ==
              Status::ok);
        for (u64 at = 0; at < std::min<u64>(all.size(), 4); ++at)
            CHECK(number_in(h.m, all[at]) == at + 1);
        let_all_go(h.m, all, h.wait);
    }
}
void clears_list(Hand& h) {
    List list = the_list(h);
    CHECK(when_free(list, h.wait, [&] { return list.clear(h.wait); }) == Status::ok);
}
// Nobody gets in between: what it adds is still the last when it looks again.
void updates_locked(Hand& h) {
    List list = the_list(h);
    CHECK(list.mutex().acquire(h.wait) == Status::ok && list.pass(h.wait) == Status::ok);
    for (u64 number = 700; number < 703; ++number) {
        u64 before = 0, after = 0;
        CHECK(list.size(h.wait, before) == Status::ok);
        const Handle item = numbered(h.m, number, h.wait);
        CHECK(list.extend(&item, 1, h.wait) == Status::ok);
        Handle last = 0;
        CHECK(list.get(-1, h.wait, last) == Status::ok && last == item);
        CHECK(list.size(h.wait, after) == Status::ok && after == before + 1);
        release_hold(h, handle_index(last));
        release_hold(h, handle_index(item));
    }
    CHECK(list.mutex().release() == Status::ok);
}
template <u32 number>
void sets_key(Hand& h) {
    Dict dict = the_dict(h);
    const Numbered key(number, 90);
    const Handle item = numbered(h.m, number, h.wait);
    Handle found = 0;
    CHECK(when_free(dict, h.wait,
                    [&] { return dict.set(key.key(), item, false, h.wait, found); }) == Status::ok);
    release_hold(h, handle_index(item));
}
void clears_dict(Hand& h) {
    Dict dict = the_dict(h);
    CHECK(when_free(dict, h.wait, [&] { return dict.clear(h.wait); }) == Status::ok);
}
void reads_dict(Hand& h) {
    Dict dict = the_dict(h);
    DictItems all;
    CHECK(when_free(dict, h.wait, [&] { return dict.items(true, true, h.wait, all); }) ==
          Status::ok);
    CHECK(all.values.empty() || all.values.size() == 5);
    let_all_go(h.m, all.values, h.wait);
}

void one_left(Hand& h) {
    extra_queue(h);
    Queue q = the_extra_queue(h);
    Message msg;
    for (int i = 0; i < 2; ++i) {
        CHECK(q.get(msg, h.wait) == Status::ok);
        done_with(h, msg);
    }
}
void shuts_down(Hand& h) {
    CHECK(the_extra_queue(h).shut_down(false, h.wait) == Status::ok);
}
void gets_the_last(Hand& h) {
    Queue q = the_extra_queue(h);
    Message msg;
    CHECK(q.get(msg, h.wait) == Status::ok && number_of(h, msg) == 2);
    done_with(h, msg);
    WaitPolicy now(0);
    const Status s = q.get(msg, now);
    CHECK(s == Status::would_block || s == Status::timed_out || s == Status::shut_down);
}

const Pair kPairs[] = {
    {"drop / hold", nothing, offers, drops_offered, nothing, holds_offered},
    {"hold / drop", nothing, nothing, holds_offered, offers, drops_offered},
    {"hold / drop, recycle", nothing, nothing, holds_offered, offers, drops_and_recycles},
    {"hold the recycled / drop", nothing, nothing, holds_offered, offers_what_is_recycled,
     drops_new_life},
    {"drop / drop", survivor_offers, both_hold, drops_offered, both_hold, drops_offered},
    {"get / drop", nothing, nothing, takes_and_keeps, sends_and_keeps, drops_offered},
    {"drop / get", nothing, sends_and_keeps, drops_offered, nothing, takes_and_keeps},
    {"put / get, one slot", nothing, nothing, puts_narrow, nothing, gets_narrow},
    {"get / put, one slot", puts_narrow, nothing, gets_narrow, nothing, puts_narrow},
    {"put / get", nothing, nothing, puts_block, nothing, gets},
    {"put / put", nothing, nothing, puts_number_under_lock, nothing,
     [](Hand& h) { puts_number_under_lock(h), takes_both(h); }},
    {"put / sweep", dead_with_everything, nothing, puts_block, nothing, collects},
    {"get / sweep", [](Hand& h) { put(h, Kind::children), dead_with_everything(h); }, nothing, gets,
     nothing, collects},
    {"get / get", few_items, nothing, gets, nothing, gets},
    {"acquire / acquire", nothing, nothing, acquires<0>, nothing, acquires<1>},
    {"return / acquire", nothing, all_out, returns_one, nothing, [](Hand& h) { acquires<1>(h); }},
    {"acquire / return", [](Hand&) {}, nothing, acquires<0>, all_out, returns_one},
    {"acquire / return the last", nothing, nothing, acquires<0>, all_out, returns_last},
    {"acquire / hold the frame", nothing, knows_a_frame, acquires<0>, nothing, holds_frame},
    {"publish / read, lossy", full_ring<0>, nothing, publishes<0>, follows<0>, reads<0>},
    {"publish / read the oldest, lossy", full_ring<0>, nothing, publishes<0>,
     [](Hand& h) { follows<0>(h), publishes<0>(h); }, reads<0>},
    {"publish / read, lossless", full_ring<1>, nothing, publishes<1>, follows<1>, reads<1>},
    {"publish / read, latest", full_ring<2>, nothing, publishes<2>, follows<2>, reads<2>},
    {"publish / wait, lossy", full_ring<0>, nothing, publishes<0>, subscribe<0>, waits_for_one<0>},
    {"publish / wait, lossless", full_ring<1>, nothing, publishes<1>, subscribe<1>,
     waits_for_one<1>},
    {"publish / publish round", full_ring<0>, nothing, publishes<0>, nothing, publishes_round<0>},
    {"read / publish round, lossy", full_ring<0>, follows<0>, reads<0>, nothing,
     publishes_round<0>},
    {"read / publish round, lossless", full_ring<1>, follows<1>, waits_for_one<1>, nothing,
     publishes<1>},
    {"read / publish round, latest", full_ring<2>, follows<2>, reads<2>, nothing,
     publishes_round<2>},
    {"unsubscribe / publish, lossless", full_ring<1>,
     [](Hand& h) { follows<1>(h), publishes<1>(h); }, unfollows, nothing, publishes<1>},
    {"subscribe / publish", full_ring<0>, nothing, subscribe<0>, nothing, publishes<0>},
    {"set / find", sets, nothing, sets, nothing, finds},
    {"find / set", sets, nothing, finds, nothing, sets},
    {"erase / find", sets, nothing, erases, nothing, finds},
    {"find / erase", sets, nothing, finds, nothing, erases},
    {"set / erase", sets, nothing, sets, nothing, erases},
    {"erase all kinds / find", names_frames, nothing, erases_all_kinds, nothing, finds_frames},
    {"erase all kinds / erase all kinds", names_frames, nothing, erases_all_kinds, nothing,
     erases_all_kinds},
    {"erase the unused / find", names_frames, nothing, erases_unused, nothing, finds_frames},
    {"find / erase the unused", names_frames, nothing, finds_frames, nothing, erases_unused},
    {"shut down / get the last", one_left, nothing, shuts_down, nothing, gets_the_last},
    {"get the last / shut down", one_left, nothing, gets_the_last, nothing, shuts_down},
    {"name / name", survivor_offers, nothing, names_offered<'x'>, nothing, names_offered<'y'>},
    {"erase / erase, one block", offered_under_two_names, nothing, unnames<'x'>, nothing,
     unnames<'y'>},
    {"refer / refer", survivor_offers, nothing, refers<0>, nothing, refers<1>},
    {"allocate / free", nothing, nothing, allocates, some_blocks, frees},
    {"free / allocate", nothing, some_blocks, frees, nothing, allocates},
    {"free / free", nothing, some_blocks, frees, some_blocks, frees},
    {"allocate / trim", room_to_trim, nothing,
     [](Hand& h) {
         keep(h, handle_of(h.m, allocate_block(h, 5 * kMiB))),
             *reinterpret_cast<u64*>(data_of(h, h.held[0])) = kMark;
     },
     nothing, [](Hand& h) { trim(h.m); }},
    {"trim / allocate", room_to_trim, nothing, [](Hand& h) { trim(h.m); }, nothing,
     [](Hand& h) {
         keep(h, handle_of(h.m, allocate_block(h, 5 * kMiB))),
             *reinterpret_cast<u64*>(data_of(h, h.held[0])) = kMark;
     }},
    {"collect / collect", dead_with_everything, nothing, collects, nothing, collects},
    {"allocate / sweep", dead_with_nothing, nothing, allocates, nothing, collects},
    {"collect / put", died_in_put, nothing, collects, nothing, puts_block, true},
    {"collect / get", died_in_get, nothing, collects, nothing, gets, true},
    {"collect / join", dead_with_everything, nothing, collects, nothing, joins},
    {"join / collect", nothing, nothing, joins, nothing, collects},
    {"leave / collect", nothing, some_blocks, leaves, nothing, collects},
    {"collect / leave", dead_with_everything, nothing, collects, some_blocks, leaves},
    {"fork / collect", nothing, ready_to_fork, forks, nothing, collects},
    {"fork in a full table / collect", five_dead, ready_to_fork, forks, nothing, collects},
    {"fork in a full table / fork", five_dead, ready_to_fork, forks, ready_to_fork,
     [](Hand& h) { forks(h), collects(h); }},
    {"collect / fork in a full table", five_dead, nothing, collects, ready_to_fork, forks},
    {"fork / drop", nothing, ready_to_fork, forks, some_blocks, frees},
    // locks
    {"lock / lock", nothing, nothing, locks, nothing, locks},
    {"lock twice / lock twice", nothing, nothing, locks_twice, nothing, locks_twice},
    {"read / write, prefer writer", nothing, nothing, reads_locked<0>, nothing, writes_locked<0>},
    {"read / write, prefer reader", nothing, nothing, reads_locked<1>, nothing, writes_locked<1>},
    {"read / write, fair", nothing, nothing, reads_locked<2>, nothing, writes_locked<2>},
    {"write / read, prefer writer", nothing, nothing, writes_locked<0>, nothing, reads_locked<0>},
    {"write / read, prefer reader", nothing, nothing, writes_locked<1>, nothing, reads_locked<1>},
    {"write / read, fair", nothing, nothing, writes_locked<2>, nothing, reads_locked<2>},
    {"write / write, prefer writer", nothing, nothing, writes_locked<0>, nothing, writes_locked<0>},
    {"write / write, prefer reader", nothing, nothing, writes_locked<1>, nothing, writes_locked<1>},
    {"write / write, fair", nothing, nothing, writes_locked<2>, nothing, writes_locked<2>},
    {"downgrade / write", nothing, nothing, writes_and_downgrades<0>, nothing, writes_locked<0>},
    {"read / abandon", nothing, nothing, reads_after_abandon<0>, write_lock<0>, abandons<0>},
    {"read / read", nothing, nothing, reads_locked<0>, nothing, reads_locked<0>},
    {"token / token", nothing, nothing, takes_a_token, nothing, takes_a_token_if_there},
    {"wait / notify", nothing, nothing, waits_to_be_notified, nothing, notifies},
    {"wait beside a dead one / notify", die_waiting, nothing, waits_to_be_notified, nothing,
     notifies_beside_a_dead_one, true},
    {"wait / set an event", nothing, nothing, waits_for_event, nothing, sets_event},
    {"set / wait for an event", nothing, nothing, sets_event, nothing, waits_for_event},
    {"wait / set and clear an event", nothing, nothing, waits_for_event, nothing,
     sets_and_clears_event},
    {"barrier / barrier", nothing, nothing, passes_barrier, nothing, passes_barrier},
    // the end of what somebody waits for
    {"read / close a stream", extra_stream, follows_extra, reads_to_the_end, nothing,
     closes_stream},
    {"close / read a stream", extra_stream, nothing, closes_stream, follows_extra,
     reads_to_the_end},
    {"publish / close a stream", full_extra_stream, nothing, publishes_to_the_end, nothing,
     closes_stream},
    {"get / shut down", extra_queue_of<1, 0>, nothing, gets_to_the_end, nothing, shuts_down<false>},
    {"put / shut down", extra_queue_of<1, 1>, nothing, puts_to_the_end, nothing, shuts_down<false>},
    {"join / task_done", extra_queue_of<1, 1>, nothing, joins_queue, nothing, finishes},
    {"join / shut down at once", extra_queue_of<1, 1>, nothing, joins_queue, nothing,
     shuts_down<true>},
    {"get / notice what came back", taken_by_a_dead_one, nothing, gets_what_came_back, nothing,
     notices},
    {"two wait / all tokens", nothing, nothing, two_wait_for_tokens, takes_all_tokens,
     releases_all_tokens},
    {"two wait / notify all", nothing, nothing, two_wait_to_be_notified, nothing, notifies_all},
    {"notify all / two wait", nothing, nothing, notifies_all, nothing, two_wait_to_be_notified},
    {"notify each / two wait", nothing, nothing, notifies_each, nothing, two_wait_to_be_notified},
    {"wait / abort a barrier", nothing, nothing, waits_at_broken_barrier, nothing,
     breaks_barrier<false>},
    {"wait / reset a barrier", nothing, nothing, waits_at_broken_barrier, nothing,
     breaks_barrier<true>},
    // containers
    {"list: append / append", list_of<15>, nothing, appends, nothing, appends},
    {"list: append / read", list_of<5>, nothing, appends, nothing, reads_list},
    {"list: pop / read", list_of<5>, nothing, pops, nothing, reads_list},
    {"list: clear / read", list_of<5>, nothing, clears_list, nothing, reads_list},
    {"list: append / under the lock", list_of<5>, nothing, appends, nothing, updates_locked},
    {"list: under the lock / append", list_of<5>, nothing, updates_locked, nothing, appends},
    {"list: under the lock / under the lock", list_of<5>, nothing, updates_locked, nothing,
     updates_locked},
    {"dict: set / set", dict_of<15>, nothing, sets_key<50>, nothing, sets_key<51>},
    {"dict: set / set the same", dict_of<5>, nothing, sets_key<50>, nothing, sets_key<50>},
    {"dict: set / clear", dict_of<5>, nothing, sets_key<3>, nothing, clears_dict},
    {"dict: clear / read", dict_of<5>, nothing, clears_dict, nothing, reads_dict},
};

void player(int fd, bool is_a, const Pair& pair, u64 step, bool before) {
    Stage& s = stage();
    auto m = test::join_pool(fd);
    {
        Hand h(*m);
        (is_a ? pair.ready_a : pair.ready_b)(h);
        (is_a ? s.a_ready : s.b_ready) = 1;
        await(is_a ? s.a_go : s.b_go);
        if (is_a) {
            (before ? stop_before : stop_at)(step, &ledger().actor);
            pair.a(h);
            ledger().steps = crash_steps();
            stop_at(0);
        } else {
            pair.b(h);
        }
        (is_a ? s.a_done : s.b_done) = 1;
        await(is_a ? s.a_after : s.b_after);
        if (m->joined) {
            scribble(h);
            verify_and_drop(h);
        }
    }
    m.reset();
    _exit(0);
}

template <class Run>
pid_t start(Run run) {
    const pid_t child = fork();
    if (child == 0) run();
    CHECK(child > 0);
    return child;
}
void ends_well(pid_t child) {
    int status = 0;
    CHECK(waitpid(child, &status, 0) == child && WIFEXITED(status) && WEXITSTATUS(status) == 0);
}

enum Outcome : int { kPaused = 0, kPausedAndWaited = 11, kWentThrough = 10 };

struct Meeting {
    bool paused = false, b_waited = false;
    Outcome outcome() const {
        return paused ? (b_waited ? kPausedAndWaited : kPaused) : kWentThrough;
    }
};

// Lets A go until it is paused at the step, or through. Then B acts, and A goes on. Both are ready.
Meeting meet(pid_t a, u64 step) {
    Ledger& l = ledger();
    Stage& s = stage();
    Meeting met;
    s.a_go = 1;
    const std::int64_t begun = os::monotonic_ns();
    for (;;) {
        int status = 0;
        const pid_t stopped = waitpid(a, &status, WUNTRACED | WNOHANG);
        if (stopped == a) {
            CHECK(WIFSTOPPED(status) && WSTOPSIG(status) == SIGSTOP);
            CHECK(l.actor.step == step);
            met.paused = true;
            break;
        }
        if (comes(s.a_done, 200'000)) break;
        // It may have to wait for B before it gets there: then B goes first.
        if (os::monotonic_ns() - begun > kWaits) s.b_go = 1;
    }
    s.b_go = 1;
    if (met.paused) {
        met.b_waited = !comes(s.b_done, kWaits);
        CHECK(kill(a, SIGCONT) == 0);
    }
    CHECK(comes(s.a_done, kWakes));
    CHECK(comes(s.b_done, kWakes));  // no wake is lost
    return met;
}

[[noreturn]] void world(const Pair& pair, u64 step, bool before) {
    alarm(kHang);
    Ledger& l = ledger();
    Stage& s = stage();
    const int fd = make_world(8);
    std::memset(static_cast<void*>(&s), 0, sizeof s);
    auto member = test::join_pool(fd);
    Hand survivor(*member);
    const HeapStats idle = heap_stats(*member);
    pair.prepare(survivor);
    // Nobody dies from here on, so nobody needs to look by itself: every wait must be ended by a
    // wake.
    if (!pair.dead) kFirstNap = kLongestNap = kLongNap;
    l.steps = 0;
    l.actor = {};
    const pid_t a = start([&] { player(fd, true, pair, step, before); });
    await(s.a_ready);
    const pid_t b = start([&] { player(fd, false, pair, 0, false); });
    await(s.b_ready);
    const Meeting met = meet(a, step);
    s.a_after = 1;
    s.b_after = 1;
    ends_well(a);
    ends_well(b);
    CHECK(met.paused || l.actor.step == 0);
    CHECK(occupied_rows(*member) == 1);
    test::expect_sound(*member, what);
    // Two producers or consumers: the order between them is their own affair.
    Message msg;
    u64 in_queue = survivor.queues[0].size();
    if (in_queue == 0) l.taken[0] = 0;
    if (survivor.queues[1].size() == 0) l.taken[1] = 0;
    expect_idle(survivor, idle, what);
    _exit(met.outcome());
}

// ---- files: two processes meet at a pool's name
// -----------------------------------------------------------------------------------------

struct FilePair {
    const char* name;
    void (*ready_b)(bool memfd, Joined&);
    void (*ready_a)(bool memfd, Joined&);
    Status (*a)(bool memfd, Joined&);
    Status (*b)(bool memfd, Joined&);
    // What A answers if B was through before A's first change.
    Status after_b;
    // The name leads to the pool that A, or B, is in.
    bool named = true;
};

Status opens(bool, Joined& pool) {
    return open_it(pool);
}
Status creates(bool memfd, Joined& pool) {
    return make(memfd, pool);
}
Status unlinks(bool, Joined& pool) {
    return unlink_it(*pool);
}
Status leaves(bool, Joined& pool) {
    pool.reset();
    return Status::ok;
}
Status sweeps(bool, Joined&) {
    return sweep_it() == Orphan::removed ? Status::ok : Status::would_block;
}
// And stays in the old one, too.
Joined& old_pool() {
    static Joined it;
    return it;
}
Status unlinks_and_makes_anew(bool memfd, Joined& pool) {
    CHECK(unlink_it(*pool) == Status::ok);
    old_pool() = std::move(pool);
    return make(memfd, pool);
}

const FilePair kFilePairs[] = {
    {"file: open / unlink", made, no_file, opens, unlinks, Status::no_entry, false},
    {"file: open / unlink and make anew", made, no_file, opens, unlinks_and_makes_anew, Status::ok,
     false},
    {"file: open / the last one leaves", made, no_file, opens, leaves, Status::no_entry},
    {"file: the last one leaves / open", no_file, made, leaves, opens, Status::ok},
    {"file: open / open", orphan, no_file, opens, opens, Status::no_entry},
    {"file: make / make", no_file, no_file, creates, creates, Status::exists},
    {"file: make / make, a dead one's", orphan, no_file, creates, creates, Status::exists},
    {"file: make / sweep", orphan, no_file, creates, sweeps, Status::ok},
    {"file: sweep / make", orphan, no_file, sweeps, creates, Status::would_block},
    {"file: open a dead one / make", orphan, no_file, opens, creates, Status::no_entry},
    {"file: unlink / open", no_file, made, unlinks, opens, Status::ok, false},
};

void file_player(const FilePair& pair, bool memfd, bool is_a, u64 step, bool before) {
    Stage& s = stage();
    Joined pool;
    (is_a ? pair.ready_a : pair.ready_b)(memfd, pool);
    (is_a ? s.a_ready : s.b_ready) = 1;
    await(is_a ? s.a_go : s.b_go);
    if (is_a) (before ? stop_before : stop_at)(step, &ledger().actor);
    const Status said = (is_a ? pair.a : pair.b)(memfd, pool);
    if (is_a) {
        ledger().steps = crash_steps();
        stop_at(0);
    }
    s.said[is_a ? 0 : 1] = static_cast<u32>(said);
    s.pool[is_a ? 0 : 1] = pool == nullptr ? 0 : pool->header().id[0];
    (is_a ? s.a_done : s.b_done) = 1;
    await(is_a ? s.a_after : s.b_after);
    pool.reset();
    old_pool().reset();
    _exit(0);
}

// While both are still there: what stands under the name works, and is theirs.
void look_at_the_name(const FilePair& pair) {
    Stage& s = stage();
    Joined pool;
    const Status found = open_it(pool);
    CHECK(found == Status::ok || found == Status::no_entry);
    const u64 there = found == Status::ok ? u64{pool->header().id[0]} : 0;
    for (int i = 0; i < 2 && pair.named; ++i)
        CHECK(s.pool[i] == 0 || s.pool[i] == there);
    if (pool != nullptr) {
        // Who is in it has its locks in the same file.
        CHECK(collect_dead(*pool) == 0);
        work_in(*pool);
    }
    pool.reset();
    _exit(0);
}

[[noreturn]] void file_world(const FilePair& pair, bool memfd, u64 step, bool before) {
    alarm(kHang);
    Ledger& l = ledger();
    Stage& s = stage();
    l.steps = 0;
    l.actor = {};
    std::memset(static_cast<void*>(&s), 0, sizeof s);
    char path[] = "/dev/shm/onecopy-interleave-XXXXXX";
    CHECK(mkdtemp(path) != nullptr);
    directory_of_world() = path;
    const pid_t b = start([&] { file_player(pair, memfd, false, 0, false); });
    await(s.b_ready);
    const pid_t a = start([&] { file_player(pair, memfd, true, step, before); });
    await(s.a_ready);
    const Meeting met = meet(a, step);
    CHECK(met.paused || l.actor.step == 0);
    const auto said = static_cast<Status>(s.said[0].load());
    if (met.paused && before && step == 1 && !met.b_waited) {
        CHECK(said == pair.after_b);
        CHECK(s.pool[0] == 0 || s.pool[1] == 0 || s.pool[0] == s.pool[1]);
    }
    ends_well(start([&] { look_at_the_name(pair); }));
    s.a_after = 1;
    s.b_after = 1;
    ends_well(a);
    ends_well(b);
    CHECK(files_in_directory() == 0);
    CHECK(rmdir(path) == 0);
    _exit(met.outcome());
}

template <class World>
int in_a_process(World run) {
    std::fflush(stdout);
    const pid_t child = fork();
    if (child == 0) {
        setpgid(0, 0);  // so that none is left behind when it fails
        run();
    }
    int status = 0;
    CHECK(waitpid(child, &status, 0) == child);
    if (WIFEXITED(status) &&
        (WEXITSTATUS(status) == kPaused || WEXITSTATUS(status) == kPausedAndWaited ||
         WEXITSTATUS(status) == kWentThrough)) {
        return WEXITSTATUS(status);
    }
    kill(-child, SIGKILL);
    const bool hung = WIFSIGNALED(status) && WTERMSIG(status) == SIGALRM;
    std::fprintf(stderr, "FAILED: %s: %s (status %d)\n  A was paused at %#lx\n", what,
                 hung ? "it hung" : "see above", status,
                 ledger().actor.place == 0
                     ? 0
                     : ledger().actor.place - reinterpret_cast<u64>(&__executable_start));
    std::exit(1);
}

}  // namespace

int main(int argc, char** argv) {
    bool full = false;
    u64 seed = 0, slice = 8;
    const char* only = "";
    for (int i = 1; i < argc; ++i) {
        const std::string_view arg = argv[i];
        if (arg == "full") full = true;
        if (arg == "brief") slice = 1;
        if (arg.starts_with("seed=")) seed = std::strtoull(argv[i] + 5, nullptr, 10);
        if (arg.starts_with("only=")) only = argv[i] + 5;
    }
    std::printf("interleave: seed=%lu\n", seed);
    crash_after(0);  // its fork handler comes before the pools'
    ledger();        // before the first fork, so that they are everybody's
    stage();
    const std::int64_t begin = os::monotonic_ns();
    u64 pairs = 0, points = 0, pauses = 0, waits = 0;
    // `run` is the world of a pair with A paused at a step.
    auto try_pair = [&](const char* name, auto run) {
        if (std::strstr(name, only) == nullptr) return;
        std::snprintf(what, sizeof what, "%s, without a pause", name);
        CHECK(in_a_process([&] { run(kNever, false); }) == kWentThrough);
        const u64 last = ledger().steps;
        const u64 stride = full ? 1 : std::max<u64>(1, last / slice);
        u64 paused = 0, waited = 0;
        for (u64 step = 1; step <= last; ++step) {
            if (step > 1 && step + 1 <= last && (step + seed) % stride != 0) continue;
            for (bool before : {true, false}) {
                std::snprintf(what, sizeof what, "%s, paused %s store %lu of %lu", name,
                              before ? "before" : "after", step, last);
                const int outcome = in_a_process([&] { run(step, before); });
                paused += outcome != kWentThrough;
                waited += outcome == kPausedAndWaited;
            }
        }
        std::printf("%-32s %4lu crash points, %4lu pauses, %4lu in which the other one waited\n",
                    name, last, paused, waited);
        ++pairs;
        points += last;
        pauses += paused;
        waits += waited;
    };
    for (const Pair& pair : kPairs)
        try_pair(pair.name, [&](u64 step, bool before) { world(pair, step, before); });
    for (const FilePair& pair : kFilePairs) {
        for (const bool memfd : {false, true}) {
            char name[80];
            std::snprintf(name, sizeof name, "%s (%s)", pair.name, memfd ? "memfd" : "file");
            try_pair(name, [&](u64 step, bool before) { file_world(pair, memfd, step, before); });
        }
    }
    std::printf(
        "interleave: %lu pairs, %lu crash points, %lu pauses, %lu waits, all sound; %.1f s\n",
        pairs, points, pauses, waits, static_cast<double>(os::monotonic_ns() - begin) / 1e9);
    return 0;
}
#else
int main() {
    std::puts("interleave: skipped, needs -DONECOPY_FAULTS=ON");
    return 0;
}
#endif
