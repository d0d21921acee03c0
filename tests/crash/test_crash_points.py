"""The crash campaign: each public operation is killed at its crash points; others continue.

It needs a fault build: `make faults`, then ``PYTHONPATH=build/faults/site``. `make test` runs a
slice of it (`make explore` another one each time), `make crash` every crash point.
"""

import os

import pytest

from onecopy import _native

if not hasattr(_native, "crash_after"):
    pytest.skip("needs a fault build: make faults", allow_module_level=True)

from crash_operations import NOT_TRIED, OPERATIONS, public_operations
from crash_world import Victims, world
from seeds import SEED

FULL = os.environ.get("ONECOPY_CRASH") == "full"
BETWEEN = 4  # deaths of a slice between the first and the last steps of an operation


@pytest.mark.timeout(1800 if FULL else 120)
@pytest.mark.parametrize(
    "operation",
    [
        pytest.param(operation, id=operation.name, marks=[pytest.mark.check] * (number % 9 != 0))
        for number, operation in enumerate(OPERATIONS)
    ],
)
def test_killed_in(operation, pool_directory, record_property):
    print(f"seed {SEED}")
    with world(pool_directory) as at:
        victims = Victims(at, operation)
        victims.measure()
        if FULL:
            victims.all_steps()
        else:
            victims.some_steps(SEED, BETWEEN)
        assert victims.deaths or not victims.last
    record_property("deaths", victims.deaths)
    record_property("steps", victims.last)
    record_property("slowest", victims.slowest)


def test_every_public_operation_is_in_the_campaign():
    covered = {name for operation in OPERATIONS for name in operation.covers}
    public = set(public_operations())
    assert public - covered - set(NOT_TRIED) == set(), "add them to OPERATIONS, or say why not"
    assert set(NOT_TRIED) - public == set(), "these do not exist"
    assert covered - public - {"os.fork"} == set(), "these do not exist"
    assert covered & set(NOT_TRIED) == set(), "either one or the other"
