"""The default context, for classes that are made without one; `context` makes it."""

from __future__ import annotations

from typing import Any

__all__ = ["default_context", "provide"]

_context: Any = None


def provide(context: Any) -> None:
    """Say which context is the default one."""
    global _context  # noqa: PLW0603 - there is one
    _context = context


def default_context() -> Any:
    """Give the context of the start method that was chosen, or of the default one."""
    return _context.get_context()
