"""A worker: takes tasks and keeps their results for the collectors. Start any number, anywhere.

python worker.py [--scheduler tls://127.0.0.1:8786] [--name NAME]
"""

from __future__ import annotations

import asyncio
import contextlib

import common
from distributed import Worker


async def main() -> None:
    given = common.arguments(__doc__.splitlines()[0])
    async with Worker(given.scheduler, name=given.name, nthreads=1, dashboard=False) as worker:
        print("worker:", worker.name, worker.address, flush=True)
        await worker.finished()


if __name__ == "__main__":
    with contextlib.suppress(KeyboardInterrupt):
        asyncio.run(main())
