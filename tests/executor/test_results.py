"""Results come back by reference."""

import children
import numpy as np
import pytest

import onecopy as oc
from executor import calls


def test_a_large_result_lies_in_the_pool(executor, pool):
    result = executor.submit(calls.ones, 100_000).result()
    assert pool.member.where(result) is not None
    assert pool.stats().used >= result.nbytes
    assert not result.flags.writeable
    assert result.sum() == 100_000
    del result
    children.eventually(lambda: pool.stats().used == 0, "the manager thread to release it")


def test_a_part_of_an_argument_is_not_copied(executor, pool):
    array = np.arange(100_000.0)
    part = executor.submit(calls.same, array[10:]).result()
    np.testing.assert_array_equal(part, array[10:])
    assert pool.stats().used < 1.5 * array.nbytes


def test_a_result_outlives_the_executor(pool, context):
    with oc.Executor(1, pool, context) as executor:
        result = executor.submit(calls.same, {"a": [np.arange(100_000.0)]}).result()
    del executor
    np.testing.assert_array_equal(result["a"][0], np.arange(100_000.0))


def test_a_reference_in_a_result_keeps_its_object(pool):
    with oc.Executor(1, pool, initializer=calls.use_pool, initargs=(pool,)) as executor:
        futures = [executor.submit(calls.a_reference, 1000) for _ in range(20)]
        for future in futures:
            assert future.result()["ref"].get().sum() == 3000


def test_results_of_every_kind(executor):
    for value in (None, True, 3, 2**100, 1.5, "text", b"bytes", (1, "a"), [], {1}, np.int64(3)):
        got = executor.submit(calls.same, value).result()
        assert got == value
        assert type(got) is type(value)


def test_errors_come_with_their_traceback(executor):
    with pytest.raises(ValueError, match="on purpose") as caught:
        executor.submit(calls.fail).result()
    assert "in fail" in str(caught.value.__cause__)


def test_a_result_that_does_not_fit(executor):
    with pytest.raises(oc.PoolFull):
        executor.submit(calls.ones, 100 << 20).result()
    assert executor.submit(pow, 2, 3).result() == 8


def test_answers_that_nobody_takes_are_gone_with_the_executor(pool):
    executor = oc.Executor(2, pool)
    futures = [executor.submit(calls.ones, 10_000) for _ in range(20)]
    executor.shutdown(wait=True)
    assert all(future.done() for future in futures)
    del futures, executor
    assert pool.stats().used == 0
