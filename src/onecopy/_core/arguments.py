"""Arguments that will not do: the error names them, and says what to write.

The methods of the native core do this by themselves (native/bindings/methods.hpp); this is the same
for functions in Python.
"""

from __future__ import annotations

import operator
import sys
from typing import TYPE_CHECKING, Any, NoReturn

if TYPE_CHECKING:
    from types import FrameType

__all__ = ["Elsewhere", "called", "choice", "flag", "function", "integer", "refuse", "seconds"]


def refuse(name: str, expected: str, value: object, hint: str = "") -> NoReturn:
    """Raise the error for an argument of the wrong type.

    Parameters
    ----------
    name : str
        The parameter's.
    expected : str
        What it must be, as in ``"an integer"``.
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
    """Give the name of the function of this package that was called from outside of it.

    Returns
    -------
    str
        Such as ``"Pool.queue()"``.
    """
    frame = sys._getframe(1)
    while frame.f_back is not None and _is_ours(frame.f_back):
        frame = frame.f_back
    name = frame.f_code.co_qualname
    this = frame.f_locals.get("self")
    if this is not None and name.count(".") == 1:  # by the user's class, not the one that has it
        name = f"{type(this).__name__}.{frame.f_code.co_name}"
    return f"{name.removesuffix('.__init__')}()"


def _is_ours(frame: FrameType) -> bool:
    return str(frame.f_globals.get("__name__", "")).partition(".")[0] == "onecopy"


def _number_in(name: str, value: object) -> str:
    """Say what to write if a number was passed as a string."""
    if not isinstance(value, str):
        return ""
    try:
        float(value)
    except ValueError:
        return ""
    return f"write {name}={value.strip()}"


def integer(name: str, value: Any, hint: str = "") -> int:
    """Give an argument as an int.

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
    """Let a number of seconds, or None, pass.

    Raises
    ------
    TypeError
        It is neither.
    """
    if value is None or hasattr(value, "__float__") or hasattr(value, "__index__"):
        return value  # type: ignore[no-any-return]  # what it is of, the waiting function converts
    refuse(name, "a number of seconds, or None", value, _number_in(name, value))


def flag(name: str, value: Any) -> bool:
    """Let True and False pass.

    Raises
    ------
    TypeError
        It is something else.
    """
    if value is True or value is False:
        return value
    refuse(name, "True or False", value)


def function(name: str, value: Any) -> None:
    """Let a callable, or None, pass.

    Raises
    ------
    TypeError
        It is neither.
    """
    if value is not None and not callable(value):
        refuse(name, "callable", value)


def choice(name: str, value: object, known: tuple[str, ...]) -> int:
    """Give the position of an argument among the known ones.

    Raises
    ------
    ValueError
        It is none of them; the message has the one that was probably meant.
    """
    if isinstance(value, str) and value in known:
        return known.index(value)
    from difflib import get_close_matches

    near = get_close_matches(str(value), known, 1)
    meant = f"; did you mean {near[0]!r}?" if near else ""
    raise ValueError(f"{name}={value!r}: it is one of {', '.join(map(repr, known))}{meant}")


class Elsewhere:
    """A method that a class does not have, under a name by which people look for it.

    The attribute is missing (`AttributeError`, and false for `hasattr`), and the error says which
    method does it.

    Parameters
    ----------
    instead : str
        What to write.
    """

    def __init__(self, instead: str) -> None:
        self._instead = instead
        self._name = ""
        self.__doc__ = f"There is none: write {instead}."

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

    # With this it is no method to `inspect`.
    def __set__(self, instance: object, value: object) -> NoReturn:
        raise AttributeError(f"{self._name!r} cannot be set")
