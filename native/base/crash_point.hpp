// Crash points. In a fault build every shared store, and every system call that changes shared
// state, has a number. A campaign can make this process die or stop right after the one that it
// names.
//
// In a normal build a crash point is a barrier for the compiler and no instruction. In a fault
// build it is a call of a function that the compiler cannot look into, so no access to memory moves
// over it. The barrier gives the normal build the same order of stores: what the campaign has shown
// holds for the program that users run.
#pragma once
#include <atomic>
#include <cstdint>

namespace onecopy {

#if defined(ONECOPY_FAULTS) && ONECOPY_FAULTS

void crash_point() noexcept;   // after a shared store
void before_store() noexcept;  // before it, and after the looks on which it rests

// What a campaign learns of a death or a pause. It lies where the campaign can read it afterwards:
// outside the pool, in memory shared with the victim. Written right before the signal is raised, so
// what it says is where it happened.
struct FaultRecord {
    std::uint64_t step;   // 0: nothing was reached
    std::uint64_t place;  // address behind the store, for people: addr2line, minus where the
                          // program was loaded
};

// The step-th crash point of this process from now raises SIGKILL (SIGSTOP). 0: none does. `record`
// may be null.
void crash_after(std::uint64_t step, FaultRecord* record = nullptr) noexcept;
void stop_at(std::uint64_t step, FaultRecord* record = nullptr) noexcept;
void stop_before(std::uint64_t step, FaultRecord* record = nullptr) noexcept;
// As crash_after, but meant for the child of this process's next fork: steps count from the fork
// on, its own handlers included.
void crash_child_after(std::uint64_t step, FaultRecord* record = nullptr) noexcept;

// Calls `act` at the step-th crash point, in the thread that has reached it. The thread then goes
// on.
void call_at(std::uint64_t step, void (*act)() noexcept, FaultRecord* record = nullptr) noexcept;

std::uint64_t crash_steps() noexcept;  // crash points passed since one of the above

// One thread held in the middle of an operation while its process ends. It lies in memory shared
// with the campaign's process, which decides when things go on. Numbers other than 0 say yes.
struct StallRecord {
    std::uint64_t stalled;  // the kernel's id of the thread, once it is held
    std::uint64_t go_on;    // it may go on
    std::uint64_t left;     // the process has done all that it does to leave its pools
    std::uint64_t may_end;  // and may end now
};
// Holds the calling thread at its step-th crash point from now, of those at which `may_stall`
// answers true. 0: at none.
void stall_at(std::uint64_t step, bool (*may_stall)() noexcept, StallRecord* record) noexcept;
// For the end of leaving: tells the record, and waits for `may_end`.
void has_left_pools() noexcept;

#else
inline void crash_point() noexcept {
    std::atomic_signal_fence(std::memory_order_seq_cst);
}
inline void before_store() noexcept {}
inline void has_left_pools() noexcept {}
#endif

}  // namespace onecopy
