"""The server of a manager: it answers the requests of proxies."""

from __future__ import annotations

import os
import sys
import threading
import weakref
from collections import Counter
from multiprocessing import connection, process, util
from multiprocessing import managers as standard
from multiprocessing.managers import Token
from traceback import format_exc
from typing import TYPE_CHECKING, Any

from onecopy.multiprocessing import _wire

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from onecopy.pool import Pool

__all__ = ["Server", "Starter", "begin", "workers"]

_also: Any = standard  # typeshed has a part of it


class Server(standard.Server):
    """The server of a manager; made by `BaseManager.get_server`, or in the process of `start`.

    Attributes
    ----------
    address : tuple or str
        Where it listens.
    """

    public: list[str] = [  # noqa: RUF012 - as in the base class
        *_also.Server.public,
        "onecopy_pool",
        "onecopy_proxy_type",
    ]

    # Typeshed does not know all of them.
    listener: Any
    stop_event: threading.Event
    registry: dict[str, Any]
    id_to_obj: dict[str, Any]
    id_to_refcount: dict[str, int]
    id_to_local_proxy_obj: dict[str, Any]

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self.registry = dict(self.registry)
        # Re-entrant: a thread that has it may free a proxy at any time, by garbage collection.
        self.mutex: threading.RLock = threading.RLock()
        self._nested: Counter[str] = Counter()  # per object, the proxies in objects of this server

    def nest(self, ident: str, make: Callable[[], Any]) -> Any:
        """Make a proxy that another object of this server contains, for example a list.

        The proxy's object stays alive as long as the proxy.
        """
        with self.mutex:
            if ident not in self.id_to_local_proxy_obj:
                self.id_to_local_proxy_obj[ident] = self.id_to_obj[ident]
                self._nested[ident] = 0
            if ident in self._nested:  # else a peer with the standard library keeps it for ever
                self._nested[ident] += 1
        proxy = make()
        weakref.finalize(proxy, self._nested_is_gone, ident).atexit = False
        return proxy

    def _nested_is_gone(self, ident: str) -> None:
        gone = None
        with self.mutex:
            if ident in self._nested:
                self._nested[ident] -= 1
                if self._nested[ident] == 0:
                    del self._nested[ident]
                    gone = self.id_to_local_proxy_obj.pop(ident, None)
        del gone  # after the mutex is released: its destructor may take long

    def decref(self, _: Any, ident: str) -> None:
        """Remove the count of one proxy; the object is deleted with its last proxy."""
        gone = None
        with self.mutex:
            count = self.id_to_refcount.get(ident)
            if count is None:
                if ident in self.id_to_local_proxy_obj:
                    return
                raise KeyError(ident)
            if count > 1:
                self.id_to_refcount[ident] = count - 1
            else:
                del self.id_to_refcount[ident]
                gone = self.id_to_obj.pop(ident)
        del gone

    def onecopy_proxy_type(self, _: Any, typeid: str) -> Any:
        """Return the proxy type of a type, for a client that has a proxy and no manager."""
        return self.registry[typeid][-1]

    def serve_client(self, conn: Any) -> None:
        """Answer requests on a connection until its client ends.

        The server keeps an answer until the next request: by then, the client has counted the
        proxies in it. The server keeps nothing else between requests.
        """
        sent: Any = None
        while not self.stop_event.is_set():
            method = None
            try:
                request = conn.recv()
                sent = None
                ident, method, args, kwds = request
                del request
                sent = self._answer_to(conn, ident, method, args, kwds)
                del args, kwds
            except EOFError:
                util.debug("got EOF -- exiting thread serving %r", threading.current_thread().name)
                sys.exit(0)
            except Exception:  # noqa: BLE001 - the client gets it
                sent = "#TRACEBACK", format_exc()
            args = kwds = None
            try:
                try:
                    conn.send(sent)
                except Exception:  # noqa: BLE001 - pickling runs code of any class
                    conn.send(("#UNSERIALIZABLE", format_exc()))
            except Exception as error:  # noqa: BLE001 - the client has ended
                util.info("exception in thread serving %r", threading.current_thread().name)
                util.info(" ... exception was %r", error)
                conn.close()
                sys.exit(1)

    def _making(self, typeid: str, result: Any) -> str:
        """Return a type that keeps a result as it is, if the result has that class already.

        The standard library calls the class again, with the result as its argument.
        """
        make, *rest = self.registry[typeid]
        if not isinstance(make, type) or make.__module__ == "builtins":
            return typeid
        if not isinstance(result, make):
            return typeid
        made = f"{typeid}, made"
        self.registry.setdefault(made, (None, *rest))
        return made

    def _answer_to(self, conn: Any, ident: str, method: str, args: Any, kwds: Any) -> Any:
        """Call a method of an object, and return the answer."""
        known = self.id_to_obj.get(ident) or self.id_to_local_proxy_obj[ident]
        obj, exposed, to_typeid = known
        if method not in exposed or not hasattr(obj, method):
            try:
                fallback = self.fallback_mapping[method]
            except KeyError:
                what = f"method {method!r} of {type(obj)!r} object is not in exposed={exposed!r}"
                raise AttributeError(what) from None
            return "#RETURN", fallback(self, conn, ident, obj, *args, **kwds)
        try:
            result = getattr(obj, method)(*args, **kwds)
        except Exception as error:  # noqa: BLE001 - the client gets it
            return "#ERROR", error
        typeid = to_typeid and to_typeid.get(method)
        if not typeid:
            return "#RETURN", result
        own_ident, own_exposed = self.create(conn, self._making(typeid, result), result)
        return "#PROXY", (own_exposed, Token(typeid, self.address, own_ident))

    def onecopy_pool(self, _: Any) -> Any:
        """Return the handle of the pool into which a client puts large arguments."""
        from onecopy._core.membership import handle_of

        pool = _wire.offer()
        return None if pool is None else handle_of(pool)

    def _answer_question(self, conn: Any, _: str, __: Any, joined: bytes | None = None) -> Any:
        """Agree on a pool with a client that this thread serves."""
        return conn.answer(joined)

    fallback_mapping: dict[str, Callable[..., Any]] = {  # noqa: RUF012 - as above
        **_also.Server.fallback_mapping,
        _wire.QUESTION: _answer_question,
    }

    def accepter(self) -> None:
        """Accept connections; in a process that `start` started, watch its starter too."""
        if isinstance(self.listener, _wire.Listener):
            util.register_after_fork(self.listener, _wire.Listener.close_in_child)
        if _starter is not None and _starter.pid == os.getpid():
            threading.Thread(target=self._end_with, args=(_starter.signs,), daemon=True).start()
        super().accepter()

    def _end_with(self, signs: list[Any]) -> None:
        connection.wait(signs)
        self.stop_event.set()


