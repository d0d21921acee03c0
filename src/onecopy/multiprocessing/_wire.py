"""What managers and their proxies talk through: connections on which arrays go by reference.

A message is a pickle, as the standard library's is. Where both ends see one pool, an array of 64
KiB or more (and any that lies in the pool already) is put into it, and the pickle has a stand-in: a
call of `arrive` with the pool's handle and the block's. Unpickling is all that the receiver does
about it. Otherwise, and when the pool is full, the bytes follow in the pickle. The sender decides;
there is one way to receive.

A stand-in is sent only to a peer that has joined the pool: a client asks the server for its pool;
if it can join that, it says so. The question is put in words that a server of the standard library
answers with an error, and a client of the standard library never asks. To either, everything goes
as it would from its like.

A stand-in keeps nothing alive. So the sender keeps what it stands for, until the next message comes
in on that connection. For a client that is the answer, which comes when the server has unpickled
the request. The next request may be long in coming: so a client that has unpickled an answer with
stand-ins says so at once, by an empty message that is no request. It needs no word about that
before: only a peer that has agreed on a pool ever gets a stand-in, or sends one. When the receiver
dies before, the connection ends, and what was kept for it is released.

An array that was copied for a message belongs to the receiver, which may write it; when it is sent
again it is copied again. So two processes have the same memory only if neither may write it, or if
it is a `SharedArray`.
"""

from __future__ import annotations

import errno
import io
import os
import pickle
import socket
import struct
from contextlib import suppress
from multiprocessing import connection, util
from multiprocessing import context as standard_context
from multiprocessing import managers as standard
from typing import TYPE_CHECKING, Any, NoReturn

from onecopy._core import membership, paths
from onecopy._core.current import default_member
from onecopy.errors import OneCopyError
from onecopy.multiprocessing._wire_errors import (
    NoManagerError,
    ServerEnded,
    ended,
    is_out_of_reach,
    reaching,
)
from onecopy.multiprocessing._wire_objects import SERIALIZER, Apart, MessagePickler, receiving

if TYPE_CHECKING:
    from onecopy._core.membership import PoolHandle
    from onecopy._native import Member

__all__ = ["SERIALIZER", "Client", "Connection", "Listener", "offer", "reaching"]

ACKNOWLEDGED = b""  # what stands for an answer has been unpickled. No pickle is empty
SILENCE = 120  # seconds after which a machine that says nothing is taken for gone
PATIENCE = 30  # seconds for a peer to be reached, and to answer, until it is known to be one of us
BACKLOG = 128  # callers that may wait for `accept`; the standard library had 16 until 3.13

QUESTION = "#ONECOPY"  # a method that every object of a server of ours has


# ------------------------------------------------------------------------------------ the two ends


class Connection(connection.Connection):
    """The server's end of a connection.

    What comes from the peer is unpickled once it has proved that it has the key: the standard
    library's server sees to that before it calls `recv`.
    """

    handle: PoolHandle | None = None
    _ours: bool | None = False
    _pool: Member | None = None
    _offered: Member | None = None
    _unproved = False
    _in_flight: Any = None

    @classmethod
    def accepted(cls, plain: connection.Connection[Any, Any]) -> Connection:
        """Take over a connection that has been accepted; its peer must soon prove itself.

        Parameters
        ----------
        plain : multiprocessing.connection.Connection
            Closed by this.

        Returns
        -------
        Connection
        """
        with plain:
            self = cls(os.dup(plain.fileno()))
        _set_patience(self.fileno(), PATIENCE)
        self._unproved = True
        # A child made by fork has no thread that serves it, and would keep the caller from hearing
        # of this process's death.
        util.register_after_fork(self, cls.close)
        return self

    def pool(self) -> Member | None:
        """Give the pool that both ends see."""
        return self._pool

    def pool_id(self) -> bytes | None:
        """Give the identity of the pool that both ends see."""
        pool = self.pool()
        return None if pool is None else pool.id

    def is_ours(self) -> bool:
        """Tell whether the peer knows onecopy."""
        return bool(self._ours)

    def answer(self, joined: bytes | None) -> Any:
        """Answer the question for a pool, or take note that the client has joined it.

        Parameters
        ----------
        joined : bytes or None
            The identity of the pool that it has joined; None: it asks.

        Returns
        -------
        PoolHandle or None, or bool
            The pool; whether it is the one.
        """
        if joined is None:
            self._ours = True
            self._offered = offer()
            return None if self._offered is None else membership.handle_of(self._offered)
        if self._offered is None or self._offered.id != joined:
            return False
        self._share(self._offered)
        return True

    def _share(self, pool: Member) -> None:
        self.handle = membership.handle_of(pool)
        self._pool = pool

    def send(self, obj: Any) -> None:
        """Send an object; large arrays go by reference if the peer sees the pool.

        Raises
        ------
        OSError
            The connection has ended.
        Exception
            What pickle raises for what it cannot pickle. Nothing has been sent then.
        """
        file = io.BytesIO()
        pickler = MessagePickler(file, self)
        pickler.dump(obj)
        data: Any = file.getbuffer()
        if pickler.apart:
            assert self.handle is not None  # noqa: S101 - something was put there
            data = pickle.dumps(Apart(file.getvalue(), self.handle, pickler.apart), 5)
        self._in_flight = pickler.kept
        self.send_bytes(data)

    def recv(self) -> Any:
        """Wait for an object, and build it.

        Raises
        ------
        EOFError
            The peer has ended.
        """
        if self._unproved:
            self._unproved = False
            _set_patience(self.fileno(), 0)
        while True:
            data = self.recv_bytes()
            self._in_flight = None
            if data != ACKNOWLEDGED or self._pool is None:
                return pickle.loads(data)

    def close(self) -> None:
        """Close it."""
        self._in_flight = None
        super().close()


