"""Programs that make a small cluster of some framework, in processes of their own.

A program is a file, because workers import it. It has a prelude before it. Its `main` gets nothing
and asserts. What it prints is shown if it fails.
"""

from __future__ import annotations

import contextlib
import importlib.util
import os
import signal
import subprocess
import sys
import textwrap
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

LIMIT = 110  # seconds: a watchdog
TESTS = str(Path(__file__).parent)  # programs use `children`


def needs(module: str, extra: str) -> None:
    """Skip the test, if a library is not installed."""
    # It is not imported: distributed changes much in a process.
    try:
        spec = importlib.util.find_spec(module)
        found = spec is not None and spec.origin is not None  # a folder of tests is no package
    except ModuleNotFoundError:  # the package around it
        found = False
    if not found:
        reason = f"needs {module}, which is not installed: pip install 'onecopy[{extra}]'"
        pytest.skip(reason, allow_module_level=True)


def run_main(
    prelude: str,
    text: str,
    folder: Path,
    environment: Mapping[str, str],
    inside: Sequence[str] = (),
    limit: float = LIMIT,
) -> str:
    """Run a program that defines `main`; return what it prints.

    It is in a process group of its own with all that it starts. None of that is left.
    """
    path = folder / "program.py"
    end = '\n\nif __name__ == "__main__":\n    main()\n    print("done")\n'
    path.write_text(prelude + textwrap.dedent(text) + end, encoding="utf-8")
    search = os.pathsep.join([TESTS, os.environ.get("PYTHONPATH", "")])
    outputs = folder / "stdout", folder / "stderr"
    with outputs[0].open("w") as stdout, outputs[1].open("w") as stderr:
        program = subprocess.Popen(
            [*inside, sys.executable, str(path)],
            stdout=stdout,
            stderr=stderr,
            start_new_session=True,
            cwd=folder,
            env={
                **os.environ,
                "PYTHONFAULTHANDLER": "1",
                "PYTHONPATH": search.rstrip(os.pathsep),
                **environment,
            },
        )
    late = False
    try:
        program.wait(limit)
    except subprocess.TimeoutExpired:
        late = True
        os.killpg(program.pid, signal.SIGABRT)  # all say where their threads are
        with contextlib.suppress(subprocess.TimeoutExpired):
            program.wait(5)
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(program.pid, signal.SIGKILL)
        program.wait()
    printed, said = (path.read_text(encoding="utf-8", errors="replace") for path in outputs)
    said = f"{printed}\n{said}"
    assert not late, f"it has not ended after {limit} s\n{said[-6000:]}"
    assert program.returncode == 0, said[-6000:]
    assert printed.endswith("done\n"), said[-6000:]
    return said
