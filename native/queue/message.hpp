// What a slot carries: up to 232 bytes of an encoded object, and at most one block.
#pragma once
#include "layout/layout.hpp"

namespace onecopy {
constexpr u32 kInlineBytes = 232;
struct Message {
    Handle block = 0;  // to be sent: the caller holds it. Received: it is held for the caller.
    u32 length = 0;
    // Of a received message: how often it was given out before. Its taker died, or gave it back. At
    // most Taking::kMostTimes.
    u32 redeliveries = 0;
    u64 position = 0;  // received from a queue that redelivers: the argument of `task_done`
    alignas(8) unsigned char bytes[kInlineBytes];
};
// A slot in a queue chunk or in the ring of a stream: 256 bytes.
struct Slot {
    shm_atomic<u64> cell;  // reference cell
    // Stream: 2k+1 while message k is written, 2k+2 when it is complete. Queue that redelivers:
    // Taking.
    shm_atomic<u64> stamp;
    shm_atomic<u32> length;
    shm_atomic<u32> spare;
    alignas(8) unsigned char bytes[kInlineBytes];
    ONECOPY_SHARED_STRUCT(Slot, cell, stamp, length, spare, bytes)
};
static_assert(sizeof(Slot) == 256);

// The receiver that holds the message of a slot between floor and head: tag:32 | thread:24 |
// times:6 | state:2. Beyond the head it means nothing. A slot that is done has its state only.
struct Taking {
    u64 raw;
    enum State : u32 { never = 0, taken = 1, returned = 2, done = 3 };
    static constexpr u32 kThreadMask = 0xffffff;
    static constexpr u32 kMostTimes = 63;
    // `tag` names a process by slot and generation, as lock words do. `thread` is a number within
    // the process, for task_done without a position. `times`: how often it was given out before.
    static constexpr Taking by(u32 tag, u32 thread, u32 times) noexcept {
        return {u64{tag} << 32 | u64{thread & kThreadMask} << 8 | u64{times} << 2 | taken};
    }
    constexpr Taking back() const noexcept { return {u64{times()} << 2 | returned}; }
    constexpr State state() const noexcept { return static_cast<State>(raw & 3); }
    constexpr u32 times() const noexcept { return static_cast<u32>(raw >> 2) & kMostTimes; }
    constexpr u32 thread() const noexcept { return static_cast<u32>(raw >> 8) & kThreadMask; }
    constexpr u32 tag() const noexcept { return static_cast<u32>(raw >> 32); }
};
}  // namespace onecopy
