"""SharedMemory between processes: it is removed with the program that made it."""

import multiprocessing
import multiprocessing.connection
import os
import signal
import subprocess
import sys

import pytest
from children import eventually
from programs import run
from segment_files import exists, gone_after_sweep, state_of
from segment_programs import CREATE_OURS

import onecopy as oc
from onecopy import inspect
from onecopy._core import segments
from onecopy.multiprocessing.shared_memory import SharedMemory

pytestmark = pytest.mark.one_in(2)

RELATIVES = ["fork", "forkserver", "spawn"]


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
    SharedMemory(create=True, size=1).unlink()  # what was kept for the child is released
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
    sys.modules["kept"] = shm  # removed with the process


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
    assert exists(name) == (method != "stranger")  # for the others this process is the program


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
    """It remains after the program; the next one sweeps, or removes the name itself."""
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
        assert state_of(name) == "kept"  # that of another program, which lives
        if end == "killed":
            process.kill()
        else:
            process.stdin.write("end\n")
    if end == "killed":
        assert state_of(name) in {"stale", None}  # None: another test has swept it
        command = [sys.executable, "-m", "onecopy.cli", "gc"]
        subprocess.run(command, check=True, capture_output=True)
    assert not exists(name)  # otherwise without a sweep


def test_an_owner_that_ends_leaves_what_others_have(name):
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
    """The process that started it has ended, so it owns what it makes."""
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
