// The operations whose deaths the campaign tries. One line adds one.
//
// This file has more than 600 lines because it is one table, and what its entries need.
#pragma once
#include "tests/campaign.hpp"

#if defined(ONECOPY_FAULTS) && ONECOPY_FAULTS

namespace onecopy::campaign {

struct Operation {
    const char* name;
    void (*prepare)(Hand& survivor);  // by the survivor, before the actor exists
    void (*ready)(Hand& actor);       // by the actor, before its crash points count
    void (*act)(Hand& actor);
    int flags = 0;
    u32 rows = 8;
};
enum OperationFlags : int {
    kMany = 1,       // several commits: numbers may lie in between
    kJoining = 2,    // the actor's joining is what is tried
    kInBetween = 8,  // several operations: in between, the pool contains neither what it had before
                     // nor what it has after
    kChild = 4,      // a forked child of the actor dies, not the actor
};

inline void nothing(Hand&) {}

// ---- a process that dies, before the one that is tried
// -------------------------------------------------------------------------------

template <class Act, class Ready = void (*)(Hand&)>
void victim(int file, u64 step, Act act, Ready ready = nothing) {
    const pid_t child = fork();
    if (child == 0) {
        auto m = test::join_pool(file);
        Hand h(*m);
        ready(h);
        crash_after(step);
        act(h);
        crash_after(0);
        kill(getpid(), SIGKILL);
    }
    int status = 0;
    CHECK(waitpid(child, &status, 0) == child && WIFSIGNALED(status) &&
          WTERMSIG(status) == SIGKILL);
}
inline void hold_everything(Hand& h) {
    for (u64 bytes : {100, 4000, 70'000})
        allocate_block(h, bytes);
    Handle found;
    CHECK(h.frames.acquire(h.wait, found) == Status::ok);
    for (int i = 0; i < 3; ++i)
        CHECK(h.streams[i].subscribe(h.wait, h.reader[i]) == Status::ok);
    Queue q;
    Handle own;
    CHECK(Queue::create(h.m, 10, 0, h.wait, own) == Status::ok &&
          Queue::open(h.m, own, q) == Status::ok);
    for (u64 i = 0; i < 3; ++i) {
        const Message msg = item(h, i, Kind::children);
        CHECK(q.put(msg, h.wait) == Status::ok);
        done_with(h, msg);
    }
    CHECK(Frames::create(h.m, 2, 600, "", 0, h.wait, found) == Status::ok);
}

// The first crash point of `act` at which the lock is held.
template <class Act, class Lock>
u64 step_inside(int file, Act act, Lock lock_of) {
    for (u64 step = 1;; ++step) {
        victim(file, step, act);
        auto m = test::join_pool(file);
        const u32 word = lock_of(*m).word.load();
        if (word != 0) return step;
        collect_dead(*m);
        UnboundedWait wait;
        CHECK(good(lock_heap(
            *m, wait)));  // repaired now: otherwise the next process would spend its steps on that
        unlock(m->header().heap_lock);
    }
}

// ---- queue
// -------------------------------------------------------------------------------------------------

inline void few_items(Hand& h) {
    put(h, Kind::text);
    put(h, Kind::block);
    put(h, Kind::children);
    put(h, Kind::text);
}
template <int from>
void skip(Hand& h) {
    for (int i = 0; i < from; ++i)
        get(h);
}
inline void near_the_end_of_a_chunk(Hand& h) {
    const u64 start = ledger().next[0];
    while (ledger().next[0] - start < 62) {
        put(h, Kind::text);
        get(h);
    }
    put(h, Kind::block);
}
inline void full_chunk(Hand& h) {
    for (u32 i = 0; i < kChunkSlots + 4; ++i)
        put(h, i % 16 == 15 ? Kind::block : Kind::text);
    for (u32 i = 0; i < kChunkSlots - 2; ++i)
        get(h);
}
inline void one_given_out(Hand& h) {
    put(h, Kind::text);
    put(h, Kind::text);
    get(h);
}
constexpr std::string_view kSchema = R"({"record":"Frame","fields":[["id","int"]]})";

inline void extra_queue(Hand& h) {
    Handle own;
    Queue q;
    CHECK(Queue::create(h.m, 10, 0, h.wait, own) == Status::ok &&
          Queue::open(h.m, own, q) == Status::ok);
    for (u64 i = 0; i < 3; ++i) {
        const Message msg = item(h, i, i == 1 ? Kind::block : Kind::text);
        CHECK(q.put(msg, h.wait) == Status::ok);
        done_with(h, msg);
    }
    ledger().extra = own;
}
inline Queue the_extra_queue(Hand& h) {
    Queue q;
    CHECK(Queue::open(h.m, ledger().extra, q) == Status::ok);
    return q;
}

// ---- stream
// -------------------------------------------------------------------------------------------------

template <int which>
void full_ring(Hand& h) {
    for (u32 i = 0; i < kDepth + 1; ++i)
        publish(h, which, i % 2 == 0 ? Kind::block : Kind::text);
}
template <int which>
void with_reader(Hand& h) {
    full_ring<which>(h);
    CHECK(h.streams[which].subscribe(h.wait, h.reader[which]) == Status::ok);
}
template <int which>
void own_reader(Hand& h) {
    CHECK(h.streams[which].subscribe(h.wait, h.reader[which]) == Status::ok);
    publish(h, which, Kind::block);
}
template <int which>
void subscribe(Hand& h) {
    CHECK(h.streams[which].subscribe(h.wait, h.reader[which]) == Status::ok);
}
template <int which>
void read_one(Hand& h) {
    CHECK(read_all(h, which) == 1);
}
template <int which>
void unsubscribe(Hand& h) {
    h.streams[which].unsubscribe(h.reader[which]);
}
inline void extra_stream(Hand& h) {
    CHECK(Stream::create(h.m, 3, StreamPolicy::lossy, h.wait, ledger().extra) == Status::ok);
}

// ---- heap
// -------------------------------------------------------------------------------------------------

inline void four_blocks(Hand& h) {
    // Larger than anything that lies around, so that they are neighbours. The last one keeps the
    // end of the heap away.
    for (int i = 0; i < 4; ++i)
        h.held[i] = handle_of(h.m, allocate_block(h, 300'000));
}
template <int... which>
void but(Hand& h) {
    four_blocks(h);
    (release_hold(h, handle_index(h.held[which])), ...);
}
template <int which>
void drop_held(Hand& h) {
    release_hold(h, handle_index(h.held[which]));
}
inline void gone_block(Hand& h) {
    h.held[0] = handle_of(h.m, allocate_block(h, 500));
    release_hold(h, handle_index(h.held[0]));
}
inline void recycled_block(Hand& h) {
    gone_block(h);
    h.held[1] = handle_of(h.m, allocate_block(h, 500));
    CHECK(handle_index(h.held[1]) == handle_index(h.held[0]));
    Handle found;  // another block by now
    CHECK(directory::set(h.m, NameKind::object, "recycled", h.held[1], false, h.wait, found) ==
          Status::ok);
    release_hold(h, handle_index(h.held[1]));
}
inline void hold_stale(Hand& h) {
    CHECK(hold(h.m, h.held[0]) == Status::stale);
}
inline void survivors_block(Hand& h) {
    ledger().extra = handle_of(h.m, allocate_block(h, 800));
}
inline void hold_and_drop(Hand& h) {
    CHECK(hold(h.m, ledger().extra) == Status::ok);
    release_hold(h, handle_index(ledger().extra));
}
inline void room_to_trim(Hand& h) {
    release_hold(h, allocate_block(h, 7 * kMiB));
}

// ---- members
// -------------------------------------------------------------------------------------------------

inline void hold_some(Hand& h) {
    for (u64 bytes : {100, 4000})
        allocate_block(h, bytes);
    CHECK(h.frames.acquire(h.wait, h.held[0]) == Status::ok);
    subscribe<0>(h);
}
inline void dead_with_everything(Hand& h) {
    victim(h.m.file.number(), 0, hold_everything);
}
inline void dead_and_table_full(Hand& h) {
    victim(h.m.file.number(), 0, hold_everything);
    // The only free row for the actor is the dead process's.
    CHECK(occupied_rows(h.m) == h.m.geo().max_processes);
}
inline void owner_of_heap_lock_died(Hand& h) {
    auto inside = [](Hand& v) { allocate_block(v, 900); };
    const u64 step = step_inside(h.m.file.number(), inside,
                                 [](Member& m) -> LockWord& { return m.header().heap_lock; });
    collect_dead(h.m);
    test::expect_sound(h.m, "preparing");
    victim(h.m.file.number(), step + 12, inside);
    CHECK(h.m.header().heap_lock.word.load() != 0);
    collect_dead(h.m);
}
inline void owner_of_names_lock_died(Hand& h) {
    auto inside = [](Hand& v) { set_name(v, "ownerless", 100); };
    const u64 step = step_inside(h.m.file.number(), inside,
                                 [](Member& m) -> LockWord& { return m.header().names_lock; });
    collect_dead(h.m);
    test::expect_sound(h.m, "preparing");
    victim(h.m.file.number(), step + 12, inside);
    CHECK(h.m.header().names_lock.word.load() != 0);
    collect_dead(h.m);
}
// A process dies while it counts a reference, and then another one counts the same block. So the
// word does not tell any more whether the first one's step landed. `Taken`: the victim was giving
// up its reference; otherwise it was adding one.
constexpr u64 kArm = 7;  // crash points until an intent is armed
template <bool Taken, u64 step>
void counted_by_two(Hand& h) {
    static shm_atomic<u64>* cell;
    ledger().extra = handle_of(h.m, allocate_block(h, 800));
    auto box = [](Hand& v) {
        Allocated a;
        CHECK(allocate(v.m, {.bytes = 64, .zero = true}, v.wait, a) == Status::ok);
        declare_cells(v.m, a.index, 0, 8, 1);
        cell = reinterpret_cast<shm_atomic<u64>*>(a.data);
        CHECK(hold(v.m, ledger().extra) == Status::ok);
        if (Taken) CHECK(swap_cell(v.m, *cell, 0, ledger().extra) == Status::ok);
    };
    auto act = [](Hand& v) {
        CHECK(swap_cell(v.m, *cell, Taken ? ledger().extra : 0, Taken ? 0 : ledger().extra) ==
              Status::ok);
    };
    victim(h.m.file.number(), kArm + step, act, box);
    CHECK(h.m.row(1).intent.load() != 0 || h.m.row(2).intent.load() != 0);
    for (const char* name : {"x", "y"}) {
        Handle found;
        CHECK(directory::set(h.m, NameKind::object, name, ledger().extra, false, h.wait, found) ==
              Status::ok);
    }
    erase_name(h, "y");
}

inline void follow_forks(Hand& h) {
    hold_some(h);
    register_member(h.m);
}
// The child finds no free row: living or dead processes have all of them.
inline void follow_forks_in_full_table(Hand& h) {
    follow_forks(h);
    CHECK(occupied_rows(h.m) == h.m.geo().max_processes);
}
inline void fork_once(Hand& h) {
    const pid_t child = fork();
    CHECK(child >= 0);
    if (child == 0) {
        // Not by a crash point: the steps of the child are not those of the parent.
        put(h, Kind::block);
        kill(getpid(), SIGKILL);
    }
    int status = 0;
    CHECK(waitpid(child, &status, 0) == child && WIFSIGNALED(status));
}
// Pages of a block for this process alone: what is written there is not in the pool.
inline void write_privately(Hand& h, u32 index) {
    BlockInfo info;
    CHECK(inspect(h.m, index, info) == Status::ok);
    PrivatePages pages;
    CHECK(pages.map(h.m, h.m.offset_of(info.data), info.length) == Status::ok);
    CHECK(std::memcmp(pages.data(), info.data, info.length) == 0);
    const unsigned char first = info.data[0];
    std::memset(pages.data(), first + 1, info.length);
    CHECK(info.data[0] == first);
}
inline void fork_with_private_pages(Hand& h) {
    const u32 index = allocate_block(h, kMiB);
    write_privately(h, index);  // a mapping that is kept
    BlockInfo info;
    CHECK(inspect(h.m, index, info) == Status::ok);
    PrivatePages pages;
    CHECK(pages.map(h.m, h.m.offset_of(info.data), info.length) == Status::ok);
    pages.data()[0] = 1;
    const pid_t child = fork();
    CHECK(child >= 0);
    if (child == 0) {
        CHECK(pages.data()[0] == 1);
        pages.data()[1] = 2;
        pages.unmap();
        put(h, Kind::block);
        kill(getpid(), SIGKILL);
    }
    int status = 0;
    CHECK(waitpid(child, &status, 0) == child && WIFSIGNALED(status));
    CHECK(pages.data()[1] != 2);
    pages.unmap();
    release_hold(h, index);
}
inline void fork_into_dead_row(Hand& h) {
    const auto swept = [&h] {
        u64 n = 0;
        for (u32 i = 0; i < h.m.geo().max_processes; ++i)
            n += h.m.row(i).swept.load_relaxed();
        return n;
    };
    const u64 before = swept();
    fork_once(h);
    CHECK(swept() == before + 1);
}

// The child finds that living processes have every slot.
inline void fork_without_a_slot(Hand& h) {
    const pid_t child = fork();
    CHECK(child >= 0);
    if (child == 0) {
        CHECK(!h.m.joined && h.m.excluded == Status::no_slot && !h.m.file);
        Allocated block;
        CHECK(allocate(h.m, {.bytes = 100}, h.wait, block) == Status::closed);
        h.m.leave();
        kill(getpid(), SIGKILL);
    }
    int status = 0;
    CHECK(waitpid(child, &status, 0) == child && WIFSIGNALED(status));
}

// What exists only under a name can be found, replaced and erased. Names in one bucket make a
// chain.
inline void two_names(Hand& h) {
    set_name(h, "x", 100);
    set_name(h, "y", 200);
}

inline void name_as(Hand& h, NameKind kind, const char* name, Handle thing) {
    Handle found;
    CHECK(directory::set(h.m, kind, name, thing, true, h.wait, found) == Status::ok);
    release_hold(h, handle_index(thing));
}
inline void one_name_of_three_kinds(Hand& h) {
    two_names(h);
    Handle own;
    Queue q;
    CHECK(Queue::create(h.m, 10, 0, h.wait, own) == Status::ok &&
          Queue::open(h.m, own, q) == Status::ok);
    const Message msg = item(h, 0, Kind::children);
    CHECK(q.put(msg, h.wait) == Status::ok);
    done_with(h, msg);
    name_as(h, NameKind::queue, "x", own);
    CHECK(Frames::create(h.m, 2, 3000, "abc", 3, h.wait, own) == Status::ok);
    name_as(h, NameKind::frames, "x", own);
}
// The survivor has one of them.
inline void three_sets_of_frames(Hand& h) {
    for (const char* name : {"x", "y", "z"}) {
        Handle own;
        CHECK(Frames::create(h.m, 2, 3000, "abc", 3, h.wait, own) == Status::ok);
        if (name[0] == 'y') {
            ledger().extra = own;
            CHECK(hold(h.m, own) == Status::ok);
        }
        name_as(h, NameKind::frames, name, own);
    }
}
inline void through_with_extra_queue(Hand& h) {
    extra_queue(h);
    Queue q = the_extra_queue(h);
    for (int i = 0; i < 3; ++i) {
        Message msg;
        CHECK(q.get(msg, h.wait) == Status::ok);
        done_with(h, msg);
    }
}
inline void extra_queue_shut_down(Hand& h) {
    extra_queue(h);
    CHECK(the_extra_queue(h).shut_down(false, h.wait) == Status::ok);
}

inline const Operation kOperations[] = {
    // queue
    {"put text", few_items, nothing, [](Hand& h) { put(h, Kind::text); }},
    {"put block", few_items, nothing, [](Hand& h) { put(h, Kind::block); }},
    {"put children", few_items, nothing, [](Hand& h) { put(h, Kind::children); }},
    {"put many", few_items, nothing, [](Hand& h) { put_several(h, 12); }, kMany},
    {"put into a new chunk", near_the_end_of_a_chunk, nothing,
     [](Hand& h) { put(h, Kind::block), put(h, Kind::text); }, kMany},
    {"put, one slot", nothing, nothing, [](Hand& h) { put(h, Kind::block, 1); }},
    {"get text", few_items, nothing, [](Hand& h) { get(h); }},
    {"get block", [](Hand& h) { few_items(h), skip<1>(h); }, nothing, [](Hand& h) { get(h); }},
    {"get children", [](Hand& h) { few_items(h), skip<2>(h); }, nothing, [](Hand& h) { get(h); }},
    {"get many", [](Hand& h) { put_several(h, 14); }, nothing, [](Hand& h) { get_several(h, 10); },
     kMany},
    {"get across chunks", full_chunk, nothing,
     [](Hand& h) {
         for (int i = 0; i < 4; ++i)
             get(h);
     },
     kMany},
    {"get many across chunks", full_chunk, nothing, [](Hand& h) { get_several(h, 5); }, kMany},
    {"get, one slot", [](Hand& h) { put(h, Kind::block, 1); }, nothing, [](Hand& h) { get(h, 1); }},
    {"task_done", one_given_out, nothing,
     [](Hand& h) { CHECK(h.queues[0].task_done(h.wait) == Status::ok); }},
    {"shutdown", extra_queue, nothing,
     [](Hand& h) { CHECK(the_extra_queue(h).shut_down(false, h.wait) == Status::ok); }},
    {"shutdown, immediate", extra_queue, nothing,
     [](Hand& h) { CHECK(the_extra_queue(h).shut_down(true, h.wait) == Status::ok); }, kMany},
    {"shutdown, nothing left", through_with_extra_queue, nothing,
     [](Hand& h) { CHECK(the_extra_queue(h).shut_down(false, h.wait) == Status::ok); }, kMany},
    {"get what is left after a shutdown", extra_queue_shut_down, nothing,
     [](Hand& h) {
         Queue q = the_extra_queue(h);
         Message msg;
         for (int i = 0; i < 3; ++i) {
             CHECK(q.get(msg, h.wait) == Status::ok);
             done_with(h, msg);
         }
         CHECK(q.get(msg, h.wait) == Status::shut_down);
     },
     kMany},
    {"make and drop a queue", nothing, nothing,
     [](Hand& h) {
         Handle own;
         Queue q;
         CHECK(Queue::create(h.m, 70, 0, h.wait, own) == Status::ok &&
               Queue::open(h.m, own, q) == Status::ok);
         const Message msg = item(h, 1, Kind::children);
         CHECK(q.put(msg, h.wait) == Status::ok);
         done_with(h, msg);
         release_hold(h, handle_index(own));
     }},
    {"make and drop a typed queue", nothing, nothing,
     [](Hand& h) {
         Handle own;
         Queue q;
         u64 hash;
         CHECK(Queue::create(h.m, 70, 0, h.wait, own, kSchema) == Status::ok &&
               Queue::open(h.m, own, q) == Status::ok && q.schema(hash) == kSchema);
         const Message msg = item(h, 1, Kind::children);
         CHECK(q.put(msg, h.wait) == Status::ok);
         done_with(h, msg);
         release_hold(h, handle_index(own));
     }},
    // stream
    {"publish, lossy", full_ring<0>, nothing, [](Hand& h) { publish(h, 0, Kind::block); }},
    {"publish, lossless", with_reader<1>, nothing, [](Hand& h) { publish(h, 1, Kind::block); }},
    {"publish, latest", with_reader<2>, nothing, [](Hand& h) { publish(h, 2, Kind::text); }},
    {"subscribe, lossy", full_ring<0>, nothing, subscribe<0>},
    {"subscribe, lossless", full_ring<1>, nothing, subscribe<1>},
    {"subscribe, latest", full_ring<2>, nothing, subscribe<2>},
    {"read, lossy", full_ring<0>, own_reader<0>, read_one<0>},
    {"read, lossless", full_ring<1>, own_reader<1>, read_one<1>},
    {"read, latest", full_ring<2>, own_reader<2>, read_one<2>},
    {"unsubscribe", full_ring<1>, own_reader<1>, unsubscribe<1>},
    {"close a stream", extra_stream, nothing,
     [](Hand& h) {
         Stream s;
         CHECK(Stream::open(h.m, ledger().extra, s) == Status::ok && s.close(h.wait) == Status::ok);
     }},
    {"make and drop a stream", nothing, nothing,
     [](Hand& h) {
         Handle own;
         Stream s;
         CHECK(Stream::create(h.m, 2, StreamPolicy::latest, h.wait, own) == Status::ok &&
               Stream::open(h.m, own, s) == Status::ok);
         const Message msg = item(h, 0, Kind::block);
         CHECK(s.publish(msg, h.wait) == Status::ok);
         done_with(h, msg);
         release_hold(h, handle_index(own));
     }},
    {"make and drop a typed stream", nothing, nothing,
     [](Hand& h) {
         Handle own;
         Stream s;
         u64 hash;
         CHECK(Stream::create(h.m, 2, StreamPolicy::lossless, h.wait, own, kSchema) == Status::ok &&
               Stream::open(h.m, own, s) == Status::ok && s.schema(hash) == kSchema);
         release_hold(h, handle_index(own));
     }},
    // frames
    {"acquire a frame", nothing, nothing,
     [](Hand& h) { CHECK(h.frames.acquire(h.wait, h.held[0]) == Status::ok); }},
    {"return a frame", nothing,
     [](Hand& h) { CHECK(h.frames.acquire(h.wait, h.held[0]) == Status::ok); }, drop_held<0>},
    {"make and drop frames", nothing, nothing,
     [](Hand& h) {
         Handle own;
         CHECK(Frames::create(h.m, 2, 3000, "abc", 3, h.wait, own) == Status::ok);
         release_hold(h, handle_index(own));
     }},
    {"drop frames while one is out", nothing,
     [](Hand& h) {
         Frames f;
         CHECK(Frames::create(h.m, 2, 3000, "abc", 3, h.wait, h.held[0]) == Status::ok &&
               Frames::open(h.m, h.held[0], f) == Status::ok);
         CHECK(f.acquire(h.wait, h.held[1]) == Status::ok);
     },
     [](Hand& h) {
         release_hold(h, handle_index(h.held[0])), release_hold(h, handle_index(h.held[1]));
     }},
    // directory
    {"set a name", two_names, nothing, [](Hand& h) { set_name(h, "new", 300); }},
    {"set a name again", two_names, nothing, [](Hand& h) { set_name(h, "x", 300); }},
    {"set a name that exists", two_names, nothing, [](Hand& h) { set_name(h, "x", 300, true); }},
    {"erase a name", two_names, nothing, [](Hand& h) { erase_name(h, "x"); }},
    {"erase a name of several kinds", one_name_of_three_kinds, nothing,
     [](Hand& h) {
         directory::KindSet erased;
         CHECK(directory::erase(h.m, ~directory::KindSet{0}, "x", h.wait, erased) == Status::ok);
         CHECK(erased == (directory::kinds(NameKind::object) | directory::kinds(NameKind::queue) |
                          directory::kinds(NameKind::frames)));
     },
     kMany},
    {"erase names that nobody has", three_sets_of_frames, nothing,
     [](Hand& h) {
         u32 erased;
         CHECK(directory::erase_unused(h.m, NameKind::frames, {}, h.wait, erased) == Status::ok);
         CHECK(erased == 2);
     },
     kMany},
    {"list names", two_names, nothing,
     [](Hand& h) {
         std::vector<directory::Item> items;
         CHECK(directory::list(h.m, h.wait, items) == Status::ok && items.size() >= 8);
     }},
    // heap
    {"allocate", nothing, nothing, [](Hand& h) { allocate_block(h, 500); }},
    {"allocate new extents", nothing, nothing, [](Hand& h) { allocate_block(h, 5 * kMiB); }},
    {"drop", nothing, four_blocks, drop_held<1>},
    {"drop, free space before", nothing, but<0>, drop_held<1>},
    {"drop, free space behind", nothing, but<2>, drop_held<1>},
    {"drop, free space around", nothing, but<0, 2>, drop_held<1>},
    {"hold what is gone", nothing, gone_block, hold_stale},
    {"hold what was recycled", nothing, recycled_block, hold_stale},
    {"hold and drop", survivors_block, nothing, hold_and_drop},
    {"swap between containers", nothing,
     [](Hand& h) { h.held[0] = handle_of(h.m, allocate_block(h, 500)); },
     [](Hand& h) {
         for (const char* name : {"x", "y"}) {
             Handle found;
             CHECK(directory::set(h.m, NameKind::object, name, h.held[0], false, h.wait, found) ==
                   Status::ok);
         }
         erase_name(h, "x");
         erase_name(h, "y");
     },
     kInBetween},
    {"trim", room_to_trim, nothing, [](Hand& h) { CHECK(trim(h.m) != 0); }},
    // members
    {"join", nothing, nothing, nothing, kJoining},
    {"join in a dead member's row", dead_and_table_full, nothing, nothing, kJoining, 2},
    {"leave", nothing, hold_some, [](Hand& h) { h.m.leave(); }},
    {"fork, the parent dies", nothing, follow_forks, fork_once, kMany},
    {"fork, the child dies", nothing, follow_forks, fork_once, kMany | kChild},
    {"write to private pages", nothing, hold_some,
     [](Hand& h) {
         const u32 index = allocate_block(h, 70'000);
         write_privately(h, index);
         release_hold(h, index);
     }},
    {"write to private pages that are kept", nothing, hold_some,
     [](Hand& h) {
         const u32 index = allocate_block(h, kMiB);
         write_privately(h, index);
         write_privately(h, index);
         release_hold(h, index);
     }},
    {"fork with private pages, the parent dies", nothing, follow_forks, fork_with_private_pages,
     kMany},
    {"fork with private pages, the child dies", nothing, follow_forks, fork_with_private_pages,
     kMany | kChild},
    {"fork into a dead member's row", dead_with_everything, follow_forks_in_full_table,
     fork_into_dead_row, kMany, 3},
    {"fork into a dead one's, the child dies", dead_with_everything, follow_forks_in_full_table,
     fork_into_dead_row, kMany | kChild, 3},
    {"fork without a slot, the parent dies", nothing, follow_forks_in_full_table,
     fork_without_a_slot, kMany, 2},
    {"fork without a slot, the child dies", nothing, follow_forks_in_full_table,
     fork_without_a_slot, kMany | kChild, 2},
    // recovery
    {"collect", dead_with_everything, nothing, [](Hand& h) { collect_dead(h.m); }, kMany},
    {"collect, adding, not counted", counted_by_two<false, 0>, nothing,
     [](Hand& h) { collect_dead(h.m); }},
    {"collect, adding, counted", counted_by_two<false, 1>, nothing,
     [](Hand& h) { collect_dead(h.m); }},
    {"collect, adding, committed", counted_by_two<false, 2>, nothing,
     [](Hand& h) { collect_dead(h.m); }},
    {"collect, taking, committed", counted_by_two<true, 1>, nothing,
     [](Hand& h) { collect_dead(h.m); }},
    {"collect, taking, counted", counted_by_two<true, 2>, nothing,
     [](Hand& h) { collect_dead(h.m); }},
    {"allocate with a dead owner's heap lock", owner_of_heap_lock_died, nothing,
     [](Hand& h) { allocate_block(h, 700); }, kMany},
    {"find with a dead owner's directory lock", owner_of_names_lock_died, nothing,
     [](Hand& h) { set_name(h, "x", 100); }, kMany},
};

}  // namespace onecopy::campaign
#endif
