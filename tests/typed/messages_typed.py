"""Types of messages that the tests share. Annotations are strings here, as in most new programs."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Annotated, Any, NamedTuple, NotRequired, TypedDict

import numpy as np
import numpy.typing as npt

from onecopy import Shape

Image = Annotated[npt.NDArray[np.uint8], Shape(4, 6, 3)]


@dataclass
class Pose:
    """A record within a record."""

    x: float
    y: float = 0.0


@dataclass
class Frame:
    """What a camera sends."""

    id: int
    image: Image
    pose: Pose | None = None
    tags: list[str] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Slotted:
    """A frozen dataclass with slots."""

    id: int
    image: npt.NDArray[np.uint8]


class Named(NamedTuple):
    """A named tuple."""

    id: int
    image: npt.NDArray[np.uint8]


class Mapping(TypedDict):
    """A dict whose keys are all there."""

    id: int
    image: npt.NDArray[np.uint8]


class Partial(TypedDict):
    """A dict with a key that may be absent."""

    id: int
    note: NotRequired[str]


@dataclass
class Everything:
    """A field of each kind."""

    nothing: None
    flag: bool
    number: int
    real: float
    point: complex
    text: str
    data: bytes
    scalar: np.float32
    moment: np.datetime64
    anything: np.ndarray
    floats: npt.NDArray[np.floating]
    exact: Annotated[npt.NDArray[np.void], np.dtype([("x", "f4"), ("y", "i8", (2,))])]
    matrix: np.ndarray[tuple[int, int], np.dtype[np.int64]]
    many: list[Pose]
    pair: tuple[int, Pose]
    run: tuple[float, ...]
    table: dict[str, list[Pose]]
    maybe: float | None
    part: Partial
    named: Named


def everything(**other: Any) -> Everything:
    """Make one."""
    exact = np.zeros(3, [("x", "f4"), ("y", "i8", (2,))])
    values: dict[str, Any] = {
        "nothing": None,
        "flag": True,
        "number": 10**30,
        "real": 2.5,
        "point": 1j,
        "text": "\ud800 text",
        "data": b"\0data",
        "scalar": np.float32(1.5),
        "moment": np.datetime64("2024-05-06"),
        "anything": np.array(["2020"], "M8[Y]"),
        "floats": np.ones((2, 0, 3), np.float16),
        "exact": exact,
        "matrix": np.arange(6).reshape(2, 3),
        "many": [Pose(1.0), Pose(2.0, 3.0)],
        "pair": (1, Pose(4.0)),
        "run": (1.0, 2.0),
        "table": {"a": [Pose(5.0)], "b": []},
        "maybe": None,
        "part": {"id": 1},
        "named": Named(1, np.zeros(2, np.uint8)),
    }
    return Everything(**{**values, **other})


def is_equal(one: Any, other: Any) -> bool:
    """Compare two messages, with their classes."""
    if type(one) is not type(other):
        return False
    if isinstance(one, np.ndarray):
        return one.dtype == other.dtype and one.shape == other.shape and bool((one == other).all())
    if hasattr(one, "__dataclass_fields__"):
        names = one.__dataclass_fields__
        return all(is_equal(getattr(one, name), getattr(other, name)) for name in names)
    if isinstance(one, dict):
        return list(one) == list(other) and all(is_equal(one[key], other[key]) for key in one)
    if isinstance(one, list | tuple):
        return len(one) == len(other) and all(map(is_equal, one, other))
    return bool(one == other)
