"""Errors of calls on their way from a worker, with the text of their tracebacks."""

from __future__ import annotations

from traceback import format_exception
from typing import Any

__all__ = ["RemoteError", "RemoteTraceback"]


class RemoteTraceback(Exception):  # noqa: N818 - the standard library's name
    """The cause of an error that a worker has raised: the text of its traceback there.

    Parameters
    ----------
    tb : str
        The text.
    """

    def __init__(self, tb: str) -> None:
        self.tb = tb

    def __str__(self) -> str:
        return self.tb


class RemoteError:
    """An error of a call; unpickling it gives the error itself, with a `RemoteTraceback`.

    Parameters
    ----------
    error : BaseException
        It loses its traceback, whose frames hold whatever the call worked with.

    Attributes
    ----------
    error : BaseException
        The error. What replaces it is sent with the text of its traceback.
    """

    __slots__ = ("_text", "error")

    def __init__(self, error: BaseException) -> None:
        self._text = '\n"""\n{}"""'.format("".join(format_exception(error)))
        self.error: BaseException = error.with_traceback(None)

    def __reduce__(self) -> Any:
        return _with_cause, (self.error, self._text)


def _with_cause(error: BaseException, text: str) -> BaseException:
    error.__cause__ = RemoteTraceback(text)
    return error
