"""Pictures in a recording as PNG or JPEG: what is read, recorded and published again."""

import dataclasses
import gc
import io
import json
import os
import pickle
import signal
import subprocess
import sys
import threading
from fractions import Fraction

import numpy as np
import pytest
from children import LIMIT, eventually
from mcap.reader import make_reader

import onecopy as oc
from onecopy.recordings import pictures, plain

Image = pytest.importorskip("PIL.Image")

NOW = 1_800_000_000_000_000_000
NOISE = np.random.default_rng(3)
SHAPES = [(1, 1), (1, 7), (7, 1), (5, 8), (33, 64)]


def noise(shape, dtype="u1"):
    kind = np.dtype(dtype)
    found = NOISE.integers(0, np.iinfo(kind).max, shape, kind.newbyteorder("="), endpoint=True)
    return found.astype(kind)


def smooth(shape):
    """A picture that JPEG can keep well."""
    rows, columns = np.mgrid[: shape[0], : shape[1]]
    grey = 40 + rows + columns
    if len(shape) == 2:
        return grey.astype("u1")
    return np.stack([grey, 200 - grey, grey // 2], axis=-1).astype("u1")


PNG_PICTURES = [
    *(noise(shape) for shape in SHAPES),
    *(noise((*shape, channels)) for shape in SHAPES for channels in (3, 4)),
    *(noise(shape, dtype) for shape in SHAPES for dtype in ("<u2", ">u2")),
    np.zeros((40, 30, 4), "u1"),  # transparent
    np.concatenate([noise((9, 9, 3)), np.zeros((9, 9, 1), "u1")], axis=-1),  # and not black
    noise((20, 30, 3))[::-2, ::3, ::-1],
    noise((20, 30, 3)).transpose(1, 0, 2),
    noise((20, 30), "u2")[3:, 1::2],
    np.asfortranarray(noise((20, 30))),
    np.broadcast_to(noise((1, 30)), (20, 30)),
]
NO_PICTURES = [
    *(np.zeros(shape, "u1") for shape in ((0, 5), (5, 0), (0, 0, 3), (5, 5, 0), (5,), ())),
    *(noise((5, 6, channels)) for channels in (1, 2, 5)),
    *(noise((2, 5, 6, 3)), noise((5, 6, 3), "u2"), noise((5, 6), "u4")),
    *(noise((5, 6)).astype(dtype) for dtype in ("i1", "?", "f4", "S2", "i2")),
    np.zeros((5, 6), [("a", "u1")]),
]


@dataclasses.dataclass
class Seen:
    """A message that is pickled."""

    name: str
    picture: np.ndarray
    others: list


def equal(found, wanted):
    assert type(found) is np.ndarray
    assert (found.dtype, found.shape) == (wanted.dtype, wanted.shape)
    assert found.tobytes() == wanted.tobytes()


def write(path, values, **options):
    with oc.RecordingWriter(path, **options) as writer:
        for number, value in enumerate(values):
            assert writer.write("values", value, NOW + number)
    return path


def encodings(path):
    with oc.open_recording(path) as recording:
        return set(recording.channels["values"].encodings)


# ------------------------------------------------------------------------------------ what is read


@pytest.mark.parametrize("compression", ["none", "zstd"])
def test_png_keeps_every_element(tmp_path, compression):
    path = write(tmp_path / "a.mcap", PNG_PICTURES, encode="png", compression=compression)
    with oc.open_recording(path) as recording:
        for found, wanted in zip(recording, PNG_PICTURES, strict=True):
            equal(found, wanted)
            found[...] = 0  # it is private and writable
        equal(recording[0], PNG_PICTURES[0])
        assert recording.channels["values"].encodings == ("onecopy.png",)


@pytest.mark.parametrize("shape", [(48, 64), (48, 64, 3), (1, 1), (7, 3, 3)], ids=str)
def test_jpeg_is_close(tmp_path, shape):
    picture = smooth(shape)
    sizes = []
    for quality in (None, 90, 20):
        options = {} if quality is None else {"quality": quality}
        path = write(tmp_path / f"{quality}.mcap", [picture], encode="jpeg", **options)
        sizes.append(path.stat().st_size)
        with oc.open_recording(path) as recording:
            found = recording[0]
            channel = recording.channels["values"]
            assert (channel.dtype, channel.shape) == (picture.dtype, picture.shape)
            assert channel.encodings == ("onecopy.jpeg",)
        assert (found.dtype, found.shape) == (picture.dtype, picture.shape)
        assert found.flags.writeable
        if quality != 20:
            assert np.abs(found.astype(int) - picture).max() <= 12
    assert sizes[0] == sizes[1] >= sizes[2]


def test_the_first_channel_is_red(tmp_path):
    """For other programs: what is in the message is a file of the usual format."""
    picture = np.zeros((16, 16, 3), "u1")
    picture[..., 0] = 255
    for encode in ("png", "jpeg"):
        path = write(tmp_path / f"{encode}.mcap", [picture], encode=encode)
        with path.open("rb") as file:
            ((schema, channel, message),) = make_reader(file).iter_messages()
        assert json.loads(schema.data) == {"dtype": "|u1", "shape": [16, 16, 3]}
        assert channel.message_encoding == schema.encoding == f"onecopy.{encode}"
        with Image.open(io.BytesIO(message.data)) as opened:
            assert opened.format == encode.upper()
            red, green, blue = opened.getpixel((5, 5))
        assert (red > 250, green < 5, blue < 5) == (True, True, True)
        with oc.open_recording(path) as recording:
            assert recording[0][5, 5, 0] > 250


@pytest.mark.parametrize("encode", ["png", "jpeg"])
def test_other_arrays_are_written_as_arrays(tmp_path, encode):
    others = list(NO_PICTURES)
    if encode == "jpeg":
        others += [noise((5, 6), "u2"), noise((5, 6, 4)), noise((1, 65_501)), noise((65_501, 1))]
    path = write(tmp_path / "a.mcap", [*others, others, {"a": Fraction(1), "b": others}])
    encoded = write(tmp_path / "b.mcap", [*others, others, {"b": others}], encode=encode)
    with oc.open_recording(path) as plainly, oc.open_recording(encoded) as recording:
        assert encodings(encoded) == {"onecopy.ndarray", "cbor"}
        for number, wanted in enumerate(others):
            equal(recording[number], wanted)
            equal(recording[len(others)][number], wanted)
        assert [each.dtype for each in plainly[: len(others)]] == [each.dtype for each in others]


def test_pictures_inside_of_messages(tmp_path):
    first, second, depth = noise((8, 9, 3)), noise((8, 9)), noise((4, 4), "u2")
    values = [
        {"picture": first, "box": np.arange(4.0), "id": 7},
        (first, [second, {"deep": (depth,)}], "text"),
        [first, first, first[:, ::-1]],
        {"no": np.arange(3), "picture": 1},
    ]
    path = write(tmp_path / "a.mcap", values, encode="png")
    assert encodings(path) == {"onecopy.cbor+pictures", "cbor"}
    with oc.open_recording(path) as recording:
        found = list(recording)
    equal(found[0]["picture"], first)
    equal(found[0]["box"], np.arange(4.0))
    assert found[0]["id"] == 7
    equal(found[1][0], first)
    equal(found[1][1][0], second)
    equal(found[1][1][1]["deep"][0], depth)
    for each, wanted in zip(found[2], values[2], strict=True):
        equal(each, wanted)
        assert each.flags.writeable
    equal(found[3]["no"], np.arange(3))
    smaller = write(tmp_path / "b.mcap", [{"p": smooth((48, 64, 3))}] * 20, encode="jpeg")
    assert smaller.stat().st_size < 20 * 48 * 64 * 3 // 4


def test_pictures_of_dataclasses(tmp_path):
    picture = noise((8, 9, 3))
    values = [
        Seen("a", picture, [picture, np.arange(3.0)]),
        {"fraction": Fraction(1, 3), "picture": picture[::2], "first": picture},
        Fraction(1, 3),
    ]
    path = write(tmp_path / "a.mcap", values, encode="png")
    assert encodings(path) == {"onecopy.pickle+pictures", "pickle"}
    with oc.open_recording(path) as recording, pytest.raises(oc.Untrusted, match="is a pickle"):
        recording[0]
    with oc.open_recording(path, trust=True) as recording:
        first, second, third = recording
    equal(first.picture, picture)
    equal(first.others[1], np.arange(3.0))
    assert first.others[0] is first.picture
    assert first.picture.flags.writeable
    equal(second["picture"], picture[::2])
    equal(second["first"], picture)
    assert third == Fraction(1, 3)


def test_pictures_of_a_pool_and_frames(tmp_path, pool):
    frame = pool.frames("camera", (8, 9, 3), "u1", count=1).acquire()
    frame[...] = noise((8, 9, 3))
    wanted = np.array(frame, subok=False)
    values = [frame, {"frame": frame}, Seen("a", frame, [])]
    path = write(tmp_path / "a.mcap", values, encode="png")
    del frame, values
    with oc.open_recording(path, trust=True) as recording:
        assert set(recording.channels["values"].encodings) == {
            "onecopy.png",
            "onecopy.cbor+pictures",
            "onecopy.pickle+pictures",
        }
        equal(recording[0], wanted)
        equal(recording[1]["frame"], wanted)
        equal(recording[2].picture, wanted)


def test_pictures_of_many_shapes_do_not_use_up_the_channels(tmp_path):
    values = [noise((3, width + 1)) for width in range(100)]
    path = write(tmp_path / "a.mcap", values, encode="png")
    with oc.open_recording(path) as recording:
        for found, wanted in zip(recording, values, strict=True):
            equal(found, wanted)
        assert len(recording._file.contents.channels) == 65


def test_the_largest_picture_and_one_more(tmp_path, monkeypatch):
    """What a writer encodes, a reader takes: both count the pixels of a message."""
    monkeypatch.setattr(pictures, "MOST_PIXELS", 100)
    monkeypatch.setattr(plain, "MOST_PIXELS", 100)
    small, large = noise((5, 10)), noise((10, 11))
    values = [noise((10, 10)), large, [small, small], [small, small, small], [large, small]]
    values += [(Seen("a", small, [small[::-1], noise((5, 10)), large]))]
    path = write(tmp_path / "a.mcap", values, encode="png")
    with oc.open_recording(path, trust=True) as recording:
        kinds = [
            recording._file.contents.channels[number].message_encoding
            for number in recording._entries["channel"].tolist()
        ]
        assert kinds == [
            "onecopy.png",
            "onecopy.ndarray",
            *["onecopy.cbor+pictures"] * 3,
            "onecopy.pickle+pictures",
        ]
        equal(recording[1], large)
        for number in (2, 3, 4):
            for found, wanted in zip(recording[number], values[number], strict=True):
                equal(found, wanted)
        for found, wanted in zip(recording[5].others, values[5].others, strict=True):
            equal(found, wanted)


def test_replay_publishes_arrays(tmp_path, pool):
    values = [noise((8, 9, 3)), {"picture": noise((8, 9), "u2")}]
    path = write(tmp_path / "a.mcap", values, encode="png")
    subscription = pool.stream("values").subscribe()
    assert oc.replay(path, pool, speed=0) == 2
    found = list(subscription)
    assert found[0].tobytes() == values[0].tobytes()
    assert (found[1]["picture"].dtype, found[1]["picture"].shape) == (np.dtype("u2"), (8, 9))
    assert found[1]["picture"].tobytes() == values[1]["picture"].tobytes()


def test_pictures_are_pickled_with_a_recording(tmp_path):
    picture = noise((4, 5, 3))
    path = write(tmp_path / "a.mcap", [picture], encode="png")
    with oc.open_recording(path) as recording:
        equal(pickle.loads(pickle.dumps(recording))[0], picture)


def test_max_bytes_counts_what_is_written(tmp_path):
    """Small files of large pictures: many fit."""
    path = tmp_path / "a.mcap"
    written = 0
    with oc.RecordingWriter(path, encode="png", max_bytes=20_000, chunk_bytes=1000) as writer:
        while writer.write("values", np.full((100, 100, 3), written % 256, "u1")):
            written += 1
    assert path.stat().st_size <= 20_000
    with oc.open_recording(path) as recording:
        assert len(recording) == written > 20


# ------------------------------------------------------------------------------------- the recorder


def test_record_encodes_pictures(tmp_path, pool):
    stream = pool.stream("camera", depth=20)
    frames = [noise((8, 9, 3)) for _ in range(10)]
    for frame in frames:
        stream.publish(frame)
    stream.shutdown()
    report = oc.record(stream, tmp_path / "run.mcap", history=20, encode="png")
    assert (report.messages, report.missed, report.pickled) == ({"camera": 10}, {"camera": 0}, {})
    with oc.open_recording(tmp_path / "run.mcap") as recording:
        for found, wanted in zip(recording, frames, strict=True):
            equal(found, wanted)


def test_what_is_missed_while_a_picture_is_encoded(tmp_path, pool, monkeypatch):
    """A lossy stream does not wait, and what it missed is counted. The other stream is recorded."""
    taken, released = threading.Event(), threading.Event()
    encode = pictures.Pictures._file_of

    def wait(self, array):
        taken.set()
        assert released.wait(LIMIT)
        return encode(self, array)

    monkeypatch.setattr(pictures.Pictures, "_file_of", wait)
    camera, other = pool.stream("camera", depth=4), pool.stream("other", depth=4)
    reports = []
    path = tmp_path / "run.mcap"
    recorder = threading.Thread(
        target=lambda: reports.append(
            oc.record([camera, other], path, encode="png", flush_seconds=0.01)
        )
    )
    recorder.start()
    eventually(lambda: camera.subscribers and other.subscribers, "the recorder")
    frames = [noise((8, 9)) for _ in range(20)]
    camera.publish(frames[0])
    assert taken.wait(LIMIT)
    other.publish("not delayed")

    def has_it():
        with oc.open_recording(path) as recording:
            return list(recording) == ["not delayed"]

    eventually(has_it, "the message of the other stream")
    for frame in frames[1:]:
        camera.publish(frame)
    released.set()
    camera.shutdown()
    other.shutdown()
    recorder.join(LIMIT)
    (report,) = reports
    assert report.messages["camera"] + report.missed["camera"] == 20
    assert report.missed["camera"] >= 14
    assert report.messages["other"] == 1
    with oc.open_recording(path) as recording:
        found = recording.channel("camera")
        equal(found[0], frames[0])
        equal(found[-1], frames[-1])
        assert recording.names[0] == "camera"  # its time is when it came
        assert recording.complete


def test_a_picture_that_cannot_be_encoded_is_skipped(tmp_path, pool, monkeypatch):
    encode = pictures.Pictures._file_of

    def fail(self, array):
        if array.flat[0] == 3:
            raise OSError("encoder error")
        return encode(self, array)

    monkeypatch.setattr(pictures.Pictures, "_file_of", fail)
    stream = pool.stream("camera", depth=20)
    for number in range(6):
        stream.publish(np.full((4, 5), number, "u1"))
    stream.shutdown()
    report = oc.record(stream, tmp_path / "run.mcap", history=20, encode="png")
    assert (report.messages, report.skipped) == ({"camera": 5}, {"camera": 1})
    assert "encoder error" in report.problem
    with oc.open_recording(tmp_path / "run.mcap") as recording:
        assert [int(each[0, 0]) for each in recording] == [0, 1, 2, 4, 5]


def test_a_frame_that_cannot_be_encoded_becomes_free(tmp_path, pool, monkeypatch):
    """At once, and not only when the collector of garbage runs."""

    def fail(*_):
        raise OSError("encoder error")

    monkeypatch.setattr(pictures.Pictures, "_file_of", fail)
    stream = pool.stream("camera", depth=1, policy="lossless")
    frames = pool.frames("f", (4, 5), "u1", count=1)
    reports = []
    recorder = threading.Thread(
        target=lambda: reports.append(oc.record(stream, tmp_path / "run.mcap", encode="png"))
    )
    recorder.start()
    eventually(lambda: stream.subscribers, "the recorder")
    gc.disable()
    try:
        frame = frames.acquire(timeout=LIMIT)
        stream.publish(frame)
        del frame
        stream.publish(1)  # the stream keeps one message
        frames.acquire(timeout=LIMIT)
    finally:
        gc.enable()
        stream.shutdown()
        recorder.join(LIMIT)
    assert (reports[0].messages, reports[0].skipped) == ({"camera": 1}, {"camera": 1})


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"encode": "gif"}, "encode='gif': it is one of 'png', 'jpeg'"),
        ({"encode": "jpg"}, "did you mean 'jpeg'"),
        ({"encode": "jpeg", "quality": 0}, "quality=0: it is a number from 1 to 100"),
        ({"encode": "jpeg", "quality": 101}, "quality=101"),
        ({"encode": "png", "quality": 90}, "for JPEG only; write encode='jpeg'"),
        ({"quality": 90}, "for JPEG only"),
    ],
    ids=str,
)
def test_wrong_options_make_no_file(tmp_path, options, said):
    with pytest.raises(ValueError, match=said):
        oc.RecordingWriter(tmp_path / "none.mcap", **options)
    assert list(tmp_path.iterdir()) == []


