"""joblib's calls with the backend "onecopy"."""

import os
import pickle
import signal
import subprocess
import sys
import threading
import warnings
import weakref
from concurrent.futures.process import BrokenProcessPool
from functools import partial

import children
import joblib
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays_of
from joblib import Parallel, delayed
from seeds import more

import onecopy as oc
import onecopy.joblib
from onecopy._codec.backing import lease_of
from onecopy.joblib import workers

pytestmark = pytest.mark.one_in(2)

LARGE = 300_000  # numbers of 8 bytes: above the megabyte from which arrays are shared


def calls(function, *items, n_jobs=2, **options):
    return Parallel(n_jobs, backend="onecopy", **options)(delayed(function)(i) for i in items)


def test_results_are_in_order():
    assert calls(abs, *range(-9, 0)) == list(range(9, 0, -1))


def test_it_is_chosen_by_a_context():
    with joblib.parallel_config(backend="onecopy", n_jobs=2):
        pids = set(Parallel()(delayed(os.getpid)() for _ in range(4)))
    assert os.getpid() not in pids


@pytest.mark.parametrize("n_jobs", [1, None])
def test_one_job_is_done_here(n_jobs):
    assert calls(lambda _: os.getpid(), 0, 1, n_jobs=n_jobs) == [os.getpid()] * 2
    assert workers._idle is None


def test_numbers_of_jobs(monkeypatch):
    monkeypatch.setattr(joblib, "cpu_count", lambda: 8)
    backend = onecopy.joblib.OneCopyBackend(nesting_level=0)
    asked = [None, 1, 3, -1, -2, -20]
    assert [backend.effective_n_jobs(n) for n in asked] == [1, 1, 3, 8, 7, 1]
    with pytest.raises(ValueError, match="has no meaning"):
        backend.effective_n_jobs(0)
    monkeypatch.setattr(joblib, "cpu_count", lambda: 600)
    assert [backend.effective_n_jobs(n) for n in (-1, -200)] == [511, 401]


def test_more_jobs_than_the_pool_has_room_for_are_refused_at_once():
    with pytest.raises(ValueError, match=r"=600: .* 512 processes .* 511 workers"):
        calls(abs, -1, n_jobs=600)
    with oc.Pool.create(size="16MiB", max_processes=3) as pool:
        with pytest.raises(ValueError, match=r"=3: .* 3 processes .* 2 workers"):
            calls(abs, -1, n_jobs=3, pool=pool)
        assert calls(abs, -1, -2, pool=pool) == [1, 2]
        onecopy.joblib.shutdown()


def test_no_workers_below_threads_and_daemons(monkeypatch):
    backend = onecopy.joblib.OneCopyBackend(nesting_level=1)
    got = []

    def ask():
        with pytest.warns(UserWarning, match="nested below threads"):
            got.append(backend.effective_n_jobs(2))

    thread = threading.Thread(target=ask)
    thread.start()
    thread.join()
    monkeypatch.setitem(joblib.parallel.mp.current_process()._config, "daemon", True)
    with pytest.warns(UserWarning, match="in a daemonic process"):
        got.append(backend.effective_n_jobs(2))
    assert got == [1, 1]


# ------------------------------------------------------------------------------ what is shared


def test_a_large_argument_is_there_once_and_read_only():
    table = np.arange(LARGE, dtype=float)
    seen = calls(
        lambda i, table=table: (lease_of(table).handle, table.flags.writeable, table[i]),
        *range(6),
        batch_size=1,
    )
    assert len({handle for handle, _, _ in seen}) == 1
    assert [(writeable, number) for _, writeable, number in seen] == [(False, i) for i in range(6)]


def test_an_argument_that_was_changed_arrives_changed():
    table = np.zeros(LARGE)
    for value in (1.0, 2.0):
        table[:] = value
        assert calls(lambda _, table=table: table.max(), 0, 1) == [value] * 2


def test_a_large_result_is_shared_and_read_only():
    (result,) = calls(lambda i: np.full(LARGE, i), 7)
    assert lease_of(result) is not None
    assert not result.flags.writeable
    assert (result == 7).all()


