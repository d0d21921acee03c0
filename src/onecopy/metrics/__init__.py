"""Figures of pools for monitoring systems: Prometheus and OpenTelemetry.

`PoolCollector` needs prometheus-client (extra ``metrics``), and `observe_with` needs
opentelemetry-api (extra ``otel``). Neither joins a pool or changes one.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from onecopy.metrics.otel import observe_with

if TYPE_CHECKING:
    from onecopy.metrics.prometheus import PoolCollector

__all__ = ["PoolCollector", "observe_with"]


def __getattr__(name: str) -> object:
    """Load what needs prometheus-client when it is first used."""
    if name != "PoolCollector":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    try:
        from onecopy.metrics.prometheus import PoolCollector
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] != "prometheus_client":
            raise
        raise ImportError(
            "onecopy: PoolCollector needs prometheus-client, which is not installed. "
            "Run: pip install 'onecopy[metrics]'"
        ) from None
    return PoolCollector
