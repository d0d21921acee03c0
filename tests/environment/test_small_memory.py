"""A file system of 16 MB, much smaller than the pool on it: full is an error, never SIGBUS."""

import os
import textwrap

import pytest
from namespaces import small
from programs import Running

pytestmark = pytest.mark.one_in(2)

SETUP = """
import errno, subprocess, time
directory = os.environ["ONECOPY_DIR"] + "/here"
os.mkdir(directory, 0o700)

def free():
    system = os.statvfs(directory)
    return system.f_bavail * system.f_frsize

def occupy(leave=0):
    "Take what is free, as another program would."
    with open(directory + "/other.data", "ab", buffering=0) as file:
        while free() > leave:
            try: file.write(bytes(max(1, min(free() - leave, 1 << 16))))
            except OSError as error:
                assert error.errno == errno.ENOSPC, error
                break

def vacate():
    if os.path.exists(directory + "/other.data"): os.unlink(directory + "/other.data")

def fill(make):
    "Keep making until the memory is gone; everything made stays usable."
    made = []
    try:
        while len(made) < 1_000_000: made.append(make())
    except oc.PoolFull as full:
        said = str(full)
        assert "no room for" in said and "256.0 MiB" in said, said
    else:
        raise AssertionError("never full")
    return made

def works():
    "The pool is sound, and there is room in it once there is room under it."
    vacate()
    assert pool.validate() == [], pool.validate()
    array = pool.zeros(100_000, "u1"); array[:] = 7
    jobs = pool.queue(maxsize=5); jobs.put([array, {"a": 1}]); assert jobs.get()[0].sum() == 700_000
    pool["works"] = array; del pool["works"]
    assert pool.validate() == [], pool.validate()

# Not in the pool directory: there it would be a memfd, because it does not fit.
pool = oc.Pool.create(directory + "/small.pool", size="256MiB")
assert pool.size >= 256 << 20
pool["first"] = np.zeros(1000); del pool["first"]  # the first pieces of the heap and the tables
"""

