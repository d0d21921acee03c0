"""A program closes the descriptor of a pool: it gets an error, and no other process is harmed."""

import pytest
from programs import left, run

pytestmark = pytest.mark.one_in(2)

BACKINGS = ["shm", "memfd", "file"]

# `lose(how)` is what the damaged process does; `Other` is the file that now has the number.
COMMON = """
import contextlib, fcntl, struct
directory = os.environ["ONECOPY_DIR"]
def make(backing):
    if backing != "file": return oc.Pool.create("theirs", size="32MiB", backing=backing)
    path = f"{directory}/file"
    atexit.register(os.unlink, path)  # before the pool has one: it runs last
    return oc.Pool.create(size="32MiB", backing=path)
def number_of(pool):
    numbers = []
    for number in map(int, os.listdir("/proc/self/fd")):
        with contextlib.suppress(OSError):
            status = os.fstat(number)
            if (status.st_dev, status.st_ino) == pool.member.file:
                numbers.append(number)
    (number,) = numbers
    return number
class Other:
    def __init__(self):
        self.path = f"{directory}/other-{os.getpid()}"
        self.file = open(self.path, "w+b")
        for at in (0, 3 << 20, 9 << 20):  # with holes
            self.file.seek(at); self.file.write(b"contents" * 512)
        self.file.flush()
        self.before = self.look()
    def look(self):
        status = os.stat(self.path)
        with open(self.path, "rb") as file:
            contents = hash(file.read())
        return status.st_size, status.st_blocks, contents
    def check(self):
        assert self.look() == self.before, (self.look(), self.before)
        # A lock of another description on any byte of it would show.
        with open(self.path, "r+b") as file:
            whole = struct.pack("hhqqi4x", fcntl.F_WRLCK, os.SEEK_SET, 0, 0, 0)
            found = struct.unpack("hhqqi4x", fcntl.fcntl(file, fcntl.F_OFD_GETLK, whole))
            assert found[0] == fcntl.F_UNLCK, found
        os.unlink(self.path)
        self.file.close()
def lose(number, how):
    if how == "closed":
        os.close(number)
        return None
    other = Other()
    os.dup2(other.file.fileno(), number)
    return other
def refuses(act, *words):
    try:
        act()
    except oc.OneCopyError as error:
        assert type(error) is oc.OneCopyError, repr(error)
        assert all(word in str(error) for word in ("closed the descriptor", *words)), error
    else:
        raise AssertionError("it went through")
def in_child(act):
    child = os.fork()
    if child == 0:
        try:
            act()
        except BaseException:
            import traceback
            traceback.print_exc()
            os._exit(1)
        os._exit(0)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
"""


def expect(text, **options):
    assert run(COMMON + text, holding=False, **options) == (0, "")


@pytest.mark.parametrize("how", ["closed", "replaced"])
@pytest.mark.parametrize("backing", BACKINGS)
def test_the_first_use_of_a_lost_descriptor_is_an_error(backing, how):
    """The file that has the number now keeps its size, contents and locks."""
    text = f"""
pool = make({backing!r})
mine, held, free = pool.full(1 << 20, 7, "u1"), pool.lock(), pool.lock()
held.acquire()
spare = pool.zeros(6 << 20, "u1")
del spare  # reserved, and to be given back
FIRST = [
    lambda: pool.zeros(12 << 20, "u1"),  # grows
    lambda: pool.put(np.ones(12 << 20, "u1")),
    lambda: [pool.queue() for _ in range(100_000)],  # the table of blocks grows
    pool.collect,
    pool.member.collect,
    pool.stats,
    pool.member.holders,
    pool.validate,
    held.acquire,  # of a living owner: it has to ask whether that one is dead
]
for first in FIRST:
    def damaged():
        number = number_of(pool)
        other = lose(number, {how!r})
        refuses(first, f"(number {{number}})", pool.member.path)
        refuses(first)
        if other is not None:
            other.check()
    in_child(damaged)
    pool.collect()
    assert pool.stats().processes == 1 and (mine == 7).all()
assert not pool.validate()
held.release()
"""
    expect(text)
    assert left() == []


