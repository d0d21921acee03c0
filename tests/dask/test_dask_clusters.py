"""Small clusters of Dask: data between workers, client and scheduler; deaths; memory; bytes."""

import re
import subprocess
import sys
from pathlib import Path

import namespaces
import pytest
from certificates import Authority
from clusters import needs, run

needs("distributed")
pytestmark = pytest.mark.slow

BLOCK = re.compile(r"^```python\n(.*?)^```$", re.DOTALL | re.MULTILINE)
ENABLED = """
    import onecopy.dask

    def enable(size="512MiB", **options):
        assert onecopy.dask.enable(size, **options)
"""


# Dask's memory manager drops copies that no task needs, at instants of its own.
COPIES_STAY = """
    import dask
    dask.config.set({"distributed.scheduler.active-memory-manager.start": False})
"""


def enabled(text, folder, **options):
    return run(ENABLED + text, folder, **options)


def test_the_program_of_the_page(tmp_path):
    """The lines of docs/dask.md, as a reader copies them."""
    page = (Path(__file__).parents[2] / "docs" / "dask.md").read_text(encoding="utf-8")
    [program] = [block for block in BLOCK.findall(page) if "__main__" in block]
    path = tmp_path / "of_the_page.py"
    path.write_text(program, encoding="utf-8")
    done = subprocess.run(
        [sys.executable, path], capture_output=True, text=True, check=False, timeout=100
    )
    assert done.returncode == 0, done.stderr
    first, second = done.stdout.splitlines()
    assert first == "4000000.0"
    assert "Counts(messages=" in second
    assert " sent=0," not in second


def test_every_way_of_numpy(tmp_path):
    """Worker to worker, gather, scatter, arguments: by place, right, and writable as ever."""
    enabled(
        """
    def main():
        enable()
        with cluster() as (client, (a, b)):
            made = client.submit(filled, 16 * MIB, 3, workers=[a])
            assert client.submit(total, made, workers=[b]).result() == 48 * MIB
            assert client.run(counted)[a].moved == 1
            got = made.result()
            assert got.flags.writeable and (got == 3).all()
            before = counted().sent
            [there] = client.scatter([got])  # of private pages that were not written
            assert client.submit(total, there).result() == 48 * MIB
            assert counted().sent - before == 32 * MIB  # the scheduler is in this process
            assert counted().copied == 0
            direct = client.scatter(np.ones(8 * MIB, "u1"), direct=True)
            assert client.submit(total, direct).result() == 8 * MIB
            given = client.submit(add_one, np.ones(8 * MIB, "u1"))
            assert given.result() == (2, 2)
            assert counted().copied == 16 * MIB
            assert places_of(client.run(counted)) >= 2
            del made, got, there, direct, given
            eventually(is_empty, "the pool to be empty")
            assert pool().validate() == []
        eventually(lambda: pool().stats().processes == 1, "the others to leave")
    """,
        tmp_path,
    )


def test_a_task_that_writes_to_its_input_changes_nothing_else(tmp_path):
    enabled(
        COPIES_STAY
        + """
    def main():
        enable()
        with cluster() as (client, (a, b)):
            made = client.submit(filled, 8 * MIB, 3, workers=[a])
            mine = made.result()
            assert client.submit(add_one, made, workers=[b]).result() == (4, 4)
            assert client.submit(total, made, workers=[a]).result() == 24 * MIB
            mine += 9
            assert client.submit(total, made, workers=[a], pure=False).result() == 24 * MIB
            # As in plain Dask, b has what its task made of its own copy. `result` asks a or b.
            assert client.submit(total, made, workers=[b], pure=False).result() == 4 * 8 * MIB
            assert int(made.result()[0]) in (3, 4)
            [there] = client.scatter([mine])  # written: it is copied
            assert client.submit(total, there).result() == 12 * 8 * MIB
    """,
        tmp_path,
    )


