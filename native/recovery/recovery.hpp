// What a dead process leaves behind: its slot, its intent, its holds. What it was changing under a
// lock is repaired by the lock's next owner:
//
//|    a process dies
//|      |
//|      +-- its slot              recovery.cpp, by any member that meets it (Member::gone,
// collect_dead), |      |                         under the lock byte of the slot: intent,
// generation, holds, row |      | |      +-- a lock that it had    names nobody once the generation
// has moved; the next owner gets |            |                   `owner_died`, and repairs under
// that lock before it does anything |            +-- of the heap        heap/repair.cpp | +-- of
// the names       directory/directory.cpp |            +-- of a structure     its own repair:
// queue/repair.cpp, frames/repair.cpp, |            | containers/{list,dict}_repair.cpp,
// locks/semaphore.cpp |            +-- of a user          nobody's to repair: the user is told
//|
//|    validate      heap, names; then by the table of structures (body/structures.hpp) `repair` of
//|                  each body, `validate` of each body; then the references of all cells
#pragma once
#include <string>
#include <vector>

#include "heap/heap.hpp"

namespace onecopy {

void install_recovery() noexcept;                 // hooks Member::recover_slot
bool recover(Member& m, u32 slot) noexcept;       // true: that slot's owner was dead and is cleaned
void recover_held(Member& m, u32 slot) noexcept;  // its lock byte is held by us
std::vector<std::string> validate(Member& m, WaitPolicy& p);  // every structure

}  // namespace onecopy