@pytest.mark.check
def test_a_result_outlives_the_workers():
    (result,) = calls(lambda i: np.full(LARGE, i), 7)
    onecopy.joblib.shutdown()
    assert (result == 7).all()


def test_small_arrays_may_be_written_on_both_sides():
    def add(array):
        array += 1
        return array

    given_ = [np.zeros(1000), np.zeros((200, 300), order="F")]
    for before, result in zip(given_, calls(add, *given_), strict=True):
        np.add(result, 1, out=result)
        assert (result == 2).all()
        assert (before == 0).all()
        assert result.flags.f_contiguous == before.flags.f_contiguous


@pytest.mark.check
@pytest.mark.parametrize(("limit", "shared"), [("1K", True), (None, False)])
def test_the_limit_can_be_chosen(limit, shared):
    ask = lambda a: (lease_of(a) is not None, a.flags.writeable)  # noqa: E731 - by value
    small = np.zeros(1000)
    assert calls(ask, small, small, max_nbytes=limit) == [(shared, not shared)] * 2


@pytest.mark.check
def test_room_for_arguments_and_results_is_given_back():
    table = np.arange(LARGE)
    results = calls(lambda i, table=table: table + i, *range(4))
    pool = oc.default_pool()
    assert pool.stats().used >= 5 * table.nbytes  # four results, and a copy for the next call
    assert children.used(pool) >= 4 * table.nbytes  # garbage collection frees copies
    del results, table
    onecopy.joblib.shutdown()
    assert children.used(pool) < 1 << 20


@pytest.mark.check
def test_a_pool_of_its_own(pool):
    (result,) = calls(lambda i: np.full(LARGE, i), 7, pool=pool)
    assert lease_of(result).member is pool.member
    del result
    onecopy.joblib.shutdown()


def test_an_argument_without_room_is_an_error_that_says_so():
    with oc.Pool.create(size="8MiB") as pool, pytest.raises(oc.PoolFull, match="MiB"):
        calls(np.sum, np.zeros(4 << 20), pool=pool)


def test_references_travel(pool):
    ref = pool.put({"x": np.arange(10)})
    assert calls(lambda ref: int(ref.get()["x"].sum()), ref, ref, pool=pool) == [45, 45]
    onecopy.joblib.shutdown()


@pytest.mark.check
@pytest.mark.parametrize(("mode", "writes"), [("r+", True), ("r", False)])
def test_mapped_files_are_opened_again(tmp_path, mode, writes):
    np.zeros((50, 40)).tofile(tmp_path / "data")
    mapped = np.memmap(tmp_path / "data", np.float64, mode, shape=(50, 40))

    def mark(number, view=mapped[10:40:3, ::-2]):
        if view.flags.writeable:
            view[number] = number
        return view.shape, isinstance(view, np.memmap)

    assert calls(mark, 1, 2) == [((10, 20), True)] * 2
    assert list(mapped[10:20:3, 39]) == ([0, 1, 2, 0] if writes else [0] * 4)


def test_a_mapped_file_with_private_writes_is_sent_as_it_is_here(tmp_path):
    np.zeros(LARGE).tofile(tmp_path / "data")
    mapped = np.memmap(tmp_path / "data", np.float64, "c")
    mapped[:] = 3
    small = mapped[:10]
    assert calls(np.max, mapped, small) == [3, 3]


@pytest.mark.check
def test_tables_are_there_once():
    pandas = pytest.importorskip("pandas")
    table = pandas.DataFrame({"x": np.arange(LARGE), "name": np.arange(LARGE).astype(str)})
    pool = oc.default_pool()
    nbytes = table.memory_usage().sum()
    for _ in range(2):
        assert calls(lambda i, table=table: table["name"][i], 1, 2, 3) == ["1", "2", "3"]
        assert pool.stats().used < 1.2 * nbytes


