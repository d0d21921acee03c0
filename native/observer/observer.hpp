// A look at a whole pool for people: processes, what they wait for, and all structures. It takes no
// lock and no slot, and writes nothing. So it works on a pool whose processes are all stuck or
// dead, and what it shows may be contradictory where others write meanwhile.
// docs/design/0022-observer.md
//
// It trusts nothing that it reads: each index, offset and length is read once and checked. It knows
// no structure: it asks them through their table.
#pragma once
#include <string>
#include <vector>

#include "body/structures.hpp"
#include "observer/memory_map.hpp"
#include "os/processes.hpp"

namespace onecopy::observer {

struct Wait {
    WaitPurpose why;
    u32 thread;
    u64 since_ns;  // CLOCK_MONOTONIC
    // The block of the structure. 0: the subject is a part of the pool, or is not known any more.
    u32 subject;
    const char* part;  // "heap", "names", "memory", or "" if it is a structure
};

struct Process {
    u32 slot, pid, parent_pid, gen;
    RowState state;
    os::Life life;
    u64 start_ticks, pid_namespace, born_ns, blocks, bytes;
    std::vector<Wait> waits;
    bool more_may_wait;  // all records are in use
};

struct Thing {
    u32 index;
    u32 gen;
    BodyKind body;  // none: an object that has a name
    u32 name_kind;  // 0: it has no name
    std::string name;
    u64 bytes, blocks;         // with all that belongs to it and to no other thing
    u32 parent;                // the thing that refers to it; 0: none
    std::vector<u32> open_in;  // slots
    Observed seen;
};

// A frame that no process holds, because a message or an item of a thing refers to it.
struct Referrer {
    u32 block, thing;
};

struct Inner {
    const char* name;
    u32 slot;
    bool passed;
};

struct Pool {
    u64 id[2];
    HeapStats heap;
    u64 created_ns, flags, now_ns, own_namespace;
    u32 max_processes, creator_pid, creator_uid;
    bool corrupt;
    bool truncated;  // there are more things than it looks at
    std::vector<Process> processes;
    std::vector<Thing> things;
    std::vector<Referrer> referrers;
    std::vector<Inner> locks;  // of the heap and the names, with their owners
    MemoryMap map;
};

// Throws std::bad_alloc.
Pool observe(Member& m);

}  // namespace onecopy::observer
