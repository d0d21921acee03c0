"""What an entry of the planted bugs says."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Bug:
    """A change of one file, why it is wrong, and what has to notice."""

    name: str
    file: str
    old: str
    new: str
    why: str
    where: tuple[str, str] | None = None  # a campaign and an operation that are likely to show it
    program: tuple[str, ...] = ()  # a native test and its arguments
    test: str = ""  # a Python test, as pytest names it
    more: tuple[tuple[str, str], ...] = ()  # further replacements in the same file
