"""A collector for prometheus-client."""

from __future__ import annotations

from typing import TYPE_CHECKING

from prometheus_client.metrics_core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.registry import Collector

from onecopy.metrics.figures import Source
from onecopy.metrics.names import METRICS

if TYPE_CHECKING:
    import os
    from collections.abc import Iterator, Sequence

    from prometheus_client import Metric

    from onecopy.pool import Pool

__all__ = ["PoolCollector"]


class PoolCollector(Collector):
    """Reports the figures of pools to Prometheus. Each scrape takes a snapshot of each pool.

    It joins no pool, takes no lock and changes nothing. A pool that is damaged or gone has
    ``onecopy_pool_up`` 0, and the others are reported all the same.

    Parameters
    ----------
    pools : sequence of str, path-like or Pool, optional
        Names or paths, as for `onecopy.observe`. They may be missing, and appear later. Left out:
        all pools of this user.
    processes : bool, optional
        Whether each process has figures of its own. Processes come and go, so this makes many
        time series.
    unnamed : bool, optional
        Whether queues, streams, frames and locks without a name have figures, too. They are called
        by their block, and another one may get the same block later.

    Raises
    ------
    ValueError
        No pool can have one of these names.

    Examples
    --------
    >>> from prometheus_client import CollectorRegistry, generate_latest
    >>> registry = CollectorRegistry()
    >>> registry.register(PoolCollector())
    >>> b"onecopy_directory_up 1.0" in generate_latest(registry)
    True
    """

    def __init__(
        self,
        pools: Sequence[str | os.PathLike[str] | Pool] | None = None,
        *,
        processes: bool = False,
        unnamed: bool = False,
    ) -> None:
        self._source = Source(pools, processes=processes, unnamed=unnamed)

    def describe(self) -> Iterator[Metric]:
        """Name the figures without looking at a pool, for the registry."""
        for metric in METRICS.values():
            yield _family(metric.name)

    def collect(self) -> Iterator[Metric]:
        """Look at all pools.

        Yields
        ------
        Metric
            One figure with all its labels.
        """
        for name, values in self._source.collect().items():
            family = _family(name)
            for labels, value in values.items():
                family.add_metric(list(map(_valid, labels)), value)
            yield family


def _family(name: str) -> CounterMetricFamily | GaugeMetricFamily:
    metric = METRICS[name]
    make = CounterMetricFamily if metric.kind == "counter" else GaugeMetricFamily
    return make(name, metric.help, labels=metric.labels)


def _valid(label: str) -> str:
    """Return a text that UTF-8 can encode; the rest of the escaping is prometheus-client's."""
    return label.encode("utf-8", "backslashreplace").decode()