def test_types(tmp_path):
    """Tables, sparse matrices, labelled arrays, containers: equal, and by place."""
    needs("pandas")
    needs("pyarrow")
    needs("scipy")
    enabled(
        """
    import pandas as pd, pyarrow as pa, scipy.sparse

    N = 1 << 18

    def make(kind):
        numbers = np.arange(N) / 3
        if kind == "frame":
            return pd.DataFrame({"a": numbers, "b": np.arange(N), "c": ["x"] * N})
        if kind == "series":
            return pd.Series(numbers, name="s")
        if kind == "table":
            return pa.table({"a": numbers, "s": ["text %d" % i for i in range(N)]})
        if kind == "batch":
            return pa.record_batch({"a": numbers})
        if kind == "sparse":
            return scipy.sparse.random(N, 100, density=0.02, format="csr", random_state=1)
        if kind == "list":
            return [numbers, {"x": numbers.astype("f4")}, "text"]
        if kind == "fortran":
            return np.asfortranarray(numbers.reshape(64, -1))
        if kind == "dates":
            return np.arange(N).astype("M8[s]")
        if kind == "record":
            return np.zeros(N, "i8,f8")
        if kind == "bytes":
            return bytes(4 * MIB)
        if kind == "polars":
            import polars
            return polars.DataFrame({"a": numbers, "s": ["text %d" % i for i in range(N)]})
        if kind == "xarray":
            import xarray
            return xarray.DataArray(numbers, dims="t")
        raise AssertionError(kind)

    KINDS = ("frame series table batch sparse list fortran dates record bytes").split()
    for library in ("polars", "xarray"):
        with contextlib.suppress(ImportError):
            __import__(library)
            KINDS.append(library)

    def equal(one, two):
        if isinstance(one, (list, tuple)):
            return len(one) == len(two) and all(map(equal, one, two))
        if isinstance(one, dict):
            return all(equal(one[key], two[key]) for key in one)
        if hasattr(one, "equals"):
            return one.equals(two)
        if scipy.sparse.issparse(one):
            return one.shape == two.shape and (one != two).nnz == 0
        return type(one) is type(two) and np.all(one == two)

    def check(kind, value):
        expected = make(kind)
        return type(value) is type(expected) and bool(equal(expected, value))

    def main():
        enable()
        with cluster() as (client, (a, b)):
            for kind in KINDS:
                made = client.submit(make, kind, workers=[a])
                before = client.run(counted)[b].received
                assert client.submit(check, kind, made, workers=[b]).result(), kind
                assert client.run(counted)[b].received - before >= MIB, kind
                assert check(kind, made.result()), kind
                [there] = client.scatter([make(kind)])
                assert client.submit(check, kind, there, workers=[b], pure=False).result(), kind
    """,
        tmp_path,
    )


def test_arrays_frames_actors_and_joblib(tmp_path):
    needs("pandas")
    needs("dask.array")
    needs("dask.dataframe")
    enabled(
        """
    class Actor:
        def keep(self, array):
            self.array = array
            return int(array[0])

        def give(self):
            return self.array

    def inside(array):
        from distributed import get_client
        with get_client().get_executor() as executor:
            return executor.submit(total, array).result()

    def main():
        enable(threshold="256KiB")
        import dask.array as da, dask.dataframe as dd, pandas as pd, joblib
        with cluster() as (client, (a, b)):
            x = da.arange(4 * MIB, chunks=MIB).reshape(2048, 2048)
            y = x.rechunk((2048, 256))
            assert int((y + y.T).sum().compute()) == int((np.arange(4.0 * MIB) * 2).sum())
            frame = pd.DataFrame({"k": np.arange(400_000) % 1000, "v": np.arange(400_000.0)})
            table = dd.from_pandas(frame, npartitions=8)
            other = dd.from_pandas(frame.iloc[:1000], npartitions=2)
            merged = table.merge(other, on="k").v_x.sum().compute()
            assert merged == frame.merge(frame.iloc[:1000], on="k").v_x.sum()
            sums = table.shuffle("k").groupby("k").v.sum().compute().sort_index()
            assert np.allclose(sums, frame.groupby("k").v.sum())
            actor = client.submit(Actor, actor=True, workers=[a]).result()
            assert actor.keep(filled(4 * MIB, 5)).result() == 5
            assert (actor.give().result() == 5).all()
            assert client.submit(inside, filled(4 * MIB, 1)).result() == 4 * MIB
            with joblib.parallel_config(backend="dask"):
                calls = [joblib.delayed(total)(filled(2 * MIB, n)) for n in range(3)]
                assert joblib.Parallel()(calls) == [0, 2 * MIB, 4 * MIB]
            assert places_of(client.run(counted)) > 10
            del x, y, frame, table, other, actor, sums, calls
            eventually(lambda: is_empty() or not client.run(gc.collect), "an empty pool")
    """,
        tmp_path,
    )


