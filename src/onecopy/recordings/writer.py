"""`RecordingWriter`: writes a recording so that a kill at any time leaves a readable file.

Messages are collected in memory, as a *chunk*. A chunk goes to the file at once, with its index,
at the position where the committed part of the file ends. Only then this position is moved. So an
error or an exception in the middle leaves bytes after the end, which the next write replaces.
"""

from __future__ import annotations

import os
import threading
import time
import weakref
import zlib
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Literal, TypeAlias

from onecopy._core.arguments import choice
from onecopy.errors import Closed, OneCopyError
from onecopy.recordings.chunks import Channel, Committed, Entry, Pending, Prepared
from onecopy.recordings.files import (
    CHUNK,
    CHUNK_INDEX_OP,
    CHUNK_OP,
    HEAD,
    MAGIC,
    MESSAGE,
    MESSAGE_OP,
    import_mcap,
    packed,
)
from onecopy.recordings.messages import PICKLES, encode
from onecopy.recordings.pictures import Pictures, settings_of

if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Self

    from onecopy.recordings.messages import Encoded, Form
    from onecopy.recordings.pictures import Format

__all__ = ["COMPRESSIONS", "Compression", "RecordingWriter"]

Compression: TypeAlias = 'Literal["none", "lz4", "zstd"]'
COMPRESSIONS: Final[tuple[Compression, ...]] = ("none", "lz4", "zstd")
CHUNK_BYTES = 1 << 20
FLUSH_SECONDS = 1.0
_MOST_FORMS = 64  # channels of the file for the shapes of one stream; more shapes are in CBOR
_LARGEST_CHUNK_HEAD = HEAD.size + CHUNK.size + 4 + 4 + 8
_END_BYTES = 400  # at most: DataEnd, statistics, offsets of the summary, footer, and their heads


