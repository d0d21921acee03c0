"""A process with no address space left: each operation raises MemoryError, and it continues."""

import textwrap

import pytest
from programs import run

pytestmark = pytest.mark.one_in(2)

SETUP = """
import resource
from onecopy.multiprocessing.shared_memory import ShareableList

pool = oc.Pool.create("here", size="64MiB")
queue, many, table = pool.queue(), pool.list(range(20_000)), pool.dict({"a": 1, "b": [2]})
stream, frames = pool.stream(depth=64), pool.frames(shape=(10,), dtype="u1", count=2)
stream.publish(1)
lock, rwlock, condition = pool.lock(), pool.rwlock(), pool.condition()
semaphore, event = pool.semaphore(), pool.event()
pool["name"] = [1, 2]
queue.put_many(range(500))
held = [pool.put([number]) for number in range(100)]
chain = pool.put([held[0]])
large = pool.put(np.zeros(1 << 20, "u1"))
items = ShareableList([1, 2, 3])

def limit(soft):
    resource.setrlimit(resource.RLIMIT_AS, (soft, resource.RLIM_INFINITY))

def use_up(room):
    "Leave about so many bytes, in pieces that are too small for most."
    with open("/proc/self/statm") as file: pages = int(file.read().split()[0])
    limit(pages * resource.getpagesize() + room)
    hog = []
    for size in (1 << 20, 1 << 16, 1 << 12, 512, 64):
        try:
            while True: hog.append(bytearray(size))
        except MemoryError: pass
    del hog[-2:]
    return hog

def attempt(operation, room):
    code = compile(operation, "operation", "exec")
    pid = os.fork()
    if pid: return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    signal.alarm(20)
    try:
        hog = use_up(room)
        try: exec(code, globals())
        except MemoryError as error: assert not isinstance(error, oc.PoolFull), error
        finally: hog.clear(); limit(resource.RLIM_INFINITY)
        assert pool.validate() == []
        gc.collect()
        queue.put(5); many.append(5); table["c"] = 5
        with lock: pass
        assert pool.put([5]).get() == [5]
    except BaseException:
        import traceback; traceback.print_exc()
        os._exit(1)
    os._exit(0)
"""

OPERATIONS = {
    "queue": """queue.put(1) | queue.put([1] * 1000) | queue.get() | queue.get_many(100) |
        queue.put_many([1] * 100) | queue.put_many([[1] * 1000] * 10) | pool.queue()""",
    "list": """many.insert(0, 1) | many[:] | many.sort() | many.reverse() | many.extend([1]) |
        many.append(1) | del many[5] | many.clear() | many.pop() | del many[::2] | list(many)""",
    "dict": """table.update({1: 1}) | table[("k", 1)] = 1 | list(table.items()) | table.clear() |
        table.pop("a", None) | table["x" * 1000] = 1""",
    "pool": """pool.put(b"x" * 1000).get() | pool.zeros(10) | pool["n"] = 1 | pool["name"] |
        list(pool) | pool.validate() | pool.stats() | pool.collect() | held.clear() |
        pool.put([np.zeros(1000)] * 5) | large.get("on_write")[0] = 1 | large.get(True)[0] = 1 |
        oc.Pool.open("here") | chain.get()""",
    "others": """stream.publish([1]) | stream.subscribe().close() | frames.acquire(timeout=0) |
        lock.acquire(), lock.release() | with rwlock.read(): pass |
        pool.lock() | semaphore.acquire(timeout=0) |
        with condition: condition.notify() | event.set() | items[1] | items.__setitem__(1, 5) |
        os.fork() or os._exit(0)""",
}


@pytest.mark.one_in(3)
@pytest.mark.parametrize("room", [200_000, 1_000_000])
@pytest.mark.parametrize("kind", OPERATIONS)
def test_no_address_space(kind, room):
    operations = [one.strip() for one in OPERATIONS[kind].split("|")]
    text = f"""
    statuses = {{operation: attempt(operation, {room}) for operation in {operations!r}}}
    assert set(statuses.values()) == {{0}}, statuses
    """
    status, stderr = run(SETUP + textwrap.dedent(text), holding=False, flags=("-W", "error"))
    assert (status, stderr) == (0, ""), stderr
