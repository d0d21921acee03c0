"""The seeds of the tests' random numbers: always the same, or others in `make explore`.

`make test` and `make check` run with the same numbers every time. `make explore` chooses one seed,
prints it, and all numbers follow from it: ``make explore SEED=7`` gives the same numbers again.
"""

import os

EXPLORED = os.environ.get("ONECOPY_EXPLORE")
SEED = int(EXPLORED or 2026)


def more(count):
    """How many examples or rounds: `count`, and ten times as many in `make explore`."""
    return 10 * count if EXPLORED else count
