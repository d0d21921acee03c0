// What travels through a slot: up to 232 bytes of encoded object, and at most one block.
#pragma once
#include "layout/layout.hpp"

namespace onecopy {
constexpr u32 kInlineBytes = 232;
struct Message {
    Handle block = 0;  // sending: held by the caller. receiving: held for the caller.
    u32 length = 0;
    // Received from a queue: how often it was given out before, and came back because its taker
    // died or gave it back; at most Taking::kMostTimes.
    u32 redeliveries = 0;
    u64 position = 0;  // received from a queue that redelivers: what `task_done` finishes
    alignas(8) unsigned char bytes[kInlineBytes];
};
// A slot as it stands in a queue chunk or a stream ring: 256 bytes.
struct Slot {
    shm_atomic<u64> cell;  // reference cell
    // Stream: 2k+1 while message k is written, 2k+2 when complete. redelivering queue: Taking.
    shm_atomic<u64> stamp;
    shm_atomic<u32> length;
    shm_atomic<u32> spare;
    alignas(8) unsigned char bytes[kInlineBytes];
    ONECOPY_SHARED_STRUCT(Slot, cell, stamp, length, spare, bytes)
};
static_assert(sizeof(Slot) == 256);

// Who has the message of a slot between its floor and its head: tag:32 | thread:24 | times:6 |
// state:2. Beyond the head it means nothing. A slot that is done has its state only.
struct Taking {
    u64 raw;
    enum State : u32 { never = 0, taken = 1, returned = 2, done = 3 };
    static constexpr u32 kThreadMask = 0xffffff;
    static constexpr u32 kMostTimes = 63;
    // `tag` as in lock words: a process, by slot and generation. `thread` is a number within it,
    // for task_done without a position. `times` counts how often it was given out before.
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
