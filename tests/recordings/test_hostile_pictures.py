"""Pictures in a recording of a stranger: a small file may claim a large one, or be no picture."""

import io
import random
import struct
import zlib

import numpy as np
import pytest
from damage import damaged, is_refused
from seeds import SEED, more
from test_recording_pictures import Seen, noise, smooth, write

import onecopy as oc
from onecopy.recordings import pictures, plain

Image = pytest.importorskip("PIL.Image")


def a_png(width, height, kind=0, depth=8, pixels=b"", before=b""):
    """A PNG file that claims a size."""

    def part(name, data):
        return (
            struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))
        )

    head = struct.pack(">IIBBBBB", width, height, depth, kind, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n"
        + part(b"IHDR", head)
        + before
        + part(b"IDAT", zlib.compress(pixels))
        + part(b"IEND", b"")
    )


def a_file(picture, picture_format, **options):
    file = io.BytesIO()
    picture.save(file, picture_format, **options)
    return file.getvalue()


def of_channel(monkeypatch, path, data, shape, dtype="u1", encode="png"):
    """Make a recording whose one message says that it is a picture of some shape."""
    monkeypatch.setattr(pictures, "_mode", lambda *_: "L")
    monkeypatch.setattr(pictures, "MOST_PIXELS", 1 << 40)
    monkeypatch.setattr(pictures.Pictures, "_file_of", lambda *_: data)
    values = np.broadcast_to(np.zeros((), dtype), shape)
    path.unlink(missing_ok=True)
    write(path, [values, [values]], encode=encode)
    monkeypatch.undo()
    return path


GREY = Image.fromarray(np.arange(20, dtype="u1").reshape(4, 5))
LARGE = 60_000  # of a side; 3.6 GB
BOMB = a_png(LARGE, LARGE, pixels=bytes(10_000))
TWO = [Image.new("L", (5, 4)), Image.new("L", (5, 4), 255)]
FORGED = {
    "empty": (b"", (4, 5), "is not a PNG file"),
    "text": (b"hello" * 20, (4, 5), "is not a PNG file"),
    "another format": (a_file(GREY, "GIF"), (4, 5), "is not a PNG file"),
    "a JPEG": (a_file(GREY, "JPEG"), (4, 5), "is not a PNG file"),
    "bomb": (BOMB, (LARGE, LARGE), "more than 67,108,864 pixels"),
    "bomb of another shape": (BOMB, (4, 5), "a picture of 60000 x 60000 has the shape"),
    "largest claim": (a_png((1 << 32) - 1, (1 << 32) - 1), (4, 5), "4294967295 x 4294967295"),
    "no pixels": (a_png(0, 0), (4, 5), "a picture of 0 x 0"),
    "turned": (a_file(GREY, "PNG"), (5, 4), "a picture of 5 x 4 has the shape"),
    "of colours": (a_file(GREY.convert("RGB"), "PNG"), (4, 5), "'RGB'"),
    "of a palette": (a_file(GREY.convert("P"), "PNG"), (4, 5), "'P'"),
    "of bits": (a_file(GREY.convert("1"), "PNG"), (4, 5), "'1'"),
    "of 16 bits": (a_png(5, 4, depth=16, pixels=bytes(44)), (4, 5), "'I;16'"),
    "too few pixels": (a_png(5, 4, pixels=bytes(8)), (4, 5), "cannot be decoded"),
    "cut": (a_file(GREY, "PNG")[:50], (4, 5), "cannot be decoded"),
    "a film": (
        a_file(TWO[0], "PNG", save_all=True, append_images=TWO[1:], duration=100),
        (4, 5),
        "not one",
    ),
    "no such kind": (a_png(5, 4, kind=77, pixels=bytes(24)), (4, 5), "cannot be decoded"),
}


