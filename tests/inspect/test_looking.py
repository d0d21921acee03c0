"""Looking changes nothing; and what dead processes left unfinished is removed when permitted."""

import contextlib
import hashlib
import json
import os
import signal
import subprocess
import sys

import pytest
from children import LIMIT

import onecopy as oc
from onecopy import _native, inspect
from onecopy._core import newfile

pytestmark = pytest.mark.one_in(2)

BACKINGS = ["shm", "memfd"]
LEFT = ".onecopy-new-0123456789abcdef"


def state(directory):
    """Return all that can be seen of a directory's files."""
    return {
        path.name: (path.stat().st_ino, hashlib.sha256(path.read_bytes()).digest())
        for path in directory.iterdir()
    }


def command(*arguments):
    return subprocess.run(
        [sys.executable, "-W", "error", "-m", "onecopy.cli", *arguments],
        capture_output=True,
        text=True,
        check=False,
        timeout=LIMIT,
    )


class Forked:
    """A child that has made something, and waits until it is killed."""

    def __init__(self, make):
        heard, say = os.pipe()
        self.pid = os.fork()
        if self.pid == 0:
            os.close(heard)
            try:
                _kept = make()
                os.write(say, b"!")
                signal.pause()
            finally:
                os._exit(1)
        os.close(say)
        with os.fdopen(heard, "rb") as pipe:
            assert pipe.read(1) == b"!"

    def kill(self):
        os.kill(self.pid, signal.SIGKILL)
        os.waitpid(self.pid, 0)


@pytest.fixture
def alive():
    """Start a child that has made something: ``alive(make)``; the test kills it at the latest."""
    started = []

    def start(make):
        started.append(Forked(make))
        return started[-1]

    yield start
    for child in started:
        with contextlib.suppress(ProcessLookupError):
            child.kill()


def make_pool(backing, **keywords):
    """Make a pool that uses a queue, an array and a name; return what keeps them."""

    def make():
        pool = oc.Pool.create("camera", size="4MiB", backing=backing, **keywords)
        pool["a"] = 7
        return pool, pool.full(100_000, 1, "u1"), pool.queue("jobs")

    return make


# ---------------------------------------------------------------------------- what the dead left


@pytest.mark.parametrize("backing", BACKINGS)
def test_a_stale_pool_is_shown_and_stays(pool_directory, alive, backing):
    child = alive(make_pool(backing))
    child.kill()
    before = state(pool_directory)
    assert set(before) == {"camera.pool"}
    for name in ("camera", pool_directory / "camera.pool"):
        listed = inspect.list_pools()
        assert [(info.name, info.state, info.stats) for info in listed] == [
            ("camera", "stale", None)
        ]
        if backing == "memfd":  # its memory is gone
            for look in (inspect.holders, inspect.inspect_pool):
                with pytest.raises(oc.PoolNotFound, match=r"have died.*onecopy gc"):
                    look(name)
        else:
            (dead,) = inspect.holders(name)
            assert (dead.pid, dead.alive, dead.state, dead.share) == (
                child.pid,
                False,
                "dead",
                None,
            )
            assert dead.bytes >= 100_000
            for validate in (False, True):
                view = inspect.inspect_pool(name, validate=validate)
                assert (view.state, view.stats.processes) == ("stale", 0)
                assert view.notes == [
                    "All processes of the pool are dead. `onecopy gc` removes the pool."
                ]
                assert view.names["queue"] == ["jobs"]
                assert (view.checked, view.problems) == (validate, [])
                assert len(view.unchecked) == validate
        assert [info.state for info in inspect.gc(dry_run=True)] == ["stale"]
        assert state(pool_directory) == before
    assert [info.state for info in inspect.gc()] == ["removed"]
    assert state(pool_directory) == {}


@pytest.mark.one_in(3)
@pytest.mark.parametrize("backing", BACKINGS)
def test_a_stale_pool_is_shown_and_stays_on_the_command_line(pool_directory, alive, backing):
    alive(make_pool(backing)).kill()
    before = state(pool_directory)
    shown = command("ls", "--json")
    assert (shown.returncode, shown.stderr) == (0, "")
    pools = [each for each in json.loads(shown.stdout) if each["kind"] == "pool"]
    assert [(each["name"], each["state"]) for each in pools] == [("camera", "stale")]
    assert "stale" in command("ls").stdout
    for arguments in (["inspect"], ["holders"], ["inspect", "--json"], ["holders", "--json"]):
        done = command(arguments[0], "camera", *arguments[1:])
        if backing == "memfd":  # its memory is gone
            assert (done.returncode, done.stdout) == (1, "")
            assert "have died" in done.stderr
            assert "Traceback" not in done.stderr
        else:
            assert (done.returncode, done.stderr) == (0, "")
            assert "dead" in done.stdout
    if backing == "shm":
        done = command("inspect", "camera", "--validate")
        assert (done.returncode, done.stderr) == (3, "")
        assert "could not be checked: all its processes are dead" in done.stdout
    assert "camera: stale, not checked" in command("doctor").stdout
    assert state(pool_directory) == before


