"""Start-up: creating and opening a pool, each the first time in a fresh process, and the import.

The import is timed after numpy has been imported, so it is the time of onecopy alone. Each run is
the median of several processes. For comparison, the peers' imports and the standard library's
SharedMemory are measured, too.
"""

from __future__ import annotations

import os
import subprocess
import sys
from statistics import median
from typing import TYPE_CHECKING

from benchmarks.harness import RunFailed, interleave
from benchmarks.report import Report, at_most

if TYPE_CHECKING:
    from collections.abc import Iterator

    from benchmarks.harness import Options, Run

CREATE, OPEN, IMPORT = "create", "open", "import beyond numpy"
PROCESSES = 5
LIMIT = 60.0

# Programs for fresh processes; each prints milliseconds.
IMPORTING = """
import numpy, time
start = time.perf_counter()
import {module}
print((time.perf_counter() - start) * 1e3)
"""
# The creator stays until its input is closed, so that its pool can be opened.
CREATING = {
    "onecopy": """
import time, sys, numpy, onecopy
start = time.perf_counter()
pool = onecopy.Pool.create("{name}", size=1 << 28)
print((time.perf_counter() - start) * 1e3, flush=True)
sys.stdin.read()
pool.unlink()
""",
    "SharedMemory": """
import time, sys, numpy
from multiprocessing.shared_memory import SharedMemory
start = time.perf_counter()
segment = SharedMemory("{name}", create=True, size=1 << 28)
print((time.perf_counter() - start) * 1e3, flush=True)
sys.stdin.read()
segment.unlink()
""",
}
OPENING = {
    "onecopy": """
import time, numpy, onecopy
start = time.perf_counter()
pool = onecopy.Pool.open("{name}")
print((time.perf_counter() - start) * 1e3)
""",
    # Remove the tracker's entry: this process's tracker would remove the other's segment.
    "SharedMemory": """
import time, numpy
from multiprocessing.shared_memory import SharedMemory
from multiprocessing import resource_tracker
start = time.perf_counter()
segment = SharedMemory("{name}")
print((time.perf_counter() - start) * 1e3)
resource_tracker.unregister(segment._name, "shared_memory")
""",
}
MODULES = {
    "onecopy": "onecopy",
    "SharedMemory": "multiprocessing.shared_memory",
    "multiprocessing": "multiprocessing.queues",
    "iceoryx2": "iceoryx2",
    "sharedbox stream": "sharedbox",
    "faster-fifo": "faster_fifo",
}


def fresh(program: str) -> float:
    """Run a program in a fresh process and return the number that it prints."""
    command = [sys.executable, "-c", program]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=LIMIT, check=True)
    except subprocess.TimeoutExpired:
        raise RunFailed(f"no answer within {LIMIT:.0f} s") from None
    except subprocess.CalledProcessError as error:
        last = (error.stderr or "").strip().splitlines()[-1:]
        raise RunFailed(last[0] if last else f"exit code {error.returncode}") from None
    return float(done.stdout)


def importing(module: str) -> float:
    return median(fresh(IMPORTING.format(module=module)) for _ in range(PROCESSES))


def create_and_open(kind: str, names: Iterator[str]) -> tuple[float, float]:
    creates, opens = [], []
    for name in (next(names) for _ in range(PROCESSES)):
        command = [sys.executable, "-c", CREATING[kind].format(name=name)]
        with subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        ) as creator:
            assert creator.stdin
            assert creator.stdout
            try:
                line = creator.stdout.readline()
                if not line:
                    raise RunFailed(f"{kind} could not create {name}")
                creates.append(float(line))
                opens.append(fresh(OPENING[kind].format(name=name)))
            finally:
                creator.stdin.close()
                creator.wait(LIMIT)
    return median(creates), median(opens)


def run(options: Options) -> Report:
    report = Report("startup", "create, open, import", "SharedMemory")
    names = (f"bench-start-{os.getpid()}-{number}" for number in range(sys.maxsize))

    def contender(name: str) -> Run:
        def measure() -> dict[str, float]:
            numbers = {IMPORT: importing(MODULES[name])}
            if name in CREATING:
                numbers[CREATE], numbers[OPEN] = create_and_open(name, names)
            return numbers

        return measure

    contenders = {}
    for name, module in MODULES.items():
        try:
            fresh(f"import {module}\nprint(0)")  # this also writes its bytecode to disk
        except RunFailed as error:
            report.skipped[name] = str(error)
        else:
            contenders[name] = contender(name)
    outcomes = interleave(contenders, options.runs, options.say)
    for case in (CREATE, OPEN, IMPORT):
        report.add(case, "ms", outcomes, case)
    for case, limit in ((CREATE, 1.0), (OPEN, 1.0), (IMPORT, 15.0)):
        report.targets.append(at_most(case, report.median(case, "onecopy"), limit, "ms"))
    return report
