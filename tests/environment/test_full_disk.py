"""A pool in a file on a disk that is too small: a failed reservation returns its disk space."""

import os
import textwrap

import pytest
from namespaces import disk
from programs import Running

pytestmark = pytest.mark.one_in(2)

SETUP = """
directory = os.environ["ONECOPY_DIR"] + "/disk"

def free():
    os.sync()
    system = os.statvfs(directory)
    return system.f_bavail * system.f_frsize

def refused(act):
    try: act()
    except oc.PoolFull: pass
    else: raise AssertionError("there was room")

def others_may_write():
    with open(directory + "/other", "wb") as file: file.write(bytes(20 << 20))
    os.unlink(directory + "/other")

SOME = 2 << 20  # what a file system may need for itself
pool = oc.Pool.create(size="1GiB", backing=directory + "/a.pool")
kept = pool.full(10 << 20, 7, "u1")
before = free()
assert before > 100 << 20, before
"""

CASES = {
    "an array": """
        refused(lambda: pool.empty(before + (50 << 20), "u1"))
        """,
    "many arrays": """
        made = []
        try:
            while True: made.append(pool.full(7 << 20, 3, "u1"))
        except oc.PoolFull: pass
        assert len(made) > 10
        assert all((array == 3).all() for array in made)
        del made
        pool.collect()
        """,
    "an array, from many threads": """
        barrier = threading.Barrier(8)
        def ask():
            barrier.wait()
            try: made.append(pool.empty(before // 5, "u1"))
            except oc.PoolFull: pass
        made = []
        threads = [threading.Thread(target=ask) for _ in range(8)]
        for thread in threads: thread.start()
        for thread in threads: thread.join()
        assert 0 < len(made) <= 5, len(made)
        for array in made: array[:] = 3
        assert all((array == 3).all() for array in made)
        made.clear(); del array
        pool.collect()
        """,
    "another pool, with prefault": """
        second = {"backing": directory + "/b.pool", "prefault": True}
        refused(lambda: oc.Pool.create(size=before + (50 << 20), **second))
        """,
    "a pool that was copied with holes": """
        import subprocess
        large = pool.zeros(before - (60 << 20), "u1")
        pool["large"] = large
        del large, pool["large"]
        pool.close()
        kept = np.full(1, 7)
        with oc.Pool.open(directory + "/a.pool") as again: pass
        os.rename(directory + "/a.pool", directory + "/full.pool")
        subprocess.run(["cp", "--sparse=always", directory + "/full.pool", directory + "/a.pool"],
                       check=True)
        subprocess.run(["fallocate", "--dig-holes", directory + "/a.pool"], check=True)
        before = free()
        refused(lambda: oc.Pool.open(directory + "/a.pool"))
        assert free() >= before - SOME, (free(), before)
        os.unlink(directory + "/full.pool")
        pool = oc.Pool.open(directory + "/a.pool")
        assert pool.validate() == []
        """,
}


@pytest.mark.parametrize("kind", ["ext4", "xfs", "btrfs"])
@pytest.mark.parametrize("case", CASES)
def test_a_full_disk(case, kind, tmp_path):
    environment = os.environ | {"ONECOPY_DIR": str(tmp_path / "pools")}
    (tmp_path / "pools/disk").mkdir(mode=0o700, parents=True)
    (tmp_path / "pools").chmod(0o700)
    program = Running(
        SETUP
        + textwrap.dedent(CASES[case])
        + "\nassert free() >= before - SOME, (free(), before)\n"
        + "others_may_write()\n"
        + "assert pool.closed or pool.validate() == []\n"
        + "assert (kept == 7).all()\n",
        holding=False,
        inside=disk(kind, "400M", tmp_path / "pools/disk"),
        environment=environment,
    )
    status, stderr = program.end()
    assert (status, stderr) == (0, ""), stderr
