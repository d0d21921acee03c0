"""`open_table`: Arrow and Parquet files as Arrow tables.

========================================  =========================================================
file                                      where the table's memory is
========================================  =========================================================
Arrow IPC (Feather), uncompressed         in the mapped file: nothing is read, nothing is copied
Arrow IPC, compressed; Parquet            in a pool: decoded once, one group after the other
========================================  =========================================================

Both travel by reference: a table over a mapping by the name of the file, a table in a pool like
everything in a pool.
"""

from __future__ import annotations

import contextlib
import os
import threading
from typing import TYPE_CHECKING, Any, NamedTuple, NoReturn
from weakref import WeakValueDictionary

import numpy as np

from onecopy._core.current import default_pool
from onecopy._core.membership import key_of
from onecopy.files import passing  # noqa: F401 - it connects mapped files to the codecs
from onecopy.files.advice import Advice, advise_range, checked_advice
from onecopy.files.errors import bad_file
from onecopy.files.mapping import Identity, Mapping, map_file, open_file

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    import pyarrow as pa

    from onecopy._core.membership import Key
    from onecopy._core.pool_type import AnyPool

__all__ = ["open_table"]

_HEAD = 8  # bytes at the beginning, which identify the format
_CONTINUATION = b"\xff\xff\xff\xff"  # the first bytes of each message of an IPC stream
_END_OF_STREAM = _CONTINUATION + bytes(4)


class _Key(NamedTuple):
    """Two calls of `open_table` with equal keys return the same table."""

    identity: Identity
    size: int
    mtime_ns: int
    columns: tuple[str, ...] | None
    pool: Key | None
    validate: bool


_known: WeakValueDictionary[_Key, Any] = WeakValueDictionary()
# Tables that threads are decoding, so that no table is decoded twice. The locks are recursive,
# because a signal handler may open the same file.
_reading: dict[_Key, threading.RLock] = {}


def _forked() -> None:
    _reading.clear()  # other threads of the parent may have owned these


os.register_at_fork(after_in_child=_forked)


def open_table(
    path: str | os.PathLike[str],
    *,
    columns: Sequence[str] | None = None,
    pool: AnyPool | None = None,
    validate: bool = True,
    prefault: bool = False,
    advise: Advice = None,
) -> pa.Table:
    """Open an Arrow or Parquet file as a table that processes share.

    Parameters
    ----------
    path : str or path-like
        An Arrow IPC file (Feather, version 2), an IPC stream, or a Parquet file. The contents of
        the file show which one it is.
    columns : sequence of str, optional
        Which columns, in this order. Default: all.
    pool : Pool, optional
        The pool for decoded data: of Parquet, and of compressed IPC. Default: the default pool, if
        a pool is needed.
    validate : bool, optional
        Whether to check every offset, index and text of an Arrow IPC file now. pyarrow trusts them
        afterwards, and a damaged file would end the process. Columns of numbers and times need no
        check. Text and lists are read for it, at the speed of memory. Use False for files that are
        known to be sound, for example files that this program wrote.
    prefault : bool, optional
        Whether to read an uncompressed IPC file into memory now.
    advise : {"sequential", "random"}, optional
        How the file will be read.

    Returns
    -------
    pyarrow.Table
        A read-only table. While it is alive, another call for the same unchanged file (with the
        same columns and pool) returns the same table. If it is sent on a queue, the receiver's
        table has the same memory.

    Raises
    ------
    BadFile
        The file is empty, cut short, damaged, or has another format; or it has no such column, or
        several of that name.
    PoolFull
        The pool has no room for the decoded table. Its memory is free again.
    OSError
        The file does not exist, or this process may not open it.
    ImportError
        pyarrow is not installed.

    Notes
    -----
    While a Parquet file is decoded, one row group is in ordinary memory besides the table in the
    pool. For compressed IPC it is one record batch. Do not change an uncompressed IPC file in place
    while it is open: replace it. Several threads may open tables at the same time. Threads that
    open the same table wait for the first one.

    Examples
    --------
    >>> import pyarrow as pa, pyarrow.feather
    >>> table = pa.table({"delay": [3, -1, 7]})
    >>> pyarrow.feather.write_feather(table, "flights.arrow", compression="uncompressed")
    >>> oc.open_table("flights.arrow").to_pandas()["delay"].sum()
    np.int64(9)
    """
    _import()
    checked_advice(advise)
    name = os.path.abspath(os.fsdecode(path))  # noqa: PTH100 - pathlib has no paths of bytes
    fd, there = open_file(name, writable=False)
    try:
        wanted = None if columns is None else tuple(columns)
        key = _Key(
            Identity.of(fd, there),
            there.st_size,
            there.st_mtime_ns,
            wanted,
            None if pool is None else key_of(pool.member),
            validate,
        )
        with _reading.setdefault(key, threading.RLock()):
            table = _known.get(key)
            if table is not None:
                return table
            try:
                mapping = map_file(fd, name, "r")
                head = os.pread(fd, _HEAD, 0)
                advise_range(mapping, 0, there.st_size, advise, prefault)
                table = _read(
                    _Source(fd, name, there.st_size, mapping, wanted, pool, validate), head
                )
                return _known.setdefault(key, table)  # a signal handler may have been faster
            finally:
                _reading.pop(key, None)  # a later call finds the table, or tries again
    finally:
        os.close(fd)


