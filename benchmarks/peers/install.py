"""Install the peers into the environment of this Python, each by itself: `make peers`.

A peer that cannot be had for this machine is named, and the benchmarks skip it; the others are
installed.
"""

from __future__ import annotations

import os
import shutil
import stat
import subprocess
import sys
from pathlib import Path

REQUIREMENTS = Path(__file__).with_name("requirements.txt")
PIP = (sys.executable, "-m", "pip", "install", "-q", "--disable-pip-version-check")
# Needs a compiler of C++23. `ziglang` is a wheel with clang and its own library in it.
COMPILED = "tachyon-ipc"
OLDEST_GCC = 14
LONGEST = 1200.0


def requirements() -> list[str]:
    lines = REQUIREMENTS.read_text(encoding="utf-8").splitlines()
    return [line for line in lines if line and not line.startswith("#")]


def gcc_version() -> int:
    """The major version of g++ here; 0 when there is none."""
    compiler = shutil.which("g++")
    if compiler is None:
        return 0
    answer = subprocess.run([compiler, "-dumpversion"], capture_output=True, text=True, check=True)
    return int(answer.stdout.split(".")[0])


def compilers() -> dict[str, str]:
    """CC and CXX for a package that the machine's compiler is too old for: scripts that call
    ziglang's.

    Raises
    ------
    subprocess.CalledProcessError
        If there is no such wheel.
    """
    if "CXX" in os.environ or gcc_version() >= OLDEST_GCC:
        return {}
    subprocess.run([*PIP, "ziglang"], check=True, timeout=LONGEST)
    where = [sys.executable, "-c", "import ziglang; print(ziglang.__path__[0])"]
    folder = subprocess.run(where, capture_output=True, text=True, check=True).stdout.strip()
    found = {}
    for variable, command in (("CC", "cc"), ("CXX", "c++")):
        # By its path, not by `python -m`: pip builds in an environment that does not see this one's
        # packages.
        script = Path(sys.prefix) / "bin" / f"zig-{command}"
        script.write_text(f'#!/bin/sh\nexec "{folder}/zig" {command} "$@"\n', encoding="utf-8")
        script.chmod(script.stat().st_mode | stat.S_IXUSR)
        found[variable] = str(script)
    return found


def main() -> int:
    missing = []
    for requirement in requirements():
        print(f"  {requirement}", flush=True)
        try:
            extra = compilers() if requirement.startswith(COMPILED) else {}
            subprocess.run([*PIP, requirement], check=True, timeout=LONGEST, env=os.environ | extra)
        except (subprocess.CalledProcessError, subprocess.TimeoutExpired) as error:
            missing.append(requirement)
            print(f"  {requirement}: NOT INSTALLED ({error})", flush=True)
    if missing:
        print(f"not installed, the benchmarks do without: {', '.join(missing)}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
