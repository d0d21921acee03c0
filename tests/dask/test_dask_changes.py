"""Clusters of Dask that change: nannies and schedulers are killed, workers leave, join, restart.

Results are right, or Dask raises its own error. Afterwards the pool is sound, and nothing is held
after one `collect`. The kills of workers and of the client are in test_dask_clusters.py.
"""

import os

import pytest
import seeds
from clusters import needs, run

needs("distributed")
pytestmark = pytest.mark.slow

KILLS = int(os.environ.get("ONECOPY_DASK_KILLS", "2"))  # of each kind

BEFORE = """
    import random, subprocess, uuid
    import onecopy.dask
    from children import running
    from distributed import wait
    from onecopy.dask.membership import membership


    def file_is_there(name):
        return lambda: os.path.exists(name)


    def held_sum(array, number):
        # The test learns that this task holds the data, and says when it continues.
        open(f"holds-{number}", "w").close()
        eventually(file_is_there(f"continue-{number}"), "the word to continue")
        return int(array.sum())


    def let_continue(number):
        open(f"continue-{number}", "w").close()


    def add(array, number):
        return int(array.sum()) + number


    def errors_of_dask():
        from concurrent.futures import CancelledError
        from distributed.comm import CommClosedError
        return CancelledError, CommClosedError


    def sound():
        return pool().validate() == []


    def others():
        # Of this program's group: all that it has started, and what they have started.
        found = []
        for pid in filter(str.isdigit, os.listdir("/proc")):
            with contextlib.suppress(OSError):
                with open(f"/proc/{pid}/stat") as file:
                    state, _, group = file.read().rpartition(")")[2].split()[:3]
                with open(f"/proc/{pid}/cmdline") as file:
                    tracker = "resource_tracker" in file.read()
                if int(group) == os.getpgrp() and state not in "ZX" and not tracker:
                    found.append(int(pid))
        return [pid for pid in found if pid != os.getpid()]


    def ends_alone():
        eventually(lambda: not others(), "all other processes to end")
        gc.collect()
        pool().collect()
        left = pool().stats()
        assert (left.processes, left.blocks) == (1, 0), left
        assert sound()


    def is_empty_soon(client):
        # A worker may have frames of an exception that hold arrays, until it collects garbage.
        return is_empty() or not client.run(gc.collect)


    def by_name(client):
        found = client.scheduler_info(n_workers=-1)["workers"]
        return {known["name"]: address for address, known in found.items()}


    class ByHand:
        # Each process is one that can be killed. `LocalCluster` has scheduler and nannies in the
        # client. All processes are in the group of this program, which the test kills at its end.

        def __init__(self, workers=2):
            self.file, self.nannies = f"{uuid.uuid4().hex}.json", {}
            self.scheduler = self._start("scheduler", "--port", "0", "--dashboard-address", ":0")
            eventually(file_is_there(self.file), "the scheduler")
            for _ in range(workers):
                self.add()

        def _start(self, kind, *options):
            command = [sys.executable, "-m", f"distributed.cli.dask_{kind}", *options]
            command += ["--host", "127.0.0.1", "--scheduler-file", self.file]
            return subprocess.Popen([*command, "--preload", "onecopy.dask"])

        def add(self):
            name = f"w-{uuid.uuid4().hex}"
            options = ["--preload-nanny", "onecopy.dask", "--no-dashboard", "--nthreads", "1"]
            self.nannies[name] = self._start("worker", *options, "--name", name)
            return name

        def kill_nanny(self, name):
            nanny = self.nannies.pop(name)
            nanny.kill()
            nanny.wait()

        def client(self):
            from distributed import Client
            client = Client(scheduler_file=self.file, timeout="5s")
            client.wait_for_workers(len(self.nannies))
            return client

        def wait(self):
            for one in (self.scheduler, *self.nannies.values()):
                one.wait()


    def enable(size="512MiB", **options):
        assert onecopy.dask.enable(size, **options)
        # What is started by hand gets the same pool.
        os.environ["DASK_ONECOPY__POOL"] = membership.settings.pool
        os.environ["DASK_ONECOPY__SIZE"] = size
        os.environ["DASK_DISTRIBUTED__SCHEDULER__ALLOWED_FAILURES"] = "1000"
"""


def changing(text, folder, **options):
    return run(BEFORE + text, folder, **options)


@pytest.mark.parametrize("victim", ["holder", "receiver"])
def test_a_nanny_is_killed(tmp_path, victim):
    """Its worker goes with it, while a task holds data. A worker that joins later replaces it."""
    changing(
        f"""
    def main():
        enable()
        cluster = ByHand()
        with cluster.client() as client:
            (holder, a), (receiver, b) = by_name(client).items()
            made = client.submit(filled, 8 * MIB, 3, workers=[a], allow_other_workers=True)
            wait(made)
            got = client.submit(held_sum, made, 1, workers=[b], allow_other_workers=True)
            eventually(file_is_there("holds-1"), "a task that holds the data")
            worker = client.run(os.getpid)[a if {victim!r} == "holder" else b]
            cluster.kill_nanny({victim})
            eventually(lambda: not running(worker), "its worker to end")
            added = cluster.add()
            eventually(lambda: added in by_name(client), "the worker that joins later")
            let_continue(1)
            assert got.result() == 24 * MIB
            assert (made.result() == 3).all()
            there = by_name(client)[added]
            assert client.submit(add, made, 7, workers=[there]).result() == 24 * MIB + 7
            del made, got
            eventually(lambda: is_empty_soon(client), "the pool to be empty")
            assert sound()
            client.shutdown()
        cluster.wait()
        ends_alone()
    """,
        tmp_path,
    )


