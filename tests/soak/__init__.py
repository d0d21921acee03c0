"""The soak: many processes work on one pool while a killer kills, stops and continues them.

Run ``make soak MINUTES=30``, or ``python -m tests.soak --help``. It is a program, not a test: it
runs for the time that is given, prints counts, and its exit status says whether anything was
corrupt, lost, duplicated, leaked or invalid. `test_soak` runs a few seconds of it.

It runs in *rounds* of some seconds. In a round producers, workers, publishers, subscribers,
lockers and visitors (`roles`) share the named structures of one pool, `campaign` kills, stops,
continues and replaces them at random, and at its end either all are killed at the same time or all
are asked to end. Then `audit` takes the messages that are left and compares the reports of all
processes. The pool stays the same for all rounds.

How it can know what is lost
----------------------------
The memory of a killed process is lost, so it cannot be asked what it had. Therefore each process
has a *ledger*: a file of its own to which it appends one line before and one line after each
operation (`ledger`). A write that has returned is in the file after the death of the process; one
that was interrupted is an incomplete last line and counts as not written. For each operation this
leaves three cases:

    no line before      it never began
    lines before, after it happened (or failed, as the line says)
    only a line before  the process was killed inside: it happened or it did not

**What was put.** A message with both lines *must* be delivered once. One whose producer was
killed inside `put` *may* be delivered, once. One whose `put` raised Full or PoolFull must never
be delivered, nor one that no process put: those count as corrupt.

**What was taken.** Before it asks for up to k messages a worker writes "I ask for k"; after, what
it got. An *open question* (no answer, and the worker was killed) is the only place in which a
message of an ordinary queue may be lost, at most k of them. So each message that was put and that
no process reports is matched with a place in an open question *that could have taken it*:

* the worker asked before the message was certainly taken: the queue is first-in first-out, so the
  message left it before the next message of its producer, whose taker noted when it had it;
* the worker was killed after the message could have been taken: not before its `put` began, and
  not before a process asked for the message that this producer put before it.

This is a bipartite matching between messages and questions; messages without a match are **lost**.
Kills are few and intervals are short (milliseconds), so a queue that drops a message is found
unless a worker was killed in exactly that moment. The matching may overlook a lost message, but a
message that it reports is lost.

**Redelivering queues** may lose nothing. A worker writes "I finish n" before and "I finished n"
after `task_done`. Each message that was put must have been finished by a process, or it is lost:
open questions do not count. A message reported by a second worker must carry the flag, its
earlier takers must be dead by then, and none may have written "I finished": otherwise it is
**duplicated**.

**Streams.** Between the first and the last message of a publisher that one subscription saw, a
lossless stream must have shown every message that was published; in a lossy one the gaps may not
be more than `missed` says. Order is checked in both, and in queues per producer and worker.

**Locks.** Lockers add one to both words of a shared pair under a lock; the words differ only
while the lock is held, or after its owner died (the next owner then gets `OwnerDied`, and repairs
them). The sum must lie between the additions reported and those begun.

**Stalls.** An operation that should not have to wait is timed; the time in which any process was
stopped is subtracted, because a stopped process may hold a lock. A get is timed from when both
the question had been asked and the message been put.
"""
