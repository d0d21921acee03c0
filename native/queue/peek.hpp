// The next messages of a queue, for an observer: copies of their bytes. It takes no lock, holds
// nothing and stores nothing, so it may look at a pool that is mapped for reading only. Consumers
// may take and free a message while it is copied: then the copy is thrown away.
// docs/design/0022-observer.md, "Peeking"
#pragma once
#include <vector>

#include "queue/queue.hpp"

namespace onecopy {

struct CopiedBlock {
    u64 length = 0;      // as asked for
    bool whole = false;  // false: it is too large, or another block by now, and `bytes` is empty
    std::vector<unsigned char> bytes;
};

struct PeekedMessage {
    u64 position = 0;
    bool sound = true;      // false: its slot makes no sense
    bool returned = false;  // it was given out before, and is to be given out again
    u32 redeliveries = 0;
    std::vector<unsigned char> bytes;  // what lies in the slot
    bool has_block = false;
    CopiedBlock block;
    std::vector<CopiedBlock> children;  // what the cells of the block refer to, in their order
};

struct Peeked {
    std::vector<PeekedMessage> messages;  // in the order in which they would be taken
    u64 taken = 0;                        // were taken while we looked
};

// Copies at most `most` messages, and at most `budget` bytes of blocks. ok. stale: the block is
// another one by now. corrupt, bad_argument: it is no queue. Throws std::bad_alloc.
Status peek(Member& m, u32 index, u32 gen, u32 most, u64 budget, Peeked& out);

}  // namespace onecopy