def test_peers_without_onecopy_get_bytes(tmp_path):
    """A worker that another program has started, and that knows nothing of the pool."""
    enabled(
        """
    import subprocess

    def main():
        enable()
        with cluster(workers=1) as (client, (a,)):
            command = [sys.executable, "-m", "distributed.cli.dask_worker", "--no-dashboard"]
            command += ["--nthreads", "1", "--no-nanny", client.scheduler.address]
            other = subprocess.Popen(command, stderr=subprocess.PIPE)
            try:
                client.wait_for_workers(2)
                [b] = set(client.scheduler_info(n_workers=-1)["workers"]) - {a}
                for here, there in ((a, b), (b, a)):
                    made = client.submit(filled, 4 * MIB, 3, workers=[here], pure=False)
                    got = client.submit(total, made, workers=[there], pure=False)
                    assert got.result() == 12 * MIB
                    assert (made.result() == 3).all()
                import pyarrow as pa
                table = pa.table({"a": np.arange(MIB)})
                [there] = client.scatter([table], workers=[b])  # through the scheduler
                assert there.result().equals(table)
                assert client.submit(lambda t: t.num_rows, there, workers=[b]).result() == MIB
            finally:
                other.kill()
                other.communicate()
    """,
        tmp_path,
    )


def test_a_worker_that_cannot_map_gets_bytes(tmp_path):
    enabled(
        """
    def cannot():
        from onecopy.dask.comms import ByPlace

        def fail(self, places):
            raise OSError("as asked")

        ByPlace._import = fail

    def main():
        enable()
        with cluster() as (client, (a, b)):
            client.run(cannot, workers=[b])
            made = client.submit(filled, 8 * MIB, 3, workers=[a])
            assert client.submit(total, made, workers=[b]).result() == 24 * MIB
            assert client.submit(total, filled(8 * MIB, 2), workers=[b]).result() == 16 * MIB
            seen = client.run(counted)
            assert seen[b].refused >= 1 and seen[b].received == 0
            assert seen[a].resent >= 1
    """,
        tmp_path,
    )


def test_a_full_pool_gives_bytes(tmp_path):
    enabled(
        """
    def main():
        enable("16MiB")
        with cluster() as (client, (a, b)):
            made = client.submit(filled, 24 * MIB, 3, workers=[a])
            assert client.submit(total, made, workers=[b]).result() == 72 * MIB
            assert (made.result() == 3).all()
            assert client.run(counted)[a].full >= 1
    """,
        tmp_path,
    )


def test_spilled_data_are_bytes_and_free_the_pool(tmp_path):
    enabled(
        """
    def spilled(dask_worker=None):
        files = []
        for at, _, names in os.walk(dask_worker.local_directory):
            files += [os.path.getsize(os.path.join(at, name)) for name in names]
        return dask_worker.data.spilled_total.memory, sum(files)

    def evict(dask_worker=None):
        while dask_worker.data.fast:
            assert dask_worker.data.evict() > 0

    def main():
        import dask
        dask.config.set({"distributed.worker.memory.spill": False})
        enable()
        with cluster(memory_limit="1GiB") as (client, (a, b)):
            made = [client.submit(filled, 16 * MIB, n, workers=[a]) for n in range(4)]
            sums = [client.submit(total, one, workers=[b]) for one in made]
            assert client.gather(sums) == [16 * MIB * n for n in range(4)]
            assert client.run(counted)[a].moved == 4
            assert pool().stats().used >= 64 * MIB
            client.run(evict)
            memory, on_disk = client.run(spilled, workers=[a])[a]
            assert memory >= 64 * MIB and on_disk >= 64 * MIB or on_disk > 0, (memory, on_disk)
            del sums
            eventually(is_empty, "spilled data to free the pool")
            assert (made[3].result() == 3).all()  # read from the disk
    """,
        tmp_path,
    )


def test_shared_pages_count_once(tmp_path):
    enabled(
        COPIES_STAY
        + """
    def memory(dask_worker=None):
        gc.collect()
        import psutil
        return dask_worker.monitor.get_process_memory(), psutil.Process().memory_info().rss

    def keep(array):
        return array.copy() is None or int(array.sum())

    def main():
        enable()
        with cluster(memory_limit="2GiB") as (client, (a, b)):
            before = client.run(memory)
            made = client.submit(filled, 128 * MIB, 3, workers=[a])
            there = client.submit(total, made, workers=[b])
            assert there.result() == 384 * MIB
            client.replicate([made], n=2)
            after = client.run(memory)
            grown = sum(after[w][0] - before[w][0] for w in (a, b))
            resident = sum(after[w][1] - before[w][1] for w in (a, b))
            assert grown < 1.35 * 128 * MIB, (grown / MIB, resident / MIB, before, after)
            shares = sum(pool().share(pid) for pid in client.run(os.getpid).values())
            assert shares == 128 * MIB, shares / MIB
    """,
        tmp_path,
    )


