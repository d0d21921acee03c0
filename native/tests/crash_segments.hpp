// Deaths around shared-memory segments: creating, attaching, releasing, unlinking, sweeping, the
// end of a process. There is no shared store in these operations: their steps are system calls.
//
// Three processes: the actor, which dies; the survivor, which lives through it, and in some cases
// holds or owns the segment; the outsider, which comes afterwards. One sweep by the outsider leaves
// nothing that nobody uses, and takes nothing that a process uses.
#pragma once
#include <string>

#include "storage/shared_memory.hpp"
#include "tests/crash_files.hpp"

#if defined(ONECOPY_FAULTS) && ONECOPY_FAULTS

namespace onecopy::campaign {

using Held = std::shared_ptr<Segment>;

constexpr u64 kSegmentBytes = 12'345;
constexpr const char* kSegmentName = "s";

// What the survivor has to do with the segment, throughout.
enum class Survivor {
    none,
    has,    // it made it: it holds it, and is its owner
    owns,   // it made it, and has released it
    holds,  // it has attached to it; the owner is dead
};

struct SegmentCase {
    const char* name;
    Survivor survivor;
    void (*ready)(Held&);  // by the actor, before its crash points count
    void (*act)(Held&);
    bool may_lose_name = false;  // the name may be gone, although a process uses the segment
    bool persistent = false;     // what the actor makes stays until it is unlinked
};

inline Status make_segment(Held& out, bool persistent = false, const char* name = kSegmentName) {
    Failure why;
    UnboundedWait wait;
    NewSegment made;
    Status s = made.make(directory_of_world(), kSegmentBytes, persistent, why, wait);
    if (s == Status::ok) {
        const os::Descriptor again(os::open_again(made.number()));
        auto* base =
            static_cast<unsigned char*>(os::map_shared(again.number(), kSegmentBytes, true));
        CHECK(base != nullptr);
        for (u64 i = 0; i < kSegmentBytes; ++i) {
            CHECK(base[i] == 0);  // new, and all of it there
            base[i] = static_cast<unsigned char>(i % 251);
        }
        os::unmap(base, kSegmentBytes);
        s = made.publish(name, 0, out, why);
    }
    if (s != Status::ok && s != Status::exists)
        std::fprintf(stderr, "make a segment: %s, errno %d\n", why.what.c_str(), why.error);
    return s;
}
inline Status attach_it(Held& out) {
    Failure why;
    UnboundedWait wait;
    return attach_segment(directory_of_world(), kSegmentName, out, why, wait);
}
inline Status unlink_segment(Segment& segment) {
    Failure why;
    UnboundedWait wait;
    return segment.unlink(why, wait);
}
inline std::vector<SegmentInfo> sweep_all() {
    std::vector<SegmentInfo> found;
    CHECK(sweep_segments(directory_of_world(), true, found));
    return found;
}
// Whether the contents are those that `make_segment` wrote.
inline void expect_whole(Segment& segment) {
    CHECK(segment.size() == kSegmentBytes && segment.is_ours());
    const os::Descriptor again(os::open_again(segment.number()));
    auto* base = static_cast<unsigned char*>(os::map_shared(again.number(), kSegmentBytes, true));
    CHECK(base != nullptr);
    for (u64 i = 0; i < kSegmentBytes; ++i)
        CHECK(base[i] == i % 251);
    os::unmap(base, kSegmentBytes);
}

inline void no_segment(Held&) {}
inline void segment_made(Held& held) {
    CHECK(make_segment(held) == Status::ok);
}
inline void made_and_released(Held& held) {
    segment_made(held);
    held->release();
}
inline void made_to_stay_there(Held& held) {
    CHECK(make_segment(held, true) == Status::ok);
}
inline void attached(Held& held) {
    CHECK(attach_it(held) == Status::ok);
}
// In a process that is killed afterwards.
inline void killed_after(void (*act)(Held&)) {
    const pid_t child = fork();
    if (child == 0) {
        Held held;
        act(held);
        kill(getpid(), SIGKILL);
    }
    int status = 0;
    CHECK(waitpid(child, &status, 0) == child && WIFSIGNALED(status));
}
inline void stale_segment(Held&) {
    killed_after(segment_made);
}
// Held by this process, and owned by one that is dead.
inline void stale_but_held(Held& held) {
    int ready[2], end[2];
    CHECK(pipe2(ready, O_CLOEXEC) == 0 && pipe2(end, O_CLOEXEC) == 0);
    const pid_t child = fork();
    if (child == 0) {
        Held made;
        segment_made(made);
        CHECK(write(ready[1], "", 1) == 1);
        char byte = 0;
        close(end[1]);
        CHECK(read(end[0], &byte, 1) == 0);
        kill(getpid(), SIGKILL);
    }
    char byte = 0;
    CHECK(read(ready[0], &byte, 1) == 1);
    attached(held);
    for (const int each : {ready[0], ready[1], end[0], end[1]})
        close(each);
    int status = 0;
    CHECK(waitpid(child, &status, 0) == child && WIFSIGNALED(status));
}
inline SegmentState state_after_sweep() {
    for (const SegmentInfo& each : sweep_all())
        if (each.name == kSegmentName) return each.state;
    return SegmentState::none;
}
inline void segment_released(Held& held) {
    held->release();
}

inline const SegmentCase kSegmentCases[] = {
    {"segment: create", Survivor::none, no_segment, segment_made},
    {"segment: create in the place of a stale one", Survivor::none, stale_segment, segment_made},
    {"segment: create what exists", Survivor::has, no_segment,
     [](Held& held) { CHECK(make_segment(held) == Status::exists); }},
    {"segment: create one that stays", Survivor::none, no_segment, made_to_stay_there, false, true},
    {"segment: attach", Survivor::has, no_segment, attached},
    {"segment: attach to one that nobody holds", Survivor::owns, no_segment, attached},
    {"segment: attach to a stale one", Survivor::none, stale_segment,
     [](Held& held) { CHECK(attach_it(held) == Status::no_entry); }},
    {"segment: close", Survivor::has, attached, segment_released},
    {"segment: close one's own", Survivor::none, segment_made, segment_released},
    {"segment: close as the last one", Survivor::none, stale_but_held,
     [](Held& held) {
         held->release();
         CHECK(files_in_directory() == 0);
     }},
    {"segment: take over", Survivor::none, stale_but_held,
     [](Held& held) {
         Failure why;
         CHECK(held->take_over(why) == Status::ok);
     }},
    {"segment: unlink", Survivor::has, attached,
     [](Held& held) { CHECK(unlink_segment(*held) == Status::ok); }, true},
    {"segment: unlink as the only one", Survivor::none, segment_made,
     [](Held& held) { CHECK(unlink_segment(*held) == Status::ok); }},
    {"segment: unlink, and make it again", Survivor::none, segment_made,
     [](Held& held) {
         CHECK(unlink_segment(*held) == Status::ok);
         segment_made(held);
     }},
    {"segment: sweep a stale one", Survivor::none, stale_segment,
     [](Held&) { CHECK(state_after_sweep() == SegmentState::removed); }},
    {"segment: sweep one in use", Survivor::has, no_segment,
     [](Held&) { CHECK(state_after_sweep() == SegmentState::in_use); }},
    {"segment: sweep one whose owner is dead", Survivor::holds, no_segment,
     [](Held&) { CHECK(state_after_sweep() == SegmentState::in_use); }},
    {"segment: attach to one whose owner is dead", Survivor::holds, no_segment, attached},
    {"segment: close one whose owner is dead", Survivor::holds, attached, segment_released},
    {"segment: sweep one that is kept", Survivor::owns, no_segment,
     [](Held&) { CHECK(state_after_sweep() == SegmentState::kept); }},
    {"segment: the end of a process", Survivor::has,
     [](Held& held) {
         Held own;
         CHECK(make_segment(own, false, "own") == Status::ok);
         CHECK(make_segment(held, false, "left") == Status::ok);
         held->release();
         attached(held);
         keep_segments();
     },
     [](Held&) { release_segments(directory_of_world().c_str()); }},
};

// What a process finds that comes after the actor's end.
inline void sweep_after(const SegmentCase& one) {
    const std::vector<SegmentInfo> found = sweep_all();
    const bool used = one.survivor != Survivor::none;
    const bool held_by_survivor = used && one.survivor != Survivor::owns;
    int left = 0;
    for (const SegmentInfo& each : found) {
        if (each.state == SegmentState::removed) continue;
        ++left;
        CHECK(each.name == kSegmentName);
        CHECK(each.state == (held_by_survivor ? SegmentState::in_use
                             : one.persistent ? SegmentState::persistent
                                              : SegmentState::kept));
        CHECK(each.size == kSegmentBytes);
    }
    // No leftover, also none that a sweep does not take for a segment.
    CHECK(files_in_directory() == left);
    if (used && !one.may_lose_name) CHECK(left == 1);
    if (!used && !one.persistent) CHECK(left == 0);
    Held held;
    if (left == 1) {
        CHECK(make_segment(held) == Status::exists);
        CHECK(attach_it(held) == Status::ok);
    } else {
        CHECK(attach_it(held) == Status::no_entry);
        CHECK(make_segment(held) == Status::ok);
    }
    expect_whole(*held);
    // What the survivor made stays its own to unlink.
    if (!used || left == 0) CHECK(unlink_segment(*held) == Status::ok);
    held->release();
}

}  // namespace onecopy::campaign
#endif
