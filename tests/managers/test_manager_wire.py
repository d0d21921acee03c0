"""Connections with TLS as a machine on the way sees them, and by their calls."""

from __future__ import annotations

import contextlib
import gc
import socket
import ssl
import threading

import children
import pytest
from serving import KEY, started

from onecopy import multiprocessing as mp
from onecopy.multiprocessing import _wire_tls
from onecopy.multiprocessing.managers import SyncManager

HERE = ("127.0.0.1", 0)


@pytest.fixture
def manager(tls):
    with started(HERE, tls=tls) as manager:
        yield manager


class Relay:
    """Passes bytes between a client and a server. `spoil` changes one in an answer."""

    def __init__(self, to):
        self._to, self.seen, self.spoil = to, bytearray(), False
        self._socket = socket.create_server(HERE)
        self.address = self._socket.getsockname()
        self._threads = [threading.Thread(target=self._accept)]
        self._threads[0].start()

    def close(self):
        self._socket.shutdown(socket.SHUT_RDWR)
        self._socket.close()
        for thread in self._threads:
            thread.join()

    def _accept(self):
        with contextlib.suppress(OSError):
            while True:
                client, _ = self._socket.accept()
                thread = threading.Thread(target=self._serve, args=(client,))
                self._threads.append(thread)
                thread.start()

    def _serve(self, client):
        with client, socket.create_connection(self._to) as server:
            back = threading.Thread(target=self._pass_on, args=(server, client, True))
            back.start()
            self._pass_on(client, server, False)
            back.join()

    def _pass_on(self, one, other, answers):
        with contextlib.suppress(OSError):
            while data := bytearray(one.recv(65536)):
                self.seen += data
                if answers and self.spoil:
                    data[-1] ^= 1
                other.sendall(data)
        for end in (one, other):
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)


@pytest.mark.parametrize("encrypted", [True, False], ids=["encrypted", "plain"])
def test_what_a_machine_on_the_way_sees(encrypted, tls, manager, tcp):
    server = manager if encrypted else tcp
    relay = Relay(server.address)
    try:
        client = SyncManager(relay.address, KEY, tls=tls if encrypted else None)
        client.connect()
        items = client.list(["a secret of two ends"])
        assert items[0] == "a secret of two ends"
        del items
    finally:
        relay.close()
    assert (b"a secret of two ends" in relay.seen) is not encrypted


def test_what_a_machine_on_the_way_changes_is_an_error(tls, manager):
    relay = Relay(manager.address)
    try:
        client = SyncManager(relay.address, KEY, tls=tls)
        client.connect()
        items = client.list([1])
        assert items[0] == 1
        relay.spoil = True
        words = "BAD_RECORD_MAC|DECRYPTION_FAILED"
        if ssl.OPENSSL_VERSION_INFO >= (3, 5):
            words += "|RECORD_LAYER_FAILURE"
        with pytest.raises(ssl.SSLError, match=words):
            items[0]
        relay.spoil = False
        assert items[0] == 1  # by a new connection
        del items
        gc.collect()  # the error, its traceback and the frames of the proxy are a cycle
    finally:
        relay.close()


def test_a_message_that_is_cut_is_an_error(tls):
    with _wire_tls.TlsListener(_wire_tls.serializer_of(tls), HERE) as listener:

        def begin_a_message():
            with listener.accept() as ours:
                ours._begin()
                ours._write(_wire_tls.LENGTH.pack(1000) + b"the beginning")

        thread = threading.Thread(target=begin_a_message)
        thread.start()
        with _wire_tls.connect(_wire_tls.serializer_of(tls), listener.address) as caller:
            with pytest.raises(OSError, match="in the middle of a message"):
                caller.recv_bytes()
            assert caller.closed
        thread.join()


def test_the_connection_has_the_calls_of_the_standard_library(tls):
    serializer = _wire_tls.serializer_of(tls)
    with _wire_tls.TlsListener(serializer, HERE) as listener:
        accepted = []

        def answer():
            ours = listener.accept()
            accepted.append(ours)
            ours.send_bytes(b"0123456789", 2, 5)
            ours.send_bytes(b"0123456789")
            ours.send_bytes(b"0123456789")

        thread = threading.Thread(target=answer)
        thread.start()
        with _wire_tls.connect(serializer, listener.address) as caller:
            assert caller.poll(children.LIMIT)
            assert caller.recv_bytes() == b"23456"
            buffer = bytearray(12)
            assert caller.recv_bytes_into(buffer, 2) == 10
            assert buffer == b"\0\x000123456789"
            with pytest.raises(mp.BufferTooShort):
                caller.recv_bytes_into(bytearray(3))
            with pytest.raises(ValueError, match="no 20 bytes at 2 in a buffer of 10 bytes"):
                caller.send_bytes(b"0123456789", 2, 20)
        thread.join()
        accepted[0].close()