def test_the_scheduler_is_killed(tmp_path):
    """Workers and nannies end by themselves. What the client has received stays valid."""
    changing(
        """
    def main():
        enable()
        for number in range(2):  # the second cluster has the pool of the first
            cluster = ByHand()
            with cluster.client() as client:
                a, b = by_name(client).values()
                made = client.submit(filled, 8 * MIB, 3, workers=[a])
                mine = made.result()
                got = client.submit(held_sum, made, number, workers=[b])
                eventually(file_is_there(f"holds-{number}"), "a task that holds the data")
                cluster.scheduler.kill()
                let_continue(number)
                try:
                    raise AssertionError(got.result())
                except errors_of_dask():
                    pass
            cluster.wait()
            assert (mine == 3).all()
            del made, got, mine
            ends_alone()
    """,
        tmp_path,
    )


def test_workers_are_retired(tmp_path):
    """Their data goes to the others by place."""
    changing(
        """
    def main():
        enable()
        with cluster(workers=3) as (client, (a, b, c)):
            made = [client.submit(filled, 4 * MIB, n, workers=[a], pure=False) for n in range(4)]
            wait(made)
            before = sum(one.received for one in client.run(counted, workers=[b, c]).values())
            client.retire_workers([a])
            eventually(lambda: a not in by_name(client).values(), "the worker to leave")
            after = sum(one.received for one in client.run(counted, workers=[b, c]).values())
            assert after - before == 16 * MIB
            assert client.gather(client.map(total, made)) == [4 * MIB * n for n in range(4)]
            assert all((one.result() == n).all() for n, one in enumerate(made))
            client.retire_workers([b])
            assert client.gather(client.map(add, made, range(4))) == [
                4 * MIB * n + n for n in range(4)
            ]
            del made
            eventually(is_empty, "the pool to be empty")
            assert sound()
        ends_alone()
    """,
        tmp_path,
    )


def test_a_cluster_that_adapts(tmp_path):
    """It grows for tasks that wait, shrinks to one worker that has all data, and grows again."""
    changing(
        """
    def main():
        enable()
        with cluster(workers=1) as (client, _):
            made = [client.submit(filled, 4 * MIB, n, pure=False) for n in range(4)]
            wait(made)
            client.cluster.adapt(
                minimum=1, maximum=3, interval="50ms", target_duration="1ms", wait_count=2
            )
            for turn in range(2):
                sums = [client.submit(held_sum, made[n % 4], f"{turn}-{n}") for n in range(12)]
                eventually(lambda: len(by_name(client)) == 3, "three workers")
                for n in range(12):
                    let_continue(f"{turn}-{n}")
                assert client.gather(sums) == [4 * MIB * (n % 4) for n in range(12)]
                del sums
                eventually(lambda: len(by_name(client)) == 1, "one worker")
                assert all((one.result() == n).all() for n, one in enumerate(made))
            del made
            eventually(is_empty, "the pool to be empty")
            assert sound()
        ends_alone()
    """,
        tmp_path,
    )


def test_a_cluster_is_restarted(tmp_path):
    """Futures are lost, as in plain Dask; what the client has received is not."""
    changing(
        """
    def main():
        enable()
        with cluster() as (client, (a, b)):
            made = client.submit(filled, 8 * MIB, 3, workers=[a])
            mine = made.result()
            got = client.submit(held_sum, made, 1, workers=[b])
            eventually(file_is_there("holds-1"), "a task that holds the data")
            client.restart()
            for lost in (made, got):
                try:
                    raise AssertionError(lost.result())
                except errors_of_dask():
                    pass
            assert (mine == 3).all()
            [there] = client.scatter([mine])
            assert client.submit(total, there).result() == 24 * MIB
            a, b = by_name(client).values()
            again = client.submit(filled, 8 * MIB, 5, workers=[a])
            assert client.submit(total, again, workers=[b]).result() == 40 * MIB
            assert client.run(counted)[b].received >= 8 * MIB
            del made, got, mine, there, again, lost
            eventually(is_empty, "the pool to be empty")
            assert sound()
        ends_alone()
    """,
        tmp_path,
    )


