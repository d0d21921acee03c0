"""Bugs in queues, streams and frames."""

from __future__ import annotations

from planted_bug import Bug

BUGS = (
    Bug(
        "the receiver holds after the head has moved",
        "native/queue/queue.cpp",
        """        s = hold(*m_, msg.block);
        // The slot owned the block, so it cannot be gone, unless this process has left.
        if (s != Status::ok) [[unlikely]] {
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
        block.word.cas(word, live.raw);  // fails if another process has turned it back already
        return false;
    }
""",
        "",
        "another process may have taken a hold meanwhile",
        where=("interleave_test", "acquire"),
    ),
    Bug(
        "a frame is given out under its old generation",
        "native/frames/frames.cpp",
        "    const u32 gen = next_gen(live.gen());\n",
        "    const u32 gen = live.gen() + 0 * next_gen(0);\n",
        "a process that still has a handle of its last use reaches the new one",
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
        "native/queue/repair.cpp",
        "    repair_chunk(p);\n    if (redelivers_)",
        "    if (redelivers_)",
        "a consumer that died before it released an empty chunk leaves it there",
        where=("crash_test", "across chunks"),
    ),
    Bug(
        "nobody notices that a taker has gone",
        "native/queue/redeliver.cpp",
        """    const bool news =
        b_->seen_death_epoch.load_relaxed() != m_->header().death_epoch.load_acquire();
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
        "a process that died between finishing and emptying the slot leaves the block to nobody",
        where=("redeliver_test", ""),
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
        "a process that waits for a frame does not see that the last one is free",
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
        "a process that joins finds out only after its nap",
        program=("wakes_test",),
    ),
    Bug(
        "a process that only waits for a message keeps the wake",
        "native/queue/queue.cpp",
        """    if (s == Status::ok) notify(b_->not_empty);
    return s == Status::ok && stopped""",
        "    return s == Status::ok && stopped",
        "a process that would take it sleeps on",
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
    Bug(
        "the last chunk goes while a process has a message of it",
        "native/queue/queue.cpp",
        "    if (lowest().load_relaxed() != tail) return 0;",
        "    if (b_->head.load_relaxed() != tail) return 0;",
        "what its taker does not finish is not redelivered",
        test="tests/queue/test_queue_end.py::test_what_a_dead_process_took_before_the_end_is_redelivered",
    ),
)
