"""SharedMemory: each process that has a segment keeps it; it is removed when none has it."""

import gc
import os
import pickle
import stat
from pathlib import Path

import numpy as np
import pytest
from programs import Running
from segment_files import exists, path_of, plain, state_of
from segment_programs import ATTACH, CREATE_OURS

import onecopy as oc
from onecopy._core import segments
from onecopy.multiprocessing.shared_memory import SharedMemory

pytestmark = pytest.mark.one_in(2)

RELATIVES = ["fork", "forkserver", "spawn"]


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
    # Through the descriptor: the memory was mapped before the file had a name.
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
    """For a buffer, numpy keeps only the object that exports it."""
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


def test_another_with_the_owner_s_pid_is_not_the_owner(name):
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


def test_without_unnamed_files(name):
    """The kernel refuses O_TMPFILE in that process, as file systems do that have no such files."""
    text = f"""
    from unnamed_files import refuse_unnamed_files
    from onecopy._core import segments
    from onecopy.multiprocessing.shared_memory import SharedMemory
    refuse_unnamed_files()
    shm = SharedMemory({name!r}, create=True, size=10)
    status = os.stat("/dev/shm/{name}")
    assert (status.st_mode & 0o7777, status.st_nlink) == (0o1600, 1), status
    try: SharedMemory({name!r}, create=True, size=10)
    except FileExistsError: pass
    else: raise AssertionError("it was made twice")
    hidden = [each for each in os.listdir("/dev/shm") if each.startswith(segments._HIDDEN)]
    assert not hidden, hidden
    shm.unlink()
    """
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[1])}
    program = Running(text, holding=False, environment=environment)
    assert program.end() == (0, "")
    assert not exists(name)


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
