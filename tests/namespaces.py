"""Commands that run another one in other conditions: namespaces, or a small file system.

Where the machine does not allow this, the test is skipped with the reason.
"""

from __future__ import annotations

import functools
import os
import shutil
import subprocess
from pathlib import Path

import pytest


def own_pids() -> list[str]:
    """Run in a PID namespace of its own, as its process 1, with a /proc of its own."""
    return _unshare("--pid", "--fork", "--kill-child", "--mount-proc")


def own_pids_foreign_proc() -> list[str]:
    """Run in a PID namespace of its own that still sees the /proc of this one."""
    return _unshare("--pid", "--fork", "--kill-child")


def small(size: str, where: Path | str) -> list[str]:
    """Run with `where` being a file system in memory of that size."""
    script = f'mount -t tmpfs -o mode=0700,size={size} none "$0" && exec "$@"'
    command = [*_unshare("--mount"), "sh", "-c", script, str(where)]
    _try((*command, "true"))
    return command


def without_proc() -> list[str]:
    """Run where nothing is mounted on /proc."""
    command = [*_unshare("--mount"), "sh", "-c", 'mount -t tmpfs none /proc && exec "$0" "$@"']
    _try((*command, "true"))
    return command


def disk(kind: str, size: str, where: Path | str) -> list[str]:
    """Run with `where` being a file system on a disk of that size (for ext4, xfs, btrfs)."""
    program = shutil.which(f"mkfs.{kind}", path=f"{os.environ['PATH']}:/usr/sbin:/sbin")
    if program is None:
        pytest.skip(f"this machine has no mkfs.{kind}")
    script = (
        f'truncate -s {size} "$0.image" && {program} -q "$0.image" && '
        'mount -o loop "$0.image" "$0" && rm "$0.image" && chmod 700 "$0" && exec "$@"'
    )
    command = [*_unshare("--mount"), "sh", "-c", script, str(where)]
    _try((*command, "true"))
    return command


def in_mounts(script: str) -> list[str]:
    """Run with other mounts, which a shell script makes."""
    command = [*_unshare("--mount"), "sh", "-ec", f'{script}\nexec "$@"', "sh"]
    _try((*command, "true"))
    return command


def _unshare(*flags: str) -> list[str]:
    program = shutil.which("unshare")
    if program is None:
        pytest.skip("this machine has no `unshare` (util-linux)")
    command = [program, *flags]
    if os.geteuid() != 0:
        command[1:1] = ["--user", "--map-root-user"]
    _try((*command, "true"))
    return command


def _try(command: tuple[str, ...]) -> None:
    said = _said(command)
    if said is not None:
        pytest.skip(f"this machine does not allow `{' '.join(command)}`: {said}")


@functools.cache
def _said(command: tuple[str, ...]) -> str | None:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    return None if done.returncode == 0 else done.stderr.strip() or f"status {done.returncode}"


def first_inside(pid: int) -> int:
    """Return the outer process id of the process that `unshare --fork` (itself `pid`) started."""
    return int(Path(f"/proc/{pid}/task/{pid}/children").read_text().split()[0])
