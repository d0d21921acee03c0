"""Whether the kernel gives shared memory huge pages (2 MiB in place of 4 KiB)."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import NamedTuple

__all__ = ["HugePages", "huge_pages"]

_SETTING = Path("/sys/kernel/mm/transparent_hugepage/shmem_enabled")
_MOUNTS = Path("/proc/self/mountinfo")
# Values with which new memory gets huge pages by itself. With "advise" a program must ask for them,
# and onecopy does not.
_GIVING = {"always", "within_size", "force"}


class HugePages(NamedTuple):
    """What the machine says.

    Attributes
    ----------
    mount : str or None
        The option ``huge`` of the file system of the pool directory: "never" if it is not set.
        None: it is no tmpfs, or unknown.
    setting : str or None
        ``shmem_enabled`` of the kernel: for memfd pools; "deny" and "force" are for all memory.
        None: the kernel has no huge pages for shared memory.
    """

    mount: str | None
    setting: str | None

    @property
    def files(self) -> bool:
        """Whether pools with a file get huge pages."""
        if self.setting in {None, "deny"}:
            return False
        return self.setting == "force" or self.mount in _GIVING

    @property
    def memfds(self) -> bool:
        """Whether memfd pools get huge pages."""
        return self.setting in _GIVING


def huge_pages(directory: str, mounts: Path = _MOUNTS, setting: Path = _SETTING) -> HugePages:
    """Read what applies to a pool directory.

    Parameters
    ----------
    directory : str
        The directory. It exists.
    mounts, setting : Path
        Where the kernel says it.

    Returns
    -------
    HugePages
        None in the place of what cannot be read.
    """
    try:
        chosen = re.search(r"\[(\w+)\]", setting.read_text(encoding="ascii"))
    except OSError:
        chosen = None
    return HugePages(_of_mount(directory, mounts), chosen and chosen[1])


def _of_mount(directory: str, mounts: Path) -> str | None:
    try:
        device = os.stat(directory).st_dev  # noqa: PTH116 - paths are strings here
        lines = mounts.read_text(encoding="utf-8", errors="surrogateescape").splitlines()
    except OSError:
        return None
    number = f"{os.major(device)}:{os.minor(device)}"
    for line in lines:
        # id parent major:minor root mount-point options [fields] - type source super-options
        before, _, after = line.partition(" - ")
        if before.split()[2] != number:
            continue
        kind, _, options = after.split(maxsplit=2)
        if kind != "tmpfs":
            return None
        found = re.search(r"(?:^|,)huge=(\w+)", options)
        return found[1] if found else "never"
    return None