@pytest.mark.parametrize("how", ["closed", "replaced"])
@pytest.mark.parametrize("backing", BACKINGS)
def test_everything_that_begins_after_the_loss_is_refused(backing, how):
    """What was begun can be released: the process is still the same member."""
    text = f"""
pool = make({backing!r})
queue, again, stream = pool.queue(), pool.queue(), pool.stream("s", depth=2)
frames = pool.frames("f", (9,), "u1", 2)
lock, rwlock, event = pool.lock(), pool.rwlock(), pool.event()
semaphore, barrier, condition = pool.semaphore(), pool.barrier(parties=2), pool.condition()
items, table = pool.list([1, 2]), pool.dict({{"a": 1}})
pool["named"] = np.arange(9)
queue.put(b"there"); again.put(1)
mine = pool.full(1 << 20, 7, "u1")
to_child, from_child = os.pipe(), os.pipe()
child = os.fork()
if child == 0:
    lock.acquire()
    own, lent = pool.full(1 << 20, 5, "u1"), rwlock.read()
    lent.__enter__()
    subscription = stream.subscribe()
    number = number_of(pool)
    other = lose(number, {how!r})
    refuses(pool.collect)
    BEGIN = [
        lambda: pool.put(1), lambda: pool.full(9, 1, "u1"), lambda: pool.queue(),
        lambda: pool.lock(), lambda: pool.dict(), lambda: pool.stats(),
        lambda: pool["named"], lambda: pool.__setitem__("x", 1), lambda: list(pool),
        lambda: queue.put(b"x"), lambda: queue.put(np.ones(9)), lambda: queue.get(timeout=5),
        lambda: queue.get_nowait(), lambda: stream.publish(1), lambda: stream.subscribe(),
        lambda: subscription.get(timeout=5),
        lambda: frames.acquire(),
        lambda: pool.semaphore(), lambda: semaphore.acquire(), lambda: event.set(),
        lambda: event.wait(5), lambda: barrier.wait(5), lambda: condition.acquire(),
        lambda: rwlock.write().__enter__(), lambda: items.append(3), lambda: items[0],
        lambda: table.__setitem__("b", 2), lambda: table["a"],
    ]
    for act in BEGIN: refuses(act, pool.member.path)
    assert (own == 5).all() and (mine == 7).all()
    lock.release(); lent.__exit__(None, None, None)
    del own
    os.write(from_child[1], b"x"); os.read(to_child[0], 1)
    if other is not None: other.check()
    os._exit(0)
os.close(from_child[1])
assert os.read(from_child[0], 1)
# It lives, and has given back what it could.
assert pool.stats().processes == 2 and not pool.collect() and pool.stats().processes == 2
assert lock.acquire(timeout=0); lock.release()
with rwlock.write(): pass
assert queue.get() == b"there" and again.get() == 1 and (mine == 7).all()
assert not pool.validate()
os.write(to_child[1], b"x")
assert os.waitpid(child, 0)[1] == 0
pool.collect()
assert pool.stats().processes == 1 and not pool.validate()
"""
    expect(text)


@pytest.mark.parametrize("backing", BACKINGS)
def test_a_daemon_that_closes_small_numbers_does_not_meet_the_pool(backing):
    text = f"""
pool = make({backing!r})
mine = pool.full(1 << 20, 7, "u1")
def daemon():
    os.closerange(3, 256)
    logs = [open(f"{{directory}}/log-{{i}}", "w") for i in range(20)]
    assert pool.collect() == 0 and pool.stats().processes == 2
    pool.zeros(12 << 20, "u1")
    for log in logs: log.close(); os.unlink(log.name)
in_child(daemon)
assert (mine == 7).all()
pool.collect()
assert pool.stats().processes == 1
"""
    expect(text)


