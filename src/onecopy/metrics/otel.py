"""The same figures for OpenTelemetry, as observable instruments."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

from onecopy.metrics.figures import Source
from onecopy.metrics.names import METRICS

if TYPE_CHECKING:
    import os
    from collections.abc import Callable, Iterable, Sequence

    from opentelemetry.metrics import CallbackOptions, Meter, Observation

    from onecopy.metrics.figures import Values
    from onecopy.pool import Pool

__all__ = ["observe_with"]

_UNITS = {"bytes": "By", "seconds": "s", "": "1"}


def observe_with(
    meter: Meter,
    pools: Sequence[str | os.PathLike[str] | Pool] | None = None,
    *,
    processes: bool = False,
    unnamed: bool = False,
) -> None:
    """Report the figures of pools to OpenTelemetry.

    The instruments have the names of `PoolCollector`'s figures, without ``_total``. One snapshot
    serves all instruments of a collection.

    Parameters
    ----------
    meter : opentelemetry.metrics.Meter
        Makes the instruments: observable gauges and observable counters.
    pools, processes, unnamed
        As for `PoolCollector`.

    Raises
    ------
    ImportError
        opentelemetry-api is not installed.
    ValueError
        No pool can have one of these names.
    """
    try:
        from opentelemetry.metrics import Observation
    except ModuleNotFoundError:
        raise ImportError(
            "onecopy: observe_with needs opentelemetry-api, which is not installed. "
            "Run: pip install 'onecopy[otel]'"
        ) from None
    shared = _Shared(Source(pools, processes=processes, unnamed=unnamed))
    for metric in METRICS.values():
        make = (
            meter.create_observable_counter
            if metric.kind == "counter"
            else meter.create_observable_gauge
        )
        callback = _callback(shared, metric.name, metric.labels, Observation)
        name = metric.name.removesuffix("_total")
        make(name, callbacks=[callback], unit=_UNITS[metric.unit], description=metric.help)


class _Shared:
    """One look for all instruments: an instrument that asks again begins the next collection."""

    def __init__(self, source: Source) -> None:
        self._source = source
        self._lock = threading.Lock()
        self._values: Values = {}
        self._served = set(METRICS)

    def values(self, name: str) -> dict[tuple[str, ...], float]:
        with self._lock:
            if name in self._served:
                self._values = self._source.collect()
                self._served.clear()
            self._served.add(name)
            return self._values[name]


def _callback(
    shared: _Shared, name: str, labels: tuple[str, ...], observation: type[Observation]
) -> Callable[[CallbackOptions], Iterable[Observation]]:
    def observe(_options: CallbackOptions) -> Iterable[Observation]:
        return [
            observation(value, dict(zip(labels, each, strict=True)))
            for each, value in shared.values(name).items()
        ]

    return observe
