"""Things in a pool that travel by handle have one base, which has the way they travel."""

from __future__ import annotations

import pickle

import pytest

import onecopy as oc
from onecopy._core.shared import Closable, Shared

PUBLIC = [getattr(oc, name) for name in oc.__all__]
THINGS = [
    cls
    for cls in PUBLIC
    if isinstance(cls, type) and hasattr(cls, "detach") and hasattr(cls, "handle")
]


def test_there_is_something_to_look_at():
    assert {oc.Queue, oc.Stream, oc.Frames, oc.Lock, oc.Barrier, oc.List, oc.Dict} <= set(THINGS)


@pytest.mark.parametrize("cls", THINGS)
def test_the_base_alone_says_how_a_thing_travels(cls):
    assert issubclass(cls, Shared)
    for step in ("__reduce__", "__repr__", "_open_at", "_place", "name"):
        assert getattr(cls, step) is getattr(Shared, step), step
    assert cls._open.__func__ is Shared._open.__func__


@pytest.mark.parametrize("cls", [oc.Queue, oc.Stream, oc.Frames])
def test_the_base_alone_says_what_a_with_block_does(cls):
    assert cls.__enter__ is Closable.__enter__
    assert cls.__exit__ is Closable.__exit__


@pytest.mark.parametrize(
    ("kind", "arguments", "arrives_as_its_own"),
    [(oc.Queue, (3,), True), (oc.Stream, (3,), False), (oc.Frames, ((2,), "u1", 1), False)],
)
def test_an_object_of_a_subclass(kind, arguments, arrives_as_its_own, pool, monkeypatch):
    """It is shown as an object of our class, and only a queue arrives as one of its own class."""
    derived = type("Derived", (kind,), {"__module__": __name__})
    monkeypatch.setitem(globals(), "Derived", derived)
    thing = derived(*arguments)
    twin = pickle.loads(pickle.dumps(thing))
    assert type(twin) is (derived if arrives_as_its_own else kind)
    assert twin.handle == thing.handle
    assert repr(twin) == repr(thing)
    assert repr(thing).startswith(f"<onecopy.{kind.__name__}, ")
    thing.close()
    assert repr(thing) == f"<onecopy.{kind.__name__}, closed>"
