"""`Recording`: the messages of a file, as a sequence that is read when it is indexed."""

from __future__ import annotations

import operator
import os
from typing import TYPE_CHECKING, Any, NamedTuple, overload

import numpy as np

from onecopy.errors import Closed
from onecopy.recordings.files import RecordingFile
from onecopy.recordings.messages import array_of, decode, form_of

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from typing import Self

    import numpy.typing as npt

__all__ = ["RecordedChannel", "RecordedMessage", "Recording", "open_recording"]


class RecordedMessage(NamedTuple):
    """A message of a recording.

    Attributes
    ----------
    time_ns : int
        When it was recorded, in nanoseconds since 1970.
    channel : str
        The name of its channel.
    value : object
        The message.
    """

    time_ns: int
    channel: str
    value: Any


class RecordedChannel(NamedTuple):
    """A channel of a recording.

    Attributes
    ----------
    name : str
        The name: of a recorded stream, its name.
    messages : int
        How many messages it has here.
    encodings : tuple of str
        The forms of its messages: "onecopy.ndarray", "cbor", "pickle"; with pictures that are
        encoded: "onecopy.png", "onecopy.jpeg", "onecopy.cbor+pictures", "onecopy.pickle+pictures".
    dtype : numpy.dtype or None
        Of all its messages, if they are arrays with one dtype.
    shape : tuple of int or None
        Of all its messages, if they are arrays with one shape.
    missed : int or None
        How many messages the recorder did not get. None: unknown, because the recorder was killed.
    """

    name: str
    messages: int
    encodings: tuple[str, ...]
    dtype: np.dtype[Any] | None
    shape: tuple[int, ...] | None
    missed: int | None