def test_pillow_is_not_installed(tmp_path):
    """One line when a file is made, and when a picture is read; the other messages are read."""
    path = write(tmp_path / "a.mcap", [noise((4, 5)), {"a": noise((4, 5))}, 7], encode="png")
    program = f"""
import sys
sys.modules["PIL"] = None
import onecopy as oc
import pathlib
try:
    oc.RecordingWriter({str(tmp_path / "b.mcap")!r}, encode="jpeg")
except ImportError as error:
    print(error)
print(pathlib.Path({str(tmp_path / "b.mcap")!r}).exists())
with oc.open_recording({str(path)!r}) as recording:
    for number in range(2):
        try:
            recording[number]
        except ImportError as error:
            print(error)
    print(recording[2])
oc.RecordingWriter({str(tmp_path / "b.mcap")!r}).close()
"""
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    line = (
        "pictures as PNG or JPEG in recordings need the package Pillow, which is not installed: "
        "pip install 'onecopy[record]'"
    )
    assert done.stdout.splitlines() == [line, "False", line, line, "7"]


# ------------------------------------------------------------------------------------------- kills


def test_cut_at_each_byte(tmp_path):
    """A kill in the middle of a write leaves any beginning of the file."""
    values = [noise((4, 5)), {"a": noise((2, 3, 3))}]
    whole = write(tmp_path / "a.mcap", values, encode="png", chunk_bytes=80).read_bytes()
    path, before = tmp_path / "cut.mcap", 0
    for length in range(8, len(whole)):
        path.write_bytes(whole[:length])
        with oc.open_recording(path) as recording:
            assert before <= len(recording) <= 2
            before = len(recording)
            for found, wanted in zip(recording, values, strict=False):
                if isinstance(wanted, dict):
                    equal(found["a"], wanted["a"])
                else:
                    equal(found, wanted)
    assert before == 2


