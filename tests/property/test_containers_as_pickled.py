"""What comes out of a pool is what pickle gives: values, types, order, references, cycles."""

from __future__ import annotations

import collections
import copyreg
import datetime as dt
import enum
import gc
import pickle
import struct
import sys
import threading
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from seeds import more

import onecopy as oc

SETTINGS = settings(
    max_examples=more(300),
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)

# ---- objects ------------------------------------------------------------------------------------


class Plain:
    """An object with attributes."""


class Slotted:
    """One with slots."""

    __slots__ = ("first", "second")


@dataclass
class Record:
    """A dataclass, with a reference to anything."""

    number: int
    anything: Any = None
    more: list[Any] = field(default_factory=list)


@dataclass(frozen=True)
class Frozen:
    """One that cannot be changed, and can be a key."""

    number: int
    anything: Any = None


@dataclass(slots=True)
class SlottedRecord:
    """One with slots."""

    number: int
    anything: Any = None


class Pair(NamedTuple):
    """A tuple with names."""

    first: Any
    second: Any = 5


class Colour(enum.Enum):
    """An enum."""

    RED = 1
    GREEN = "green"


class Number(enum.IntEnum):
    """One whose members are numbers."""

    ONE = 1


class Own:
    """One that says how it is pickled."""

    def __init__(self, inside: Any) -> None:
        self.inside = inside

    def __reduce__(self) -> Any:
        return Own, (self.inside,)


class Stateful:
    """One that says what its state is."""

    def __getstate__(self) -> Any:
        return {"state": list(self.__dict__.items())}

    def __setstate__(self, state: Any) -> None:
        self.__dict__.update(state["state"])


class Changing:
    """A class that tests change."""

    def __init__(self, number: int) -> None:
        self.number = number


class Changed(NamedTuple):
    """A named tuple that tests change."""

    number: int
    text: str


class Text(str):
    """A subclass of a class that has a form of its own."""

    __slots__ = ()


class Items(list):
    """Another."""


LEAVES = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.integers(-(2**200), 2**200)
    | st.floats()
    | st.complex_numbers()
    | st.text(max_size=60)
    | st.text(st.characters(), max_size=8)
    | st.binary(max_size=60)
    | st.sampled_from(
        [
            np.float64("nan"),
            np.float32(1.5),
            np.int8(-3),
            np.uint64(2**63),
            np.bool_(True),
            np.longdouble(1) / 3,
            np.complex64(1 + 2j),
            np.float16(0.1),
            np.datetime64("2020-02-03"),
            np.datetime64("NaT", "25s"),
            np.timedelta64(7, "h"),
            np.str_("text"),
            np.bytes_(b"bytes"),
            np.void(b"void"),
            np.zeros(1, [("x", "i4"), ("y", "f8")])[0],
            Colour.RED,
            Colour.GREEN,
            Number.ONE,
            Text("text"),
            dt.datetime(2024, 1, 2, 3, 4, 5, 6, dt.UTC),
            dt.timedelta(days=-1, microseconds=5),
            range(5),
            "x" * 40,
            ("in", ("a", "key")),
            len,
            Ellipsis,
            int,
            slice(1, 2),
        ]
    )
)
# `None`: another node of the graph.
HASHABLE = {"tuple", "frozenset", "Frozen", "Pair"}
KINDS = [
    "list",
    "dict",
    "tuple",
    "set",
    "frozenset",
    "bytearray",
    "array",
    "own array",
    "Plain",
    "Slotted",
    "Record",
    "Frozen",
    "SlottedRecord",
    "Pair",
    "Own",
    "Stateful",
    "Items",
    "OrderedDict",
    "defaultdict",
]