@settings(max_examples=more(25), deadline=None, suppress_health_check=list(HealthCheck))
@given(
    arrays_of.arrays(
        st.sampled_from([np.float64, np.dtype(">i4"), np.bool_, "U5", "M8[s]", ">M8[D]", "c16"]),
        arrays_of.array_shapes(min_dims=0, min_side=0),
    ),
    st.sampled_from([0, 1 << 20]),
)
def test_arrays_round_trip(pool, array, share_above):
    for given_ in (array, array.T, array[::-1] if array.ndim else array):
        from onecopy._workers.packing import _pickled

        pickler = partial(onecopy.joblib.pickling.JoblibPickler, share_above=share_above)
        data, buffers, _ = _pickled([given_], pool.member, pickler, keeps=True)
        (back,) = pickle.loads(data, buffers=buffers)
        assert back.dtype == given_.dtype
        assert back.shape == given_.shape
        assert back.tobytes() == given_.tobytes()


# ---------------------------------------------------------------------------- functions and errors


def test_functions_without_a_name_that_could_be_imported():
    factor = 3
    assert calls(lambda i: i * factor, 1, 2) == [3, 6]


def test_an_error_arrives_with_where_it_happened():
    with pytest.raises(ZeroDivisionError) as caught:
        calls(lambda i: 1 // i, 1, 0)
    assert "in <lambda>" in str(caught.value.__cause__)
    assert calls(abs, -1, -2) == [1, 2]


def test_what_cannot_be_pickled_is_an_error_that_says_so():
    with pytest.raises(pickle.PicklingError, match=r"the task to send to the workers.*lock"):
        calls(str, threading.Lock())
    with pytest.raises(TypeError, match="lock"):
        calls(lambda _: threading.Lock(), 0)


def test_a_killed_worker_is_an_error_and_the_next_call_has_new_ones():
    def die(i):
        os.kill(os.getpid(), signal.SIGKILL)

    with pytest.raises(BrokenProcessPool):
        calls(die, *range(5))
    with Parallel(2, backend="onecopy") as parallel:
        with pytest.raises(BrokenProcessPool):
            parallel(delayed(die)(i) for i in range(5))
        assert parallel(delayed(abs)(i) for i in (-1, -2)) == [1, 2]


def test_an_idle_worker_that_was_killed_costs_nothing():
    before = set(calls(lambda _: os.getpid(), *range(4)))
    executor = workers._idle.executor
    os.kill(before.pop(), signal.SIGKILL)
    children.eventually(lambda: executor._broken, "the executor to notice")
    assert calls(abs, -1, -2) == [1, 2]


def never_ends(_):
    threading.Event().wait()


def test_a_timeout_ends_the_workers():
    with pytest.raises(joblib.parallel.TimeoutError):
        calls(never_ends, 1, 2, timeout=0.1)
    assert workers._idle is None


def test_an_unknown_option_is_named():
    with pytest.raises(TypeError, match="no option 'chunks'"):
        calls(abs, 1, chunks=3)


# ------------------------------------------------------------------------------ other ways to call


@pytest.mark.parametrize("kind", ["generator", "generator_unordered"])
def test_generators(kind):
    table = np.ones(LARGE)
    results = calls(lambda i, table=table: table * i, *range(8), return_as=kind)
    assert sorted(int(result[0]) for result in results) == list(range(8))


def test_a_generator_that_is_left_disturbs_no_other_call():
    results = calls(never_ends, *range(4), return_as="generator")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # joblib reports that calls were cancelled
        gone = weakref.ref(results)
        with Parallel(2, backend="onecopy") as other:
            del results
            assert other(delayed(abs)(i) for i in (-1, -2)) == [1, 2]
    assert gone() is None


def test_nested_calls_use_threads():
    def inner(_):
        with Parallel(2) as parallel:
            return type(parallel._backend).__name__, parallel(delayed(os.getpid)() for _ in "ab")

    for name, pids in calls(inner, 0, 1):
        assert name == "ThreadingBackend"
        assert os.getpid() not in pids


@pytest.mark.check
def test_nested_workers_when_asked_for():
    def inner(_):
        pids = Parallel(2, backend="onecopy")(delayed(os.getpid)() for _ in range(4))
        return os.getpid() not in pids

    assert calls(inner, 0) == [True]


@pytest.mark.check
def test_sharedmem_is_done_by_threads():
    with joblib.parallel_config(backend="onecopy", n_jobs=2):
        pids = Parallel(require="sharedmem")(delayed(os.getpid)() for _ in range(2))
    assert set(pids) == {os.getpid()}
    with pytest.raises(ValueError, match="shared memory"):
        Parallel(2, backend="onecopy", require="sharedmem")


@pytest.mark.check
def test_threads_in_workers_are_limited():
    def threads(_):
        return os.environ["OMP_NUM_THREADS"], os.environ["OPENBLAS_NUM_THREADS"]

    with joblib.parallel_config(backend="onecopy", inner_max_num_threads=3, n_jobs=2):
        assert Parallel()(delayed(threads)(i) for i in range(2)) == [("3", "3")] * 2


@pytest.mark.check
def test_an_initializer():
    def initialize(value):
        os.environ["ONECOPY_TEST_VALUE"] = value

    options = {"initializer": initialize, "initargs": ("here",)}
    assert calls(lambda _: os.environ["ONECOPY_TEST_VALUE"], 0, 1, **options) == ["here"] * 2


# ------------------------------------------------------------------------------------- the workers


def test_workers_are_used_again():
    first = set(calls(lambda _: os.getpid(), *range(20)))
    again = set(calls(lambda _: os.getpid(), *range(20)))
    assert len(first | again) <= 2


@pytest.mark.check
def test_other_workers_for_another_order():
    first = set(calls(lambda _: os.getpid(), *range(20)))
    others = set(calls(lambda _: os.getpid(), *range(20), n_jobs=3))
    assert not first & others


@pytest.mark.check
def test_two_threads_have_workers_each():
    meet = threading.Barrier(2)
    got = []

    def call():
        with Parallel(2, backend="onecopy") as parallel:
            meet.wait(60)
            got.append(set(parallel(delayed(os.getpid)() for _ in range(4))))
            meet.wait(60)

    threads = [threading.Thread(target=call) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not got[0] & got[1]


@pytest.mark.check
def test_idle_workers_end():
    calls(abs, -1, -2, idle_worker_timeout=0.05)
    children.eventually(
        lambda: not any(thread.name.startswith("onecopy") for thread in threading.enumerate()),
        "the workers to end, and the threads that look after them",
    )
    assert workers._idle is None


@pytest.mark.check
def test_a_forked_child_starts_its_own(start):
    calls(abs, -1, -2)
    kept = workers._idle
    child = start("fork", _in_a_fork)
    assert child.wait() == 0
    assert workers._idle is kept


def _in_a_fork():
    assert workers._idle is None
    assert calls(abs, -1, -2) == [1, 2]


SCRIPT = """
import os
import sys
import numpy as np
import onecopy.joblib
from joblib import Parallel, delayed

class Point:  # of the script, which no worker runs again
    def __init__(self, x):
        self.x = x

def move(point):
    return Point(point.x + 1), np.ones(300_000)

print("once")
moved = Parallel(2, backend="onecopy")(delayed(move)(Point(i)) for i in range(3))
assert [type(point) for point, _ in moved] == [Point] * 3
print([point.x for point, _ in moved])
"""


@pytest.mark.check
def test_a_script_without_a_guard(tmp_path, pool_directory):
    (tmp_path / "script.py").write_text(SCRIPT)
    done = subprocess.run(
        [sys.executable, tmp_path / "script.py"], capture_output=True, text=True, check=False
    )
    assert (done.stdout, done.stderr, done.returncode) == ("once\n[1, 2, 3]\n", "", 0)
    assert list(pool_directory.iterdir()) == []


def test_workers_end_when_their_process_is_killed(tmp_path):
    script = SCRIPT + "print(os.getpid(), flush=True)\nos.kill(os.getpid(), 9)\n"
    done = subprocess.run(
        [sys.executable, "-c", script], stdout=subprocess.PIPE, text=True, check=False, timeout=60
    )  # the workers have the write end of this pipe too: it returns when they have ended
    assert done.returncode == -signal.SIGKILL


def test_without_joblib_the_error_tells_what_to_install():
    program = "import sys; sys.modules['joblib'] = None; import onecopy.joblib"
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=False
    )
    assert "pip install 'joblib>=1.4'" in done.stderr
