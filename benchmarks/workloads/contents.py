"""What a message costs by what is in it: `put` and `get` through a queue, in one process.

Nothing is waited for and nobody else is there: so this is the time of taking the object apart and
building it again. Pickle alone, `pickle.loads(pickle.dumps(message, 5))`, stands next to it; it
copies the arrays.
"""

from __future__ import annotations

import datetime as dt
import decimal
import enum
import importlib.util
import pickle
import uuid
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import numpy.typing as npt

from benchmarks import peers
from benchmarks.harness import Member, Team, clock, interleave
from benchmarks.report import Report, at_most

if TYPE_CHECKING:
    from collections.abc import Callable

    from benchmarks.harness import Options, Step

BATCH = 200  # messages that are timed together: the best of many batches counts


@dataclass
class Frame:
    """A message of a camera."""

    id: int
    image: Any


@dataclass(slots=True)
class SlottedFrame:
    """The same with slots."""

    id: int
    image: Any


@dataclass
class TypedFrame:
    """The message of a typed queue."""

    id: int
    image: npt.NDArray[np.uint8]


class Pair(NamedTuple):
    """The same as a named tuple."""

    id: int
    image: Any


class Colour(enum.Enum):
    """An enum."""

    RED = 1


# Most microseconds that a message may take.
LIMITS = {
    "array in the pool": 0.35,
    "a slice of it": 0.35,
    '{"id": 7, "image": array}': 1.0,
    "(7, array)": 1.0,
    "[array, array, array]": 1.0,
    "dataclass with an array": 2.0,
    "named tuple with an array": 2.0,
    "typed queue: dataclass with an array": 0.8,
    '{"id": 7, "x": 10 floats}': 1.2,
    "np.float64": 0.5,
    "np.datetime64": 0.5,
    "datetime": 2.0,
    "Decimal": 2.0,
    "UUID": 2.0,
    "Path": 2.0,
    "enum": 2.0,
    "dict of 3 scalars": 0.6,
    "dict of 10 dicts": 2.0,
    "an object that is pickled, and an array": 20.0,
    "dataclass with slots, and an array": 2.0,
    "datetime with a zone": 2.0,
    '{"id": 7, "shared": shared array}': 1.0,
}
FRAME = "DataFrame of 1,000 rows and 3 columns"  # if pandas is installed
if importlib.util.find_spec("pandas") is not None:
    LIMITS[FRAME] = 50.0
ZONE = dt.timezone(dt.timedelta(hours=2))


def frame() -> Any:
    import pandas as pd

    numbers = np.arange(1000)
    return pd.DataFrame({"a": numbers, "b": numbers / 2, "c": numbers % 7})


def messages(
    array: Callable[[np.ndarray], np.ndarray], shared: Callable[[int], np.ndarray]
) -> dict[str, Any]:
    """Make the messages. `array` puts an array where it is to lie; `shared` makes a shared one."""
    image = array(np.zeros((480, 640), np.uint8))
    made = dict(
        zip(
            (name for name in LIMITS if name != FRAME),
            (
                image,
                image[100:200, 100:200],
                {"id": 7, "image": image},
                (7, image),
                [image, array(np.zeros(5000)), array(np.zeros(5000))],
                Frame(7, image),
                Pair(7, image),
                TypedFrame(7, image),
                {"id": 7, "x": np.zeros(10)},
                np.float64(2.5),
                np.datetime64("2024-05-06"),
                dt.datetime(2024, 5, 6, 7, 8, 9),  # noqa: DTZ001 - without a zone
                decimal.Decimal("1.25"),
                uuid.UUID(int=5),
                Path("/some/path/to/a.file"),
                Colour.RED,
                {"a": 1, "b": 2.5, "c": "text"},
                {f"key {i}": {"a": i, "b": "text"} for i in range(10)},
                {"id": 7, "image": image, "range": range(5)},
                SlottedFrame(7, image),
                dt.datetime(2024, 5, 6, 7, 8, 9, tzinfo=ZONE),
                {"id": 7, "shared": shared(100)},
            ),
            strict=True,
        )
    )
    if FRAME in LIMITS:
        made[FRAME] = frame()
    return made


def best_of(act: Callable[[Any], object], message: object, batches: int) -> float:
    """Microseconds for one message, in the fastest batch: the others waited for something."""
    best = float("inf")
    for _ in range(batches):
        start = clock()
        for _ in range(BATCH):
            act(message)
        best = min(best, clock() - start)
    return best / BATCH * 1e6


def onecopy_step() -> Step:
    import onecopy

    pool: Any = onecopy.Pool.create(size="64MiB")
    untyped, typed = pool.queue(), pool.queue(type=TypedFrame)

    def through(queue: Any) -> Callable[[object], None]:
        put, get = queue.put, queue.get

        def both(message: object) -> None:
            put(message)
            get()

        return both

    def step(count: int) -> dict[str, float]:
        return {
            name: best_of(through(typed if type(one) is TypedFrame else untyped), one, count)
            for name, one in messages(pool.array, pool.shared_array).items()
        }

    return step


def pickle_step() -> Step:
    def both(message: object) -> None:
        pickle.loads(pickle.dumps(message, 5))

    def step(count: int) -> dict[str, float]:
        return {
            name: best_of(both, one, count) for name, one in messages(np.array, np.zeros).items()
        }

    return step


def measure(setup: Any, seconds: float) -> dict[str, float]:
    with Team([Member("both", setup)]) as team:
        numbers: dict[str, float] = team.step(round(20 * seconds) + 5, 60.0 + 20 * seconds)["both"]
    return numbers


def run(options: Options) -> Report:
    report = Report("contents", "a message by what is in it, one process", "pickle alone")
    contenders = {"pickle alone": lambda: measure(pickle_step, options.seconds)}
    why_not = peers.without_onecopy(options)
    if why_not:
        report.skipped["onecopy"] = why_not
    else:
        contenders = {"onecopy": lambda: measure(onecopy_step, options.seconds), **contenders}
    outcomes = interleave(contenders, options.runs, options.say)
    for case, limit in LIMITS.items():
        report.add(case, "µs", outcomes, case)
        report.targets.append(at_most(case, report.median(case, "onecopy"), limit, "µs"))
    return report
