"""The master: puts tasks with pictures, and the future of each result on the queue of results.

python put.py [--scheduler tls://127.0.0.1:8786] [--tasks 8] [--collectors 1]
"""

from __future__ import annotations

from typing import Any

import common
import numpy as np
from distributed import Client, Queue, get_worker

SHAPE = (1080, 1920, 3)  # 6.2 MB


def picture(number: int) -> np.ndarray:
    return np.random.default_rng(number).integers(0, 256, SHAPE, np.uint8)


def develop(number: int, negative: np.ndarray) -> dict[str, Any]:
    """Do a task. Workers get this function from here: they have no code of ours."""
    return {"number": number, "worker": get_worker().name, "picture": 255 - negative}


def main() -> None:
    given = common.arguments(__doc__.splitlines()[0], tasks=8, collectors=1)
    with Client(given.scheduler) as client:
        results = Queue("results", client=client)
        for number in range(given.tasks):
            results.put(client.submit(develop, number, picture(number)))
        for _ in range(given.collectors):
            results.put(None)  # the end, once for each of them
    print(f"put: {given.tasks} tasks")


if __name__ == "__main__":
    main()
