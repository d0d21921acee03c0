"""What is written to a recording comes back equal, with its time; other programs can read it."""

import array
import datetime as dt
import decimal
import importlib.util
import io
import json
import math
import os
import pickle
import subprocess
import sys
import threading
import uuid
from collections import OrderedDict
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from children import METHODS, start
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst
from mcap.reader import make_reader
from mcap.stream_reader import StreamReader

import onecopy as oc
from onecopy.recordings import plain

NOW = 1_800_000_000_000_000_000
WEST = dt.timezone(-dt.timedelta(hours=5, minutes=30))
PLAIN = [
    *(
        None,
        True,
        False,
        0,
        23,
        24,
        -1,
        -24,
        -25,
        255,
        256,
        1 << 63,
        -(1 << 64),
        1 << 64,
        -(2**200),
    ),
    *(0.0, -0.0, 1.5, math.inf, -math.inf, 1e300, 1 + 2j, "", "é日\0", b"", b"\0\xff"),
    *(bytearray(b"ab"), [], [1, [2, [3]]], (), (1, (2,)), {}, {1: 2, "a": [3], (1, 2): None}),
    *(set(), {1, "a"}, frozenset({(1, 2)}), decimal.Decimal("1.50"), uuid.UUID(int=7)),
    *(dt.date(2026, 2, 3), dt.time(1, 2, 3, 4), dt.timedelta(-1, 2, 3)),
    *(dt.datetime(2026, 2, 3, 4, 5, 6, 7), dt.datetime(2026, 2, 3, tzinfo=WEST)),  # noqa: DTZ001
    *(
        np.float32(1.5),
        np.int8(-3),
        np.bool_(1),
        np.complex128(1j),
        np.str_("ab"),
        np.bytes_(b"ab"),
    ),
    *(np.datetime64("2026-01-02T03"), np.timedelta64(5, "ms"), np.datetime64("NaT")),
]
RECORDS = np.dtype([("id", "<i4"), ("at", "<f8", (2, 3)), ("name", "S4"), ("in", [("x", ">u2")])])
ARRAYS = [
    np.arange(24, dtype="u1").reshape(2, 3, 4),
    np.arange(24, dtype=">i4").reshape(4, 6)[::2, ::-1],
    np.asfortranarray(np.arange(6.0).reshape(2, 3)),
    *(np.array(5), np.zeros((0, 3)), np.zeros(0, "M8[ns]"), np.array([True, False])),
    *(np.array(["ab", "c"]), np.array([b"ab", b"c"]), np.zeros(3, "c16"), np.zeros(2, "f2")),
    *(np.zeros(3, RECORDS), np.zeros(2, np.dtype([("a", "u1"), ("b", "f8")], align=True))),
    *(np.array(["2026-01-02", "NaT"], "M8[D]"), np.arange(3, dtype="m8[ms]"), np.zeros(2, "V5")),
]


def same(left, right):
    """Tell whether two values are equal, of the same types at all levels; NaN equals NaN."""
    if type(left) is not type(right):
        return False
    if isinstance(left, np.ndarray):
        return (
            left.dtype == right.dtype
            and left.shape == right.shape
            and left.tobytes() == right.tobytes()
        )
    if isinstance(left, np.generic):
        return left.dtype == right.dtype and left.tobytes() == right.tobytes()
    if isinstance(left, dict):
        return same(list(left.items()), list(right.items()))
    if isinstance(left, list | tuple):
        return len(left) == len(right) and all(map(same, left, right))
    if isinstance(left, float):
        return left.hex() == right.hex()
    return left == right


def write(path, values, **options):
    with oc.RecordingWriter(path, **options) as writer:
        for number, value in enumerate(values):
            assert writer.write("values", value, NOW + number * 1000)
    return path


@pytest.mark.parametrize("compression", ["none", "lz4", "zstd"])
@pytest.mark.parametrize("chunk_bytes", [1, 200, 1 << 20])
def test_values_and_times_come_back(tmp_path, compression, chunk_bytes):
    values = PLAIN + ARRAYS + [{"deep": [ARRAYS[0], (ARRAYS[11],)]}]
    path = write(tmp_path / "all.mcap", values, compression=compression, chunk_bytes=chunk_bytes)
    with oc.open_recording(path) as recording:
        assert recording.complete
        assert len(recording) == len(values)
        for found, value in zip(recording, values, strict=True):
            assert same(found, value), (found, value)
        assert recording.times.tolist() == [NOW + 1000 * n for n in range(len(values))]
        assert recording.names == ["values"] * len(values)
        channel = recording.channels["values"]
        assert channel.messages == len(values)
        assert set(channel.encodings) == {"onecopy.ndarray", "cbor"}


