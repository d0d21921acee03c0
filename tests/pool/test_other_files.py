"""Other files in the place of a pool: each is refused, and nothing is damaged or removed."""

from __future__ import annotations

import os
import socket
import stat
from pathlib import Path

import pytest
from forks import in_child

import onecopy as oc
from onecopy._core import stale

NOBODY = 65534
as_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can do this to a file")


def sound(directory):
    """A kept pool elsewhere, as a target of links."""
    path = directory / "elsewhere"
    with oc.Pool.create(path, size="16MiB", persistent=True) as pool:
        pool["a"] = 1
    return path


def put_link(path):
    path.symlink_to(sound(path.parent))


def put_dangling_link(path):
    path.symlink_to(path.parent / "nothing")


def put_hard_link_to_nonsense(path):
    other = path.parent / "other"
    other.write_bytes(b"precious")
    path.hardlink_to(other)


def put_fifo(path):
    os.mkfifo(path)


def put_directory(path):
    path.mkdir()
    (path / "precious").write_text("precious")


def put_socket(path):
    with socket.socket(socket.AF_UNIX) as server:
        here = os.open(path.parent, os.O_RDONLY)
        try:
            server.bind(f"/proc/self/fd/{here}/{path.name}")  # a short path
        finally:
            os.close(here)


def put_device(path):
    os.mknod(path, 0o600 | stat.S_IFCHR, os.makedev(1, 7))  # /dev/full


def put_empty_file(path):
    path.touch()


def put_text(path):
    path.write_text("onecopy1" * 1000)


def put_rendezvous_to_nowhere(path):
    path.write_text("onecopy-memfd 1 " + "zz" * 16 + "\n1 0 0 0\nnonsense\n")


def put_rendezvous_to_ourselves(path):
    """A line that names a descriptor of a live process which is not that of a pool."""
    start = Path("/proc/self/stat").read_text().rpartition(")")[2].split()[19]
    namespace = Path("/proc/self/ns/pid").stat().st_ino
    lines = "".join(f"{os.getpid()} {fd} {start} {namespace}\n" for fd in range(8))
    path.write_text("onecopy-memfd 1 " + "0" * 32 + "\n" + lines)


def put_half_a_header(path):
    whole = sound(path.parent)
    path.write_bytes(whole.read_bytes()[:2000])


def state_of(directory):
    """Names, kinds and contents of all files."""
    state = {}
    for path in sorted(directory.rglob("*")):
        there = path.lstat()
        data = (
            path.read_bytes() if stat.S_ISREG(there.st_mode) and there.st_size < 1 << 16 else None
        )
        state[str(path)] = (there.st_mode, there.st_uid, there.st_ino, there.st_size, data)
    return state


@pytest.mark.parametrize(
    "put",
    [
        put_link,
        put_dangling_link,
        put_hard_link_to_nonsense,
        put_fifo,
        put_directory,
        put_socket,
        pytest.param(put_device, marks=as_root),
        put_empty_file,
        put_text,
        put_half_a_header,
    ],
)
def test_what_is_no_pool_is_refused_and_left_alone(pool_directory, tmp_path, put):
    path = pool_directory / "camera.pool"
    put(path)
    before = state_of(pool_directory)
    refusals = (oc.PoolCorrupted, oc.PoolVersionError, PermissionError)
    for use in (lambda: oc.Pool.open("camera"), lambda: oc.Pool("camera", size="16MiB")):
        with pytest.raises(refusals):
            use()
    with pytest.raises(oc.PoolExists):
        oc.Pool.create("camera", size="16MiB")
    stale.sweep(str(pool_directory), remove=True)
    assert state_of(pool_directory) == before
    clear(pool_directory)


def clear(directory):
    for path in sorted(directory.rglob("*"), reverse=True):
        if path.is_dir() and not path.is_symlink():
            path.rmdir()
        else:
            path.unlink()


@pytest.mark.parametrize("put", [put_rendezvous_to_nowhere, put_rendezvous_to_ourselves])
def test_a_rendezvous_that_leads_nowhere_is_no_pool(pool_directory, put):
    """A line of another PID namespace may be true: its file is left alone."""
    put(pool_directory / "camera.pool")
    with pytest.raises((oc.PoolNotFound, PermissionError)):
        oc.Pool.open("camera")
    clear(pool_directory)


