"""``python -m tests.soak --minutes 30``; the package's docstring says what it does and counts."""

from __future__ import annotations

import argparse
import os
import random
import sys
import tempfile

from .campaign import Options, Soak


def main() -> int:
    """Run the soak; return 1 if anything is wrong."""
    parser = argparse.ArgumentParser(prog="python -m tests.soak")
    parser.add_argument("--minutes", type=float, default=5.0)
    parser.add_argument("--seed", type=int, default=None, help="of an earlier run")
    parser.add_argument("--round", type=float, default=10.0, help="seconds between two accounts")
    parser.add_argument(
        "--pace", type=float, default=0.03, help="seconds between two kills or stops"
    )
    parser.add_argument(
        "--redeliver",
        choices=["auto", "yes", "no"],
        default="auto",
        help="whether the queue gives back what a killed worker took; auto: in every other round",
    )
    chosen = parser.parse_args()
    seed = random.SystemRandom().randrange(1 << 30) if chosen.seed is None else chosen.seed
    with tempfile.TemporaryDirectory(prefix="onecopy-soak-", dir=_memory()) as directory:
        os.environ["ONECOPY_DIR"] = directory
        print(f"seed {seed}, {chosen.minutes:g} minutes, redeliver={chosen.redeliver}", flush=True)
        options = Options(chosen.minutes, seed, chosen.round, chosen.redeliver, chosen.pace)
        counts = Soak(options).run()
    print(counts.table())
    return 0 if counts.good else 1


def _memory() -> str | None:
    return "/dev/shm" if os.access("/dev/shm", os.W_OK) else None  # noqa: S108 - a directory of its own is made in it


if __name__ == "__main__":
    sys.exit(main())