def test_a_stale_pool_that_is_opened_for_reading_stays(pool_directory, alive):
    alive(make_pool("shm")).kill()
    before = state(pool_directory)
    with pytest.raises(oc.PoolNotFound, match="have died"):
        oc.Pool.open("camera", mode="r")
    assert state(pool_directory) == before


@pytest.mark.parametrize("backing", BACKINGS)
def test_the_next_use_removes_a_stale_pool(pool_directory, alive, backing):
    alive(make_pool(backing)).kill()
    with pytest.raises(oc.PoolNotFound, match="taken it along"):
        oc.Pool.open("camera")
    assert state(pool_directory) == {}


# ------------------------------------------------------------------------------- what is in use


@pytest.mark.parametrize("backing", BACKINGS)
def test_looking_takes_no_place_in_a_pool(pool_directory, alive, backing):
    """There is one slot, and it is in use: a process that joins to look would be refused."""
    child = alive(make_pool(backing, max_processes=1))
    before = state(pool_directory)
    for _ in range(2):
        holders = inspect.holders("camera")
        assert [(each.slot, each.pid, each.alive) for each in holders] == [(0, child.pid, True)]
        assert holders[0].bytes >= 100_000
        stats = inspect.list_pools()[0].stats
        assert (stats.processes, stats.max_processes, stats.structures) == (1, 1, 1)
        assert stats.name == "camera"
        view = inspect.inspect_pool("camera")
        assert (view.stats.processes, view.names["queue"]) == (1, ["jobs"])
        with pytest.raises(oc.OneCopyError, match="camera"):
            oc.Pool.open("camera", mode="r")
    done = command("inspect", "camera", "--validate")
    assert (done.returncode, done.stderr) == (3, "")
    assert "could not be checked, as it could not be joined" in done.stdout
    assert "no slot left" in done.stdout
    assert "no slot left" not in command("inspect", "camera").stdout
    shown = json.loads(command("holders", "camera", "--json").stdout)
    assert [each["pid"] for each in shown] == [child.pid]
    if backing == "shm":
        assert state(pool_directory) == before
    child.kill()


def test_a_process_that_looks_is_a_holder_if_it_is_a_member(pool):
    assert [each.pid for each in inspect.holders(pool.name)] == [os.getpid()]
    assert inspect.list_pools()[0].stats.processes == 1
    assert [each.pid for each in inspect.inspect_pool(pool.name).holders] == [os.getpid()]


def test_a_member_of_a_pool_that_was_renamed_only_visits_what_has_its_name(pool_directory, alive):
    with oc.Pool.create("camera", size="4MiB"):
        (pool_directory / "camera.pool").rename(pool_directory / "other.pool")
        child = alive(make_pool("shm"))
        assert [each.pid for each in inspect.inspect_pool("camera").holders] == [child.pid]
        (pool_directory / "other.pool").unlink()


def test_readers_are_no_members(pool_directory, alive):
    with oc.Pool.create("camera", size="4MiB", persistent=True) as pool:
        pool["a"] = 7
    del pool
    alive(lambda: oc.Pool.open("camera", mode="r"))
    before = state(pool_directory)
    assert not [each for each in inspect.holders("camera") if each.alive]
    assert inspect.list_pools()[0].stats.processes == 0
    assert inspect.inspect_pool("camera").names["object"] == ["a"]
    assert state(pool_directory) == before
    (pool_directory / "camera.pool").unlink()


def test_looking_into_a_pool_leaves_what_a_dead_member_had(alive):
    with oc.Pool.create("camera", size="4MiB") as pool:
        queue = pool.queue()

        def join():
            mine = oc.Pool.open("camera")
            queue.put(os.getpid())
            return mine, mine.full(100_000, 1, "u1")

        child = alive(join)
        assert queue.get(timeout=LIMIT) == child.pid
        child.kill()
        for _ in range(2):
            dead = [each for each in inspect.holders("camera") if not each.alive]
            assert [(each.pid, each.bytes >= 100_000) for each in dead] == [(child.pid, True)]
        pool.collect()
        assert [each.pid for each in inspect.holders("camera")] == [os.getpid()]


