# ruff: noqa: E501 - the replaced texts are as long as the lines of the core
"""Plant known bugs in a copy of the project, and see that each is caught.

Usage: ``python tests/crash/plant.py [text ...]``, from the root of the project; with texts, only the
bugs whose name contains one. Each bug is a change of one file of the core or of the Python package,
given as a text and what stands in its place. It is caught by what the entry names:

* ``where``: an operation of a native campaign. If that does not fail, all the campaigns are tried.
* ``program``: a native test and its arguments.
* ``test``: a Python test, run with a package that has the bug.

The copy, its build (a fault build, -O1, no optimization across files) and its package lie in
build/plant. The installed package is not touched. The copy is patched, built and put back for each
bug, so only what a bug changes is compiled. A bug that is not caught is a failure. So is a bug whose
text does not stand exactly once in its file, and a test that fails without a bug.

What this cannot show: x86 does not let a store pass an earlier store, so a missing release or acquire
changes nothing there. Bugs of order are planted as the order that the missing barrier would allow.
Not planted: `landed` without its look at the generation. Whoever overwrites the word of a block that
was given out again acknowledges first, so that look is a second belt, and nothing can show its absence.
Neither the heap without its early commit of a freed span: until the last store the block is still being
freed, and freeing it once more comes to the same. Nor the look at the count before the one at the holders:
there are two looks, and whoever holds the block between them turns it back. Nor frames whose repair leaves
an old generation in a cell: only the index of a cell counts.
"""

from __future__ import annotations

import argparse
import filecmp
import os
import shutil
import subprocess
import sys
import tempfile
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

SEED = "seed=4"
# From the quickest to the most thorough; the first that fails has caught the bug.
CAMPAIGNS = (
    ("interleave_test", SEED),
    ("crash_test", "timed", SEED),
    ("redeliver_test",),
    ("crash_test", "full", SEED),
    ("interleave_test", "full", SEED),
    ("crash_test", "nested", SEED),
)
SLICES = 3  # of these, with --slices
LIMIT = 900  # seconds for one program: a watchdog


@dataclass(frozen=True)
class Bug:
    """A change of one file, why it is wrong, and what has to notice."""

    name: str
    file: str
    old: str
    new: str
    why: str
    where: tuple[str, str] | None = None  # a campaign and an operation that are likely to show it
    program: tuple[str, ...] = ()  # a native test and its arguments
    test: str = ""  # a Python test, as pytest names it
    more: tuple[tuple[str, str], ...] = ()  # further replacements in the same file