def _import() -> None:
    try:
        import pyarrow.ipc  # noqa: F401 - to raise early, with our own text
    except ImportError as error:
        raise ImportError(
            "open_table needs pyarrow, which is not installed: pip install 'onecopy[tables]'"
        ) from error


class _Source(NamedTuple):
    """A file, and which part of it to read."""

    fd: int
    path: str
    size: int
    mapping: Mapping
    columns: tuple[str, ...] | None
    pool: AnyPool | None
    validate: bool

    def fail(self, found: str, error: BaseException | None = None) -> NoReturn:
        raise bad_file(self.path, self.size, found) from error

    def memory(self) -> pa.Buffer:
        import pyarrow as pa

        return pa.py_buffer(memoryview(self.mapping)[: self.size])

    def file(self) -> pa.NativeFile:
        """Open the file for pyarrow's threads.

        pyarrow's threads release it at some time after the last read. Then they must not need the
        interpreter: if the interpreter is ending, a thread that frees a Python object would crash
        the process.
        """
        import pyarrow as pa

        with contextlib.suppress(OSError):  # without /proc
            return pa.memory_map(f"/proc/self/fd/{self.fd}")
        return pa.BufferReader(self.memory())

    def check_columns(self, there: Sequence[str]) -> None:
        missing = [name for name in self.columns or () if name not in there]
        if missing:
            self.fail(f"there is no column {', '.join(missing)}; columns: {', '.join(there)}")
        several = [name for name in self.columns or () if there.count(name) > 1]
        if several:
            self.fail(
                f"there are several columns {', '.join(several)}; open the file without columns, "
                "and select them by number"
            )


def _read(source: _Source, head: bytes) -> pa.Table:
    """Read a file according to its first bytes."""
    import pyarrow as pa

    if not head.startswith((b"ARROW1", b"PAR1", _CONTINUATION)):
        source.fail(_foreign(head))
    try:
        if head.startswith(b"PAR1"):
            return _parquet(source)
        of_file = head.startswith(b"ARROW1")
        return _assemble(source, *(_batches_of_file if of_file else _batches_of_stream)(source))
    except (pa.ArrowException, UnicodeError, KeyError) as error:
        source.fail(f"it begins like {_kind(head)}, but is cut short or damaged ({error})", error)
    except OSError as error:
        if error.errno is not None:
            raise
        source.fail(f"it begins like {_kind(head)}, but is cut short or damaged ({error})", error)


def _foreign(head: bytes) -> str:
    if head.startswith(b"FEA1"):
        return "it is a Feather file of version 1; write it again as version 2"
    if head.startswith(b"PARE"):
        return "it is an encrypted Parquet file"
    if head.startswith(b"\x93NUMPY"):
        return "it is a .npy file; open it with onecopy.open_array"
    return f"it is neither Arrow IPC nor Parquet: it begins with {head!r}"


def _kind(head: bytes) -> str:
    if head.startswith(b"PAR1"):
        return "a Parquet file"
    return "an Arrow IPC file" if head.startswith(b"ARROW1") else "an Arrow IPC stream"


# ------------------------------------------------------------------------------------- Arrow IPC


def _options(source: _Source, schema: pa.Schema) -> pa.ipc.IpcReadOptions:
    import pyarrow as pa

    source.check_columns(schema.names)
    # No threads, for the reason in `_Source.file`. Uncompressed data is not read here.
    options = pa.ipc.IpcReadOptions(use_threads=False)
    if source.columns is not None:
        names = enumerate(schema.names)
        options.included_fields = [index for index, name in names if name in source.columns]
    return options


