"""A client with a ticket gets the right object, in the right pool; without one it gets nothing."""

from __future__ import annotations

import dataclasses
import gc
import json
import pickle
import socket
import threading

import children
import numpy as np
import pytest

import onecopy as oc

flight = pytest.importorskip("pyarrow.flight")
import pyarrow as pa  # noqa: E402 - it may not be there

STRUCT = np.dtype([("id", "<i4"), ("at", "<M8[ns]"), ("box", "<f4", (2, 2))])


def arrays():
    numbers = np.random.default_rng(7)
    yield "large", numbers.random((1500, 1000))  # several batches
    yield "small", np.arange(6, dtype=">i2").reshape(2, 3)
    yield "no axes", np.array(5.5)
    yield "empty", np.zeros((3, 0), "f4")
    yield "fortran", np.asfortranarray(numbers.random((300, 400)))
    yield "strided", numbers.random((300, 400))[::2, ::3]
    yield "times", np.array(["2026-01-01", "NaT"], "M8[s]")
    yield "text", np.array(["a", "longer"])
    yield "fields", np.zeros(5, STRUCT)
    yield "booleans", np.arange(9) % 2 == 0
    yield "complex", np.array([1 + 2j])


ARRAYS = list(arrays())


@pytest.mark.parametrize(("name", "array"), ARRAYS, ids=[name for name, _ in ARRAYS])
def test_arrays(server, there, name, array):
    found = oc.fetch(server.ticket(array), pool=there).get()
    assert found.dtype == array.dtype
    assert found.shape == array.shape
    assert np.array_equal(found, array, equal_nan=array.dtype.kind in "fcM")
    assert not found.flags.writeable
    if array.nbytes:
        assert there.where(found.ravel("K").view("u1")) is not None
    if name == "fortran":
        assert found.flags.f_contiguous


def test_the_bytes_are_once_in_the_pool(server, here, there):
    """Neither at the server nor at the client is there another copy."""
    array = np.ones(4_000_000)
    url = server.ticket(array)
    assert children.used(here) < array.nbytes * 1.1
    ref = oc.fetch(url, pool=there)
    assert children.used(there) < array.nbytes * 1.1
    ref.release()
    assert children.used(there) == 0


def test_an_array_of_the_pool_is_not_copied_for_a_ticket(server, here, there):
    array = here.full(1_000_000, 1, "u1")
    before = children.used(here)
    url = server.ticket(array)
    assert children.used(here) - before < 100_000
    del array
    assert oc.fetch(url, pool=there).get().all()
    server.release(url)
    assert children.used(here) == 0


def table():
    return pa.table(
        {
            "number": pa.array(range(100_000)),
            "text": pa.array([f"row {i}" if i % 7 else None for i in range(100_000)]),
            "kind": pa.array(["a", "b"] * 50_000).dictionary_encode(),
            "parts": pa.array([[1, 2], None] * 50_000),
        },
        metadata={"from": "a test"},
    )


def test_tables_and_batches(server, here, there):
    given = table()
    found = oc.fetch(server.ticket(given), pool=there).get()
    assert found.equals(given, check_metadata=True)
    batch = given.slice(10, 1000).combine_chunks().to_batches()[0]
    found = oc.fetch(server.ticket(batch), pool=there).get()
    assert isinstance(found, pa.RecordBatch)
    assert found.equals(batch, check_metadata=True)
    empty = given.slice(0, 0)
    assert oc.fetch(server.ticket(empty), pool=there).get().equals(empty)


def test_a_table_lies_in_the_pool_once(server, there):
    given = pa.table({"x": np.ones(2_000_000)})
    ref = oc.fetch(server.ticket(given), pool=there)
    assert children.used(there) < given.nbytes * 1.1
    column = ref.get()["x"].chunk(0)
    assert there.where(column.buffers()[1]) is not None


def test_data_frames(server, there):
    pandas, polars = pytest.importorskip("pandas"), pytest.importorskip("polars")
    frame = pandas.DataFrame(
        {"x": np.arange(1000.0), "when": pandas.date_range("2026-01-01", periods=1000)},
        index=pandas.Index(range(5, 1005), name="id"),
    )
    pandas.testing.assert_frame_equal(oc.fetch(server.ticket(frame), pool=there).get(), frame)
    frame = polars.DataFrame({"x": range(1000), "t": [f"t{i}" for i in range(1000)]})
    assert oc.fetch(server.ticket(frame), pool=there).get().equals(frame)


