"""Control groups with a memory limit, for processes that tests start in them."""

from __future__ import annotations

import contextlib
import uuid
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator

V1 = "memory.limit_in_bytes"
V2 = "memory.max"


@contextlib.contextmanager
def limited(limit: int, *inside: int) -> Iterator[list[str]]:
    """Make a group with a limit, and groups in it; return how to run a command in the last one."""
    made: list[Path] = []
    try:
        try:
            made.append(_make(_base(), limit))
            for inner in inside:
                if (made[-1] / V2).exists():
                    (made[-1] / "cgroup.subtree_control").write_text("+memory")
                made.append(_make(made[-1], inner))
        except OSError as error:
            pytest.skip(f"this machine does not let us make a control group: {error}")
        yield ["sh", "-c", 'echo $$ > "$0/cgroup.procs" && exec "$@"', str(made[-1])]
    finally:
        for group in reversed(made):
            group.rmdir()


def _base() -> Path:
    for line in Path("/proc/self/mountinfo").read_text().splitlines():
        place, _, kind = line.partition(" - ")
        options = kind.split(" ")[2].split(",")
        if kind.startswith("cgroup ") and "memory" in options:
            return Path(place.split(" ")[4])
        controllers = Path(place.split(" ")[4], "cgroup.subtree_control")
        if kind.startswith("cgroup2 ") and "memory" in controllers.read_text().split():
            return controllers.parent
    pytest.skip("this machine has no control groups for memory")


def _make(parent: Path, limit: int) -> Path:
    group = parent / f"onecopy-test-{uuid.uuid4().hex[:8]}"
    group.mkdir()
    try:
        (group / (V1 if (group / V1).exists() else V2)).write_text(str(limit))
        if (group / "memory.swap.max").exists():
            (group / "memory.swap.max").write_text("0")
    except OSError:
        group.rmdir()
        raise
    return group
