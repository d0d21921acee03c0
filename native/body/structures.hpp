// The table of structures: what code that knows no structure (recovery, `validate`, the layout
// hash) does with the body of each kind.
//
// The table is a constant in structures/structures.cpp, the one file that includes all structures.
// The functions here are declared below it and defined there. So the linker connects them, and no
// constructor has to run first.
#pragma once
#include <span>

#include "body/observed.hpp"

namespace onecopy {

struct Structure {
    BodyKind kind;
    const char* name;  // the word of docs/glossary.md, as an observer gets it
    // Of all structs that its body and its other blocks consist of.
    u64 (*layout)() noexcept;
    // Looks into the body at `index` under its locks. What is wrong, in words; empty: nothing.
    Findings (*validate)(Member& m, u32 index);
    // Takes each lock of the body, repairs what a dead owner left, and gives the lock back. Does
    // nothing where a living process has it. Null: the next owner has nothing to repair.
    // Only `validate` calls it, so that it looks at a repaired body. In life, each operation of the
    // structure repairs when its lock answers `owner_died`.
    void (*repair)(Member& m, u32 index, WaitPolicy& p) noexcept;
    // Reads the body at `index` for an observer: without locks, and without a store. What it reads
    // may be half changed, or of a body that is freed meanwhile; every index and length is checked.
    void (*observe)(Member& m, u32 index, Observed& out);
};

std::span<const Structure> structures() noexcept;
// The structure whose body is of that kind; null: none, or a block that belongs to one.
const Structure* structure_of(BodyKind kind) noexcept;
// Names are no body: they have their own table in the pool.
void format_names(Member& m) noexcept;  // in a fresh pool
Findings validate_names(Member& m);

}  // namespace onecopy