@pytest.mark.parametrize("size", [0, 10, 5_000_000])
def test_bytes(server, there, size):
    given = bytes(range(256)) * (size // 256) + bytes(size % 256)
    assert oc.fetch(server.ticket(given), pool=there).get() == given


def test_references(server, here, there):
    ref = here.put({"no": "such object"})
    with pytest.raises(TypeError, match=r"of type dict cannot be served.*must not unpickle"):
        server.ticket(ref)
    ref = here.put(np.arange(1000))
    url = server.ticket(ref)
    ref.release()  # the ticket has its own
    assert oc.fetch(url, pool=there).get().sum() == 499_500


class Special(np.ndarray):
    pass


@pytest.mark.parametrize(
    "wrong",
    [
        {"a": 1},
        [np.zeros(3)],
        "text",
        np.array([object()]),
        np.zeros(3).view(Special),
        print,
    ],
    ids=["dict", "list", "text", "objects", "subclass", "function"],
)
def test_what_another_host_would_have_to_unpickle_is_refused(server, here, wrong):
    with pytest.raises(TypeError, match="must not unpickle"):
        server.ticket(wrong)
    assert children.used(here) == 0
    assert len(server) == 0


def test_a_data_frame_of_objects_is_refused(server):
    pandas = pytest.importorskip("pandas")
    with pytest.raises(TypeError, match="has no form in Arrow"):
        server.ticket(pandas.DataFrame({"x": [object(), 3]}))


def test_shared_arrays_are_refused(server, here):
    """Others write to them while they would be sent."""
    with pytest.raises(TypeError, match="a subclass of ndarray of type SharedArray"):
        server.ticket(here.shared_array(10, "u1"))


# ------------------------------------------------------------------------------------- on this host


def test_on_one_host_no_bytes_are_sent(server, here):
    ref = here.put(np.ones(1_000_000))
    url = server.ticket(ref, fetches=1)
    found = oc.fetch(url, pool=here)
    assert found.handle == ref.handle
    children.eventually(lambda: len(server) == 0, "the ticket to end")
    assert children.used(here) < 8_100_000
    ref.release()
    assert found.get().all()
    found.release()


def test_any_object_by_place_keeps_its_type(server, here):
    pandas = pytest.importorskip("pandas")
    frame = pandas.DataFrame({"x": range(1000)})
    assert oc.fetch(server.ticket(frame), pool=here).get().equals(frame)


def fetch_and_tell(url, results):
    ref = oc.fetch(url)
    results.put((ref.handle, ref.member.id, float(ref.get().sum())))


def test_a_process_of_this_host_joins_the_pool_of_the_server(server, here, start):
    results = here.queue("results")
    ref = here.put(np.ones(100_000))
    assert start("stranger", fetch_and_tell, server.ticket(ref), results).wait() == 0
    assert results.get(timeout=children.LIMIT) == (ref.handle, here.id, 100_000.0)


def fetch_elsewhere(url, directory, sums):
    import os

    os.environ["ONECOPY_DIR"] = directory
    ref = oc.fetch(url)
    with open(sums, "w") as file:  # noqa: PTH123
        file.write(f"{ref.get().sum()} {oc.default_pool().where(ref.get()) is not None}")


def test_a_process_with_another_pool_directory_gets_bytes(server, start, tmp_path):
    directory, sums = tmp_path / "pools", tmp_path / "sums"
    directory.mkdir(mode=0o700)
    url = server.ticket(np.ones(100_000))
    assert start("stranger", fetch_elsewhere, url, str(directory), str(sums)).wait() == 0
    assert sums.read_text() == "100000.0 True"


# ------------------------------------------------------------------------------------------ tickets


def test_a_ticket_ends_by_release(server, here, there):
    url = server.ticket(np.ones(100_000))
    assert oc.fetch(url, pool=there).get().all()
    assert oc.fetch(url, pool=there).get().all()
    server.release(url)
    server.release(url)
    with pytest.raises(oc.StaleRef, match="does not know the ticket: it has expired, was rel"):
        oc.fetch(url, pool=there)
    assert children.used(here) == 0


def test_a_ticket_ends_by_time(server, here, there):
    url = server.ticket(np.ones(100_000), expires=0.05)
    server.ticket(np.ones(100_000), expires=None)
    children.eventually(lambda: len(server) == 1, "it to expire")
    assert children.used(here) < 900_000
    with pytest.raises(oc.StaleRef):
        oc.fetch(url, pool=there)


def test_a_ticket_ends_by_its_fetches(server, here, there):
    url = server.ticket(np.ones(100_000), fetches=2)
    for _ in range(2):
        assert oc.fetch(url, pool=there).get().all()
    children.eventually(lambda: children.used(here) == 0, "the ticket to end")
    with pytest.raises(oc.StaleRef):
        oc.fetch(url, pool=there)


def test_many_tickets_that_expire_and_many_threads(server, here, there):
    errors = []

    def use():
        try:
            for _ in range(5):
                url = server.ticket(np.ones(10_000), expires=children.LIMIT, fetches=1)
                assert oc.fetch(url, pool=there).get().all()
        except BaseException as error:  # noqa: BLE001 - the test looks at it
            errors.append(error)

    threads = [threading.Thread(target=use) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert errors == []
    children.eventually(lambda: len(server) == 0, "all to end")
    children.eventually(lambda: children.used(here) == 0, "the memory to be free")


def test_tokens_are_long_and_different(server):
    tokens = {server.ticket(b"x").rpartition("/")[2] for _ in range(20)}
    assert len(tokens) == 20
    assert min(map(len, tokens)) >= 43


def test_wrong_arguments(server, here, tls):
    for call, error, text in (
        (lambda: server.ticket(b"", expires=0), ValueError, "a number of seconds"),
        (lambda: server.ticket(b"", fetches=0), ValueError, "a number from 1"),
        (lambda: oc.fetch("http://a:1/x"), ValueError, "is no address"),
        (lambda: oc.fetch("grpc://a/x"), ValueError, "is no address"),
        (lambda: oc.fetch("grpc://a:99999999/x"), ValueError, "is no address"),
        (lambda: oc.fetch("grpc://a:1"), ValueError, "has no ticket"),
        (lambda: oc.fetch("grpc://a:1/x", timeout=0), ValueError, "a number of seconds"),
        (lambda: oc.fetch("grpc+tls://a:1/x"), ValueError, "needs tls="),
        (lambda: oc.fetch("grpc://a:1/x", tls=tls), ValueError, "begins with grpc"),
        (lambda: oc.fetch(b"grpc://a:1/x"), TypeError, "an address is a text"),
        (lambda: oc.fetch("grpc+tls://a:1/x", tls=True), TypeError, "tls is a onecopy.TLS"),
        (lambda: oc.serve(here, "grpc+tls://127.0.0.1:0"), ValueError, "needs tls="),
        (lambda: pickle.dumps(server), TypeError, "send the URLs"),
    ):
        with pytest.raises(error, match=text):
            call()


def test_errors_show_no_ticket(there):
    for url in ("http://a:1/secret", "grpc://127.0.0.1:1/secret"):
        with pytest.raises((ValueError, ConnectionError)) as caught:
            oc.fetch(url, pool=there)
        assert "secret" not in str(caught.value)


# ------------------------------------------------------------------------------- errors at a client


def test_a_full_pool_keeps_nothing(server):
    url = server.ticket(np.ones(4_000_000))
    with oc.Pool.create(size="8MiB") as small:
        with pytest.raises(oc.PoolFull):
            oc.fetch(url, pool=small)
        gc.collect()
        assert children.used(small) == 0
    with oc.Pool.create(size="8MiB") as small:
        with pytest.raises(oc.PoolFull):
            oc.fetch(server.ticket(pa.table({"x": np.ones(2_000_000)})), pool=small)
        gc.collect()
        assert children.used(small) == 0


def test_no_server(there):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        with pytest.raises(ConnectionError, match="does not run"):
            oc.fetch(f"grpc://127.0.0.1:{taken.getsockname()[1]}/x", pool=there)


def test_a_server_that_says_nothing(there):
    with (
        socket.create_server(("127.0.0.1", 0)) as listening,
        pytest.raises(TimeoutError, match=r"not complete after 0\.2 s"),
    ):
        oc.fetch(f"grpc://127.0.0.1:{listening.getsockname()[1]}/x", pool=there, timeout=0.2)


def test_a_closed_server(here, there):
    server = oc.serve(here)
    url = server.ticket(np.ones(100_000))
    server.close()
    server.close()
    assert server.closed
    assert children.used(here) == 0
    with pytest.raises(ConnectionError, match="does not run"):
        oc.fetch(url, pool=there)
    for call in (lambda: server.ticket(b""), server.__enter__):
        with pytest.raises(oc.Closed):
            call()


def test_a_server_that_is_dropped_ends(here, there):
    server = oc.serve(here)
    url = server.ticket(np.ones(100_000))
    del server
    gc.collect()
    assert children.used(here) == 0
    with pytest.raises(ConnectionError):
        oc.fetch(url, pool=there)


def test_an_address_that_is_taken(server, here):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        with pytest.raises(OSError, match="no server can listen at"):
            oc.serve(here, f"grpc://127.0.0.1:{taken.getsockname()[1]}")


# ---------------------------------------------------------------------------------------------- TLS


@pytest.fixture
def safe(here, tls):
    with oc.serve(here, "grpc+tls://127.0.0.1:0", tls=tls) as server:
        yield server


def test_with_tls(safe, authority, there):
    url = safe.ticket(np.arange(1_000_000))
    assert url.startswith("grpc+tls://127.0.0.1:")
    assert oc.fetch(url, pool=there, tls=authority.sign("client")).get()[-1] == 999_999


def test_wrong_certificates(safe, authority, foreign, here, there, tls):
    url = safe.ticket(np.arange(1000))
    for wrong, why in (
        (foreign, "the certificate of the server is not accepted"),
        (
            dataclasses.replace(foreign, cafile=authority.cafile),
            "the certificate of this process",
        ),
        (
            dataclasses.replace(tls, server_hostname="elsewhere"),
            "it must have the name 'elsewhere'",
        ),
    ):
        with pytest.raises(ConnectionError, match=why):
            oc.fetch(url, pool=there, tls=wrong, timeout=children.LIMIT)
    assert oc.fetch(url, pool=there, tls=tls).get().sum() == 499_500


def test_a_client_and_a_server_of_which_one_has_tls(safe, server, there, tls):
    plain = safe.ticket(b"x").replace("grpc+tls", "grpc")
    with pytest.raises(ConnectionError):
        oc.fetch(plain, pool=there, timeout=children.LIMIT)
    url = server.ticket(b"x").replace("grpc", "grpc+tls")
    with pytest.raises(ConnectionError, match="does it use TLS"):
        oc.fetch(url, pool=there, tls=tls, timeout=children.LIMIT)
    assert oc.fetch(safe.ticket(b"x"), pool=there, tls=tls).get() == b"x"


def test_files_that_cannot_be_used(here, tls, tmp_path):
    wrong = dataclasses.replace(tls, keyfile=tmp_path / "none")
    with pytest.raises(ValueError, match="files for TLS cannot be used"):
        oc.serve(here, "grpc+tls://127.0.0.1:0", tls=wrong)
    with pytest.raises(ValueError, match="files for TLS cannot be used"):
        oc.fetch("grpc+tls://127.0.0.1:1/x", tls=wrong)


def test_a_server_without_tls_that_others_can_reach_warns(here, tls):
    with pytest.warns(oc.NotEncryptedWarning, match="can reach the server") as caught:
        server = oc.serve(here, "grpc://0.0.0.0:0")
    assert caught[0].filename == __file__
    assert socket.gethostname().lower() in server.ticket(b"x").lower()
    server.close()
    with oc.serve(here, "grpc+tls://0.0.0.0:0", tls=tls, url_host="data.example") as server:
        assert server.ticket(b"x").startswith("grpc+tls://data.example:")


# ---------------------------------------------------------------------------------- hostile servers


class Liar(flight.FlightServerBase):
    """Answers what a test wants."""

    def __init__(self, about, batches):
        super().__init__("grpc+tcp://127.0.0.1:0")
        self.about, self.batches = about, batches

    def do_action(self, context, action):
        return iter(
            [self.about if isinstance(self.about, bytes) else json.dumps(self.about).encode()]
        )

    def do_get(self, context, ticket):
        table = self.batches
        return flight.RecordBatchStream(table)


def octets(count):
    return pa.table(
        [pa.array(np.zeros(count, "u1"))],
        schema=pa.schema([pa.field("bytes", pa.uint8(), nullable=False)]),
    )


ARRAY = {"kind": "array", "dtype": "'<f8'", "shape": [10], "order": "C", "nbytes": 80}
TABLE = {"kind": "table", "nbytes": 100, "batches": 1}
BROKEN = pa.RecordBatch.from_arrays(
    [
        pa.Array.from_buffers(
            pa.string(),
            2,
            [None, pa.py_buffer(np.array([0, 1 << 20, 5], "i4")), pa.py_buffer(b"short")],
        )
    ],
    names=["x"],
)


@pytest.mark.parametrize(
    ("about", "batches"),
    [
        (b"no JSON", octets(80)),
        ([1], octets(80)),
        ({}, octets(80)),
        ({"kind": "pickle", "nbytes": 80}, octets(80)),
        (ARRAY, octets(79)),
        (ARRAY, octets(81)),
        (ARRAY, pa.table({"x": [1.5]})),
        (ARRAY, pa.table({"x": pa.array([1, None], pa.uint8())})),
        ({**ARRAY, "dtype": "'O'"}, octets(80)),
        ({**ARRAY, "dtype": "__import__('os')"}, octets(80)),
        ({**ARRAY, "dtype": "(" * 5000}, octets(80)),
        ({**ARRAY, "shape": [-1]}, octets(80)),
        ({**ARRAY, "shape": [1 << 40, 1 << 40]}, octets(80)),
        ({**ARRAY, "shape": [True] * 10}, octets(80)),
        ({**ARRAY, "nbytes": 1 << 60}, octets(80)),
        ({**ARRAY, "order": "X"}, octets(80)),
        ({**ARRAY, "shape": [1] * 100 + [10]}, octets(80)),
        (TABLE, octets(1_000_000)),
        (TABLE, pa.Table.from_batches([BROKEN])),
        ({**TABLE, "kind": "batch"}, octets(10).slice(0, 0)),
        (
            {"pool": {"id": "00", "path": "/x", "device": 1, "inode": 1, "identity": "zz"}},
            octets(1),
        ),
    ],
)
def test_an_answer_that_makes_no_sense_is_an_error_and_keeps_nothing(there, about, batches):
    server = Liar(about, batches)
    try:
        with pytest.raises((ConnectionError, oc.PoolFull)):
            oc.fetch(f"grpc://127.0.0.1:{server.port}/x", pool=there)
    finally:
        server.shutdown()
    gc.collect()
    assert children.used(there) == 0


def test_a_place_of_a_forged_pool_is_not_used(there):
    """Only the identity of the client's own pool leads to a place; then a forged block is stale."""
    from onecopy._codec.places import identity_of

    pool = {"id": there.id.hex(), "path": "/x", "device": 1, "inode": 1}
    server = Liar({**ARRAY, "pool": {**pool, "identity": "00" * 32}}, octets(80))
    try:
        assert not oc.fetch(f"grpc://127.0.0.1:{server.port}/x", pool=there).get().any()
        server.about = {
            "block": 77,
            "pool": {**pool, "identity": identity_of(there.member).hex()},
        }
        with pytest.raises(oc.StaleRef):
            oc.fetch(f"grpc://127.0.0.1:{server.port}/x", pool=there)
        server.about["block"] = "77"
        with pytest.raises(ConnectionError):
            oc.fetch(f"grpc://127.0.0.1:{server.port}/x", pool=there)
    finally:
        server.shutdown()


def test_any_client_of_arrow_flight_can_read_a_table(server):
    given = table()
    url = server.ticket(given)
    address, _, token = url.rpartition("/")
    with flight.FlightClient(address.replace("grpc://", "grpc+tcp://")) as client:
        # Not `read_all`: for it, pyarrow keeps two descriptors until the process ends.
        batches = [chunk.data for chunk in client.do_get(flight.Ticket(token.encode()))]
        assert pa.Table.from_batches(batches).equals(given)
        with pytest.raises((flight.FlightError, NotImplementedError)):
            list(client.do_action(flight.Action("another", b"")))
