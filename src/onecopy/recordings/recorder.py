"""`record`: writes what streams publish to a recording."""

from __future__ import annotations

import threading
import time
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, TypeAlias

from onecopy.errors import Closed, PoolCorrupted, ShutDown
from onecopy.recordings.writer import FLUSH_SECONDS, Compression, RecordingWriter
from onecopy.stream import Stream

if TYPE_CHECKING:
    import os
    from collections.abc import Iterable

    from onecopy.recordings.pictures import Format
    from onecopy.stream import Subscription

__all__ = ["RecordingReport", "record"]

Ending: TypeAlias = 'Literal["shut_down", "seconds", "max_bytes", "messages", "stopped"]'


class RecordingReport(NamedTuple):
    """What was recorded.

    Attributes
    ----------
    path : str
        The file.
    bytes : int
        Its size.
    messages : dict of str to int
        How many messages of each stream are in the file.
    missed : dict of str to int
        How many messages of each stream the recorder did not get, because it was too slow.
    pickled : dict of str to int
        How many of `messages` are pickles, if there are any. Reading them needs ``trust=True``.
    skipped : dict of str to int
        How many messages could not be received or written, if there are any.
    problem : str or None
        Why the first of `skipped` was skipped.
    ended : str
        "shut_down" (all streams were), "seconds", "max_bytes", "messages" (the limit of that name),
        or "stopped" (by `stop`).
    """

    path: str
    bytes: int
    messages: dict[str, int]
    missed: dict[str, int]
    pickled: dict[str, int]
    skipped: dict[str, int]
    problem: str | None
    ended: Ending


def record(
    streams: Stream[Any] | Iterable[Stream[Any]] | Mapping[str, Stream[Any]],
    path: str | os.PathLike[str],
    *,
    seconds: float | None = None,
    messages: int | None = None,
    max_bytes: int | None = None,
    history: int = 0,
    compression: Compression = "none",
    encode: Format | None = None,
    quality: int | None = None,
    overwrite: bool = False,
    flush_seconds: float = FLUSH_SECONDS,
    stop: threading.Event | None = None,
) -> RecordingReport:
    """Record streams to a file, until they are shut down or a limit is reached.

    Parameters
    ----------
    streams : Stream, iterable of Stream, or mapping of str to Stream
        Which streams. In the file, their messages have the names of the streams, or those of the
        mapping.
    path : str or path-like
        The file to make.
    seconds : float, optional
        How long to record.
    messages : int, optional
        How many messages to record, of all streams together.
    max_bytes : int, optional
        How large the file may become.
    history : int, optional
        How many earlier messages of each stream are recorded first; see `Stream.subscribe`.
    compression, encode, quality, overwrite, flush_seconds
        See `RecordingWriter`.
    stop : threading.Event, optional
        Set it, in another thread or a signal handler, to end the recording.

    Returns
    -------
    RecordingReport
        What is in the file, and what was missed.

    Raises
    ------
    ValueError
        There is no stream, two have the same name, a stream without a name is not in a mapping, or
        an argument is not valid.
    FileExistsError, ImportError
        See `RecordingWriter`.
    OSError
        The disk is full, or cannot be written. What was written before is readable.
    PoolCorrupted
        The memory of a stream breaks an invariant. What was recorded before is readable.

    Notes
    -----
    The time of a message is the time at which the recorder received it. The recorder is a
    subscriber: a lossless stream waits for it, a lossy stream does not. Each stream has a thread.

    A kill of the process loses the messages of the last `flush_seconds`. After an exception
    (KeyboardInterrupt, too), the file is ended before it is raised.

    Examples
    --------
    >>> pool = oc.Pool("studio", size="64MiB")
    >>> camera = pool.stream("camera", policy="lossless")
    >>> import threading, time
    >>> def publish():
    ...     while not camera.subscribers:
    ...         time.sleep(0.001)
    ...     for number in range(3):
    ...         camera.publish(np.full((2, 2), number))
    ...     camera.shutdown()
    >>> threading.Thread(target=publish).start()  # or another process
    >>> report = oc.record(camera, "camera.mcap")
    >>> report.messages, report.missed
    ({'camera': 3}, {'camera': 0})
    """
    named = _named(streams)
    for name, limit in (("seconds", seconds), ("messages", messages)):
        if limit is not None and not limit > 0:
            raise ValueError(f"{name}={limit}: it must be more than 0")
    subscriptions: dict[str, Subscription[Any]] = {}
    writer = RecordingWriter(
        path,
        compression=compression,
        encode=encode,
        quality=quality,
        max_bytes=max_bytes,
        overwrite=overwrite,
        flush_seconds=flush_seconds,
    )
    try:
        for name, stream in named.items():
            subscriptions[name] = stream.subscribe(history)
    except BaseException:
        for subscription in subscriptions.values():
            subscription.close()
        writer.close()
        raise
    run = _Run(writer, subscriptions, messages)
    try:
        run.until(stop or threading.Event(), seconds, flush_seconds)
    finally:
        run.end()
    return run.report()


