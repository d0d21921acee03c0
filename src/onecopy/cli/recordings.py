"""`onecopy record` and `onecopy replay`: streams to a file, and back."""

from __future__ import annotations

import signal
import sys
import threading
from contextlib import ExitStack, contextmanager
from pathlib import Path  # noqa: TC003 - typer reads the annotations
from typing import TYPE_CHECKING, Annotated

import typer

from onecopy._core.sizes import format_size, parse_size
from onecopy.cli.output import PROBLEM, escaped, one_line, plain, print_json, print_table, shown
from onecopy.cli.streams import STREAM_HELP, PoolOption, find_stream, join, split
from onecopy.errors import OneCopyError, PoolNotFound
from onecopy.pool import Pool

if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import FrameType

    from onecopy.recordings import Recording, RecordingReport
    from onecopy.stream import Stream

__all__ = ["record", "replay"]

_ENDINGS = {
    "shut_down": "The streams were shut down.",
    "seconds": "The time is over (--for).",
    "max_bytes": "The file has its largest size (--max-bytes).",
    "messages": "All messages are there (--count).",
    "stopped": "Stopped by a signal.",
}


def record(
    streams: Annotated[
        list[str], typer.Argument(metavar="STREAM", help=STREAM_HELP, show_default=False)
    ],
    file: Annotated[
        Path, typer.Argument(metavar="FILE", help="The file to make.", show_default=False)
    ],
    pool: PoolOption = None,
    seconds: Annotated[
        float | None,
        typer.Option("--for", metavar="SECONDS", help="Stop after so long.", show_default=False),
    ] = None,
    count: Annotated[
        int | None,
        typer.Option("--count", "-n", min=1, help="Stop after so many messages of all streams."),
    ] = None,
    max_bytes: Annotated[
        str | None,
        typer.Option(
            "--max-bytes",
            metavar="SIZE",
            help="Stop before the file is larger: a number, or a text like 2GiB.",
        ),
    ] = None,
    history: Annotated[
        int,
        typer.Option(
            "--history", min=0, help="Record so many earlier messages of each stream first."
        ),
    ] = 0,
    compression: Annotated[
        str, typer.Option("--compression", metavar="none|lz4|zstd", help="Compress the messages.")
    ] = "none",
    encode: Annotated[
        str | None,
        typer.Option(
            "--encode",
            metavar="png|jpeg",
            help="Encode pictures. PNG keeps every element; JPEG changes them, also in masks.",
            show_default=False,
        ),
    ] = None,
    quality: Annotated[
        int | None,
        typer.Option(
            "--quality", metavar="1..100", help="Of JPEG. Default: 90.", show_default=False
        ),
    ] = None,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Replace the file if it exists.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print the result as JSON.")] = False,
) -> None:
    """Record streams to a file, until they are shut down or you press Ctrl-C.

    The file has the format MCAP. It can be read also if this command is killed: at most the
    messages of the last second are lost. `onecopy replay` publishes it again, and in a program
    onecopy.open_recording(FILE) reads it. A pool whose processes are all dead stays as it is: the
    command says so and ends.

    Exits with 1 if the disk is full, or if a message could not be recorded.
    """
    from onecopy.recordings import record as record_streams

    stop = threading.Event()
    with one_line(), _needs_mcap(), ExitStack() as stack:
        largest = None if max_bytes is None else parse_size(max_bytes)
        found = _open_streams(stack, streams, pool)
        names = ", ".join(map(shown, found))
        with _stopped_by_signals(stop):
            print(f"recording {names} to {shown(str(file))}; Ctrl-C ends it", file=sys.stderr)
            report = record_streams(
                found,
                file,
                seconds=seconds,
                messages=count,
                max_bytes=largest,
                history=history,
                compression=compression,  # type: ignore[arg-type] # it is checked there
                encode=encode,  # type: ignore[arg-type] # as above
                quality=quality,
                overwrite=overwrite,
                stop=stop,
            )
        if as_json:
            print_json(plain(report))
        else:
            _print_report(report)
        if report.skipped:
            raise typer.Exit(PROBLEM)


def _open_streams(
    stack: ExitStack, streams: list[str], pool: str | None
) -> dict[str, Stream[object]]:
    """Open the streams, and name their channels: by the stream, and by the pool if need be."""
    places = list(dict.fromkeys(split(stream, pool) for stream in streams))
    pools = {name: stack.enter_context(join(name)) for name, _ in places}
    names = [name for _, name in places]
    return {
        name if names.count(name) == 1 else f"{where}/{name}": find_stream(pools[where], name)
        for where, name in places
    }


