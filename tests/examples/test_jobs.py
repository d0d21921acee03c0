"""The examples that need a library of their own field: OpenCV, zarr, gymnasium, torch."""

from __future__ import annotations

import importlib
import os
import re
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest

EXAMPLES = Path(__file__).parents[2] / "examples"
DEADLINE = 100  # seconds: a watchdog, not a measurement
UNDISTURBED = pytest.param((), 0, marks=pytest.mark.check)
READ_IMAGES = """
import sys, numpy, zarr
images = zarr.open_array(sys.argv[1], mode="r")[:]
assert images.shape == (100, 512, 512)
assert (images[:, 0, 0] == numpy.arange(100)).all()
assert (images[:, 1:] == images[0, 1:]).all() and images[0, 1:].any()
"""


def need(package):
    """Skip the test if a package is not installed; do not import it."""
    if find_spec(package) is None:
        pytest.skip(f"{package} is not installed")


@pytest.fixture
def run(pool_directory, tmp_path):
    def run(script, *arguments, limit=DEADLINE):
        done = subprocess.run(
            [sys.executable, EXAMPLES / script, *map(str, arguments)],
            cwd=tmp_path,
            env=os.environ,
            capture_output=True,
            text=True,
            timeout=limit,
            check=False,
        )
        assert (done.returncode, done.stderr) == (0, "")
        return done.stdout.splitlines()

    yield run
    assert list(pool_directory.iterdir()) == []


class TestVideoRecorder:
    @pytest.mark.parametrize(("arguments", "replaced"), [UNDISTURBED, (("--kill",), 1)])
    def test_each_frame_is_recorded(self, run, tmp_path, arguments, replaced):
        cv2 = pytest.importorskip("cv2")
        (line,) = run("video_recorder/recorder.py", *arguments)
        found = re.fullmatch(r"100 frames, 100 recorded, (\d+) examined, (\d) replaced", line)
        assert found, line
        assert 1 <= int(found[1]) <= 100
        assert int(found[2]) == replaced
        video = cv2.VideoCapture(str(tmp_path / "recorded.avi"))
        for number in range(100):
            _, picture = video.read()
            columns = np.flatnonzero(picture[220, :, 0] > 128)
            assert abs(int(columns[0]) - 4 * number) <= 2, number
            assert abs(int(columns[-1]) - 4 * number - 39) <= 2, number
        newest = cv2.imread(str(tmp_path / "newest.png"))
        red = (newest == (0, 0, 255)).all(axis=2)
        assert red.any()

    def test_a_source_that_cannot_be_read(self, tmp_path):
        pytest.importorskip("cv2")
        done = subprocess.run(
            [sys.executable, EXAMPLES / "video_recorder" / "recorder.py", "missing.avi"],
            cwd=tmp_path,
            env={**os.environ, "OPENCV_LOG_LEVEL": "SILENT"},
            capture_output=True,
            text=True,
            timeout=DEADLINE,
            check=False,
        )
        assert done.returncode == 1
        assert "OpenCV cannot read pictures from missing.avi" in done.stderr


class TestMicroscope:
    @pytest.mark.parametrize(("arguments", "replaced"), [UNDISTURBED, (("--kill",), 1)])
    def test_no_image_is_lost(self, run, tmp_path, arguments, replaced):
        need("zarr")
        *_, last = run("microscope/acquire.py", "--images", 100, "--interval", 20, *arguments)
        found = re.fullmatch(
            r"100 of 100 images are in images.zarr; up to (\d+) waited for the writer; "
            r"(\d) writers replaced",
            last,
        )
        assert found, last
        assert int(found[2]) == replaced
        # zarr leaves a thread, and descriptors: it is not imported here.
        command = [sys.executable, "-c", READ_IMAGES, tmp_path / "images.zarr"]
        read = subprocess.run(
            command, capture_output=True, text=True, timeout=DEADLINE, check=False
        )
        assert (read.returncode, read.stderr) == (0, "")

    def test_images_that_are_lost_are_an_error(self, tmp_path):
        need("zarr")
        done = subprocess.run(
            [
                *(sys.executable, EXAMPLES / "microscope" / "acquire.py", "--images", "300"),
                *("--frames", "6", "--slow", "100", "--interval", "0.5"),
            ],
            cwd=tmp_path,
            env=os.environ,
            capture_output=True,
            text=True,
            timeout=DEADLINE,
            check=False,
        )
        assert done.returncode == 1
        assert "no frame was free for 32 ms: the writer is too slow for 6 frames" in done.stderr


class TestGym:
    @pytest.mark.parametrize(("arguments", "cut"), [UNDISTURBED, (("--kill",), 1)])
    def test_each_ball_is_caught(self, run, arguments, cut):
        pytest.importorskip("gymnasium")
        (line,) = run("gym_vector/play.py", "--envs", 3, "--steps", 100, *arguments)
        found = re.fullmatch(
            r"(\d+) of (\d+) balls caught, (\d) episodes cut off; [\d,]+ steps per second", line
        )
        assert found, line
        # An episode has 19 steps and a reset: three environments play five of them.
        assert [int(each) for each in found.groups()] == [15 - cut, 15 - cut, cut]

    def test_it_does_what_gymnasium_does(self, pool, monkeypatch):
        gymnasium = pytest.importorskip("gymnasium")
        monkeypatch.syspath_prepend(EXAMPLES / "gym_vector")
        vector, play = importlib.import_module("vector"), importlib.import_module("play")
        ours = vector.SharedVectorEnv(play.Catch, 2, pool)
        theirs = gymnasium.vector.SyncVectorEnv([play.Catch] * 2)
        try:
            assert ours.observation_space == theirs.observation_space
            assert ours.action_space == theirs.action_space
            assert np.array_equal(ours.reset(seed=3)[0], theirs.reset(seed=3)[0])
            random = np.random.default_rng(5)
            for _ in range(50):
                actions = random.integers(0, 3, 2)
                mine, other = ours.step(actions), theirs.step(actions)
                for first, second in zip(mine[:4], other[:4], strict=True):
                    assert np.array_equal(first, second)
            observations = mine[0]
            assert not observations.flags.writeable
            assert np.shares_memory(observations, pool["observations"])
        finally:
            ours.close()
            theirs.close()


@pytest.mark.check
@pytest.mark.timeout(300)
def test_torch_workers_share_one_dataset(run):
    need("torch")
    lines = run("torch_dataset/train.py", "--images", 4000, limit=250)
    assert lines[0] == "4,000 pictures, 49 MB, 2 workers"
    copies = {}
    for line in lines[1:]:
        found = re.fullmatch(r"(\w+) +[\d.]+ s +([\d.]+) copies", line)
        assert found, line
        copies[found[1]] = float(found[2])
    assert list(copies) == ["Pictures", "SharedPictures"]
    assert copies["Pictures"] > 2.5
    assert copies["SharedPictures"] < 1.5
