"""Managers: objects in a server process, and proxies for them.

They have the names, and nearly all the behaviour, of `multiprocessing.managers`. The differences:

*Large arrays go by reference* if client and server have joined one pool (the server's default pool,
in the client's pool directory). An array of 64 KiB or more in an argument or a result is copied
into the pool once, and the receiver reads it there. An array that is in the pool already is not
copied. In other cases (another machine, another user, another ``ONECOPY_DIR``, a full pool, a peer
of the standard library) the message has the bytes of the array, and nothing else changes.

=================================  =================================================================
what is sent                       what the receiver gets
=================================  =================================================================
an ordinary array                  its own writable array; no process sees the other's changes
an array in that pool              the same memory, read-only at both ends after that
(`onecopy.empty`, a frame, …)
a `SharedArray`                    the same memory, writable at both ends
=================================  =================================================================

A client without a default pool adopts the server's default pool. So the server can read arrays
that the client makes with `onecopy.empty`, `zeros` and `array`.

An array that is put into a managed list and read again is copied twice: the client that puts it
copies it into the pool, and the server copies it for the client that reads it. An array of
`onecopy.empty` is not copied at all. The sender of an array holds it until the next message arrives
on that connection.

*A server made by `start` ends with the process that started it*, in whatever way that process ends.
In the standard library it continues for ever. The end of the thread that called `start` does not
end it. A server that runs `serve_forever` in a process of its own does not end in this way.

*When the server has ended*, proxies raise `ServerEnded`, a subclass of all errors that the standard
library raises in this case. An attempt to connect fails after 30 s without an answer.

If a method of a proxy is interrupted (Ctrl-C), the proxy stays usable. The server may have executed
the call.

*On other machines.* ``tls=onecopy.TLS(…)`` encrypts a manager with a TCP address, and both ends
show a certificate. Proxies take it with them. Without it, an address that other machines can reach
gives a `NotEncryptedWarning`.
"""

from __future__ import annotations

from multiprocessing import managers as standard
from multiprocessing import process
from multiprocessing.context import ProcessError
from multiprocessing.managers import Namespace, RemoteError, Token
from types import GenericAlias
from typing import TYPE_CHECKING, Any, ClassVar

from onecopy._core.exposed import is_exposed, warn_of_readers
from onecopy.multiprocessing import _wire, _wire_objects
from onecopy.multiprocessing._manager_elsewhere import Elsewhere
from onecopy.multiprocessing._manager_server import Server, begin, workers
from onecopy.multiprocessing._segments_manager import SharedMemoryManager
from onecopy.multiprocessing._wire_errors import ServerEnded

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from onecopy._core.tls import TLS


__all__ = [
    "BaseManager",
    "BaseProxy",
    "Namespace",
    "RemoteError",
    "Server",
    "ServerEnded",
    "SharedMemoryManager",
    "SyncManager",
    "Token",
    "Value",
]

# Names that the standard library has and does not document, and that programs use.
_also: Any = standard
Array = _also.Array
ProcessLocalSet = _also.ProcessLocalSet
RebuildProxy = _also.RebuildProxy
SharedMemoryServer = _also.SharedMemoryServer  # `SharedMemoryManager` needs none
State = _also.State
Value = _also.Value
all_methods = _also.all_methods
convert_to_error = _also.convert_to_error
dispatch = _also.dispatch
listener_client = _also.listener_client
public_methods = _also.public_methods


def _serializer(name: str) -> str:
    """Return onecopy's serializer in place of "pickle"; other names stay as they are."""
    return _wire.SERIALIZER if name == "pickle" else name


# ---------------------------------------------------------------------------------------- managers


