"""Containers that share a /dev/shm: locks tell who lives, and pids of elsewhere tell nothing."""

import os
import signal
import struct
from pathlib import Path

import pytest
from children import eventually
from namespaces import first_inside, own_pids
from programs import Running
from segment_files import exists, fresh_name, gone_after_sweep

from onecopy import segments
from onecopy.multiprocessing.shared_memory import ShareableList, SharedMemory


@pytest.fixture
def name():
    yield from fresh_name()


def running(name, text):
    program = Running(
        "from onecopy.multiprocessing.shared_memory import SharedMemory, ShareableList\n" + text,
        holding=False,
        inside=own_pids(),
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
    assert gone_after_sweep(name)


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
