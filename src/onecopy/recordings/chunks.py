"""What a writer of recordings has in memory, before and after it is in the file."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from onecopy.recordings.messages import Encoded

__all__ = ["Channel", "Committed", "Entry", "Pending", "Prepared"]


class Channel(NamedTuple):
    """A channel of the file: messages of one name and form."""

    number: int
    name: str
    records: bytes  # schema and channel, as the file has them
    pickled: bool


class Prepared(NamedTuple):
    """A message that is not in a chunk yet, and when it came."""

    encoded: Encoded
    time: int


class Entry(NamedTuple):
    """A message in a chunk."""

    channel: Channel
    time: int
    at: int
    end: int


class Committed(NamedTuple):
    """What is in the file after a chunk."""

    end: int
    index: Any  # the ChunkIndex of mcap
    channels: tuple[Channel, ...]  # those that appear first in this chunk
    counts: dict[str, int]
    pickled: dict[str, int]
    by_channel: dict[int, int]


class Pending:
    """The chunk that is collected."""

    def __init__(self, number: int) -> None:
        self.number = number  # how many chunks were committed before
        self.data = bytearray()
        self.entries: list[Entry] = []
        self.channels: dict[int, Channel] = {}
        self.since = 0.0  # when its first message came

    @property
    def used(self) -> int:
        """The bytes of its messages."""
        return self.entries[-1].end if self.entries else 0
