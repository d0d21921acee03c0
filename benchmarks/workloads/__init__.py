"""The workloads, one module each, in the order in which they run."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from types import ModuleType

NAMES = (
    "frames",
    "handoff",
    "messages",
    "latency",
    "fresh",
    "cold",
    "contents",
    "objects",
    "born",
    "scale",
    "heap",
    "startup",
    "idle",
    "aio",
    "dropin",
    "tables",
    "calls",
    "dask",
    "deaths",
    "promises",
)


def load(name: str) -> ModuleType:
    """Return a workload's module. Its docstring says what its `run(options)` measures."""
    return importlib.import_module(f"{__name__}.{name}")
