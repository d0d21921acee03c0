# ruff: noqa: E501 - the replaced texts are as long as the lines of the core
"""Bugs in blocks, references and the recovery of a dead process."""

from __future__ import annotations

from planted_bug import Bug

BUGS = (
    Bug(
        "the sender releases before the queue refers",
        "native/heap/blocks.hpp",
        """    refs::arm(m, IntentKind::put, cell, 0, next, &tail, position);
""",
        """    m.block(handle_index(next)).holder_word(m.slot / 64).fetch_and(~(u64{1} << (m.slot % 64)));
    refs::arm(m, IntentKind::put, cell, 0, next, &tail, position);
""",
        "for a moment nobody owns the block, and a sweep frees it",
        where=("interleave_test", "put / sweep"),
    ),
    Bug(
        "the queue's tail moves before the cell is filled",
        "native/heap/blocks.hpp",
        """    cell.store_relaxed(next);
    fill();
    tail.store_release(position + 1);  // COMMIT [queue.tail]""",
        """    tail.store_release(position + 1);  // COMMIT [queue.tail]
    cell.store_relaxed(next);
    fill();""",
        "the commit must be last: a consumer finds a message without its block (also the order that a missing release allows)",
        where=("crash_test", "put block"),
    ),
    Bug(
        "recovery does not undo an uncommitted reference",
        "native/recovery/recovery.cpp",
        """            refs::add(m, next, slot, op * 4 + 2, -1);
""",
        "",
        "the count of a put that never happened stays: a leak",
        where=("crash_test", "put block"),
    ),
    Bug(
        "recovery does not empty the cell of an uncommitted put",
        "native/recovery/recovery.cpp",
        """        cell.store(old);
        if (next""",
        """        if (next""",
        "the cell refers to a block that does not count it",
        where=("crash_test", "put block"),
    ),
    Bug(
        "recovery does not drop the old reference",
        "native/recovery/recovery.cpp",
        """            if (old != 0 && !refs::landed(m, old, slot, op, 1))
                refs::add(m, old, slot, op * 4 + 1, -1);
""",
        "",
        "what was taken, or replaced, before the death is never free",
        where=("crash_test", "get block"),
    ),
    Bug(
        "recovery undoes without asking whether the step landed",
        "native/recovery/recovery.cpp",
        """if (next != 0 && !refs::landed(m, next, slot, op, 2) &&
            refs::landed(m, next, slot, op, 0)) {""",
        "if (next != 0) {",
        "a count that never rose is taken back",
        where=("crash_test", "collect, adding"),
    ),
    Bug(
        "the second undo is not recognized",
        "native/recovery/recovery.cpp",
        """if (next != 0 && !refs::landed(m, next, slot, op, 2) &&
            refs::landed(m, next, slot, op, 0)) {""",
        "if (next != 0 && refs::landed(m, next, slot, op, 0)) {",
        "a recoverer that died after undoing is followed by one that undoes again, if an acknowledgement remains",
        where=("crash_test", "collect, adding"),
    ),
    Bug(
        "the generation moves before the intent is resolved",
        "native/recovery/recovery.cpp",
        """    resolve(m, slot);
    row.gen.store(Member::next_generation(row.gen.load()));
""",
        """    row.gen.store(Member::next_generation(row.gen.load()));
    resolve(m, slot);
""",
        "its locks are free for others while its half-done swap is still open",
        where=("interleave_test", "collect / put"),
    ),
    Bug(
        "no acknowledgement",
        "native/heap/blocks.cpp",
        """        acknowledge(m, w, slot);
""",
        "",
        "a process that overwrites the word destroys the only proof that a step landed",
        where=("crash_test", "collect, adding"),
    ),
    Bug(
        "the intent is armed before its number is stored",
        "native/heap/blocks.cpp",
        """    // Before the kind: a death between them leaves no intent.
    row.op.store_release(row.op.load_relaxed() + 1);  // [row.op]
""",
        """    row.intent.store_release(static_cast<u32>(kind));
    row.op.store_release(row.op.load_relaxed() + 1);
""",
        "recovery resolves the previous operation once more",
        where=("crash_test", "get block"),
    ),
    Bug(
        "a dead member's doubt stays",
        "native/recovery/recovery.cpp",
        """            b.word.cas(expected,
                       BlockWord::make(w.gen(), BlockState::live, kNoSlot, w.flags()).raw);
""",
        "            (void)expected;\n",
        "a block that it was looking at is neither live nor freed",
        where=("crash_test", "drop"),
    ),
    Bug(
        "a dead member's freeing is not finished",
        "native/recovery/recovery.cpp",
        "            if (w.raw == ours || b.word.cas(expected, ours)) finish_free(m, i, wait);\n",
        "            (void)expected, (void)ours;\n",
        "decided and never done: a leak",
        where=("crash_test", "drop"),
    ),
    Bug(
        "free without a second look",
        "native/heap/blocks.cpp",
        """        if (is_owned(b)) {
            expected = looking;
            b.word.cas(expected, w.raw);
            continue;  // they may have released it in between, and seen `tentative`: look again
        }
""",
        "",
        "another process may have taken a hold between the first look and the mark",
        where=("interleave_test", "drop / hold"),
    ),
    Bug(
        "hold without a look at the state",
        "native/heap/blocks.cpp",
        """            if (w.state() == BlockState::live) {
                ++m.local[index];
                return Status::ok;
            }
            if (w.state() != BlockState::tentative) break;""",
        """            if (w.state() != BlockState::tentative) {
                ++m.local[index];
                return Status::ok;
            }""",
        "a block that is being freed is given to a process",
        where=("crash_test", "hold what"),
    ),
    Bug(
        "hold does not turn back a thread that doubts",
        "native/heap/blocks.cpp",
        """            b.word.cas(expected,
                       BlockWord::make(w.gen(), BlockState::live, kNoSlot, w.flags()).raw);
""",
        """            ++m.local[index];
            return Status::ok;
""",
        "a process that looks has looked already, and frees it",
        where=("interleave_test", "drop / hold"),
    ),
    Bug(
        "a stale hold leaves its bit",
        "native/heap/blocks.cpp",
        "        clear_bit(m, b);\n    }\n    // Our bit",
        "    }\n    // Our bit",
        "the block's next life never ends",
        where=("crash_test", "hold what"),
    ),
    Bug(
        "a stale hold does not free what it kept",
        "native/heap/blocks.cpp",
        """    UnboundedWait wait;
    try_free(m, index, wait);
    return Status::stale;""",
        """    return Status::stale;""",
        "its bit stopped the last owner from freeing the block",
        where=("interleave_test", "hold the recycled"),
    ),
    Bug(
        "recovery frees the row first",
        "native/recovery/recovery.cpp",
        "    row.state.store_release(static_cast<u32>(RowState::reaping));",
        "    row.state.store_release(static_cast<u32>(RowState::free));",
        "if the recoverer dies, no process continues where it stopped",
        where=("crash_test", "collect"),
    ),
)