# ------------------------------------------------------------------------------ files in the making


@pytest.mark.parametrize("sweep", ["gc", "next use"])
def test_what_a_dead_maker_left_is_swept(pool_directory, sweep):
    (pool_directory / LEFT).write_bytes(b"half a line")
    assert inspect.list_pools() == []
    assert [info.state for info in inspect.gc(dry_run=True)] == ["stale"]
    assert set(state(pool_directory)) == {LEFT}
    if sweep == "gc":
        assert [(info.path, info.state) for info in inspect.gc()] == [
            (str(pool_directory / LEFT), "removed")
        ]
        assert state(pool_directory) == {}
    else:
        with oc.Pool.create("next", size="4MiB"):
            assert set(state(pool_directory)) == {"next.pool"}


def without_unnamed_files(monkeypatch):
    """Be on a file system on which each file has a name."""
    monkeypatch.setattr(os, "O_TMPFILE", os.O_DIRECTORY)


def hidden_file(directory):
    return newfile.NewFile(str(directory / "camera.pool"), 0o600, hidden=True)


def test_what_a_living_maker_makes_is_not_swept(pool_directory, alive, monkeypatch):
    without_unnamed_files(monkeypatch)
    child = alive(lambda: hidden_file(pool_directory))
    monkeypatch.undo()
    monkeypatch.setenv("ONECOPY_DIR", str(pool_directory))
    there = set(state(pool_directory))
    assert len(there) == 1
    assert inspect.gc() == []
    with oc.Pool.create("next", size="4MiB"):
        assert set(state(pool_directory)) == {*there, "next.pool"}
    child.kill()
    assert [info.state for info in inspect.gc()] == ["removed"]


def test_a_maker_whose_file_is_swept_before_it_holds_it_begins_anew(pool_directory, monkeypatch):
    without_unnamed_files(monkeypatch)
    hold, swept = _native.hold_new_file, []

    def swept_before(fd):
        if not swept:
            swept.extend(inspect.gc())
        return hold(fd)

    monkeypatch.setattr(_native, "hold_new_file", swept_before)
    with hidden_file(pool_directory) as file:
        os.close(file.fd)
        file.link()
    assert len(swept) == 1
    assert not (pool_directory / swept[0].path).exists()
    assert set(state(pool_directory)) == {"camera.pool"}
    (pool_directory / "camera.pool").unlink()


def test_who_needs_a_hidden_file_in_another_directory_removes_what_was_left_there(tmp_path, alive):
    """A rendezvous that has grown is written again, in a file that is hidden until complete."""
    path = tmp_path / "camera.pool"
    with oc.Pool.create(path, size="4MiB", backing="memfd") as pool:
        with path.open("a") as file:
            file.write(f"{2**22} 3 1 1\n" * 5000)
        (tmp_path / LEFT).touch()
        child = alive(lambda: None)
        child.kill()
        program = f"import onecopy as oc; oc.Pool.open({str(path)!r})['a'] = 7"
        subprocess.run([sys.executable, "-c", program], check=True, timeout=LIMIT)
        assert pool["a"] == 7
        assert {each.name for each in tmp_path.iterdir()} == {"camera.pool"}


# ------------------------------------------------------------------------------------------ modes


@pytest.mark.parametrize(
    "mode", [0o777, 0o700, 0o755, 0o400, 0o066, 0, -1, 0o1600, "r+", None, 1.5]
)
@pytest.mark.parametrize("make", [oc.Pool, oc.Pool.create])
def test_a_mode_that_no_pool_can_have_is_explained(pool_directory, make, mode):
    with pytest.raises(ValueError, match=r"mode="):
        make("camera", size="4MiB", mode=mode)
    assert state(pool_directory) == {}


def test_what_is_said_of_a_mode(pool_directory):
    with pytest.raises(ValueError, match=r"mode=0o777: .*0o600.*0o066.*owner.*execute"):
        oc.Pool.create("camera", size="4MiB", mode=0o777)
    with pytest.raises(ValueError, match=r"memfd"):
        oc.Pool.create("camera", size="4MiB", mode=0o660, backing="memfd")
