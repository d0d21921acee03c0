"""Wrong arguments raise a TypeError like Python's, with the function and the argument."""

import contextlib
import inspect
import re

import pytest

import onecopy as oc
import onecopy.multiprocessing as omp
from onecopy._core import arguments

# The parameters that accept numbers, in all methods.
NUMBERS = {"count", "depth", "history", "index", "max_items", "maxsize", "n", "parties", "timeout"}
FLAGS = {"immediate", "drop_oldest", "redeliver"}


@pytest.fixture
def things(pool):
    stream = pool.stream("s")
    made = {
        "Queue": pool.queue("q"),
        "Stream": stream,
        "Subscription": stream.subscribe(),
        "Frames": pool.frames("f", (4,), "u1", 2),
        "Lock": pool.lock("l"),
        "RLock": pool.rlock("rl"),
        "RWLock": pool.rwlock("rw"),
        "RWSide": pool.rwlock("rw").read(),
        "Semaphore": pool.semaphore("se", 1),
        "BoundedSemaphore": pool.bounded_semaphore("bs", 1),
        "Event": pool.event("e"),
        "Condition": pool.condition("c"),
        "Barrier": pool.barrier("b", 2),
        "List": pool.list([1]),
        "Dict": pool.dict({"a": 1}),
        "Ref": pool.put([1]),
        "Pool": pool,
    }
    yield made
    made.clear()  # pytest keeps the dict longer than the pool must live


def methods(thing):
    for name in dir(type(thing)):
        found = getattr(type(thing), name)
        # Class methods are Python's own.
        if not name.startswith("_") and inspect.isroutine(found) and not inspect.ismethod(found):
            yield name, getattr(thing, name)


def refused(call, *args, **named):
    with pytest.raises(TypeError) as caught:
        entered(call(*args, **named))
    text = str(caught.value)
    assert "incompatible function arguments" not in text
    return text


def entered(answer):
    """`Frames.lend` checks its argument when the block begins."""
    if isinstance(answer, contextlib.AbstractContextManager):
        answer.__enter__()


def accepts_any_number(parameters):
    kinds = {parameter.kind for parameter in parameters}
    return inspect.Parameter.VAR_POSITIONAL in kinds


def accepts_any_name(parameters):
    return inspect.Parameter.VAR_KEYWORD in {parameter.kind for parameter in parameters}


def test_too_many(things):
    for thing in things.values():
        for name, method in methods(thing):
            parameters = inspect.signature(method).parameters.values()
            if not accepts_any_number(parameters):
                text = refused(method, *[None] * (len(parameters) + 1))
                assert f"{name}()" in text, text
                assert "argument" in text, text


def test_unknown_names(things):
    for thing in things.values():
        for name, method in methods(thing):
            parameters = inspect.signature(method).parameters
            if accepts_any_name(parameters.values()):
                continue
            needed = [
                None for p in parameters.values()
                if p.default is p.empty and p.kind is not p.VAR_POSITIONAL
            ]  # fmt: skip
            text = refused(method, *needed, no_such_name=1)
            assert f"{name}()" in text, text
            if parameters:
                assert "no_such_name" in text, text


def test_missing(things):
    for thing in things.values():
        for name, method in methods(thing):
            needed = [
                p for p in inspect.signature(method).parameters.values()
                if p.default is p.empty and p.kind not in {p.VAR_POSITIONAL, p.VAR_KEYWORD}
            ]  # fmt: skip
            if needed:
                text = refused(method)
                assert f"{name}()" in text, text
                assert f"'{needed[0].name}'" in text, text


class Nothing:
    pass


# For a list and a dict these are values, not numbers.
VALUES = {"List.count", "List.index"}
PLAUSIBLE = {"obj": 1, "iterable": [1], "predicate": lambda: True, "index": 0, "max_items": 1}
CALLS = {"lend": "acquire"}  # methods that pass the argument to another method


