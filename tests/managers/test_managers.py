"""`onecopy.multiprocessing.managers`: as the standard library's, with arrays by reference."""

from __future__ import annotations

import contextlib
import errno
import gc
import os
import pickle
import queue
import signal
import socket
import subprocess
import sys
import threading
from multiprocessing import AuthenticationError, ProcessError, connection, process
from multiprocessing import managers as standard
from pathlib import Path

import children
import namespaces
import numpy as np
import programs
import pytest

import onecopy as oc
from onecopy import multiprocessing as mp
from onecopy._codec.backing import lease_of
from onecopy._core import membership
from onecopy.multiprocessing import _wire, managers
from onecopy.multiprocessing.managers import BaseManager, ServerEnded, SyncManager

pytestmark = pytest.mark.one_in(2)

KEY = b"only for this test"
LARGE = 500_000  # bytes
START_METHODS = ["fork", "forkserver", "spawn"]


@contextlib.contextmanager
def started(address=None, *, kind=SyncManager, start_method="fork", **options):
    """A manager with a server, which leaves no descriptor of its process."""
    manager = kind(address, KEY, ctx=mp.get_context(start_method), **options)
    manager.start()
    server = manager._process
    try:
        yield manager
    finally:
        manager.shutdown()
        server.join()
        server.close()


@pytest.fixture
def manager():
    with started() as manager:
        yield manager


@pytest.fixture
def tcp():
    """A manager that listens on a port."""
    with started(("127.0.0.1", 0)) as manager:
        yield manager