@pytest.mark.parametrize("victim", ["holder", "receiver"])
def test_a_worker_is_killed(tmp_path, victim):
    """Results are right, the pool is sound, and nothing is held after one `collect`."""
    enabled(
        f"""
    def slow_sum(array, seconds=0.05):
        time.sleep(seconds)
        return int(array.sum())

    def main():
        import dask
        # Without the second, the cluster gives up a worker that takes 15 s to come back.
        dask.config.set({{"distributed.scheduler.allowed-failures": 100}})
        dask.config.set({{"distributed.deploy.lost-worker-timeout": "1h"}})
        enable()
        with cluster(workers=3) as (client, (a, b, c)):
            for number in range(4):
                made = client.submit(filled, 8 * MIB, number, workers=[a, b], pure=False)
                where = next(iter(client.who_has(made).values()), ()) or ()
                sums = [client.submit(slow_sum, made, 0.01 * n, pure=False) for n in range(6)]
                pids = pids_to_kill(client)
                holder = next((w for w in where if w in pids), None)
                others = [w for w in pids if w != holder]
                chosen = holder if {victim!r} == "holder" and holder else others[0]
                os.kill(pids[chosen], signal.SIGKILL)
                assert client.gather(sums) == [8 * MIB * number] * 6
                assert (made.result() == number).all()
                eventually(lambda: replaced(client, chosen, 3), "another worker in its place")
                a, b, c = addresses(client)
                del made, sums
            eventually(is_empty, "the pool to be empty")
            assert pool().validate() == []
    """,
        tmp_path,
    )


def test_the_client_is_killed(tmp_path):
    """Workers and scheduler go with it (their parent is dead), and the pool goes with the last."""
    enabled(
        '''
    import subprocess

    VICTIM = """
    import os, sys
    sys.path.insert(0, os.getcwd())
    from program import *

    if __name__ == "__main__":
        import onecopy.dask
        onecopy.dask.enable("256MiB", pool="shared-one")
        with cluster() as (client, (a, b)):
            made = client.submit(filled, 8 * MIB, 3, workers=[a])
            got = made.result()
            print("ready", flush=True)
            sys.stdin.read()
    """

    def main():
        import onecopy
        onecopy.Pool  # loaded
        with open("victim.py", "w") as file:
            file.write(__import__("textwrap").dedent(VICTIM))
        victim = subprocess.Popen([sys.executable, "victim.py"], stdin=subprocess.PIPE,
                                  stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
        assert victim.stdout.readline() == b"ready\\n"
        there = onecopy.Pool.open("shared-one")
        victim.kill()
        victim.wait()

        def alone():
            there.collect()
            return there.stats().processes == 1 and there.stats().blocks == 0

        eventually(alone, "all others to leave")
        assert there.validate() == []
        there.close()
    ''',
        tmp_path,
    )


def test_attach_to_a_running_cluster(tmp_path):
    enabled(
        """
    def main():
        with cluster() as (client, (a, b)):
            made = client.submit(filled, 4 * MIB, workers=[a])
            assert client.submit(total, made, workers=[b]).result() == 12 * MIB
            assert onecopy.dask.attach(client, "256MiB")
            made = client.submit(filled, 16 * MIB, 3, workers=[a])
            assert client.submit(total, made, workers=[b]).result() == 48 * MIB
            assert client.run(counted)[b].received == 16 * MIB
            assert (made.result() == 3).all()
            client.cluster.scale(3)
            client.wait_for_workers(3)
            [c] = set(client.scheduler_info(n_workers=-1)["workers"]) - {a, b}
            assert client.submit(total, made, workers=[c], pure=False).result() == 48 * MIB
            assert client.run(counted)[c].received == 16 * MIB
            assert client.submit(total, filled(4 * MIB, 2)).result() == 8 * MIB
    """,
        tmp_path,
    )