def test_wrong_types(things):
    seen = set()
    for cls, thing in things.items():
        for name, method in methods(thing):
            parameters = inspect.signature(method).parameters.values()
            for parameter in parameters:
                if parameter.name not in NUMBERS | FLAGS or f"{cls}.{name}" in VALUES:
                    continue
                others = {
                    p.name: PLAUSIBLE[p.name]
                    for p in parameters
                    if p.default is p.empty and p is not parameter
                }
                for wrong in (Nothing(), "7", b"7", [7]):
                    text = refused(method, **others, **{parameter.name: wrong})
                    assert re.match(rf"\w+\.{CALLS.get(name, name)}\(\) argument ", text), text
                    assert f"'{parameter.name}'" in text, text
                    if wrong == "7" and parameter.name in NUMBERS:
                        assert f"write {parameter.name}=7" in text
                seen.add(f"{cls}.{name}")
    assert {"Queue.get", "Pool.queue", "Stream.subscribe", "Frames.lend", "RWSide.acquire"} <= seen


@pytest.mark.parametrize(
    ("write", "says"),
    [
        (lambda p: p.list("name"), "pool.list(name='name')"),
        (lambda p: p.dict("name"), "pool.dict(name='name')"),
        (lambda p: p.value("v", 0.0), "pool.value('d', 0.0, name='v')"),
        (lambda p: p.frames((10, 10), "uint8", 4), "write shape=(10, 10)"),
        (lambda p: p.queue(100), "write maxsize=100"),
        (lambda p: p.stream(16), "write depth=16"),
        (lambda p: p.stream("s", "lossy"), "write policy='lossy'"),
        (lambda p: p.semaphore(3), "write value=3"),
        (lambda p: p.barrier(3), "write parties=3"),
        (lambda p: p.shared_array("name"), "write name='name'"),
        (lambda p: oc.Executor("2", p), "write max_workers=2"),
        (lambda p: omp.Pool("2"), "write processes=2"),
        (lambda p: oc.Executor(pool=p, initializer=3), "'initializer' must be callable"),
        (lambda p: oc.Barrier(2, timeout="1"), "write timeout=1"),
        (lambda p: p.condition().wait_for(lambda: True, timeout="1"), "write timeout=1"),
        (lambda p: oc.Executor(pool=p, mp_context=3), "'mp_context' must be a context"),
        (lambda p: oc.Executor(pool=p, initargs=5), "write initargs=(5,)"),
        (lambda p: p.value(3), "pool.value('q', 3)"),
        (lambda p: p.value(float), "write 'd'"),
        (lambda p: p.value([1]), "pool.value('d', 0.0)"),
        (lambda p: p.value("d", "v", 0.0), "write pool.value('d', 0.0, name='v')"),
        (lambda p: p.value("i", "v"), "write pool.value('i', name='v')"),
        (lambda p: oc.Value(3), "'typecode_or_type' must be a ctypes type"),
        (lambda p: p.list(5), "Pool.list() argument 'iterable'"),
        (lambda p: p.dict(5), "Pool.dict() argument 'pairs'"),
        (lambda p: oc.List(5), "List() argument 'iterable'"),
        (lambda p: oc.Lock("a"), "pool.lock('a')"),
        (lambda p: oc.RLock("a"), "pool.rlock('a')"),
        (lambda p: oc.Semaphore("a"), "pool.semaphore('a')"),
        (lambda p: oc.BoundedSemaphore("a"), "pool.bounded_semaphore('a')"),
        (lambda p: oc.Event("a"), "pool.event('a')"),
        (lambda p: oc.Condition("a"), "pool.condition('a')"),
        (lambda p: oc.Barrier("a", 2), "pool.barrier('a')"),
        (
            lambda p: oc.Semaphore("3"),
            "Semaphore() argument 'value' must be an integer, not str '3'",
        ),
        (lambda p: p.frames("f", 3, "u1", 1).acquire(block=False), "write timeout=0"),
        (lambda p: p.frames("f", 3, "u1", 1).acquire(blocking=False), "write timeout=0"),
        (lambda p: p.stream().subscribe().get(block=False), "write timeout=0"),
        (lambda p: p.queue().get(blocking=False), "write block=False"),
        (lambda p: p.queue().put(1, blocking=False), "write block=False"),
        (lambda p: oc.Ref(), "made by Pool.put"),
        (lambda p: oc.Subscription(), "made by Stream.subscribe"),
    ],
)
def test_common_mistakes_are_told_what_to_write(pool, write, says):
    assert says in refused(write, pool)


