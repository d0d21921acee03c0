"""`onecopy demo`: a whole run with small pictures, bad input, and every way to end it early."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest

from onecopy.demo.baseline_run import QueueTransport
from onecopy.demo.decode import decode_into
from onecopy.demo.errors import DemoError, UnreadablePictureError
from onecopy.demo.measure import Measurement, proportional_memory
from onecopy.demo.onecopy_run import OneCopyTransport
from onecopy.demo.pipeline import find_edges, result_shape
from onecopy.demo.sources import open_source
from onecopy.demo.transport import Item, Layout

pytestmark = pytest.mark.one_in(2)

DEADLINE = 110  # seconds: a watchdog, not a measurement
DEMO = [sys.executable, "-m", "onecopy.cli", "demo"]


@pytest.fixture
def pools(tmp_path):
    """A directory for pools."""
    folder = tmp_path / "pools"
    folder.mkdir()
    return folder


@pytest.fixture
def environment(pools):
    return {**os.environ, "ONECOPY_DIR": str(pools), "PYTHONUNBUFFERED": "1"}


def files_in(folder):
    return sorted(path.name for path in folder.rglob("*") if not path.is_dir())


@pytest.fixture
def demo(environment, pools, tmp_path):
    """Run the demo to its end, and check that no pool is left."""

    def demo(*arguments):
        done = subprocess.run(
            [*DEMO, "--out", str(tmp_path / "out"), "--rounds", "1", *map(str, arguments)],
            env=environment,
            cwd=tmp_path,
            capture_output=True,
            text=True,
            timeout=DEADLINE,
            check=False,
        )
        assert files_in(pools) == []
        return done

    return demo


@pytest.fixture
def start(environment, tmp_path):
    """Start a demo, and wait for a line of its output, long before it would end."""
    started = []

    def start(until, *arguments, frames=2000):
        process = subprocess.Popen(
            [*DEMO, "--out", str(tmp_path / "out"), "--frames", str(frames), *map(str, arguments)],
            env=environment,
            cwd=tmp_path,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,  # so that a signal to its group is like one from a terminal
        )
        started.append(process)
        for line in process.stdout:
            if until in line:
                return process
        raise AssertionError(f"no line with {until!r}: {process.communicate()[1]}")

    yield start
    for process in started:
        process.kill()
        process.communicate(timeout=DEADLINE)


@pytest.fixture
def pictures(tmp_path):
    """Pictures of several sizes and kinds."""
    folder = tmp_path / "pictures"
    folder.mkdir()
    write_picture(folder / "a.jpg", 300, 400)
    write_picture(folder / "b.png", 720, 90)
    write_picture(folder / "c.bmp", 1, 1)
    write_picture(folder / "d.webp", 33, 1100)
    (folder / "notes.txt").write_text("not a picture, and not counted")
    return folder


def write_picture(path, height, width, seed=0):
    """A picture with edges in it."""
    random = np.random.default_rng(seed)
    blocks = random.integers(0, 256, (height // 16 + 1, width // 16 + 1, 3), np.uint8)
    picture = np.kron(blocks, np.ones((16, 16, 1), np.uint8))[:height, :width]
    assert cv2.imwrite(str(path), picture)
    return picture


def write_video(path, frames, height=120, width=160):
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter_fourcc(*"MJPG"), 25, (width, height))
    assert writer.isOpened()
    for number in range(frames):
        frame = np.full((height, width, 3), 40, np.uint8)
        cv2.circle(frame, (10 + 9 * number, 60), 9, (255, 255, 255), -1)
        writer.write(frame)
    writer.release()


# ------------------------------------------------------------------------------ the whole job


def test_shipped_photographs(demo, tmp_path):
    done = demo("--frames", 8)
    assert (done.returncode, done.stderr) == (0, "")
    assert "frames lost 0, repeated 0, damaged 0; processes and pools left behind: 0" in done.stdout
    assert "Frames per second" in done.stdout
    results = sorted((tmp_path / "out").glob("*.jpg"))
    assert len(results) == 8
    assert [max(cv2.imread(str(path)).shape) for path in results] == [640] * 8
    for name in ("contact.png", "report.png"):
        picture = cv2.imread(str(tmp_path / "out" / name))
        assert min(picture.shape[:2]) > 200
        assert picture.std() > 10  # not blank


@pytest.mark.check
def test_folder_of_mixed_sizes_with_unreadable_pictures(demo, pictures, tmp_path):
    (pictures / "empty.jpg").write_bytes(b"")
    (pictures / "text.png").write_text("hello")
    half = (pictures / "a.jpg").read_bytes()[:200]
    (pictures / "half.jpg").write_bytes(half)
    done = demo("--input", pictures, "--frames", 20, "--workers", 3)
    assert (done.returncode, done.stderr) == (0, "")
    assert "skipped 3 unreadable: empty.jpg, half.jpg, text.png" in done.stdout
    assert "frames lost 0, repeated 0, damaged 0" in done.stdout
    results = {path.name for path in (tmp_path / "out").glob("*.jpg")}
    assert {name[5:] for name in results} == {"a.jpg", "b.jpg", "c.jpg", "d.jpg"}


@pytest.mark.check
def test_video_that_is_shorter_than_asked_for(demo, tmp_path):
    write_video(tmp_path / "clip.avi", frames=6)
    done = demo("--input", tmp_path / "clip.avi", "--frames", 15, "--workers", 1)
    assert (done.returncode, done.stderr) == (0, "")
    assert "frames lost 0, repeated 0, damaged 0" in done.stdout
    names = [path.name for path in sorted((tmp_path / "out").glob("*.jpg"))]
    assert names == [f"{number + 1:04d}-clip-{number:05d}.jpg" for number in range(6)]


# ---------------------------------------------------------------------------------- bad input


def assert_one_line(done, *words):
    assert done.returncode == 1, done.stdout + done.stderr
    assert done.stderr.startswith("onecopy demo: ")
    assert done.stderr.count("\n") == 1
    for word in words:
        assert word in done.stderr


def test_missing_path(demo, tmp_path):
    done = demo("--input", tmp_path / "nowhere")
    assert_one_line(done, f"no such file or folder: {tmp_path / 'nowhere'}")
    assert not (tmp_path / "out").exists()


def test_folder_without_pictures(demo, tmp_path):
    (tmp_path / "bare").mkdir()
    (tmp_path / "bare" / "notes.txt").write_text("nothing to see")
    assert_one_line(demo("--input", tmp_path / "bare"), f"no pictures in {tmp_path / 'bare'}")


def test_folder_with_nothing_but_unreadable_pictures(demo, tmp_path):
    (tmp_path / "bad").mkdir()
    (tmp_path / "bad" / "x.png").write_text("hello")
    assert_one_line(demo("--input", tmp_path / "bad"), "no picture can be read", "x.png")


def test_pictures_that_break_off_after_the_header(demo, tmp_path):
    (tmp_path / "torn").mkdir()
    write_picture(tmp_path / "whole.png", 400, 500)
    torn = (tmp_path / "whole.png").read_bytes()
    (tmp_path / "torn" / "x.png").write_bytes(torn[: len(torn) // 2])
    assert_one_line(demo("--input", tmp_path / "torn", "--frames", 4), "no picture")


def test_file_that_is_neither_picture_nor_video(demo, tmp_path):
    (tmp_path / "notes.txt").write_text("hello")
    assert_one_line(demo("--input", tmp_path / "notes.txt"), "neither", "notes.txt")


def test_out_that_is_a_file(demo, tmp_path):
    (tmp_path / "out").write_text("in the way")
    assert_one_line(demo(), "cannot write to --out", "File exists")


@pytest.mark.skipif(os.geteuid() == 0, reason="nothing is forbidden to root")
def test_out_without_permission(demo, tmp_path):
    (tmp_path / "out").mkdir(mode=0o500)
    assert_one_line(demo(), "cannot write to --out", "Permission denied")


def test_out_that_is_the_input(demo, pictures):
    assert_one_line(demo("--input", pictures, "--out", pictures), "choose another")


@pytest.mark.check
def test_full_shared_memory(pictures, tmp_path):
    small = tmp_path / "small"
    small.mkdir()
    mount = f"mount -t tmpfs -o size=128k none {small}"
    namespace = ["unshare", "--user", "--map-root-user", "--mount", "sh", "-c"]
    if (
        not shutil.which("unshare")
        or subprocess.run([*namespace, mount], capture_output=True, check=False).returncode
    ):
        pytest.skip("no user namespaces here, or no mounts in them")
    write_picture(pictures / "large.png", 2000, 2000)
    command = [*DEMO, "--input", pictures, "--out", tmp_path / "out", "--frames", "10"]
    done = subprocess.run(
        [*namespace, f'{mount} && exec "$@"', "sh", *map(str, command)],
        env={**os.environ, "ONECOPY_DIR": str(small)},
        capture_output=True,
        text=True,
        timeout=DEADLINE,
        check=False,
    )
    # A pool that does not fit there may be made elsewhere in memory: then the run succeeds.
    if done.returncode:
        assert_one_line(done)


@pytest.mark.parametrize("arguments", [["--workers", "0"], ["--frames", "-1"], ["--nonsense"]])
def test_usage_errors(demo, arguments):
    done = demo(*arguments)
    assert done.returncode == 2
    assert "Traceback" not in done.stderr


# --------------------------------------------------------------------------------- ending early


# Each process inherits both pipes, so their end shows that every process has ended.


@pytest.mark.parametrize(
    ("moment", "frames"),
    [
        pytest.param("onecopy, run 1 of 2: starting", 2000, marks=pytest.mark.check),
        ("pictures written", 2000),
        pytest.param("multiprocessing.Queue, run 1", 40, marks=pytest.mark.check),
    ],
    ids=["while processes start", "while pictures flow", "while the baseline starts"],
)
def test_ctrl_c(start, pools, pictures, moment, frames):
    process = start(moment, "--input", pictures, frames=frames)
    os.killpg(process.pid, signal.SIGINT)
    _, complaint = process.communicate(timeout=DEADLINE)
    assert process.returncode == 130
    assert complaint == "onecopy demo: interrupted; no process and no pool is left behind\n"
    assert files_in(pools) == []


@pytest.mark.check
def test_request_to_terminate(start, pools, pictures):
    process = start("pictures written", "--input", pictures)
    process.terminate()
    process.communicate(timeout=DEADLINE)
    assert process.returncode == 128 + signal.SIGTERM
    assert files_in(pools) == []


@pytest.mark.check
def test_killed_process_of_a_run(start, pools, pictures):
    process = start("pictures written", "--input", pictures)
    children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
    os.kill(max(map(int, children)), signal.SIGKILL)  # the one that was started last
    _, complaint = process.communicate(timeout=DEADLINE)
    assert process.returncode == 1
    assert complaint == "onecopy demo: writer was killed by signal 9 (SIGKILL)\n"
    assert files_in(pools) == []


def test_killed_conductor_takes_its_processes_along(start, pictures):
    process = start("pictures written", "--input", pictures)
    process.kill()
    process.communicate(timeout=DEADLINE)


# --------------------------------------------------------------------------------------- parts


def test_decoding_lands_in_the_memory_given(pictures):
    memory = np.zeros(2_000_000, np.uint8)
    target = memory[: 300 * 400 * 3].reshape(300, 400, 3)
    copies = decode_into(str(pictures / "a.jpg"), target)
    assert copies == 0
    np.testing.assert_array_equal(target, cv2.imread(str(pictures / "a.jpg")))


@pytest.mark.parametrize("content", [b"", b"hello", None], ids=["empty", "text", "missing"])
def test_a_failed_decode_does_not_show_the_picture_before(tmp_path, content):
    if content is not None:
        (tmp_path / "x.png").write_bytes(content)
    target = np.full((30, 40, 3), 7, np.uint8)
    with pytest.raises(UnreadablePictureError):
        decode_into(str(tmp_path / "x.png"), target)


def test_a_picture_of_another_size_is_not_decoded(pictures):
    with pytest.raises(UnreadablePictureError):
        decode_into(str(pictures / "a.jpg"), np.empty((299, 400, 3), np.uint8))


def test_a_photograph_on_its_side_is_turned_at_the_price_of_a_copy(tmp_path):
    from PIL import Image

    picture = Image.fromarray(write_picture(tmp_path / "x.png", 60, 90)[..., ::-1])
    exif = picture.getexif()
    exif[0x0112] = 6  # turn right
    picture.save(tmp_path / "turned.jpg", exif=exif)
    source = open_source(tmp_path / "turned.jpg", limit=1, out=tmp_path)
    assert source.largest == (90, 60)
    (decoded,) = source.read(range(1), lambda nbytes: np.empty(nbytes, np.uint8), set())
    assert (decoded.image.shape, decoded.copies) == ((90, 60, 3), 1)


def test_producers_share_a_video_frame_by_frame(tmp_path):
    write_video(tmp_path / "clip.avi", frames=5)
    source = open_source(tmp_path / "clip.avi", limit=100, out=tmp_path)

    def read(numbers):
        return [
            (decoded.number, decoded.picture, decoded.copies, decoded.image.copy())
            for decoded in source.read(numbers, lambda nbytes: np.empty(nbytes, np.uint8), set())
        ]

    everything, even, odd = read(range(11)), read(range(0, 11, 2)), read(range(1, 11, 2))
    assert [item[:3] for item in everything] == [(number, number % 5, 0) for number in range(11)]
    for apart, together in zip(
        sorted([*even, *odd], key=lambda item: item[0]), everything, strict=True
    ):
        assert apart[:3] == together[:3]
        np.testing.assert_array_equal(apart[3], together[3])


def test_reading_goes_on_with_the_next_picture_after_an_unreadable_one(pictures, tmp_path):
    source = open_source(pictures, limit=100, out=tmp_path)
    (pictures / "b.png").write_bytes(b"overwritten after the start")
    unreadable = set()
    read = [
        decoded.picture
        for decoded in source.read(range(8), lambda nbytes: np.empty(nbytes, np.uint8), unreadable)
    ]
    assert read == [0, 2, 2, 3, 0, 2, 2, 3]
    assert unreadable == {"b.png"}


def test_the_pipeline_writes_into_the_memory_given():
    picture = np.zeros((1000, 1500, 3), np.uint8)
    picture[200:700, 300:900] = 255
    picture.flags.writeable = False
    memory = np.empty(result_shape(1000, 1500), np.uint8)
    result = find_edges(picture, lambda shape: memory[: shape[0], : shape[1]])
    assert np.shares_memory(result, memory)
    assert result.shape == (427, 640, 3)
    edges = (result == (0, 215, 255)).all(axis=2)
    assert 0 < edges.sum() < 5000


@pytest.mark.parametrize(
    ("size", "expected"),
    [((1, 1), (1, 1, 3)), ((640, 480), (640, 480, 3)), ((1, 99999), (1, 640, 3))],
)
def test_result_shape(size, expected):
    assert result_shape(*size) == expected


def test_no_pictures_readable_is_an_error_of_one_line(tmp_path):
    (tmp_path / "x.jpg").write_bytes(b"\xff\xd8\xff")
    with pytest.raises(DemoError, match="1 unreadable"):
        open_source(tmp_path, limit=3, out=tmp_path)


def test_measurements_add_up():
    one = Measurement("x", 10, 2.0, 1.0, 100, 5, (5.0,))
    other = Measurement("x", 30, 2.0, 3.0, 70, 15, (15.0,))
    both = Measurement.of([one, other])
    assert both == Measurement("x", 40, 4.0, 4.0, 100, 20, (5.0, 15.0))
    assert (both.rate, both.cpu_per_frame, both.copies_per_frame) == (10.0, 100.0, 0.5)


def test_proportional_memory():
    assert proportional_memory([os.getpid()]) > 1 << 20
    assert proportional_memory([2**22 + 1]) == 0  # greater than every possible process id


def test_with_onecopy_a_hop_copies_nothing(monkeypatch, pools):
    monkeypatch.setenv("ONECOPY_DIR", str(pools))
    transport = OneCopyTransport(Layout(2, picture_bytes=6000, result_bytes=3000, processes=1))
    picture = transport.picture_memory(600).reshape(10, 20, 3)
    transport.send_picture(Item(0, 0, picture))
    received = transport.next_picture()
    assert np.shares_memory(received.image, picture)
    result = transport.result_memory((10, 20, 3))
    transport.send_result(Item(0, 0, result))
    written = transport.next_result()
    assert np.shares_memory(written.image, result)
    del picture, received, result, written
    assert transport.close() == []
    assert files_in(pools) == []


def test_the_baseline_counts_the_copies_that_it_makes():
    assert QueueTransport.copies_per_hop == 4


# ------------------------------------------------------------------------------- command line


def test_help_names_the_command_and_its_options(demo):
    general = subprocess.run(
        [sys.executable, "-m", "onecopy.cli", "--help"],
        capture_output=True,
        text=True,
        timeout=DEADLINE,
        check=True,
    )
    assert "demo" in general.stdout
    assert "Traceback" not in general.stderr
    specific = demo("--help")
    for option in ("--input", "--workers", "--frames", "--out"):
        assert option in specific.stdout


@pytest.mark.parametrize("missing", ["typer", "rich", "cv2", "matplotlib"])
def test_a_missing_extra_is_named_in_one_line(missing, tmp_path):
    script = (
        "import importlib.util as util, sys\n"
        "find = util.find_spec\n"
        f"util.find_spec = lambda name, *rest: None if name == {missing!r} else find(name, *rest)\n"
        "from onecopy.cli import main\n"
        "sys.argv = ['onecopy', 'demo']\n"
        "main()\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=DEADLINE,
        check=False,
    )
    assert done.returncode == 1
    assert done.stderr.count("\n") == 1
    assert "pip install 'onecopy[demo]'" in done.stderr
