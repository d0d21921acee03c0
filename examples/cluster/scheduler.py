"""The scheduler: it has the queue of tasks and the queue of results.

    python scheduler.py [--scheduler tls://127.0.0.1:8786]

The address is that of this machine, as the others reach it. Port 0 means a free port.
"""

from __future__ import annotations

import asyncio
import contextlib

import common
from distributed import Scheduler


async def main() -> None:
    given = common.arguments(__doc__.splitlines()[0])
    async with Scheduler(
        host=given.scheduler, dashboard_address=":0", dashboard=False
    ) as scheduler:
        print("scheduler:", scheduler.address, flush=True)
        await scheduler.finished()


if __name__ == "__main__":
    with contextlib.suppress(KeyboardInterrupt):
        asyncio.run(main())