# Which connection this thread is unpickling a message of.
def key_for(address: Any) -> bytes | None:
    """Give the key of the manager at that address, for a proxy that comes from there."""
    of: ClientConnection | None = getattr(receiving, "connection", None)
    return of.key if of is not None and of.address == address else None


class ClientConnection(Connection):
    """A client's end of a connection.

    Whatever interrupts it in the middle of a message closes it: an answer that comes later must not
    be taken for the answer to another question.
    """

    _ours = None  # until it is asked for
    _waiting = False  # for an answer
    owes = False  # the acknowledgement of an answer with stand-ins

    def __init__(self, descriptor: int, address: Any, key: bytes | None) -> None:
        super().__init__(descriptor)
        self.address = address
        self.key = key
        self._pid = os.getpid()

    @property
    def usable(self) -> bool:
        """Whether a request can be sent.

        Not when the last one was broken off in the middle, and not in a child made by `os.fork`:
        the connection is its parent's.
        """
        return not self.closed and not self._waiting and self._pid == os.getpid()

    def check_matches(self, ident: str) -> None:
        """Find out whether the server, which is serving this connection, sees a pool that we see.

        Parameters
        ----------
        ident : str
            Any object of the server's.

        Raises
        ------
        ServerEnded
            It has ended.
        """
        try:
            offered = standard.dispatch(self, ident, QUESTION)  # type: ignore[attr-defined]  # undocumented
        except standard.RemoteError:
            self._ours = False
            return
        self._ours = True
        pool = _join(offered)
        if pool is not None and standard.dispatch(self, ident, QUESTION, (pool.id,)):  # type: ignore[attr-defined]  # as above
            self._share(pool)

    def pool(self) -> Member | None:
        """Give the pool that both ends see; ask the server for it first."""
        self.is_ours()
        return self._pool

    def is_ours(self) -> bool:
        """Tell whether the server knows onecopy; ask it first.

        This is for a connection that has one request and no more: another one asks.
        """
        if self._ours is None:
            self._ours = False
            with Client(self.address, authkey=self.key) as other:
                try:
                    offered = standard.dispatch(other, None, "onecopy_pool")  # type: ignore[attr-defined]  # undocumented
                except standard.RemoteError:
                    return False
            self._ours = True
            pool = _join(offered)
            if pool is not None:
                self._share(pool)
        return self._ours

    def send(self, obj: Any) -> None:
        """Send a request.

        Raises
        ------
        ServerEnded
            The server has ended.
        Exception
            What pickle raises for what it cannot pickle. Nothing has been sent then.
        """
        super().send(obj)
        self._waiting = True

    def send_bytes(self, buf: Any, offset: int = 0, size: int | None = None) -> None:
        """Send bytes as a message; as `send`."""
        try:
            super().send_bytes(buf, offset, size)
        except BaseException as error:  # noqa: BLE001 - it is raised again, or what it means
            self._break_off(error)

    def recv(self) -> Any:
        """Wait for the answer.

        Raises
        ------
        ServerEnded
            The server has ended.
        """
        before = getattr(receiving, "connection", None)
        receiving.connection = self
        self.owes = False
        try:
            return super().recv()
        finally:
            receiving.connection = before
            if self.owes and self._pool is not None and not self.closed:
                # That the server has ended in the meantime concerns the next request.
                with suppress(ServerEnded):
                    self.send_bytes(ACKNOWLEDGED)

    def recv_bytes(self, maxlength: int | None = None) -> bytes:
        """Wait for a message; as `recv`."""
        try:
            data = super().recv_bytes(maxlength)
        except BaseException as error:  # noqa: BLE001 - it is raised again, or what it means
            self._break_off(error)
        self._waiting = False
        return data

    def _break_off(self, error: BaseException) -> NoReturn:
        self.close()
        if isinstance(error, ConnectionError | EOFError) or is_out_of_reach(error):
            raise ended(self.address, error) from error
        raise error


