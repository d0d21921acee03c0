"""Every example does what its README says, at a small size, and leaves nothing behind."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest

EXAMPLES = Path(__file__).parents[2] / "examples"
DEADLINE = 60  # seconds: a watchdog, not a measurement


@pytest.fixture
def pools(tmp_path):
    """A directory for pools, empty again afterwards."""
    folder = tmp_path / "pools"
    folder.mkdir()
    yield folder
    assert [path for path in folder.rglob("*") if not path.is_dir()] == []


@pytest.fixture
def environment(pools):
    return {**os.environ, "ONECOPY_DIR": str(pools), "PYTHONUNBUFFERED": "1"}


@pytest.fixture
def run(environment):
    def run(script, *arguments):
        return subprocess.run(
            [sys.executable, EXAMPLES / script, *map(str, arguments)],
            env=environment,
            capture_output=True,
            text=True,
            timeout=DEADLINE,
            check=False,
        )

    return run


def write_pictures(folder, shapes):
    folder.mkdir()
    random = np.random.default_rng(7)
    for index, shape in enumerate(shapes):
        picture = random.integers(0, 256, (*shape, 3), np.uint8)
        assert cv2.imwrite(str(folder / f"{index}.png"), picture)


def test_image_pipeline_sends_every_picture_in_every_round(run, tmp_path):
    write_pictures(tmp_path / "pictures", [(20, 30), (300, 200), (64, 64)])
    done = run("image_pipeline/image_pipeline.py", "--folder", tmp_path / "pictures", "--rounds", 4)
    assert (done.returncode, done.stderr) == (0, "")
    lines = done.stdout.splitlines()
    assert sum(" on the queue " in line for line in lines[:-1]) == 3 * 4
    assert lines[-1].startswith("12 pictures (")
    assert lines[-1].endswith("lost, repeated or changed: 0")


def test_image_pipeline_skips_a_picture_that_cannot_be_read(run, tmp_path):
    write_pictures(tmp_path / "pictures", [(20, 30)])
    (tmp_path / "pictures" / "broken.png").write_text("no picture")
    done = run("image_pipeline/image_pipeline.py", "--folder", tmp_path / "pictures", "--rounds", 2)
    assert done.returncode == 0, done.stderr
    assert "cannot read broken.png, skipped" in done.stdout
    assert "\n2 pictures (" in done.stdout


def test_image_pipeline_without_pictures(run, tmp_path):
    done = run("image_pipeline/image_pipeline.py", "--folder", tmp_path / "missing")
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == f"no pictures in {tmp_path / 'missing'}\n"


@pytest.mark.parametrize("first", ["reader.py", "writer.py"])
def test_frame_channel_between_processes_that_meet_by_name(first, environment, tmp_path):
    commands = {
        "reader.py": ["--pool", "meeting", "--out", str(tmp_path / "out")],
        "writer.py": ["--pool", "meeting", "--frames", "20"],
    }
    order = [first, *(script for script in commands if script != first)]
    processes = {}
    try:
        for script in order:
            processes[script] = subprocess.Popen(
                [sys.executable, EXAMPLES / "frame_channel" / script, *commands[script]],
                env=environment,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
            )
        outputs = {
            script: (process.communicate(timeout=DEADLINE), process.returncode)
            for script, process in processes.items()
        }
    finally:
        for process in processes.values():
            process.kill()
            process.communicate()
    assert outputs["writer.py"] == (("wrote 20 frames\n", ""), 0)
    (reader_says, reader_complains), reader_status = outputs["reader.py"]
    assert (reader_status, reader_complains) == (0, "")
    assert reader_says.startswith("read and checked 20 frames")
    assert reader_says.endswith("lost, repeated or unfinished: 0\n")
    assert cv2.imread(str(tmp_path / "out" / "1_Image.jpg")).shape == (720, 1080, 3)


def test_broadcast_shows_every_reader_every_frame(run):
    done = run("frame_channel/broadcast.py", "--readers", 2, "--frames", 25)
    assert (done.returncode, done.stderr) == (0, "")
    assert sorted(done.stdout.splitlines()) == [
        f"reader{index}: 25 frames, each once and in order, 0 damaged, 0 missed"
        for index in range(2)
    ]


def test_frame_cache_never_makes_the_producer_wait(run):
    done = run(
        "frame_cache/frame_cache.py", "--count", 12, "--height", 48, "--width", 64, "--bursts", 3
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.splitlines()[-1] == (
        "36 of 36 frames, each once and in order; the producer found no free frame 0 times; "
        "12 of 12 frames are free again"
    )


@pytest.mark.parametrize(
    "folder",
    sorted(path for path in EXAMPLES.iterdir() if path.is_dir()),
    ids=lambda path: path.name,
)
def test_every_example_tells_its_story(folder):
    programs = {path.name for ending in ("py", "ipynb") for path in folder.glob(f"*.{ending}")}
    readme = (folder / "README.md").read_text(encoding="utf-8")
    assert programs or list(folder.glob("*.json"))  # Grafana's dashboard is no program
    assert [name for name in sorted(programs - {"scene.py"}) if name not in readme] == []
    assert "](picture.svg)" in readme
    assert f"`{folder.name}`" in (EXAMPLES.parent / "docs" / "examples.md").read_text("utf-8")


def test_the_pictures_are_those_that_the_script_draws():
    done = subprocess.run(
        [sys.executable, EXAMPLES.parent / "tools" / "draw_examples.py", "--check"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stdout) == (0, "")
