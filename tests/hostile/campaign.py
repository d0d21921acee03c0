"""The long run: ``python tests/hostile/campaign.py ROUNDS [SEED [NAME …]]``, or ``make fuzz``."""

from __future__ import annotations

import os
import random
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))
sys.path.insert(1, str(Path(__file__).parents[1]))

import messages
import packed
import segments
import typed

# Rounds of each: a damaged segment takes a hundred times as long as a damaged container.
CAMPAIGNS = (
    ("segments", segments.campaign, 1),
    ("messages", messages.campaign, 1),
    ("containers", packed.campaign, 20),
    ("typed", typed.campaign, 5),
)


def main():
    rounds = int(sys.argv[1])
    seed = int(sys.argv[2]) if len(sys.argv) > 2 else random.SystemRandom().getrandbits(32)
    print(f"seed {seed}", flush=True)
    failed = 0
    with tempfile.TemporaryDirectory(dir="/dev/shm", prefix="onecopy-fuzz-") as directory:
        os.environ["ONECOPY_DIR"] = directory
        for name, run, times in CAMPAIGNS:
            if len(sys.argv) > 3 and name not in sys.argv[3:]:
                continue
            start = time.monotonic()
            done, every, failures = run(directory, rounds * times, seed)
            took = time.monotonic() - start
            print(
                f"{name}: {done} rounds ({every} directed exist) in {took:.0f} s, "
                f"{len(failures)} failed",
                flush=True,
            )
            print(*failures, sep="\n")
            failed += len(failures)
    return failed != 0


if __name__ == "__main__":
    sys.exit(main())
