"""Files that are made: their rights, what a kill leaves, and which process gets a name."""

import errno
import os
import signal
import threading

import numpy as np
import pytest

import onecopy as oc
from onecopy._core import newfile, paths


@pytest.fixture(params=["O_TMPFILE", "no O_TMPFILE"])
def either_way(request, monkeypatch):
    """With files that have no name yet, and on file systems without such files."""
    if request.param == "O_TMPFILE":
        return
    real = os.open

    def open_(path, flags, *more, **named):
        if flags & os.O_TMPFILE == os.O_TMPFILE:
            raise OSError(errno.EOPNOTSUPP, "not supported")
        return real(path, flags, *more, **named)

    monkeypatch.setattr(os, "open", open_)


@pytest.mark.parametrize("mode", [0o600, 0o400, 0o664])
@pytest.mark.usefixtures("either_way")
def test_rights_stay(tmp_path, mode):
    path = tmp_path / "a.npy"
    path.write_bytes(b"x" * 100)
    path.chmod(mode)
    oc.open_array(path, "f4", 10, "w+")[:] = 1
    assert path.stat().st_mode & 0o7777 == mode
    assert np.load(path).tolist() == [1] * 10
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give files away")
def test_the_owner_stays(tmp_path):
    path = tmp_path / "raw"
    path.write_bytes(b"x")
    os.chown(path, 1234, 4321)
    oc.open_array(path, "f4", 10, "w+")
    assert (path.stat().st_uid, path.stat().st_gid) == (1234, 4321)


def test_a_kill_leaves_nothing(tmp_path, pool_directory):
    child = os.fork()
    if child == 0:
        newfile.NewFile.replace = newfile.NewFile.link = lambda *_: os.kill(
            os.getpid(), signal.SIGKILL
        )
        try:
            oc.open_array(tmp_path / "a.npy", "u1", 1 << 20, "w+")
        finally:
            os._exit(1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == -signal.SIGKILL
    assert list(tmp_path.iterdir()) == []


@pytest.mark.usefixtures("either_way")
def test_one_of_two_gets_a_name_whose_file_is_gone(pool_directory, monkeypatch):
    assert paths.give_name("t", "/gone")
    got = {}
    threads = []
    real = os.unlink

    def unlink(path, *more, **named):
        if str(path).endswith("t.pool") and not threads:  # the other one starts in the middle
            threads.append(threading.Thread(target=give, args=("/dev",)))
            threads[0].start()
        return real(path, *more, **named)

    def give(path):
        got[path] = paths.give_name("t", path)

    monkeypatch.setattr(os, "unlink", unlink)
    give("/etc")
    threads[0].join()
    assert got == {"/etc": True, "/dev": False}
    assert paths.signpost("t") == "/etc"
    paths.forget_path("/etc")
    assert list(pool_directory.iterdir()) == []


@pytest.mark.parametrize("fields", [500, 5000])
def test_long_and_foreign_headers(tmp_path, fields):
    for name in ("field_number", "日本"):
        dtype = np.dtype([(f"{name}_{i}", "f4") for i in range(fields)])
        oc.open_array(tmp_path / "a.npy", dtype, 3, "w+")[f"{name}_7"] = 2
        got = oc.open_array(tmp_path / "a.npy")
        assert got.dtype == dtype
        assert got.offset % 64 == 0
        assert np.array_equal(np.load(tmp_path / "a.npy", max_header_size=1 << 20), got)


def test_a_header_that_could_not_be_read_again(tmp_path):
    dtype = np.dtype([("x" * 300 + str(i), "f4") for i in range(4000)])
    with pytest.raises(ValueError, match="4000 fields"):
        oc.open_array(tmp_path / "a.npy", dtype, 3, "w+")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "shape", ["(-1,)", "(0, -5)", "(True,)", "(10**40,)", "(2**63, 0)", "(1,) * 65", "3"]
)
def test_shapes_that_no_array_has(tmp_path, shape):
    about = f"{{'descr': '<f8', 'fortran_order': False, 'shape': {eval(shape)}}}\n".encode()  # noqa: S307 - ours
    head = b"\x93NUMPY\x01\x00" + len(about).to_bytes(2, "little") + about
    (tmp_path / "a.npy").write_bytes(head + bytes(800))
    with pytest.raises(oc.BadFile, match=r"a\.npy"):
        oc.open_array(tmp_path / "a.npy")


def test_paths_of_bytes(tmp_path):
    path = os.fsencode(tmp_path / "b.npy")
    assert oc.open_array(path, "f4", 10, "w+").shape == (10,)
    assert oc.open_array(path).filename == os.fsdecode(path)
