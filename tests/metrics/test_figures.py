"""The figures of `onecopy.metrics`: what they are, and that hostile names break nothing."""

from __future__ import annotations

import re
import struct
import subprocess
import sys
from pathlib import Path

import pytest

import onecopy as oc
from onecopy.metrics.figures import Source
from onecopy.metrics.names import METRICS
from onecopy.observer.several import Watch

pytest.importorskip("prometheus_client")
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.openmetrics.exposition import generate_latest as generate_openmetrics
from prometheus_client.openmetrics.parser import text_string_to_metric_families as parse_openmetrics
from prometheus_client.parser import text_string_to_metric_families as parse_text

from onecopy.metrics import PoolCollector

HOSTILE = [
    "a\nb",
    'quote"',
    'x",evil="1',
    "back\\slash\\n",
    "{}",
    "日本",
    "\x1b[31m",
    "\x00",
    " ",
    "\ufffe",
    "x" * 100,
]


def scrape(*pools, **options):
    registry = CollectorRegistry()
    registry.register(PoolCollector(pools or None, **options))
    return registry


def samples(registry):
    """Return all samples as {(name, labels): value}, as both parsers read them."""
    text = generate_latest(registry).decode()
    found = {}
    for family in parse_text(text):
        for sample in family.samples:
            key = sample.name, tuple(sorted(sample.labels.items()))
            assert key not in found, "two samples have the same labels"
            found[key] = sample.value
    opened = {
        (sample.name, tuple(sorted(sample.labels.items())))
        for family in parse_openmetrics(generate_openmetrics(registry).decode())
        for sample in family.samples
    }
    assert opened == set(found)
    return found


def value(found, name, **labels):
    (known,) = [
        number
        for (each, pairs), number in found.items()
        if each == name and dict(pairs).items() >= labels.items()
    ]
    return known


# ---- names --------------------------------------------------------------------------------------


def test_names_follow_the_conventions():
    for metric in METRICS.values():
        assert re.fullmatch(r"onecopy_[a-z]+(_[a-z]+)*", metric.name)
        assert metric.name.endswith("_total") == (metric.kind == "counter"), metric
        assert (metric.unit == "bytes") == metric.name.endswith("_bytes"), metric
        assert (metric.unit == "seconds") == metric.name.endswith("_seconds"), metric
        assert metric.help.endswith("."), metric
        assert metric.help.isprintable(), metric
        assert all(re.fullmatch(r"[a-z]+", label) for label in metric.labels), metric
        assert len(set(metric.labels)) == len(metric.labels), metric


# ---- values -------------------------------------------------------------------------------------


def test_all_kinds_of_figures():
    with oc.Pool.create("factory", size="16MiB") as pool:
        queue = pool.queue("jobs", maxsize=8)
        for number in range(3):
            queue.put(number)
        queue.get()
        stream = pool.stream("live", depth=4)
        reader = stream.subscribe()
        for number in range(6):
            stream.publish(number)
        reader.get()
        frames = pool.frames("cam", (16,), "u1", count=4)
        kept = frames.acquire()
        lock = pool.lock("mutex")
        semaphore = pool.semaphore("gate", 3)
        event = pool.event("go")
        event.set()
        with lock, semaphore:
            registry = scrape(processes=True)
            found = samples(registry)
        assert {name for name, _ in found} >= set(METRICS) - {"onecopy_pool_waiting_threads"}
        assert value(found, "onecopy_directory_up") == 1
        assert value(found, "onecopy_pool_up", pool="factory") == 1
        assert value(found, "onecopy_pool_size_bytes") == 16 << 20
        assert value(found, "onecopy_pool_processes", state="alive") == 1
        assert value(found, "onecopy_pool_processes", state="dead") == 0
        assert value(found, "onecopy_queue_depth", pool="factory", queue="jobs") == 2
        assert value(found, "onecopy_queue_capacity", queue="jobs") == 8
        assert value(found, "onecopy_queue_put_total", queue="jobs") == 3
        assert value(found, "onecopy_queue_taken_total", queue="jobs") == 1
        assert value(found, "onecopy_queue_waiting_threads", operation="get") == 0
        assert value(found, "onecopy_stream_published_total", stream="live") == 6
        assert value(found, "onecopy_stream_missed_total", stream="live") == 2
        assert value(found, "onecopy_stream_lag", stream="live") == 3
        assert value(found, "onecopy_frames_out", frames="cam") == 1
        assert value(found, "onecopy_frames_free", frames="cam") == 3
        assert value(found, "onecopy_lock_holders", lock="mutex", kind="lock") == 1
        assert value(found, "onecopy_semaphore_value", lock="gate") == 2
        assert value(found, "onecopy_event_set", lock="go") == 1
        assert value(found, "onecopy_process_held_bytes", pool="factory") > 0
        del kept