def _named(
    streams: Stream[Any] | Iterable[Stream[Any]] | Mapping[str, Stream[Any]],
) -> dict[str, Stream[Any]]:
    if isinstance(streams, Mapping):
        named = dict(streams)
    else:
        named = {}
        for stream in [streams] if isinstance(streams, Stream) else streams:
            if stream.name is None:
                raise ValueError("a stream has no name: write {'name of the channel': stream}")
            if stream.name in named:
                raise ValueError(
                    f"two streams have the name {stream.name!r}: write a dict with the names that "
                    "they should have in the file"
                )
            named[stream.name] = stream
    if not named:
        raise ValueError("there is no stream to record")
    return named


class _Run:
    """The threads that record, one for each stream, and what they found."""

    def __init__(
        self,
        writer: RecordingWriter,
        subscriptions: dict[str, Subscription[Any]],
        most: int | None,
    ) -> None:
        self._writer, self._subscriptions = writer, subscriptions
        self._left = most
        self._lock = threading.Lock()  # of what follows
        self._missed = dict.fromkeys(subscriptions, 0)
        self._skipped: dict[str, int] = {}
        self._problem: str | None = None
        self._error: BaseException | None = None
        self._ended: Ending | None = None
        self._done = threading.Event()  # `until` has something to look at
        self._threads = [
            threading.Thread(target=self._take, args=item, name=f"record {item[0]}", daemon=True)
            for item in subscriptions.items()
        ]
        self._alive = len(self._threads)

    def until(self, stop: threading.Event, seconds: float | None, flush_seconds: float) -> None:
        """Record until something ends it."""
        began = time.monotonic()
        for thread in self._threads:
            thread.start()
        step = min(0.1, flush_seconds) or 0.1
        while not self._done.wait(step):
            if stop.is_set():
                self._end("stopped")
            elif seconds is not None and time.monotonic() - began >= seconds:
                self._end("seconds")
            try:
                self._writer.flush_due()
            except OSError as error:
                self._fail(error)

    def end(self) -> None:
        """End the threads and the file."""
        self._end("stopped")
        with self._lock:
            for name, subscription in self._subscriptions.items():
                self._missed[name] = max(self._missed[name], subscription.missed)
        for subscription in self._subscriptions.values():
            subscription.close()
        for thread in self._threads:
            if thread.ident is not None:
                thread.join()
        for name, missed in self._missed.items():
            self._writer.note_missed(name, missed)
        try:
            self._writer.close()
        except OSError as error:
            self._error = self._error or error
        if self._error is not None:
            raise self._error

    def report(self) -> RecordingReport:
        counts = self._writer.counts
        return RecordingReport(
            self._writer.path,
            self._writer.size,
            {name: counts.get(name, 0) for name in self._subscriptions},
            dict(self._missed),
            self._writer.pickled,
            dict(self._skipped),
            self._problem,
            self._ended or "stopped",
        )

    def _end(self, why: Ending) -> None:
        self._ended = self._ended or why
        self._done.set()

    def _fail(self, error: BaseException) -> None:
        self._error = self._error or error
        self._end("stopped")

    def _take(self, name: str, subscription: Subscription[Any]) -> None:
        """Record one stream, in a thread."""
        received = 0
        try:
            while not self._done.is_set():
                try:
                    message = subscription.get()
                except (Closed, ShutDown):
                    break
                except PoolCorrupted:
                    raise
                except Exception as error:  # noqa: BLE001 - unpickling runs code of others
                    self._skip(name, error)
                else:
                    missed = subscription.missed
                    if not self._write(name, message, received + missed):
                        break
                    self._missed[name] = max(self._missed[name], missed)
                    del message  # a frame becomes free while the next message is waited for
                received += 1
        except BaseException as error:  # noqa: BLE001 - `end` raises it
            self._fail(error)
        with self._lock:
            self._alive -= 1
            if not self._alive:
                self._end("shut_down")

    def _write(self, name: str, message: Any, sequence: int) -> bool:
        prepared, problem = None, ""
        try:
            prepared = self._writer._prepare(name, message)  # without the lock: it may take long
        except Exception as error:  # noqa: BLE001 - pickling runs code of others
            problem = str(error)  # the error itself would keep the message, by its traceback
        with self._lock:
            if self._done.is_set() or self._left == 0:
                return False
            if prepared is None:
                self._note(name, problem)
                return True
            try:
                if not self._writer._write(name, prepared, sequence):
                    self._end("max_bytes")
                    return False
            except OSError:
                raise
            except Exception as error:  # noqa: BLE001 - more channels than a file can have
                self._note(name, error)
                return True
            if self._left is not None:
                self._left -= 1
                if self._left == 0:
                    self._end("messages")
        return True

    def _skip(self, name: str, error: Exception) -> None:
        with self._lock:
            self._note(name, error)

    def _note(self, name: str, problem: Exception | str) -> None:
        self._skipped[name] = self._skipped.get(name, 0) + 1
        if self._problem is None:
            self._problem = f"{name!r}: {problem}"