BUGS = [
    Bug(
        "the sender lets go before the queue refers",
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
        "the receiver holds after the head has moved",
        "native/queue/queue.cpp",
        """        s = hold(*m_, msg.block);
        if (s != Status::ok) [[unlikely]] {  // the slot owned it: it cannot be gone, unless we are
            msg.block = 0;
            if (s == Status::closed) break;
            m_->mark_corrupt();
            s = Status::corrupt;
            break;
        }
        s = take_cell(*m_, slot->cell, msg.block, b.head, head);""",
        """        s = take_cell(*m_, slot->cell, msg.block, b.head, head);
        if (s == Status::ok && hold(*m_, msg.block) != Status::ok) [[unlikely]] {
            msg.block = 0;
            m_->mark_corrupt();
            s = Status::corrupt;
            break;
        }""",
        "between both nobody owns the block: the sender's drop frees it under the receiver",
        where=("interleave_test", "get / sweep"),
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
        "whoever overwrites the word destroys the only proof that a step landed",
        where=("crash_test", "collect, adding"),
    ),
    Bug(
        "the intent is armed before its number is stored",
        "native/heap/blocks.cpp",
        """    // Before the kind: a death between them leaves no intent.
    row.op.store_release(row.op.load_relaxed() + 1);
""",
        """    row.intent.store_release(static_cast<u32>(kind));
    row.op.store_release(row.op.load_relaxed() + 1);
""",
        "recovery resolves the previous operation once more",
        where=("crash_test", "get block"),
    ),
    Bug(
        "a block is live before its owner's bit is set",
        "native/heap/heap.cpp",
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
        "native/heap/heap.cpp",
        "if (w.state() == BlockState::unused || w.state() == BlockState::span) {",
        "if (w.state() == BlockState::unused || w.state() == BlockState::span || w.state() == BlockState::freeing) {",
        "their space is given out while somebody still takes them apart",
        where=("crash_test", "drop"),
    ),
    Bug(
        "an orphaned heap lock is taken without a rebuild",
        "native/heap/heap.cpp",
        "    rebuild_heap(m);\n    if (!m.corrupt()) return s;",
        "    if (!m.corrupt()) return s;",
        "free lists and counters are half changed",
        where=("crash_test", "allocate"),
    ),
    Bug(
        "an orphaned directory lock is taken without a rebuild",
        "native/directory/directory.cpp",
        "if (status == Status::owner_died) status = rebuild(m) ? Status::ok : broken(m);",
        "if (status == Status::owner_died) status = Status::ok;",
        "chains and free entries are half changed",
        where=("crash_test", "set a name"),
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
            continue;  // they may have let go in between, and saw `tentative`: look again
        }
""",
        "",
        "somebody may have got hold of it between the first look and the mark",
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
        "a block that is being freed is given to somebody",
        where=("crash_test", "hold what"),
    ),
    Bug(
        "hold does not turn back who doubts",
        "native/heap/blocks.cpp",
        """            b.word.cas(expected,
                       BlockWord::make(w.gen(), BlockState::live, kNoSlot, w.flags()).raw);
""",
        """            ++m.local[index];
            return Status::ok;
""",
        "whoever looks has looked already, and frees it",
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
        "a stream's slot is not marked while it is written",
        "native/stream/stream.cpp",
        "    s.stamp.store_relaxed(written(k) - 1);\n",
        "",
        "a reader takes half of one message and half of another",
        where=("interleave_test", "read the oldest"),
    ),
    Bug(
        "a reader does not look at the stamp again",
        "native/stream/stream.cpp",
        "    if (s.stamp.load_relaxed() != stamp) {",
        "    if (false) {",
        "what it copied may be from two messages",
        where=("interleave_test", "publish round"),
    ),
    Bug(
        "a stream's head moves before the slot is written",
        "native/stream/stream.cpp",
        """    const Handle old = s.cell.load_relaxed();
    s.stamp""",
        """    const Handle old = s.cell.load_relaxed();
    b.head.store_release(k + 1);
    s.stamp""",
        "the commit must be last",
        where=("crash_test", "publish"),
    ),
    Bug(
        "a frame is taken without a second look",
        "native/frames/frames.cpp",
        """    if (!at_home(block)) {
        word = mine.raw;
        block.word.cas(word, live.raw);  // fails if somebody turned it back already
        return false;
    }
""",
        "",
        "somebody may have got hold of it meanwhile",
        where=("interleave_test", "acquire"),
    ),
    Bug(
        "a frame is given out under its old generation",
        "native/frames/frames.cpp",
        "    const u32 gen = next_gen(live.gen());\n",
        "    const u32 gen = live.gen() + 0 * next_gen(0);\n",
        "whoever still has a handle of its last use gets at the new one",
        where=("interleave_test", "acquire / hold the frame"),
    ),
    Bug(
        "the wake comes before the commit",
        "native/queue/queue.cpp",
        """    Status s = put_locked(msgs, n, moved, p);
    unlock(b_->put_lock);
    if (moved != 0) notify(b_->not_empty, static_cast<int>(moved));""",
        """    notify(b_->not_empty, static_cast<int>(n));
    Status s = put_locked(msgs, n, moved, p);
    unlock(b_->put_lock);""",
        "the consumer wakes, finds nothing, and sleeps on",
        where=("interleave_test", "put / get"),
    ),
    Bug(
        "a queue's last chunk is not repaired",
        "native/queue/queue.cpp",
        "    repair_chunk(p);\n    if (redelivers_)",
        "    if (redelivers_)",
        "a consumer that died before it let go of an empty chunk leaves it there",
        where=("crash_test", "across chunks"),
    ),
    Bug(
        "a row is free before its holds are",
        "native/segment/member.cpp",
        """    if (!joined.load()) return;
    UnboundedWait wait;""",
        """    if (!joined.load()) return;
    own_row().state.store_release(static_cast<u32>(RowState::free));
    UnboundedWait wait;""",
        "a death in between leaves bits of a row that nobody cleans",
        where=("crash_test", "leave"),
    ),
    Bug(
        "recovery frees the row first",
        "native/recovery/recovery.cpp",
        "    row.state.store_release(static_cast<u32>(RowState::reaping));\n",
        "    row.state.store_release(static_cast<u32>(RowState::free));\n",
        "if the recoverer dies, nobody goes on where it stopped",
        where=("crash_test", "collect"),
    ),
    Bug(
        "a forked child inherits no holds",
        "native/segment/member.cpp",
        """        if (local[b] != 0)
            block(b).holder_word(child_slot_ / 64).fetch_or(u64{1} << (child_slot_ % 64));
""",
        "",
        "what the parent lets go of is freed under the child",
        where=("interleave_test", "fork"),
    ),
    Bug(
        "a fork leaves the dead their slots",
        "native/segment/member.cpp",
        "        if (reserve_dead_row(deadline)) return Status::ok;\n",
        "",
        "when all slots were killed children's, no child gets one any more",
        where=("crash_test", "fork"),
    ),
    Bug(
        "the last one does not remove the name",
        "native/segment/leave.cpp",
        "            [&] { return remove_name(dirfd.get(), place, DirectoryLock(dirfd.get())); }));\n",
        "            [&] { return Status::ok; }));\n",
        "files without a process stay behind",
        where=("crash_test", "leave"),
    ),
    Bug(
        "a pool has its name before anybody is in it",
        "native/segment/create.cpp",
        '    if (Status s = member->join(); !good(s)) return fail(why, "take a slot", s);\n\n    NewFile rendezvous(kPoolFiles);',
        "    NewFile rendezvous(kPoolFiles);",
        "nobody is a member of what others can open",
        where=("crash_test", "create"),
    ),
    # ---- shared-memory segments
    Bug(
        "a sweep does not ask for the owner process",
        "native/storage/shared_memory_sweep.cpp",
        "    const os::Life owner = stays ? os::Life::alive : owner_life(status, name);\n",
        "    const os::Life owner = stays ? os::Life::alive : os::Life::dead;\n",
        "a segment that its owner keeps for others is removed",
        where=("crash_test", "segment: sweep one that is kept"),
    ),
    Bug(
        "a sweep does not lock what it removes",
        "native/storage/shared_memory_sweep.cpp",
        "    switch (os::lock_byte(file.number(), kSegmentHoldByte, true)) {",
        "    switch (os::ByteLock::taken) {",
        "a segment that somebody holds is removed",
        where=("crash_test", "segment: sweep one whose owner is dead"),
    ),
    Bug(
        "the last holder of a segment does not sweep it",
        "native/storage/shared_memory.cpp",
        "    if (named) static_cast<void>(sweep_segment(folder.number(), name_, true));\n",
        "",
        "stale segments stay until somebody sweeps",
        where=("crash_test", "segment: close as the last one"),
    ),
    Bug(
        "a segment has its name before it has an owner",
        "native/storage/shared_memory.cpp",
        '    if (!mark_owner(file_.get(), owner)) return fail(why, "mark the segment");\n',
        "",
        "when its last holder leaves it is removed, though its owner lives",
        where=("crash_test", "segment: attach to one that nobody holds"),
    ),
    Bug(
        "a hidden segment is taken for one of its owner's",
        "native/storage/shared_memory_sweep.cpp",
        "    return name.starts_with(kHiddenSegment) ? os::Life::dead : life_of_owner(owner_of(file));",
        "    return name.starts_with(kHiddenSegment) ? os::Life::alive : life_of_owner(owner_of(file));",
        "a maker that is killed leaves a hidden file that no sweep removes",
        where=("crash_test", "segment: create"),
    ),
    # ---- locks
    Bug(
        "a reader does not look after it has counted itself in",
        "native/locks/rwlock.cpp",
        "    if (b_->closed.load() != 0) [[unlikely]] {",
        "    if (false) {",
        "a writer that closes between the reader's look and its entry shares the lock with it (also what a missing fence between the two allows)",
        where=("interleave_test", "write"),
    ),
    Bug(
        "a writer does not wait for readers",
        "native/locks/rwlock.cpp",
        "        if ((blocker = a_reader()) != kNoSlot) {\n            // It may",
        "        if (false) {\n            // It may",
        "it writes what others read",
        where=("interleave_test", "read"),
    ),
    Bug(
        "a lock is open before its writer is out",
        "native/locks/rwlock.cpp",
        """    b_->active.store_release(0);
    if (prefer_ == Prefer::fair && (b_->may_read.word.load() & 1u) != 0) b_->turn.store(1);
    let_readers_in();  // COMMIT""",
        """    if (prefer_ == Prefer::fair && (b_->may_read.word.load() & 1u) != 0) b_->turn.store(1);
    let_readers_in();  // COMMIT
    b_->active.store_release(0);""",
        "a death in between says that a writer is inside while readers may enter",
        where=("crash_test", "write and release"),
    ),
    Bug(
        "a dead reader is waited for",
        "native/locks/rwlock.cpp",
        "    return Shares::count(w) != 0 && !Shares::passed(*m_, slot, w);",
        "    return Shares::count(w) != 0;",
        "a writer never gets in",
        where=("crash_test", "write after a dead reader"),
    ),
    Bug(
        "only the last writer's name is asked about",
        "native/locks/rwlock.cpp",
        "    if (const u32 writer = b_->writer.word.load() & ~kWaiters; writer != 0) m_->gone(writer);\n",
        "",
        "who took over from a dead writer and died at once is never found",
        where=("crash_test", "read after a dead writer"),
    ),
    Bug(
        "tokens of the dead stay away",
        "native/locks/semaphore.cpp",
        "        held_[slot].store_release(0);  // COMMIT\n",
        "",
        "what a dead process held is lost",
        where=("crash_test", "token"),
    ),
    Bug(
        "a semaphore is not counted anew",
        "native/locks/semaphore.cpp",
        "    if (s != Status::owner_died) return s;\n    recount();",
        "    if (s != Status::owner_died) return s;",
        "a death between a commit and the count of it changes the number of tokens",
        where=("crash_test", "token"),
    ),
    Bug(
        "a notification is written down after the wake",
        "native/locks/condition.cpp",
        """        first->word.store((word & ~kStateBits) | kNotified);  // COMMIT of notify
        os::futex_wake(first->word.word(), 1);""",
        """        os::futex_wake(first->word.word(), 1);
        first->word.store((word & ~kStateBits) | kNotified);  // COMMIT of notify""",
        "the waiter looks too early and sleeps on",
        where=("interleave_test", "notify"),
    ),
    Bug(
        "a notification of all is written down after the wake",
        "native/locks/condition.cpp",
        """            // COMMIT of notify
            at.word.store((word & ~kStateBits) | (m_->passed(at.tag.load()) ? kFree : kNotified));
            os::futex_wake(at.word.word(), 1);""",
        """            os::futex_wake(at.word.word(), 1);
            at.word.store((word & ~kStateBits) | (m_->passed(at.tag.load()) ? kFree : kNotified));""",
        "a waiter looks too early and sleeps on",
        where=("interleave_test", "notify"),
    ),
    Bug(
        "a dead waiter takes the notification",
        "native/locks/condition.cpp",
        "            first->word.store(word & ~kStateBits);  // dead: the next one gets it\n            continue;",
        "            --n;\n            continue;",
        "its place is never free again, and the next notification goes there too",
        where=("interleave_test", "dead one / notify"),
    ),
    Bug(
        "a barrier forgets the dead",
        "native/locks/barrier.cpp",
        "        if (counted(w, phase) == 0) continue;\n        if (",
        "        if (counted(w, phase) != 0) continue;\n        if (",
        "a phase that can never be complete is waited for",
        where=("crash_test", "dead party"),
    ),
    # ---- redelivery
    Bug(
        "nobody notices that a taker has gone",
        "native/queue/redeliver.cpp",
        """    const bool news = b_->seen_death_epoch.load_relaxed() !=
                      m_->header().death_epoch.load_acquire();  // [pool.death_epoch]
    if (news && !rescan(e, p)) return false;""",
        "",
        "what a dead process took never comes back",
        where=("redeliver_test", ""),
    ),
    Bug(
        "what comes back is not flagged",
        "native/queue/redeliver.cpp",
        "        s = take_slot(slot, position, true, msgs[moved]);",
        "        s = take_slot(slot, position, false, msgs[moved]);",
        "a message is given out twice, and nobody knows",
        where=("redeliver_test", ""),
    ),
    Bug(
        "a finished message keeps its block",
        "native/queue/redeliver.cpp",
        "        if (t.state() == Taking::done) clear_slot(slot, p);\n",
        "",
        "who died between finishing and emptying the slot leaves the block to nobody",
        where=("redeliver_test", ""),
    ),
    Bug(
        "a list counts items before they are there",
        "native/containers/list.cpp",
        """            s = fill_slots(items, n, order() + count, dropped);
            if (s == Status::ok) order_count().store_release(count + n);  // COMMIT
""",
        """            order_count().store_release(count + n);
            s = fill_slots(items, n, order() + count, dropped);
""",
        "a death in between leaves an order that leads to nothing",
        where=("crash_test", "list: extend"),
    ),
    Bug(
        "a list clears an item before it is out of the order",
        "native/containers/list.cpp",
        """            s = put_order(room, dropped);
            if (s == Status::ok) clear_slot(slot, dropped);
""",
        """            clear_slot(slot, dropped);
            s = put_order(room, dropped);
""",
        "a death in between leaves an order that leads to nothing",
        where=("crash_test", "list: pop the first"),
    ),
    Bug(
        "a list keeps what a dead one left in its slots",
        "native/containers/list.cpp",
        "        if (Dropped dropped(*m_, wait); !used[slot]) empty(cell(slot), dropped);\n",
        "",
        "values of an extend that did not happen are never freed",
        where=("crash_test", "list: extend"),
    ),
    Bug(
        "a dict takes a long key away before its value",
        "native/containers/dict.cpp",
        """    const Status s = swap_cell(*m_, cell(at.slot), old, 0);  // COMMIT
""",
        """    empty(cell(at.slot, kKey), dropped);
    const Status s = swap_cell(*m_, cell(at.slot), old, 0);  // COMMIT
""",
        "a death in between leaves an entry without a key",
        where=("crash_test", "dict: delete, long key"),
    ),
    Bug(
        "nobody repairs a container",
        "native/containers/container.cpp",
        "    if (s == Status::ok && died) s = within_memory([&] { return rebuild(); });\n",
        "    static_cast<void>(died);\n",
        "chains, free list and counts are as the dead one left them",
        where=("crash_test", "dict: delete"),
    ),
    # ---- a process's life
    Bug(
        "a description that an exec does not close",
        "native/os/os.cpp",
        "    return open(path, O_RDWR | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);",
        "    return open(path, O_RDWR | O_NONBLOCK | O_NOCTTY);",
        "a forked child that runs another program stays a living member, and what it held stays away",
        program=("process_test", "exec"),
    ),
    Bug(
        "a lock's dead owner is looked for after undisturbed naps only",
        "native/sync/lock.cpp",
        """        if (how != os::Wake::timed_out && now < look) continue;
        if (lock.word.load() == seen && me.gone(seen & ~kWaiters) &&""",
        """        if (how != os::Wake::timed_out) continue;
        if (lock.word.load() == seen && me.gone(seen & ~kWaiters) &&""",
        "a process with a timer has none: it waits for ever",
        program=("signals_test",),
    ),
    Bug(
        "who waits for a free lock looks for its owner after undisturbed naps only",
        "native/sync/lock.cpp",
        """        if (how != os::Wake::timed_out && now < look) continue;
        if (lock.word.load() == seen && me.gone(tag)) return Status::owner_died;""",
        """        if (how != os::Wake::timed_out) continue;
        if (lock.word.load() == seen && me.gone(tag)) return Status::owner_died;""",
        "a process with a timer has none: it waits for ever",
        program=("signals_test",),
    ),
    Bug(
        "who waits for a change looks for the dead after undisturbed naps only",
        "native/sync/event_count.hpp",
        "        if (!undisturbed && now < look) continue;",
        "        if (!undisturbed) continue;",
        "a process with a timer has none: it waits for ever",
        program=("signals_test",),
    ),
    Bug(
        "a lossless stream does not wait for its last subscriber",
        "native/stream/stream.cpp",
        """    u64 lowest = head;
    for (Subscriber& sub : b_->subscribers) {""",
        """    u64 lowest = head;
    for (Subscriber& sub : b_->subscribers) {
        if (&sub == &b_->subscribers[kSubscribers - 1]) break;""",
        "that one loses messages",
        program=("edges_test",),
    ),
    Bug(
        "trim makes the hole before it clears the mark",
        "native/heap/heap.cpp",
        """            u64 backed = 0;
            // Before the hole""",
        """            u64 backed = 0;
            if (first < end) punch_extents(m, first, end);
            // Before the hole""",
        "after a death in between, memory that is marked as reserved is not there: SIGBUS on a full disk",
        where=("crash_test", "trim"),
    ),
    Bug(
        "who opens a pool does not look for its name again",
        "native/segment/open.cpp",
        """        return place.memfd ? fd->again()
                           : os::PoolFile(os::open_at(dirfd, name.c_str(), os::Access::write));
    });
    if (!again) {""",
        """        return fd->again();
    });
    if (!again) {""",
        "it joins a pool that was unlinked before",
        where=("interleave_test", "file: open / unlink"),
    ),
    Bug(
        "who opens a pool does not look which file its name leads to by now",
        "native/segment/open.cpp",
        "    if (again->identity() != fd->identity())",
        "    if (false)",
        "it counts as a member of one pool and works in another",
        where=("interleave_test", "file: open / unlink"),
    ),
    # ---- what a sweep of small changes showed to be unnoticed
    Bug(
        "the end of a stream wakes no reader",
        "native/stream/stream.cpp",
        """    unlock(b_->lock);
    notify_all(b_->published);
    notify_all(b_->space);""",
        """    unlock(b_->lock);
    notify_all(b_->space);""",
        "one that sleeps finds out only after its nap",
        where=("interleave_test", "read / close a stream"),
    ),
    Bug(
        "the end of a stream wakes no publisher",
        "native/stream/stream.cpp",
        """    unlock(b_->lock);
    notify_all(b_->published);
    notify_all(b_->space);""",
        """    unlock(b_->lock);
    notify_all(b_->published);""",
        "one that sleeps finds out only after its nap",
        where=("interleave_test", "publish / close a stream"),
    ),
    Bug(
        "a dead subscriber that is just a ring behind stays",
        "native/stream/stream.cpp",
        "sub.cursor.load() > head) continue;",
        "sub.cursor.load() >= head) continue;",
        "the publisher waits for it for ever",
        program=("edges_test",),
    ),
    Bug(
        "a refused reference leaves the stream locked",
        "native/stream/stream.cpp",
        """            unlock(b.lock);
            return done;""",
        "            return done;",
        "nobody can publish any more",
        program=("edges_test",),
    ),
    Bug(
        "who waits for a frame does not see that the last one is free",
        "native/frames/frames.cpp",
        """    for (u32 i = 0; i < count_; ++i) {
        const u32 index = handle_index(cell(i).load_relaxed());
        if (index >= top || is_free""",
        """    for (u32 i = 0; i + 1 < count_; ++i) {
        const u32 index = handle_index(cell(i).load_relaxed());
        if (index >= top || is_free""",
        "its return in that moment wakes nobody",
        where=("interleave_test", "acquire / return the last"),
    ),
    Bug(
        "a dead waiter's notification is lost",
        "native/locks/condition.cpp",
        """        wake(1);
        at.word.store(at.word""",
        "        at.word.store(at.word",
        "another waiter should have had it",
        program=("wakes_test",),
    ),
    Bug(
        "an interrupted waiter keeps its notification",
        "native/locks/condition.cpp",
        """        if (notified && s == Status::interrupted) wake(1);
""",
        "",
        "it does not act on it, and another one sleeps on",
        program=("wakes_test",),
    ),
    Bug(
        "a reader in the last slot is not seen",
        "native/locks/rwlock.cpp",
        """    for (u32 slot = 0; slot < readers_.used(*m_); ++slot) {
        if (reads(slot)) return slot;""",
        """    for (u32 slot = 0; slot + 1 < readers_.used(*m_); ++slot) {
        if (reads(slot)) return slot;""",
        "a writer writes what it reads",
        program=("edges_test",),
    ),
    Bug(
        "a writer that becomes a reader is neither for a moment",
        "native/locks/rwlock.cpp",
        """    read_again();
    h->reads = 1;
    h->writing = Writing::no;
    b_->active.store_release(0);
    let_readers_in();
    unlock(b_->writer);""",
        """    h->reads = 1;
    h->writing = Writing::no;
    b_->active.store_release(0);
    let_readers_in();
    unlock(b_->writer);
    read_again();""",
        "another writer gets in",
        where=("interleave_test", "downgrade / write"),
    ),
    Bug(
        "a refused name loses its entry",
        "native/directory/directory.cpp",
        """    if (!good(s)) {
        push_free(m, index);
        return s;
    }""",
        "    if (!good(s)) return s;",
        "the table fills up with entries that nobody has",
        program=("edges_test",),
    ),
    Bug(
        "a claim on an item goes before the item is committed",
        "native/shareable/shareable.cpp",
        """    // COMMIT [shareable.state]
    e.state.store_release(Word::make(Word::sequence(word) + 1, target, kind, length));
    // [shareable.claim]
    e.claim.store_release(0);""",
        """    e.claim.store_release(0);
    e.state.store_release(Word::make(Word::sequence(word) + 1, target, kind, length));""",
        "two writers use the same half",
        program=("shareable_test",),
    ),
    Bug(
        "the sequence of an item stands still",
        "native/shareable/shareable.cpp",
        "Word::sequence(word) + 1, target",
        "Word::sequence(word), target",
        "a reader takes a mixture of three values for one",
        program=("shareable_test",),
    ),
    Bug(
        "an extent is marked before it is reserved",
        "native/heap/heap.cpp",
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
        "the end of a queue wakes no producer",
        "native/queue/queue.cpp",
        """    notify_all(b_->not_empty);
    notify_all(b_->not_full);
    Status s""",
        """    notify_all(b_->not_empty);
    Status s""",
        "one that sleeps finds out only after its nap",
        program=("wakes_test",),
    ),
    Bug(
        "the end of a queue wakes no consumer",
        "native/queue/queue.cpp",
        """    notify_all(b_->not_empty);
    notify_all(b_->not_full);
    Status s""",
        """    notify_all(b_->not_full);
    Status s""",
        "one that sleeps finds out only after its nap",
        program=("wakes_test",),
    ),
    Bug(
        "the last task that is done wakes nobody",
        "native/queue/queue.cpp",
        """        if (done + add == tail) notify_all(b_->all_done);
""",
        "",
        "who joins finds out only after its nap",
        program=("wakes_test",),
    ),
    Bug(
        "who only waits for a message keeps the wake",
        "native/queue/queue.cpp",
        """    if (s == Status::ok) notify(b_->not_empty);
    return s == Status::ok && stopped""",
        "    return s == Status::ok && stopped",
        "who would take it sleeps on",
        program=("wakes_test",),
    ),
    Bug(
        "two tokens that are released wake one",
        "native/locks/semaphore.cpp",
        "notify(b_->freed, static_cast<int>(n))",
        "notify(b_->freed, 1)",
        "the other one sleeps beside a token",
        where=("interleave_test", "two wait / all tokens"),
    ),
    Bug(
        "a barrier that breaks wakes nobody",
        "native/locks/barrier.cpp",
        """    b_->state.store(state_of(phase, kBroken));  // COMMIT [barrier.state]
    notify_all(b_->changed);""",
        "    b_->state.store(state_of(phase, kBroken));  // COMMIT [barrier.state]",
        "its parties find out only after their nap",
        where=("interleave_test", "wait / abort a barrier"),
    ),
    Bug(
        "who only waits for a free lock keeps the wake",
        "native/sync/lock.cpp",
        """            if (slept) os::futex_wake(lock.word.word(), 1);
""",
        """            static_cast<void>(slept);
""",
        "who would take it sleeps on",
        program=("wakes_test",),
    ),
    Bug(
        "a writer that gives up what it may have damaged wakes no reader",
        "native/locks/rwlock.cpp",
        """    if (waiters) os::futex_wake(b_->writer.word.word(), 1);
    notify_all(b_->may_read);""",
        "    if (waiters) os::futex_wake(b_->writer.word.word(), 1);",
        "one that sleeps is not told before its nap ends",
        program=("wakes_test",),
    ),
    Bug(
        "a writer that gives up what it may have damaged wakes no writer",
        "native/locks/rwlock.cpp",
        """    if (waiters) os::futex_wake(b_->writer.word.word(), 1);
    notify_all(b_->may_read);""",
        """    static_cast<void>(waiters);
    notify_all(b_->may_read);""",
        "one that sleeps is not told before its nap ends",
        program=("wakes_test",),
    ),
    Bug(
        "what comes back wakes nobody",
        "native/queue/redeliver.cpp",
        """    if (e.came_back != 0)
        notify(b_->not_empty, static_cast<int>(std::min<u64>(e.came_back, INT_MAX)));
""",
        "",
        "a consumer that sleeps gets it only after its nap",
        program=("wakes_test",),
    ),
    Bug(
        "room that a finished message leaves wakes nobody",
        "native/queue/redeliver.cpp",
        """        notify(b_->not_full, static_cast<int>(std::min<u64>(e.room, INT_MAX)));
""",
        "",
        "a producer that sleeps puts only after its nap",
        program=("wakes_test",),
    ),
    Bug(
        "the last message that is finished wakes nobody",
        "native/queue/redeliver.cpp",
        "        if (b_->floor.load() == b_->tail.load()) notify_all(b_->all_done);\n",
        "",
        "a process that joins the queue finds out only after its nap",
        program=("wakes_test",),
    ),
    # ---- memory under the heap
    Bug(
        "the extent that a block ends in is not reserved",
        "native/heap/heap.cpp",
        "end = (offset + size + kExtent - 1) / kExtent;\n    for (u64 e = first; e < end;) {",
        "end = (offset + size) / kExtent;\n    for (u64 e = first; e < end;) {",
        "SIGBUS on a full disk",
        program=("edges_test",),
    ),
    Bug(
        "a member that is alone does not reserve the last marked extent",
        "native/heap/heap.cpp",
        "        while (e < extents && is_backed(m, e))\n            ++e;\n        if (e == first) continue;",
        "        while (e + 1 < extents && is_backed(m, e))\n            ++e;\n        if (e == first) continue;",
        "a file was copied without its holes: SIGBUS on a full disk",
        program=("edges_test",),
    ),
    Bug(
        "trim gives back only what is marked",
        "native/heap/heap.cpp",
        "            if (first < end && punch_extents(m, first, end) == 0) given_back += backed;",
        "            if (backed != 0 && punch_extents(m, first, end) == 0) given_back += backed;",
        "what a process had reserved, but not marked before it died, is never given back",
        program=("edges_test",),
    ),
    # ---- what a process loses, and how it forks and ends
    # Uses of a descriptor: native/os/pool_file.cpp, the look at device and inode.
    Bug(
        "a descriptor is used whatever file it leads to",
        "native/os/pool_file.cpp",
        "            if (s.st_dev == identity_.device && s.st_ino == identity_.inode) return true;",
        "            return true;",
        "another file is written, and living members are taken for dead",
        program=("losses_test", "replaced"),
    ),
    Bug(
        "a writer that lost its descriptor waits for dead readers",
        "native/locks/rwlock.cpp",
        "            return s == Status::ok ? Status::would_block : s;",
        "            return s == Status::closed ? s : Status::would_block;",
        "it waits for ever: it never learns that they are dead",
        program=("losses_test", "closed", "only=write after a dead reader"),
    ),
    Bug(
        "unknown taken for dead",
        "native/storage/rendezvous.cpp",
        "        return life == os::Life::dead ? Reach::stale : Reach::unknown;",
        "        return Reach::stale;",
        "the rendezvous of a living member of another namespace is removed",
        test="tests/environment/test_unknown_is_not_dead.py",
    ),
    Bug(
        "who cannot tell whether an owner lives waits on",
        "native/sync/lock.cpp",
        """            lock.word.cas(seen, me.tag() | kWaiters))
            return Status::owner_died;
        if (me.cannot_tell()) return Status::lost;""",
        """            lock.word.cas(seen, me.tag() | kWaiters))
            return Status::owner_died;""",
        "a process that has lost its descriptor waits for ever for a dead one's lock",
        program=("losses_test", "closed"),
    ),
    # Forks: native/segment/member.cpp. The first needs a mapping that a child does not inherit, and a
    # child that maps it again at its old place.
    Bug(
        "a child maps the pool over what is there",
        "native/segment/member.cpp",
        """    child_slot_ = kNoSlot;
    child_excluded_ = Status::ok;
""",
        """    child_slot_ = kNoSlot;
    child_excluded_ = Status::ok;
    madvise(base, length, MADV_DONTFORK);
""",
        "another library's memory becomes part of the pool",
        program=("process_test", "mapping"),
        more=(
            (
                """    file = std::move(child_file_);  // closes only: unlocking would unlock the parent
""",
                """    mmap(base, length, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_NORESERVE | MAP_FIXED,
         child_file_ ? child_file_.number() : file.number(), 0);
    file = std::move(child_file_);  // closes only: unlocking would unlock the parent
""",
            ),
        ),
    ),
    Bug(
        "a child without a slot looks at what it has no hold of",
        "native/segment/member.cpp",
        "    if (!os::forbid_access(heap(), geo_.capacity)) {",
        "    if (!os::forbid_writing(heap(), geo_.capacity)) {",
        "its views change under it",
        program=("process_test", "full-table"),
    ),
    Bug(
        "a child that may not open the pool ends",
        "native/segment/member.cpp",
        "    if (joined) exclude(child_excluded_, child_errno_);",
        "    if (joined) __builtin_abort();",
        "a daemon that has given up its privileges can fork no child",
        program=("process_test", "privileges"),
    ),
    # Names that are taken away.
    Bug(
        "frames that a container refers to count as unused",
        "native/directory/directory.cpp",
        "    return RefsWord{block.refs.load()}.count() == 1;",
        "    return true;",
        "whoever gets them out of the container finds them under another name than others do, or none",
        test="tests/frames/test_frames_anew.py::test_frames_that_something_refers_to_stay",
    ),
    Bug(
        "a value is opened without a second look at its name",
        "src/onecopy/values/named.py",
        "        if name is None or _stands_for(member, name, entry):",
        "        if True:",
        "deleted and made anew in between: the old value is guarded by the lock of the new one",
        test="tests/pool/test_delete.py::test_a_value_that_is_deleted_while_it_is_opened_has_the_lock_that_others_get",
    ),
    Bug(
        "the last chunk goes while somebody has a message of it",
        "native/queue/queue.cpp",
        "    if (lowest().load_relaxed() != tail) return 0;",
        "    if (b_->head.load_relaxed() != tail) return 0;",
        "what its taker does not finish is not redelivered",
        test="tests/queue/test_queue_end.py::test_what_a_dead_process_took_before_the_end_is_redelivered",
    ),
    # Ends: native/bindings/leaving.cpp and unwinding.cpp. In their place before: `in_flight` lowered
    # before the GIL is taken, in native/bindings/wait_policy.hpp.
    Bug(
        "a process gives up what a thread of it still writes to",
        "native/bindings/leaving.cpp",
        "    if (only_harmless_threads()) {",
        "    if (true) {",
        "its memory belongs to somebody else, and the thread goes on",
        test="tests/crash/test_ends.py::test_ended_in[Queue.put]",
    ),
    Bug(
        "a thread that the interpreter ends is unwound",
        "native/bindings/unwinding.cpp",
        "    if ((actions & _UA_FORCE_UNWIND) != 0) {",
        "    if (false) {",
        "until Python 3.13 it meets a frame that is noexcept, and the process is aborted",
        test="tests/crash/test_ends.py::test_ended_in[Queue.get]",
    ),
    Bug(
        "private pages stay readable in a child that is no member",
        "native/segment/member.cpp",
        """    private_pages.forbid();
""",
        "",
        "nothing holds the block for the child, and it sees what others put there",
        test="tests/objects/test_private_pages.py::test_in_a_child_that_is_no_member_it_faults",
    ),
    Bug(
        "private pages are mapped through the description with the locks",
        "native/segment/member.cpp",
        "    if (readonly) return file;\n    if (without_locks_",
        "    if (file) return file;\n    if (without_locks_",
        "a child inherits the mapping, and with it its dead parent's locks",
        test="tests/objects/test_private_pages.py"
        "::test_what_a_child_has_mapped_keeps_no_lock_of_its_parent",
    ),
    Bug(
        "private pages hold nothing",
        "native/bindings/private_memory.cpp",
        "    new (&self->held) Held(std::move(block));\n",
        "    new (&self->held) Held();\n",
        "the block is free, and pages that were not written show what others put there",
        test="tests/objects/test_private_pages.py::test_it_keeps_its_block_and_no_more",
    ),
]


