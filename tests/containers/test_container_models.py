"""A shared list and a shared dict against Python's own; some processes die in between."""

import gc
import os
import signal

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule
from seeds import more

import onecopy as oc

NUMBERS = st.integers(-3, 40)
ITEMS = st.lists(st.integers(0, 9) | st.text(max_size=3) | st.none(), max_size=12)
BOUNDS = st.none() | st.integers(-25, 25)
SLICES = st.builds(slice, BOUNDS, BOUNDS, st.sampled_from([None, 1, 1, 2, 3, -1, -2, -7]))
KEYS = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-2, 3)
    | st.integers()
    | st.floats(allow_nan=False)
    | st.sampled_from([0.0, 1.0, 2.0, -0.0, 1e300, float(2**70)])
    | st.text(max_size=4)
    | st.text(st.characters(), min_size=50, max_size=90)
    | st.binary(max_size=4),
    lambda inner: st.lists(inner, max_size=3).map(tuple),
    max_leaves=4,
)


def same(act, ours, theirs):
    """Do the same with both: the answers, or the errors and their texts, must be equal."""
    try:
        expected = act(theirs)
    except Exception as error:  # noqa: BLE001 - whatever it is
        with pytest.raises(type(error)) as raised:
            act(ours)
        words = error.args if isinstance(error, (IndexError, KeyError)) else None
        assert words in (None, raised.value.args)
        return
    assert act(ours) == expected


def dies(act):
    """Let a child do it, and die at once."""
    pid = os.fork()
    if pid == 0:
        try:
            act()
        finally:
            os.kill(os.getpid(), signal.SIGKILL)
    os.waitpid(pid, 0)


class Machine(RuleBasedStateMachine):
    def __init__(self):
        super().__init__()
        self.pool = oc.Pool.create(size="16MiB")

    def teardown(self):
        self.shared.clear()
        assert self.pool.validate() == []
        gc.collect()  # the traceback of an error refers to the objects
        self.pool.collect()
        assert self.pool.stats().used == 0
        self.pool.close()
        del self.shared

    @rule()
    def is_sound(self):
        assert self.pool.validate() == []


class Lists(Machine):
    def __init__(self):
        super().__init__()
        self.shared, self.model = self.pool.list(), []

    def both(self, act):
        same(act, self.shared, self.model)

    @rule(items=ITEMS)
    def extend(self, items):
        self.both(lambda of: of.extend(items))

    @rule(item=NUMBERS)
    def append(self, item):
        self.both(lambda of: of.append(item))

    @rule(index=NUMBERS, item=NUMBERS)
    def set_item(self, index, item):
        self.both(lambda of: of.__setitem__(index, item))

    @rule(place=SLICES, items=ITEMS)
    def set_slice(self, place, items):
        self.both(lambda of: of.__setitem__(place, items))

    @rule(place=SLICES | NUMBERS)
    def delete(self, place):
        self.both(lambda of: of.__delitem__(place))

    @rule(place=SLICES | NUMBERS)
    def get(self, place):
        self.both(lambda of: of[place])

    @rule(index=NUMBERS, item=NUMBERS)
    def insert(self, index, item):
        self.both(lambda of: of.insert(index, item))

    @rule(index=NUMBERS)
    def pop(self, index):
        self.both(lambda of: of.pop(index))

    @rule(item=NUMBERS | st.none())
    def find(self, item):
        self.both(lambda of: (of.count(item), item in of))
        self.both(lambda of: of.index(item))
        self.both(lambda of: of.remove(item))

    @rule()
    def reverse(self):
        self.both(lambda of: of.reverse())

    @rule(reverse=st.booleans())
    def sort(self, reverse):
        self.both(lambda of: of.sort(key=str, reverse=reverse))

    @precondition(lambda self: len(self.model) < 200)
    @rule(times=st.integers(-1, 3))
    def repeat(self, times):
        self.shared *= times
        self.model *= times

    @rule()
    def clear(self):
        self.both(lambda of: of.clear())

    @rule(items=ITEMS)
    def another_process(self, items):
        dies(lambda: self.shared.extend(items))
        self.model.extend(items)

    @invariant()
    def equal(self):
        assert self.shared.copy() == self.model
        assert len(self.shared) == len(self.model)


class Dicts(Machine):
    def __init__(self):
        super().__init__()
        self.shared, self.model = self.pool.dict(), {}

    def both(self, act):
        same(act, self.shared, self.model)

    @rule(key=KEYS, value=NUMBERS)
    def set_item(self, key, value):
        self.both(lambda of: of.__setitem__(key, value))

    @rule(pairs=st.dictionaries(KEYS, NUMBERS, max_size=20))
    def update(self, pairs):
        self.both(lambda of: of.update(pairs))

    @rule(key=KEYS)
    def get(self, key):
        self.both(lambda of: (of.get(key), key in of))
        self.both(lambda of: of[key])

    @rule(key=KEYS, default=NUMBERS)
    def setdefault(self, key, default):
        self.both(lambda of: of.setdefault(key, default))

    @precondition(lambda self: self.model)
    @rule(data=st.data())
    def delete_one_that_is_there(self, data):
        key = data.draw(st.sampled_from(list(self.model)))
        self.both(lambda of: of.pop(key))

    @rule(key=KEYS)
    def delete(self, key):
        self.both(lambda of: of.__delitem__(key))

    @rule()
    def popitem(self):
        self.both(lambda of: of.popitem() if of else None)

    @rule()
    def clear(self):
        self.both(lambda of: of.clear())

    @rule(pairs=st.dictionaries(KEYS, NUMBERS, max_size=8))
    def another_process(self, pairs):
        dies(lambda: self.shared.update(pairs))
        self.model.update(pairs)

    @invariant()
    def equal(self):
        # Their forms are compared, too: 1, 1.0 and True are equal.
        assert repr(list(self.shared.items())) == repr(list(self.model.items()))
        assert len(self.shared) == len(self.model)


for machine in (Lists, Dicts):
    machine.TestCase.settings = settings(
        max_examples=more(30), stateful_step_count=40, deadline=None
    )
TestLists = Lists.TestCase
TestDicts = Dicts.TestCase
