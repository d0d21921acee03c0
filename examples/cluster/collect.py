"""A collector: takes results from the queue, on any machine, until the end stands there.

python collect.py [--scheduler tls://127.0.0.1:8786]
"""

from __future__ import annotations

import common
from distributed import Client, Queue


def main() -> None:
    given = common.arguments(__doc__.splitlines()[0])
    # Results come from the workers. By default they would come through the scheduler.
    with Client(given.scheduler, direct_to_workers=True) as client:
        results = Queue("results", client=client)
        print("collect: waiting", flush=True)
        while (future := results.get()) is not None:
            done = future.result()
            print("collect:", done["number"], done["worker"], done["picture"].sum(), flush=True)
    print("collect: all is done, received by place:", common.received())


if __name__ == "__main__":
    main()
