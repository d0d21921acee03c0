"""A forked child that cannot become a member runs on, gets errors, and sees no changing memory.

A member needs an open file description and a slot of its own. The tests try each reason to have
none: a full table, rights that were given up, another root directory, and a full table of
descriptors.
"""

import os
from textwrap import dedent

import pytest
from programs import run

pytestmark = pytest.mark.one_in(2)

NOBODY = 65534

# What prevents membership; the parent does it before it forks. `give_back` undoes it.
WAYS = {
    "a full table": """
        def take():
            global others
            others = occupy()
        def give_back(): lock(others, fcntl.F_UNLCK, 0, 3)
        word = "all 3 slots of the pool were taken (max_processes=3)"
        """,
    "no rights": f"""
        def take():
            os.setgroups([]); os.setgid({NOBODY}); os.setuid({NOBODY})
        word = "Permission denied"
        """,
    "another root": """
        def take(): os.chroot(os.environ["ONECOPY_DIR"])
        word = "No such file or directory"
        """,
    "no descriptors": """
        taken = []
        def take():
            resource.setrlimit(resource.RLIMIT_NOFILE, (64, 64))
            try:
                while True: taken.append(os.dup(0))
            except OSError: pass
        def give_back():
            while taken: os.close(taken.pop())
        word = "Too many open files"
        """,
}
FOR_ROOT = {"no rights", "another root"}
BACKINGS = {
    "shm": 'pool = oc.Pool.create("p", size="16MiB", max_processes=3)',
    "memfd": 'pool = oc.Pool.create("p", size="16MiB", max_processes=3, backing="memfd")',
    "file": 'pool = oc.Pool.create(size="16MiB", max_processes=3, backing="./on-disk")',
}

COMMON = """
import faulthandler, fcntl, resource, struct, subprocess, traceback
faulthandler.disable()  # some children shall end by a fault
resource.setrlimit(resource.RLIMIT_CORE, (0, 0))

def lock(descriptor, kind, first, count):
    region = struct.pack("hhqqi4x", kind, os.SEEK_SET, (1 << 62) + first, count, 0)
    fcntl.fcntl(descriptor, fcntl.F_OFD_SETLK, region)

def occupy():
    "Take the other slots, as members do: by a lock on a byte each, of a description of our own."
    for name in os.listdir("/proc/self/fd"):
        try: status = os.stat(f"/proc/self/fd/{name}")
        except OSError: continue
        if (status.st_dev, status.st_ino) == pool.member.file:
            descriptor = os.open(f"/proc/self/fd/{name}", os.O_RDWR)
            break
    for slot in range(pool.member.max_processes):
        if slot != pool.member.slot:
            lock(descriptor, fcntl.F_WRLCK, slot, 1)
    return descriptor

def forked(act):
    child = os.fork()
    if child == 0:
        status = 9
        try:
            act()
            status = 0
        except BaseException:
            traceback.print_exc()
        finally:
            os._exit(status)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])

def is_told(*acts):
    for act in acts:
        try:
            act()
        except oc.OneCopyError as error:
            assert "no member of the pool" in str(error) and word in str(error), error
        else:
            raise AssertionError("nothing was said")

held = {
    "array": pool.full(100_000, 7, "u1"), "shared": pool.shared_array(10, name="grid"),
    "reference": pool.put(np.arange(50_000)), "value": pool.value("i", 5, lock=False),
    "lock": pool.lock(), "frames": pool.frames("frames", (100,), "u1", 2),
    "stream": pool.stream("events"), "list": pool.list(name="names"),
}
held["subscription"], held["frame"] = held["stream"].subscribe(), held["frames"].acquire()
queue = pool.queue("jobs")
queue.put(held["array"]); queue.put(5)
try: pool.zeros(1 << 30)  # all that an error needs is loaded: in another root there is no library
except oc.PoolFull: pass

def operations():
    return (
        lambda: queue.put(1), queue.get_nowait, queue.qsize, lambda: pool.zeros(5), pool.collect,
        pool.stats, lambda: list(pool), lambda: len(pool), lambda: pool["a"], pool.validate,
        lambda: pool.put(1), held["reference"].get, held["lock"].acquire, held["lock"].locked,
        held["frames"].acquire, held["subscription"].get, lambda: held["stream"].publish(1),
        lambda: held["list"].append(1), pool.queue, lambda: pool.queue("jobs"), pool.unlink,
    )
before = pool.stats()
"""

# Nothing of the children is left in the pool, and the next child becomes a member normally.
UNHARMED = """
assert pool.stats() == before, (pool.stats(), before)
assert [holder["slot"] for holder in pool.member.holders()] == [pool.member.slot]
assert (held["array"] == 7).all() and queue.qsize() == 2
assert pool.validate() == []
"""
GIVEN_BACK = """
give_back()
assert forked(lambda: queue.put(pool.stats().processes)) == 0
assert [queue.get(), queue.get(), queue.get()][1:] == [5, 2]
"""