class BaseManager(standard.BaseManager):
    """A server process with objects, and the methods that make proxies for them.

    Parameters
    ----------
    address : tuple or str, optional
        Where the server listens: host and port, or the path of a socket. Default: a new socket.
        Port 0: a free port; the attribute `address` has its number.
    authkey : bytes, optional
        The key that both ends must have. Default: the key of this process, which its children have
        too.
    serializer : {"pickle", "xmlrpclib"}
        The form of messages. Arrays go by reference only with "pickle".
    ctx : context, optional
        Starts the process. Default: the context of the default start method.
    shutdown_timeout : float
        Seconds that `shutdown` waits for the server before it kills it.
    tls : TLS, optional
        Encrypts all connections, by TLS 1.3, and each end checks the certificate of the other. For
        an address with host and port, at the server and at clients alike. Default: messages are
        readable on their way.

    Raises
    ------
    TypeError
        `tls` is not a `TLS`. An `ssl.SSLContext` cannot be sent to the server's process.
    ValueError
        `tls` needs an address with host and port, and the serializer "pickle".

    Warns
    -----
    NotEncryptedWarning
        By `start`, `get_server` or `connect`, once for a manager: other machines can reach the
        address, and there is no `tls`.

    Notes
    -----
    Messages are pickles, so a process that has the key can run any code in the server. The server
    unpickles nothing from a process without the key, and with `tls` nothing from a process without
    a certificate.
    """

    _Server = Server

    def __init__(
        self,
        address: Any = None,
        authkey: bytes | None = None,
        serializer: str = "pickle",
        ctx: Any = None,
        *,
        shutdown_timeout: float = 1.0,
        tls: TLS | None = None,
    ) -> None:
        self._tls_files = tls
        self._is_safe = tls is not None  # or it has warned
        name: str = _serializer(serializer)
        if tls is not None:
            from onecopy.multiprocessing._wire_tls import checked

            name = checked(tls, address, name)
        super().__init__(address, authkey, name, ctx, shutdown_timeout=shutdown_timeout)

    def connect(self) -> None:
        """Connect to the server at the address, which another process has started.

        Raises
        ------
        AuthenticationError
            The server has another key; or one end does not accept the certificate of the other.
        ConnectionRefusedError, FileNotFoundError, OSError
            No process listens there.
        ConnectionError
            What listens there is not a manager; or only one end uses TLS.
        TimeoutError
            There was no answer for 30 s.
        ValueError
            The files of `tls` cannot be used.
        """
        self._warn()
        super().connect()

    def _warn(self) -> None:
        mine: Any = self
        address = mine._address
        if not self._is_safe and isinstance(address, tuple) and is_exposed(address[0]):
            self._is_safe = True
            warn_of_readers(f"the manager at {address!r}", stacklevel=3)

    def get_server(self) -> Any:
        """Make the server in this process. Its `serve_forever` runs until it is shut down.

        Raises
        ------
        ProcessError
            It was started, or shut down.
        OSError
            The address is not available.
        ValueError
            The files of `tls` cannot be used.
        """
        mine: Any = self
        state = mine._state.value
        if state != State.INITIAL:
            raise ProcessError(
                "Already started server" if state == State.STARTED else "Manager has shut down"
            )
        self._warn()
        return self._Server(mine._registry, mine._address, mine._authkey, mine._serializer)

    def start(
        self, initializer: Callable[..., Any] | None = None, initargs: Iterable[Any] = ()
    ) -> None:
        """Start a process with the server. It ends with this process, or by `shutdown`.

        Parameters
        ----------
        initializer : callable, optional
            Called first in that process, with `initargs`.
        initargs : iterable
            The arguments of the initializer.

        Raises
        ------
        ProcessError
            It was started, or shut down.
        TypeError
            The initializer cannot be called.
        EOFError
            The process ended before it had a server, for example because the address is in use. It
            has written the reason to its stderr.
        ValueError
            The files of `tls` cannot be used.
        """
        if initializer is not None and not callable(initializer):
            raise TypeError("initializer must be a callable")
        member = None
        if self._state.value == State.INITIAL:  # type: ignore[attr-defined]  # undocumented
            if self._tls_files is not None:
                from onecopy._core.tls import context_of

                context_of(self._tls_files, server=True)  # an error here, not in the server
            self._warn()
            member = _wire.offer()  # made here, so that the server uses it too
        from onecopy.pool import Pool

        pool = None if member is None else Pool.of(member)
        super().start(begin, (pool, initializer, *initargs))

    def _create(self, typeid: str, /, *args: Any, **kwds: Any) -> Any:
        with _wire.reaching(self.address):
            return super()._create(typeid, *args, **kwds)  # type: ignore[misc]  # undocumented

    @classmethod
    def register(
        cls,
        typeid: str,
        callable: Callable[..., object] | None = None,
        proxytype: Any = None,
        exposed: Sequence[str] | None = None,
        method_to_typeid: Mapping[str, str] | None = None,
        create_method: bool = True,
    ) -> None:
        """Register a kind of object.

        Parameters
        ----------
        typeid : str
            The name of the kind, and of the manager's method that makes such an object and returns
            a proxy for it.
        callable : callable, optional
            Makes the object, in the server. Managers that only `connect` do not need it.
        proxytype : type, optional
            A subclass of `BaseProxy`. Default: a class with the object's public methods.
        exposed : sequence of str, optional
            Methods that proxies may call.
        method_to_typeid : mapping, optional
            Methods whose results stay in the server, and the kinds of the proxies for them.
        create_method : bool
            Whether the manager gets a method of that name.
        """
        super().register(
            typeid, callable, proxytype or AutoProxy, exposed, method_to_typeid, create_method
        )