class RecordingWriter:
    """Writes messages to a recording: an MCAP file with an index.

    `record` uses it for streams. Use it directly for data that is not in a stream. Any thread may
    call the methods.

    Parameters
    ----------
    path : str or path-like
        The file to make.
    compression : {"none", "lz4", "zstd"}, optional
        How chunks are compressed. Pictures of cameras take time and become little smaller.
        Default: "none".
    encode : {"png", "jpeg"}, optional
        How to encode uint8 arrays of height and width, or height, width and 3 (red, green, blue).
        PNG: also height, width and 4, and uint16 of height and width. They are read as arrays. PNG
        keeps every element; JPEG changes them, also in masks. Default: all arrays are kept.
    quality : int, optional
        Of JPEG: from 1 to 100. Default: 90.
    max_bytes : int, optional
        The file, with its index, does not become larger. `write` then returns False.
    overwrite : bool, optional
        Whether to replace an existing file. Processes that have the old one open keep it.
    flush_seconds : float, optional
        How long a message is kept in memory at most, if `write` or `flush_due` is called often
        enough. A kill of the process loses these messages.
    chunk_bytes : int, optional
        A chunk is written when it has this size. A message is never divided.

    Raises
    ------
    FileExistsError
        The file exists, and `overwrite` is false.
    ImportError
        The package mcap is not installed; or Pillow, which `encode` needs.
    OSError
        The file cannot be made.
    ValueError
        An argument is not valid.

    Notes
    -----
    A chunk that was written survives a kill of the process. `close` also waits until the disk has
    everything. A loss of power before that loses what the kernel has not yet written.

    Examples
    --------
    >>> writer = oc.RecordingWriter("run.mcap", compression="none")
    >>> writer.write("camera", np.zeros((480, 640), np.uint8))
    True
    >>> writer.write("sensor", {"celsius": 20.5})
    True
    >>> writer.note_missed("camera", 3)  # the recorder was too slow for three of them
    >>> writer.flush()  # now all messages are in the file
    >>> writer.flush_due()  # the same, if a message has waited for long enough
    >>> writer.close()
    >>> list(oc.open_recording("run.mcap").channels)
    ['camera', 'sensor']
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        *,
        compression: Compression = "none",
        encode: Format | None = None,
        quality: int | None = None,
        max_bytes: int | None = None,
        overwrite: bool = False,
        flush_seconds: float = FLUSH_SECONDS,
        chunk_bytes: int = CHUNK_BYTES,
    ) -> None:
        choice("compression", compression, COMPRESSIONS)
        if chunk_bytes < 1 or not flush_seconds >= 0:
            raise ValueError(
                f"chunk_bytes={chunk_bytes}, flush_seconds={flush_seconds}: at least 1 byte, and "
                "0 seconds or more"
            )
        self._records, self._streams = import_mcap()
        self._pictures = settings_of(encode, quality)
        self._path = os.path.abspath(os.fspath(path))  # noqa: PTH100 - paths are strings here
        self._compression = "" if compression == "none" else compression
        self._max_bytes = max_bytes
        self._flush_seconds, self._chunk_bytes = flush_seconds, chunk_bytes
        self._lock = threading.Lock()
        self._channels: dict[tuple[str, Form], Channel] = {}
        self._in_file: set[int] = set()  # channels whose records were committed
        self._forms: dict[str, int] = {}  # how many channels the arrays of a name have
        self._sequences: dict[str, int] = {}
        self._missed: dict[str, int] = {}
        self._log: list[Committed] = []
        self._pending = Pending(0)
        self._failed: OSError | None = None
        self._size = 0
        # Time since 1970 that never goes backwards, as a clock that is set may do.
        self._clock_offset = time.time_ns() - time.monotonic_ns()
        self._summary_bytes = _END_BYTES  # at most
        start = MAGIC + self._built(self._records.Header("", "onecopy"))
        self._start = len(start)
        if max_bytes is not None and max_bytes < self._start + self._summary_bytes:
            raise ValueError(f"max_bytes={max_bytes}: a recording has at least 1,000 bytes")
        if overwrite:
            Path(self._path).unlink(missing_ok=True)
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
        try:
            self._fd = os.open(self._path, flags, 0o666)
        except FileExistsError as error:
            error.strerror = "The file exists, and is not overwritten unless you ask for it"
            raise
        self._close_fd = weakref.finalize(self, os.close, self._fd)
        try:
            self._put(start, 0)
        except BaseException as error:
            self._close_fd()
            Path(self._path).unlink(missing_ok=True)
            if isinstance(error, OSError):
                error.filename = self._path
            raise

    # -------------------------------------------------------------------------------------- public

    @property
    def path(self) -> str:
        """The file."""
        return self._path

    @property
    def closed(self) -> bool:
        """Whether `close` was called."""
        return self._fd < 0

    @property
    def size(self) -> int:
        """The size in bytes of the file, without what is still in memory."""
        return self._size

    @property
    def counts(self) -> dict[str, int]:
        """How many messages of each channel are in the file. After `close`: all of them."""
        return self._summed("counts")

    @property
    def pickled(self) -> dict[str, int]:
        """How many of `counts` are pickles."""
        return self._summed("pickled")

    def write(
        self,
        channel: str,
        value: Any,
        time_ns: int | None = None,
        sequence: int | None = None,
    ) -> bool:
        """Write a message.

        Parameters
        ----------
        channel : str
            The name of the channel. A message of a new name makes the channel.
        value : object
            The message. Arrays and plain values are written so that any process can read them.
            Other objects are pickled; reading them needs ``trust=True``.
        time_ns : int, optional
            Nanoseconds since 1970. Default: now, by a clock that never goes backwards.
        sequence : int, optional
            The number of the message in its stream, counted from 0. A gap shows that messages were
            missed. Default: the one after the last.

        Returns
        -------
        bool
            False: the message is not written, because the file would have more than `max_bytes`.

        Raises
        ------
        OSError
            The disk is full, or cannot be written. What was written before stays readable. Every
            later call raises this, too.
        OneCopyError
            The value has a queue, a reference or the like, which means nothing without its pool.
        Closed
            The recording was closed.
        Exception
            The error of pickle, if the value cannot be pickled. Nothing is written.
        """
        return self._write(channel, self._prepare(channel, value, time_ns), sequence)

    def flush(self) -> None:
        """Write what is in memory to the file. It then survives a kill of the process.

        Raises
        ------
        OSError, Closed
            As `write`.
        """
        with self._lock:
            self._check()
            self._commit()

    def flush_due(self) -> None:
        """Call `flush` if a message has been in memory for `flush_seconds`."""
        with self._lock:
            if self._fd >= 0 and self._is_due():
                self._check()
                self._commit()

    def note_missed(self, channel: str, missed: int) -> None:
        """Note in the file how many messages of a channel the recorder did not get."""
        with self._lock:
            self._missed[channel] = missed

    def close(self) -> None:
        """Write what is in memory and the index, and close the file. Closing twice does nothing.

        Raises
        ------
        OSError
            The disk is full, or cannot be written. The file is closed. What was written before is
            readable, if need be without the index.
        """
        with self._lock:
            if self._fd < 0:
                return
            error = self._failed
            try:
                if error is None:
                    try:
                        self._commit()
                    except OSError as failed:
                        error = failed
                try:
                    self._write_end()
                except OSError as failed:
                    error = error or failed
            finally:
                self._fd = -1
                self._close_fd()
            if error is not None:
                raise error

    def __enter__(self) -> Self:
        """Use the writer in a ``with`` block, which closes it."""
        return self

    def __exit__(self, *_: object) -> None:
        """Close the file."""
        self.close()

    def __repr__(self) -> str:
        closed = ", closed" if self.closed else ""
        return f"<onecopy.RecordingWriter of {self._path!r}{closed}>"

    # ------------------------------------------------------------------------- messages and chunks

    def _prepare(self, name: str, value: Any, time_ns: int | None = None) -> Prepared:
        """Encode a message, which may take long and changes nothing. Its time is now, or given."""
        if time_ns is None:
            time_ns = time.monotonic_ns() + self._clock_offset
        pictures = None if self._pictures is None else Pictures(self._pictures)
        own_channel = self._forms.get(name, 0) < _MOST_FORMS
        return Prepared(encode(value, own_channel=own_channel, pictures=pictures), time_ns)

    def _write(self, name: str, prepared: Prepared, sequence: int | None) -> bool:
        """Write a message that was prepared for a channel of that name; see `write`."""
        with self._lock:
            self._check()
            return self._add(name, prepared.encoded, prepared.time, sequence)

    def _add(self, name: str, encoded: Encoded, time_ns: int, sequence: int | None) -> bool:
        """Add a message to the chunk that is collected."""
        length = sum(map(len, encoded.parts))
        pending = self._fresh()
        channel = self._channel(name, encoded.form)
        if not self._fits(pending, channel, length):
            return False
        if sequence is None:
            sequence = self._sequences.get(name, 0)
        head = MESSAGE.pack(channel.number, sequence & 0xFFFFFFFF, time_ns, time_ns)
        at = pending.used
        del pending.data[at:]  # an exception may have left a part of a message there
        pending.data += HEAD.pack(MESSAGE_OP, len(head) + length) + head
        for part in encoded.parts:
            pending.data += part
        if not pending.entries:
            pending.since = time.monotonic()
        pending.channels[channel.number] = channel
        pending.entries.append(Entry(channel, time_ns, at, len(pending.data)))  # it is in there
        self._sequences[name] = sequence + 1
        if pending.used >= self._chunk_bytes or self._is_due():
            self._commit()
        return True

    def _is_due(self) -> bool:
        pending = self._pending
        waiting = bool(pending.entries) and pending.number == len(self._log)
        return waiting and time.monotonic() - pending.since >= self._flush_seconds

    def _check(self) -> None:
        if self._fd < 0:
            raise Closed(f"the recording {self._path!r} was closed")
        if self._failed is not None:
            raise self._failed

    def _fresh(self) -> Pending:
        """Return the chunk that is collected; a new one if the last one was committed."""
        if self._pending.number != len(self._log):
            self._pending = Pending(len(self._log))
        return self._pending

    def _channel(self, name: str, form: Form) -> Channel:
        known = self._channels.get((name, form))
        if known is None:
            number = len(self._channels) + 1
            if number > 0xFFFF:
                raise OneCopyError(
                    f"the recording {self._path!r} has 65,535 channels, which is the most that the "
                    "format has: record fewer streams, or arrays of fewer shapes"
                )
            if name not in self._forms:
                self._forms[name] = 0
                self._summary_bytes += 100 + 2 * len(name.encode())  # of the metadata
            schema = b""
            if form.schema:
                self._forms[name] += 1
                kind = form.encoding
                schema = self._built(self._records.Schema(number, form.schema, kind, kind))
            channel = self._records.Channel(
                number, name, form.encoding, {}, number if schema else 0
            )
            records = schema + self._built(channel)
            known = Channel(number, name, records, form.encoding in PICKLES)
            self._channels[name, form] = known
        return known

    def _fits(self, pending: Pending, channel: Channel, length: int) -> bool:
        if self._max_bytes is None:
            return True
        used = len(pending.channels) + 1
        records = sum(len(each.records) for each in self._new_channels(pending, channel))
        data = pending.used + HEAD.size + MESSAGE.size + length
        data += (data >> 7) + 1024 if self._compression else 0  # incompressible data grows
        indexes = used * (HEAD.size + 6 + 10 + 10) + 16 * (len(pending.entries) + 1)
        summary = self._summary_bytes + HEAD.size + 80 + records
        total = self._end + records + _LARGEST_CHUNK_HEAD + data + indexes + summary
        return total <= self._max_bytes

    def _new_channels(self, pending: Pending, more: Channel | None = None) -> list[Channel]:
        """List the channels of a chunk whose records are not in the file yet."""
        found = dict(pending.channels)
        if more is not None:
            found[more.number] = more
        return [each for number, each in found.items() if number not in self._in_file]

    @property
    def _end(self) -> int:
        return self._log[-1].end if self._log else self._start

    def _commit(self) -> None:
        """Write the chunk that is collected. Appending to the log is what commits it."""
        pending = self._fresh()
        if not pending.entries:
            return
        try:
            committed = self._written(pending)
        except OSError as error:
            self._failed = _explained(error, self._path)
            raise self._failed from error
        self._log.append(committed)
        self._in_file.update(channel.number for channel in committed.channels)

    def _written(self, pending: Pending) -> Committed:
        entries = pending.entries
        del pending.data[pending.used :]
        new = self._new_channels(pending)
        preamble = b"".join(channel.records for channel in new)
        content = packed(pending.data, self._compression)
        times = [entry.time for entry in entries]
        name = self._compression.encode()
        head = (
            CHUNK.pack(min(times), max(times), len(pending.data), zlib.crc32(pending.data))
            + len(name).to_bytes(4, "little")
            + name
            + len(content).to_bytes(8, "little")
        )
        length = HEAD.size + len(head) + len(content)
        at = self._end + len(preamble)
        indexes, offsets = self._indexes(entries, at + length)
        index = self._records.ChunkIndex(
            chunk_length=length,
            chunk_start_offset=at,
            compression=self._compression,
            compressed_size=len(content),
            message_end_time=max(times),
            message_index_length=len(indexes),
            message_index_offsets=offsets,
            message_start_time=min(times),
            uncompressed_size=len(pending.data),
        )
        chunk_head = HEAD.pack(CHUNK_OP, length - HEAD.size) + head
        self._put(preamble + chunk_head, self._end)
        self._put(content, at + len(chunk_head))
        self._put(indexes, at + length)
        self._summary_bytes += len(preamble) + len(self._built(index)) + 10 * len(new)
        return Committed(
            at + length + len(indexes),
            index,
            tuple(new),
            _counted(entry.channel.name for entry in entries),
            _counted(entry.channel.name for entry in entries if entry.channel.pickled),
            _counted(entry.channel.number for entry in entries),
        )

    def _indexes(self, entries: Sequence[Entry], at: int) -> tuple[bytes, dict[int, int]]:
        by_channel: dict[int, list[tuple[int, int]]] = {}
        for entry in entries:
            by_channel.setdefault(entry.channel.number, []).append((entry.time, entry.at))
        offsets = {}
        built = b""
        for number, places in by_channel.items():
            offsets[number] = at + len(built)
            built += self._built(self._records.MessageIndex(number, places))
        return built, offsets

    # ------------------------------------------------------------------------------------- the end

    def _write_end(self) -> None:
        """Write metadata and summary. If that fails, the file ends after the last chunk."""
        try:
            self._put(self._summary(), self._end, cut=True)
            os.fsync(self._fd)
        except OSError as error:
            os.ftruncate(self._fd, self._end)
            self._size = self._end
            raise _explained(error, self._path) from error

    def _summary(self) -> bytes:
        records, built = self._records, self._built
        counts = self._summed("counts")
        noted = {f"messages/{name}": str(count) for name, count in counts.items()}
        noted |= {f"missed/{name}": str(count) for name, count in self._missed.items()}
        metadata = built(records.Metadata("onecopy", noted))
        data = metadata + built(records.DataEnd(0))
        start = self._end + len(data)
        by_number = {each.number: each for committed in self._log for each in committed.channels}
        channels = list(by_number.values())
        chunks = [committed.index for committed in self._log]
        by_channel: dict[int, int] = {}
        for committed in self._log:
            for number, count in committed.by_channel.items():
                by_channel[number] = by_channel.get(number, 0) + count
        statistics = records.Statistics(
            attachment_count=0,
            channel_count=len(channels),
            channel_message_counts=by_channel,
            chunk_count=len(chunks),
            message_count=sum(by_channel.values()),
            message_end_time=max((chunk.message_end_time for chunk in chunks), default=0),
            message_start_time=min((chunk.message_start_time for chunk in chunks), default=0),
            metadata_count=1,
            schema_count=sum(channel.records[0] == 0x03 for channel in channels),
        )
        groups = {
            0x0B: built(statistics),
            CHUNK_INDEX_OP: b"".join(built(chunk) for chunk in chunks),
            0x0D: built(records.MetadataIndex(self._end, len(metadata), "onecopy")),
        }
        summary = b"".join(channel.records for channel in channels)
        offsets = b""
        for opcode, group in groups.items():
            if group:
                offsets += built(records.SummaryOffset(opcode, start + len(summary), len(group)))
            summary += group
        footer = HEAD.pack(0x02, 20) + start.to_bytes(8, "little")
        footer += (start + len(summary)).to_bytes(8, "little")
        crc = zlib.crc32(footer, zlib.crc32(summary + offsets))
        return data + summary + offsets + footer + crc.to_bytes(4, "little") + MAGIC

    # ------------------------------------------------------------------------------------ the file

    def _put(self, data: bytes | bytearray | memoryview, at: int, *, cut: bool = False) -> None:
        """Write all of `data` at a position, and `cut` what was after it."""
        with memoryview(data) as rest:
            done = 0
            while done < len(rest):
                done += os.pwrite(self._fd, rest[done:], at + done)
        if cut:
            os.ftruncate(self._fd, at + done)
        self._size = at + done

    def _built(self, record: Any) -> bytes:
        builder = self._streams.RecordBuilder()
        record.write(builder)
        return bytes(builder.end())

    def _summed(self, field: Literal["counts", "pickled"]) -> dict[str, int]:
        found: dict[str, int] = {}
        for committed in list(self._log):
            for name, count in getattr(committed, field).items():
                found[name] = found.get(name, 0) + count
        return found


def _counted(things: Any) -> dict[Any, int]:
    found: dict[Any, int] = {}
    for thing in things:
        found[thing] = found.get(thing, 0) + 1
    return found


def _explained(error: OSError, path: str) -> OSError:
    what = (
        f"{error.strerror}. The recording ends here; all messages before are whole and can be read"
    )
    return OSError(error.errno, what, path)
