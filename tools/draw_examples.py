"""Draw the pictures of the examples, examples/*/picture.svg: what each process gives to which.

Usage: python tools/draw_examples.py [--check]

With ``--check`` nothing is written: it fails if a picture differs from what would be drawn.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import NamedTuple

from draw_pictures import Picture

EXAMPLES = Path(__file__).resolve().parents[1] / "examples"
STEP, BOX, HEIGHT, ROW = 240, 190, 62, 84  # from column to column; a box; from row to row
KINDS = {"+": "process", "=": "full", "-": "part"}


class Flow(NamedTuple):
    """A picture: columns of boxes from left to right, and arrows between them.

    Attributes
    ----------
    title : str
        What the picture shows.
    columns : tuple of tuple of str
        A box is its kind, its name and its second line: ``"+camera|fills a frame"``. The kinds are
        ``+`` a process, ``=`` data in the pool, ``-`` a file or a socket.
    arrows : str
        Pairs of names: ``"camera>frames, frames>viewer"``.
    """

    title: str
    columns: tuple[tuple[str, ...], ...]
    arrows: str


FLOWS = {
    "cameras": Flow(
        "Cameras, detectors, a recorder and a viewer",
        (
            ("+camera 0|films", "+camera 1|films"),
            ("=live|streams: newest frame", "=jobs|queue, redelivers", "=frames|16 per camera"),
            ("+viewer|main program", "+3 detectors|any may be killed"),
            ("=found|queue, redelivers",),
            ("+recorder|writes found.jsonl",),
        ),
        "camera 0>live, camera 0>jobs, camera 1>jobs, camera 1>frames, live>viewer, "
        "jobs>3 detectors, frames>3 detectors, 3 detectors>found, found>recorder",
    ),
    "video_recorder": Flow(
        "A camera, a recorder that gets each frame, and detectors that may be killed",
        (
            ("-camera|RTSP, USB or a file",),
            ("+film|decodes into a frame",),
            ("=every|stream, lossless", "=jobs|queue, at most 8"),
            ("+recorder|gets each frame", "+viewer|the newest frame", "+2 detectors|replaced"),
            ("-recorded.avi|each frame", "-newest.png|with what was found"),
        ),
        "camera>film, film>every, film>jobs, every>recorder, every>viewer, jobs>2 detectors, "
        "recorder>recorded.avi, viewer>newest.png",
    ),
    "microscope": Flow(
        "A microscope's camera, a slow writer and live figures",
        (
            ("-core|64 images in its buffer",),
            ("+acquire|one copy per image",),
            ("=jobs|queue of images", "=frames|256 images", "=live|the newest image"),
            ("+writer|slow; replaced", "+main program|prints figures"),
            ("-images.zarr|a chunk per image",),
        ),
        "core>acquire, acquire>jobs, acquire>frames, acquire>live, jobs>writer, frames>writer, "
        "live>main program, writer>images.zarr",
    ),
    "gym_vector": Flow(
        "Environments in processes of their own, and one shared batch",
        (
            ("+env 0|writes row 0", "+env 1|writes row 1", "+env 2|writes row 2"),
            ("=observations|one shared array", "=rewards …|shared arrays"),
            ("+learner|reads in place",),
            ("=actions|one shared array",),
        ),
        "env 0>observations, env 1>observations, env 2>rewards …, observations>learner, "
        "rewards …>learner, learner>actions",
    ),
    "torch_dataset": Flow(
        "One dataset for all workers of a DataLoader",
        (
            ("+training|makes the dataset",),
            ("=pictures|one copy", "=labels|one copy"),
            ("+worker 0|reads in place", "+worker 1|reads in place"),
            ("-batches|torch's own channel",),
        ),
        "training>pictures, training>labels, pictures>worker 0, pictures>worker 1, "
        "labels>worker 0, labels>worker 1, worker 0>batches, worker 1>batches",
    ),
    "image_pipeline": Flow(
        "Two producers and one consumer of pictures",
        (
            ("-folder|pictures",),
            ("+producer 0|decodes once", "+producer 1|decodes once"),
            ("=pictures|one copy of each", "=jobs|queue of references"),
            ("+consumer|reads in place",),
        ),
        "folder>producer 0, folder>producer 1, producer 0>pictures, producer 0>jobs, "
        "producer 1>jobs, producer 1>pictures, pictures>consumer, jobs>consumer",
    ),
    "frame_cache": Flow(
        "A cache of a hundred frames that are used again and again",
        (
            ("+producer|fills a free frame",),
            ("=frames|100 of equal shape", "=jobs|queue of frames"),
            ("+consumer|drops the frame",),
        ),
        "producer>frames, producer>jobs, frames>consumer, jobs>consumer",
    ),
    "frame_channel": Flow(
        "A writer and a reader that meet by the name of the pool",
        (
            ("+writer.py|draws in place",),
            ("=frames|8, used again and again", "=channel|queue of 4"),
            ("+reader.py|checks each pixel",),
        ),
        "writer.py>frames, writer.py>channel, frames>reader.py, channel>reader.py",
    ),
    "group_by": Flow(
        "A group-by over parts of one table",
        (
            ("+program|makes the columns",),
            ("=table|2 columns, one copy",),
            ("+worker|groups a part", "+worker |groups a part"),
            ("+program |adds up the results",),
        ),
        "program>table, table>worker, table>worker , worker>program , worker >program ",
    ),
    "dataframe": Flow(
        "One table for all workers",
        (
            ("+program|puts the table",),
            ("=table|one copy",),
            ("+worker 0|reads in place", "+worker 1|reads in place"),
        ),
        "program>table, table>worker 0, table>worker 1",
    ),
    "web_service": Flow(
        "Requests that worker processes answer",
        (
            ("-clients|POST a file",),
            ("+service|a thread per request",),
            ("=file|written once",),
            ("+worker 0|replaced if killed", "+worker 1|replaced if killed"),
        ),
        "clients>service, service>file, file>worker 0, file>worker 1",
    ),
    "web": Flow(
        "Uploaded pictures that worker processes examine",
        (
            ("-clients|POST a picture",),
            ("+service|one event loop",),
            ("=file|written as it arrives",),
            ("+worker 0|decodes in place", "+worker 1|replaced if killed"),
        ),
        "clients>service, service>file, file>worker 0, file>worker 1",
    ),
    "manager": Flow(
        "A master, a server with two queues, and clients",
        (
            ("+master.py|puts tasks",),
            ("+server.py|two queues, by address",),
            ("+client.py|takes tasks", "+client.py |puts results"),
        ),
        "master.py>server.py, server.py>client.py, server.py>client.py ",
    ),
    "cluster": Flow(
        "Two hosts: bytes travel between their pools, and nothing within a host",
        (
            ("+put.py|puts tasks",),
            ("+scheduler.py|two queues",),
            ("+worker.py|on host A", "+worker.py |on host B"),
            ("=pool of A|each picture once", "=pool of B|each picture once"),
            ("+collect.py|on host A", "+collect.py |on host B"),
        ),
        "put.py>scheduler.py, scheduler.py>worker.py, scheduler.py>worker.py , "
        "worker.py>pool of A, worker.py >pool of B, pool of A>collect.py, pool of A>collect.py , "
        "pool of B>collect.py , pool of B>collect.py",
    ),
    "grafana": Flow(
        "From a pool to a dashboard",
        (
            ("=pools|queues, frames, locks",),
            ("+onecopy metrics|joins no pool",),
            ("+Prometheus|asks every 5 s",),
            ("+Grafana|onecopy.json",),
        ),
        "pools>onecopy metrics, onecopy metrics>Prometheus, Prometheus>Grafana",
    ),
    "notebooks": Flow(
        "Two notebooks and a camera share a pool",
        (
            ("+camera|films",),
            ("=frames|used again and again", "=live|stream: newest frame"),
            ("+notebook|shows and examines", "-Out[…]|keeps what it showed"),
        ),
        "camera>frames, camera>live, live>notebook, frames>Out[…]",
    ),
}


def drawn(flow: Flow) -> Picture:
    """Draw a flow."""
    rows = max(len(column) for column in flow.columns)
    it = Picture(STEP * len(flow.columns) - 10, ROW * rows + 18, flow.title)
    places = {}
    for number, column in enumerate(flow.columns):
        for row, each in enumerate(column):
            name, _, does = each[1:].partition("|")
            x = 20 + STEP * number
            y = 20 + ROW * row + ROW * (rows - len(column)) // 2
            it.box(x, y, BOX, HEIGHT, KINDS[each[0]], 10 if each[0] == "+" else 4)
            it.text(x + BOX // 2, y + 27, name.strip(), "middle mono title")
            it.text(x + BOX // 2, y + 48, does, "middle small")
            places[name] = x, y + HEIGHT // 2
    for arrow in flow.arrows.split(", "):
        first, _, second = arrow.partition(">")
        (x, y), (to_x, to_y) = places[first], places[second]
        it.arrow(f"M{x + BOX + 2} {y} L{to_x - 3} {to_y}", "line", "blue")
    return it


def main() -> int:
    """Write the pictures, or compare them."""
    different = []
    for name, flow in FLOWS.items():
        path, text = EXAMPLES / name / "picture.svg", str(drawn(flow))
        if "--check" not in sys.argv:
            path.write_text(text, encoding="utf-8")
        elif not path.is_file() or path.read_text(encoding="utf-8") != text:
            different.append(name)
    for name in different:
        sys.stdout.write(f"examples/{name}/picture.svg is not what this script draws: run it\n")
    return len(different)


if __name__ == "__main__":
    sys.exit(main())
