"""SharedMemory: who has a segment keeps it, and it goes with the program that made it."""

import gc
import multiprocessing
import multiprocessing.connection
import os
import pickle
import random
import signal
import stat
import subprocess
import sys
import textwrap
import threading
from multiprocessing import shared_memory as standard
from pathlib import Path

import numpy as np
import pytest
from children import LIMIT, eventually
from programs import Running, run
from seeds import SEED, more
from segment_files import SHM, exists, fresh_name, gone_after_sweep, path_of, plain, state_of

import onecopy as oc
from onecopy import inspect
from onecopy._core import segments
from onecopy.multiprocessing.shared_memory import SharedMemory

pytestmark = pytest.mark.one_in(2)

RELATIVES = ["fork", "forkserver", "spawn"]


@pytest.fixture
def name():
    yield from fresh_name()


# ---- the class -----------------------------------------------------------------------------------


def test_a_segment_is_a_file_of_exactly_its_size(name):
    shm = SharedMemory(name, create=True, size=100)
    status = path_of(name).stat()
    assert status.st_size == shm.size == len(shm.buf) == 100
    assert stat.S_IMODE(status.st_mode) == 0o1600
    assert shm.name == name
    assert shm.kind == "onecopy"
    assert repr(shm) == f"SharedMemory({name!r}, size=100)"
    assert bytes(shm.buf) == bytes(100)
    shm.buf[:3] = b"abc"
    assert path_of(name).read_bytes()[:3] == b"abc"
    shm.unlink()


def test_its_memory_is_reserved(name):
    shm = SharedMemory(name, create=True, size=1 << 20)
    assert path_of(name).stat().st_blocks * 512 >= 1 << 20
    del shm


def test_the_umask_does_not_matter(name):
    before = os.umask(0o777)
    try:
        shm = SharedMemory(name, create=True, size=1)
        assert stat.S_IMODE(path_of(name).stat().st_mode) == 0o1600
        shm.unlink()
    finally:
        os.umask(before)


def test_attach(name):
    shm = SharedMemory(name, create=True, size=100)
    other = SharedMemory(f"/{name}", size=5000)
    assert (other.name, other.size) == (name, 100)
    other.buf[7] = 7
    assert shm.buf[7] == 7


def test_names_are_invented():
    shm = SharedMemory(create=True, size=1)
    assert shm.name.startswith("psm_")
    assert exists(shm)
    shm.unlink()
    assert not exists(shm)


def test_it_exists(name):
    shm = SharedMemory(name, create=True, size=1)
    with pytest.raises(FileExistsError, match=name):
        SharedMemory(name, create=True, size=1)
    shm.unlink()


def test_it_does_not_exist(name):
    with pytest.raises(FileNotFoundError, match=name):
        SharedMemory(name)


@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        ({"create": True}, ValueError),
        ({"create": True, "size": -1}, ValueError),
        ({"name": "x", "size": -1}, ValueError),
        ({"create": True, "size": 1.5}, TypeError),
        ({}, ValueError),
        ({"name": ""}, OSError),
        ({"name": "/"}, OSError),
        ({"name": "."}, OSError),
        ({"name": "a/b", "create": True, "size": 1}, OSError),
        ({"name": "x" * 300, "create": True, "size": 1}, OSError),
        ({"name": "a\0b"}, ValueError),
        ({"name": 5}, TypeError),
    ],
)
def test_arguments_that_are_refused(arguments, error):
    with pytest.raises(error) as caught:
        SharedMemory(**arguments)
    assert len(str(caught.value)) > 20


def test_what_is_no_segment_is_refused(name, tmp_path):
    path = path_of(name)
    for make, text in [
        (lambda: os.mkfifo(path, 0o600), "pipe"),
        (lambda: path.symlink_to(tmp_path / "x"), "link"),
        (path.mkdir, "directory"),
    ]:
        make()
        with pytest.raises(oc.OneCopyError, match=text):
            SharedMemory(name)
        with pytest.raises(FileExistsError):
            SharedMemory(name, create=True, size=1)
        segments.sweep()
        assert os.path.lexists(path)
        path.rmdir() if path.is_dir() else path.unlink()


def test_a_pool_is_refused(name):
    path_of(name).write_bytes(b"onecopy1" + bytes(4088))
    with pytest.raises(oc.OneCopyError, match="pool"):
        SharedMemory(name)
    path_of(name).unlink()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give files away")
