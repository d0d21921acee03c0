"""From looks at pools to figures."""

from __future__ import annotations

import threading
import time
from collections import Counter
from typing import TYPE_CHECKING, TypeAlias

from onecopy.metrics.names import METRICS
from onecopy.observer.several import Watch
from onecopy.observer.system import short_command

if TYPE_CHECKING:
    import os
    from collections.abc import Sequence

    from onecopy.observer.records import (
        FramesView,
        LockView,
        PoolSnapshot,
        ProcessView,
        QueueView,
        StreamView,
        ThingView,
    )
    from onecopy.observer.several import PoolLook
    from onecopy.pool import Pool

__all__ = ["Figures", "Source", "Values"]

Values: TypeAlias = "dict[str, dict[tuple[str, ...], float]]"
"""By the name of the figure, and by the values of its labels."""

_KEEP_GONE = 300.0  # seconds; a few scrapes should see that a pool is gone
_STATES = ("alive", "stopped", "dead", "unknown")
_HOLD = {"owner", "writer", "next writer", "reader", "holder"}


class Figures:
    """The figures of one moment; a pair of labels has one value."""

    def __init__(self) -> None:
        self.values: Values = {name: {} for name in METRICS}

    def put(self, name: str, value: float, *labels: str) -> None:
        """Note a value. Of two things with the same name, the first counts.

        A NUL in a name becomes "␀": a program that reads the figures may end the text there.
        """
        labels = tuple(label.replace("\0", "␀") for label in labels)
        self.values[name].setdefault(labels, float(value))


class Source:
    """Takes a snapshot of each pool, and makes figures of it. Several threads may use it.

    Parameters
    ----------
    pools : sequence of str, path-like or Pool, optional
        As for `observe`, but they may be missing. Left out: all pools of this user.
    processes : bool, optional
        Whether each process has figures of its own.
    unnamed : bool, optional
        Whether channels without a name have figures, too: they are called by their block.
    """

    def __init__(
        self,
        pools: Sequence[str | os.PathLike[str] | Pool] | None = None,
        *,
        processes: bool = False,
        unnamed: bool = False,
    ) -> None:
        self._watch = Watch(pools, keep_gone=_KEEP_GONE)
        self._processes = processes
        self._unnamed = unnamed
        self._lock = threading.Lock()
        self._missed: dict[tuple[str, int, str | None], tuple[int, int]] = {}

    def collect(self) -> Values:
        """Look at all pools.

        Returns
        -------
        dict
            For each name of `METRICS` the values by their labels.
        """
        with self._lock:
            return self._collect()

    def _collect(self) -> Values:
        began = time.perf_counter()
        figures = Figures()
        looks: list[PoolLook] = []
        try:
            looks = self._watch.look()
            figures.put("onecopy_directory_up", 1)
        except OSError:
            figures.put("onecopy_directory_up", 0)
        missed_before, self._missed = self._missed, {}
        names = Counter(look.name for look in looks)
        for look in looks:
            # Two pools in different directories may have the same name.
            name = look.name if names[look.name] == 1 else look.path
            figures.put("onecopy_pool_up", look.snapshot is not None, name)
            if look.snapshot is not None:
                self._of_pool(figures, name, look.snapshot, missed_before)
        figures.put("onecopy_collect_seconds", time.perf_counter() - began)
        return figures.values

    def _of_pool(
        self,
        figures: Figures,
        name: str,
        pool: PoolSnapshot,
        missed: dict[tuple[str, int, str | None], tuple[int, int]],
    ) -> None:
        put = figures.put
        put("onecopy_pool_size_bytes", pool.size, name)
        put("onecopy_pool_used_bytes", pool.used, name)
        put("onecopy_pool_structure_bytes", pool.structure_bytes, name)
        put("onecopy_pool_committed_bytes", pool.committed, name)
        put("onecopy_pool_corrupt", pool.corrupt, name)
        put("onecopy_pool_slots", pool.max_processes, name)
        _of_processes(figures, name, pool)
        things: list[ThingView] = [*pool.queues, *pool.streams, *pool.frames, *pool.locks]
        for kind, count in Counter(thing.kind for thing in things).items():
            put("onecopy_pool_channels", count, name, kind)
        if self._processes:
            for process in pool.processes:
                _of_process(figures, name, process)
        for queue in pool.queues:
            if self._counts(queue):
                _of_queue(figures, name, queue)
        for stream in pool.streams:
            if self._counts(stream):
                key = (pool.id, stream.index, stream.name)
                total = self._missed[key] = _grown(stream, missed.get(key))
                _of_stream(figures, name, stream, total[0])
        for frames in pool.frames:
            if self._counts(frames):
                _of_frames(figures, name, frames)
        for lock in pool.locks:
            if self._counts(lock):
                _of_lock(figures, name, lock)

    def _counts(self, thing: ThingView) -> bool:
        return thing.readable and (self._unnamed or thing.name is not None)


