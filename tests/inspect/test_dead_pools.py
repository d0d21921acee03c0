"""Commands that join a pool leave one alone whose processes are all dead, and say so."""

from __future__ import annotations

import hashlib
import os
import struct
import subprocess
import sys
from pathlib import Path

import pytest
from children import LIMIT

import onecopy as oc

SCRIPT = Path(sys.executable).with_name("onecopy")
JOINING = ["tail", "record", "replay"]


def command(*arguments):
    return subprocess.run(
        [SCRIPT, *arguments],
        capture_output=True,
        text=True,
        check=False,
        timeout=LIMIT,
        env=os.environ | {"PYTHONWARNINGS": "error", "PYTHONUTF8": "1"},
    )


def publish_and_die():
    pool = oc.Pool.create("gone", size="4MiB")
    stream = pool.stream("news")
    stream.publish(1)
    pool.queue("jobs").put(2)
    os._exit(3)


@pytest.fixture
def recording(tmp_path):
    """Record a stream that has one message."""
    pytest.importorskip("mcap")
    path = tmp_path / "made.mcap"
    with oc.Pool.create("source", size="4MiB") as pool:
        stream = pool.stream("news")
        stream.publish(1)
        done = command("record", "source/news", str(path), "--history", "1", "--count", "1")
        assert done.returncode == 0
    return path


def arguments_of(name, pool, recording, tmp_path):
    return {
        "tail": ["tail", f"{pool}/news", "--history", "1", "--count", "1"],
        "record": ["record", f"{pool}/news", str(tmp_path / "new.mcap")],
        "replay": ["replay", str(recording), f"{pool}/news"],
        "show": ["show", pool],
        "why": ["why", pool],
        "peek": ["peek", f"{pool}/jobs"],
        "top": ["top", pool, "--batch", "--count", "1", "--interval", "0.1"],
        "inspect": ["inspect", pool],
        "holders": ["holders", pool],
    }[name]


@pytest.mark.parametrize("name", JOINING)
def test_a_pool_whose_processes_are_dead_stays(name, pool_directory, start, recording, tmp_path):
    assert start("spawn", publish_and_die).wait() == 3
    path = pool_directory / "gone.pool"
    before = path.stat().st_ino, hashlib.sha256(path.read_bytes()).digest()
    done = command(*arguments_of(name, "gone", recording, tmp_path))
    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (1, "", 1)
    assert "all processes of pool 'gone' are dead" in done.stderr
    for word in ("`onecopy show`", "`why`", "`peek`", "`onecopy gc`"):
        assert word in done.stderr
    assert (path.stat().st_ino, hashlib.sha256(path.read_bytes()).digest()) == before
    assert not (tmp_path / "new.mcap").exists()
    assert "2" in command("peek", "gone/jobs").stdout


@pytest.mark.parametrize("name", JOINING)
def test_a_pool_that_is_missing_is_no_dead_pool(name, recording, tmp_path):
    done = command(*arguments_of(name, "none", recording, tmp_path))
    if name == "replay":  # it makes the pool
        assert (done.returncode, done.stderr) == (0, "")
    else:
        assert (done.returncode, done.stdout, done.stderr.count("\n")) == (1, "", 1)
        assert "no pool" in done.stderr


@pytest.mark.parametrize("name", [*JOINING, "show", "why", "peek", "top", "inspect", "holders"])
def test_a_pool_of_another_version_is_one_line(name, recording, tmp_path):
    with oc.Pool.create("other", size="4MiB") as pool:
        with Path(pool.member.path).open("r+b") as file:
            file.seek(16)
            version = file.read(4)
            file.seek(16)
            file.write(struct.pack("I", 999))
            file.flush()
            done = command(*arguments_of(name, "other", recording, tmp_path))
            every = command("why")
            file.seek(16)
            file.write(version)
        assert (done.returncode, done.stdout, done.stderr.count("\n")) == (1, "", 1)
        assert "another memory layout" in done.stderr
        assert (every.returncode, every.stderr) == (1, "")
        assert every.stdout.count("another memory layout") == 1
