"""Commands mark a process of another PID namespace: its number means another process here."""

from __future__ import annotations

import json
import os

import pytest
from children import eventually
from commands import output
from namespaces import own_pids
from programs import Running

import onecopy as oc

WAITS = """
assert os.getpid() == 1
held = oc.Pool.open("shared").queue("jobs")
print(held.get())
"""


LOCKED = """
lock = oc.Pool.open("shared").lock("door")
print(lock.acquire())
lock.acquire()
"""


@pytest.fixture
def member_inside():
    """Start a process 1 of a namespace that waits in the pool "shared"."""
    with oc.Pool.create("shared", size="4MiB") as pool:
        kept = pool.queue("jobs")
        program = Running(WAITS, holding=False, inside=own_pids())
        with oc.observe(pool) as observer:
            eventually(lambda: observer.snapshot().queues[0].consumers_waiting, "it to wait")
        yield
        program.kill()
        del kept


def test_a_member_of_another_namespace_is_marked(member_inside):
    for arguments in (["show", "--seconds", "0"], ["holders"], ["inspect"]):
        lines = output(*arguments, "shared").splitlines()
        (line,) = [line for line in lines if "other namespace" in line]
        assert "1 (other namespace)  -  " in line  # neither its program nor process 1 of this one
        assert "get queue 'jobs'" in line
        (own,) = [line for line in lines if f" {os.getpid()}  " in f" {line}"]
        assert "other namespace" not in own
    text = output("why", "shared", "--longer-than", "0")
    assert "process 1 of another PID namespace has waited" in text
    (found,) = [each for each in json.loads(output("holders", "shared", "--json")) if each["waits"]]
    assert (found["pid"], found["same_namespace"], found["command"]) == (1, False, None)
    assert (found["state"], found["waits"][0]["why"]) == ("alive", "get")


def test_a_chain_that_begins_in_another_namespace():
    with oc.Pool.create("shared", size="4MiB") as pool:
        kept = pool.lock("door")
        program = Running(LOCKED, holding=False, inside=own_pids())
        with oc.observe(pool) as observer:
            eventually(lambda: observer.snapshot().locks[0].waiting, "it to wait")
        text = output("why", "shared", "--longer-than", "0")
        program.kill()
        del kept
    assert "* Process 1 of another PID namespace has waited" in text
