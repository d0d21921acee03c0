"""Managers whose connections are encrypted, and what happens when one end is the wrong one."""

from __future__ import annotations

import contextlib
import dataclasses
import gc
import os
import pickle
import shutil
import signal
import socket
import ssl
import subprocess
import sys
import threading
import warnings
from multiprocessing import AuthenticationError, process

import children
import numpy as np
import pytest
from serving import KEY, LARGE, START_METHODS, by_reference, numbers, started, use_queue

import onecopy as oc
from onecopy import NotEncryptedWarning
from onecopy import multiprocessing as mp
from onecopy._core.exposed import is_exposed
from onecopy.multiprocessing import _wire, _wire_tls, managers
from onecopy.multiprocessing.managers import BaseManager, ServerEnded, SyncManager

HERE = ("127.0.0.1", 0)


@pytest.fixture
def manager(tls):
    with started(HERE, tls=tls) as manager:
        yield manager


def goes_on(manager):
    return manager.list([5])[0] == 5


# ------------------------------------------------------------------------- everything works over it


def add_one(items, event):
    items.append(items[0] + 1)
    items[1].append("from a child")
    event.set()


@pytest.mark.parametrize("start_method", START_METHODS)
def test_proxies_of_proxies_go_to_children(start_method, tls):
    context = mp.get_context(start_method)
    with started(HERE, start_method=start_method, tls=tls) as manager:
        items, event = manager.list([numbers(), manager.list()]), manager.Event()
        child = context.Process(target=add_one, args=(items, event))
        child.start()
        assert event.wait(children.LIMIT)
        child.join()
        child.close()
        assert np.array_equal(items[2], numbers() + 1)
        assert by_reference(items[2])
        assert items[1][:] == ["from a child"]
        use_queue(manager)


def use_by_pickle(data, key):
    process.current_process().authkey = key
    items = pickle.loads(data)
    items.append([items[0].sum()])


def test_a_pickled_proxy_works_in_any_process_of_the_host(monkeypatch, start, manager):
    monkeypatch.setitem(process.current_process()._config, "authkey", KEY)
    items = manager.list([numbers()])
    assert start("stranger", use_by_pickle, pickle.dumps(items), KEY).wait() == 0
    assert items[1] == [numbers().sum()]


class Maker:
    def __init__(self):
        self.made = [numbers()]

    def parts(self):
        return self.made

    def fail(self):
        raise ValueError("as it should")


class Makers(BaseManager):
    pass


Makers.register("Maker", Maker, method_to_typeid={"parts": "list"})
Makers.register("list", list, managers.ListProxy)


def test_methods_that_return_proxies_and_errors(tls):
    with started(HERE, kind=Makers, tls=tls) as manager:
        maker = manager.Maker()
        assert np.array_equal(maker.parts()[0], numbers())
        with pytest.raises(ValueError, match="as it should"):
            maker.fail()
        del maker
        gc.collect()  # the error, its traceback and the frames of the proxy are a cycle
        children.eventually(lambda: manager._number_of_objects() == 0, "the objects to be removed")


