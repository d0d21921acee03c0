"""Pools that are open for reading only: they change nothing, and no process changes them."""

import contextlib
import os
import pickle
import signal
import socket
import struct
import subprocess
import threading
from pathlib import Path

import numpy as np
import pytest
from children import eventually
from mappings import first_address, place_of

import onecopy as oc

pytestmark = pytest.mark.one_in(2)

NOBODY = 65534
as_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can do this")


@pytest.fixture
def path(elsewhere):
    """A pool that no process uses."""
    path = elsewhere / "t.pool"
    with oc.Pool.create(size="16MiB", backing=path) as pool:
        pool["array"] = np.arange(100_000)
        pool["mixed"] = {"text": "words", "part": np.arange(50_000)[::2], "small": (1, None)}
        pool["shared"] = pool.shared_array(1000)
        pool.queue("jobs").put(1)
        pool.lock("lock")
        pool.shared_array(10, "i4", name="numbers")[:] = 3
    return path


def read_and_wait(path, ready, done):
    with oc.Pool.open(path, mode="r") as pool:
        array = pool["array"]
        ready.set()
        done.wait()
        assert array.sum() == np.arange(100_000).sum()


def read_until_killed(path, ready):
    pool = oc.Pool.open(path, mode="r")
    array = pool["array"]
    ready.set()
    while array is not None:
        signal.pause()


def write_until_killed(path, ready):
    pool = oc.Pool.open(path)
    pool.lock("lock").acquire()
    held = [pool["array"], pool.empty(1000), pool.put([0] * 1000)]
    pool["half"] = np.ones(100_000)
    ready.set()
    while held:
        signal.pause()


def answer_open(path, mode, answers):
    try:
        oc.Pool.open(path, mode=mode).close()
    except oc.OneCopyError as error:
        answers.put(str(error))
    else:
        answers.put("opened")


def sum_of(queue, answers):
    """Take an array of a pool that another process reads."""
    array = queue.get()
    inode, _ = place_of(first_address(array))
    answers.put((inode, float(array.sum()), array.flags.writeable))
    queue.get()


# ----------------------------------------------------------------------------------- what it can do


def test_everything_is_there_and_nothing_changes(path, unchanged):
    unchanged(path)
    with oc.Pool.open(path, mode="r") as pool:
        assert pool.readonly
        assert list(pool) == ["array", "mixed", "shared"]
        assert len(pool) == 3
        assert "array" in pool
        assert "nothing" not in pool
        assert pool.get("nothing", 5) == 5
        assert pool.setdefault("mixed")["text"] == "words"
        assert np.array_equal(pool["array"], np.arange(100_000))
        assert np.array_equal(pool["mixed"]["part"], np.arange(50_000)[::2])
        assert pool["mixed"]["small"] == (1, None)
        assert not pool["array"].flags.writeable
        assert not pool["shared"].flags.writeable
        assert pool.shared_array(name="numbers").sum() == 30
        with pytest.raises(ValueError, match="WRITEABLE"):
            pool["shared"].flags.writeable = True
        assert pool.stats().blocks > 0
        assert pool.validate() == []
        assert pool.collect() == 0
        pool.flush()
        assert "in use" in repr(pool)


def test_data_is_the_page_cache_and_no_copy(path):
    with oc.Pool.open(path, mode="r") as pool:
        array = pool["array"]
        assert place_of(first_address(array))[0] == path.stat().st_ino
        text = Path("/proc/self/smaps").read_text()
        at = next(part for part in text.split("VmFlags") if str(path) in part)
        private = int(at.split("Private_Dirty:")[1].split()[0]) * 1024
        assert array.nbytes == 800_000
        assert private < 200_000  # the pages of the tables that the allocator has written


