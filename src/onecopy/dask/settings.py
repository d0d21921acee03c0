"""The settings of a cluster, in Dask's own configuration, so that they reach each process."""

from __future__ import annotations

from typing import Any, Literal, NamedTuple

import dask

from onecopy._core.sizes import parse_size

__all__ = ["PRELOAD", "Settings", "preload", "settings"]

PRELOAD = "onecopy.dask"
_ROLES = ("worker", "nanny", "scheduler")


class Settings(NamedTuple):
    """What `enable` was called with.

    Attributes
    ----------
    pool : str
        The name of the pool. Processes with the same pool directory and name share it.
    size : int or str or None
        Its size, for the process that makes it.
    threshold : int or str
        The smallest frame that travels by place.
    writable : {"private", "readonly"}
        How received data can be written.
    born : bool
        Whether results of numpy in workers are made in the pool.
    """

    pool: str = "dask"
    size: int | str | None = None
    threshold: int | str = "1MiB"
    writable: Literal["readonly", "private"] = "private"
    born: bool = False

    def checked(self) -> Settings:
        """Return itself, if everything is valid.

        Raises
        ------
        ValueError, TypeError
            Something is not.
        """
        parse_size(self.threshold, "threshold")
        if self.size is not None:
            parse_size(self.size)
        if self.writable not in {"private", "readonly"}:
            raise ValueError(f"writable={self.writable!r}: it is 'private' or 'readonly'")
        return self

    def store(self) -> None:
        """Write them to Dask's configuration, which new processes of a cluster get."""
        dask.config.set({f"onecopy.{name}": value for name, value in self._asdict().items()})


def settings() -> Settings:
    """Return the settings of this process: of `enable`, a file, or ``DASK_ONECOPY__POOL``."""
    known: dict[str, Any] = dask.config.get("onecopy", {})
    return Settings(**{name: known[name] for name in Settings._fields if name in known}).checked()


def preload(on: bool) -> None:
    """Have new schedulers, workers and nannies load this package, or not."""
    for role in _ROLES:
        key = f"distributed.{role}.preload"
        others = [module for module in dask.config.get(key) if module != PRELOAD]
        dask.config.set({key: [*others, PRELOAD] if on else others})
