"""ShareableList: as in the standard library, but no item is half written, also after a death."""

import contextlib
import os
import pickle
import random
import signal
import struct
import sys
import threading
from multiprocessing import shared_memory as standard

import pytest
from children import eventually
from seeds import SEED, more
from segment_files import exists, fresh_name, path_of

import onecopy as oc
from onecopy.multiprocessing.shared_memory import ShareableList, SharedMemory, UnsupportedItem

ITEMS = ["howdy", b"HoWdY", -273.154, 100, None, True, 42, "", b"", "encodés", "x" * 1000]


@pytest.fixture
def name():
    yield from fresh_name()


@pytest.fixture
def items(name):
    made = ShareableList(ITEMS, name=name)
    yield made
    with contextlib.suppress(FileNotFoundError):
        made.shm.unlink()


@pytest.fixture
def theirs(name):
    """What the standard library makes of the same items."""
    made = standard.ShareableList(ITEMS, name=f"{name}-standard")
    yield made
    made.shm.close()
    made.shm.unlink()


# ---- as the standard library's --------------------------------------------------------------


def test_items(items, name):
    assert list(items) == ITEMS
    assert len(items) == len(ITEMS)
    assert [items[-1 - i] for i in range(len(ITEMS))] == ITEMS[::-1]
    assert [type(item) for item in items] == [type(item) for item in ITEMS]
    assert items.shm.name == name
    assert repr(items) == f"ShareableList({ITEMS!r}, name={name!r})"
    assert "howdy" in items
    assert "nobody" not in items
    assert ShareableList[int]


def test_formats(items, theirs):
    assert items.format == theirs.format
    for at in range(-len(items), len(items)):
        assert items._get_packing_format(at) == theirs._get_packing_format(at)
    for one in items, theirs:
        one[2], one[4], one[3], one[0] = "some", 5, None, True
    assert items.format == theirs.format
    assert list(items) == list(theirs)


def test_count_and_index(items):
    assert items.count(100) == 1
    assert items.count("nobody") == 0
    assert items.count(1) == 1  # True
    assert items.index(None) == 4
    with pytest.raises(ValueError, match="'nobody' not in this container"):
        items.index("nobody")


def test_comparisons_that_raise(items):
    class Odd:
        def __eq__(self, other):
            raise KeyError("told to")

        __hash__ = None

    with pytest.raises(KeyError):
        items.count(Odd())
    with pytest.raises(KeyError):
        items.index(Odd())


def outcome(act, *arguments):
    try:
        act(*arguments)
    except Exception as error:  # noqa: BLE001 - compared
        return type(error)
    return None


@pytest.mark.parametrize(
    ("at", "value"),
    [
        (0, "x" * 8),
        (0, "x" * 9),
        (0, "é" * 4),
        (0, "é" * 5),
        (1, b"x" * 8),
        (1, b"x" * 9),
        (2, "x" * 8),
        (2, "x" * 9),
        (9, "encodée"),
        (9, "encodéée"),
        (3, 2**63 - 1),
        (3, -(2**63)),
        (3, 2**63),
        (3, -(2**63) - 1),
        (len(ITEMS), 1),
        (-4 * len(ITEMS), 1),  # nearer ones overwrite another item there
        (0, "\ud800"),
        ("0", 1),
        (slice(0, 1), [1]),
    ],
)
def test_the_same_assignments_fail(items, theirs, at, value):
    expected = outcome(theirs.__setitem__, at, value)
    assert outcome(items.__setitem__, at, value) is expected
    if expected is None:
        assert items[at] == value == theirs[at]
    else:
        assert list(items) == ITEMS


@pytest.mark.parametrize("value", [[], (), {}, 1j, object(), bytearray(b"x"), memoryview(b"x")])
def test_items_of_other_types(items, name, value):
    with pytest.raises(UnsupportedItem, match="not " + type(value).__name__) as caught:
        items[0] = value
    assert isinstance(caught.value, KeyError)  # as in the standard library
    assert isinstance(caught.value, TypeError)
    with pytest.raises(UnsupportedItem):
        ShareableList([1, value], name=name + "-2")
    assert not exists(name + "-2")
    assert list(items) == ITEMS


def test_errors_say_what_happened(items):
    with pytest.raises(IndexError, match="index out of range: the list has 11 items"):
        items[11]
    with pytest.raises(IndexError, match="assignment index out of range"):
        items[11] = 1
    with pytest.raises(IndexError, match=r"(?i)requested position out of range"):
        items._get_packing_format(11)
    with pytest.raises(IndexError):
        items[-12]
    with pytest.raises(IndexError):
        items[2**70]
    with pytest.raises(ValueError, match=r"exceeds available storage: .* 9 bytes.* room for 8"):
        items[0] = "123456789"
    with pytest.raises(struct.error, match="64 bits"):
        items[0] = 2**64
    with pytest.raises(TypeError, match="integer"):
        items["0"]
    with pytest.raises(TypeError, match="fixed length"):
        del items[0]
    with pytest.raises(ValueError, match="10000000"):
        ShareableList([b"x" * 10_000_000])


