"""`enable`, `disable`, untested versions, and single comms; without a cluster."""

import pytest
from clusters import needs, run

needs("distributed")

WITHOUT_ONECOPY = """
    def is_plain():
        import dask
        from distributed.comm import tcp
        ends = tcp.TCPConnector, tcp.TCPListener
        preloads = [dask.config.get(f"distributed.{r}.preload") for r in ("worker", "scheduler")]
        return all(end.comm_class is tcp.TCP for end in ends) and preloads == [[], []]
"""


def test_enable_and_disable(tmp_path):
    run(
        WITHOUT_ONECOPY
        + """
    def main():
        import onecopy.dask
        assert is_plain()
        assert not onecopy.dask.enabled()
        assert onecopy.dask.enable("64MiB", threshold="2MiB")
        assert onecopy.dask.enabled() and not is_plain()
        first = pool().name
        assert onecopy.dask.enable("32MiB")
        assert pool().name != first and pool().size == 32 * MIB
        onecopy.dask.disable()
        onecopy.dask.disable()
        assert is_plain() and not onecopy.dask.enabled()
    """,
        tmp_path,
    )


@pytest.mark.parametrize("version", ["2025.1.0", "2031.1.0", "2026.8.1+5.gabc"])
def test_another_version_warns_and_changes_nothing(tmp_path, version):
    run(
        WITHOUT_ONECOPY
        + f"""
    def main():
        import distributed
        distributed.__version__ = {version!r}
        import onecopy.dask
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            assert not onecopy.dask.enable("64MiB")
        [one] = [w for w in caught if w.category is onecopy.dask.UntestedVersionWarning]
        assert {version!r} in str(one.message) and one.filename == __file__, one
        assert is_plain() and not onecopy.dask.enabled()
    """,
        tmp_path,
    )


def test_a_missing_name_warns_and_changes_nothing(tmp_path):
    run(
        WITHOUT_ONECOPY
        + """
    def main():
        import distributed.worker
        del distributed.worker.Worker.get_data
        import onecopy.dask
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            assert not onecopy.dask.enable("64MiB")
        assert any("Worker.get_data" in str(w.message) for w in caught), caught
        assert is_plain()
    """,
        tmp_path,
    )


def test_wrong_arguments(tmp_path):
    run(
        WITHOUT_ONECOPY
        + """
    def main():
        import onecopy.dask
        for wrong in ({"size": "much"}, {"threshold": 0}, {"writable": True}, {"size": "1EiB"}):
            try:
                onecopy.dask.enable(**wrong)
            except (ValueError, MemoryError):
                continue
            raise AssertionError(wrong)
    """,
        tmp_path,
    )


COMMS = """
    import asyncio

    def enable(**options):
        import onecopy.dask
        assert onecopy.dask.enable("128MiB", **options)

    @contextlib.asynccontextmanager
    async def pair():
        from distributed.comm import connect, listen
        there = asyncio.get_running_loop().create_future()

        async def handle(comm):
            there.set_result(comm)

        listener = await listen("tcp://127.0.0.1:0", handle)
        here = await connect(listener.contact_address)
        other = await there
        yield here, other
        await here.close()
        await other.close()
        listener.stop()

    async def empty():
        # The event loop keeps the last result for one turn.
        while not is_empty():
            await asyncio.sleep(0.01)

    def data(nbytes=4 << 20):
        from distributed.protocol import to_serialize
        return to_serialize(np.arange(nbytes, dtype="u1"))

    def check(got):
        assert (got == np.arange(got.size, dtype="u1")).all()
        return got

    def main():
        asyncio.run(asyncio.wait_for(tried(), 60))
"""


def comms(text, tmp_path):
    run(COMMS + text, tmp_path)


def test_a_request_is_held_until_the_answer(tmp_path):
    comms(
        """
    async def tried():
        enable()
        from onecopy.dask import comms
        comms.LINGER = 0.2
        async with pair() as (here, there):
            written = await here.write({"x": data()})
            assert written >= 4 << 20  # logical bytes: BatchedSend must not log this
            assert here.stream._total_write_index < 5000
            got = check((await there.read())["x"])
            assert got.flags.writeable
            assert len(here._sent_last) == 1
            await there.write("OK")
            assert await here.read() == "OK"
            assert not here._sent_last
            got[0] = 7
            await there.write({"y": data()})
            check((await here.read())["y"])
        del got
        await empty()
    """,
        tmp_path,
    )


def test_an_idle_comm_holds_nothing(tmp_path):
    """A reply may be the last message for long: the comm goes back to Dask's pool of comms."""
    comms(
        """
    async def tried():
        enable()
        from onecopy.dask import comms
        comms.LATE = 0.05
        async with pair() as (here, there):
            reading = asyncio.ensure_future(here.read())  # as a server waits for the next request
            for _ in range(2):
                await here.write({"x": data()})
            for _ in range(2):
                check((await there.read())["x"])
            await empty()
            assert not here._sent_last and not reading.done()
            await there.write("next")
            assert await reading == "next"
            # Here the other side waits for nothing, and sees the acknowledgement with the next one.
            await there.write({"x": data()})
            check((await here.read())["x"])
            while here._owed is not None:
                await asyncio.sleep(0.01)
            assert there._sent_last
            await here.write("last")
            assert await there.read() == "last"
            assert not there._sent_last
        await empty()
    """,
        tmp_path,
    )


