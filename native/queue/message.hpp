// What travels through a slot: up to 232 bytes of encoded object, and at most one block.
#pragma once
#include "layout/layout.hpp"

namespace onecopy {
constexpr u32 kInlineBytes = 232;
struct Message {
    Handle block = 0;  // sending: held by the caller. receiving: held for the caller.
    u32 length = 0;
    alignas(8) unsigned char bytes[kInlineBytes];
};
// A slot as it stands in a queue chunk or a stream ring: 256 bytes.
struct Slot {
    shm_atomic<u64> cell;    // reference cell
    shm_atomic<u64> stamp;   // stream: 2k+1 while message k is written, 2k+2 when complete. queue: room for redelivery
    shm_atomic<u32> length;
    shm_atomic<u32> spare;
    alignas(8) unsigned char bytes[kInlineBytes];
};
static_assert(sizeof(Slot) == 256);
}  // namespace onecopy
