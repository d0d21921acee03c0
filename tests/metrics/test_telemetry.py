"""The figures for OpenTelemetry."""

from __future__ import annotations

import pytest

import onecopy as oc
from onecopy.metrics import observe_with
from onecopy.metrics.figures import Source
from onecopy.metrics.names import METRICS

pytest.importorskip("opentelemetry.sdk")
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader


def points(reader):
    """Return {name: (metric, its points)}."""
    data = reader.get_metrics_data()
    return {
        metric.name: (metric, list(metric.data.data_points))
        for resource in data.resource_metrics
        for scope in resource.scope_metrics
        for metric in scope.metrics
    }


@pytest.fixture
def reader():
    reader = InMemoryMetricReader()
    provider = MeterProvider([reader])
    reader.meter = provider.get_meter("test")
    yield reader
    provider.shutdown()


def test_the_figures(reader):
    observe_with(reader.meter)
    with oc.Pool.create("factory", size="4MiB") as pool:
        queue = pool.queue("jobs")
        queue.put(1)
        found = points(reader)
        metric, (point,) = found["onecopy_queue_put"]
        assert (metric.unit, metric.data.is_monotonic) == ("1", True)
        assert (point.value, dict(point.attributes)) == (1, {"pool": "factory", "queue": "jobs"})
        metric, (point,) = found["onecopy_pool_size_bytes"]
        assert (metric.unit, point.value) == ("By", 4 << 20)
        queue.put(2)
        assert points(reader)["onecopy_queue_put"][1][0].value == 2
        assert set(found) <= {name.removesuffix("_total") for name in METRICS}
    assert points(reader)["onecopy_pool_up"][1][0].value == 0


def test_one_look_serves_all_instruments(reader, monkeypatch):
    looks = []
    collect = Source.collect
    monkeypatch.setattr(Source, "collect", lambda self: looks.append(1) or collect(self))
    observe_with(reader.meter, ["missing"])
    for number in (1, 2, 3):
        points(reader)
        assert len(looks) == number
