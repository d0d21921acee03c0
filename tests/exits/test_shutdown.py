"""The interpreter ends while views of a pool exist in all places that it clears late."""

import pytest
from programs import STRICT, left, run

pytestmark = pytest.mark.one_in(2)

PLACES = {
    "reference cycles": """
        class Cycle: pass
        for _ in range(50):
            one = Cycle(); one.self = one; one.kept = pool.zeros(1000), queue, subscription, frame
        gc.disable()
        """,
    "cycles with __del__": """
        class Last:
            def __init__(self): self.me, self.kept = self, pool.zeros(1000)
            def __del__(self): assert self.kept[-1] == 0; self.kept[0] = len(self.kept)
        gc.disable(); Last(); last = Last()
        """,
    "an atexit handler that reads": """
        @atexit.register
        def late(): assert array.sum() == 700_000; assert reference.get()["a"][1] == 1
        """,
    "an atexit handler that uses everything": """
        @atexit.register
        def late():
            queue.put(np.ones(5000)); queue.get(timeout=5)
            assert queue.get(timeout=5).sum() == 5000
            stream.publish(1); subscription.get(timeout=5)
            assert pool.zeros(1000).sum() == 0; pool["late"] = array; assert pool.validate() == []
        """,
    "a weakref callback": """
        said = []
        handle = weakref.ref(array, said.append)
        finalizer = weakref.finalize(queue, lambda kept: kept.sum(), pool.zeros(1000))
        """,
    "a weakref callback that uses the pool": """
        class Thing: pass
        thing = Thing()
        finalizer = weakref.finalize(thing, lambda: queue.put(1))
        """,
    "other modules": """
        import types
        module = types.ModuleType("elsewhere"); sys.modules["elsewhere"] = module
        module.kept = array, pool, queue, frame, reference, view, subscription
        import builtins; builtins.kept = module.kept; os.kept = module.kept
        """,
    "class attributes": """
        class Config:
            kept = array, pool, queue, frame
            default = oc.zeros(100)
        """,
    "closures and generators": """
        def generate(kept=pool.zeros(100)):
            with frames.lend() as lent:
                while True: yield kept, lent
        generator = generate(); next(generator)
        """,
    "thread locals": """
        local = threading.local(); local.kept = pool.zeros(100)
        """,
    "an exception's frames": """
        def fail(kept): raise ValueError
        try: fail(pool.zeros(1000))
        except ValueError as caught: error = caught
        sys.last_value = error
        """,
    "views of views": """
        deep = array[::2].reshape(-1, 5)[1:].T.view("u1")[:3]; flat = memoryview(shared).cast("B")
        del array, shared
        """,
    "a ready list that nobody read": """
        for index in range(10): queue.put(np.full(20_000, index)); pool[f"name {index}"] = index
        """,
    "a thread that is not a daemon": """
        go = threading.Event()
        def work():
            go.wait()
            for _ in range(200): queue.put(np.zeros(2000)); queue.get()
        threading.Thread(target=work).start(); go.set()
        """,
    "a daemon in get": """
        threading.Thread(target=bounded.get, daemon=True).start()
        """,
    "daemons in everything": """
        ready = threading.Barrier(7)
        bounded.put(1)
        for act in (
            lambda: pool.queue().get(), lambda: bounded.put(array), queue.join,
            lambda: [frames.acquire() for _ in range(9)], lambda: pool.queue().get_many(9),
            lambda: [subscription.get() for _ in range(9)],
        ):
            threading.Thread(target=lambda act=act: (ready.wait(), act()), daemon=True).start()
        ready.wait()
        """,
    "daemons at work": """
        def work():
            while True: queue.put(np.zeros(3000)); queue.get(); pool.zeros(100); pool["x"] = array
        for _ in range(3): threading.Thread(target=work, daemon=True).start()
        while pool.stats().blocks < 3: pass
        """,
    "a daemon in get, interpreter asked to exit by another": """
        threading.Thread(target=bounded.get, daemon=True).start()
        threading.Thread(target=lambda: queue.put(1)).start()
        sys.exit(0)
        """,
    "daemons that run on while exit handlers run": """
        import time
        def work(act):
            while True: act(); time.sleep(0.001)
        subscribed = stream.subscribe()
        while not queue.empty(): queue.get()
        for act in (
            lambda: (queue.put(np.zeros(3000)), queue.get()), lambda: pool.zeros(100),
            lambda: (stream.publish(array), subscribed.get()), lambda: pool.put([1, {}]),
            lambda: pool.__setitem__("x", array), pool.stats, pool.queue, frames.acquire,
            lambda: queue.qsize() and queue.empty(), lambda: "x" in pool, lambda: pool.get("kept"),
            lambda: pool.frames(None, 10, "u1", 2), pool.collect, lambda: list(pool), shared.sum,
        ):
            threading.Thread(target=work, args=(act,), daemon=True).start()
        atexit.register(time.sleep, 0.1)
        """,
    "a subscription in a daemon's for": """
        def read():
            for _ in subscription: pass
        threading.Thread(target=read, daemon=True).start(); stream.publish(array)
        """,
}


FLAGS = [pytest.param((), marks=pytest.mark.slow, id="plain"), pytest.param(STRICT, id="strict")]


@pytest.mark.one_in(3)
@pytest.mark.parametrize("flags", FLAGS)
@pytest.mark.parametrize("place", PLACES)
def test_the_interpreter_ends(place, flags):
    assert run(PLACES[place], flags=flags) == (0, "")
    assert left() == []


@pytest.mark.slow
def test_many_times_with_daemons_at_work():
    """Each end meets the daemons in another state."""
    for _ in range(15):
        assert run(PLACES["daemons at work"], flags=()) == (0, "")
        assert left() == []


def test_a_module_that_is_never_used_says_nothing():
    assert run("", holding=False) == (0, "")
    assert left() == []


def test_sys_modules_is_cleared():
    """As tests and some servers do: remove the package from `sys.modules`, and import it again."""
    text = """
    kept = array
    for name in [n for n in sys.modules if n.startswith("onecopy") and "_native" not in n]:
        del sys.modules[name]
    import onecopy as again
    with again.Pool.open("theirs") as same: assert same["kept"].sum() == 700_000
    """
    assert run(text) == (0, "")
    assert left() == []