def test_processes_that_are_started_by_hand(tmp_path):
    """`dask scheduler` and `dask worker --preload onecopy.dask`; the client has the same pool."""
    run(
        ENABLED
        + """
    import subprocess

    def main():
        name = "by-hand"
        environment = {**os.environ, "DASK_ONECOPY__POOL": name, "DASK_ONECOPY__SIZE": "256MiB"}
        command = [sys.executable, "-m", "distributed.cli.dask_scheduler"]
        command += ["--dashboard-address", ":0", "--port", "0", "--host", "127.0.0.1"]
        command += ["--scheduler-file", "scheduler.json"]
        started = [subprocess.Popen([*command, "--preload", "onecopy.dask"], env=environment)]
        eventually(lambda: os.path.exists("scheduler.json"), "the scheduler")
        try:
            for number in range(2):
                command = [sys.executable, "-m", "distributed.cli.dask_worker", "--no-dashboard"]
                command += ["--nthreads", "1", "--scheduler-file", "scheduler.json"]
                command += ["--preload", "onecopy.dask", "--name", f"w{number}"]
                started.append(subprocess.Popen(command, env=environment))
            from distributed import Client
            enable(None, pool=name)
            with Client(scheduler_file="scheduler.json") as client:
                client.wait_for_workers(2)
                a, b = client.scheduler_info(n_workers=-1)["workers"]
                made = client.submit(filled, 16 * MIB, 3, workers=[a])
                assert client.submit(total, made, workers=[b]).result() == 48 * MIB
                assert client.run(counted)[b].received == 16 * MIB
                assert client.submit(total, filled(8 * MIB, 1)).result() == 8 * MIB
                assert counted().messages >= 1
                client.shutdown()
        finally:
            for one in started:
                try:
                    one.wait(20)
                except subprocess.TimeoutExpired:
                    one.kill()
                    one.wait()
    """,
        tmp_path,
        PATH=f"{sys.prefix}/bin:/usr/bin:/bin",
    )


def test_tls(tmp_path):
    tls = Authority(tmp_path / "tls").sign("peer")
    files = {
        f"tls_{role}_{part}": str(path)
        for role in ("client", "scheduler", "worker")
        for part, path in (("cert", tls.certfile), ("key", tls.keyfile))
    }
    files["tls_ca_file"] = str(tls.cafile)
    enabled(
        f"""
    def main():
        from distributed.security import Security
        enable()
        secure = Security(**{files!r}, require_encryption=True)
        with cluster(security=secure, protocol="tls://") as (client, (a, b)):
            assert a.startswith("tls://")
            made = client.submit(filled, 16 * MIB, 3, workers=[a])
            assert client.submit(total, made, workers=[b]).result() == 48 * MIB
            assert (made.result() == 3).all()
            assert client.run(counted)[b].received == 16 * MIB
    """,
        tmp_path,
    )


def test_results_that_are_born_in_the_pool(tmp_path):
    enabled(
        """
    def computed(n):
        return np.arange(n, dtype="f8") * 2

    def main():
        enable(born=True)
        with cluster() as (client, (a, b)):
            made = client.submit(computed, 2 * MIB, workers=[a])
            assert client.submit(total, made, workers=[b]).result() == 2 * MIB * (2 * MIB - 1)
            assert (made.result() == np.arange(2 * MIB) * 2).all()
            seen = client.run(counted)
            assert sum(one.sent for one in seen.values()) == 32 * MIB, seen
            assert sum(one.copied for one in seen.values()) == 0, seen
    """,
        tmp_path,
    )


def test_few_bytes_cross_the_wire(tmp_path):
    """Counted on a loopback of its own: 96 MiB are handed over."""
    inside = namespaces._unshare("--net")
    enabled(
        """
    import subprocess

    def crossed():
        with open("/proc/net/dev") as file:
            [line] = [line for line in file if line.strip().startswith("lo:")]
        return int(line.split()[1])

    def main():
        import fcntl, socket, struct
        with socket.socket() as one:  # bring the loopback up
            flags = struct.pack("16sH14s", b"lo", 0x41, b"")
            fcntl.ioctl(one, 0x8914, flags)
        enable()
        with cluster(host="127.0.0.1") as (client, (a, b)):
            client.submit(total, client.submit(filled, 2 * MIB, workers=[a]), workers=[b]).result()
            before = crossed()
            made = client.submit(filled, 32 * MIB, 3, workers=[a])
            assert client.submit(total, made, workers=[b]).result() == 96 * MIB
            assert (made.result() == 3).all()
            assert client.submit(total, filled(32 * MIB, 1)).result() == 32 * MIB
            wire = crossed() - before
            assert wire < MIB, wire
            print(wire, "bytes")
    """,
        tmp_path,
        inside=inside,
    )
