"""Bugs in names, shared lists and dicts, and named values."""

from __future__ import annotations

from planted_bug import Bug

BUGS = (
    Bug(
        "a dead owner's directory lock is taken without a rebuild",
        "native/directory/directory.cpp",
        "if (status == Status::owner_died) status = rebuild(m) ? Status::ok : broken(m);",
        "if (status == Status::owner_died) status = Status::ok;",
        "chains and free entries are half changed",
        where=("crash_test", "set a name"),
    ),
    Bug(
        "a list counts items before they are there",
        "native/containers/list.cpp",
        """            s = fill_slots(items, n, order() + count, dropped);
            if (s == Status::ok) order_count().store_release(count + n);  // COMMIT [list.count]
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
        "native/containers/list_repair.cpp",
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
    # Names that are taken away.
    Bug(
        "frames that a container refers to count as unused",
        "native/directory/directory.cpp",
        "    return RefsWord{block.refs.load()}.count() == 1;",
        "    return true;",
        "a process that reads them finds them under another name than others do, or none",
        test="tests/frames/test_frames_anew.py::test_frames_that_something_refers_to_stay",
    ),
    Bug(
        "a value is opened without a second look at its name",
        "src/onecopy/values/named.py",
        "        if name is None or _stands_for(member, name, entry):",
        "        if True:",
        "deleted and made again in between: the old value is guarded by the lock of the new one",
        test="tests/pool/test_delete.py::test_a_value_that_is_deleted_while_it_is_opened_has_the_lock_that_others_get",
    ),
)
