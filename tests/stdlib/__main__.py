"""Run CPython's tests against onecopy; the exit status says whether all that ran have passed."""

import argparse
import importlib
import json
import os
import signal
import subprocess
import sys
import tempfile
import unittest
from pathlib import Path

from . import exclusions, translate

METHODS = ("fork", "spawn", "forkserver")
TESTS = Path(__file__).resolve().parents[1]


def main() -> int:
    """Run the classes that were given, or all."""
    parser = argparse.ArgumentParser(prog="python -m tests.stdlib", description=__doc__)
    parser.add_argument("--method", choices=METHODS, action="append", help="default: all three")
    parser.add_argument("--keep", type=Path, help="folder for the translated suite")
    parser.add_argument("--in-place", action="store_true", help=argparse.SUPPRESS)
    parser.add_argument("names", nargs="*", help="such as _TestQueue or _TestQueue.test_put")
    options = parser.parse_args()
    methods = tuple(options.method or METHODS)
    if options.in_place:
        return run(methods[0], options.names)
    failed = False
    with tempfile.TemporaryDirectory(prefix="onecopy-stdlib-") as folder:
        place = options.keep or Path(folder)
        translate.write(place, METHODS)
        # Children import the modules by name, whatever method they are started by.
        path = os.pathsep.join([str(place), str(TESTS), os.environ.get("PYTHONPATH", "")])
        environment = os.environ | {"PYTHONPATH": path.rstrip(os.pathsep)}
        for method in methods:
            command = [sys.executable, "-m", "stdlib", "--in-place", "--method", method]
            done = subprocess.run(
                [*command, *options.names], env=environment, cwd=place, check=False
            )
            failed |= done.returncode != 0
    return int(failed)


def run(method: str, names: list[str]) -> int:
    """Run in this process, which is a process of its own for each start method."""
    # Some tests interrupt their process. What a shell has started with "&" ignores that.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    module = importlib.import_module(translate.module_for(method))
    if exclusions.stale:
        print("these names are not in this interpreter's suite:", *exclusions.stale)
        return 1
    tests = unittest.TestSuite()
    for name in names or exclusions.CLASSES:
        cls, _, test = name.partition(".")
        found = [
            getattr(module, spelled)
            for spelled in (
                [f"With{kind}{cls[1:]}" for kind in ("Processes", "Manager")]
                if cls[0] == "_"
                else [cls]
            )
            if hasattr(module, spelled)
        ]
        for case in found:
            load = unittest.defaultTestLoader
            tests.addTests([case(test)] if test else load.loadTestsFromTestCase(case))
    module.setUpModule()
    try:
        result = unittest.TextTestRunner(verbosity=2 if names else 1).run(tests)
    finally:
        module.tearDownModule()
    counts = {
        "python": sys.version.split()[0],
        "method": method,
        "ran": result.testsRun,
        "skipped": len(result.skipped),
        "failed": len(result.failures) + len(result.errors),
        "excluded": len(exclusions.EXCLUDED),
    }
    print(json.dumps(counts), flush=True)
    for _, reason in result.skipped:
        print("skipped:", reason)
    return int(not result.wasSuccessful() or result.testsRun == 0)


if __name__ == "__main__":
    sys.exit(main())