def make(kind: str, inside: list[Any], pool: oc.Pool) -> Any:
    """Make an object of a kind, with others inside."""
    match kind:
        case "list":
            return inside
        case "tuple":
            return tuple(inside)
        case "dict":
            return dict(enumerate(inside))
        case "set" | "frozenset":
            items = [item for item in inside if is_hashable(item)]
            return set(items) if kind == "set" else frozenset(items)
        case "bytearray":
            return bytearray(b"%d" % len(inside))
        case "array":
            return pool.array(np.arange(10.0 + len(inside)))[:: len(inside) + 1]
        case "own array":
            return np.arange(10 + 300 * len(inside), dtype=">i4")[:: len(inside) % 3 + 1]
        case "Plain" | "Stateful":
            made = {"Plain": Plain, "Stateful": Stateful}[kind]()
            made.__dict__.update((f"a{i}", item) for i, item in enumerate(inside))
            return made
        case "Slotted":
            slotted = Slotted()
            for name, item in zip(Slotted.__slots__, inside, strict=False):
                setattr(slotted, name, item)
            return slotted
        case "Record":
            return Record(7, inside[0] if inside else None, inside)
        case "Frozen" | "SlottedRecord":
            return {"Frozen": Frozen, "SlottedRecord": SlottedRecord}[kind](3, tuple(inside))
        case "Pair":
            return Pair(*inside[:2]) if inside else Pair(None)
        case "Own":
            return Own(inside)
        case "Items":
            return Items(inside)
        case "OrderedDict":
            return collections.OrderedDict(enumerate(inside))
    assert kind == "defaultdict"
    return collections.defaultdict(list, enumerate(inside))


def is_hashable(item: Any) -> bool:
    try:
        hash(item)
    except TypeError:
        return False
    return True


def add(into: Any, item: Any) -> None:
    """Put an object into another that is there already: so cycles come about."""
    if isinstance(into, list):
        into.append(item)
    elif isinstance(into, dict):
        key = item if is_hashable(item) else "key"
        into[key] = item
    elif type(into) is set and is_hashable(item):
        into.add(item)
    elif isinstance(into, (Plain, Record, Stateful)):
        into.__dict__["added"] = item
    elif isinstance(into, (Slotted, SlottedRecord)):
        setattr(into, "second" if isinstance(into, Slotted) else "anything", item)


graphs = st.tuples(
    st.lists(
        st.tuples(
            st.sampled_from(KINDS),
            st.lists(LEAVES | st.integers(0, 20).map(lambda n: ("node", n)), max_size=4),
        ),
        min_size=1,
        max_size=12,
    ),
    st.lists(st.tuples(st.integers(0, 20), st.integers(0, 20)), max_size=4),
)


def build(graph: Any, pool: oc.Pool) -> Any:
    """Build a graph of objects; give one that refers to all."""
    nodes: list[Any] = []
    for kind, inside in graph[0]:
        items = [
            nodes[item[1] % len(nodes)]
            if nodes and isinstance(item, tuple) and item[:1] == ("node",)
            else item
            for item in inside
        ]
        nodes.append(make(kind, items, pool))
    for into, item in graph[1]:
        target, other = nodes[into % len(nodes)], nodes[item % len(nodes)]
        # A hash that goes round in a circle ends nowhere, with pickle or without.
        if not (isinstance(target, (set, dict)) and not is_flat(other)):
            add(target, other)
    return nodes if len(graph[1]) % 2 else nodes[-1]


def is_flat(item: Any) -> bool:
    return not isinstance(item, (Frozen, Pair, tuple, frozenset))


# ---- the same -----------------------------------------------------------------------------------

VALUES = (
    *(type(None), bool, int, float, complex, str, bytes, np.generic, type, type(len), range),
    type(Ellipsis),
)


class Comparison:
    """Two graphs of objects, walked at once; each object of one stands for one of the other."""

    def __init__(self) -> None:
        self.there: dict[int, Any] = {}
        self.back: dict[int, Any] = {}

    def same(self, one: Any, other: Any) -> bool:
        pending = [(one, other)]
        while pending:
            one, other = pending.pop()
            if type(one) is not type(other):
                return False
            if isinstance(one, VALUES):
                if not same_value(one, other):
                    return False
                continue
            if id(one) in self.there or id(other) in self.back:
                if self.there.get(id(one)) is not other or self.back.get(id(other)) is not one:
                    return False
                continue
            if type(one) is not tuple or one:
                self.there[id(one)], self.back[id(other)] = other, one
            parts = inside(one), inside(other)
            if len(parts[0]) != len(parts[1]):
                return False
            pending.extend(zip(*parts, strict=True))
        return True


