"""Damaged pools, opened for reading: an error or a result, never a change, a crash or a hang."""

import os
import random
import signal

import numpy as np
import pytest
from mappings import fingerprint
from seeds import SEED, more

import onecopy as oc

ROUNDS = more(40)
WATCHDOG = 20  # seconds; a round takes some milliseconds
VALUES = (0, 1, 0x7F, 0xFF, 0xFFFF, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF, 1 << 40, (1 << 64) - 1)


@pytest.fixture
def path(elsewhere):
    path = elsewhere / "t.pool"
    with oc.Pool.create(size="2MiB", backing=path, max_processes=4) as pool:
        pool["array"] = np.arange(1000)
        pool["mixed"] = {"a": np.arange(2000), "b": "text"}
        pool.queue("jobs").put_many([1, np.arange(1000)])
        pool.dict(name="d")["key"] = 1
        pool.list(name="l").append(2)
        pool.lock("lock")
        pool.frames("f", 10, "u1", 2)
        pool["gone"] = 1
        del pool["gone"]
    return path


def use(path):
    """Do everything that a reader can do."""
    try:
        pool = oc.Pool.open(path, mode="r")
    except (oc.OneCopyError, PermissionError):
        return
    kept = []
    for act in (pool.stats, pool.validate, pool.collect, lambda: list(pool), lambda: len(pool)):
        try:
            act()
        except oc.OneCopyError:
            continue
    for name in ("array", "mixed", "gone"):
        try:
            kept.append(pool[name])
            np.sum(kept[-1])
        except Exception:  # noqa: BLE001, S112 - a damaged pickle may raise any error
            continue
    pool.close()


def in_child(path):
    child = os.fork()
    if child == 0:
        status = 1
        try:
            signal.signal(signal.SIGALRM, signal.SIG_DFL)
            signal.alarm(WATCHDOG)
            use(path)
            status = 0
        finally:
            os._exit(status)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


@pytest.mark.seeded
def test_a_reader_of_a_spoilt_pool(path):
    print(f"seed {SEED}")
    numbers = random.Random(SEED)  # noqa: S311 - not for secrets
    with path.open("rb") as file:
        # What is there: the header and the tables, and the first blocks.
        regions = list(written(file.fileno()))
        sound = [(start, os.pread(file.fileno(), length, start)) for start, length in regions]
    for turn in range(ROUNDS):
        with path.open("r+b") as file:
            for start, data in sound:
                os.pwrite(file.fileno(), data, start)
            for _ in range(numbers.randint(1, 12)):
                start, length = numbers.choice(regions)
                at = start + 4 * numbers.randrange(length // 4)
                value = numbers.choice([*VALUES, numbers.getrandbits(32)])
                width = numbers.choice([1, 4, 8])
                os.pwrite(file.fileno(), (value % (1 << 8 * width)).to_bytes(width, "little"), at)
        before = fingerprint(path)
        assert in_child(path) == 0, f"seed {SEED}, turn {turn}"
        assert fingerprint(path) == before, f"seed {SEED}, turn {turn}"


def written(fd):
    """Yield the pages of a file that are not empty."""
    size = os.fstat(fd).st_size
    for start in range(0, min(size, 4 << 20), 4096):
        page = os.pread(fd, 4096, start)
        if page.strip(b"\0"):
            yield start, len(page)