def test_a_stream_is_held_until_it_is_acknowledged(tmp_path):
    comms(
        """
    async def tried():
        enable()
        async with pair() as (here, there):
            for _ in range(3):
                await here.write([{"x": data()}])
            assert len(here._sent_unacked) == 3
            for _ in range(3):
                check((await there.read())[0]["x"])
            await there.write(["next"])
            assert await here.read() == ("next",)  # the acknowledgements came before it
            assert not here._sent_unacked
        await empty()
    """,
        tmp_path,
    )


@pytest.mark.parametrize("stream", [False, True])
def test_a_receiver_that_cannot_import_gets_the_bytes(tmp_path, stream):
    comms(
        f"""
    async def tried():
        enable()
        stream = {stream}
        wrap = (lambda m: [m]) if stream else (lambda m: m)
        async with pair() as (here, there):
            def fail(places):
                raise OSError("as asked")
            there._import = fail
            await here.write(wrap({{"x": data(), "y": 1}}))
            reading = asyncio.ensure_future(there.read())
            answers = asyncio.ensure_future(here.read())  # answers the request for bytes
            got = await reading
            check((got[0] if stream else got)["x"])
            await there.write("OK")
            assert await answers == "OK"
            before = counted().messages
            await here.write(wrap({{"x": data()}}))  # from now on bytes only
            got = await there.read()
            check((got[0] if stream else got)["x"])
            assert counted().messages == before
            assert (counted().resent, counted().refused) == (1, 1)
        del got, reading, answers
        await empty()
    """,
        tmp_path,
    )


def test_messages_keep_their_order_when_bytes_are_asked_for(tmp_path):
    comms(
        """
    async def tried():
        enable()
        async with pair() as (here, there):
            for number in range(3):
                await here.write([{"n": number, "x": data()}])
            await here.write(["last"])
            answers = asyncio.ensure_future(here.read())
            real, seen = there._import, []

            def fail_first(places):
                if not seen:
                    raise OSError("as asked")
                return real(places)

            there._import = fail_first
            for _ in range(3):
                [one] = await there.read()
                check(one["x"])
                seen.append(one["n"])
            assert seen == [0, 1, 2]
            assert await there.read() == ("last",)
            answers.cancel()
    """,
        tmp_path,
    )


def test_what_was_written_before_a_close_is_read_after_it(tmp_path):
    comms(
        """
    async def tried():
        enable()
        from onecopy.dask import comms
        comms.LINGER = 0.2
        async with pair() as (here, there):
            await here.write({"x": data()})
            await here.close()
            check((await there.read())["x"])
        assert comms._lingering
        await empty()
        assert not comms._lingering
    """,
        tmp_path,
    )


def test_a_peer_that_disappears_ends_what_is_held(tmp_path):
    comms(
        """
    async def tried():
        enable()
        async with pair() as (here, there):
            await here.write([{"x": data()}])
            assert here._sent_unacked
            there.abort()
            from distributed.comm import CommClosedError
            try:
                await here.read()
            except CommClosedError:
                pass
            assert not here._sent_unacked
        await empty()
    """,
        tmp_path,
    )


def test_another_pool_gets_bytes(tmp_path):
    comms(
        """
    async def tried():
        enable()
        import onecopy.dask.membership
        from onecopy.dask import comms
        onecopy.dask.membership.membership.join()
        infos = iter([onecopy.dask.membership.membership.identity, b"2" * 32])
        comms.ByPlace.handshake_info = lambda self: {
            **super(comms.ByPlace, self).handshake_info(),
            "onecopy": {"version": 1, "pool": next(infos)},
        }
        async with pair() as (here, there):
            for one, other in ((here, there), (there, here)):
                await one.write({"x": data()})
                check((await other.read())["x"])
        assert counted().messages == 0 == counted().refused
    """,
        tmp_path,
    )


def test_a_pool_that_was_closed_gets_bytes(tmp_path):
    comms(
        """
    async def tried():
        enable()
        async with pair() as (here, there):
            pool().close()
            await here.write({"x": data()})
            check((await there.read())["x"])
        assert counted().messages == 0
    """,
        tmp_path,
    )


def test_a_full_pool_gives_bytes(tmp_path):
    comms(
        """
    async def tried():
        enable()
        kept = pool().empty(120 << 20, "u1")
        async with pair() as (here, there):
            await here.write({"x": data(16 << 20)})
            check((await there.read())["x"])
        assert counted().full == 1 and counted().messages == 0
    """,
        tmp_path,
    )


def test_allowed_deserializers_are_kept(tmp_path):
    comms(
        """
    async def tried():
        enable()
        async with pair() as (here, there):
            await here.write({"x": data()}, serializers=["pickle"])
            try:
                await there.read(deserializers=["dask"])
            except TypeError as error:
                assert "pickle" in str(error), error
            else:
                raise AssertionError("pickle was not allowed")
    """,
        tmp_path,
    )


def test_data_that_is_read_only(tmp_path):
    comms(
        """
    async def tried():
        enable(writable="readonly")
        import pandas as pd
        from distributed.protocol import to_serialize
        async with pair() as (here, there):
            frame = to_serialize(pd.DataFrame({"a": np.arange(1 << 20)}))
            await here.write({"x": data(), "frame": frame})
            got = await there.read()
            assert not check(got["x"]).flags.writeable
            assert pool().where(got["x"]) is not None
            assert pool().where(got["frame"]["a"].to_numpy()) is not None
    """,
        tmp_path,
    )