def mirror(source: Path, target: Path) -> None:
    """Make the target as the source is. What is the same stays untouched: it is not built again."""
    if not source.is_dir():
        if not target.exists() or not filecmp.cmp(source, target, shallow=False):
            shutil.copyfile(source, target)
        return
    target.mkdir(parents=True, exist_ok=True)
    wanted = {path.name for path in source.iterdir() if path.name != "__pycache__"}
    for path in target.iterdir():
        if path.name not in wanted:
            shutil.rmtree(path) if path.is_dir() else path.unlink()
    for name in wanted:
        mirror(source / name, target / name)


class Copy:
    """A copy of the project, its build, and a package made of both."""

    def __init__(self, folder: Path, root: Path) -> None:
        self.root = root
        self.source = folder / "source"
        self._build = folder / "build"
        self._site = folder / "site"
        self._tools = Path(sys.executable).parent
        self.source.mkdir(parents=True, exist_ok=True)
        for part in ("native", "src", "CMakeLists.txt"):
            mirror(root / part, self.source / part)
        # A compiler cache: CMake itself reads CMAKE_CXX_COMPILER_LAUNCHER from the environment.
        self._run(
            *("cmake", "-G", "Ninja", "-S", self.source, "-B", self._build),
            f"-DCMAKE_MAKE_PROGRAM={self._tools / 'ninja'}",
            f"-DPython_EXECUTABLE={sys.executable}",
            *("-DCMAKE_BUILD_TYPE=None", "-DCMAKE_CXX_FLAGS=-O1", "-DONECOPY_LTO=OFF"),
            *("-DONECOPY_FAULTS=ON", "-DONECOPY_NATIVE_TESTS=ON"),
        )

    def _run(self, *command: object) -> None:
        tool, *arguments = map(str, command)
        done = subprocess.run(
            [str(self._tools / tool), *arguments], check=False, capture_output=True, text=True
        )
        if done.returncode != 0:
            sys.exit(f"{tool} failed:\n{done.stdout[-3000:]}{done.stderr[-3000:]}")

    def build(self, *targets: str) -> None:
        """Compile what has changed and is needed for the targets."""
        self._run("cmake", "--build", self._build, "--target", *targets)

    def run(self, program: str, *arguments: str) -> str | None:
        """Run a native test: what it says if it fails."""
        self.build(program)
        return self._watch(program, [str(self._build / program), *arguments], dict(os.environ))

    def run_python(self, test: str) -> str | None:
        """Run a Python test with the copy's package: what it says if it fails."""
        self.build("_native")
        mirror(self.source / "src" / "onecopy", self._site / "onecopy")
        for module in self._build.glob("_native*.so"):
            shutil.copy2(module, self._site / "onecopy")
        environment = {**os.environ, "PYTHONPATH": str(self._site), "PYTHONDONTWRITEBYTECODE": "1"}
        found = subprocess.run(
            [sys.executable, "-c", "import onecopy._native as core; print(core.__file__)"],
            check=False,
            capture_output=True,
            text=True,
            env=environment,
        )
        if not found.stdout.startswith(str(self._site)):
            sys.exit(f"the copy's package is not what is imported: {found.stdout}{found.stderr}")
        command = [sys.executable, "-m", "pytest", "-q", "-x", "-p", "no:cacheprovider", test]
        return self._watch(test, command, environment)

    def _watch(self, name: str, command: list[str], environment: dict[str, str]) -> str | None:
        # A file, not a pipe: what a failed test leaves behind would keep that open.
        with (
            tempfile.TemporaryFile("w+", errors="replace") as output,
            subprocess.Popen(
                command,
                stdout=output,
                stderr=subprocess.STDOUT,
                env=environment,
                cwd=self.root,
                start_new_session=True,
            ) as child,
        ):
            try:
                child.wait(LIMIT)
            except subprocess.TimeoutExpired:
                return f"{name}: it hung"
            finally:
                with suppress(ProcessLookupError):
                    os.killpg(child.pid, 9)
            if child.returncode == 0:
                return None
            output.seek(0)
            said = output.read()
        lines = [line for line in said.splitlines() if line.startswith(("FAILED", "ERROR"))]
        return f"{name}: {lines[0] if lines else said.strip()[-200:]}"

    def caught(self, bug: Bug, campaigns: Iterable[tuple[str, ...]]) -> str | None:
        """Run what has to notice the bug until something does: what it says."""
        if bug.test:
            return self.run_python(bug.test)
        if bug.program:
            return self.run(*bug.program)
        if bug.where is not None:
            program, operation = bug.where
            if (found := self.run(program, "full", f"only={operation}", SEED)) is not None:
                return found
        return self.run_all(campaigns)

    def run_all(self, campaigns: Iterable[tuple[str, ...]]) -> str | None:
        """Run the campaigns until one fails: what it says."""
        for campaign in campaigns:
            if (found := self.run(*campaign)) is not None:
                return found
        return None


