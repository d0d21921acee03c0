"""The default context, for objects that are made without a context; `context` sets it."""

from __future__ import annotations

from typing import Any

__all__ = ["default_context", "provide"]

_context: Any = None


def provide(context: Any) -> None:
    """Set the default context."""
    global _context  # noqa: PLW0603 - there is one
    _context = context


def default_context() -> Any:
    """Return the context of the start method that was set, or of the default start method."""
    return _context.get_context()