REFUSED = {
    "put": lambda pool: pool.put(1),
    "empty": lambda pool: pool.empty(3),
    "zeros": lambda pool: pool.zeros((3, 3)),
    "full": lambda pool: pool.full(3, 1),
    "array": lambda pool: pool.array([1]),
    "shared_array": lambda pool: pool.shared_array(3),
    "set": lambda pool: pool.__setitem__("array", 1),
    "set a new one": lambda pool: pool.__setitem__("new", 1),
    "setdefault": lambda pool: pool.setdefault("new", 1),
    "update": lambda pool: pool.update(a=1),
    "del": lambda pool: pool.__delitem__("array"),
    "pop": lambda pool: pool.pop("array"),
    "clear": lambda pool: pool.clear(),
    "queue": lambda pool: pool.queue("jobs"),
    "a new queue": lambda pool: pool.queue(),
    "stream": lambda pool: pool.stream("s"),
    "frames": lambda pool: pool.frames("f", 3, "i4", 3),
    "lock": lambda pool: pool.lock("lock"),
    "rlock": lambda pool: pool.rlock(),
    "rwlock": lambda pool: pool.rwlock(),
    "semaphore": lambda pool: pool.semaphore(),
    "event": lambda pool: pool.event(),
    "condition": lambda pool: pool.condition(),
    "barrier": lambda pool: pool.barrier(parties=2),
    "dict": lambda pool: pool.dict(),
    "list": lambda pool: pool.list(),
    "value": lambda pool: pool.value("i"),
    "unlink": lambda pool: pool.unlink(),
}


def test_whatever_would_change_it_is_refused(path, unchanged):
    unchanged(path)
    with oc.Pool.open(path, mode="r") as pool:
        for what, act in REFUSED.items():
            with pytest.raises(oc.OneCopyError, match="mode='r'"):
                act(pool)
            assert list(pool) == ["array", "mixed", "shared"], what
        assert pool.validate() == []


def test_by_name_by_pool_and_by_handle(path, elsewhere):
    with oc.Pool("tables", backing=path):
        pass
    with oc.Pool.open("tables", mode="r") as one, oc.Pool(path, mode="r") as two:
        assert one == two
        assert one.member is two.member
        three = pickle.loads(pickle.dumps(one))
        assert three.readonly
        assert three["mixed"]["text"] == "words"
        with pytest.raises(oc.OneCopyError, match="size"):
            oc.Pool(path, "32MiB", mode="r")
    three.close()
    with pytest.raises(oc.PoolNotFound):
        oc.Pool(elsewhere / "none.pool", "16MiB", mode="r")
    for mode in ("w", "rw", ""):
        with pytest.raises(ValueError, match="mode"):
            oc.Pool.open(path, mode=mode)
    with oc.Pool.open("tables") as pool:
        pool.unlink()


def test_a_reader_takes_no_name_away(path):
    with oc.Pool("tables", backing=path):
        pass
    with oc.Pool.open(path, mode="r") as reader, pytest.raises(oc.OneCopyError, match="mode"):
        reader.unlink()
    with oc.Pool.open("tables") as pool:
        pool.unlink()
    with pytest.raises(oc.PoolNotFound):
        oc.Pool.open("tables")


@as_root
def test_a_file_system_that_is_read_only(path, unchanged):
    unchanged(path)
    program = (
        "import sys, onecopy as oc\n"
        "try: oc.Pool.open(sys.argv[1])\n"
        "except PermissionError as error: assert 'mode=' in str(error), error\n"
        "else: raise SystemExit('it was opened')\n"
        "pool = oc.Pool.open(sys.argv[1], mode='r')\n"
        "assert pool['array'].sum() == sum(range(100_000))\n"
    )
    script = (
        'mount --bind "$0" "$0" && mount -o remount,bind,ro "$0" || exit 77\n'
        '"$1" -c "$2" "$0/t.pool"'
    )
    from sys import executable

    command = ["unshare", "--mount", "sh", "-c", script, str(path.parent), executable, program]
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False)
    except FileNotFoundError:
        pytest.skip("this machine has no `unshare` (util-linux)")
    if done.returncode == 77 or done.stderr.startswith("unshare:"):
        pytest.skip(f"this machine does not allow it: {done.stderr.strip()}")
    assert done.returncode == 0, done.stderr


