"""examples/cluster: two hosts, as two pool directories, and as two network namespaces.

`two_hosts.py` checks results, and what travelled how. Here it is run, and ended in the middle.
"""

from __future__ import annotations

import contextlib
import importlib.util
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from children import eventually

SCRIPT = Path(__file__).parents[2] / "examples" / "cluster" / "two_hosts.py"
DEADLINE = 600  # seconds: a watchdog, not a measurement
SUCCESS = "all sums are right; nothing was left behind"
PICTURE = 6.2  # MB

pytestmark = [
    pytest.mark.timeout(DEADLINE + 60),
    pytest.mark.skipif(
        importlib.util.find_spec("distributed") is None,
        reason="needs distributed, which is not installed: pip install 'onecopy[dask]'",
    ),
]


@contextlib.contextmanager
def running(*arguments, inside=()):
    """Run the script; end it in any case, so that it removes what it has made."""
    process = subprocess.Popen(
        [*inside, sys.executable, SCRIPT, *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        yield process
    finally:
        process.terminate()
        process.communicate()


def two_hosts(*arguments, inside=()):
    """Return its status, its output and its errors."""
    with running(*arguments, inside=inside) as process:
        said, complaint = process.communicate(timeout=DEADLINE)
        return process.returncode, said, complaint


def spaces():
    """List the network namespaces that have names."""
    return subprocess.run(
        ["ip", "netns", "list"], capture_output=True, text=True, check=True
    ).stdout.split()


@pytest.fixture
def network():
    """Skip where namespaces cannot be made; none may stay."""
    if os.geteuid() != 0:
        pytest.skip("network namespaces need root")
    if shutil.which("ip") is None:
        pytest.skip("this machine has no `ip` (iproute2)")
    name = f"onecopy-test-{os.getpid()}"
    tried = subprocess.run(
        ["ip", "netns", "add", name], capture_output=True, text=True, check=False
    )
    if tried.returncode != 0:
        pytest.skip(f"this machine does not allow `ip netns add`: {tried.stderr.strip()}")
    subprocess.run(["ip", "netns", "del", name], check=True)


def figures(text, kind):
    """Return the numbers in MB of a run: by place, on the cable, on the loopbacks."""
    _, _, rest = text.partition(f"{kind}: ")
    lines = [line.strip() for line in rest.split("\n\n")[0].splitlines()]
    named = [line.partition(": ") for line in lines if " MB" in line and not line[0].isdigit()]
    return {name: float(value.split()[0]) for name, _, value in named}


@pytest.mark.check
@pytest.mark.parametrize("kind", ["onecopy", pytest.param("mixed", marks=pytest.mark.slow)])
def test_two_hosts_on_the_loopback(kind):
    status, said, complaint = two_hosts("--loopback", kind)
    assert (status, complaint) == (0, "")
    assert said.splitlines()[-1] == SUCCESS
    assert figures(said, kind)["by place, within a host"] > PICTURE


@pytest.mark.slow
def test_two_hosts_in_network_namespaces(network):
    status, said, complaint = two_hosts()
    assert (status, complaint) == (0, "")
    assert said.splitlines()[-1] == SUCCESS
    with_onecopy, plain = figures(said, "onecopy"), figures(said, "plain")
    for end in "AB":
        assert with_onecopy[f"on the loopback of {end}"] < PICTURE / 2
    assert figures(said, "mixed")["by place, within a host"] > PICTURE
    assert plain["on the loopback of A"] > 8 * PICTURE  # from the master to the scheduler
    assert plain["by place, within a host"] == 0


def spaces_of(process):
    return [space for space in spaces() if space.startswith(f"onecopy-{process.pid}-")]


def has_begun(process):
    children = Path(f"/proc/{process.pid}/task/{process.pid}/children")
    return len(spaces_of(process)) == 2 and children.read_text()


@pytest.mark.slow
def test_namespaces_are_removed_when_it_is_ended_in_the_middle(network):
    with running("onecopy") as process:
        eventually(lambda: has_begun(process), "the hosts")
        process.send_signal(signal.SIGTERM)
        _, complaint = process.communicate(timeout=DEADLINE)
        assert process.returncode == 1
        assert complaint.endswith("two_hosts.py: stopped by SIGTERM\n")
        assert spaces_of(process) == []


@pytest.mark.slow
def test_what_a_killed_run_leaves_is_removed_by_the_next_one(network):
    with running("onecopy") as killed:
        eventually(lambda: has_begun(killed), "the hosts")
        killed.kill()
        killed.communicate(timeout=DEADLINE)  # its processes end: they have its streams
        assert len(spaces_of(killed)) == 2
    with running("onecopy") as process:
        eventually(lambda: has_begun(process), "the hosts")
        assert spaces_of(killed) == []


def test_without_root_one_line_says_so():
    inside = []
    if os.geteuid() == 0:
        inside = ["unshare", "--user"]
        if shutil.which("unshare") is None or subprocess.call([*inside, "true"]) != 0:
            pytest.skip("this machine does not allow `unshare --user`")
    assert two_hosts(inside=inside) == (
        1,
        "",
        "two_hosts.py: network namespaces need root. Use sudo, or --loopback, which needs none\n",
    )


@pytest.fixture
def role(tmp_path):
    """Start a role of a cluster, with a certificate."""
    pem = tmp_path / "cluster.pem"
    words = "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 1"
    files = ["-subj", "/CN=test", "-keyout", pem, "-out", pem]
    subprocess.run([*words.split(), *files], check=True, capture_output=True)
    with contextlib.ExitStack() as stack:

        def role(script, *arguments):
            process = subprocess.Popen(
                [sys.executable, SCRIPT.parent / script, *arguments, "--certificate", pem],
                stdout=subprocess.PIPE,
                text=True,
                env={
                    **os.environ,
                    "PYTHONUNBUFFERED": "1",
                    "DASK_LOGGING__DISTRIBUTED": "critical",
                },
            )
            stack.enter_context(process)
            stack.callback(process.kill)
            return process

        yield role


@pytest.mark.slow
def test_what_a_killed_worker_had_is_done_by_others(role):
    scheduler = role("scheduler.py", "--scheduler", "tls://127.0.0.1:0")
    to = ("--scheduler", scheduler.stdout.readline().split()[1])
    victim, other = [role("worker.py", *to, "--name", name) for name in ("victim", "other")]
    for worker in (victim, other):
        assert worker.stdout.readline().startswith("worker: ")
    assert role("put.py", *to, "--tasks", "4").communicate()[0] == "put: 4 tasks\n"
    victim.kill()
    victim.wait()
    _, *lines, last = role("collect.py", *to).communicate()[0].splitlines()
    assert [line.split()[1:3] for line in lines] == [[str(number), "other"] for number in range(4)]
    assert last.startswith("collect: all is done")
    assert role("stop.py", *to).communicate()[0].startswith("stop: other received by place: ")
    for process in (scheduler, other):
        assert process.wait() == 0
