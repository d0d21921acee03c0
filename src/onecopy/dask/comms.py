"""Comms of Dask that send large frames by their places in a pool.

`TCP` and `TLS` of distributed do the work. This adds an *envelope* around messages with data, if
the handshake has shown that the peer has the same pool::

    {ENVELOPE: Serialized(header, frames)}
        header   number of the message; places of the frames that are not in `frames`
        frames   the other frames of the message
    {ACK: number}, {NACK: number}      about an envelope; Dask does not see them

docs/design/0027-hooks-and-dask.md says which process holds what when.
"""

from __future__ import annotations

import contextlib
import functools
import logging
import time
import weakref
from typing import TYPE_CHECKING, Any

from distributed.comm import tcp
from distributed.comm.core import CommClosedError
from distributed.comm.utils import from_frames, to_frames
from distributed.protocol.serialize import (
    Pickled,
    Serialize,
    Serialized,
    ToPickle,
    register_serialization_family,
)
from distributed.utils import offload
from tornado.ioloop import IOLoop

from onecopy.dask.counts import counts
from onecopy.dask.membership import membership

if TYPE_CHECKING:
    from onecopy._codec.places import Place
    from onecopy._codec.transport import ExportLease
    from onecopy.pool import Pool

__all__ = ["KEY", "ByPlace", "PlaceTCP", "PlaceTLS", "install", "shares_pool", "uninstall"]

_logger: logging.Logger = logging.getLogger("onecopy.dask")

VERSION = 1
KEY = "onecopy"  # in the handshake, and in the context of serializers
FAMILY = ENVELOPE = "onecopy-envelope"
ACK, NACK = "onecopy-ack", "onecopy-nack"
LINGER = 10.0  # seconds for what was on its way when a comm was closed
LATE = 1.0  # seconds after which a message is acknowledged that was not answered until then
_NO_SPLIT = 1 << 62  # frames are not split: a place has any length
# The scheduler asks for protocol 4 of pickle, which copies the data of a DataFrame into the pickle.
# Protocol 5 leaves it where it is. Each Python that Dask supports can read it.
_WITH_BUFFERS = 5
_OFFLOAD = 4 << 20  # bytes to copy from which on another thread copies them
# `BatchedSend` keeps what is smaller in a log, and with it arrays and their memory in the pool.
_NOT_LOGGED = 1_000_000
_DATA = (Serialize, Serialized, ToPickle, Pickled)


class _Envelope(list[Any]):
    """The header and the frames of an envelope that was read."""


class _Sent:
    """A message on its way: what holds its memory, and its frames if they must be sent again."""

    __slots__ = ("frames", "lease")

    def __init__(self, lease: ExportLease, frames: list[Any]) -> None:
        self.lease = lease
        self.frames = frames


def has_data(msg: Any) -> bool:
    """Tell whether a message has anything that is serialized to frames of its own."""
    stack = [msg]
    while stack:
        each = stack.pop()
        kind = type(each)
        if kind is dict:
            stack.extend(each.values())
        elif kind in {list, tuple}:
            stack.extend(each)
        elif isinstance(each, _DATA):
            return True
    return False


def shares_pool(context: Any) -> bool:
    """Tell whether a serializer works for a peer that gets places."""
    return bool(context and context.get(KEY))