def test_what_another_user_has_is_refused(name):
    path = path_of(name)
    path.write_bytes(b"theirs")
    os.chown(path, 65534, 65534)
    path.chmod(0o1666)
    with pytest.raises(PermissionError, match="65534"):
        SharedMemory(name)
    segments.sweep()
    assert exists(name)
    path.unlink()


def test_an_empty_one_is_refused(name):
    path_of(name).touch(0o600)
    with pytest.raises(ValueError, match="empty"):
        SharedMemory(name)
    path_of(name).unlink()


# ---- close, unlink, and going --------------------------------------------------------------------


def mapped(inode):
    # By number: the memory was mapped before the file had a name.
    maps = Path("/proc/self/maps").read_text()
    return any(line.split()[4] == str(inode) for line in maps.splitlines())


def test_close_leaves_arrays_their_memory(name):
    shm = SharedMemory(name, create=True, size=800)
    array = np.ndarray(100, "f8", buffer=shm.buf)
    view = shm.buf[5:10]
    inode = path_of(name).stat().st_ino
    array[:] = 7
    shm.close()
    shm.close()
    assert shm.buf is None
    assert array.sum() == 700
    assert mapped(inode)
    del array
    view[0] = 1
    del view
    assert not mapped(inode)
    shm.unlink()


def test_an_array_alone_keeps_the_memory(name):
    """Of a buffer numpy keeps only who exports it."""
    shm = SharedMemory(name, create=True, size=800)
    inode = path_of(name).stat().st_ino
    array = np.ndarray(100, "f8", buffer=shm.buf)
    array[:] = 7
    shm.close()
    assert array.sum() == 700
    assert mapped(inode)
    del array
    assert not mapped(inode)
    assert np.ndarray(1, "f8", buffer=SharedMemory(name).buf)[0] == 7


def test_close_without_views_gives_the_memory_back(name):
    shm = SharedMemory(name, create=True, size=800)
    inode = path_of(name).stat().st_ino
    assert mapped(inode)
    shm.close()
    assert not mapped(inode)
    shm.unlink()


def test_close_and_then_unlink(name):
    shm = SharedMemory(name, create=True, size=10)
    shm.close()
    assert exists(name)
    assert SharedMemory(name).size == 10
    assert exists(name)
    shm.unlink()
    assert not exists(name)
    with pytest.raises(FileNotFoundError, match=name):
        shm.unlink()


def test_unlink_leaves_the_memory(name):
    shm = SharedMemory(name, create=True, size=10)
    other = SharedMemory(name)
    other.unlink()
    assert not exists(name)
    shm.buf[0] = 5
    assert other.buf[0] == 5
    with pytest.raises(FileNotFoundError):
        shm.unlink()


def test_unlink_does_not_touch_a_name_that_was_made_anew(name):
    old = SharedMemory(name, create=True, size=10)
    SharedMemory(name).unlink()
    new = SharedMemory(name, create=True, size=20)
    with pytest.raises(FileNotFoundError):
        old.unlink()
    old.close()
    del old
    assert SharedMemory(name).size == 20
    new.unlink()


def test_it_stays_for_as_long_as_its_program(name):
    shm = SharedMemory(name, create=True, size=10)
    shm.buf[0] = 7
    assert state_of(name) == "in_use"
    del shm
    assert state_of(name) == "kept"
    segments.sweep()
    other = SharedMemory(name)
    assert other.buf[0] == 7
    assert state_of(name) == "in_use"
    with pytest.raises(FileExistsError):
        SharedMemory(name, create=True, size=10)
    other.close()
    del other
    SharedMemory(name).unlink()
    assert not exists(name)


def test_in_a_cycle_of_garbage(name):
    shm = SharedMemory(name, create=True, size=10)
    shm.itself = shm
    del shm
    gc.collect()
    assert state_of(name) == "kept"


def test_the_last_one_takes_the_name_of_a_dead_program_along(name):
    program = Running(CREATE_OURS.format(name, ""), holding=False)
    program.says("ready")
    first = SharedMemory(name)
    program.kill()
    segments.sweep()
    second = SharedMemory(name)
    del first
    assert exists(name)
    third = SharedMemory(name)
    del second
    assert exists(name)
    del third
    assert not exists(name)