# ---------------------------------------------------------------------------------------- proxies


class BaseProxy(standard.BaseProxy):
    """A proxy for an object in a server. Its methods call the object's methods.

    A proxy can be pickled. Any number of threads and processes may use it: each thread has a
    connection of its own. The object is deleted when no proxy is left.

    Notes
    -----
    Methods raise the error of the object's method, or `ServerEnded` if the server has ended.
    """

    def __init__(
        self,
        token: Any,
        serializer: str,
        manager: Any = None,
        authkey: bytes | None = None,
        exposed: Any = None,
        incref: bool = True,
        manager_owned: bool = False,
    ) -> None:
        if authkey is None and manager is None:
            authkey = _wire.key_for(token.address)
        self._registry = None if manager is None else manager._registry  # also after a fork
        super().__init__(
            token, _serializer(serializer), manager, authkey, exposed, incref, manager_owned
        )

    def _connect(self) -> None:
        mine: Any = self
        with _wire.reaching(mine._token.address):
            super()._connect()  # type: ignore[misc]  # undocumented
            if isinstance(mine._tls.connection, _wire.ClientConnection):
                mine._tls.connection.check_matches(mine._id)

    def _callmethod(
        self, methodname: str, args: Any = (), kwds: Mapping[Any, Any] | None = None
    ) -> Any:
        """Call a method of the object, and return a copy of its result.

        Parameters
        ----------
        methodname : str
        args, kwds
            The arguments.

        Raises
        ------
        ServerEnded
            The server has ended.
        RemoteError
            The server could not make the call, or could not send its result.
        Exception
            The error of the method.
        """
        mine: Any = self
        if mine._manager is None:  # this process does not have the manager
            mine._manager = Elsewhere(mine, _type_of_kind)
        tls = mine._tls
        last = getattr(tls, "connection", None)
        if isinstance(last, _wire.ClientConnection) and not last.usable:
            last.close()
            del tls.connection
        return super()._callmethod(methodname, args, dict(kwds or {}))

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickle a proxy for the same object."""
        _, (function, *rest) = super().__reduce__()
        return rebuild_proxy, (AutoProxy if function is _also.AutoProxy else function, *rest)


def _type_of_kind(typeid: str) -> Any:
    """Return the proxy type of a common kind of object."""
    kinds: Any = SyncManager
    return kinds._registry.get(typeid, (AutoProxy,))[-1]


def rebuild_proxy(function: Any, token: Any, serializer: str, kwds: dict[str, Any]) -> Any:
    """Rebuild a pickled proxy. In the server, the new proxy keeps its object alive.

    Parameters
    ----------
    function : callable
        The type, or `AutoProxy`.
    token, serializer, kwds
        The arguments of the proxy.

    Returns
    -------
    BaseProxy
    """
    server = getattr(process.current_process(), "_manager_server", None)
    if not isinstance(server, Server) or server.address != token.address:
        return RebuildProxy(function, token, serializer, kwds)
    kwds.pop("incref", None)
    return server.nest(
        token.id,
        lambda: function(token, serializer, incref=False, manager_owned=True, **kwds),
    )


_made: dict[tuple[str, tuple[str, ...]], Any] = {}


def MakeProxyType(name: str, exposed: Sequence[str]) -> Any:
    """Make a proxy type; the same arguments give the same type.

    Parameters
    ----------
    name : str
        The name of the class.
    exposed : sequence of str
        The methods of the class.

    Returns
    -------
    type
        A subclass of `BaseProxy`.
    """
    key = name, tuple(exposed)
    kind = _made.get(key)
    if kind is None:
        kind = type(name, (BaseProxy, _also.MakeProxyType(name, key[1])), {"__module__": __name__})
        kind = _made.setdefault(key, kind)
    return kind


def AutoProxy(
    token: Any,
    serializer: str,
    manager: Any = None,
    authkey: bytes | None = None,
    exposed: Sequence[str] | None = None,
    incref: bool = True,
    manager_owned: bool = False,
) -> Any:
    """Make a proxy of a type that has the object's public methods.

    Parameters
    ----------
    token : Token
        The object.
    serializer, manager, authkey, incref, manager_owned
        As for `BaseProxy`.
    exposed : sequence of str, optional
        Its methods. Default: those that the server names.

    Returns
    -------
    BaseProxy
    """
    if authkey is None:
        if manager is not None:
            authkey = manager._authkey
        else:
            authkey = _wire.key_for(token.address) or process.current_process().authkey
    serializer = _serializer(serializer)
    if exposed is None:
        connect = listener_client[serializer][1]
        with connect(token.address, authkey=authkey) as conn:
            exposed = dispatch(conn, None, "get_methods", (token,))
    assert exposed is not None  # noqa: S101 - the server has answered
    proxy = MakeProxyType(f"AutoProxy[{token.typeid}]", exposed)(
        token,
        serializer,
        manager=manager,
        authkey=authkey,
        incref=incref,
        manager_owned=manager_owned,
    )
    proxy._isauto = True
    return proxy


class IteratorProxy(BaseProxy, _also.IteratorProxy):  # type: ignore[misc]  # not all in typeshed
    """For an iterator or a generator."""


class AcquirerProxy(BaseProxy, _also.AcquirerProxy):  # type: ignore[misc]  # as above
    """For a lock or a semaphore."""


class ConditionProxy(AcquirerProxy, _also.ConditionProxy):  # type: ignore[misc]  # as above
    """For a condition variable."""


class EventProxy(BaseProxy, _also.EventProxy):  # type: ignore[misc]  # as above
    """For an event."""


class BarrierProxy(BaseProxy, _also.BarrierProxy):  # type: ignore[misc]  # as above
    """For a barrier."""


class NamespaceProxy(BaseProxy, _also.NamespaceProxy):  # type: ignore[misc]  # as above
    """For an object with attributes; names that begin with an underscore are the proxy's."""


