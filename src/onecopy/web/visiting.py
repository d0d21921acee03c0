"""Reading the newest message of a stream. For this, the process has to join the pool.

It joins on request only, and leaves as soon as no browser asks for pictures.
"""

from __future__ import annotations

import base64
import os
import queue
import threading
import time
from typing import TYPE_CHECKING, Any

from onecopy._core import membership
from onecopy._core.kinds import Kind
from onecopy._core.pictures import find, png, small
from onecopy._core.showing import described
from onecopy.errors import OneCopyError, PoolCorrupted, PoolNotFound
from onecopy.pool import Pool
from onecopy.web.watching import SHARE, key_of

if TYPE_CHECKING:
    from onecopy.stream import Stream

__all__ = ["NotJoinedError", "Visits"]

UNUSED = 10.0  # seconds without a request, after which the process leaves the pool


class NotJoinedError(OneCopyError):
    """The process is no member of the pool."""


class _Visit:
    """A pool that this process has joined."""

    def __init__(self, path: str) -> None:
        directory, filename = os.path.split(path)
        # It leaves unchanged what dead processes held, and does not remove a stale pool.
        self.pool = Pool.of(membership.open_file(directory, filename, only_looks=True))
        self.streams: dict[str, Stream[Any]] = {}
        self.used = time.monotonic()

    def stream(self, key: str) -> Stream[Any]:
        stream = self.streams.get(key)
        if stream is None:
            for name in self.pool.member.name_list(Kind.STREAM):
                if key_of(name) == key:
                    stream = self.streams[key] = self.pool.stream(name, wait=0)
                    break
            else:
                raise PoolNotFound("the pool has no such stream any more")
        return stream

    def close(self) -> None:
        for stream in self.streams.values():
            stream.close()
        self.streams.clear()
        self.pool.close()


class Visits:
    """The pools that this process has joined in order to read streams."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._visits: dict[str, _Visit] = {}

    def __len__(self) -> int:
        return len(self._visits)

    def join(self, path: str) -> None:
        """Join a pool.

        Parameters
        ----------
        path : str
            The pool's file.

        Raises
        ------
        OneCopyError, OSError
            It cannot be joined.
        """
        with self._lock:
            if path not in self._visits:
                self._visits[path] = _Visit(path)
            self._visits[path].used = time.monotonic()

    def leave(self, path: str) -> None:
        """Leave a pool; nothing happens if it is not joined.

        Parameters
        ----------
        path : str
            The pool's file.
        """
        with self._lock:
            visit = self._visits.pop(path, None)
            if visit is not None:
                visit.close()

    def leave_all(self, unused_for: float = 0.0) -> None:
        """Leave all pools that no browser has asked for lately.

        Parameters
        ----------
        unused_for : float, optional
            For so many seconds. Default: all pools.
        """
        before = time.monotonic() - unused_for
        with self._lock:
            for path, visit in list(self._visits.items()):
                if visit.used <= before:
                    del self._visits[path]
                    visit.close()

    def newest(self, path: str, key: str, after: int, *, bgr: bool) -> dict[str, Any]:
        """Return the newest message of a stream, as a picture or in words.

        Parameters
        ----------
        path : str
            The pool's file.
        key : str
            Stands for the name of the stream.
        after : int
            How many messages were published when the browser asked last. If there are no more now,
            the answer has no picture.
        bgr : bool
            As for `small`.

        Returns
        -------
        dict
            "published", "text", "png" (as base64), "every" (seconds until the next request).

        Raises
        ------
        NotJoinedError
            The process is no member of this pool.
        OneCopyError, OSError
            The stream is gone, or the pool is damaged.
        """
        with self._lock:
            visit = self._visits.get(path)
            if visit is None:
                raise NotJoinedError("the page is not a member of this pool")
            visit.used = time.monotonic()
            start = time.thread_time()
            stream = visit.stream(key)
            published = stream.published
            found: dict[str, Any] = {"published": published, "same": published == after}
            if published != after:
                found |= _newest(stream, bgr=bgr)
            # Before the process counts as unused.
            found["every"] = min(max(1.0, (time.thread_time() - start) / SHARE), UNUSED / 2)
            return found


def _newest(stream: Stream[Any], *, bgr: bool) -> dict[str, Any]:
    try:
        message = stream.latest()
    except queue.Empty:
        return {"text": "nothing was published yet"}
    except PoolCorrupted:
        raise
    except Exception as error:  # noqa: BLE001 - unpickling runs code of others
        return {"text": f"the message cannot be shown: {type(error).__name__}: {error}"}
    array = find(message)
    if array is None:
        return {"text": described(message)}
    picture = small(array, bgr=bgr)
    del array, message  # its memory is free before the work of encoding
    return {
        "text": picture.text,
        "png": base64.b64encode(png(picture.pixels)).decode(),
        "width": picture.pixels.shape[1],
        "height": picture.pixels.shape[0],
    }