def test_who_keeps_it_stands_in_the_file(name):
    shm = SharedMemory(name, create=True, size=10)
    start = int(Path("/proc/self/stat").read_text().rpartition(")")[2].split()[19])
    space = Path("/proc/self/ns/pid").stat().st_ino % 128
    wanted = ((1 << 36) + start) * 10**9 + (space << 22) + os.getpid()
    assert path_of(name).stat().st_atime_ns == wanted
    shm.buf[:5] = b"hello"
    array = np.ndarray(10, "u1", buffer=SharedMemory(name).buf)
    array[:] = 5
    plain(ATTACH, name)
    assert bytes(shm.buf[:5]) == b"plain"
    assert path_of(name).read_bytes()[:5] == b"plain"
    assert path_of(name).stat().st_atime_ns == wanted


@pytest.mark.parametrize(
    "when", [0, 1, -5, 10**18 + 4, (1 << 36) * 10**9 + 1, (1 << 40) * 10**9 + 999_999_999]
)
def test_a_time_that_names_nobody(name, when):
    shm = SharedMemory(name, create=True, size=10)
    os.utime(path_of(name), ns=(when, when))
    segments.sweep()
    assert SharedMemory(name).size == 10
    del shm
    segments.sweep()
    assert not exists(name)


def test_another_with_the_keepers_pid_is_not_the_keeper(name):
    shm = SharedMemory(name, create=True, size=10)
    when = path_of(name).stat().st_atime_ns - 10**9
    os.utime(path_of(name), ns=(when, when))
    del shm
    segments.sweep()
    assert not exists(name)


def test_untracked_it_stays(name):
    shm = SharedMemory(name, create=True, size=10, track=False)
    assert stat.S_IMODE(path_of(name).stat().st_mode) == 0o1700
    del shm
    segments.sweep()
    assert [info.state for info in segments.sweep() if info.name == name] == ["persistent"]
    other = SharedMemory(name)
    assert other.kind == "onecopy"
    del other
    assert exists(name)
    SharedMemory(name).unlink()
    assert not exists(name)


def test_memory_of_closed_ones_that_others_have_unlinked_is_given_back(name):
    shm = SharedMemory(name, create=True, size=10)
    shm.close()
    SharedMemory(name).unlink()
    descriptor = shm._segment.fileno()
    assert os.fstat(descriptor).st_nlink == 0
    another = SharedMemory(create=True, size=1)
    assert shm._segment.fileno() == -1
    another.unlink()


def test_with(name):
    with SharedMemory(name, create=True, size=10) as shm:
        shm.buf[0] = 1
    assert shm.buf is None
    shm.unlink()


def test_a_failure_while_it_is_made_leaves_nothing(name):
    def fail(mapping):
        raise KeyError("told to")

    with pytest.raises(KeyError):
        SharedMemory._filled(name, 10, fail)
    assert not exists(name)


def test_without_unnamed_files(name, monkeypatch):
    real = os.open

    def old(path, flags, *rest, **others):
        if flags & os.O_TMPFILE == os.O_TMPFILE:
            raise OSError(95, "not supported")
        return real(path, flags, *rest, **others)

    monkeypatch.setattr(os, "open", old)
    shm = SharedMemory(name, create=True, size=10)
    assert stat.S_IMODE(path_of(name).stat().st_mode) == 0o1600
    assert path_of(name).stat().st_nlink == 1
    with pytest.raises(FileExistsError):
        SharedMemory(name, create=True, size=10)
    assert not list(SHM.glob(segments._HIDDEN + "*"))
    shm.unlink()


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_pickling_sends_the_name(name, protocol):
    shm = SharedMemory(name, create=True, size=10)
    text = pickle.dumps(shm, protocol)
    other = pickle.loads(text)
    other.buf[3] = 3
    assert shm.buf[3] == 3
    shm.unlink()
    with pytest.raises(FileNotFoundError):
        pickle.loads(text)


# ---- other processes -----------------------------------------------------------------------------


def write_and_end(shm, closes):
    if isinstance(shm, str):
        shm = SharedMemory(shm)
    shm.buf[:5] = b"child"
    if closes:
        shm.close()


@pytest.mark.parametrize("closes", [False, True])
@pytest.mark.parametrize("by_name", [False, True])
def test_a_child_has_it_and_leaves_it(name, start, method, closes, by_name):
    shm = SharedMemory(name, create=True, size=10)
    assert start(method, write_and_end, name if by_name else shm, closes).wait() == 0
    assert exists(name)
    assert bytes(shm.buf[:5]) == b"child"
    del shm
    SharedMemory(create=True, size=1).unlink()  # what was kept for the child is given back
    assert state_of(name) == "kept"


