"""Arguments that a child got when it was started are kept for it, until it ends."""

import gc
import multiprocessing
import weakref
from multiprocessing import connection

import pytest
from segment_files import fresh_name

import onecopy as oc
from onecopy._core import keepalive
from onecopy.multiprocessing.shared_memory import SharedMemory
from onecopy.multiprocessing.sharedctypes import RawArray

SIZE = 32 << 20


@pytest.fixture(params=["forkserver", "spawn"])
def context(request):
    return multiprocessing.get_context(request.param)


@pytest.fixture
def name():
    yield from fresh_name()


def look(array):
    assert array[0] == 7


@pytest.fixture
def give(context):
    """Start a child with an array of 32 MiB to which only the child has a reference."""
    finished = []

    def give(*, joined):
        array = RawArray("b", SIZE)
        array[0] = 7
        process = context.Process(target=look, args=(array,))
        process.start()
        finished.append(process)
        if joined:
            process.join()
        else:
            connection.wait([process.sentinel])
        return process

    yield give
    for process in finished:
        process.join()
        assert process.exitcode == 0
        process.close()


def used():
    gc.collect()
    return oc.default_pool().stats().used


@pytest.mark.parametrize("joined", [True, False])
def test_collect_lets_go_of_what_the_finished_were_given(give, joined):
    for _ in range(2):
        give(joined=joined)
    oc.default_pool().collect()
    assert used() < SIZE


def test_so_does_a_join(give):
    give(joined=True)
    assert used() == 0


def test_so_does_the_next_start(give):
    for _ in range(3):
        give(joined=False)
    assert SIZE <= used() < 2 * SIZE


def test_so_does_an_allocation_that_fails(give, monkeypatch):
    monkeypatch.setenv("ONECOPY_POOL_SIZE", str(2 * SIZE))
    give(joined=False)
    array = RawArray("b", SIZE + (16 << 20))
    assert len(array) == SIZE + (16 << 20)


def test_so_does_an_object_that_does_not_fit(give, monkeypatch):
    monkeypatch.setenv("ONECOPY_POOL_SIZE", str(2 * SIZE))
    give(joined=False)
    content = bytes(SIZE + (16 << 20))
    assert oc.put(content).get() == content


def meet(shm, pipe):
    pipe.send("here")
    pipe.recv()


def test_it_is_kept_while_the_child_lives(context, name):
    shm = SharedMemory(name, create=True, size=10)
    alive = weakref.ref(shm)
    mine, theirs = context.Pipe()
    process = context.Process(target=meet, args=(shm, theirs))
    process.start()
    del shm
    assert mine.recv() == "here"
    assert not keepalive.drop_for_ended()
    assert alive() is not None
    mine.send("end")
    connection.wait([process.sentinel])
    assert keepalive.drop_for_ended()
    assert alive() is None
    assert not keepalive.drop_for_ended()
    process.join()
    assert process.exitcode == 0
    process.close()
    mine.close()
    theirs.close()


class Unwilling:
    def __reduce__(self):
        raise RuntimeError("told to")


def test_a_start_that_fails_keeps_nothing(context, name):
    shm = SharedMemory(name, create=True, size=10)
    alive = weakref.ref(shm)
    with pytest.raises(RuntimeError):
        context.Process(target=look, args=(shm, Unwilling())).start()
    del shm
    gc.collect()
    assert alive() is None