@pytest.mark.parametrize("name", FORGED)
def test_forged_pngs(tmp_path, monkeypatch, name):
    data, shape, said = FORGED[name]
    path = of_channel(monkeypatch, tmp_path / "a.mcap", data, shape)
    with oc.open_recording(path) as recording:
        for number in range(2):  # alone, and in a list
            with pytest.raises(oc.BadFile, match=f"message {number} of .* is damaged.*{said}"):
                recording[number]


JPEG = a_file(GREY, "JPEG")
FORGED_JPEGS = {
    "empty": (b"", (4, 5), "is not a JPEG file"),
    "a PNG": (a_file(GREY, "PNG"), (4, 5), "is not a JPEG file"),
    "head only": (JPEG[:2], (4, 5), "without a size"),
    "no size": (JPEG[: JPEG.index(b"\xff\xc0")], (4, 5), "without a size"),
    "cut": (JPEG[:-20], (4, 5), "cannot be decoded"),
    "bomb": (
        JPEG.replace(struct.pack(">HH", 4, 5), struct.pack(">HH", LARGE, LARGE)),
        (LARGE, LARGE),
        "more than 67,108,864 pixels",
    ),
    "bomb of another shape": (
        JPEG.replace(struct.pack(">HH", 4, 5), struct.pack(">HH", LARGE, LARGE)),
        (4, 5),
        "60000 x 60000",
    ),
    "of colours": (a_file(GREY.convert("RGB"), "JPEG"), (4, 5), "'RGB'"),
    "of print colours": (a_file(GREY.convert("CMYK"), "JPEG"), (4, 5), "'CMYK'"),
    "several": (a_file(TWO[0], "MPO", save_all=True, append_images=TWO[1:]), (4, 5), "'MPO'"),
}


@pytest.mark.parametrize("name", FORGED_JPEGS)
def test_forged_jpegs(tmp_path, monkeypatch, name):
    data, shape, said = FORGED_JPEGS[name]
    path = of_channel(monkeypatch, tmp_path / "a.mcap", data, shape, encode="jpeg")
    with oc.open_recording(path) as recording:
        for number in range(2):
            with pytest.raises(oc.BadFile, match=f"message {number} of .* is damaged.*{said}"):
                recording[number]


@pytest.mark.parametrize(
    ("shape", "dtype"),
    [
        *(((0, 5), "u1"), ((4, 5, 2), "u1"), ((4, 5), "f8"), ((4, 5, 3), "u2"), ((4,), "u1")),
        *(((4, 5, 1), "u1"), ((), "u1"), ((4, 5), "u4"), ((2, 4, 5, 3), "u1"), ((4, 5), "U1")),
    ],
    ids=str,
)
def test_pictures_that_say_another_shape_or_dtype(tmp_path, monkeypatch, shape, dtype):
    path = of_channel(monkeypatch, tmp_path / "a.mcap", a_file(GREY, "PNG"), shape, dtype)
    with oc.open_recording(path) as recording:
        for number in range(2):
            with pytest.raises(oc.BadFile, match=r"is damaged.*no png picture has shape"):
                recording[number]


def test_many_small_bombs_in_one_message(monkeypatch):
    """Each picture alone would be taken. Together they are too many."""
    monkeypatch.setattr(plain, "MOST_PIXELS", 1 << 20)
    side = 1000
    array = np.broadcast_to(np.zeros(1, "u1"), (side, side))
    encoder = pictures.Pictures(pictures.Settings("png", 90))
    one = b"".join(plain.dump([array], encoder))[1:]
    assert plain.load(memoryview(one)).shape == (side, side)
    with pytest.raises(ValueError, match="more than 67,108,864 pixels"):
        plain.load(memoryview(b"\x82" + one + one))


