"""A shared list behaves like `list`, in rare cases, too."""

import copy
import math
import resource
from pathlib import Path

import pytest
from children import LIMIT

import onecopy as oc

pytestmark = pytest.mark.one_in(2)


@pytest.fixture
def shared(pool):
    return pool.list(range(10))


# --------------------------------------------------------------- as list does it, seldom asked for


class Unreadable:
    """Raises this when it is rebuilt."""

    def __init__(self, error):
        self.error = error

    def __reduce__(self):
        return raise_it, (self.error,)


def raise_it(error):
    raise error("inside")


@pytest.mark.parametrize("error", [IndexError, KeyError, ValueError, ImportError])
def test_an_item_that_cannot_be_built(pool, error):
    """The error is raised, is not mistaken for another one, and the item stays."""
    shared = pool.list([1, Unreadable(error), 3, Unreadable(error)])
    items = iter(shared)
    assert next(items) == 1
    for act in (
        lambda: next(items),
        lambda: next(reversed(shared)),
        shared.pop,
        lambda: shared.pop(1),
        shared.copy,
        lambda: shared.index(3),
        lambda: shared.remove(3),
        lambda: 3 in shared,
        lambda: shared == [1, 2, 3, 4],
    ):
        with pytest.raises(error, match="inside"):
            act()
    assert len(shared) == 4
    assert shared == shared  # noqa: PLR0124 - without looking into it
    assert shared != [1]
    del shared[1], shared[-1]
    assert shared == [1, 3]


def test_an_item_is_taken_out_while_another_is_built(pool):
    """`pop` builds the item first. If it is not the last any more, `pop` takes the last one."""
    shared = pool.list([1])
    shared.append(Meddling(shared))
    Meddling.times = 20
    # the last item was a new one each time, until the lock was acquired
    assert shared.pop() == "meddled"
    assert len(shared) == 1


class Meddling:
    times = 0

    def __init__(self, shared):
        self.shared = shared

    def __reduce__(self):
        return meddle, (self.shared,)


def meddle(shared):
    if Meddling.times > 0:
        Meddling.times -= 1
        shared[-1] = Meddling(shared)
    return "meddled"


def test_a_list_that_is_in_itself(pool):
    shared = pool.list([1])
    shared.append(shared)
    assert shared == shared[1]
    assert shared in shared  # noqa: PLR0124 - it is
    assert shared.index(shared) == 1
    assert shared.count(shared) == 1
    copied = copy.deepcopy(shared)
    assert copied[1] is copied
    shared.remove(shared)
    assert shared == [1]


def test_copies_are_plain(pool):
    shared = pool.list([1, [2], pool.dict({"a": [3]})])
    one, other = copy.copy(shared), copy.deepcopy(shared)
    assert one == shared
    assert type(one) is type(other) is list
    assert other == [1, [2], {"a": [3]}]
    assert type(other[2]) is dict
    one.append(9)
    assert len(shared) == 3


def test_annotations_and_a_second_init(pool):
    assert oc.List[int].__origin__ is oc.List
    assert oc.Dict[str, int].__args__ == (str, int)
    for shared in (pool.list([1]), oc.List([1]), pool.dict({1: 1}), oc.Dict({1: 1})):
        with pytest.raises(TypeError, match="second time"):
            shared.__init__([7])
        assert len(shared) == 1


def test_nan_is_not_found_again(pool):
    assert pool.list([math.nan]).count(math.nan) == 0


def test_looking_for_a_value_in_pieces(pool):
    shared = pool.list(range(2000))
    seen = []

    class Watcher:
        def __init__(self, wanted):
            self.wanted = wanted

        def __eq__(self, other):
            seen.append(other)
            if len(seen) == 300:
                shared.insert(0, "new")
            return other == self.wanted

        __hash__ = None

    assert shared.index(Watcher(3)) == 3
    assert len(seen) == 4
    assert Watcher(1500) in shared  # an item moves over the edge of a piece
    assert len(seen) > 1500
    assert shared.index(Watcher(1500)) == 1501
    assert shared.count(Watcher("new")) == 1
    seen[:] = range(1000)
    assert shared.index(5, 1, -1) == 6
    with pytest.raises(ValueError, match="not in list"):
        shared.index(5, 7)


class Closing:
    def __init__(self, shared):
        self.shared = shared

    def __index__(self):
        self.shared.detach()
        return 0


@pytest.mark.parametrize(
    "act",
    [
        lambda of, at: of[at:2],
        lambda of, at: of.__delitem__(slice(at, 2)),
        lambda of, at: of.__setitem__(slice(at, 2), []),
        lambda of, at: of.__setitem__(slice(at, 2), [5]),
        lambda of, at: of.__setitem__(at, 5),
        lambda of, at: of[at],
        lambda of, at: of.insert(at, 5),
        lambda of, at: of.pop(at),
        lambda of, at: of.index(1, at),
        lambda of, at: of.__imul__(at),
    ],
)
def test_closed_while_an_index_is_asked_for(shared, act):
    with pytest.raises(oc.OneCopyError, match="closed"):
        act(shared, Closing(shared))


@pytest.mark.parametrize(
    "empty",
    [
        lambda of: [of.pop() for _ in range(len(of))],
        lambda of: of.__delitem__(slice(None)),
        lambda of: of.__delitem__(slice(None, None, -1)),
        lambda of: of.__setitem__(slice(None), []),
        lambda of: [of.remove(number) for number in range(len(of))],
    ],
)
def test_an_empty_list_gives_its_memory_back(pool, empty):
    shared = pool.list(range(400))
    grown = pool.stats().structure_bytes
    empty(shared)
    assert grown > 5000
    assert pool.stats().structure_bytes < 500
    shared.extend(range(20))
    assert shared == list(range(20))
    assert pool.validate() == []


def short_of_memory(shared, more, act, answers):
    size = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (size + more, size + more))
    try:
        act(shared)
        answers.put("done")
    except MemoryError:
        answers.put("MemoryError")


def take_a_slice(shared):
    return shared[:]


def delete_every_second(shared):
    del shared[::2]


def repeat_it(shared):
    shared *= 2


def refer(shared):
    shared.sort(key=id)


@pytest.mark.one_in(5)
@pytest.mark.parametrize("act", [take_a_slice, delete_every_second, repeat_it, refer])
@pytest.mark.parametrize("more", [0, 1 << 20, 3 << 20])
def test_no_memory_of_the_process_itself(start, act, more):
    with oc.Pool.create(size="64MiB") as pool:
        shared, answers = pool.list(range(1000)), pool.queue()
        shared *= 300
        child = start("fork", short_of_memory, shared, more, act, answers)
        assert child.wait() == 0
        if answers.get(timeout=LIMIT) == "MemoryError":
            assert len(shared) == 300_000
        if act is refer:  # it may have sorted the list
            assert sum(shared[:]) == 300 * sum(range(1000))
        else:
            assert shared[-1] == 999
        assert pool.validate() == []
