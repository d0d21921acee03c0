"""A /dev/shm of 16 MB and segments: full memory is an error, and never SIGBUS."""

from namespaces import small
from programs import Running


def test_a_small_dev_shm(tmp_path):
    text = """
    from onecopy.multiprocessing.shared_memory import SharedMemory, ShareableList
    first = SharedMemory(create=True, size=10 << 20)
    for make in (lambda: SharedMemory("a", create=True, size=10 << 20),
                 lambda: ShareableList([b"x" * 5_000_000, 1])):
        try: make()
        except oc.PoolFull as error: assert "of 16.0 MiB are free" in str(error), error
        else: raise AssertionError("it fits")
    first.buf[:] = bytes(10 << 20)  # no SIGBUS
    theirs = "import os; from onecopy.multiprocessing.shared_memory import SharedMemory;" \\
        "kept = SharedMemory('theirs', create=True, size=5 << 20); os.kill(os.getpid(), 9)"
    import subprocess
    assert subprocess.run([sys.executable, "-c", theirs]).returncode == -signal.SIGKILL
    assert "theirs" in os.listdir("/dev/shm")
    # Memory of dead processes becomes free.
    second = SharedMemory(create=True, size=5 << 20)
    second.buf[:] = bytes(5 << 20)
    assert sorted(os.listdir("/dev/shm")) == sorted([first.name, second.name])
    """
    program = Running(text, holding=False, inside=small("16m", "/dev/shm"))  # noqa: S108 - a mount of its own
    assert program.end() == (0, "")