def test_arrays_are_private_and_writable(tmp_path):
    path = write(tmp_path / "arrays.mcap", [ARRAYS[0], [ARRAYS[0]]])
    with oc.open_recording(path) as recording:
        for found in (recording[0], recording[1][0]):
            found[:] = 0
        assert same(recording[0], ARRAYS[0])
        assert same(recording[1][0], ARRAYS[0])


def test_arrays_of_a_pool_and_of_files_are_recorded_by_value(tmp_path, pool):
    np.save(tmp_path / "kept.npy", ARRAYS[0])
    mapped = oc.open_array(tmp_path / "kept.npy")
    theirs = [pool.full((2, 3), 7, "u1"), pool.shared_array(4, "i2"), mapped]
    wanted = [np.array(each, subok=False) for each in theirs]
    # A fraction has no plain form. So the last message is a pickle; it needs no pool either.
    path = write(tmp_path / "arrays.mcap", [*theirs, theirs, [*theirs, Fraction(1, 3)]])
    del theirs, mapped
    with oc.open_recording(path, trust=True) as recording:
        assert same(list(recording[:3]), wanted)
        assert same(recording[3], wanted)
        assert same(recording[4][:3], wanted)


def test_shapes_are_in_the_schema(tmp_path):
    path = write(tmp_path / "one.mcap", [np.zeros((4, 5), "u1")] * 3)
    with oc.open_recording(path) as recording:
        channel = recording.channels["values"]
        assert (channel.dtype, channel.shape) == (np.dtype("u1"), (4, 5))
    path = write(tmp_path / "two.mcap", [np.zeros((4, 5), "u1"), np.zeros((4, 6), "u1")])
    with oc.open_recording(path) as recording:
        channel = recording.channels["values"]
        assert (channel.dtype, channel.shape) == (np.dtype("u1"), None)


def test_many_shapes_do_not_use_up_the_channels(tmp_path):
    values = [np.full(n, n, "u1") for n in range(200)]
    path = write(tmp_path / "shapes.mcap", values)
    with oc.open_recording(path) as recording:
        assert same(list(recording), values)
        assert len(recording._file.contents.channels) == 65


values_of_any_kind = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=True)
    | st.complex_numbers(allow_nan=False)
    | st.text(st.characters(exclude_categories=["Cs"]))
    | st.binary()
    | st.dates()
    | st.times().map(lambda time: time.replace(fold=0))
    | st.datetimes().map(lambda time: time.replace(fold=0))
    | st.timedeltas()
    | st.uuids()
    | st.decimals(allow_nan=False)
    | npst.arrays(
        npst.scalar_dtypes() | npst.byte_string_dtypes() | npst.unicode_string_dtypes(),
        npst.array_shapes(min_dims=0, max_dims=3, min_side=0, max_side=3),
    ),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.lists(inner, max_size=4).map(tuple)
        | st.dictionaries(st.integers() | st.text(st.characters(exclude_categories=["Cs"])), inner)
    ),
    max_leaves=10,
)


@given(values_of_any_kind)
def test_the_plain_codec(value):
    data = b"".join(plain.dump(value))
    assert same(plain.load(memoryview(data)), value)


def test_nested_values(tmp_path):
    """Up to 50 levels are plain. More are pickled, and cycles too."""
    for kind in (lambda inner: [inner], lambda inner: (inner,), lambda inner: {1: inner}):
        value = 1
        for _ in range(49):
            value = kind(value)
        assert same(plain.load(memoryview(b"".join(plain.dump(value)))), value)
        with pytest.raises(plain.NotPlain):
            plain.dump(kind(kind(value)))
    cycle = []
    cycle.append(cycle)
    path = write(tmp_path / "cycle.mcap", [cycle])
    with oc.open_recording(path, trust=True) as recording:
        found = recording[0]
        assert found[0] is found


class Thing:
    """Of a class that only pickle knows."""

    def __init__(self, name):
        self.name = name

    def __repr__(self):
        return f"Thing({self.name!r})"


@pytest.mark.parametrize(
    "value",
    [
        Thing("a"),
        OrderedDict(a=1),
        {"a": Fraction(1, 3)},
        np.array([None, 1]),
        np.ma.masked_array([1, 2], [True, False]),
        "\ud800",
        array.array("i", [1]),
        dt.datetime(2026, 10, 25, 2, 30, fold=1),  # noqa: DTZ001
    ],
    ids=lambda value: type(value).__name__,
)
def test_other_values_are_pickles_that_need_trust(tmp_path, value):
    path = write(tmp_path / "pickles.mcap", [1, value, [2]])
    with oc.open_recording(path) as recording:
        assert (recording[0], recording[2]) == (1, [2])
        assert set(recording.channels["values"].encodings) == {"cbor", "pickle"}
        with pytest.raises(oc.Untrusted, match=r"message 1 of 'values' in .*trust=True"):
            recording[1]
    with oc.open_recording(path, trust=True) as recording:
        found = recording[1]
        assert (type(found), repr(found)) == (type(value), repr(value))


