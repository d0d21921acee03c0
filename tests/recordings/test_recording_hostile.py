"""A file of a stranger runs no code, and damage gives `BadFile`, never another error."""

import os
import pickle
import random
import struct
import zlib

import numpy as np
import pytest
from damage import damaged, is_refused
from seeds import SEED, more

import onecopy as oc
from onecopy.recordings import plain
from onecopy.recordings.dtypes import dtype_from

NOW = 1_800_000_000_000_000_000
FORGED = [
    (b"", "ends in the middle"),
    (b"\x9b" + b"\xff" * 8, "ends in the middle"),  # a list of 2**64 items
    (b"\xbb" + b"\xff" * 8, "ends in the middle"),
    (b"\x5b" + b"\xff" * 8, "ends in the middle"),
    (b"\x81" * 5000, "levels"),
    (b"\xc2" * 5000, "levels"),
    (b"\xd8\x20\x61a", "tag 32"),
    (b"\xc2\x01", "tag 2 has a int"),
    (b"\x9f\xff", "length is not given"),
    (b"\xf7", "simple value"),
    (b"\xa1\x80\x01", "does not exist"),  # a list is a key
    (b"\x61\xff", "utf-8"),
    (b"\x01\x01", "bytes follow"),
    (b"\xda\x6f\x63\x00\x0a\x83\x62|O\x81\x01\x48" + bytes(8), "not a plain dtype"),
    (b"\xda\x6f\x63\x00\x0a\x83\x63<f8\x81\x02\x48" + bytes(8), "need 16 bytes, not 8"),
    (b"\xda\x6f\x63\x00\x0a\x83\x63<f8\x81\x20\x48" + bytes(8), "its shape"),
    (b"\xda\x6f\x63\x00\x09\x61x", "not a decimal"),
]
BAD_DTYPES = [
    *("O", "|O8", "object", "<f8,<i4", "", "<f3", "a" * 50, "(100,)<f8", None, 5, {}, {"a": 1}),
    *([["a", "|O8"]], [["a"]], [[1, "<f8"]], ["<f8", [-1]], ["<f8", [1 << 40]], [["a", "<f8"]] * 2),
    *(["<f8", [1 << 30, 1 << 30]], [[["a", "b", "c"], "<f8"]], [["a", "<f8", "x"]]),
]


@pytest.mark.parametrize(("data", "said"), FORGED, ids=range(len(FORGED)))
def test_forged_values(data, said):
    with pytest.raises(ValueError, match=said):
        plain.load(memoryview(data))


@pytest.mark.parametrize("description", BAD_DTYPES, ids=str)
def test_forged_dtypes(description):
    with pytest.raises(ValueError, match=r"dtype|field|plain|size"):
        dtype_from(description)


def write(path, values, **options):
    with oc.RecordingWriter(path, **options) as writer:
        for number, value in enumerate(values):
            writer.write("a" if number % 2 else "b", value, NOW + number)


