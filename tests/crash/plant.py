# ruff: noqa: E501 - the replaced texts are as long as the lines of the core
"""Plant known bugs in a copy of the core, and see that the native campaigns catch each of them.

Usage: ``python tests/crash/plant.py [text ...]``, from the root of the project; with texts, only the
bugs whose name contains one. Each bug is one replacement in one file, built on its own
(-O1, no optimization across files) in a temporary folder. It fails if a bug is not caught, or if the
campaigns fail without one.

What this cannot show: x86 does not let a store pass an earlier store, so a missing release or acquire
changes nothing there. Bugs of order are planted as the order that the missing barrier would allow.
Not planted: `landed` without its look at the generation. Whoever overwrites the word of a block that
was given out again acknowledges first, so that look is a second belt, and nothing can show its absence.
Neither the heap without its early commit of a freed span: until the last store the block is still being
freed, and freeing it once more comes to the same. Nor the look at the count before the one at the holders:
there are two looks, and whoever holds the block between them turns it back.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

SEED = "seed=4"
# From the quickest to the most thorough; the first that fails has caught the bug.
CAMPAIGNS = (
    ("interleave_test", SEED),
    ("crash_test", SEED),
    ("redeliver_test",),
    ("crash_test", "full", SEED),
    ("interleave_test", "full", SEED),
    ("crash_test", "nested", SEED),
)
LIMIT = 900  # seconds for one campaign: a watchdog


@dataclass(frozen=True)
class Bug:
    """One replacement in one file, and why it is wrong."""

    name: str
    file: str
    old: str
    new: str
    why: str
    where: tuple[str, str] | None = None  # a campaign and an operation that are likely to show it


BUGS = [
    Bug(
        "the sender lets go before the queue refers",
        "heap/blocks.hpp",
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
        "heap/blocks.hpp",
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
        "queue/queue.cpp",
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
        "recovery/recovery.cpp",
        """            refs::add(m, next, slot, op * 4 + 2, -1);
