"""Run the cluster on two hosts that are network namespaces of this machine, and check everything.

    sudo python two_hosts.py [onecopy] [mixed] [plain]
    python two_hosts.py --loopback [...]

Host A has the scheduler, the master, two workers and a collector. Host B has two workers and a
collector. Each has a pool directory of its own. A virtual cable connects the namespaces, and its
bytes are counted, and those of each host's loopback. In the run "mixed" one worker of each host
works without onecopy, in "plain" everything does. With --loopback there are no namespaces: root is
not needed, and no bytes are counted.
"""

from __future__ import annotations

import argparse
import collections
import contextlib
import ctypes
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple, NoReturn

from put import SHAPE, picture

if TYPE_CHECKING:
    from collections.abc import Iterator

FOLDER = Path(__file__).resolve().parent
SIZE = SHAPE[0] * SHAPE[1] * SHAPE[2]
LIMIT = 600  # seconds for everything: a watchdog
# The processes without onecopy. Workers are "A0", "A1", "B0" and "B1"; the others "A" and "B".
WITHOUT = {"onecopy": "", "mixed": "A1 B1", "plain": "A A0 A1 B B0 B1"}
CERTIFICATE = "req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 1 -subj /CN=test"


class ClusterError(Exception):
    """Something is not as it should be."""


class Host(NamedTuple):
    """A host: its name, its address, the command that runs another one there, and its pools."""

    name: str
    address: str
    inside: tuple[str, ...]
    pools: Path

    def start(self, script: str, *arguments: str, plain: str = "") -> subprocess.Popen[str]:
        name = arguments[-1] if script == "worker.py" else self.name
        return subprocess.Popen(  # noqa: S603 - our own scripts
            [*self.inside, sys.executable, FOLDER / script, *arguments]
            + ["--plain"] * (name in plain.split()),
            stdout=subprocess.PIPE,
            text=True,
            cwd=self.pools.parent,  # where the certificate is
            env={
                **os.environ,
                "ONECOPY_DIR": str(self.pools),
                "PYTHONUNBUFFERED": "1",
                "DASK_LOGGING__DISTRIBUTED": "critical",  # ends are no errors here
                # The picture of a task that is moved to another worker would be sent twice.
                "DASK_DISTRIBUTED__SCHEDULER__WORK_STEALING": "False",
            },
            preexec_fn=end_with_parent,  # noqa: PLW1509 - there are no threads
        )

    def bytes(self) -> tuple[int, int]:
        """Count the bytes on the cable, in both directions, and those on the loopback."""
        if not self.inside:
            return 0, 0
        text = command(*self.inside, "cat", "/proc/net/dev")
        rows = dict(line.split(":") for line in text.splitlines()[2:])
        numbers = {device.strip(): row.split() for device, row in rows.items()}
        cable, loop = numbers["cable"], numbers["lo"]
        return int(cable[0]) + int(cable[8]), int(loop[8])


def end_with_parent() -> None:
    """Have the kernel kill this process when `two_hosts.py` dies."""
    ctypes.CDLL(None).prctl(1, signal.SIGKILL)  # PR_SET_PDEATHSIG


def command(*words: str) -> str:
    done = subprocess.run(words, capture_output=True, text=True, check=False)  # noqa: S603
    if done.returncode != 0:
        raise ClusterError(f"`{' '.join(words)}` has failed: {done.stderr.strip()}")
    return done.stdout


def sweep(folder: Path) -> None:
    """Remove what runs left that were killed."""
    for left in (*Path("/run/netns").glob("onecopy-*-[AB]"), *folder.glob("onecopy-*-hosts")):
        if Path("/proc", left.name.split("-")[1]).exists():
            continue
        if left.is_dir():
            shutil.rmtree(left)
        elif os.geteuid() == 0:
            command("ip", "netns", "del", left.name)


@contextlib.contextmanager
def hosts(loopback: bool) -> Iterator[tuple[Host, Host]]:
    """Make the two hosts, and remove them in any case."""
    memory = Path("/dev/shm")  # noqa: S108 - a folder of its own is made in it
    around = memory if os.access(memory, os.W_OK) else Path(tempfile.gettempdir())
    sweep(around)
    folder = around / f"onecopy-{os.getpid()}-hosts"
    folder.mkdir(mode=0o700)
    spaces = [] if loopback else [f"onecopy-{os.getpid()}-{name}" for name in "AB"]
    try:
        pem = str(folder / "cluster.pem")
        command("openssl", *CERTIFICATE.split(), "-keyout", pem, "-out", pem)
        for space in spaces:
            command("ip", "netns", "add", space)
        if spaces:
            ends = [["name", "cable", "netns", space] for space in spaces]
            command("ip", "link", "add", *ends[0], "type", "veth", "peer", *ends[1])
        made = []
        for number, name in enumerate("AB"):
            inside = ("ip", "netns", "exec", spaces[number]) if spaces else ()
            address = f"10.77.0.{number + 1}" if spaces else "127.0.0.1"
            if spaces:
                command(*inside, "ip", "address", "add", f"{address}/24", "dev", "cable")
                for device in ("cable", "lo"):
                    command(*inside, "ip", "link", "set", device, "up")
            pools = folder / name
            pools.mkdir(mode=0o700)
            made.append(Host(name, address, inside, pools))
        yield made[0], made[1]
    finally:
        for space in spaces:
            with contextlib.suppress(ClusterError):  # it was not made
                command("ip", "netns", "del", space)
        shutil.rmtree(folder, ignore_errors=True)


@contextlib.contextmanager
def ended() -> Iterator[list[subprocess.Popen[str]]]:
    """Have a list of processes, and end those that are still there."""
    processes: list[subprocess.Popen[str]] = []
    try:
        yield processes
    finally:
        for process in processes:
            process.kill()
            process.wait()


