"""Containers that share a /dev/shm: locks show which processes live, foreign pids do not."""

import os
import signal
import struct
import textwrap
from pathlib import Path

import pytest
from children import eventually
from namespaces import first_inside, own_pids, own_pids_foreign_proc
from programs import Running
from segment_files import exists, fresh_name, gone_after_sweep, state_of

from onecopy._core import segments
from onecopy.multiprocessing.shared_memory import ShareableList, SharedMemory

NAMESPACE = Path("/proc/self/ns/pid").stat().st_ino
FIRST = NAMESPACE == 0xEFFFFFFC  # others cannot see whether owners in other namespaces are dead


@pytest.fixture
def name():
    yield from fresh_name()


def running(name, text, inside=own_pids):
    program = Running(
        "from onecopy.multiprocessing.shared_memory import SharedMemory, ShareableList\n" + text,
        holding=False,
        inside=inside(),
    )
    program.says("ready")
    return program


def test_who_is_killed_over_there_is_noticed_here(name):
    text = f"shm = SharedMemory({name!r}, create=True, size=10)\nprint('ready', flush=True)\n"
    program = running(name, text + "signal.pause()")
    segments.sweep()
    assert exists(name)
    shm = SharedMemory(name)
    pid = first_inside(program.pid)
    program.kill()
    eventually(lambda: not Path(f"/proc/{pid}").exists(), "it to be gone")
    segments.sweep()
    assert exists(name)
    del shm
    if FIRST:
        eventually(lambda: gone_after_sweep(name), "it to be swept")


@pytest.mark.parametrize("inside", [own_pids, own_pids_foreign_proc])
def test_who_keeps_it_over_there(name, inside):
    """Seen from the first namespace. Without a /proc of its own, no process keeps it."""
    text = f"""
        shm = SharedMemory({name!r}, create=True, size=10)
        del shm
        if {inside is own_pids}: assert os.path.exists("/dev/shm/{name}")
        print("ready", flush=True)
        signal.pause()
        """
    program = running(name, textwrap.dedent(text), inside)
    if inside is own_pids:
        segments.sweep()
        assert state_of(name) == "kept"
    else:
        assert not exists(name)
    program.kill()
    if FIRST:
        eventually(lambda: gone_after_sweep(name), "it to be swept")


@pytest.mark.parametrize("inside", [own_pids, own_pids_foreign_proc])
def test_who_sweeps_over_there_takes_nothing_of_ours(name, inside):
    SharedMemory(name, create=True, size=10).close()
    text = f"""
        from onecopy._core import segments
        ours = os.stat("/proc/self/ns/pid").st_ino
        if ours % 128 != {NAMESPACE % 128}:
            segments.sweep()
        print("ready", flush=True)
        """
    program = running(name, textwrap.dedent(text), inside)
    assert program.end() == (0, "")
    assert state_of(name) == "kept"


def claim_of(items):
    return struct.unpack_from("Q", items.shm.buf, 64 + 8)[0]


def stopped(pid):
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] in "Tt"


def test_a_claim_from_over_there_is_an_error_after_a_while(name):
    items = ShareableList(["x" * 1000, 5], name=name)
    text = f"items = ShareableList(name={name!r})\nprint('ready', flush=True)\n"
    program = running(name, text + "while True: items[0] = 'y' * 1000")
    pid = first_inside(program.pid)

    def caught():
        os.kill(pid, signal.SIGSTOP)
        eventually(lambda: stopped(pid), "it to stop")
        if claim_of(items):
            return True
        os.kill(pid, signal.SIGCONT)
        return False

    eventually(caught, "it to be stopped in the middle")
    os.kill(pid, signal.SIGKILL)
    program.kill()
    assert set(items[0]) in ({"x"}, {"y"})
    items[1] = 6
    with pytest.raises(TimeoutError, match=r"item 0 .* process \d+ of another"):
        items[0] = "mine"
    assert set(items[0]) in ({"x"}, {"y"})
    assert list(items)[1] == 6
    items.shm.unlink()
