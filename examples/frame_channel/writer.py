"""Write numbered frames into a pool that readers open by its name.

    python writer.py --pool camera --frames 1000

Start `reader.py` with the same --pool in another terminal, before or after.
"""

from __future__ import annotations

import argparse
import sys

import scene

import onecopy as oc


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--pool", default="camera", help="its name, the same for the reader")
    parser.add_argument("--frames", type=int, default=1000)
    arguments = parser.parse_args()

    # The first process makes the pool, the channel and the frames. The other one opens them.
    with oc.Pool(arguments.pool, size="256MiB") as pool:
        frames = pool.frames("frames", shape=scene.SHAPE, dtype="uint8", count=8)
        channel = pool.queue("channel", maxsize=4)
        for number in range(arguments.frames):
            frame = frames.acquire()  # waits while all eight are in the queue or being read
            scene.draw(number, frame)  # in place: nothing is copied, now or later
            channel.put((number, frame))
        channel.put((None, None))
        print(f"wrote {arguments.frames} frames")
        # The pool is removed with its last process. Stay until the reader has all frames.
        pool.queue("thanks", maxsize=1).get()
    return 0


if __name__ == "__main__":
    sys.exit(main())
