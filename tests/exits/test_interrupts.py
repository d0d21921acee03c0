"""Ctrl-C, or a handler that raises, in the middle of each call that waits."""

import signal

import pytest
from programs import Running, left

pytestmark = pytest.mark.one_in(2)

CALLS = {
    "queue.get": "queue.get(); queue.get()",
    "queue.get with a timeout": "queue.get(); queue.get(timeout=1000)",
    "queue.put": "bounded.put(1); bounded.put(array)",
    "queue.join": "queue.join()",
    "queue.get_many": "queue.get_many(5); queue.get_many(5)",
    "queue.put_many": "bounded.put_many([1, 2, 3])",
    "queue.put_many of arrays": "bounded.put_many([array, array, array])",
    "subscription.get": "subscription.get(); subscription.get()",
    "for in subscription": "for _ in subscription: pass",
    "publish": """
        lossless = pool.stream(depth=1, policy="lossless")
        slow = lossless.subscribe()
        lossless.publish(array); lossless.publish(array)
        """,
    "frames.acquire": "kept = [frames.acquire() for _ in range(5)]",
    # Waiting is useful only while another process has messages: a child, until we close the pipe.
    "waiting for memory": """
        full = []
        try:
            while True: full.append(pool.empty(1 << 20, "u1"))
        except oc.PoolFull: pass
        waiting, (until, ours) = pool.queue(maxsize=0), os.pipe()
        child = os.fork()
        if child == 0:
            os.close(ours), os.read(until, 1), sys.exit()
        waiting.put(np.zeros(4 << 20, "u1"))
        """,
}


@pytest.mark.slow
@pytest.mark.parametrize("call", CALLS)
def test_ctrl_c_ends_the_program(call):
    program = Running(_waits(call))
    program.says("ready")
    program.is_asleep()
    program.signal(signal.SIGINT)
    status, stderr = program.end()
    assert status == -signal.SIGINT
    assert stderr.endswith("KeyboardInterrupt\n")
    assert "Exception ignored" not in stderr
    assert left() == []


@pytest.mark.slow
@pytest.mark.parametrize("call", CALLS)
def test_a_handler_that_exits(call):
    handler = "signal.signal(signal.SIGTERM, lambda *_: sys.exit(7))\n"
    program = Running(handler + _waits(call))
    program.says("ready")
    program.is_asleep()
    program.signal(signal.SIGTERM)
    assert program.end() == (7, "")
    assert left() == []


AFTERWARDS = """
if "child" in globals(): os.close(ours), os.waitpid(child, 0)
assert pool.validate() == [], pool.validate()
full = kept = frame = received = None
for q in queue, bounded:
    while not q.empty(): q.get()
    q.put(1, timeout=5); assert q.get(timeout=5) == 1
stream.publish([array]); assert subscription.get(timeout=5) is not None
assert frames.acquire(timeout=5).shape == (100, 100)
assert pool.zeros(1000).sum() == 0
assert pool.validate() == [], pool.validate()
os.write(1, b"done\\n")
"""


@pytest.mark.parametrize("call", CALLS)
def test_who_catches_it_goes_on(call):
    program = Running(_waits(call, caught=True) + AFTERWARDS)
    program.says("ready")
    program.is_asleep()
    program.signal(signal.SIGINT)
    program.says("done")
    assert program.end() == (0, "")
    assert left() == []


def _waits(call: str, *, caught: bool = False) -> str:
    import textwrap

    body = textwrap.dedent(CALLS[call]).strip()
    if not caught:
        return f"print('ready', flush=True)\n{body}\n"
    body = textwrap.indent(body, "    ")
    return f"try:\n    print('ready', flush=True)\n{body}\nexcept KeyboardInterrupt: pass\n"
