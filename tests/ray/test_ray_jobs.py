"""What travels through Ray by place, how long it lives, and what each death leaves."""

import pytest
from rays import needs, run

needs()
pytestmark = [pytest.mark.slow, pytest.mark.timeout(330)]


def test_what_travels_by_place_and_what_does_not(tmp_path):
    run(
        """
    def main():
        with started() as pool:
            array = full(2)
            ref = ray.put(array)
            assert not array.flags.writeable and sent() == 1
            got = ray.get(ref)
            assert by_place(got) and not got.flags.writeable and got[-1] == 2
            assert ray.get(total.remote(ref)) == ray.get(total.remote(got)) == 2 * N
            assert sent() == 2  # the ref travelled by itself
            del array, got, ref
            nothing_is_left()

            made, _, sent_there = ray.get(make.remote(3))
            assert by_place(made) and made[-1] == 3
            nested = {"a": [made, made[100:]], "b": "text", "c": made.reshape(2, -1).T}
            before = sent()
            back = ray.get(ray.put(nested))
            assert sent() == before + 3 and by_place(back["a"][1])
            assert (back["c"] == nested["c"]).all() and back["b"] == "text"
            del made, nested, back
            nothing_is_left()

            values = [ray.get(total.remote(full(value))) for value in range(20)]
            assert values == [value * N for value in range(20)]
            frame = {"parts": [full(1)[start:] for start in range(5)]}
            assert len(ray.get(ray.put(frame))["parts"]) == 5
            del frame
            nothing_is_left()

            before = sent()
            outside, small, gaps = np.full(N, 4.0), full(5, 1000), full(6)[::2]
            objects = np.array([{"a": 1}] * 200_000, dtype=object)
            for plain in (outside, small, gaps, objects, np.float64(1), np.array(7)):
                assert np.array_equal(ray.get(ray.put(plain)), plain)
            assert outside.flags.writeable and sent() == before

            enclosed = full(7)  # Ray would count it for ever
            far = ray.remote(lambda: float(enclosed.sum()))
            assert ray.get(far.remote()) == 7 * N and sent() == before
            assert len(ray.cloudpickle.dumps(enclosed)) > enclosed.nbytes
            del enclosed, far, small, gaps, plain
            nothing_is_left()
    """,
        tmp_path,
    )


def test_references_keep_their_objects(tmp_path):
    run(
        """
    @ray.remote
    def read(what):
        return float(what["ref"].get()["array"].sum())

    @ray.remote
    def write(what):
        what["shared"][7] = 5

    def main():
        with started() as pool:
            ref, shared = pool.put({"array": np.ones(N)}), pool.shared_array(N)
            shared[:] = 0
            both = ray.put({"ref": ref, "shared": shared})
            del ref
            gc.collect()
            ray.get(write.remote(both))
            assert ray.get(read.remote(both)) == N and shared[7] == 5
            del both, shared
            nothing_is_left()
    """,
        tmp_path,
    )


def test_results_outlive_their_workers(tmp_path):
    run(
        """
    def main():
        with started() as pool:
            ref = make.remote(2)
            pid = ray.get(ref)[1]
            kill(pid)
            pool.collect()
            assert by_place(ray.get(ref)[0]) and ray.get(ref)[0][-1] == 2
            del ref
            nothing_is_left()

            ref = Actor.remote().make.remote(3)  # Ray ends the actor afterwards
            ray.wait([ref])
            assert ray.get(ref)[-1] == 3

            actor = Actor.remote()
            ref = actor.make.remote(4)
            ray.wait([ref])
            ray.kill(actor)
            assert ray.get(ref)[-1] == 4
            del ref
            nothing_is_left()

            ref = make.remote(5)
            ray.wait([ref])
            del ref  # nobody reads it
            nothing_is_left()
    """,
        tmp_path,
    )


def test_receivers_are_killed(tmp_path):
    run(
        """
    def main():
        with started() as pool:
            actor = Actor.remote()
            pid = ray.get(actor.keep.remote(full(2)))  # it has the array itself
            eventually(lambda: kept() == 0, "the holder")
            assert pool.stats().blocks == 1
            kill(pid)
            pool.collect()
            assert pool.stats().blocks == 0

            borrower, array = Actor.remote(), full(3)  # it has one of Ray's references
            ref = ray.put(array)
            pid = ray.get(borrower.keep.remote([ref]))
            del array, ref
            gc.collect()
            assert ray.get(borrower.total.remote()) == 3 * N and kept() > 0
            kill(pid)
            nothing_is_left()
    """,
        tmp_path,
    )


