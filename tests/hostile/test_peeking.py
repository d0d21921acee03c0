"""`QueueView.peek` in pools whose words were changed at random: an error of ours, or messages."""

import collections
import os
import random
from pathlib import Path

import pytest
import segments
from forks import in_child
from seeds import SEED, more

import onecopy as oc


def peek_at_damaged(path, rounds, seed):
    """Change words of a pool, and look. It ends in an error of ours, or in messages."""
    draw = random.Random(seed)  # noqa: S311 - no secrets
    sound = Path(path).read_bytes()
    file = os.open(path, os.O_RDWR)
    layout = segments.Layout(file)
    regions = [
        region
        for region in layout.regions(file)
        if region.name in {"header", "queue", "chunk", "blocks", "envelope"}
    ]
    with oc.observe(path) as observer:
        view = next(each for each in observer.snapshot().queues if each.name == "queue")
    outcomes = collections.Counter()
    for _ in range(rounds):
        changes = []
        for _ in range(draw.randint(1, 4)):
            region = draw.choice(regions)
            at = region.offset + draw.randrange(0, region.length, 4)
            size = draw.choice([1, 4, 8])
            changes.append((at, draw.choice([draw.randbytes(size), b"\xff" * size, bytes(size)])))
        for at, data in changes:
            os.pwrite(file, data, at)
        try:
            seen = view.peek(50)
            outcomes["damaged" if any(each.problem for each in seen.messages) else "shown"] += 1
        except (oc.OneCopyError, OSError):
            outcomes["refused"] += 1
        for at, data in changes:
            os.pwrite(file, sound[at : at + len(data)], at)
    os.close(file)
    assert min(outcomes["damaged"], outcomes["shown"], outcomes["refused"]) > 0, outcomes


@pytest.mark.seeded
def test_damaged_pools_do_not_end_the_observer(pool_directory):
    path = str(pool_directory / "specimen.pool")
    assert in_child(segments.furnish, path) is None
    assert in_child(peek_at_damaged, path, more(300), SEED) is None
    Path(path).unlink()
