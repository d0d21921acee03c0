# ruff: noqa: E501 - the replaced texts are as long as the lines of the core
"""Bugs in the heap, its repair, and the memory under it."""

from __future__ import annotations

from planted_bug import Bug

BUGS = (
    Bug(
        "a block is live before its owner's bit is set",
        "native/heap/tiling.cpp",
        """        b.holder_word(m.slot / 64).fetch_or(u64{1} << (m.slot % 64));
        ++m.local[index];
        u32 gen = BlockWord{b.word.load_relaxed()}.gen() + 1;
        if (gen == 0) gen = 1;  // a handle is never null
        b.word.store(BlockWord::make(gen, BlockState::live, kNoSlot, spec.flags).raw);  // COMMIT
""",
        """        ++m.local[index];
        u32 gen = BlockWord{b.word.load_relaxed()}.gen() + 1;
        if (gen == 0) gen = 1;  // a handle is never null
        b.word.store(BlockWord::make(gen, BlockState::live, kNoSlot, spec.flags).raw);  // COMMIT
        b.holder_word(m.slot / 64).fetch_or(u64{1} << (m.slot % 64));
""",
        "a sweep that comes in between frees it",
        where=("interleave_test", "allocate / sweep"),
    ),
    Bug(
        "the rebuild forgets blocks that are being freed",
        "native/heap/repair.cpp",
        "if (w.state() == BlockState::unused || w.state() == BlockState::span) {",
        "if (w.state() == BlockState::unused || w.state() == BlockState::span || w.state() == BlockState::freeing) {",
        "their space is given out while a process still takes them apart",
        where=("crash_test", "drop"),
    ),
    Bug(
        "a dead owner's heap lock is taken without a rebuild",
        "native/heap/heap.cpp",
        "    rebuild_heap(m);\n    if (!m.corrupt()) return s;",
        "    if (!m.corrupt()) return s;",
        "free lists and counters are half changed",
        where=("crash_test", "allocate"),
    ),
    Bug(
        "trim makes the hole before it clears the mark",
        "native/heap/extents.cpp",
        """            u64 backed = 0;
            // The bit goes before""",
        """            u64 backed = 0;
            if (first < end) punch_extents(m, first, end);
            // The bit goes before""",
        "after a death in between, memory that is marked as reserved is not there: SIGBUS on a full disk",
        where=("crash_test", "trim"),
    ),
    Bug(
        "an extent is marked before it is reserved",
        "native/heap/extents.cpp",
        """        if (int error = os::room_for(m.file, to - from)) return error;
        if (int error = m.file.reserve""",
        """        for (u64 bit = start; bit < e; ++bit)
            extent_word(m, bit).fetch_or(u64{1} << (bit % 64));
        if (int error = os::room_for(m.file, to - from)) return error;
        if (int error = m.file.reserve""",
        "after a death in between, or in another process, SIGBUS on a full disk",
        where=("crash_test", "allocate new extents"),
    ),
    Bug(
        "a failed reservation keeps the block",
        "native/heap/heap.cpp",
        """        give_back_reserved(m, index, p);
        drop(m, index, p);""",
        "        give_back_reserved(m, index, p);",
        "the space is never free again",
        program=("edges_test",),
    ),
    Bug(
        "the extent that a block ends in is not reserved",
        "native/heap/extents.cpp",
        "end = (offset + size + kExtent - 1) / kExtent;\n    for (u64 e = first; e < end;) {",
        "end = (offset + size) / kExtent;\n    for (u64 e = first; e < end;) {",
        "SIGBUS on a full disk",
        program=("edges_test",),
    ),
    Bug(
        "a member that is alone does not reserve the last marked extent",
        "native/heap/extents.cpp",
        "        while (e < extents && is_backed(m, e))\n            ++e;\n        if (e == first) continue;",
        "        while (e + 1 < extents && is_backed(m, e))\n            ++e;\n        if (e == first) continue;",
        "a file was copied without its holes: SIGBUS on a full disk",
        program=("edges_test",),
    ),
    Bug(
        "trim gives back only what is marked",
        "native/heap/extents.cpp",
        "            if (first < end && punch_extents(m, first, end) == 0) given_back += backed;",
        "            if (backed != 0 && punch_extents(m, first, end) == 0) given_back += backed;",
        "what a process had reserved, but not marked before it died, is never given back",
        program=("edges_test",),
    ),
    Bug(
        "zeros trusts the mark of an extent",
        "native/heap/extents.cpp",
        "os::give_back(m.heap() + inside.from, inside.to - inside.from) == 0;",
        "true;",
        "what a process wrote is there again, if another one died while it gave the memory back",
        test="tests/crash/test_crash_points.py::test_killed_in[collect, what was written]",
    ),
)
