"""Servers and clients of managers that end, are killed, or cannot be reached any more."""

from __future__ import annotations

import contextlib
import errno
import gc
import os
import queue
import signal
import socket
import subprocess
import sys
import threading
from multiprocessing import connection, process
from pathlib import Path

import children
import numpy as np
import programs
import pytest
from serving import KEY, LARGE, START_METHODS, numbers, started

import onecopy as oc
from onecopy.multiprocessing import _wire, _wire_objects, managers
from onecopy.multiprocessing.managers import BaseManager, ServerEnded, SyncManager

pytestmark = pytest.mark.one_in(2)


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
    # The workers, which had the server's descriptors, end when they see that it has ended.
    children.eventually(lambda: children.used(oc.default_pool()) == 0, "its memory to be free")


OUT_OF_REACH = ["ETIMEDOUT", "EHOSTUNREACH", "ENETUNREACH", "ENETDOWN"]


# What is pickled for a connection is a view of a BytesIO. The garbage collector may free the
# BytesIO first when both are garbage, which causes a warning.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.parametrize("name", OUT_OF_REACH)
@pytest.mark.parametrize("where", ["_send", "_recv"])
def test_a_machine_that_is_gone_is_the_end_too(monkeypatch, tcp, name, where):
    """The kernel's error when no packet is acknowledged, or no probe is answered."""
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
    assert items[0] == 1  # it was not; the proxy knows only what the kernel reports


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
            SyncManager(tcp.address, KEY).connect()  # it never existed, as far as we know
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
    """Within two minutes, with data on the way or without."""
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
    """Returns large results, and keeps none."""

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
    """The client says that it has received it; no other request is necessary for this."""
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
        assert maker.make(LARGE)["b"][0].all()  # the connection continues
        assert result["b"][0].all()
        assert not result["a"].any()


def test_a_server_that_ends_between_answer_and_acknowledgement(monkeypatch):
    """The answer is there; the next request gets the end of the connection."""
    with started(kind=Makers) as manager:
        maker = manager.Maker()
        maker.one(1)
        arrive = _wire_objects.arrive

        def arrive_and_kill(*arguments):
            array = arrive(*arguments)
            os.kill(server_of(manager), signal.SIGKILL)
            manager._process.join()
            return array

        monkeypatch.setattr(_wire_objects, "arrive", arrive_and_kill)
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
    for _ in range(2):  # the interrupted call takes one: the server is still working on it
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