def test_a_rwlock_with_a_name():
    with pytest.raises(ValueError, match=r"pool\.rwlock\('a'\)"):
        oc.RWLock("a")
    with pytest.raises(ValueError, match="did you mean 'writer'"):
        oc.RWLock("writr")


class NamedLock(oc.Lock):
    def __init__(self, label):
        super().__init__()
        self.label = label


def test_a_users_lock_may_take_a_string():
    lock = NamedLock("a")
    assert lock.label == "a"
    assert lock.acquire()
    lock.release()
    with pytest.raises(TypeError, match="got an unexpected keyword argument 'name'"):
        oc.Lock(name="a")
    assert "value" in inspect.signature(oc.Semaphore).parameters


# ------------------------------------------------------------------------------------- supervise


def never(*_args, **_named):
    """A target of a group that is not started."""


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        (
            {"args": 5},
            "'args' must be a tuple or a list, not int 5: for one argument, write args=(5,)",
        ),
        ({"args": "ab"}, "write args=('ab',)"),
        ({"args": {1}}, "'args' must be a tuple or a list, not set"),
        ({"kwargs": 5}, "'kwargs' must be a mapping"),
        ({"kwargs": [("a", 1)]}, "'kwargs' must be a mapping"),
        ({"backoff": "1"}, "write backoff=1"),
        ({"backoff_max": "1"}, "write backoff_max=1"),
        ({"backoff_factor": "2"}, "write backoff_factor=2"),
        ({"window": "60"}, "write window=60"),
        ({"grace": "5"}, "write grace=5"),
        ({"grace": None}, "'grace' must be a number of seconds, not None"),
        ({"max_restarts": "5"}, "write max_restarts=5"),
        ({"on_exit": "x"}, "'on_exit' must be callable"),
        ({"name": 3}, "'name' must be a string"),
        ({"mp_context": 3}, "'mp_context' must be a context of multiprocessing"),
    ],
)
def test_supervise(wrong, says):
    text = refused(oc.supervise, never, restart="never", **wrong)
    assert text.startswith("supervise() argument "), text
    assert says in text


def test_a_queue_that_is_taken_for_the_arguments_is_left_alone(pool):
    queue = pool.queue()
    queue.put("a message")
    assert "write args=(x,)" in refused(oc.supervise, never, args=(queue), restart="never")
    assert queue.get(timeout=0) == "a message"


def done():
    pass


def test_waiting_for_a_group():
    with oc.supervise(done, mp_context="fork") as group:
        assert "WorkerGroup.join() argument 'timeout'" in refused(group.join, timeout="6")
        assert "write timeout=6" in refused(group.stop, timeout="6")
        for wait in (group.join, group.stop):
            with pytest.raises(ValueError, match="timeout"):
                wait(timeout=float("nan"))
        assert group.join(timeout=float("inf"))


# -------------------------------------------------------------------------------------- Executor


@pytest.mark.parametrize("make", [oc.supervise, lambda _, **named: oc.Executor(**named)])
def test_a_start_method_that_there_is_not(make):
    with pytest.raises(ValueError, match=r"mp_context='frok': .*did you mean 'fork'"):
        make(never, mp_context="frok")


