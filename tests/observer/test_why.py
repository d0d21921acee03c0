"""Processes hang in many ways, and `explain` names the one that is to blame."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from children import LIMIT, eventually
from hangs import HANGS
from stage import Stage

from onecopy.cli.observing import _print_why, _stack
from onecopy.observer import explain, headline

BY_NAME = {str(each): each for each in HANGS}
EMPTY_QUEUE = BY_NAME["queue: empty, and the producer does something else"]
HELD_LOCK = BY_NAME["lock: held for long"]
FRAMES = BY_NAME["frames: one process has all of them"]
WITH_A_CULPRIT = [each for each in HANGS if each.has_one_culprit]

every_hang = pytest.mark.parametrize("hang", HANGS, ids=str)


def said(stage):
    """Return all chains, and the blamed processes with their faults."""
    chains = explain(stage.observer.snapshot())
    roles = {pid: role for role, pid in stage.pids.items()}
    blamed = {
        (roles.get(culprit.pid), culprit.fault) for chain in chains for culprit in chain.culprits
    }
    return chains, blamed


def check(stage, hang):
    """Check that exactly those are named that are the cause."""
    chains, blamed = said(stage)
    assert blamed == hang.blames
    assert len(chains) == 1
    assert hang.says in chains[0].text
    for culprit in chains[0].culprits:
        assert culprit.pid == 0 or str(culprit.pid) in culprit.text


def test_the_table_is_as_large_as_it_says():
    assert len(HANGS) >= 50
    assert len({each.kind for each in HANGS}) >= 10
    assert len(BY_NAME) == len(HANGS)


@every_hang
def test_the_cause_of_a_hang(hang):
    with Stage(size=hang.size) as stage:
        hang.happen(stage)
        check(stage, hang)


@pytest.mark.check
@pytest.mark.parametrize("hang", HANGS[::6], ids=str)
@pytest.mark.parametrize("way", ["by forkserver", "by spawn", "of strangers"])
def test_the_cause_of_a_hang_of_processes(hang, way):
    method = "stranger" if way == "of strangers" else way.partition(" ")[2]
    with Stage(method, size=hang.size) as stage:
        hang.happen(stage)
        check(stage, hang)


@pytest.mark.one_in(6)
@pytest.mark.parametrize("hang", WITH_A_CULPRIT, ids=str)
def test_a_stopped_process(hang):
    with Stage(size=hang.size) as stage:
        hang.happen(stage)
        stage.stop("culprit")
        chains, blamed = said(stage)
        assert blamed == {("culprit", "stopped")}
        assert f"{stage.pids['culprit']} " in chains[0].text
        assert "is stopped" in chains[0].text
        assert f"kill -CONT {stage.pids['culprit']}" in chains[0].culprits[0].text


@pytest.mark.one_in(12)
@every_hang
def test_all_processes_are_stopped(hang):
    """None of them can help the observer. Those that other processes wait for are named."""
    with Stage(size=hang.size) as stage:
        hang.happen(stage)
        for role in stage.pids:
            stage.stop(role)
        _, blamed = said(stage)
        stopped = {role for role, fault in blamed if fault == "stopped"}
        assert stopped >= {role for role, _ in hang.blames} - {None}
        assert stopped >= {part.role for part in hang.parts if part.waits and not part.worker}


@pytest.mark.one_in(5)
@pytest.mark.parametrize("hang", WITH_A_CULPRIT, ids=str)
def test_a_dead_process(hang):
    """A waiter notices the death of one that it surely waits for. Others could still come."""
    with Stage(size=hang.size) as stage:
        hang.happen(stage)
        stage.kill("culprit")
        if hang.dead:
            chains, blamed = said(stage)
            if blamed != {("culprit", "dead")}:  # a waiter has cleaned up after it already
                assert stage.process("culprit") is None
                return
            assert f"{stage.pids['culprit']} is dead" in chains[0].text
        else:
            eventually(lambda: "culprit" not in {role for role, _ in said(stage)[1]}, "an end")


def test_the_one_that_started_a_worker_may_wait_for_it():
    hang = BY_NAME["executor: its worker waits for a lock that the program has"]
    with Stage(size=hang.size) as stage:
        hang.happen(stage)
        ((chain,), _) = said(stage)
        (culprit,) = chain.culprits
        assert f"it has started {chain.pids[0]} " in culprit.text


def test_short_waits_are_left_out():
    with Stage() as stage:
        EMPTY_QUEUE.happen(stage)
        assert explain(stage.observer.snapshot(), longer_than=3600) == []


def test_a_pool_whose_processes_are_all_dead():
    with Stage() as stage:
        EMPTY_QUEUE.happen(stage)
        for role in stage.pids:
            stage.kill(role)
        seen = stage.observer.snapshot()
        assert {each.state for each in seen.processes} == {"dead"}
        assert explain(seen) == []
        lines = " ".join(headline(seen))
        assert "All processes of the pool are dead." in lines
        assert "it waited for queue 'jobs', which is empty" in lines


# ---- the command --------------------------------------------------------------------------------


def onecopy(*arguments):
    return subprocess.run(
        [sys.executable, "-W", "error", "-m", "onecopy.cli", *arguments],
        capture_output=True,
        text=True,
        check=False,
        timeout=LIMIT,
        env=os.environ | {"PYTHONUTF8": "1"},
    )


def test_the_command_names_the_culprit():
    with Stage() as stage:
        FRAMES.happen(stage)
        stage.stop("culprit")
        done = onecopy("why", stage.name, "--longer-than", "0")
        assert (done.stderr, done.returncode) == ("", 0)
        assert f"kill -CONT {stage.pids['culprit']}" in done.stdout
        assert "frames 'cam0', of which 0 of 4 are free" in done.stdout


def test_a_stopped_process_that_has_the_lock_of_the_directory():
    """It is in no pool's memory. The system tells which process has it."""
    with Stage() as stage:
        stage.enter(
            "culprit",
            "import fcntl, os\n"
            "fd = os.open(os.environ['ONECOPY_DIR'], os.O_RDONLY); fcntl.flock(fd, fcntl.LOCK_EX)\n"
            "idle()",
        )
        before = onecopy("why", stage.name)
        stage.stop("culprit")
        done = onecopy("why", stage.name)
        assert (before.stderr, done.stderr, done.returncode) == ("", "", 0)
        assert "the lock of the directory" not in before.stdout
        assert f"{stage.pids['culprit']} " in done.stdout
        assert "is stopped, and has the lock of the directory" in done.stdout


