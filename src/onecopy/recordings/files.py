"""MCAP files, below the level of messages: where the chunks and messages of a file are.

A recording that was ended has a *summary*, which says where the chunks are. A recording whose
process was killed has none. Then the file is read from record to record, without the contents of
the chunks, up to the last whole record. See docs/design/0025-recordings.md.
"""

from __future__ import annotations

import io
import os
import struct
import weakref
import zlib
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from onecopy.files.errors import bad_file

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    import numpy.typing as npt

__all__ = ["Chunk", "Contents", "RecordingFile", "import_mcap", "packed"]

MAGIC = b"\x89MCAP0\r\n"
HEAD = struct.Struct("<BQ")  # of each record: opcode, length
MESSAGE = struct.Struct("<HIQQ")  # channel, sequence, log time, publish time
CHUNK = struct.Struct("<QQQI")  # first time, last time, uncompressed size, CRC-32
SCHEMA_OP, CHANNEL_OP, MESSAGE_OP, CHUNK_OP, INDEX_OP = 0x03, 0x04, 0x05, 0x06, 0x07
CHUNK_INDEX_OP, METADATA_OP, DATA_END_OP, FOOTER_OP, HEADER_OP = 0x08, 0x0C, 0x0F, 0x02, 0x01
_FOOTER = struct.Struct("<BQQQI")
_ENTRY = np.dtype([("time", "<u8"), ("at", "<u8")])
_LARGEST_SMALL = 1 << 26  # bytes of a record that is not a chunk, a message or an index


def import_mcap() -> tuple[Any, Any]:
    """Return the modules of the package mcap that this package needs.

    Raises
    ------
    ImportError
        It is not installed.
    """
    try:
        from mcap import data_stream, records
    except ImportError as error:
        raise ImportError(
            "recordings need the package mcap, which is not installed: "
            "pip install 'onecopy[record]'"
        ) from error
    return records, data_stream


class Chunk(NamedTuple):
    """Where a chunk is: the position and length of its record, and of the index behind it."""

    at: int
    length: int
    index_length: int


class Contents:
    """What a file has.

    Attributes
    ----------
    schemas, channels : dict of int
        Records of mcap, by their ids.
    chunks : list of Chunk
        In the order of the file.
    entries : list of ndarray
        For each chunk, its messages in their order: channel, time and position in the chunk.
    metadata : dict of str to dict of str to str
        What the recorder noted at the end.
    complete : bool
        Whether the recording was ended, and has a summary.
    end : int
        The bytes of the file that were read: those after it belong to a recording in progress.
    """

    def __init__(self, end: int, complete: bool) -> None:
        self.schemas: dict[int, Any] = {}
        self.channels: dict[int, Any] = {}
        self.chunks: list[Chunk] = []
        self.entries: list[npt.NDArray[Any]] = []
        self.metadata: dict[str, dict[str, str]] = {}
        self.complete = complete
        self.end = end


