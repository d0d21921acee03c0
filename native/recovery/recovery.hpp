// What a dead process leaves behind: its slot, its intent, its holds. What it was changing under a
// lock is repaired by the next owner of that lock:
//
//|  a process dies
//|    |
//|    +-- its slot             recovery.cpp, under the lock byte of the slot. Any member does it that
//|    |                        meets the slot (Member::gone, collect_dead).
//|    |
//|    +-- a lock that it had   The lock names nobody once the generation has moved. The next owner
//|          |                  gets `owner_died`, and repairs before it does anything else.
//|          |
//|          +-- of the heap         heap/repair.cpp
//|          +-- of the names        directory/directory.cpp
//|          +-- of a structure      queue/repair.cpp, frames/repair.cpp, locks/semaphore.cpp,
//|          |                       containers/list_repair.cpp, containers/dict_repair.cpp
//|          +-- of a user           nobody repairs: the user gets `owner_died`
//|
//|  validate   1 the heap, the names
//|             2 by the table of structures (body/structures.hpp): `repair` of each body, then
//|               `validate` of each body
//|             3 the references in all cells
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
