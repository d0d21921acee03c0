"""`replay`: publishes a recording, at the pace at which it was recorded."""

from __future__ import annotations

import math
import time
from typing import TYPE_CHECKING, Any, Protocol

from onecopy.pool import Pool
from onecopy.recordings.recording import Recording, open_recording
from onecopy.stream import Stream

if TYPE_CHECKING:
    import os
    from collections.abc import Mapping

__all__ = ["Clock", "replay"]


class Clock(Protocol):
    """How `replay` waits."""

    def now(self) -> float:
        """Return a time in seconds, from any beginning."""

    def wait_until(self, when: float) -> None:
        """Wait until `now` is at least `when`."""


class _MonotonicClock:
    def now(self) -> float:
        return time.monotonic()

    def wait_until(self, when: float) -> None:
        delay = when - time.monotonic()
        if delay > 0:
            time.sleep(delay)


def replay(
    recording: Recording | str | os.PathLike[str],
    into: Pool | Stream[Any] | Mapping[str, Stream[Any]],
    *,
    speed: float = 1.0,
    loop: bool = False,
    trust: bool = False,
    shutdown: bool = True,
    clock: Clock | None = None,
) -> int:
    """Publish the messages of a recording.

    Parameters
    ----------
    recording : Recording, str or path-like
        What to publish, or its file. A slice or a channel of a recording publishes only that.
    into : Pool, Stream, or mapping of str to Stream
        Where. A pool: in its streams with the names of the channels, which are made if they do not
        exist. A stream: the messages of all channels. A mapping: each channel has a stream.
    speed : float, optional
        How much faster than it was recorded. 2: in half of the time. 0: without waiting.
    loop : bool, optional
        Whether to begin again at the end, for ever. The pause between the last message and the
        first one is the average time between two messages.
    trust : bool, optional
        If `recording` is a file: see `open_recording`.
    shutdown : bool, optional
        Whether to shut the streams down at the end, as a publisher that closes its stream does.
    clock : Clock, optional
        How to wait. Default: the time of this machine.

    Returns
    -------
    int
        How many messages were published.

    Raises
    ------
    ValueError
        `speed` is negative, or the mapping has no stream for a channel.
    BadFile, Untrusted, NotRebuilt
        A message cannot be read. Those before it were published.
    ImportError
        As `open_recording`, and reading a message of it.
    OneCopyError
        See `Stream.publish`.

    Notes
    -----
    Message `i` is due ``(times[i] - times[0]) / speed`` after the beginning. A message that is
    late, because a lossless stream waited for its subscribers, does not delay the others.

    Examples
    --------
    >>> pool = oc.Pool("studio", size="64MiB")
    >>> with oc.RecordingWriter("run.mcap") as writer:
    ...     done = [writer.write("camera", number) for number in range(3)]
    >>> camera = pool.stream("camera", depth=8)
    >>> subscription = camera.subscribe()
    >>> oc.replay("run.mcap", pool, speed=1000)
    3
    >>> list(subscription)
    [0, 1, 2]
    """
    if not speed >= 0 or math.isinf(speed):
        raise ValueError(f"speed={speed}: it is a factor, 0 or more")
    if not isinstance(recording, Recording):
        with open_recording(recording, trust=trust) as opened:
            return replay(opened, into, speed=speed, loop=loop, shutdown=shutdown, clock=clock)
    streams, made = _streams(recording, into)
    try:
        count = 0
        while True:
            count += _publish(recording, streams, speed, loop, clock or _MonotonicClock())
            if not loop or not len(recording):
                break
        if shutdown:
            for stream in set(streams.values()):
                stream.shutdown()
        return count
    finally:
        for stream in made:
            stream.detach()


def _streams(
    messages: Recording, into: Pool | Stream[Any] | Mapping[str, Stream[Any]]
) -> tuple[dict[str, Stream[Any]], list[Stream[Any]]]:
    """Return the stream of each channel, and which of them were opened here."""
    names = [name for name, channel in messages.channels.items() if channel.messages]
    if isinstance(into, Stream):
        return dict.fromkeys(names, into), []
    if isinstance(into, Pool):
        made = {name: into.stream(name) for name in names}
        return made, list(made.values())
    missing = [name for name in names if name not in into]
    if missing:
        raise ValueError(f"the mapping has no stream for the channel {missing[0]!r}")
    return {name: into[name] for name in names}, []


def _publish(
    messages: Recording, streams: Mapping[str, Stream[Any]], speed: float, loop: bool, clock: Clock
) -> int:
    """Publish all messages once. With `loop`, wait also until the first one is due again."""
    start = clock.now()
    times = messages.times
    for index in range(len(messages)):
        message = messages.message(index)  # read before it is due
        if speed:
            clock.wait_until(start + int(times[index] - times[0]) / 1e9 / speed)
        streams[message.channel].publish(message.value)
    if loop and speed and len(times) > 1:
        length = int(times[-1] - times[0]) / 1e9 / speed
        clock.wait_until(start + length + length / (len(times) - 1))
    return len(messages)
