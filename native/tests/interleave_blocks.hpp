// Operations that meet: blocks, queues, frames, streams.
#pragma once
#include "tests/interleave_stage.hpp"

#if defined(ONECOPY_FAULTS) && ONECOPY_FAULTS

namespace onecopy::interleave {

using namespace onecopy::campaign;

// ---- blocks that a process holds: nobody else's bytes may appear in them

constexpr u64 kMark = 0x1122334455667788;
constexpr u64 kSize = 2000;

inline void keep(Hand& h, Handle block) {
    for (Handle& place : h.held) {
        if (place == 0) {
            place = block;
            return;
        }
    }
    CHECK(!"too many");
}
// Overwrites whatever memory the allocator gives out.
inline void scribble(Hand& h) {
    u32 blocks[6];
    const u64 sizes[6] = {kSize, kSize, 3000, 700, 300, kFrameBytes};
    for (int i = 0; i < 6; ++i) {
        blocks[i] = allocate_block(h, sizes[i]);
        std::memset(data_of(h, handle_of(h.m, blocks[i])), 0xee, sizes[i]);
    }
    for (u32 block : blocks)
        release_hold(h, block);
}
inline void verify_and_drop(Hand& h) {
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
inline Handle marked_block(Hand& h) {
    const Handle block = handle_of(h.m, allocate_block(h, kSize));
    *reinterpret_cast<u64*>(data_of(h, block)) = kMark;
    return block;
}

inline void offers(Hand& h) {  // makes a block that only it holds, and tells the other
    stage().handle[0] = marked_block(h);
}
inline void drops_offered(Hand& h) {
    release_hold(h, handle_index(stage().handle[0]));
}
inline void drops_and_recycles(Hand& h) {
    drops_offered(h);
    const Handle again = marked_block(h);
    release_hold(h, handle_index(again));
}
inline void offers_what_is_recycled(Hand& h) {
    offers(h);
    drops_offered(h);
    stage().handle[1] = marked_block(h);
    CHECK(handle_index(stage().handle[1]) == handle_index(stage().handle[0]));
}
inline void drops_new_life(Hand& h) {
    release_hold(h, handle_index(stage().handle[1]));
}
inline void holds_offered(Hand& h) {
    const Status s = hold(h.m, stage().handle[0]);
    CHECK(s == Status::ok || s == Status::stale);
    if (s == Status::ok) keep(h, stage().handle[0]);
}
inline void both_hold(Hand& h) {
    CHECK(hold(h.m, stage().handle[0]) == Status::ok);
}
inline void survivor_offers(Hand& h) {  // an extra block, held by the survivor too
    stage().handle[0] = ledger().extra = marked_block(h);
}

// ---- queue

inline void sends_and_keeps(Hand& h) {
    const Handle block = marked_block(h);
    Message msg;
    msg.length = 8;
    std::memcpy(msg.bytes, &kMark, 8);
    msg.block = block;
    Queue& q = h.queues[1];
    CHECK(q.put(msg, h.wait) == Status::ok);
    stage().handle[0] = block;
}
inline void takes_and_keeps(Hand& h) {
    Message msg;
    CHECK(h.queues[1].get(msg, h.wait) == Status::ok);
    keep(h, msg.block);
}
inline void puts_block(Hand& h) {
    put(h, Kind::block);
}
inline void gets(Hand& h) {
    Message msg;
    CHECK(h.queues[0].get(msg, h.wait) == Status::ok);
    number_of(h, msg);
    done_with(h, msg);
}
inline void puts_narrow(Hand& h) {
    put(h, Kind::block, 1);
}
inline void gets_narrow(Hand& h) {
    get(h, 1);
}
// With two producers the order of the numbers is theirs, so only the consumers' side is checked.
inline void puts_number_under_lock(Hand& h) {
    Message msg = item(h, kMark, Kind::block);
    CHECK(h.queues[0].put(msg, h.wait) == Status::ok);
    done_with(h, msg);
}
inline void takes_both(Hand& h) {
    for (int i = 0; i < 2; ++i) {
        Message msg;
        CHECK(h.queues[0].get(msg, h.wait) == Status::ok && number_of(h, msg) == kMark);
        done_with(h, msg);
    }
}

// ---- frames

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
inline void all_out(Hand& h) {
    for (u32 i = 0; i < kFrames; ++i) {
        Handle frame;
        CHECK(h.frames.acquire(h.wait, frame) == Status::ok);
        *reinterpret_cast<u64*>(data_of(h, frame)) = kMark;
        keep(h, frame);
    }
}
inline void returns_one(Hand& h) {
    const Handle frame = h.held[1];
    h.held[1] = 0;
    release_hold(h, handle_index(frame));
}
inline void returns_last(Hand& h) {
    const Handle frame = h.held[kFrames - 1];
    h.held[kFrames - 1] = 0;
    release_hold(h, handle_index(frame));
}
inline void knows_a_frame(Hand& h) {
    Handle frame;
    CHECK(h.frames.acquire(h.wait, frame) == Status::ok);
    stage().handle[0] = frame;
    *reinterpret_cast<u64*>(data_of(h, frame)) = kMark;
    release_hold(h, handle_index(frame));
}
inline void holds_frame(Hand& h) {
    const Status s = hold(h.m, stage().handle[0]);
    CHECK(s == Status::ok || s == Status::stale);
    if (s != Status::ok) return;
    keep(h, stage().handle[0]);
    stage().mine[1] = handle_index(stage().handle[0]);
    CHECK(stage().mine[0] != stage().mine[1]);
}

// ---- stream

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
inline void unfollows(Hand& h) {
    unsubscribe<1>(h);
}

}  // namespace onecopy::interleave

#endif
