"""Checks of arguments. The error names the argument and says what to write.

The methods of the native core check their own arguments (native/bindings/methods.hpp). This module
does the same for functions in Python.
"""

from __future__ import annotations

import math
import operator
import sys
from functools import wraps
from typing import TYPE_CHECKING, Any, Concatenate, NoReturn, ParamSpec

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import FrameType

P = ParamSpec("P")

__all__ = [
    "Elsewhere",
    "called",
    "choice",
    "context",
    "flag",
    "function",
    "integer",
    "items",
    "mapping",
    "number",
    "positional",
    "refuse",
    "seconds",
    "unnamed",
    "without_elsewhere",
]


def refuse(name: str, expected: str, value: object, hint: str = "") -> NoReturn:
    """Raise the error for an argument of the wrong type.

    Parameters
    ----------
    name : str
        The name of the parameter.
    expected : str
        What the argument must be, for example ``"an integer"``.
    value : object
        What was passed.
    hint : str, optional
        What to write instead.

    Raises
    ------
    TypeError
        Always.
    """
    shown = f" {value!r}" if isinstance(value, (str, int, float, tuple)) else ""
    kind = "None" if value is None else f"{type(value).__name__}{shown:.100}"
    if hint:
        hint = f": {hint}"
    raise TypeError(f"{called()} argument {name!r} must be {expected}, not {kind}{hint}")


def called() -> str:
    """Return the name of the function of this package that the user called.

    Returns
    -------
    str
        For example ``"Pool.queue()"``.
    """
    frame = sys._getframe(1)
    while frame.f_back is not None and _is_ours(frame.f_back):
        frame = frame.f_back
    name = frame.f_code.co_qualname
    this = frame.f_locals.get("self")
    if this is not None and (
        name.count(".") == 1 or name.endswith(".__init__")
    ):  # the class of the object, not the class that defines the method
        name = f"{type(this).__name__}.{frame.f_code.co_name}"
    return f"{name.removesuffix('.__init__')}()"


def _is_ours(frame: FrameType) -> bool:
    return str(frame.f_globals.get("__name__", "")).partition(".")[0] == "onecopy"


def _number_in(name: str, value: object) -> str:
    """Return what to write, if a number was passed as a string."""
    if not isinstance(value, str):
        return ""
    try:
        float(value)
    except ValueError:
        return ""
    return f"write {name}={value.strip()}"


def integer(name: str, value: Any, hint: str = "") -> int:
    """Convert an argument to an int.

    Raises
    ------
    TypeError
        It is none.
    """
    try:
        return operator.index(value)
    except TypeError:
        refuse(name, "an integer", value, hint or _number_in(name, value))


def seconds(name: str, value: Any) -> float | None:
    """Convert an argument to a number of seconds. None stays None.

    Raises
    ------
    TypeError
        It is neither.
    ValueError
        It is not a number (NaN). Whether it may be negative is for the caller to check.
    """
    if value is None:
        return None
    found = number(name, value, "a number of seconds, or None")
    if math.isnan(found):
        raise ValueError(f"{name!r} must be a non-negative number")  # in the core's words
    return found


def number(name: str, value: Any, expected: str = "a number") -> float:
    """Convert an argument to a float.

    Raises
    ------
    TypeError
        It is not a number. A string is not a number, also if it contains one.
    """
    if hasattr(value, "__float__") or hasattr(value, "__index__"):
        return float(value)
    refuse(name, expected, value, _number_in(name, value))


def items(name: str, value: Any, expected: str = "an iterable") -> None:
    """Check that an argument is iterable.

    Raises
    ------
    TypeError
        It is not iterable.
    """
    if not (hasattr(value, "__iter__") or hasattr(value, "__getitem__")):
        refuse(name, expected, value)


def positional(name: str, value: Any) -> tuple[Any, ...]:
    """Convert the positional arguments of a call to a tuple.

    Other iterables are refused, because iterating over a queue would take its messages.

    Raises
    ------
    TypeError
        It is neither a tuple nor a list.
    """
    if isinstance(value, (tuple, list)):
        return tuple(value)
    shown = repr(value) if isinstance(value, (str, int, float)) else "x"
    refuse(name, "a tuple or a list", value, f"for one argument, write {name}=({shown},)")


