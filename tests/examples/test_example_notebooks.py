"""The notebooks run from their first cell to their last one, in a kernel of their own."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

FOLDER = Path(__file__).parents[2] / "examples" / "notebooks"
NOTEBOOKS = sorted(FOLDER.glob("*.ipynb"))
LIMIT = 100  # seconds: a watchdog, not a measurement


@pytest.mark.check
@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_runs(path, tmp_path, pool_directory):
    needed = ["nbclient", "ipykernel"]
    if path.stem == "tables":
        needed += ["pandas", "cloudpickle"]
    for package in needed:
        if find_spec(package) is None:
            pytest.skip(f"{package} is not installed")
    out = tmp_path / "run.ipynb"
    done = subprocess.run(
        [sys.executable, Path(__file__).with_name("run_notebook.py"), path, out],
        cwd=tmp_path,
        env={**os.environ, "IPYTHONDIR": str(tmp_path / "ipython")},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        timeout=LIMIT,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    notebook = json.loads(out.read_text(encoding="utf-8"))
    shown = [
        "".join(output["data"]["text/html"])
        for cell in notebook["cells"]
        for output in cell.get("outputs", [])
        if "text/html" in output.get("data", {})
    ]
    assert shown, "no cell shows a table of onecopy"
    if path.stem == "cameras":
        assert any("<img " in each for each in shown)
    assert list(pool_directory.iterdir()) == []


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_is_stored_without_outputs(path):
    for cell in json.loads(path.read_text(encoding="utf-8"))["cells"]:
        assert not cell.get("outputs")
        assert cell.get("execution_count") is None


def test_there_are_three():
    assert [path.stem for path in NOTEBOOKS] == ["cameras", "inside_a_pool", "tables"]
