"""All figures: their names, kinds, labels, and what they mean.

The names follow Prometheus's conventions: base units, and `_total` at the end of counters.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, TypeAlias

__all__ = ["METRICS", "Metric", "MetricKind"]

MetricKind: TypeAlias = Literal["gauge", "counter"]


@dataclass(frozen=True, slots=True)
class Metric:
    """One figure.

    Attributes
    ----------
    name : str
        As in Prometheus's text format; that of a counter ends in ``_total``.
    kind : str
        "gauge" or "counter".
    labels : tuple of str
        The names of its labels.
    help : str
        What it means, in one sentence.
    unit : str
        "bytes", "seconds" or "".
    """

    name: str
    kind: MetricKind
    labels: tuple[str, ...]
    help: str
    unit: str = ""


_POOL = ("pool",)
_PROCESS = ("pool", "slot", "pid", "program", "state")
_QUEUE = ("pool", "queue")
_STREAM = ("pool", "stream")
_FRAMES = ("pool", "frames")
_LOCK = ("pool", "lock", "kind")


def _gauge(name: str, labels: tuple[str, ...], text: str, unit: str = "") -> Metric:
    return Metric(name, "gauge", labels, text, unit)


def _counter(name: str, labels: tuple[str, ...], text: str) -> Metric:
    return Metric(name, "counter", labels, text)


_ALL = (
    _gauge("onecopy_collect_seconds", (), "How long this look at all pools took.", "seconds"),
    _gauge(
        "onecopy_directory_up", (), "1 if the pool directory could be listed, 0 if it could not."
    ),
    # ---- pools
    _gauge("onecopy_pool_up", _POOL, "1 if the pool could be read, 0 if it is damaged or gone."),
    _gauge("onecopy_pool_size_bytes", _POOL, "The size of the pool.", "bytes"),
    _gauge("onecopy_pool_used_bytes", _POOL, "Bytes of data in the pool.", "bytes"),
    _gauge(
        "onecopy_pool_structure_bytes",
        _POOL,
        "Bytes of queues, locks and other structures in the pool.",
        "bytes",
    ),
    _gauge("onecopy_pool_committed_bytes", _POOL, "Memory that the pool has reserved.", "bytes"),
    _gauge("onecopy_pool_corrupt", _POOL, "1 if the pool is marked corrupt."),
    _gauge("onecopy_pool_slots", _POOL, "How many processes can be members."),
    _gauge(
        "onecopy_pool_processes",
        ("pool", "state"),
        "Members by state: alive, stopped (by a signal), dead (not cleaned up yet) or unknown.",
    ),
    _gauge(
        "onecopy_pool_held_bytes",
        ("pool", "state"),
        "What members hold, by their state. A block that several processes hold counts for each.",
        "bytes",
    ),
    _gauge("onecopy_pool_channels", ("pool", "kind"), "Queues, streams, locks and so on by kind."),
    _gauge(
        "onecopy_pool_waiting_threads",
        ("pool", "reason"),
        "Threads of living processes that wait, by what they do.",
    ),
    _gauge(
        "onecopy_pool_longest_wait_seconds",
        _POOL,
        "How long the thread has waited that has waited longest; 0 if none waits.",
        "seconds",
    ),
    # ---- processes, if they are asked for
    _gauge("onecopy_process_held_bytes", _PROCESS, "What one member holds.", "bytes"),
    _gauge("onecopy_process_waiting_threads", _PROCESS, "Threads of one member that wait."),
    # ---- queues
    _gauge("onecopy_queue_depth", _QUEUE, "Messages that can be taken."),
    _gauge("onecopy_queue_capacity", _QUEUE, "How many messages can be in the queue."),
    _gauge(
        "onecopy_queue_occupied",
        _QUEUE,
        "Messages that take up room, also those that were taken and are to be redelivered.",
    ),
    _gauge("onecopy_queue_unfinished", _QUEUE, "Messages that wait for task_done."),
    _counter("onecopy_queue_put_total", _QUEUE, "Messages that were put."),
    _counter("onecopy_queue_taken_total", _QUEUE, "Messages that were taken."),
    _gauge(
        "onecopy_queue_oldest_message_seconds",
        _QUEUE,
        "For how long, at least, the oldest message has been there; 0 if the queue is empty.",
        "seconds",
    ),
    _gauge(
        "onecopy_queue_waiting_threads",
        ("pool", "queue", "operation"),
        "Threads that wait to put, or to get.",
    ),
    _gauge("onecopy_queue_closed", _QUEUE, "1 if the queue was shut down."),
    # ---- streams
    _counter("onecopy_stream_published_total", _STREAM, "Messages that were published."),
    _counter(
        "onecopy_stream_missed_total",
        _STREAM,
        "Messages that subscribers missed, all of them together, as this process has seen it.",
    ),
    _gauge("onecopy_stream_subscribers", _STREAM, "Subscriptions."),
    _gauge(
        "onecopy_stream_lag",
        _STREAM,
        "How many messages the subscriber that is most behind is behind.",
    ),
    _gauge("onecopy_stream_depth", _STREAM, "How many messages the stream keeps."),
    _gauge(
        "onecopy_stream_waiting_threads",
        ("pool", "stream", "operation"),
        "Threads that wait to publish, or to read.",
    ),
    _gauge("onecopy_stream_closed", _STREAM, "1 if the stream was closed."),
    # ---- frames
    _gauge("onecopy_frames_capacity", _FRAMES, "Frames that the set has."),
    _gauge("onecopy_frames_free", _FRAMES, "Frames that are free."),
    _gauge("onecopy_frames_out", _FRAMES, "Frames that a process, a message or an item has."),
    _gauge("onecopy_frames_frame_bytes", _FRAMES, "The size of one frame.", "bytes"),
    _gauge(
        "onecopy_frames_longest_out_seconds",
        _FRAMES,
        "For how long, at least, one of the frames has been out; 0 if none is.",
        "seconds",
    ),
    _gauge("onecopy_frames_waiting_threads", _FRAMES, "Threads that wait for a frame."),
    # ---- locks
    _gauge("onecopy_lock_holders", _LOCK, "Processes that have the lock or a share of it."),
    _gauge(
        "onecopy_lock_held_seconds",
        _LOCK,
        "For how long its owner has had it; 0 if none has, or if it is not known.",
        "seconds",
    ),
    _gauge("onecopy_lock_waiting_threads", _LOCK, "Threads that wait for it."),
    _gauge("onecopy_semaphore_value", ("pool", "lock"), "Tokens that a semaphore has left."),
    _gauge("onecopy_event_set", ("pool", "lock"), "1 if an event is set."),
)

METRICS: dict[str, Metric] = {metric.name: metric for metric in _ALL}
"""All figures, by name, in the order in which they are shown."""
