"""Without descriptors or a /proc, nothing can be found out: then no process counts as dead."""

import pytest
from children import eventually
from namespaces import without_proc
from programs import Running, left, run
from segment_files import exists, fresh_name

from onecopy._core import segments

pytestmark = pytest.mark.one_in(2)

BACKINGS = ["shm", "memfd"]


@pytest.fixture
def name():
    yield from fresh_name()


# `with_few(act)` calls it in children with 0, 1, 2, … free descriptors until it succeeds twice: it
# may fail only with an error that says why. `still()` must hold after each call.
COMMON = """
import errno, fcntl, logging, resource, traceback
from onecopy import inspect
from onecopy._core import segments
from onecopy._core import stale
from onecopy.files import users
from onecopy.multiprocessing.shared_memory import SharedMemory
directory = os.environ["ONECOPY_DIR"]
def leave_free(count):
    resource.setrlimit(resource.RLIMIT_NOFILE, (64, resource.getrlimit(resource.RLIMIT_NOFILE)[1]))
    taken = []
    try:
        while True: taken.append(os.open("/dev/null", os.O_RDONLY))
    except OSError as error:
        assert error.errno == errno.EMFILE
    for fd in taken[:count]: os.close(fd)
    return taken[count:]
def with_few(act, still=lambda: True):
    act()  # whatever it imports is there
    succeeded, count = 0, 0
    while succeeded < 2:
        child = os.fork()
        if child == 0:
            status = 3
            try:
                taken = leave_free(count)
                act()
                status = 0
            except OSError as error:
                if error.errno in (errno.EMFILE, errno.ENFILE): status = 1
                else: traceback.print_exc()
            except BaseException:
                for fd in taken: os.close(fd)
                traceback.print_exc()
            os._exit(status)
        status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        assert status in (0, 1), f"with {count} free descriptors"
        assert still(), f"with {count} free descriptors"
        succeeded += status == 0
        count += 1
        assert count < 40
"""


def owner_program(text):
    program = Running(
        "from onecopy.multiprocessing.shared_memory import SharedMemory\n"
        + text
        + "\nprint('ready', flush=True); signal.pause()",
        holding=False,
    )
    program.says("ready")
    return program


def pool_of_another(backing):
    return owner_program(
        f"pool = oc.Pool.create('theirs', size='16MiB', backing={backing!r})\npool['x'] = 7"
    )


def expect(text, **options):
    assert run(COMMON + text, holding=False, **options) == (0, "")


@pytest.mark.one_in(5)
@pytest.mark.parametrize("backing", BACKINGS)
@pytest.mark.parametrize(
    "act",
    [
        "stale.sweep(directory, remove=True)",
        "inspect.gc()",
        "inspect.list_pools()",
        "use(oc.Pool.open('theirs'))",
        "use(oc.Pool('theirs'))",
        "make_theirs()",
        "oc.Pool.create(size='1MiB').close()",
    ],
)
def test_a_pool_in_use_keeps_its_name_when_descriptors_run_out(backing, act):
    other = pool_of_another(backing)
    try:
        expect(f"""
names = sorted(os.listdir(directory))
def use(pool):
    with pool:
        assert pool.collect() == 0 and pool.stats().processes >= 2 and pool["x"] == 7
def make_theirs():
    try:
        oc.Pool.create("theirs", size="1MiB")
    except oc.errors.PoolExists:
        return
    raise AssertionError("it was made in the place of one that is in use")
with_few(lambda: {act}, lambda: sorted(os.listdir(directory)) == names)
""")
    finally:
        other.kill()


@pytest.mark.parametrize("backing", BACKINGS)
def test_a_dead_pool_is_swept_as_soon_as_there_are_descriptors(backing):
    pool_of_another(backing).kill()
    assert left() == ["theirs.pool"]
    expect("""
with_few(lambda: stale.sweep(directory, remove=False))
with_few(lambda: stale.sweep(directory, remove=True))
assert os.listdir(directory) == []
""")


