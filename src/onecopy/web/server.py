"""The application: the page and its data, and the server that runs it."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import socket
from importlib.resources import files
from typing import TYPE_CHECKING, Any

import uvicorn
from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.middleware import Middleware
from starlette.responses import FileResponse, Response
from starlette.routing import Mount, Route
from starlette.staticfiles import StaticFiles

from onecopy._core.lines import error_text
from onecopy.errors import OneCopyError, PoolNotFound
from onecopy.web.guard import Guard
from onecopy.web.view import dump
from onecopy.web.visiting import UNUSED, NotJoinedError, Visits
from onecopy.web.watching import Watches

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Sequence

    from starlette.requests import Request

__all__ = ["INTERVAL", "app", "bound", "serve"]

INTERVAL = 2.0  # seconds between two snapshots of a pool, at least
_NEXT = "x-onecopy-every"  # seconds until the browser should ask again


class _Pages:
    """What the paths of the application do."""

    def __init__(self, pools: Sequence[str], interval: float) -> None:
        self.watches = Watches(pools, interval)
        self.visits = Visits()
        self._leaver: asyncio.Task[None] | None = None

    @contextlib.asynccontextmanager
    async def lifespan(self, _app: Starlette) -> AsyncIterator[None]:
        try:
            yield
        finally:
            if self._leaver is not None:
                self._leaver.cancel()
            await run_in_threadpool(self.visits.leave_all)

    async def list_pools(self, _request: Request) -> Response:
        def work() -> Response:
            found, every = self.watches.pools()
            return _json(found, every)

        return await _answer(work)

    async def pool(self, request: Request) -> Response:
        def work() -> Response:
            found, every = self.watches.watch(request.path_params["key"]).snapshot()
            return _json(found, every)

        return await _answer(work)

    async def join(self, request: Request) -> Response:
        def work() -> Response:
            self.visits.join(self.watches.watch(request.path_params["key"]).path)
            return _json(dump({"joined": True}))

        answer = await _answer(work)
        if self._leaver is None or self._leaver.done():
            self._leaver = asyncio.create_task(self._leave_unused())
        return answer

    async def leave(self, request: Request) -> Response:
        def work() -> Response:
            self.visits.leave(self.watches.watch(request.path_params["key"]).path)
            return _json(dump({"joined": False}))

        return await _answer(work)

    async def message(self, request: Request) -> Response:
        return await self._picture(request, self.visits.newest, "stream")

    async def frame(self, request: Request) -> Response:
        return await self._picture(request, self.visits.frame, "frames")

    async def _picture(
        self, request: Request, look: Callable[..., dict[str, Any]], kind: str
    ) -> Response:
        after = request.query_params.get("after", "")
        count = int(after) if after.isdecimal() and len(after) < 20 else -1

        def work() -> Response:
            found = look(
                self.watches.watch(request.path_params["key"]).path,
                request.path_params[kind],
                count,
                bgr=request.query_params.get("bgr") == "1",
            )
            picture = found.pop("png", "")
            every = found.pop("every")
            return _json(dump(found)[:-1] + b',"png":"%s"}' % picture.encode(), every)

        return await _answer(work)

    async def _leave_unused(self) -> None:
        while len(self.visits):
            await asyncio.sleep(UNUSED / 5)
            await run_in_threadpool(self.visits.leave_all, UNUSED)


async def _answer(work: Callable[[], Response]) -> Response:
    """Call what may take a while in a thread; an error becomes one line."""

    def safe() -> Response:
        try:
            return work()
        except NotJoinedError as error:
            return _problem(error, 409)
        except PoolNotFound as error:
            return _problem(error, 404)
        except (OneCopyError, OSError) as error:
            return _problem(error, 503)

    return await run_in_threadpool(safe)


def _json(body: bytes, every: float | None = None) -> Response:
    headers = {} if every is None else {_NEXT: f"{every:.3f}"}
    return Response(body, headers=headers, media_type="application/json")


def _problem(error: Exception, status: int) -> Response:
    return Response(
        dump({"problem": " ".join(error_text(error).split())}),
        status,
        media_type="application/json",
    )


def app(
    pools: Sequence[str] = (), *, token: str, host: str = "127.0.0.1", interval: float = INTERVAL
) -> Starlette:
    """Make the application.

    Parameters
    ----------
    pools : sequence of str, optional
        Names or paths of the pools that it shows. Default: all pools in the pool directory.
    token : str
        The secret that each request for data needs.
    host : str, optional
        Where it will be served: this decides which Host headers are accepted.
    interval : float, optional
        Seconds between two snapshots of a pool, at least.

    Returns
    -------
    Starlette
        An ASGI application.

    Raises
    ------
    ValueError
        No pool can have such a name.
    """
    pages = _Pages(pools, interval)
    folder = str(files("onecopy.web") / "static")

    async def index(_request: Request) -> Response:
        return FileResponse(f"{folder}/index.html")

    return Starlette(
        routes=[
            Route("/", index),
            Route("/api/pools", pages.list_pools),
            Route("/api/pools/{key}", pages.pool),
            Route("/api/pools/{key}/join", pages.join, methods=["POST"]),
            Route("/api/pools/{key}/leave", pages.leave, methods=["POST"]),
            Route("/api/pools/{key}/streams/{stream}", pages.message),
            Route("/api/pools/{key}/frames/{frames}", pages.frame),
            Mount("/static", StaticFiles(directory=folder)),
        ],
        middleware=[Middleware(Guard, token=token, host=host)],
        lifespan=pages.lifespan,
    )


def bound(host: str, port: int) -> socket.socket:
    """Bind a socket.

    Parameters
    ----------
    host : str
        A name or an address of this machine.
    port : int
        0: a free one.

    Returns
    -------
    socket
        It listens.

    Raises
    ------
    OSError
        The port is in use, or this machine has no such address. The text says so.
    """
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
    except OSError as error:
        raise OSError(f"{host!r} is not an address of this machine: {error.strerror}") from None
    found = socket.socket(family, kind, protocol)
    try:
        found.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        found.bind(address)
        found.listen(128)
    except OSError as error:
        found.close()
        raise OSError(
            f"{host!r} is not an address of this machine; choose another one with --host"
            if error.errno == errno.EADDRNOTAVAIL
            else f"port {port} of {host} cannot be used: {error.strerror}. Choose another one with "
            "--port, or leave --port out to get a free one"
        ) from None
    return found


def serve(application: Starlette, listening: socket.socket) -> None:
    """Serve until SIGINT or SIGTERM. SIGINT then raises KeyboardInterrupt.

    Parameters
    ----------
    application : Starlette
        From `app`.
    listening : socket
        From `bound`. It is closed at the end.
    """
    config = uvicorn.Config(
        application,
        loop="asyncio",
        http="h11",
        ws="none",
        lifespan="on",
        log_level="warning",
        access_log=False,
        server_header=False,
        timeout_graceful_shutdown=3,
    )
    try:
        uvicorn.Server(config).run(sockets=[listening])
    finally:
        listening.close()
