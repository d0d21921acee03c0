"""How the end of a manager's server shows at its clients."""

from __future__ import annotations

import errno
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["NoManagerError", "ServerEnded", "ended", "is_out_of_reach", "reaching"]


class ServerEnded(
    BrokenPipeError,
    ConnectionResetError,
    ConnectionRefusedError,
    FileNotFoundError,
    EOFError,
):
    """The manager's server has ended: shut down, killed, or out of reach.

    It is each of the errors that the standard library's proxies raise then, whichever of them comes
    first there.
    """


# What the network says of a machine that is gone, or that there is no way to any more. The other
# signs of an end have classes of their own.
_OUT_OF_REACH = {
    errno.ETIMEDOUT,
    errno.EHOSTUNREACH,
    errno.EHOSTDOWN,
    errno.ENETUNREACH,
    errno.ENETDOWN,
    errno.ENETRESET,
    errno.ENONET,
}


class NoManagerError(ConnectionError):
    """What listens does not answer as a manager."""


def is_out_of_reach(error: BaseException) -> bool:
    """Tell whether the network says that a machine is gone, or that there is no way to it."""
    return isinstance(error, OSError) and error.errno in _OUT_OF_REACH


@contextmanager
def reaching(address: Any) -> Iterator[None]:
    """Take it for the end of a server that was there before when it does not answer any more."""
    try:
        yield
    except ServerEnded:
        raise
    except (
        ConnectionRefusedError,
        ConnectionResetError,
        FileNotFoundError,
        NoManagerError,
    ) as error:
        raise ended(address, error) from error
    except OSError as error:
        if is_out_of_reach(error):
            raise ended(address, error) from error
        raise


def ended(address: Any, error: BaseException) -> ServerEnded:
    """Make the error that says that a server has ended, from the error that showed it."""
    if is_out_of_reach(error):
        return ServerEnded(
            f"the manager's server at {address!r} is out of reach ({error.strerror}): its machine "  # type: ignore[attr-defined]  # it is an OSError
            "has ended, or the network in between. Whether its objects are still there is unknown"
        )
    return ServerEnded(
        f"the manager's server at {address!r} has ended: it was shut down, or killed. Its objects "
        "are gone; start a new one"
    )