def expect(shm, content):
    assert bytes(shm.buf[: len(content)]) == content


@pytest.mark.parametrize("method", RELATIVES)
def test_dropped_right_after_the_start_of_a_child(name, start, method):
    shm = SharedMemory(name, create=True, size=10)
    shm.buf[:3] = b"abc"
    child = start(method, expect, shm, b"abc")
    del shm
    assert child.wait() == 0


def hold(name, ready, go_on):
    shm = SharedMemory(name)
    shm.buf[0] = 1
    open(ready, "w").close()  # noqa: PTH123 - a pipe
    open(go_on).close()  # noqa: PTH123 - as above
    del shm


def create_and_hold(name, ready, go_on):
    shm = SharedMemory(name, create=True, size=10)
    open(ready, "w").close()  # noqa: PTH123 - a pipe
    open(go_on).close()  # noqa: PTH123 - as above
    sys.modules["kept"] = shm  # goes with the process


@pytest.fixture
def pipes(tmp_path):
    for pipe in ("ready", "go_on"):
        os.mkfifo(tmp_path / pipe)
    return str(tmp_path / "ready"), str(tmp_path / "go_on")


def wait(pipe):
    open(pipe).close()  # noqa: PTH123 - a pipe


def go(pipe):
    open(pipe, "w").close()  # noqa: PTH123 - a pipe


def test_the_creator_is_killed_and_another_has_it(name, start, method, pipes):
    creator = start(method, create_and_hold, name, *pipes)
    wait(pipes[0])
    shm = SharedMemory(name)
    creator.kill()
    segments.sweep()
    assert exists(name)
    assert SharedMemory(name).size == 10
    del shm
    assert exists(name) == (method != "stranger")  # the others' program is this one


@pytest.mark.one_in(3)
@pytest.mark.parametrize("next_one", ["attach", "create", "again", "pool", "gc", "command"])
def test_all_are_killed(name, start, pipes, next_one, monkeypatch):
    child = start("stranger", create_and_hold, name, *pipes)
    wait(pipes[0])
    assert [i.state for i in inspect.list_segments() if i.name == name] == ["in_use"]
    child.kill()
    monkeypatch.setattr(segments, "_swept_at", float("-inf"))
    if next_one == "attach":
        with pytest.raises(FileNotFoundError):
            SharedMemory(name)
    elif next_one == "create":
        SharedMemory(create=True, size=1).unlink()
    elif next_one == "again":
        again = SharedMemory(name, create=True, size=20)
        assert again.size == 20
        again.unlink()
    elif next_one == "pool":
        oc.Pool.create("another", size="16MiB").close()
    elif next_one == "gc":
        inspect.gc_segments()
    else:
        command = [sys.executable, "-m", "onecopy.cli", "gc"]
        subprocess.run(command, check=True, capture_output=True)
    assert not exists(name)


def test_the_command_line_lists_it(name):
    shm = SharedMemory(name, create=True, size=2048)
    command = [sys.executable, "-W", "error", "-m", "onecopy.cli", "ls"]
    table = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    (line,) = [line for line in table.splitlines() if name in line]
    assert line.split()[1:] == ["segment", "in_use", "-", "-", "2.0", "KiB", "-", "-", "-"]
    text = subprocess.run([*command, "--json"], check=True, capture_output=True, text=True).stdout
    assert f'"name": "{name}"' in text
    shm.unlink()


def test_the_last_one_ends_by_itself(name, start, method, pipes):
    child = start(method, create_and_hold, name, *pipes)
    wait(pipes[0])
    go(pipes[1])
    assert child.wait() == 0
    assert exists(name) == (method != "stranger")  # without a sweep


def test_a_forked_child_has_what_its_parent_has(name, start, pipes):
    shm = SharedMemory(name, create=True, size=10)
    child = start("fork", hold, name, *pipes)
    wait(pipes[0])
    del shm
    segments.sweep()
    assert state_of(name) == "in_use"
    go(pipes[1])
    assert child.wait() == 0
    assert state_of(name) == "kept"


