"""Objects with slots, structs of msgspec, dates with a zone, shared arrays in containers."""

from __future__ import annotations

import copyreg
import dataclasses
import datetime as dt
import pickle
import zoneinfo
from typing import Any

import numpy as np
import pytest

import onecopy as oc

EAST = dt.timezone(dt.timedelta(hours=5, minutes=30))


class Slots:
    """A class with slots."""

    __slots__ = ("__own", "a", "b")

    def __init__(self, **fields: Any) -> None:
        for name, value in fields.items():
            setattr(self, name, value)

    def hide(self, value: Any) -> None:
        self.__own = value

    def hidden(self) -> Any:
        return self.__own


class More(Slots):
    """A derived class, with a slot of the same name."""

    __slots__ = ("a", "c")


class WithDict(Slots):
    """A derived class that has attributes too."""


class Watched:
    """A class that sees how its fields are set."""

    __slots__ = ("a",)
    seen: list[str] = []  # noqa: RUF012 - of the class

    def __setattr__(self, name: str, value: Any) -> None:
        self.seen.append(name)
        object.__setattr__(self, name, value)


@dataclasses.dataclass(frozen=True, slots=True)
class Frozen:
    """A frozen dataclass with slots."""

    a: Any
    b: Any = 5


@dataclasses.dataclass(slots=True)
class Record:
    """A dataclass with slots."""

    a: Any
    b: Any = 5


class Elsewhere:
    """A class that stands for another version of one of these."""

    def __setstate__(self, state: Any) -> None:
        self.state = state


@pytest.fixture
def through(pool):
    queue = pool.queue()

    def send(obj):
        queue.put(obj)
        return queue.get()

    return send


@pytest.fixture
def by_pickle(monkeypatch):
    """Count what is pickled."""
    from onecopy import _native
    from onecopy._codec import pickler
    from onecopy._core import membership

    pickled: list[Any] = []

    def encode(obj, *arguments):
        pickled.append(obj)
        return pickler.encode(obj, *arguments)

    _native.set_hooks(encode, pickler.raise_missing, membership.handle_of)
    yield pickled
    _native.set_hooks(pickler.encode, pickler.raise_missing, membership.handle_of)


def fields_of(obj):
    names = ("a", "b", "c", "_Slots__own")
    return type(obj), {name: getattr(obj, name) for name in names if hasattr(obj, name)}


def slots_of_all_kinds():
    hidden, twice = Slots(a=1), More(a=1, b=[2], c=3)
    hidden.hide("own")
    return [Slots(), Slots(b=2), hidden, twice, Record(1), Record([1], {2: 3}), Frozen((1,), "x")]


def test_slots_come_back_without_pickle(through, by_pickle):
    for obj in slots_of_all_kinds():
        for got in (through(obj), through({"inside": [obj]})["inside"][0]):
            assert fields_of(got) == fields_of(pickle.loads(pickle.dumps(obj, 5)))
    assert by_pickle == []


def test_slots_with_attributes_and_watched_ones_are_pickled(through, by_pickle):
    both = WithDict(a=1)
    both.other = 2
    got = through(both)
    assert (got.a, got.other) == (1, 2)
    watched = Watched()
    watched.a = 1
    Watched.seen.clear()
    assert through([watched])[0].a == 1
    assert Watched.seen == ["a"]
    assert len(by_pickle) == 2


def test_cycles_and_shared_references_of_slots(through):
    slots, record = Slots(), Record(None)
    slots.a, slots.b, record.a, record.b = slots, record, [slots], record
    got = through([slots, record])
    assert got[0].a is got[0]
    assert got[0].b is got[1]
    assert got[1].a[0] is got[0]
    frozen = Frozen([])
    frozen.a.append(frozen)
    assert (got := through(frozen)).a[0] is got
    key = Frozen(1)
    got = through([key, {key: 1}])
    assert next(iter(got[1])) is got[0]


def test_a_frozen_object_without_a_field_is_an_error_as_with_pickle(through):
    broken = object.__new__(Frozen)
    for message in (broken, [broken]):
        with pytest.raises(AttributeError):
            through(message)


