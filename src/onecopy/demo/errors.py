"""What can go wrong in the demo, each with a message of one line for the person at the keys."""

from __future__ import annotations


class DemoError(Exception):
    """The demo cannot go on; the message says why and what to do, in one line."""


class UnreadablePictureError(Exception):
    """A picture cannot be decoded; the demo skips and counts it."""