def test_trailing_nuls_survive(items):
    items[0] = "a\0\0"
    items[1] = b"\0\0"
    assert (items[0], items[1]) == ("a\0\0", b"\0\0")


def test_an_empty_one(name):
    items = ShareableList(name=None)
    assert (list(items), len(items), items.format, items.count(1)) == ([], 0, "", 0)
    with pytest.raises(ValueError, match="not in"):
        items.index(None)
    with pytest.raises(IndexError):
        items[0]
    del items
    assert list(ShareableList([], name=name)) == []


def test_from_what_is_iterable_once(name):
    assert list(ShareableList((i for i in range(5)), name=name)) == [0, 1, 2, 3, 4]


def test_the_largest_item(name):
    largest = b"x" * 9_999_990
    items = ShareableList([largest, 1], name=name)
    assert items[0] == largest
    items[0] = largest[::-1]
    assert items[0] == largest[::-1]


def test_a_copy(items, name):
    copy = ShareableList(items, name=name + "-copy")
    assert (list(copy), copy.format) == (list(items), items.format)
    copy[0] = "other"
    assert items[0] == "howdy"


def test_subclasses(name):
    class Mine(ShareableList):
        def __init__(self, *arguments, **keywords):
            super().__init__(*arguments, **keywords)
            self.extra = 5

    items = Mine([1], name=name)
    again = pickle.loads(pickle.dumps(ShareableList(name=name)))
    assert (items[0], items.extra, again[0]) == (1, 5, 1)

    class Unready(ShareableList):
        def __init__(self):
            pass

    for act in (len, list, lambda it: it.count(1), lambda it: it.format):
        # Its operators check this themselves, its methods as those of every class do.
        with pytest.raises((RuntimeError, TypeError), match="__init__"):
            act(Unready())


# ---- its memory -----------------------------------------------------------------------------


def test_it_is_used_as_long_as_its_memory_is_open(items):
    items.shm.close()
    for act in (len, list, lambda it: it[0], lambda it: it.index(1), lambda it: it.format):
        with pytest.raises(ValueError, match="closed"):
            act(items)
    with pytest.raises(ValueError, match="closed"):
        items[0] = 1
    items.shm.unlink()


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_pickling_sends_the_name(items, protocol):
    other = pickle.loads(pickle.dumps(items, protocol))
    other[0] = "new"
    assert items[0] == "new"


def test_it_stays_for_as_long_as_its_program(name):
    items = ShareableList([1], name=name)
    other = ShareableList(name=name)
    del items
    assert other[0] == 1
    del other
    assert ShareableList(name=name)[0] == 1
    ShareableList(name=name).shm.unlink()
    with pytest.raises(FileNotFoundError):
        ShareableList(name=name)


def test_nobody_sees_an_unfinished_one(name):
    """Attaching finds nothing, or the complete list."""
    over = threading.Event()
    seen = []

    def look():
        while not over.is_set():
            with contextlib.suppress(FileNotFoundError):
                seen.append(ShareableList(name=name)[-1])

    thread = threading.Thread(target=look)
    thread.start()
    for _ in range(50):
        items = ShareableList([*range(500), "last"], name=name)
        items.shm.unlink()
    over.set()
    thread.join()
    assert set(seen) <= {"last"}


def test_a_list_of_the_standard_library_is_refused(theirs):
    with pytest.raises(oc.OneCopyError, match="multiprocessing"):
        ShareableList(name=theirs.shm.name)


def test_ours_is_not_taken_for_one_by_the_standard_library(items):
    """It reads our first word as a number of items that does not fit."""
    shm = standard.SharedMemory(items.shm.name)
    (count,) = struct.unpack_from("q", shm.buf)
    assert count > 1 << 60
    shm.close()
    standard.resource_tracker.unregister(shm._name, "shared_memory")


@pytest.mark.parametrize(
    "content",
    [b"", b"\0" * 5000, bytes(range(250)) * 20, b"\1" * 100],
    ids=["empty", "zeros", "all bytes", "ones"],
)
def test_other_memory_is_refused(name, content):
    shm = SharedMemory(name, create=True, size=len(content) or 1)
    shm.buf[: len(content)] = content
    with pytest.raises(oc.OneCopyError):
        ShareableList(name=name)


