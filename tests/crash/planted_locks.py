# ruff: noqa: E501 - the replaced texts are as long as the lines of the core
"""Bugs in locks of users, and in the waits of the core."""

from __future__ import annotations

from planted_bug import Bug

BUGS = (
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
        "        if ((blocker = a_reader()) != kNoSlot) {\n            // The reader may",
        "        if (false) {\n            // The reader may",
        "it writes what others read",
        where=("interleave_test", "read"),
    ),
    Bug(
        "a lock is open before its writer is out",
        "native/locks/rwlock.cpp",
        """    b_->active.store_release(0);  // [rwlock.active]
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
        "a process that took over from a dead writer and died at once is never found",
        where=("crash_test", "read after a dead writer"),
    ),
    Bug(
        "tokens of the dead stay away",
        "native/locks/semaphore.cpp",
        "        held_[slot].store_release(0);  // COMMIT",
        "        //",
        "what a dead process held is lost",
        where=("crash_test", "token"),
    ),
    Bug(
        "a semaphore is not counted again",
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
        "            first->word.store(word & ~kStateBits);  // dead: the next waiter gets it\n            continue;",
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
        "a process that waits for a free lock looks for its owner after undisturbed naps only",
        "native/sync/lock.cpp",
        """        if (how != os::Wake::timed_out && now < look) continue;
        if (lock.word.load() == seen && me.gone(tag)) return Status::owner_died;""",
        """        if (how != os::Wake::timed_out) continue;
        if (lock.word.load() == seen && me.gone(tag)) return Status::owner_died;""",
        "a process with a timer has none: it waits for ever",
        program=("signals_test",),
    ),
    Bug(
        "a process that waits for a change looks for the dead after undisturbed naps only",
        "native/sync/event_count.hpp",
        "        if (!undisturbed && now < look) continue;",
        "        if (!undisturbed) continue;",
        "a process with a timer has none: it waits for ever",
        program=("signals_test",),
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
        """    if (notified && why == Status::interrupted) wake(1);
""",
        "",
        "it does not act on it, and another one sleeps on",
        program=("wakes_test",),
    ),
    Bug(
        "a destroyed task keeps its place at a condition",
        "native/locks/condition.cpp",
        """    if (there) mine.tag_of_place->store(kAbandoned);  // COMMIT of leave
""",
        "    static_cast<void>(there);\n",
        "it is notified, and nobody takes the notification over",
        test="tests/aio/test_aio_condition_lives.py",
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
    b_->active.store_release(0);  // [rwlock.active]
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
        "a process that only waits for a free lock keeps the wake",
        "native/sync/lock.cpp",
        """            if (slept) os::futex_wake(lock.word.word(), 1);
""",
        """            static_cast<void>(slept);
""",
        "a process that would take it sleeps on",
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
        "a writer that lost its descriptor waits for dead readers",
        "native/locks/rwlock.cpp",
        "            return s == Status::ok ? Status::would_block : s;",
        "            return s == Status::closed ? s : Status::would_block;",
        "it waits for ever: it never learns that they are dead",
        program=("losses_test", "closed", "only=write after a dead reader"),
    ),
    Bug(
        "a process that cannot tell whether an owner lives waits on",
        "native/sync/lock.cpp",
        """            lock.word.cas(seen, me.tag() | kWaiters))
            return Status::owner_died;
        if (me.cannot_tell()) return Status::lost;""",
        """            lock.word.cas(seen, me.tag() | kWaiters))
            return Status::owner_died;""",
        "a process that has lost its descriptor waits for ever for a dead one's lock",
        program=("losses_test", "closed"),
    ),
)