class Listener(connection.Listener):
    """Listens for clients; as the standard library's, with connections of ours."""

    def __init__(
        self,
        address: Any = None,
        family: str | None = None,
        backlog: int = 1,
        authkey: bytes | None = None,
    ) -> None:
        super().__init__(address, family, max(backlog, BACKLOG), authkey)

    def accept(self) -> Connection:
        """Wait for a caller."""
        return Connection.accepted(super().accept())

    def close_in_child(self) -> None:
        """Close the socket in a child made by fork; the listener, and its file, stay."""
        self._listener._socket.close()  # type: ignore[attr-defined]  # there is no other way to it


def Client(address: Any, family: str | None = None, authkey: bytes | None = None) -> Any:
    """Connect to a server.

    Parameters
    ----------
    address : tuple or str
        Host and port, or the path of a socket.
    family : str, optional
        Such as ``"AF_INET"``. Default: what the address looks like.
    authkey : bytes, optional
        The key that both ends must have.

    Returns
    -------
    ClientConnection

    Raises
    ------
    ConnectionRefusedError, FileNotFoundError, OSError
        Nobody listens there.
    TimeoutError
        Nobody has answered for half a minute.
    AuthenticationError
        The server has another key.
    ConnectionError
        What listens there is no manager, or has ended before it had answered.
    TypeError
        The key is no bytes.
    """
    if authkey is not None and not isinstance(authkey, bytes):
        raise TypeError(f"authkey is bytes, not {type(authkey).__name__}")
    family = family or connection.address_type(address)  # type: ignore[attr-defined]  # undocumented
    with socket.socket(getattr(socket, family)) as sock:
        sock.setblocking(True)
        _set_patience(sock.fileno(), PATIENCE)
        try:
            sock.connect(address)
        except BlockingIOError as error:
            what = (
                f"nobody at {address!r} has taken a connection for {PATIENCE} s: is it the address "
                "of a manager, and can it be reached from here?"
            )
            if family == "AF_UNIX":
                raise TimeoutError(what) from error  # a server is there, and busy
            raise TimeoutError(errno.ETIMEDOUT, what) from error
        self = ClientConnection(sock.detach(), address, authkey)
    try:
        if authkey is not None:
            _prove(self, authkey)
        _set_patience(self.fileno(), 0)
    except BaseException:
        self.close()
        raise
    return self


def _prove(self: ClientConnection, authkey: bytes) -> None:
    """Prove to the server that we have the key, and have it prove the same."""
    try:
        connection.answer_challenge(self, authkey)
        connection.deliver_challenge(self, authkey)
    except standard_context.AuthenticationError:
        raise
    except BlockingIOError as error:
        raise TimeoutError(
            f"what listens at {self.address!r} has not answered for {PATIENCE} s: is it a manager?"
        ) from error
    except (AssertionError, EOFError, OSError) as error:
        raise NoManagerError(
            f"what listens at {self.address!r} is no manager, or has ended just now: it did not "
            f"answer as one ({error})"
        ) from error


def _set_patience(descriptor: int, seconds: int) -> None:
    """Let reads and writes of a socket fail (EAGAIN) after so long; 0: never."""
    with socket.socket(fileno=os.dup(descriptor)) as sock:
        sock.setblocking(True)  # whatever socket.setdefaulttimeout says
        for option in (socket.SO_RCVTIMEO, socket.SO_SNDTIMEO):
            sock.setsockopt(socket.SOL_SOCKET, option, struct.pack("@ll", seconds, 0))
        if sock.family != socket.AF_UNIX:
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            # A machine that has lost its power says nothing. An idle connection is probed after a
            # minute, and four times more. Where something is on its way there are no probes, and
            # without a limit it would be sent again for a quarter of an hour.
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, SILENCE // 2)
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, SILENCE // 8)
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPCNT, 4)
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, SILENCE * 1000)


# --------------------------------------------------------------------------------------- which pool


def offer() -> Member | None:
    """Give the pool of this process that clients may join; None: none can be made."""
    try:
        return default_member()
    except (OneCopyError, OSError, ValueError):
        return None


def _join(offered: PoolHandle | None) -> Member | None:
    """Join the pool of a server; None: it is on another machine, or another user's, or elsewhere.

    Only a pool in this process's own pool directory is joined: ``ONECOPY_DIR`` says where pools
    are. The pool's identity shows that it is the server's: 16 random bytes.
    """
    if offered is None:
        return None
    try:
        if os.path.dirname(offered[1]) != paths.pool_directory():  # noqa: PTH120 - pathlib is not loaded for this
            return None
        return membership.join(offered)
    except (OneCopyError, OSError):
        return None


standard.listener_client[SERIALIZER] = Listener, Client  # type: ignore[attr-defined]  # the registry that it is for
