"""Objects that one thread changes while another one puts them."""

import contextlib
import dataclasses
import threading
from typing import TypedDict

import numpy as np
import pytest
from together import ROUNDS, run, stopping, until

from onecopy.multiprocessing import Array


@dataclasses.dataclass
class Plain:
    low: int
    high: int
    rest: list


@dataclasses.dataclass(slots=True)
class Slotted:
    low: str
    high: str


LONG = ["a" * 40 + str(i) for i in range(50)]


def hammer(change, step):
    """Run `step` so many times, while other threads change what it works on."""
    stop = threading.Event()

    def steps():
        for _ in range(ROUNDS):
            step()

    run(stopping(stop, steps), until(stop, change), until(stop, change))


def test_a_list(pool):
    queue = pool.queue()
    items = list(range(100))

    def change():
        items.append(str(len(items)) * 20)
        items[10:20] = [[1, "x" * 50], {"k": (1, 2)}, None]
        del items[50:]
        items.extend(range(len(items), 100))

    def step():
        queue.put(items)
        got = queue.get()
        assert type(got) is list
        queue.put({"it": [items, items], "tail": items})
        got = queue.get()
        assert got["it"][0] is got["it"][1] is got["tail"]

    hammer(change, step)


def test_a_dict_and_a_set(pool):
    queue = pool.queue()
    table = dict.fromkeys(LONG[:30], 0)
    names = set(LONG[:30])

    def change():
        for i, text in enumerate(LONG):
            table[text] = [i, text]
            names.add(text)
        for text in LONG[10:]:
            table.pop(text, None)
            names.discard(text)

    def step():
        queue.put([table, names])
        got, these = queue.get()
        assert set(got) <= set(LONG)
        assert these <= set(LONG)
        assert all(value == 0 or LONG[value[0]] == value[1] for value in got.values())

    hammer(change, step)


def test_objects_met_again_are_the_same_object(pool):
    # What was met must live until the message is complete: a new object could get its address.
    queue = pool.queue()
    box = {}

    def change():
        for i in range(20):
            box[i % 5] = ["x" * 33 + str(i), bytes([i]) * 40]

    def step():
        queue.put([box, dict(box)])
        got, again = queue.get()
        for text, data in (*got.values(), *again.values()):
            i = int(text[33:])
            assert data == bytes([i]) * 40

    hammer(change, step)


@pytest.mark.parametrize("make", [Plain, Slotted], ids=["dict", "slots"])
def test_attributes(pool, make):
    queue = pool.queue()
    one = make(LONG[0], LONG[0], []) if make is Plain else make(LONG[0], LONG[0])

    def change():
        for i in range(20):
            one.low = LONG[i] + "!"
            one.high = f"{i}" * 50
            if make is Plain:
                one.rest = [one.low]
                one.__dict__.setdefault(f"more{i}", i)
                one.__dict__.pop(f"more{i}", None)

    def step():
        queue.put([one, one])
        first, second = queue.get()
        assert first is second
        assert type(first) is make
        assert first.low.startswith("a")

    hammer(change, step)


def test_a_bytearray_and_an_array(pool):
    queue = pool.queue()
    data, array = bytearray(b"x" * 100), np.zeros(1000, np.uint8)

    def change():
        array[:] = array[0] ^ 1

    def step():
        queue.put([data, array])
        got, copied = queue.get()
        assert got == b"x" * 100
        assert copied.shape == (1000,)

    hammer(change, step)


class Reading(TypedDict):
    name: str
    values: list[int]


def test_what_a_typed_queue_has_checked(pool):
    # What does not fit is refused by the sender; a message in the queue always fits.
    queue = pool.queue("readings", type=Reading)
    reading = {"name": "a", "values": [1] * 50}

    def change():
        reading["values"][7] = "no number"
        reading["extra"] = 1
        reading["values"][7] = 1
        reading.pop("extra", None)
        reading["values"] = [1] * 50

    def step():
        try:
            queue.put(reading)
        except TypeError:
            return
        got = queue.get()
        assert got["name"] == "a"
        assert got["values"] == [1] * 50

    hammer(change, step)


def test_classes_that_change(pool):
    queue = pool.queue()

    def change():
        Plain.more = len(vars(Plain))
        del Plain.more

    def change_once():
        with contextlib.suppress(AttributeError):  # the other thread was faster
            change()

    def step():
        queue.put(Plain(1, 2, [3]))
        assert queue.get() == Plain(1, 2, [3])

    hammer(change_once, step)


def test_a_pickled_object_that_uses_the_queue(pool):
    queue = pool.queue()

    def step():
        queue.put([Nested(queue), 1])
        got = [queue.get(), queue.get()]
        assert sorted(map(str, got)) == ["[Nested, 1]", "inner"]

    run(*[lambda: [step() for _ in range(ROUNDS // 10)]])
    assert queue.empty()


class Nested:
    def __init__(self, queue=None):
        self.queue = queue

    def __reduce__(self):
        self.queue.put("inner")
        return Nested, ()

    def __repr__(self):
        return "Nested"


def test_items_of_a_shared_array(pool):
    numbers = list(range(100))

    def change():
        numbers.append(1)
        numbers[:] = range(100)

    def step():
        try:
            value = Array("i", numbers, lock=False)
        except (IndexError, RuntimeError):
            return
        assert value[5] == 5

    hammer(change, step)
