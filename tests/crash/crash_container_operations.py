"""Lists and dicts for the campaign: the contents are as before the operation, or as after it."""

from __future__ import annotations

import os
import signal
import warnings
from typing import TYPE_CHECKING, Any

from crash_world import HANG, Operation, World, by_reference, item, nothing, number

if TYPE_CHECKING:
    from collections.abc import Callable


def list_of(count: int, and_then: Callable[[World], object] = nothing) -> Callable[[World], None]:
    """Make a list of this many numbered items, as ``w.list``."""

    def prepare(w: World) -> None:
        w.things["list"] = w.pool.list(
            item(index) if index % 2 else index for index in range(count)
        )
        and_then(w)

    return prepare


def age_blocks(w: World) -> None:
    """Make the handles of new queues as long as they stay.

    An item that refers to a queue has its handle, whose length depends on the block's generation.
    """
    while w.pool.queue().handle >> 32 < 1 << 8:
        pass


def dict_of(count: int) -> Callable[[World], None]:
    """Make a dict, as ``w.dict``. Every third key is a long one."""

    def prepare(w: World) -> None:
        w.things["dict"] = w.pool.dict(
            (key(index), item(index) if index % 2 else index) for index in range(count)
        )

    return prepare


def key(index: int) -> Any:
    """Return the key of an item."""
    return ("long" * 30, index) if index % 3 == 2 else index


def numbers(w: World) -> list[int]:
    return [number(each) for each in w.list]


def entries(w: World) -> list[tuple[Any, int]]:
    pairs = [(each, number(value)) for each, value in w.dict.items()]
    assert [number(w.dict[each]) for each, _ in pairs] == [value for _, value in pairs]
    return pairs


def one_of(look: Callable[[World], Any], *allowed: Any) -> Callable[[World], None]:
    """Check the contents while something grows: they are as before, or as after."""

    def look_at(w: World) -> None:
        found = look(w)
        assert found in allowed, found

    return look_at


def dead_with_the_lock(prepare: Callable[[World], None], name: str) -> Callable[[World], None]:
    """Make a container, and let a process die that owns its lock."""

    def make(w: World) -> None:
        prepare(w)
        pid = os.fork()
        if pid == 0:
            signal.alarm(HANG)
            w.things[name].lock().acquire()
            os.kill(os.getpid(), signal.SIGKILL)
        os.waitpid(pid, 0)

    return make


def update_with_lock(w: World) -> None:
    with w.list.lock():
        w.list[0] = number(w.list[0]) + 10


def append_after_a_death(w: World) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        w.list.append(6)


