"""What queues and streams need of this package; the rest is loaded when a type is used."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from onecopy._typed.plan import Channel, Typed

__all__ = ["bind", "described", "typed_by"]


def typed_by(annotation: Any) -> Typed | None:
    """Return the type that a call was given, or None.

    Raises
    ------
    TypeError
        It cannot be the type of messages.
    """
    if annotation is None:
        return None
    from onecopy._typed.plan import Typed

    return Typed(annotation)


def bind(what: str, name: str | None, channel: Channel, typed: Typed | None) -> None:
    """Give a channel that was made or opened its type, if it has one; see `plan.bind`."""
    if typed is None and channel._schema is None:
        return
    from onecopy._typed import plan

    plan.bind(what, name, channel, typed)


def described(channel: Channel) -> str | None:
    """Return the type of a channel's messages in one line, or None."""
    if channel._schema is None:
        return None
    from onecopy._typed import plan

    return plan.described(channel)
