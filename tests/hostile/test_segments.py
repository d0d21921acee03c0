"""A slice of the campaign of damaged segments, and each problem that it has found."""

from __future__ import annotations

import os
import struct

import pytest
import segments
from forks import in_child
from seeds import SEED, more

import onecopy as oc

pytestmark = pytest.mark.one_in(3)


@pytest.mark.seeded
def test_a_slice_of_the_campaign(pool_directory):
    print(f"seed {SEED}")
    done, every, failures = segments.campaign(str(pool_directory), more(120), SEED)
    assert not failures, f"seed {SEED}, {done} rounds of {every}:\n" + "\n".join(failures)


@pytest.fixture
def specimen(pool_directory):
    specimen = segments.Specimen(str(pool_directory))
    yield specimen
    specimen.close()


def word(specimen, offset, width=4):
    return int.from_bytes(os.pread(specimen.file, width, offset), "little")


def change(where, offset, value, width=4):
    return segments.Change(where, offset, (value % (1 << 8 * width)).to_bytes(width, "little"))


def free_lists(specimen):
    """The heads of the free lists, and the block that each points to."""
    start = specimen.layout.heads + 168
    heads = ((start + 4 * i, word(specimen, start + 4 * i)) for i in range(640))
    return [(at, index) for at, index in heads if index != 0xFFFFFFFF]


def entry(specimen, index):
    return specimen.layout.table + index * segments.BLOCK


def found(specimen, *changes):
    """A pool with such damage is refused, or found corrupt in use; nothing worse happens."""
    for in_use in (False, True):
        problem = specimen.round(list(changes), in_use)
        assert problem is None, f"{problem} ({'in use' if in_use else 'before'})"
    specimen.restore()
    for one in changes:
        os.pwrite(specimen.file, one.data, one.offset)
    return in_child(must_be_found, specimen.path) is None


def must_be_found(path):
    try:
        pool = oc.Pool.open(path)
    except oc.OneCopyError:
        return
    segments.use(pool)
    with pytest.raises(oc.PoolCorrupted):
        pool.put(1)


WILD = [1 << 31, 0xFFFFFFFE, 60_000]


@pytest.mark.parametrize("index", WILD)
def test_free_lists_that_lead_outside(specimen, index):
    assert found(specimen, *(change("head", at, index) for at, _ in free_lists(specimen)))


@pytest.mark.parametrize("link", [2, 3])
def test_free_lists_that_are_rings(specimen, link):
    rings = [
        change("ring", entry(specimen, i) + 112 + 4 * link, i) for _, i in free_lists(specimen)
    ]
    assert found(specimen, *rings)


@pytest.mark.parametrize("link", range(4))
@pytest.mark.parametrize("index", WILD)
def test_links_of_blocks_that_lead_outside(specimen, link, index):
    blocks = range(1, specimen.layout.blocks_top)
    if link >= 2:  # these two say something else about used blocks
        blocks = [b.index for b in specimen.layout.blocks if b.state == 1]
    changes = [change("link", entry(specimen, i) + 112 + 4 * link, index) for i in blocks]
    assert found(specimen, *changes)


@pytest.mark.parametrize("field", [80, 88], ids=["offset", "size"])
@pytest.mark.parametrize("value", [0, 63, 1 << 24, 1 << 40, (1 << 64) - 64])
def test_free_spans_with_impossible_places(specimen, field, value):
    spans = [b.index for b in specimen.layout.blocks if b.state == 1]
    changes = [change("span", entry(specimen, i) + field, value, 8) for i in spans]
    if (field, value) != (80, 0):  # each span at byte 0 is possible, only wrong
        assert found(specimen, *changes)
    assert specimen.round(changes, in_use=True) is None


@pytest.mark.parametrize("field", [80, 88], ids=["offset", "size"])
@pytest.mark.parametrize("value", [1 << 24, (1 << 64) - 64])
def test_live_blocks_with_impossible_places(specimen, field, value):
    live = [b.index for b in specimen.layout.blocks if b.state == 2]
    assert found(specimen, *(change("block", entry(specimen, i) + field, value, 8) for i in live))


@pytest.mark.parametrize("value", [0, 1, 2, 1 << 20, 0xFFFFFFFF])
def test_a_block_table_that_ends_elsewhere(specimen, value):
    assert found(specimen, change("blocks_top", 204, value))


@pytest.mark.parametrize("field", [(208, 8), (328, 4), (332, 4), (344, 8)])
@pytest.mark.parametrize("value", [1 << 31, (1 << 64) - 1])
def test_marks_of_the_header(specimen, field, value):
    offset, width = field
    assert found(specimen, change("header", offset, value, width))


@pytest.mark.parametrize("field", [196, 200, 324], ids=["free_entries", "last_entry", "free_names"])
@pytest.mark.parametrize("value", [1 << 20, 1 << 31])
def test_links_of_the_header(specimen, field, value):
    """Damage that no operation meets is not found; nothing worse happens either."""
    for in_use in (False, True):
        assert specimen.round([change("header", field, value)], in_use) is None


def test_names_in_a_ring(specimen):
    changes = [
        change("next", specimen.layout.names + i * segments.ENTRY + 24, i + 1)
        for i in range(specimen.layout.names_top)
    ]
    for in_use in (False, True):
        assert specimen.round(changes, in_use) is None


@pytest.mark.parametrize("length", [0, 201, 255])
def test_names_of_impossible_length(specimen, length):
    changes = [
        change("name_len", specimen.layout.names + i * segments.ENTRY + 29, length, 1)
        for i in range(specimen.layout.names_top)
    ]
    assert found(specimen, *changes)