@as_root
@pytest.mark.parametrize("permissions", [0o444, 0o600])
def test_another_users_pool(path, permissions, unchanged):
    for directory in (path.parent, *path.parent.parents[:3]):
        directory.chmod(0o755)
    path.chmod(permissions)
    unchanged(path)
    child = os.fork()
    if child == 0:
        status = 1
        try:
            os.setgroups([])
            os.setgid(NOBODY)
            os.setuid(NOBODY)
            oc.Pool.open(path, mode="r")
        except PermissionError:
            status = 0
        finally:
            os._exit(status)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


# --------------------------------------------------------------------- which process excludes which


@pytest.mark.parametrize("method", ["fork", "stranger"])
def test_readers_keep_writers_out_and_no_readers(path, pool, start, method, unchanged):
    unchanged(path)
    ready, done, answers = pool.event(), pool.event(), pool.queue()
    reader = start(method, read_and_wait, path, ready, done)
    assert ready.wait(60)
    with pytest.raises(oc.OneCopyError, match=rf"for reading .*process {reader.pid}\b"):
        oc.Pool.open(path)
    with pytest.raises(oc.OneCopyError, match="for reading"):
        oc.Pool(path, "16MiB")
    with pytest.raises(oc.PoolExists):
        oc.Pool.create(path, "16MiB")
    other = start(method, answer_open, path, "r", answers)
    assert answers.get(timeout=60) == "opened"
    assert other.wait() == 0
    done.set()
    assert reader.wait() == 0


@pytest.mark.parametrize("method", ["fork", "stranger"])
def test_writers_keep_readers_out_and_no_writers(path, pool, start, method):
    ready, answers = pool.event(), pool.queue()
    writer = start(method, write_until_killed, path, ready)
    assert ready.wait(60)
    with pytest.raises(oc.OneCopyError, match=rf"for writing .*process {writer.pid}\b"):
        oc.Pool.open(path, mode="r")
    other = start(method, answer_open, path, "r+", answers)
    assert answers.get(timeout=60) == "opened"
    assert other.wait() == 0
    writer.kill()
    with oc.Pool.open(path, mode="r") as read:
        assert read["half"].sum() == 100_000


def test_in_one_process_too(path):
    with oc.Pool.open(path) as writer:
        with pytest.raises(oc.OneCopyError, match=r"for writing .*this one"):
            oc.Pool.open(path, mode="r")
        writer["a"] = 1
    with oc.Pool.open(path, mode="r") as reader:
        with pytest.raises(oc.OneCopyError, match=r"for reading .*this one"):
            oc.Pool.open(path)
        assert reader["a"] == 1
    with oc.Pool.open(path) as writer:
        assert writer["a"] == 1


def test_an_array_keeps_the_writers_out_until_it_goes(path):
    with oc.Pool.open(path, mode="r") as pool:
        array = pool["array"]
    with pytest.raises(oc.OneCopyError, match="for reading"):
        oc.Pool.open(path)
    assert array.sum() == np.arange(100_000).sum()
    del array
    oc.Pool.open(path).close()


def test_a_reader_that_is_killed_is_out_of_the_way(path, pool, start):
    ready = pool.event()
    reader = start("fork", read_until_killed, path, ready)
    assert ready.wait(60)
    reader.kill()
    with oc.Pool.open(path) as writer:
        assert writer.validate() == []