def test_a_worker_that_joins_later(tmp_path):
    """It gets by place what others have, also what lies in the pool since before it came."""
    changing(
        """
    def main():
        enable()
        cluster = ByHand(workers=1)
        with cluster.client() as client:
            made = client.submit(filled, 8 * MIB, 3)
            assert (made.result() == 3).all()
            name = cluster.add()
            eventually(lambda: name in by_name(client), "the worker that joins later")
            there = by_name(client)[name]
            assert client.submit(total, made, workers=[there]).result() == 24 * MIB
            seen = client.run(counted)
            assert seen[there].received == 8 * MIB
            assert sum(one.moved for one in seen.values()) == 1
            assert sum(one.copied for one in seen.values()) == 8 * MIB
            del made
            eventually(is_empty, "the pool to be empty")
            client.shutdown()
        cluster.wait()
        ends_alone()
    """,
        tmp_path,
    )


LOAD = """
    def load(client, number):
        made = [client.submit(filled, 2 * MIB, n, pure=False) for n in range(4)]
        sums = [
            client.submit(add, one, number + m, pure=False) for m in range(3) for one in made
        ]
        return made, sums


    def right(number):
        return [2 * MIB * n + number + m for m in range(3) for n in range(4)]


    def wait_for_some(sums, chance):
        # The rest is computed, is on its way, or has not begun.
        from distributed import as_completed
        for done, _ in zip(range(chance.randrange(len(sums))), as_completed(sums)):
            pass


    def killed_nanny(cluster, client, chance):
        cluster.kill_nanny(chance.choice(sorted(cluster.nannies)))
        cluster.add()


    def killed_worker(cluster, client, chance):
        pids = sorted(pids_to_kill(client).items())
        os.kill(chance.choice(pids)[1], signal.SIGKILL)


    def complete(cluster, client, before):
        found = by_name(client)
        return found.keys() == cluster.nannies.keys() and found != before


    def killed(kind, rounds, seed):
        chance = random.Random(seed)
        cluster = ByHand(workers=3)
        with cluster.client() as client:
            for number in range(rounds):
                before = by_name(client)
                made, sums = load(client, number)
                wait_for_some(sums, chance)
                globals()[f"killed_{kind}"](cluster, client, chance)
                assert client.gather(sums) == right(number), number
                got = client.gather(made)
                assert all((one == n).all() for n, one in enumerate(got)), number
                eventually(lambda: complete(cluster, client, before), "another worker")
                del made, sums, got
                eventually(lambda: is_empty_soon(client), "the pool to be empty")
                assert sound(), number
            client.shutdown()
        cluster.wait()
        ends_alone()


    def killed_client(rounds, seed):
        chance = random.Random(seed)
        cluster = ByHand()
        with cluster.client() as client:
            for number in range(rounds):
                victim = subprocess.Popen(
                    [sys.executable, "program.py", "client", cluster.file, str(number), str(seed)],
                    stdout=subprocess.PIPE,
                )
                assert victim.stdout.readline() == b"some\\n"
                victim.kill()
                victim.communicate()
                made, sums = load(client, number)
                assert client.gather(sums) == right(number), number
                del made, sums
                eventually(lambda: is_empty_soon(client), "the pool to be empty")
                assert sound(), number
            client.shutdown()
        cluster.wait()
        ends_alone()


    def client_to_be_killed(file, number, seed):
        from distributed import Client
        onecopy.dask.enable(pool=os.environ["DASK_ONECOPY__POOL"])
        with Client(scheduler_file=file) as client:
            made, sums = load(client, number)
            got = client.gather(made)
            wait_for_some(sums, random.Random(f"{seed} {number}"))
            print("some", flush=True)
            client.gather(sums)
            while True:
                signal.pause()


    def killed_scheduler(rounds, seed):
        chance = random.Random(seed)
        for number in range(rounds):
            cluster = ByHand()
            with cluster.client() as client:
                made, sums = load(client, number)
                wait_for_some(sums, chance)
                got = client.gather(made) if chance.random() < 0.5 else []
                cluster.scheduler.kill()
                for one, expected in zip(sums, right(number)):
                    try:
                        assert one.result() == expected, number
                    except errors_of_dask():
                        pass
            cluster.wait()
            assert all((one == n).all() for n, one in enumerate(got)), number
            del made, sums, got, one
            ends_alone()
"""


@pytest.mark.stress
@pytest.mark.seeded
@pytest.mark.timeout(60 + 30 * KILLS)
@pytest.mark.parametrize("kind", ["scheduler", "nanny", "worker", "client"])
def test_kills_at_random_instants(tmp_path, kind):
    """As many kills of each kind as ONECOPY_DASK_KILLS says; results and pool as after one."""
    call = f"killed({kind!r}, {KILLS}, {seeds.SEED})"
    if kind in {"scheduler", "client"}:
        call = f"killed_{kind}({KILLS}, {seeds.SEED})"
    changing(
        LOAD
        + f"""
    def main():
        if sys.argv[1:2] == ["client"]:
            client_to_be_killed(sys.argv[2], int(sys.argv[3]), int(sys.argv[4]))
        enable()
        {call}
    """,
        tmp_path,
        limit=50 + 30 * KILLS,
    )