def lock_looks(w: World) -> list[int]:
    """Return the contents, whichever process died with the lock."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return numbers(w)


def on_list(
    name: str, covers: str, act: Callable[[World], object], count: int = 6, **options: Any
) -> Operation:
    options.setdefault("look", numbers)
    return Operation(f"list, {name}", (f"List.{covers}",), act, list_of(count), **options)


def on_dict(
    name: str, covers: str, act: Callable[[World], object], count: int = 7, **options: Any
) -> Operation:
    options.setdefault("look", entries)
    return Operation(f"dict, {name}", (f"Dict.{covers}",), act, dict_of(count), **options)


def set_item(w: World, where: Any, value: Any) -> None:
    w.list[where] = value


def delete_item(w: World, where: Any) -> None:
    del w.list[where]


def times_two(w: World) -> None:
    shared = w.list
    shared *= 2


SIXTEEN = list(range(16))

CONTAINER_OPERATIONS = [
    Operation("list", ("Pool.list",), lambda w: w.pool.list()),
    Operation("list, with items", ("Pool.list",), lambda w: w.pool.list([1, item(2)])),
    Operation("list, named", ("Pool.list",), lambda w: w.pool.list([1], name="list"), several=True),
    on_list("append", "append", lambda w: w.list.append(item(6))),
    Operation(
        "list, append a queue",
        ("List.append",),
        lambda w: w.list.append(w.pool.queue()),
        list_of(6, and_then=age_blocks),
        look=lambda w: len(w.list),
    ),
    on_list(
        "append and grow",
        "append",
        lambda w: w.list.append(item(16)),
        16,
        several=True,
        look=one_of(numbers, SIXTEEN, [*SIXTEEN, 16]),
    ),
    on_list("extend", "extend", lambda w: w.list.extend([6, item(7), 8])),
    on_list(
        "extend and grow",
        "extend",
        lambda w: w.list.extend(item(index) for index in range(6, 40)),
        several=True,
        look=one_of(numbers, list(range(6)), list(range(40))),
    ),
    on_list("item", "__getitem__", lambda w: w.list[1]),
    on_list("slice", "__getitem__", lambda w: w.list[1:4]),
    on_list("set", "__setitem__", lambda w: set_item(w, 1, item(9))),
    on_list("set a slice", "__setitem__", lambda w: set_item(w, slice(1, 3), [7, item(8), 9])),
    on_list(
        "set every second", "__setitem__", lambda w: set_item(w, slice(0, 6, 2), [7, item(8), 9])
    ),
    on_list("delete", "__delitem__", lambda w: delete_item(w, 1)),
    on_list("delete a slice", "__delitem__", lambda w: delete_item(w, slice(1, 4))),
    on_list("delete every second", "__delitem__", lambda w: delete_item(w, slice(5, None, -2))),
    on_list("insert", "insert", lambda w: w.list.insert(1, item(9))),
    on_list("pop", "pop", lambda w: w.list.pop()),
    on_list("pop the first", "pop", lambda w: w.list.pop(0)),
    on_list("remove", "remove", lambda w: w.list.remove(4)),
    on_list("reverse", "reverse", lambda w: w.list.reverse()),
    on_list("sort", "sort", lambda w: w.list.sort(key=number, reverse=True)),
    on_list("times", "extend", times_two),
    on_list(
        "clear",
        "clear",
        lambda w: w.list.clear(),
        several=True,
        look=one_of(numbers, [], list(range(6))),
    ),
    on_list("in", "__contains__", lambda w: 0 in w.list),
    on_list("index", "index", lambda w: w.list.index(0)),
    on_list("copy", "copy", lambda w: w.list.copy()),
    on_list("iterate", "__iter__", lambda w: list(w.list)),
    on_list("length", "__len__", lambda w: len(w.list)),
    on_list("pickle", "__reduce__", lambda w: by_reference(w.list)),
    on_list("lock", "lock", update_with_lock, look=lock_looks),
    Operation(
        "list, append after a dead owner",
        ("List.append",),
        append_after_a_death,
        dead_with_the_lock(list_of(6), "list"),
        look=lock_looks,
    ),
    Operation("dict", ("Pool.dict",), lambda w: w.pool.dict()),
    Operation("dict, with entries", ("Pool.dict",), lambda w: w.pool.dict({"a": 1, "b": item(2)})),
    Operation(
        "dict, named", ("Pool.dict",), lambda w: w.pool.dict({"a": 1}, name="dict"), several=True
    ),
    on_dict("set", "__setitem__", lambda w: w.dict.__setitem__("new", item(9))),
    on_dict("set, long key", "__setitem__", lambda w: w.dict.__setitem__("new" * 50, item(9))),
    on_dict("set again", "__setitem__", lambda w: w.dict.__setitem__(1.0, item(9))),
    on_dict(
        "set and grow",
        "__setitem__",
        lambda w: w.dict.__setitem__(16, item(16)),
        16,
        several=True,
        look=one_of(
            entries,
            [(key(index), index) for index in range(16)],
            [*((key(index), index) for index in range(16)), (16, 16)],
        ),
    ),
    on_dict("get", "__getitem__", lambda w: w.dict[key(1)]),
    on_dict("get, default", "get", lambda w: w.dict.get("none", 5)),
    on_dict("setdefault", "setdefault", lambda w: w.dict.setdefault("new", item(9))),
    on_dict("delete", "__delitem__", lambda w: w.dict.__delitem__(key(1))),
    on_dict("delete, long key", "__delitem__", lambda w: w.dict.__delitem__(key(2))),
    on_dict("pop", "pop", lambda w: w.dict.pop(key(5))),
    on_dict("popitem", "popitem", lambda w: w.dict.popitem()),
    on_dict("update", "update", lambda w: w.dict.update({1: 8, "new": 9}), several=True),
    on_dict(
        "clear",
        "clear",
        lambda w: w.dict.clear(),
        several=True,
        look=one_of(entries, [], [(key(index), index) for index in range(7)]),
    ),
    on_dict("in", "__contains__", lambda w: ("none" in w.dict, 1 in w.dict)),
    on_dict("copy", "copy", lambda w: w.dict.copy()),
    on_dict("iterate", "__iter__", lambda w: list(w.dict)),
    Operation(
        "dict, views",
        ("Dict.keys", "Dict.values", "Dict.items"),
        lambda w: [list(view) for view in (w.dict.keys(), w.dict.values(), w.dict.items())],
        dict_of(5),
        look=entries,
    ),
    on_dict("length", "__len__", lambda w: len(w.dict)),
    on_dict("pickle", "__reduce__", lambda w: by_reference(w.dict)),
    on_dict("lock", "lock", lambda w: w.dict.lock().acquire(), repeats=False, look=lambda w: None),
]

CONTAINERS_NOT_TRIED = {
    **dict.fromkeys(
        ("List.name", "List.handle", "List.member", "Dict.name", "Dict.handle", "Dict.member"),
        "reads what is fixed",
    ),
    **dict.fromkeys(("List.detach", "Dict.detach"), "what Pool.close calls"),
    **dict.fromkeys(
        ("List.__init__", "Dict.__init__", "Dict.fromkeys"),
        "as Pool.list and Pool.dict, in the default pool",
    ),
    "List.count": "as List.index",
}
