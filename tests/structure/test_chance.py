"""No test uses true chance: its random numbers come from a seed that is the same each time.

Names may be random: no result of a test depends on them.
"""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
BY_HAND = ("soak/__main__.py", "hostile/campaign.py")  # programs that choose a seed and print it
CHANCE = re.compile(
    r"SystemRandom|urandom\(|/dev/urandom|default_rng\(\)|\bRandom\(\)|use_true_random=True"
    r"|random_device|time\(nullptr\)"
)
OF_THE_MODULE = re.compile(r"\brandom\.(?!Random\b)\w+\(")


def drawn(text):
    """Find the uses of chance in the text of a test, or in a program inside it."""
    found = CHANCE.findall(text)
    if re.search(r"\bimport .*\brandom\b", text):
        found += OF_THE_MODULE.findall(text)
    return found


def sources():
    yield from ROOT.glob("native/tests/*.[ch]pp")
    for path in ROOT.glob("tests/**/*.py"):
        if path != Path(__file__) and not path.as_posix().endswith(BY_HAND):
            yield path


def test_nothing_is_drawn_from_chance():
    found = {str(path.relative_to(ROOT)): drawn(path.read_text()) for path in sources()}
    assert len(found) > 100
    assert {path: what for path, what in found.items() if what} == {}


@pytest.mark.parametrize(
    ("text", "count"),
    [
        ("import random\nrandom.shuffle(items)", 1),
        ("import os, random\nseed = random.randrange(5)", 1),
        ("rng = np.random.default_rng()", 1),
        ("seed = os.urandom(8)", 1),
        ("std::mt19937_64 numbers(std::random_device{}());", 1),
        ("import random\nnumbers = random.Random(SEED)\nnumbers.shuffle(items)", 0),
        ("random = np.random.default_rng(7)\nrandom.choice(items)", 0),
    ],
)
def test_what_is_found(text, count):
    assert len(drawn(text)) == count
