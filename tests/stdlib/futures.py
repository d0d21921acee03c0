"""CPython's tests of concurrent.futures, run against onecopy.Executor.

Their mixins select the executor of a test class; here it is ours. An interpreter that was installed
without these tests takes them from another one on the machine (releases 3.12 and later have them as
a package).
"""

import argparse
import importlib
import json
import os
import re
import subprocess
import sys
import tempfile
import unittest
from pathlib import Path

METHODS = ("fork", "spawn", "forkserver")
PACKAGE = "onecopy_test_futures"
MODULES = ("as_completed", "deadlock", "init", "process_pool", "shutdown", "wait")
TESTS = Path(__file__).resolve().parents[1]

# Tests that are left out, and why.
EXCLUDED = {
    "test_python_finalization_error": "there is no thread that could fail to start in the middle "
    "of the work: the queue has none, and submit raises what the start of the manager raises",
    "test_max_workers_too_large": "for Windows",
    "test_gc_during_max_tasks_worker_exit_gh152967": "wants the calls of an executor that was "
    "collected to fail; ours are run, because its thread starts workers by itself. "
    "tests/executor/test_ends.py: test_no_call_is_lost_when_workers_are_replaced",
}

# What looks inside of the executor, and the same of ours.
INSIDE = {
    # Half of test_shutdown_no_wait_max_tasks_gh119592; the other half: as the test above.
    "for drop_reference in (False, True):": "for drop_reference in (False,):",
    "executor._force_shutting_down = True": "executor._executor_manager_thread.stop_starting()",
    "concurrent.futures.process._spawn_worker": "onecopy._workers.processes.Processes.start_one",
    'error_regex="could not be started"': 'error_regex="spawn failed"',
}


def source() -> Path | None:
    """Return where a copy of the tests is; None: nowhere."""
    chosen = os.environ.get("ONECOPY_CPYTHON_TESTS")  # a folder `test` of a CPython
    folders = [Path(chosen)] if chosen else []
    mine = Path(os.__file__).parent
    folders.append(mine / "test")
    # Next to this interpreter, as pyenv and uv have theirs.
    versions = Path(sys.base_prefix).parent
    folders += sorted(versions.glob("*/lib/python3.1[2-9]/test"), reverse=True)
    folders += sorted(Path("/usr/lib").glob("python3.1[2-9]/test"), reverse=True)
    for folder in folders:
        if (folder / "test_concurrent_futures" / "util.py").exists():
            return folder / "test_concurrent_futures"
    return None


def translate(text: str, folder: Path) -> str:
    """Replace the executor."""
    text = text.replace("futures.ProcessPoolExecutor", "onecopy.Executor")
    text = text.replace(
        "from concurrent import futures", "import onecopy\nfrom concurrent import futures"
    )
    text = text.replace(
        "from concurrent.futures import {executor_type}", "from onecopy import {executor_type}"
    )
    text = re.sub(
        r"from test\.test_concurrent_futures\.(\w+) import (\w+)",
        rf"import sys; sys.path.insert(0, {str(folder)!r}); from {PACKAGE}.\1 import \2",
        text,
    )
    # The same text, in a class of our own.
    text = text.replace(
        "futures.process._RemoteTraceback", "onecopy._workers.remote.RemoteTraceback"
    )
    # Threads are not ours, and a missing feature of early releases is no reason to exclude a test.
    text = text.replace("executor_mixins=(ThreadPoolMixin,", "executor_mixins=(")
    gil, imported = "Py_GIL_DISABLED = False", "from test.support import "
    text = text.replace(f"{imported}Py_GIL_DISABLED, ", f"{gil}; {imported}")
    text = text.replace(f"{imported}Py_GIL_DISABLED", gil)
    # It calls the exit handlers, in which this process leaves its pools: once is enough.
    text = text.replace("unittest.addModuleCleanup(multiprocessing.util._cleanup_tests)", "pass")
    text = re.sub(r"@support\.requires_gil_enabled\(.*\)\n", "\n", text)
    text = re.sub(r"@support\.skip_if_sanitizer\(.*\)\n", "\n", text)
    for theirs, ours in INSIDE.items():
        text = text.replace(theirs, ours)
    return text.replace("support.check_sanitizer(thread=True)", "False")


def write(folder: Path) -> None:
    """Write the package."""
    origin = source()
    if origin is None:
        raise FileNotFoundError("no CPython with test_concurrent_futures here")
    package = folder / PACKAGE
    package.mkdir(parents=True)
    (package / "__init__.py").touch()
    for file in ("util", "executor", *(f"test_{module}" for module in MODULES)):
        text = (origin / f"{file}.py").read_text("utf-8")
        (package / f"{file}.py").write_text(translate(text, folder), "utf-8")


def wanted(method: str, names: list[str]) -> unittest.TestSuite:
    """Collect the tests of one start method."""
    suite = unittest.TestSuite()
    for name in MODULES:
        module = importlib.import_module(f"{PACKAGE}.test_{name}")
        for case in vars(module).values():
            if not (isinstance(case, type) and issubclass(case, unittest.TestCase)):
                continue
            if getattr(case, "ctx", None) != method or case.__module__ != module.__name__:
                continue
            for test in unittest.defaultTestLoader.loadTestsFromTestCase(case):
                short = test.id().rpartition(".")[2]
                if short not in EXCLUDED and (not names or name in names or short in names):
                    suite.addTest(test)
    return suite


def run(method: str, names: list[str]) -> int:
    """Run in this process."""
    import multiprocessing

    suite = wanted(method, names)
    result = unittest.TextTestRunner(verbosity=2 if names else 1).run(suite)
    multiprocessing.util._cleanup_tests()
    counts = {
        "python": sys.version.split()[0],
        "suite": str(source()),
        "method": method,
        "ran": result.testsRun,
        "skipped": len(result.skipped),
        "failed": len(result.failures) + len(result.errors),
        "excluded": len(EXCLUDED),
    }
    print()
    print(json.dumps(counts), flush=True)
    for test, reason in result.skipped:
        print("skipped:", test.id().rpartition(".")[2], reason)
    return int(not result.wasSuccessful() or result.testsRun == 0)


def main() -> int:
    """Run the modules or tests that were given, or all."""
    parser = argparse.ArgumentParser(prog="python -m tests.stdlib.futures", description=__doc__)
    parser.add_argument("--method", choices=METHODS, action="append", help="default: all three")
    parser.add_argument("--in-place", action="store_true", help=argparse.SUPPRESS)
    parser.add_argument("names", nargs="*", help="such as deadlock, or test_traceback")
    options = parser.parse_args()
    methods = tuple(options.method or METHODS)
    if options.in_place:
        return run(methods[0], options.names)
    failed = False
    with tempfile.TemporaryDirectory(prefix="onecopy-futures-") as folder:
        write(Path(folder))
        path = os.pathsep.join([folder, str(TESTS), os.environ.get("PYTHONPATH", "")])
        environment = os.environ | {"PYTHONPATH": path.rstrip(os.pathsep)}
        for method in methods:
            command = [sys.executable, "-m", "stdlib.futures", "--in-place", "--method", method]
            done = subprocess.run(
                [*command, *options.names], env=environment, cwd=folder, check=False
            )
            failed |= done.returncode != 0
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())