def _batches_of_file(
    source: _Source,
) -> tuple[pa.Schema, Iterator[pa.RecordBatch]]:
    import pyarrow as pa

    memory = source.memory()
    whole = pa.ipc.open_file(memory)
    reader = pa.ipc.open_file(memory, options=_options(source, whole.schema))
    every = (reader.get_batch(index) for index in range(reader.num_record_batches))
    return reader.schema, every


def _batches_of_stream(
    source: _Source,
) -> tuple[pa.Schema, Iterator[pa.RecordBatch]]:
    import pyarrow as pa

    memory = source.memory()
    whole = pa.ipc.open_stream(memory)
    file = pa.BufferReader(memory)
    reader = pa.ipc.open_stream(file, options=_options(source, whole.schema))

    def every() -> Iterator[pa.RecordBatch]:
        yield from reader
        # pyarrow accepts the end of the file as the end of the stream. A file that was cut between
        # two batches would be a shorter table.
        ended = source.size - len(_END_OF_STREAM)
        if memory.slice(ended).to_pybytes() != _END_OF_STREAM or file.tell() != source.size:
            source.fail(
                "it begins like an Arrow IPC stream, but does not end like one (8 bytes, ff ff ff "
                "ff 00 00 00 00): it was cut short, its writer was not closed, or data follows "
                "after its end"
            )

    return reader.schema, every()


def _assemble(source: _Source, schema: pa.Schema, batches: Iterator[pa.RecordBatch]) -> pa.Table:
    """Make a table of record batches. Batches that were decompressed are copied into the pool."""
    import pyarrow as pa

    parts = []
    for batch in batches:
        batch.validate(full=source.validate)
        part = pa.Table.from_batches([batch], schema)
        parts.append(part if _lies_in(batch, source.mapping) else _into_pool(source, part))
    table = pa.concat_tables(parts) if parts else schema.empty_table()
    return table if source.columns is None else table.select(list(source.columns))


def _lies_in(batch: pa.RecordBatch, mapping: Mapping) -> bool:
    """Tell whether all memory of a batch lies in the file."""
    end = mapping.address + len(mapping)
    return all(
        mapping.address <= buffer.address and buffer.address + buffer.size <= end
        for column in batch.columns
        for buffer in _buffers(column)
        if buffer.size
    )


def _buffers(array: pa.Array) -> Iterator[pa.Buffer]:
    """Iterate over the buffers of an array, including those of its dictionaries."""
    import pyarrow as pa

    yield from (buffer for buffer in array.buffers() if buffer is not None)
    if pa.types.is_dictionary(array.type):
        yield from _buffers(array.dictionary)
    elif pa.types.is_struct(array.type):
        for index in range(array.type.num_fields):
            yield from _buffers(array.field(index))
    elif hasattr(array, "values") and not pa.types.is_primitive(array.type):
        yield from _buffers(array.values)


# --------------------------------------------------------------------------------------- Parquet


def _parquet(source: _Source) -> pa.Table:
    import pyarrow as pa
    import pyarrow.parquet as pq

    file = pq.ParquetFile(source.file())
    source.check_columns(file.schema_arrow.names)
    names = None if source.columns is None else list(source.columns)
    if names == []:
        return file.read(columns=names)  # the same number of rows, without columns
    parts = []
    for index in range(file.num_row_groups):
        group = file.read_row_group(index, columns=names)
        parts.append(_into_pool(source, group))
        del group
    table = pa.concat_tables(parts) if parts else file.schema_arrow.empty_table()
    return table if names is None else table.select(names)


# ------------------------------------------------------------------------------- into the pool


def _into_pool(source: _Source, part: pa.Table) -> pa.Table:
    """Copy a part of a table into one block of the pool, laid out as an IPC stream."""
    import pyarrow as pa

    if part.nbytes == 0:
        return part
    pool = source.pool
    if pool is None:
        pool = default_pool()
    counted = pa.MockOutputStream()
    _write(counted, part)
    memory = pool.empty(counted.size(), np.uint8)
    _write(pa.FixedSizeBufferWriter(pa.py_buffer(memory)), part)
    memory.flags.writeable = False
    return pa.ipc.open_stream(pa.py_buffer(memory)).read_all()


def _write(sink: Any, part: pa.Table) -> None:
    import pyarrow as pa

    with pa.ipc.new_stream(sink, part.schema) as writer:
        writer.write_table(part)