class RecordingFile:
    """An open file. Any thread, and a forked child, may read it: there is no position.

    Parameters
    ----------
    path : str
        An absolute path.
    end : int, optional
        How much of the file counts. Default: all.
    """

    def __init__(self, path: str, end: int | None = None) -> None:
        self.records: Any
        self.records, self._streams = import_mcap()
        self.path = path
        self._last: tuple[int, memoryview] | None = None  # the chunk that was read last
        self._fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        self.close: weakref.finalize[[int], RecordingFile] = weakref.finalize(
            self, os.close, self._fd
        )
        try:
            status = os.fstat(self._fd)
            self.identity: tuple[int, int] = (status.st_dev, status.st_ino)
            self.size: int = status.st_size if end is None else min(end, status.st_size)
            self.contents: Contents = self._contents()
            self._last = None
        except BaseException:
            self.close()
            raise

    def bad(self, found: str) -> Exception:
        """Return the error that says what is wrong with the file."""
        return bad_file(self.path, self.size, found)

    # ------------------------------------------------------------------------------------- records

    def _read(self, at: int, length: int) -> bytes:
        """Read so many bytes, fewer only at the end of the file. None are before its beginning."""
        if at < 0:
            return b""
        data = os.pread(self._fd, min(length, max(0, self.size - at)), at)
        while len(data) < length:
            more = os.pread(self._fd, min(length, self.size - at) - len(data), at + len(data))
            if not more:
                break
            data += more
        return data

    def _record(self, at: int) -> tuple[int, int] | None:
        """Return opcode and length of the record at a position; None if it is not whole."""
        head = self._read(at, HEAD.size)
        if len(head) < HEAD.size:
            return None
        opcode, length = HEAD.unpack(head)
        if opcode == 0 or length > self.size - at - HEAD.size:
            return None
        return opcode, length

    def _parse(self, kind: Any, body: bytes | memoryview) -> Any:
        try:
            return kind.read(self._streams.ReadDataStream(io.BytesIO(body)))
        except Exception as error:
            raise self.bad(f"it has a damaged {kind.__name__} record: {error!r}") from error

    def _small(self, at: int, length: int) -> bytes:
        if length > _LARGEST_SMALL:
            raise self.bad(f"the record at byte {at} has {length} bytes, which is too many")
        return self._read(at + HEAD.size, length)

    def _take(self, contents: Contents, opcode: int, body: Callable[[], bytes]) -> None:
        """Note what a small record says."""
        if opcode == SCHEMA_OP:
            schema = self._parse(self.records.Schema, body())
            contents.schemas[schema.id] = schema
        elif opcode == CHANNEL_OP:
            channel = self._parse(self.records.Channel, body())
            contents.channels[channel.id] = channel
        elif opcode == METADATA_OP:
            metadata = self._parse(self.records.Metadata, body())
            contents.metadata[metadata.name] = metadata.metadata

    # ------------------------------------------------------------------------------------ contents

    def _contents(self) -> Contents:
        if self._read(0, len(MAGIC)) != MAGIC:
            raise self.bad("it is not a recording: it does not begin as MCAP files do")
        contents = self._summary() or self._scan()
        known = contents.channels.keys()
        if any(not set(np.unique(each["channel"])) <= known for each in contents.entries):
            for number in range(len(contents.chunks)):  # other programs write channels in chunks
                for opcode, _, body in self._inside(self.chunk(contents, number)):
                    if opcode in {SCHEMA_OP, CHANNEL_OP}:
                        self._take(contents, opcode, lambda body=body: bytes(body))  # type: ignore[misc]
        for each in contents.entries:
            unknown = set(np.unique(each["channel"])) - contents.channels.keys()
            if unknown:
                raise self.bad(f"it has messages of a channel {min(unknown)}, but no such channel")
        return contents

    def _summary(self) -> Contents | None:
        """Read the summary; None if there is none, or it is damaged."""
        tail = self._read(self.size - _FOOTER.size - len(MAGIC), _FOOTER.size + len(MAGIC))
        if len(tail) != _FOOTER.size + len(MAGIC) or tail[_FOOTER.size :] != MAGIC:
            return None
        opcode, length, start, _, crc = _FOOTER.unpack(tail[: _FOOTER.size])
        stop = self.size - _FOOTER.size - len(MAGIC)
        if (opcode, length) != (FOOTER_OP, _FOOTER.size - HEAD.size) or not 0 < start <= stop:
            return None
        data = self._read(start, stop - start)
        if crc and zlib.crc32(tail[: _FOOTER.size - 4], zlib.crc32(data)) != crc:
            return None
        contents = Contents(self.size, complete=True)
        messages = 0
        at = 0
        while at < len(data):
            if len(data) - at < HEAD.size:
                return None
            opcode, length = HEAD.unpack_from(data, at)
            body = data[at + HEAD.size : at + HEAD.size + length]
            if len(body) != length:
                return None
            if opcode == CHUNK_INDEX_OP:
                self._take_chunk(contents, self._parse(self.records.ChunkIndex, body))
            elif opcode == 0x0B:
                messages = self._parse(self.records.Statistics, body).message_count
            elif opcode == 0x0D:
                place = self._parse(self.records.MetadataIndex, body)
                found = self._record(place.offset)
                if found is not None and found[0] == METADATA_OP:
                    at_metadata, size = place.offset, found[1]
                    self._take(contents, METADATA_OP, lambda: self._small(at_metadata, size))  # noqa: B023 - it is called now
            else:
                self._take(contents, opcode, lambda: body)  # noqa: B023 - it is called now
            at += HEAD.size + length
        if messages and not contents.chunks:
            raise self.bad("its messages are not in chunks. `mcap convert` writes it with chunks")
        return contents

    def _take_chunk(self, contents: Contents, index: Any) -> None:
        chunk = Chunk(index.chunk_start_offset, index.chunk_length, index.message_index_length)
        if self._record(chunk.at) != (CHUNK_OP, chunk.length - HEAD.size):
            raise self.bad(f"its summary names a chunk at byte {chunk.at}, which is not there")
        self._add(contents, chunk)

    def _scan(self) -> Contents:
        """Read from record to record, up to the last whole one."""
        contents = Contents(self.size, complete=False)
        at = len(MAGIC)
        found: list[list[int]] = []  # position, length and length of the index, of each chunk
        while (record := self._record(at)) is not None:
            opcode, length = record
            if opcode == DATA_END_OP:
                break
            if opcode == CHUNK_OP:
                found.append([at, HEAD.size + length, 0])
            elif opcode == INDEX_OP and found:
                found[-1][2] += HEAD.size + length
            elif opcode == MESSAGE_OP:
                raise self.bad("its messages are not in chunks. `mcap convert` makes chunks")
            elif opcode in {SCHEMA_OP, CHANNEL_OP, METADATA_OP}:
                place = at
                try:
                    self._take(contents, opcode, lambda: self._small(place, length))  # noqa: B023 - it is called now
                except ValueError:  # a loss of power may leave zeros at the end
                    break
            at += HEAD.size + length
        contents.end = at
        for number, (position, length, index_length) in enumerate(found):
            # The index of the last chunk may be cut: what is in the chunk counts.
            last = number == len(found) - 1
            chunk = Chunk(position, length, 0 if last else index_length)
            try:
                self._add(contents, chunk)
            except ValueError:
                if not last:
                    raise  # after a loss of power the last chunk may be zeros; others may not
        return contents

    def _add(self, contents: Contents, chunk: Chunk) -> None:
        contents.chunks.append(chunk)
        try:
            contents.entries.append(
                self._index(chunk) if chunk.index_length else self._index_of_content(contents)
            )
        except BaseException:
            contents.chunks.pop()
            raise

    def _index(self, chunk: Chunk) -> npt.NDArray[Any]:
        data = self._read(chunk.at + chunk.length, chunk.index_length)
        parts = []
        at = 0
        while at < len(data):
            try:
                opcode, length = HEAD.unpack_from(data, at)
                channel, size = struct.unpack_from("<HI", data, at + HEAD.size)
            except struct.error:
                opcode = length = channel = size = 0
            if opcode != INDEX_OP or size != length - 6 or size % _ENTRY.itemsize:
                raise self.bad(f"the index behind the chunk at byte {chunk.at} is damaged")
            entries = np.frombuffer(data, _ENTRY, size // _ENTRY.itemsize, at + HEAD.size + 6)
            parts.append(_entries(np.full(len(entries), channel), entries["time"], entries["at"]))
            at += HEAD.size + length
        found = np.concatenate(parts) if parts else _entries([], [], [])
        return found[np.argsort(found["at"], kind="stable")]

    def _index_of_content(self, contents: Contents) -> npt.NDArray[Any]:
        channels, times, places = [], [], []
        for opcode, at, body in self._inside(self.chunk(contents, len(contents.chunks) - 1)):
            if opcode == MESSAGE_OP:
                if len(body) < MESSAGE.size:
                    raise self.bad("it has a message without a head")
                channel, _, time, _ = MESSAGE.unpack_from(body)
                channels.append(channel)
                times.append(time)
                places.append(at)
            else:
                self._take(contents, opcode, lambda body=body: bytes(body))  # type: ignore[misc]
        return _entries(channels, times, places)

    def _inside(self, data: memoryview) -> Iterator[tuple[int, int, memoryview]]:
        """Yield opcode, position and body of each record of a chunk."""
        at = 0
        while at < len(data):
            body = self._body(data, at)
            yield data[at], at, body
            at += HEAD.size + len(body)

    def _body(self, data: memoryview, at: int) -> memoryview:
        if at + HEAD.size > len(data):
            raise self.bad("a chunk has a record that is not whole")
        _, length = HEAD.unpack_from(data, at)
        if length > len(data) - at - HEAD.size:
            raise self.bad("a chunk has a record that is not whole")
        return data[at + HEAD.size : at + HEAD.size + length]

    # -------------------------------------------------------------------------------------- chunks

    def chunk(self, contents: Contents, number: int) -> memoryview:
        """Return the records of a chunk.

        Raises
        ------
        BadFile
            It is damaged.
        """
        last = self._last
        if last is not None and last[0] == number and contents is getattr(self, "contents", None):
            return last[1]
        data = memoryview(self._uncompressed(contents.chunks[number]))
        self._last = (number, data)
        return data

    def _uncompressed(self, chunk: Chunk) -> bytes | memoryview:
        record = self._read(chunk.at + HEAD.size, chunk.length - HEAD.size)
        try:
            _, _, size, crc = CHUNK.unpack_from(record)
            (name_length,) = struct.unpack_from("<I", record, CHUNK.size)
            start = CHUNK.size + 4 + name_length
            compression = record[CHUNK.size + 4 : start].decode()
            (length,) = struct.unpack_from("<Q", record, start)
        except (struct.error, UnicodeDecodeError):
            raise self.bad(f"the chunk at byte {chunk.at} is damaged") from None
        packed = memoryview(record)[start + 8 :]
        if len(packed) != length:
            raise self.bad(f"the chunk at byte {chunk.at} has {len(packed)} bytes, not {length}")
        try:
            data = _unpack(packed, compression, size)
        except Exception as error:
            raise self.bad(f"the chunk at byte {chunk.at} cannot be unpacked: {error}") from error
        if len(data) != size or (crc and zlib.crc32(data) != crc):
            raise self.bad(f"the chunk at byte {chunk.at} is damaged: its checksum is wrong")
        return data

    def message(self, number: int, at: int, channel: int) -> memoryview:
        """Return the bytes of a message.

        Parameters
        ----------
        number : int
            Of its chunk.
        at : int
            Its position in the chunk, as the index has it.
        channel : int
            Its channel, as the index has it.

        Raises
        ------
        BadFile
            There is no such message.
        """
        data = self.chunk(self.contents, number)
        if at + HEAD.size + MESSAGE.size <= len(data) and data[at] == MESSAGE_OP:
            body = self._body(data, at)
            if len(body) >= MESSAGE.size and MESSAGE.unpack_from(body)[0] == channel:
                return body[MESSAGE.size :]
        raise self.bad(f"its index says that chunk {number} has a message at byte {at}: it has not")


def _entries(channels: Any, times: Any, places: Any) -> npt.NDArray[Any]:
    found = np.empty(len(times), [("channel", "u2"), ("time", "u8"), ("at", "u8")])
    found["channel"], found["time"], found["at"] = channels, times, places
    return found


def packed(data: bytearray, compression: str) -> bytes | bytearray:
    """Compress the records of a chunk.

    Parameters
    ----------
    data : bytearray
        The records.
    compression : {"", "lz4", "zstd"}
        How.

    Returns
    -------
    bytes or bytearray
        The chunk; without compression the records themselves.
    """
    if compression == "zstd":
        import zstandard

        return bytes(zstandard.compress(data))
    if compression == "lz4":
        import lz4.frame

        return bytes(lz4.frame.compress(data))
    return data


def _unpack(data: memoryview, compression: str, size: int) -> bytes | memoryview:
    if compression == "":
        return data
    if compression == "zstd":
        import zstandard

        if zstandard.frame_content_size(data) not in {-1, size}:
            raise ValueError("its size is not what the record says")
        return bytes(zstandard.ZstdDecompressor().decompress(data, max_output_size=size))
    if compression == "lz4":
        import lz4.frame

        unpacked = lz4.frame.LZ4FrameDecompressor().decompress(data, max_length=size + 1)
        return bytes(unpacked)
    raise ValueError(f"its compression is {compression!r}")
