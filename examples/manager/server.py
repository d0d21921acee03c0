"""The server: two queues that any machine may reach, and a word for the end.

    python server.py [--host 127.0.0.1] [--port 50000] [--key abc]

Port 0 takes a free one. It runs until Ctrl-C.
"""

from __future__ import annotations

import argparse
import queue
import signal
import sys
import threading

from onecopy.multiprocessing.managers import BaseManager

tasks: queue.Queue[dict] = queue.Queue()
results: queue.Queue[dict] = queue.Queue()
finished = threading.Event()


class Manager(BaseManager):
    """Hands out proxies of the three; whoever asks gets the same ones."""


Manager.register("get_tasks", callable=lambda: tasks)
Manager.register("get_results", callable=lambda: results)
Manager.register("get_finished", callable=lambda: finished)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "--host", default="127.0.0.1", help="0.0.0.0: reachable from other machines"
    )
    parser.add_argument("--port", type=int, default=50000)
    parser.add_argument("--key", default="abc", help="what masters and clients must know")
    arguments = parser.parse_args()

    server = Manager((arguments.host, arguments.port), arguments.key.encode()).get_server()
    print(f"server: listening on {arguments.host}, port {server.address[1]}", flush=True)
    try:
        server.serve_forever()  # until Ctrl-C, which ends it with status 0
    finally:
        print(f"server: ended, {tasks.qsize()} tasks and {results.qsize()} results left")
    return 0


if __name__ == "__main__":
    signal.signal(signal.SIGINT, signal.default_int_handler)  # also when started with `&`
    sys.exit(main())
