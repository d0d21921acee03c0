// A message as an object in the pool: what `Pool.put` makes, and names refer to. codec.cpp
#pragma once
#include "queue/message.hpp"

namespace onecopy::py {

enum class Inside : u32 { none = 0, own = 1, child = 2 };  // where the message's block is

// A block that has nothing else in it ends with the message; else the rest begins behind all of
// this.
struct Envelope {
    u32 length;
    Inside inside;
    u64 child;  // reference cell
    unsigned char bytes[kInlineBytes];
    u64 spare;
    ONECOPY_SHARED_STRUCT(Envelope, length, inside, child, bytes, spare)
};
static_assert(sizeof(Envelope) == 256 && sizeof(Envelope) % kUnit == 0);

}  // namespace onecopy::py
