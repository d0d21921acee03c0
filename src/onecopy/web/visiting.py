"""Reading the newest message of a stream, or a frame. For this, the process has to join the pool.

It joins on request only, and leaves as soon as no browser asks for pictures.
"""

from __future__ import annotations

import base64
import os
import queue
import threading
import time
from contextlib import suppress
from typing import TYPE_CHECKING, Any

import numpy as np

from onecopy._core import membership
from onecopy._core.kinds import Kind
from onecopy._core.pictures import Picture, find, png, small
from onecopy._core.showing import described
from onecopy.errors import OneCopyError, PoolCorrupted, PoolNotFound, StaleRef
from onecopy.observer.frames_out import frames_out
from onecopy.pool import Pool
from onecopy.web.watching import SHARE, key_of

if TYPE_CHECKING:
    from onecopy._native import Member
    from onecopy.observer.frames_out import FrameOut
    from onecopy.stream import Stream

__all__ = ["NotJoinedError", "Visits"]

UNUSED = 10.0  # seconds without a request, after which the process leaves the pool


class NotJoinedError(OneCopyError):
    """The process is no member of the pool."""


class _Visit:
    """A pool that this process has joined."""

    def __init__(self, path: str) -> None:
        self.path = path
        directory, filename = os.path.split(path)
        # It leaves unchanged what dead processes held, and does not remove a stale pool.
        self.pool = Pool.of(membership.open_file(directory, filename, only_looks=True))
        self.streams: dict[str, Stream[Any]] = {}
        # Of the frames that were out at the last look, by the key of their set: the handle, and a
        # number that is greater the later the frame was seen first.
        self.frames: dict[str, dict[int, int]] = {}
        self.newest = 0
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

    def frame(self, key: str, *, bgr: bool) -> dict[str, Any]:
        for name in self.pool.member.name_list(Kind.FRAMES):
            if key_of(name) == key:
                break
        else:
            raise PoolNotFound("the pool has no such frame pool any more")
        # Not kept open: frames that no process has open can be made again, of another shape.
        with self.pool.frames(name, wait=0) as frames:
            shape, dtype, handle = frames.shape, frames.dtype, frames.handle
        out = frames_out(self.path, handle)
        # What is out for the first time was acquired last. Of several, one that was sent is whole.
        seen = self.frames.get(key, {})
        new = [each for each in out if each.handle not in seen]
        for each in sorted(new, key=lambda each: not each.pids):
            self.newest += 1
            seen[each.handle] = self.newest
        self.frames[key] = {each.handle: seen[each.handle] for each in out}
        for each in sorted(out, key=lambda each: -seen[each.handle]):
            # It may be another one by now. If it is free by now, nobody can acquire it until it is
            # copied.
            with suppress(StaleRef):
                found = _copy(self.pool.member, each.handle, shape, dtype, bgr=bgr)
                shown = {"text": found} if isinstance(found, str) else _encoded(found)
                return {
                    **shown,
                    "text": f"{_of(each)}: {shown['text']}",
                    "published": seen[each.handle],
                }
        return {"published": 0, "text": "no frame is out: all of them are free"}

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
            visit = self._visit(path)
            start = time.thread_time()
            stream = visit.stream(key)
            published = stream.published
            found: dict[str, Any] = {"published": published, "same": published == after}
            if published != after:
                found |= _newest(stream, bgr=bgr)
            found["every"] = _pace(start)
            return found

    def frame(self, path: str, key: str, after: int, *, bgr: bool) -> dict[str, Any]:
        """Return a frame that is out, as a picture or in words. It stays where it is.

        Of the frames that are out, it is the one that was acquired last, as far as this process has
        seen. Its holder may be writing to it.

        Parameters
        ----------
        path : str
            The pool's file.
        key : str
            Stands for the name of the set of frames.
        after : int
            The number of the frame that the browser shows. If no frame is out now, the answer has
            no picture, and the browser keeps its picture.
        bgr : bool
            As for `small`.

        Returns
        -------
        dict
            As `newest`. "published" is the number of the frame.

        Raises
        ------
        NotJoinedError
            The process is no member of this pool.
        OneCopyError, OSError
            The frames are gone, or the pool is damaged.
        """
        with self._lock:
            visit = self._visit(path)
            start = time.thread_time()
            found: dict[str, Any] = {"same": False} | visit.frame(key, bgr=bgr)
            if not found["published"] and after > 0:
                found = {"published": after, "same": True}
            found["every"] = _pace(start)
            return found

    def _visit(self, path: str) -> _Visit:
        visit = self._visits.get(path)
        if visit is None:
            raise NotJoinedError("the page is not a member of this pool")
        visit.used = time.monotonic()
        return visit


def _pace(start: float) -> float:
    """Return the seconds until the next request; at most, before the process counts as unused."""
    return min(max(1.0, (time.thread_time() - start) / SHARE), UNUSED / 2)


def _of(frame: FrameOut) -> str:
    if not frame.pids:
        return "A frame that was sent"
    more = f" and {len(frame.pids) - 1} more" if frame.pids[1:] else ""
    return f"A frame of process {frame.pids[0]}{more}, perhaps half written"


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
    return _encoded(picture)


def _copy(
    member: Member, handle: int, shape: tuple[int, ...], dtype: np.dtype[Any], *, bgr: bool
) -> Picture | str:
    """Copy a frame, or describe it. It is held until this returns."""
    array = np.ndarray(shape, dtype, memoryview(member.lease(handle)))
    return described(array) if find(array) is None else small(array, bgr=bgr)


def _encoded(picture: Picture) -> dict[str, Any]:
    return {
        "text": picture.text,
        "png": base64.b64encode(png(picture.pixels)).decode(),
        "width": picture.pixels.shape[1],
        "height": picture.pixels.shape[0],
    }
