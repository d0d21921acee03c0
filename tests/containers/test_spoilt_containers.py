"""Damaged lists and dicts raise an exception, whatever the pool contains."""

import mmap
import os
import random
from pathlib import Path

import pytest

import onecopy as oc

pytestmark = pytest.mark.one_in(2)


@pytest.fixture
def spoil(pool):
    """Replace bytes in the pool's memory."""
    with Path(pool.member.path).open("r+b") as file, mmap.mmap(file.fileno(), 0) as memory:

        def replace(old, new):
            at = memory.find(old)
            assert at >= 0
            memory[at : at + len(new)] = new

        yield replace


@pytest.fixture
def shared(pool):
    return pool.dict({f"needle {number}" + "x" * (number * 20): number for number in range(6)})


@pytest.mark.parametrize("number", range(6))
@pytest.mark.parametrize(
    "new", [b"\xff", b"\x09\xff\xff\xff\xff", b"\x07\xff", b"\x07\x00", b"\x00"]
)
def test_a_key_that_is_none(pool, spoil, shared, number, new):
    spoil(bytes([7, 8 + 20 * number]) + f"needle {number}".encode(), new)
    with pytest.raises(oc.PoolCorrupted):
        list(shared)
    for act in (shared.copy, lambda: shared["needle 0"], lambda: shared.__setitem__("a", 1)):
        with pytest.raises(oc.PoolCorrupted):  # and it is refused from then on
            act()


def test_a_key_of_other_letters(pool, spoil, shared):
    spoil(b"needle 2", b"noodle 2")
    assert any("noodle 2" in problem or "key" in problem for problem in pool.validate())
    assert "noodle 2" + "x" * 40 in list(shared)
    with pytest.raises(KeyError):
        shared["needle 2" + "x" * 40]


def test_a_key_that_is_not_utf8(spoil, shared):
    spoil(b"needle 1", b"\xc3\x28")
    with pytest.raises(oc.PoolCorrupted):
        shared.keys() and list(shared)


@pytest.mark.parametrize("seed", range(20))
def test_random_bytes(seed):
    """Each use runs in a child. The only allowed outcome is a value or an exception."""
    with oc.Pool.create(size="1MiB") as pool:
        shared = pool.list(range(40))
        pairs = pool.dict(
            {("k" * 70, number) if number % 2 else number: "v" for number in range(40)}
        )
        pid = os.fork()
        if pid == 0:
            try:
                _spoil_and_use(pool, shared, pairs, seed)
            except BaseException:  # noqa: BLE001 - the status informs the parent
                os._exit(1)
            os._exit(0)
        assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0


def _spoil_and_use(pool, shared, pairs, seed):
    seeded = random.Random(seed)  # noqa: S311 - to be repeated
    with Path(pool.member.path).open("r+b") as file, mmap.mmap(file.fileno(), 0) as memory:
        heap = memory.find(b"k" * 70) & ~0xFFFFF
        for _ in range(20):
            at = heap + seeded.randrange(20_000) * 4
            if any(memory[at : at + 4]):
                memory[at : at + 4] = seeded.choice([0, 1, 50, 2**31, 2**32 - 1]).to_bytes(
                    4, "little"
                )
    for act in (
        shared.copy,
        lambda: shared.extend(range(10)),
        lambda: shared.pop(3),
        lambda: shared.sort(key=str),
        pairs.copy,
        lambda: pairs.update({"new": 1, "k" * 90: 2}),
        lambda: [pairs.pop(number, None) for number in range(20)],
        pairs.popitem,
        shared.clear,
        pairs.clear,
        pool.validate,
    ):
        try:
            act()
        except (oc.OneCopyError, LookupError, TypeError, ValueError, EOFError, AttributeError):
            pass
        except Exception as error:  # pickle raises its own errors
            if type(error).__module__ not in {"_pickle", "pickle"}:
                raise
