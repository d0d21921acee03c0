"""Programs in which the standard library's tracker must not remove segments of others."""

import subprocess
import sys

import pytest

pytestmark = pytest.mark.usefixtures("the_last_have_left")

SCRIPT = """
from {package}.multiprocessing import resource_tracker
from onecopy import multiprocessing
from onecopy.multiprocessing import shared_memory

def attach(name):
    shm = shared_memory.SharedMemory(name)
    resource_tracker.unregister(shm._name, "shared_memory")
    resource_tracker.unregister(shm._name, "shared_memory")
    assert bytes(shm.buf[:3]) == b"abc"
    assert f"{{shm._name}}" == "/" + shm.name
    shm.close()

if __name__ == "__main__":
    shm = shared_memory.SharedMemory(create=True, size=10)
    shm.buf[:3] = b"abc"
    child = multiprocessing.get_context({method!r}).Process(target=attach, args=(shm.name,))
    child.start()
    child.join()
    assert child.exitcode == 0
    attach(shm.name)
    assert bytes(shared_memory.SharedMemory(shm.name).buf[:3]) == b"abc"
    shm.close()
    shm.unlink()
"""


@pytest.mark.parametrize("method", ["fork", "spawn", "forkserver"])
@pytest.mark.parametrize("package", ["onecopy", "multiprocessing"])
def test_the_tracker_may_be_told_to_forget_a_segment(tmp_path, package, method):
    text = SCRIPT.format(package=package, method=method)
    if package == "multiprocessing":
        text = text.replace("from multiprocessing.multiprocessing", "from multiprocessing")
    script = tmp_path / "script.py"
    script.write_text(text)
    done = subprocess.run(
        [sys.executable, script], capture_output=True, text=True, timeout=60, check=False
    )
    # The tracker process writes its warnings before it closes its stderr, which is this one.
    assert (done.returncode, done.stderr) == (0, "")
