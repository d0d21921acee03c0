"""The machine and the versions of a result."""

from __future__ import annotations

import os
import platform
import subprocess
from importlib import metadata
from pathlib import Path
from typing import Any

PACKAGES = (
    *("onecopy", "numpy", "iceoryx2", "kickmsg", "cloudtoid-interprocess", "tachyon-ipc"),
    *("sharedbox", "faster-fifo", "pyzmq", "torch", "pandas", "pyarrow", "joblib"),
)


def version(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


def cpu_model() -> str:
    for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
        # aarch64 kernels report no model name.
        if line.startswith(("model name", "CPU part")):
            return line.partition(":")[2].strip()
    return platform.machine()


def memory_available() -> int:
    """Bytes that can be allocated without swapping, as the kernel estimates them."""
    for line in Path("/proc/meminfo").read_text(encoding="ascii").splitlines():
        if line.startswith("MemAvailable:"):
            return int(line.split()[1]) * 1024
    return 0


def shared_memory_free() -> int:
    """Bytes left in /dev/shm, or memory available when that is less."""
    try:
        status = os.statvfs("/dev/shm")  # noqa: S108 - only its size is read
    except OSError:
        return 0
    return min(status.f_bavail * status.f_frsize, memory_available())


def git(*words: str) -> bytes:
    """What git answers about this checkout.

    Raises
    ------
    OSError, subprocess.CalledProcessError
        If there is no git, or if it fails.
    """
    command = ("git", "-C", str(Path(__file__).parents[1]), *words)
    return subprocess.run(command, capture_output=True, check=True).stdout


def commit() -> str:
    """The commit of this checkout, with "+" when files differ from it; "unknown" outside of git."""
    try:
        changed = git("status", "--porcelain", "--untracked-files=no").strip()
        return git("rev-parse", "--short=12", "HEAD").decode().strip() + ("+" if changed else "")
    except (OSError, subprocess.CalledProcessError):
        return "unknown"


def record() -> dict[str, Any]:
    """Return what is needed to know whether two results are comparable."""
    return {
        "commit": commit(),
        "cpu": cpu_model(),
        "cores": len(os.sched_getaffinity(0)),
        "machine": platform.machine(),
        "kernel": platform.release(),
        "libc": " ".join(platform.libc_ver()),
        "python": f"{platform.python_implementation()} {platform.python_version()}",
        "memory_available_bytes": memory_available(),
        "shared_memory_free_bytes": shared_memory_free(),
        "load_average": os.getloadavg(),
        "versions": {package: version(package) for package in PACKAGES},
    }
