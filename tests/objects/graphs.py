"""Graphs of objects of all kinds, how they are compared, and every way through a pool."""

from __future__ import annotations

import collections
import datetime as dt
import enum
import pickle
import struct
import zoneinfo
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from hypothesis import strategies as st

if TYPE_CHECKING:
    import onecopy as oc

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


@dataclass(frozen=True, slots=True)
class FrozenSlots:
    """One that has both, and a state of its own."""

    number: int
    anything: Any = None


@dataclass(slots=True)
class MoreSlots(SlottedRecord):
    """One that is derived from one with slots."""

    more: Any = None


try:
    import msgspec
except ImportError:  # an optional library
    msgspec = None  # type: ignore[assignment]
else:

    class Struct(msgspec.Struct):
        """One that another library makes."""

        number: int
        anything: Any = None

    class StructByName(msgspec.Struct, kw_only=True, frozen=True):
        """One whose fields have names only."""

        anything: Any
        number: int = 5


STRUCTS = () if msgspec is None else (Struct, StructByName)


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


class Text(str):
    """A subclass of a class that has a form of its own."""

    __slots__ = ()


class Items(list):
    """Another."""


EAST = dt.timezone(dt.timedelta(hours=5, minutes=30))
ZONED = [
    dt.datetime(2024, 1, 2, 3, 4, 5, 6, EAST),
    dt.datetime(2025, 1, 2, tzinfo=EAST),
    dt.time(1, 2, 3, 4, dt.timezone(dt.timedelta(seconds=-1), "name €"), fold=1),
    EAST,
    dt.timezone.utc,  # noqa: UP017 - by itself
]
try:
    PARIS = zoneinfo.ZoneInfo("Europe/Paris")
except zoneinfo.ZoneInfoNotFoundError:  # a machine without the files
    pass
else:
    ZONED += [dt.datetime(2024, 10, 27, 2, 30, tzinfo=PARIS, fold=1), PARIS]

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
            *ZONED,
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
    "FrozenSlots",
    "MoreSlots",
    "shared array",
    "mapped array",
    "Pair",
    "Own",
    "Stateful",
    "Items",
    "OrderedDict",
    "defaultdict",
]
if msgspec is not None:
    KINDS += ["Struct", "StructByName"]


def make(kind: str, inside: list[Any], pool: oc.Pool, mapped: Any) -> Any:
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
        case "Frozen" | "SlottedRecord" | "FrozenSlots":
            kinds: Any = {
                "Frozen": Frozen,
                "SlottedRecord": SlottedRecord,
                "FrozenSlots": FrozenSlots,
            }
            return kinds[kind](3, tuple(inside))
        case "MoreSlots":
            more = MoreSlots(4, inside, inside[0] if inside else None)
            if len(inside) > 1:
                del more.anything  # a slot that is not set
            return more
        case "Struct":
            return Struct(5, inside)
        case "StructByName":
            return StructByName(anything=tuple(inside))
        case "shared array":
            shared = pool.shared_array(6 + 300 * len(inside), "f8")
            shared[:] = np.arange(len(shared))
            return shared[len(inside) :: 2]
        case "mapped array":
            return mapped[len(inside) :]
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
    elif msgspec is not None and isinstance(into, Struct) and is_flat(item):
        into.anything = item


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


def build(graph: Any, pool: oc.Pool, mapped: Any) -> Any:
    """Build a graph of objects; give one that refers to all. `mapped`: an array of a file."""
    nodes: list[Any] = []
    for kind, inside in graph[0]:
        items = [
            nodes[item[1] % len(nodes)]
            if nodes and isinstance(item, tuple) and item[:1] == ("node",)
            else item
            for item in inside
        ]
        nodes.append(make(kind, items, pool, mapped))
    for into, item in graph[1]:
        target, other = nodes[into % len(nodes)], nodes[item % len(nodes)]
        # A hash that goes round in a circle ends nowhere, with pickle or without.
        if not (isinstance(target, (set, dict)) and not is_flat(other)):
            add(target, other)
    return nodes if len(graph[1]) % 2 else nodes[-1]


def is_flat(item: Any) -> bool:
    return not isinstance(item, (Frozen, FrozenSlots, Pair, tuple, frozenset, *STRUCTS))


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
    elif isinstance(obj, (dt.datetime, dt.time)):
        found += [repr(obj), obj.tzinfo]
    elif isinstance(obj, (dt.tzinfo, dt.timedelta, slice)):
        found.append(repr(obj))
    if hasattr(obj, "__dict__") and not isinstance(obj, enum.Enum):
        found += [part for pair in vars(obj).items() for part in pair]
    for kind in type(obj).__mro__:
        for name in vars(kind).get("__slots__", ()) if kind.__module__ == __name__ else ():
            found += [name, getattr(obj, name, None)]
    return found


def expected(obj: Any) -> Any:
    return pickle.loads(pickle.dumps(obj, 5))


def ways(pool: oc.Pool, obj: Any) -> Any:
    queue, stream, again = pool.queue(), pool.stream(), pool.queue(redeliver=True)
    subscription = stream.subscribe()
    queue.put(obj)
    yield queue.get()
    queue.put(obj)
    yield queue.get(copy="on_write")
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
