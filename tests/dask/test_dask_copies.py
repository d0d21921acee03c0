"""How often Dask's data is copied on its way: once, into the pool."""

import pytest
from clusters import needs, run

needs("distributed")

# In programs of their own: distributed changes how exceptions are pickled in its process.
MOVED = """
    import tracemalloc
    import onecopy as oc
    from onecopy.dask.moving import moved

"""


def test_a_part_with_gaps_is_not_copied_to_private_memory(tmp_path):
    run(
        MOVED
        + """
    def main():
        pool = oc.Pool.create(size="64MiB")
        part = np.arange(MIB).reshape(-1, 1024)[:, :512]
        for value in (part, {"a": [part, 5], "b": (part,)}):
            tracemalloc.start()
            [got] = moved(value, pool)
            _, most = tracemalloc.get_traced_memory()
            tracemalloc.stop()
            assert most < MIB, most
            for each in (got["a"][0], *got["b"]) if isinstance(got, dict) else (got,):
                assert np.array_equal(each, part) and each.flags.writeable
    """,
        tmp_path,
    )


def test_each_kind_of_gaps(tmp_path):
    run(
        MOVED
        + """
    def main():
        pool = oc.Pool.create(size="256MiB")
        for array in (
            np.zeros((MIB, 2))[::2, 0],
            np.zeros(MIB, [("a", "f8"), ("b", "i4")])["a"],
            np.zeros(MIB, [("a", "f8"), ("b", "i4")])[::2],
            np.zeros(2 * MIB, "M8[us]")[::2],
            np.arange(2 * MIB)[::-2],
            np.broadcast_to(np.arange(MIB // 8), (100, MIB // 8)),
            np.arange(MIB).reshape(-1, 64)[:0],
        ):
            new = moved(array, pool)
            got = array if new is None else new[0]
            assert got.dtype == array.dtype and np.array_equal(got, array), array.dtype
    """,
        tmp_path,
    )


def test_what_has_no_room_stays_and_the_rest_is_moved(tmp_path):
    run(
        MOVED
        + """
    def main():
        pool = oc.Pool.create(size="8MiB")
        value = [np.arange(2 * MIB).reshape(-1, 1024)[:, :512], np.arange(MIB // 4)]
        [[large, small]] = moved(value, pool)
        assert pool.where(large) is None
        assert np.array_equal(large, value[0]) and np.array_equal(small, value[1])
        assert pool.stats().used >= small.nbytes
    """,
        tmp_path,
    )


@pytest.mark.slow
def test_a_frame_that_goes_through_the_scheduler_is_copied_once(tmp_path):
    """The scheduler asks its peers for a protocol of pickle that would copy it each time."""
    run(
        """
    import onecopy.dask

    def table(nbytes):
        import pandas as pd
        return pd.DataFrame({"a": np.arange(nbytes // 8)})

    def summed(frame):
        return int(frame["a"].sum())

    def main():
        assert onecopy.dask.enable("512MiB")
        expected = sum(range(2 * MIB))
        with cluster() as (client, (a, b)):
            made = client.submit(table, 16 * MIB, workers=[a])
            for _ in range(3):
                got = made.result()
                assert summed(got) == expected
                got["a"] += 1
            assert client.run(counted)[a].copied == 16 * MIB
            there = client.scatter(table(16 * MIB))
            given = client.submit(summed, table(16 * MIB), workers=[b])
            assert client.submit(summed, there).result() == given.result() == expected
            assert client.run(counted)[a].copied == 16 * MIB
            del made, there, given, got
    """,
        tmp_path,
    )


@pytest.mark.slow
def test_arrays_with_gaps_arrive_whole(tmp_path):
    """A part of an array is sent without the gaps between its rows."""
    run(
        """
    import onecopy.dask

    def part(nbytes):
        whole = np.arange(nbytes // 4).reshape(-1, 1024)
        return {"one": whole[:, :512], "more": [whole.T[::2], whole]}

    def equal(parts, nbytes):
        ours = part(nbytes)
        assert (parts["one"] == ours["one"]).all() and (parts["more"][0] == ours["more"][0]).all()
        return parts["one"].flags.writeable and parts["more"][1][0, 5] == 5

    def main():
        assert onecopy.dask.enable("512MiB")
        with cluster() as (client, (a, b)):
            made = client.submit(part, 8 * MIB, workers=[a])
            assert client.submit(equal, made, 8 * MIB, workers=[b]).result()
            seen = client.run(counted)[a]
            assert (seen.moved, seen.copied, seen.sent) == (1, 32 * MIB, 32 * MIB), seen
            got = made.result()
            assert got["one"][1, 2] == 1026 and got["one"].flags.writeable
            assert client.run(counted)[a].copied == 32 * MIB
            del made, got
    """,
        tmp_path,
    )
