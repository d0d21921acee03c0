"""A pool without a free slot: a new process gets an error, and a forked child gets no access."""

import copy
import inspect
import os
import pickle
import signal
import traceback

import numpy as np
import pytest
from slots import occupied

import onecopy as oc


def open_it(path):
    with pytest.raises(oc.OneCopyError) as caught:
        oc.Pool.open(path)
    text = str(caught.value)
    if path.endswith("small.pool"):
        assert "all 2 are taken (max_processes=2)" in text
        assert "a larger max_processes (512 at most)" in text
    else:
        assert "all 512 are taken (max_processes=512)" in text
        assert "No pool has room for more" in text
    assert path in text


@pytest.mark.parametrize(("name", "slots"), [("small", 2), ("large", 512)])
def test_the_error_names_the_limit(method, start, name, slots):
    with oc.Pool.create(name, size="16MiB", max_processes=slots) as pool:
        if method == "fork":
            pool.member.collect()
        with occupied(pool):
            assert start(method, open_it, pool.member.path).wait() == 0
        assert pool.stats().processes == 1
        assert pool.validate() == []


# ------------------------------------------------------------- every operation of an excluded child

# What needs no memory of the pool works there as always: reading what the object itself knows,
# making another object of it, and releasing it.
WORKS = {
    "__bool__", "__class__", "__class_getitem__", "__delattr__", "__dir__", "__enter__", "__eq__",
    "__exit__", "__format__", "__ge__", "__getattribute__", "__gt__", "__hash__", "__init__",
    "__init_subclass__", "__le__", "__lt__", "__ne__", "__new__", "__repr__", "__setattr__",
    "__sizeof__", "__str__", "__subclasshook__", "__weakref__", "create", "of", "open",
}  # fmt: skip
ARGUMENTS = [(), (1,), ("x",), ("x", 1)]


def everything(pool):
    """Make an object of each kind in a pool."""
    queue, stream, frames = pool.queue(), pool.stream(), pool.frames(None, (100,), "u1", 2)
    finishing = pool.queue(redeliver=True)
    finishing.put(1)
    stream_of = stream.subscribe()
    stream.publish(1)
    queue.put(np.arange(1000))
    shared_list, shared_dict = pool.list(), pool.dict()
    shared_list.append(1)
    shared_dict["a"] = 1
    lock, rwlock = pool.lock(), pool.rwlock()
    lock.acquire()
    pool["a"] = np.arange(1000)
    return [  # the pool last: with it all of them are closed
        queue, finishing, finishing.get_message(), stream, stream_of, frames,
        pool.put(np.arange(1000)), pool.put(5), lock, pool.lock(), pool.rlock(), rwlock,
        rwlock.read, rwlock.write, pool.semaphore(), pool.bounded_semaphore(), pool.event(),
        pool.condition(), pool.barrier(None, 2), shared_list, shared_dict, pool.value("i", 3),
        pool.member, pool,
    ]  # fmt: skip


LAST = ["release", "_check_size", "_set", "close", "detach"]


def members_of(thing):
    """List the methods and attributes of an object; those that release it come last."""
    names = [name for name, _ in inspect.getmembers_static(type(thing)) if name not in WORKS]
    return sorted(names, key=lambda name: (LAST.index(name) if name in LAST else -1, name))


def attempt(thing, name, arguments):
    """Use it; return the result."""
    try:
        found = getattr(thing, name)
        if not callable(found):
            return "a value"
        found(*arguments)
    except oc.OneCopyError as error:
        return "told" if "no member of the pool" in str(error) else "another error"
    except Exception:  # noqa: BLE001 - the wrong arguments, most of them
        return "another error"
    return "done"


# Every operation that must be refused, whatever its arguments.
REFUSED = {
    "Pool": {"stats", "collect", "validate", "unlink", "flush", "popitem", "__len__"},
    "Queue": {"get", "get_many", "get_nowait", "qsize", "empty", "full", "shutdown", "join"},
    "Stream": {"subscribe", "published", "subscribers"},
    "Frames": {"acquire", "available", "count"},
    "Ref": {"get", "nbytes"},
    "Lock": {"acquire", "release", "locked"},
    "RLock": {"acquire", "release"},
    "Semaphore": {"acquire", "get_value"},
    "Event": {"set", "is_set", "wait", "clear"},
    "List": {"pop", "clear", "__len__", "sort", "reverse"},
    "Dict": {"popitem", "clear", "__len__"},
}


def test_every_operation_in_a_child_without_a_slot_says_so_and_none_crashes():
    with oc.Pool.create(size="16MiB", max_processes=1) as pool:
        things = everything(pool)
        before = pool.stats()
        said, says = os.pipe()
        child = os.fork()
        if child == 0:
            signal.alarm(60)  # an operation that waits would be an error too
            devnull = os.open(os.devnull, os.O_WRONLY)
            os.dup2(devnull, 1)
            with os.fdopen(says, "wb", buffering=0) as out:
                for thing in things:
                    for name in members_of(thing):
                        for arguments in ARGUMENTS:
                            entry = [type(thing).__name__, name, "began"]
                            out.write(pickle.dumps(entry))
                            entry[2] = attempt(thing, name, arguments)
                            out.write(pickle.dumps(entry))
            os._exit(0)
        os.close(says)
        entries = []
        with os.fdopen(said, "rb") as answers:
            while True:
                try:
                    entries.append(pickle.load(answers))
                except EOFError:
                    break
        status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        assert status == 0, f"it ended in {entries[-1]}"
        outcomes = {}
        for kind, name, outcome in entries:
            if outcome != "began":
                outcomes.setdefault(kind, {}).setdefault(name, set()).add(outcome)
        refused = {
            kind: {
                name
                for name, came in outcomes[kind].items()
                if "told" in came and came <= {"told", "another error"}
            }
            for kind in REFUSED
        }
        assert {kind: names & refused[kind] for kind, names in REFUSED.items()} == REFUSED
        assert pool.stats() == before
        assert pool.validate() == []
        things.clear()


def test_values_in_a_child_without_a_slot_are_told_and_not_read():
    with oc.Pool.create(size="16MiB", max_processes=1) as pool:
        value, text = pool.value("i", 3), pool.value("c", b"x")
        child = os.fork()
        if child == 0:
            status = 0
            try:
                for each in (value, text):
                    assert "out of reach" in repr(each)
                    assert "out of reach" in str(each)
                    assert "out of reach" in repr(copy.copy(each))
                    for thing in (each, each.get_obj()):
                        with pytest.raises(oc.OneCopyError):
                            copy.deepcopy(thing)
                    with pytest.raises(oc.OneCopyError):
                        copy.copy(each.get_obj())
            except BaseException:  # noqa: BLE001 - the parent shows that it failed
                traceback.print_exc()
                status = 1
            os._exit(status)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
        assert "3" in repr(value)