CASES = {
    "arrays": """
        made = fill(lambda: pool.full(1 << 20, 7, "u1"))
        assert len(made) >= 10, len(made)
        assert all((array == 7).all() for array in made)
        del made[::2]
        more = [pool.full(1 << 20, 3, "u1") for _ in range(len(made))]  # where the others were
        assert all((array == 3).all() for array in more)
        del made, more
        works()
        """,
    "arrays of all sizes, made and dropped at random": """
        import random
        randomness, kept, full = random.Random(1), [], 0
        for _ in range(4000):
            try: kept.append(pool.full(randomness.choice([10, 900, 70_000, 3 << 20]), 7, "u1"))
            except oc.PoolFull: full += 1; del kept[::2]
            if randomness.random() < 0.3: kept.pop(randomness.randrange(len(kept))) if kept else 0
            if randomness.random() < 0.01: pool.collect()
        assert full > 5, full
        assert all((array == 7).all() for array in kept)
        del kept
        works()
        """,
    "one that is larger than the file system": """
        for _ in range(3):
            try: pool.empty(100 << 20, "u1")
            except oc.PoolFull as full: assert "100.0 MiB" in str(full), full
            else: assert False
            works()
        """,
    "small objects: the block table": """
        occupy(leave=1 << 20)
        made = fill(lambda: pool.put(5))
        assert all(reference.get() == 5 for reference in made)
        del made
        works()
        """,
    "names": """
        occupy(leave=1 << 20)
        count = iter(range(1_000_000))
        def make():
            number = next(count); pool[f"name {number}"] = number; return number
        made = fill(make)
        assert all(pool[f"name {number}"] == number for number in made)
        assert len(pool) == len(made)
        pool.clear()
        works()
        """,
    "an unbounded queue of small messages: its chunks": """
        occupy(leave=1 << 20)
        jobs, count = pool.queue(maxsize=0), iter(range(1_000_000))
        def make():
            number = next(count); jobs.put_nowait((number, "x" * 150)); return number
        made = fill(make)
        assert jobs.qsize() == len(made)
        assert [jobs.get()[0] for _ in made] == made
        works()
        jobs.put(1); assert jobs.get() == 1
        """,
    "an unbounded queue of arrays": """
        jobs, array = pool.queue(maxsize=0), np.full(200_000, 7, "u1")
        made = fill(lambda: jobs.put_nowait(array))
        assert jobs.qsize() == len(made)
        for _ in made: assert (jobs.get() == 7).all()
        works()
        """,
    "a queue with a huge maxsize": """
        occupy(leave=1 << 20)
        try: pool.queue(maxsize=100_000_000)
        except oc.PoolFull: pass
        works()
        """,
    "frames": """
        try: pool.frames("frames", (1000, 1000), "u1", 100)
        except oc.PoolFull as full: assert "MiB" in str(full), full
        else: assert False
        works()
        frames = pool.frames("frames", (1000, 1000), "u1", 5)  # the name was not taken
        kept = [frames.acquire() for _ in range(5)]
        for frame in kept: frame[:] = 7
        assert all((frame == 7).all() for frame in kept)
        works()
        del kept, frame; frames.close(); pool.member.name_del(4, "frames")
        """,
    "a deep stream": """
        try: pool.stream("deep", depth=1 << 20)
        except oc.PoolFull: pass
        else: assert False
        works()
        stream = pool.stream("deep", depth=4)
        subscription = stream.subscribe()
        stream.publish(np.zeros(1000)); assert subscription.get().sum() == 0
        subscription.close(); stream.detach(); pool.member.name_del(3, "deep")
        """,
    "a stream of arrays": """
        stream, array = pool.stream(depth=1000), np.full(200_000, 7, "u1")
        subscription = stream.subscribe()
        made = fill(lambda: stream.publish(array))
        for _ in made: assert (subscription.get() == 7).all()
        assert subscription.missed == 0
        stream.detach()
        del subscription
        """,
    "large pickles": """
        jobs = pool.queue()
        big = {"array": np.zeros(30 << 20, "u1"), "text": "x" * 1000, "object": Exception("e")}
        deep = [{"bytes": bytes(100_000), "list": list(range(1000))} for _ in range(300)]
        many = [np.zeros(1 << 16) for _ in range(40)]
        for thing in big, deep, bytes(30 << 20), "y" * (30 << 20), many:
            for send in pool.put, jobs.put_nowait, lambda x: pool.__setitem__("x", x):
                try: send(thing)
                except oc.PoolFull: pass
                else: assert False
                assert jobs.empty() and "x" not in pool
        assert pool.stats().used == 0, pool.stats()
        works()
        """,
    "fork": """
        made = fill(lambda: pool.full(1 << 20, 7, "u1"))
        occupy()
        child = os.fork()
        if child == 0:
            assert (made[-1] == 7).all()
            try: pool.zeros(2 << 20, "u1")
            except oc.PoolFull: pass
            else: assert False
            made.clear()  # the parent has them still
            os._exit(5)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 5
        assert all((array == 7).all() for array in made)
        del made
        pool.collect()
        assert pool.stats().processes == 1
        works()
        """,
    "fork, and the child uses what the parent drops": """
        made = fill(lambda: pool.full(1 << 20, 7, "u1"))
        occupy()
        gone, go = os.pipe()
        child = os.fork()
        if child == 0:
            os.close(go); os.read(gone, 1)
            made.clear()
            again = [pool.full(1 << 20, 3, "u1") for _ in range(5)]
            assert all((array == 3).all() for array in again)
            sys.exit(5)
        made.clear()
        os.close(go)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 5
        works()
        """,
    "a stranger joins": """
        made = fill(lambda: pool.full(1 << 20, 7, "u1"))
        made.pop()
        occupy()
        stranger = f"import onecopy as oc; pool = oc.Pool.open('{directory}/small.pool');" \\
                   "assert len(pool) == 0; print(pool.full(500_000, 3, 'u1').sum())"
        done = subprocess.run([sys.executable, "-c", stranger], capture_output=True, text=True)
        assert (done.returncode, done.stdout, done.stderr) == (0, "1500000\\n", ""), done
        del made
        works()
        """,
    "another pool": """
        occupy()
        before = sorted(os.listdir(directory))
        for options in (
            {"name": directory + "/second.pool"}, {"backing": directory + "/second.pool"},
            {"name": "second", "backing": "memfd"},  # there is no room for its rendezvous
        ):
            try: oc.Pool.create(size="4MiB", **options)
            except oc.PoolFull as full: assert "second" in str(full), full
            else: assert False
        assert sorted(os.listdir(directory)) == before
        works()
        with oc.Pool.create(directory + "/second.pool", size="4MiB") as second: second.zeros(1000)
        works()
        """,
    "prefault": """
        try: oc.Pool.create(directory + "/second.pool", size="64MiB", prefault=True)
        except oc.PoolFull: pass
        else: assert False
        assert sorted(os.listdir(directory)) == ["small.pool"]
        works()
        """,
    "others take what was there a moment ago": """
        array = pool.full(4 << 20, 7, "u1")
        occupy()
        array[:] = 3  # backed: nobody can take it
        try: pool.zeros(4 << 20, "u1")
        except oc.PoolFull: pass
        else: assert False
        del array
        again = pool.full(4 << 20, 5, "u1")  # what was free in the pool stayed the pool's
        assert (again == 5).all()
        vacate()
        more = pool.full(4 << 20, 6, "u1")
        assert (more == 6).all() and (again == 5).all()
        del again, more
        works()
        """,
    "collect gives memory back, and others use it": """
        made = fill(lambda: pool.full(1 << 20, 7, "u1"))
        kept = made[3]
        del made
        before = free()
        assert before < 2 << 20, before
        pool.collect()
        assert free() > before + (8 << 20), free()
        occupy()
        assert (kept == 7).all()
        full = fill(lambda: pool.full(1 << 20, 7, "u1"))
        assert all((array == 7).all() for array in full) and len(full) < 5, len(full)
        vacate()
        full += fill(lambda: pool.full(1 << 20, 7, "u1"))
        assert len(full) > 8 and all((array == 7).all() for array in full)
        del full, kept
        works()
        """,
    "three processes and a fourth that fills the file system": """
        import random
        def work(seed):
            randomness, kept, full = random.Random(seed), [], 0
            for _ in range(400):
                try:
                    array = pool.empty(randomness.choice([500, 50_000, 1 << 20, 3 << 20]), "u1")
                    array[:] = seed; kept.append(array)
                    if randomness.random() < 0.3: pool[f"x{seed}"] = array
                except oc.PoolFull: full += 1; kept = kept[len(kept) // 2 + 1:]
                if kept and randomness.random() < 0.4: kept.pop(randomness.randrange(len(kept)))
                if randomness.random() < 0.05: pool.collect()
                assert all(each[0] == seed == each[-1] for each in kept)
            assert all((each == seed).all() for each in kept)
            return full
        children = []
        for seed in 1, 2, 3:
            child = os.fork()
            if child == 0: sys.exit(10 if work(seed) else 11)
            children.append(child)
        randomness, statuses = random.Random(0), []
        while len(statuses) < len(children):
            occupy(leave=randomness.randrange(1 << 21)); vacate()
            child, status = os.waitpid(-1, os.WNOHANG)
            if child: statuses.append(os.waitstatus_to_exitcode(status))
        assert statuses == [10, 10, 10], statuses
        pool.clear()
        assert pool.stats().used == 0
        works()
        """,
    "a waiter gets memory when another process releases it": """
        ready, go = os.pipe()
        jobs = pool.queue()
        made = fill(lambda: pool.full(1 << 20, 7, "u1"))
        child = os.fork()
        if child == 0:
            made.clear()
            os.write(go, b"!")
            jobs.put(np.full(4 << 20, 3, "u1"))  # waits for what the parent has
            sys.exit(5)
        os.read(ready, 1)
        assert jobs.empty()
        made.clear()
        assert (jobs.get(timeout=30) == 3).all()
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 5
        jobs.close()
        works()
        """,
}


@pytest.mark.parametrize(
    "case",
    [pytest.param(case, marks=[pytest.mark.check] * (n % 4 != 0)) for n, case in enumerate(CASES)],
)
def test_a_full_file_system(case, tmp_path):
    environment = os.environ | {"ONECOPY_DIR": str(tmp_path / "pools")}
    (tmp_path / "pools").mkdir(mode=0o700)
    program = Running(
        SETUP
        + textwrap.dedent(CASES[case])
        + "\ngc.collect(); assert pool.stats().used == 0, pool.stats()\n"
        + "pool.close(); gc.collect()\n"
        + "assert set(os.listdir(directory)) <= {'other.data'}, os.listdir(directory)\n",
        holding=False,
        flags=("-W", "error"),
        inside=small("16m", tmp_path / "pools"),
        environment=environment,
    )
    status, stderr = program.end()
    assert (status, stderr) == (0, ""), stderr