def same_value(one: Any, other: Any) -> bool:
    if isinstance(one, float):
        return struct.pack("d", one) == struct.pack("d", other)
    if isinstance(one, np.generic):
        return bool(one.dtype == other.dtype) and repr(one) == repr(other)
    return repr(one) == repr(other)


def inside(obj: Any) -> list[Any]:
    """Give what is in an object, in an order that both sides have."""
    if isinstance(obj, np.ndarray):
        # Pickle itself loses the byte order of what is not contiguous.
        native = obj.astype(obj.dtype.newbyteorder("="))
        return [native.dtype.str, str(obj.shape), np.ascontiguousarray(native).tobytes()]
    found: list[Any] = []
    if isinstance(obj, dict):
        found += [part for pair in obj.items() for part in pair]
    elif isinstance(obj, (list, tuple)):
        found += obj
    elif isinstance(obj, (set, frozenset)):
        # In no order: what has an identity is found by what it is equal to.
        found += sorted(obj, key=repr)
    elif isinstance(obj, bytearray):
        found.append(bytes(obj))
    elif isinstance(obj, enum.Enum):
        found.append(id(obj))
    elif isinstance(obj, (dt.datetime, dt.timedelta, slice)):
        found.append(repr(obj))
    if hasattr(obj, "__dict__") and not isinstance(obj, enum.Enum):
        found += [part for pair in vars(obj).items() for part in pair]
    for name in getattr(type(obj), "__slots__", ()):
        found += [name, getattr(obj, name, None)]
    return found


def expected(obj: Any) -> Any:
    return pickle.loads(pickle.dumps(obj, 5))


def ways(pool: oc.Pool, obj: Any) -> Any:
    queue, stream, again = pool.queue(), pool.stream(), pool.queue(redeliver=True)
    subscription = stream.subscribe()
    queue.put(obj)
    yield queue.get()
    queue.put_many([obj, obj])
    yield from queue.get_many(2)
    stream.publish(obj)
    yield subscription.get()
    yield pool.put(obj).get()
    shared_list, shared_dict = pool.list([obj]), pool.dict({"key": obj})
    yield shared_list[0]
    yield shared_dict["key"]
    again.put(obj)
    taken = again.get_message()
    taken.give_back()
    yield again.get()
    again.task_done()


# ---- tests --------------------------------------------------------------------------------------


@SETTINGS
@given(graphs)
def test_any_graph_comes_out_as_pickle_gives_it(pool, graph):
    obj = build(graph, pool)
    wanted = expected(obj)
    blocks = pool.stats().blocks
    for got in ways(pool, obj):
        assert Comparison().same(got, wanted)
        del got
    gc.collect()
    del wanted
    # What lies in the pool now are the graph's own arrays.
    assert pool.stats().blocks <= blocks + 8


@pytest.fixture
def through(pool):
    queue = pool.queue()

    def send(obj):
        queue.put(obj)
        return queue.get()

    return send


def test_cycles(through):
    items = [1]
    items.append(items)
    got = through(items)
    assert got[1] is got
    table = {"self": None, "tuple": (items, [])}
    table["self"] = table
    items.append(table)
    got = through((table, items))
    assert got[0]["self"] is got[0]
    assert got[0]["tuple"][0] is got[1]
    round_trip = ([],)
    round_trip[0].append(round_trip)
    got = through(round_trip)
    assert type(got) is tuple
    assert got[0][0] is got


def test_arrays_are_met_again(through, pool):
    own, small, there = np.zeros(5000), np.zeros(3), pool.zeros(3)
    got = through([own, small, there, {"own": own, "small": small, "there": there}])
    assert got[0] is got[3]["own"]
    assert got[1] is got[3]["small"]
    assert got[2] is got[3]["there"]


def test_between_pickle_and_the_rest(through):
    both, own, other = [1], Own(None), Own([2])
    own.inside = both
    got = through({"list": both, "own": own, "other": other, "again": other})
    assert got["own"].inside is got["list"]
    assert got["again"] is got["other"]
    circle = Stateful()
    circle.inside = [circle]
    got = through([circle, circle.inside])
    assert got[0].inside is got[1]
    assert got[1][0] is got[0]


