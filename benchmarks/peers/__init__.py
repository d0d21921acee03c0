"""The contenders: one module per package, each with its PEERS.

A module imports its package at the top. If the package is not installed, its peers are skipped.
"""

from __future__ import annotations

import importlib
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from benchmarks.report import NOT_ASKED_FOR

if TYPE_CHECKING:
    from benchmarks.harness import Options
    from benchmarks.peers.base import Peer

# The module, and the name under which its peers are skipped. onecopy is first in every round, and
# its row is the first of every table.
MODULES = {
    "onecopy_": "onecopy",
    "iceoryx2_": "iceoryx2",
    "kickmsg_": "kickmsg",
    "cloudtoid_": "cloudtoid-interprocess",
    "tachyon_": "tachyon-ipc",
    "sharedbox_": "sharedbox",
    "faster_fifo_": "faster-fifo",
    "pyzmq_": "pyzmq",
    "torch_": "torch.multiprocessing",
    "handmade": "hand-made pool",
    "multiprocessing_": "multiprocessing",
    "pipes": "multiprocessing.Pipe",
    "futex_": "futex alone",
}


@dataclass(slots=True)
class Field:
    """The peers that can be run here, and why the others cannot."""

    peers: list[Peer] = field(default_factory=list)
    skipped: dict[str, str] = field(default_factory=dict)


def load(options: Options) -> Field:
    """Import every adapter whose package is installed."""
    found = Field()
    for module, package in MODULES.items():
        try:
            adapter = importlib.import_module(f"{__name__}.{module}")
        except ImportError as error:
            found.skipped[package] = str(error)
            continue
        for peer in adapter.PEERS:
            if options.wants(peer.name):
                found.peers.append(peer)
            else:
                found.skipped[peer.name] = NOT_ASKED_FOR
    return found


def without_onecopy(options: Options) -> str | None:
    """Return why a workload of onecopy alone cannot run, or None if it can."""
    if not options.wants("onecopy"):
        return NOT_ASKED_FOR
    try:
        importlib.import_module("onecopy")
    except ImportError as error:
        return str(error)
    return None
