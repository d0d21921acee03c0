# ruff: noqa: E501 - the replaced texts are as long as the lines of the core
"""Bugs in what a process is to a pool: files, members, forks, ends, private pages; and in lists without a pool."""

from __future__ import annotations

from planted_bug import Bug

BUGS = (
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
        "a forked child inherits no holds",
        "native/segment/member.cpp",
        """        if (local[b] != 0)
            block(b).holder_word(child_slot_ / 64).fetch_or(u64{1} << (child_slot_ % 64));
""",
        "",
        "what the parent releases is freed under the child",
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
        "a segment that a process holds is removed",
        where=("crash_test", "segment: sweep one whose owner is dead"),
    ),
    Bug(
        "the last holder of a segment does not sweep it",
        "native/storage/shared_memory.cpp",
        "    if (named) static_cast<void>(sweep_segment(folder.number(), name_, true));\n",
        "",
        "stale segments stay until a process sweeps",
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
    Bug(
        "a description that an exec does not close",
        "native/os/os.cpp",
        "    return open(path, O_RDWR | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);",
        "    return open(path, O_RDWR | O_NONBLOCK | O_NOCTTY);",
        "a forked child that runs another program stays a living member, and what it held stays away",
        program=("process_test", "exec"),
    ),
    Bug(
        "a process that opens a pool does not look for its name again",
        "native/segment/open.cpp",
        """        return place.memfd ? fd->again()
                           : os::SharedFile(os::open_at(dirfd, name.c_str(), os::Access::write));
    });
    if (!again) {""",
        """        return fd->again();
    });
    if (!again) {""",
        "it joins a pool that was unlinked before",
        where=("interleave_test", "file: open / unlink"),
    ),
    Bug(
        "a process that opens a pool does not look which file its name leads to by now",
        "native/segment/open.cpp",
        "    if (again->identity() != fd->identity())",
        "    if (false)",
        "it counts as a member of one pool and works in another",
        where=("interleave_test", "file: open / unlink"),
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
    # Uses of a descriptor: native/os/shared_file.cpp, the look at device and inode.
    Bug(
        "a descriptor is used whatever file it leads to",
        "native/os/shared_file.cpp",
        "            if (s.st_dev == identity_.device && s.st_ino == identity_.inode) return true;",
        "            return true;",
        "another file is written, and living members are taken for dead",
        program=("losses_test", "replaced"),
    ),
    Bug(
        "unknown taken for dead",
        "native/storage/rendezvous.cpp",
        "        return life == os::Life::dead ? Reach::stale : Reach::unknown;",
        "        return Reach::stale;",
        "the rendezvous of a living member of another namespace is removed",
        test="tests/environment/test_unknown_is_not_dead.py",
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
            ("#include <algorithm>\n", "#include <sys/mman.h>\n\n#include <algorithm>\n"),
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
    # Ends: native/bindings/leaving.cpp and unwinding.cpp. In their place before: `in_flight` lowered
    # before the GIL is taken, in native/bindings/wait_policy.hpp.
    Bug(
        "a process gives up what a thread of it still writes to",
        "native/bindings/leaving.cpp",
        "    if (only_harmless_threads()) {",
        "    if (true) {",
        "its memory belongs to another owner, and the thread continues",
        test="tests/crash/test_ends.py::test_ended_in[Queue.put]",
    ),
    Bug(
        "a thread that the interpreter ends is unwound",
        "native/bindings/unwinding.cpp",
        "    if ((actions & _UA_FORCE_UNWIND) != 0) onecopy::os::hang();\n",
        "",
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
)
