// Crash points: in a fault build every shared store, and every system call that changes shared
// state, is numbered, and a campaign can have this process die or stop right after the one it
// names. In a normal build nothing of this exists.
#pragma once
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

#else
inline void crash_point() noexcept {}
inline void before_store() noexcept {}
#endif

}  // namespace onecopy
