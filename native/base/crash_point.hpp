// Crash points. In a fault build every shared store, and every system call that changes shared
// state, has a number. A campaign can make this process die or stop right after the one that it
// names.
//
// In a fault build a crash point is a call of a function that the compiler cannot look into, so no
// access to memory moves over it. A normal build has the same order of stores to shared memory,
// without an instruction: what the campaign has shown holds for the program that users run.
//
//|  a store of a word    the word is volatile (base/shm_atomic.hpp), and the language keeps the order
//|                       of accesses to volatile memory
//|  bulk bytes,          stand between two barriers for the compiler: crash_point() is one
//|  system calls
//
// A barrier at each store of a word would do the same. But it takes room in the compiler's count of
// what is worth inlining, and the process's own variables are loaded again after it. That makes a
// dict's assignment 10 % slower.
#pragma once
#include <atomic>
#include <cstdint>

namespace onecopy {

#if defined(ONECOPY_FAULTS) && ONECOPY_FAULTS

void crash_point() noexcept;   // after a shared store
void before_store() noexcept;  // before it, and after the reads that it depends on

// What a campaign learns of a death or a pause. The record lies outside of the pool, in memory that
// the campaign shares with the victim, so the campaign can read it afterwards. It is written right
// before the signal is raised.
struct FaultRecord {
    std::uint64_t step;   // 0: no such step was reached
    std::uint64_t place;  // address behind the store. For people: addr2line, after subtracting
                          // where the program was loaded
};

// Raises SIGKILL (SIGSTOP) at the step-th crash point of this process from now. 0: at none.
// `record` may be null.
void crash_after(std::uint64_t step, FaultRecord* record = nullptr) noexcept;
void stop_at(std::uint64_t step, FaultRecord* record = nullptr) noexcept;
void stop_before(std::uint64_t step, FaultRecord* record = nullptr) noexcept;
// As crash_after, but for the child of this process's next fork. Steps count from the fork on, with
// the child's own fork handlers.
void crash_child_after(std::uint64_t step, FaultRecord* record = nullptr) noexcept;

// Calls `act` at the step-th crash point, in the thread that has reached it. Then the thread
// continues.
void call_at(std::uint64_t step, void (*act)() noexcept, FaultRecord* record = nullptr) noexcept;

std::uint64_t crash_steps() noexcept;  // crash points passed since one of the above

// One thread is held in the middle of an operation while its process ends. The record lies in
// memory that is shared with the campaign's process, which decides when the thread continues. A
// number other than 0 means yes.
struct StallRecord {
    std::uint64_t stalled;  // the kernel's id of the thread, once it is held
    std::uint64_t go_on;    // the thread may continue
    std::uint64_t left;     // the process has left its pools
    std::uint64_t may_end;  // the process may end
};
// Holds the calling thread at its step-th crash point from now. Only crash points count at which
// `may_stall` answers true. 0: at none.
void stall_at(std::uint64_t step, bool (*may_stall)() noexcept, StallRecord* record) noexcept;
// To be called when a process has left its pools: sets `left`, and waits for `may_end`.
void has_left_pools() noexcept;

#else
inline void crash_point() noexcept {
    std::atomic_signal_fence(std::memory_order_seq_cst);
}
inline void before_store() noexcept {}
inline void has_left_pools() noexcept {}
#endif

}  // namespace onecopy