def says(process: subprocess.Popen[str], beginning: str) -> str:
    """Wait for a line; return what stands after its beginning."""
    line = process.stdout.readline()
    if not line.startswith(beginning):
        raise ClusterError(f"{line!r} instead of {beginning!r}: errors of the script stand above")
    return line[len(beginning) :].strip()


def expect(condition: bool, what: str) -> None:
    if not condition:
        raise ClusterError(what)


def run(a: Host, b: Host, kind: str, tasks: int) -> None:
    """Run the cluster once, and check its results and what has travelled how."""
    plain = WITHOUT[kind]
    with ended() as processes:

        def start(host: Host, script: str, *arguments: str) -> subprocess.Popen[str]:
            processes.append(host.start(script, *arguments, plain=plain))
            return processes[-1]

        scheduler = start(a, "scheduler.py", "--scheduler", f"tls://{a.address}:0")
        to = ("--scheduler", says(scheduler, "scheduler: "))
        pairs = [(host, f"{host.name}{number}") for host in (a, b) for number in (0, 1)]
        workers = [start(host, "worker.py", *to, "--name", name) for host, name in pairs]
        collectors = {host: start(host, "collect.py", *to) for host in (a, b)}
        for worker in workers:
            says(worker, "worker: ")
        for collector in collectors.values():
            says(collector, "collect: waiting")
        before = a.bytes(), b.bytes()
        put = start(a, "put.py", *to, "--tasks", str(tasks), "--collectors", "2")
        expect(put.wait() == 0, "put.py has failed")
        done: dict[int, tuple[str, Host]] = {}
        by_place = {}
        for host, collector in collectors.items():
            *lines, last = collector.communicate()[0].splitlines() or [""]
            expect(last.startswith("collect: all is done"), f"collect.py on {host.name} has failed")
            by_place[host.name] = int(last.split()[-1])
            for line in lines:
                number, worker, total = line.split()[1:]
                expect(int(number) not in done, f"result {number} came twice")
                expect(int(total) == int((255 - picture(int(number))).sum()), f"{line}: is wrong")
                done[int(number)] = worker, host
        after = a.bytes(), b.bytes()
        expect(sorted(done) == list(range(tasks)), "results are missing")
        for line in start(a, "stop.py", *to).communicate()[0].splitlines():
            by_place[line.split()[1]] = int(line.split()[-1])
        for process in processes:
            process.wait()
    left = [file.name for host in (a, b) for file in host.pools.iterdir()]
    expect(not left, f"left behind: {left}")

    # What must have travelled: from the master to the scheduler, to the worker, to the collector.
    cable, loops, places = 0, {"A": 0, "B": 0}, dict.fromkeys(by_place, 0)
    for worker, host in done.values():
        for sender, receiver in (("A", ""), ("A", worker), (worker, host.name)):
            if receiver and sender[0] != receiver[0]:
                cable += SIZE
            elif set(plain.split()) & {sender, receiver or sender}:
                loops[sender[0]] += SIZE
            elif receiver:
                places[receiver] += SIZE
    expect(by_place == places, f"received by place: {by_place}, should be {places}")
    print(f"\n{kind}: {tasks} pictures of {SIZE / 1e6:.1f} MB")
    for name, count in sorted(collections.Counter(worker for worker, _ in done.values()).items()):
        print(f"  worker {name}{' (without onecopy)' * (name in plain)}: {count} tasks")
    print(f"  by place, within a host: {sum(places.values()) / 1e6:.1f} MB")
    if not a.inside:
        return
    total = {"A": after[0][1] - before[0][1], "B": after[1][1] - before[1][1]}
    for name, has, pictures in (
        ("on the cable", after[0][0] - before[0][0], cable),
        ("on the loopback of A", total["A"], loops["A"]),
        ("on the loopback of B", total["B"], loops["B"]),
    ):
        print(f"  {name}: {has / 1e6:.1f} MB; {pictures / 1e6:.1f} MB of them are pictures")
        expect(pictures <= has < pictures * 1.1 + SIZE / 2, f"{name}: not as it should be")


def stopped(*_: object) -> NoReturn:
    raise ClusterError("stopped by SIGTERM")


def too_late(*_: object) -> NoReturn:
    raise ClusterError(f"this took more than {LIMIT} s")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("runs", nargs="*", metavar="run", help=", ".join(WITHOUT))
    parser.add_argument("--loopback", action="store_true", help="without namespaces")
    parser.add_argument("--tasks", type=int, default=8)
    given = parser.parse_args()
    if unknown := set(given.runs) - set(WITHOUT):
        parser.error(f"no such run: {', '.join(unknown)}. There are {', '.join(WITHOUT)}")
    if not given.loopback and os.geteuid() != 0:
        return fail("network namespaces need root. Use sudo, or --loopback, which needs none")
    for program, package in (("openssl", "openssl"), ("ip", "iproute2")):
        if shutil.which(program) is None and not (given.loopback and program == "ip"):
            return fail(f"the command `{program}` is missing: apt install {package}")
    signal.signal(signal.SIGTERM, stopped)
    signal.signal(signal.SIGALRM, too_late)
    signal.alarm(LIMIT)
    try:
        with hosts(given.loopback) as (a, b):
            for kind in given.runs or WITHOUT:
                run(a, b, kind, given.tasks)
    except (ClusterError, OSError) as error:
        return fail(str(error))
    except KeyboardInterrupt:
        return 130
    print("\nall sums are right; nothing was left behind")
    return 0


def fail(why: str) -> int:
    print(f"two_hosts.py: {why}", file=sys.stderr)
    return 1


if __name__ == "__main__":
    sys.exit(main())
