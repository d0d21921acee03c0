"""The examples of programs that restart their workers: cameras, group_by, web_service."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import urllib.error
import urllib.request
from pathlib import Path

import numpy as np
import pytest
from children import LIMIT, eventually
from services import running, workers

EXAMPLES = Path(__file__).parents[2] / "examples"


def run(script, *arguments, cwd):
    return subprocess.run(
        [sys.executable, EXAMPLES / script, *map(str, arguments)],
        cwd=cwd,
        capture_output=True,
        text=True,
        timeout=LIMIT,
        check=False,
    )


def test_the_first_example_of_the_docs(tmp_path):
    text = (EXAMPLES.parent / "docs" / "supervise.md").read_text(encoding="utf-8")
    program = tmp_path / "program.py"
    program.write_text(text.partition("```python\n")[2].partition("```")[0])
    done = run(program, cwd=tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout in {"100 results\n", "101 results\n"}


@pytest.mark.parametrize(("arguments", "replaced"), [((), 0), (("--kill",), 4)])
def test_cameras(tmp_path, arguments, replaced):
    done = run("cameras/cameras.py", "--frames", 40, *arguments, cwd=tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.splitlines() == [
        "viewer: frame 39 of camera 0 is in camera0.pgm",
        "viewer: frame 39 of camera 1 is in camera1.pgm",
        f"80 of 80 squares found, {replaced} processes replaced",
    ]
    picture = (tmp_path / "camera1.pgm").read_bytes()
    assert picture.startswith(b"P5 640 480 255\n")
    assert picture.count(b"\xff") == 20 * 20


def test_group_by(tmp_path):
    done = run("group_by/group_by.py", 0.032, cwd=tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    lines = done.stdout.splitlines()
    assert lines[-1].startswith("2,000,000 rows: ")
    random = np.random.default_rng(7)
    shop = random.integers(0, 1000, 2_000_000)
    price = random.random(2_000_000)[shop == 0]
    index, size, total, top = lines[2].split()
    assert (index, int(size)) == ("0", price.size)
    assert float(total) == pytest.approx(price.sum(), rel=1e-5)
    assert float(top) == pytest.approx(price.max(), rel=1e-5)


# ------------------------------------------------------------------------------- the web service


@pytest.fixture
def service():
    """The service, running, with its `port`."""
    with running("web_service", stderr=subprocess.DEVNULL) as process:  # a line for each request
        yield process


def ask(service, data):
    url = f"http://127.0.0.1:{service.port}/"
    with urllib.request.urlopen(url, data, LIMIT) as response:
        return json.load(response)


def test_the_service_answers(service):
    data = np.arange(7, 255, dtype="u1").repeat(1000).tobytes()
    answer = ask(service, data)
    assert answer.pop("pid") in workers(service)
    assert answer == {"bytes": 248_000, "range": [7, 254]}


def test_what_cannot_be_answered_is_an_error(service):
    with pytest.raises(urllib.error.HTTPError) as raised:
        ask(service, b"")
    with raised.value as response:
        assert response.code == 500
        assert "ValueError" in json.load(response)["error"]


def test_a_request_is_answered_though_its_worker_is_killed(service):
    first = ask(service, b"abc")["pid"]
    answers = []
    pids = workers(service)
    for pid in pids:
        os.kill(pid, signal.SIGSTOP)  # none of them can answer
    client = threading.Thread(target=lambda: answers.append(ask(service, b"xyz")))
    client.start()
    for pid in pids:
        os.kill(pid, signal.SIGKILL)
    client.join(LIMIT)
    assert answers[0]["bytes"] == 3
    assert first in pids
    assert answers[0]["pid"] not in pids
    eventually(lambda: answers[0]["pid"] in workers(service), "the new worker")