@pytest.mark.parametrize("backing", ["shm", "file"])
def test_the_number_of_another_description_of_the_same_file(backing):
    """Same answers about others, and it grows the same file. Its owner keeps its locks."""
    text = f"""
pool = make({backing!r})
mine = pool.full(1 << 20, 7, "u1")
ready, done = os.pipe(), os.pipe()
child = os.fork()
if child == 0:
    number, path = number_of(pool), pool.member.path
    file = os.open(path, os.O_RDWR)
    os.dup2(file, number); os.close(file)
    assert pool.collect() == 0 and pool.stats().processes == 2
    own = pool.full(12 << 20, 5, "u1")
    assert (mine == 7).all() and not pool.validate()
    os.write(ready[1], b"x"); os.read(done[0], 1)
    os._exit(0)
os.close(ready[1])
assert os.read(ready[0], 1)
assert pool.collect() == 0 and pool.stats().processes == 2  # the mapping has its locks
os.write(done[1], b"x"); os.waitpid(child, 0)
assert pool.collect() == 1 and pool.stats().processes == 1 and (mine == 7).all()
"""
    expect(text)


def test_the_end_of_a_damaged_process_closes_no_other_file():
    text = """
pool = make("shm")
def damaged():
    number = number_of(pool)
    other = lose(number, "replaced")
    pool.close()
    gc.collect()
    oc._native.leave_all()
    os.fstat(number)
    os.close(number)  # it is ours: `Other` has one of its own
    other.check()
in_child(damaged)
assert os.listdir(directory) == ["theirs.pool"]
"""
    expect(text)


def test_a_child_that_executes_another_program_is_no_member():
    """The exec closes its descriptor, and the lock ends with the descriptor."""
    text = """
import resource
# The table is filled to where a descriptor is not moved to a high number any more.
resource.setrlimit(resource.RLIMIT_NOFILE, (128, resource.getrlimit(resource.RLIMIT_NOFILE)[1]))
filling = []
while not filling or filling[-1] < 64: filling.append(os.open("/dev/null", os.O_RDONLY))
for each in filling: os.set_inheritable(each, False)
pool = make("shm")
mine = pool.full(1 << 20, 7, "u1")
started, end = os.pipe(), os.pipe()
child = os.fork()
if child == 0:
    os.dup2(started[1], 1); os.dup2(end[0], 0)
    os.execvp("sh", ["sh", "-c", "echo there; read line"])
os.close(started[1])
assert os.read(started[0], 1)
pool.collect()
assert pool.stats().processes == 1
os.write(end[1], b"\\n")
assert os.waitpid(child, 0)[1] == 0
"""
    expect(text)


def test_shared_memory_whose_descriptor_was_lost():
    text = """
import pickle
from onecopy.multiprocessing.shared_memory import SharedMemory
shm = SharedMemory(create=True, size=5000)
shm.buf[:4] = b"here"
def damaged():
    number = shm._segment.fileno()
    other = lose(number, "replaced")
    accessed = os.stat(other.path).st_atime_ns
    try: pickle.dumps(shm)
    except oc.OneCopyError as error:
        assert f"(number {number})" in str(error) and shm.name in str(error), error
    else: raise AssertionError("it went through")
    try: shm._segment.keep_here()
    except oc.OneCopyError: pass
    else: raise AssertionError("it went through")
    assert bytes(shm.buf[:4]) == b"here" and shm._segment.has_name()
    shm.close()
    shm._segment.release()
    os.fstat(number)  # it was not ours to close
    assert os.stat(other.path).st_atime_ns == accessed
    other.check()
in_child(damaged)
again = SharedMemory(shm.name)
assert bytes(again.buf[:4]) == b"here"
def daemon():
    os.closerange(3, 256)
    pickle.dumps(shm)
in_child(daemon)
shm.unlink()
"""
    expect(text)
