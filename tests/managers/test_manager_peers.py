"""Managers and peers of the standard library; and peers that are wrong or do not exist."""

from __future__ import annotations

import contextlib
import pickle
import socket
import subprocess
import sys
import threading
from multiprocessing import AuthenticationError, ProcessError, process
from multiprocessing import managers as standard
from pathlib import Path

import children
import numpy as np
import pytest
from serving import KEY, by_reference, numbers, remember, started, use_queue

import onecopy as oc
from onecopy import multiprocessing as mp
from onecopy._core import membership
from onecopy.multiprocessing import _wire, _wire_objects, managers
from onecopy.multiprocessing.managers import ServerEnded, SyncManager

pytestmark = pytest.mark.one_in(2)


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
        assert type(shared[0]) is managers.ListProxy  # and for our server it is still ours


def test_our_client_uses_a_plain_server(monkeypatch):
    # Proxies of the standard library use the process's key for all servers.
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
        assert type(items[1]) is standard.DictProxy  # because its pickle went there
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
    """Takes the place of a function that does not exist."""

    def __init__(self, pool, block):
        self._arguments = pool, block

    def __reduce__(self):
        return _wire_objects.arrive, self._arguments


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
    monkeypatch.setattr(_wire, "HANDSHAKE_TIMEOUT", 1)
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
    monkeypatch.setattr(_wire, "HANDSHAKE_TIMEOUT", 1)
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


def test_a_server_that_cannot_start_is_an_error(tcp, capfd):
    with pytest.raises(EOFError):
        SyncManager(tcp.address, KEY, ctx=mp.get_context("fork")).start()
    assert "Address already in use" in capfd.readouterr().err
