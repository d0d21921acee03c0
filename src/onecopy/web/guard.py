"""Which requests are answered: those with the token and with an expected Host header."""

from __future__ import annotations

import hmac
import ipaddress
import json
import socket
from typing import TYPE_CHECKING

from starlette.datastructures import Headers, MutableHeaders

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Message, Receive, Scope, Send

__all__ = ["TOKEN_HEADER", "Guard", "host_problem", "is_loopback_name"]

TOKEN_HEADER = "x-onecopy-token"  # noqa: S105 - the name of the header
_HEADERS = {
    "content-security-policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; "
        "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    ),
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "referrer-policy": "no-referrer",
    "x-content-type-options": "nosniff",
}


def is_loopback_name(host: str) -> bool:
    """Tell whether a host name stands for this machine only.

    Parameters
    ----------
    host : str
        A name or an address, without a port.

    Returns
    -------
    bool
    """
    try:
        return host.lower() == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def host_problem(header: str | None, served: str) -> str | None:
    """Check a Host header, against DNS rebinding.

    A page of another site can make its own name stand for this machine. Then a browser sends that
    name. It cannot do so with an address or with a name that this machine has.

    Parameters
    ----------
    header : str or None
        The header.
    served : str
        The host that the server was started with.

    Returns
    -------
    str or None
        Why the request is refused; None: it is not.
    """
    if not header:
        return "the request has no Host header"
    name = header.rpartition("]")[0].lstrip("[") if header[0] == "[" else header.partition(":")[0]
    if is_loopback_name(name):
        return None
    if not is_loopback_name(served):
        if name.lower() in {served.lower(), socket.gethostname().lower()}:
            return None
        try:
            ipaddress.ip_address(name)
        except ValueError:
            pass
        else:
            return None
    return f"this server is not {name[:80]!r}; open the URL that `onecopy web` printed"


class Guard:
    """Wraps an application: it refuses requests, and adds the headers that protect the page.

    Parameters
    ----------
    app : ASGI application
        What is protected. Its paths below ``/api/`` need the token.
    token : str
        The secret.
    host : str
        The host that the server was started with.
    """

    def __init__(self, app: ASGIApp, token: str, host: str) -> None:
        self._app = app
        self._token = token.encode()
        self._host = host

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request, or pass it on."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return

        async def with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                headers.update(_HEADERS)
                headers["cache-control"] = "no-store" if is_api else "no-cache"
            await send(message)

        is_api = scope["path"].startswith("/api/")
        problem = self._problem(Headers(scope=scope), is_api=is_api)
        if problem is None:
            await self._app(scope, receive, with_headers)
        else:
            await _refuse(problem, with_headers)

    def _problem(self, headers: Headers, *, is_api: bool) -> str | None:
        problem = host_problem(headers.get("host"), self._host)
        if problem is not None or not is_api:
            return problem
        token = headers.get(TOKEN_HEADER)
        if token is None:
            return "the request has no token; open the URL that `onecopy web` printed"
        if not hmac.compare_digest(token.encode("latin-1"), self._token):
            return "the token is wrong; open the URL that `onecopy web` printed last"
        return None


async def _refuse(problem: str, send: Send) -> None:
    body = json.dumps({"problem": problem}).encode() + b"\n"
    headers = [
        (b"content-type", b"application/json"),
        (b"content-length", str(len(body)).encode()),
    ]
    await send({"type": "http.response.start", "status": 403, "headers": headers})
    await send({"type": "http.response.body", "body": body})
