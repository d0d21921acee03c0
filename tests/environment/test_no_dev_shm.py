"""Without a /dev/shm that can be written: pools are memfds, and everything else works."""

import os
import sys
from pathlib import Path

import pytest
from namespaces import in_mounts
from programs import Running

pytestmark = pytest.mark.one_in(2)

READ_ONLY = "mount -t tmpfs -o ro none /dev/shm"
MISSING = """
mkdir /tmp/devices && mount --rbind /dev /tmp/devices && mount -t tmpfs -o mode=755 none /dev
for name in null zero full random urandom; do
    touch /dev/$name && mount --bind /tmp/devices/$name /dev/$name || exit 1
done
ln -s /proc/self/fd /dev/fd
"""

# An empty /tmp, which has the pool directory, so that nothing is left on this machine. The files in
# /tmp that Python needs are still there.
EMPTY_TMP = """
mkdir -p /mnt/old && mount --rbind /tmp /mnt/old && mount -t tmpfs none /tmp
for name in {kept}; do
    mkdir /tmp/$name && mount --rbind /mnt/old/$name /tmp/$name || exit 1
done
"""

# A module, because spawned children import the functions that they run.
BODY = """
import multiprocessing
import numpy as np
import onecopy as oc

def more(number):
    return number + 1

def executor(method):
    with oc.Executor(2, mp_context=multiprocessing.get_context(method)) as executor:
        array = np.ones(1 << 18)
        assert [executor.submit(np.sum, array).result() for _ in range(2)] == [1 << 18] * 2
        assert list(executor.map(more, range(5))) == [1, 2, 3, 4, 5]

def limited_executor(method):
    with oc.Executor(1, max_tasks_per_child=1) as executor:
        assert list(executor.map(more, range(3))) == [1, 2, 3]

def worker_pool(method):
    import onecopy.multiprocessing
    with onecopy.multiprocessing.get_context(method).Pool(2) as pool:
        assert pool.map(more, range(5)) == [1, 2, 3, 4, 5]

def manager(method):
    import onecopy.multiprocessing
    with onecopy.multiprocessing.get_context(method).Manager() as manager:
        shared, array = manager.dict(), np.ones(1 << 18)
        shared["a"] = array
        with manager.Lock():
            assert shared["a"].sum() == 1 << 18

def joblib_backend(method):
    import joblib
    import onecopy.joblib
    with joblib.parallel_config(backend="onecopy", n_jobs=2):
        assert joblib.Parallel()(joblib.delayed(more)(i) for i in range(5)) == [1, 2, 3, 4, 5]
"""

USES = [
    ("executor", "fork"),
    ("executor", "spawn"),
    ("executor", "forkserver"),
    ("limited_executor", "spawn"),
    ("worker_pool", "fork"),
    ("worker_pool", "spawn"),
    ("manager", "spawn"),
    ("joblib_backend", "loky"),
]


def kept_of_tmp():
    """Return the names in /tmp of the directories from which this interpreter runs."""
    places = [sys.executable, sys.prefix, sys.base_prefix, *sys.path, __file__]
    parts = [Path(place).resolve().parts for place in places if place]
    return sorted({place[2] for place in parts if place[:2] == ("/", "tmp") and len(place) > 2})


@pytest.mark.one_in(3)
@pytest.mark.parametrize("mounts", [READ_ONLY, MISSING], ids=["read-only", "missing"])
@pytest.mark.parametrize(("use", "method"), USES)
def test_what_works_without_dev_shm(tmp_path, mounts, use, method):
    if use == "joblib_backend":
        pytest.importorskip("joblib")
    environment = {key: os.environ[key] for key in os.environ if not key.startswith("ONECOPY_")}
    environment["PYTHONPATH"] = "/mnt"
    (tmp_path / "body.py").write_text(BODY)
    (tmp_path / "program.py").write_text(
        f"import body\nif __name__ == '__main__': body.{use}({method!r})\n"
    )
    tmp = EMPTY_TMP.format(kept=" ".join(kept_of_tmp()))
    program = Running(
        "import runpy; runpy.run_path('/mnt/program.py', run_name='__main__')\n",
        holding=False,
        flags=(),
        inside=in_mounts(f"mount --bind {tmp_path} /mnt\n{tmp}\n{mounts}"),
        environment=environment,
    )
    status, stderr = program.end()
    assert status == 0, stderr
    assert "Traceback" not in stderr
    if use != "joblib_backend":
        assert "this process cannot write to /dev/shm; so its memory is a memfd" in stderr
