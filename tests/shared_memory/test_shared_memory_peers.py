"""SharedMemory next to the standard library's, and at the end of an interpreter."""

import subprocess
import sys
import textwrap
from multiprocessing import shared_memory as standard

import pytest
from children import LIMIT, eventually
from programs import run
from segment_files import exists, path_of, plain
from segment_programs import ATTACH, CREATE

from onecopy._core import segments
from onecopy.multiprocessing.shared_memory import SharedMemory

pytestmark = pytest.mark.one_in(2)

RELATIVES = ["fork", "forkserver", "spawn"]


def test_a_plain_process_attaches_to_ours(name):
    shm = SharedMemory(name, create=True, size=100)
    shm.buf[:5] = b"hello"
    done = plain(ATTACH, name)
    assert (done.stdout, done.stderr) == ("100 hello\n", "")
    assert bytes(shm.buf[:5]) == b"plain"
    assert SharedMemory(name).size == 100
    shm.unlink()


def test_the_tracker_of_a_plain_process_takes_only_the_name(name):
    """It does so before 3.13, and later without track=False; our mapping stays valid."""
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
        _, said = process.communicate("continue\n", timeout=LIMIT)
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
    "with daemon threads that continue to attach": """
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
    """It ends without output directly after the start; multiprocessing joins the child at exit."""
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