@pytest.mark.parametrize("obj", [Record(1, 2), Frozen(1, 2)], ids=["slotted", "frozen"])
def test_a_receiver_with_another_version_of_the_class(pool, monkeypatch, obj):
    reference, nothing = pool.put([obj]), pool.put([Slots()])
    is_frozen = isinstance(obj, Frozen)
    data = pickle.dumps([obj], 5)
    monkeypatch.setitem(globals(), type(obj).__name__, Elsewhere)
    monkeypatch.setitem(globals(), "Slots", Elsewhere)
    assert reference.get()[0].state == pickle.loads(data)[0].state
    assert vars(nothing.get()[0]) == {}

    @dataclasses.dataclass(frozen=is_frozen, slots=True)
    class Fewer:
        b: Any

    monkeypatch.setitem(globals(), type(obj).__name__, Fewer)
    try:
        expected = pickle.loads(data)[0]
    except AttributeError:
        with pytest.raises(AttributeError):
            reference.get()
    else:
        assert reference.get()[0] == expected
    monkeypatch.setitem(globals(), type(obj).__name__, type("Plain", (), {}))
    if not is_frozen:
        assert vars(reference.get()[0]) == {"a": 1, "b": 2}


def test_slots_of_a_class_that_is_registered_or_changed(through, monkeypatch):
    assert through(Slots(a=1)).a == 1
    copyreg.pickle(Slots, lambda _: (int, (88,)))
    try:
        assert through(Slots(a=1)) == 88
    finally:
        del copyreg.dispatch_table[Slots]
    monkeypatch.setattr(Slots, "b", property(lambda _: "computed"))
    with pytest.raises(AttributeError):  # as with pickle
        through([Slots(a=1)])
    monkeypatch.undo()
    assert through([Slots(a=1, b=2)])[0].b == 2


try:
    import msgspec
except ImportError:
    structs: list[Any] = []
else:

    class Struct(msgspec.Struct):
        """A struct."""

        a: Any
        b: Any = 5

    class ByName(msgspec.Struct, kw_only=True, frozen=True, array_like=True):
        """A struct whose fields have names only."""

        a: Any
        b: Any = ()

    class After(msgspec.Struct):
        """A struct with code that runs when it was made."""

        a: Any
        b: Any = None

        def __post_init__(self) -> None:
            self.b = "after"

    class Own(msgspec.Struct):
        """A struct that says how it is pickled."""

        a: Any
        b: Any = None

        def __reduce__(self) -> Any:
            return Struct, ("own",)

    structs = [Struct(1), Struct([2], {3: np.zeros(2)}), ByName(a=1), After(4, 4)]


def test_structs_come_back_without_pickle(through, by_pickle):
    if not structs:
        pytest.skip("msgspec is not installed")
    for struct in structs:
        for got in (through(struct), through({"inside": [struct]})["inside"][0]):
            assert type(got) is type(struct)
            assert repr(got) == repr(pickle.loads(pickle.dumps(struct, 5)))
    again = through([structs[0], structs[0]])
    assert again[0] is again[1]
    assert by_pickle == []
    assert through([Own(1)])[0].a == "own"


def test_a_struct_that_contains_itself(through):
    if not structs:
        pytest.skip("msgspec is not installed")
    circle = Struct([])
    circle.a.append(circle)
    wanted, got = pickle.loads(pickle.dumps(circle, 5)), through(circle)
    assert (got.a[0] is got) == (wanted.a[0] is wanted)


def test_dates_with_a_zone_come_back_without_pickle(through, by_pickle):
    named = dt.timezone(dt.timedelta(days=-1, seconds=3, microseconds=7), "a name €")
    dates = [
        dt.datetime(2024, 1, 2, 3, 4, 5, 6, EAST),
        dt.datetime(2024, 1, 2, tzinfo=EAST, fold=1),
        dt.time(1, 2, tzinfo=named),
        dt.datetime(1, 1, 1, tzinfo=dt.UTC),
        dt.time(5),
        EAST,
        named,
        dt.UTC,
        dt.timezone(dt.timedelta(0), "zero"),
    ]
    got = through(dates)
    assert list(map(repr, got)) == list(map(repr, dates))
    assert got[0].tzinfo is got[1].tzinfo is got[5]
    assert got[2].tzinfo is got[6]
    assert got[3].tzinfo is dt.UTC
    for date in dates:
        assert repr(through(date)) == repr(date)
    assert by_pickle == []


