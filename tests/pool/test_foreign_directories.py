"""A pool directory that another user has made first, or can change, is never used.

The parent of the pool directory (/dev/shm, /tmp) is open to all users. So a second user can make a
directory of the name in which the first one looks for its pools, with a pool in it that all users
may write. Each test has a real second user do so, and then tries every way into a pool.
"""

from __future__ import annotations

import concurrent.futures.process  # noqa: F401 - a child does not import what it uses
import contextlib
import os
import struct
from pathlib import Path

import pytest
from forks import in_child
from typer.testing import CliRunner

import onecopy as oc
import onecopy.executor
import onecopy.multiprocessing.shared_memory
from onecopy import _native, cli, default, inspect
from onecopy._core import membership, paths, stale
from onecopy.multiprocessing.shared_memory import ShareableList, SharedMemory

EVE = 65534
VICTIM = 65533
APP = cli.build()
POOLS = ("camera", "stale", "elsewhere")

pytestmark = [
    pytest.mark.skipif(os.geteuid() != 0, reason="only root can become other users"),
    pytest.mark.one_in(2),
]


def as_user(uid, function, *arguments):
    """Run it as an unprivileged user; return None, or the error."""

    def become():
        os.setgroups([])
        os.setgid(uid)
        os.setuid(uid)
        function(*arguments)

    return in_child(become)


# ---------------------------------------------------------------------------- what the other does


def lay(directory, mode):
    """Be the other user: make a directory with everything in it that a pool directory may have."""
    directory.mkdir(0o755)
    fill(directory)
    directory.chmod(mode)


def fill(directory):
    os.umask(0)
    made = directory.with_name("made")  # pools are made only in directories of their maker
    made.mkdir(0o700)
    for name in ("camera", "stale"):
        path = made / f"{name}.pool"
        with oc.Pool.create(path, size="1MiB", mode=0o666, persistent=True) as pool:
            pool["a"] = 7
        path.rename(directory / path.name)
    forget_persistence(directory / "stale.pool")
    made.rmdir()
    (directory / "elsewhere.pool").write_text(f"onecopy-path 1 {directory}/camera.pool\n")
    (directory / ".onecopy-new-0123456789abcdef").touch(0o666)


def forget_persistence(path):
    """Give a pool the lifetime of its processes, which have left it behind."""
    with path.open("r+b") as file:
        file.seek(56)
        flags = struct.unpack("<Q", file.read(8))[0]
        file.seek(56)
        file.write(struct.pack("<Q", flags & ~1))


def state(directory):
    """Return all that can be seen of a directory's files."""
    files = sorted(directory.iterdir())
    return [
        (file.name, file.stat().st_ino, file.stat().st_mode, file.read_bytes()) for file in files
    ]


@pytest.fixture
def common(pool_directory, monkeypatch):
    """A place like /dev/shm, in which the first user's pool directory is to be."""
    pool_directory.chmod(0o1777)
    monkeypatch.setenv("ONECOPY_DIR", str(pool_directory / "pools"))
    yield pool_directory
    monkeypatch.setenv("ONECOPY_DIR", str(pool_directory))
    empty(pool_directory)
    pool_directory.chmod(0o700)


def empty(directory):
    for path in directory.iterdir():
        if path.is_dir() and not path.is_symlink():
            empty(path)
            path.rmdir()
        else:
            path.unlink()


def made_by_another(common, mode):
    assert as_user(EVE, lay, common / "pools", mode) is None
    return common / "pools"


def a_link(common):
    """The link belongs to the first user: the owner of its target decides."""
    assert as_user(EVE, lay, common / "eve", 0o755) is None
    (common / "pools").symlink_to(common / "eve")
    return common / "eve"


def a_link_to_our_own(common):
    (common / "mine").mkdir(0o700)
    assert in_child(fill, common / "mine") is None
    (common / "pools").symlink_to(common / "mine")
    return common / "mine"


def open_to_all(common):
    (common / "pools").mkdir()
    (common / "pools").chmod(0o777)
    assert as_user(EVE, fill, common / "pools") is None
    return common / "pools"


def open_to_a_group(common):
    found = open_to_all(common)
    found.chmod(0o770)
    return found


ATTACKS = {
    "another user's": (lambda common: made_by_another(common, 0o755), "belongs to another user"),
    "another user's, open": (lambda common: made_by_another(common, 0o777), "another user"),
    "a link to another user's": (a_link, "symbolic link"),
    "a link to our own": (a_link_to_our_own, "symbolic link"),
    "our own, open to all": (open_to_all, r"writable by others \(mode 0777\)"),
    "our own, open to a group": (open_to_a_group, r"writable by others \(mode 0770\)"),
}


@pytest.fixture(params=ATTACKS)
def attacked(request, common):
    """A pool directory that must not be trusted, and the message about it."""
    attack, said = ATTACKS[request.param]
    return attack(common), said