class Recording:
    """The messages of a recording, in the order of their times; `open_recording` makes it.

    It is a sequence: ``len(recording)``, ``recording[i]``, slices, iteration. A message is read
    from the file when it is asked for. A slice and `channel` give a recording of some of the
    messages, without reading them. A `torch.utils.data.DataLoader` takes it as a dataset.

    Any thread may read it, and so may a forked child. A pickled recording opens the file again.

    Examples
    --------
    >>> with oc.RecordingWriter("run.mcap") as writer:
    ...     done = [writer.write("camera", number, time_ns=number) for number in range(4)]
    ...     done = [writer.write("sensor", {"at": 0.5}, time_ns=9)]
    >>> recording = oc.open_recording("run.mcap")
    >>> len(recording), recording[0], list(recording[1:3]), recording.complete
    (5, 0, [1, 2], True)
    >>> recording.message(4).channel, recording.message(4).time_ns
    ('sensor', 9)
    >>> [message.value for message in recording.messages()][:2]
    [0, 1]
    >>> len(recording.channel("camera")), list(recording.channels)
    (4, ['camera', 'sensor'])
    >>> recording.close()
    """

    _file: RecordingFile
    _trust: bool
    _entries: npt.NDArray[Any]  # of each message: chunk, position in it, channel, time
    _selection: tuple[slice | str, ...]  # how `_reopened` finds the same messages
    _times: npt.NDArray[np.int64]

    def __init__(self) -> None:
        raise TypeError("a Recording is made by onecopy.open_recording, not by calling the class")

    @classmethod
    def _of(
        cls,
        file: RecordingFile,
        trust: bool,
        entries: npt.NDArray[Any],
        selection: tuple[slice | str, ...],
    ) -> Self:
        self = cls.__new__(cls)
        self._file, self._trust, self._entries = file, trust, entries
        self._selection = selection
        self._times = entries["time"].astype(np.int64)
        self._times.flags.writeable = False
        return self

    # ----------------------------------------------------------------------------- what is in there

    @property
    def path(self) -> str:
        """The file."""
        return self._file.path

    @property
    def complete(self) -> bool:
        """Whether the recording was ended.

        False: its process was killed, or still records. Then the messages are those up to the last
        whole chunk.
        """
        return self._file.contents.complete

    @property
    def times(self) -> npt.NDArray[np.int64]:
        """When each message was recorded, in nanoseconds since 1970. It is read-only."""
        return self._times

    @property
    def names(self) -> list[str]:
        """The channel of each message."""
        channels = self._file.contents.channels
        return [channels[number].topic for number in self._entries["channel"].tolist()]

    @property
    def channels(self) -> dict[str, RecordedChannel]:
        """The channels, by their names. Those without a message in a slice are included."""
        contents = self._file.contents
        counts = np.bincount(self._entries["channel"], minlength=1 << 16)
        noted = contents.metadata.get("onecopy", {}) if contents.complete else {}
        by_name: dict[str, list[int]] = {}
        for number, channel in sorted(contents.channels.items()):
            by_name.setdefault(channel.topic, []).append(number)
        return {
            name: self._described(name, numbers, counts, noted) for name, numbers in by_name.items()
        }

    def _described(
        self, name: str, numbers: list[int], counts: Any, noted: Mapping[str, str]
    ) -> RecordedChannel:
        forms = [_form(self._file, number) for number in numbers]
        dtypes, shapes = set(), set()
        for form in forms:
            try:
                array = array_of(form)
                dtypes.add(None if array is None else array.dtype)
                shapes.add(None if array is None else tuple(array.shape))
            except (ValueError, TypeError):  # damaged: reading a message says so
                dtypes.add(None)
                shapes.add(None)
        missed = noted.get(f"missed/{name}", "")
        return RecordedChannel(
            name,
            int(sum(counts[number] for number in numbers)),
            tuple(dict.fromkeys(form.encoding for form in forms)),
            dtypes.pop() if len(dtypes) == 1 else None,
            shapes.pop() if len(shapes) == 1 else None,
            int(missed) if missed.isdecimal() else None,
        )

    # ------------------------------------------------------------------------------------- messages

    def __len__(self) -> int:
        return len(self._times)

    @overload
    def __getitem__(self, index: int) -> Any: ...
    @overload
    def __getitem__(self, index: slice) -> Self: ...
    def __getitem__(self, index: int | slice | str) -> Any:
        """Read a message; or return a recording of some messages, without reading them."""
        if isinstance(index, slice):
            start, stop, step = index.indices(len(self))
            index = slice(start, None if stop < 0 else stop, step)
            return self._some(index, index)
        if isinstance(index, str):
            raise TypeError(
                f"recording[{index!r}]: for a channel, write recording.channel({index!r})"
            )
        return self._value(self._place(index))

    def __iter__(self) -> Iterator[Any]:
        """Read one message after the other."""
        return map(self._value, range(len(self)))

    def message(self, index: int) -> RecordedMessage:
        """Read a message, with its time and its channel.

        Parameters
        ----------
        index : int
            As for ``recording[index]``.

        Returns
        -------
        RecordedMessage

        Raises
        ------
        IndexError
            There is no such message.
        BadFile, Untrusted, NotRebuilt, Closed
            As ``recording[index]``; see `open_recording`.
        """
        place = self._place(index)
        return RecordedMessage(int(self._times[place]), self._name(place), self._value(place))

    def messages(self) -> Iterator[RecordedMessage]:
        """Iterate over the messages, with their times and channels.

        Yields
        ------
        RecordedMessage
        """
        return map(self.message, range(len(self)))

    def channel(self, name: str) -> Self:
        """Return the messages of one channel.

        Parameters
        ----------
        name : str
            Of the channel.

        Returns
        -------
        Recording
            It reads the same file.

        Raises
        ------
        KeyError
            There is no such channel.
        """
        channels = self._file.contents.channels
        numbers = [number for number, each in channels.items() if each.topic == name]
        if not numbers:
            known = ", ".join(repr(each) for each in self.channels)
            raise KeyError(f"{self.path} has no channel {name!r}; it has: {known or 'none'}")
        return self._some(name, np.isin(self._entries["channel"], numbers))

    def _some(self, which: slice | str, places: slice | npt.NDArray[Any]) -> Self:
        self._check()
        entries = self._entries[places]
        return self._of(self._file, self._trust, entries, (*self._selection, which))

    def _place(self, index: int) -> int:
        number = operator.index(index)
        if not -len(self) <= number < len(self):
            raise IndexError(f"index {number}: the recording has {len(self)} messages")
        return number % len(self)

    def _name(self, place: int) -> str:
        return str(self._file.contents.channels[int(self._entries[place]["channel"])].topic)

    def _value(self, place: int) -> Any:
        self._check()
        chunk, at, channel, _ = self._entries[place].tolist()
        data = self._file.message(chunk, at, channel)
        where = f"message {place} of {self._name(place)!r} in {self.path}"
        return decode(_form(self._file, channel), data, self._trust, where)

    # ---------------------------------------------------------------------------------- the object

    @property
    def closed(self) -> bool:
        """Whether the file was closed, by this recording or by another one of the same file."""
        return not self._file.close.alive

    def close(self) -> None:
        """Close the file, also for slices and channels of this recording.

        Without it, the file is closed when no recording refers to it.
        """
        self._file.close()

    def _check(self) -> None:
        if self.closed:
            raise Closed(f"the recording {self.path} was closed here; open it again to read it")

    def __enter__(self) -> Self:
        """Use the recording in a ``with`` block, which closes it."""
        return self

    def __exit__(self, *_: object) -> None:
        """Close the file."""
        self.close()

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickle by the path. The receiver opens the file and reads the same messages."""
        file = self._file
        state = (file.path, file.identity, file.contents.end, self._trust, self._selection)
        return _reopened, state

    def __repr__(self) -> str:
        closed = ", closed" if self.closed else ""
        names = ", ".join(repr(name) for name in self.channels)
        return f"<onecopy.Recording {self.path!r}, {len(self)} messages of {names or 'no'}{closed}>"


def open_recording(path: str | os.PathLike[str], *, trust: bool = False) -> Recording:
    """Open a recording as a sequence of messages.

    Parameters
    ----------
    path : str or path-like
        A file that `record`, `RecordingWriter` or `onecopy record` has made. A recording whose
        process was killed, or still records, opens with the messages up to the last whole chunk.
    trust : bool, optional
        Whether to unpickle messages that are pickles. A pickle can run any code: use it only for
        files whose origin you trust. Arrays and plain values never need it.

    Returns
    -------
    Recording

    Raises
    ------
    BadFile
        It is not a recording, or it is damaged. Reading a message raises it if the part of the
        file with this message is damaged.
    OSError
        The file does not exist, or this process may not open it.
    ImportError
        The package mcap is not installed. Reading a message raises it if a picture in it is encoded
        as PNG or JPEG, and Pillow is not installed.

    Notes
    -----
    Reading a message raises `Untrusted` if it is a pickle and `trust` is false, `NotRebuilt` if
    its pickle cannot be loaded here, and `Closed` after `Recording.close`.

    Opening reads the index, about 20 bytes for each message. A message is read with its chunk, of
    about 1 MB; the chunk that was read last is kept.

    Examples
    --------
    >>> with oc.RecordingWriter("run.mcap") as writer:
    ...     for number in range(3):
    ...         writer.write("camera", np.full((2, 2), number))
    True
    True
    True
    >>> with oc.open_recording("run.mcap") as recording:
    ...     len(recording), int(recording[2][0, 0]), list(recording.channels)
    (3, 2, ['camera'])
    """
    file = RecordingFile(os.path.abspath(os.fspath(path)))  # noqa: PTH100 - paths are strings here
    return Recording._of(file, trust, _ordered(file), ())


def _ordered(file: RecordingFile) -> npt.NDArray[Any]:
    """List the messages by their times; messages of equal times in the order of the file."""
    contents = file.contents
    total = sum(map(len, contents.entries))
    kind = [("chunk", "u4"), ("at", "u8"), ("channel", "u2"), ("time", "u8")]
    found = np.empty(total, kind)
    start = 0
    for number, entries in enumerate(contents.entries):
        part = found[start : start + len(entries)]
        part["chunk"] = number
        for field in ("at", "channel", "time"):
            part[field] = entries[field]
        start += len(entries)
    return found[np.argsort(found["time"], kind="stable")]


def _form(file: RecordingFile, number: int) -> Any:
    channel = file.contents.channels[number]
    schema = file.contents.schemas.get(channel.schema_id)
    if schema is None:
        return form_of(channel.message_encoding, "", b"")
    return form_of(channel.message_encoding, schema.encoding, schema.data)


def _reopened(
    path: str, identity: tuple[int, int], end: int, trust: bool, selection: tuple[Any, ...]
) -> Recording:
    file = RecordingFile(path, end)
    if (file.identity, file.contents.end) != (identity, end):
        file.close()
        raise file.bad(
            "it was replaced or cut after the recording was pickled: open it again by its path"
        )
    recording = Recording._of(file, trust, _ordered(file), ())
    for which in selection:
        recording = recording.channel(which) if isinstance(which, str) else recording[which]
    return recording