class ValueProxy(BaseProxy, _also.ValueProxy):  # type: ignore[misc]  # as above
    """For an object with a value: ``get``, ``set``, ``value``."""


class BaseListProxy(BaseProxy, _also.BaseListProxy):  # type: ignore[misc]  # as above
    """For a list, without the operators that change it in place."""


class ListProxy(BaseListProxy, _also.ListProxy):  # type: ignore[misc]  # as above
    """For a list."""

    __class_getitem__: ClassVar[Any] = classmethod(GenericAlias)


class DictProxy(BaseProxy, _also.DictProxy):  # type: ignore[misc]  # as above
    """For a dict."""

    __class_getitem__: ClassVar[Any] = classmethod(GenericAlias)


class ArrayProxy(BaseProxy, _also.ArrayProxy):  # type: ignore[misc]  # as above
    """For an `array.array`."""


class BasePoolProxy(BaseProxy, _also.BasePoolProxy):  # type: ignore[misc]  # as above
    """For a pool of workers, without ``with``."""


class PoolProxy(BasePoolProxy, _also.PoolProxy):  # type: ignore[misc]  # as above
    """For a pool of workers."""


_kinds: list[type[BaseProxy]] = [
    IteratorProxy,
    AcquirerProxy,
    ConditionProxy,
    EventProxy,
    BarrierProxy,
    NamespaceProxy,
    ValueProxy,
    BaseListProxy,
    ListProxy,
    DictProxy,
    ArrayProxy,
    BasePoolProxy,
    PoolProxy,
]
if hasattr(_also, "SetProxy"):  # since Python 3.14

    class SetProxy(BaseProxy, _also.SetProxy):  # type: ignore[misc]  # as above
        """For a set."""

        __class_getitem__: ClassVar[Any] = classmethod(GenericAlias)

    _kinds.append(SetProxy)

_wire_objects.STANDARD[AutoProxy] = _also.AutoProxy
for _kind in _kinds:
    _wire_objects.STANDARD[_kind] = getattr(standard, _kind.__name__)


class SyncManager(BaseManager, standard.SyncManager):
    """A manager of the common kinds of objects; `onecopy.multiprocessing.Manager` starts one.

    ``Queue``, ``JoinableQueue``, ``Event``, ``Lock``, ``RLock``, ``Semaphore``,
    ``BoundedSemaphore``, ``Condition``, ``Barrier``, ``Pool``, ``list``, ``dict``, ``Value``,
    ``Array`` and ``Namespace``, and ``set`` since Python 3.14, with the parameters of the standard
    library. The objects are in the server process, and its threads use them. If all processes are
    on one machine, the objects of the same names in `onecopy.multiprocessing` need no server and
    take less time.
    """


def _register_kinds() -> None:
    """Register the kinds of the standard library, with the proxies of onecopy."""
    ours = {theirs: mine for mine, theirs in _wire_objects.STANDARD.items()}
    registry: dict[str, Any] = _also.SyncManager._registry
    for typeid, (callable, exposed, to_typeid, proxytype) in list(registry.items()):
        SyncManager.register(
            typeid,
            workers if typeid == "Pool" else callable,
            ours.get(proxytype, proxytype),
            exposed,
            to_typeid,
            create_method=hasattr(standard.SyncManager, typeid),
        )


_register_kinds()


def __getattr__(name: str) -> Any:
    """Return other names of the standard library's module."""
    return getattr(standard, name)