def _grown(stream: StreamView, before: tuple[int, int] | None) -> tuple[int, int]:
    """Return how much was missed in all, and the present sum, which falls when a reader leaves."""
    now = sum(each.missed for each in stream.subscribers)
    if before is None:
        return now, now
    total, last = before
    return total + max(now - last, 0), now


def _label(thing: ThingView) -> str:
    return thing.name if thing.name is not None else f"(block {thing.index})"


def _of_processes(figures: Figures, name: str, pool: PoolSnapshot) -> None:
    states = Counter[str]()
    held = Counter[str]()
    reasons = Counter[str]()
    longest = 0.0
    for process in pool.processes:
        states[process.state] += 1
        held[process.state] += process.bytes
        if process.state != "dead":
            for wait in process.waits:
                reasons[wait.why] += 1
                longest = max(longest, wait.seconds)
    for state in _STATES:
        figures.put("onecopy_pool_processes", states[state], name, state)
        figures.put("onecopy_pool_held_bytes", held[state], name, state)
    for reason, count in reasons.items():
        figures.put("onecopy_pool_waiting_threads", count, name, reason)
    figures.put("onecopy_pool_longest_wait_seconds", longest, name)


def _of_process(figures: Figures, name: str, process: ProcessView) -> None:
    program = short_command(process.command)
    labels = (name, str(process.slot), str(process.pid), program, process.state)
    figures.put("onecopy_process_held_bytes", process.bytes, *labels)
    figures.put("onecopy_process_waiting_threads", len(process.waits), *labels)


def _of_queue(figures: Figures, name: str, queue: QueueView) -> None:
    put, label = figures.put, _label(queue)
    put("onecopy_queue_depth", queue.depth, name, label)
    put("onecopy_queue_capacity", queue.room, name, label)
    put("onecopy_queue_occupied", queue.occupied, name, label)
    put("onecopy_queue_unfinished", queue.unfinished, name, label)
    put("onecopy_queue_put_total", queue.put, name, label)
    put("onecopy_queue_taken_total", queue.taken, name, label)
    put("onecopy_queue_oldest_message_seconds", queue.oldest or 0.0, name, label)
    put("onecopy_queue_waiting_threads", queue.producers_waiting, name, label, "put")
    put("onecopy_queue_waiting_threads", queue.consumers_waiting, name, label, "get")
    put("onecopy_queue_closed", queue.closed, name, label)


def _of_stream(figures: Figures, name: str, stream: StreamView, missed: int) -> None:
    put, label = figures.put, _label(stream)
    lag = max((each.lag for each in stream.subscribers), default=0)
    put("onecopy_stream_published_total", stream.published, name, label)
    put("onecopy_stream_missed_total", missed, name, label)
    put("onecopy_stream_subscribers", len(stream.subscribers), name, label)
    put("onecopy_stream_lag", lag, name, label)
    put("onecopy_stream_depth", stream.depth, name, label)
    put("onecopy_stream_waiting_threads", stream.publishers_waiting, name, label, "publish")
    put("onecopy_stream_waiting_threads", stream.readers_waiting, name, label, "read")
    put("onecopy_stream_closed", stream.closed, name, label)


def _of_frames(figures: Figures, name: str, frames: FramesView) -> None:
    put, label = figures.put, _label(frames)
    longest = max((each.seconds for each in frames.holders), default=0.0)
    put("onecopy_frames_capacity", frames.count, name, label)
    put("onecopy_frames_free", frames.free, name, label)
    put("onecopy_frames_out", frames.out, name, label)
    put("onecopy_frames_frame_bytes", frames.frame_bytes, name, label)
    put("onecopy_frames_longest_out_seconds", longest, name, label)
    put("onecopy_frames_waiting_threads", frames.waiting, name, label)


def _of_lock(figures: Figures, name: str, lock: LockView) -> None:
    put, label = figures.put, _label(lock)
    held = [each for each in lock.holders if each.role in _HOLD]
    longest = max((each.seconds or 0.0 for each in held), default=0.0)
    put("onecopy_lock_holders", len(held), name, label, lock.kind)
    put("onecopy_lock_held_seconds", longest, name, label, lock.kind)
    put("onecopy_lock_waiting_threads", lock.waiting, name, label, lock.kind)
    if "value" in lock.details:
        put("onecopy_semaphore_value", lock.details["value"], name, label)
    if "is_set" in lock.details:
        put("onecopy_event_set", lock.details["is_set"], name, label)