class Starter:
    """The process that started this one.

    `signs` are objects for `multiprocessing.connection.wait`. At least one is ready when that
    process has ended.
    """

    def __init__(self) -> None:
        self.pid = os.getpid()  # of this process; a forked child has another one
        parent = process.parent_process()
        assert parent is not None  # noqa: S101 - this is called in a child
        self.signs: list[Any] = [parent.sentinel]
        # Forked siblings inherit the other end of the sentinel's pipe, and keep it open.
        try:
            self.signs.append(os.pidfd_open(parent.pid or 0))
        except ProcessLookupError:
            sys.exit("the process that started this one has ended")
        except OSError:
            pass  # forbidden here, or an old kernel: the sentinel alone is used


_starter: Starter | None = None


def begin(pool: Pool | None, initializer: Callable[..., object] | None, *initargs: Any) -> None:
    """Run first in a process that was started as a server.

    Unpickling `pool` has made it the default pool of this process, as it is the default pool of
    the starter.
    """
    del pool
    global _starter  # noqa: PLW0603 - there is one in a process
    _starter = Starter()
    if initializer is not None:
        initializer(*initargs)


def workers(
    processes: int | None = None,
    initializer: Callable[..., object] | None = None,
    initargs: Iterable[Any] = (),
    maxtasksperchild: int | None = None,
) -> Any:
    """Make a pool of workers in the server."""
    from onecopy.multiprocessing.pool import Pool

    if initializer is not None and not callable(initializer):
        raise TypeError("initializer must be a callable")
    return Pool(processes, _begin_work, (initializer, *initargs), maxtasksperchild)


def _begin_work(initializer: Callable[..., object] | None, *initargs: Any) -> None:
    """Run first in a worker: make it end with the server, which is the only process to end it."""

    def end_with_server() -> None:
        connection.wait(server.signs)
        os._exit(1)

    server = Starter()
    threading.Thread(target=end_with_server, daemon=True).start()
    if initializer is not None:
        initializer(*initargs)