def test_a_forked_child_reads_on_alone(path, pool):
    go, done = pool.event(), pool.event()
    reader = oc.Pool.open(path, mode="r")
    array = reader["array"]
    child = os.fork()
    if child == 0:
        status = 1
        with contextlib.suppress(BaseException):
            go.wait(60)
            assert array.sum() == reader["array"].sum()
            assert reader.validate() == []
            reader["mixed"]
            done.set()
            go_on = pool.event("end")
            go_on.wait(60)
            status = 0
        os._exit(status)
    del array
    reader.close()  # the child still has it
    del reader
    with pytest.raises(oc.OneCopyError, match=rf"for reading .*process {child}\b"):
        oc.Pool.open(path)
    go.set()
    assert done.wait(60)
    pool.event("end").set()
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    oc.Pool.open(path).close()


def test_forks_while_another_thread_is_at_work(path):
    """The child's copy of the pages has the locks of the thread, and no owner to release them."""
    reader = oc.Pool.open(path, mode="r")
    stop = threading.Event()

    def work():
        while not stop.is_set():
            reader.validate()  # acquires the heap's lock, without the interpreter's lock

    thread = threading.Thread(target=work)
    thread.start()
    for _ in range(20):
        child = os.fork()
        if child == 0:
            array = reader["array"]
            del array
            os._exit(reader.validate() != [])
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    stop.set()
    thread.join()
    assert reader.validate() == []
    reader.close()


def test_what_a_child_does_is_its_own(path):
    reader = oc.Pool.open(path, mode="r")
    child = os.fork()
    if child == 0:
        kept = [reader["array"] for _ in range(100)]
        os._exit(len(kept) != 100)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert reader.validate() == []
    assert reader.stats().processes == 1
    reader.close()


# ------------------------------------------------------------------------------------------- deaths


def test_recovery_of_dead_writers_is_private(path, pool, start, unchanged):
    ready = pool.event()
    writers = [start("fork", write_until_killed, path, ready)]
    assert ready.wait(60)
    for writer in writers:
        writer.kill()
    unchanged(path)
    with oc.Pool.open(path, mode="r") as read:
        assert read.validate() == []
        assert read.stats().processes == 1
        assert sorted(read) == ["array", "half", "mixed", "shared"]
        assert read["half"].sum() == 100_000


def test_all_slots_taken_by_the_dead(elsewhere, unchanged):
    path = elsewhere / "small.pool"
    with oc.Pool.create(size="16MiB", backing=path, max_processes=2) as pool:
        pool["a"] = 1
    for _ in range(2):  # the second gets the slot of the first, or the other slot
        child = os.fork()
        if child == 0:
            pool = oc.Pool.open(path)
            if os.fork() == 0:
                os.kill(os.getpid(), signal.SIGKILL)
            os.wait()
            os.kill(os.getpid(), signal.SIGKILL)
        os.waitpid(child, 0)
    unchanged(path)
    with oc.Pool.open(path, mode="r") as pool:
        assert pool["a"] == 1
        assert pool.validate() == []


# ------------------------------------------------------------------------------ arrays on their way


@pytest.mark.parametrize("method", ["spawn", "fork"])
def test_arrays_go_to_others_as_the_same_memory(path, pool, start, method, unchanged):
    unchanged(path)
    queue, answers = pool.queue(), pool.queue()
    with oc.Pool.open(path, mode="r") as reader:
        array = reader["array"]
        child = start(method, sum_of, queue, answers)
        used = pool.stats().used
        queue.put(array[10:][::-3])
        assert answers.get(timeout=60) == (
            path.stat().st_ino,
            float(array[10:][::-3].sum()),
            False,
        )
        assert pool.stats().used - used < 1000
        del array
    # The child continues to read.
    with pytest.raises(oc.OneCopyError, match=rf"\b{child.pid}\b"):
        oc.Pool.open(path)
    queue.put(None)
    assert child.wait() == 0


