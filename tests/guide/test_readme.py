"""The two files of the README run as they stand."""

import os
import re
import subprocess
import sys
from contextlib import contextmanager

import pytest
from children import LIMIT, asleep, eventually
from pages import ROOT, Page, environment

import onecopy as oc

LINE = re.compile(r"picture (\d+): \(720, 1280, 3\), mean (\d+)\.0\n")


@pytest.fixture
def folder(tmp_path):
    with Page(ROOT / "README.md", tmp_path) as page:
        assert page.write_files() == ["camera.py", "viewer.py"]
    return tmp_path


@pytest.fixture
def endless(folder):
    """The same files, and a camera that does not end before a slow machine has started a viewer."""
    text = (folder / "camera.py").read_text()
    assert text.count("range(100)") == 1
    (folder / "camera.py").write_text(text.replace("range(100)", "list(range(100)) * 1000"))
    return folder


@contextmanager
def running(folder, script):
    process = subprocess.Popen(
        [sys.executable, script],
        cwd=folder,
        env=environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        yield process
    finally:
        process.kill()
        process.communicate(timeout=LIMIT)


def number_in(line):
    found = LINE.fullmatch(line)
    assert found, line
    assert found[1] == found[2]
    return int(found[1])


def publishing():
    """Tell whether the camera has made its pool and its stream, as an observer sees it."""
    try:
        with oc.Pool.open("camera") as pool:
            return pool.stream("pictures", wait=0).published > 0
    except oc.OneCopyError:
        return False


def test_the_viewer_may_start_first_and_the_camera_may_be_killed(endless):
    with running(endless, "viewer.py") as viewer:
        eventually(lambda: asleep(viewer.pid), "the viewer to wait")
        with running(endless, "camera.py") as camera:
            for _ in range(3):
                number_in(viewer.stdout.readline())
            camera.kill()
            camera.wait(LIMIT)
        assert viewer.poll() is None
        with running(endless, "camera.py") as camera:
            for _ in range(3):  # the dead camera has left one message at most
                number_in(viewer.stdout.readline())
            assert camera.poll() is None


def test_the_camera_may_start_first_and_a_viewer_may_be_killed(endless):
    with running(endless, "camera.py") as camera:
        eventually(publishing, "the camera to publish")
        for _ in range(2):
            with running(endless, "viewer.py") as viewer:
                number_in(viewer.stdout.readline())
        assert camera.poll() is None


@pytest.mark.check
def test_the_viewer_ends_when_the_camera_ends(folder):
    """The files as they stand. The viewer waits for the stream when the camera starts."""
    with oc.Pool("camera", size="256MiB") as pool, running(folder, "viewer.py") as viewer:
        eventually(lambda: pool.stats().processes == 2, "the viewer to open the pool")
        with running(folder, "camera.py") as camera:
            viewer_says = viewer.communicate(timeout=LIMIT)
            camera_says = camera.communicate(timeout=LIMIT)
    assert (camera.returncode, camera_says) == (0, ("", ""))
    assert (viewer.returncode, viewer_says[1]) == (0, "")
    numbers = [number_in(line) for line in viewer_says[0].splitlines(keepends=True)]
    assert numbers == sorted(set(numbers))
    assert numbers[-1] == 99


def test_the_readme_shows_what_the_viewer_prints():
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    shown = re.search(r"```text\n(.*?)```", text, re.DOTALL)[1]
    assert [number_in(line) for line in shown.splitlines(keepends=True)] == [3, 4, 5]


def test_the_pictures_are_those_that_the_script_draws():
    done = subprocess.run(
        [sys.executable, ROOT / "tools" / "draw_pictures.py", "--check"],
        capture_output=True,
        text=True,
        check=False,
        env=os.environ,
    )
    assert (done.returncode, done.stdout) == (0, "")
