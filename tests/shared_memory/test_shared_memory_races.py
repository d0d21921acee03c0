"""SharedMemory when memory is full, and when many processes come and go at the same time."""

import multiprocessing
import multiprocessing.connection
import os
import random
import signal
import threading

import pytest
from children import LIMIT, eventually
from seeds import SEED, more
from segment_files import exists, gone_after_sweep, path_of

import onecopy as oc
from onecopy._core import segments
from onecopy.multiprocessing.shared_memory import SharedMemory

pytestmark = pytest.mark.one_in(2)

RELATIVES = ["fork", "forkserver", "spawn"]


# ---- full memory ---------------------------------------------------------------------------------


def test_more_than_there_is(name):
    with pytest.raises(oc.PoolFull, match=r"1\.0 PiB|1024\.0 TiB") as caught:
        SharedMemory(name, create=True, size=1 << 50)
    assert isinstance(caught.value, MemoryError)
    assert "free" in str(caught.value)
    assert not exists(name)


def test_signals_do_not_disturb_a_large_one(name):
    previous = signal.signal(signal.SIGPROF, lambda *_: None)
    signal.setitimer(signal.ITIMER_PROF, 0.005, 0.005)
    try:
        shm = SharedMemory(name, create=True, size=256 << 20)
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)
        signal.signal(signal.SIGPROF, previous)
    assert path_of(name).stat().st_blocks * 512 >= 256 << 20
    shm.unlink()


# ---- races ---------------------------------------------------------------------------------------


def test_threads_and_forks():
    wrong = []

    def work(seed):
        try:
            for _ in range(60):
                shm = SharedMemory(create=True, size=64)
                shm.buf[0] = 7
                other = SharedMemory(shm.name)
                shm.close()
                assert other.buf[0] == 7
                (shm if seed % 2 else other).unlink()
        except BaseException as error:  # noqa: BLE001 - reported by the test
            wrong.append(error)

    threads = [threading.Thread(target=work, args=(seed,)) for seed in range(4)]
    for thread in threads:
        thread.start()
    while any(thread.is_alive() for thread in threads):
        pid = os.fork()
        if pid == 0:
            shm = SharedMemory(create=True, size=1)
            shm.unlink()
            os._exit(exists(shm))
        assert os.waitpid(pid, 0)[1] == 0
    assert wrong == []


def come_and_go(name, seed, times, report):
    """Be a user for a moment, again and again; meanwhile the name must lead to the file."""
    randomness = random.Random(seed)  # noqa: S311 - not for secrets
    met = 0
    try:
        for _ in range(times):
            try:
                if randomness.random() < 0.5:
                    shm = SharedMemory(name)
                    met += 1
                else:
                    shm = SharedMemory(name, create=True, size=4096)
                    if randomness.random() < 0.7:
                        os.utime(shm._segment.fileno(), ns=(0, 0))  # no process keeps it
                    else:
                        shm._segment.keep_here()
            except FileExistsError:
                continue
            except FileNotFoundError:
                continue
            inode = shm._segment._ino[1]
            for _ in range(randomness.randrange(4)):
                assert path_of(name).stat().st_ino == inode, "it was taken from under us"
                if randomness.random() < 0.3:
                    segments.sweep()
            assert path_of(name).stat().st_ino == inode, "it was taken from under us"
            fork = randomness.random()
            if fork < 0.05 and os.fork() == 0:
                os.kill(os.getpid(), signal.SIGKILL)
            if fork > 0.97:
                report.put(met)
                report.close()
                report.join_thread()
                os.kill(os.getpid(), signal.SIGKILL)
            del shm
        report.put(met)
    except BaseException as error:
        report.put(repr(error))
        raise


@pytest.mark.seeded
def test_creators_users_and_the_dead_of_one_name(name):
    print(f"seed {SEED}")
    context = multiprocessing.get_context("fork")
    report = context.SimpleQueue()
    report.close, report.join_thread = (lambda: None), (lambda: None)
    processes, met = [], 0
    for number in range(more(40)):
        processes.append(
            context.Process(target=come_and_go, args=(name, SEED + number, 40, report))
        )
        processes[-1].start()
        while len(processes) == 4:
            multiprocessing.connection.wait([process.sentinel for process in processes])
            for process in [one for one in processes if not one.is_alive()]:
                process.close()
                processes.remove(process)
    for process in processes:
        process.join(LIMIT)
        process.close()
    while not report.empty():
        said = report.get()
        assert isinstance(said, int), said
        met += said
    assert met > 0
    report._reader.close()
    report._writer.close()
    eventually(lambda: gone_after_sweep(name), "the name to be gone")


def unlink_again(name, times, report):
    """Unlink only a segment that the process has."""
    count = 0
    while count < times:
        try:
            mine = SharedMemory(name, create=True, size=1)
        except FileExistsError:
            continue
        other = SharedMemory(name)
        assert mine._segment._ino == other._segment._ino
        child = os.fork()
        done = 0
        for one in (mine, other):
            try:
                one.unlink()
                done += 1
            except FileNotFoundError:
                pass
        if child == 0:
            os._exit(done)
        done += os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        assert done == 1, f"{done} have unlinked it"
        count += 1
    report.send(count)


@pytest.mark.check
def test_a_name_is_unlinked_once(name):
    """A process that makes the name again in between keeps it."""
    context = multiprocessing.get_context("fork")
    processes = []
    for _ in range(3):
        mine, theirs = context.Pipe()
        process = context.Process(target=unlink_again, args=(name, 100, theirs))
        process.start()
        theirs.close()
        processes.append((process, mine))
    for process, pipe in processes:
        assert pipe.recv() == 100
        process.join(LIMIT)
        assert process.exitcode == 0
        process.close()
        pipe.close()