def test_arrays_inside_other_objects(path, pool):
    queue = pool.queue()
    with oc.Pool.open(path, mode="r") as reader:
        array = reader["array"]
        queue.put({"a": array, "b": [array[5:10], reader["mixed"]]})
        got = queue.get()
        assert np.shares_memory(got["a"], array)
        assert np.shares_memory(got["b"][0], array)
        assert not got["a"].flags.writeable
        assert np.array_equal(got["b"][1]["part"], np.arange(50_000)[::2])
        pool["copy"] = reader["mixed"]
        del got, array
        pool["copy"]  # opens it again if necessary


def test_an_array_that_was_sent_and_whose_pool_has_changed(path, pool):
    queue = pool.queue()
    with oc.Pool.open(path, mode="r") as reader:
        queue.put(reader["array"])
        queue.put(reader["array"])
    with oc.Pool.open(path) as writer:
        del writer["array"]
        with pytest.raises(oc.StaleRef):
            queue.get()
    path.unlink()
    with pytest.raises(oc.PoolNotFound):
        queue.get()


# ---------------------------------------------------------------------- what is no pool, or unsound


def cut(path):
    os.truncate(path, path.stat().st_size - 4096)


def cut_the_header(path):
    os.truncate(path, 1000)


def empty(path):
    path.write_bytes(b"")


def text(path):
    path.write_text("hello\n" * 1000)


def other_version(path):
    with path.open("r+b") as file:
        file.seek(16)
        file.write(struct.pack("<I", 999))


def folder(path):
    path.unlink()
    path.mkdir()


def fifo(path):
    path.unlink()
    os.mkfifo(path)


def link(path):
    path.rename(path.with_name("real.pool"))
    path.symlink_to(path.with_name("real.pool"))


def a_socket(path):
    path.unlink()
    with socket.socket(socket.AF_UNIX) as server:
        here = os.open(path.parent, os.O_RDONLY)
        try:
            server.bind(f"/proc/self/fd/{here}/{path.name}")
        finally:
            os.close(here)


def gone(path):
    path.unlink()


SPOILT = {
    cut: oc.PoolCorrupted,
    cut_the_header: oc.PoolCorrupted,
    empty: oc.PoolCorrupted,
    text: oc.PoolCorrupted,
    other_version: oc.PoolVersionError,
    folder: (oc.PoolCorrupted, IsADirectoryError),
    fifo: oc.PoolCorrupted,
    link: PermissionError,
    a_socket: oc.PoolCorrupted,
    gone: oc.PoolNotFound,
}


@pytest.mark.parametrize("mode", ["r", "r+"])
@pytest.mark.parametrize("spoil", SPOILT, ids=lambda spoil: spoil.__name__)
def test_what_is_no_sound_pool(path, spoil, mode):
    spoil(path)
    before = sorted((entry.name, entry.lstat()[:7]) for entry in path.parent.iterdir())
    content = path.read_bytes() if path.is_file() else b""
    with pytest.raises(SPOILT[spoil], match=r"t\.pool"):
        oc.Pool.open(path, mode=mode)
    assert sorted((entry.name, entry.lstat()[:7]) for entry in path.parent.iterdir()) == before
    assert content == (path.read_bytes() if path.is_file() else b"")


def test_a_pool_in_use_in_memory(pool):
    with oc.Pool.create("camera", "16MiB"), pytest.raises(oc.OneCopyError, match="for writing"):
        oc.Pool.open("camera", mode="r")
    with (
        oc.Pool.create("other", "16MiB", backing="memfd"),
        pytest.raises(oc.OneCopyError, match="for writing"),
    ):
        oc.Pool.open("other", mode="r")


def test_a_persistent_pool_in_memory(pool_directory):
    with oc.Pool.create("camera", "16MiB", persistent=True) as pool:
        pool["a"] = 1
    with oc.Pool.open("camera", mode="r") as pool:
        assert pool["a"] == 1
        assert pool.name == "camera"
    with oc.Pool.open("camera") as pool:
        pool.unlink()
    eventually(lambda: list(pool_directory.iterdir()) == [], "the file to be gone")
