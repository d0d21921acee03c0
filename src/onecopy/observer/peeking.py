"""The next messages of a queue, without taking them: `QueueView.peek`.

The core copies their bytes through a mapping for reading only, and tells which copies are right
(native/queue/peek.cpp). All else happens on these copies.
"""

from __future__ import annotations

import contextlib
import math
import os
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from onecopy import _native
from onecopy._core import paths, pictures
from onecopy._core.arguments import integer
from onecopy._core.lines import cut
from onecopy._core.showing import described
from onecopy._typed.schema import load
from onecopy.errors import OneCopyError
from onecopy.observer.decoding import Record, Shown, decode

if TYPE_CHECKING:
    from collections.abc import Mapping

    import numpy.typing as npt

__all__ = ["Peek", "PeekedMessage", "QueueSource", "peek"]

_BUDGET = 1 << 27  # bytes of blocks that one call copies
_MOST = 1000
_WIDTH = 200  # columns of a text


@dataclass(frozen=True, slots=True)
class QueueSource:
    """Where a queue was when a snapshot was taken.

    Attributes
    ----------
    path : str
        The pool's file.
    pool_id : bytes
        Another pool may have the name later.
    block, generation : int
        Another thing may have the block later.
    schema : bytes or None
        The schema of a typed queue, if it is sound.
    """

    path: str
    pool_id: bytes
    block: int
    generation: int
    schema: bytes | None


class PeekedMessage(NamedTuple):
    """A message that is in a queue, or was when it was looked at.

    Attributes
    ----------
    position : int
        How many messages were put before it.
    text : str
        What it is, in one line of at most 200 columns. What only pickle could rebuild is shown as
        the name of its class or as "pickled, N bytes".
    nbytes : int
        Its size: in its slot, and in the blocks that it refers to.
    redeliveries : int
        How often it was given out before and came back.
    picture : ndarray or None
        A copy of the first array in it that may be a picture.
    problem : str or None
        Why it cannot be shown; then `text` is "".
    """

    position: int
    text: str
    nbytes: int
    redeliveries: int
    picture: npt.NDArray[Any] | None
    problem: str | None


class Peek(NamedTuple):
    """The next messages of a queue.

    Attributes
    ----------
    messages : tuple of PeekedMessage
        In the order in which they would be taken.
    taken : int
        How many were taken while we looked, and are not in `messages`. If receivers are faster than
        this function, `messages` may have fewer messages than the queue, or none.
    """

    messages: tuple[PeekedMessage, ...]
    taken: int


def peek(source: QueueSource, count: int) -> Peek:
    """Look at the next messages of a queue; see `QueueView.peek`.

    Parameters
    ----------
    source : QueueSource
        The queue.
    count : int
        At most how many messages.

    Returns
    -------
    Peek
        Copies.

    Raises
    ------
    ValueError
        `count` is less than 1 or more than 1000.
    OneCopyError
        The queue is gone, or its fixed fields make no sense.
    """
    count = integer("n", count)
    if not 1 <= count <= _MOST:
        raise ValueError(f"n must be from 1 to {_MOST}, not {count}")
    directory, filename = os.path.split(source.path)
    seen: dict[str, Any] = _native.peek_queue(
        directory,
        filename,
        not paths.is_pool_directory(directory),
        source.block,
        source.generation,
        count,
        _BUDGET,
    )
    if seen["id"] != source.pool_id or seen["found"] == "stale":
        raise OneCopyError(
            "the queue is gone: it was deleted, or its pool was removed, after this snapshot. Take "
            "another snapshot"
        )
    if seen["found"] != "ok":
        raise OneCopyError("the queue cannot be read: its fixed fields make no sense")
    schema = None
    if source.schema is not None:
        # If it is no schema, the messages are shown without the names of their fields.
        with contextlib.suppress(ValueError):
            schema = load(source.schema)
    return Peek(tuple(_message(raw, schema) for raw in seen["messages"]), seen["taken"])


def _message(raw: Mapping[str, Any], schema: Any) -> PeekedMessage:
    blocks = [] if raw["block"] is None else [raw["block"], *raw["children"]]
    nbytes = len(raw["bytes"]) + sum(length for length, _ in blocks)
    text, picture, problem = "", None, None
    if not raw["sound"]:
        problem = "its slot makes no sense"
    else:
        try:
            value = decode(raw["bytes"], raw["block"], raw["children"])
            text = _line(_named(value, schema))
            picture = _picture(value)
        except ValueError as error:
            problem = str(error)
        except Exception as error:  # noqa: BLE001 - numpy may raise or warn of anything
            problem = f"it cannot be shown: {type(error).__name__}"
    return PeekedMessage(raw["position"], text, nbytes, raw["redeliveries"], picture, problem)


def _line(value: Any) -> str:
    return cut(repr(value) if isinstance(value, Shown) else described(value), _WIDTH)


def _named(value: Any, schema: Any) -> Any:
    """Give records of a typed message the names of their fields."""
    match schema:
        case {"record": str(name), "fields": [*fields]} if isinstance(value, tuple) and len(
            value
        ) == len(fields):
            return Record(
                name, [(f[0], _named(v, f[1])) for f, v in zip(fields, value, strict=True)]
            )
        case {"optional": inner} if value is not None:
            return _named(value, inner)
        case {"list": inner} if isinstance(value, list):
            return [_named(each, inner) for each in value[:_MOST]]
    return value


def _picture(value: Any) -> npt.NDArray[Any] | None:
    if isinstance(value, Record):
        value = [field for _, field in value.fields]
    found = pictures.find(value)
    if found is None or math.prod(found.shape) * found.itemsize > _BUDGET:
        return None
    return np.array(found)
