"""The whole demo: both transports in alternation on the same pictures, then the report."""

from __future__ import annotations

import contextlib
import signal
import tempfile
from typing import TYPE_CHECKING, NoReturn

from rich.console import Console

import onecopy as oc
from onecopy.demo import report, roles
from onecopy.demo.baseline_run import QueueTransport
from onecopy.demo.conductor import PRODUCERS, Job, Outcome, run
from onecopy.demo.errors import DemoError
from onecopy.demo.measure import Measurement
from onecopy.demo.onecopy_run import OneCopyTransport
from onecopy.demo.progress import display
from onecopy.demo.sources import Source, open_source

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


def compare(source: Path | None, workers: int, frames: int, rounds: int, out: Path) -> None:
    """Run the demo.

    Parameters
    ----------
    source : pathlib.Path or None
        A folder of pictures, a picture, or a video. None: the photographs of scikit-image.
    workers : int
        Processes that run the pipeline.
    frames : int
        Pictures per run.
    rounds : int
        Runs of each transport. They alternate, so that a change of the machine's speed affects
        both.
    out : pathlib.Path
        The folder for the results. It is made if it does not exist.

    Raises
    ------
    DemoError
        Something is wrong that the user can correct.
    KeyboardInterrupt
        Ctrl-C. All processes have ended and the pool is gone.
    """
    console = Console(highlight=False)
    if source is not None and not source.exists():  # before anything is made
        raise DemoError(f"no such file or folder: {source}")
    _prepare(out, source)
    try:
        pictures = open_source(source, limit=frames, out=out)
    except OSError as error:
        raise DemoError(f"{error.strerror}: {error.filename}") from error
    job = Job(source=pictures, workers=workers, frames=frames, out=out)
    console.print(_introduction(job, rounds), soft_wrap=True)
    with _termination_as_exit():
        outcomes = _run_all(console, job, rounds)
    ours, theirs = (
        Measurement.of(outcome.measurement for outcome in outcomes[kind.name])
        for kind in (OneCopyTransport, QueueTransport)
    )
    everything = [outcome for several in outcomes.values() for outcome in several]
    comparison = report.Comparison(
        ours=ours,
        theirs=theirs,
        job=job,
        rounds=rounds,
        pictures=tuple(sorted(everything[0].checksums)),
    )
    report.write_contact_sheet(comparison, out / "contact.png")
    report.write_chart(comparison, out / "report.png")
    console.print(report.table(comparison))
    _conclude(console, pictures, everything, out)


def _run_all(console: Console, job: Job, rounds: int) -> dict[str, list[Outcome]]:
    outcomes: dict[str, list[Outcome]] = {}
    bars = {
        roles.PRODUCE: f"decode   {PRODUCERS} processes",
        roles.WORK: f"edges    {job.workers} process{'es' if job.workers > 1 else ''}",
        roles.WRITE: "write    1 process",
    }
    kinds = (OneCopyTransport, QueueTransport)
    with display(console, [kind.name for kind in kinds], bars, job.frames, rounds) as shown:
        for turn in range(rounds):
            for kind in kinds:
                shown.begin(kind.name, turn)
                try:
                    outcome = run(kind, job, shown.advance)
                except (oc.OneCopyError, OSError) as error:
                    raise DemoError(" ".join(str(error).split())) from error
                shown.end(outcome.measurement.rate)
                outcomes.setdefault(kind.name, []).append(outcome)
    return outcomes


def _prepare(out: Path, source: Path | None) -> None:
    """Make the folder for results, and check that it can be written."""
    try:
        out.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=out):
            pass
    except OSError as error:
        raise DemoError(f"cannot write to --out {out}: {error.strerror}") from error
    if source is not None and source.is_dir() and source.samefile(out):
        raise DemoError(f"--out is the folder of the pictures ({out}): choose another")


def _introduction(job: Job, rounds: int) -> str:
    height, width = job.source.largest
    return (
        f"{job.source.description}, up to {width}x{height} pixels: {job.frames} frames per run, "
        f"{rounds} run{'s' if rounds > 1 else ''} of each transport, in alternation"
    )


def _conclude(console: Console, pictures: Source, outcomes: list[Outcome], out: Path) -> None:
    """Print whether the results are complete and equal, and raise if they are not."""
    unreadable = set(pictures.unreadable).union(*(outcome.unreadable for outcome in outcomes))
    if unreadable:
        names = ", ".join(sorted(unreadable)[:5]) + (", …" if len(unreadable) > 5 else "")
        console.print(f"skipped {len(unreadable)} unreadable: {names}", markup=False)
    lost = sum(outcome.lost for outcome in outcomes)
    repeated = sum(outcome.repeated for outcome in outcomes)
    # Both transports ran the same pipeline on the same pictures, so the results must be equal.
    damaged = sum(outcome.damaged for outcome in outcomes) + sum(
        outcome.checksums.get(picture, checksum) != checksum
        for outcome in outcomes[1:]
        for picture, checksum in outcomes[0].checksums.items()
    )
    left = [name for outcome in outcomes for name in outcome.left_behind]
    console.print(
        f"frames lost {lost}, repeated {repeated}, damaged {damaged}; "
        f"processes and pools left behind: {len(left)}"
    )
    console.print(
        f"results in {out}: {len(outcomes[0].checksums)} pictures, contact.png, report.png",
        markup=False,
        soft_wrap=True,
    )
    if lost or repeated or damaged or left:
        raise DemoError("the results are wrong: see the line above")


@contextlib.contextmanager
def _termination_as_exit() -> Iterator[None]:
    """Clean up as for Ctrl-C on SIGTERM, or when the terminal is closed."""

    def leave(number: int, _frame: object) -> NoReturn:
        raise SystemExit(128 + number)

    before = {number: signal.signal(number, leave) for number in (signal.SIGTERM, signal.SIGHUP)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