@pytest.mark.parametrize("count", [0, 1, LARGE - 1, 3 << 20])
def test_messages_of_any_size_without_a_common_pool(count, manager, monkeypatch):
    monkeypatch.setattr(_wire, "_join", lambda _: None)
    items, data = manager.list(), bytes(range(256)) * (count // 256) + bytes(count % 256)
    items.append(data)
    assert items[0] == data
    assert not by_reference(items)


def test_threads_have_connections_of_their_own(manager):
    items, errors = manager.list([numbers()]), []

    def use():
        try:
            for _ in range(5):
                assert np.array_equal(items[0], numbers())
        except BaseException as error:  # noqa: BLE001 - the test looks at it
            errors.append(error)

    threads = [threading.Thread(target=use) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert errors == []


SERVER = """
import sys
import onecopy as oc
from onecopy.multiprocessing.managers import SyncManager
tls = oc.TLS(*sys.argv[1:])
server = SyncManager(("127.0.0.1", 0), b"only for this test", tls=tls).get_server()
print(server.address[1], flush=True)
server.serve_forever()
"""


@contextlib.contextmanager
def serving(tls):
    """A server in a program of its own; the address, and its process."""
    server = subprocess.Popen(
        [sys.executable, "-c", SERVER, tls.certfile, tls.keyfile, tls.cafile],
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        yield ("127.0.0.1", int(server.stdout.readline())), server
    finally:
        server.kill()
        server.wait()
        server.stdout.close()


def test_each_host_uses_files_of_its_own(authority, tls):
    """A proxy that comes over TLS connects with the receiver's certificate."""
    ours = authority.sign("ours")
    with serving(tls) as (address, _):
        client = SyncManager(address, KEY, tls=ours)
        client.connect()
        items = client.list([client.list([1])])
        items[0].append(client.dict(a=2))
        inner = items[0]
        assert inner._serializer.tls == ours
        assert inner[1]["a"] == 2
        del inner, items


# ------------------------------------------------------------------------------------ the wrong end


def test_a_client_with_a_foreign_certificate_is_refused(authority, manager, stranger):
    foreign = dataclasses.replace(stranger, cafile=authority.cafile)
    with pytest.raises(AuthenticationError, match="does not accept the certificate of this proc"):
        SyncManager(manager.address, KEY, tls=foreign).connect()
    assert goes_on(manager)


def test_a_client_refuses_a_server_with_a_foreign_certificate(manager, stranger):
    with pytest.raises(AuthenticationError, match=r"is not accepted.*It must be signed by"):
        SyncManager(manager.address, KEY, tls=stranger).connect()
    assert goes_on(manager)


def test_the_certificate_must_name_the_host(authority, manager, tls):
    elsewhere = authority.sign("elsewhere", "DNS:elsewhere.example")
    with started(
        HERE, tls=dataclasses.replace(elsewhere, server_hostname="elsewhere.example")
    ) as other:
        assert goes_on(other)
        with pytest.raises(AuthenticationError, match=r"have the name '127\.0\.0\.1'"):
            SyncManager(other.address, KEY, tls=tls).connect()
    with pytest.raises(AuthenticationError, match="have the name 'other'"):
        SyncManager(
            manager.address, KEY, tls=dataclasses.replace(tls, server_hostname="other")
        ).connect()
    assert goes_on(manager)


def test_the_key_counts_too(manager, tls):
    with pytest.raises(AuthenticationError):
        SyncManager(manager.address, b"wrong", tls=tls).connect()
    assert goes_on(manager)


def test_a_client_without_a_certificate_is_refused(manager, tls):
    context = ssl.create_default_context(cafile=tls.cafile)
    with (
        socket.create_connection(manager.address) as plain,
        context.wrap_socket(plain, server_hostname="127.0.0.1") as caller,
        pytest.raises(ssl.SSLError, match="CERTIFICATE_REQUIRED"),
    ):
        caller.recv(100)
    assert goes_on(manager)


def test_a_client_of_an_older_tls_is_refused(manager, tls):
    context = ssl.create_default_context(cafile=tls.cafile)
    context.maximum_version = ssl.TLSVersion.TLSv1_2
    with socket.create_connection(manager.address) as plain, pytest.raises(ssl.SSLError):
        context.wrap_socket(plain, server_hostname="127.0.0.1")
    assert goes_on(manager)


def test_a_client_without_tls_learns_that_the_server_has_it(monkeypatch, tls):
    monkeypatch.setattr(_wire_tls, "LIMIT", 1)
    with started(HERE, tls=tls) as manager:
        with pytest.raises((ConnectionError, AuthenticationError), match="this manager uses TLS"):
            SyncManager(manager.address, KEY).connect()
        assert goes_on(manager)


def test_a_client_with_tls_learns_that_the_server_has_none(tcp, tls):
    with pytest.raises(ConnectionError, match=r"does not use TLS.*reached without tls="):
        SyncManager(tcp.address, KEY, tls=tls).connect()
    assert goes_on(tcp)


def test_a_client_that_says_nothing_stops_nobody(monkeypatch, tls):
    monkeypatch.setattr(_wire_tls, "LIMIT", 1)
    with (
        started(HERE, tls=tls) as manager,
        contextlib.ExitStack() as stack,
    ):
        callers = [stack.enter_context(socket.create_connection(manager.address)) for _ in range(5)]
        assert goes_on(manager)
        for caller in callers:  # each is sent away
            while caller.recv(4096):
                pass
        assert goes_on(manager)


def test_a_client_that_says_single_bytes_is_sent_away(monkeypatch, tls):
    monkeypatch.setattr(_wire_tls, "LIMIT", 1)
    with (
        started(HERE, tls=tls) as manager,
        socket.create_connection(manager.address) as caller,
    ):
        caller.sendall(b"\x16\x03\x01\x40\x00")  # the beginning of a long greeting
        caller.settimeout(0.05)
        while True:
            try:
                if not caller.recv(4096):
                    break
            except TimeoutError:
                with contextlib.suppress(OSError):
                    caller.sendall(b"x")
            except ConnectionResetError:
                break
        assert goes_on(manager)


@pytest.mark.parametrize("text", [b"GET / HTTP/1.1\r\n\r\n", bytes(100)])
def test_a_client_that_talks_nonsense_is_sent_away(manager, text):
    with socket.create_connection(manager.address) as caller, contextlib.suppress(OSError):
        caller.sendall(text)
        while caller.recv(4096):
            pass
    assert goes_on(manager)


def test_what_listens_says_nothing(monkeypatch, tls):
    monkeypatch.setattr(_wire, "HANDSHAKE_TIMEOUT", 1)
    with (
        socket.create_server(HERE) as listening,
        pytest.raises(TimeoutError, match="has not answered for 1 s"),
    ):
        SyncManager(listening.getsockname(), KEY, tls=tls).connect()


def test_what_listens_closes_the_connection(tls):
    with socket.create_server(HERE) as listening:

        def close_one():
            with listening.accept()[0] as caller:
                caller.recv(4096)

        closer = threading.Thread(target=close_one)
        closer.start()
        with pytest.raises(ConnectionError, match="has ended the connection during the handshake"):
            SyncManager(listening.getsockname(), KEY, tls=tls).connect()
        closer.join()


# ------------------------------------------------------------------------------------------- deaths


def test_when_the_server_is_killed_every_proxy_says_so(manager):
    items, idle = manager.list([1]), manager.dict()
    assert items[0] == 1
    server = manager._process
    os.kill(server.pid, signal.SIGKILL)
    server.join()
    for call in (items.pop, lambda: idle["a"], manager.list):
        with pytest.raises(ServerEnded, match="has ended"):
            call()


def hold_much(tls, address, key, ident):
    process.current_process().authkey = key
    client = SyncManager(address, key, tls=tls)
    client.connect()
    items = client.list([numbers()])
    held = [items[0] for _ in range(5)]
    serializer = _wire_tls.serializer_of(tls)
    managers.EventProxy(managers.Token("Event", address, ident), serializer, authkey=key).set()
    assert held
    signal.pause()


def test_a_client_that_dies_leaves_nothing(manager, start, tls):
    event = manager.Event()
    client = start("stranger", hold_much, tls, manager.address, KEY, event._id)
    assert event.wait(children.LIMIT)
    client.kill()
    children.eventually(lambda: children.used(oc.default_pool()) < LARGE * 1.1, "its memory")


# ---------------------------------------------------------------------------- arguments, and files


def test_wrong_arguments(tls):
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    with pytest.raises(TypeError, match=r"tls is a onecopy\.TLS, not SSLContext"):
        SyncManager(HERE, KEY, tls=context)
    for address in (None, "/a/socket"):
        with pytest.raises(ValueError, match="tls is for an address of host and port"):
            SyncManager(address, KEY, tls=tls)
    with pytest.raises(ValueError, match="tls is for the serializer 'pickle', not 'xmlrpclib'"):
        SyncManager(HERE, KEY, "xmlrpclib", tls=tls)
    with pytest.raises(TypeError, match="certfile is a path of text, not bytes"):
        oc.TLS(b"a", "b", "c")


def test_files_that_cannot_be_used(authority, tls, tmp_path):
    other = authority.sign("another")
    locked = tmp_path / "locked.key"
    subprocess.run(
        ["openssl", "ec", "-in", tls.keyfile, "-out", locked, "-aes128", "-passout", "pass:word"],
        check=True,
        capture_output=True,
    )
    for wrong, why in (
        (dataclasses.replace(tls, cafile=tmp_path / "none"), "No such file"),
        (dataclasses.replace(tls, keyfile=other.keyfile), "MISMATCH"),
        (dataclasses.replace(tls, keyfile=locked), "has a passphrase"),
        (dataclasses.replace(tls, cafile=tls.keyfile), "cafile"),
    ):
        manager = SyncManager(HERE, KEY, ctx=mp.get_context("fork"), tls=wrong)
        for call in (manager.start, manager.get_server):
            with pytest.raises(ValueError, match=f"files for TLS cannot be used.*{why}"):
                call()
        with (
            socket.create_server(HERE) as listening,
            pytest.raises(ValueError, match="files for TLS cannot be used"),
        ):
            SyncManager(listening.getsockname(), KEY, tls=wrong).connect()


def test_renewed_files_count_for_the_next_connection(authority, stranger, tmp_path):
    """Server and client read their files again, without a new start."""
    mine = authority.sign("renewed")
    for end in ("certfile", "keyfile", "cafile"):
        shutil.copy(getattr(mine, end), tmp_path / end)
    tls = oc.TLS(*(tmp_path / end for end in ("certfile", "keyfile", "cafile")))
    with started(HERE, tls=tls) as manager:
        assert goes_on(manager)
        for end in ("certfile", "keyfile", "cafile"):
            shutil.copy(getattr(stranger, end), tmp_path / end)
        assert goes_on(manager)
        SyncManager(manager.address, KEY, tls=stranger).connect()
        with pytest.raises(AuthenticationError):
            SyncManager(manager.address, KEY, tls=mine).connect()


def test_relative_names_are_those_of_the_directory_where_it_was_made(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    tls = oc.TLS("a.pem", "a.key", "ca.pem")
    assert tls.certfile == str(tmp_path / "a.pem")
    assert pickle.loads(pickle.dumps(tls)) == tls


# ----------------------------------------------------------------------------- warnings without TLS


@pytest.mark.parametrize(
    ("host", "exposed"),
    [
        ("", True),
        ("0.0.0.0", True),  # noqa: S104 - nothing listens there
        ("192.0.2.1", True),
        ("127.0.0.1", False),
        ("127.1.2.3", False),
        ("localhost", False),
        ("::1", False),
    ],
)
def test_which_addresses_other_machines_can_reach(host, exposed):
    assert is_exposed(host) is exposed


def test_a_name_that_nobody_knows_gives_no_warning(monkeypatch):
    def fail(*_):
        raise socket.gaierror("not known")

    monkeypatch.setattr(socket, "getaddrinfo", fail)
    assert not is_exposed("nowhere")


EVERYWHERE = ("0.0.0.0", 0)  # noqa: S104 - for the time of a test


def test_the_server_warns_once_if_others_can_read(tls):
    manager = SyncManager(EVERYWHERE, KEY, ctx=mp.get_context("fork"))
    with pytest.warns(NotEncryptedWarning, match="other machines can reach") as caught:
        server = manager.get_server()
    server.listener.close()
    assert caught[0].filename == __file__
    manager.get_server().listener.close()  # warnings are errors in these tests
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        named = dataclasses.replace(tls, server_hostname="localhost")
        SyncManager(EVERYWHERE, KEY, tls=named).get_server().listener.close()


def test_start_and_client_warn_once_too():
    with contextlib.ExitStack() as stack:
        with pytest.warns(NotEncryptedWarning) as caught:
            manager = stack.enter_context(started(EVERYWHERE))
        assert not_encrypted(caught) == 1
        assert goes_on(manager)  # warnings are errors in these tests
        client = SyncManager(manager.address, KEY)
        with pytest.warns(NotEncryptedWarning) as caught:
            client.connect()
        assert not_encrypted(caught) == 1
        client.connect()
        assert goes_on(client)


def not_encrypted(caught):
    # `pytest.warns` records every warning. Python 3.12 and newer also warn of fork beside threads.
    return sum(warning.category is NotEncryptedWarning for warning in caught)
