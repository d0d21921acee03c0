"""SharedMemoryManager: the segments that it made are removed with it."""

import multiprocessing
import os
import pickle
import sys
from multiprocessing import ProcessError

import pytest
from children import eventually
from programs import run
from segment_files import exists, gone_after_sweep

from onecopy.multiprocessing._segments_manager import SharedMemoryManager
from onecopy.multiprocessing.shared_memory import ShareableList, SharedMemory


def half_sum(items, start, stop, pipe):
    pipe.send(sum(items[i] for i in range(start, stop)))


@pytest.mark.parametrize("method", ["fork", "forkserver", "spawn"])
def test_two_processes_sum_a_list(method):
    context = multiprocessing.get_context(method)
    with SharedMemoryManager() as manager:
        items = manager.ShareableList(range(2000))
        mine, theirs = context.Pipe()
        processes = [
            context.Process(target=half_sum, args=(items, at, at + 1000, theirs))
            for at in (0, 1000)
        ]
        for process in processes:
            process.start()
        total = mine.recv() + mine.recv()
        for process in processes:
            process.join()
            assert process.exitcode == 0
            process.close()
        assert total == sum(range(2000))
        name = items.shm.name
        assert exists(name)
    assert not exists(name)
    mine.close()
    theirs.close()


def test_what_it_made_stays_until_the_shutdown():
    manager = SharedMemoryManager()
    manager.start()
    names = [manager.SharedMemory(size=10).name, manager.ShareableList([1, 2]).shm.name]
    kept = manager.SharedMemory(10)
    assert SharedMemory(names[0]).size == 10
    assert list(ShareableList(name=names[1])) == [1, 2]
    kept.unlink()  # as any process may do
    manager.shutdown()
    manager.shutdown()
    assert not any(exists(name) for name in names)
    kept.buf[0] = 1


def test_states():
    manager = SharedMemoryManager(("ignored", 5), b"key", ctx=None)
    assert manager.address == ("ignored", 5)
    for make in (lambda: manager.SharedMemory(5), lambda: manager.ShareableList([1])):
        with pytest.raises(ValueError, match="start"):
            make()
    with pytest.raises(TypeError):
        manager.start(5)
    manager.start()
    with pytest.raises(ProcessError, match="started"):
        manager.start()
    with pytest.raises(ProcessError):
        manager.get_server()
    with pytest.raises(ValueError, match="size"):
        manager.SharedMemory(0)
    with pytest.raises(TypeError, match="segments"):
        pickle.dumps(manager)
    manager.shutdown()
    manager.join()
    for make in (lambda: manager.SharedMemory(5), lambda: manager.ShareableList([1])):
        with pytest.raises(FileNotFoundError, match="shut down"):
            make()
    for again in (manager.start, manager.__enter__, manager.get_server):
        with pytest.raises(ProcessError, match="shut down"):
            again()
    for serve in (SharedMemoryManager().get_server, manager.connect):
        with pytest.raises(NotImplementedError, match="server"):
            serve()


def test_forgotten_it_unlinks_what_it_made():
    manager = SharedMemoryManager()
    manager.start()
    shm = manager.SharedMemory(5)
    del manager
    assert not exists(shm)


@pytest.mark.parametrize("end", ["sys.exit()", "os._exit(0)", "del manager; sys.exit()"])
def test_a_forked_childs_copy_unlinks_nothing(end):
    text = f"""
    from onecopy.multiprocessing._segments_manager import SharedMemoryManager
    manager = SharedMemoryManager()
    manager.start()
    shm = manager.SharedMemory(5)
    path = "/dev/shm/" + shm.name
    pid = os.fork()
    if pid == 0:
        {end}
    os.waitpid(pid, 0)
    assert os.path.exists(path)
    atexit.register(lambda: None if not os.path.exists(path) else print("there", file=sys.stderr))
    manager.shutdown()
    """
    assert run(text, holding=False) == (0, "")


def make_and_tell(pipe):
    manager = SharedMemoryManager()
    manager.start()
    pipe.send([manager.SharedMemory(5).name, manager.ShareableList([1]).shm.name])
    sys.modules["kept"] = manager
    pipe.recv()


@pytest.mark.parametrize("kill", [False, True])
def test_the_end_of_its_process(start, kill):
    mine, theirs = multiprocessing.Pipe()
    child = start("spawn", make_and_tell, theirs)
    names = mine.recv()
    assert all(exists(name) for name in names)
    if kill:
        child.kill()
        eventually(lambda: all(gone_after_sweep(name) for name in names), "them to be swept")
    else:
        mine.send("end")
        assert child.wait() == 0
        assert not any(exists(name) for name in names)
    mine.close()
    theirs.close()


def test_no_process_is_started():
    with SharedMemoryManager() as manager:
        manager.SharedMemory(5)
        assert not multiprocessing.active_children()
        assert manager.address is None
        assert os.getpid()