def test_the_holder_is_killed(tmp_path):
    run(
        """
    def works():
        try:
            return kept() == 0
        except ray.exceptions.RayError:
            return False

    def main():
        with started() as pool:
            ref, array = ray.put(full(2)), full(3)
            mapped = ray.get(ray.put(full(4)))
            kill(ray.get(holder().held.remote())[1])
            pool.collect()
            try:
                ray.get(ref)
            except ray.exceptions.RayError as error:
                assert "StaleRef" in str(error) and "holder" in str(error), error
            else:
                raise AssertionError("the array is there")
            assert ray.get(ray.put(array))[-1] == 3  # by place or not
            assert mapped[-1] == 4
            eventually(works, "the next holder")
            before = sent()
            assert ray.get(ray.put(array))[-1] == 3 and sent() == before + 1
            del ref, array, mapped
            nothing_is_left()
    """,
        tmp_path,
    )


def test_a_process_that_does_not_see_the_pool_fetches(tmp_path):
    run(
        """
    @ray.remote(num_cpus=0)
    class Far:
        def __init__(self):  # as on another host
            from onecopy.ray.sharing import sharing
            oc.Pool.can_see = lambda *_: False
            sharing.stop()

        def total(self, what):
            if isinstance(what, list):
                what = ray.get(what[0])
            return float(what.sum()), onecopy.ray.counts.fetched

        def back(self, array):
            return array

    def main():
        with started() as pool:
            far, ref = Far.remote(), ray.put(full(2))
            assert ray.get(far.total.remote(ref)) == (2 * N, 1)
            assert ray.get(far.total.remote([ref])) == (2 * N, 2)
            assert ray.get(far.total.remote(full(3))) == (3 * N, 3)
            back = ray.get(far.back.remote(ref))
            assert back[-1] == 2 and not by_place(back)
            del ref
            nothing_is_left()
    """,
        tmp_path,
    )


def test_threads_generators_and_asynchronous_actors(tmp_path):
    run(
        """
    import threading

    @ray.remote(num_returns="streaming")
    def several():
        for value in range(5):
            yield full(value)

    @ray.remote
    class Asynchronous:
        async def back(self, array):
            return array, sent()

    def many(failed):
        try:
            for value in range(10):
                assert ray.get(ray.put(full(value)))[-1] == value
        except BaseException as error:
            failed.append(error)
            raise

    def main():
        with started() as pool:
            got = [ray.get(each) for each in several.remote()]
            assert [each[-1] for each in got] == [0, 1, 2, 3, 4] and all(map(by_place, got))
            actor = Asynchronous.remote()
            back, _ = ray.get(actor.back.remote(got[3]))
            assert back[0] == 3 and ray.get(actor.back.remote(got[3]))[1] == 1
            failed = []
            threads = [threading.Thread(target=many, args=(failed,)) for _ in range(3)]
            [each.start() for each in threads]
            [each.join() for each in threads]
            assert not failed
            del got, back
            nothing_is_left()
    """,
        tmp_path,
    )


def test_results_of_numpy_are_born_in_the_pool(tmp_path):
    run(
        """
    @ray.remote
    def twice(array):
        return array * 2

    def main():
        with started(born=True) as pool:
            result = ray.get(twice.remote(np.ones(N)))
            assert by_place(result) and result[-1] == 2
            assert ray.get(twice.remote(result))[-1] == 4
    """,
        tmp_path,
    )


def test_a_second_job_of_the_process(tmp_path):
    run(
        """
    def main():
        pool = oc.Pool.create(size="64MiB")
        array = pool.full(N, 2)
        for before in range(2):
            with started(pool):
                assert onecopy.ray.enabled()
                ref = ray.put(array)
                assert ray.get(ref)[-1] == 2 and sent() == before + 1
        del ref, array
        gc.collect()
        pool.collect()
        assert pool.stats().blocks == 0
        kept = pool.full(N, 2)
        assert len(ray.cloudpickle.dumps(kept)) > kept.nbytes
    """,
        tmp_path,
    )