@pytest.mark.parametrize("end", ["os._exit(0)", "sys.exit()", "os.kill(os.getpid(), 9)"])
def test_a_forked_child_lets_go_and_the_parent_keeps(name, end):
    text = f"""
    from onecopy.multiprocessing.shared_memory import SharedMemory
    shm = SharedMemory({name!r}, create=True, size=10)
    def child(how):
        pid = os.fork()
        if pid == 0:
            how()
        os.waitpid(pid, 0)
        assert os.path.exists("/dev/shm/{name}")
    def closes():
        global shm
        shm.close()
        shm = None
        {end}
    child(lambda: {end})
    child(closes)
    other = SharedMemory({name!r})
    other.buf[0] = shm.buf[0] + 1
    assert shm.buf[0] == 1
    """
    assert run(text, holding=False) == (0, "")
    assert not exists(name)


@pytest.mark.parametrize("end", ["os._exit(0)", "sys.exit()", "os.kill(os.getpid(), 9)"])
def test_a_forked_child_is_the_last(name, pipes, end):
    """It outlives the program; the next one sweeps, or it takes the name along itself."""
    text = f"""
    from onecopy.multiprocessing.shared_memory import SharedMemory
    shm = SharedMemory({name!r}, create=True, size=10)
    if os.fork() == 0:
        for descriptor in 0, 1, 2: os.close(descriptor)
        open({pipes[1]!r}).close()
        {end}
    os.kill(os.getpid(), signal.SIGKILL)
    """
    assert run(text, holding=False) == (-signal.SIGKILL, "")
    assert state_of(name) == "in_use"
    go(pipes[1])
    if end == "sys.exit()":
        eventually(lambda: not exists(name), "it to be taken along")
    else:
        eventually(lambda: gone_after_sweep(name), "it to be swept")


# ---- the program that keeps it -------------------------------------------------------------------

CREATE_OURS = """
from onecopy.multiprocessing.shared_memory import SharedMemory
shm = SharedMemory({!r}, create=True, size=10)
{}
print("ready", flush=True)
sys.stdout.close()
signal.pause()
"""


def make_and_close(name, content):
    shm = SharedMemory(name, create=True, size=len(content))
    shm.buf[:] = content
    shm.close()
    return shm.name


@pytest.mark.parametrize("method", RELATIVES)
def test_a_pools_task_gives_a_name_back(name, method):
    with multiprocessing.get_context(method).Pool(1) as pool:
        got = pool.apply(make_and_close, (name, b"result"))
        segments.sweep()
        assert bytes(SharedMemory(got).buf) == b"result"
        pool.close()
        pool.join()
    segments.sweep()
    shm = SharedMemory(got)
    assert bytes(shm.buf) == b"result"
    shm.unlink()
    assert not exists(name)


def make_close_and_die(name, content):
    make_and_close(name, content)
    os.kill(os.getpid(), signal.SIGKILL)


def make_in_a_fork(name, content):
    child = multiprocessing.get_context("fork").Process(target=make_and_close, args=(name, content))
    child.start()
    child.join()
    child.close()


@pytest.mark.parametrize("method", RELATIVES)
@pytest.mark.parametrize("how", [make_and_close, make_close_and_die, make_in_a_fork])
def test_a_process_leaves_one_to_its_parent(name, start, method, how):
    status = start(method, how, name, b"result").wait()
    assert status == (-signal.SIGKILL if how is make_close_and_die else 0)
    segments.sweep()
    subprocess.run([sys.executable, "-m", "onecopy.cli", "gc"], check=True, capture_output=True)
    assert state_of(name) == "kept"
    assert bytes(SharedMemory(name).buf) == b"result"


def test_the_command_line_says_that_it_is_kept(name):
    make_and_close(name, b"result")
    command = [sys.executable, "-W", "error", "-m", "onecopy.cli"]
    table = subprocess.run([*command, "ls"], check=True, capture_output=True, text=True).stdout
    (line,) = [line for line in table.splitlines() if name in line]
    assert line.split()[1:3] == ["segment", "kept"]
    said = subprocess.run([*command, "gc"], check=True, capture_output=True, text=True).stdout
    assert name not in said
    assert exists(name)


TREE = """
import multiprocessing, os, signal, sys
from onecopy.multiprocessing.shared_memory import SharedMemory
def child(name):
    shm = SharedMemory(name, create=True, size=10)
    shm.close()
def main():
    context = multiprocessing.get_context(sys.argv[2])
    process = context.Process(target=child, args=(sys.argv[1],))
    process.start()
    process.join()
    assert process.exitcode == 0
    assert os.path.exists("/dev/shm/" + sys.argv[1])
    print("made", flush=True)
    sys.stdin.readline()
if __name__ == "__main__": main()
"""


