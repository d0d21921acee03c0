"""Read the frames that `writer.py` writes. None is lost, repeated or incomplete.

    python reader.py --pool camera [--out DIR]

The first frame is saved as 1_Image.jpg.
"""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path

import cv2
import scene

import onecopy as oc


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--pool", default="camera", help="its name, the same for the writer")
    parser.add_argument("--out", type=Path, default=Path(), help="folder for 1_Image.jpg")
    arguments = parser.parse_args()

    wrong: list[str] = []
    expected = 0
    started = 0.0
    with oc.Pool(arguments.pool, size="256MiB") as pool:
        channel = pool.queue("channel", maxsize=4)
        while True:
            number, frame = channel.get()  # waits for a complete frame
            if number is None:
                break
            if number != expected:
                wrong.append(f"frame {number} came where {expected} should have")
            expected = number + 1
            if not scene.is_frame(number, frame):
                wrong.append(f"frame {number} is not as it was drawn")
            if number == 0:
                started = time.monotonic()
                arguments.out.mkdir(parents=True, exist_ok=True)
                cv2.imwrite(str(arguments.out / "1_Image.jpg"), frame)
            del frame  # releases its memory now, not after the wait for the next frame
        seconds = time.monotonic() - started
        pool.queue("thanks", maxsize=1).put("all read")
    for line in wrong:
        print(f"WRONG: {line}", file=sys.stderr)
    print(
        f"read and checked {expected} frames, {(expected - 1) / seconds if expected else 0:,.0f} "
        f"a second; lost, repeated or unfinished: {len(wrong)}"
    )
    return 1 if wrong or not expected else 0


if __name__ == "__main__":
    sys.exit(main())