def numbers(count=LARGE // 8):
    return np.random.default_rng(7).random(count)


def by_reference(_array):
    """Tell whether anything has come to this process through the pool in this test."""
    return _wire.arrivals > by_reference.before


by_reference.before = 0


@pytest.fixture(autouse=True)
def _nothing_has_come_yet():
    by_reference.before = _wire.arrivals


# --------------------------------------------------------------------------------- kinds of objects


def use_list(manager):
    items = manager.list([3, 1])
    items.append(2)
    items += [5]
    items *= 2
    items.sort()
    assert items[:] == [1, 1, 2, 2, 3, 3, 5, 5]
    assert len(items) == 8
    assert 2 in items
    assert items.pop() == 5


def use_dict(manager):
    table = manager.dict(a=1)
    table["b"] = 2
    table.update({"c": 3})
    assert sorted(table) == ["a", "b", "c"]
    assert sorted(table.items()) == [("a", 1), ("b", 2), ("c", 3)]
    assert table.copy() == {"a": 1, "b": 2, "c": 3}
    assert list(table.values()) == [1, 2, 3]
    with pytest.raises(KeyError):
        table["d"]


def use_namespace(manager):
    names = manager.Namespace(x=1)
    names.y = 2
    del names.x
    assert str(names) == "Namespace(y=2)"
    with pytest.raises(AttributeError):
        names.x  # noqa: B018 - for its error


def use_value(manager):
    value = manager.Value("i", 3)
    value.value += 1
    assert value.get() == 4


def use_array(manager):
    array = manager.Array("d", [1, 2, 3])
    array[1] = 5
    assert list(array) == [1.0, 5.0, 3.0]
    assert len(array) == 3


def use_queue(manager):
    jobs = manager.Queue(1)
    jobs.put("a")
    with pytest.raises(queue.Full):
        jobs.put_nowait("b")
    assert jobs.get() == "a"
    children.eventually(jobs.empty, "the server to take the other")
    with pytest.raises(queue.Empty):
        jobs.get(timeout=0.01)


def use_joinable_queue(manager):
    jobs = manager.JoinableQueue()
    jobs.put(1)
    jobs.get()
    jobs.task_done()
    jobs.join()


def use_event(manager):
    event = manager.Event()
    assert not event.wait(0)
    event.set()
    assert event.is_set()
    assert event.wait()
    event.clear()
    assert not event.is_set()


def use_lock(manager):
    lock = manager.Lock()
    with lock:
        assert not lock.acquire(False)
    assert lock.acquire()
    lock.release()


def use_rlock(manager):
    lock = manager.RLock()
    with lock, lock:
        pass
    with pytest.raises(RuntimeError):
        lock.release()


def use_semaphore(manager):
    semaphore = manager.Semaphore(1)
    semaphore.release()
    assert semaphore.acquire()
    assert semaphore.acquire()
    assert not semaphore.acquire(False)


def use_bounded_semaphore(manager):
    semaphore = manager.BoundedSemaphore(1)
    with pytest.raises(ValueError, match="released too many times"):
        semaphore.release()


def use_condition(manager):
    condition, done = manager.Condition(), []

    def wait():
        with condition:
            condition.notify_all()
            done.append(condition.wait(children.LIMIT))

    with condition:
        waiter = threading.Thread(target=wait)
        waiter.start()
        assert condition.wait(children.LIMIT)
        condition.notify()
    waiter.join()
    assert done == [True]


def use_barrier(manager):
    barrier = manager.Barrier(2)
    waiter = threading.Thread(target=barrier.wait)
    waiter.start()
    barrier.wait()
    waiter.join()
    assert (barrier.parties, barrier.n_waiting, barrier.broken) == (2, 0, False)


def use_pool(manager):
    with manager.Pool(2) as workers:
        assert workers.map(abs, [-1, 2, -3]) == [1, 2, 3]
        assert workers.apply_async(abs, (-4,)).get() == 4
        assert sorted(workers.imap_unordered(abs, [-1, -2])) == [1, 2]
    with manager.Pool(1, remember, ("told",)) as workers:
        assert workers.apply(abs, (-1,)) == 1
    with pytest.raises(managers.RemoteError, match="initializer must be a callable"):
        manager.Pool(1, "no function")


KINDS = {
    "list": use_list,
    "dict": use_dict,
    "Namespace": use_namespace,
    "Value": use_value,
    "Array": use_array,
    "Queue": use_queue,
    "JoinableQueue": use_joinable_queue,
    "Event": use_event,
    "Lock": use_lock,
    "RLock": use_rlock,
    "Semaphore": use_semaphore,
    "BoundedSemaphore": use_bounded_semaphore,
    "Condition": use_condition,
    "Barrier": use_barrier,
    "Pool": use_pool,
}


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_of_object_works(manager, kind):
    KINDS[kind](manager)


def test_all_kinds_of_the_standard_library_are_there_and_their_proxies_are_ours():
    assert SyncManager._registry.keys() == standard.SyncManager._registry.keys()
    for typeid, (_, _, _, proxytype) in SyncManager._registry.items():
        assert proxytype.__module__ == "onecopy.multiprocessing.managers", typeid
        assert hasattr(SyncManager, typeid) == hasattr(standard.SyncManager, typeid)
    assert {*KINDS, "Iterator", "AsyncResult"} == SyncManager._registry.keys()


@pytest.mark.parametrize("start_method", START_METHODS)
def test_a_manager_starts_by_every_method(start_method):
    with started(start_method=start_method) as manager:
        items = manager.list([1])
        items.append(numbers())
        assert by_reference(items[1])
        assert np.array_equal(items[1], numbers())


def test_what_is_ours_is_also_the_standard_librarys(manager):
    items = manager.list()
    assert isinstance(manager, standard.SyncManager)
    assert isinstance(items, standard.ListProxy)
    assert isinstance(items, managers.BaseProxy)
    assert managers.Token is standard.Token
    assert managers.RemoteError is standard.RemoteError
    assert set(standard.__all__) <= set(managers.__all__)
    assert managers.SharedMemoryManager is not standard.SharedMemoryManager


def test_proxies_may_be_nested(manager):
    inner = manager.dict(a=1)
    outer = manager.list([inner, [inner]])
    outer[0]["b"] = numbers()
    del inner
    assert type(outer[0]) is managers.DictProxy
    assert outer[1][0]["a"] == 1
    assert by_reference(outer[1][0]["b"])
    assert manager._number_of_objects() == 1  # the server itself keeps the dict
    del outer[:]
    assert manager._number_of_objects() == 1


class Counter:
    def __init__(self, start=0):
        self._value = start

    def up(self, by=1):
        self._value += by
        return self._value

    def steps(self, count):
        return iter(range(self._value, self._value + count))

    def fail(self):
        raise LookupError(self._value)

    def unpicklable(self):
        return threading.Lock()


class Sieve(managers.BaseProxy):
    _exposed_ = ("__next__",)

    def __iter__(self):
        return self

    def __next__(self):
        return self._callmethod("__next__")


class Theirs(standard.BaseProxy):
    """What somebody has derived from the standard library's."""

    _exposed_ = ("up",)

    def up(self):
        return self._callmethod("up")


class Counters(BaseManager):
    pass


Counters.register("Theirs", Counter, Theirs)


Counters.register("Counter", Counter)
Counters.register(
    "Stepper",
    Counter,
    exposed=("steps", "up"),
    method_to_typeid={"steps": "Sieve"},
)
Counters.register("Sieve", proxytype=Sieve, create_method=False)


def test_types_may_be_registered():
    with started(kind=Counters) as manager:
        counter = manager.Counter(start=5)
        assert (counter.up(), counter.up(by=2)) == (6, 8)
        with pytest.raises(LookupError, match="8"):
            counter.fail()
        with pytest.raises(managers.RemoteError, match="pickle"):
            counter.unpicklable()
        assert counter.up() == 9
        stepper = manager.Stepper(2)
        assert list(stepper.steps(3)) == [2, 3, 4]
        assert not hasattr(stepper, "fail")
        twin = managers.AutoProxy(counter._token, "pickle", authkey=KEY)
        assert twin.up() == 10
        assert not hasattr(manager, "Sieve")


def count_up(proxy):
    assert proxy.up() == 1


def test_proxies_derived_from_the_standard_librarys_work_and_travel(start):
    with started(kind=Counters) as manager:
        theirs = manager.Theirs()
        for method in START_METHODS:  # where nobody has imported ours before
            child = start(method, count_up, theirs)
            assert child.wait() == 0
            theirs = manager.Theirs()


def test_objects_go_when_no_proxy_is_left(manager):
    first = manager.list([numbers()])
    assert manager._number_of_objects() == 1
    assert str(first).startswith("[array(")
    del first
    assert manager._number_of_objects() == 0
    children.eventually(lambda: children.used(oc.default_pool()) == 0, "its memory to be free")


def test_xmlrpclib_is_another_way_to_talk():
    with started(("127.0.0.1", 0), kind=Counters, serializer="xmlrpclib") as manager:
        assert manager.Counter().up() == 1


# ------------------------------------------------------------------------------------- by reference


def test_what_is_put_and_what_comes_back_is_copied_once_each(manager):
    items, array = manager.list(), numbers()
    items.append(array)
    by_reference(None)
    array[0] = -1
    back = items[0]
    assert by_reference(back)
    assert back.flags.writeable
    assert back[0] != -1
    back[1] = -2
    assert items[0][1] != -2
    again = items[0]
    assert np.array_equal(again[2:], array[2:])
    back = again = None
    assert items.pop()[1] == array[1]


def test_an_array_of_the_pool_is_not_copied_at_all(manager):
    items, array = manager.list(), oc.empty((250, 250))
    array[...] = 7
    items.append(array)
    assert not array.flags.writeable
    back = items[0]
    assert np.array_equal(back, array)
    assert not back.flags.writeable
    assert lease_of(back).handle == lease_of(array).handle
    items.append(array[::-2, 5:])
    assert np.array_equal(items[1], array[::-2, 5:])
    assert lease_of(items[1]).handle == lease_of(array).handle
    items.append(oc.array([1, 2, 3]))  # small ones too
    assert by_reference(items[2])


def test_a_shared_array_is_the_same_memory_everywhere(manager):
    items, grid = manager.list(), oc.shared_array((300, 300))
    items.append(grid)
    items[0][5, 5] = 3
    assert grid[5, 5] == 3
    assert type(items[0]) is oc.SharedArray
    assert items.pop()[5, 5] == 3


@pytest.mark.parametrize(
    "array",
    [
        np.asfortranarray(numbers().reshape(250, -1)),
        numbers().reshape(250, -1)[::-1, ::2],
        np.arange(LARGE // 8).astype(">i8"),
        np.arange(LARGE // 8).astype("M8[s]"),
        np.zeros(LARGE // 16, [("a", "f8"), ("b", "<i4"), ("c", ">i4")]),
        np.arange(100, dtype=">i4").reshape(10, 10).T,
        np.array(["a", {"b": 1}], dtype=object),
        np.zeros((0, 5)),
        np.array(5.0),
        np.ma.masked_array(numbers(), numbers() > 0.5),
    ],
    ids=lambda array: f"{array.dtype}-{array.shape}",
)
def test_arrays_of_all_kinds_arrive_equal(manager, array):
    box = manager.list([array])
    for back in (box[0], box[:][0]):
        assert back.dtype in (array.dtype, array.dtype.newbyteorder("="))  # as numpy's pickles
        assert back.shape == array.shape
        assert np.array_equal(back, array)
        assert back.flags.writeable


def test_an_array_that_may_only_be_read_arrives_as_a_copy(manager):
    array = numbers()
    array.flags.writeable = False
    small = np.arange(5)
    small.flags.writeable = False
    for back in manager.list([array, small])[:]:
        back[0] = 1
    assert array[0] != 1


def test_arrays_are_found_wherever_they_are(manager):
    array = numbers()
    table = manager.dict({"made with": array}, keyword=array)
    table.update({"deep": [({"here": array},)]})
    table["twice"] = [array, array]
    for back in (
        table["made with"],
        table["keyword"],
        table["deep"][0][0]["here"],
        *(value for value in table.values()[:2]),
        dict(table.items())["keyword"],
        table.copy()["made with"],
    ):
        assert by_reference(back)
        assert np.array_equal(back, array)
    first, second = table["twice"]
    assert first is second
    names = manager.Namespace(picture=array)
    assert by_reference(names.picture)


class Buffer:
    """An object of another library: its data is a buffer."""

    def __init__(self, data):
        self.data = data

    def __reduce_ex__(self, protocol):
        return Buffer, (pickle.PickleBuffer(self.data),)


def test_buffers_of_other_objects_go_by_reference_too(manager):
    items = manager.list([Buffer(bytearray(b"ab" * LARGE)), Buffer(b"small"), Buffer(b"c" * LARGE)])
    first, second, third = items[:]
    assert bytes(first.data) == b"ab" * LARGE
    assert bytes(second.data) == b"small"
    assert bytes(third.data) == b"c" * LARGE
    assert by_reference(np.frombuffer(first.data, np.uint8))
    assert by_reference(np.frombuffer(third.data, np.uint8))
    assert second.data == b"small"


def test_a_full_pool_is_no_error_the_bytes_follow(manager):
    pool = oc.default_pool()
    filler = []
    with contextlib.suppress(oc.PoolFull):
        while True:
            filler.append(pool.empty(1 << 22, "u1"))
    with contextlib.suppress(oc.PoolFull):
        while True:
            filler.append(pool.empty(LARGE // 2, "u1"))
    items = manager.list([numbers()])
    items.append(Buffer(bytearray(LARGE)))
    back = items[0]
    assert not by_reference(back)
    assert np.array_equal(back, numbers())
    assert items[1].data == bytearray(LARGE)
    filler.clear()
    children.eventually(lambda: by_reference(items[0]), "room")


def put_and_check(address, key, expected):
    """Be a client: put an array, get it back, and say how it came."""
    client = SyncManager(address, key)
    client.connect()
    items = client.list([numbers()])
    items.append(numbers())
    for index in range(2):
        back = items[index]
        assert np.array_equal(back, numbers())
        assert back.flags.writeable
        assert ("by reference" if by_reference(back) else "bytes") == expected, expected


def nest(address, key):
    client = SyncManager(address, key)
    client.connect()
    outer = client.dict({"deep": client.list([numbers()])})
    assert process.current_process().authkey != key
    assert np.array_equal(outer["deep"][0], numbers())
    outer["auto"] = client.Queue()
    outer["auto"].put(1)
    assert outer["auto"].get() == 1


def test_a_proxy_that_comes_from_a_server_knows_the_servers_key(tcp, start):
    assert start("stranger", nest, tcp.address, KEY).wait() == 0


def test_a_client_that_is_no_relative_gets_arrays_by_reference(tcp, start):
    assert start("stranger", put_and_check, tcp.address, KEY, "by reference").wait() == 0
    children.eventually(lambda: children.used(oc.default_pool()) == 0, "its memory to be free")


def test_a_client_with_another_pool_of_its_own_still_uses_the_servers(tcp, start):
    assert start("stranger", with_a_pool_first, tcp.address, KEY).wait() == 0


def with_a_pool_first(address, key):
    mine = oc.default_pool()
    client = SyncManager(address, key)
    client.connect()
    array = oc.array(numbers())
    items = client.list()
    items.append(array)
    back = items[0]
    assert np.array_equal(back, array)
    assert by_reference(back)
    assert mine.stats().used > 0
    array[0] = 5  # it was copied into the other pool: it is still ours
    assert items[0][0] != 5


def test_where_the_client_looks_for_pools_elsewhere_the_bytes_follow(tcp, start, tmp_path):
    before = oc.default_pool().stats().used
    assert start("stranger", elsewhere, str(tmp_path), tcp.address, KEY).wait() == 0
    assert oc.default_pool().stats().used == before


def elsewhere(directory, address, key):
    os.environ["ONECOPY_DIR"] = directory
    put_and_check(address, key, "bytes")


def run_inside(command, address, expected):
    code = (
        "import sys; sys.path[:0] = eval(sys.argv[1])\n"
        "import test_managers as t\n"
        "t.put_and_check(eval(sys.argv[2]), t.KEY, sys.argv[3])"
    )
    done = subprocess.run(
        [*command, sys.executable, "-c", code, repr(sys.path), repr(address), expected],
        capture_output=True,
        text=True,
        timeout=children.LIMIT,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")


def test_on_what_looks_like_another_machine_the_bytes_follow(manager, pool_directory):
    run_inside(namespaces.small("16m", pool_directory), manager.address, "bytes")


def test_another_network_is_no_other_machine(manager):
    run_inside(namespaces._unshare("--net"), manager.address, "by reference")


# --------------------------------------------------------------------- the standard library's peers

PLAIN = """
import sys, multiprocessing
from multiprocessing.managers import SyncManager, ListProxy, Token
import numpy as np
key = b"only for this test"
"""

PLAIN_SERVER = """
server = SyncManager(("127.0.0.1", 0), key).get_server()
print(server.address[1], flush=True)
server.serve_forever()
"""

PLAIN_CLIENT = """
multiprocessing.current_process().authkey = key
client = SyncManager(("127.0.0.1", int(sys.argv[1])), key)
client.connect()
array = np.arange(100_000)
items = client.list([array])
items.append(client.list([array]))
assert np.array_equal(items[0], array)
items[0][0] = 7
assert type(items[1]) is ListProxy and np.array_equal(items[1][0], array)
theirs = ListProxy(Token('list', client.address, sys.argv[2]), 'pickle', authkey=key)
assert type(theirs[0]) is ListProxy, type(theirs[0])
assert np.array_equal(theirs[0][0], array) and np.array_equal(theirs[1], array)
assert not [name for name in sys.modules if name.startswith("onecopy")]
"""


def test_a_plain_client_uses_our_server():
    with started(("127.0.0.1", 0)) as manager:
        array = np.arange(100_000)
        shared = manager.list([manager.list([array]), array])
        done = subprocess.run(
            [sys.executable, "-c", PLAIN + PLAIN_CLIENT, str(manager.address[1]), shared._id],
            capture_output=True,
            text=True,
            timeout=children.LIMIT,
            check=False,
        )
        assert (done.returncode, done.stderr) == (0, "")
        assert type(shared[0]) is managers.ListProxy  # and to ours it is still ours


def test_our_client_uses_a_plain_server(monkeypatch):
    # Proxies of the standard library take the process's key for everybody's.
    monkeypatch.setitem(process.current_process()._config, "authkey", KEY)
    server = subprocess.Popen(
        [sys.executable, "-c", PLAIN + PLAIN_SERVER], stdout=subprocess.PIPE, text=True
    )
    try:
        client = SyncManager(("127.0.0.1", int(server.stdout.readline())), KEY)
        client.connect()
        array = numbers()
        items = client.list([array])
        items.append(client.dict(deep=array))
        assert np.array_equal(items[0], array)
        assert not by_reference(items[0])
        assert type(items[1]) is standard.DictProxy  # as its pickle said that went there
        assert np.array_equal(items[1]["deep"], array)
        array_of_pool = oc.array(array)
        items.append(array_of_pool)
        assert array_of_pool.flags.writeable  # it was copied
        use_queue(client)
        del items
        server.kill()
        with pytest.raises(ServerEnded):
            client.list()
    finally:
        server.kill()
        server.wait()
        server.stdout.close()


# ------------------------------------------------------------------------------------------- errors


def test_a_wrong_key_is_refused_and_the_server_goes_on(tcp):
    with pytest.raises(AuthenticationError):
        SyncManager(tcp.address, b"wrong").connect()
    with pytest.raises(TypeError):
        managers.listener_client[_wire.SERIALIZER][1](tcp.address, authkey="no bytes")
    assert tcp.list([1])[0] == 1


def test_nothing_is_unpickled_of_a_peer_without_the_key(tcp, tmp_path):
    told = tmp_path / "told"
    with socket.create_connection(tcp.address) as caller:
        bomb = pickle.dumps(Bomb(told))
        caller.sendall(len(bomb).to_bytes(4, "big") + bomb)
        caller.shutdown(socket.SHUT_WR)
        while caller.recv(4096):
            pass
    assert tcp.list([1])[0] == 1
    assert not told.exists()


class Bomb:
    def __init__(self, path):
        self._path = path

    def __reduce__(self):
        return Path.touch, (self._path,)


class StandIn:
    """Stands for what is not there."""

    def __init__(self, pool, block):
        self._arguments = pool, block

    def __reduce__(self):
        return _wire.arrive, self._arguments


def test_a_stand_in_for_nothing_is_an_error_and_the_server_goes_on(manager):
    items, pool = manager.list([1]), membership.handle_of(oc.default_pool().member)
    for lie, error in (
        (StandIn(pool, 77), "StaleRef"),
        (StandIn(pool, -1), "StaleRef"),
        (StandIn((bytes(16), "/nowhere/at all", False), 77), "PoolNotFound"),
        (StandIn((b"short", pool[1], False), 77), "PoolNotFound"),
    ):
        with pytest.raises(managers.RemoteError, match=error):
            items.append(lie)
    assert items[:] == [1]
    assert oc.default_pool().validate() == []


def test_nobody_at_the_address(tmp_path):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        with pytest.raises(ConnectionRefusedError):
            SyncManager(taken.getsockname(), KEY).connect()
    with pytest.raises(FileNotFoundError):
        SyncManager(str(tmp_path / "socket"), KEY).connect()


def test_somebody_else_at_the_address(monkeypatch):
    monkeypatch.setattr(_wire, "PATIENCE", 1)
    with socket.create_server(("127.0.0.1", 0)) as listening:

        def talk():
            with contextlib.suppress(OSError):
                while True:
                    caller, _ = listening.accept()
                    with caller:
                        caller.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n")

        with pytest.raises(TimeoutError, match="has not answered for 1 s: is it a manager"):
            SyncManager(listening.getsockname(), KEY).connect()
        listening.accept()[0].close()
        talker = threading.Thread(target=talk)
        talker.start()
        with pytest.raises(ConnectionError, match="is no manager"):
            SyncManager(listening.getsockname(), KEY).connect()
        listening.shutdown(socket.SHUT_RDWR)
        talker.join()


def test_a_caller_that_says_nothing_is_sent_away(monkeypatch):
    monkeypatch.setattr(_wire, "PATIENCE", 1)
    with (
        started(("127.0.0.1", 0)) as manager,
        socket.create_connection(manager.address) as caller,
    ):
        while caller.recv(4096):
            pass
        assert manager.list([1])[0] == 1


def test_states_of_a_manager():
    manager = SyncManager(authkey=KEY, ctx=mp.get_context("fork"))
    with pytest.raises(TypeError, match="callable"):
        manager.start("no function")
    manager.start(remember, ("told",))
    assert manager.Namespace().__class__ is managers.NamespaceProxy
    for again in (manager.start, manager.get_server):
        with pytest.raises(ProcessError, match="Already started"):
            again()
    server = manager._process
    manager.shutdown()
    manager.shutdown()
    manager.join()
    server.close()
    for again in (manager.start, manager.get_server, manager.__enter__):
        with pytest.raises(ProcessError, match="shut down"):
            again()


def remember(word):
    assert word == "told"


def test_a_server_that_cannot_start_is_an_error(tcp, capfd):
    with pytest.raises(EOFError):
        SyncManager(tcp.address, KEY, ctx=mp.get_context("fork")).start()
    assert "Address already in use" in capfd.readouterr().err


# ------------------------------------------------------------------------------------------- deaths


def server_of(manager):
    return manager._process.pid


@pytest.mark.parametrize("where", [None, ("127.0.0.1", 0)], ids=["socket", "port"])
def test_when_the_server_is_killed_every_proxy_says_so(where):
    with started(where) as manager:
        kill_and_look(manager)


def kill_and_look(manager):
    jobs, items, idle = manager.Queue(), manager.list([numbers()]), manager.dict()
    workers = manager.Pool(1)  # its processes have what the server had open when they began
    back = items[0]
    heard = []

    def wait():
        try:
            jobs.get()
        except BaseException as error:  # noqa: BLE001 - the test looks at it
            heard.append(error)

    waiter = threading.Thread(target=wait)
    waiter.start()
    children.eventually(lambda: in_recv(waiter.ident), "it to wait")
    os.kill(server_of(manager), signal.SIGKILL)
    waiter.join(children.LIMIT)
    assert [type(error) for error in heard] == [ServerEnded]
    for call in (items.pop, lambda: items[0], lambda: idle["a"], lambda: workers.map(abs, [1])):
        with pytest.raises(ServerEnded, match="has ended: it was shut down, or killed") as caught:
            call()
        assert isinstance(caught.value, ConnectionError | EOFError)
        assert repr(manager.address) in str(caught.value)
    assert np.array_equal(back, numbers())  # what was received stays
    with pytest.raises((ConnectionRefusedError, FileNotFoundError)):
        SyncManager(manager.address, KEY).connect()
    manager.shutdown()
    del back
    # The workers, which had what the server had, end when they see that it has ended.
    children.eventually(lambda: children.used(oc.default_pool()) == 0, "its memory to be free")


OUT_OF_REACH = ["ETIMEDOUT", "EHOSTUNREACH", "ENETUNREACH", "ENETDOWN"]


# What is pickled for a connection is a view of a BytesIO. The collector may come to that first when
# both are garbage, and it then complains.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.parametrize("name", OUT_OF_REACH)
@pytest.mark.parametrize("where", ["_send", "_recv"])
def test_a_machine_that_is_gone_is_the_end_too(monkeypatch, tcp, name, where):
    """What the kernel says when nothing is acknowledged, or no probe is answered."""
    items = tcp.list([1])
    assert items[0] == 1
    number = getattr(errno, name)

    def fail(*_):
        raise OSError(number, os.strerror(number))

    with monkeypatch.context() as patch:
        patch.setattr(connection.Connection, where, fail)
        with pytest.raises(ServerEnded, match=f"out of reach .{os.strerror(number)}") as caught:
            items[0]
    assert repr(tcp.address) in str(caught.value)
    assert caught.value.__cause__.errno == number
    assert items[0] == 1  # it was not; the proxy does not know better than the kernel


@pytest.mark.parametrize("name", OUT_OF_REACH)
def test_a_machine_that_cannot_be_reached_any_more_is_the_end(monkeypatch, tcp, name):
    items = tcp.list([1])
    number = getattr(errno, name)

    def fail(*_):
        raise OSError(number, os.strerror(number))

    with monkeypatch.context() as patch:
        patch.setattr(socket.socket, "connect", fail)
        with pytest.raises(ServerEnded, match="out of reach"):
            tcp.list()
        with pytest.raises(OSError, match=os.strerror(number)) as caught:
            SyncManager(tcp.address, KEY).connect()  # it was never there, as far as we know
        assert not isinstance(caught.value, ServerEnded)
    assert items[0] == 1


def test_other_errors_of_a_connection_stay_what_they_are(monkeypatch, manager):
    items = manager.list([1])
    assert items[0] == 1

    def fail(*_):
        raise OSError(errno.EIO, "broken")

    with monkeypatch.context() as patch:
        patch.setattr(connection.Connection, "_recv", fail)
        with pytest.raises(OSError, match="broken") as caught:
            items[0]
    assert caught.type is OSError
    assert items[0] == 1


def test_silence_is_noticed_at_both_ends(tcp):
    """Within two minutes, whether something is on its way or not."""
    items = tcp.list([1])
    assert items[0] == 1
    ends = [items._tls.connection.fileno()]
    with _wire.Listener(("127.0.0.1", 0), authkey=None) as listener:
        ours = threading.Thread(target=lambda: accepted.append(listener.accept()))
        accepted = []
        ours.start()
        with _wire.Client(listener.address) as caller:
            ours.join()
            ends += [caller.fileno(), accepted[0].fileno()]
            for end in ends:
                with socket.socket(fileno=os.dup(end)) as sock:
                    give = {
                        name: sock.getsockopt(socket.IPPROTO_TCP, getattr(socket, name))
                        for name in ("TCP_KEEPIDLE", "TCP_KEEPINTVL", "TCP_KEEPCNT")
                    }
                    assert sock.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE)
                    assert sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT) == 120_000
                probes = give["TCP_KEEPINTVL"] * give["TCP_KEEPCNT"]
                assert give["TCP_KEEPIDLE"] + probes == 120
        accepted[0].close()


class Maker:
    """Gives large results, and keeps none."""

    def one(self, count):
        return np.zeros(count, np.uint8)

    def make(self, count):
        return {"a": np.zeros(count, np.uint8), "b": [np.ones(count, np.uint8)]}

    def fail(self, count):
        raise ValueError(np.zeros(count, np.uint8))

    def spoil(self, count):
        return np.zeros(count, np.uint8), Unloadable()


class Unloadable:
    def __reduce__(self):
        return int, ("no number",)


class Makers(BaseManager):
    pass


Makers.register("Maker", Maker)


def test_a_connection_that_idles_keeps_no_result_in_the_pool():
    """The client says that it has got it; it need not ask for something else first."""
    with started(kind=Makers) as manager:
        maker = manager.Maker()
        got, let_go = queue.Queue(), threading.Event()

        def idle_after(call):
            with contextlib.suppress(ValueError):
                call(LARGE)
            got.put(None)
            let_go.wait()

        calls = [maker.make] * 3 + [maker.fail, maker.spoil]
        threads = [threading.Thread(target=idle_after, args=(call,)) for call in calls]
        for thread in threads:
            thread.start()
        for _ in threads:
            got.get()

        def is_empty():
            gc.collect()  # an error, its traceback and what is in the frames are a cycle
            return oc.default_pool().stats().used == 0

        try:
            children.eventually(is_empty, "the pool to be empty")
        finally:
            let_go.set()
            for thread in threads:
                thread.join()
        result = maker.make(LARGE)
        assert maker.make(LARGE)["b"][0].all()  # the connection goes on
        assert result["b"][0].all()
        assert not result["a"].any()


def test_a_server_that_ends_between_answer_and_acknowledgement(monkeypatch):
    """The answer is there; the next request hears of the end."""
    with started(kind=Makers) as manager:
        maker = manager.Maker()
        maker.one(1)
        arrive = _wire.arrive

        def arrive_and_kill(*arguments):
            array = arrive(*arguments)
            os.kill(server_of(manager), signal.SIGKILL)
            manager._process.join()
            return array

        monkeypatch.setattr(_wire, "arrive", arrive_and_kill)
        assert not maker.one(LARGE).any()
        with pytest.raises(ServerEnded):
            maker.one(1)


def test_proxies_after_shutdown_say_so(manager):
    items = manager.list([1])
    assert items[0] == 1
    manager.shutdown()
    heard = []

    def use():
        with pytest.raises(ServerEnded):
            items[0]
        heard.append(True)

    use()
    thread = threading.Thread(target=use)  # has no connection yet
    thread.start()
    thread.join()
    assert heard == [True, True]


def test_a_client_that_dies_leaves_nothing(tcp, start):
    event = tcp.Event()
    client = start("stranger", hold_much, tcp.address, KEY, event._id)
    event.wait(children.LIMIT)
    client.kill()
    children.eventually(lambda: children.used(oc.default_pool()) < LARGE * 1.1, "its memory")


def hold_much(address, key, ident):
    process.current_process().authkey = key
    client = SyncManager(address, key)
    client.connect()
    items = client.list([numbers()])
    held = [items[0] for _ in range(5)]
    managers.EventProxy(managers.Token("Event", address, ident), "pickle", authkey=key).set()
    assert held
    signal.pause()


STARTER = """
from multiprocessing import Process
from onecopy import multiprocessing as mp
if __name__ == "__main__":
    manager = mp.get_context({method!r}).Manager()
    if {method!r} == "fork":  # a brother that has all descriptors that its parent had
        brother = mp.get_context("fork").Process(target=signal.pause)
        brother.start()
        print(brother.pid, flush=True)
    print(manager._process.pid, flush=True)
    signal.pause()
"""


@pytest.mark.parametrize("start_method", START_METHODS)
def test_a_server_ends_when_its_starter_is_killed(start_method, tmp_path):
    script = tmp_path / "starter.py"
    script.write_text("import signal\n" + STARTER.format(method=start_method))
    starter = subprocess.Popen([sys.executable, script], stdout=subprocess.PIPE, text=True)
    try:
        brother = int(starter.stdout.readline()) if start_method == "fork" else None
        server = int(starter.stdout.readline())
        assert Path(f"/proc/{server}").exists()
    finally:
        starter.kill()
        starter.wait()
        starter.stdout.close()
    children.eventually(lambda: not children.running(server), "the server to end")
    if brother is not None:
        assert children.running(brother)
        os.kill(brother, signal.SIGKILL)


def test_without_pidfds_a_server_still_notices(tmp_path):
    script = tmp_path / "starter.py"
    script.write_text(WITHOUT_PIDFDS)
    starter = subprocess.Popen([sys.executable, script], stdout=subprocess.PIPE, text=True)
    try:
        server = int(starter.stdout.readline())
    finally:
        starter.kill()
        starter.wait()
        starter.stdout.close()
    children.eventually(lambda: not children.running(server), "the server to end")


WITHOUT_PIDFDS = """
import os, signal
from onecopy import multiprocessing as mp

def refuse(*_):
    raise PermissionError

os.pidfd_open = refuse
manager = mp.get_context("fork").Manager()
print(manager._process.pid, flush=True)
signal.pause()
"""


def test_a_server_on_its_own_outlives_whoever_began_it(start):
    program = programs.Running(
        """
        from onecopy.multiprocessing.managers import SyncManager
        server = SyncManager(("127.0.0.1", 0), b"only for this test").get_server()
        if os.fork():
            os._exit(0)
        print(server.address[1], flush=True)
        server.serve_forever()
        """,
        holding=False,
    )
    port = int(program._process.stdout.readline())
    client = SyncManager(("127.0.0.1", port), KEY)
    client.connect()
    items = client.list([numbers()])
    assert np.array_equal(items[0], numbers())
    del items
    managers.dispatch(client._Client(client.address, authkey=KEY), None, "shutdown")
    assert program.end() == (0, "")


def test_an_interrupted_call_leaves_the_proxy_usable(manager):
    jobs, main = manager.Queue(), threading.main_thread().ident
    assert jobs.empty()  # this thread has its connection now

    def interrupt():
        children.eventually(lambda: in_recv(main), "it to wait")
        signal.pthread_kill(main, signal.SIGINT)

    helper = threading.Thread(target=interrupt)
    before = signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell may have it ignored
    try:
        helper.start()
        with pytest.raises(KeyboardInterrupt):
            jobs.get()
        helper.join()
    finally:
        signal.signal(signal.SIGINT, before)
    for _ in range(2):  # the call that was broken off takes one: the server is still at it
        jobs.put("a")
    assert jobs.get() == "a"
    children.eventually(jobs.empty, "the server to take the other")


def in_recv(ident):
    frame = sys._current_frames()[ident]
    names = set()
    while frame is not None:
        names.add(frame.f_code.co_name)
        frame = frame.f_back
    return "_recv" in names


# ---------------------------------------------------------------------------------- other processes


def add_one(items, event):
    array = items[0]
    items.append(array + 1)
    event.set()


@pytest.mark.parametrize("start_method", START_METHODS)
def test_proxies_go_to_children(start_method):
    context = mp.get_context(start_method)
    with started(start_method=start_method) as manager:
        items, event = manager.list([numbers()]), manager.Event()
        child = context.Process(target=add_one, args=(items, event))
        child.start()
        assert event.wait(children.LIMIT)
        child.join()
        child.close()
        assert np.array_equal(items[1], numbers() + 1)
        assert by_reference(items[1])


def test_a_child_made_by_hand_has_a_connection_of_its_own(manager):
    items = manager.list([numbers()])
    assert items[0].shape == numbers().shape
    child = os.fork()
    if child == 0:
        try:
            before = items._tls.connection
            right = np.array_equal(items[0], numbers()) and items._tls.connection is not before
            os._exit(0 if right else 1)
        finally:
            os._exit(2)
    assert np.array_equal(items[0], numbers())  # at the same time
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


def test_threads_have_connections_of_their_own(manager):
    items, errors = manager.list([numbers()]), []

    def use():
        try:
            for _ in range(20):
                assert np.array_equal(items[0], numbers())
        except BaseException as error:  # noqa: BLE001 - the test looks at it
            errors.append(error)

    threads = [threading.Thread(target=use) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert errors == []


def serve_in_a_thread():
    server = SyncManager(authkey=KEY).get_server()

    def serve():
        with contextlib.suppress(SystemExit):
            server.serve_forever()

    thread = threading.Thread(target=serve)
    thread.start()
    client = SyncManager(server.address, KEY)
    client.connect()
    items = client.list([numbers()])
    back = items[0]
    back[0] = 9
    assert by_reference(back)
    assert items[0][0] != 9
    del items
    managers.dispatch(client._Client(server.address, authkey=KEY), None, "shutdown")
    thread.join()


def test_a_server_may_be_run_in_a_thread_of_its_client(start):
    assert start("stranger", serve_in_a_thread).wait() == 0
