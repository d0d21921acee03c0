// What an operation of the core can answer. The core never throws. The bindings turn these into
// exceptions.
#pragma once
#include <cstdint>

namespace onecopy {

enum class Status : std::uint8_t {
    ok,
    owner_died,   // ok, and the last owner of the lock died: repair before use
    would_block,  // nothing to take, no room, lock held: try again or wait
    timed_out,
    interrupted,  // the caller asked to stop waiting: a signal handler raised
    no_memory,    // the pool, or the memory under it, is full
    too_large,    // can never fit
    no_slot,      // the process table is full
    no_entry,     // no such name
    exists,       // that name is taken
    stale,        // the handle's block is gone
    shut_down,    // the channel was shut down
    table_full,   // a fixed table (names, blocks, subscribers) is full
    bad_argument,
    corrupt,      // the segment breaks an invariant
    bad_version,  // another layout
    not_allowed,  // owner or mode
    lost,    // this process's descriptor of the pool was closed: it cannot use the pool any more
    closed,  // this member has left, or has no slot (a fork with a full table)
    system_error,       // errno says what
    deadlock,           // the caller would wait for itself
    not_held,           // the caller gave back what it does not have
    out_of_memory,      // the process's own memory is full; nothing was changed
    broken,             // a barrier that can never fill any more
    read_elsewhere,     // the file is open for reading only: nobody may write it at the same time
    written_elsewhere,  // the file has members, so it may change
};

inline bool good(Status s) noexcept {
    return s == Status::ok || s == Status::owner_died;
}

}  // namespace onecopy
