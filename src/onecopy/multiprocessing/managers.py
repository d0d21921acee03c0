"""Managers: objects in a server process, and proxies for them.

They have the names, and nearly all the behaviour, of `multiprocessing.managers`. What differs:

*Large arrays go by reference* where client and server see one pool (the server's default pool, in
the client's pool directory). An array of 64 KiB or more in an argument or a result is copied into
the pool once, and read where it lies; one that lies there already is not copied. Elsewhere (another
machine, another user, another ``ONECOPY_DIR``, a full pool, a peer of the standard library) the
bytes follow, and nothing else changes.

=================================  =================================================================
what is sent                       what the receiver gets
=================================  =================================================================
an ordinary array                  its own, writable; neither sees what the other writes
an array in that pool              the same memory, read-only at both ends from then on
(`onecopy.empty`, a frame, …)
a `SharedArray`                    the same memory, writable at both ends
=================================  =================================================================

A client without a default pool takes the server's for it, so that `onecopy.empty`, `zeros` and
`array` make arrays that the server can see.

So an array that was put into a managed list and got out again was copied twice: into the pool by
the one who put it, and by the server for the one who got it. With `onecopy.empty` it is not copied
at all. What is on its way is kept by the sender until the next message comes in on that connection.

*A server made by `start` ends with the process that started it*, however that ends; the standard
library's stays for ever. What ends it is the end of the process, not of the thread, that called
`start`. A server that runs `serve_forever` on its own is not concerned.

*When the server has ended*, proxies raise `ServerEnded`, which is each of the errors that the
standard library's raise. Connecting to something that does not answer is given up after 30 s.

A proxy's method that is interrupted (Ctrl-C) leaves the proxy usable. The server may have done what
was asked for.
"""

from __future__ import annotations

import os
import threading
from multiprocessing import connection, process
from multiprocessing import managers as standard
from multiprocessing.context import ProcessError
from multiprocessing.managers import Namespace, RemoteError, Token
from types import GenericAlias
from typing import TYPE_CHECKING, Any, ClassVar

from onecopy.multiprocessing import _wire, _wire_objects
from onecopy.multiprocessing._manager_server import Server, Starter, begin
from onecopy.multiprocessing._segments_manager import SharedMemoryManager
from onecopy.multiprocessing._wire_errors import ServerEnded

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence


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

# What the standard library has and does not document, and other people use: the very objects.
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
    """Give our way to talk for the standard library's; what else there is stays as it is."""
    return _wire.SERIALIZER if name == "pickle" else name


# ---------------------------------------------------------------------------------------- managers


class BaseManager(standard.BaseManager):
    """A server process with objects in it, and a way to make proxies for them.

    Parameters
    ----------
    address : tuple or str, optional
        Where the server listens, or is: host and port, or the path of a socket. Default: a socket
        of its own. Port 0: a free one; `address` tells which.
    authkey : bytes, optional
        What both ends must know. Default: the process's own key, which its children have too.
    serializer : {"pickle", "xmlrpclib"}
        How messages are written. Only with pickle do arrays go by reference.
    ctx : context, optional
        What the process is started with. Default: the default start method.
    shutdown_timeout : float
        Seconds to wait for the server at `shutdown`, before it is killed.

    Notes
    -----
    A process that has the key can run any code in the server: messages are pickles. The server
    unpickles nothing from a process without it.
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
    ) -> None:
        super().__init__(
            address, authkey, _serializer(serializer), ctx, shutdown_timeout=shutdown_timeout
        )

    def get_server(self) -> Any:
        """Make the server in this process; its `serve_forever` runs it until it is shut down.

        Raises
        ------
        ProcessError
            It was started, or shut down.
        OSError
            The address cannot be had.
        """
        mine: Any = self
        state = mine._state.value
        if state != State.INITIAL:
            raise ProcessError(
                "Already started server" if state == State.STARTED else "Manager has shut down"
            )
        return self._Server(mine._registry, mine._address, mine._authkey, mine._serializer)

    def start(
        self, initializer: Callable[..., Any] | None = None, initargs: Iterable[Any] = ()
    ) -> None:
        """Start a process with the server. It ends with this one, or by `shutdown`.

        Parameters
        ----------
        initializer : callable, optional
            Called in that process first, with `initargs`.
        initargs : iterable

        Raises
        ------
        ProcessError
            It was started, or shut down.
        TypeError
            The initializer cannot be called.
        EOFError
            The process ended before it had a server: the address was taken, say. It has written
            why to its stderr.
        """
        if initializer is not None and not callable(initializer):
            raise TypeError("initializer must be a callable")
        member = None
        if self._state.value == State.INITIAL:  # type: ignore[attr-defined]  # undocumented
            member = _wire.offer()  # made here, it is the server's too
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
            Its name, and that of the manager's method that makes one and gives a proxy.
        callable : callable, optional
            Makes the object, in the server. May be left out by managers that only `connect`.
        proxytype : type, optional
            A subclass of `BaseProxy`. Default: one with the object's public methods.
        exposed : sequence of str, optional
            Methods that proxies may call.
        method_to_typeid : mapping, optional
            Methods whose results stay in the server, and what the proxies for them are.
        create_method : bool
            Whether the manager has a method of that name.
        """
        super().register(
            typeid, callable, proxytype or AutoProxy, exposed, method_to_typeid, create_method
        )


