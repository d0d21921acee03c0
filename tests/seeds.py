"""The numbers from which tests draw what they draw: always the same, or others in `make explore`.

`make test` and `make check` meet nothing that they have not met before. `make explore` chooses one
number, prints it, and everything follows from it: ``make explore SEED=7`` draws the same again.
"""

import os

EXPLORED = os.environ.get("ONECOPY_EXPLORE")
SEED = int(EXPLORED or 2026)


def more(count):
    """How many examples or rounds: `count`, and ten times as many in `make explore`."""
    return 10 * count if EXPLORED else count