def lock_words(specimen):
    """All of them: heap, names, and those of the structures."""
    yield 192
    yield 320
    for kind, places in ((1, (64, 128)), (3, (64,)), (4, (64,))):
        for body in specimen.layout.bodies(kind):
            yield from (body.offset + place for place in places)


@pytest.mark.parametrize("slot", [0, 1, 7, 8, 2000])
@pytest.mark.parametrize("steps", [0, 1, 2])
def test_locks_held_by_nobody_are_taken(specimen, slot, steps):
    """Slot 0 is the one that the next process gets."""
    row = specimen.layout.rows + min(slot, 7) * segments.ROW
    owner = (word(specimen, row + 4) + steps & 0xFFFFF) << 11 | slot + 1
    for in_use in (False, True):
        changes = [change("lock", at, owner | 1 << 31) for at in lock_words(specimen)]
        assert specimen.round(changes, in_use) is None
    specimen.restore()
    for one in changes:
        os.pwrite(specimen.file, one.data, one.offset)
    assert in_child(must_work, specimen.path) is None


def must_work(path):
    with oc.Pool.open(path) as pool:
        assert pool["plain"] == (1, "two", b"three", 4.0, None)
        pool["new"] = list(range(1000))
        assert pool.queue("queue").get(timeout=10) == 7
        assert pool.validate() == []


@pytest.mark.parametrize("state", [1, 2, 3, 1 << 31])
def test_rows_of_processes_that_never_were(specimen, state):
    for intent in (0, 2, 4, 99):
        changes = [change("rows_used", 148, 8)]
        for row in range(8):
            at = specimen.layout.rows + row * segments.ROW
            changes += [change("state", at, state), change("intent", at + 72, intent)]
            changes += [change("cell", at + 80 + 8 * i, 1 << 40, 8) for i in range(5)]
        for in_use in (False, True):
            assert specimen.round(changes, in_use) is None


@pytest.mark.parametrize(
    "field",
    [72, 80, 136, 144, 152, 160],
    ids=["tail", "seen_head", "head", "seen_tail", "floor", "done"],
)
@pytest.mark.parametrize("value", [1 << 32, (1 << 64) - 1])
def test_ends_of_a_queue(specimen, field, value):
    body = specimen.layout.bodies(1)[0].offset
    for in_use in (False, True):
        assert specimen.round([change("queue", body + field, value, 8)], in_use) is None


@pytest.mark.parametrize("value", [1, 1 << 32, (1 << 64) - 1])
def test_heads_and_stamps_of_streams(specimen, value):
    """A stamp that lies beyond the head would make a reader search without end."""
    for body in specimen.layout.bodies(3):
        ring = body.offset + 192 + 64 * 64
        stamps = [change("stamp", ring + i * segments.SLOT + 8, value, 8) for i in range(4)]
        for changes in (stamps, [change("head", body.offset + 72, value, 8)], stamps[1:]):
            for head in ([], [change("head", body.offset + 72, 1 << 62, 8)]):
                for in_use in (False, True):
                    assert specimen.round([*changes, *head], in_use) is None


@pytest.mark.parametrize("index", [0, *WILD])
def test_frames_that_are_none(specimen, index):
    body = specimen.layout.bodies(4)[0].offset
    cells = [change("cell", body + 1024 + 8 * i, 1 << 32 | index, 8) for i in range(3)]
    for in_use in (False, True):
        assert specimen.round(cells, in_use) is None


@pytest.mark.parametrize("bits", [0, (1 << 64) - 1])
def test_extents_that_are_not_what_the_bitmap_says(specimen, bits):
    """A bit that is set by mistake is corrected when the pool is opened."""
    changes = [change("extents", specimen.layout.extents, bits, 8)]
    for in_use in (False, True):
        assert specimen.round(changes, in_use) is None
    specimen.restore()
    os.pwrite(specimen.file, changes[0].data, changes[0].offset)
    assert in_child(must_work, specimen.path) is None
    if bits:
        assert os.fstat(specimen.file).st_blocks * 512 >= 16 << 20


@pytest.mark.parametrize(
    "cells", [(0, 0, 0xFFFFFFFF), (0, 8, 0xFFFFFFFF), (4, 8, 1), (1 << 31, 8, 2)]
)
def test_reference_cells_outside_of_their_block(specimen, cells):
    data = struct.pack("<3I", *cells)
    changes = [
        segments.Change("cells", entry(specimen, block.index) + 100, data)
        for block in specimen.layout.blocks
        if block.state == 2 and block.kind != 2
    ]
    assert found(specimen, *changes)


# ---------------------------------------------------------------------------- cut short, and grown


@pytest.mark.parametrize(
    "end", ["-1", "-4096", "0", "1", "4095", "4096", "heap", "+1", "+4096", "+1G"]
)
def test_a_file_of_another_length_is_refused(specimen, end):
    lengths = {"heap": specimen.layout.heap, "+1G": specimen.size + (1 << 30)}
    length = lengths.get(end, int(end) if end.isdigit() else None)
    os.truncate(specimen.path, specimen.size + int(end) if length is None else length)
    size = os.fstat(specimen.file).st_size
    with pytest.raises(oc.PoolCorrupted):
        oc.Pool.open(specimen.path)
    assert os.fstat(specimen.file).st_size == size


@pytest.mark.parametrize("cut", ["heap", "blocks", "names", "rows"])
def test_a_file_that_was_cut_and_grown_again(specimen, cut):
    layout = specimen.layout
    at = {"heap": layout.heap, "blocks": layout.table, "names": layout.names, "rows": layout.rows}
    os.truncate(specimen.path, at[cut])
    os.truncate(specimen.path, specimen.size)
    assert in_child(segments.open_and_use, specimen.path, [], False) is None