def _print_report(report: RecordingReport) -> None:
    total = sum(report.messages.values())
    print(_ENDINGS[report.ended])
    print(f"{total:,} messages, {format_size(report.bytes)}, in {shown(report.path)}")
    print_table(
        ("stream", "messages", "missed", "pickled", "skipped"),
        [
            (
                shown(name),
                f"{messages:,}",
                f"{report.missed[name]:,}",
                f"{report.pickled.get(name, 0):,}",
                f"{report.skipped.get(name, 0):,}",
            )
            for name, messages in report.messages.items()
        ],
        "messages missed pickled skipped",
    )
    if any(report.missed.values()):
        print("missed: the publisher was faster than the recorder, and the stream is not lossless")
    if report.pickled:
        print("pickled: reading them runs code of the file, and needs --trust or trust=True")
    if report.problem is not None:
        print(f"skipped, the first one: {escaped(report.problem)}")


@contextmanager
def _stopped_by_signals(stop: threading.Event) -> Iterator[None]:
    """End the recording at the first SIGINT or SIGTERM; the second one has its usual effect."""
    numbers = (signal.SIGINT, signal.SIGTERM)
    before = {number: signal.getsignal(number) for number in numbers}

    def restore() -> None:
        for number in numbers:
            signal.signal(number, before[number])

    def handle(_: int, __: FrameType | None) -> None:
        stop.set()
        restore()

    for number in numbers:
        signal.signal(number, handle)
    try:
        yield
    finally:
        restore()


@contextmanager
def _needs_mcap() -> Iterator[None]:
    try:
        yield
    except ImportError as error:
        raise OneCopyError(str(error)) from None


def _channel(recording: Recording, name: str) -> Recording:
    try:
        return recording.channel(name)
    except KeyError as error:
        raise OneCopyError(error.args[0]) from None


def _join_or_make(name: str) -> Pool:
    try:
        return join(name)
    except PoolNotFound:
        return Pool(name)


def replay(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="A recording.", show_default=False)],
    stream: Annotated[
        str | None,
        typer.Argument(
            metavar="STREAM",
            help=STREAM_HELP + " All messages go there. Left out: each channel of the recording "
            "goes to the stream of its name, in the pool of --pool.",
            show_default=False,
        ),
    ] = None,
    pool: PoolOption = None,
    channel: Annotated[
        str | None,
        typer.Option(
            "--channel", "-c", metavar="NAME", help="Publish only this channel.", show_default=False
        ),
    ] = None,
    speed: Annotated[
        float, typer.Option("--speed", "-s", help="2: twice as fast. 0: without waiting.")
    ] = 1.0,
    loop: Annotated[
        bool, typer.Option("--loop", help="Begin again at the end, until you press Ctrl-C.")
    ] = False,
    trust: Annotated[
        bool,
        typer.Option("--trust", help="Load pickles, too. They can run any code of the file."),
    ] = False,
    keep_open: Annotated[
        bool,
        typer.Option("--keep-open", help="Do not shut the streams down at the end."),
    ] = False,
) -> None:
    """Publish the messages of a recording, at the pace at which they were recorded.

    The pool and the streams are made if they do not exist. A pool whose processes are all dead
    stays as it is: the command says so and ends. At the end the streams are shut down, so that
    their subscribers end, too.
    """
    from onecopy.recordings import open_recording
    from onecopy.recordings import replay as replay_recording

    def terminate(_: int, __: FrameType | None) -> None:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGTERM, terminate)
    try:
        with one_line(), _needs_mcap(), open_recording(file, trust=trust) as recording:
            if stream is None and pool is None:
                raise ValueError("where to? Write POOL/STREAM after the file, or --pool POOL")
            chosen = recording if channel is None else _channel(recording, channel)
            where, name = (pool or "", None) if stream is None else split(stream, pool)
            with _join_or_make(where) as opened:
                count = replay_recording(
                    chosen,
                    opened if name is None else opened.stream(name),
                    speed=speed,
                    loop=loop,
                    shutdown=not keep_open,
                )
            print(f"published {count:,} messages of {shown(str(file))}")
    except KeyboardInterrupt:
        print("onecopy: stopped by a signal", file=sys.stderr)
        raise typer.Exit(128 + signal.SIGINT) from None  # as shells report it
    finally:
        signal.signal(signal.SIGTERM, before)