def test_the_number_of_references_of_arguments_is_not_changed(pool):
    queue = pool.queue()
    obj = {"list": [1], "array": pool.zeros(5), "own": Own(None), "big": np.zeros(5000), "set": {1}}
    before = [sys.getrefcount(part) for part in (obj, *obj.values())]
    for _ in range(100):
        queue.put(obj)
        queue.get()
    assert [sys.getrefcount(part) for part in (obj, *obj.values())] == before


@pytest.mark.parametrize("levels", [99, 100, 101, 300, 5000])
@pytest.mark.parametrize("wrap", [lambda x: [x], lambda x: (x,), lambda x: {1: x}])
def test_depth(through, levels, wrap):
    obj = wrap(1)
    for _ in range(levels - 1):
        obj = wrap(obj)
    try:
        pickle.dumps(obj)
    except RecursionError:
        with pytest.raises(RecursionError):
            through(obj)
        return
    got = through(obj)
    count = 0
    while got != 1 if isinstance(got, int) else True:
        got = got[1] if isinstance(got, dict) else got[0]
        count += 1
    assert count == levels


def test_keys_whose_hash_would_take_for_ever_to_look_at(through):
    key = ("a",)
    for _ in range(20):  # a million when it is written out
        key = (key, key)
    table = {key: 1, "key": key}
    got = through([table, {key: 2}])
    (first, _), (second,) = got[0], got[1]
    assert first is second is got[0]["key"]


def test_order_of_keys_and_values_that_are_equal(through):
    table = {"b": 1, "a": True, 2: 2.0, "c": 1.0, 3.5: None}
    got = through(table)
    assert list(got) == list(table)
    assert list(map(type, got)) == list(map(type, table))
    assert list(map(type, got.values())) == list(map(type, table.values()))


@pytest.mark.parametrize("number", [0, 127, 128, -128, -129, 2**31 - 1, 2**31, -(2**31) - 1, 2**63])
@pytest.mark.parametrize("sign", [1, -1])
def test_numbers(through, number, sign):
    numbers = [sign * number + step for step in (-1, 0, 1)] + [number << 5000]
    assert through(numbers) == numbers


def test_text_of_every_width(through):
    texts = [c * n for c in ("a", "ä", "€", "😀", "\ud800", "\0") for n in (0, 1, 31, 33, 300)]
    got = through(texts)
    assert got == texts
    assert through(dict.fromkeys(texts, 1)) == dict.fromkeys(texts, 1)


def test_text_that_is_long_is_sent_once(pool):
    text, data = "x" * 100_000, b"y" * 100_000
    reference = pool.put([text, data] * 100)
    assert reference.nbytes < 300_000
    got = reference.get()
    assert got == [text, data] * 100
    assert got[0] is got[2]


class Broken:
    """One that cannot be sent."""

    def __init__(self, error: BaseException) -> None:
        self.error = error

    def __reduce__(self) -> Any:
        raise self.error


def test_an_error_in_the_middle_leaves_nothing(pool):
    queue = pool.queue()
    arrays = [np.zeros(5000), pool.zeros(5)]
    blocks = pool.stats().blocks
    for error in (ValueError("no"), KeyboardInterrupt(), MemoryError()):
        with pytest.raises(type(error)):
            queue.put({"arrays": arrays, "broken": Broken(error)})
    assert pool.stats().blocks == blocks
    assert arrays[1].flags.writeable
    assert queue.empty()


class Spoiler:
    """One that changes what it is sent with, while it is pickled."""

    def __init__(self, target: list[Any]) -> None:
        self.target = target

    def __reduce__(self) -> Any:
        self.target.clear()
        self.target.append("changed")
        gc.collect()
        return int, (5,)


def test_what_is_changed_while_it_is_pickled_is_sent_as_it_was(through):
    target: list[Any] = [[1], np.zeros(3), np.zeros(5000), "text" * 20]
    got = through({"spoiler": Spoiler(target), "target": target, "after": [target]})
    assert got["spoiler"] == 5
    assert got["target"] is got["after"][0]
    assert got["target"][0] == [1]
    assert len(got["target"]) == 4


