"""Map: chunks, and never more calls at a time than the limit."""

import threading
from concurrent.futures import TimeoutError as FuturesTimeout

import numpy as np
import pytest

from executor import calls


@pytest.mark.parametrize("chunksize", [1, 2, 7, 100])
@pytest.mark.parametrize("buffersize", [None, 1, 3, 100])
def test_order(executor, chunksize, buffersize):
    got = executor.map(pow, range(23), [2] * 30, chunksize=chunksize, buffersize=buffersize)
    assert list(got) == [i**2 for i in range(23)]


def test_buffersize_takes_no_more_from_the_iterable(executor):
    taken = []

    def items():
        for i in range(50):
            taken.append(i)
            yield i

    results = executor.map(calls.same, items(), buffersize=4)
    assert len(taken) == 4
    for i in range(10):
        assert next(results) == i
        assert len(taken) <= i + 1 + 4
    results.close()
    assert len(taken) < 20


def test_buffersize_bounds_the_memory(executor, pool):
    arrays = (np.full(1 << 20, float(i)) for i in range(40))  # 8 MiB each, of 64
    assert list(executor.map(calls.total, arrays, buffersize=3)) == [
        float(i << 20) for i in range(40)
    ]


def test_buffersize_with_chunks(executor):
    taken = []

    def items():
        for i in range(50):
            taken.append(i)
            yield i

    results = executor.map(calls.same, items(), chunksize=5, buffersize=2)
    assert len(taken) == 10
    assert list(results) == list(range(50))


@pytest.mark.parametrize("wrong", [0, -1])
def test_wrong_numbers(executor, wrong):
    with pytest.raises(ValueError, match="chunksize"):
        executor.map(calls.same, [1], chunksize=wrong)
    with pytest.raises(ValueError, match=f"buffersize must be None or > 0, not {wrong}"):
        executor.map(calls.same, [1], buffersize=wrong)


def test_wrong_type(executor):
    with pytest.raises(TypeError, match="buffersize must be an integer or None, not float"):
        executor.map(calls.same, [1], buffersize=1.5)


def test_nothing(executor):
    assert list(executor.map(calls.same, [])) == []
    assert list(executor.map(calls.same, [], buffersize=2, chunksize=3)) == []


def test_timeout(executor, tmp_path):
    results = executor.map(calls.wait_for, [tmp_path / "go"], timeout=0.05, buffersize=1)
    with pytest.raises(FuturesTimeout):
        next(results)
    (tmp_path / "go").touch()


def test_an_error_ends_it(executor):
    results = executor.map(divmod, [1, 1, 1], [1, 0, 1], buffersize=2)
    assert next(results) == (1, 0)
    with pytest.raises(ZeroDivisionError):
        next(results)


def test_a_function_that_cannot_be_pickled(executor):
    lock = threading.Lock()
    with pytest.raises(TypeError):
        list(executor.map(lock.acquire, [1]))
