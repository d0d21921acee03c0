"""Arguments that will not do: the error names them, and says what to write.

The methods of the native core do this by themselves (native/bindings/methods.hpp); this is the same
for functions in Python.
"""

from __future__ import annotations

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
    if this is not None and (
        name.count(".") == 1 or name.endswith(".__init__")
    ):  # by the user's class, not the one that has it
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


def number(name: str, value: Any, expected: str = "a number") -> float:
    """Give an argument as a float.

    Raises
    ------
    TypeError
        It is no number; a string that could be read as one is none.
    """
    if hasattr(value, "__float__") or hasattr(value, "__index__"):
        return float(value)
    refuse(name, expected, value, _number_in(name, value))


def items(name: str, value: Any, expected: str = "an iterable") -> None:
    """Let what can be iterated over pass.

    Raises
    ------
    TypeError
        It cannot.
    """
    if not (hasattr(value, "__iter__") or hasattr(value, "__getitem__")):
        refuse(name, expected, value)


def positional(name: str, value: Any) -> tuple[Any, ...]:
    """Give the positional arguments for a call as a tuple.

    Other iterables are refused. To iterate over a queue would take what is in it.

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
    """Give the keyword arguments for a call as a dict; None: there are none.

    Raises
    ------
    TypeError
        It is no mapping.
    """
    if value is None:
        return {}
    if not hasattr(value, "keys"):
        refuse(name, "a mapping of names to arguments", value, f"write {name}={{'name': value}}")
    return dict(value)


def context(name: str, value: Any) -> Any:
    """Give a context of multiprocessing; a string is a start method, None is the default one.

    Raises
    ------
    TypeError
        It is no context.
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
    """Let the `__init__` of a class answer a name with the method of `Pool` that takes one.

    Parameters
    ----------
    init : callable
        Of a class that has the name of that method as `_made_by`.

    Returns
    -------
    callable
        Has the same signature.
    """

    @wraps(init)
    def __init__(self: Any, /, *args: P.args, **named: P.kwargs) -> None:  # noqa: N807 - it is one
        if args and isinstance(args[0], str) and not _number_in("", args[0]):
            raise TypeError(
                f"{type(self).__name__}() takes no name, and {args[0]!r} was passed: "
                f"pool.{self._made_by}({args[0]!r}) makes or opens the one of that name"
            )
        init(self, *args, **named)

    return __init__


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


def choice(name: str, value: object, known: tuple[str, ...], otherwise: str = "") -> int:
    """Give the position of an argument among the known ones.

    Parameters
    ----------
    name : str
        The parameter's.
    value : object
        What was passed.
    known : tuple of str
        What it may be.
    otherwise : str, optional
        What to write instead, for a value that is like none of them.

    Raises
    ------
    ValueError
        It is none of them; the message has the one that was probably meant.
    """
    if isinstance(value, str) and value in known:
        return known.index(value)
    from difflib import get_close_matches

    near = get_close_matches(str(value), known, 1)
    meant = f"; did you mean {near[0]!r}?" if near else otherwise and f"; {otherwise}"
    raise ValueError(f"{name}={value!r}: it is one of {', '.join(map(repr, known))}{meant}")


class Elsewhere:
    """A method that a class does not have, under a name by which people look for it.

    The attribute is missing (`AttributeError`, and false for `hasattr`), and the error says which
    method does it. A class that has such descriptors takes `without_elsewhere` as its `__dir__`. (A
    `__getattr__` would be in no `dir`, and would slow down each call of a method.)

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


def without_elsewhere(self: object) -> list[str]:
    """List the attributes of an object that it has; a `__dir__`."""
    cls = type(self)
    return [
        name for name in object.__dir__(self) if not isinstance(getattr(cls, name, None), Elsewhere)
    ]
