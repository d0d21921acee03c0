"""Says what each worker has received by place in the pool of its host, and ends the cluster.

python stop.py [--scheduler tls://127.0.0.1:8786]
"""

from __future__ import annotations

import common
from distributed import Client


def main() -> None:
    given = common.arguments(__doc__.splitlines()[0])
    with Client(given.scheduler) as client:
        names = {each["id"]: name for name, each in client.scheduler_info(-1)["workers"].items()}
        found = client.run(common.received)
        for name in sorted(names):
            print("stop:", name, "received by place:", found[names[name]], flush=True)
        client.shutdown()


if __name__ == "__main__":
    main()