def test_a_command_that_is_killed(tmp_path):
    """Recorded by the command, killed, opened, and published again by the command."""
    from test_recording_commands import Command

    path = tmp_path / "run.mcap"
    with oc.Pool.create("robot", size="64MiB") as pool:
        stream = pool.stream("camera", policy="lossless", depth=4)
        command = Command("record", "robot/camera", path, "--encode", "png")
        try:
            eventually(lambda: stream.subscribers, "the recorder")
            frames = [noise((48, 64, 3)) for _ in range(20)]
            for frame in frames:
                stream.publish({"frame": frame})

            def has_some():
                try:
                    with oc.open_recording(path) as recording:
                        return len(recording) >= 15
                except oc.BadFile:
                    return False

            eventually(has_some, "messages in the file")
        finally:
            command.signal(signal.SIGKILL)
            command.end(-signal.SIGKILL)
        with oc.open_recording(path) as recording:
            assert not recording.complete
            for found, wanted in zip(recording, frames, strict=False):
                equal(found["frame"], wanted)
            count = len(recording)
        subscription = pool.stream("again", depth=50).subscribe()
        lines, _ = Command("replay", path, "robot/again", "--speed", 0).end()
        assert lines == [f"published {count} messages of {path}"]
        for found, wanted in zip(subscription, frames, strict=False):
            assert np.array_equal(found["frame"], wanted)


