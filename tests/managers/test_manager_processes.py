"""Proxies in children and in threads."""

from __future__ import annotations

import contextlib
import os
import threading

import children
import numpy as np
import pytest
from serving import KEY, START_METHODS, by_reference, numbers, started

from onecopy import multiprocessing as mp
from onecopy.multiprocessing import managers
from onecopy.multiprocessing.managers import SyncManager

pytestmark = pytest.mark.one_in(2)


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
