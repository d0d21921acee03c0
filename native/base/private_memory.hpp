// Memory of the process's own, which may be used up.
//
// The core does not throw. Recovery, forks and ends need no memory at all. What else needs some
// gets it before it changes anything, inside of `within_memory`, and answers `out_of_memory`.
#pragma once
#include <cstdint>
#include <new>

#include "base/status.hpp"

namespace onecopy {

// Where the standard library's containers throw inside of `act`, all that is held there is let go.
template <class Act>
Status within_memory(Act act) noexcept {
    try {
        return act();
    } catch (const std::bad_alloc&) {
        return Status::out_of_memory;
    }
}

#if defined(ONECOPY_FAULTS) && ONECOPY_FAULTS
// The nth allocation of this process from now finds no memory, and if `lasting` all that follow. 0:
// none. Counts what `new` gets here, and what a campaign makes ask `allocation_fails`.
void fail_allocation(std::uint64_t nth, bool lasting) noexcept;
bool allocation_fails() noexcept;
std::uint64_t allocations() noexcept;  // since the call above
#endif

}  // namespace onecopy