# ---------------------------------------------------------------------------------------- proxies


class BaseProxy(standard.BaseProxy):
    """Stands for an object in a server; its methods are the object's.

    May be pickled, and used by any number of threads and processes: each thread has a connection of
    its own. The object is gone when no proxy is left.

    Notes
    -----
    Methods raise what the object's method raised, and `ServerEnded` if there is no server any more.
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
        """Call a method of the object, and give a copy of what it returns.

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
            The call did not come about, or its result could not be sent.
        Exception
            What the method has raised.
        """
        mine: Any = self
        if mine._manager is None:  # it is not known in this process
            mine._manager = _Elsewhere(mine)
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


class _Elsewhere:
    """In place of a manager, in a process that has a proxy and not its manager.

    For the proxies that methods give: it knows their types.
    """

    _state = None  # whether the server runs is found out by talking to it

    def __init__(self, proxy: Any) -> None:
        self._authkey = proxy._authkey
        self._registry = _Types(proxy)


class _Types:
    """The registry of a manager that is not known here; its server is asked."""

    def __init__(self, proxy: Any) -> None:
        self._forked: Mapping[str, Any] | None = proxy._registry
        self._address = proxy._token.address
        self._authkey = proxy._authkey
        self._connect = proxy._Client
        self._told: dict[str, Any] = {}

    def __getitem__(self, typeid: str) -> tuple[Any, ...]:
        """Give what has the type of proxies at its end, as a manager's registry does."""
        if self._forked is not None and typeid in self._forked:
            entry: tuple[Any, ...] = self._forked[typeid]
            return entry
        if typeid not in self._told:
            self._told[typeid] = self._ask(typeid)
        return None, None, None, self._told[typeid]

    def __contains__(self, typeid: str) -> bool:
        return True

    def _ask(self, typeid: str) -> Any:
        try:
            with self._connect(self._address, authkey=self._authkey) as conn:
                return dispatch(conn, None, "onecopy_proxy_type", (typeid,))
        except (RemoteError, AttributeError, ImportError):
            # A server of the standard library's, or a type that is defined in no module.
            kinds: Any = SyncManager
            return kinds._registry.get(typeid, (AutoProxy,))[-1]


def rebuild_proxy(function: Any, token: Any, serializer: str, kwds: dict[str, Any]) -> Any:
    """Make a proxy that was pickled; in the server, one that the object there depends on.

    Parameters
    ----------
    function : callable
        The type, or `AutoProxy`.
    token, serializer, kwds
        Its arguments.

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
    """Make a proxy type; the same one for the same arguments.

    Parameters
    ----------
    name : str
        Of the class.
    exposed : sequence of str
        Its methods.

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
        Which object.
    serializer, manager, authkey, incref, manager_owned
        As for `BaseProxy`.
    exposed : sequence of str, optional
        Its methods. Default: the server is asked.

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
    assert exposed is not None  # noqa: S101 - the server has said it
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


_wire_objects.STANDARD[AutoProxy] = _also.AutoProxy
for _kind in (
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
):
    _wire_objects.STANDARD[_kind] = getattr(standard, _kind.__name__)


class SyncManager(BaseManager, standard.SyncManager):
    """A manager of the common kinds of objects; `onecopy.multiprocessing.Manager` starts one.

    ``Queue``, ``JoinableQueue``, ``Event``, ``Lock``, ``RLock``, ``Semaphore``,
    ``BoundedSemaphore``, ``Condition``, ``Barrier``, ``Pool``, ``list``, ``dict``, ``Value``,
    ``Array`` and ``Namespace``, with the parameters of the standard library's. They are objects of
    the server's threads. Where all processes are on one machine, what `onecopy.multiprocessing`
    itself has under these names needs no server, and is faster.
    """


def _workers(
    processes: int | None = None,
    initializer: Callable[..., object] | None = None,
    initargs: Iterable[Any] = (),
    maxtasksperchild: int | None = None,
) -> Any:
    """Make a pool of workers, in the server."""
    from onecopy.multiprocessing.pool import Pool

    if initializer is not None and not callable(initializer):
        raise TypeError("initializer must be a callable")
    return Pool(processes, _begin_work, (initializer, *initargs), maxtasksperchild)


def _begin_work(initializer: Callable[..., object] | None, *initargs: Any) -> None:
    """Run first of all in a worker: nobody but the server ends it, so it ends with the server."""

    def end_with_server() -> None:
        connection.wait(server.signs)
        os._exit(1)

    server = Starter()
    threading.Thread(target=end_with_server, daemon=True).start()
    if initializer is not None:
        initializer(*initargs)


def _register_kinds() -> None:
    """Register what the standard library registers, with proxies of ours."""
    ours = {theirs: mine for mine, theirs in _wire_objects.STANDARD.items()}
    registry: dict[str, Any] = _also.SyncManager._registry
    for typeid, (callable, exposed, to_typeid, proxytype) in list(registry.items()):
        SyncManager.register(
            typeid,
            _workers if typeid == "Pool" else callable,
            ours.get(proxytype, proxytype),
            exposed,
            to_typeid,
            create_method=hasattr(standard.SyncManager, typeid),
        )


_register_kinds()


def __getattr__(name: str) -> Any:
    """Give what else the standard library's module has."""
    return getattr(standard, name)