def mapping(name: str, value: Any) -> dict[str, Any]:
    """Convert the keyword arguments of a call to a dict. None means no arguments.

    Raises
    ------
    TypeError
        It is not a mapping.
    """
    if value is None:
        return {}
    if not hasattr(value, "keys"):
        refuse(name, "a mapping of names to arguments", value, f"write {name}={{'name': value}}")
    return dict(value)


def context(name: str, value: Any) -> Any:
    """Return a context of multiprocessing. A string is a start method; None is the default one.

    Raises
    ------
    TypeError
        It is not a context.
    ValueError
        There is no such start method.
    """
    import multiprocessing

    if isinstance(value, str):
        choice(name, value, tuple(multiprocessing.get_all_start_methods()))
    if value is None or isinstance(value, str):
        return multiprocessing.get_context(value)
    if all(
        callable(getattr(value, part, None)) for part in ("Process", "Pipe", "get_start_method")
    ):
        return value
    refuse(
        name,
        "a context of multiprocessing, a start method, or None",
        value,
        f"write {name}=multiprocessing.get_context('spawn'), or {name}='spawn'",
    )


def unnamed(init: Callable[Concatenate[Any, P], None], /) -> Callable[Concatenate[Any, P], None]:
    """Make the `__init__` of a class refuse a name, and point to the method of `Pool` that has one.

    Parameters
    ----------
    init : callable
        The `__init__` of a class whose `_made_by` is the name of that method.

    Returns
    -------
    callable
        A function with the same signature.
    """

    @wraps(init)
    def __init__(self: Any, /, *args: P.args, **named: P.kwargs) -> None:  # noqa: N807 - it is one
        if args and isinstance(args[0], str) and not _number_in("", args[0]):
            raise TypeError(
                f"{type(self).__name__}() takes no name, but {args[0]!r} was passed: "
                f"pool.{self._made_by}({args[0]!r}) makes or opens the thing of that name"
            )
        init(self, *args, **named)

    return __init__


def flag(name: str, value: Any) -> bool:
    """Check that an argument is True or False.

    Raises
    ------
    TypeError
        It is something else.
    """
    if value is True or value is False:
        return value
    refuse(name, "True or False", value)


def function(name: str, value: Any) -> None:
    """Check that an argument is callable, or None.

    Raises
    ------
    TypeError
        It is neither.
    """
    if value is not None and not callable(value):
        refuse(name, "callable", value)


def choice(name: str, value: object, known: tuple[str, ...], otherwise: str = "") -> int:
    """Return the position of an argument among the known values.

    Parameters
    ----------
    name : str
        The name of the parameter.
    value : object
        What was passed.
    known : tuple of str
        The valid values.
    otherwise : str, optional
        What to write instead, if the value is similar to none of them.

    Raises
    ------
    ValueError
        It is none of them. The message has the most similar one.
    """
    if isinstance(value, str) and value in known:
        return known.index(value)
    from difflib import get_close_matches

    near = get_close_matches(str(value), known, 1)
    meant = f"; did you mean {near[0]!r}?" if near else otherwise and f"; {otherwise}"
    raise ValueError(f"{name}={value!r}: it is one of {', '.join(map(repr, known))}{meant}")


class Elsewhere:
    """A method that a class does not have, under a name that people may expect.

    The attribute is missing: it raises `AttributeError`, and `hasattr` is false. The error names
    the method to use. A class with such descriptors uses `without_elsewhere` as its `__dir__`. (A
    `__getattr__` instead of the descriptors would slow down each call of a method.)

    Parameters
    ----------
    instead : str
        What to write.
    """

    def __init__(self, instead: str) -> None:
        self._instead = instead
        self._name = ""
        self.__doc__ = f"Does not exist: write {instead}."

    def __set_name__(self, owner: type, name: str) -> None:
        self._name = name

    def __get__(self, instance: object, owner: type) -> Any:
        if instance is None:
            return self
        raise AttributeError(
            f"{owner.__name__!r} object has no attribute {self._name!r}: write {self._instead}",
            name=self._name,
            obj=instance,
        )

    # Because of `__set__`, `inspect` does not treat the descriptor as a method.
    def __set__(self, instance: object, value: object) -> NoReturn:
        raise AttributeError(f"{self._name!r} cannot be set")


def without_elsewhere(self: object) -> list[str]:
    """List the attributes that an object really has; for use as `__dir__`."""
    cls = type(self)
    return [
        name for name in object.__dir__(self) if not isinstance(getattr(cls, name, None), Elsewhere)
    ]
