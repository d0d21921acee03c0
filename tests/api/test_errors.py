import pickle
import queue
import sys

import pytest

import onecopy as oc
from onecopy import errors


@pytest.mark.parametrize(
    ("error", "also"),
    [
        (oc.PoolFull, MemoryError),
        (oc.PoolNotFound, FileNotFoundError),
        (oc.PoolExists, FileExistsError),
        (oc.PoolVersionError, Exception),
        (oc.PoolCorrupted, Exception),
        (oc.StaleRef, LookupError),
        (oc.NotRebuilt, pickle.UnpicklingError),
        (oc.OwnerDied, Exception),
        (oc.ShutDown, Exception),
        (oc.Untrusted, PermissionError),
        (oc.Closed, ValueError),
        (oc.Closed, OSError),
    ],
)
def test_each_error_is_one_of_ours_and_a_familiar_one(error, also):
    assert issubclass(error, oc.OneCopyError)
    assert issubclass(error, also)
    assert error.__name__ in errors.__doc__


@pytest.mark.skipif(sys.version_info < (3, 13), reason="queue.ShutDown came with Python 3.13")
def test_shut_down_is_the_standard_librarys_too():
    assert issubclass(oc.ShutDown, queue.ShutDown)


def test_the_warning_is_no_error():
    assert issubclass(oc.OwnerDiedWarning, RuntimeWarning)


def test_a_full_pool_names_sizes_and_holders():
    with oc.Pool.create("crowded", size="8MiB") as pool:
        kept = pool.empty(6 << 20, "u1")
        with pytest.raises(oc.PoolFull) as caught:
            pool.empty(4 << 20, "u1")
        text = str(caught.value)
        assert "no room for 4.0 MiB in pool 'crowded'" in text
        assert "6.0 MiB of 8.0 MiB" in text
        assert f"process {__import__('os').getpid()}: 6.0 MiB in 1 blocks" in text
        del kept


def test_what_can_never_fit_is_said_to():
    with oc.Pool.create("small", size="8MiB") as pool:
        with pytest.raises(oc.PoolFull, match=r"9\.0 MiB can never fit.*8\.0 MiB large"):
            pool.empty(9 << 20, "u1")
        assert pool.stats().used == 0