def test_processes_are_left_out_unless_they_are_asked_for():
    with oc.Pool.create("factory", size="4MiB"):
        assert not any("process_" in name for name, _ in samples(scrape()))


def test_channels_without_a_name_are_left_out_unless_they_are_asked_for():
    with oc.Pool.create("factory", size="4MiB") as pool:
        queue = pool.queue()
        queue.put(1)
        found = samples(scrape())
        assert not any(name.startswith("onecopy_queue") for name, _ in found)
        assert value(found, "onecopy_pool_channels", kind="queue") == 1
        found = samples(scrape(unnamed=True))
        assert value(found, "onecopy_queue_depth") == 1
        ((_, labels),) = [key for key in found if key[0] == "onecopy_queue_depth"]
        assert re.fullmatch(r"\(block \d+\)", dict(labels)["queue"])


@pytest.mark.parametrize("kind", ["queue", "stream", "lock"])
def test_hostile_names(kind):
    with oc.Pool.create("factory", size="16MiB") as pool:
        kept = [getattr(pool, kind)(name) for name in HOSTILE]
        found = samples(scrape())
        figure = {"queue": "depth", "stream": "lag", "lock": "holders"}[kind]
        labels = [dict(pairs)[kind] for name, pairs in found if name == f"onecopy_{kind}_{figure}"]
        assert sorted(labels) == sorted(name.replace("\0", "␀") for name in HOSTILE)
        del kept


def test_what_a_reader_missed_does_not_become_less_when_it_leaves():
    with oc.Pool.create("factory", size="4MiB") as pool:
        stream = pool.stream("live", depth=2)
        registry = scrape()

        def missed():
            return value(samples(registry), "onecopy_stream_missed_total")

        for round_ in (1, 2):
            reader = stream.subscribe()
            for number in range(5):
                stream.publish(number)
            reader.get()
            assert missed() == round_ * 3
            reader.close()
            assert missed() == round_ * 3


# ---- pools that cannot be read ------------------------------------------------------------------


def test_damaged_and_missing_pools_are_down(pool_directory):
    (pool_directory / "junk.pool").write_bytes(b"junk")
    with oc.Pool.create("good", size="4MiB"):
        registry = scrape("good", "junk", "missing")
        found = samples(registry)
        (pool_directory / "junk.pool").unlink()
    ups = [value(found, "onecopy_pool_up", pool=name) for name in ("good", "junk", "missing")]
    assert ups == [1, 0, 0]
    assert value(samples(registry), "onecopy_pool_up", pool="good") == 0


def test_a_pool_of_another_version_is_down():
    with oc.Pool.create("other", size="4MiB") as pool, Path(pool.member.path).open("r+b") as file:
        file.seek(16)
        version = file.read(4)
        file.seek(16)
        file.write(struct.pack("I", 999))
        file.flush()
        found = samples(scrape("other"))
        file.seek(16)
        file.write(version)
    assert value(found, "onecopy_pool_up", pool="other") == 0
    assert not any(name == "onecopy_pool_size_bytes" for name, _ in found)


def test_a_pool_that_vanishes_is_down_for_a_while():
    registry = scrape()
    with oc.Pool.create("factory", size="4MiB"):
        assert value(samples(registry), "onecopy_pool_up", pool="factory") == 1
    found = samples(registry)
    assert value(found, "onecopy_pool_up", pool="factory") == 0
    assert not any(name == "onecopy_pool_size_bytes" for name, _ in found)


def test_a_directory_that_cannot_be_listed(monkeypatch):
    registry = scrape()

    def refuse(self):
        raise PermissionError("other users may write in it")

    monkeypatch.setattr(Watch, "look", refuse)
    assert value(samples(registry), "onecopy_directory_up") == 0


def test_a_collector_does_not_look_when_it_is_registered(monkeypatch):
    monkeypatch.setattr(Source, "collect", None)
    scrape()


def test_a_name_that_no_pool_can_have():
    with pytest.raises(ValueError, match="cannot name a pool"):
        PoolCollector(["a b"])


# ---- without the packages -----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("program", "words"),
    [
        ("from onecopy.metrics import PoolCollector", "pip install 'onecopy[metrics]'"),
        (
            "from onecopy.metrics import observe_with; observe_with(1)",
            "pip install 'onecopy[otel]'",
        ),
    ],
)
def test_a_missing_package_is_one_clear_line(program, words):
    missing = "sys.modules |= dict.fromkeys(['prometheus_client', 'opentelemetry'])"
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", f"import sys; {missing}; {program}"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1
    last = done.stderr.splitlines()[-1]
    assert last.startswith("ImportError: onecopy: ")
    assert words in last


def test_importing_it_loads_neither():
    packages = "{'prometheus_client', 'opentelemetry'}"
    program = f"import sys, onecopy.metrics; print({packages} & {{*sys.modules}})"
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    assert done.stdout == "set()\n"