@pytest.mark.parametrize(
    "act",
    [
        "segments.sweep()",
        "inspect.gc_segments()",
        "SharedMemory({name!r}).close()",
        "SharedMemory(create=True, size=10).unlink()",
        "refused({name!r})",
    ],
)
@pytest.mark.parametrize("held", [True, False], ids=["held", "kept"])
def test_a_segment_in_use_keeps_its_name_when_descriptors_run_out(name, act, held):
    other = owner_program(
        f"shm = SharedMemory({name!r}, create=True, size=10)" + ("" if held else "\ndel shm")
    )
    try:
        expect(f"""
def refused(name):
    try:
        SharedMemory(name, create=True, size=10)
    except FileExistsError:
        return
    raise AssertionError("it was made in the place of one that is in use")
segments._SWEEP_EVERY = 0
with_few(lambda: {act.format(name=name)}, lambda: os.path.exists("/dev/shm/{name}"))
""")
        assert exists(name)
    finally:
        other.kill()
    eventually(lambda: segments.sweep() is not None and not exists(name), "it to be swept")


def test_a_segment_made_with_few_descriptors_has_its_owner(name):
    """It is made with the right owner, or not at all: the end of a child does not remove it."""
    expect(f"""
made = []
def make():
    SharedMemory(f"{name}-{{os.getpid()}}", create=True, size=10)
def kept():
    segments.sweep()
    now = [each for each in os.listdir("/dev/shm") if each.startswith("{name}-")]
    made.append(len(now))
    return True
with_few(make, kept)
# One by the first call, and one by each child that succeeded: none of them has gone.
assert made[-1] == 3 and sorted(made) == made, made
for each in os.listdir("/dev/shm"):
    if each.startswith("{name}-"): SharedMemory(each).unlink()
""")


def test_a_shortage_that_is_over_leaves_no_wrong_owner_behind(name):
    """What could not be found out is checked again: what is made then is not treated as unowned."""
    expect(f"""
segments._SWEEP_EVERY = 0
first = SharedMemory("{name}-first", create=True, size=10)
for count in range(9):
    child = os.fork()
    if child == 0:
        taken = leave_free(count)
        try: SharedMemory(create=True, size=10).unlink()
        except OSError as error: assert error.errno == errno.EMFILE, error
        for fd in taken: os.close(fd)
        SharedMemory(f"{name}-{{count}}", create=True, size=10)
        os._exit(0)
    assert os.waitpid(child, 0)[1] == 0
    segments.sweep()
    SharedMemory(f"{name}-{{count}}").unlink()
first.unlink()
""")


# ------------------------------------------------------------------------------------ without /proc


def test_a_pool_in_use_keeps_its_name_without_proc():
    others = [
        owner_program(f"pool = oc.Pool.create({backing!r}, size='16MiB', backing={backing!r})")
        for backing in ("shm", "memfd")
    ]
    names = left()
    try:
        expect(
            """
assert not os.listdir("/proc")
stale.sweep(directory, remove=True)
inspect.gc()
with oc.Pool.open("shm") as pool:
    assert pool.collect() == 0 and pool.stats().processes == 2
try:
    oc.Pool.open("memfd")
except FileNotFoundError as error:
    assert error.filename == "/proc", error
else:
    raise AssertionError("nobody can be reached without /proc")
with oc.Pool.create(size="1MiB") as pool:
    pool["x"] = 1
    assert pool.stats().processes == 1
try:
    oc.Pool.create(size="1MiB", backing="memfd")
except FileNotFoundError as error:
    assert error.filename == "/proc/self/fd", error
else:
    raise AssertionError("nobody could ever join it")
""",
            inside=without_proc(),
        )
        assert left() == names
    finally:
        for other in others:
            other.kill()


@pytest.mark.parametrize("held", [True, False], ids=["held", "kept"])
def test_a_segment_in_use_keeps_its_name_without_proc(name, held):
    other = owner_program(
        f"shm = SharedMemory({name!r}, create=True, size=10)" + ("" if held else "\ndel shm")
    )
    try:
        expect(
            f"""
segments.sweep()
inspect.gc_segments()
for attempt in (lambda: SharedMemory({name!r}), lambda: SharedMemory(create=True, size=10)):
    try:
        attempt()
    except FileNotFoundError as error:
        assert error.filename.startswith("/proc"), error
    else:
        raise AssertionError("memory is mapped by way of /proc")
""",
            inside=without_proc(),
        )
        assert exists(name)
    finally:
        other.kill()
    eventually(lambda: segments.sweep() is not None and not exists(name), "it to be swept")