class ByPlace(tcp.TCP):  # type: ignore[misc]  # distributed has no complete types
    """A comm that sends places to peers of the same pool; a mixin over `TCP` and `TLS`."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._sent_last: dict[int, _Sent] = {}  # until a message comes in, or an acknowledgement
        self._sent_unacked: dict[int, _Sent] = {}  # of streams: until the peer acknowledges
        self._number = 0
        self._only_bytes = False  # the peer could not import
        self._early: list[Any] = []  # read while a message was sent again
        self._owed: int | None = None  # the number of a message whose sender waits for an answer
        stream = self.stream
        if stream is not None:
            closed = functools.partial(_closed, weakref.ref(self), stream._close_callback)
            stream.set_close_callback(closed)

    def handshake_info(self) -> dict[str, Any]:
        """Tell the peer which pool this process has."""
        info: dict[str, Any] = super().handshake_info()
        membership.join()
        if membership.identity:
            info[KEY] = {"version": VERSION, "pool": membership.identity}
        return info

    @property
    def peer_shares_pool(self) -> bool:
        """Whether the handshake has shown that both have the same pool."""
        theirs, ours = self.remote_info.get(KEY), self.local_info.get(KEY)
        return theirs is not None and theirs == ours

    @property
    def pool(self) -> Pool | None:
        """The pool for places to this peer. None: send bytes."""
        if self._only_bytes or not self.peer_shares_pool:
            return None
        pool = membership.pool
        # A pool that was closed and made again is another one.
        return pool if membership.identity == self.local_info[KEY]["pool"] else None

    async def write(self, msg: Any, serializers: Any = None, on_error: str = "message") -> Any:
        """Send a message; large frames by place. Return its logical size in bytes.

        A caller that keeps small messages for its log must not keep this one.
        """
        self._owed = None  # the peer learns from this message that its last one was read
        if not self.peer_shares_pool or not has_data(msg):
            return await super().write(msg, serializers=serializers, on_error=on_error)
        if self.stream is None:
            raise CommClosedError
        pool = self.pool
        context = {
            "sender": self.local_info,
            "recipient": self.remote_info,
            **self.handshake_options,
            "compression": None,
            KEY: pool is not None and (serializers is None or "pickle" in serializers),
        }
        if pool is not None:
            context["pickle-protocol"] = _WITH_BUFFERS
        frames = await to_frames(
            msg,
            allow_offload=self.allow_offload,
            serializers=serializers,
            on_error=on_error,
            context=context,
            frame_split_size=_NO_SPLIT,
        )
        header: dict[str, Any] = {"serializer": FAMILY}
        logical = 0
        sent = await _export(pool, frames) if pool is not None else None
        if sent is not None:
            places, lease = sent
            logical = sum(map(_nbytes, frames))
            self._number += 1
            header["number"] = self._number
            header["places"] = [None if place is None else list(place) for place in places]
            # Dask sends lists on streams, and nothing that comes in says that one has arrived.
            header["ack"] = type(msg) is list
            waiting = self._sent_unacked if header["ack"] else self._sent_last
            waiting[self._number] = _Sent(lease, frames)
            frames = [frame for frame, place in zip(frames, places, strict=True) if place is None]
            counts.messages += 1
        if self.stream is None:
            self._release()
            raise CommClosedError
        written = await super().write({ENVELOPE: Serialized(header, frames)})
        return max(logical, _NOT_LOGGED) if sent is not None else written

    async def _read_next(self, deserializers: Any) -> Any:
        """Read the next message that is for Dask: an `_Envelope`, or the message itself."""
        while True:
            # An envelope is our own. What is in it is deserialized by Dask's rules, later.
            only = None if self.peer_shares_pool else deserializers
            try:
                msg = await super().read(deserializers=only)
            except CommClosedError:
                self._release()  # the peer reads nothing any more
                raise
            if type(msg) is dict and len(msg) == 1:
                if ACK in msg:
                    self._sent_unacked.pop(msg[ACK], None)
                    for number in [each for each in self._sent_last if each <= msg[ACK]]:
                        del self._sent_last[number]
                    continue
                if NACK in msg:
                    await self._send_again(msg[NACK])
                    continue
                if ENVELOPE in msg:
                    inside = msg[ENVELOPE]
                    if isinstance(inside, Serialized):  # of a comm that does not deserialize
                        return _Envelope([inside.header, inside.frames])
                    return inside
            return msg

    async def _send_again(self, number: int) -> None:
        """Send the bytes of a message: the peer cannot import it, and could not next time."""
        self._only_bytes = True
        sent = self._sent_last.pop(number, None) or self._sent_unacked.pop(number, None)
        if sent is None:  # the peer has acknowledged it already
            _logger.error("a peer asks for a message again that it has got: %r", self)
            self.abort()
            raise CommClosedError
        counts.resent += 1
        header = {"serializer": FAMILY, "again": number}
        await super().write({ENVELOPE: Serialized(header, sent.frames)})

    async def read(self, deserializers: Any = None) -> Any:
        """Read a message. Its large frames are memory of the pool, or private pages of it."""
        got = self._early.pop(0) if self._early else await self._read_next(deserializers)
        self._sent_last.clear()
        if type(got) is not _Envelope:
            return got
        header, frames = got
        if header.get("places") is not None:
            frames = await self._imported(header, frames, deserializers)
        try:
            return await from_frames(
                frames,
                deserialize=self.deserialize,
                deserializers=deserializers,
                allow_offload=self.allow_offload,
            )
        except EOFError:
            self.abort()
            raise CommClosedError("aborted stream on truncated data") from None

    async def _imported(self, header: Any, frames: list[Any], deserializers: Any) -> list[Any]:
        number = header["number"]
        try:
            views = self._import(header["places"])
        except Exception as error:  # noqa: BLE001 - whatever it is, the bytes are the answer
            counts.refused += 1
            _logger.debug("cannot import, so the bytes are asked for: %r", error)
            self._only_bytes = True
            await super().write({NACK: number})
            return await self._bytes_of(number, deserializers)
        if header["ack"]:
            await super().write({ACK: number})
        else:
            self._owed = number
            IOLoop.current().call_later(LATE, _acknowledge, weakref.ref(self), number)
        rest = iter(frames)
        return [next(rest) if view is None else view for view in views]

    async def acknowledge(self, number: int) -> None:
        """Acknowledge a message that may be the last one on this comm for a long time."""
        if self._owed == number and self.stream is not None:
            self._owed = None
            with contextlib.suppress(CommClosedError):
                await super().write({ACK: number})

    def _import(self, places: Any) -> list[memoryview | None]:
        pool = membership.pool
        if pool is None:
            raise CommClosedError("this process has left the pool")
        # In the scheduler, too: it unpickles graphs, and pickles their arrays again as they are.
        views = pool.import_(places, membership.settings.writable)
        counts.received += sum(view.nbytes for view in views if view is not None)
        return views

    async def _bytes_of(self, number: int, deserializers: Any) -> list[Any]:
        """Wait for the bytes of a message; keep for later what comes before them."""
        early = []
        while True:
            got = await self._read_next(deserializers)
            if type(got) is _Envelope and got[0].get("again") == number:
                break
            early.append(got)
        self._early.extend(early)
        frames: list[Any] = got[1]
        return frames

    def _release(self) -> None:
        self._sent_last.clear()
        self._sent_unacked.clear()

    def abort(self) -> None:
        """Close at once. What is on its way is lost."""
        super().abort()
        self._release()

    def close(self) -> Any:
        """Close. What was written may still be read, as with sockets; so its memory lingers."""
        if self._sent_last or self._sent_unacked:
            _linger([*self._sent_last.values(), *self._sent_unacked.values()])
        closing = super().close()
        self._release()
        return closing


class PlaceTCP(ByPlace):
    """`TCP` that sends places to peers of the same pool."""


class PlaceTLS(ByPlace, tcp.TLS):  # type: ignore[misc]
    """`TLS` that sends places to peers of the same pool."""


def _nbytes(frame: Any) -> int:
    return frame.nbytes if type(frame) is memoryview else memoryview(frame).nbytes


async def _export(pool: Pool, frames: list[Any]) -> tuple[list[Place | None], ExportLease] | None:
    """Give places for the large frames. None: there is none, or it is not possible now."""
    threshold = membership.threshold
    large = sum(size for size in map(_nbytes, frames) if size >= threshold)
    if not large:
        return None
    job = functools.partial(pool.export, frames, threshold)
    try:
        places, lease = await offload(job) if large >= _OFFLOAD else job()
    except Exception as error:  # noqa: BLE001 - bytes are always possible
        _logger.debug("cannot export, so bytes are sent: %r", error)
        return None
    counts.sent += lease.nbytes
    counts.copied += lease.copied
    counts.full += sum(
        place is None and _nbytes(frame) >= threshold
        for frame, place in zip(frames, places, strict=True)
    )
    return (places, lease) if lease else None


_lingering: list[tuple[float, list[_Sent]]] = []


def _linger(sent: list[_Sent]) -> None:
    _lingering.append((time.monotonic() + LINGER, sent))
    IOLoop.current().call_later(LINGER + 0.1, _end_lingering)


def _end_lingering() -> None:
    now = time.monotonic()
    _lingering[:] = [each for each in _lingering if each[0] > now]


async def _acknowledge(known: weakref.ref[ByPlace], number: int) -> None:
    comm = known()
    if comm is not None:
        await comm.acknowledge(number)


def _closed(known: weakref.ref[ByPlace], before: Any) -> None:
    """Release what a comm holds, when its peer has closed the connection."""
    if before is not None:
        before()
    comm = known()
    if comm is not None:
        comm._release()


_ENDS = {
    "TCPConnector": (PlaceTCP, tcp.TCP),
    "TCPListener": (PlaceTCP, tcp.TCP),
    "TLSConnector": (PlaceTLS, tcp.TLS),
    "TLSListener": (PlaceTLS, tcp.TLS),
}


def install() -> None:
    """Have new comms of this process send places."""
    register_serialization_family(FAMILY, None, lambda header, frames: _Envelope([header, frames]))
    for name, (ours, _) in _ENDS.items():
        getattr(tcp, name).comm_class = ours


def uninstall() -> None:
    """Have new comms of this process be Dask's own. Those that exist stay."""
    for name, (_, theirs) in _ENDS.items():
        getattr(tcp, name).comm_class = theirs
