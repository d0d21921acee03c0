"""Classes that change between the sender and the receiver: what pickle would do is done."""

from __future__ import annotations

import collections
import copyreg
import pickle
import sys
from typing import NamedTuple

import pytest


class Changing:
    """A class that tests change."""

    def __init__(self, number: int) -> None:
        self.number = number


class Changed(NamedTuple):
    """A named tuple that tests change."""

    number: int
    text: str


@pytest.fixture
def through(pool):
    queue = pool.queue()

    def send(obj):
        queue.put(obj)
        return queue.get()

    return send


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
