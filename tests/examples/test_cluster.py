"""examples/cluster: two hosts, as two pool directories, and as two network namespaces.

`two_hosts.py` checks results, and what travelled how. Here it is run, and ended in the middle.
"""

from __future__ import annotations

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


def two_hosts(*arguments, inside=()):
    return subprocess.run(
        [*inside, sys.executable, SCRIPT, *arguments],
        capture_output=True,
        text=True,
        timeout=DEADLINE,
        check=False,
    )


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
    done = two_hosts("--loopback", kind)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.splitlines()[-1] == SUCCESS
    assert figures(done.stdout, kind)["by place, within a host"] > PICTURE


@pytest.mark.slow
def test_two_hosts_in_network_namespaces(network):
    done = two_hosts("onecopy", "mixed", "plain")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.splitlines()[-1] == SUCCESS
    with_onecopy, plain = figures(done.stdout, "onecopy"), figures(done.stdout, "plain")
    for end in "AB":
        assert with_onecopy[f"on the loopback of {end}"] < PICTURE / 2
    assert with_onecopy["on the cable"] > PICTURE
    assert plain["on the loopback of A"] > 8 * PICTURE  # from the master to the scheduler
    assert plain["by place, within a host"] == 0
    assert [space for space in spaces() if space.startswith("onecopy-")] == []


@pytest.mark.slow
def test_namespaces_are_removed_when_it_is_ended_in_the_middle(network):
    process = subprocess.Popen(
        [sys.executable, SCRIPT, "onecopy"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    mine = f"onecopy-{process.pid}-"
    try:
        children = Path(f"/proc/{process.pid}/task/{process.pid}/children")
        eventually(
            lambda: any(space.startswith(mine) for space in spaces()) and children.read_text(),
            "the hosts",
        )
        process.send_signal(signal.SIGTERM)
        _, complaint = process.communicate(timeout=DEADLINE)
    finally:
        process.kill()
        process.communicate()
    assert process.returncode == 1
    assert complaint.endswith("two_hosts.py: stopped by SIGTERM\n")
    assert not any(space.startswith(mine) for space in spaces())


def test_without_root_one_line_says_so():
    inside = []
    if os.geteuid() == 0:
        inside = ["unshare", "--user"]
        if shutil.which("unshare") is None or subprocess.call([*inside, "true"]) != 0:
            pytest.skip("this machine does not allow `unshare --user`")
    done = two_hosts(inside=inside)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == (
        "two_hosts.py: network namespaces need root. Use sudo, or --loopback, which needs none\n"
    )