def check_without_bugs(
    copy: Copy, bugs: Iterable[Bug], campaigns: Iterable[tuple[str, ...]]
) -> None:
    """What fails without a planted bug shows nothing about one."""
    failed = copy.run_all(campaigns)
    for program in dict.fromkeys(bug.program for bug in bugs if bug.program):
        failed = failed or copy.run(*program)
    for test in dict.fromkeys(bug.test for bug in bugs if bug.test):
        failed = failed or copy.run_python(test)
    if failed is not None:
        sys.exit(f"this fails without a planted bug: {failed}")
    print("nothing planted: nothing found", flush=True)


def plant(copy: Copy, bugs: Iterable[Bug], campaigns: Iterable[tuple[str, ...]]) -> list[str]:
    """Plant each of the bugs: the names of those that nothing noticed."""
    missed = []
    for bug in bugs:
        path = copy.source / bug.file
        sound = planted = path.read_text()
        for old, new in ((bug.old, bug.new), *bug.more):
            if sound.count(old) != 1:
                sys.exit(f"{bug.name}: its text stands {sound.count(old)} times in {bug.file}")
            planted = planted.replace(old, new)
        start = time.monotonic()
        path.write_text(planted)
        try:
            found = copy.caught(bug, campaigns)
        finally:
            path.write_text(sound)
        if found is None:
            missed.append(bug.name)
            print(f"NOT CAUGHT  {bug.name}: {bug.why}", flush=True)
        else:
            took = time.monotonic() - start
            print(f"caught in {took:6.1f} s  {bug.name}\n    by {found}", flush=True)
    return missed


def main() -> None:
    root = Path.cwd()
    options = argparse.ArgumentParser(description="Plant bugs in a copy; each must be caught.")
    options.add_argument("wanted", nargs="*", help="parts of the names of the bugs to plant")
    options.add_argument("--slices", action="store_true", help="run only the campaigns' slices")
    given = options.parse_args()
    campaigns = CAMPAIGNS[:SLICES] if given.slices else CAMPAIGNS
    bugs = [
        bug for bug in BUGS if not given.wanted or any(part in bug.name for part in given.wanted)
    ]
    if not bugs:
        sys.exit("no bug has such a name")
    copy = Copy(root / "build" / "plant", root)
    check_without_bugs(copy, bugs, () if given.wanted else campaigns)
    if missed := plant(copy, bugs, campaigns):
        sys.exit(f"{len(missed)} planted bugs were not caught")


if __name__ == "__main__":
    main()
