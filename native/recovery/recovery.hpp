// The only repair code that crosses structures: what a dead process leaves behind.
#pragma once
#include <string>
#include <vector>

#include "heap/heap.hpp"

namespace onecopy {

void install_recovery() noexcept;                 // hooks Member::recover_slot
bool recover(Member& m, u32 slot) noexcept;       // true: that slot's owner was dead and is cleaned
void recover_held(Member& m, u32 slot) noexcept;  // its lock byte is held by us
u32 collect_dead(Member& m) noexcept;             // every slot; number of dead members cleaned
std::vector<std::string> validate(Member& m, WaitPolicy& p);  // every structure

}  // namespace onecopy