def test_map(pool):
    with oc.Executor(1, pool, mp_context="fork") as executor:
        assert "write timeout=1" in refused(executor.map, abs, [1], timeout="1")
        assert "write chunksize=1" in refused(executor.map, abs, [1], chunksize="1")
        assert list(executor.map(abs, [-1])) == [1]  # the start method was wrong
        with pytest.raises(ValueError, match="timeout"):
            executor.map(abs, [1], timeout=float("nan"))
        for endless in (float("inf"), 1e300):
            assert list(executor.map(abs, [-1], timeout=endless)) == [1]
            assert list(executor.map(abs, [-1], timeout=endless, buffersize=1)) == [1]


# ------------------------------------------------------------------------------------------ Pool


@pytest.mark.parametrize("make", [oc.Pool, oc.Pool.create])
@pytest.mark.parametrize("size", ["64MiB", "2gb", "1.5GiB"])
def test_a_size_in_the_place_of_the_name(pool_directory, make, size):
    with pytest.raises(ValueError, match=re.escape(f"write Pool.create(size={size!r})")):
        make(size)
    assert list(pool_directory.iterdir()) == []


def test_a_pool_may_be_called_like_a_size(pool_directory):
    with oc.Pool("64MiB", size="16MiB") as pool, oc.Pool("64MiB") as again:
        assert again == pool
    with oc.Pool("2024") as pool:  # a number without a unit
        assert pool.name == "2024"


def test_a_policy_that_is_nearly_one(pool):
    with pytest.raises(ValueError, match="did you mean 'lossy'"):
        pool.stream(policy="losy")


@pytest.mark.parametrize(
    ("make", "name", "says"),
    [
        (lambda p: p.stream(), "put", "stream.publish(obj)"),
        (lambda p: p.stream(), "get", "stream.subscribe().get()"),
        (lambda p: p.queue(), "publish", "queue.put(obj)"),
        (lambda p: p.stream().subscribe(), "recv", "subscription.get()"),
        (lambda p: p.stream().subscribe(), "get_nowait", "subscription.get(timeout=0)"),
        (lambda p: p.frames("f", 3, "u1", 1), "get", "frames.acquire()"),
        (lambda p: p.frames("f", 3, "u1", 1), "release", "del frame"),
        (lambda p: p.rlock("r"), "aio", "write pool.lock(name).aio"),
        (lambda p: omp.RLock(), "aio", "belongs to a thread"),
        (lambda p: p.rwlock("rw"), "aio", "write pool.lock(name).aio"),
    ],
)
def test_methods_that_are_somewhere_else(pool, make, name, says):
    thing = make(pool)
    assert not hasattr(thing, name)
    assert name not in dir(thing)  # the name that completion offers
    assert {"__init__", "__reduce__"} <= set(dir(thing))
    assert {"close", "detach"} & set(dir(thing))
    with pytest.raises(AttributeError) as caught:
        getattr(thing, name)
    assert says in str(caught.value)
    assert caught.value.name == name
    assert not inspect.isroutine(getattr(type(thing), name))


def test_the_name_is_that_of_the_users_class():
    assert "Mine.get()" in refused(Mine().get, timeout="1")
    assert "Mine() argument 'maxsize'" in refused(Mine, "x")
    assert arguments.called().startswith("test_")  # no code of the package called it


class Mine(oc.Queue):
    pass


def test_a_number_that_is_too_large(pool):
    with pytest.raises(OverflowError, match=r"Queue\.get_many\(\) argument 'max_items'"):
        pool.queue().get_many(1 << 70)


def test_given_twice(pool):
    assert "'obj'" in refused(pool.queue().put, 1, obj=2)


def test_an_object_whose_init_has_not_run():
    text = refused(oc.Queue.__new__(oc.Queue).put, 1)
    assert "Queue.__init__() was not called" in text


def test_another_kind_of_object():
    assert "'Queue'" in refused(oc.Queue.put, 3, 4)
    with pytest.raises(TypeError, match="QueueBase"):
        oc.Queue.maxsize.__get__(3)
