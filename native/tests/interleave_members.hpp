// Operations that meet: names, the heap, members that come, go and fork.
#pragma once
#include "tests/interleave_blocks.hpp"

#if defined(ONECOPY_FAULTS) && ONECOPY_FAULTS

namespace onecopy::interleave {

using namespace onecopy::campaign;

// ---- names

inline void named_block(Hand& h, const char* name) {
    const Handle block = marked_block(h);
    Handle found;
    CHECK(directory::set(h.m, NameKind::object, name, block, false, h.wait, found) == Status::ok);
    release_hold(h, handle_index(block));
}
inline void sets(Hand& h) {
    named_block(h, "x");
}
inline void finds(Hand& h) {
    Handle found = 0;
    const Status s = directory::find(h.m, NameKind::object, "x", h.wait, found);
    CHECK(s == Status::ok || s == Status::no_entry);
    if (s == Status::ok) keep(h, found);
}
inline void erases(Hand& h) {
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
inline void offered_under_two_names(Hand& h) {
    survivor_offers(h);
    names_offered<'x'>(h);
    names_offered<'y'>(h);
    release_hold(h, handle_index(ledger().extra));  // the names have it
    ledger().extra = 0;
}
inline void names_frames(Hand& h) {
    Handle own;
    CHECK(Frames::create(h.m, 2, 3000, "abc", 3, h.wait, own) == Status::ok);
    name_as(h, NameKind::frames, "x", own);
}
// A process that finds them can use them, whatever happens to the name.
inline void finds_frames(Hand& h) {
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
inline void erases_unused(Hand& h) {
    u32 erased;
    CHECK(directory::erase_unused(h.m, NameKind::frames, {}, h.wait, erased) == Status::ok);
}
inline void erases_all_kinds(Hand& h) {
    directory::KindSet erased;
    const Status s = directory::erase(h.m, ~directory::KindSet{0}, "x", h.wait, erased);
    CHECK((s == Status::ok) == (erased != 0) && (s == Status::ok || s == Status::no_entry));
}
// Containers that have no lock in common: the count is the only place where they meet.
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
    release_hold(h, box.index);  // its reference goes with it
}

// ---- heap and members

inline void allocates(Hand& h) {
    keep(h, marked_block(h));
}
inline void frees(Hand& h) {
    release_hold(h, handle_index(h.held[1])), h.held[1] = 0;
}
inline void some_blocks(Hand& h) {
    for (int i = 0; i < 3; ++i)
        keep(h, marked_block(h));
}
inline void collects(Hand& h) {
    collect_dead(h.m);
}
// Nothing of the dead process has to be freed, so the sweep does not wait for the heap lock.
inline void dead_with_nothing(Hand& h) {
    victim(h.m.file.number(), 0, nothing);
}
// A process died inside a put (a get). Its reference was counted (its hold was taken), and nothing
// was committed: it has the lock, and its intent is open.
inline void died_in_put(Hand& h) {
    few_items(h);
    static Message msg;
    victim(
        h.m.file.number(), 13, [](Hand& v) { CHECK(v.queues[0].put(msg, v.wait) == Status::ok); },
        [](Hand& v) { msg = item(v, kMark, Kind::block); });
    CHECK(h.queues[0].size() == 4);
    CHECK(h.m.row(1).intent.load() == static_cast<u32>(IntentKind::put));
}
inline void died_in_get(Hand& h) {
    put(h, Kind::block);
    put(h, Kind::block);
    victim(h.m.file.number(), 9 + 1, [](Hand& v) { get(v); });
    CHECK(h.queues[0].size() == 2);
    CHECK(h.m.row(1).intent.load() == static_cast<u32>(IntentKind::take));
}
inline void joins(Hand& h) {
    auto m = test::join_pool(h.m.file.number());
    Hand other(*m);
    const Handle block = marked_block(other);
    CHECK(*reinterpret_cast<u64*>(data_of(other, block)) == kMark);
    release_hold(other, handle_index(block));
}
inline void leaves(Hand& h) {
    std::memset(h.held, 0, sizeof h.held);
    h.m.leave();
}
inline void forks(Hand& h) {
    int ends[2];
    CHECK(pipe(ends) == 0);
    const pid_t child = fork();
    CHECK(child >= 0);
    if (child == 0) {
        // The child holds what the parent holds, and its content is right after the parent has
        // dropped it.
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
// With the survivor and the two players, the table is full.
inline void five_dead(Hand& h) {
    for (int i = 0; i < 5; ++i)
        victim(h.m.file.number(), 0, [](Hand& v) { allocate_block(v, kSize); });
}
inline void ready_to_fork(Hand& h) {
    some_blocks(h);
    register_member(h.m);
}

}  // namespace onecopy::interleave

#endif
