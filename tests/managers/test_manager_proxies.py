"""Proxies outside of their manager: in children, and in other objects of the server."""

import gc
import threading
import weakref

import pytest

from onecopy import multiprocessing as mp
from onecopy.multiprocessing.managers import BaseProxy, SyncManager

STARTS = ["fork", "spawn", "forkserver"]
alive = weakref.WeakSet()


class Part:
    """An object for which a method returns a proxy."""

    def __init__(self, number):
        self._number = number
        alive.add(self)

    def number(self):
        """Return its value."""
        return self._number


class PartProxy(BaseProxy):
    """A type of proxy that only its module knows."""

    _exposed_ = ("number",)

    def number(self):
        """Return its value, and which proxy returned it."""
        return "a proxy's", self._callmethod("number")


class Whole:
    """An object with parts."""

    def __init__(self):
        self._part = Part(7)

    def part(self, number):
        """Make one."""
        return Part(number)

    def the_part(self):
        """Return the existing one."""
        return self._part

    def numbers(self):
        """Return an iterator."""
        return iter(range(3))

    def whole(self):
        """Return another one."""
        return Whole()


class Census:
    """A counter in the server."""

    def count(self):
        """Count parts."""
        gc.collect()
        return len(alive)


class Mine(SyncManager):
    """A manager of these."""


Mine.register(
    "Whole",
    Whole,
    method_to_typeid={
        "part": "Part",
        "the_part": "Plain",
        "numbers": "Iterator",
        "whole": "Whole",
    },
)
Mine.register("Part", Part, PartProxy)
Mine.register("Plain", Part)
Mine.register("Census", Census)


@pytest.fixture(params=STARTS)
def manager(request):
    manager = Mine(ctx=mp.get_context(request.param))
    manager.start()
    server = manager._process
    yield manager
    manager.shutdown()
    server.join()
    server.close()


LOOKS = {
    "iterate a dict": (lambda p: sorted(p["dict"]), ["a", "b"]),
    "nested dict": (lambda p: sorted(p["outer"]["inner"]), ["a", "b"]),
    "a proxy's type": (lambda p: p["whole"].part(5).number(), ("a proxy's", 5)),
    "an automatic proxy": (lambda p: p["whole"].the_part().number(), 7),
    "a proxy of a proxy": (lambda p: p["whole"].whole().part(6).number(), ("a proxy's", 6)),
    "an iterator": (lambda p: list(p["whole"].numbers()), [0, 1, 2]),
    "a pool": (lambda p: p["pool"].apply_async(abs, (-3,)).get(30), 3),
}


def look(results, proxies):
    """Use proxies in a child."""
    for what, (way, _) in LOOKS.items():
        try:
            results.put((what, way(proxies)))
        except Exception as error:  # noqa: BLE001 - the parent compares it
            results.put((what, repr(error)))


@pytest.mark.parametrize("method", STARTS)
def test_methods_that_give_proxies_work_in_a_child(manager, method):
    inner = manager.dict(a=1, b=2)
    proxies = {
        "dict": inner,
        "outer": manager.dict(inner=inner),
        "whole": manager.Whole(),
        "pool": manager.Pool(1),
    }
    context = mp.get_context(method)
    results = context.Queue()
    child = context.Process(target=look, args=(results, proxies))
    child.start()
    got = dict(results.get(timeout=60) for _ in LOOKS)
    child.join(60)
    child.close()
    assert got == {what: right for what, (_, right) in LOOKS.items()}
    look(results, proxies)  # in this process too
    assert dict(results.get() for _ in LOOKS) == got


def test_a_type_that_nobody_can_import():
    class Local(SyncManager):
        pass

    class LocalProxy(BaseProxy):
        pass

    Local.register("Whole", Whole, method_to_typeid={"the_part": "Hidden"})
    Local.register("Hidden", None, LocalProxy, exposed=("number",))
    with Local(ctx=mp.get_context("fork")) as manager:
        server = manager._process
        whole = manager.Whole()
        whole._manager = whole._registry = None  # as in a child
        assert whole.the_part()._callmethod("number") == 7
        del whole
    server.close()


def test_nested_proxies_keep_their_objects_and_let_go_of_them(manager):
    census = manager.Census()
    keep = manager.list()
    for number in range(5):
        keep.append(manager.Part(number))
    assert census.count() == 5
    assert [keep[i].number()[1] for i in range(5)] == list(range(5))
    kept = keep.pop()
    while len(keep):
        keep.pop()
    assert census.count() == 1
    assert kept.number() == ("a proxy's", 4)
    again = manager.list([kept])
    del kept
    assert census.count() == 1
    assert again[0].number() == ("a proxy's", 4)
    del again
    assert census.count() == 0
    places = manager.dict()
    for number in range(5):
        places["x"] = manager.Part(number)
    assert census.count() == 1
    outer = manager.list([places])
    del places
    assert outer[0]["x"].number() == ("a proxy's", 4)
    del outer
    assert census.count() == 0


def test_one_object_in_many_places(manager):
    census = manager.Census()
    part = manager.Part(1)
    lists = [manager.list([part, part]) for _ in range(3)]
    del part
    assert census.count() == 1
    while lists:
        assert lists[-1][1].number() == ("a proxy's", 1)
        del lists[-1]
    assert census.count() == 0


def test_threads_that_put_and_take_nested_proxies():
    with Mine(ctx=mp.get_context("fork")) as manager:
        server = manager._process
        census = manager.Census()
        keep = manager.list()
        wrong = []

        def work():
            try:
                for number in range(50):
                    keep.append(manager.Part(number))
                    keep.pop().number()
            except Exception as error:  # noqa: BLE001 - it is looked at
                wrong.append(error)

        threads = [threading.Thread(target=work) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert wrong == []
        assert census.count() == 0
        del census
    server.close()