def test_the_command_line(tmp_path, monkeypatch):
    from test_recording_commands import Command

    with oc.Pool.create("robot", size="64MiB") as pool:
        stream = pool.stream("camera", depth=4)
        stream.publish(smooth((48, 64, 3)))
        stream.shutdown()
        ask = "record", "robot/camera", "--history", 4
        sizes = []
        for options in ([], ["--quality", 20]):
            path = tmp_path / f"{len(sizes)}.mcap"
            lines, _ = Command(*ask, path, "--encode", "jpeg", *options).end()
            assert lines[3].split() == ["camera", "1", "0", "0", "0"]
            sizes.append(path.stat().st_size)
            with oc.open_recording(path) as recording:
                assert recording.channels["camera"].encodings == ("onecopy.jpeg",)
        assert sizes[1] < sizes[0]
        for options, said in (
            (["--encode", "gif"], "it is one of 'png', 'jpeg'"),
            (["--encode", "png", "--quality", 5], "for JPEG only"),
            (["--encode", "jpeg", "--quality", 500], "from 1 to 100"),
        ):
            path = tmp_path / "none.mcap"
            _, errors = Command(*ask, path, *options).end(code=2)
            assert len(errors) == 2
            assert said in errors[1]
            assert not path.exists()
        (tmp_path / "PIL").mkdir()
        (tmp_path / "PIL" / "__init__.py").write_text("raise ImportError", encoding="utf-8")
        path = os.pathsep.join([str(tmp_path), *filter(None, [os.environ.get("PYTHONPATH")])])
        monkeypatch.setenv("PYTHONPATH", path)
        _, errors = Command(*ask, tmp_path / "none.mcap", "--encode", "png").end(code=1)
        assert errors[1].startswith("onecopy: pictures as PNG or JPEG in recordings need the ")
        _, errors = Command("replay", tmp_path / "0.mcap", "robot/again").end(code=1)
        assert errors[0].startswith("onecopy: pictures as PNG or JPEG in recordings need the ")
    lines, errors = Command("record", "--help").end()
    assert errors == []
    assert "--encode" in "\n".join(lines)
    assert "--quality" in "\n".join(lines)
