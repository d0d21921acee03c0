"""What a wheel must do in an empty environment without a compiler; part of `make wheels`.

Usage: python tools/wheel_proof.py
"""

from __future__ import annotations

import multiprocessing
import shutil
import sys

import numpy as np

import onecopy as oc

COMPILERS = ("cc", "c++", "gcc", "g++", "clang", "clang++")


def double(jobs: oc.Queue, results: oc.Queue) -> None:
    """Take an array, and send back another one."""
    results.put(jobs.get(timeout=60) * 2)


def main() -> int:
    """Send an array to a process of each start method, and get another one back."""
    found = [name for name in COMPILERS if shutil.which(name)]
    if found:
        print("a compiler can be found:", *found)
        return 1
    pictures = np.arange(3 * 720 * 1280, dtype=np.uint8).reshape(3, 720, 1280)
    for method in ("fork", "spawn", "forkserver"):
        context = multiprocessing.get_context(method)
        jobs, results = oc.Queue(), oc.Queue()
        worker = context.Process(target=double, args=(jobs, results))
        worker.start()
        jobs.put(pictures)
        answer = results.get(timeout=60)
        worker.join(60)
        if worker.exitcode != 0 or not np.array_equal(answer, pictures * 2):
            print(f"{method}: exit status {worker.exitcode}, sum {int(answer.sum())}")
            return 1
    print("Python", sys.version.split()[0], "numpy", np.__version__, "onecopy", oc.__file__)
    return 0


if __name__ == "__main__":
    sys.exit(main())