""",
        "",
        "the count of a put that never happened stays: a leak",
        where=("crash_test", "put block"),
    ),
    Bug(
        "recovery does not empty the cell of an uncommitted put",
        "recovery/recovery.cpp",
        """        cell.store(old);
        if (next""",
        """        if (next""",
        "the cell refers to a block that does not count it",
        where=("crash_test", "put block"),
    ),
    Bug(
        "recovery does not drop the old reference",
        "recovery/recovery.cpp",
        """            if (old != 0 && !refs::landed(m, old, slot, op, 1))
                refs::add(m, old, slot, op * 4 + 1, -1);
""",
        "",
        "what was taken, or replaced, before the death is never free",
        where=("crash_test", "get block"),
    ),
    Bug(
        "recovery undoes without asking whether the step landed",
        "recovery/recovery.cpp",
        """if (next != 0 && !refs::landed(m, next, slot, op, 2) &&
            refs::landed(m, next, slot, op, 0)) {""",
        "if (next != 0) {",
        "a count that never rose is taken back",
        where=("crash_test", "collect, adding"),
    ),
    Bug(
        "the second undo is not recognized",
        "recovery/recovery.cpp",
        """if (next != 0 && !refs::landed(m, next, slot, op, 2) &&
            refs::landed(m, next, slot, op, 0)) {""",
        "if (next != 0 && refs::landed(m, next, slot, op, 0)) {",
        "a recoverer that died after undoing is followed by one that undoes again, if an acknowledgement remains",
        where=("crash_test", "collect, adding"),
    ),
    Bug(
        "the generation moves before the intent is resolved",
        "recovery/recovery.cpp",
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
        "heap/blocks.cpp",
        """        acknowledge(m, w, slot);
""",
        "",
        "whoever overwrites the word destroys the only proof that a step landed",
        where=("crash_test", "collect, adding"),
    ),
    Bug(
        "the intent is armed before its number is stored",
        "heap/blocks.cpp",
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
        "heap/heap.cpp",
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
        "heap/heap.cpp",
        "if (w.state() == BlockState::unused || w.state() == BlockState::span) {",
        "if (w.state() == BlockState::unused || w.state() == BlockState::span || w.state() == BlockState::freeing) {",
        "their space is given out while somebody still takes them apart",
        where=("crash_test", "drop"),
    ),
    Bug(
        "an orphaned heap lock is taken without a rebuild",
        "heap/heap.cpp",
        "    rebuild_heap(m);\n    if (!m.corrupt()) return s;",
        "    if (!m.corrupt()) return s;",
        "free lists and counters are half changed",
        where=("crash_test", "allocate"),
    ),
    Bug(
        "an orphaned directory lock is taken without a rebuild",
        "directory/directory.cpp",
        "if (status == Status::owner_died) status = rebuild(m) ? Status::ok : broken(m);",
        "if (status == Status::owner_died) status = Status::ok;",
        "chains and free entries are half changed",
        where=("crash_test", "set a name"),
    ),
    Bug(
        "a dead member's doubt stays",
        "recovery/recovery.cpp",
        """            b.word.cas(expected,
                       BlockWord::make(w.gen(), BlockState::live, kNoSlot, w.flags()).raw);
""",
        "            (void)expected;\n",
        "a block that it was looking at is neither live nor freed",
        where=("crash_test", "drop"),
    ),
    Bug(
        "a dead member's freeing is not finished",
        "recovery/recovery.cpp",
        "            if (w.raw == ours || b.word.cas(expected, ours)) finish_free(m, i, wait);\n",
        "            (void)expected, (void)ours;\n",
        "decided and never done: a leak",
        where=("crash_test", "drop"),
    ),
    Bug(
        "free without a second look",
        "heap/blocks.cpp",
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
        "heap/blocks.cpp",
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
        "heap/blocks.cpp",
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
        "heap/blocks.cpp",
        "        clear_bit(m, b);\n    }\n    // Our bit",
        "    }\n    // Our bit",
        "the block's next life never ends",
        where=("crash_test", "hold what"),
    ),
    Bug(
        "a stale hold does not free what it kept",
        "heap/blocks.cpp",
        """    Stubborn wait;
    try_free(m, index, wait);
    return Status::stale;""",
        """    return Status::stale;""",
        "its bit stopped the last owner from freeing the block",
        where=("interleave_test", "hold the recycled"),
    ),
    Bug(
        "a stream's slot is not marked while it is written",
        "stream/stream.cpp",
        "    s.stamp.store_relaxed(written(k) - 1);\n",
        "",
        "a reader takes half of one message and half of another",
        where=("interleave_test", "read the oldest"),
    ),
    Bug(
        "a reader does not look at the stamp again",
        "stream/stream.cpp",
        "            whole = s.stamp.load_relaxed() == stamp;\n",
        "",
        "what it copied may be from two messages",
        where=("interleave_test", "publish round"),
    ),
    Bug(
        "a stream's head moves before the slot is written",
        "stream/stream.cpp",
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
        "frames/frames.cpp",
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
        "frames/frames.cpp",
        "    const u32 gen = next_gen(live.gen());\n",
        "    const u32 gen = live.gen() + 0 * next_gen(0);\n",
        "whoever still has a handle of its last use gets at the new one",
        where=("interleave_test", "acquire / hold the frame"),
    ),
    Bug(
        "the wake comes before the commit",
        "queue/queue.cpp",
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
        "queue/queue.cpp",
        "    repair_chunk(p);\n    if (redelivers_)",
        "    if (redelivers_)",
        "a consumer that died before it let go of an empty chunk leaves it there",
        where=("crash_test", "across chunks"),
    ),
    Bug(
        "a row is free before its holds are",
        "segment/member.cpp",
        """    if (!joined.load()) return;
    Stubborn wait;""",
        """    if (!joined.load()) return;
    own_row().state.store_release(static_cast<u32>(RowState::free));
    Stubborn wait;""",
        "a death in between leaves bits of a row that nobody cleans",
        where=("crash_test", "leave"),
    ),
    Bug(
        "recovery frees the row first",
        "recovery/recovery.cpp",
        "    row.state.store_release(static_cast<u32>(RowState::reaping));\n",
        "    row.state.store_release(static_cast<u32>(RowState::free));\n",
        "if the recoverer dies, nobody goes on where it stopped",
        where=("crash_test", "collect"),
    ),
    Bug(
        "a forked child inherits no holds",
        "segment/member.cpp",
        """        if (local[b] != 0)
            block(b).holder_word(child_slot_ / 64).fetch_or(u64{1} << (child_slot_ % 64));
""",
        "",
        "what the parent lets go of is freed under the child",
        where=("interleave_test", "fork"),
    ),
    Bug(
        "a fork leaves the dead their slots",
        "segment/member.cpp",
        "        if (reserve_dead_row(deadline)) return;\n",
        "",
        "when all slots were killed children's, no child gets one any more",
        where=("crash_test", "fork"),
    ),
    Bug(
        "the last one does not remove the name",
        "segment/file.cpp",
        "    if (dirfd) remove_name(dirfd.get(), place, DirectoryLock(dirfd.get()));\n",
        "",
        "files without a process stay behind",
        where=("crash_test", "leave"),
    ),
    Bug(
        "a pool has its name before anybody is in it",
        "segment/file.cpp",
        '    if (Status s = member->join(); !good(s)) return fail(why, "take a slot", s);\n\n    Unpublished rendezvous;',
        "    Unpublished rendezvous;",
        "nobody is a member of what others can open",
        where=("crash_test", "create"),
    ),
    # ---- locks
    Bug(
        "a reader does not look after it has counted itself in",
        "locks/rwlock.cpp",
        "    if (b_->closed.load() != 0) [[unlikely]] {",
        "    if (false) {",
        "a writer that closes between the reader's look and its entry shares the lock with it (also what a missing fence between the two allows)",
        where=("interleave_test", "write"),
    ),
    Bug(
        "a writer does not wait for readers",
        "locks/rwlock.cpp",
        "        if ((blocker = a_reader()) != kNoSlot) return Status::would_block;\n        if (!readers_first)",
        "        if (!readers_first)",
        "it writes what others read",
        where=("interleave_test", "read"),
    ),
    Bug(
        "a lock is open before its writer is out",
        "locks/rwlock.cpp",
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
        "locks/rwlock.cpp",
        "    return Shares::count(w) != 0 && !Shares::passed(*m_, slot, w);",
        "    return Shares::count(w) != 0;",
        "a writer never gets in",
        where=("crash_test", "write after a dead reader"),
    ),
    Bug(
        "only the last writer's name is asked about",
        "locks/rwlock.cpp",
        "    if (const u32 writer = b_->writer.word.load() & ~kWaiters; writer != 0) m_->gone(writer);\n",
        "",
        "who took over from a dead writer and died at once is never found",
        where=("crash_test", "read after a dead writer"),
    ),
    Bug(
        "tokens of the dead stay away",
        "locks/semaphore.cpp",
        "        held_[slot].store_release(0);  // COMMIT\n",
        "",
        "what a dead process held is lost",
        where=("crash_test", "token"),
    ),
    Bug(
        "a semaphore is not counted anew",
        "locks/semaphore.cpp",
        "    if (s != Status::owner_died) return s;\n    recount();",
        "    if (s != Status::owner_died) return s;",
        "a death between a commit and the count of it changes the number of tokens",
        where=("crash_test", "token"),
    ),
    Bug(
        "a notification is written down after the wake",
        "locks/condition.cpp",
        """        first->word.store((word & ~kStateBits) | kNotified);  // COMMIT of notify
        os::futex_wake(first->word.word(), 1);""",
        """        os::futex_wake(first->word.word(), 1);
        first->word.store((word & ~kStateBits) | kNotified);  // COMMIT of notify""",
        "the waiter looks too early and sleeps on",
        where=("interleave_test", "notify"),
    ),
    Bug(
        "a dead waiter takes the notification",
        "locks/condition.cpp",
        "            first->word.store(word & ~kStateBits);  // dead: the next one gets it\n            continue;",
        "            --n;\n            continue;",
        "its place is never free again, and the next notification goes there too",
        where=("interleave_test", "dead one / notify"),
    ),
    Bug(
        "a barrier forgets the dead",
        "locks/barrier.cpp",
        "        if (counted(w, phase) == 0) continue;\n        if (",
        "        if (counted(w, phase) != 0) continue;\n        if (",
        "a phase that can never be complete is waited for",
        where=("crash_test", "dead party"),
    ),
    # ---- redelivery
    Bug(
        "nobody notices that a taker has gone",
        "queue/redeliver.cpp",
        """    const bool news = b_->seen_departures.load_relaxed() !=
                      m_->header().departures.load_acquire();  // [pool.departures]
    if (news && !rescan(e, p)) return false;""",
        "",
        "what a dead process took never comes back",
        where=("redeliver_test", ""),
    ),
    Bug(
        "what comes back is not flagged",
        "queue/redeliver.cpp",
        "        s = take_slot(slot, position, true, msgs[moved]);",
        "        s = take_slot(slot, position, false, msgs[moved]);",
        "a message is given out twice, and nobody knows",
        where=("redeliver_test", ""),
    ),
    Bug(
        "a finished message keeps its block",
        "queue/redeliver.cpp",
        "        if (t.state() == Taking::done) clear_slot(slot, p);\n",
        "",
        "who died between finishing and emptying the slot leaves the block to nobody",
        where=("redeliver_test", ""),
    ),
    Bug(
        "a list counts items before they are there",
        "containers/list.cpp",
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
        "containers/list.cpp",
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
        "containers/list.cpp",
        "        if (Dropped dropped(*m_, wait); !used[slot]) empty(cell(slot), dropped);\n",
        "",
        "values of an extend that did not happen are never freed",
        where=("crash_test", "list: extend"),
    ),
    Bug(
        "a dict takes a long key away before its value",
        "containers/dict.cpp",
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
        "containers/container.cpp",
        "    if (s == Status::ok && died) s = within_memory([&] { return rebuild(); });\n",
        "    static_cast<void>(died);\n",
        "chains, free list and counts are as the dead one left them",
        where=("crash_test", "dict: delete"),
    ),
]


class Copy:
    """A copy of the core, and its build."""

    def __init__(self, folder: Path, root: Path) -> None:
        self.folder = folder
        self._tools = Path(sys.executable).parent
        shutil.copytree(root / "native", folder / "native")
        shutil.copy(root / "CMakeLists.txt", folder)
        self._run(
            *("cmake", "-G", "Ninja", "-S", folder, "-B", folder / "build"),
            f"-DCMAKE_MAKE_PROGRAM={self._tools / 'ninja'}",
            *("-DCMAKE_BUILD_TYPE=None", "-DCMAKE_CXX_FLAGS=-O1", "-DONECOPY_LTO=OFF"),
            *("-DONECOPY_FAULTS=ON", "-DONECOPY_NATIVE_TESTS=ON", "-DONECOPY_PYTHON_MODULE=OFF"),
        )

    def _run(self, *command: object) -> None:
        tool, *arguments = map(str, command)
        done = subprocess.run(
            [str(self._tools / tool), *arguments], check=False, capture_output=True, text=True
        )
        if done.returncode != 0:
            sys.exit(f"{tool} failed:\n{done.stdout[-3000:]}{done.stderr[-3000:]}")

    def build(self) -> None:
        """Compile what has changed."""
        self._run(
            *("cmake", "--build", self.folder / "build", "--target"),
            *("crash_test", "interleave_test", "redeliver_test"),
        )

    def caught(
        self, campaigns: tuple[tuple[str, ...], ...], where: tuple[str, str] | None = None
    ) -> tuple[str, float] | None:
        """Run the campaigns until one fails: what it says, and after how many seconds."""
        start = time.monotonic()
        if where is not None:
            campaigns = ((where[0], "full", f"only={where[1]}", SEED), *campaigns)
        for program, *arguments in campaigns:
            with subprocess.Popen(
                [self.folder / "build" / program, *arguments],
                stdout=subprocess.DEVNULL,
                stderr=subprocess.PIPE,
                text=True,
                start_new_session=True,
            ) as campaign:
                try:
                    _, said = campaign.communicate(timeout=LIMIT)
                except subprocess.TimeoutExpired:
                    os.killpg(campaign.pid, 9)
                    return f"{program}: it hung", time.monotonic() - start
            if campaign.returncode != 0:
                lines = [line for line in said.splitlines() if line.startswith("FAILED: ")]
                what = lines[0].removeprefix("FAILED: ") if lines else said.strip()[-200:]
                return f"{program}: {what}", time.monotonic() - start
        return None


def main() -> None:
    root = Path.cwd()
    options = argparse.ArgumentParser(
        description="Plant bugs in the core; the campaigns must catch each."
    )
    options.add_argument("wanted", nargs="*", help="parts of the names of the bugs to plant")
    options.add_argument("--slices", action="store_true", help="run only the campaigns' slices")
    given = options.parse_args()
    wanted = given.wanted
    campaigns = CAMPAIGNS[:3] if given.slices else CAMPAIGNS
    missed = []
    with tempfile.TemporaryDirectory(prefix="onecopy-plant-") as folder:
        copy = Copy(Path(folder) / "onecopy", root)
        copy.build()
        if not wanted:
            if (found := copy.caught(campaigns)) is not None:
                sys.exit(f"the campaigns fail without a planted bug: {found[0]}")
            print("nothing planted: nothing found", flush=True)
        for bug in BUGS:
            if wanted and not any(part in bug.name for part in wanted):
                continue
            path = copy.folder / "native" / bug.file
            sound = path.read_text()
            if sound.count(bug.old) != 1:
                sys.exit(f"{bug.name}: its text stands {sound.count(bug.old)} times in {bug.file}")
            path.write_text(sound.replace(bug.old, bug.new))
            try:
                copy.build()
                found = copy.caught(campaigns, bug.where)
            finally:
                path.write_text(sound)
            if found is None:
                missed.append(bug.name)
                print(f"NOT CAUGHT  {bug.name}: {bug.why}", flush=True)
            else:
                print(f"caught in {found[1]:6.1f} s  {bug.name}\n    by {found[0]}", flush=True)
    if missed:
        sys.exit(f"{len(missed)} planted bugs were not caught")


if __name__ == "__main__":
    main()
