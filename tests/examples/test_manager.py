"""examples/manager: a server, a master and clients, as processes of their own."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

FOLDER = Path(__file__).parents[2] / "examples" / "manager"
DEADLINE = 60  # seconds: a watchdog, not a measurement


class Role:
    """One of the scripts, running."""

    def __init__(self, script, *arguments, directory):
        self._process = subprocess.Popen(
            [sys.executable, FOLDER / script, *map(str, arguments)],
            env={**os.environ, "ONECOPY_DIR": str(directory)},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        self.pid = self._process.pid

    def line(self):
        """Wait for a line."""
        return self._process.stdout.readline().rstrip("\n")

    def send(self, number):
        self._process.send_signal(number)

    def end(self):
        """Give its status, the rest of what it said, and what it complained of."""
        try:
            out, err = self._process.communicate(timeout=DEADLINE)
        finally:
            self.kill()
        return self._process.returncode, out.splitlines(), err

    def kill(self):
        self._process.kill()
        self._process.wait()
        self._process.stdout.close()
        self._process.stderr.close()


@pytest.fixture
def play(pool_directory):
    """Start a role: ``play("client.py", 50000, "--work", 1)``."""
    roles = []

    def play(script, port, *arguments, directory=pool_directory):
        roles.append(Role(script, "--port", port, *arguments, directory=directory))
        return roles[-1]

    yield play
    for role in roles:
        role.kill()


@pytest.fixture
def server(play):
    """The server; `port` is where."""
    server = play("server.py", 0)
    said = server.line()
    assert said.startswith("server: listening on 127.0.0.1, port ")
    server.port = int(said.rpartition(" ")[2])
    return server


def ends_cleanly(server):
    server.send(signal.SIGINT)
    assert server.end() == (0, ["server: ended, 0 tasks and 0 results left"], "")


def waiting(play, server, *arguments, **options):
    client = play("client.py", server.port, *arguments, **options)
    assert client.line() == f"client {client.pid}: waiting for tasks"
    return client


def test_clients_take_what_a_master_puts(play, server):
    clients = [waiting(play, server) for _ in range(2)]
    status, said, complained = play("master.py", server.port, "--tasks", 7).end()
    assert (status, complained) == (0, "")
    assert said[-1] == "master: 7 tasks answered, 0 of them wrongly"
    assert sum("'came by': 'shared memory'" in line for line in said) == 3
    assert sum("'answer': 'NAME-" in line for line in said) == 4
    done = 0
    for client in clients:
        status, said, complained = client.end()
        assert (status, complained) == (0, "")
        done += int(said[-1].split()[-4])
    assert done == 7
    ends_cleanly(server)


def test_a_client_that_sees_no_pool_is_sent_the_bytes(play, server, tmp_path):
    waiting(play, server, directory=tmp_path)
    status, said, complained = play("master.py", server.port, "--tasks", 2).end()
    assert (status, complained) == (0, "")
    assert sum("'came by': 'the socket'" in line for line in said) == 1
    assert said[-1] == "master: 2 tasks answered, 0 of them wrongly"
    ends_cleanly(server)


def test_when_a_client_is_killed_the_others_do_its_task(play, server):
    victim = waiting(play, server, "--work", 3600)
    master = play("master.py", server.port, "--tasks", 4, "--patience", 1)
    assert victim.line().startswith(f"client {victim.pid}: took task ")
    victim.kill()
    clients = [waiting(play, server) for _ in range(2)]
    status, said, complained = master.end()
    assert (status, complained) == (0, "")
    assert said[-1] == "master: 4 tasks answered, 0 of them wrongly"
    assert any("tasks again" in line for line in said)
    for client in clients:
        status, said, complained = client.end()
        assert (status, complained) == (0, "")
    server.send(signal.SIGINT)
    status, _, complained = server.end()
    assert (status, complained) == (0, "")


def test_each_ends_by_ctrl_c(play, server):
    client = waiting(play, server, "--work", 3600)
    master = play("master.py", server.port, "--tasks", 1)
    assert client.line() == f"client {client.pid}: took task 0"  # so the master waits now, or soon
    for role, word in ((client, f"client {client.pid}"), (master, "master")):
        role.send(signal.SIGINT)
        assert role.end() == (130, [f"{word}: stopped"], "")
    ends_cleanly(server)


def test_when_the_server_ends_the_others_say_so(play, server):
    client = waiting(play, server)
    server.send(signal.SIGKILL)
    status, said, complained = client.end()
    assert (status, said) == (1, [])
    assert "has ended: it was shut down, or killed" in complained
    status, _, complained = play("master.py", server.port).end()
    assert status == 1
    assert "Connection refused" in complained
