"""All planted bugs, by subject. `plant.py` plants them."""

from __future__ import annotations

import planted_blocks
import planted_channels
import planted_containers
import planted_heap
import planted_locks
import planted_processes

BUGS = (
    *planted_blocks.BUGS,
    *planted_heap.BUGS,
    *planted_channels.BUGS,
    *planted_locks.BUGS,
    *planted_containers.BUGS,
    *planted_processes.BUGS,
)
