// The process's own memory, which can run out.
//
// The core does not throw. Recovery, forks and ends need no memory at all. Every other operation
// that needs memory allocates it inside of `within_memory`, before it changes anything, and answers
// `out_of_memory` if there is none.
#pragma once
#include <cstdint>
#include <new>

#include "base/status.hpp"

namespace onecopy {

// If a container of the standard library throws inside of `act`, all that `act` holds is released.
template <class Act>
Status within_memory(Act act) noexcept {
    try {
        return act();
    } catch (const std::bad_alloc&) {
        return Status::out_of_memory;
    }
}

#if defined(ONECOPY_FAULTS) && ONECOPY_FAULTS
// The nth allocation of this process from now fails, and with `lasting` all that follow. 0: none
// fails. It counts the calls of `new`, and those of `allocation_fails` by a campaign.
void fail_allocation(std::uint64_t nth, bool lasting) noexcept;
bool allocation_fails() noexcept;
std::uint64_t allocations() noexcept;  // since the call above
#endif

}  // namespace onecopy
