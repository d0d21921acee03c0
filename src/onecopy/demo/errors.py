"""The errors of the demo. Each has a message of one line for the user."""

from __future__ import annotations


class DemoError(Exception):
    """The demo cannot continue. The message says why and what to do, in one line."""


class UnreadablePictureError(Exception):
    """A picture cannot be decoded; the demo skips and counts it."""
