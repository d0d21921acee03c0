"""Answers and calls that cannot be rebuilt where they arrive.

Unpickling runs code of the objects: an exception whose ``__init__`` takes other arguments than its
``args``, a class that the receiver does not have, a ``__setstate__`` that raises. Whatever it
raises concerns one call. So the first part of an answer is an `Address`. Pickle rebuilds the parts
of a message in their order, so the address is known when one of the other parts fails.
"""

from __future__ import annotations

import os
import threading
from typing import TYPE_CHECKING, Any

from onecopy.errors import NotRebuilt

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["Address", "cannot_send", "describe", "not_rebuilt", "take_addressed"]

_LONGEST = 400  # characters of an error's own text

_last = threading.local()  # `noted`: the address that this thread has unpickled last


class Address:
    """Which call an answer belongs to; unpickling it gives ``(numbers, what)``.

    Parameters
    ----------
    numbers : tuple of int
        Whatever the receiver finds the call by.
    what : str
        What the answer is, for the error that is raised if it cannot be rebuilt.
    """

    __slots__ = ("_numbers", "_what")

    def __init__(self, numbers: tuple[Any, ...], what: str) -> None:
        self._numbers = numbers
        self._what = what

    def __reduce__(self) -> Any:
        return _note, (self._numbers, self._what)


def _note(numbers: tuple[Any, ...], what: str) -> tuple[tuple[Any, ...], str]:
    _last.noted = numbers, what
    return numbers, what


def take_addressed(
    take: Callable[[], Any], kind: type[NotRebuilt] = NotRebuilt
) -> tuple[Any, tuple[Any, ...] | None]:
    """Take a message that begins with an `Address`, or any other one.

    Parameters
    ----------
    take : callable
        Takes a message from a queue.
    kind : type
        The class of the error of a message that could not be rebuilt.

    Returns
    -------
    message : object
        What was taken; a `NotRebuilt` error if it could not be rebuilt.
    numbers : tuple of int or None
        The call that the error belongs to; None if the message is whole.

    Raises
    ------
    BaseException
        Nothing was taken; or it had no address.
    """
    _last.noted = None
    try:
        return take(), None
    except BaseException as error:
        if _last.noted is None:
            raise
        numbers, what = _last.noted
        return not_rebuilt(what, error, kind), numbers
    finally:
        _last.noted = None


def not_rebuilt(what: str, error: BaseException, kind: type[NotRebuilt] = NotRebuilt) -> NotRebuilt:
    """Make the error of a call whose answer or arguments could not be rebuilt.

    Parameters
    ----------
    what : str
        What it is: the subject of the sentence.
    error : BaseException
        What unpickling raised. It becomes the cause, without its traceback: its frames hold the
        message, and with it memory of the pool.
    kind : type
        The error's class.
    """
    reason = f"{type(error).__qualname__}: {_shortened(_text_of(error))}{_place_of(error)}"
    bare = error.with_traceback(None)
    bare.__context__ = None
    raised = kind(f"{what} could not be rebuilt in process {os.getpid()}: {reason}. {_cure(error)}")
    raised.__cause__ = bare
    return raised


def cannot_send(error: BaseException, reason: BaseException) -> NotRebuilt:
    """Make what is sent in place of a call's error that cannot be pickled.

    Parameters
    ----------
    error : BaseException
        The error.
    reason : BaseException
        What pickle raised.
    """
    why = f"{type(reason).__qualname__}: {_shortened(_text_of(reason))}"
    what = describe(error, True)
    return NotRebuilt(f"{what} could not be sent by process {os.getpid()}: {why}. {_cure(reason)}")


def describe(value: object, raised: bool) -> str:
    """Name an answer for `not_rebuilt`: what a call has returned, or raised."""
    kind = type(value)
    name = f"{kind.__module__}.{kind.__qualname__}"
    if isinstance(value, BaseException):
        what = "error" if raised else "result"
        return f"the {what} of a call, {name}: {_shortened(_text_of(value))},"
    return f"the result of a call, an object of {name},"


def _place_of(error: BaseException) -> str:
    """Tell which function of the object's own raised an error, if one did."""
    traceback, last = error.__traceback__, None
    while traceback is not None:
        last, traceback = traceback, traceback.tb_next
    if last is None or last.tb_frame.f_globals.get("__name__", "").startswith("onecopy."):
        return ""
    code = last.tb_frame.f_code
    return f" (in {code.co_qualname}, {code.co_filename}:{last.tb_lineno})"


def _text_of(error: BaseException) -> str:
    try:
        return str(error)
    except Exception:  # noqa: BLE001 - the code of any class
        return "(no text: its __str__ raises)"


def _shortened(text: str) -> str:
    return text if len(text) <= _LONGEST else text[:_LONGEST] + "…"


def _cure(error: BaseException) -> str:
    if isinstance(error, ModuleNotFoundError):
        return "Install the module there too, or make it importable."
    if isinstance(error, AttributeError) and "Can't get attribute" in str(error):
        return (
            "Pickle finds functions and classes by their names: put it into a module that both "
            "processes import, and there at the top level. In a notebook or an interactive "
            "session, Executor sends it by value if cloudpickle is installed: "
            "pip install 'onecopy[cloudpickle]'."
        )
    return (
        "Pickling and unpickling it must work: try pickle.loads(pickle.dumps(it)). An exception is "
        "rebuilt by its class from its args: pass all arguments of __init__ on to "
        "super().__init__, or write a __reduce__. A class may also have its own __getstate__ and "
        "__setstate__, which must work in both processes."
    )
