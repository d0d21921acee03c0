"""The errors by which clients notice that a manager's server has ended."""

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

    In this case a proxy of the standard library raises one of several errors, depending on the
    moment. `ServerEnded` is a subclass of all of them.
    """


# Errors of the network for a machine that does not run or cannot be reached. The other errors that
# show an end have classes of their own.
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
    """The process that listens at the address does not answer as a manager."""


def is_out_of_reach(error: BaseException) -> bool:
    """Return whether an error says that a machine does not run or cannot be reached."""
    return isinstance(error, OSError) and error.errno in _OUT_OF_REACH


@contextmanager
def reaching(address: Any) -> Iterator[None]:
    """Raise `ServerEnded` if a server that existed before does not answer any more."""
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
    """Make the `ServerEnded` for an error that shows that a server has ended."""
    if is_out_of_reach(error):
        return ServerEnded(
            f"the manager's server at {address!r} is out of reach ({error.strerror}): its machine "  # type: ignore[attr-defined]  # it is an OSError
            "has ended, or the network in between. Whether its objects are still there is unknown"
        )
    return ServerEnded(
        f"the manager's server at {address!r} has ended: it was shut down, or killed. Its objects "
        "are gone; start a new one"
    )
