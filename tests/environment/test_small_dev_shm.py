"""A /dev/shm of 64 MB, as in containers: a larger pool is a memfd, and a message says so."""

import os

import pytest
from namespaces import small
from programs import Running

pytestmark = pytest.mark.one_in(2)

SETUP = """
import logging, multiprocessing, subprocess
logging.basicConfig(level=logging.WARNING, format="%(name)s %(levelname)s %(message)s")
"""

STRANGER = """
import os, sys, onecopy as oc
pool = oc.Pool.open("big")
assert pool["a"].sum() == 49995000
array = pool.full(80 << 20, 3, "u1")  # more than /dev/shm has
pool.queue("answers").put([os.getpid(), array[:10]])
"""

BODY = f"""
STRANGER = {STRANGER!r}
def child(queue, array):
    assert array.sum() == 700_000
    queue.put([os.getpid(), np.full(80 << 20, 3, "u1")[:10]])
def main():
    pool = oc.Pool.create("big", size="256MiB")
    assert pool.member.memfd
    pool["a"], answers = np.arange(10_000), pool.queue("answers")
    array = pool.full(100_000, 7, "u1")
    large = pool.full(100 << 20, 1, "u1")  # no SIGBUS
    assert large[-1] == 1
    del large
    for method in "fork", "forkserver", "spawn":
        process = multiprocessing.get_context(method).Process(target=child, args=(answers, array))
        process.start(); process.join()
        assert process.exitcode == 0, (method, process.exitcode)
        pid, got = answers.get(timeout=5)
        assert pid == process.pid and (got == 3).all()
    subprocess.run([sys.executable, "-W", "error", "-c", STRANGER], check=True)
    assert (answers.get(timeout=5)[1] == 3).all()
    # Found by its name also when the one that made it has gone: a child of it has not.
    gone, go = os.pipe()
    heard, say = os.pipe()
    child_ = os.fork()
    if child_ == 0:
        os.close(go); os.read(gone, 1)
        subprocess.run([sys.executable, "-W", "error", "-c", STRANGER], check=True)
        got = answers.get(timeout=5)
        os.write(say, b"!")
        sys.exit()
    os._exit(0) if os.environ.get("KILLED") else None
    del array, answers, pool
    gc.collect()
    os.close(go); os.close(say)
    assert os.read(heard, 1) == b"!"
    assert os.waitstatus_to_exitcode(os.waitpid(child_, 0)[1]) == 0
    assert os.listdir(directory) == [], os.listdir(directory)
    # One that fits is an ordinary file, and nothing is said.
    with oc.Pool.create("fits", size="16MiB") as fits:
        assert not fits.member.memfd and os.listdir(directory) == ["fits.pool"]
    assert os.listdir(directory) == []
"""


@pytest.mark.parametrize("chosen", [False, True], ids=["by default", "ONECOPY_DIR"])
def test_a_pool_that_does_not_fit_is_a_memfd(tmp_path, chosen):
    """A module, because spawned children import the functions that they run."""
    directory = f"/dev/shm/{'chosen' if chosen else f'onecopy-{os.geteuid()}'}"  # noqa: S108 - on a mount of its own
    environment = {key: os.environ[key] for key in os.environ if not key.startswith("ONECOPY_")}
    environment["PYTHONPATH"] = str(tmp_path)
    if chosen:
        environment["ONECOPY_DIR"] = directory
    text = f"import atexit, gc, os, signal, sys\nimport numpy as np\nimport onecopy as oc\n{SETUP}"
    (tmp_path / "body.py").write_text(f"{text}directory = {directory!r}\n{BODY}")
    program = Running(
        "import body\nif __name__ == '__main__': body.main()\n",
        holding=False,
        flags=("-W", "error"),
        inside=small("64m", "/dev/shm"),  # noqa: S108 - a mount of its own
        environment=environment,
    )
    status, stderr = program.end()
    assert status == 0, stderr
    assert stderr == (
        f"onecopy WARNING {directory} has 64.0 MiB free, less than the 256.0 MiB of the pool; "
        "so its memory is a memfd, which only the memory limit of this process restricts\n"
    )


def test_the_default_pool_there_is_not_limited_by_it(tmp_path):
    """Half of 64 MB would be too small to be useful."""
    environment = {key: os.environ[key] for key in os.environ if not key.startswith("ONECOPY_")}
    text = """
    array = oc.zeros(100 << 20, "u1")
    array[:] = 1
    assert oc.default_pool().member.memfd
    child = os.fork()
    if child == 0: assert array.sum() == 100 << 20; sys.exit(3)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 3
    """
    program = Running(
        text,
        holding=False,
        inside=small("64m", "/dev/shm"),  # noqa: S108 - a mount of its own
        environment=environment,
    )
    status, stderr = program.end()
    assert status == 0, stderr
    assert stderr.count("\n") <= 1
    assert "memfd" in stderr