class Bomb:
    """Unpickling it leaves a directory."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.mkdir, (self.path,)


def test_a_pickle_of_a_stranger_does_not_run(tmp_path, pool):
    path, ran = tmp_path / "theirs.mcap", tmp_path / "ran"
    write(path, [Bomb(str(ran)), [1, Bomb(str(ran))]])
    with oc.open_recording(path) as recording:
        for number in range(2):
            with pytest.raises(oc.Untrusted, match="can run any code"):
                recording[number]
        with pytest.raises(oc.Untrusted):
            oc.replay(recording, pool)
        with pytest.raises(oc.Untrusted):
            pickle.loads(pickle.dumps(recording))[0]
        assert len(list(recording.times)) == len(recording.names) == 2
    assert not ran.exists()
    with oc.open_recording(path, trust=True) as recording:
        recording[0]
    assert ran.is_dir()  # so the test would have seen it


def test_an_encoding_that_only_looks_like_ours(tmp_path):
    """The channel says that it has arrays, and its schema is a pickle."""
    path = tmp_path / "theirs.mcap"
    write(path, [np.zeros(3, "u1")])
    data = path.read_bytes()
    schema = b'{"dtype": "|u1", "shape": [3]}'
    assert data.count(schema) == 2
    for forged in (b'{"dtype": "|O", "shape": [3]} ', b"[" * 30, b'{"dtype": "|u1", "shape": {} }'):
        (tmp_path / "forged.mcap").write_bytes(data.replace(schema, forged)[:-30])
        with oc.open_recording(tmp_path / "forged.mcap") as recording:
            assert recording.channels["b"].dtype is None
            with pytest.raises(oc.BadFile, match=r"message 0 of 'b' in .* is damaged"):
                recording[0]


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (b"", "is not a recording"),
        (b"\x89PNG\r\n", "is not a recording"),
        (b"x" * 5000, "is not a recording"),
    ],
)
def test_what_is_not_a_recording(tmp_path, data, said):
    (tmp_path / "file").write_bytes(data)
    with pytest.raises(oc.BadFile, match=said):
        oc.open_recording(tmp_path / "file")


def test_what_is_not_a_file(tmp_path):
    with pytest.raises(FileNotFoundError):
        oc.open_recording(tmp_path / "none")
    with pytest.raises(IsADirectoryError):
        oc.open_recording(tmp_path)


def test_a_damaged_message_is_found_by_its_checksum(tmp_path):
    path = tmp_path / "run.mcap"
    write(path, [np.full(1000, n, "u1") for n in range(20)], chunk_bytes=3000)
    data = bytearray(path.read_bytes())
    data[data.index(bytes([7]) * 1000) + 500] ^= 1
    path.write_bytes(data)
    with oc.open_recording(path) as recording:
        assert recording[0][0] == 0
        assert recording[19][0] == 19
        with pytest.raises(oc.BadFile, match="checksum is wrong"):
            recording[7]


def test_a_decompressed_chunk_is_not_larger_than_it_says(tmp_path):
    """A small chunk that unpacks to gigabytes is refused before it is unpacked."""
    for compression in ("zstd", "lz4"):
        path = tmp_path / f"{compression}.mcap"
        write(path, [np.zeros(50_000_000, "u1")], compression=compression)
        data = path.read_bytes()
        at = data.index(struct.pack("<Q", 50_000_000 + 9 + 22))
        forged = data[:at] + struct.pack("<Q", 1000) + data[at + 8 :]
        path.write_bytes(forged)
        with (
            oc.open_recording(path) as recording,
            pytest.raises(oc.BadFile, match=r"cannot be unpacked|checksum"),
        ):
            recording[0]


@pytest.mark.seeded
@pytest.mark.parametrize("compression", ["none", "zstd"])
def test_damage_anywhere(tmp_path, compression):
    """Each changed byte: equal messages, or `BadFile`. Nothing else, and no endless loop."""
    dice = random.Random(SEED)  # noqa: S311
    path = tmp_path / "run.mcap"
    values = [np.arange(20, dtype="u2"), {"a": [1, np.arange(3)]}, (1, "x"), b"abc"] * 3
    write(path, values, chunk_bytes=200, compression=compression)
    whole = path.read_bytes()
    refused = 0
    for _ in range(more(300)):
        data = damaged(dice, whole)
        if dice.random() < 0.3:
            del data[dice.randrange(len(data)) :]
        path.write_bytes(data)
        refused += is_refused(path)
    assert refused > 50


def test_a_forged_index(tmp_path):
    """The index has no checksum: what it says is checked when a message is read."""
    path = tmp_path / "run.mcap"
    write(path, [[n] for n in range(6)])
    data = path.read_bytes()
    with oc.open_recording(path) as recording:
        chunk = recording._file.contents.chunks[0]
        places = recording._entries["at"].tolist()
    start = chunk.at + chunk.length
    for place, other in ((places[2], places[3]), (places[2], places[2] + 1), (places[2], 1 << 60)):
        at = data.index(struct.pack("<QQ", NOW + 2, place), start) + 8
        path.write_bytes(data[:at] + struct.pack("<Q", other) + data[at + 8 :])
        with (
            oc.open_recording(path) as recording,
            pytest.raises(oc.BadFile, match="its index says"),
        ):
            list(recording)


def test_the_checksum_of_the_summary(tmp_path):
    """A summary that is damaged is not used: the file is read from record to record."""
    path = tmp_path / "run.mcap"
    write(path, [[n] for n in range(6)])
    data = path.read_bytes()
    (crc,) = struct.unpack("<I", data[-12:-8])
    start = struct.unpack("<Q", data[-28:-20])[0]
    assert zlib.crc32(data[start:-12]) == crc
    path.write_bytes(data[:start] + bytes([data[start] ^ 1]) + data[start + 1 :])
    with oc.open_recording(path) as recording:
        assert not recording.complete
        assert list(recording) == [[n] for n in range(6)]