def test_a_pickle_that_cannot_be_loaded_here(tmp_path, monkeypatch):
    path = write(tmp_path / "pickles.mcap", [Thing("a")])
    monkeypatch.delattr(sys.modules[__name__], "Thing")
    with (
        oc.open_recording(path, trust=True) as recording,
        pytest.raises(oc.NotRebuilt, match="cannot be unpickled here"),
    ):
        recording[0]


@pytest.mark.parametrize("kind", ["queue", "stream", "lock", "list"])
def test_what_means_nothing_without_its_pool_is_refused(tmp_path, pool, kind):
    thing = getattr(pool, kind)()
    with oc.RecordingWriter(tmp_path / "refused.mcap") as writer:
        writer.write("values", 1)
        with pytest.raises(oc.OneCopyError, match="nothing without its pool"):
            writer.write("values", {"thing": thing, "ref": 1})
        with pytest.raises(oc.OneCopyError, match="Ref, which means nothing"):
            writer.write("values", [pool.put([1])])
        writer.write("values", 2)
    with oc.open_recording(tmp_path / "refused.mcap") as recording:
        assert list(recording) == [1, 2]


# ----------------------------------------------------------------------------- the reader of others


@pytest.mark.parametrize("compression", ["none", "lz4", "zstd"])
def test_the_reader_of_mcap_reads_it(tmp_path, compression):
    """With its checksums, by the index and from the beginning to the end."""
    path = tmp_path / "run.mcap"
    with oc.RecordingWriter(path, compression=compression, chunk_bytes=5000) as writer:
        for number in range(100):
            writer.write("camera", np.full((20, 30), number, "u1"), NOW + number)
            writer.write("boxes", {"id": number}, NOW + number)
        writer.note_missed("camera", 3)
    data = path.read_bytes()
    reader = make_reader(io.BytesIO(data), validate_crcs=True)
    for topic in ("camera", "boxes"):
        found = list(reader.iter_messages(topics=[topic]))
        assert [message.log_time for _, _, message in found] == [NOW + n for n in range(100)]
        assert [message.sequence for _, _, message in found] == list(range(100))
    schema, channel, message = next(reader.iter_messages(topics=["camera"]))
    assert json.loads(schema.data) == {"dtype": "|u1", "shape": [20, 30]}
    assert (channel.message_encoding, len(message.data)) == ("onecopy.ndarray", 600)
    statistics = reader.get_summary().statistics
    assert (statistics.message_count, statistics.channel_count) == (200, 2)
    assert statistics.chunk_count == len(reader.get_summary().chunk_indexes) > 10
    assert [each.metadata for each in reader.iter_metadata()] == [
        {"messages/camera": "100", "messages/boxes": "100", "missed/camera": "3"}
    ]
    stream = StreamReader(io.BytesIO(data), validate_crcs=True)
    assert sum(type(record).__name__ == "Message" for record in stream.records) == 200