@pytest.mark.parametrize("method", RELATIVES)
@pytest.mark.parametrize("end", ["by itself", "killed"])
def test_the_end_of_a_whole_program(name, tmp_path, method, end):
    (tmp_path / "tree.py").write_text(TREE)
    process = subprocess.Popen(
        [sys.executable, "-W", "error", str(tmp_path / "tree.py"), name, method],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    with process:
        assert process.stdout.readline() == "made\n"
        segments.sweep()
        assert state_of(name) == "kept"  # a stranger's, which lives
        if end == "killed":
            process.kill()
        else:
            process.stdin.write("end\n")
    if end == "killed":
        assert state_of(name) in {"orphan", None}  # None: another test has swept
        command = [sys.executable, "-m", "onecopy.cli", "gc"]
        subprocess.run(command, check=True, capture_output=True)
    assert not exists(name)  # else without a sweep


def test_a_keeper_that_ends_leaves_what_others_have(name):
    text = CREATE_OURS.format(name, "").replace("signal.pause()", "os.read(0, 1)")
    process = subprocess.Popen(
        [sys.executable, "-c", "import os, signal, sys\n" + text],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    with process:
        assert process.stdout.readline() == "ready\n"
        shm = SharedMemory(name)
    assert process.returncode == 0
    segments.sweep()
    assert SharedMemory(name).size == 10
    del shm
    assert not exists(name)


def test_a_daemon_is_a_program_of_its_own(name, pipes):
    """Whoever has started it has ended; so what it makes is its own to keep."""
    text = f"""
    from onecopy.multiprocessing.shared_memory import SharedMemory
    SharedMemory(create=True, size=10).unlink()
    parent = os.getpid()
    if os.fork(): os._exit(0)
    while os.getppid() == parent: pass
    SharedMemory({name!r}, create=True, size=10)
    for descriptor in 0, 1, 2: os.close(descriptor)
    open({pipes[0]!r}, "w").close()
    open({pipes[1]!r}).close()
    """
    assert run(text, holding=False) == (0, "")
    wait(pipes[0])
    segments.sweep()
    assert state_of(name) == "kept"
    go(pipes[1])
    eventually(lambda: not exists(name), "the daemon to end")


# ---- plain multiprocessing.shared_memory ---------------------------------------------------------

ATTACH = """
import sys
from multiprocessing import resource_tracker, shared_memory
shm = shared_memory.SharedMemory(sys.argv[1])
resource_tracker.unregister(shm._name, "shared_memory")
print(shm.size, bytes(shm.buf[:5]).decode())
shm.buf[:5] = b"plain"
shm.close()
"""
CREATE = """
import sys
from multiprocessing import shared_memory
shm = shared_memory.SharedMemory(sys.argv[1], create=True, size=100)
shm.buf[:5] = b"plain"
print("ready", flush=True)
sys.stdin.readline()
assert bytes(shm.buf[:4]) == b"ours"
shm.close()
shm.unlink()
"""


def test_a_plain_process_attaches_to_ours(name):
    shm = SharedMemory(name, create=True, size=100)
    shm.buf[:5] = b"hello"
    done = plain(ATTACH, name)
    assert (done.stdout, done.stderr) == ("100 hello\n", "")
    assert bytes(shm.buf[:5]) == b"plain"
    assert SharedMemory(name).size == 100
    shm.unlink()


def test_the_tracker_of_a_plain_process_takes_only_the_name(name):
    """It does so before 3.13, and after without track=False; what we have goes on."""
    shm = SharedMemory(name, create=True, size=100)
    text = "import sys; from multiprocessing.shared_memory import *; s = SharedMemory(sys.argv[1])"
    plain(text, name)
    eventually(lambda: not exists(name), "the tracker to take the name")
    shm.buf[0] = 5
    with pytest.raises(FileNotFoundError):
        shm.unlink()


def test_we_attach_to_a_plain_one(name):
    process = subprocess.Popen(
        [sys.executable, "-W", "error", "-c", CREATE, name],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    with process:
        assert process.stdout.readline() == "ready\n"
        shm = SharedMemory(name)
        assert (shm.kind, shm.size) == ("multiprocessing", 100)
        assert bytes(shm.buf[:5]) == b"plain"
        shm.buf[:4] = b"ours"
        shm.close()
        del shm
        segments.sweep()
        assert exists(name)
        _, said = process.communicate("go on\n", timeout=LIMIT)
        assert (process.returncode, said) == (0, "")
    assert not exists(name)


def test_one_of_the_standard_library_is_never_swept(name):
    path_of(name).write_bytes(b"left behind")
    path_of(name).chmod(0o600)
    segments.sweep()
    shm = SharedMemory(name)
    assert shm.kind == "multiprocessing"
    del shm
    segments.sweep()
    assert exists(name)
    SharedMemory(name).unlink()
    assert not exists(name)


def test_pickles_of_both_kinds_look_alike(name):
    ours = SharedMemory(name, create=True, size=100)
    theirs = standard.SharedMemory.__new__(standard.SharedMemory)
    theirs._name, theirs._size = f"/{name}", 100
    assert ours.__reduce__()[1] == theirs.__reduce__()[1]
    theirs._name = None
    ours.unlink()


# ---- ends of interpreters ------------------------------------------------------------------------

ENDS = {
    "with everything alive": "",
    "closed": "shm.close()",
    "unlinked": "shm.unlink()",
    "through the class": "SharedMemory.kept = shm",
    "in a module that stays": "import os; os.kept = shm, array",
    "in a cycle": "shm.itself = shm; shm.array = array; gc.disable()",
    "with daemon threads that go on attaching": """
        def use():
            while True:
                array[0] += 1
                try: SharedMemory(shm.name)
                except FileNotFoundError: break  # the program ends, and the name with it
        for _ in range(4): threading.Thread(target=use, daemon=True).start()
        """,
    "in an exit handler": "atexit.register(lambda: SharedMemory(create=True, size=5))",
    "sys.exit": "sys.exit()",
    "with a finalizer": "weakref.finalize(array, shm.close)",
}


@pytest.mark.parametrize("case", ENDS)
def test_the_end_of_an_interpreter(case, name):
    text = f"""
    from onecopy.multiprocessing.shared_memory import SharedMemory, ShareableList
    from multiprocessing import resource_tracker
    shm = SharedMemory({name!r}, create=True, size=800)
    array = np.ndarray(100, "f8", buffer=shm.buf)
    items = ShareableList([1, "two"])
    """
    text = textwrap.dedent(text) + textwrap.dedent(ENDS[case])
    tracker = "\nassert resource_tracker._resource_tracker._pid is None\n"
    program = tracker + text if case == "sys.exit" else text + tracker
    if case == "sys.exit":
        program = "from multiprocessing import resource_tracker" + program
    assert run(program, holding=False) == (0, "")
    assert not exists(name)


def test_a_parent_that_does_not_wait_for_its_child(name, tmp_path):
    """It ends without a word right after the start; multiprocessing joins the child at exit."""
    (tmp_path / "body.py").write_text(
        textwrap.dedent(f"""
        import multiprocessing
        from onecopy.multiprocessing.shared_memory import SharedMemory
        def child(shm): assert bytes(shm.buf[:3]) == b"abc"; shm.buf[0] = 7
        def main():
            shm = SharedMemory({name!r}, create=True, size=10)
            shm.buf[:3] = b"abc"
            for method in "spawn", "forkserver", "fork":
                process = multiprocessing.get_context(method).Process(target=child, args=(shm,))
                process.start()
                if method == "spawn": return
        if __name__ == "__main__": main()
        """)
    )
    done = subprocess.run(
        [sys.executable, "-W", "error", str(tmp_path / "body.py")],
        capture_output=True,
        text=True,
        check=False,
        timeout=LIMIT,
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert not exists(name)


# ---- full memory ---------------------------------------------------------------------------------


def test_more_than_there_is(name):
    with pytest.raises(oc.PoolFull, match=r"1\.0 PiB|1024\.0 TiB") as caught:
        SharedMemory(name, create=True, size=1 << 50)
    assert isinstance(caught.value, MemoryError)
    assert "free" in str(caught.value)
    assert not exists(name)


def test_signals_do_not_disturb_a_large_one(name):
    previous = signal.signal(signal.SIGPROF, lambda *_: None)
    signal.setitimer(signal.ITIMER_PROF, 0.005, 0.005)
    try:
        shm = SharedMemory(name, create=True, size=256 << 20)
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)
        signal.signal(signal.SIGPROF, previous)
    assert path_of(name).stat().st_blocks * 512 >= 256 << 20
    shm.unlink()


# ---- races ---------------------------------------------------------------------------------------


def test_threads_and_forks():
    wrong = []

    def work(seed):
        try:
            for _ in range(60):
                shm = SharedMemory(create=True, size=64)
                shm.buf[0] = 7
                other = SharedMemory(shm.name)
                shm.close()
                assert other.buf[0] == 7
                (shm if seed % 2 else other).unlink()
        except BaseException as error:  # noqa: BLE001 - reported by the test
            wrong.append(error)

    threads = [threading.Thread(target=work, args=(seed,)) for seed in range(4)]
    for thread in threads:
        thread.start()
    while any(thread.is_alive() for thread in threads):
        pid = os.fork()
        if pid == 0:
            shm = SharedMemory(create=True, size=1)
            shm.unlink()
            os._exit(exists(shm))
        assert os.waitpid(pid, 0)[1] == 0
    assert wrong == []


def come_and_go(name, seed, times, report):
    """Be a user for a moment, again and again; meanwhile the name must be the file's."""
    randomness = random.Random(seed)  # noqa: S311 - not for secrets
    met = 0
    try:
        for _ in range(times):
            try:
                if randomness.random() < 0.5:
                    shm = SharedMemory(name)
                    met += 1
                else:
                    shm = SharedMemory(name, create=True, size=4096)
                    if randomness.random() < 0.7:
                        os.utime(shm._segment.fileno(), ns=(0, 0))  # nobody keeps it
                    else:
                        shm._segment.keep_here()
            except FileExistsError:
                continue
            except FileNotFoundError:
                continue
            inode = shm._segment._ino[1]
            for _ in range(randomness.randrange(4)):
                assert path_of(name).stat().st_ino == inode, "it was taken from under us"
                if randomness.random() < 0.3:
                    segments.sweep()
            assert path_of(name).stat().st_ino == inode, "it was taken from under us"
            fork = randomness.random()
            if fork < 0.05 and os.fork() == 0:
                os.kill(os.getpid(), signal.SIGKILL)
            if fork > 0.97:
                report.put(met)
                report.close()
                report.join_thread()
                os.kill(os.getpid(), signal.SIGKILL)
            del shm
        report.put(met)
    except BaseException as error:
        report.put(repr(error))
        raise


@pytest.mark.seeded
def test_creators_users_and_the_dead_of_one_name(name):
    print(f"seed {SEED}")
    context = multiprocessing.get_context("fork")
    report = context.SimpleQueue()
    report.close, report.join_thread = (lambda: None), (lambda: None)
    crew, met = [], 0
    for number in range(more(40)):
        crew.append(context.Process(target=come_and_go, args=(name, SEED + number, 40, report)))
        crew[-1].start()
        while len(crew) == 4:
            multiprocessing.connection.wait([process.sentinel for process in crew])
            for process in [one for one in crew if not one.is_alive()]:
                process.close()
                crew.remove(process)
    for process in crew:
        process.join(LIMIT)
        process.close()
    while not report.empty():
        said = report.get()
        assert isinstance(said, int), said
        met += said
    assert met > 0
    report._reader.close()
    report._writer.close()
    eventually(lambda: gone_after_sweep(name), "the name to be gone")


def unlink_again(name, times, report):
    """Unlink what one has, and only that."""
    count = 0
    while count < times:
        try:
            mine = SharedMemory(name, create=True, size=1)
        except FileExistsError:
            continue
        other = SharedMemory(name)
        assert mine._segment._ino == other._segment._ino
        child = os.fork()
        done = 0
        for one in (mine, other):
            try:
                one.unlink()
                done += 1
            except FileNotFoundError:
                pass
        if child == 0:
            os._exit(done)
        done += os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        assert done == 1, f"{done} have unlinked it"
        count += 1
    report.send(count)


@pytest.mark.check
def test_a_name_is_unlinked_once(name):
    """Whoever else makes the name anew in between keeps it."""
    context = multiprocessing.get_context("fork")
    crew = []
    for _ in range(3):
        mine, theirs = context.Pipe()
        process = context.Process(target=unlink_again, args=(name, 100, theirs))
        process.start()
        theirs.close()
        crew.append((process, mine))
    for process, pipe in crew:
        assert pipe.recv() == 100
        process.join(LIMIT)
        assert process.exitcode == 0
        process.close()
        pipe.close()