@pytest.mark.parametrize(
    "parts",
    [
        *([], ["png", "|u1", [4, 5]], ["png", "|u1", [4, 5], b"", 1], ["png", "|u1", [4, 5], "a"]),
        *(["gif", "|u1", [4, 5], b""], [7, "|u1", [4, 5], b""], ["png", "|O", [4, 5], b""]),
        *(["png", "|u1", 7, b""], ["png", "|u1", [4, "5"], b""], ["png", "|u1", [-4, -5], b""]),
        *(["png", "|u1", [1 << 70, 5], b""], ["jpeg", "<u2", [4, 5], b""], {}, None),
        *(["png", "|u1", [True, 5], b""], ["png", "|u1", [4, 5, -3], b""]),
    ],
    ids=repr,
)
def test_forged_pictures_in_plain_values(parts):
    data = b"\xda\x6f\x63\x00\x0c" + b"".join(plain.dump(parts))
    with pytest.raises(ValueError, match=r"picture|dtype"):
        plain.load(memoryview(data))


@pytest.mark.seeded
@pytest.mark.parametrize("encode", ["png", "jpeg"])
def test_damage_anywhere_in_a_picture(monkeypatch, encode):
    """Each changed byte: an array of the shape and dtype, or `ValueError`. Nothing else."""
    dice = random.Random(SEED)  # noqa: S311
    picture = smooth((24, 31, 3))
    file = pictures.Pictures(pictures.Settings(encode, 90)).encoded(picture)
    refused = 0
    for _ in range(more(400)):
        data = bytearray(file)
        for _ in range(dice.choice([1, 1, 2, 8])):
            at = dice.randrange(dice.choice([len(data), 40]))
            data[at] = dice.choice([0, 255, data[at] ^ 1 << dice.randrange(8)])
        if dice.random() < 0.3:
            del data[dice.randrange(len(data)) :]
        try:
            found = pictures.decoded(encode, picture.dtype, [*picture.shape], memoryview(data))
        except ValueError:
            refused += 1
        else:
            assert (found.dtype, found.shape) == (picture.dtype, picture.shape)
    assert refused > 50


@pytest.mark.seeded
def test_damage_anywhere_in_a_recording_of_pictures(tmp_path):
    dice = random.Random(SEED)  # noqa: S311
    path = tmp_path / "run.mcap"
    write(path, [noise((4, 5)), {"a": noise((4, 5, 3))}, noise((4, 5), "u2")] * 3, encode="png")
    whole = path.read_bytes()
    refused = 0
    for _ in range(more(200)):
        data = damaged(dice, whole)
        path.write_bytes(data)
        refused += is_refused(path)
    assert refused > 30


def test_a_damaged_picture_in_a_pickle(tmp_path, monkeypatch):
    monkeypatch.setattr(pictures.Pictures, "_file_of", lambda *_: b"\x89PNG")
    path = write(tmp_path / "a.mcap", [Seen("a", noise((4, 5)), [])], encode="png")
    with (
        oc.open_recording(path, trust=True) as recording,
        pytest.raises(oc.NotRebuilt, match="is not a PNG file"),
    ):
        recording[0]


def test_a_channel_of_pictures_without_its_schema(tmp_path):
    """And one whose schema is not what it says."""
    path = write(tmp_path / "a.mcap", [noise((4, 5))], encode="png")
    data = path.read_bytes()
    name = b"onecopy.png"
    assert data.count(name) == 6  # schema (twice), channel; in the summary, too
    first = data.index(name)
    other = b"onecopy.pnx"
    forged = data[:first] + other + data[first + 11 :].replace(name, other, 1)
    (tmp_path / "b.mcap").write_bytes(forged[:-30])  # without its summary
    with (
        oc.open_recording(tmp_path / "b.mcap") as recording,
        pytest.raises(oc.BadFile, match=r"'onecopy\.png, without its schema'"),
    ):
        recording[0]
    (tmp_path / "c.mcap").write_bytes(data.replace(b'"shape": [4, 5]', b'"shape": [4, {}')[:-30])
    with oc.open_recording(tmp_path / "c.mcap") as recording:
        assert recording.channels["values"].shape is None
        with pytest.raises(oc.BadFile, match="is damaged"):
            recording[0]