# ------------------------------------------------------------------------------------ the ways in


def path_of(name):
    return f"{paths.pool_directory()}/{name}.pool"


def handle_to(name, *mode):
    with Path(path_of(name)).open("rb") as file:
        inode = os.fstat(file.fileno()).st_ino
        file.seek(16)
        return file.read(16), path_of(name), False, 0, inode, *mode


def a_file(act):
    """Act with the path of a pool that may lie in a file outside of the pool directory."""
    own = Path(paths.pool_directory()).with_name("files")
    own.mkdir(0o700)
    act(own / "table.pool")


def unlink_a_file(path):
    with oc.Pool.create(path, size="1MiB", persistent=True) as pool:
        pool.unlink()


def run(*arguments):
    """Run the command line; its output is the error."""
    done = CliRunner().invoke(APP, arguments)
    assert done.exit_code == 1
    assert done.exception is None or isinstance(done.exception, SystemExit), done.exception
    raise PermissionError(done.output)


WAYS = {
    "opening by name": oc.Pool.open,
    "opening or making": oc.Pool,
    "opening or making, of a size": lambda name: oc.Pool(name, size="1MiB"),
    "reading": lambda name: oc.Pool.open(name, mode="r"),
    "reading or nothing": lambda name: oc.Pool(name, mode="r"),
    "opening by path": lambda name: oc.Pool.open(path_of(name)),
    "opening or making by path": lambda name: oc.Pool(path_of(name), size="1MiB"),
    "reading by path": lambda name: oc.Pool.open(path_of(name), mode="r"),
    "making": lambda name: oc.Pool.create(name, size="1MiB"),
    "making a memfd": lambda name: oc.Pool.create(name, size="1MiB", backing="memfd"),
    "making by path": lambda name: oc.Pool.create(path_of(name), size="1MiB"),
    "a handle": lambda name: membership.join(handle_to(name)),
    "a handle to read": lambda name: membership.join(handle_to(name, "r")),
    "giving a name": lambda name: a_file(lambda file: oc.Pool.create(name, "1MiB", backing=file)),
    "opening a file with a name": lambda name: a_file(lambda file: oc.Pool(name, backing=file)),
    "reading a sign post": paths.signpost,
    "giving a sign post": lambda name: paths.give_name(name, "/a/file"),
    "taking sign posts away": lambda _: paths.forget_path(path_of("camera")),
    "unlinking a file": lambda _: a_file(unlink_a_file),
    "sweeping": lambda _: stale.sweep(paths.pool_directory(), remove=True),
    "looking what could be swept": lambda _: stale.sweep(paths.pool_directory(), remove=False),
    "preparing": lambda _: stale.prepare(paths.pool_directory()),
    "list_pools": lambda _: inspect.list_pools(),
    "inspect_pool": inspect.inspect_pool,
    "holders": inspect.holders,
    "inspect_pool by path": lambda name: inspect.inspect_pool(path_of(name)),
    "holders by path": lambda name: inspect.holders(path_of(name)),
    "gc": lambda _: inspect.gc(),
    "gc of a directory": lambda _: inspect.gc(paths.pool_directory()),
    "gc --dry-run": lambda _: inspect.gc(dry_run=True),
    "onecopy ls": lambda _: run("ls"),
    "onecopy ls --json": lambda _: run("ls", "--json"),
    "onecopy inspect": lambda name: run("inspect", name),
    "onecopy holders": lambda name: run("holders", name),
    "onecopy gc": lambda _: run("gc"),
    "onecopy doctor": lambda _: run("doctor"),
    "the default pool": lambda _: default.default_pool(),
    "putting": lambda _: oc.put([1]),
    "a list": lambda _: oc.List([1]),
    "a queue of the drop-in": lambda _: onecopy.multiprocessing.Queue(),
    "an executor": lambda _: oc.Executor(1),
}


def refused(way, name, said):
    with pytest.raises(PermissionError, match=said) as caught:
        WAYS[way](name)
    text = str(caught.value).replace("\n", " ")
    assert "ONECOPY_DIR" in text, text
    assert paths.pool_directory() in text, text
    nothing_is_open()


def nothing_is_open():
    assert membership.current() == []
    assert "/pools/" not in Path("/proc/self/maps").read_text()
    opened = [str(fd.readlink()) for fd in Path("/proc/self/fd").iterdir() if fd.exists()]
    assert not [path for path in opened if path.endswith((".pool", "/pools", "/eve"))], opened


@pytest.mark.one_in(7)
@pytest.mark.parametrize("way", WAYS)
def test_every_way_in_refuses_the_directory(attacked, way):
    directory, said = attacked
    before = state(directory)
    for name in POOLS:
        assert in_child(refused, way, name, said) is None
        assert state(directory) == before
        for own in directory.parent.glob("files/*"):
            own.unlink()
        for own in directory.parent.glob("files"):
            own.rmdir()


