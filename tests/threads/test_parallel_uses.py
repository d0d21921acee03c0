"""Objects of a pool that several threads use at once."""

import gc
import threading
import weakref
from queue import Empty, SimpleQueue

import numpy as np
import pytest
from together import ROUNDS, run, stopping, until

import onecopy as oc
from onecopy import _native

THREADS = 4


def test_a_queue(pool):
    queue = pool.queue(maxsize=50)
    each = ROUNDS

    def put(number):
        for i in range(each):
            queue.put([number, i, "x" * (i % 300), np.full(i % 700, number)])

    def get():
        got = []
        for _ in range(each):
            number, i, text, array = queue.get()
            assert text == "x" * (i % 300)
            assert array.shape == (i % 700,)
            assert (array == number).all()
            got.append((number, i))
        return got

    answers = run(
        *[lambda number=number: put(number) for number in range(THREADS)], *[get] * THREADS
    )
    everything = sorted(item for got in answers[THREADS:] for item in got)
    assert everything == [(number, i) for number in range(THREADS) for i in range(each)]
    gc.collect()
    assert pool.validate() == []


def test_many_at_a_time(pool):
    queue = pool.queue()

    def put():
        for _ in range(ROUNDS // 10):
            queue.put_many([{"k": i, "a": np.arange(i)} for i in range(100)])

    def get():
        count = 0
        while True:
            try:
                count += len(queue.get_many(64))
            except oc.ShutDown:
                return count

    def put_all():
        run(put, put)
        queue.shutdown()

    answers = run(put_all, get, get)
    assert answers[1] + answers[2] == 2 * (ROUNDS // 10) * 100


def test_an_empty_queue_says_so_to_all(pool):
    queue = pool.queue("jobs")

    def get():
        for _ in range(ROUNDS):
            with pytest.raises(Empty, match="jobs"):
                queue.get_nowait()

    run(*[get] * THREADS)


def test_messages_of_a_queue_that_redelivers(pool):
    queue = pool.queue("jobs", redeliver=True)
    for i in range(100):
        queue.put([i, "x" * 50])
    done = []

    def work():
        while len(done) < 100:
            try:
                message = queue.get_message(timeout=0)
            except Empty:
                continue
            if message.deliveries < 3 and len(done) % 3 == 0:
                del message  # dropped unread: it goes back
                continue
            with message:
                done.append(message.item[0])

    run(*[work] * THREADS)
    assert sorted(done) == list(range(100))


def test_a_message_that_several_threads_finish(pool):
    queue = pool.queue(redeliver=True)
    for _ in range(ROUNDS):
        queue.put(1)
        message = queue.get_message()

        def finish(message=message):
            message.item = [1]
            try:
                message.task_done()
            except ValueError:
                return 0
            return 1

        assert sum(run(*[finish] * 3)) == 1


def test_containers(pool):
    numbers, table = pool.list(name="numbers"), pool.dict(name="table")
    each = ROUNDS // 3

    def add(number):
        for i in range(each):
            numbers.append((number, i))
            table[number, i] = [number] * (i % 5)
            assert table[number, i] == [number] * (i % 5)
            assert len(numbers) <= 3 * each

    def take():
        for _ in range(each):
            try:
                numbers.pop()
            except IndexError:
                continue
            numbers.append((-1, 0))

    run(*[lambda number=number: add(number) for number in range(3)], take)
    assert len(numbers) == 3 * each
    assert sorted(table) == [(number, i) for number in range(3) for i in range(each)]
    assert pool.validate() == []


def test_references_that_several_threads_release(pool):
    for _ in range(ROUNDS):
        ref = pool.put({"numbers": np.arange(1000), "text": "x" * 1000})

        def use(ref=ref):
            try:
                got = ref.get()
                again = ref.get(copy=True)
            except oc.StaleRef:
                return
            finally:
                ref.release()
            assert (got["numbers"] == np.arange(1000)).all()
            assert again["text"] == "x" * 1000
            assert repr(ref)

        run(*[use] * THREADS)
        assert ref.released
        del use, ref
    gc.collect()
    assert pool.stats().used == 0


def test_a_reference_that_is_sent_and_released(pool):
    queue = pool.queue()
    for _ in range(ROUNDS):
        ref = pool.put(b"x" * 500)

        def send(ref=ref):
            try:
                queue.put(ref)
            except oc.StaleRef:
                return 0
            return 1

        sent = run(send, ref.release, send)
        for _ in range(sent[0] + sent[2]):
            assert queue.get().get() == b"x" * 500


def test_the_membership_is_one_object(pool):
    queue = pool.queue()
    known = weakref.ref(queue.member)

    def ask():
        for _ in range(ROUNDS):
            assert queue.member is pool.member
            assert known() is pool.member

    run(*[ask] * THREADS)


def test_a_membership_that_no_object_has(pool):
    # Each call finds the object, or makes one, while other threads drop theirs.
    ref = pool.put(1)

    def ask():
        for _ in range(ROUNDS):
            assert ref.member.slot == pool.member.slot
            assert any(member.id == pool.member.id for member in _native.members())

    run(*[ask] * THREADS)


def test_frames(pool):
    frames = pool.frames("camera", (64, 64), np.uint8, 3)
    queue = pool.queue(maxsize=2)

    def record(number):
        for _ in range(ROUNDS // 3):
            frame = frames.acquire()
            frame[:] = number
            queue.put(frame)
            del frame

    def show():
        for _ in range(ROUNDS // 3):
            frame = queue.get()
            assert (frame == frame[0, 0]).all()
            del frame  # or it is not free while this waits for the next one

    run(lambda: record(1), lambda: record(2), show, show)
    gc.collect()
    assert frames.available == 3


def test_a_stream_and_its_subscriptions(pool):
    stream = pool.stream("news", depth=1000)
    subscriptions = [stream.subscribe() for _ in range(3)]

    def publish(number):
        for i in range(ROUNDS):
            stream.publish([number, i])

    def read(subscription):
        last = {}
        for _ in range(2 * ROUNDS):
            number, i = subscription.get(timeout=60)
            assert i > last.get(number, -1)
            last[number] = i

    run(
        lambda: publish(1),
        lambda: publish(2),
        *[lambda one=one: read(one) for one in subscriptions],
    )
    assert [one.missed for one in subscriptions] == [0, 0, 0]


def test_a_subscription_that_two_threads_close(pool):
    stream = pool.stream("news")
    for _ in range(ROUNDS // 3):
        one = stream.subscribe()
        others = []
        run(one.close, lambda others=others: others.append(stream.subscribe()), one.close)
        # The place of the closed one may belong to another one, which nobody has closed.
        stream.publish(7)
        assert others[0].get(timeout=60) == 7
        others[0].close()
    assert stream.subscribers == 0


@pytest.mark.parametrize("kind", ["lock", "rlock", "semaphore", "rwlock"])
def test_locks(pool, kind):
    made = getattr(pool, kind)("guard")
    lock = made.write() if kind == "rwlock" else made
    box = [0]

    def count():
        for _ in range(ROUNDS):
            with lock:
                number = box[0]
                if number % 10 == 0:
                    pool.stats()
                box[0] = number + 1

    run(*[count] * THREADS)
    assert box == [THREADS * ROUNDS]


def test_a_condition(pool):
    condition, box = pool.condition("turn"), [0]

    def turn(mine):
        for _ in range(ROUNDS // 3):
            with condition:
                assert condition.wait_for(lambda: box[0] % 2 == mine, timeout=60)
                box[0] += 1
                condition.notify_all()

    run(lambda: turn(0), lambda: turn(1))
    assert box[0] == 2 * (ROUNDS // 3)


def test_a_value(pool):
    value = pool.value("i", name="count")

    def count():
        for _ in range(ROUNDS):
            with value:
                value.value += 1

    run(*[count] * THREADS)
    assert value.value == THREADS * ROUNDS


def test_names(pool):
    def name(number):
        for i in range(ROUNDS // 3):
            pool[f"key{i % 5}"] = [number, i]
            assert type(pool.get(f"key{i % 5}")) in {list, type(None)}
            pool.pop(f"key{(i + number) % 5}", None)

    run(*[lambda number=number: name(number) for number in range(THREADS)])
    assert pool.validate() == []


def test_arrays_of_dtypes_that_take_long_to_spell(pool):
    queue = pool.queue()
    dtypes = [
        np.dtype([("x", "i4"), ("y", "f8")]),
        np.dtype("M8[ns]"),
        np.dtype([("only", "S7")]),
        np.dtype("U5"),
        np.dtype([("a", "i4")], align=True),
    ]

    def send(dtype):
        for _ in range(ROUNDS):
            queue.put(np.zeros(3, dtype))
            queue.put([np.zeros(2, dtype)])
            for _ in range(2):
                got = queue.get()
                got = got[0] if isinstance(got, list) else got
                assert got.dtype in dtypes

    run(*[lambda dtype=dtype: send(dtype) for dtype in dtypes])


def test_classes_that_are_new(pool):
    queue = pool.queue()

    def send(number):
        for i in range(ROUNDS // 3):
            kind = type(f"Kind{number}_{i}", (), {"__module__": __name__})
            globals()[kind.__name__] = kind
            one = kind()
            one.number = i
            queue.put([one, one])
            queue.get()

    run(*[lambda number=number: send(number) for number in range(THREADS)])
    for name in [name for name in globals() if name.startswith("Kind")]:
        del globals()[name]


def test_shared_memory_that_is_closed(pool):
    from onecopy.multiprocessing.shared_memory import ShareableList, SharedMemory

    for _ in range(ROUNDS // 10):
        memory = SharedMemory(create=True, size=4096)

        def read(memory=memory):
            for _ in range(20):
                try:
                    view = memory.buf
                    assert view is None or view[0] == 0
                except (ValueError, TypeError, BufferError):
                    return

        def close(memory=memory):
            try:
                memory.close()
            except BufferError:
                return

        run(read, close, read)
        memory.unlink()
    items = ShareableList([1, "text", 2.5])

    def change(i):
        for k in range(ROUNDS):
            items[0] = k
            assert items[1] == "text"
            assert len(items) == 3
            assert items[2] == 2.5

    run(*[lambda i=i: change(i) for i in range(THREADS)])
    items.shm.close()
    items.shm.unlink()


def test_the_collector_runs_meanwhile(pool):
    queue = pool.queue()
    stop = threading.Event()

    def send():
        for i in range(ROUNDS):
            loop = [i, {"k": [i]}]
            loop.append(loop)
            queue.put(loop)
            got = queue.get()
            assert got[2] is got

    run(stopping(stop, send), until(stop, gc.collect), send)


def test_what_another_thread_drops_while_its_maker_waits(pool):
    # An interpreter without the GIL leaves the release to the thread that made the object.
    frames = pool.frames("camera", (8, 8), np.uint8, 1)
    hand_over, waits = SimpleQueue(), threading.Event()

    def record():
        for _ in range(5):
            frame = [frames.acquire(timeout=60)]
            hand_over.put(frame)
            del frame
            waits.set()
        frames.acquire(timeout=60)

    def show():
        for _ in range(5):
            waits.wait()
            waits.clear()
            frame = hand_over.get()
            assert frame[0].shape == (8, 8)
            del frame

    run(record, show)