@pytest.mark.seeded
def test_spoilt_memory_is_an_error(items):
    """With any bytes there: an error or some value, and nothing worse."""
    print(f"seed {SEED}")
    randomness = random.Random(SEED)  # noqa: S311 - not for secrets
    memory = items.shm.buf
    before = bytes(memory)
    bad = 0
    for _ in range(more(3000)):
        at = randomness.randrange(8, len(before))
        memory[at] ^= randomness.randrange(1, 256)
        for act in (list, lambda it: it.format, lambda it: ShareableList(name=it.shm.name)):
            try:
                act(items)
            except oc.OneCopyError:
                bad += 1
        if randomness.random() < 0.2:
            memory[:] = before
    assert bad > 100
    memory[:] = before
    assert list(items) == ITEMS


# ---- processes ------------------------------------------------------------------------------


def change(items):
    assert list(items) == ITEMS
    items[0], items[3], items[4] = "child", 2**40, b"bytes"


def test_a_child_changes_it(items, start, method):
    assert start(method, change, items).wait() == 0
    assert [items[0], items[3], items[4]] == ["child", 2**40, b"bytes"]


def letters(seed, items):
    randomness = random.Random(seed)  # noqa: S311 - not for secrets
    while True:
        letter = randomness.choice("abcdefgé")
        items[0] = letter * randomness.randrange(20_000)
        items[1] = randomness.choice([None, True, letter, 1.5, 7])


@pytest.mark.seeded
def test_no_item_is_torn(name, start):
    """Two writers, two readers; and writers that are killed at any instruction."""
    print(f"seed {SEED}")
    items = ShareableList(["é" * 20_000, 5], name=name)
    fork = "fork"
    reader = start(fork, check_letters, items)
    writers = [start(fork, letters, SEED + i, items) for i in range(2)]
    randomness = random.Random(SEED)  # noqa: S311 - not for secrets
    kills = 0
    while kills < more(20):
        for _ in range(200):
            assert len(set(items[0])) <= 1
            assert items[1] in {None, True, 1.5, 7, 5, *"abcdefgé"}
        victim = randomness.randrange(2)
        writers[victim].kill()
        kills += 1
        writers[victim] = start(fork, letters, SEED + kills, items)
    reader.kill()
    for writer in writers:
        writer.kill()
    items[0], items[1] = "after", "all"
    assert list(items) == ["after", "all"]


def check_letters(items):
    while True:
        assert len(set(items[0])) <= 1


def set_for_ever(name):
    items = ShareableList(name=name)
    while True:
        items[10] = "y" * 1000


def claim_of(items, at):
    return struct.unpack_from("Q", items.shm.buf, 64 + 32 * at + 8)[0]


def stop_in_the_middle(child, items):
    """Stop a child while it sets item 10."""

    def caught():
        os.kill(child.pid, signal.SIGSTOP)
        os.waitpid(child.pid, os.WUNTRACED)
        if claim_of(items, 10):
            return True
        os.kill(child.pid, signal.SIGCONT)
        return False

    eventually(caught, "it to be stopped in the middle")


def test_a_dead_writers_claim_is_taken_over(items, name, start):
    child = start("fork", set_for_ever, name)
    stop_in_the_middle(child, items)
    child.kill()
    assert claim_of(items, 10) & ((1 << 22) - 1) == child.pid
    items[9] = "others"  # these are not affected
    assert items[10] in {"x" * 1000, "y" * 1000}
    items[10] = "taken"
    assert items[10] == "taken"
    assert claim_of(items, 10) == 0


def test_a_stopped_writer_is_waited_for_and_ctrl_c_ends_the_wait(items, name, start):
    child = start("fork", set_for_ever, name)
    stop_in_the_middle(child, items)
    assert items[10] in {"x" * 1000, "y" * 1000}  # readers do not depend on it
    previous = signal.signal(signal.SIGINT, signal.default_int_handler)
    interrupter = threading.Timer(
        0.05, os.kill, (os.getpid(), signal.SIGINT)
    )  # before the wait too
    try:
        with pytest.raises(KeyboardInterrupt):  # noqa: PT012 - it may come before the wait
            interrupter.start()
            items[10] = "mine"
    finally:
        interrupter.join()
        signal.signal(signal.SIGINT, previous)
    setter = threading.Thread(target=items.__setitem__, args=(10, "mine"))
    setter.start()
    child.kill()
    setter.join()
    assert items[10] == "mine"


def test_one_process_and_many_threads(name):
    items = ShareableList(["a" * 5000], name=name)
    wrong = []

    def work(letter):
        for _ in range(2000):
            items[0] = letter * 5000
            if len(set(items[0])) != 1:
                wrong.append(items[0])

    previous = sys.getswitchinterval()
    sys.setswitchinterval(1e-5)
    threads = [threading.Thread(target=work, args=(letter,)) for letter in "abcd"]
    try:
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    finally:
        sys.setswitchinterval(previous)
    assert wrong == []


def test_the_file_says_how_large_it_is(items, name):
    assert path_of(name).stat().st_size == items.shm.size