def test_files_of_the_writer_of_mcap_are_read(tmp_path):
    """It writes channels inside of chunks; other encodings are named, and not guessed."""
    from mcap.writer import Writer

    path = tmp_path / "theirs.mcap"
    with path.open("wb") as file:
        writer = Writer(file, chunk_size=100)
        writer.start()
        ours = writer.register_channel("numbers", "cbor", 0)
        for number in range(50):
            writer.add_message(ours, NOW + number, b"".join(plain.dump(number)), NOW)
        theirs = writer.register_channel("text", "json", 0)
        writer.add_message(theirs, NOW + 50, b"{}", NOW)
        writer.finish()
    whole = path.read_bytes()
    with oc.open_recording(path) as recording:
        assert list(recording.channel("numbers")) == list(range(50))
        with pytest.raises(oc.BadFile, match="encoding 'json'"):
            recording[50]
    (tmp_path / "cut.mcap").write_bytes(whole[: len(whole) // 3])
    with oc.open_recording(tmp_path / "cut.mcap") as recording:
        assert not recording.complete
        assert 0 < len(recording) < 50
        assert list(recording) == list(range(len(recording)))


# --------------------------------------------------------------------------------------- a sequence


@pytest.fixture
def numbers(tmp_path):
    """A recording of 100 numbers in two channels, in many chunks; `odd` is written later."""
    path = tmp_path / "numbers.mcap"
    with oc.RecordingWriter(path, chunk_bytes=100) as writer:
        for number in [*range(0, 100, 2), *range(1, 100, 2)]:
            writer.write("odd" if number % 2 else "even", number, NOW + number)
    with oc.open_recording(path) as recording:
        yield recording


def test_messages_are_in_the_order_of_their_times(numbers):
    assert list(numbers) == list(range(100))
    assert numbers.names == ["even", "odd"] * 50


@pytest.mark.parametrize(
    "which",
    [slice(10), slice(-10, None), slice(20, 10), slice(None, None, -1), slice(90, 10, -7)],
)
def test_slices(numbers, which):
    some = numbers[which]
    assert isinstance(some, oc.Recording)
    assert list(some) == list(range(100)[which])
    assert (some.times - NOW).tolist() == list(range(100)[which])
    assert list(some[1:][::2]) == list(range(100)[which][1:][::2])
    assert [each.value for each in some.messages()] == list(some)


def test_channels(numbers):
    odd = numbers.channel("odd")
    assert list(odd) == list(range(1, 100, 2))
    assert odd[3:5].message(-1) == (NOW + 9, "odd", 9)
    assert {name: each.messages for name, each in odd.channels.items()} == {"even": 0, "odd": 50}
    assert {each.missed for each in odd.channels.values()} == {None}
    with pytest.raises(KeyError, match="no channel 'x'; it has: 'even', 'odd'"):
        numbers.channel("x")


def test_indices(numbers):
    assert (numbers[-1], numbers[np.int64(3)]) == (99, 3)
    for wrong in (100, -101):
        with pytest.raises(IndexError, match="100 messages"):
            numbers[wrong]
    with pytest.raises(TypeError, match=r"recording\.channel\('odd'\)"):
        numbers["odd"]
    with pytest.raises(ValueError, match="read-only"):
        numbers.times[0] = 1


def test_closing(numbers, tmp_path):
    some, repeated = numbers[:3], pickle.loads(pickle.dumps(numbers))
    numbers.close()
    numbers.close()
    assert some.closed
    assert "closed" in repr(some)
    for use in (lambda: some[0], lambda: numbers.channel("odd"), lambda: list(some)):
        with pytest.raises(oc.Closed, match="was closed here"):
            use()
    assert repeated[5] == 5


def test_a_pickled_recording_opens_the_file_again(numbers):
    some = numbers.channel("odd")[10:0:-2]
    again = pickle.loads(pickle.dumps(some))
    assert list(again) == list(some)
    assert again.times.tolist() == some.times.tolist()


def test_a_pickled_recording_of_a_replaced_file(numbers, tmp_path):
    data = pickle.dumps(numbers)
    write(numbers.path, range(5), overwrite=True)
    assert numbers[7] == 7  # the old file, which is still open
    with pytest.raises(oc.BadFile, match="replaced"):
        pickle.loads(data)


def test_a_recording_in_progress_grows_but_not_for_those_that_have_it(tmp_path):
    path = tmp_path / "growing.mcap"
    writer = oc.RecordingWriter(path, chunk_bytes=1)
    for number in range(10):
        writer.write("n", number, NOW - number)  # later messages come first
    with oc.open_recording(path) as recording:
        data = pickle.dumps(recording[2:4])
        for number in range(10, 20):
            writer.write("n", number, NOW - number)
        assert list(recording) == list(range(10))[::-1]
        with oc.open_recording(path) as later:
            assert len(later) == 20
        with pickle.loads(data) as again:
            assert list(again) == [7, 6]
        writer.close()
        with pickle.loads(data) as again:
            assert list(again) == [7, 6]


def read_in_child(recording, part, path):
    Path(path).write_text(repr([recording[n] for n in part]), encoding="utf-8")


@pytest.mark.parametrize("method", METHODS)
def test_several_processes_read_it(numbers, tmp_path, method):
    parts = [range(0, 100, 3), range(1, 100, 3)]
    children = []
    for number, part in enumerate(parts):
        children.append(start(method, read_in_child, numbers, part, str(tmp_path / f"{number}")))
    assert [child.wait() for child in children] == [0, 0]
    for child in children:
        child.end()
    for number, part in enumerate(parts):
        assert (tmp_path / f"{number}").read_text(encoding="utf-8") == repr(list(part))


def test_threads_read_it(numbers):
    found = [[] for _ in range(4)]

    def read(number):
        found[number] += [numbers[n] for n in range(number, 100, 4)]

    threads = [threading.Thread(target=read, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == [list(range(number, 100, 4)) for number in range(4)]


def test_reading_reads_only_one_chunk(tmp_path, monkeypatch):
    path = write(tmp_path / "large.mcap", [np.full(100_000, n, "u1") for n in range(50)])
    read = []
    with oc.open_recording(path) as recording:
        pread = os.pread
        monkeypatch.setattr(os, "pread", lambda *a: read.append(a[1]) or pread(*a))
        assert recording[30][0] == 30
        assert sum(read) < 1_300_000


def test_torch_takes_it_as_a_dataset(tmp_path):
    if importlib.util.find_spec("torch") is None:
        pytest.skip("torch is not installed")
    path = write(tmp_path / "data.mcap", [np.full((2, 3), n, "f4") for n in range(20)])
    program = (
        "import sys, onecopy as oc\n"
        f"recording = oc.open_recording({str(path)!r})\n"
        "assert recording[3][0, 0] == 3 and 'torch' not in sys.modules\n"
        "from torch.utils.data import DataLoader\n"  # it leaves a signal handler
        "for workers in (0, 2):\n"
        "    loader = DataLoader(recording, batch_size=5, num_workers=workers)\n"
        "    print([batch[:, 0, 0].tolist() for batch in loader])\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    batches = [[5.0 * batch + n for n in range(5)] for batch in range(4)]
    assert done.stdout == f"{batches}\n{batches}\n"


# ------------------------------------------------------------------------------- files and the rest


def test_a_file_is_not_overwritten_unless_asked(tmp_path):
    path = write(tmp_path / "run.mcap", [1])
    with pytest.raises(FileExistsError, match="not overwritten"):
        oc.RecordingWriter(path)
    write(path, [2], overwrite=True)
    with oc.open_recording(path) as recording:
        assert list(recording) == [2]


def test_an_empty_recording(tmp_path):
    path = write(tmp_path / "empty.mcap", [])
    with oc.open_recording(path) as recording:
        assert (len(recording), list(recording), recording.channels) == (0, [], {})
        assert recording.complete
        assert list(recording[1:]) == []
    with path.open("rb") as file:
        assert list(make_reader(file).iter_messages()) == []


@pytest.mark.parametrize(
    "options",
    [{"compression": "gzip"}, {"chunk_bytes": 0}, {"flush_seconds": -1}, {"max_bytes": 100}],
)
def test_wrong_options_make_no_file(tmp_path, options):
    with pytest.raises(ValueError, match=next(iter(options))):
        oc.RecordingWriter(tmp_path / "none.mcap", **options)
    assert list(tmp_path.iterdir()) == []


def test_after_closing_the_writer(tmp_path):
    writer = oc.RecordingWriter(tmp_path / "run.mcap")
    assert not writer.closed
    writer.write("a", 1)
    writer.close()
    writer.close()
    assert (writer.closed, writer.counts) == (True, {"a": 1})
    writer.flush_due()
    for use in (lambda: writer.write("a", 1), writer.flush):
        with pytest.raises(oc.Closed, match=r"recording .* was closed"):
            use()


@pytest.mark.parametrize("compression", ["none", "lz4", "zstd"])
@pytest.mark.parametrize("most", [1500, 5000, 20_000, 21_111])
@pytest.mark.parametrize("size", [1, 300, 4000])
def test_max_bytes(tmp_path, compression, most, size):
    """The file with its index is not larger, and has about as much as it can have."""
    path = tmp_path / "small.mcap"
    noise = np.random.default_rng(7)
    written = 0
    with oc.RecordingWriter(
        path, max_bytes=most, chunk_bytes=1000, compression=compression
    ) as writer:
        while writer.write(f"s{written % 3}", noise.bytes(size)):
            written += 1
        assert not writer.write("s0", noise.bytes(size))
    assert path.stat().st_size <= most
    with oc.open_recording(path) as recording:
        assert len(recording) == written
    if compression == "none" and written > 3:
        per_message = 150 + size if size > 900 else 60 + size
        assert path.stat().st_size > most - 3 * per_message - 1500


def test_mcap_is_not_installed(tmp_path):
    program = (
        "import sys; sys.modules['mcap'] = None\n"
        "import onecopy as oc\n"
        "for use in (oc.open_recording, oc.RecordingWriter):\n"
        f"    try: use({str(tmp_path / 'a.mcap')!r})\n"
        "    except ImportError as error: print(error)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    line = "recordings need the package mcap, which is not installed: pip install 'onecopy[record]'"
    assert done.stdout == f"{line}\n{line}\n"