@pytest.fixture(autouse=True)
def _files_in_a_directory_of_its_own(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def check(way, backing, text, *, then=UNHARMED):
    """Run a program that makes a pool, prevents membership of its children, and forks."""
    if way in FOR_ROOT and os.geteuid() != 0:
        pytest.skip(f"only root can have {way}")
    program = "\n".join(
        (BACKINGS[backing], COMMON, WAYS[way].replace("\n        ", "\n"), text, then)
    )
    assert run(program, holding=False) == (0, "")


@pytest.fixture(params=WAYS)
def way(request):
    return request.param


@pytest.fixture(params=BACKINGS)
def backing(request):
    return request.param


@pytest.mark.one_in(5)
def test_it_lives_and_every_operation_says_why(way, backing):
    text = """
    take()
    assert forked(lambda: None) == 0
    assert forked(lambda: is_told(*operations())) == 0
    """
    then = UNHARMED + (GIVEN_BACK if way not in FOR_ROOT else "")
    check(way, backing, dedent(text), then=then)


def test_what_it_inherited_faults_and_does_not_change_silently(way):
    text = """
    take()
    for touch in (
        lambda: held["array"][0], lambda: held["shared"].fill(1), lambda: held["frame"].sum(),
        lambda: held["value"].value, lambda: bytes(memoryview(held["array"])),
    ):
        assert forked(touch) == -signal.SIGSEGV
    """
    check(way, "shm", dedent(text))


def test_letting_go_of_what_it_inherited_touches_nothing(way):
    text = """
    take()
    def let_go():
        held.clear()
        gc.collect()
        queue.close()
        pool.close()
    assert forked(let_go) == 0
    """
    check(way, "shm", dedent(text))


def test_its_end_is_an_end_like_any_other(way):
    """The child has all its references until the end, so exit handlers and finalizers see them."""
    text = """
    take()
    child = os.fork()
    if child == 0:
        class Late:
            def __init__(self): self.array = held["array"]
            def __del__(self): del self.array
        atexit.register(lambda: is_told(*operations()))
        late = Late()
        sys.exit(0)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    """
    check(way, "shm", dedent(text))


def test_its_children_are_no_members_either(way):
    text = """
    take()
    def child():
        assert forked(lambda: is_told(*operations())) == 0
        assert forked(lambda: held["array"][0]) == -signal.SIGSEGV
    assert forked(child) == 0
    """
    check(way, "shm", dedent(text))


@pytest.mark.parametrize("way", ["a full table", "no descriptors"])
def test_it_can_open_the_pool_anew(way, backing):
    text = """
    take()
    def child():
        give_back()
        with oc.Pool.open(pool.member.path) as again:
            assert again.stats().processes == 2
            jobs = again.queue("jobs")
            array = jobs.get()
            assert (array == 7).all() and jobs.get() == 5
            jobs.put(array); jobs.put(5)
            del array
            is_told(*operations())
            assert again.validate() == []
            jobs.close()
        assert forked(lambda: is_told(*operations())) == 0
    assert forked(child) == 0
    pool.collect()
    """
    check(way, backing, dedent(text))


@pytest.mark.parametrize("way", ["a full table", "no rights"])
def test_programs_are_started_as_ever(way):
    text = """
    take()
    touched = []
    subprocess.run(["true"], check=True)
    subprocess.run(["true"], check=True, preexec_fn=lambda: touched.append(1))
    assert os.waitstatus_to_exitcode(
        os.waitpid(os.posix_spawn("/bin/sh", ["sh", "-c", "exit 3"], {}), 0)[1]
    ) == 3
    """
    check(way, "shm", dedent(text))


@pytest.mark.parametrize("way", ["a full table", "no rights", "another root"])
def test_children_of_multiprocessing(way):
    """Operations that need no pool work. The others raise an error with the reason."""
    text = """
    import multiprocessing, multiprocessing.popen_fork  # in another root there is no library
    context = multiprocessing.get_context("fork")
    children = [
        context.Process(target=int), context.Process(target=is_told, args=(lambda: queue.put(1),))
    ]
    take()
    for child in children:
        child.start()
        child.join()
        assert child.exitcode == 0
    """
    check(way, "shm", dedent(text))


@pytest.mark.parametrize("way", ["no rights", "another root", "no descriptors"])
def test_children_of_a_reader_are_readers(way):
    """They need no lock of their own: they share the lock of their parent."""
    text = """
    pool["a"] = np.arange(50_000)
    path = pool.member.path
    held.clear(); del queue; gc.collect()
    pool.close()
    pool = oc.Pool.open(path, mode="r")
    array = pool["a"]
    def child():
        assert array.sum() == pool["a"].sum() == 1249975000
        assert forked(lambda: pool["a"].sum()) == 0
    assert forked(child) == 0
    take()
    assert forked(child) == 0
    """
    check(way, "file", dedent(text), then="")