def test_the_command_in_json():
    with Stage() as stage:
        HELD_LOCK.happen(stage)
        done = onecopy("why", stage.name, "--longer-than", "0", "--json")
        assert (done.stderr, done.returncode) == ("", 0)
        (pool,) = json.loads(done.stdout)
        assert pool["pool"] == stage.name
        (chain,) = pool["chains"]
        assert chain["pids"] == [stage.pids["waiter"]]
        assert [each["pid"] for each in chain["culprits"]] == [stage.pids["culprit"]]
        assert {each["pid"] for each in pool["processes"]} == set(stage.pids.values())


def test_the_command_without_a_pool_explains_all():
    with Stage() as stage:
        HELD_LOCK.happen(stage)
        done = onecopy("why", "--longer-than", "0")
        assert (done.stderr, done.returncode) == ("", 0)
        assert f"Pool {stage.name}:" in done.stdout
        assert "lock 'door'" in done.stdout


def test_the_command_for_a_pool_that_is_not_there():
    done = onecopy("why", "nothing")
    assert done.returncode == 1
    assert done.stderr.startswith("onecopy: ")
    assert done.stderr.count("\n") == 1


def test_stacks_of_processes_that_wait_and_that_are_stopped():
    if not (Path(sys.executable).with_name("py-spy").exists() or shutil.which("py-spy")):
        pytest.skip("py-spy is not installed")
    with Stage() as stage:
        HELD_LOCK.happen(stage)
        stage.stop("culprit")
        done = onecopy("why", stage.name, "--longer-than", "0", "--stacks")
        assert (done.stderr, done.returncode) == ("", 0)
        if "ermission" in done.stdout:
            pytest.skip("this user may not trace processes")
        parts = done.stdout.split("--- ")[1:]
        stacks = {int(part.split()[0].rstrip(":,")): part for part in parts}
        for role in ("culprit", "waiter"):
            assert " play (" in stacks[stage.pids[role]], done.stdout
        assert stage.process("culprit").state == "stopped"  # as before


@pytest.mark.parametrize(
    ("script", "stopped", "answer"),
    [
        (None, False, "py-spy is not installed. Run: pip install 'onecopy[stacks]'"),
        (
            "echo 'Process 1'; printf 'Error: no\\nCause: it\\n\\nStack backtrace:' >&2; exit 1",
            False,
            "py-spy failed: Error: no Cause: it",
        ),
        ("exit 3", True, "py-spy failed: exit status 3"),
        ('echo "$@"', False, "dump --pid 7"),
        ('echo "$@"', True, "dump --nonblocking --pid 7"),
    ],
)
def test_what_py_spy_says(script, stopped, answer, tmp_path, monkeypatch):
    """Without it, one line says what to install; its errors are one line."""
    monkeypatch.setattr(sys, "executable", str(tmp_path / "python"))
    monkeypatch.setenv("PATH", "")
    if script is not None:
        program = tmp_path / "py-spy"
        program.write_text(f"#!/bin/sh\n{script}\n", encoding="utf-8")
        program.chmod(0o700)
    assert _stack(7, stopped=stopped) == answer


def test_few_of_many_culprits_are_printed(capsys):
    culprits = [{"fault": "dead", "text": f"{pid} is dead."} for pid in range(200)]
    culprits.append({"fault": "stopped", "text": "999 is stopped."})
    chain = {"text": "It waits.", "culprits": culprits}
    _print_why({"pool": "p", "problem": None, "said": [], "chains": [chain]}, 1.0)
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) < 20
    assert "  -> 0 is dead." in lines
    assert "  -> 999 is stopped." in lines
    assert lines[-1] == "  -> and 192 more like these; --json lists all."


def test_a_process_that_goes_on_is_not_disturbed():
    with Stage() as stage:
        stage.enter("waiter", "q = pool.queue('jobs'); q.get(); idle()", "get")
        stage.stop("waiter")
        os.kill(stage.pids["waiter"], signal.SIGCONT)
        stage.enter("producer", "pool.queue('jobs').put(1); idle()")
        eventually(lambda: stage.waits("waiter") == [], "the waiter to continue")