def test_another_thread_changes_what_is_sent(pool):
    """Each message is whole: what it was at some time between two steps of the other thread."""
    queue = pool.queue()
    table: dict[str, Any] = {}
    done = threading.Event()

    def change() -> None:
        number = 0
        while not done.is_set():
            number += 1
            table["pair"] = (number, [number] * 50)
            table.pop(number % 7, None)
            table[number % 5] = {"number": number, "set": {number, number + 1}}

    thread = threading.Thread(target=change)
    thread.start()
    try:
        for _ in range(300):
            queue.put(table)
            got = queue.get()
            number, items = got.pop("pair", (0, []))
            assert items in ([], [number] * 50)
            for item in got.values():
                assert item["set"] == {item["number"], item["number"] + 1}
    finally:
        done.set()
        thread.join()


def test_classes_that_change_after_they_were_sent(through, monkeypatch):
    assert through(Changing(1)).number == 1
    assert through([Changing(2)])[0].number == 2
    monkeypatch.setattr(Changing, "__reduce__", lambda self: (Changing, (77,)), raising=False)
    assert through(Changing(3)).number == 77
    monkeypatch.undo()
    assert through(Changing(4)).number == 4
    copyreg.pickle(Changing, lambda obj: (Changing, (88,)))
    try:
        assert through(Changing(5)).number == 88
    finally:
        del copyreg.dispatch_table[Changing]
    own = Changing(6)
    own.__reduce_ex__ = lambda protocol: (Changing, (99,))
    assert through(own).number == 99


def test_a_class_that_is_not_found_under_its_name(through, monkeypatch):
    obj = Changing(1)
    monkeypatch.setattr(sys.modules[__name__], "Changing", object())
    for message in (obj, [obj]):
        with pytest.raises(pickle.PicklingError):
            through(message)


def test_a_name_that_is_no_class_for_the_receiver(pool, monkeypatch):
    reference = pool.put([Changing(5)])
    monkeypatch.setattr(sys.modules[__name__], "Changing", 5)
    with pytest.raises(TypeError, match="Changing"):
        reference.get()


def test_state_of_a_class_that_says_how_it_is_set(pool, monkeypatch):
    class Later:
        def __setstate__(self, state):
            self.state = state

    reference = pool.put([Changing(5)])
    monkeypatch.setattr(sys.modules[__name__], "Changing", Later)
    assert reference.get()[0].state == {"number": 5}


def test_a_named_tuple_that_has_other_fields_now(pool, monkeypatch):
    reference = pool.put([Changed(6, "six")])
    monkeypatch.setattr(
        sys.modules[__name__], "Changed", collections.namedtuple("Changed", "one two three")
    )
    with pytest.raises(TypeError):
        reference.get()
    monkeypatch.setattr(
        sys.modules[__name__],
        "Changed",
        collections.namedtuple("Changed", "one two three", defaults=[3]),
    )
    assert reference.get()[0] == (6, "six", 3)


def test_a_class_that_the_receiver_lacks(pool, monkeypatch):
    reference = pool.put([Changing(5)])
    monkeypatch.delattr(sys.modules[__name__], "Changing")
    with pytest.raises(AttributeError, match="Changing"):
        reference.get()


def test_a_pool_that_others_may_write_passes_what_runs_no_code():
    with oc.Pool.create("camera", size="16MiB", mode=0o666) as pool:
        plain = {
            "list": [1, (2.5, None), {3}, frozenset([4])],
            "bytes": (b"b", bytearray(b"a")),
            "scalars": [np.float32(2), np.datetime64("2020-01-01")],
        }
        assert pool.put(plain).get() == plain
        got = pool.put({"array": pool.array([1, 2]), "own": np.arange(5000), "small": np.zeros(2)})
        assert got.get()["own"][-1] == 4999
        for obj in ([Own(1)], {"a": int}, [range(3)], [Record(5)], [Pair(1)], [Colour.RED]):
            with pytest.raises(oc.Untrusted):
                pool.put(obj).get()
