"""Run joblib's own tests of parallel calls with onecopy.

    python tests/joblib/suite.py -k generator

The tests are read where joblib is installed, and written with "onecopy" in place of "loky", and
with our class in place of those of loky. onecopy is also the default backend, for the tests and for
the scripts that they start. The last line of the output is a JSON object with the counts.
"""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

from suite_exclusions import EXCLUDED

CHANGES = (
    ('"loky"', '"onecopy"'),
    ("from ._openmp_test_helper", "from joblib.test._openmp_test_helper"),
    ("\n    LokyBackend,\n", "\n"),
    (
        "\nRETURN_GENERATOR_BACKENDS =",
        "\nLokyBackend = BACKENDS['onecopy']\nRETURN_GENERATOR_BACKENDS =",
    ),
    ('backend.title() + "Backend"', "BACKENDS[backend].__name__"),
    # Two calls at the same time do not disturb each other here.
    (
        '("onecopy", True),\n        ("threading", False),',
        '("onecopy", False),\n        ("threading", False),',
    ),
    # For an object that cannot be pickled, its own message stands in the error after these words.
    ('match=r"the task to send"', 'match=r"the task to send.*123"'),
)
# Imported by every interpreter that starts with this folder on its path.
STARTUP = """
import joblib.parallel
import onecopy.joblib

joblib.register_parallel_backend("onecopy", onecopy.joblib.OneCopyBackend, make_default=True)
joblib.parallel.DEFAULT_PROCESS_BACKEND = "onecopy"
"""
PLUGIN = """
import json
import sys

counts = {"passed": 0, "skipped": 0, "failed": 0, "xfailed": 0, "excluded": 0}
excluded = json.loads(%r)
known = set()


def pytest_collection_modifyitems(config, items):
    kept, left_out = [], []
    for item in items:
        names = {item.name, item.name.partition("[")[0]} & set(excluded)
        known.update(names)
        (left_out if names else kept).append(item)
    counts["excluded"] = len(left_out)
    config.hook.pytest_deselected(items=left_out)
    items[:] = kept
    if not config.option.keyword:
        counts["unknown exclusions"] = sorted(set(excluded) - known)


def pytest_runtest_logreport(report):
    if report.failed:
        counts["failed"] += 1
    elif report.skipped and hasattr(report, "wasxfail"):
        counts["xfailed"] += 1
    elif report.skipped:
        counts["skipped"] += 1
    elif report.when == "call":
        counts["passed"] += 1


def pytest_unconfigure():
    sys.__stdout__.write("\\n" + json.dumps(counts) + "\\n")
"""


def source() -> Path | None:
    """Find joblib's tests; None if this joblib was installed without them."""
    found = importlib.util.find_spec("joblib")
    if found is None or found.origin is None:
        return None
    path = Path(found.origin).parent / "test" / "test_parallel.py"
    return path if path.is_file() else None


def write(folder: Path) -> None:
    """Write the tests, and the module that makes them use onecopy."""
    path = source()
    assert path is not None, "this joblib came without its tests"
    text = path.read_text()
    for old, new in CHANGES:
        text = text.replace(old, new)
    (folder / "test_parallel.py").write_text(text)
    (folder / "sitecustomize.py").write_text(STARTUP)
    (folder / "conftest.py").write_text(PLUGIN % json.dumps(sorted(EXCLUDED)))
    (folder / "pytest.ini").write_text("[pytest]\n")


def main(arguments: list[str]) -> int:
    """Run the tests in a process of their own; return its exit status."""
    with tempfile.TemporaryDirectory(prefix="onecopy-joblib-") as name:
        folder = Path(name)
        write(folder)
        path = os.pathsep.join(filter(None, [name, os.environ.get("PYTHONPATH")]))
        command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-p", "no:xdist"]
        done = subprocess.run(
            [*command, "--timeout=60", *arguments, "test_parallel.py"],
            cwd=folder,
            env=os.environ | {"PYTHONPATH": path},
            check=False,
        )
    return done.returncode


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