@pytest.mark.parametrize("way", ["opening by name", "making", "gc", "a handle"])
def test_an_ordinary_user_refuses_another_ones(common, way):
    directory = made_by_another(common, 0o755)
    before = state(directory)
    assert as_user(VICTIM, refused, way, "camera", "belongs to another user") is None
    assert state(directory) == before


def exchanged(way, name, own, eve, said):
    """Try one way in, while another process exchanges the directory directly after the check."""
    check, lock = _native.open_pool_directory, _native.DirectoryLock

    def exchange(path):
        if not own.exists():
            Path(path).rename(own)
            eve.rename(path)

    def checked_too_early(path, create):
        folder = check(path, create)
        exchange(path)
        return folder

    @contextlib.contextmanager
    def locked_too_early(path):
        with lock(path) as folder:
            exchange(path)
            yield folder

    _native.open_pool_directory, _native.DirectoryLock = checked_too_early, locked_too_early
    with pytest.raises((PermissionError, FileNotFoundError, oc.PoolNotFound)):
        WAYS[way](name)
    assert own.exists()
    # Once more, when no process needs a message that it is another directory now.
    with pytest.raises(PermissionError, match=said):
        WAYS[way](name)


@pytest.mark.parametrize("way", ["opening by name", "making", "reading", "giving a sign post"])
def test_a_directory_that_is_exchanged_between_check_and_use(common, way):
    (common / "pools").mkdir(0o700)
    assert as_user(EVE, lay, common / "eve", 0o755) is None
    before = state(common / "eve")
    problem = in_child(
        exchanged, way, "camera", common / "own", common / "eve", "belongs to another user"
    )
    if way == "giving a sign post":  # the first one went into the directory that was checked
        assert problem is not None
        assert "DID NOT RAISE" in problem
        assert [path.name for path in (common / "own").iterdir()] == ["camera.pool"]
    else:
        assert problem is None
        assert state(common / "own") == []
    assert state(common / "pools") == before


# --------------------------------------------------------------------------- what remains allowed


def test_a_directory_of_root_that_nobody_else_may_write(common):
    """Root can do everything anyway; a pool for all users that it made is used, but not trusted."""
    (common / "pools").mkdir(0o755)
    with oc.Pool.create("camera", size="1MiB", mode=0o666) as pool:
        pool["a"] = 7
        assert as_user(VICTIM, used, "camera") is None
        assert as_user(VICTIM, used, str(common / "pools" / "camera.pool")) is None


def used(name):
    with oc.Pool.open(name) as pool:
        assert pool.member.others_may_write
        assert pool["a"] == 7
        assert inspect.holders(name)


def test_a_pool_for_several_is_opened_by_its_path(common):
    """The user has chosen the path, but not the directory in which names are looked up."""
    (common / "pools").mkdir(0o700)
    assert as_user(EVE, lay, common / "eve", 0o755) is None
    assert in_child(used_by_path, str(common / "eve" / "camera.pool")) is None


def used_by_path(path):
    with oc.Pool.open(path) as pool:
        assert pool.member.others_may_write
        assert pool["a"] == 7
        assert membership.join(membership.handle_of(pool.member)) is pool.member
        assert [holder.pid for holder in inspect.holders(path)] == [os.getpid()]
    assert [info.name for info in inspect.list_pools(os.path.dirname(path))]  # noqa: PTH120


def test_nothing_is_removed_in_another_users_directory(common):
    assert as_user(EVE, lay, common / "eve", 0o755) is None
    before = state(common / "eve")
    with pytest.raises(PermissionError, match="belongs to another user"):
        inspect.gc(str(common / "eve"))
    assert state(common / "eve") == before


# --------------------------------------------------------------------------------------- segments


@pytest.mark.parametrize("mode", [0o666, 0o1666, 0o1766])
def test_a_segment_that_another_user_made_first(common, mode):
    """Segments lie in /dev/shm itself, which is open to all users: the file's owner decides."""
    name = f"onecopy-test-{os.getpid()}"
    path = Path("/dev/shm", name)  # noqa: S108 - where segments lie
    assert as_user(EVE, make_segment, path, mode) is None
    try:
        before = path.stat().st_ino, path.read_bytes()
        for attach in (SharedMemory, lambda name: ShareableList(name=name)):
            with pytest.raises(PermissionError, match=f"belongs to user {EVE}"):
                attach(name)
        with pytest.raises(FileExistsError):
            SharedMemory(name, create=True, size=16)
        assert name not in [info.name for info in inspect.gc_segments()]
        assert (path.stat().st_ino, path.read_bytes()) == before
    finally:
        path.unlink()


def make_segment(path, mode):
    os.umask(0)
    path.write_bytes(bytes(4096))
    path.chmod(mode)
