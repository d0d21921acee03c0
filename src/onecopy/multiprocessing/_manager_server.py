"""The server of a manager: what answers its proxies."""

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
    from collections.abc import Callable, Mapping, Sequence

    from onecopy.pool import Pool

__all__ = ["Server", "Starter", "begin"]

_also: Any = standard  # typeshed has a part of it


class Server(_also.Server):  # type: ignore[misc]  # typeshed has a part of it
    """The server of a manager; made by `BaseManager.get_server`, or where `start` has it run.

    Attributes
    ----------
    address : tuple or str
        Where it listens.
    """

    public: Sequence[str] = [*_also.Server.public, "onecopy_pool", "onecopy_proxy_type"]

    registry: dict[str, Any]
    id_to_obj: dict[str, Any]
    id_to_refcount: dict[str, int]
    id_to_local_proxy_obj: dict[str, Any]

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self.registry = dict(self.registry)
        # Proxies are collected at any time, also where a thread has it.
        self.mutex = threading.RLock()
        self._nested: Counter[str] = Counter()  # proxies of each object that objects here have

    def nest(self, ident: str, make: Callable[[], Any]) -> Any:
        """Make a proxy for an object of this server that lies in another one, in a list say.

        The object stays as long as the proxy.
        """
        with self.mutex:
            if ident not in self.id_to_local_proxy_obj:
                self.id_to_local_proxy_obj[ident] = self.id_to_obj[ident]
                self._nested[ident] = 0
            if ident in self._nested:  # else a peer of the standard library's has it kept for ever
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
        del gone  # not in the mutex: it may be long in going

    def decref(self, _: Any, ident: str) -> None:
        """Forget one process's proxy of an object; the object goes with the last one."""
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
        """Tell a client that has a proxy and no manager what the proxies for a type are."""
        return self.registry[typeid][-1]

    def serve_client(self, conn: Any) -> None:
        """Answer requests on a connection until its client ends.

        What was answered is kept until the next request: the client has taken note of the proxies
        in it by then. Nothing else is kept in between.
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
                except Exception:  # noqa: BLE001 - pickling runs anybody's code
                    conn.send(("#UNSERIALIZABLE", format_exc()))
            except Exception as error:  # noqa: BLE001 - it has ended
                util.info("exception in thread serving %r", threading.current_thread().name)
                util.info(" ... exception was %r", error)
                conn.close()
                sys.exit(1)

    def _making(self, typeid: str, result: Any) -> str:
        """Give a type under which a result is kept as it is, if it is of that class already.

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
        """Call a method of an object, and give the answer."""
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
        except Exception as error:  # noqa: BLE001 - the client has it
            return "#ERROR", error
        typeid = to_typeid and to_typeid.get(method)
        if not typeid:
            return "#RETURN", result
        own_ident, own_exposed = self.create(conn, self._making(typeid, result), result)
        return "#PROXY", (own_exposed, Token(typeid, self.address, own_ident))

    def onecopy_pool(self, _: Any) -> Any:
        """Answer a client that wants to know which pool to put large arguments in."""
        from onecopy._core.membership import handle_of

        pool = _wire.offer()
        return None if pool is None else handle_of(pool)

    def _answer_question(self, conn: Any, _: str, __: Any, joined: bytes | None = None) -> Any:
        """Agree on a pool with a client that this thread serves."""
        return conn.answer(joined)

    fallback_mapping: Mapping[str, Callable[..., Any]] = {
        **_also.Server.fallback_mapping,
        _wire.QUESTION: _answer_question,
    }

    def accepter(self) -> None:
        """Take connections; in a process that was started for this, watch the starter too."""
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

    `signs` can be waited for: one of them is ready when that process has ended.
    """

    def __init__(self) -> None:
        self.pid = os.getpid()  # whose starter it is; not that of a child made by fork
        parent = process.parent_process()
        assert parent is not None  # noqa: S101 - this is called in a child
        self.signs: list[Any] = [parent.sentinel]
        # Brothers made by fork have the other end of the sentinel's pipe, and keep it open.
        try:
            self.signs.append(os.pidfd_open(parent.pid or 0))
        except ProcessLookupError:
            sys.exit("the process that started this one has ended")
        except OSError:
            pass  # not allowed here, or an old kernel: the sentinel has to do


_starter: Starter | None = None


def begin(pool: Pool | None, initializer: Callable[..., object] | None, *initargs: Any) -> None:
    """Run first of all in a process that was started to serve.

    `pool` did its work when it was unpickled: it is this process's default pool now, as it is its
    starter's.
    """
    del pool
    global _starter  # noqa: PLW0603 - there is one in a process
    _starter = Starter()
    if initializer is not None:
        initializer(*initargs)