@as_root
@pytest.mark.parametrize("mode", [0o600, 0o644])
def test_a_pool_that_was_given_to_another_user(pool_directory, mode):
    assert in_child(keep, "camera") is None
    path = pool_directory / "camera.pool"
    path.chmod(mode)
    os.chown(path, NOBODY, NOBODY)
    before = state_of(pool_directory)
    for use in (lambda: oc.Pool.open("camera"), lambda: oc.Pool("camera", size="16MiB")):
        with pytest.raises(PermissionError, match="another user"):
            use()
    assert state_of(pool_directory) == before
    path.unlink()


def keep(name):
    oc.Pool.create(name, size="16MiB", persistent=True).close()


@pytest.mark.parametrize("mode", [0o770, 0o702, 0o1777, 0o720])
def test_a_directory_that_others_may_write(tmp_path, monkeypatch, mode):
    directory = tmp_path / "pools"
    directory.mkdir()
    directory.chmod(mode)
    monkeypatch.setenv("ONECOPY_DIR", str(directory))
    with pytest.raises(PermissionError, match="writable by others"):
        oc.Pool.create("camera", size="16MiB")
    assert list(directory.iterdir()) == []
    assert stat.S_IMODE(directory.stat().st_mode) == mode


@as_root
def test_a_directory_of_another_user(tmp_path, monkeypatch):
    directory = tmp_path / "pools"
    directory.mkdir(mode=0o700)
    os.chown(directory, NOBODY, NOBODY)
    monkeypatch.setenv("ONECOPY_DIR", str(directory))
    with pytest.raises(PermissionError, match="another user"):
        oc.Pool.create("camera", size="16MiB")
    assert list(directory.iterdir()) == []


@pytest.mark.parametrize("end", ["", "/", "//", "/."])
def test_a_directory_that_is_a_link(tmp_path, monkeypatch, end):
    (tmp_path / "real").mkdir(mode=0o700)
    (tmp_path / "link").symlink_to(tmp_path / "real")
    monkeypatch.setenv("ONECOPY_DIR", str(tmp_path / "link") + end)
    for use in (lambda: oc.Pool.create("camera", size="16MiB"), lambda: oc.Pool.open("camera")):
        with pytest.raises(PermissionError):
            use()
    assert list((tmp_path / "real").iterdir()) == []


@pytest.mark.parametrize("kind", ["file", "fifo", "nothing/below"])
def test_a_directory_that_is_none(tmp_path, monkeypatch, kind):
    place = tmp_path / kind
    if kind == "file":
        place.write_text("precious")
    elif kind == "fifo":
        os.mkfifo(place)
    monkeypatch.setenv("ONECOPY_DIR", str(place))
    with pytest.raises((OSError, oc.OneCopyError)):
        oc.Pool.create("camera", size="16MiB")
    with pytest.raises((OSError, oc.OneCopyError)):
        oc.Pool.open("camera")


@pytest.mark.parametrize(
    "name", ["..", ".", "", "a\0b", "\0", "x" * 300, ".onecopy-new-0", "a/../b"]
)
def test_names_that_lead_elsewhere_are_refused_by_the_core(pool_directory, name):
    """The Python layer refuses most of them earlier; a pickled handle gets this far."""
    from onecopy import _native

    with pytest.raises(ValueError, match=r"."):
        _native.Member.open(str(pool_directory), name, False)
    with pytest.raises(ValueError, match=r"."):
        _native.Member.create(
            str(pool_directory), name, False, 1 << 20, 8, 0o600, False, False, False
        )
    assert list(pool_directory.iterdir()) == []


def test_a_pool_that_is_replaced_is_not_removed_by_its_last_member(pool_directory):
    """The name now belongs to the other process."""
    pool = oc.Pool.create("camera", size="16MiB")
    path = pool_directory / "camera.pool"
    path.unlink()
    path.write_text("precious")
    pool.close()
    assert path.read_text() == "precious"
    path.unlink()
