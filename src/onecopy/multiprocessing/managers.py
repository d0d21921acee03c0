"""Managers (placeholder until the part arrives)."""

from multiprocessing.managers import *  # noqa: F403