def test_dates_with_a_zone_of_the_data_base(through, by_pickle):
    try:
        paris = zoneinfo.ZoneInfo("Europe/Paris")
    except zoneinfo.ZoneInfoNotFoundError:
        pytest.skip("this machine has no data base of zones")
    date = dt.datetime(2024, 10, 27, 2, 30, tzinfo=paris, fold=1)
    got = through([date, paris, date.timetz()])
    assert got[0] == date
    assert got[0].fold == 1
    assert got[0].tzinfo is got[1] is got[2].tzinfo is paris
    assert through(date).tzinfo is paris
    assert by_pickle == []
    alone = zoneinfo.ZoneInfo.no_cache("Europe/Paris")
    got = through([date.replace(tzinfo=alone), alone])
    assert got[0].tzinfo is got[1]
    assert got[1] is not paris


class Holder:
    """One that is pickled, with a zone."""

    def __init__(self, zone: Any) -> None:
        self.zone = zone

    def __reduce__(self) -> Any:
        return Holder, (self.zone,)


def test_a_zone_inside_and_outside_of_the_pickle_is_one(through):
    got = through([dt.datetime(2024, 1, 1, tzinfo=EAST), Holder(EAST)])
    assert got[0].tzinfo is got[1].zone


def test_zones_whose_name_is_no_text(through):
    zone = dt.timezone(dt.timedelta(0), "\ud800")
    assert through([dt.time(1, tzinfo=zone)])[0].tzinfo.tzname(None) == "\ud800"


@pytest.mark.parametrize(
    "text", ["", "/", "//", "///", ".", "a", "./a", "//a/b", "///a//b/./c/", "a/../b", "ä/€", " /."]
)
def test_paths_are_as_their_class_makes_them(through, text):
    from pathlib import Path, PurePosixPath

    for kind in (Path, PurePosixPath):
        path = kind(text)
        for got in (through(path), through([path])[0]):
            assert type(got) is type(path)
            assert got == path
            assert (str(got), got.parts, got.root, got.anchor) == (
                str(path),
                path.parts,
                path.root,
                path.anchor,
            )
            assert hash(got) == hash(path)
            assert got / "more" == path / "more"


def test_shared_arrays_in_containers_are_the_same_memory(through, pool, by_pickle):
    array, small = pool.shared_array((30, 40)), pool.shared_array(3, "i2")
    array[:] = 1
    got = through({"array": array, "part": [array[2:5, ::2], array.T], "small": small})
    assert by_pickle == []
    for part in (got["array"], *got["part"], got["small"]):
        assert type(part) is oc.SharedArray
        assert part.flags.writeable
    got["array"][2, 0] = 7
    assert array[2, 0] == got["part"][0][0, 0] == got["part"][1][0, 2] == 7
    assert got["part"][1].strides == array.T.strides
    again = through([array, array])
    assert again[0] is again[1]
    got = through(array)
    got[0, 0] = 9
    assert array[0, 0] == 9


def test_a_message_keeps_a_shared_array(pool):
    queue, array = pool.queue(), pool.shared_array(5000)
    array[:] = 3
    queue.put([array])
    del array
    (got,) = queue.get()
    assert got.sum() == 15000


def test_shared_arrays_that_are_not_in_this_pool(through, pool):
    with oc.Pool.create("other", size="16MiB") as other:
        array = other.shared_array(5)
        got = through([array])[0]
        got[0] = 5
        assert array[0] == 5
        assert type(got) is oc.SharedArray
        del array, got
    empty, copied = pool.shared_array(0), np.ndarray.copy(pool.shared_array(3)[:2])
    got = through([empty, copied, pool.zeros(3).view(oc.SharedArray)])
    assert [len(part) for part in got] == [0, 2, 3]


def test_what_an_untrusted_pool_passes():
    with oc.Pool.create("camera", size="16MiB", mode=0o666) as pool:
        plain = [dt.datetime(2024, 1, 1, tzinfo=EAST), dt.time(1, tzinfo=dt.UTC), EAST]
        assert pool.put(plain).get() == plain
        array = pool.shared_array(9)
        got = pool.put({"array": array}).get()["array"]
        got[3] = 4
        assert array[3] == 4
        for obj in ([Slots(a=1)], [Record(1)], [Frozen(1)], structs[:1] or [len]):
            with pytest.raises(oc.Untrusted):
                pool.put(obj).get()
        try:
            zone = zoneinfo.ZoneInfo("UTC")
        except zoneinfo.ZoneInfoNotFoundError:
            return
        with pytest.raises(oc.Untrusted):
            pool.put([dt.time(1, tzinfo=zone)]).get()
