"""The soak: many processes work on one pool while a killer kills, stops and continues them.

Run ``make soak MINUTES=30``, or ``python -m tests.soak --help``. It is a program, not a test: it
runs for as long as it is told to, prints counts, and its exit status says whether anything was
corrupt, lost, duplicated, leaked or invalid. `test_soak` runs a few seconds of it.

It goes in *rounds* of some seconds. In a round producers, workers, publishers, subscribers,
lockers and visitors (`roles`) share the named structures of one pool, `campaign` kills, stops,
continues and replaces them at random, and at its end either everybody is killed in one moment or
everybody is asked to finish. Then `audit` takes what is left and asks for an account. The pool
stays the same throughout.

How it can know what is lost
----------------------------
A process that is killed takes its memory along, so nobody can ask it what it had. Therefore each
process has a *ledger*: a file of its own to which it appends one line before and one line after
each operation (`ledger`). A write that has returned survives the process; one that was cut short
is an incomplete last line and counts as not written. For each operation that leaves three cases:

    no line before      it never began
    lines before, after it happened (or failed, as the line says)
    line before only    the process was killed inside: it happened or it did not

**What was put.** A message with both lines *must* be delivered once. One whose producer was
killed inside `put` *may* be delivered, once. One whose `put` raised Full or PoolFull must never
be delivered, nor one that nobody put: those count as corrupt.

**What was taken.** Before it asks for up to k messages a worker writes "I ask for k"; after, what
it got. An *open question* (no answer, and the worker was killed) is the only place in which a
message of an ordinary queue may vanish, at most k of them. So each message that was put and that
nobody reports is matched with a place in an open question *that could have taken it*:

* the worker asked before the message was certainly taken: the queue is first-in first-out, so the
  message left it before the next message of its producer did, whose taker noted when it had it;
* the worker was killed after the message could have been taken: not before its `put` began, and
  not before anybody asked for the message that this producer put before it.

This is a bipartite matching between messages and questions; what stays unmatched is **lost**.
Kills are few and intervals are short (milliseconds), so a queue that drops a message is found
unless a worker happened to be killed in that very instant. The matching can excuse too much,
never accuse falsely.

**Redelivering queues** need no excuse. A worker answers "I finish n" before and "I finished n"
after `task_done`. Each message that was put must have been finished by somebody, or it is lost:
an open question excuses nothing. A message reported by a second worker must carry the flag, its
earlier takers must be dead by then, and none may have written "I finished": otherwise it is
**duplicated**.

**Streams.** Between the first and the last message of a publisher that one subscription saw, a
lossless stream must have shown every message that was published; in a lossy one the gaps may not
be more than `missed` says. Order is checked in both, and in queues per producer and worker.

**Locks.** Lockers add one to both words of a shared pair under a lock; the words differ only
while the lock is held, or after its owner died (`OwnerDied` is then told to the next one, which
repairs). The sum must lie between the additions reported and those begun.

**Stalls.** An operation that should not have to wait is timed; the time in which any process was
stopped is subtracted, because a stopped process may hold a lock. A get is timed from when both
the question had been asked and the message been put.
"""
